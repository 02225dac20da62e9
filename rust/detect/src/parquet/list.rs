//! One column of lists of equal length: rows in the order of the file.

use parquet::column::reader::{ColumnReader, get_column_reader};
use parquet::schema::types::ColumnDescPtr;

use super::page::Pages;
use super::schema::Leaf;
use super::values::{Levels, Value, decode};
use super::{TableError, damaged};

/// Values decoded at a time.
const VALUES: usize = 1 << 17;

/// The lists of one row group from the current row on.
pub(super) struct Lists {
    reader: ColumnReader,
    full: i16,
    levels: Levels,
    /// Repetition levels of a row: its lists' shape.
    shape: Vec<i16>,
    row: u64,
}

impl Lists {
    /// `row` is the number of the row group's first row, for messages.
    pub(super) fn new(pages: Pages, descriptor: &ColumnDescPtr, row: u64) -> Self {
        Self {
            reader: get_column_reader(descriptor.clone(), Box::new(pages)),
            full: descriptor.max_def_level(),
            levels: Levels::default(),
            shape: Vec::new(),
            row,
        }
    }

    /// Passes over rows. They are decoded: the column reader's own way of skipping has no end where
    /// a page holds fewer levels than it says.
    pub(super) fn skip<T: Value>(&mut self, leaf: &Leaf, rows: usize) -> Result<(), TableError> {
        let mut left = rows;
        let mut passed = Vec::<T>::new();
        while left > 0 {
            // One row until their length is known.
            let width = self.shape.len();
            let some = left.min(VALUES.checked_div(width).unwrap_or(1).max(1));
            passed.clear();
            self.read(leaf, width, some, &mut passed)?;
            left -= some;
        }
        Ok(())
    }

    /// Reads the next rows; `width` values are a row, or 0 for as many as the first row has.
    pub(super) fn read<T: Value>(
        &mut self,
        leaf: &Leaf,
        width: usize,
        rows: usize,
        out: &mut Vec<T>,
    ) -> Result<(), TableError> {
        let mut left = rows;
        while left > 0 {
            let records = left.min(VALUES.checked_div(width).unwrap_or(1).max(1));
            let before = out.len();
            let records = decode(&mut self.reader, leaf.kind, records, &mut self.levels, out)?;
            if records == 0 {
                return Err(damaged(&format!("column '{}' ends early", leaf.name.escape_debug())));
            }
            self.check(leaf, width, records, out.len() - before)?;
            self.row += records as u64;
            left -= records;
        }
        Ok(())
    }

    /// Repetition levels of a row, once one was read.
    pub(super) fn shape(&self) -> &[i16] {
        &self.shape
    }

    /// Every row is full and of one shape.
    fn check(
        &mut self,
        leaf: &Leaf,
        width: usize,
        records: usize,
        values: usize,
    ) -> Result<(), TableError> {
        let Levels { definition, repetition } = &self.levels;
        let mut row = self.row;
        if self.shape.is_empty() {
            let end = repetition.iter().skip(1).position(|&level| level == 0);
            self.shape = repetition[..end.map_or(repetition.len(), |end| end + 1)].to_vec();
        }
        let length = self.shape.len();
        let even = repetition.len() == records * length
            && repetition.chunks_exact(length).all(|levels| levels == self.shape);
        let full = values == repetition.len() && definition.iter().all(|&l| l == self.full);
        if even && full && (width == 0 || length == width) {
            return Ok(());
        }
        let expected = if width == 0 { length } else { width };
        let mut at = 0;
        while at < repetition.len() {
            let next = repetition[at + 1..].iter().position(|&level| level == 0);
            let end = next.map_or(repetition.len(), |next| at + 1 + next);
            if definition[at..end].iter().any(|&level| level != self.full) {
                return Err(TableError::Null { column: leaf.name.clone(), row });
            }
            if end - at != expected || repetition[at..end] != self.shape {
                let (column, found) = (leaf.name.clone(), end - at);
                return Err(TableError::Ragged { column, row, found, expected });
            }
            row += 1;
            at = end;
        }
        Err(damaged("levels and values of a list column disagree"))
    }
}
