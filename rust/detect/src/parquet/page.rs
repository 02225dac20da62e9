//! Pages of one column chunk, read by ranges and decompressed into buffers that are used again.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use parquet::basic::Encoding;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::ParquetError;

use super::codec::{Codec, Context};
use super::header::{DataPage, Header, NoHeader, PageKind, parse};
use super::{ReadAt, TableError, damaged};

/// Bytes a page may have; writers make pages of about 1 MiB.
pub(super) const LARGEST_PAGE: usize = 256 << 20;
/// Bytes a header may have: its statistics hold values of the column.
pub(super) const LARGEST_HEADER: usize = 16 << 20;

/// Where a column's values of one row group are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunk {
    pub(super) start: u64,
    pub(super) end: u64,
    /// Values with nulls and empty lists: levels.
    pub(super) values: u64,
    pub(super) codec: Codec,
}

/// Buffers between uses.
#[derive(Default)]
pub(super) struct Pool {
    pages: Mutex<Vec<Vec<u8>>>,
    readers: Mutex<Vec<Buffers>>,
}

impl Pool {
    /// Runs `work` with a buffer for a page and what a decompressor keeps.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut Vec<u8>, &mut Context) -> R) -> R {
        let mut page = lock(&self.pages).pop().unwrap_or_default();
        let mut buffers = lock(&self.readers).pop().unwrap_or_default();
        let result = work(&mut page, &mut buffers.zstd);
        lock(&self.pages).push(page);
        lock(&self.readers).push(buffers);
        result
    }
}

#[derive(Default)]
struct Buffers {
    /// Bytes as they are in the file, from `start`.
    raw: Vec<u8>,
    start: u64,
    zstd: Context,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A page's bytes, which return to the pool.
struct Pooled {
    bytes: Vec<u8>,
    pool: Arc<Pool>,
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        lock(&self.pool.pages).push(std::mem::take(&mut self.bytes));
    }
}

pub(super) struct Pages {
    file: Arc<dyn ReadAt>,
    pool: Arc<Pool>,
    chunk: Chunk,
    buffers: Buffers,
    /// Values of the pages that were not taken yet.
    left: u64,
    at: u64,
    next: Option<(Header, usize)>,
}

impl Drop for Pages {
    fn drop(&mut self) {
        lock(&self.pool.readers).push(std::mem::take(&mut self.buffers));
    }
}

impl Pages {
    /// Where the next page starts that was not taken, and how many values are left.
    pub(super) fn position(&self) -> (u64, u64) {
        (self.at, self.left)
    }

    pub(super) fn new(file: &Arc<dyn ReadAt>, pool: &Arc<Pool>, chunk: Chunk) -> Self {
        let mut buffers = lock(&pool.readers).pop().unwrap_or_default();
        buffers.raw.clear();
        Self {
            file: file.clone(),
            pool: pool.clone(),
            chunk,
            buffers,
            left: chunk.values,
            at: chunk.start,
            next: None,
        }
    }

    /// The header of the next page, None after the last.
    pub(super) fn peek(&mut self) -> Result<Option<&Header>, TableError> {
        while self.next.is_none() {
            if self.left == 0 {
                return Ok(None);
            }
            let (header, length) = self.read_header()?;
            if header.size > LARGEST_PAGE || header.stored > LARGEST_PAGE {
                let size = header.size.max(header.stored);
                return Err(TableError::LargePage { size, limit: LARGEST_PAGE });
            }
            if header.kind == PageKind::Other {
                self.at += (length + header.stored) as u64;
            } else {
                self.next = Some((header, length));
            }
        }
        Ok(self.next.as_ref().map(|(header, _)| header))
    }

    fn read_header(&mut self) -> Result<(Header, usize), TableError> {
        let mut length = 256;
        loop {
            let available = self.chunk.end.saturating_sub(self.at);
            let read = length.min(usize::try_from(available).unwrap_or(usize::MAX));
            let at = self.at;
            match parse(self.bytes(at, read)?) {
                Ok(found) => return Ok(found),
                Err(NoHeader::Short) if read == length && length < LARGEST_HEADER => length *= 16,
                Err(_) => return Err(damaged("a page header cannot be read")),
            }
        }
    }

    /// Passes over the page that was peeked at, without reading it.
    pub(super) fn pass(&mut self) {
        if let Some((header, length)) = self.next.take() {
            self.at += (length + header.stored) as u64;
            self.count(&header);
        }
    }

    fn count(&mut self, header: &Header) {
        if let PageKind::Data(page) = &header.kind {
            self.left = self.left.saturating_sub(u64::from(page.values));
        }
    }

    /// The next page, decompressed; None after the last.
    pub(super) fn fetch(&mut self) -> Result<Option<(PageKind, Bytes)>, TableError> {
        if self.peek()?.is_none() {
            return Ok(None);
        }
        let Some((header, length)) = self.next.take() else { return Ok(None) };
        let start = self.at + length as u64;
        self.at = start + header.stored as u64;
        self.count(&header);
        if self.at > self.chunk.end {
            return Err(damaged("a page ends behind its column chunk"));
        }
        let mut bytes = lock(&self.pool.pages).pop().unwrap_or_default();
        let decompressed = self.decompress(start, &header, &mut bytes);
        let page = Pooled { bytes, pool: self.pool.clone() };
        decompressed?;
        Ok(Some((header.kind, Bytes::from_owner(page))))
    }

    fn decompress(
        &mut self,
        start: u64,
        header: &Header,
        out: &mut Vec<u8>,
    ) -> Result<(), TableError> {
        self.bytes(start, header.stored)?;
        let Buffers { raw, start: first, zstd } = &mut self.buffers;
        let at = usize::try_from(start - *first).unwrap_or(usize::MAX);
        let stored = raw.get(at..).and_then(|raw| raw.get(..header.stored)).unwrap_or_default();
        self.chunk.codec.decompress(header, stored, out, zstd)
    }

    /// Bytes of the chunk from `at`; neighbours are read with them.
    fn bytes(&mut self, at: u64, length: usize) -> Result<&[u8], TableError> {
        let Buffers { raw, start, .. } = &mut self.buffers;
        let inside = at.checked_sub(*start).and_then(|offset| usize::try_from(offset).ok());
        let inside =
            inside.filter(|offset| offset.checked_add(length).is_some_and(|end| end <= raw.len()));
        let offset = match inside {
            Some(offset) => offset,
            None => {
                let left = usize::try_from(self.chunk.end.saturating_sub(at)).unwrap_or(usize::MAX);
                if length > left {
                    return Err(damaged("a page ends behind its column chunk"));
                }
                raw.resize(length.max(self.file.preferred_read()).min(left), 0);
                *start = at;
                let read = self.file.read_at(at, raw);
                if read.is_err() {
                    raw.clear();
                }
                read.map_err(TableError::io)?;
                0
            }
        };
        Ok(&raw[offset..offset + length])
    }
}

/// The page as the decoders of levels and values take it.
pub(super) fn to_page(kind: PageKind, buf: Bytes) -> Page {
    match kind {
        PageKind::Data(DataPage { values, encoding, second: None }) => Page::DataPage {
            buf,
            num_values: values,
            encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        },
        PageKind::Data(DataPage { values, encoding, second: Some(second) }) => Page::DataPageV2 {
            buf,
            num_values: values,
            encoding,
            num_nulls: second.nulls,
            num_rows: second.rows,
            def_levels_byte_len: second.definition as u32,
            rep_levels_byte_len: second.repetition as u32,
            is_compressed: second.compressed,
            statistics: None,
        },
        PageKind::Dictionary { values, encoding } => {
            Page::DictionaryPage { buf, num_values: values, encoding, is_sorted: false }
        }
        PageKind::Other => unreachable!("pages of other kinds are passed over"),
    }
}

impl Iterator for Pages {
    type Item = Result<Page, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>, ParquetError> {
        let page = self.fetch().map_err(|error| ParquetError::External(Box::new(error)))?;
        Ok(page.map(|(kind, bytes)| to_page(kind, bytes)))
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>, ParquetError> {
        let header = self.peek().map_err(|error| ParquetError::External(Box::new(error)))?;
        Ok(header.map(|header| match &header.kind {
            PageKind::Data(page) => PageMetadata {
                num_rows: page.second.as_ref().map(|second| second.rows as usize),
                num_levels: Some(page.values as usize),
                is_dict: false,
            },
            _ => PageMetadata { num_rows: None, num_levels: None, is_dict: true },
        }))
    }

    fn skip_next_page(&mut self) -> Result<(), ParquetError> {
        self.pass();
        Ok(())
    }
}
