//! Rows of a Parquet file, in order, a bounded number at a time.
//!
//! The footer gives a [`Table`]; [`Rows`] reads its features row-major. Columns of single numbers
//! are decoded in parallel into a window of one row group, as much of it as the limit allows; the
//! pages of a column of lists are decoded in parallel straight into the caller's buffer. Whoever opens the table
//! supplies the bytes ([`ReadAt`]).

mod codec;
mod column;
mod header;
mod levels;
mod list;
mod list_pages;
mod page;
mod rows;
mod schema;
mod values;

use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::sync::Arc;

use parquet::file::metadata::{FooterTail, ParquetMetaDataReader};
use parquet::schema::types::SchemaDescPtr;

pub use rows::Rows;
pub use values::Value;

use codec::Codec;
use list::Lists;
use list_pages::ListPages;
use page::{Chunk, Pages, Pool};
use schema::{Layout, Leaf};

/// The largest footer that is read: it describes every column of every row group.
const LARGEST_FOOTER: u64 = 1 << 30;

/// Bytes at offsets: a local file, an object in a store.
pub trait ReadAt: Send + Sync {
    /// Bytes in all.
    fn size(&self) -> u64;

    /// Fills `buffer` with the bytes from `offset` on.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// How many bytes are best read at a time.
    fn preferred_read(&self) -> usize {
        1 << 20
    }
}

/// Why a file cannot be read as rows of numbers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    #[error("cannot be read ({0})")]
    Io(io::Error),
    #[error("not a readable Parquet file ({0})")]
    Damaged(String),
    #[error("is encrypted; decrypt it first")]
    Encrypted,
    #[error("{name} compression is not read; rewrite the file with zstd, snappy, lz4_raw or gzip")]
    Codec { name: String },
    #[error(
        "a page has {} MiB, more than {} MiB; rewrite the file with smaller pages",
        size >> 20, limit >> 20
    )]
    LargePage { size: usize, limit: usize },
    #[error("labels='{}' must name one of its columns: {columns}", label.escape_debug())]
    NoLabel { label: String, columns: String },
    #[error(
        "label column '{0}' has type {kind}; expected integers \
         (pl.col(\"{0}\").rank(\"dense\") numbers texts)",
        label.escape_debug()
    )]
    LabelType { label: String, kind: String },
    #[error("column '{}' has type {kind}; drop it or turn it into numbers", column.escape_debug())]
    ColumnType { column: String, kind: String },
    #[error("no feature columns beside the labels")]
    NoFeatures,
    #[error("holds no rows")]
    NoRows,
    #[error("column '{}' is null in row {row}; fill or drop the row", column.escape_debug())]
    Null { column: String, row: u64 },
    #[error(
        "column '{}' has {found} values in row {row}, or shapes them otherwise than the rows \
         before, which have {expected}; every sample needs as many",
        column.escape_debug()
    )]
    Ragged { column: String, row: u64, found: usize, expected: usize },
    #[error("cancelled")]
    Cancelled,
}

impl TableError {
    fn io(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn damaged(what: &str) -> TableError {
    TableError::Damaged(what.to_owned())
}

/// What a file's footer says.
pub struct Table {
    file: Arc<dyn ReadAt>,
    schema: SchemaDescPtr,
    layout: Layout,
    label: Option<Leaf>,
    dim: usize,
    /// Repetition levels of the first row, where features are lists.
    shape: Arc<[u8]>,
    groups: Vec<Group>,
    fingerprint: u64,
}

struct Group {
    /// Rows before it.
    first: u64,
    rows: usize,
    /// One a feature column, in their order, and the label column's last.
    chunks: Vec<Chunk>,
}

impl Table {
    /// Reads the footer. `label` names the label column, which is no feature; None takes `label`
    /// where there is such a column.
    pub fn open(file: Arc<dyn ReadAt>, label: Option<&str>) -> Result<Self, TableError> {
        let footer = read_footer(&*file)?;
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(file.size());
        hasher.write(&footer);
        let metadata = ParquetMetaDataReader::decode_metadata(&footer)
            .map_err(|error| damaged(&first_line(&error.to_string())))?;
        drop(footer);
        let schema = metadata.file_metadata().schema_descr_ptr();
        let (layout, label) = schema::columns(&schema, label)?;
        let leaves: Vec<&Leaf> = match &layout {
            Layout::Columns(leaves) => leaves.iter().chain(&label).collect(),
            Layout::Lists(leaf) => [leaf].into_iter().chain(&label).collect(),
        };
        let mut groups = Vec::with_capacity(metadata.num_row_groups());
        let mut first = 0u64;
        for group in metadata.row_groups() {
            let rows = usize::try_from(group.num_rows()).map_err(|_| damaged("negative rows"))?;
            let chunks: Result<_, _> = leaves
                .iter()
                .map(|leaf| {
                    let column = group.columns().get(leaf.index);
                    chunk(column.ok_or_else(|| damaged("a column is missing"))?, file.size())
                })
                .collect();
            groups.push(Group { first, rows, chunks: chunks? });
            first = first.checked_add(rows as u64).ok_or_else(|| damaged("too many rows"))?;
        }
        let dim = match &layout {
            Layout::Columns(leaves) => leaves.len(),
            Layout::Lists(_) => 0,
        };
        let shape = Arc::default();
        let mut table =
            Self { file, schema, layout, label, dim, shape, groups, fingerprint: hasher.finish() };
        if dim == 0 {
            table.shape = table.first_row()?;
            table.dim = table.shape.len();
        }
        Ok(table)
    }

    /// Features of a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    pub fn rows(&self) -> u64 {
        self.groups.last().map_or(0, |group| group.first + group.rows as u64)
    }

    /// Rows of each row group.
    pub fn group_rows(&self) -> impl Iterator<Item = usize> {
        self.groups.iter().map(|group| group.rows)
    }

    /// Whether every feature is a float32 or fits in one without rounding.
    pub fn single(&self) -> bool {
        match &self.layout {
            Layout::Columns(leaves) => leaves.iter().all(|leaf| leaf.single),
            Layout::Lists(leaf) => leaf.single,
        }
    }

    /// Name of the label column.
    pub fn label(&self) -> Option<&str> {
        self.label.as_ref().map(|leaf| leaf.name.as_str())
    }

    /// Names of the feature columns.
    pub fn features(&self) -> Vec<&str> {
        match &self.layout {
            Layout::Columns(leaves) => leaves.iter().map(|leaf| leaf.name.as_str()).collect(),
            Layout::Lists(leaf) => vec![&leaf.name],
        }
    }

    /// Changes when the file's size or footer do.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Repetition levels of the first row.
    fn first_row(&self) -> Result<Arc<[u8]>, TableError> {
        let (Layout::Lists(leaf), Some(group)) =
            (&self.layout, self.groups.iter().find(|group| group.rows > 0))
        else {
            return Err(TableError::NoRows);
        };
        let pages = Pages::new(&self.file, &Arc::default(), group.chunks[0]);
        let mut lists = Lists::new(pages, &self.schema.column(leaf.index), group.first);
        let mut values: Vec<f64> = Vec::new();
        lists.read(leaf, 0, 1, &mut values)?;
        let level = |&level| u8::try_from(level).map_err(|_| damaged("lists in lists without end"));
        lists.shape().iter().map(level).collect()
    }

    /// The lists of a row group from row `skip` on.
    fn lists<T: Value>(
        &self,
        leaf: &Leaf,
        group: usize,
        skip: usize,
        pool: &Arc<Pool>,
    ) -> Result<ListPages<T>, TableError> {
        let group = &self.groups[group];
        let descriptor = self.schema.column(leaf.index);
        let (shape, rows) = (self.shape.clone(), (group.first, skip));
        ListPages::new(&self.file, pool, group.chunks[0], descriptor, shape, rows, leaf)
    }
}

fn read_footer(file: &dyn ReadAt) -> Result<Vec<u8>, TableError> {
    const TAIL: u64 = 8;
    let size = file.size();
    if size < TAIL + 4 {
        return Err(damaged("it is too short"));
    }
    let mut tail = [0; TAIL as usize];
    file.read_at(size - TAIL, &mut tail).map_err(TableError::io)?;
    let tail = FooterTail::try_new(&tail).map_err(|_| damaged("no footer at its end"))?;
    if tail.is_encrypted_footer() {
        return Err(TableError::Encrypted);
    }
    let length = tail.metadata_length() as u64;
    if length > (size - TAIL - 4).min(LARGEST_FOOTER) {
        return Err(damaged("the footer is longer than the file"));
    }
    let mut footer = vec![0; length as usize];
    file.read_at(size - TAIL - length, &mut footer).map_err(TableError::io)?;
    Ok(footer)
}

fn chunk(
    column: &parquet::file::metadata::ColumnChunkMetaData,
    size: u64,
) -> Result<Chunk, TableError> {
    if column.file_path().is_some() {
        return Err(damaged("its values are in another file"));
    }
    let data = column.data_page_offset();
    // Some writers leave the dictionary's offset at 0.
    let start =
        column.dictionary_page_offset().filter(|&at| at > 0).map_or(data, |at| at.min(data));
    let range = u64::try_from(start).ok().zip(u64::try_from(column.compressed_size()).ok());
    let (start, end) = range
        .and_then(|(start, length)| Some((start, start.checked_add(length)?)))
        .filter(|&(_, end)| end <= size)
        .ok_or_else(|| damaged("a column chunk lies outside the file"))?;
    let values = u64::try_from(column.num_values()).map_err(|_| damaged("negative values"))?;
    Ok(Chunk { start, end, values, codec: Codec::new(column.compression())? })
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(200).collect()
}
