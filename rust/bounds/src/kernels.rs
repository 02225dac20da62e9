//! Row kernels in float64: each sum runs over eight fixed lanes, so it is the same on every
//! processor and vectorises on each.

use pulp::Arch;

const LANES: usize = 8;

#[inline(always)]
fn reduce(lanes: [f64; LANES]) -> f64 {
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// `Σ a·(a > 0 ? below : above)` and the sum of the terms' absolute values.
pub(crate) fn least(row: &[f64], below: &[f64], above: &[f64]) -> (f64, f64) {
    #[inline(always)]
    fn body(row: &[f64], below: &[f64], above: &[f64]) -> (f64, f64) {
        let (mut sum, mut size) = ([0.0; LANES], [0.0; LANES]);
        let mut term = |lane: usize, a: f64, below: f64, above: f64| {
            let product = a * if a > 0.0 { below } else { above };
            sum[lane] += product;
            size[lane] += product.abs();
        };
        let mut rows = row.chunks_exact(LANES);
        let (mut belows, mut aboves) = (below.chunks_exact(LANES), above.chunks_exact(LANES));
        for ((a, l), u) in (&mut rows).zip(&mut belows).zip(&mut aboves) {
            for lane in 0..LANES {
                term(lane, a[lane], l[lane], u[lane]);
            }
        }
        let tail = rows.remainder().iter().zip(belows.remainder()).zip(aboves.remainder());
        for (lane, ((&a, &l), &u)) in tail.enumerate() {
            term(lane, a, l, u);
        }
        (reduce(sum), reduce(size))
    }
    debug_assert!(row.len() == below.len() && row.len() == above.len());
    Arch::new().dispatch(|| body(row, below, above))
}

/// `Σ |a|·size`.
pub(crate) fn dot_abs(row: &[f64], size: &[f64]) -> f64 {
    #[inline(always)]
    fn body(row: &[f64], size: &[f64]) -> f64 {
        let mut sum = [0.0; LANES];
        let (mut rows, mut sizes) = (row.chunks_exact(LANES), size.chunks_exact(LANES));
        for (a, s) in (&mut rows).zip(&mut sizes) {
            for lane in 0..LANES {
                sum[lane] += a[lane].abs() * s[lane];
            }
        }
        for (lane, (a, s)) in rows.remainder().iter().zip(sizes.remainder()).enumerate() {
            sum[lane] += a.abs() * s;
        }
        reduce(sum)
    }
    debug_assert_eq!(row.len(), size.len());
    Arch::new().dispatch(|| body(row, size))
}

/// `Σ a·value`.
pub(crate) fn dot(row: &[f64], values: &[f64]) -> f64 {
    #[inline(always)]
    fn body(row: &[f64], values: &[f64]) -> f64 {
        let mut sum = [0.0; LANES];
        let (mut rows, mut others) = (row.chunks_exact(LANES), values.chunks_exact(LANES));
        for (a, v) in (&mut rows).zip(&mut others) {
            for lane in 0..LANES {
                sum[lane] += a[lane] * v[lane];
            }
        }
        for (lane, (a, v)) in rows.remainder().iter().zip(others.remainder()).enumerate() {
            sum[lane] += a * v;
        }
        reduce(sum)
    }
    debug_assert_eq!(row.len(), values.len());
    Arch::new().dispatch(|| body(row, values))
}

/// Element-wise lines over one node: `lower_slope·x + lower_offset <= y <= upper_slope·x +
/// upper_offset`, and `size`, the node's error weights.
#[derive(Clone, Copy)]
pub(crate) struct Lines<'a> {
    pub lower_slope: &'a [f64],
    pub lower_offset: &'a [f64],
    pub upper_slope: &'a [f64],
    pub upper_offset: &'a [f64],
    pub size: &'a [f64],
}

/// Replaces coefficients of `y` by coefficients of `x` so that the row is bounded from below;
/// returns the constant `Σ a·offset` and the error weight `Σ |a|·size`.
///
/// A NaN coefficient stays NaN and makes both sums NaN.
pub(crate) fn through_lines(row: &mut [f64], lines: Lines) -> (f64, f64) {
    #[inline(always)]
    fn body(row: &mut [f64], lines: Lines) -> (f64, f64) {
        let n = row.len();
        let (ls, lo) = (&lines.lower_slope[..n], &lines.lower_offset[..n]);
        let (us, uo) = (&lines.upper_slope[..n], &lines.upper_offset[..n]);
        let size = &lines.size[..n];
        let (mut constant, mut error) = ([0.0; LANES], [0.0; LANES]);
        let whole = n - n % LANES;
        for start in (0..whole).step_by(LANES) {
            let range = start..start + LANES;
            let row = &mut row[range.clone()];
            let (ls, lo) = (&ls[range.clone()], &lo[range.clone()]);
            let (us, uo) = (&us[range.clone()], &uo[range.clone()]);
            let size = &size[range];
            for lane in 0..LANES {
                let a = row[lane];
                let positive = a > 0.0;
                constant[lane] += a * if positive { lo[lane] } else { uo[lane] };
                error[lane] += a.abs() * size[lane];
                row[lane] = a * if positive { ls[lane] } else { us[lane] };
            }
        }
        for (lane, i) in (whole..n).enumerate() {
            let a = row[i];
            let positive = a > 0.0;
            constant[lane] += a * if positive { lo[i] } else { uo[i] };
            error[lane] += a.abs() * size[i];
            row[i] = a * if positive { ls[i] } else { us[i] };
        }
        (reduce(constant), reduce(error))
    }
    Arch::new().dispatch(|| body(row, lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: u64) -> Vec<f64> {
        let mut state = seed;
        (0..n)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 40) as f64 / (1u64 << 23) as f64 - 1.0
            })
            .collect()
    }

    #[test]
    fn sums_match_plain_loops_at_every_length() {
        for n in 0..40 {
            let (a, b, c) = (numbers(n, 1), numbers(n, 2), numbers(n, 3));
            let plain: f64 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
            assert!((dot(&a, &b) - plain).abs() < 1e-12);
            let plain: f64 = a.iter().zip(&b).map(|(a, b)| a.abs() * b).sum();
            assert!((dot_abs(&a, &b) - plain).abs() < 1e-12);
            let terms: Vec<f64> =
                (0..n).map(|i| a[i] * if a[i] > 0.0 { b[i] } else { c[i] }).collect();
            let (sum, size) = least(&a, &b, &c);
            assert!((sum - terms.iter().sum::<f64>()).abs() < 1e-12);
            assert!((size - terms.iter().map(|t| t.abs()).sum::<f64>()).abs() < 1e-12);
            let (d, e) = (numbers(n, 4), numbers(n, 5));
            let lines = Lines {
                lower_slope: &b,
                lower_offset: &c,
                upper_slope: &d,
                upper_offset: &e,
                size: &b,
            };
            let mut row = a.clone();
            let (constant, error) = through_lines(&mut row, lines);
            let pick = |i: usize, p: &[f64], q: &[f64]| a[i] * if a[i] > 0.0 { p[i] } else { q[i] };
            for i in 0..n {
                assert_eq!(row[i], pick(i, &b, &d));
            }
            assert!((constant - (0..n).map(|i| pick(i, &c, &e)).sum::<f64>()).abs() < 1e-12);
            assert!((error - dot_abs(&a, &b)).abs() < 1e-12);
        }
    }

    #[test]
    fn nan_is_never_swallowed() {
        for n in [1, 8, 9] {
            for at in 0..n {
                let mut row = vec![1.0; n];
                row[at] = f64::NAN;
                let ones = vec![1.0; n];
                assert!(least(&row, &ones, &ones).0.is_nan());
                assert!(dot_abs(&row, &ones).is_nan() && dot(&row, &ones).is_nan());
                let lines = Lines {
                    lower_slope: &ones,
                    lower_offset: &ones,
                    upper_slope: &ones,
                    upper_offset: &ones,
                    size: &ones,
                };
                let (constant, error) = through_lines(&mut row, lines);
                assert!(constant.is_nan() && error.is_nan() && row[at].is_nan());
            }
        }
    }
}
