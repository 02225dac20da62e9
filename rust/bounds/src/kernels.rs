//! Row kernels in float64. Sums over one row run over eight fixed lanes, those over rows that lie
//! side by side over a lane each: the same on every processor, and vectors on each.

mod beside;

use aisec_numeric::rounding::{add_up, sub_down};
use pulp::{Arch, NullaryFnOnce};

pub(crate) use beside::{Lines, MOST, dots_beside, least_beside, lines_beside};

pub(crate) const LANES: usize = 8;

#[inline(always)]
fn reduce(lanes: [f64; LANES]) -> f64 {
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// `Σ a·(a > 0 ? below : above)` and the sum of the terms' absolute values.
pub(crate) fn least(row: &[f64], below: &[f64], above: &[f64]) -> (f64, f64) {
    struct Terms<'a>(&'a [f64], &'a [f64], &'a [f64]);
    impl NullaryFnOnce for Terms<'_> {
        type Output = (f64, f64);

        #[inline(always)]
        fn call(self) -> (f64, f64) {
            let Self(row, below, above) = self;
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
    }
    debug_assert!(row.len() == below.len() && row.len() == above.len());
    Arch::new().dispatch(Terms(row, below, above))
}

/// `Σ |a|·size`.
pub(crate) fn dot_abs(row: &[f64], size: &[f64]) -> f64 {
    struct Terms<'a>(&'a [f64], &'a [f64]);
    impl NullaryFnOnce for Terms<'_> {
        type Output = f64;

        #[inline(always)]
        fn call(self) -> f64 {
            let Self(row, size) = self;
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
    }
    debug_assert_eq!(row.len(), size.len());
    Arch::new().dispatch(Terms(row, size))
}

/// `Σ a·value`.
pub(crate) fn dot(row: &[f64], values: &[f64]) -> f64 {
    struct Terms<'a>(&'a [f64], &'a [f64]);
    impl NullaryFnOnce for Terms<'_> {
        type Output = f64;

        #[inline(always)]
        fn call(self) -> f64 {
            let Self(row, values) = self;
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
    }
    debug_assert_eq!(row.len(), values.len());
    Arch::new().dispatch(Terms(row, values))
}

/// Replaces NaN, of which nothing is known, by `bound`.
pub(crate) fn widen(values: &mut [f64], bound: f64) {
    struct Widen<'a>(&'a mut [f64], f64);
    impl NullaryFnOnce for Widen<'_> {
        type Output = ();

        #[inline(always)]
        fn call(self) {
            self.0.iter_mut().for_each(|x| *x = if x.is_nan() { self.1 } else { *x });
        }
    }
    Arch::new().dispatch(Widen(values, bound));
}

/// Writes `max(|lower|, |upper|)`.
pub(crate) fn sizes(lower: &[f64], upper: &[f64], size: &mut [f64]) {
    struct Sizes<'a>(&'a [f64], &'a [f64], &'a mut [f64]);
    impl NullaryFnOnce for Sizes<'_> {
        type Output = ();

        #[inline(always)]
        fn call(self) {
            for ((size, l), u) in self.2.iter_mut().zip(self.0).zip(self.1) {
                *size = l.abs().max(u.abs());
            }
        }
    }
    Arch::new().dispatch(Sizes(lower, upper, size));
}

/// Cuts the box `[lower, upper]` with `center ± radius`, outward rounded; whether what is left is
/// not empty and every centre is finite.
pub(crate) fn around(center: &[f64], radius: f64, lower: &mut [f64], upper: &mut [f64]) -> bool {
    struct Around<'a>(&'a [f64], f64, &'a mut [f64], &'a mut [f64]);
    impl NullaryFnOnce for Around<'_> {
        type Output = bool;

        #[inline(always)]
        fn call(self) -> bool {
            let Self(center, radius, lower, upper) = self;
            let mut wrong = 0;
            for ((&c, l), u) in center.iter().zip(lower).zip(upper) {
                let (low, high) = (sub_down(c, radius), add_up(c, radius));
                *l = if low > *l { low } else { *l };
                *u = if high < *u { high } else { *u };
                wrong |= u64::from(!((c.abs() < f64::INFINITY) & (*l <= *u)));
            }
            wrong == 0
        }
    }
    debug_assert!(center.len() == lower.len() && center.len() == upper.len());
    Arch::new().dispatch(Around(center, radius, lower, upper))
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
        }
    }

    #[test]
    fn nan_is_never_swallowed() {
        for n in [1, 8, 9] {
            for at in 0..n {
                let ones = vec![1.0; n];
                let mut row = ones.clone();
                row[at] = f64::NAN;
                assert!(least(&row, &ones, &ones).0.is_nan());
                assert!(dot_abs(&row, &ones).is_nan() && dot(&row, &ones).is_nan());
            }
        }
    }

    #[test]
    fn boxes_are_cut_outward_element_by_element() {
        for n in [0, 1, 7, 8, 21] {
            let (center, widths) = (numbers(n, 1), numbers(n, 2));
            let ends = |sign: f64| -> Vec<f64> {
                center.iter().zip(&widths).map(|(c, w)| c + sign * (w.abs() + 1e-3)).collect()
            };
            let (mut lower, mut upper) = (ends(-1.0), ends(1.0));
            let before = (lower.clone(), upper.clone());
            assert!(around(&center, 0.3, &mut lower, &mut upper));
            for i in 0..n {
                assert_eq!(lower[i], before.0[i].max(sub_down(center[i], 0.3)));
                assert_eq!(upper[i], before.1[i].min(add_up(center[i], 0.3)));
            }
            for at in 0..n {
                for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 7.0] {
                    let mut center = center.clone();
                    center[at] = bad; // 7 lies beyond the box
                    assert!(!around(&center, 0.3, &mut before.0.clone(), &mut before.1.clone()));
                }
            }
        }
    }
}
