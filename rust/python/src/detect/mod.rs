//! Binding of `aisec-detect`.

use aisec_detect::{ClassSpectrum, Error, Feature, Moments, Spectral};
use numpy::{Element, IntoPyArray, PyArray1, PyArrayDyn};
use numpy::{PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods, dtype};
use pyo3::exceptions::{PyKeyboardInterrupt, PyMemoryError, PyValueError};
use pyo3::prelude::*;

use crate::array::{array, into_samples};
use crate::call;

mod table;

/// Counts, sums and Gram matrices per class, from one pass over batches of rows.
#[pyclass(name = "Moments", module = "aisec_eval._core")]
pub(crate) struct PyMoments(Moments);

#[pymethods]
impl PyMoments {
    /// Starts with no rows.
    ///
    /// Args:
    ///     dim: number of features.
    ///     memory_limit: bytes that may go into statistics.
    #[new]
    fn new(dim: usize, memory_limit: usize) -> PyResult<Self> {
        Ok(Self(Moments::new(dim, memory_limit).map_err(to_python)?))
    }

    /// Rows seen so far.
    #[getter]
    fn rows(&self) -> u64 {
        self.0.rows()
    }

    /// Adds rows; how they are cut into batches does not change a bit of the result.
    ///
    /// Args:
    ///     x: float32 or float64 `[n, dim]`, C-contiguous.
    ///     labels: int64 `[n]`.
    ///
    /// Raises:
    ///     ValueError: a feature is not finite (the row is named), or a shape or dtype is wrong;
    ///         nothing more is taken afterwards.
    ///     MemoryError: more classes than fit in `memory_limit`.
    fn update(
        &mut self,
        py: Python<'_>,
        x: &Bound<'_, PyAny>,
        labels: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        if is_float64(x) { self.add::<f64>(py, x, labels) } else { self.add::<f32>(py, x, labels) }
    }
}

impl PyMoments {
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

/// The leading direction of every class, ascending by label: spectral signatures.
#[pyclass(name = "Spectral", module = "aisec_eval._core", frozen)]
pub(crate) struct PySpectral {
    spectral: Spectral,
    dim: usize,
}

#[pymethods]
impl PySpectral {
    /// Finds the directions from the statistics of a whole pass.
    ///
    /// Raises:
    ///     ValueError: no rows, an earlier batch was refused, or squares overflowed.
    #[new]
    fn new(py: Python<'_>, moments: &PyMoments) -> PyResult<Self> {
        let fit = |cancel: &_| Spectral::fit(&moments.0, cancel);
        let spectral = call::interruptible(py, fit)?.map_err(to_python)?;
        Ok(Self { spectral, dim: moments.0.dim() })
    }

    /// Labels of the classes, int64 `[c]`.
    #[getter]
    fn labels<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        self.each(py, |class| class.label)
    }

    /// Rows of each class, int64 `[c]`.
    #[getter]
    fn counts<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        self.each(py, |class| class.count as i64)
    }

    /// Largest eigenvalue of each covariance (divided by the count), float64 `[c]`.
    #[getter]
    fn eigenvalues<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        self.each(py, |class| class.eigenvalue)
    }

    /// Means, float64 `[c, dim]`.
    #[getter]
    fn means<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArrayDyn<f64>>> {
        self.rows(py, |class| &class.mean)
    }

    /// Unit eigenvectors, entry of largest magnitude positive, float64 `[c, dim]`.
    #[getter]
    fn directions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArrayDyn<f64>>> {
        self.rows(py, |class| &class.direction)
    }

    /// Squared projections of rows, minus their class's mean, on its direction.
    ///
    /// Args:
    ///     x: float32 or float64 `[n, dim]`, C-contiguous.
    ///     labels: int64 `[n]`, classes of the first pass.
    ///     first: how many rows came before, for messages.
    ///
    /// Returns:
    ///     float64 `[n]`; each row bit for bit the same in any batch.
    ///
    /// Raises:
    ///     ValueError: a feature is not finite, a label is new, or a shape or dtype is wrong.
    #[pyo3(signature = (x, labels, first=0))]
    fn score<'py>(
        &self,
        py: Python<'py>,
        x: &Bound<'py, PyAny>,
        labels: &Bound<'py, PyAny>,
        first: u64,
    ) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let scores = if is_float64(x) {
            self.run::<f64>(py, x, labels, first)
        } else {
            self.run::<f32>(py, x, labels, first)
        };
        Ok(scores?.into_pyarray(py))
    }
}

impl PySpectral {
    fn run<T: Feature + Element>(
        &self,
        py: Python<'_>,
        x: &Bound<'_, PyAny>,
        labels: &Bound<'_, PyAny>,
        first: u64,
    ) -> PyResult<Vec<f64>> {
        let x = array::<T>("x", x, &[None, Some(self.dim)])?;
        let labels = array::<i64>("labels", labels, &[Some(x.shape()[0])])?;
        let (x, labels) = (x.as_slice()?, labels.as_slice()?);
        call::interruptible(py, |cancel| self.spectral.score(x, labels, first, cancel))?
            .map_err(to_python)
    }

    fn each<'py, T: Element>(
        &self,
        py: Python<'py>,
        value: impl Fn(&ClassSpectrum) -> T,
    ) -> Bound<'py, PyArray1<T>> {
        self.spectral.classes().iter().map(value).collect::<Vec<_>>().into_pyarray(py)
    }

    fn rows<'py>(
        &self,
        py: Python<'py>,
        row: impl Fn(&ClassSpectrum) -> &[f64],
    ) -> PyResult<Bound<'py, PyArrayDyn<f64>>> {
        let classes = self.spectral.classes();
        let values = classes.iter().flat_map(row).copied().collect();
        into_samples(py, values, classes.len(), &[self.dim])
    }
}

fn is_float64(value: &Bound<'_, PyAny>) -> bool {
    value
        .cast::<PyUntypedArray>()
        .is_ok_and(|array| array.dtype().is_equiv_to(&dtype::<f64>(value.py())))
}

fn to_python(error: Error) -> PyErr {
    match error {
        Error::Cancelled => PyKeyboardInterrupt::new_err(()),
        Error::Memory { .. } => PyMemoryError::new_err(error.to_string()),
        _ => PyValueError::new_err(error.to_string()),
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyMoments>()?;
    module.add_class::<PySpectral>()?;
    module.add_class::<table::PyTable>()?;
    module.add_class::<table::PyTableRows>()
}
