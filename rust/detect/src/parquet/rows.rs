//! Batches of rows out of row groups.

use std::sync::Arc;

use aisec_numeric::Cancel;
use rayon::prelude::*;

use super::column;
use super::list_pages::ListPages;
use super::page::{Pages, Pool};
use super::schema::Layout;
use super::values::Value;
use super::{Table, TableError};

/// Rows that are laid out by one task.
const TILE_ROWS: usize = 256;
/// Columns, and rows of a tile, that are turned together.
const SIDE: usize = 16;
/// Labels decoded at a time where features are lists.
const LIST_ROWS: usize = 1 << 18;

/// Reads a table from one row on to its end.
pub struct Rows<T> {
    table: Arc<Table>,
    pool: Arc<Pool>,
    /// Bytes that a window of decoded columns may take.
    limit: usize,
    group: usize,
    /// Row of the group after the window.
    next: usize,
    /// Column after column, `count` values each; empty where features are lists.
    window: Vec<T>,
    labels: Vec<i64>,
    count: usize,
    taken: usize,
    lists: Option<ListPages<T>>,
}

impl<T: Value> Rows<T> {
    /// Starts at row `first`; decoded columns take at most `limit` bytes beside the caller's buffer.
    pub fn new(table: Arc<Table>, first: u64, limit: usize) -> Self {
        let group = table.groups.partition_point(|g| g.first + g.rows as u64 <= first);
        let before = table.groups.get(group).map_or(0, |group| group.first);
        Self {
            table,
            pool: Arc::default(),
            limit,
            group,
            next: (first - before.min(first)) as usize,
            window: Vec::new(),
            labels: Vec::new(),
            count: 0,
            taken: 0,
            lists: None,
        }
    }

    /// Features of a row.
    pub fn dim(&self) -> usize {
        self.table.dim
    }

    /// Whether the row group that was read last is decoded by several threads; lists whose levels
    /// have to be followed are not.
    pub fn in_parallel(&self) -> bool {
        self.lists.as_ref().is_none_or(ListPages::in_parallel)
    }

    /// Fills `x`, row-major [labels.len(), dim], and `labels` (0 without a label column); fewer
    /// rows only at the end of the file. Returns their number.
    pub fn read(
        &mut self,
        x: &mut [T],
        labels: &mut [i64],
        cancel: &Cancel,
    ) -> Result<usize, TableError> {
        let dim = self.table.dim;
        assert_eq!(Some(x.len()), labels.len().checked_mul(dim), "x holds dim values a label");
        let mut done = 0;
        while done < labels.len() {
            cancel.check().map_err(|_| TableError::Cancelled)?;
            if self.taken == self.count && !self.load()? {
                break;
            }
            let rows = (labels.len() - done).min(self.count - self.taken);
            self.emit(&mut x[done * dim..(done + rows) * dim])?;
            labels[done..done + rows].copy_from_slice(&self.labels[self.taken..][..rows]);
            self.taken += rows;
            done += rows;
        }
        Ok(done)
    }

    /// Decodes the next window; false at the end.
    fn load(&mut self) -> Result<bool, TableError> {
        let table = self.table.clone();
        let group = loop {
            let Some(group) = table.groups.get(self.group) else { return Ok(false) };
            if self.next < group.rows {
                break group;
            }
            self.group += 1;
            self.next = 0;
            self.lists = None;
        };
        let left = group.rows - self.next;
        let (skip, pool) = (self.next, &self.pool);
        self.count = match &table.layout {
            Layout::Lists(leaf) => {
                if self.lists.is_none() {
                    self.lists = Some(table.lists(leaf, self.group, skip, pool)?);
                }
                left.min(LIST_ROWS)
            }
            Layout::Columns(leaves) => {
                let fitting = (self.limit / (table.dim * size_of::<T>())).max(1);
                // Windows of equal size, so that no short one is left.
                let count = left.div_ceil(left.div_ceil(fitting));
                self.window.resize(count * table.dim, T::default());
                let refused = self
                    .window
                    .par_chunks_exact_mut(count)
                    .zip(leaves)
                    .zip(&group.chunks)
                    .with_max_len(1)
                    .map(|((out, leaf), &chunk)| {
                        let pages = Pages::new(&table.file, pool, chunk);
                        let descriptor = table.schema.column(leaf.index);
                        column::read(pages, leaf, &descriptor, skip, group.first, out)
                    })
                    .find_map_first(Result::err);
                if let Some(error) = refused {
                    return Err(error);
                }
                count
            }
        };
        self.labels.clear();
        self.labels.resize(self.count, 0);
        if let (Some(label), Some(&chunk)) = (&table.label, group.chunks.last()) {
            let pages = Pages::new(&table.file, pool, chunk);
            let descriptor = table.schema.column(label.index);
            column::read(pages, label, &descriptor, skip, group.first, &mut self.labels)?;
        }
        self.next += self.count;
        self.taken = 0;
        Ok(true)
    }

    /// Lays the next rows of the window out in `x`.
    fn emit(&mut self, x: &mut [T]) -> Result<(), TableError> {
        let dim = self.table.dim;
        if let (Layout::Lists(leaf), Some(lists)) = (&self.table.layout, &mut self.lists) {
            return lists.read(leaf, x);
        }
        let (window, count, taken) = (&self.window, self.count, self.taken);
        x.par_chunks_mut(TILE_ROWS * dim).enumerate().for_each(|(tile, out)| {
            let first = taken + tile * TILE_ROWS;
            for block in (0..dim).step_by(SIDE) {
                transpose(&window[block * count..], count, first, &mut out[block..], dim);
            }
        });
        Ok(())
    }
}

/// Copies at most `SIDE` columns, `stride` values each, from value `first` on, to the starts of the
/// rows of `out`, `dim` values apart.
fn transpose<T: Value>(columns: &[T], stride: usize, first: usize, out: &mut [T], dim: usize) {
    for (group, out) in out.chunks_mut(SIDE * dim).enumerate() {
        let at = first + group * SIDE;
        let width = (columns.len() / stride).min(SIDE).min(dim);
        let rows = out.len().div_ceil(dim);
        let mut square = [[T::default(); SIDE]; SIDE];
        if rows == SIDE && width == SIDE && out.len() >= (SIDE - 1) * dim + SIDE {
            for (square, column) in square.iter_mut().zip(columns.chunks_exact(stride)) {
                square.copy_from_slice(&column[at..at + SIDE]);
            }
            for (row, out) in out.chunks_mut(dim).enumerate() {
                if let Some(out) = out.first_chunk_mut::<SIDE>() {
                    for column in 0..SIDE {
                        out[column] = square[column][row];
                    }
                }
            }
        } else {
            for (row, out) in out.chunks_mut(dim).enumerate() {
                for (out, column) in out.iter_mut().zip(columns.chunks_exact(stride)).take(SIDE) {
                    *out = column[at + row];
                }
            }
        }
    }
}
