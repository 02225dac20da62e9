//! A small dense linear program, solved by the bounded dual simplex method in plain float64: a
//! guide to good multipliers, never a verdict.

/// `min cost · x` subject to `rows · x >= rhs` and `lower <= x <= upper`, all finite.
pub(crate) struct Program {
    pub cost: Vec<f64>,
    /// Row-major.
    pub rows: Vec<f64>,
    pub rhs: Vec<f64>,
    pub lower: Vec<f64>,
    pub upper: Vec<f64>,
}

/// Smallest pivot, and smallest violation, relative to the numbers around it.
const TINY: f64 = 1e-9;

/// Where a variable is: in the basis, at row `.0`, or at a bound.
#[derive(Clone, Copy, PartialEq)]
enum At {
    Lower,
    Upper,
}

/// Basic variables as affine functions of the others: `value(row) = shift + Σ table·y`.
struct Tableau {
    columns: usize,
    table: Vec<f64>,
    shift: Vec<f64>,
    /// Reduced costs.
    cost: Vec<f64>,
    /// Which variable each row and column stands for: inputs first, then one slack a row.
    basic: Vec<usize>,
    outside: Vec<usize>,
    at: Vec<At>,
    lower: Vec<f64>,
    upper: Vec<f64>,
}

/// What a program comes to.
pub(crate) struct Solution {
    /// One a row, none negative: the optimal ones, or, where nothing is feasible, some whose bound is
    /// far above zero.
    pub multipliers: Vec<f64>,
    /// Where the least is; `None` where nothing is feasible.
    pub point: Option<Vec<f64>>,
}

impl Program {
    /// `None` where numbers get in the way.
    pub fn solve(&self) -> Option<Solution> {
        let (rows, columns) = (self.rhs.len(), self.cost.len());
        let slack = |row: usize| columns + row;
        let (mut lower, mut upper) = (self.lower.clone(), self.upper.clone());
        lower.extend(std::iter::repeat_n(0.0, rows));
        upper.extend(std::iter::repeat_n(f64::INFINITY, rows));
        // Dual feasible: each variable is at the end its cost prefers.
        let at = self.cost.iter().map(|&cost| if cost >= 0.0 { At::Lower } else { At::Upper });
        let mut tableau = Tableau {
            columns,
            table: self.rows.clone(),
            shift: self.rhs.iter().map(|rhs| -rhs).collect(),
            cost: self.cost.clone(),
            basic: (0..rows).map(slack).collect(),
            outside: (0..columns).collect(),
            at: at.collect(),
            lower,
            upper,
        };
        for _ in 0..50 * (rows + columns) {
            let Some((row, short)) = tableau.most_violated() else {
                let multipliers = tableau.read(rows, columns, None)?;
                return Some(Solution { multipliers, point: Some(tableau.point()) });
            };
            match tableau.entering(row, short > 0.0) {
                Some(column) => tableau.pivot(row, column, short > 0.0)?,
                None => {
                    let multipliers = tableau.read(rows, columns, Some((row, short)))?;
                    return Some(Solution { multipliers, point: None });
                }
            }
        }
        None
    }
}

impl Tableau {
    fn row(&self, row: usize) -> &[f64] {
        &self.table[row * self.columns..(row + 1) * self.columns]
    }

    /// The value of a variable outside the basis.
    fn value(&self, column: usize) -> f64 {
        let variable = self.outside[column];
        match self.at[column] {
            At::Lower => self.lower[variable],
            At::Upper => self.upper[variable],
        }
    }

    /// The program's variables.
    fn point(&self) -> Vec<f64> {
        let values: Vec<f64> = (0..self.columns).map(|column| self.value(column)).collect();
        let mut point = vec![0.0; self.columns];
        for (&variable, &value) in self.outside.iter().zip(&values) {
            if variable < self.columns {
                point[variable] = value;
            }
        }
        for (row, &variable) in self.basic.iter().enumerate().filter(|(_, v)| **v < self.columns) {
            let terms = self.row(row).iter().zip(&values);
            let value = terms.fold(self.shift[row], |sum, (a, y)| sum + a * y);
            point[variable] = value.clamp(self.lower[variable], self.upper[variable]);
        }
        point
    }

    /// The basic variable furthest outside its bounds, and by how much it must rise.
    fn most_violated(&self) -> Option<(usize, f64)> {
        let values: Vec<f64> = (0..self.columns).map(|column| self.value(column)).collect();
        let mut worst: Option<(usize, f64)> = None;
        for (row, &variable) in self.basic.iter().enumerate() {
            let (mut value, mut size) = (self.shift[row], self.shift[row].abs());
            for (a, y) in self.row(row).iter().zip(&values) {
                value += a * y;
                size += (a * y).abs();
            }
            let rise = self.lower[variable] - value;
            let fall = self.upper[variable] - value;
            let short = if rise > 0.0 {
                rise
            } else if fall < 0.0 {
                fall
            } else {
                continue;
            };
            if short.abs() > TINY * (1.0 + size)
                && worst.is_none_or(|(_, other)| short.abs() > other.abs())
            {
                worst = Some((row, short));
            }
        }
        worst
    }

    /// The column that can move the row and whose reduced cost vanishes first.
    fn entering(&self, row: usize, rise: bool) -> Option<usize> {
        let mut best: Option<(f64, f64, usize)> = None;
        for (column, &a) in self.row(row).iter().enumerate() {
            let helps = if rise { a } else { -a };
            let movable = match self.at[column] {
                At::Lower => helps > TINY,
                At::Upper => helps < -TINY,
            };
            if !movable {
                continue;
            }
            let ratio = self.cost[column].abs() / a.abs();
            // Of equal ratios the larger pivot.
            if best.is_none_or(|(r, p, _)| ratio < r || ratio == r && a.abs() > p) {
                best = Some((ratio, a.abs(), column));
            }
        }
        best.map(|(_, _, column)| column)
    }

    /// Swaps a basic variable, which goes to the bound it violates, with one outside.
    fn pivot(&mut self, row: usize, column: usize, to_lower: bool) -> Option<()> {
        let pivot = self.row(row)[column];
        let mut new: Vec<f64> = self.row(row).iter().map(|a| -a / pivot).collect();
        new[column] = 1.0 / pivot;
        let shift = -self.shift[row] / pivot;
        if !(shift.is_finite() && new.iter().all(|a| a.is_finite())) {
            return None;
        }
        let columns = self.columns;
        let substitute = |target: &mut [f64]| {
            let factor = target[column];
            if factor != 0.0 {
                target[column] = 0.0;
                target.iter_mut().zip(&new).for_each(|(t, n)| *t += factor * n);
            }
            factor
        };
        for other in (0..self.basic.len()).filter(|&other| other != row) {
            let factor = substitute(&mut self.table[other * columns..(other + 1) * columns]);
            self.shift[other] += factor * shift;
        }
        substitute(&mut self.cost);
        self.table[row * columns..(row + 1) * columns].copy_from_slice(&new);
        self.shift[row] = shift;
        std::mem::swap(&mut self.basic[row], &mut self.outside[column]);
        self.at[column] = if to_lower { At::Lower } else { At::Upper };
        Some(())
    }

    /// The slacks' reduced costs; where a row cannot be satisfied, with enough of it added that
    /// the bound rises by a multiple of everything else.
    fn read(&self, rows: usize, inputs: usize, stuck: Option<(usize, f64)>) -> Option<Vec<f64>> {
        let mut multipliers = vec![0.0; rows];
        let mut set = |variable: usize, value: f64| {
            if variable >= inputs {
                multipliers[variable - inputs] = value;
            }
        };
        let (row, weight) = match stuck {
            None => (0, 0.0),
            Some((row, short)) => {
                let size: f64 = self.cost.iter().map(|c| c.abs()).sum();
                (row, (1.0 + size) * 8.0 / short.abs().max(1e-6) * short.signum())
            }
        };
        for (column, &variable) in self.outside.iter().enumerate() {
            let along = if weight == 0.0 { 0.0 } else { weight * self.row(row)[column] };
            set(variable, self.cost[column] - along);
        }
        if weight != 0.0 {
            set(self.basic[row], weight);
        }
        multipliers.iter().all(|m| m.is_finite()).then(|| {
            multipliers.iter_mut().for_each(|m| *m = m.max(0.0));
            multipliers
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Program {
        /// `min over the box of cost·x + Σ multiplier·(rhs - row·x)`.
        fn dual(&self, multipliers: &[f64]) -> f64 {
            let columns = self.cost.len();
            let mut total: f64 = multipliers.iter().zip(&self.rhs).map(|(m, b)| m * b).sum();
            for column in 0..columns {
                let mut cost = self.cost[column];
                for (row, m) in multipliers.iter().enumerate() {
                    cost -= m * self.rows[row * columns + column];
                }
                total += (cost * self.lower[column]).min(cost * self.upper[column]);
            }
            total
        }

        /// The least of `cost · x` over all vertices of a program in the plane.
        fn by_vertices(&self) -> Option<f64> {
            let mut lines: Vec<[f64; 3]> = Vec::new();
            for (row, &rhs) in self.rows.chunks_exact(2).zip(&self.rhs) {
                lines.push([row[0], row[1], rhs]);
            }
            for axis in 0..2 {
                for end in [self.lower[axis], self.upper[axis]] {
                    lines.push(if axis == 0 { [1.0, 0.0, end] } else { [0.0, 1.0, end] });
                }
            }
            let mut best: Option<f64> = None;
            for (i, a) in lines.iter().enumerate() {
                for b in &lines[..i] {
                    let det = a[0] * b[1] - a[1] * b[0];
                    let x = [(a[2] * b[1] - a[1] * b[2]) / det, (a[0] * b[2] - a[2] * b[0]) / det];
                    let inside = (0..2)
                        .all(|k| x[k] >= self.lower[k] - 1e-9 && x[k] <= self.upper[k] + 1e-9);
                    let holds = self
                        .rows
                        .chunks_exact(2)
                        .zip(&self.rhs)
                        .all(|(row, rhs)| row[0] * x[0] + row[1] * x[1] >= rhs - 1e-9);
                    if det.abs() > 1e-9 && inside && holds {
                        let value = self.cost[0] * x[0] + self.cost[1] * x[1];
                        best = Some(best.map_or(value, |other: f64| other.min(value)));
                    }
                }
            }
            best
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

        /// The bound of the multipliers is the least vertex, or above any value where there is none.
        #[test]
        fn multipliers_are_optimal(
            cost in prop::array::uniform2(-3.0..3.0f64),
            rows in prop::collection::vec((prop::array::uniform2(-3.0..3.0f64), -4.0..4.0f64), 0..6),
            low in prop::array::uniform2(-2.0..0.0f64),
        ) {
            let program = Program {
                cost: cost.to_vec(),
                rows: rows.iter().flat_map(|(row, _)| *row).collect(),
                rhs: rows.iter().map(|(_, rhs)| *rhs).collect(),
                lower: low.to_vec(),
                upper: vec![1.0, 2.0],
            };
            let solution = program.solve().unwrap();
            let found = program.dual(&solution.multipliers);
            let Some(best) = program.by_vertices() else {
                prop_assert!(found > 1.0 && solution.point.is_none(), "{}", found);
                return Ok(());
            };
            prop_assert!((found - best).abs() < 1e-6, "{} is not {}", found, best);
            let x = solution.point.unwrap();
            prop_assert!((cost[0] * x[0] + cost[1] * x[1] - best).abs() < 1e-6);
            for (row, rhs) in &rows {
                prop_assert!(row[0] * x[0] + row[1] * x[1] >= rhs - 1e-6);
            }
            for i in 0..2 {
                prop_assert!(x[i] >= program.lower[i] && x[i] <= program.upper[i]);
            }
        }
    }
}
