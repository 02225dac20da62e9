//! Binding of the neighbour search.

use aisec_detect::{Metric, Neighbours};
use numpy::{IntoPyArray, PyArray2, PyArrayMethods, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::to_python;
use crate::call;

/// Indices and distances.
type Found<'py> = (Bound<'py, PyArray2<u32>>, Bound<'py, PyArray2<f32>>);

/// The exact nearest neighbours of every sample among the others, found in parts.
#[pyclass(name = "Neighbours", module = "aisec_eval._core")]
pub(crate) struct PyNeighbours {
    search: Neighbours,
    k: usize,
}

#[pymethods]
impl PyNeighbours {
    /// Prepares the search; the features are copied twice.
    ///
    /// Args:
    ///     x: features, float32 `[n, d]`.
    ///     k: neighbours of each sample, below `n`.
    ///     metric: "cosine" or "euclidean".
    ///
    /// Raises:
    ///     ValueError: a feature is not finite, or an argument does not fit.
    #[new]
    fn new(py: Python<'_>, x: PyReadonlyArray2<'_, f32>, k: usize, metric: &str) -> PyResult<Self> {
        let metric = match metric {
            "cosine" => Metric::Cosine,
            "euclidean" => Metric::Euclidean,
            other => {
                return Err(PyValueError::new_err(format!(
                    "metric {other:?} is not one of \"cosine\", \"euclidean\""
                )));
            }
        };
        let (samples, dim) = (x.shape()[0], x.shape()[1]);
        if k == 0 || k >= samples || u32::try_from(samples).is_err() {
            return Err(PyValueError::new_err(format!(
                "k={k} must be at least 1 and below the number of samples, {samples}, which must \
                 be below 2^32"
            )));
        }
        let x = x.as_slice()?;
        let search = call::detached(py, || Neighbours::new(x, dim, k, metric));
        Ok(Self { search: search.map_err(to_python)?, k })
    }

    /// Pairs of blocks of samples that were compared, and that there are.
    #[getter]
    fn progress(&self) -> (usize, usize) {
        self.search.progress()
    }

    /// Compares up to `pairs` further pairs of blocks.
    fn advance(&mut self, py: Python<'_>, pairs: usize) -> PyResult<()> {
        call::interruptible(py, |cancel| self.search.advance(pairs, cancel))?.map_err(to_python)
    }

    /// Indices, uint32 `[n, k]`, and distances, float32 `[n, k]`, nearest first.
    ///
    /// Raises:
    ///     ValueError: pairs are left.
    fn finish<'py>(&self, py: Python<'py>) -> PyResult<Found<'py>> {
        let (done, total) = self.search.progress();
        if done < total {
            return Err(PyValueError::new_err(format!("{} pairs are left", total - done)));
        }
        let (ids, distances) = call::detached(py, || self.search.finish());
        let shape = [ids.len() / self.k, self.k];
        Ok((ids.into_pyarray(py).reshape(shape)?, distances.into_pyarray(py).reshape(shape)?))
    }
}
