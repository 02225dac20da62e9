//! Binding of `aisec-bounds`' certificates of voting ensembles.

use aisec_bounds::aggregation::{self, Certified, Feeds};
use aisec_numeric::{Cancel, Cancelled};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray2, PyReadonlyArray3, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::call;

type Radii<'py> = (Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<i64>>);

/// Predictions and radii of deep partition aggregation or, with `feeds`, of finite aggregation.
///
/// Args:
///     votes: class of each model, uint32 `[n, models]`, below `classes`.
///     classes: number of classes.
///     feeds: distinct models that each bucket of training data feeds, uint32 `[buckets, d]`.
///
/// Returns:
///     class and radius, int64 `[n]`.
///
/// Raises:
///     ValueError: a vote or a model is out of range.
#[pyfunction]
#[pyo3(signature = (votes, classes, feeds=None))]
fn vote_radii<'py>(
    py: Python<'py>,
    votes: PyReadonlyArray2<'py, u32>,
    classes: usize,
    feeds: Option<PyReadonlyArray2<'py, u32>>,
) -> PyResult<Radii<'py>> {
    let models = votes.shape()[1];
    let feeds = feeds.map(|feeds| read_feeds(&feeds, models)).transpose()?;
    let votes = votes.as_slice()?;
    if votes.iter().any(|&vote| vote as usize >= classes) {
        return Err(PyValueError::new_err(format!("votes must be below {classes}")));
    }
    radii(py, |cancel| match &feeds {
        None => aggregation::partition(votes, models, classes, cancel),
        Some(feeds) => aggregation::finite(votes, models, classes, feeds, cancel),
    })
}

/// Predictions and radii of the run-off election.
///
/// Args:
///     logits: of each model, float32 `[n, models, classes]`.
///     feeds: as for `vote_radii`.
///
/// Returns:
///     class and radius, int64 `[n]`.
#[pyfunction]
fn run_off_radii<'py>(
    py: Python<'py>,
    logits: PyReadonlyArray3<'py, f32>,
    feeds: PyReadonlyArray2<'py, u32>,
) -> PyResult<Radii<'py>> {
    let (models, classes) = (logits.shape()[1], logits.shape()[2]);
    let feeds = read_feeds(&feeds, models)?;
    let logits = logits.as_slice()?;
    radii(py, |cancel| aggregation::run_off(logits, models, classes, &feeds, cancel))
}

fn read_feeds(feeds: &PyReadonlyArray2<'_, u32>, models: usize) -> PyResult<Feeds> {
    let (spread, list) = (feeds.shape()[1], feeds.as_slice()?);
    let distinct = |bucket: &[u32]| (1..spread).all(|i| !bucket[..i].contains(&bucket[i]));
    if spread == 0
        || list.iter().any(|&model| model as usize >= models)
        || !list.chunks_exact(spread).all(distinct)
    {
        return Err(PyValueError::new_err(format!(
            "feeds must name distinct models below {models} for each bucket"
        )));
    }
    Ok(Feeds::new(list.to_vec(), spread))
}

fn radii<'py>(
    py: Python<'py>,
    work: impl FnOnce(&Cancel) -> Result<Vec<Certified>, Cancelled> + Send,
) -> PyResult<Radii<'py>> {
    let certified =
        call::interruptible(py, work)?.map_err(|_| PyValueError::new_err("cancelled"))?;
    let classes: Vec<i64> = certified.iter().map(|c| i64::from(c.class)).collect();
    let radii: Vec<i64> = certified.iter().map(|c| i64::from(c.radius)).collect();
    Ok((classes.into_pyarray(py), radii.into_pyarray(py)))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(vote_radii, module)?)?;
    module.add_function(wrap_pyfunction!(run_off_radii, module)?)
}
