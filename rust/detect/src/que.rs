//! Quantum entropy scores (Dong, Hopkins & Li, NeurIPS 2019), as SPECTRE uses them
//! (arXiv:2104.11315): rows whitened by a covariance one trusts, and the directions in which they
//! still vary too much weighted by the exponential of the excess.

use crate::rows::{covariance, multiply, quadratic};
use crate::symmetric;

/// Scores of rows, and how much they vary in the weighted directions.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantumEntropy {
    /// zᵀ·M·z of every white row, M of trace 1.
    pub scores: Vec<f64>,
    /// tr(Σ·M) of the white rows' covariance Σ: 1 where the trusted covariance says it all.
    pub excess: f64,
    /// Eigenvalues of M, descending: the scores of Gaussian rows are so weighted chi-squares.
    pub weights: Vec<f64>,
}

/// How M is made of the excess covariance E.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weighting {
    /// The exponential of the matrix E.
    Matrix,
    /// The exponential of each entry of E, as some ports have it.
    Elementwise,
}

/// Scores rows [n, width], row-major and centred, against the covariance of those `kept`.
///
/// With as few kept rows as dimensions, flat directions of the kept rows are left out.
pub fn quantum_entropy(
    z: &[f64],
    width: usize,
    kept: &[bool],
    alpha: f64,
    weighting: Weighting,
) -> QuantumEntropy {
    let trusted: Vec<f64> = z
        .chunks_exact(width)
        .zip(kept)
        .filter(|(_, kept)| **kept)
        .flat_map(|(row, _)| row.iter().copied())
        .collect();
    let clean = covariance(&trusted, width);
    let floor = 1e-12 * clean.iter().step_by(width + 1).sum::<f64>().max(1e-300);
    let root =
        symmetric::function(
            &clean,
            width,
            |value| {
                if value > floor { 1.0 / value.sqrt() } else { 0.0 }
            },
        );
    let white = multiply(z, width, &root, width);
    let sigma = covariance(&white, width);
    let norm = symmetric::eigenpairs(&sigma, width).0.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    let identity = |at: usize| f64::from(u8::from(at.is_multiple_of(width + 1)));
    let mut weight: Vec<f64> = (0..width * width).map(identity).collect();
    // Where all rows are trusted the excess is rounding, and every direction weighs the same.
    if (norm - 1.0).abs() > 1e-9 {
        let scale = alpha / (norm - 1.0);
        let excess: Vec<f64> =
            sigma.iter().enumerate().map(|(at, value)| scale * (value - identity(at))).collect();
        weight = match weighting {
            Weighting::Matrix => {
                // Shifted by the largest exponent, which cancels in M / tr(M).
                let top = symmetric::eigenpairs(&excess, width).0[0];
                symmetric::function(&excess, width, |value| (value - top).exp())
            }
            Weighting::Elementwise => excess.iter().map(|value| value.exp()).collect(),
        };
    }
    let trace: f64 = weight.iter().step_by(width + 1).sum();
    weight.iter_mut().for_each(|value| *value /= trace);
    QuantumEntropy {
        scores: quadratic(&white, width, &weight),
        excess: sigma.iter().zip(&weight).map(|(a, b)| a * b).sum(),
        weights: symmetric::eigenpairs(&weight, width).0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aisec_numeric::random::Stream;

    fn draw(rows: usize, width: usize) -> Vec<f64> {
        let mut stream = Stream::new(11, "rows", 0).at(0, 0);
        (0..rows * width).map(|_| f64::from(stream.normal())).collect()
    }

    #[test]
    fn a_line_scores_its_squares() {
        // One dimension: M is 1, and the score the square over the trusted variance.
        let z = [-1.0, 1.0, -1.0, 1.0, 6.0];
        let kept = [true, true, true, true, false];
        let found = quantum_entropy(&z, 1, &kept, 4.0, Weighting::Matrix);
        for (score, value) in found.scores.iter().zip(z) {
            assert!((score - value * value * 0.75).abs() < 1e-12);
        }
        assert!((found.weights[0] - 1.0).abs() < 1e-12);
    }

    #[test]
    fn scores_do_not_change_with_rotation_and_scale() {
        let width = 3;
        let mut z = draw(400, width);
        z.chunks_mut(width).take(40).for_each(|row| row[1] += 6.0);
        let kept: Vec<bool> = (0..400).map(|row| row >= 40).collect();
        let found = quantum_entropy(&z, width, &kept, 4.0, Weighting::Matrix);
        let turn = [0.6, 0.8, 0.0, -0.8, 0.6, 0.0, 0.0, 0.0, 5.0];
        let turned = quantum_entropy(&multiply(&z, 3, &turn, 3), 3, &kept, 4.0, Weighting::Matrix);
        for (a, b) in found.scores.iter().zip(&turned.scores) {
            assert!((a - b).abs() < 1e-9 * (1.0 + a.abs()));
        }
        let mean = |rows: &[f64]| rows.iter().sum::<f64>() / rows.len() as f64;
        assert!(mean(&found.scores[..40]) > 5.0 * mean(&found.scores[40..]));
        assert!((found.weights.iter().sum::<f64>() - 1.0).abs() < 1e-12 && found.excess > 1.5);
    }

    #[test]
    fn entries_and_matrices_differ() {
        let mut z = draw(200, 2);
        z.chunks_mut(2).take(20).for_each(|row| (row[0], row[1]) = (row[0] + 5.0, row[1] + 5.0));
        let kept: Vec<bool> = (0..200).map(|row| row >= 20).collect();
        let matrix = quantum_entropy(&z, 2, &kept, 4.0, Weighting::Matrix);
        let entries = quantum_entropy(&z, 2, &kept, 4.0, Weighting::Elementwise);
        // exp of [[a, b], [b, a]] is e^a [[cosh b, sinh b], [sinh b, cosh b]]; entries are e^a, e^b.
        assert!((matrix.excess - entries.excess).abs() > 0.01);
        // All rows trusted: white by their own covariance, every direction weighs the same.
        for weighting in [Weighting::Matrix, Weighting::Elementwise] {
            let even = quantum_entropy(&draw(60, 4), 4, &[true; 60], 4.0, weighting);
            assert!((even.excess - 1.0).abs() < 1e-9);
            assert!(even.weights.iter().all(|weight| (weight - 0.25).abs() < 1e-12));
        }
    }
}
