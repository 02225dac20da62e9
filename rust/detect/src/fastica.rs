//! Independent components: FastICA with symmetric decorrelation and the log cosh contrast
//! (Hyvärinen, *Fast and robust fixed-point algorithms for independent component analysis*, 1999).

use aisec_numeric::gemm::PackedMatrix;
use aisec_numeric::random::Stream;
use aisec_numeric::{Cancel, Cancelled};

use crate::rows::{add_product, chunks, multiply, sum_groups};
use crate::symmetric;

/// Components of the rows.
#[derive(Debug, Clone, PartialEq)]
pub struct FastIca {
    /// Orthogonal [width, width]: one component a row.
    pub unmixing: Vec<f64>,
    /// Components of the rows [n, width].
    pub sources: Vec<f64>,
    pub iterations: u32,
    pub converged: bool,
}

/// Finds the components of white rows [n, width], row-major, until every component turns by less
/// than `tolerance` (1 - |cosine|).
pub fn fast_ica(
    z: &[f64],
    width: usize,
    tolerance: f64,
    most: u32,
    key: u64,
    cancel: &Cancel,
) -> Result<FastIca, Cancelled> {
    let rows = z.len() / width;
    let mut draw = Stream::new(0, "fast-ica", 0).at(key, 0);
    let start: Vec<f64> = (0..width * width).map(|_| f64::from(draw.normal())).collect();
    let mut unmixing = decorrelate(&start, width);
    let (mut iterations, mut converged) = (0, false);
    while iterations < most && !converged {
        cancel.check()?;
        iterations += 1;
        let packed = PackedMatrix::new(width, width, None, |k, n| unmixing[n * width + k]);
        // Σ g(w·z)·z for each component, then Σ g'(w·z).
        let sums = sum_groups(rows, width * (width + 1), |range, sums| {
            let (products, slopes) = sums.split_at_mut(width * width);
            for chunk in chunks(range) {
                let z = &z[chunk.start * width..chunk.end * width];
                let mut along = vec![0.0; z.len()];
                packed.multiply_rows(z, &mut along, false);
                for row in along.chunks_exact_mut(width) {
                    for (value, slope) in row.iter_mut().zip(slopes.iter_mut()) {
                        *value = value.tanh();
                        *slope += 1.0 - *value * *value;
                    }
                }
                add_product(&along, width, z, width, products);
            }
        });
        let (products, slopes) = sums.split_at(width * width);
        let moved: Vec<f64> = products
            .iter()
            .enumerate()
            .map(|(at, value)| (value - slopes[at / width] * unmixing[at]) / rows as f64)
            .collect();
        let moved = decorrelate(&moved, width);
        let turned = moved
            .chunks_exact(width)
            .zip(unmixing.chunks_exact(width))
            .map(|(new, old)| {
                (new.iter().zip(old).map(|(a, b)| a * b).sum::<f64>().abs() - 1.0).abs()
            })
            .fold(0.0, f64::max);
        unmixing = moved;
        converged = turned < tolerance;
    }
    let transposed: Vec<f64> =
        (0..width * width).map(|at| unmixing[at % width * width + at / width]).collect();
    let sources = multiply(z, width, &transposed, width);
    Ok(FastIca { unmixing, sources, iterations, converged })
}

/// `(W·Wᵀ)^(-1/2)·W`: the nearest orthogonal matrix.
fn decorrelate(matrix: &[f64], width: usize) -> Vec<f64> {
    let mut gram = vec![0.0; width * width];
    for (i, row) in gram.chunks_exact_mut(width).enumerate() {
        for (j, value) in row.iter_mut().enumerate() {
            let (a, b) = (&matrix[i * width..][..width], &matrix[j * width..][..width]);
            *value = a.iter().zip(b).map(|(a, b)| a * b).sum();
        }
    }
    let root = symmetric::function(&gram, width, |value| 1.0 / value.max(1e-300).sqrt());
    let mut out = vec![0.0; width * width];
    for (out, root) in out.chunks_exact_mut(width).zip(root.chunks_exact(width)) {
        for (weight, row) in root.iter().zip(matrix.chunks_exact(width)) {
            out.iter_mut().zip(row).for_each(|(out, value)| *out += weight * value);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_sources_of_a_rotation() {
        // Two uniform sources and a bimodal one, rotated: FastICA turns them back.
        let rows = 4000;
        let mut draw = Stream::new(3, "rows", 0).at(0, 0);
        let mut sources = Vec::with_capacity(3 * rows);
        for _ in 0..rows {
            let uniform = 3f64.sqrt();
            sources.push(f64::from(draw.signed()) * uniform);
            sources.push(f64::from(draw.signed()) * uniform);
            sources.push(f64::from(draw.sign()));
        }
        let mut mixing: Vec<f64> = (0..9).map(|_| f64::from(draw.normal())).collect();
        mixing = decorrelate(&mixing, 3);
        let z = multiply(&sources, 3, &mixing, 3);
        let found = fast_ica(&z, 3, 1e-6, 1000, 0, &Cancel::new()).unwrap();
        assert!(found.converged);
        // unmixing · mixingᵀ is a permutation with signs.
        for i in 0..3 {
            let row: Vec<f64> = (0..3)
                .map(|j| (0..3).map(|k| found.unmixing[i * 3 + k] * mixing[j * 3 + k]).sum())
                .collect();
            let largest = row.iter().fold(0.0f64, |m, v: &f64| m.max(v.abs()));
            assert!(largest > 0.995, "{row:?}");
        }
        let again = fast_ica(&z, 3, 1e-6, 1000, 0, &Cancel::new()).unwrap();
        assert_eq!(again, found);
    }

    #[test]
    fn one_dimension_and_cancelling() {
        let found = fast_ica(&[1.0, -1.0, 1.0, -1.0], 1, 0.005, 10, 0, &Cancel::new()).unwrap();
        assert!((found.unmixing[0].abs() - 1.0).abs() < 1e-12);
        let cancel = Cancel::new();
        cancel.cancel();
        assert!(fast_ica(&[1.0], 1, 0.005, 10, 0, &cancel).is_err());
    }
}
