//! What an adversarial example must satisfy beside its bounds: patches, frames, tables.

use std::fmt;

use aisec_numeric::rounding::{add_up, mul_down, mul_up, sub_down, sub_up};
use serde::Deserialize;

/// Which values may differ from the clean input, and how. Every comparison is exact or, where a
/// product or sum has to be rounded, errs towards refusing.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Constraint {
    /// All pixels that differ lie in one rectangle of this size.
    Patch { height: usize, width: usize },
    /// All pixels that differ are among the `width` outermost rows or columns.
    Frame { width: usize },
    /// Columns of a table.
    Tabular(Table),
}

/// Features with their kinds, and a budget for all of their changes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    metric: Budget,
    limit: f64,
    features: Vec<Feature>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Budget {
    Linf,
    L2,
    L1,
    L0,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum Feature {
    Number { column: usize, integer: bool, down: bool, up: bool, reach: Option<f64>, weight: f64 },
    OneHot { column: usize, size: usize, weight: f64 },
}

/// What a point violates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Violation {
    /// Rows and columns that the differences span, and those allowed.
    Patch {
        spans: [usize; 2],
        allowed: [usize; 2],
    },
    Frame {
        row: usize,
        column: usize,
    },
    /// A column that must equal the clean one bit by bit.
    Fixed {
        column: usize,
    },
    Integer {
        column: usize,
    },
    OneHot {
        column: usize,
    },
    Direction {
        column: usize,
    },
    Reach {
        column: usize,
        change: f64,
        reach: f64,
    },
    Budget {
        spent: f64,
        limit: f64,
    },
    /// The constraint itself does not fit the sample.
    Shape,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Patch { spans: [rows, columns], allowed: [height, width] } => write!(
                f,
                "the change spans {rows}x{columns} pixels, more than a patch of {height}x{width}"
            ),
            Self::Frame { row, column } => {
                write!(f, "pixel ({row}, {column}) differs and is not in the frame")
            }
            Self::Fixed { column } => write!(f, "column {column} is fixed and differs"),
            Self::Integer { column } => write!(f, "column {column} is not a whole number"),
            Self::OneHot { column } => {
                write!(f, "the columns from {column} on are not one 1 among zeros")
            }
            Self::Direction { column } => {
                write!(f, "column {column} moved against its direction")
            }
            Self::Reach { column, change, reach } => {
                write!(f, "column {column} moved by {change:e}, at most {reach:e} is allowed")
            }
            Self::Budget { spent, limit } => {
                write!(f, "the changes cost {spent:e}, not proven to be within {limit:e}")
            }
            Self::Shape => write!(f, "the constraint does not fit the sample"),
        }
    }
}

impl Constraint {
    /// Reads a constraint.
    ///
    /// # Errors
    /// Text that is none, in one line.
    pub fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| {
            let shown = |c: char| if c.is_control() { ' ' } else { c };
            let line: String = error.to_string().chars().map(shown).take(200).collect();
            format!("constraint: {line}")
        })
    }

    /// What `x_adv`, an example for the clean `x`, violates. Of three axes the first are channels,
    /// unless only the last has at most four entries; two are one plane, others one row.
    pub fn violation(&self, shape: &[usize], x: &[f32], x_adv: &[f32]) -> Option<Violation> {
        match self {
            Self::Patch { height, width } => patch([*height, *width], &Pixels::of(shape), x, x_adv),
            Self::Frame { width } => frame(*width, &Pixels::of(shape), x, x_adv),
            Self::Tabular(table) => table.violation(x, x_adv),
        }
    }
}

/// Where the pixel of an element is.
struct Pixels {
    rows: usize,
    columns: usize,
    channels_last: usize,
}

impl Pixels {
    fn of(shape: &[usize]) -> Self {
        match *shape {
            [rows, columns, channels] if channels <= 4 && rows > 4 => {
                Self { rows, columns, channels_last: channels }
            }
            [_, rows, columns] | [rows, columns] => Self { rows, columns, channels_last: 1 },
            _ => Self { rows: 1, columns: shape.iter().product(), channels_last: 1 },
        }
    }

    fn place(&self, element: usize) -> [usize; 2] {
        let pixel = element / self.channels_last.max(1);
        let columns = self.columns.max(1);
        [pixel / columns % self.rows.max(1), pixel % columns]
    }
}

/// Elements whose bits differ; -0 and 0 do.
fn changed<'a>(x: &'a [f32], x_adv: &'a [f32]) -> impl Iterator<Item = usize> + 'a {
    (0..x.len()).filter(|&i| x[i].to_bits() != x_adv[i].to_bits())
}

fn patch(allowed: [usize; 2], pixels: &Pixels, x: &[f32], x_adv: &[f32]) -> Option<Violation> {
    let mut ends: Option<[[usize; 2]; 2]> = None;
    for element in changed(x, x_adv) {
        let at = pixels.place(element);
        let [low, high] = ends.unwrap_or([at, at]);
        ends = Some([
            [low[0].min(at[0]), low[1].min(at[1])],
            [high[0].max(at[0]), high[1].max(at[1])],
        ]);
    }
    let [low, high] = ends?;
    let spans = [high[0] - low[0] + 1, high[1] - low[1] + 1];
    let fits = spans[0] <= allowed[0] && spans[1] <= allowed[1];
    (!fits).then_some(Violation::Patch { spans, allowed })
}

fn frame(width: usize, pixels: &Pixels, x: &[f32], x_adv: &[f32]) -> Option<Violation> {
    let outside = |&[row, column]: &[usize; 2]| {
        let border = |at: usize, size: usize| size > 1 && (at < width || at + width >= size);
        !border(row, pixels.rows) && !border(column, pixels.columns)
    };
    let found = changed(x, x_adv).map(|element| pixels.place(element)).find(outside);
    found.map(|[row, column]| Violation::Frame { row, column })
}

impl Table {
    fn violation(&self, x: &[f32], x_adv: &[f32]) -> Option<Violation> {
        let mut free = vec![false; x.len()];
        let mut spent = 0.0;
        for feature in &self.features {
            let (first, size) = match *feature {
                Feature::Number { column, .. } => (column, 1),
                Feature::OneHot { column, size, .. } => (column, size),
            };
            let columns = first..first.saturating_add(size);
            let Some(part) = free.get_mut(columns.clone()) else { return Some(Violation::Shape) };
            if size == 0 || part.iter().any(|&known| known) {
                return Some(Violation::Shape);
            }
            part.fill(true);
            match feature.cost(self.metric, &x[columns.clone()], &x_adv[columns]) {
                Ok(cost) => spent = add_up(spent, cost),
                Err(violation) => return Some(violation),
            }
        }
        if let Some(column) = changed(x, x_adv).find(|&column| !free[column]) {
            return Some(Violation::Fixed { column });
        }
        let limit = match self.metric {
            Budget::Linf => return None,
            Budget::L2 => mul_down(self.limit, self.limit),
            Budget::L1 | Budget::L0 => self.limit,
        };
        let within = spent <= limit;
        (!within).then_some(Violation::Budget { spent, limit })
    }
}

impl Feature {
    /// An upper bound of what the change adds to the budget, or what it violates.
    fn cost(&self, metric: Budget, x: &[f32], x_adv: &[f32]) -> Result<f64, Violation> {
        let (change, weight) = match *self {
            Self::Number { column, integer, down, up, reach, weight } => {
                let (old, new) = (f64::from(x[0]), f64::from(x_adv[0]));
                if integer && new.fract() != 0.0 {
                    return Err(Violation::Integer { column });
                }
                if (new < old && !down) || (new > old && !up) {
                    return Err(Violation::Direction { column });
                }
                let change = sub_up(new, old).max(-sub_down(new, old));
                if let Some(reach) = reach {
                    let within = change <= reach;
                    if !within {
                        return Err(Violation::Reach { column, change, reach });
                    }
                }
                (change, weight)
            }
            Self::OneHot { column, weight, .. } => {
                if !one_hot(x) || !one_hot(x_adv) {
                    return Err(Violation::OneHot { column });
                }
                let other = x.iter().zip(x_adv).any(|(old, new)| old != new);
                (if other { 1.0 } else { 0.0 }, weight)
            }
        };
        let cost = mul_up(change, weight);
        Ok(match metric {
            Budget::Linf => 0.0,
            Budget::L2 => mul_up(cost, cost),
            Budget::L1 => cost,
            Budget::L0 => f64::from(u8::from(change != 0.0)),
        })
    }
}

/// Whether exactly one entry is 1 and every other is 0.
fn one_hot(values: &[f32]) -> bool {
    values.iter().all(|&value| value == 0.0 || value == 1.0)
        && values.iter().filter(|&&value| value == 1.0).count() == 1
}
