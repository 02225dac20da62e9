//! Binding of `aisec-detect`.

use aisec_detect::{ClassSpectrum, Error, Feature, Spectral, Statistics};
use numpy::{Element, IntoPyArray, PyArray1, PyArrayDyn};
use numpy::{PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods, dtype};
use pyo3::exceptions::{PyKeyError, PyKeyboardInterrupt, PyMemoryError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::array::{array, into_samples};
use crate::call;

mod confident;
mod gram_powers;
mod krylov;
mod neighbours;
mod subspace;
mod table;

/// Counts, means and scatter matrices per class, of a range of rows.
#[pyclass(name = "Statistics", module = "aisec_eval._core")]
pub(crate) struct PyStatistics(Statistics);

#[pymethods]
impl PyStatistics {
    /// Rows in a part: shards begin at multiples of it.
    #[classattr]
    const PART_ROWS: u64 = Statistics::PART_ROWS;

    /// Starts with no rows.
    ///
    /// Args:
    ///     dim: number of features.
    ///     memory_limit: bytes that may go into statistics.
    ///     first: number of the first row, a multiple of `part_rows`.
    ///     part_rows: rows in a part.
    ///     single: multiply most rows of large classes in float32, about the mean of a tile: for
    ///         leading directions, not where a matrix is inverted.
    #[new]
    #[pyo3(signature = (
        dim, memory_limit, *, first=0, part_rows=Statistics::PART_ROWS, single=false
    ))]
    fn new(
        dim: usize,
        memory_limit: usize,
        first: u64,
        part_rows: u64,
        single: bool,
    ) -> PyResult<Self> {
        let empty = Statistics::new(dim, memory_limit, first, part_rows).map_err(to_python)?;
        Ok(Self(if single { empty.in_single() } else { empty }))
    }

    /// Reads what `to_bytes` wrote.
    ///
    /// Raises:
    ///     ValueError: the bytes are damaged.
    ///     MemoryError: the statistics do not fit in `memory_limit`.
    #[staticmethod]
    fn from_bytes(py: Python<'_>, data: &[u8], memory_limit: usize) -> PyResult<Self> {
        let read = call::detached(py, || Statistics::from_bytes(data, memory_limit));
        Ok(Self(read.map_err(to_python)?))
    }

    /// Writes the statistics; no rows can follow a last part that is short.
    #[allow(clippy::wrong_self_convention, reason = "closes the last part first")]
    fn to_bytes<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = call::detached(py, || self.0.to_bytes()).map_err(to_python)?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// Rows seen so far.
    #[getter]
    fn rows(&self) -> u64 {
        self.0.rows()
    }

    /// Number of the first row.
    #[getter]
    fn first(&self) -> u64 {
        self.0.first()
    }

    /// Number of features.
    #[getter]
    fn dim(&self) -> usize {
        self.0.dim()
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

    /// Adds the statistics of the rows that follow; `other` is empty afterwards.
    ///
    /// Raises:
    ///     ValueError: `other` starts at another row than the next, or has other features.
    fn merge(&mut self, py: Python<'_>, other: &Bound<'_, Self>) -> PyResult<()> {
        let mut other = other
            .try_borrow_mut()
            .map_err(|_| PyValueError::new_err("statistics cannot be merged with themselves"))?;
        let (dim, limit, part) = (other.0.dim(), usize::MAX, other.0.part_rows());
        let empty = Statistics::new(dim, limit, 0, part).map_err(to_python)?;
        let other = std::mem::replace(&mut other.0, empty);
        call::detached(py, || self.0.merge(other)).map_err(to_python)
    }

    /// Labels int64 `[c]`, counts int64 `[c]` and means float64 `[c, dim]`, ascending by label.
    ///
    /// Raises:
    ///     ValueError: no rows, or the first of them are missing.
    fn classes<'py>(&mut self, py: Python<'py>) -> PyResult<Classes<'py>> {
        let dim = self.0.dim();
        let (mut labels, mut counts, mut means) = (Vec::new(), Vec::new(), Vec::new());
        for (label, count, mean) in self.0.classes().map_err(to_python)? {
            labels.push(label);
            counts.push(count as i64);
            means.extend(mean);
        }
        let means = into_samples(py, means, labels.len(), &[dim])?;
        Ok((labels.into_pyarray(py), counts.into_pyarray(py), means))
    }

    /// Covariance of a class, float64 `[dim, dim]`, divided by its count.
    ///
    /// Raises:
    ///     KeyError: no such class.
    fn covariance<'py>(
        &mut self,
        py: Python<'py>,
        label: i64,
    ) -> PyResult<Bound<'py, PyArrayDyn<f64>>> {
        let found = call::detached(py, || self.0.covariance(label)).map_err(to_python)?;
        let found = found.ok_or_else(|| PyKeyError::new_err(label))?;
        into_samples(py, found.matrix, self.0.dim(), &[self.0.dim()])
    }
}

type Classes<'py> =
    (Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<i64>>, Bound<'py, PyArrayDyn<f64>>);

impl PyStatistics {
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
    fn new(py: Python<'_>, statistics: &mut PyStatistics) -> PyResult<Self> {
        let dim = statistics.0.dim();
        let fit = |cancel: &_| Spectral::fit(&mut statistics.0, cancel);
        let spectral = call::interruptible(py, fit)?.map_err(to_python)?;
        Ok(Self { spectral, dim })
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
    subspace::register(module)?;
    confident::register(module)?;
    module.add_function(wrap_pyfunction!(gram_powers::gram_deviations, module)?)?;
    module.add_class::<PyStatistics>()?;
    module.add_class::<PySpectral>()?;
    module.add_class::<neighbours::PyNeighbours>()?;
    module.add_class::<neighbours::PyNeighbourGraph>()?;
    module.add_class::<neighbours::PyNeighbourVotes>()?;
    module.add_class::<krylov::PyKrylov>()?;
    module.add_class::<table::PyTable>()?;
    module.add_class::<table::PyTableRows>()
}
