//! Bindings of what subspace detectors compute over rows: projections, sketches, clusters,
//! components, robust covariance.

use aisec_detect::{Extreme, Feature, Projection, Sketch, Weighting};
use aisec_numeric::random::Stream;
use aisec_numeric::{Cancel, Cancelled};
use numpy::{
    Element, IntoPyArray, PyArray1, PyArrayDyn, PyReadonlyArrayDyn, PyUntypedArrayMethods,
};
use pyo3::exceptions::{PyKeyError, PyKeyboardInterrupt, PyValueError};
use pyo3::prelude::*;

use super::{is_float64, to_python};
use crate::array::{array, into_samples};
use crate::call;

type Vector<'py> = Bound<'py, PyArray1<f64>>;
type Matrix<'py> = Bound<'py, PyArrayDyn<f64>>;
type Flags<'py> = Bound<'py, PyArray1<bool>>;

/// A mean and a basis for each class: rows are projected by those of their class.
#[pyclass(name = "Projection", module = "aisec_eval._core", frozen)]
pub(crate) struct PyProjection(Projection);

#[pymethods]
impl PyProjection {
    /// Takes the classes.
    ///
    /// Args:
    ///     labels: int64 `[c]`, each once.
    ///     means: float64 `[c, dim]`.
    ///     bases: float64 `[c, dim, width]`.
    ///
    /// Raises:
    ///     ValueError: a shape or dtype is wrong.
    #[new]
    fn new(
        labels: &Bound<'_, PyAny>,
        means: &Bound<'_, PyAny>,
        bases: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let labels = array::<i64>("labels", labels, &[None])?;
        let means = array::<f64>("means", means, &[Some(labels.shape()[0]), None])?;
        let dim = means.shape()[1];
        let bases = array::<f64>("bases", bases, &[Some(labels.shape()[0]), Some(dim), None])?;
        let width = bases.shape()[2];
        let (labels, means, bases) = (labels.as_slice()?, means.as_slice()?, bases.as_slice()?);
        Ok(Self(Projection::new(dim, width, labels, means, bases).map_err(to_python)?))
    }

    /// Projects rows, minus their class's mean, on its basis.
    ///
    /// Args:
    ///     x: float32 or float64 `[n, dim]`, C-contiguous.
    ///     labels: int64 `[n]`.
    ///     first: how many rows came before, for messages.
    ///
    /// Returns:
    ///     float64 `[n, width]`; each row bit for bit the same in any batch.
    ///
    /// Raises:
    ///     ValueError: a feature is not finite, a label is unknown, or a shape or dtype is wrong.
    #[pyo3(signature = (x, labels, first=0))]
    fn apply<'py>(
        &self,
        py: Python<'py>,
        x: &Bound<'py, PyAny>,
        labels: &Bound<'py, PyAny>,
        first: u64,
    ) -> PyResult<Matrix<'py>> {
        if is_float64(x) {
            self.run::<f64>(py, x, labels, first)
        } else {
            self.run::<f32>(py, x, labels, first)
        }
    }
}

impl PyProjection {
    fn run<'py, T: Feature + Element>(
        &self,
        py: Python<'py>,
        x: &Bound<'py, PyAny>,
        labels: &Bound<'py, PyAny>,
        first: u64,
    ) -> PyResult<Matrix<'py>> {
        let x = array::<T>("x", x, &[None, Some(self.0.dim())])?;
        let rows = x.shape()[0];
        let labels = array::<i64>("labels", labels, &[Some(rows)])?;
        let (x, labels) = (x.as_slice()?, labels.as_slice()?);
        let projected = call::interruptible(py, |cancel| self.0.apply(x, labels, first, cancel))?;
        into_samples(py, projected.map_err(to_python)?, rows, &[self.0.width()])
    }
}

/// Scatter matrices of all classes in a few rows each: frequent directions.
#[pyclass(name = "Sketch", module = "aisec_eval._core")]
pub(crate) struct PySketch(Sketch);

/// Mean squared distance to the mean, eigenvalues, eigenvectors, error.
type Leading<'py> = (f64, Vector<'py>, Matrix<'py>, f64);

#[pymethods]
impl PySketch {
    /// Starts with no rows.
    ///
    /// Args:
    ///     dim: number of features.
    ///     directions: directions kept of each class.
    ///     memory_limit: bytes that may be used beside the batches.
    #[new]
    fn new(dim: usize, directions: usize, memory_limit: usize) -> PyResult<Self> {
        Ok(Self(Sketch::new(dim, directions, memory_limit).map_err(to_python)?))
    }

    /// Bytes of one class.
    #[staticmethod]
    fn class_bytes(dim: usize, directions: usize) -> usize {
        Sketch::class_bytes(dim, directions)
    }

    /// Takes the next rows; how they are cut into batches does not change a bit.
    ///
    /// Args:
    ///     x: float32 or float64 `[n, dim]`, C-contiguous.
    ///     labels: int64 `[n]`.
    ///
    /// Raises:
    ///     ValueError: a feature is not finite, or a shape or dtype is wrong; nothing more is
    ///         taken afterwards.
    ///     MemoryError: more classes than fit in `memory_limit`.
    fn update(
        &mut self,
        py: Python<'_>,
        x: &Bound<'_, PyAny>,
        labels: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        if is_float64(x) { self.add::<f64>(py, x, labels) } else { self.add::<f32>(py, x, labels) }
    }

    /// Labels int64 `[c]`, counts int64 `[c]` and means float64 `[c, dim]`, ascending by label.
    ///
    /// Raises:
    ///     ValueError: no rows, or an earlier batch was refused.
    fn classes<'py>(&self, py: Python<'py>) -> PyResult<super::Classes<'py>> {
        let (mut labels, mut counts, mut means) = (Vec::new(), Vec::new(), Vec::new());
        for (label, count, mean) in self.0.classes().map_err(to_python)? {
            labels.push(label);
            counts.push(count as i64);
            means.extend(mean);
        }
        let means = into_samples(py, means, labels.len(), &[self.0.dim()])?;
        Ok((labels.into_pyarray(py), counts.into_pyarray(py), means))
    }

    /// The leading directions of one class's covariance (divided by its count).
    ///
    /// Returns:
    ///     Trace of the covariance; `count` eigenvalues, descending; unit eigenvectors float64
    ///     `[count, dim]`, entry of largest magnitude positive (0 where the sketch has fewer); and
    ///     by how much the variance in any direction may be larger than the sketch says.
    ///
    /// Raises:
    ///     KeyError: no such class.
    fn leading<'py>(&self, py: Python<'py>, label: i64, count: usize) -> PyResult<Leading<'py>> {
        let found = py.detach(|| self.0.leading(label, count)).map_err(to_python)?;
        let found = found.ok_or_else(|| PyKeyError::new_err(label))?;
        let vectors = into_samples(py, found.vectors, count, &[self.0.dim()])?;
        Ok((found.variance, found.eigenvalues.into_pyarray(py), vectors, found.error))
    }
}

impl PySketch {
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

/// Rows [n, width] with at least one of each.
fn rows<'py>(z: &Bound<'py, PyAny>) -> PyResult<(PyReadonlyArrayDyn<'py, f64>, usize, usize)> {
    let z = array::<f64>("z", z, &[None, None])?;
    let (rows, width) = (z.shape()[0], z.shape()[1]);
    if rows == 0 || width == 0 || u32::try_from(rows).is_err() {
        return Err(PyValueError::new_err(format!(
            "z: shape [{rows}, {width}], expected at least one row, below 2^32 of them, and column"
        )));
    }
    Ok((z, rows, width))
}

/// Values below which work is done at once: starting threads would take longer.
const FEW: usize = 1 << 12;

/// Runs work over `values` numbers; Ctrl-C ends long work.
fn run<T: Send>(
    py: Python<'_>,
    values: usize,
    work: impl FnOnce(&Cancel) -> Result<T, Cancelled> + Send,
) -> PyResult<T> {
    let done = if values <= FEW {
        py.detach(|| work(&Cancel::new()))
    } else {
        call::interruptible(py, work)?
    };
    done.map_err(|_| PyKeyboardInterrupt::new_err(()))
}

/// Part, centres, inertia, total, silhouette.
type TwoParts<'py> = (Flags<'py>, Matrix<'py>, f64, f64, f64);

/// Cuts rows into two parts of least inertia: k-means++ and Lloyd, the best of `restarts`.
///
/// Args:
///     z: float64 `[n, width]`.
///     seed: of all random numbers.
///     key: which of them: rows of another class get others.
///     restarts: starts.
///
/// Returns:
///     bool `[n]`, the smaller part; centres of the larger and the smaller part, float64
///     `[2, width]`; squared distances to them, summed; the same to the mean; and the simplified
///     silhouette (distances to centres, linear in the rows).
#[pyfunction]
fn two_means<'py>(
    py: Python<'py>,
    z: &Bound<'py, PyAny>,
    seed: u64,
    key: i64,
    restarts: u32,
) -> PyResult<TwoParts<'py>> {
    let (z, _, width) = rows(z)?;
    let z = z.as_slice()?;
    let stream = Stream::new(seed, "two-means", 0);
    let key = key.cast_unsigned();
    let found = run(py, z.len(), |cancel| {
        aisec_detect::two_means(z, width, &stream, key, restarts, cancel)
    })?;
    let centres = into_samples(py, found.centres.concat(), 2, &[width])?;
    Ok((found.part.into_pyarray(py), centres, found.inertia, found.total, found.silhouette))
}

/// The share of the variance between the two parts of samples of a Gaussian, by `two_means`.
///
/// Args:
///     variances: of its independent coordinates, float64 `[width]`.
///     rows: samples in a draw.
///     draws: how often.
///     seed: of all random numbers.
///     key: which of them.
///     restarts: of each `two_means`.
///
/// Returns:
///     float64 `[draws]`.
#[pyfunction]
fn gaussian_shares<'py>(
    py: Python<'py>,
    variances: &Bound<'py, PyAny>,
    rows: usize,
    draws: u32,
    seed: u64,
    key: i64,
    restarts: u32,
) -> PyResult<Vector<'py>> {
    let variances = array::<f64>("variances", variances, &[None])?;
    let variances = variances.as_slice()?;
    if variances.is_empty() || rows == 0 || u32::try_from(rows).is_err() {
        return Err(PyValueError::new_err("variances and rows must not be empty"));
    }
    let key = key.cast_unsigned();
    let work = rows.saturating_mul(draws as usize).saturating_mul(variances.len());
    let shares = run(py, work, |cancel| {
        aisec_detect::gaussian_shares(variances, rows, draws, seed, key, restarts, cancel)
    })?;
    Ok(shares.into_pyarray(py))
}

/// Independent components of white rows: FastICA, symmetric, log cosh.
///
/// Args:
///     z: float64 `[n, width]`, of mean 0 and covariance 1.
///     tolerance: how little every component turns (1 - |cosine|) in the last iteration.
///     iterations: at most so many.
///     key: which random numbers to start from.
///
/// Returns:
///     Components float64 `[n, width]`, iterations, and whether they converged.
#[pyfunction]
fn fast_ica<'py>(
    py: Python<'py>,
    z: &Bound<'py, PyAny>,
    tolerance: f64,
    iterations: u32,
    key: i64,
) -> PyResult<(Matrix<'py>, u32, bool)> {
    let (z, rows, width) = rows(z)?;
    let z = z.as_slice()?;
    let key = key.cast_unsigned();
    let found = run(py, z.len(), |cancel| {
        aisec_detect::fast_ica(z, width, tolerance, iterations, key, cancel)
    })?;
    let sources = into_samples(py, found.sources, rows, &[width])?;
    Ok((sources, found.iterations, found.converged))
}

/// Which rows to estimate a covariance from: iterative filtering on the fourth moments.
///
/// Args:
///     z: float64 `[n, width]`, centred.
///     fraction: bound on the share of poison, in (0, 1).
///     limit: at most so many rows are removed.
///     extreme: whether, where the published tail reaches no row though moments are not Gaussian,
///         the farthest are removed (as in the authors' program), or filtering ends.
///
/// Returns:
///     bool `[n]`; rounds; and whether the moments of what is left are those of a Gaussian.
#[pyfunction]
fn trusted_rows<'py>(
    py: Python<'py>,
    z: &Bound<'py, PyAny>,
    fraction: f64,
    limit: usize,
    extreme: bool,
) -> PyResult<(Flags<'py>, u32, bool)> {
    let (z, _, width) = rows(z)?;
    if !(fraction > 0.0 && fraction < 1.0) {
        return Err(PyValueError::new_err(format!("fraction={fraction} must be in (0, 1)")));
    }
    let z = z.as_slice()?;
    let extreme = if extreme { Extreme::Removed } else { Extreme::Kept };
    let found = run(py, z.len(), |cancel| {
        aisec_detect::trusted_rows(z, width, fraction, limit, extreme, cancel)
    })?;
    Ok((found.kept.into_pyarray(py), found.rounds, found.gaussian))
}

/// Quantum entropy scores of rows, whitened by the covariance of those kept.
///
/// Args:
///     z: float64 `[n, width]`, centred.
///     kept: bool `[n]`.
///     alpha: weight of the excess in the exponent.
///     elementwise: the exponential of each entry instead of that of the matrix.
///
/// Returns:
///     Scores float64 `[n]`, how much the white rows vary along the weights (1 for rows like those
///     kept), and the weights, descending, float64 `[width]`.
#[pyfunction]
fn quantum_entropy<'py>(
    py: Python<'py>,
    z: &Bound<'py, PyAny>,
    kept: &Bound<'py, PyAny>,
    alpha: f64,
    elementwise: bool,
) -> PyResult<(Vector<'py>, f64, Vector<'py>)> {
    let (z, rows, width) = rows(z)?;
    let kept = array::<bool>("kept", kept, &[Some(rows)])?;
    let (z, kept) = (z.as_slice()?, kept.as_slice()?);
    let weighting = if elementwise { Weighting::Elementwise } else { Weighting::Matrix };
    let found =
        call::detached(py, || aisec_detect::quantum_entropy(z, width, kept, alpha, weighting));
    Ok((found.scores.into_pyarray(py), found.excess, found.weights.into_pyarray(py)))
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyProjection>()?;
    module.add_class::<PySketch>()?;
    module.add_function(wrap_pyfunction!(two_means, module)?)?;
    module.add_function(wrap_pyfunction!(gaussian_shares, module)?)?;
    module.add_function(wrap_pyfunction!(fast_ica, module)?)?;
    module.add_function(wrap_pyfunction!(trusted_rows, module)?)?;
    module.add_function(wrap_pyfunction!(quantum_entropy, module)?)
}
