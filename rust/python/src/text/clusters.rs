//! Clusters of documents.

use std::fs::File;
use std::path::PathBuf;

use aisec_detect::text::Clusters;
use numpy::{IntoPyArray, PyArray1, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::documents::{RECORD, temporary, to_python};
use crate::array::array;
use crate::call;

/// Clusters of documents that share a key of some band.
#[pyclass(name = "Clusters", module = "aisec_eval._core")]
pub(crate) struct PyClusters(Option<Clusters<File>>);

impl PyClusters {
    fn get(&mut self) -> PyResult<&mut Clusters<File>> {
        self.0.as_mut().ok_or_else(|| PyValueError::new_err("the clusters are finished"))
    }
}

#[pymethods]
impl PyClusters {
    /// Starts with no documents.
    ///
    /// Args:
    ///     folder: where keys that do not fit in memory go.
    ///     memory: bytes for keys.
    ///
    /// Raises:
    ///     OSError: no file can be made in `folder`.
    #[new]
    fn new(folder: PathBuf, memory: usize) -> PyResult<Self> {
        // A full buffer and the bytes it is written from.
        let file = temporary(&folder, "keys")?;
        Ok(Self(Some(Clusters::new(file, memory / (2 * RECORD)))))
    }

    /// Bytes written to disk.
    #[getter]
    fn spilled(&mut self) -> PyResult<u64> {
        Ok(self.get()?.spilled())
    }

    /// Adds documents number `first` on, in any order; those without units share no keys.
    ///
    /// Args:
    ///     first: number of the first.
    ///     keys: uint64 `[n, bands]`.
    ///     units: uint32 `[n]`.
    ///
    /// Raises:
    ///     ValueError: more than 2^32 - 1 documents, or a shape or dtype is wrong.
    ///     OSError: the disk is full.
    fn add(
        &mut self,
        py: Python<'_>,
        first: u64,
        keys: &Bound<'_, PyAny>,
        units: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let keys = array::<u64>("keys", keys, &[None, None])?;
        let units = array::<u32>("units", units, &[Some(keys.shape()[0])])?;
        let (keys, units) = (keys.as_slice()?, units.as_slice()?);
        let clusters = self.get()?;
        call::interruptible(py, |cancel| clusters.add(first, keys, units, cancel))?
            .map_err(to_python)
    }

    /// The least document of each document's cluster, uint32 `[n]`.
    ///
    /// Raises:
    ///     OSError: the temporary file cannot be read.
    fn finish<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<u32>>> {
        self.get()?;
        let Some(clusters) = self.0.take() else {
            return Err(PyValueError::new_err("the clusters are finished"));
        };
        let found =
            call::interruptible(py, |cancel| clusters.finish(cancel))?.map_err(to_python)?;
        Ok(found.into_pyarray(py))
    }
}
