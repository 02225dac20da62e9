//! All eigenpairs of a small symmetric matrix: Householder's reduction to tridiagonal form
//! (Golub & Van Loan, *Matrix Computations*, section 8.3), then implicit QL.

use crate::eigen::tridiagonal;

/// Eigenvalues of a symmetric matrix, row-major [n, n], in descending order, and its unit
/// eigenvectors one after the other, each with its entry of largest magnitude positive.
pub(crate) fn eigenpairs(matrix: &[f64], n: usize) -> (Vec<f64>, Vec<f64>) {
    assert_eq!(matrix.len(), n * n);
    let mut a = matrix.to_vec();
    let mut reflections: Vec<Vec<f64>> = Vec::with_capacity(n);
    for k in 0..n.saturating_sub(2) {
        // Reflects column k below the diagonal onto its first entry.
        let mut v: Vec<f64> = (k + 1..n).map(|i| a[i * n + k]).collect();
        let length = v.iter().fold(0.0f64, |sum, value| sum.hypot(*value));
        let tail = v[1..].iter().any(|value| *value != 0.0);
        if !tail || length == 0.0 {
            reflections.push(Vec::new());
            continue;
        }
        v[0] += length.copysign(v[0]);
        let norm = v.iter().fold(0.0f64, |sum, value| sum.hypot(*value));
        v.iter_mut().for_each(|value| *value /= norm);
        // A ← H A H on the trailing block, H = I - 2vvᵀ: A - vwᵀ - wvᵀ.
        let size = n - k - 1;
        let mut w: Vec<f64> =
            (0..size).map(|i| 2.0 * dot(&a[(k + 1 + i) * n + k + 1..][..size], &v)).collect();
        let half = dot(&w, &v);
        w.iter_mut().zip(&v).for_each(|(w, v)| *w -= half * v);
        for i in 0..size {
            let row = &mut a[(k + 1 + i) * n + k + 1..][..size];
            for ((entry, vj), wj) in row.iter_mut().zip(&v).zip(&w) {
                *entry -= v[i] * wj + w[i] * vj;
            }
        }
        let corner = -length.copysign(a[(k + 1) * n + k]);
        a[(k + 1) * n + k] = corner;
        reflections.push(v);
    }
    let diagonal: Vec<f64> = (0..n).map(|i| a[i * n + i]).collect();
    let off_diagonal: Vec<f64> = (1..n).map(|i| a[i * n + i - 1]).collect();
    let (values, mut vectors) = tridiagonal(&diagonal, &off_diagonal);
    for vector in vectors.chunks_exact_mut(n.max(1)) {
        for (k, v) in reflections.iter().enumerate().rev() {
            if !v.is_empty() {
                let along = 2.0 * dot(&vector[k + 1..], v);
                vector[k + 1..].iter_mut().zip(v).for_each(|(x, v)| *x -= along * v);
            }
        }
        let largest =
            vector.iter().fold(0.0, |best: f64, v| if v.abs() > best.abs() { *v } else { best });
        if largest < 0.0 {
            vector.iter_mut().for_each(|value| *value = -*value);
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| values[j].total_cmp(&values[i]));
    let sorted = order.iter().flat_map(|&i| vectors[i * n..][..n].iter().copied()).collect();
    (order.iter().map(|&i| values[i]).collect(), sorted)
}

/// `Σ f(λ)·u·uᵀ`: a function of a symmetric matrix, row-major [n, n].
pub(crate) fn function(matrix: &[f64], n: usize, f: impl Fn(f64) -> f64) -> Vec<f64> {
    let (values, vectors) = eigenpairs(matrix, n);
    let mut out = vec![0.0; n * n];
    for (value, u) in values.iter().zip(vectors.chunks_exact(n)) {
        let weight = f(*value);
        for (row, left) in out.chunks_exact_mut(n).zip(u) {
            row.iter_mut().zip(u).for_each(|(entry, right)| *entry += weight * left * right);
        }
    }
    out
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pairs_are_orthonormal_and_give_the_matrix_back(
            n in 1usize..24,
            rank in 0usize..24,
            seed in prop::collection::vec(-1.0f64..1.0, 24 * 24),
        ) {
            let mut matrix = vec![0.0; n * n];
            for r in 0..rank {
                for i in 0..n {
                    for j in 0..n {
                        // Indefinite, with rank as low as asked.
                        let sign = if r % 2 == 0 { 1.0 } else { -1.0 };
                        matrix[i * n + j] += sign * seed[r * 24 + i] * seed[r * 24 + j];
                    }
                }
            }
            let scale = matrix.iter().fold(1e-300, |m: f64, v| m.max(v.abs()));
            let (values, vectors) = eigenpairs(&matrix, n);
            prop_assert!(values.windows(2).all(|w| w[0] >= w[1]));
            for i in 0..n {
                for j in 0..n {
                    let inner = dot(&vectors[i * n..][..n], &vectors[j * n..][..n]);
                    prop_assert!((inner - f64::from(u8::from(i == j))).abs() < 1e-12);
                }
            }
            let back = function(&matrix, n, |value| value);
            for (a, b) in back.iter().zip(&matrix) {
                prop_assert!((a - b).abs() <= 1e-12 * scale * n as f64);
            }
        }
    }

    #[test]
    fn closed_forms() {
        let (values, vectors) = eigenpairs(&[2.0, 1.0, 1.0, 2.0], 2);
        assert!((values[0] - 3.0).abs() < 1e-15 && (values[1] - 1.0).abs() < 1e-15);
        assert!((vectors[0] - 0.5f64.sqrt()).abs() < 1e-15);
        // exp of [[0, 1], [1, 0]] is [[cosh 1, sinh 1], [sinh 1, cosh 1]].
        let exp = function(&[0.0, 1.0, 1.0, 0.0], 2, f64::exp);
        for (value, expected) in
            exp.iter().zip([1f64.cosh(), 1f64.sinh(), 1f64.sinh(), 1f64.cosh()])
        {
            assert!((value - expected).abs() < 1e-14);
        }
        assert_eq!(eigenpairs(&[4.0], 1), (vec![4.0], vec![1.0]));
        assert_eq!(eigenpairs(&[], 0), (vec![], vec![]));
    }
}
