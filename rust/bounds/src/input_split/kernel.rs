//! The two inner loops of carrying rows back through a [`Form`](super::form::Form).

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

/// Of a vector; rows are padded with zeros to a multiple of it.
pub(super) const LANES: usize = 8;

/// Per unit: slopes for positive and for other coefficients of its output, the offset that goes
/// with the latter, the constant of its row, and what its row's errors weigh.
#[derive(Clone, Copy)]
pub(super) struct Level<'a> {
    pub below: &'a [f64],
    pub above: &'a [f64],
    pub offset: &'a [f64],
    pub constant: &'a [f64],
    pub weight: &'a [f64],
}

/// Writes the coefficients of the units' inputs; returns what joins the constant and the error.
pub(super) fn relax(outputs: &[f64], level: Level, inputs: &mut [f64]) -> (f64, f64) {
    Arch::new().dispatch(Relax { outputs, level, inputs })
}

struct Relax<'a> {
    outputs: &'a [f64],
    level: Level<'a>,
    inputs: &'a mut [f64],
}

impl WithSimd for Relax<'_> {
    type Output = (f64, f64);

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> (f64, f64) {
        let Self { outputs, level, inputs } = self;
        let n = inputs.len();
        let outputs = &outputs[..n];
        let (below, above, offset) = (&level.below[..n], &level.above[..n], &level.offset[..n]);
        let (constant, weight) = (&level.constant[..n], &level.weight[..n]);
        let (mut sum, mut error) = ([0.0; LANES], [0.0; LANES]);
        let whole = n - n % LANES;
        for start in (0..whole).step_by(LANES) {
            for lane in 0..LANES {
                let i = start + lane;
                let c = outputs[i];
                let g = c * if c > 0.0 { below[i] } else { above[i] };
                inputs[i] = g;
                sum[lane] += g * constant[i] + if c > 0.0 { 0.0 } else { c * offset[i] };
                error[lane] += g.abs() * weight[i];
            }
        }
        for (lane, i) in (whole..n).enumerate() {
            let c = outputs[i];
            let g = c * if c > 0.0 { below[i] } else { above[i] };
            inputs[i] = g;
            sum[lane] += g * constant[i] + if c > 0.0 { 0.0 } else { c * offset[i] };
            error[lane] += g.abs() * weight[i];
        }
        (sum.iter().sum(), error.iter().sum())
    }
}

/// `target[r] += Σ_j left[r, j]·rows[j]` over `vectors` of every target row; target rows are
/// `stride` vectors long, and `rows` has as many in a row as `vectors` names.
pub(super) fn multiply_add(
    target: &mut [f64],
    stride: usize,
    left: &[f64],
    rows: &[f64],
    vectors: Range<usize>,
) {
    Arch::new().dispatch(MultiplyAdd { target, stride, left, rows, vectors });
}

struct MultiplyAdd<'a> {
    target: &'a mut [f64],
    stride: usize,
    left: &'a [f64],
    rows: &'a [f64],
    vectors: Range<usize>,
}

type Vector = [f64; LANES];

impl WithSimd for MultiplyAdd<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let (target, rows) = (self.target.as_chunks_mut().0, self.rows.as_chunks().0);
        let width = self.vectors.len();
        let inner = rows.len() / width;
        let (mut targets, mut lefts) = (target, self.left);
        while targets.len() >= 4 * self.stride {
            let (block, rest) = targets.split_at_mut(4 * self.stride);
            let (left, later) = lefts.split_at(4 * inner);
            let left = [0, 1, 2, 3].map(|r| &left[r * inner..][..inner]);
            across::<4>(block, self.stride, left, rows, self.vectors.clone());
            (targets, lefts) = (rest, later);
        }
        for (target, left) in
            targets.chunks_exact_mut(self.stride).zip(lefts.chunks_exact(inner.max(1)))
        {
            across::<1>(target, self.stride, [left], rows, self.vectors.clone());
        }
    }
}

#[inline(always)]
fn across<const ROWS: usize>(
    target: &mut [Vector],
    stride: usize,
    left: [&[f64]; ROWS],
    rows: &[Vector],
    vectors: Range<usize>,
) {
    let width = vectors.len();
    let mut at = 0;
    while at + 3 <= width {
        tile::<ROWS, 3>(target, stride, left, rows, width, at, vectors.start);
        at += 3;
    }
    match width - at {
        2 => tile::<ROWS, 2>(target, stride, left, rows, width, at, vectors.start),
        1 => tile::<ROWS, 1>(target, stride, left, rows, width, at, vectors.start),
        _ => {}
    }
}

/// A few rows and vectors of the target, kept in registers.
#[inline(always)]
fn tile<const ROWS: usize, const VECTORS: usize>(
    target: &mut [Vector],
    stride: usize,
    left: [&[f64]; ROWS],
    rows: &[Vector],
    width: usize,
    at: usize,
    first: usize,
) {
    let mut sums = [[[0.0; LANES]; VECTORS]; ROWS];
    for r in 0..ROWS {
        for v in 0..VECTORS {
            sums[r][v] = target[r * stride + first + at + v];
        }
    }
    for (j, row) in rows.chunks_exact(width).enumerate() {
        let mut factors = [0.0; ROWS];
        for r in 0..ROWS {
            factors[r] = left[r][j];
        }
        if factors.iter().all(|&g| g == 0.0) {
            continue;
        }
        let row = &row[at..at + VECTORS];
        for r in 0..ROWS {
            for v in 0..VECTORS {
                for lane in 0..LANES {
                    sums[r][v][lane] = factors[r].mul_add(row[v][lane], sums[r][v][lane]);
                }
            }
        }
    }
    for r in 0..ROWS {
        for v in 0..VECTORS {
            target[r * stride + first + at + v] = sums[r][v];
        }
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
    fn products_match_plain_loops() {
        for (count, inner, vectors, stride) in
            [(1, 1, 0..1, 1), (4, 3, 1..3, 3), (6, 9, 0..5, 6), (9, 4, 2..5, 5), (3, 0, 0..1, 2)]
        {
            let (width, stride_values) = (vectors.len() * LANES, stride * LANES);
            let (rows, left) = (numbers(inner * width, 1), numbers(count * inner, 2));
            let start = numbers(count * stride_values, 3);
            let mut target = start.clone();
            multiply_add(&mut target, stride, &left, &rows, vectors.clone());
            for (at, (&after, &before)) in target.iter().zip(&start).enumerate() {
                let (r, column) = (at / stride_values, at % stride_values);
                let more: f64 = (0..inner)
                    .filter(|_| vectors.contains(&(column / LANES)))
                    .map(|j| left[r * inner + j] * rows[j * width + column - vectors.start * LANES])
                    .sum();
                assert!((after - before - more).abs() < 1e-13);
            }
        }
    }

    #[test]
    fn lines_match_plain_loops() {
        for n in 0..20 {
            let c = numbers(n, 1);
            let [below, above, offset, constant, weight] =
                std::array::from_fn(|i| numbers(n, i as u64 + 2));
            let level = Level {
                below: &below,
                above: &above,
                offset: &offset,
                constant: &constant,
                weight: &weight,
            };
            let mut g = vec![0.0; n];
            let (sum, error) = relax(&c, level, &mut g);
            let (mut plain, mut plain_error) = (0.0, 0.0);
            for i in 0..n {
                let (slope, offset) =
                    if c[i] > 0.0 { (below[i], 0.0) } else { (above[i], offset[i]) };
                assert_eq!(g[i], c[i] * slope);
                plain += g[i] * constant[i] + c[i] * offset;
                plain_error += g[i].abs() * weight[i];
            }
            assert!((sum - plain).abs() < 1e-13 && (error - plain_error).abs() < 1e-13);
        }
    }
}
