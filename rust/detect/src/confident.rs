//! Confident learning (Northcutt, Jiang & Chuang, *Confident Learning: Estimating Uncertainty in
//! Dataset Labels*, JAIR 70 (2021), arXiv:1911.00068), row by row: what the probabilities of one
//! sample say of the label it was given.

use aisec_numeric::Cancel;
use pulp::Arch;
use rayon::prelude::*;

use crate::{Error, Feature};

/// Rows judged by one task.
const ROWS: usize = 1024;
const LANES: usize = 8;
/// How far outside [0, 1] rounding may put a probability, and by how much the given label is
/// preferred over another that is as likely.
const TOLERANCE: f64 = 1e-6;

/// How well a label fits its sample's probabilities p; from 1, well, down to 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quality {
    /// `p_y`.
    SelfConfidence,
    /// `(p_y - max_{k != y} p_k + 1) / 2`.
    NormalizedMargin,
    /// `ln(1 + e) / e` for the normalised entropy over `p_y`, e.
    ConfidenceWeightedEntropy,
}

/// What was found of a range of rows, one entry a row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judged {
    /// Probability of the given label.
    pub own: Vec<f64>,
    pub quality: Vec<f64>,
    /// Probability of a label that is no more likely than the given one.
    pub tail: Vec<f64>,
    /// Whether no other label is more likely than the given one by more than the tolerance.
    pub agrees: Vec<bool>,
    /// Whether the most likely label, the first of several, is the given one.
    pub predicted: Vec<bool>,
    /// The largest distance of a row's sum from 1.
    pub gap: f64,
}

/// A floating-point type of probabilities, compared and subtracted in its own precision.
pub trait Probability: Feature + PartialOrd {
    const LEAST: Self;
    #[must_use]
    fn minus(self, other: Self) -> Self;
    #[must_use]
    fn plus_tolerance(self) -> Self;
}

impl Probability for f32 {
    const LEAST: Self = Self::NEG_INFINITY;
    fn minus(self, other: Self) -> Self {
        self - other
    }
    fn plus_tolerance(self) -> Self {
        self + TOLERANCE as Self
    }
}

impl Probability for f64 {
    const LEAST: Self = Self::NEG_INFINITY;
    fn minus(self, other: Self) -> Self {
        self - other
    }
    fn plus_tolerance(self) -> Self {
        self + TOLERANCE
    }
}

/// Judges the labels of the rows of `x`, row-major [labels.len(), classes]; `first` is the number
/// of rows before them, for messages.
pub fn judge<T: Probability>(
    x: &[T],
    classes: usize,
    labels: &[i64],
    first: u64,
    quality: Quality,
    cancel: &Cancel,
) -> Result<Judged, Error> {
    check_shape(x, classes, labels.len())?;
    let n = labels.len();
    let mut found = Judged {
        own: vec![0.0; n],
        quality: vec![0.0; n],
        tail: vec![0.0; n],
        agrees: vec![false; n],
        predicted: vec![false; n],
        gap: 0.0,
    };
    let outputs = found
        .own
        .par_chunks_mut(ROWS)
        .zip(found.quality.par_chunks_mut(ROWS))
        .zip(found.tail.par_chunks_mut(ROWS))
        .zip(found.agrees.par_chunks_mut(ROWS).zip(found.predicted.par_chunks_mut(ROWS)));
    let gaps: Result<Vec<f64>, Error> = x
        .par_chunks(ROWS * classes)
        .zip(labels.par_chunks(ROWS))
        .zip(outputs)
        .enumerate()
        .map(|(chunk, ((x, labels), (((own, qualities), tail), (agrees, predicted))))| {
            cancel.check()?;
            let first = first + (chunk * ROWS) as u64;
            Arch::new().dispatch(
                #[inline(always)]
                || {
                    let mut gap: f64 = 0.0;
                    for (row, (p, &label)) in x.chunks_exact(classes).zip(labels).enumerate() {
                        let y = class_of(label, classes, first + row as u64)?;
                        if !all_probabilities(p) {
                            return Err(not_probability(p, first + row as u64));
                        }
                        let (before, after) = (largest(&p[..y]), largest(&p[y + 1..]));
                        let given: f64 = p[y].into();
                        let preferred = p[y].plus_tolerance();
                        agrees[row] = before < preferred && after <= preferred;
                        predicted[row] = before < p[y] && after <= p[y];
                        let (sum, below) = sums(p, given);
                        gap = gap.max((sum - 1.0).abs());
                        tail[row] = if sum > 0.0 { (below / sum).clamp(0.0, 1.0) } else { 1.0 };
                        own[row] = given;
                        qualities[row] = match quality {
                            Quality::SelfConfidence => given,
                            Quality::NormalizedMargin => {
                                let other: f64 = if before > after { before } else { after }.into();
                                (given - other + 1.0) / 2.0
                            }
                            Quality::ConfidenceWeightedEntropy => weighted_entropy(p, given),
                        };
                    }
                    Ok(gap)
                },
            )
        })
        .collect();
    found.gap = gaps?.into_iter().fold(0.0, f64::max);
    Ok(found)
}

/// The class each row is confidently of, -1 for none: the only one whose probability reaches its
/// `cuts` [classes], or the most likely class where there are several.
pub fn confident_class<T: Probability>(
    x: &[T],
    cuts: &[f64],
    cancel: &Cancel,
) -> Result<Vec<i32>, Error> {
    let classes = cuts.len();
    let rows = x.len().checked_div(classes).unwrap_or(0);
    check_shape(x, classes, rows)?;
    let mut found = vec![-1; rows];
    found.par_chunks_mut(ROWS).zip(x.par_chunks(ROWS * classes)).try_for_each(|(found, x)| {
        cancel.check()?;
        Arch::new().dispatch(
            #[inline(always)]
            || {
                for (found, p) in found.iter_mut().zip(x.chunks_exact(classes)) {
                    let reached = p.iter().zip(cuts).map(|(&v, &cut)| i32::from(v.into() >= cut));
                    let class = match reached.sum() {
                        0 => None,
                        1 => p.iter().zip(cuts).position(|(&v, &cut)| v.into() >= cut),
                        _ => {
                            let most = largest(p);
                            p.iter().position(|&v| v >= most)
                        }
                    };
                    *found = class.map_or(-1, |class| class as i32);
                }
            },
        );
        Ok::<_, Error>(())
    })?;
    Ok(found)
}

pub(crate) fn check_shape<T>(x: &[T], classes: usize, rows: usize) -> Result<(), Error> {
    if classes == 0 || i32::try_from(classes).is_err() || rows.checked_mul(classes) != Some(x.len())
    {
        return Err(Error::Shape { values: x.len(), rows, dim: classes });
    }
    Ok(())
}

pub(crate) fn class_of(label: i64, classes: usize, row: u64) -> Result<usize, Error> {
    usize::try_from(label).ok().filter(|&class| class < classes).ok_or(Error::NoClass {
        row,
        label,
        classes,
    })
}

#[inline(always)]
fn all_probabilities<T: Probability>(p: &[T]) -> bool {
    let inside = |v: T| {
        let v: f64 = v.into();
        (-TOLERANCE..=1.0 + TOLERANCE).contains(&v)
    };
    let (whole, rest) = p.as_chunks::<LANES>();
    let mut fine = [true; LANES];
    for chunk in whole {
        for lane in 0..LANES {
            fine[lane] &= inside(chunk[lane]);
        }
    }
    fine.iter().all(|&fine| fine) && rest.iter().all(|&v| inside(v))
}

#[cold]
fn not_probability<T: Probability>(p: &[T], row: u64) -> Error {
    let class = p.iter().position(|&v| !(-TOLERANCE..=1.0 + TOLERANCE).contains(&v.into()));
    let class = class.unwrap_or(0);
    Error::NotProbability { row, class, value: p[class].into() }
}

#[inline(always)]
fn largest<T: Probability>(p: &[T]) -> T {
    let (whole, rest) = p.as_chunks::<LANES>();
    let mut most = [T::LEAST; LANES];
    for chunk in whole {
        for lane in 0..LANES {
            most[lane] = if chunk[lane] > most[lane] { chunk[lane] } else { most[lane] };
        }
    }
    most.iter().chain(rest).fold(T::LEAST, |most, &v| if v > most { v } else { most })
}

/// The sum of a row, and of its entries that are at most `given`.
#[inline(always)]
fn sums<T: Probability>(p: &[T], given: f64) -> (f64, f64) {
    let (whole, rest) = p.as_chunks::<LANES>();
    let (mut all, mut below) = ([0.0; LANES], [0.0; LANES]);
    for chunk in whole {
        for lane in 0..LANES {
            let v: f64 = chunk[lane].into();
            all[lane] += v;
            below[lane] += if v <= given { v } else { 0.0 };
        }
    }
    let (mut total, mut tail) = (all.iter().sum::<f64>(), below.iter().sum::<f64>());
    for &v in rest {
        let v: f64 = v.into();
        total += v;
        tail += if v <= given { v } else { 0.0 };
    }
    (total, tail)
}

fn weighted_entropy<T: Probability>(p: &[T], given: f64) -> f64 {
    let nats = |v: f64| if v > 0.0 { -v * v.ln() } else { 0.0 };
    let entropy: f64 = p.iter().map(|&v| nats(v.into())).sum();
    // With one class there is no entropy; rounding may take it below zero.
    let entropy = (entropy / (p.len() as f64).ln()).max(0.0);
    let weighted = if p.len() > 1 { entropy / given.max(TOLERANCE) } else { 0.0 };
    if weighted > 0.0 { weighted.ln_1p() / weighted } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(x: &[f64], classes: usize, labels: &[i64], quality: Quality) -> Judged {
        judge(x, classes, labels, 0, quality, &Cancel::new()).unwrap()
    }

    #[test]
    fn a_row_by_hand() {
        let x = [0.5, 0.3, 0.2];
        let found = judged(&x, 3, &[1], Quality::NormalizedMargin);
        assert_eq!(found.own, [0.3]);
        assert_eq!(found.quality, [(0.3 - 0.5 + 1.0) / 2.0]);
        assert!((found.tail[0] - 0.5).abs() < 1e-15);
        assert_eq!((found.agrees[0], found.predicted[0]), (false, false));
        let entropy = judged(&[0.25; 4], 4, &[2], Quality::ConfidenceWeightedEntropy);
        assert!((entropy.quality[0] - 5.0_f64.ln() / 4.0).abs() < 1e-15);
        // Certainty is the best quality there is, however little entropy is left.
        let sure =
            judged(&[1.0, 0.0, 1.0 - 1e-9, 1e-9], 2, &[0, 0], Quality::ConfidenceWeightedEntropy);
        assert_eq!(sure.quality[0], 1.0);
        assert!(sure.quality[1] > 1.0 - 1e-6 && sure.quality[1] < 1.0);
        // Two labels as likely: the first is predicted, both agree.
        let tie = judged(&[0.5, 0.5, 0.5, 0.5], 2, &[0, 1], Quality::SelfConfidence);
        assert_eq!((tie.agrees, tie.predicted), (vec![true, true], vec![true, false]));
    }

    #[test]
    fn confident_classes_by_hand() {
        let x = [0.6, 0.4, 0.0, 0.2, 0.3, 0.5, 0.34, 0.33, 0.33];
        let cancel = Cancel::new();
        assert_eq!(confident_class(&x, &[0.7, 0.4, 0.6], &cancel).unwrap(), [1, -1, -1]);
        assert_eq!(confident_class(&x, &[0.3, 0.3, 0.3], &cancel).unwrap(), [0, 2, 0]);
    }

    #[test]
    fn what_is_no_probability_is_refused() {
        let cancel = Cancel::new();
        let refused = |x: &[f64], label| {
            judge(x, 2, &[0, label], 7, Quality::SelfConfidence, &cancel).unwrap_err()
        };
        let value = 3.5;
        assert_eq!(
            refused(&[0.5, 0.5, -0.0, value], 1),
            Error::NotProbability { row: 8, class: 1, value }
        );
        assert!(matches!(refused(&[0.5, 0.5, f64::NAN, 0.1], 1), Error::NotProbability { .. }));
        assert_eq!(refused(&[0.5; 4], 2), Error::NoClass { row: 8, label: 2, classes: 2 });
        assert_eq!(refused(&[0.5; 4], -1), Error::NoClass { row: 8, label: -1, classes: 2 });
    }
}
