//! Duplicate substrings.

use std::fs::File;
use std::path::PathBuf;

use aisec_detect::text::{Documents, duplicate_substrings};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods};
use pyo3::exceptions::{PyMemoryError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::documents::{RECORD, read, temporary, to_python};
use crate::call;

/// Substrings that occur more than once.
#[pyclass(name = "Substrings", module = "aisec_eval._core")]
pub(crate) struct PySubstrings {
    documents: Documents,
    length: usize,
    within: bool,
    folder: PathBuf,
    memory: usize,
}

/// Document, start, end, whether it is a copy, and document and start of the first occurrence.
type Spans<'py> = (Bound<'py, PyArray2<u32>>, Bound<'py, PyArray1<bool>>);

#[pymethods]
impl PySubstrings {
    /// Starts with no documents.
    ///
    /// Args:
    ///     length: least bytes, at least 2.
    ///     within: count what repeats in one document only.
    ///     folder: where positions that do not fit in memory go.
    ///     memory: bytes for the documents and their positions.
    ///
    /// Raises:
    ///     ValueError: `length` is below 2.
    #[new]
    fn new(length: usize, within: bool, folder: PathBuf, memory: usize) -> PyResult<Self> {
        if length < 2 {
            return Err(PyValueError::new_err(format!("length={length} must be at least 2")));
        }
        Ok(Self { documents: Documents::new(0), length, within, folder, memory })
    }

    /// Adds documents, str or bytes; they stay in memory.
    ///
    /// Raises:
    ///     MemoryError: they do not fit.
    ///     ValueError: a document is no valid text.
    fn add(&mut self, documents: &Bound<'_, PyList>) -> PyResult<()> {
        read(documents, &mut self.documents)?;
        let needed = self.needed();
        if needed > self.memory / 4 * 3 {
            return Err(PyMemoryError::new_err(format!(
                "the documents take {} MiB of memory, memory_limit is {} MiB and a quarter of it \
                 goes to positions; raise it, or give fewer documents",
                needed.div_ceil(1 << 20),
                self.memory >> 20
            )));
        }
        Ok(())
    }

    /// Rows of (document, start, end, document and start of the first occurrence) uint32 `[m, 5]`,
    /// and whether each is a copy of something earlier, bool `[m]`.
    ///
    /// Raises:
    ///     OSError: the disk is full.
    ///     ValueError: 4 GiB of documents or more.
    fn finish<'py>(&mut self, py: Python<'py>) -> PyResult<Spans<'py>> {
        let names = ["anchors", "windows", "pairs"];
        let files: Vec<File> =
            names.iter().map(|name| temporary(&self.folder, name)).collect::<PyResult<_>>()?;
        let Ok(files) = <[File; 3]>::try_from(files) else { unreachable!("three names") };
        // Two sorters at once, each with a buffer and the bytes it is written from.
        let capacity = self.memory.saturating_sub(self.needed()) / (4 * RECORD);
        let (documents, length, within) = (&self.documents, self.length, self.within);
        let spans = call::interruptible(py, |cancel| {
            duplicate_substrings(documents, length, within, files, capacity, cancel)
        })?
        .map_err(to_python)?;
        let copies: Vec<bool> = spans.iter().map(|span| span.copy).collect();
        let rows: Vec<u32> = spans
            .iter()
            .flat_map(|s| [s.document, s.start, s.end, s.source.0, s.source.1])
            .collect();
        Ok((rows.into_pyarray(py).reshape([copies.len(), 5])?, copies.into_pyarray(py)))
    }
}

impl PySubstrings {
    /// Bytes of documents, with what vectors reserve beyond, and a bit a byte.
    fn needed(&self) -> usize {
        let bytes = self.documents.bytes().len();
        2 * bytes + bytes / 8 + 16 * self.documents.len()
    }
}
