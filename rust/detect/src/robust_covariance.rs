//! Which rows to trust: iterative filtering on the fourth moments (Diakonikolas et al., *Being
//! robust (in high dimensions) can be practical*, ICML 2017), as SPECTRE uses it (Hayase, Kong,
//! Somani & Oh, ICML 2021, arXiv:2104.11315).
//!
//! If white rows y were Gaussian, no quadratic form of them would vary more than its share. The form
//! that varies most is the leading eigenvector of the covariance of y⊗y, and rows far out along it
//! go. A product with that operator is two matrix products over the rows, so it is never formed.

use aisec_numeric::gemm::PackedMatrix;
use aisec_numeric::{Cancel, Cancelled};

use crate::eigen::tridiagonal;
use crate::rows::{add_product, chunks, multiply, quadratic, second_moment, sum_groups};
use crate::symmetric;

/// The paper's constants: C, and the failure probability τ.
const CONSTANT: f64 = 10.0;
const TAU: f64 = 0.1;
const SHIFT: f64 = 3.0;
/// Residual, relative to the eigenvalue, at which the fourth-moment iteration stops.
const TOLERANCE: f64 = 1e-5;
const MOST_STEPS: usize = 120;
const CHECK_EVERY: usize = 4;
/// At least this part of the removable rows goes in a round.
const ROUNDS: usize = 20;

/// What to do where the moments are not Gaussian, but no distance has the paper's tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extreme {
    /// The farthest rows go, as in the authors' program: those within 3 of the largest distance.
    Removed,
    /// Filtering ends, as in ports of it.
    Kept,
}

/// What is left after filtering.
#[derive(Debug, Clone, PartialEq)]
pub struct Trusted {
    pub kept: Vec<bool>,
    pub rounds: u32,
    /// Whether the fourth moments of what is left are those of a Gaussian, within the bound.
    pub gaussian: bool,
}

/// Filters rows [n, width], row-major and centred.
///
/// `fraction` bounds the share of rows that are poison; at most `limit` rows are removed.
pub fn trusted_rows(
    z: &[f64],
    width: usize,
    fraction: f64,
    limit: usize,
    extreme: Extreme,
    cancel: &Cancel,
) -> Result<Trusted, Cancelled> {
    let rows = z.len() / width;
    let mut kept = vec![true; rows];
    let mut index: Vec<usize> = (0..rows).collect();
    let mut z = z.to_vec();
    let mut last_form = None;
    let (mut left, mut rounds, mut gaussian) = (limit.min(rows), 0, false);
    let least = match extreme {
        Extreme::Removed => left.div_ceil(ROUNDS),
        Extreme::Kept => 0,
    };
    while left > 0 && index.len() > width {
        cancel.check()?;
        let count = index.len() as f64;
        let moment = second_moment(&z, width);
        let floor = f64::EPSILON * moment.iter().step_by(width + 1).sum::<f64>();
        let root = symmetric::function(&moment, width, |value| {
            if value > floor { 1.0 / value.sqrt() } else { 0.0 }
        });
        let y = multiply(&z, width, &root, width);
        let length: Vec<f64> =
            y.chunks_exact(width).map(|row| row.iter().map(|v| v * v).sum()).collect();
        let bound = CONSTANT * width as f64 * (count / TAU).ln();
        let mut distance = length;
        let threshold = if distance.iter().any(|value| *value >= bound) {
            bound
        } else {
            let (eigenvalue, form) = leading_form(&y, width, last_form.as_deref(), cancel)?;
            let inverse = 1.0 / fraction;
            if eigenvalue <= 1.0 + CONSTANT * fraction * inverse.ln().powi(2) {
                gaussian = true;
                break;
            }
            let trace: f64 = form.iter().step_by(width + 1).sum();
            let mut along: Vec<f64> = quadratic(&y, width, &form)
                .iter()
                .map(|value| (value - trace) * std::f64::consts::FRAC_1_SQRT_2)
                .collect();
            let middle = median(&along);
            along.iter_mut().for_each(|value| *value = (*value - middle).abs());
            distance = along;
            last_form = Some(form);
            match cut(&distance, fraction, extreme) {
                Some(threshold) => threshold,
                None => break,
            }
        };
        // The farthest go, at most as many as are left to remove.
        let mut far: Vec<usize> = (0..distance.len()).collect();
        far.sort_by(|&a, &b| distance[b].total_cmp(&distance[a]).then(a.cmp(&b)));
        let beyond = far.partition_point(|&row| distance[row] > threshold);
        far.truncate(beyond.max(least).min(left));
        left -= far.len();
        rounds += 1;
        far.iter().for_each(|&row| kept[index[row]] = false);
        let stay: Vec<usize> = (0..index.len()).filter(|&row| kept[index[row]]).collect();
        z = stay.iter().flat_map(|&row| z[row * width..][..width].iter().copied()).collect();
        index = stay.iter().map(|&row| index[row]).collect();
    }
    Ok(Trusted { kept, rounds, gaussian })
}

/// The smallest T such that at least 3 fraction / (T log T)² of the distances are beyond T + 3,
/// T > 10 log(1 / fraction): the paper's tail, which is 1 below.
fn cut(distance: &[f64], fraction: f64, extreme: Extreme) -> Option<f64> {
    let mut ordered = distance.to_vec();
    ordered.sort_by(f64::total_cmp);
    let near = CONSTANT * (1.0 / fraction).ln();
    let found = ordered.iter().enumerate().find_map(|(below, &value)| {
        let t = value - SHIFT;
        if t <= near {
            return None;
        }
        let tail = 3.0 * fraction / (t * t.ln()).powi(2);
        let beyond = (ordered.len() - below) as f64 / ordered.len() as f64;
        (beyond >= tail).then_some(t)
    });
    let farthest = ordered.last().map(|value| value - SHIFT).filter(|t| *t > 0.0);
    found.or(farthest.filter(|_| extreme == Extreme::Removed))
}

/// The leading eigenpair of `V ↦ Σ (yᵀVy)·yyᵀ / n - tr(V)·I` on symmetric matrices of white rows:
/// Lanczos with full reorthogonalisation, from the form of the round before where there is one.
fn leading_form(
    y: &[f64],
    width: usize,
    last: Option<&[f64]>,
    cancel: &Cancel,
) -> Result<(f64, Vec<f64>), Cancelled> {
    let size = width * width;
    let most = MOST_STEPS.min(width * (width + 1) / 2);
    // The identity is an eigenvector of Gaussian rows; the rows of largest norm lead away from it.
    let mut start = apply(y, width, &identity(width));
    if norm(&start) < 1e-8 * size as f64 {
        start = (0..size).map(|at| if at % width == 0 || at < width { 1.0 } else { 0.1 }).collect();
    }
    if let Some(last) = last {
        // Some of everything else, so that no direction is lost.
        let length = norm(&start);
        start.iter_mut().zip(last).for_each(|(start, last)| *start = 0.1 * *start / length + last);
    }
    let length = norm(&start);
    let mut basis = vec![start.iter().map(|value| value / length).collect::<Vec<f64>>()];
    let (mut diagonal, mut off_diagonal) = (Vec::new(), Vec::new());
    let (value, weights) = loop {
        cancel.check()?;
        let last = basis.last().expect("the basis is never empty");
        let mut next = apply(y, width, last);
        diagonal.push(dot(&next, last));
        for _ in 0..2 {
            for vector in &basis {
                let along = dot(&next, vector);
                next.iter_mut().zip(vector).for_each(|(next, v)| *next -= along * v);
            }
        }
        let rest = norm(&next);
        let steps = diagonal.len();
        let exhausted = steps == most || rest <= 1e-300;
        if !exhausted && !steps.is_multiple_of(CHECK_EVERY) {
            off_diagonal.push(rest);
            next.iter_mut().for_each(|value| *value /= rest);
            basis.push(next);
            continue;
        }
        let (values, vectors) = tridiagonal(&diagonal, &off_diagonal);
        let top = (0..steps).fold(0, |best, i| if values[i] > values[best] { i } else { best });
        let weights = &vectors[top * steps..][..steps];
        let residual = rest * weights[steps - 1].abs();
        if exhausted || residual <= TOLERANCE * values[top].abs() {
            break (values[top], weights.to_vec());
        }
        off_diagonal.push(rest);
        next.iter_mut().for_each(|value| *value /= rest);
        basis.push(next);
    };
    let mut form = vec![0.0; size];
    for (weight, vector) in weights.iter().zip(&basis) {
        form.iter_mut().zip(vector).for_each(|(form, v)| *form += weight * v);
    }
    Ok((value, form))
}

/// The fourth-moment operator: two matrix products over the rows.
fn apply(y: &[f64], width: usize, form: &[f64]) -> Vec<f64> {
    let rows = y.len() / width;
    let packed = PackedMatrix::new(width, width, None, |k, n| form[k * width + n]);
    let mut out = sum_groups(rows, width * width, |range, sums| {
        for chunk in chunks(range) {
            let y = &y[chunk.start * width..chunk.end * width];
            let mut weighted = vec![0.0; y.len()];
            packed.multiply_rows(y, &mut weighted, false);
            for (weighted, y) in weighted.chunks_exact_mut(width).zip(y.chunks_exact(width)) {
                let along: f64 = weighted.iter().zip(y).map(|(w, y)| w * y).sum();
                weighted.iter_mut().zip(y).for_each(|(w, y)| *w = along * y);
            }
            add_product(&weighted, width, y, width, sums);
        }
    });
    let trace: f64 = form.iter().step_by(width + 1).sum();
    for (at, value) in out.iter_mut().enumerate() {
        *value /= rows as f64;
        if at % (width + 1) == 0 {
            *value -= trace;
        }
    }
    // Symmetric but for rounding; the iteration relies on it.
    for i in 0..width {
        for j in 0..i {
            let middle = 0.5 * (out[i * width + j] + out[j * width + i]);
            out[i * width + j] = middle;
            out[j * width + i] = middle;
        }
    }
    out
}

fn identity(width: usize) -> Vec<f64> {
    (0..width * width).map(|at| f64::from(u8::from(at % (width + 1) == 0))).collect()
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut ordered = values.to_vec();
    ordered.sort_by(f64::total_cmp);
    let middle = ordered.len() / 2;
    if ordered.is_empty() {
        0.0
    } else if ordered.len() % 2 == 1 {
        ordered[middle]
    } else {
        0.5 * (ordered[middle - 1] + ordered[middle])
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aisec_numeric::random::Stream;

    fn draw(rows: usize, width: usize, seed: u64) -> Vec<f64> {
        let mut stream = Stream::new(seed, "rows", 0).at(0, 0);
        (0..rows * width).map(|_| f64::from(stream.normal())).collect()
    }

    #[test]
    fn the_operator_is_the_covariance_of_products() {
        let (rows, width) = (40, 3);
        let z = draw(rows, width, 1);
        let moment = second_moment(&z, width);
        let root = symmetric::function(&moment, width, |value| 1.0 / value.sqrt());
        let y = multiply(&z, width, &root, width);
        // The operator as a matrix of 9 × 9.
        let mut full = [0.0; 81];
        for row in y.chunks(width) {
            for a in 0..9 {
                for b in 0..9 {
                    full[a * 9 + b] +=
                        row[a / 3] * row[a % 3] * row[b / 3] * row[b % 3] / rows as f64;
                }
            }
        }
        for a in (0..9).step_by(4) {
            for b in (0..9).step_by(4) {
                full[a * 9 + b] -= 1.0;
            }
        }
        let form: Vec<f64> = vec![0.3, -1.0, 0.2, -1.0, 0.7, 0.4, 0.2, 0.4, -0.1];
        let expected: Vec<f64> = full.chunks(9).map(|row| dot(row, &form)).collect();
        for (a, b) in apply(&y, width, &form).iter().zip(&expected) {
            assert!((a - b).abs() < 1e-12);
        }
        let (values, _) = symmetric::eigenpairs(&full, 9);
        let (value, vector) = leading_form(&y, width, None, &Cancel::new()).unwrap();
        assert!((value - values[0]).abs() < 1e-9 * values[0], "{value} {values:?}");
        assert!((norm(&vector) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn gaussian_rows_stay() {
        let found =
            trusted_rows(&draw(3000, 6, 2), 6, 0.1, 600, Extreme::Removed, &Cancel::new()).unwrap();
        assert!(found.gaussian && found.kept.iter().all(|kept| *kept));
    }

    #[test]
    fn planted_rows_go_and_no_more_than_allowed() {
        let (rows, width) = (2000, 5);
        let mut z = draw(rows, width, 3);
        for row in 0..60 {
            z[row * width] += 60.0;
        }
        let filter =
            |limit, extreme| trusted_rows(&z, width, 0.03, limit, extreme, &Cancel::new()).unwrap();
        let found = filter(120, Extreme::Removed);
        assert!(found.kept[..60].iter().all(|kept| !kept), "{}", found.rounds);
        assert!(found.kept[60..].iter().filter(|kept| !**kept).count() < 60);
        let few = filter(7, Extreme::Removed);
        assert_eq!(few.kept.iter().filter(|kept| !**kept).count(), 7);
        // The tail of the paper does not reach a cluster of 3 %: 23 + 3 < 10 log(1 / 0.03).
        assert!(filter(120, Extreme::Kept).kept.iter().all(|kept| *kept));
    }

    #[test]
    fn flat_directions_are_no_obstacle() {
        let mut z = draw(500, 4, 4);
        z.chunks_mut(4).for_each(|row| row[2] = 0.0);
        let found = trusted_rows(&z, 4, 0.1, 100, Extreme::Removed, &Cancel::new()).unwrap();
        assert!(found.kept.iter().all(|kept| *kept));
    }

    #[test]
    fn the_cut_follows_the_tail() {
        // Ten log(1/0.1) is 23.03: nearer rows never go.
        assert_eq!(cut(&[1.0, 26.0, 2.0], 0.1, Extreme::Kept), None);
        assert_eq!(cut(&[1.0, 26.0, 2.0], 0.1, Extreme::Removed), Some(23.0));
        assert_eq!(cut(&[1.0, 30.0, 2.0], 0.1, Extreme::Kept), Some(27.0));
        assert_eq!(cut(&[1.0, 2.0], 0.1, Extreme::Removed), None);
    }
}
