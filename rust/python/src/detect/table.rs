//! Binding of `aisec_detect::parquet`: the bytes come from here.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use aisec_detect::parquet::{ReadAt, Rows, Table, TableError, Value};
use numpy::{Element, PyReadwriteArray1, PyReadwriteArray2, PyUntypedArrayMethods};
use pyo3::exceptions::{PyKeyboardInterrupt, PyOSError, PyValueError};
use pyo3::prelude::*;

use crate::call;

/// Bytes that a store is asked for at a time.
const REMOTE_READ: usize = 8 << 20;

/// What the footer of a Parquet file says: which columns hold features and labels.
#[pyclass(name = "Table", module = "aisec_eval._core", frozen)]
pub(crate) struct PyTable(Arc<Table>);

#[pymethods]
impl PyTable {
    /// Reads the footer.
    ///
    /// Args:
    ///     source: a local path, or a callable `(offset, length) -> bytes` with
    ///     size: the number of bytes it gives access to.
    ///     label: name of the label column; None takes `label` where there is one.
    ///
    /// Raises:
    ///     ValueError: `label` is no column of integers.
    ///     OSError: the file cannot be read, or not as rows of numbers.
    #[new]
    #[pyo3(signature = (source, size=None, label=None))]
    fn new(
        py: Python<'_>,
        source: &Bound<'_, PyAny>,
        size: Option<u64>,
        label: Option<&str>,
    ) -> PyResult<Self> {
        let file: Arc<dyn ReadAt> = match size {
            Some(size) => Arc::new(Callable { read: source.clone().unbind(), size }),
            None => {
                let path: std::path::PathBuf = source.extract()?;
                Arc::new(LocalFile::open(&path).map_err(|e| to_python(TableError::Io(e)))?)
            }
        };
        let table = call::interruptible(py, |_| Table::open(file, label))?.map_err(to_python)?;
        Ok(Self(Arc::new(table)))
    }

    #[getter]
    fn rows(&self) -> u64 {
        self.0.rows()
    }

    /// Rows of each row group.
    #[getter]
    fn group_rows(&self) -> Vec<usize> {
        self.0.group_rows().collect()
    }

    /// Features of a row.
    #[getter]
    fn dim(&self) -> usize {
        self.0.dim()
    }

    /// Whether rows are read as float32 without rounding; else they are float64.
    #[getter]
    fn single(&self) -> bool {
        self.0.single()
    }

    /// Name of the label column.
    #[getter]
    fn label(&self) -> Option<&str> {
        self.0.label()
    }

    /// Names of the feature columns.
    #[getter]
    fn features(&self) -> Vec<&str> {
        self.0.features()
    }

    /// Changes when the file's size or footer do.
    #[getter]
    fn fingerprint(&self) -> u64 {
        self.0.fingerprint()
    }

    /// Starts to read at row `first`.
    ///
    /// Args:
    ///     first: rows to pass over.
    ///     memory_limit: bytes for decoded columns, beside the arrays given to `read`.
    #[pyo3(signature = (first=0, *, memory_limit))]
    fn scan(&self, first: u64, memory_limit: usize) -> PyTableRows {
        let table = self.0.clone();
        PyTableRows(Mutex::new(if table.single() {
            Precision::Single(Rows::new(table, first, memory_limit))
        } else {
            Precision::Double(Rows::new(table, first, memory_limit))
        }))
    }
}

/// Rows of a table, in order.
#[pyclass(name = "TableRows", module = "aisec_eval._core")]
pub(crate) struct PyTableRows(Mutex<Precision>);

enum Precision {
    Single(Rows<f32>),
    Double(Rows<f64>),
}

#[pymethods]
impl PyTableRows {
    /// Fills arrays with the next rows.
    ///
    /// Args:
    ///     x: float32 `[n, dim]` for a table whose `single` is true, else float64.
    ///     labels: int64 `[n]`; 0 where the table has no labels.
    ///
    /// Returns:
    ///     The number of rows, less than `n` only at the end.
    ///
    /// Raises:
    ///     OSError: the file cannot be read further; a null is named with its column and row.
    fn read(
        &mut self,
        py: Python<'_>,
        x: &Bound<'_, PyAny>,
        labels: PyReadwriteArray1<'_, i64>,
    ) -> PyResult<usize> {
        match self.0.get_mut().unwrap_or_else(PoisonError::into_inner) {
            Precision::Single(rows) => fill(py, rows, x, labels),
            Precision::Double(rows) => fill(py, rows, x, labels),
        }
    }
}

fn fill<T: Value + Element>(
    py: Python<'_>,
    rows: &mut Rows<T>,
    x: &Bound<'_, PyAny>,
    mut labels: PyReadwriteArray1<'_, i64>,
) -> PyResult<usize> {
    let mut x: PyReadwriteArray2<'_, T> = x.extract()?;
    let shape = [labels.len(), rows.dim()];
    if x.shape() != shape {
        return Err(PyValueError::new_err(format!(
            "x: expected shape {shape:?}, got {:?}",
            x.shape()
        )));
    }
    let (x, labels) = (x.as_slice_mut()?, labels.as_slice_mut()?);
    call::interruptible(py, |cancel| rows.read(x, labels, cancel))?.map_err(to_python)
}

struct LocalFile {
    #[cfg(unix)]
    file: File,
    #[cfg(not(unix))]
    file: std::sync::Mutex<File>,
    size: u64,
}

impl LocalFile {
    fn open(path: &std::path::Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        #[cfg(not(unix))]
        let file = std::sync::Mutex::new(file);
        Ok(Self { file, size })
    }
}

impl ReadAt for LocalFile {
    fn size(&self) -> u64 {
        self.size
    }

    #[cfg(unix)]
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, buffer, offset)
    }

    #[cfg(not(unix))]
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(buffer)
    }
}

/// Ranges of an object that Python reads.
struct Callable {
    read: Py<PyAny>,
    size: u64,
}

impl ReadAt for Callable {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        Python::attach(|py| {
            let one_line = |error: PyErr| {
                let text = error.value(py).to_string();
                io::Error::other(text.split_whitespace().collect::<Vec<_>>().join(" "))
            };
            let bytes = self.read.bind(py).call1((offset, buffer.len())).map_err(one_line)?;
            let bytes: &[u8] =
                bytes.extract().map_err(|error: pyo3::CastError<'_, '_>| one_line(error.into()))?;
            if bytes.len() != buffer.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            buffer.copy_from_slice(bytes);
            Ok(())
        })
    }

    fn preferred_read(&self) -> usize {
        REMOTE_READ
    }
}

fn to_python(error: TableError) -> PyErr {
    match error {
        TableError::Cancelled => PyKeyboardInterrupt::new_err(()),
        TableError::NoLabel { .. } | TableError::LabelType { .. } => {
            PyValueError::new_err(error.to_string())
        }
        TableError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            PyOSError::new_err("ends early; the file changed while it was read")
        }
        _ => PyOSError::new_err(error.to_string()),
    }
}
