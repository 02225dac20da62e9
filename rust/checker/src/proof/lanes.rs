//! The loops that a proof in float64 spends its time in, several elements at a time. Sums are in
//! another order than one by one; what that costs is paid for whatever the order.

use super::lines::Lines;

const LANES: usize = 8;

/// See [`super::number::Number::gather_rows`]: many sums at a time stay in registers.
#[inline(always)]
pub(super) fn gather_rows(sums: &mut [f64], factors: &[(usize, f64)], matrix: &[f64]) {
    #[inline(always)]
    fn part<const N: usize>(
        sums: &mut [f64],
        first: usize,
        factors: &[(usize, f64)],
        matrix: &[f64],
    ) {
        let wide = sums.len();
        let mut own: [f64; N] = std::array::from_fn(|lane| sums[first + lane]);
        for &(row, factor) in factors {
            let row: &[f64; N] = matrix[row * wide + first..][..N].try_into().expect("N numbers");
            for lane in 0..N {
                own[lane] += factor * row[lane];
            }
        }
        sums[first..first + N].copy_from_slice(&own);
    }
    let mut first = 0;
    while first < sums.len() {
        first += match sums.len() - first {
            32.. => {
                part::<32>(sums, first, factors, matrix);
                32
            }
            16.. => {
                part::<16>(sums, first, factors, matrix);
                16
            }
            8.. => {
                part::<8>(sums, first, factors, matrix);
                8
            }
            4.. => {
                part::<4>(sums, first, factors, matrix);
                4
            }
            2.. => {
                part::<2>(sums, first, factors, matrix);
                2
            }
            _ => {
                part::<1>(sums, first, factors, matrix);
                1
            }
        }
    }
}

/// Sums the pairs that `term` gives for all indices below `len`.
#[inline(always)]
fn sum(len: usize, mut term: impl FnMut(usize) -> (f64, f64)) -> (f64, f64) {
    let (mut sums, mut sizes) = ([0.0; LANES], [0.0; LANES]);
    let whole = len - len % LANES;
    for start in (0..whole).step_by(LANES) {
        for lane in 0..LANES {
            let (x, size) = term(start + lane);
            sums[lane] += x;
            sizes[lane] += size;
        }
    }
    for i in whole..len {
        let (x, size) = term(i);
        sums[i - whole] += x;
        sizes[i - whole] += size;
    }
    (sums.iter().sum(), sizes.iter().sum())
}

/// See [`super::number::Number::weigh`].
#[inline(always)]
pub(super) fn weigh(row: &[f64], constants: &[f64], weight: &[f64]) -> (f64, f64) {
    let n = row.len();
    let (constants, weight) = (&constants[..n], &weight[..n]);
    sum(n, |i| {
        let a = row[i];
        // Nothing is lost where a coefficient is zero, whatever it meets.
        if a == 0.0 { (0.0, 0.0) } else { (a * constants[i], a.abs() * weight[i]) }
    })
}

/// See [`super::number::Number::bend`].
#[inline(always)]
pub(super) fn bend(
    row: &[f64],
    lines: &Lines<f64>,
    weight: &[f64],
    sums: &mut [f64],
) -> (f64, f64) {
    let n = row.len();
    let (below, above) = (&lines.lower_slope[..n], &lines.upper_slope[..n]);
    let (low, high) = (&lines.lower_offset[..n], &lines.upper_offset[..n]);
    let (weight, sums) = (&weight[..n], &mut sums[..n]);
    sum(n, |i| {
        let a = row[i];
        let (slope, offset) = if a > 0.0 { (below[i], low[i]) } else { (above[i], high[i]) };
        let (moved, term, size) =
            if a == 0.0 { (0.0, 0.0, 0.0) } else { (a * slope, a * offset, a.abs() * weight[i]) };
        sums[i] += moved;
        (term, size)
    })
}

/// See [`super::number::Number::reach`].
#[inline(always)]
pub(super) fn reach(weights: &[f64], sizes: &[f64]) -> f64 {
    let sizes = &sizes[..weights.len()];
    sum(weights.len(), |i| (weights[i].abs() * sizes[i], 0.0)).0
}

#[cfg(test)]
mod tests {
    use num_rational::BigRational;

    use super::super::lines::{Line, Lines};
    use super::super::number::Number;

    /// Both arithmetics agree, whatever the length, up to what rounding is said to cost.
    #[test]
    fn sums_are_those_of_exact_numbers() {
        let number = |i: usize, k: usize| ((i * i * k + 7 * i + k) % 23) as f64 / 3.0 - 3.5;
        let exact = |values: &[f64]| values.iter().map(|&x| BigRational::of(x)).collect::<Vec<_>>();
        for n in 1..40 {
            let column = |k: usize| -> Vec<f64> { (0..n).map(|i| number(i, k)).collect() };
            let mut row = column(1);
            row[n / 2] = 0.0;
            let (mut constants, weight) = (column(2), vec![50.0; n]);
            constants[n / 2] = f64::INFINITY; // it meets a coefficient of zero
            let line = |i: usize| Line {
                lower_slope: number(i, 3),
                lower_offset: constants[i],
                upper_slope: number(i, 5),
                upper_offset: number(i, 6),
            };
            let lines: Lines<f64> = (0..n).map(line).collect();
            constants[n / 2] = 0.0;
            let same = Lines {
                lower_slope: exact(&lines.lower_slope),
                lower_offset: exact(&constants),
                upper_slope: exact(&lines.upper_slope),
                upper_offset: exact(&lines.upper_offset),
            };
            let close = |found: f64, real: &BigRational, size: f64| {
                let cost = BigRational::of(f64::cost(n, &size, &1.0));
                let error = (BigRational::of(found) - real).size();
                assert!(error <= cost, "{n}: {found}");
            };
            let (sum, size) = f64::weigh(&row, &constants, &weight);
            close(sum, &BigRational::weigh(&exact(&row), &constants, &[]).0, size);
            let (mut plain, mut real) = (column(4), exact(&column(4)));
            let found = f64::bend(&row, &lines, &weight, &mut plain);
            let sum = BigRational::bend(&exact(&row), &same, &[], &mut real).0;
            close(found.0, &sum, found.1);
            plain.iter().zip(&real).for_each(|(a, b)| close(*a, b, 100.0));
            let sizes = vec![3.0; n];
            let reach = BigRational::reach(&row, &exact(&sizes));
            close(f64::reach(&row, &sizes), &reach, reach.above());
        }
    }
}
