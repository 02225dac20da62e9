//! Counts, sums and Gram matrices per class, from one pass over batches of rows.

use std::collections::HashMap;

use aisec_numeric::Cancel;
use pulp::Arch;
use rayon::prelude::*;

use crate::Error;
use crate::gram::{self, GramRow, PANEL};

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

/// Additive statistics of every class.
///
/// Products are taken of features minus the class's first row, in float64: a common offset, however
/// large, costs no accuracy.
#[derive(Debug)]
pub struct Moments {
    dim: usize,
    limit: usize,
    rows: u64,
    slots: HashMap<i64, usize>,
    classes: Vec<Class>,
    packed: Vec<f64>,
    complete: bool,
}

#[derive(Debug)]
struct Class {
    label: i64,
    count: u64,
    shift: Vec<f64>,
    gram: Vec<GramRow>,
}

/// Mean and covariance of one class.
pub(crate) struct Covariance {
    pub(crate) label: i64,
    pub(crate) count: u64,
    pub(crate) mean: Vec<f64>,
    /// Row-major [dim, dim], divided by `count`.
    pub(crate) matrix: Vec<f64>,
}

impl Moments {
    /// Starts with no rows; at most `memory_limit` bytes go into statistics.
    pub fn new(dim: usize, memory_limit: usize) -> Result<Self, Error> {
        if dim == 0 {
            return Err(Error::Empty);
        }
        Ok(Self {
            dim,
            limit: memory_limit,
            rows: 0,
            slots: HashMap::new(),
            classes: Vec::new(),
            packed: Vec::new(),
            complete: true,
        })
    }

    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Rows seen so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Adds the rows of `x`, row-major [labels.len(), dim]. After an error nothing more is taken.
    pub fn update<T: Feature>(
        &mut self,
        x: &[T],
        labels: &[i64],
        cancel: &Cancel,
    ) -> Result<(), Error> {
        if !self.complete {
            return Err(Error::Incomplete);
        }
        if labels.len().checked_mul(self.dim) != Some(x.len()) {
            return Err(Error::Shape { values: x.len(), rows: labels.len(), dim: self.dim });
        }
        self.complete = false;
        let rows = (PACKED / self.dim).max(TILE);
        for (x, labels) in x.chunks(rows * self.dim).zip(labels.chunks(rows)) {
            cancel.check()?;
            self.add(x, labels)?;
        }
        self.complete = true;
        Ok(())
    }

    fn add<T: Feature>(&mut self, x: &[T], labels: &[i64]) -> Result<(), Error> {
        let (dim, panels) = (self.dim, self.dim.div_ceil(PANEL));
        let slots = self.assign(x, labels)?;
        let mut starts = vec![0; self.classes.len() + 1];
        for &slot in &slots {
            starts[slot + 1] += 1;
        }
        for slot in 0..self.classes.len() {
            self.classes[slot].count += starts[slot + 1] as u64;
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
        for slot in 0..self.classes.len() {
            for rows in order[starts[slot]..starts[slot + 1]].chunks(TILE) {
                let (tile, tail) = rest.split_at_mut(rows.len() * panels * PANEL);
                tiles.push((slot, rows, tile));
                rest = tail;
            }
        }
        let classes = &self.classes;
        let first = self.rows;
        let refused = tiles
            .par_iter_mut()
            .filter_map(|(slot, rows, tile)| {
                let finite = Arch::new().dispatch(
                    #[inline(always)]
                    || pack(x, dim, rows, &classes[*slot].shift, tile),
                );
                if finite { None } else { find_not_finite(x, dim, rows) }
            })
            .min();
        if let Some((row, feature)) = refused {
            return Err(Error::NotFinite { row: first + row as u64, feature });
        }
        self.rows += labels.len() as u64;

        let mut of_class = vec![Vec::new(); self.classes.len()];
        for (slot, _, tile) in &tiles {
            of_class[*slot].push(&**tile);
        }
        let mut tasks: Vec<_> = self
            .classes
            .iter_mut()
            .zip(&of_class)
            .filter(|(_, tiles)| !tiles.is_empty())
            .flat_map(|(class, tiles)| {
                class.gram.chunks_mut(GROUP).enumerate().map(move |(g, rows)| (g, rows, tiles))
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
                    let classes = self.classes.len() + 1;
                    // Every thread unfolds one class's matrix to find its leading direction.
                    let unfolded = classes.min(rayon::current_num_threads());
                    let needed =
                        gram::class_bytes(self.dim).saturating_mul(classes).saturating_add(
                            self.dim.saturating_mul(self.dim * size_of::<f64>() * unfolded),
                        );
                    if needed > self.limit {
                        let (dim, limit) = (self.dim, self.limit);
                        return Err(Error::Memory { classes, dim, needed, limit });
                    }
                    let values = &x[row * self.dim..][..self.dim];
                    self.classes.push(Class {
                        label,
                        count: 0,
                        shift: values.iter().map(|&value| value.into()).collect(),
                        gram: (0..self.dim.div_ceil(PANEL)).map(GramRow::new).collect(),
                    });
                    self.slots.insert(label, classes - 1);
                    classes - 1
                }
            };
            slots.push(slot);
        }
        Ok(slots)
    }

    /// The covariance of each class, ascending by label, one at a time.
    pub(crate) fn covariances(
        &self,
    ) -> Result<impl IndexedParallelIterator<Item = Result<Covariance, Error>>, Error> {
        if !self.complete {
            return Err(Error::Incomplete);
        }
        if self.rows == 0 {
            return Err(Error::Empty);
        }
        let mut classes: Vec<_> = self.classes.iter().collect();
        classes.sort_by_key(|class| class.label);
        Ok(classes.into_par_iter().with_max_len(1).map(|class| class.covariance(self.dim)))
    }
}

impl Class {
    fn covariance(&self, dim: usize) -> Result<Covariance, Error> {
        let count = self.count as f64;
        let offset: Vec<f64> =
            self.gram.iter().flat_map(|row| row.sum).take(dim).map(|sum| sum / count).collect();
        let mut matrix = vec![0.0; dim * dim];
        for i in 0..dim {
            for j in 0..=i {
                let value =
                    self.gram[i / PANEL].entry(i % PANEL, j) / count - offset[i] * offset[j];
                if !value.is_finite() {
                    return Err(Error::Overflow { label: self.label });
                }
                matrix[i * dim + j] = value;
                matrix[j * dim + i] = value;
            }
        }
        let mean = self.shift.iter().zip(&offset).map(|(shift, offset)| shift + offset).collect();
        Ok(Covariance { label: self.label, count: self.count, mean, matrix })
    }
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
