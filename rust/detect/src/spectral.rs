//! Centred spectral signatures (Tran, Li & Madry, *Spectral Signatures in Backdoor Attacks*,
//! NeurIPS 2018, arXiv:1811.00636): the squared projection of a sample, minus its class's mean, on
//! the leading eigenvector of the class's covariance.

use aisec_numeric::Cancel;
use pulp::Arch;
use rayon::prelude::*;

use crate::eigen::leading_eigenpair;
use crate::{Error, Feature, Statistics};

/// Rows scored by one task.
const ROWS: usize = 1024;

/// What the score of one class is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassSpectrum {
    pub label: i64,
    pub count: u64,
    pub mean: Vec<f64>,
    /// Largest eigenvalue of the covariance (divided by the count): the mean score of the class.
    pub eigenvalue: f64,
    /// Its unit eigenvector; zero where all samples of the class are equal.
    pub direction: Vec<f64>,
}

/// The leading direction of every class, ascending by label.
#[derive(Debug, Clone, PartialEq)]
pub struct Spectral {
    dim: usize,
    classes: Vec<ClassSpectrum>,
}

impl Spectral {
    /// Finds the directions from the statistics of a whole pass.
    pub fn fit(statistics: &mut Statistics, cancel: &Cancel) -> Result<Self, Error> {
        let dim = statistics.dim();
        let classes: Result<Vec<_>, Error> = statistics
            .covariances()?
            .map(|covariance| {
                let covariance = covariance?;
                let (eigenvalue, direction) = leading_eigenpair(&covariance.matrix, dim, cancel)?;
                Ok(ClassSpectrum {
                    label: covariance.label,
                    count: covariance.count,
                    mean: covariance.mean,
                    eigenvalue,
                    direction,
                })
            })
            .collect();
        Ok(Self { dim, classes: classes? })
    }

    /// `classes` ascend by label.
    pub(crate) fn new(dim: usize, classes: Vec<ClassSpectrum>) -> Self {
        Self { dim, classes }
    }

    pub fn classes(&self) -> &[ClassSpectrum] {
        &self.classes
    }

    /// Scores the rows of `x`, row-major [labels.len(), dim]; `first` is the number of rows before
    /// them, for messages.
    pub fn score<T: Feature>(
        &self,
        x: &[T],
        labels: &[i64],
        first: u64,
        cancel: &Cancel,
    ) -> Result<Vec<f64>, Error> {
        let dim = self.dim;
        if labels.len().checked_mul(dim) != Some(x.len()) {
            return Err(Error::Shape { values: x.len(), rows: labels.len(), dim });
        }
        let mut scores = vec![0.0; labels.len()];
        scores
            .par_chunks_mut(ROWS)
            .zip(x.par_chunks(ROWS * dim).zip(labels.par_chunks(ROWS)))
            .enumerate()
            .try_for_each(|(chunk, (scores, (x, labels)))| {
                cancel.check()?;
                let first = first + (chunk * ROWS) as u64;
                Arch::new().dispatch(
                    #[inline(always)]
                    || self.score_rows(x, labels, first, scores),
                )
            })?;
        Ok(scores)
    }

    #[inline(always)]
    fn score_rows<T: Feature>(
        &self,
        x: &[T],
        labels: &[i64],
        first: u64,
        scores: &mut [f64],
    ) -> Result<(), Error> {
        let rows = x.chunks_exact(self.dim).zip(labels).zip(scores);
        for (row, ((x, &label), score)) in (first..).zip(rows) {
            let class = self
                .classes
                .binary_search_by_key(&label, |class| class.label)
                .map_err(|_| Error::UnknownLabel { row, label })?;
            let class = &self.classes[class];
            let along = project(x, &class.mean, &class.direction);
            *score = along * along;
            if !score.is_finite() {
                let feature = x.iter().position(|&value| !value.into().is_finite());
                return Err(match feature {
                    Some(feature) => Error::NotFinite { row, feature },
                    None => Error::Overflow { label },
                });
            }
        }
        Ok(())
    }
}

/// `direction · (x - mean)`, summed in sixteen lanes whatever the instruction set.
#[inline(always)]
fn project<T: Feature>(x: &[T], mean: &[f64], direction: &[f64]) -> f64 {
    const LANES: usize = 16;
    let mut sums = [0.0; LANES];
    let (x, x_tail) = x.as_chunks::<LANES>();
    let (mean, mean_tail) = mean.as_chunks::<LANES>();
    let (direction, direction_tail) = direction.as_chunks::<LANES>();
    for ((x, mean), direction) in x.iter().zip(mean).zip(direction) {
        for lane in 0..LANES {
            let value: f64 = x[lane].into();
            sums[lane] += direction[lane] * (value - mean[lane]);
        }
    }
    for (lane, ((&x, mean), direction)) in
        x_tail.iter().zip(mean_tail).zip(direction_tail).enumerate()
    {
        let value: f64 = x.into();
        sums[lane] += direction * (value - mean);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    sums[0]
}
