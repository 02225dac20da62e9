//! Binding of `aisec-checker`.

use aisec_checker::{Claim, Constraint, Metric};
use numpy::{PyArray1, ToPyArray};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::array::{array, samples};
use crate::bounds::corner;
use crate::call;
use crate::graph::PyGraph;
use crate::search::sample_shape;

type Checked<'py> =
    (Bound<'py, PyArray1<bool>>, Bound<'py, PyArray1<f64>>, Bound<'py, PyArray1<f64>>, Vec<String>);

/// Re-checks adversarial examples in float64 interval arithmetic, independently of the attacks.
///
/// An example is accepted when every element is finite and exactly within the input range, its
/// distance, rounded up, is at most `eps` without any tolerance, and the graph in real
/// arithmetic puts some class strictly above the label's.
///
/// Args:
///     graph: the network.
///     x: clean inputs, float32 `[n, *input_shape]`; not read for norm "box".
///     x_adv: adversarial examples, of the same shape.
///     labels: int64 `[n]`.
///     norm: "linf", "l2", "l1", "l0" (how many elements differ) or "box".
///     eps: the largest distance allowed; without meaning for "box".
///     lower: smallest value of each input element, a float or float64 `[*input_shape]`.
///     upper: the largest.
///     constraint: what must hold beside that, as JSON: a patch, a frame or a table.
///
/// Returns:
///     `ok` bool `[n]`; `margin_upper` float64 `[n]`, an upper bound of
///     `z_label - max z_i` at the example; `distance_upper` float64 `[n]`; and for each sample
///     why it was refused, empty where it was not.
///
/// Raises:
///     ValueError: an array has another shape, dtype or layout, or the norm is unknown.
#[pyfunction]
#[pyo3(signature = (graph, x, x_adv, labels, *, norm, eps, lower, upper, constraint=None))]
fn check_adversarial<'py>(
    graph: &PyGraph,
    x: &Bound<'py, PyAny>,
    x_adv: &Bound<'py, PyAny>,
    labels: &Bound<'py, PyAny>,
    norm: &str,
    eps: f64,
    lower: &Bound<'py, PyAny>,
    upper: &Bound<'py, PyAny>,
    constraint: Option<&str>,
) -> PyResult<Checked<'py>> {
    let graph = graph.get();
    let metric = match norm {
        "linf" => Metric::Linf,
        "l2" => Metric::L2,
        "l1" => Metric::L1,
        "l0" => Metric::L0,
        "box" => Metric::Box,
        other => {
            return Err(PyValueError::new_err(format!(
                "norm {other:?} is not one of \"linf\", \"l2\", \"l1\", \"l0\", \"box\""
            )));
        }
    };
    let py = x_adv.py();
    let (x_adv, count) = samples::<f32>("x_adv", x_adv, graph.input_shape(), None)?;
    let (x, _) = samples::<f32>("x", x, graph.input_shape(), Some(count))?;
    let labels = array::<i64>("labels", labels, &[Some(count)])?;
    let lower = corner("lower", lower, graph.input_shape())?;
    let upper = corner("upper", upper, graph.input_shape())?;
    let constraint =
        constraint.map(Constraint::parse).transpose().map_err(PyValueError::new_err)?;
    let claim =
        Claim { metric, eps, lower: &lower, upper: &upper, constraint: constraint.as_ref() };
    let (x, x_adv, labels) = (x.as_slice()?, x_adv.as_slice()?, labels.as_slice()?);
    let findings = call::interruptible(py, |cancel| {
        aisec_checker::check_adversarial(graph, x, x_adv, labels, &claim, cancel)
    })?
    .map_err(|error| PyValueError::new_err(error.to_string()))?;
    let ok: Vec<bool> = findings.iter().map(|finding| finding.fault.is_none()).collect();
    let margins: Vec<f64> = findings.iter().map(|finding| finding.margin_upper).collect();
    let distances: Vec<f64> = findings.iter().map(|finding| finding.distance_upper).collect();
    let reason = |fault: &aisec_checker::Fault| fault.to_string();
    let reasons = findings.iter().map(|f| f.fault.as_ref().map(reason).unwrap_or_default());
    Ok((ok.to_pyarray(py), margins.to_pyarray(py), distances.to_pyarray(py), reasons.collect()))
}

/// What points violate of a constraint, in exact terms: see `aisec_checker::Constraint`.
///
/// Args:
///     x: clean inputs, float32 `[n, *input_shape]`.
///     x_adv: points, of the same shape.
///     constraint: a patch, a frame or a table, as JSON.
///
/// Returns:
///     For each point why it is refused, empty where it is not.
///
/// Raises:
///     ValueError: an array has another shape, dtype or layout, or the text is no constraint.
#[pyfunction]
#[pyo3(signature = (x, x_adv, *, constraint))]
fn check_constraint(
    x: &Bound<'_, PyAny>,
    x_adv: &Bound<'_, PyAny>,
    constraint: &str,
) -> PyResult<Vec<String>> {
    let constraint = Constraint::parse(constraint).map_err(PyValueError::new_err)?;
    let shape = sample_shape(x)?;
    let (x, count) = samples::<f32>("x", x, &shape, None)?;
    let (x_adv, _) = samples::<f32>("x_adv", x_adv, &shape, Some(count))?;
    let size = shape.iter().product::<usize>().max(1);
    let rows = x.as_slice()?.chunks_exact(size).zip(x_adv.as_slice()?.chunks_exact(size));
    let reason = |(x, x_adv)| constraint.violation(&shape, x, x_adv).map(|v| v.to_string());
    Ok(rows.map(|row| reason(row).unwrap_or_default()).collect())
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(check_constraint, module)?)?;
    module.add_function(wrap_pyfunction!(check_adversarial, module)?)
}
