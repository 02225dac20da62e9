//! Counts, means and scatter matrices per class, from one pass over batches of rows.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};

use aisec_numeric::Cancel;
use pulp::Arch;
use rayon::prelude::*;

use crate::Error;
use crate::class::{Chain, ClassMoments, class_bytes};
use crate::gram::{self, PANEL};

/// A floating-point type that features come in.
pub trait Feature: Copy + Send + Sync + Into<f64> {}

impl Feature for f32 {}
impl Feature for f64 {}

/// Rows packed together: two panels of a tile fit in the first-level cache.
const TILE: usize = 128;
/// Values packed before the Gram matrices are updated (8 MiB).
const PACKED: usize = 1 << 20;
/// Block rows of a Gram matrix that one task updates.
const GROUP: usize = 2;

/// Moments of the classes that a part has.
pub(crate) type Part = BTreeMap<i64, ClassMoments>;

/// Additive statistics of every class, of a range of rows.
///
/// Rows are numbered through the whole data and cut into parts of equal length. Inside a part every
/// number is one chain of operations over the rows in their order, on features minus the class's
/// first row there, in float64: a common offset, however large, costs no accuracy. Parts are added
/// from the first to the last. So neither batches nor threads change a bit, nor do shards, which
/// begin where a part does.
#[derive(Debug)]
pub struct Statistics {
    dim: usize,
    limit: usize,
    part_rows: u64,
    first: u64,
    rows: u64,
    /// Parts that are complete: their sum if the first row is here, else each.
    parts: Vec<Part>,
    /// The part that is being read.
    slots: HashMap<i64, usize>,
    labels: Vec<i64>,
    chains: Vec<Chain>,
    packed: Vec<f64>,
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
            parts: Vec::new(),
            slots: HashMap::new(),
            labels: Vec::new(),
            chains: Vec::new(),
            packed: Vec::new(),
            state: State::Open,
        })
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
        let packed = (PACKED / self.dim).max(TILE);
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
    fn check_memory(&self, more: usize) -> Result<(), Error> {
        let classes =
            self.parts.iter().map(BTreeMap::len).sum::<usize>() + self.chains.len() + more;
        // Every thread unfolds one class's matrix to find its leading direction.
        let unfolded = classes.min(rayon::current_num_threads());
        let matrix = self.dim.saturating_mul(self.dim).saturating_mul(size_of::<f64>());
        let needed = class_bytes(self.dim)
            .saturating_mul(classes)
            .saturating_add(matrix.saturating_mul(unfolded));
        if needed > self.limit {
            let (dim, limit) = (self.dim, self.limit);
            return Err(Error::Memory { classes, dim, needed, limit });
        }
        Ok(())
    }

    fn add<T: Feature>(&mut self, x: &[T], labels: &[i64]) -> Result<(), Error> {
        let (dim, panels) = (self.dim, self.dim.div_ceil(PANEL));
        let slots = self.assign(x, labels)?;
        let mut starts = vec![0; self.chains.len() + 1];
        for &slot in &slots {
            starts[slot + 1] += 1;
        }
        for slot in 0..self.chains.len() {
            self.chains[slot].count += starts[slot + 1] as u64;
            starts[slot + 1] += starts[slot];
        }
        let mut order = vec![0; labels.len()];
        let mut next = starts.clone();
        for (row, &slot) in slots.iter().enumerate() {
            order[next[slot]] = row;
            next[slot] += 1;
        }

        let mut packed = std::mem::take(&mut self.packed);
        packed.resize(packed.len().max(labels.len() * panels * PANEL), 0.0);
        let mut tiles = Vec::new();
        let mut rest = packed.as_mut_slice();
        for slot in 0..self.chains.len() {
            for rows in order[starts[slot]..starts[slot + 1]].chunks(TILE) {
                let (tile, tail) = rest.split_at_mut(rows.len() * panels * PANEL);
                tiles.push((slot, rows, tile));
                rest = tail;
            }
        }
        let chains = &self.chains;
        let first = self.first + self.rows;
        let refused = tiles
            .par_iter_mut()
            .filter_map(|(slot, rows, tile)| {
                let finite = Arch::new().dispatch(
                    #[inline(always)]
                    || pack(x, dim, rows, &chains[*slot].shift, tile),
                );
                if finite { None } else { find_not_finite(x, dim, rows) }
            })
            .min();
        if let Some((row, feature)) = refused {
            return Err(Error::NotFinite { row: first + row as u64, feature });
        }
        self.rows += labels.len() as u64;

        let mut of_class = vec![Vec::new(); self.chains.len()];
        for (slot, _, tile) in &tiles {
            of_class[*slot].push(&**tile);
        }
        let mut tasks: Vec<_> = self
            .chains
            .iter_mut()
            .zip(&of_class)
            .filter(|(_, tiles)| !tiles.is_empty())
            .flat_map(|(chain, tiles)| {
                chain.gram.chunks_mut(GROUP).enumerate().map(move |(g, rows)| (g, rows, tiles))
            })
            .collect();
        // The lower block rows are the longest: they start first.
        tasks.sort_by_key(|(group, ..)| std::cmp::Reverse(*group));
        tasks.into_par_iter().with_max_len(1).for_each(|(group, rows, tiles)| {
            gram::update(rows, group * GROUP, tiles, panels);
        });
        self.packed = packed;
        Ok(())
    }

    /// Finds the class of each row, making those that are new.
    fn assign<T: Feature>(&mut self, x: &[T], labels: &[i64]) -> Result<Vec<usize>, Error> {
        let mut slots = Vec::with_capacity(labels.len());
        for (row, &label) in labels.iter().enumerate() {
            let slot = match self.slots.get(&label) {
                Some(&slot) => slot,
                None => {
                    self.check_memory(1)?;
                    let values = &x[row * self.dim..][..self.dim];
                    self.chains
                        .push(Chain::new(values.iter().map(|&value| value.into()).collect()));
                    self.labels.push(label);
                    self.slots.insert(label, self.chains.len() - 1);
                    self.chains.len() - 1
                }
            };
            slots.push(slot);
        }
        Ok(slots)
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

/// Writes `x[rows] - shift` panel after panel, padding columns with zeros; false where a value is
/// not finite.
#[inline(always)]
fn pack<T: Feature>(x: &[T], dim: usize, rows: &[usize], shift: &[f64], tile: &mut [f64]) -> bool {
    let mut probe = [0.0; PANEL];
    for (panel, out) in tile.chunks_exact_mut(rows.len() * PANEL).enumerate() {
        let first = panel * PANEL;
        let width = PANEL.min(dim - first);
        let shift = &shift[first..][..width];
        for (&row, out) in rows.iter().zip(out.as_chunks_mut::<PANEL>().0) {
            let values = &x[row * dim + first..][..width];
            if let (Some(values), Some(shift)) =
                (values.first_chunk::<PANEL>(), shift.first_chunk::<PANEL>())
            {
                for column in 0..PANEL {
                    let value: f64 = values[column].into();
                    out[column] = value - shift[column];
                    // 0 for finite values, NaN for all others.
                    probe[column] += value * 0.0;
                }
            } else {
                out[width..].fill(0.0);
                for column in 0..width {
                    let value: f64 = values[column].into();
                    out[column] = value - shift[column];
                    probe[column] += value * 0.0;
                }
            }
        }
    }
    probe.iter().all(|&value| value == 0.0)
}

fn find_not_finite<T: Feature>(x: &[T], dim: usize, rows: &[usize]) -> Option<(usize, usize)> {
    rows.iter().find_map(|&row| {
        let values = &x[row * dim..][..dim];
        let feature = values.iter().position(|&value| !value.into().is_finite())?;
        Some((row, feature))
    })
}
