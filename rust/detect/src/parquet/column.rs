//! Columns of single numbers: every page on its own, in any range of rows.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use parquet::basic::Encoding;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::column::reader::{ColumnReader, get_column_reader};
use parquet::errors::ParquetError;
use parquet::schema::types::ColumnDescPtr;

use super::header::{DataPage, PageKind};
use super::page::{Pages, to_page};
use super::schema::Leaf;
use super::values::{Levels, Value, all_ones, decode, plain};
use super::{TableError, damaged};

/// Reads rows `skip..skip + out.len()` of a column chunk; `first` is the number of the chunk's first
/// row, for messages.
pub(super) fn read<T: Value>(
    mut pages: Pages,
    leaf: &Leaf,
    descriptor: &ColumnDescPtr,
    skip: usize,
    first: u64,
    out: &mut [T],
) -> Result<(), TableError> {
    let nullable = descriptor.max_def_level() > 0;
    let mut other = None;
    let mut dictionary = None;
    let mut values = Vec::new();
    let (mut row, mut done) = (0, 0);
    while done < out.len() {
        let count = match pages.peek()? {
            None => {
                return Err(damaged(&format!("column '{}' ends early", leaf.name.escape_debug())));
            }
            Some(header) => match &header.kind {
                PageKind::Data(page) => page.values as usize,
                _ => 0,
            },
        };
        if count > 0 && row + count <= skip {
            pages.pass();
            row += count;
            continue;
        }
        let Some((kind, bytes)) = pages.fetch()? else { continue };
        if let PageKind::Dictionary { .. } = kind {
            dictionary = Some(to_page(kind, bytes));
            continue;
        }
        let from = skip.saturating_sub(row).min(count);
        let wanted = (count - from).min(out.len() - done);
        let out = &mut out[done..done + wanted];
        let direct = match &kind {
            PageKind::Data(page) => plain_values(page, &bytes, nullable),
            _ => None,
        };
        if let Some(bytes) = direct {
            if !plain(leaf.kind, bytes, from, out) {
                return Err(damaged(&format!(
                    "a page of column '{}' ends early",
                    leaf.name.escape_debug()
                )));
            }
        } else {
            let other = other.get_or_insert_with(|| Decoder::new(descriptor));
            values.clear();
            other.read(
                dictionary.take(),
                to_page(kind, bytes),
                leaf,
                first + row as u64,
                count,
                &mut values,
            )?;
            out.copy_from_slice(&values[from..from + wanted]);
        }
        row += count;
        done += wanted;
    }
    Ok(())
}

/// The values of a page in plain encoding without nulls.
fn plain_values<'a>(page: &DataPage, bytes: &'a [u8], nullable: bool) -> Option<&'a [u8]> {
    if page.encoding != Encoding::PLAIN {
        return None;
    }
    let (levels, values) = match &page.second {
        Some(second) => bytes.get(second.repetition..)?.split_at_checked(second.definition)?,
        None if nullable => {
            let (length, rest) = bytes.split_first_chunk()?;
            rest.split_at_checked(u32::from_le_bytes(*length) as usize)?
        }
        None => (&[][..], bytes),
    };
    (!nullable || all_ones(levels, page.values as usize) == Some(true)).then_some(values)
}

/// Decodes pages that hold a dictionary's indices, nulls or another encoding.
struct Decoder {
    reader: ColumnReader,
    queue: Arc<Queue>,
    levels: Levels,
}

impl Decoder {
    fn new(descriptor: &ColumnDescPtr) -> Self {
        let queue = Arc::new(Queue::default());
        let reader = get_column_reader(descriptor.clone(), Box::new(Feeder(queue.clone())));
        Self { reader, queue, levels: Levels::default() }
    }

    /// Decodes all `count` values of a page; `first` is the number of its first row.
    fn read<T: Value>(
        &mut self,
        dictionary: Option<Page>,
        page: Page,
        leaf: &Leaf,
        first: u64,
        count: usize,
        out: &mut Vec<T>,
    ) -> Result<(), TableError> {
        self.queue.lock().extend(dictionary.into_iter().chain([page]));
        let mut row = first;
        while out.len() < count {
            let records = decode(&mut self.reader, leaf.kind, count, &mut self.levels, out)?;
            if let Some(null) = self.levels.definition.iter().position(|&level| level == 0) {
                return Err(TableError::Null { column: leaf.name.clone(), row: row + null as u64 });
            }
            row += records as u64;
            if records == 0 {
                return Err(damaged(&format!(
                    "a page of column '{}' ends early",
                    leaf.name.escape_debug()
                )));
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct Queue(Mutex<VecDeque<Page>>);

impl Queue {
    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Page>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands a decoder the pages that were put in the queue.
struct Feeder(Arc<Queue>);

impl Iterator for Feeder {
    type Item = Result<Page, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.lock().pop_front().map(Ok)
    }
}

impl PageReader for Feeder {
    fn get_next_page(&mut self) -> Result<Option<Page>, ParquetError> {
        Ok(self.0.lock().pop_front())
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>, ParquetError> {
        Ok(self.0.lock().front().map(|page| PageMetadata {
            num_rows: None,
            num_levels: Some(page.num_values() as usize),
            is_dict: page.is_dictionary_page(),
        }))
    }

    fn skip_next_page(&mut self) -> Result<(), ParquetError> {
        self.0.lock().pop_front();
        Ok(())
    }
}
