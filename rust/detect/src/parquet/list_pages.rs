//! One column of lists of equal length, page by page in parallel.
//!
//! Where every row is full and of one shape, the levels of a page say nothing that its position
//! does not: they are compared with the shape, and the values go to their place in the rows,
//! wherever pages begin. What is otherwise (nulls, lists of other lengths, encodings but plain and
//! dictionaries) is left to [`Lists`], which reads it row after row or names what is wrong.

use std::ops::Range;
use std::sync::Arc;

use parquet::basic::Encoding;
use parquet::schema::types::ColumnDescPtr;
use rayon::prelude::*;

use super::codec::Codec;
use super::header::{DataPage, Header, NoHeader, PageKind, parse};
use super::levels::{look_up, repeat};
use super::list::Lists;
use super::page::{Chunk, LARGEST_HEADER, LARGEST_PAGE, Pages, Pool};
use super::schema::Leaf;
use super::values::{Value, plain};
use super::{ReadAt, TableError, damaged};

/// Bytes read beyond what is expected to be needed: a page, with which the next rows begin.
const MORE: usize = 17 << 16;
/// Bytes read at once at most.
const STRETCH: usize = 32 << 20;

/// Why pages were not decoded.
enum Refused {
    Error(TableError),
    /// Something that only the other reader takes.
    Odd,
}

impl From<TableError> for Refused {
    fn from(error: TableError) -> Self {
        Self::Error(error)
    }
}

/// The lists of one row group from some row on.
pub(super) struct ListPages<T> {
    file: Arc<dyn ReadAt>,
    pool: Arc<Pool>,
    chunk: Chunk,
    descriptor: ColumnDescPtr,
    /// Repetition levels of a row.
    shape: Arc<[u8]>,
    /// Bytes of the chunk that were read, up to `end`; those before `at` are done with.
    raw: Vec<u8>,
    at: usize,
    end: usize,
    /// Where the next bytes are in the file.
    offset: u64,
    /// Values of the pages that were not taken.
    left: u64,
    /// Values before the next page.
    value: u64,
    dictionary: Option<Vec<T>>,
    /// Values that were decoded and not asked for, from `carried` on.
    carry: Vec<T>,
    carried: usize,
    /// Number of the row group's first row, and rows of it that were given out.
    first: u64,
    row: usize,
    other: Option<Lists>,
}

struct Page {
    header: Header,
    body: Range<usize>,
    /// Number of its first value in the chunk.
    value: u64,
}

impl<T: Value> ListPages<T> {
    /// Starts at row `skip` of a row group whose first row has number `first`.
    pub(super) fn new(
        file: &Arc<dyn ReadAt>,
        pool: &Arc<Pool>,
        chunk: Chunk,
        descriptor: ColumnDescPtr,
        shape: Arc<[u8]>,
        (first, skip): (u64, usize),
        leaf: &Leaf,
    ) -> Result<Self, TableError> {
        let mut pages = Pages::new(file, pool, chunk);
        let target = skip as u64 * shape.len() as u64;
        let (mut value, mut dictionary) = (0, None);
        let mut odd = false;
        while !odd && skip > 0 {
            match pages.peek()? {
                None => odd = true,
                Some(Header { kind: PageKind::Data(page), .. }) => {
                    if value + u64::from(page.values) > target {
                        break;
                    }
                    value += u64::from(page.values);
                    pages.pass();
                }
                Some(_) => match pages.fetch()? {
                    Some((PageKind::Dictionary { values, .. }, bytes)) => {
                        dictionary = entries(leaf, values, &bytes);
                        odd = dictionary.is_none();
                    }
                    _ => odd = true,
                },
            }
        }
        let (offset, left) = pages.position();
        drop(pages);
        let mut found = Self {
            file: file.clone(),
            pool: pool.clone(),
            chunk,
            descriptor,
            shape,
            raw: Vec::new(),
            at: 0,
            end: 0,
            offset,
            left,
            value,
            dictionary,
            carry: Vec::new(),
            carried: 0,
            first,
            row: skip,
            other: None,
        };
        if odd {
            found.turn(leaf)?;
        } else if target > value {
            // The page that holds the first row wanted is decoded whole.
            match found.decode(leaf, (target - value) as usize, &mut []) {
                Ok(()) => {}
                Err(Refused::Odd) => found.turn(leaf)?,
                Err(Refused::Error(error)) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Whether pages are decoded in parallel, not row after row.
    pub(super) fn in_parallel(&self) -> bool {
        self.other.is_none()
    }

    /// Fills `out` with the next rows.
    pub(super) fn read(&mut self, leaf: &Leaf, out: &mut [T]) -> Result<(), TableError> {
        let width = self.shape.len();
        if self.other.is_none() {
            match self.decode(leaf, 0, out) {
                Ok(()) => {
                    self.row += out.len() / width;
                    return Ok(());
                }
                Err(Refused::Odd) => self.turn(leaf)?,
                Err(Refused::Error(error)) => return Err(error),
            }
        }
        let Some(lists) = &mut self.other else { unreachable!("set above") };
        let mut values = Vec::with_capacity(out.len());
        lists.read(leaf, width, out.len() / width, &mut values)?;
        out.copy_from_slice(&values);
        self.row += out.len() / width;
        Ok(())
    }

    /// Leaves the rest of the row group to the other reader.
    fn turn(&mut self, leaf: &Leaf) -> Result<(), TableError> {
        let pages = Pages::new(&self.file, &self.pool, self.chunk);
        let mut lists = Lists::new(pages, &self.descriptor, self.first);
        if self.row > 0 {
            lists.skip::<T>(leaf, self.row)?;
        }
        self.raw = Vec::new();
        self.carry = Vec::new();
        self.other = Some(lists);
        Ok(())
    }

    /// Passes over `skip` values, then fills `out`.
    fn decode(&mut self, leaf: &Leaf, skip: usize, out: &mut [T]) -> Result<(), Refused> {
        let carried = (self.carry.len() - self.carried).min(out.len());
        let (ready, mut rest) = out.split_at_mut(carried);
        ready.copy_from_slice(&self.carry[self.carried..][..carried]);
        self.carried += carried;
        let mut skip = skip;
        while !rest.is_empty() || skip > 0 {
            let pages = self.collect(leaf, skip + rest.len())?;
            let mut carry = std::mem::take(&mut self.carry);
            let mut tasks: Vec<(&Page, &mut [T])> = Vec::with_capacity(pages.len());
            let mut last = None;
            for page in &pages {
                let PageKind::Data(data) = &page.header.kind else { continue };
                let values = data.values as usize;
                if skip == 0 && values <= rest.len() {
                    let (target, tail) = rest.split_at_mut(values);
                    rest = tail;
                    tasks.push((page, target));
                } else {
                    // The first page, of which not all is wanted, or the last one.
                    carry.clear();
                    carry.resize(values, T::default());
                    last = Some(page);
                    break;
                }
            }
            if let Some(page) = last {
                tasks.push((page, &mut carry));
            }
            let decoder = Decoder {
                leaf,
                raw: &self.raw,
                pool: &self.pool,
                codec: self.chunk.codec,
                shape: &self.shape,
                full: self.descriptor.max_def_level(),
                deepest: self.descriptor.max_rep_level(),
                dictionary: self.dictionary.as_deref(),
            };
            let refused = tasks
                .into_par_iter()
                .with_max_len(1)
                .map(|(page, target)| decoder.place(page, target))
                .find_map_first(Result::err);
            if let Some(refused) = refused {
                return Err(refused);
            }
            self.carry = carry;
            if last.is_some() {
                let wanted = rest.len().min(self.carry.len() - skip);
                rest[..wanted].copy_from_slice(&self.carry[skip..][..wanted]);
                rest = &mut rest[wanted..];
                self.carried = skip + wanted;
                skip = 0;
            } else {
                self.carry.clear();
                self.carried = 0;
            }
        }
        Ok(())
    }

    /// Data pages with at least `values` values (or one page, where that holds more), read but not
    /// decoded.
    fn collect(&mut self, leaf: &Leaf, values: usize) -> Result<Vec<Page>, Refused> {
        let mut pages = Vec::new();
        let mut found = 0;
        // Only once: what was found stays where it is in `raw`.
        self.fill(values)?;
        while found < values {
            if self.left == 0 {
                return if pages.is_empty() { Err(Refused::Odd) } else { Ok(pages) };
            }
            let (header, length) = match parse(&self.raw[self.at..self.end]) {
                Ok(header) => header,
                Err(NoHeader::Short) if !pages.is_empty() => break,
                Err(NoHeader::Short) if self.end - self.at < LARGEST_HEADER && self.grow(16)? => {
                    continue;
                }
                Err(_) => return Err(damaged("a page header cannot be read").into()),
            };
            if header.size > LARGEST_PAGE || header.stored > LARGEST_PAGE {
                let size = header.size.max(header.stored);
                return Err(TableError::LargePage { size, limit: LARGEST_PAGE }.into());
            }
            let whole = length + header.stored;
            if self.end - self.at < whole {
                if !pages.is_empty() {
                    break;
                }
                if !self.grow_to(whole)? {
                    return Err(damaged("a page ends behind its column chunk").into());
                }
            }
            let body = self.at + length..self.at + whole;
            match &header.kind {
                PageKind::Data(data) => {
                    let count = u64::from(data.values);
                    let (value, size) = (self.value, data.values as usize * size_of::<T>());
                    if size > LARGEST_PAGE {
                        return Err(TableError::LargePage { size, limit: LARGEST_PAGE }.into());
                    }
                    self.left = self.left.saturating_sub(count);
                    self.value += count;
                    found += data.values as usize;
                    pages.push(Page { header, body, value });
                }
                PageKind::Dictionary { values, .. } => {
                    if !pages.is_empty() {
                        return Err(Refused::Odd);
                    }
                    let stored = &self.raw[body];
                    let decoded = self.pool.with(|page, zstd| {
                        self.chunk.codec.decompress(&header, stored, page, zstd)?;
                        Ok::<_, TableError>(entries(leaf, *values, page))
                    })?;
                    self.dictionary = Some(decoded.ok_or(Refused::Odd)?);
                }
                PageKind::Other => {}
            }
            self.at += whole;
        }
        Ok(pages)
    }

    /// Reads on, so that about `values` values are there.
    fn fill(&mut self, values: usize) -> Result<(), TableError> {
        let bytes = self.chunk.end - self.chunk.start;
        let expected = (u128::from(bytes) * values as u128 / u128::from(self.chunk.values.max(1)))
            .min(STRETCH as u128) as usize;
        self.grow_to((expected + MORE).max(self.file.preferred_read())).map(drop)
    }

    fn grow(&mut self, times: usize) -> Result<bool, TableError> {
        let before = self.end - self.at;
        self.grow_to(before.max(MORE) * times)?;
        Ok(self.end - self.at > before)
    }

    /// Moves the bytes left to the start and reads, in parallel, so that there are `length`; false
    /// where the chunk has fewer.
    fn grow_to(&mut self, length: usize) -> Result<bool, TableError> {
        let have = self.end - self.at;
        if have >= length {
            return Ok(true);
        }
        self.raw.copy_within(self.at..self.end, 0);
        (self.at, self.end) = (0, have);
        let left =
            usize::try_from(self.chunk.end.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let more = left.min(length - have);
        if self.raw.len() < have + more {
            self.raw.resize(have + more, 0);
        }
        let step = self.file.preferred_read().max(1);
        let (file, offset) = (&self.file, self.offset);
        self.raw[have..have + more]
            .par_chunks_mut(step)
            .enumerate()
            .try_for_each(|(index, part)| file.read_at(offset + (index * step) as u64, part))
            .map_err(TableError::io)?;
        self.offset += more as u64;
        self.end += more;
        Ok(self.end >= length)
    }
}

/// What the pages of a stretch have in common.
struct Decoder<'a, T> {
    leaf: &'a Leaf,
    raw: &'a [u8],
    pool: &'a Pool,
    codec: Codec,
    shape: &'a [u8],
    /// Definition level of a value, and repetition level of the innermost list.
    full: i16,
    deepest: i16,
    dictionary: Option<&'a [T]>,
}

impl<T: Value> Decoder<'_, T> {
    /// Decodes one page.
    fn place(&self, page: &Page, out: &mut [T]) -> Result<(), Refused> {
        let PageKind::Data(data) = &page.header.kind else { return Err(Refused::Odd) };
        let stored = &self.raw[page.body.clone()];
        if self.codec.keeps(&page.header) && page.header.size == stored.len() {
            return self.values(data, page.value, stored, out);
        }
        self.pool.with(|buffer, zstd| {
            self.codec.decompress(&page.header, stored, buffer, zstd)?;
            self.values(data, page.value, buffer, out)
        })
    }

    fn values(
        &self,
        data: &DataPage,
        first: u64,
        bytes: &[u8],
        out: &mut [T],
    ) -> Result<(), Refused> {
        let (repetition, definition, values) = split(data, bytes).ok_or(Refused::Odd)?;
        let (count, width) = (data.values as usize, self.shape.len());
        let level = |level: i16| u8::try_from(level).map_err(|_| Refused::Odd);
        let (full, deepest) = (level(self.full)?, level(self.deepest)?);
        let at = (first % width as u64) as usize;
        let placed = repeat(repetition, deepest, count, self.shape, at)
            && repeat(definition, full, count, &[full], 0)
            && match data.encoding {
                Encoding::PLAIN => plain(self.leaf.kind, values, 0, out),
                Encoding::PLAIN_DICTIONARY | Encoding::RLE_DICTIONARY => {
                    self.dictionary.is_some_and(|entries| look_up(values, entries, out))
                }
                _ => false,
            };
        if placed { Ok(()) } else { Err(Refused::Odd) }
    }
}

/// Repetition levels, definition levels and values of a page.
fn split<'a>(data: &DataPage, bytes: &'a [u8]) -> Option<(&'a [u8], &'a [u8], &'a [u8])> {
    if let Some(second) = &data.second {
        let (repetition, rest) = bytes.split_at_checked(second.repetition)?;
        let (definition, values) = rest.split_at_checked(second.definition)?;
        return Some((repetition, definition, values));
    }
    let part = |bytes: &'a [u8]| {
        let (length, rest) = bytes.split_first_chunk()?;
        rest.split_at_checked(u32::from_le_bytes(*length) as usize)
    };
    // A list has both levels.
    let (repetition, rest) = part(bytes)?;
    let (definition, values) = part(rest)?;
    Some((repetition, definition, values))
}

/// The values of a dictionary.
fn entries<T: Value>(leaf: &Leaf, values: u32, bytes: &[u8]) -> Option<Vec<T>> {
    let mut entries = vec![T::default(); (values as usize).min(8 * bytes.len())];
    (entries.len() == values as usize && plain(leaf.kind, bytes, 0, &mut entries))
        .then_some(entries)
}
