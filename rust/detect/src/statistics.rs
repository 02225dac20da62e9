//! Counts, means and scatter matrices per class, from one pass over batches of rows.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};

use aisec_numeric::Cancel;
use rayon::prelude::*;

use crate::Error;
use crate::class::{Chain, ClassMoments, class_bytes};
use crate::gather::{PACKED, ROWS};
use crate::gram_single::TILE;

/// A floating-point type that features come in.
pub trait Feature: Copy + Send + Sync + Into<f64> {}

impl Feature for f32 {}
impl Feature for f64 {}

/// Moments of the classes that a part has.
pub(crate) type Part = BTreeMap<i64, ClassMoments>;

/// Additive statistics of every class, of a range of rows.
///
/// Rows are numbered through the whole data and cut into parts of equal length. Inside a part every
/// number is one chain of operations over the rows in their order, on features minus the class's
/// first row there, in float64: a common offset, however large, costs no accuracy. Parts are added
/// from the first to the last. So neither batches nor threads change a bit, nor do shards, which
/// begin where a part does. [`Statistics::in_single`] multiplies most rows of large classes in
/// float32.
#[derive(Debug)]
pub struct Statistics {
    pub(crate) dim: usize,
    limit: usize,
    part_rows: u64,
    pub(crate) first: u64,
    pub(crate) rows: u64,
    /// Rows of a class in a part that are multiplied in float64.
    pub(crate) exact_rows: u64,
    /// Parts that are complete: their sum if the first row is here, else each.
    parts: Vec<Part>,
    /// The part that is being read.
    pub(crate) slots: HashMap<i64, usize>,
    pub(crate) labels: Vec<i64>,
    pub(crate) chains: Vec<Chain>,
    pub(crate) packed: Vec<f64>,
    pub(crate) packed_single: Vec<f32>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Open,
    /// The last part is closed though it is short: no rows can follow.
    Ended,
    /// A batch was refused.
    Broken,
}

/// Mean and covariance of one class.
#[derive(Debug, Clone, PartialEq)]
pub struct Covariance {
    pub label: i64,
    pub count: u64,
    pub mean: Vec<f64>,
    /// Row-major [dim, dim], divided by `count`.
    pub matrix: Vec<f64>,
}

impl Statistics {
    /// Rows in a part unless chosen otherwise.
    pub const PART_ROWS: u64 = 1 << 18;
    /// Rows of a class in a part that are never multiplied in float32.
    pub const EXACT_ROWS: u64 = 2048;
    /// Features from which on float32 is used.
    pub const SINGLE_DIM: usize = 128;

    /// Starts at row `first`, a multiple of `part_rows`; at most `memory_limit` bytes go into
    /// statistics.
    pub fn new(dim: usize, memory_limit: usize, first: u64, part_rows: u64) -> Result<Self, Error> {
        if dim == 0 {
            return Err(Error::Empty);
        }
        if part_rows == 0 || !first.is_multiple_of(part_rows) {
            return Err(Error::NoPart { row: first, part_rows });
        }
        Ok(Self {
            dim,
            limit: memory_limit,
            part_rows,
            first,
            rows: 0,
            exact_rows: u64::MAX,
            parts: Vec::new(),
            slots: HashMap::new(),
            labels: Vec::new(),
            chains: Vec::new(),
            packed: Vec::new(),
            packed_single: Vec::new(),
            state: State::Open,
        })
    }

    /// Multiplies the rows of a class in float32 where they are many: beyond the first 2,048 of a
    /// part, for 128 features or more, in tiles of 128 rows about their mean.
    ///
    /// That takes half the time. Means stay float64, and an entry of a covariance is off by about
    /// 2⁻²⁰ / √rows of the two standard deviations: nothing for leading directions, too much for
    /// the inverse of a matrix that is nearly singular.
    #[must_use]
    pub fn in_single(mut self) -> Self {
        if self.dim >= Self::SINGLE_DIM {
            self.exact_rows = Self::EXACT_ROWS;
        }
        self
    }

    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Number of the first row.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Rows seen so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    pub fn part_rows(&self) -> u64 {
        self.part_rows
    }

    /// Adds the rows of `x`, row-major [labels.len(), dim]. After an error nothing more is taken.
    pub fn update<T: Feature>(
        &mut self,
        x: &[T],
        labels: &[i64],
        cancel: &Cancel,
    ) -> Result<(), Error> {
        self.check()?;
        if self.state == State::Ended {
            return Err(Error::Ended { row: self.first + self.rows });
        }
        if labels.len().checked_mul(self.dim) != Some(x.len()) {
            return Err(Error::Shape { values: x.len(), rows: labels.len(), dim: self.dim });
        }
        self.state = State::Broken;
        let packed = (PACKED.min(self.limit / 64) / self.dim).max(ROWS);
        let mut done = 0;
        while done < labels.len() {
            cancel.check()?;
            let left = self.part_rows - self.rows % self.part_rows;
            let rows = packed.min(usize::try_from(left).unwrap_or(packed));
            let rows = rows.min(labels.len() - done);
            self.add(&x[done * self.dim..][..rows * self.dim], &labels[done..done + rows])?;
            done += rows;
            if self.rows.is_multiple_of(self.part_rows) {
                self.close();
            }
        }
        self.state = State::Open;
        Ok(())
    }

    /// Adds the statistics of the rows that follow.
    pub fn merge(&mut self, mut other: Self) -> Result<(), Error> {
        self.check()?;
        other.check()?;
        if other.dim != self.dim || other.part_rows != self.part_rows {
            return Err(Error::Unlike {
                ours: (self.dim, self.part_rows),
                theirs: (other.dim, other.part_rows),
            });
        }
        let end = self.first + self.rows;
        if other.first != end {
            return Err(Error::Apart { end, first: other.first });
        }
        other.end();
        self.state = State::Broken;
        for part in std::mem::take(&mut other.parts) {
            self.push(part);
            self.check_memory(0)?;
        }
        self.rows += other.rows;
        self.state = other.state;
        Ok(())
    }

    fn check(&self) -> Result<(), Error> {
        if self.state == State::Broken { Err(Error::Incomplete) } else { Ok(()) }
    }

    /// Closes the part that is being read.
    fn close(&mut self) {
        self.slots.clear();
        let labels = std::mem::take(&mut self.labels);
        let chains = std::mem::take(&mut self.chains);
        let closed: Vec<_> = chains.into_par_iter().map(Chain::close).collect();
        self.push(labels.into_iter().zip(closed).collect());
    }

    /// Closes the last part, full or not.
    fn end(&mut self) {
        if !self.chains.is_empty() {
            self.close();
            self.state = State::Ended;
        }
    }

    fn push(&mut self, part: Part) {
        match self.parts.first_mut() {
            Some(sum) if self.first == 0 => {
                let mut old = Vec::new();
                for (label, moments) in part {
                    match sum.entry(label) {
                        Entry::Vacant(entry) => {
                            entry.insert(moments);
                        }
                        Entry::Occupied(_) => old.push((label, moments)),
                    }
                }
                let mut pairs = Vec::with_capacity(old.len());
                let mut ours = sum.iter_mut();
                for (label, theirs) in old {
                    if let Some((_, ours)) = ours.find(|(own, _)| **own == label) {
                        pairs.push((ours, theirs));
                    }
                }
                pairs.into_par_iter().for_each(|(ours, theirs)| ours.add(&theirs));
            }
            _ => self.parts.push(part),
        }
    }

    /// Checks that statistics of `more` further classes fit.
    pub(crate) fn check_memory(&self, more: usize) -> Result<(), Error> {
        let classes =
            self.parts.iter().map(BTreeMap::len).sum::<usize>() + self.chains.len() + more;
        // Every thread unfolds one class's matrix to find its leading direction.
        let unfolded = classes.min(rayon::current_num_threads());
        let matrix = self.dim.saturating_mul(self.dim).saturating_mul(size_of::<f64>());
        let needed = class_bytes(self.dim)
            .saturating_mul(classes)
            .saturating_add(matrix.saturating_mul(unfolded));
        let waiting = if self.exact_rows == u64::MAX { 0 } else { TILE * size_of::<f64>() };
        let needed = needed.saturating_add(
            waiting.saturating_mul(self.dim).saturating_mul(self.chains.len() + more),
        );
        if needed > self.limit {
            let (dim, limit) = (self.dim, self.limit);
            return Err(Error::Memory { classes, dim, needed, limit });
        }
        Ok(())
    }

    /// Closes the last part; what is read then are the statistics of all rows.
    fn whole(&mut self) -> Result<&Part, Error> {
        self.check()?;
        if self.first > 0 {
            return Err(Error::NotFirst { first: self.first });
        }
        self.end();
        self.parts.first().filter(|part| !part.is_empty()).ok_or(Error::Empty)
    }

    /// Labels, counts and means, ascending by label. No rows can follow a last part that is short.
    pub fn classes(&mut self) -> Result<impl Iterator<Item = (i64, u64, &[f64])>, Error> {
        let classes = self.whole()?.iter();
        Ok(classes.map(|(&label, moments)| (label, moments.count, moments.mean.as_slice())))
    }

    /// Mean and covariance of one class; None where there is no such class.
    pub fn covariance(&mut self, label: i64) -> Result<Option<Covariance>, Error> {
        let dim = self.dim;
        self.whole()?.get(&label).map(|moments| covariance(label, moments, dim)).transpose()
    }

    /// The covariance of each class, ascending by label, one at a time a thread.
    pub(crate) fn covariances(
        &mut self,
    ) -> Result<impl IndexedParallelIterator<Item = Result<Covariance, Error>>, Error> {
        let dim = self.dim;
        let classes: Vec<_> = self.whole()?.iter().collect();
        let each = classes.into_par_iter().with_max_len(1);
        Ok(each.map(move |(&label, moments)| covariance(label, moments, dim)))
    }

    /// The complete parts, after the last one was closed.
    pub(crate) fn parts(&mut self) -> Result<&[Part], Error> {
        self.check()?;
        self.end();
        Ok(&self.parts)
    }

    /// Statistics of rows `first..first + rows` from their parts.
    pub(crate) fn with_parts(mut self, rows: u64, parts: Vec<Part>) -> Result<Self, Error> {
        self.rows = rows;
        self.parts = parts;
        if !rows.is_multiple_of(self.part_rows) {
            self.state = State::Ended;
        }
        self.check_memory(0)?;
        Ok(self)
    }
}

fn covariance(label: i64, moments: &ClassMoments, dim: usize) -> Result<Covariance, Error> {
    let count = moments.count as f64;
    let mut matrix = vec![0.0; dim * dim];
    for i in 0..dim {
        for j in 0..=i {
            let value = moments.scatter(i, j) / count;
            if !value.is_finite() {
                return Err(Error::Overflow { label });
            }
            matrix[i * dim + j] = value;
            matrix[j * dim + i] = value;
        }
    }
    Ok(Covariance { label, count: moments.count, mean: moments.mean.clone(), matrix })
}
