//! Sums over many short rows, in a fixed order: neither threads nor batches change a bit.
//!
//! Rows are cut into at most [`GROUPS`] groups, which depend on their number alone. A group is read
//! from its first row to its last, and groups are added from the first to the last.

use std::ops::Range;

use aisec_numeric::gemm::{Left, PackedMatrix, Target};
use rayon::prelude::*;

/// Rows multiplied at once.
pub(crate) const CHUNK: usize = 512;
const GROUPS: usize = 64;

/// Adds up what `part` gives for every group of `0..rows`, element by element.
pub(crate) fn sum_groups(
    rows: usize,
    len: usize,
    part: impl Fn(Range<usize>, &mut [f64]) + Sync,
) -> Vec<f64> {
    let size = rows.div_ceil(GROUPS).next_multiple_of(CHUNK);
    if rows <= size {
        // Few rows are not worth a wait for other threads.
        let mut sums = vec![0.0; len];
        part(0..rows, &mut sums);
        return sums;
    }
    let parts: Vec<Vec<f64>> = (0..rows.div_ceil(size.max(1)))
        .into_par_iter()
        .with_max_len(1)
        .map(|group| {
            let mut sums = vec![0.0; len];
            part(group * size..rows.min((group + 1) * size), &mut sums);
            sums
        })
        .collect();
    let mut total = vec![0.0; len];
    for part in parts {
        total.iter_mut().zip(part).for_each(|(total, value)| *total += value);
    }
    total
}

/// Chunks of a range of rows.
pub(crate) fn chunks(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(CHUNK).map(move |first| first..end.min(first + CHUNK))
}

/// `out += aᵀ·b` for `a` [rows, left] and `b` [rows, right], row-major.
pub(crate) fn add_product(a: &[f64], left: usize, b: &[f64], right: usize, out: &mut [f64]) {
    let rows = a.len() / left;
    let packed = PackedMatrix::new(rows, right, None, |k, n| b[k * right + n]);
    let columns: Vec<usize> = (0..left).collect();
    let taps: Vec<usize> = (0..rows).map(|row| row * left).collect();
    let starts: Vec<usize> = (0..left).map(|row| row * right).collect();
    packed.multiply(
        Left { values: a, rows: &columns, taps: &taps },
        Target { values: out, rows: &starts, stride: 1, accumulate: true },
    );
}

/// What `value` gives for every row of `z` [n, width].
pub(crate) fn map_rows<T: Send>(
    z: &[f64],
    width: usize,
    value: impl Fn(&[f64]) -> T + Sync + Send,
) -> Vec<T> {
    if z.len() <= CHUNK * width {
        z.chunks_exact(width).map(value).collect()
    } else {
        z.par_chunks_exact(width).map(value).collect()
    }
}

/// Rows [n, width] times a matrix [width, columns].
pub(crate) fn multiply(z: &[f64], width: usize, matrix: &[f64], columns: usize) -> Vec<f64> {
    let packed = PackedMatrix::new(width, columns, None, |k, n| matrix[k * columns + n]);
    let mut out = vec![0.0; z.len() / width * columns];
    if z.len() <= CHUNK * width {
        packed.multiply_rows(z, &mut out, false);
        return out;
    }
    out.par_chunks_mut(CHUNK * columns)
        .zip(z.par_chunks(CHUNK * width))
        .for_each(|(out, z)| packed.multiply_rows(z, out, false));
    out
}

/// `zᵀ·matrix·z` of every row of `z` [n, width].
pub(crate) fn quadratic(z: &[f64], width: usize, matrix: &[f64]) -> Vec<f64> {
    let packed = PackedMatrix::new(width, width, None, |k, n| matrix[k * width + n]);
    let mut out = vec![0.0; z.len() / width];
    let chunk = |(out, z): (&mut [f64], &[f64])| {
        let mut product = vec![0.0; z.len()];
        packed.multiply_rows(z, &mut product, false);
        for ((out, z), product) in
            out.iter_mut().zip(z.chunks_exact(width)).zip(product.chunks_exact(width))
        {
            *out = z.iter().zip(product).map(|(z, p)| z * p).sum();
        }
    };
    if z.len() <= CHUNK * width {
        chunk((&mut out, z));
    } else {
        out.par_chunks_mut(CHUNK).zip(z.par_chunks(CHUNK * width)).for_each(chunk);
    }
    out
}

/// Mean [width] of the rows.
pub(crate) fn mean(z: &[f64], width: usize) -> Vec<f64> {
    let rows = z.len() / width;
    let mut mean = sum_groups(rows, width, |range, sums| {
        for row in z[range.start * width..range.end * width].chunks_exact(width) {
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
    });
    mean.iter_mut().for_each(|value| *value /= rows as f64);
    mean
}

/// Σ z·zᵀ / n [width, width] of rows [n, width].
pub(crate) fn second_moment(z: &[f64], width: usize) -> Vec<f64> {
    let rows = z.len() / width;
    let mut moment = sum_groups(rows, width * width, |range, sums| {
        for chunk in chunks(range) {
            let z = &z[chunk.start * width..chunk.end * width];
            add_product(z, width, z, width, sums);
        }
    });
    moment.iter_mut().for_each(|value| *value /= rows as f64);
    moment
}

/// Covariance [width, width] of the rows, divided by `n - 1`.
pub(crate) fn covariance(z: &[f64], width: usize) -> Vec<f64> {
    let rows = (z.len() / width) as f64;
    let mean = mean(z, width);
    let mut matrix = second_moment(z, width);
    for (i, row) in matrix.chunks_exact_mut(width).enumerate() {
        for (value, other) in row.iter_mut().zip(&mean) {
            *value = (*value - mean[i] * other) * rows / (rows - 1.0).max(1.0);
        }
    }
    matrix
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(rows: usize, width: usize) -> Vec<f64> {
        let mut stream = aisec_numeric::random::Stream::new(1, "rows", 0).at(0, 0);
        (0..rows * width).map(|_| f64::from(stream.normal()) + 0.5).collect()
    }

    fn close(a: &[f64], b: &[f64]) {
        assert_eq!(a.len(), b.len());
        for (a, b) in a.iter().zip(b) {
            assert!((a - b).abs() <= 1e-11 * (1.0 + b.abs()), "{a} != {b}");
        }
    }

    #[test]
    fn sums_are_those_of_plain_loops() {
        for (rows, width) in [(1, 1), (7, 3), (1300, 5), (512 * 64 + 1, 2)] {
            let z = draw(rows, width);
            let n = rows as f64;
            let mut mean_ = vec![0.0; width];
            let mut moment = vec![0.0; width * width];
            for row in z.chunks(width) {
                for i in 0..width {
                    mean_[i] += row[i] / n;
                    for j in 0..width {
                        moment[i * width + j] += row[i] * row[j] / n;
                    }
                }
            }
            close(&mean(&z, width), &mean_);
            close(&second_moment(&z, width), &moment);
            let scale = n / (n - 1.0).max(1.0);
            let expected: Vec<f64> = (0..width * width)
                .map(|at| (moment[at] - mean_[at / width] * mean_[at % width]) * scale)
                .collect();
            close(&covariance(&z, width), &expected);
            let matrix: Vec<f64> = (0..width * width).map(|at| at as f64 - 1.5).collect();
            let forms: Vec<f64> = z
                .chunks(width)
                .map(|row| {
                    (0..width * width).map(|a| row[a / width] * matrix[a] * row[a % width]).sum()
                })
                .collect();
            close(&quadratic(&z, width, &matrix), &forms);
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let z = draw(5000, 6);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| (covariance(&z, 6), quadratic(&z, 6, &second_moment(&z, 6))))
        };
        assert_eq!(run(1), run(3));
    }
}
