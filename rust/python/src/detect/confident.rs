//! Binding of confident learning.

use aisec_detect::{Pair, Probability, Prune, Quality, confident_class, judge};
use numpy::{Element, IntoPyArray, PyArray1, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::{is_float64, to_python};
use crate::array::array;
use crate::call;

/// Own probability, quality and tail, whether the label agrees and is predicted, the largest gap.
type Found<'py> = (
    Bound<'py, PyArray1<f64>>,
    Bound<'py, PyArray1<f64>>,
    Bound<'py, PyArray1<f64>>,
    Bound<'py, PyArray1<bool>>,
    Bound<'py, PyArray1<bool>>,
    f64,
);

/// Judges the labels of rows of probabilities.
///
/// Args:
///     p: float32 or float64 `[n, classes]`, C-contiguous.
///     labels: int64 `[n]`, each from 0 to `classes - 1`.
///     quality: "self_confidence", "normalized_margin" or "confidence_weighted_entropy".
///     first: how many rows came before, for messages.
///
/// Returns:
///     Probability of the given label, its quality, and the probability of a label that is no more
///     likely, float64 `[n]` each; whether no other label is more likely by over 1e-6, and whether
///     it is the first of the most likely, bool `[n]` each; the largest distance of a row's sum
///     from 1.
///
/// Raises:
///     ValueError: a value is not between 0 and 1, a label is no class, or a shape or dtype is
///         wrong.
#[pyfunction]
#[pyo3(signature = (p, labels, quality, first=0))]
fn judge_labels<'py>(
    py: Python<'py>,
    p: &Bound<'py, PyAny>,
    labels: &Bound<'py, PyAny>,
    quality: &str,
    first: u64,
) -> PyResult<Found<'py>> {
    let quality = match quality {
        "self_confidence" => Quality::SelfConfidence,
        "normalized_margin" => Quality::NormalizedMargin,
        "confidence_weighted_entropy" => Quality::ConfidenceWeightedEntropy,
        other => return Err(PyValueError::new_err(format!("quality {other:?} is not known"))),
    };
    if is_float64(p) {
        run::<f64>(py, p, labels, quality, first)
    } else {
        run::<f32>(py, p, labels, quality, first)
    }
}

fn run<'py, T: Probability + Element>(
    py: Python<'py>,
    p: &Bound<'py, PyAny>,
    labels: &Bound<'py, PyAny>,
    quality: Quality,
    first: u64,
) -> PyResult<Found<'py>> {
    let p = array::<T>("p", p, &[None, None])?;
    let labels = array::<i64>("labels", labels, &[Some(p.shape()[0])])?;
    let (classes, x, labels) = (p.shape()[1], p.as_slice()?, labels.as_slice()?);
    let found =
        call::interruptible(py, |cancel| judge(x, classes, labels, first, quality, cancel))?
            .map_err(to_python)?;
    Ok((
        found.own.into_pyarray(py),
        found.quality.into_pyarray(py),
        found.tail.into_pyarray(py),
        found.agrees.into_pyarray(py),
        found.predicted.into_pyarray(py),
        found.gap,
    ))
}

/// The class each row is confidently of, int32 `[n]`; -1 for none.
///
/// Args:
///     p: float32 or float64 `[n, classes]`, C-contiguous.
///     cuts: float64 `[classes]`, the least probability of a confident prediction.
#[pyfunction]
fn confident_classes<'py>(
    py: Python<'py>,
    p: &Bound<'py, PyAny>,
    cuts: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyArray1<i32>>> {
    if is_float64(p) { classes_of::<f64>(py, p, cuts) } else { classes_of::<f32>(py, p, cuts) }
}

fn classes_of<'py, T: Probability + Element>(
    py: Python<'py>,
    p: &Bound<'py, PyAny>,
    cuts: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyArray1<i32>>> {
    let cuts = array::<f64>("cuts", cuts, &[None])?;
    let p = array::<T>("p", p, &[None, Some(cuts.shape()[0])])?;
    let (x, cuts) = (p.as_slice()?, cuts.as_slice()?);
    let found = call::interruptible(py, |cancel| confident_class(x, cuts, cancel))?;
    Ok(found.map_err(to_python)?.into_pyarray(py))
}

/// The samples whose label a pair of classes disputes most.
#[pyclass(name = "Prune", module = "aisec_eval._core")]
pub(crate) struct PyPrune {
    prune: Option<Prune>,
    classes: usize,
}

#[pymethods]
impl PyPrune {
    /// Starts with no rows.
    ///
    /// Args:
    ///     classes: how many there are.
    ///     given, likely, count: int64 `[pairs]` each; of the samples given one label, the `count`
    ///         that are most likely of another class are found.
    ///
    /// Raises:
    ///     ValueError: an entry is no class or below 0.
    #[new]
    fn new(
        classes: usize,
        given: &Bound<'_, PyAny>,
        likely: &Bound<'_, PyAny>,
        count: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let given = array::<i64>("given", given, &[None])?;
        let pairs = Some(given.shape()[0]);
        let likely = array::<i64>("likely", likely, &[pairs])?;
        let count = array::<i64>("count", count, &[pairs])?;
        let pairs: Option<Vec<Pair>> = given
            .as_slice()?
            .iter()
            .zip(likely.as_slice()?)
            .zip(count.as_slice()?)
            .map(|((&given, &likely), &count)| {
                let number = |value: i64| usize::try_from(value).ok();
                Some(Pair { given: number(given)?, likely: number(likely)?, count: number(count)? })
            })
            .collect();
        let pairs = pairs.ok_or_else(|| PyValueError::new_err("pairs must not be negative"))?;
        Ok(Self { prune: Some(Prune::new(classes, &pairs).map_err(to_python)?), classes })
    }

    /// Takes the next rows.
    ///
    /// Args:
    ///     p: float32 or float64 `[n, classes]`, C-contiguous.
    ///     labels: int64 `[n]`.
    fn update(
        &mut self,
        py: Python<'_>,
        p: &Bound<'_, PyAny>,
        labels: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        if is_float64(p) { self.add::<f64>(py, p, labels) } else { self.add::<f32>(py, p, labels) }
    }

    /// Ends the pass.
    ///
    /// Returns:
    ///     The disputed rows, uint64 ascending; for how many pairs samples of equal margin were on
    ///     both sides of the cut, where the earlier row is taken.
    fn finish<'py>(&mut self, py: Python<'py>) -> PyResult<(Bound<'py, PyArray1<u64>>, usize)> {
        let prune = self.prune.take().ok_or_else(finished)?;
        let (rows, ties) = call::detached(py, || prune.finish());
        Ok((rows.into_pyarray(py), ties))
    }
}

impl PyPrune {
    fn add<T: Probability + Element>(
        &mut self,
        py: Python<'_>,
        p: &Bound<'_, PyAny>,
        labels: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let p = array::<T>("p", p, &[None, Some(self.classes)])?;
        let labels = array::<i64>("labels", labels, &[Some(p.shape()[0])])?;
        let prune = self.prune.as_mut().ok_or_else(finished)?;
        let (x, labels) = (p.as_slice()?, labels.as_slice()?);
        call::interruptible(py, |cancel| prune.update(x, labels, cancel))?.map_err(to_python)
    }
}

fn finished() -> PyErr {
    PyValueError::new_err("the pass is over")
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyPrune>()?;
    module.add_function(wrap_pyfunction!(judge_labels, module)?)?;
    module.add_function(wrap_pyfunction!(confident_classes, module)?)
}
