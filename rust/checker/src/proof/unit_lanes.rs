//! The loops that boxes of a network of units spend their time in, several elements at a time.

pub(super) use super::lanes::wide::gather_lines;
use super::lanes::{LANES, widest};

/// What units of one level are replaced by, see [`super::units::Lines`].
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub below: &'a [f64],
    pub above: &'a [f64],
    pub low: &'a [f64],
    pub high: &'a [f64],
    pub weight: &'a [f64],
    pub constant: &'a [f64],
}

type Pair = (f64, f64);
type Ends = (f64, f64, f64);

widest!(replace(outputs: &[f64], part: &Part<'_>, moved: &mut [f64]) -> Pair = replace_all);
widest!(ends(row: &[f64], lower: &[f64], upper: &[f64]) -> Ends = ends_of);

/// Turns coefficients of units' outputs into those of what the units read; returns what joins the
/// constant, and what is lost.
#[inline(always)]
fn replace_all(outputs: &[f64], part: &Part, moved: &mut [f64]) -> (f64, f64) {
    #[inline(always)]
    fn term(a: f64, slopes: (f64, f64), offsets: (f64, f64), constant: f64) -> (f64, f64) {
        let (slope, offset) = if a > 0.0 { (slopes.0, offsets.0) } else { (slopes.1, offsets.1) };
        let moved = if a == 0.0 { 0.0 } else { a * slope };
        let shift = if a == 0.0 || offset == 0.0 { 0.0 } else { a * offset };
        (moved, shift + if moved == 0.0 { 0.0 } else { moved * constant })
    }
    let n = moved.len();
    let outputs = &outputs[..n];
    let (below, above) = (&part.below[..n], &part.above[..n]);
    let (low, high) = (&part.low[..n], &part.high[..n]);
    let (weight, constant) = (&part.weight[..n], &part.constant[..n]);
    let (mut sums, mut lost) = ([0.0; LANES], [0.0; LANES]);
    let mut start = 0;
    while start < n {
        let end = (start + LANES).min(n);
        for (lane, i) in (start..end).enumerate() {
            let slopes = (below[i], above[i]);
            let (slope, sum) = term(outputs[i], slopes, (low[i], high[i]), constant[i]);
            moved[i] = slope;
            sums[lane] += sum;
            lost[lane] += outputs[i].abs() * weight[i];
        }
        start = end;
    }
    (sums.iter().sum(), lost.iter().sum())
}

/// The least and greatest sums of coefficients times numbers between bounds, and what all absolute
/// values sum to. A coefficient of zero meets nothing.
#[inline(always)]
fn ends_of(row: &[f64], lower: &[f64], upper: &[f64]) -> (f64, f64, f64) {
    let n = row.len();
    let (lower, upper) = (&lower[..n], &upper[..n]);
    let (mut low, mut high, mut size) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
    let mut start = 0;
    while start < n {
        let end = (start + LANES).min(n);
        for (lane, i) in (start..end).enumerate() {
            let a = row[i];
            let (left, right) = (a * lower[i], a * upper[i]);
            let (least, most) = if a > 0.0 { (left, right) } else { (right, left) };
            let reach = left.abs().max(right.abs());
            low[lane] += if a == 0.0 { 0.0 } else { least };
            high[lane] += if a == 0.0 { 0.0 } else { most };
            size[lane] += if a == 0.0 { 0.0 } else { reach };
        }
        start = end;
    }
    (low.iter().sum(), high.iter().sum(), size.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: usize) -> Vec<f64> {
        (0..n).map(|i| ((i * i * seed + 5 * i + seed) % 19) as f64 / 4.0 - 2.25).collect()
    }

    /// Quarters and their products are exact.
    #[test]
    fn loops_are_their_definitions() {
        for n in 0..35 {
            let row: Vec<f64> =
                numbers(n, 3).iter().map(|&a| if a == 1.0 { 0.0 } else { a }).collect();
            let [below, above, low, high, weight, constant] =
                std::array::from_fn(|seed| numbers(n, seed + 4));
            let part = Part {
                below: &below,
                above: &above,
                low: &low,
                high: &high,
                weight: &weight,
                constant: &constant,
            };
            let mut moved = vec![f64::NAN; n];
            let (sum, lost) = replace(&row, &part, &mut moved);
            let (mut expected, mut expected_lost) = (0.0, 0.0);
            for i in 0..n {
                let (slope, offset) =
                    if row[i] > 0.0 { (below[i], low[i]) } else { (above[i], high[i]) };
                assert_eq!(moved[i], row[i] * slope);
                expected += row[i] * slope * constant[i] + row[i] * offset;
                expected_lost += row[i].abs() * weight[i];
            }
            assert_eq!((sum, lost), (expected, expected_lost));
            let (lower, upper) = (numbers(n, 5), numbers(n, 5).iter().map(|x| x + 1.5).collect());
            let upper: Vec<f64> = upper;
            let (least, most, size) = ends(&row, &lower, &upper);
            let plain = |flip: bool| -> f64 {
                let pick = |i: usize| if (row[i] > 0.0) != flip { lower[i] } else { upper[i] };
                (0..n).map(|i| row[i] * pick(i)).sum()
            };
            let sizes = (0..n).map(|i| row[i].abs() * lower[i].abs().max(upper[i].abs()));
            assert_eq!((least, most, size), (plain(false), plain(true), sizes.sum()));
        }
    }

    #[test]
    fn lines_apart_from_each_other() {
        for (out, wide, lines, stride) in
            [(3, 8, 5, 8), (2, 16, 4, 24), (7, 40, 9, 48), (1, 8, 1, 8)]
        {
            let (matrix, factors) = (numbers(out * wide, 2), numbers(lines * out, 3));
            let start = numbers(lines * stride, 7);
            let mut sums = start.clone();
            gather_lines(&mut sums, stride, &factors, (out, wide), &matrix);
            for (at, (after, before)) in sums.iter().zip(&start).enumerate() {
                let (line, column) = (at / stride, at % stride);
                let more: f64 = (0..out)
                    .filter(|_| column < wide)
                    .map(|row| factors[line * out + row] * matrix[row * wide + column])
                    .sum();
                assert_eq!(*after, before + more);
            }
        }
    }
}
