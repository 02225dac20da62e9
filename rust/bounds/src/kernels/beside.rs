//! Rows that lie side by side, element `e` of row `r` at `e * width + r`: each has a lane, so that
//! its sums do not depend on its neighbours.

use pulp::{Arch, Simd, WithSimd};

use super::LANES;

/// Most rows that lie side by side.
pub(crate) const MOST: usize = 32;

/// Two sums for each of the rows that lie side by side.
pub(crate) struct Totals {
    pub sum: [f64; MOST],
    /// Of absolute values.
    pub size: [f64; MOST],
}

/// A kernel over rows of `V` eights.
trait Kernel {
    fn run<const V: usize>(self) -> Totals;
}

/// Compiled for the instruction set found: closures would not be inlined there.
struct ByEights<K>(K, usize);

impl<K: Kernel> WithSimd for ByEights<K> {
    type Output = Totals;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Totals {
        match self.1 / LANES {
            1 => self.0.run::<1>(),
            2 => self.0.run::<2>(),
            3 => self.0.run::<3>(),
            4 => self.0.run::<4>(),
            _ => unreachable!("rows come in one to four eights"),
        }
    }
}

/// One element of all rows.
type Eights<const V: usize> = [[f64; LANES]; V];

#[inline(always)]
fn elements<const V: usize>(rows: &[f64]) -> &[Eights<V>] {
    rows.as_chunks::<LANES>().0.as_chunks::<V>().0
}

#[inline(always)]
fn totals<const V: usize>(sum: &Eights<V>, size: &Eights<V>) -> Totals {
    let mut totals = Totals { sum: [0.0; MOST], size: [0.0; MOST] };
    totals.sum[..V * LANES].copy_from_slice(sum.as_flattened());
    totals.size[..V * LANES].copy_from_slice(size.as_flattened());
    totals
}

/// `Σ a·(a > 0 ? below : above)` of each row, and the sum of the terms' absolute values.
pub(crate) fn least_beside(rows: &[f64], width: usize, below: &[f64], above: &[f64]) -> Totals {
    Arch::new().dispatch(ByEights(Least { rows, below, above }, width))
}

struct Least<'a> {
    rows: &'a [f64],
    below: &'a [f64],
    above: &'a [f64],
}

impl Kernel for Least<'_> {
    #[inline(always)]
    fn run<const V: usize>(self) -> Totals {
        let (mut sum, mut size) = ([[0.0; LANES]; V], [[0.0; LANES]; V]);
        for ((row, &l), &u) in elements::<V>(self.rows).iter().zip(self.below).zip(self.above) {
            for v in 0..V {
                for lane in 0..LANES {
                    let a = row[v][lane];
                    let product = a * if a > 0.0 { l } else { u };
                    sum[v][lane] += product;
                    size[v][lane] += product.abs();
                }
            }
        }
        totals(&sum, &size)
    }
}

/// `Σ a·constant` of each row (zero without one) and `Σ |a|·weight`.
pub(crate) fn dots_beside(
    rows: &[f64],
    width: usize,
    constant: Option<&[f64]>,
    weight: &[f64],
) -> Totals {
    match constant {
        None => Arch::new().dispatch(ByEights(Sizes { rows, weight }, width)),
        Some(constant) => Arch::new().dispatch(ByEights(Dots { rows, constant, weight }, width)),
    }
}

struct Sizes<'a> {
    rows: &'a [f64],
    weight: &'a [f64],
}

impl Kernel for Sizes<'_> {
    #[inline(always)]
    fn run<const V: usize>(self) -> Totals {
        let mut size = [[0.0; LANES]; V];
        for (row, &w) in elements::<V>(self.rows).iter().zip(self.weight) {
            for v in 0..V {
                for lane in 0..LANES {
                    size[v][lane] = row[v][lane].abs().mul_add(w, size[v][lane]);
                }
            }
        }
        totals(&[[0.0; LANES]; V], &size)
    }
}

struct Dots<'a> {
    rows: &'a [f64],
    constant: &'a [f64],
    weight: &'a [f64],
}

impl Kernel for Dots<'_> {
    #[inline(always)]
    fn run<const V: usize>(self) -> Totals {
        let (mut sum, mut size) = ([[0.0; LANES]; V], [[0.0; LANES]; V]);
        for ((row, &c), &w) in elements::<V>(self.rows).iter().zip(self.constant).zip(self.weight) {
            for v in 0..V {
                for lane in 0..LANES {
                    sum[v][lane] = row[v][lane].mul_add(c, sum[v][lane]);
                    size[v][lane] = row[v][lane].abs().mul_add(w, size[v][lane]);
                }
            }
        }
        totals(&sum, &size)
    }
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
    /// The elements that are not held at zero by their lines; all, without a mask.
    pub alive: Option<&'a [bool]>,
}

/// Replaces coefficients of `y` by coefficients of `x` so that each row is bounded from below;
/// the sums are the constant `Σ a·offset` and the error weight `Σ |a|·size`.
///
/// A NaN coefficient of an element that is alive stays NaN and makes both sums NaN.
pub(crate) fn lines_beside(rows: &mut [f64], width: usize, lines: Lines) -> Totals {
    Arch::new().dispatch(ByEights(Through { rows, lines }, width))
}

struct Through<'a, 'b> {
    rows: &'b mut [f64],
    lines: Lines<'a>,
}

impl Kernel for Through<'_, '_> {
    #[inline(always)]
    fn run<const V: usize>(self) -> Totals {
        let (mut sum, mut size) = ([[0.0; LANES]; V], [[0.0; LANES]; V]);
        let (rows, lines) =
            (self.rows.as_chunks_mut::<LANES>().0.as_chunks_mut::<V>().0, self.lines);
        let n = rows.len();
        let (ls, lo) = (&lines.lower_slope[..n], &lines.lower_offset[..n]);
        let (us, uo) = (&lines.upper_slope[..n], &lines.upper_offset[..n]);
        let weight = &lines.size[..n];
        for (e, row) in rows.iter_mut().enumerate() {
            if lines.alive.is_some_and(|alive| !alive[e]) {
                *row = [[0.0; LANES]; V];
                continue;
            }
            let (ls, lo, us, uo, weight) = (ls[e], lo[e], us[e], uo[e], weight[e]);
            for v in 0..V {
                for lane in 0..LANES {
                    let a = row[v][lane];
                    let positive = a > 0.0;
                    let offset = if positive { lo } else { uo };
                    sum[v][lane] = a.mul_add(offset, sum[v][lane]);
                    size[v][lane] = a.abs().mul_add(weight, size[v][lane]);
                    row[v][lane] = a * if positive { ls } else { us };
                }
            }
        }
        totals(&sum, &size)
    }
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
    fn rows_side_by_side_match_plain_loops() {
        for (n, width) in [(0, 8), (1, 8), (5, 16), (9, 24), (40, 32)] {
            let rows = numbers(n * width, 1);
            let row = |r: usize| -> Vec<f64> { (0..n).map(|e| rows[e * width + r]).collect() };
            let [b, c, d, f, weight] = [2, 3, 4, 5, 6].map(|seed| numbers(n, seed));
            let alive: Vec<bool> = (0..n).map(|e| e % 3 != 1).collect();
            let least = least_beside(&rows, width, &b, &c);
            let dots = dots_beside(&rows, width, Some(&b), &weight);
            let plain = dots_beside(&rows, width, None, &weight);
            for mask in [None, Some(&alive[..])] {
                let lines = Lines {
                    lower_slope: &b,
                    lower_offset: &c,
                    upper_slope: &d,
                    upper_offset: &f,
                    size: &weight,
                    alive: mask,
                };
                let mut through = rows.clone();
                let totals = lines_beside(&mut through, width, lines);
                for r in 0..width {
                    let a = row(r);
                    let pick = |i: usize, p: &[f64], q: &[f64]| {
                        a[i] * if a[i] > 0.0 { p[i] } else { q[i] }
                    };
                    let sum = |term: &dyn Fn(usize) -> f64| (0..n).map(term).sum::<f64>();
                    let close = |x: f64, y: f64| assert!((x - y).abs() < 1e-12, "{x} {y}");
                    close(least.sum[r], sum(&|i| pick(i, &b, &c)));
                    close(least.size[r], sum(&|i| pick(i, &b, &c).abs()));
                    close(dots.sum[r], sum(&|i| a[i] * b[i]));
                    close(dots.size[r], sum(&|i| a[i].abs() * weight[i]));
                    assert_eq!((plain.sum[r], plain.size[r]), (0.0, dots.size[r]));
                    let counts = |i: usize| mask.is_none_or(|mask| mask[i]);
                    close(totals.sum[r], sum(&|i| if counts(i) { pick(i, &c, &f) } else { 0.0 }));
                    let sized = |i: usize| if counts(i) { a[i].abs() * weight[i] } else { 0.0 };
                    close(totals.size[r], sum(&sized));
                    for i in 0..n {
                        let expected = if counts(i) { pick(i, &b, &d) } else { 0.0 };
                        assert_eq!(through[i * width + r], expected);
                    }
                }
            }
        }
    }

    #[test]
    fn nan_is_never_swallowed() {
        for n in [1, 8, 9] {
            for at in 0..n {
                let ones = vec![1.0; n];
                let mut rows = vec![1.0; 8 * n];
                rows[8 * at + 3] = f64::NAN;
                assert!(least_beside(&rows, 8, &ones, &ones).sum[3].is_nan());
                let dots = dots_beside(&rows, 8, Some(&ones), &ones);
                assert!(dots.sum[3].is_nan() && dots.size[3].is_nan() && !dots.sum[2].is_nan());
                let lines = Lines {
                    lower_slope: &ones,
                    lower_offset: &ones,
                    upper_slope: &ones,
                    upper_offset: &ones,
                    size: &ones,
                    alive: None,
                };
                let totals = lines_beside(&mut rows, 8, lines);
                assert!(totals.sum[3].is_nan() && totals.size[3].is_nan());
                assert!(rows[8 * at + 3].is_nan() && !totals.sum[4].is_nan());
            }
        }
    }
}
