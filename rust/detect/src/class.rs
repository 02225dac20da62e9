//! Count, mean and scatter of one class: what chains end in, and how two of them add.

use crate::gather;
use crate::gram::{self, GramRow, PANEL};

/// Statistics of the rows of one class in a range of rows, products about their own mean.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ClassMoments {
    pub(crate) count: u64,
    pub(crate) mean: Vec<f64>,
    /// Block rows of Σ (x - mean)(x - mean)ᵀ; the sums beside the blocks are not used.
    scatter: Vec<GramRow>,
}

/// Products of rows minus `shift`, one chain of operations a number, over the rows in order.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    pub(crate) count: u64,
    pub(crate) shift: Vec<f64>,
    pub(crate) gram: Vec<GramRow>,
    /// Rows minus `shift` that wait for a tile to be full.
    pub(crate) waiting: Vec<f64>,
}

impl Chain {
    pub(crate) fn new(shift: Vec<f64>) -> Self {
        let gram = (0..shift.len().div_ceil(PANEL)).map(GramRow::new).collect();
        Self { count: 0, shift, gram, waiting: Vec::new() }
    }

    /// Moves the products to the mean of the rows.
    pub(crate) fn close(mut self) -> ClassMoments {
        let waiting = std::mem::take(&mut self.waiting);
        if !waiting.is_empty() {
            gather::add_waiting(&waiting, &mut self);
        }
        let count = self.count as f64;
        let mut offset: Vec<f64> =
            self.gram.iter().flat_map(|row| row.sum).map(|sum| sum / count).collect();
        for (index, row) in self.gram.iter_mut().enumerate() {
            row.add_product(index, -count, &offset);
        }
        offset.truncate(self.shift.len());
        let mean = self.shift.iter().zip(&offset).map(|(shift, offset)| shift + offset).collect();
        ClassMoments { count: self.count, mean, scatter: self.gram }
    }
}

impl ClassMoments {
    /// Takes the scatter as the lower triangle, row after row.
    pub(crate) fn from_lower(count: u64, mean: Vec<f64>, lower: &[f64]) -> Self {
        let mut scatter: Vec<_> = (0..mean.len().div_ceil(PANEL)).map(GramRow::new).collect();
        let mut values = lower.iter();
        for i in 0..mean.len() {
            for (j, &value) in (0..=i).zip(&mut values) {
                *scatter[i / PANEL].entry_mut(i % PANEL, j) = value;
            }
        }
        Self { count, mean, scatter }
    }

    /// Entry (row, column) of the scatter, `column <= row`.
    pub(crate) fn scatter(&self, row: usize, column: usize) -> f64 {
        self.scatter[row / PANEL].entry(row % PANEL, column)
    }

    /// Adds the statistics of other rows of the class (Chan, Golub & LeVeque, *Updating formulae
    /// and a pairwise algorithm for computing sample variances*, 1979).
    pub(crate) fn add(&mut self, other: &Self) {
        let (ours, theirs) = (self.count as f64, other.count as f64);
        let total = ours + theirs;
        let mut apart: Vec<f64> =
            other.mean.iter().zip(&self.mean).map(|(theirs, ours)| theirs - ours).collect();
        for (mean, apart) in self.mean.iter_mut().zip(&apart) {
            *mean += apart * (theirs / total);
        }
        apart.resize(self.scatter.len() * PANEL, 0.0);
        let weight = ours * (theirs / total);
        for (index, (row, other)) in self.scatter.iter_mut().zip(&other.scatter).enumerate() {
            row.add_blocks(other);
            row.add_product(index, weight, &apart);
        }
        self.count += other.count;
    }
}

/// Bytes of the statistics of one class.
pub(crate) fn class_bytes(dim: usize) -> usize {
    gram::class_bytes(dim)
}
