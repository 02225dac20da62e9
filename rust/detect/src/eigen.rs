//! The leading eigenpair of a symmetric matrix: Lanczos with full reorthogonalisation
//! (Parlett, *The Symmetric Eigenvalue Problem*, chapter 13) and implicit QL for the small
//! tridiagonal problem (Bowdler, Martin, Reinsch & Wilkinson, 1968).

use aisec_numeric::{Cancel, Cancelled};

/// Residual, relative to the eigenvalue's size, at which the iteration stops.
const TOLERANCE: f64 = 1e-13;

/// Returns the largest eigenvalue of a symmetric positive semidefinite matrix, row-major
/// [dim, dim], and its unit eigenvector with the entry of largest magnitude (the first, if several
/// are) positive. The zero matrix gives 0 and the zero vector.
///
/// The iteration starts from fixed numbers and the column of largest variance, so the same
/// matrix gives the same bits.
pub fn leading_eigenpair(
    matrix: &[f64],
    dim: usize,
    cancel: &Cancel,
) -> Result<(f64, Vec<f64>), Cancelled> {
    assert_eq!(matrix.len(), dim * dim);
    let (widest, scale) = (0..dim)
        .map(|i| (i, matrix[i * dim + i]))
        .fold((0, 0.0), |best, next| if next.1 > best.1 { next } else { best });
    if scale <= 0.0 {
        return Ok((0.0, vec![0.0; dim]));
    }
    let mut start: Vec<f64> = matrix[widest * dim..][..dim].iter().map(|v| v / scale).collect();
    let length = dot(&start, &start).sqrt();
    for (value, noise) in start.iter_mut().zip(noise()) {
        *value = *value / length + noise / (dim as f64).sqrt();
    }
    normalise(&mut start);

    let mut basis = vec![start];
    let (mut diagonal, mut off_diagonal) = (Vec::new(), Vec::new());
    let mut next_check = 8;
    let weights = loop {
        cancel.check()?;
        let last = basis.last().expect("the basis is never empty");
        let mut next: Vec<f64> =
            matrix.chunks_exact(dim).map(|row| dot(row, last) / scale).collect();
        diagonal.push(dot(&next, last));
        // Twice is enough (Parlett, section 6.9): what is left is orthogonal to working precision.
        for _ in 0..2 {
            for vector in &basis {
                let along = dot(&next, vector);
                next.iter_mut().zip(vector).for_each(|(next, v)| *next -= along * v);
            }
        }
        let rest = dot(&next, &next).sqrt();
        let size = diagonal.len();
        let exhausted = size == dim || rest <= f64::EPSILON;
        if exhausted || size >= next_check {
            next_check = (size + 8).max(size * 5 / 4);
            let (values, vectors) = tridiagonal(&diagonal, &off_diagonal);
            let top = (0..size).fold(0, |best, i| if values[i] > values[best] { i } else { best });
            let weights = vectors[top * size..][..size].to_vec();
            if exhausted || rest * weights[size - 1].abs() <= TOLERANCE * values[top].abs() {
                break weights;
            }
        }
        off_diagonal.push(rest);
        next.iter_mut().for_each(|value| *value /= rest);
        basis.push(next);
    };

    let mut vector = vec![0.0; dim];
    for (weight, basis) in weights.iter().zip(&basis) {
        vector.iter_mut().zip(basis).for_each(|(v, b)| *v += weight * b);
    }
    normalise(&mut vector);
    let largest =
        vector.iter().fold(0.0, |best: f64, v| if v.abs() > best.abs() { *v } else { best });
    if largest < 0.0 {
        vector.iter_mut().for_each(|value| *value = -*value);
    }
    let value: f64 =
        matrix.chunks_exact(dim).zip(&vector).map(|(row, v)| v * (dot(row, &vector) / scale)).sum();
    Ok((value.max(0.0) * scale, vector))
}

/// Eigenvalues of a symmetric tridiagonal matrix and its eigenvectors, one after the other.
pub(crate) fn tridiagonal(diagonal: &[f64], off_diagonal: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let n = diagonal.len();
    let mut d = diagonal.to_vec();
    let mut e = off_diagonal.to_vec();
    e.push(0.0);
    let mut vectors = vec![0.0; n * n];
    (0..n).for_each(|i| vectors[i * n + i] = 1.0);
    for l in 0..n {
        // Every eigenvalue takes two or three sweeps; the bound only ends a loop that NaN made.
        for _ in 0..60 {
            let m = (l..n - 1)
                .find(|&m| e[m].abs() <= f64::EPSILON * (d[m].abs() + d[m + 1].abs()))
                .unwrap_or(n - 1);
            if m == l {
                break;
            }
            // Wilkinson's shift.
            let g = (d[l + 1] - d[l]) / (2.0 * e[l]);
            let mut shifted = d[m] - d[l] + e[l] / (g + g.hypot(1.0).copysign(g));
            let (mut sine, mut cosine, mut moved) = (1.0, 1.0, 0.0);
            let mut deflated = false;
            for i in (l..m).rev() {
                let (f, b) = (sine * e[i], cosine * e[i]);
                let radius = f.hypot(shifted);
                e[i + 1] = radius;
                if radius == 0.0 {
                    d[i + 1] -= moved;
                    e[m] = 0.0;
                    deflated = true;
                    break;
                }
                (sine, cosine) = (f / radius, shifted / radius);
                let g = d[i + 1] - moved;
                let r = (d[i] - g) * sine + 2.0 * cosine * b;
                moved = sine * r;
                d[i + 1] = g + moved;
                shifted = cosine * r - b;
                let (left, right) = vectors[i * n..][..2 * n].split_at_mut(n);
                for (a, b) in left.iter_mut().zip(right) {
                    (*a, *b) = (cosine * *a - sine * *b, sine * *a + cosine * *b);
                }
            }
            if !deflated {
                d[l] -= moved;
                e[l] = shifted;
                e[m] = 0.0;
            }
        }
    }
    (d, vectors)
}

fn normalise(vector: &mut [f64]) {
    let length = dot(vector, vector).sqrt();
    vector.iter_mut().for_each(|value| *value /= length);
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a_body, a_tail) = a.as_chunks::<8>();
    let (b_body, b_tail) = b.as_chunks::<8>();
    for (a, b) in a_body.iter().zip(b_body) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f64>() + a_tail.iter().zip(b_tail).map(|(a, b)| a * b).sum::<f64>()
}

/// Fixed numbers in [-1, 1) without structure (SplitMix64).
fn noise() -> impl Iterator<Item = f64> {
    (1..).map(|step: u64| {
        let mut z = step.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Cyclic Jacobi: slow, simple, accurate.
    fn jacobi(matrix: &[f64], n: usize) -> (f64, f64) {
        let mut a = matrix.to_vec();
        for _ in 0..100 {
            for p in 0..n {
                for q in p + 1..n {
                    if a[p * n + q] == 0.0 {
                        continue;
                    }
                    let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * a[p * n + q]);
                    let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
                    let c = 1.0 / t.hypot(1.0);
                    let s = t * c;
                    for k in 0..n {
                        let (x, y) = (a[k * n + p], a[k * n + q]);
                        (a[k * n + p], a[k * n + q]) = (c * x - s * y, s * x + c * y);
                    }
                    for k in 0..n {
                        let (x, y) = (a[p * n + k], a[q * n + k]);
                        (a[p * n + k], a[q * n + k]) = (c * x - s * y, s * x + c * y);
                    }
                }
            }
        }
        let mut values: Vec<f64> = (0..n).map(|i| a[i * n + i]).collect();
        values.sort_by(f64::total_cmp);
        (values[n - 1], if n > 1 { values[n - 2] } else { 0.0 })
    }

    fn product(rows: &[Vec<f64>], n: usize) -> Vec<f64> {
        let mut matrix = vec![0.0; n * n];
        for row in rows {
            for i in 0..n {
                for j in 0..n {
                    matrix[i * n + j] += row[i] * row[j];
                }
            }
        }
        matrix
    }

    fn check(matrix: &[f64], n: usize) {
        let (value, vector) = leading_eigenpair(matrix, n, &Cancel::new()).unwrap();
        let (expected, _) = jacobi(matrix, n);
        assert!((value - expected).abs() <= 1e-12 * expected, "{value} != {expected}");
        assert!((dot(&vector, &vector) - 1.0).abs() < 1e-14);
        for (row, v) in matrix.chunks_exact(n).zip(&vector) {
            assert!((dot(row, &vector) - value * v).abs() <= 1e-11 * value);
        }
        let top =
            vector.iter().fold(0.0f64, |best, v| if v.abs() > best.abs() { *v } else { best });
        assert!(top > 0.0);
    }

    proptest! {
        #[test]
        fn agrees_with_jacobi(
            n in 1usize..24,
            rank in 1usize..30,
            scale in -150i32..150,
            seed in prop::collection::vec(-1.0f64..1.0, 30 * 24),
        ) {
            let rows: Vec<Vec<f64>> =
                (0..rank).map(|r| seed[r * 24..][..n].to_vec()).collect();
            let matrix: Vec<f64> =
                product(&rows, n).iter().map(|v| v * 10f64.powi(scale)).collect();
            prop_assume!(matrix.iter().any(|v| *v != 0.0));
            check(&matrix, n);
        }
    }

    #[test]
    fn closed_forms() {
        let (value, vector) = leading_eigenpair(&[2.0, 1.0, 1.0, 2.0], 2, &Cancel::new()).unwrap();
        assert!((value - 3.0).abs() < 1e-15);
        assert!(vector.iter().all(|v| (v - 0.5f64.sqrt()).abs() < 1e-15));
        assert_eq!(leading_eigenpair(&[4.0], 1, &Cancel::new()).unwrap(), (4.0, vec![1.0]));
        let zero = leading_eigenpair(&[0.0; 9], 3, &Cancel::new()).unwrap();
        assert_eq!(zero, (0.0, vec![0.0; 3]));
    }

    #[test]
    fn hard_spectra() {
        for n in [2usize, 17, 60] {
            // Equal, clustered, geometric and isolated eigenvalues on the diagonal and rotated.
            let spectra: [fn(usize) -> f64; 4] = [
                |_| 1.0,
                |i| 1.0 - 1e-10 * i as f64,
                |i| 0.5f64.powi(i as i32),
                |i| if i == 0 { 1.0 } else { 1e-12 },
            ];
            for spectrum in spectra {
                let mut matrix = vec![0.0; n * n];
                for i in 0..n {
                    matrix[i * n + i] = spectrum(i);
                }
                check(&matrix, n);
                // Householder reflection H A H with a fixed vector.
                let mut u: Vec<f64> = noise().skip(1000).take(n).collect();
                normalise(&mut u);
                let rows: Vec<Vec<f64>> = (0..n)
                    .map(|i| {
                        let root = spectrum(i).sqrt();
                        (0..n)
                            .map(|j| root * (f64::from(u8::from(i == j)) - 2.0 * u[i] * u[j]))
                            .collect()
                    })
                    .collect();
                check(&product(&rows, n), n);
            }
        }
    }

    #[test]
    fn can_be_cancelled() {
        let cancel = Cancel::new();
        cancel.cancel();
        assert_eq!(leading_eigenpair(&[1.0], 1, &cancel), Err(Cancelled));
    }
}
