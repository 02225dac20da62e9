//! Binding of `aisec-checker`'s checks of voting ensembles.

use aisec_checker::{Buckets, Draws, VoteClaim, VoteFault};
use aisec_numeric::{Cancel, Cancelled};
use numpy::{PyReadonlyArray1, PyReadonlyArray2, PyReadonlyArray3, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::call;

/// Re-checks predictions and radii of deep partition or finite aggregation.
///
/// Args:
///     votes: class of each model, uint32 `[n, models]`, below `classes`.
///     classes: number of classes.
///     prediction: claimed class, int64 `[n]`.
///     radius: claimed radius, int64 `[n]`; nothing is claimed where it is negative.
///     feeds: distinct models that each bucket feeds, uint32 `[buckets, d]`; one bucket a model
///         when None.
///
/// Returns:
///     For each sample why the claim is refused, empty where it holds.
///
/// Raises:
///     ValueError: an array does not fit the others, or a vote or model is out of range.
#[pyfunction]
#[pyo3(signature = (votes, classes, prediction, radius, feeds=None))]
fn check_votes(
    py: Python<'_>,
    votes: PyReadonlyArray2<'_, u32>,
    classes: usize,
    prediction: PyReadonlyArray1<'_, i64>,
    radius: PyReadonlyArray1<'_, i64>,
    feeds: Option<PyReadonlyArray2<'_, u32>>,
) -> PyResult<Vec<String>> {
    let (samples, models) = (votes.shape()[0], votes.shape()[1]);
    let claims = claims(&prediction, &radius, samples)?;
    let votes = below(votes.as_slice()?, classes)?;
    let buckets = buckets(feeds.as_ref(), models)?;
    reasons(py, |cancel| {
        aisec_checker::check_plurality(votes, models, classes, &buckets, &claims, cancel)
    })
}

/// Re-checks predictions and radii of the run-off election.
///
/// Args:
///     logits: of each model, float32 `[n, models, classes]`.
///     prediction: as for `check_votes`.
///     radius: as for `check_votes`.
///     feeds: as for `check_votes`.
///
/// Returns:
///     For each sample why the claim is refused, empty where it holds.
///
/// Raises:
///     ValueError: an array does not fit the others, or a model is out of range.
#[pyfunction]
#[pyo3(signature = (logits, prediction, radius, feeds=None))]
fn check_run_off(
    py: Python<'_>,
    logits: PyReadonlyArray3<'_, f32>,
    prediction: PyReadonlyArray1<'_, i64>,
    radius: PyReadonlyArray1<'_, i64>,
    feeds: Option<PyReadonlyArray2<'_, u32>>,
) -> PyResult<Vec<String>> {
    let [samples, models, classes] = [0, 1, 2].map(|axis| logits.shape()[axis]);
    let claims = claims(&prediction, &radius, samples)?;
    let buckets = buckets(feeds.as_ref(), models)?;
    let logits = logits.as_slice()?;
    reasons(py, |cancel| {
        aisec_checker::check_run_off(logits, models, classes, &buckets, &claims, cancel)
    })
}

/// Re-checks predictions and radii of bagging.
///
/// Args:
///     votes: as for `check_votes`.
///     classes: as for `check_votes`.
///     prediction: as for `check_votes`.
///     radius: as for `check_votes`.
///     training_size: samples in the training set.
///     subsample: samples each model was trained on, drawn with replacement.
///     alpha: probability that a radius is too large.
///
/// Returns:
///     For each sample why the claim is refused, empty where it holds.
///
/// Raises:
///     ValueError: an array does not fit the others, or a number is out of range.
#[pyfunction]
#[pyo3(signature = (votes, classes, prediction, radius, *, training_size, subsample, alpha))]
fn check_bagging(
    py: Python<'_>,
    votes: PyReadonlyArray2<'_, u32>,
    classes: usize,
    prediction: PyReadonlyArray1<'_, i64>,
    radius: PyReadonlyArray1<'_, i64>,
    training_size: u64,
    subsample: u32,
    alpha: f64,
) -> PyResult<Vec<String>> {
    let (samples, models) = (votes.shape()[0], votes.shape()[1]);
    let claims = claims(&prediction, &radius, samples)?;
    let votes = below(votes.as_slice()?, classes)?;
    let small = training_size < 1 << 53 && u32::try_from(models).is_ok();
    if training_size == 0 || subsample == 0 || !small || !(alpha > 0.0 && alpha < 1.0) {
        return Err(PyValueError::new_err("training_size, subsample or alpha is out of range"));
    }
    let draws = Draws { samples: training_size, drawn: subsample, alpha };
    reasons(py, |cancel| {
        aisec_checker::check_bagging(votes, models, classes, draws, &claims, cancel)
    })
}

fn claims(
    prediction: &PyReadonlyArray1<'_, i64>,
    radius: &PyReadonlyArray1<'_, i64>,
    samples: usize,
) -> PyResult<Vec<VoteClaim>> {
    let (class, radius) = (prediction.as_slice()?, radius.as_slice()?);
    if class.len() != samples || radius.len() != samples {
        return Err(PyValueError::new_err(format!("expected {samples} predictions and radii")));
    }
    let pairs = class.iter().zip(radius);
    Ok(pairs.map(|(&class, &radius)| VoteClaim { class, radius }).collect())
}

fn below(votes: &[u32], classes: usize) -> PyResult<&[u32]> {
    if votes.iter().all(|&vote| (vote as usize) < classes) {
        return Ok(votes);
    }
    Err(PyValueError::new_err(format!("votes must be below {classes}")))
}

fn buckets(feeds: Option<&PyReadonlyArray2<'_, u32>>, models: usize) -> PyResult<Buckets> {
    let Some(feeds) = feeds else { return Ok(Buckets::one_each(models)) };
    Buckets::new(feeds.as_slice()?, feeds.shape()[1], models).ok_or_else(|| {
        PyValueError::new_err(format!("feeds must name distinct models below {models}"))
    })
}

fn reasons(
    py: Python<'_>,
    work: impl FnOnce(&Cancel) -> Result<Vec<Option<VoteFault>>, Cancelled> + Send,
) -> PyResult<Vec<String>> {
    let found = call::interruptible(py, work)?.map_err(|_| PyValueError::new_err("cancelled"))?;
    let reason = |fault: Option<VoteFault>| fault.map(|fault| fault.to_string());
    Ok(found.into_iter().map(|fault| reason(fault).unwrap_or_default()).collect())
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(check_votes, module)?)?;
    module.add_function(wrap_pyfunction!(check_run_off, module)?)?;
    module.add_function(wrap_pyfunction!(check_bagging, module)?)
}
