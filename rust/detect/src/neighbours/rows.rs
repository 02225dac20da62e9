//! Distances in float64, from the samples as they were given: what neighbours are ranked by.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::Error;

/// How far apart two samples are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// One minus the cosine of the angle; a sample of zeros is at distance 1 from all.
    Cosine,
    /// The Euclidean distance.
    Euclidean,
}

/// The samples, row-major, and what their distances need.
#[derive(Debug)]
pub(super) struct Rows {
    x: Vec<f32>,
    pub(super) dim: usize,
    pub(super) metric: Metric,
    /// Squared lengths.
    square: Vec<f64>,
}

impl Rows {
    /// # Errors
    /// When a feature is not finite, or the rows do not have `dim` features.
    pub(super) fn new(x: Vec<f32>, dim: usize, metric: Metric) -> Result<Self, Error> {
        let count = x.len().checked_div(dim).unwrap_or(0);
        if count * dim != x.len() || dim == 0 {
            return Err(Error::Shape { values: x.len(), rows: count, dim });
        }
        if let Some(i) = x.par_iter().position_first(|value| !value.is_finite()) {
            return Err(Error::NotFinite { row: (i / dim) as u64, feature: i % dim });
        }
        let square = x.par_chunks_exact(dim).map(|row| dispatch(Dot(row, row))).collect();
        Ok(Self { x, dim, metric, square })
    }

    pub(super) fn len(&self) -> usize {
        self.square.len()
    }

    pub(super) fn row(&self, index: usize) -> &[f32] {
        &self.x[index * self.dim..(index + 1) * self.dim]
    }

    pub(super) fn length(&self, index: usize) -> f64 {
        self.square[index].sqrt()
    }

    /// What ranks pairs: half the squared Euclidean distance, or one minus the cosine, which is
    /// the same for samples of length one. The order of the two does not matter.
    pub(super) fn rank(&self, one: usize, other: usize) -> f64 {
        let (a, b) = (self.row(one), self.row(other));
        match self.metric {
            Metric::Euclidean => 0.5 * dispatch(Apart(a, b)),
            Metric::Cosine => {
                let lengths = (self.square[one] * self.square[other]).sqrt();
                if lengths == 0.0 {
                    return 1.0;
                }
                (1.0 - dispatch(Dot(a, b)) / lengths).max(0.0)
            }
        }
    }

    /// The distance of a pair of this rank.
    pub(super) fn distance(&self, rank: f64) -> f32 {
        match self.metric {
            Metric::Euclidean => (2.0 * rank).sqrt() as f32,
            Metric::Cosine => rank as f32,
        }
    }

    /// Bounds the relative and the absolute rounding error of a rank.
    pub(super) fn error(&self) -> (f64, f64) {
        let error = (2 * self.dim + 32) as f64 * (0.5 * f64::EPSILON);
        match self.metric {
            Metric::Euclidean => (error, 0.0),
            Metric::Cosine => (error, error),
        }
    }
}

fn dispatch<W: WithSimd<Output = f64>>(work: W) -> f64 {
    pulp::Arch::new().dispatch(work)
}

/// Sums of `term` over pairs of values in eight interleaved chains, which are then added in order:
/// the same bits with any instruction set.
#[inline(always)]
fn sum(a: &[f32], b: &[f32], term: impl Fn(f64, f64) -> f64) -> f64 {
    let ((a, rest), (b, rest_b)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..8 {
            sums[lane] += term(f64::from(a[lane]), f64::from(b[lane]));
        }
    }
    for (lane, (&a, &b)) in rest.iter().zip(rest_b).enumerate() {
        sums[lane] += term(f64::from(a), f64::from(b));
    }
    sums.iter().sum()
}

struct Dot<'a>(&'a [f32], &'a [f32]);

impl WithSimd for Dot<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f64 {
        sum(self.0, self.1, |a, b| a * b)
    }
}

struct Apart<'a>(&'a [f32], &'a [f32]);

impl WithSimd for Apart<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f64 {
        sum(self.0, self.1, |a, b| (a - b) * (a - b))
    }
}
