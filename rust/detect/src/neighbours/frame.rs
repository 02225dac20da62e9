//! Where the samples are as float32 points: near the origin, none of them large.
//!
//! For cosines the samples are scaled to length one; then one minus the cosine is half the squared
//! Euclidean distance, and one sweep serves both metrics. Points are moved to mean zero, which
//! keeps distances and makes products small, and scaled by a power of two, so that nothing
//! overflows.

use rayon::prelude::*;

use super::rows::{Metric, Rows};

/// Columns of a panel: whole vectors of every instruction set.
pub(super) const PANEL: usize = 48;
/// Half the squared length of what only fills a panel: no key reaches a threshold.
pub(super) const NOWHERE: f32 = 3e38;
/// The unit roundoff of float32.
const ROUNDING: f64 = 0.5 * f32::EPSILON as f64;

/// Which sample is at which position, and how its point is made.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) dim: usize,
    sample: Vec<u32>,
    mean: Vec<f64>,
    /// Points are samples, of length one for cosines, less the mean, times this.
    scale: f64,
    /// Half the squared lengths, to whole panels.
    half: Vec<f32>,
    /// Lengths of the points.
    length: Vec<f64>,
    rank_error: (f64, f64),
}

impl Frame {
    /// Points for some of the samples, at positions in this order.
    pub(super) fn new(rows: &Rows, sample: Vec<u32>) -> Self {
        let mut mean = vec![0.0; rows.dim];
        for &i in &sample {
            let factor = factor(rows, i);
            for (mean, &value) in mean.iter_mut().zip(rows.row(i as usize)) {
                *mean += factor * f64::from(value);
            }
        }
        mean.iter_mut().for_each(|mean| *mean /= sample.len().max(1) as f64);
        let mut frame = Self {
            dim: rows.dim,
            half: vec![NOWHERE; sample.len().next_multiple_of(PANEL)],
            length: Vec::new(),
            sample,
            mean,
            scale: 1.0,
            rank_error: rows.error(),
        };
        let square = |frame: &Self, position: usize| -> f64 {
            frame.values(rows, position).map(|value| value * value).sum()
        };
        let all = 0..frame.sample.len();
        let longest = all.clone().into_par_iter().map(|i| square(&frame, i).sqrt());
        let longest = longest.reduce(|| 0.0, f64::max);
        if longest > 0.0 {
            // A power of two: multiplying by it is exact.
            frame.scale = (-longest.log2().ceil()).exp2();
        }
        let squares: Vec<f64> = all
            .into_par_iter()
            .map(|i| frame.point(rows, i).map(|v| f64::from(v) * f64::from(v)).sum())
            .collect();
        for (half, square) in frame.half.iter_mut().zip(&squares) {
            *half = (0.5 * square) as f32;
        }
        frame.length = squares.into_iter().map(f64::sqrt).collect();
        frame
    }

    pub(super) fn len(&self) -> usize {
        self.sample.len()
    }

    pub(super) fn panels(&self) -> usize {
        self.half.len() / PANEL
    }

    pub(super) fn sample(&self, position: usize) -> u32 {
        self.sample[position]
    }

    /// Half the squared length of a point, as keys have it.
    pub(super) fn half(&self, position: usize) -> f32 {
        self.half[position]
    }

    /// The halves of a panel of consecutive points.
    pub(super) fn halves(&self, panel: usize) -> &[f32; PANEL] {
        &self.half.as_chunks().0[panel]
    }

    fn values<'a>(&'a self, rows: &'a Rows, position: usize) -> impl Iterator<Item = f64> + 'a {
        let sample = self.sample[position];
        let factor = factor(rows, sample);
        let values = rows.row(sample as usize).iter().zip(&self.mean);
        values.map(move |(&value, mean)| self.scale * (factor * f64::from(value) - mean))
    }

    /// The coordinates of a point.
    pub(super) fn point<'a>(
        &'a self,
        rows: &'a Rows,
        position: usize,
    ) -> impl Iterator<Item = f32> + 'a {
        self.values(rows, position).map(|value| value as f32)
    }

    /// What the negated key of a pair has to reach, so that its rank is certainly above `rank`.
    ///
    /// Let a be the point asked about, b another, a* and b* what they are before rounding to
    /// float32, u the unit roundoff. Where |b*| > |a*| + D for the distance D of `rank`, the pair is
    /// further apart than D by the triangle inequality. Else lengths are known; each point is within
    /// u times its length of what it rounds; the product, a chain of d roundings, is within
    /// γ |a| |b| (Higham, *Accuracy and Stability of Numerical Algorithms*, chapter 3); and taking
    /// both halves of squared lengths away costs a few roundings more.
    pub(super) fn certain(&self, position: usize, rank: f64) -> f64 {
        let (relative, absolute) = self.rank_error;
        let above = rank * (1.0 + relative) + absolute;
        let distance = (2.0 * above).sqrt() * self.scale;
        let own = self.length[position] * (1.0 + 1e-6) + 1e-40;
        let other = (own + distance) * (1.0 + 1e-6);
        // Below 2^-126 rounding is no longer relative; that is far below 1e-36.
        let moved = 1.01 * ROUNDING * (own + other) + 2.0 * absolute * self.scale + 1e-40;
        let roundings = (self.dim + 4) as f64 * ROUNDING;
        let product = roundings / (1.0 - roundings) * own * other;
        let halves = 4.0 * ROUNDING * 0.5 * (own * own + other * other);
        let chain = 1.01 * (product + halves) + 1e-36;
        0.5 * (distance + moved) * (distance + moved) * (1.0 + 1e-12) + chain
    }

    /// A bound on how far the negated key of a pair is from its rank, in the units of keys, for
    /// pairs that are about as far apart as one with key `key`.
    pub(super) fn spread(&self, position: usize, key: f32) -> f64 {
        let square = self.scale * self.scale;
        let rank = 1.01 * f64::from(-key).max(0.0) / square;
        self.certain(position, rank) - rank * square
    }

    /// The key of a pair of this rank.
    pub(super) fn key(&self, rank: f64) -> f32 {
        (-rank * self.scale * self.scale) as f32
    }
}

fn factor(rows: &Rows, sample: u32) -> f64 {
    match rows.metric {
        Metric::Cosine => 1.0 / rows.length(sample as usize),
        Metric::Euclidean => 1.0,
    }
}
