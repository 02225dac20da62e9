//! Binding of `aisec_detect::Krylov`.

use aisec_detect::{Feature, Krylov};
use numpy::{Element, IntoPyArray, PyArray1, PyUntypedArrayMethods};
use pyo3::prelude::*;

use super::{PySpectral, is_float64, to_python};
use crate::array::array;
use crate::call;

/// The search for the leading direction of every class without covariance matrices.
#[pyclass(name = "Krylov", module = "aisec_eval._core")]
pub(crate) struct PyKrylov(Krylov);

#[pymethods]
impl PyKrylov {
    /// Starts with no rows.
    ///
    /// Args:
    ///     dim: number of features.
    ///     memory_limit: bytes that may be used beside the batches.
    #[new]
    fn new(dim: usize, memory_limit: usize) -> PyResult<Self> {
        Ok(Self(Krylov::new(dim, memory_limit).map_err(to_python)?))
    }

    /// Takes the next rows of a pass; how they are cut into batches does not change a bit.
    ///
    /// Args:
    ///     x: float32 or float64 `[n, dim]`, C-contiguous.
    ///     labels: int64 `[n]`.
    ///
    /// Raises:
    ///     ValueError: a feature is not finite, a label is new after the first pass, or a shape
    ///         or dtype is wrong; nothing more is taken afterwards.
    ///     MemoryError: more classes than fit in `memory_limit`.
    fn update(
        &mut self,
        py: Python<'_>,
        x: &Bound<'_, PyAny>,
        labels: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        if is_float64(x) { self.add::<f64>(py, x, labels) } else { self.add::<f32>(py, x, labels) }
    }

    /// Ends a pass over all rows; the first one gathers means, each other a block.
    ///
    /// Returns:
    ///     How many classes another pass would improve.
    ///
    /// Raises:
    ///     ValueError: no rows, other rows than in the pass before, or squares overflowed.
    ///     MemoryError: the block of another pass does not fit.
    fn finish_pass(&mut self, py: Python<'_>) -> PyResult<usize> {
        call::interruptible(py, |cancel| self.0.finish_pass(cancel))?.map_err(to_python)
    }

    /// Number of features.
    #[getter]
    fn dim(&self) -> usize {
        self.0.dim()
    }

    /// Whether the block of another pass fits.
    #[getter]
    fn fits(&self) -> bool {
        self.0.fits()
    }

    /// The directions found, and the relative residual of each eigenvalue, float64 `[c]`.
    ///
    /// Raises:
    ///     ValueError: fewer than two passes were finished.
    fn spectral<'py>(&self, py: Python<'py>) -> PyResult<(PySpectral, Bound<'py, PyArray1<f64>>)> {
        let (spectral, errors) = self.0.spectral().map_err(to_python)?;
        Ok((PySpectral { spectral, dim: self.0.dim() }, errors.into_pyarray(py)))
    }
}

impl PyKrylov {
    fn add<T: Feature + Element>(
        &mut self,
        py: Python<'_>,
        x: &Bound<'_, PyAny>,
        labels: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let x = array::<T>("x", x, &[None, Some(self.0.dim())])?;
        let labels = array::<i64>("labels", labels, &[Some(x.shape()[0])])?;
        let (x, labels) = (x.as_slice()?, labels.as_slice()?);
        call::interruptible(py, |cancel| self.0.update(x, labels, cancel))?.map_err(to_python)
    }
}
