//! Binding of `aisec-bounds`.

use std::time::Duration;

use aisec_bounds::{Method, Norm, Options, Region};
use numpy::{IntoPyArray, PyArray2, PyArrayDyn, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::exceptions::{PyTimeoutError, PyValueError};
use pyo3::prelude::*;

use crate::array::{array, samples};
use crate::call;
use crate::graph::PyGraph;

/// One sample's box corner: a float for every element, or float64 `[*input_shape]`.
pub(crate) fn corner(what: &str, value: &Bound<'_, PyAny>, shape: &[usize]) -> PyResult<Vec<f64>> {
    if let Ok(value) = value.extract::<f64>() {
        return Ok(vec![value; shape.iter().product()]);
    }
    let sizes: Vec<_> = shape.iter().map(|&size| Some(size)).collect();
    Ok(array::<f64>(what, value, &sizes)?.as_slice()?.to_vec())
}

/// Lower bounds of `spec · logits` over the intersection of a box and a norm ball, valid for the
/// graph in real arithmetic.
///
/// Args:
///     graph: the network.
///     lower: corners of each sample's box, float64 `[n, *input_shape]`.
///     upper: the same.
///     spec: rows over the logits, float64 `[n, m, K]`.
///     method: "ibp" or "crown".
///     center: centres of the balls, float64 `[n, *input_shape]`; without them the box stands
///         alone.
///     radius: radius of the balls in `norm`.
///     norm: "linf", "l2" or "l1".
///     memory_limit: bytes that coefficients may take while they are carried back.
///
/// Returns:
///     float64 `[n, m]`, `-inf` where nothing finite is known; bit for bit the same for any
///     batch, thread count and memory limit.
///
/// Raises:
///     ValueError: an array has another shape, dtype or layout, a region is empty or not
///         finite, or a name is unknown.
#[pyfunction]
#[pyo3(signature = (
    graph, lower, upper, *, spec, method, center=None, radius=0.0, norm="linf", memory_limit=None
))]
fn margin_bounds<'py>(
    graph: &PyGraph,
    lower: &Bound<'py, PyAny>,
    upper: &Bound<'py, PyAny>,
    spec: &Bound<'py, PyAny>,
    method: &str,
    center: Option<&Bound<'py, PyAny>>,
    radius: f64,
    norm: &str,
    memory_limit: Option<usize>,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let (graph, py) = (graph.get(), lower.py());
    let method = match method {
        "ibp" => Method::Ibp,
        "crown" => Method::Crown,
        other => {
            return Err(PyValueError::new_err(format!(
                "method {other:?} is not one of \"ibp\", \"crown\""
            )));
        }
    };
    let norm = match norm {
        "linf" => Norm::Linf,
        "l2" => Norm::L2,
        "l1" => Norm::L1,
        other => {
            return Err(PyValueError::new_err(format!(
                "norm {other:?} is not one of \"linf\", \"l2\", \"l1\""
            )));
        }
    };
    let (lower, count) = samples::<f64>("lower", lower, graph.input_shape(), None)?;
    let (upper, _) = samples::<f64>("upper", upper, graph.input_shape(), Some(count))?;
    let center = center
        .map(|center| samples::<f64>("center", center, graph.input_shape(), Some(count)))
        .transpose()?;
    let spec = array::<f64>("spec", spec, &[Some(count), None, Some(graph.output_len())])?;
    let rows = spec.shape()[1];
    let (lower, upper, spec) = (lower.as_slice()?, upper.as_slice()?, spec.as_slice()?);
    let center = center.as_ref().map(|(center, _)| center.as_slice()).transpose()?;
    let len = graph.input_len();
    let regions = (0..count)
        .map(|sample| {
            let part = sample * len..(sample + 1) * len;
            let (low, high) = (&lower[part.clone()], &upper[part.clone()]);
            match center {
                None => Region::cuboid(low, high),
                Some(center) => Region::ball(low, high, &center[part], radius, norm),
            }
            .map_err(|error| PyValueError::new_err(format!("sample {sample}: {error}")))
        })
        .collect::<PyResult<Vec<Region>>>()?;
    let options = Options { method, memory_limit };
    let bounds = call::interruptible(py, |cancel| {
        aisec_bounds::margin_bounds(graph, regions, spec, options, cancel)
    })?
    .map_err(|_| PyValueError::new_err("cancelled"))?;
    bounds.into_pyarray(py).reshape([count, rows])
}

type Planes<'py> =
    (Bound<'py, PyArray2<f64>>, Bound<'py, PyArrayDyn<f64>>, Bound<'py, PyArray2<f64>>);

/// CROWN planes below `spec · logits` over boxes, valid for the graph in real arithmetic: for
/// every `x` of a box, `coefficients · x + constant <= row · logits(x)`.
///
/// Args:
///     graph: the network.
///     lower: corners of each box, float64 `[n, *input_shape]`.
///     upper: the same.
///     spec: rows over the logits, float64 `[m, K]`, the same for every box.
///     memory_limit: bytes that coefficients may take while they are carried back.
///     timeout: seconds after which to give up.
///
/// Returns:
///     Lower bounds float64 `[n, m]` as of `margin_bounds`, coefficients `[n, m, *input_shape]`
///     and constants `[n, m]`; `-inf` bounds and constants where nothing finite is known.
///
/// Raises:
///     ValueError: an array has another shape, dtype or layout, or a box is empty or not finite.
///     TimeoutError: time is up; nothing is returned.
#[pyfunction]
#[pyo3(signature = (graph, lower, upper, *, spec, memory_limit=None, timeout=None))]
fn margin_planes<'py>(
    graph: &PyGraph,
    lower: &Bound<'py, PyAny>,
    upper: &Bound<'py, PyAny>,
    spec: &Bound<'py, PyAny>,
    memory_limit: Option<usize>,
    timeout: Option<f64>,
) -> PyResult<Planes<'py>> {
    let (graph, py) = (graph.get(), lower.py());
    let (lower, count) = samples::<f64>("lower", lower, graph.input_shape(), None)?;
    let (upper, _) = samples::<f64>("upper", upper, graph.input_shape(), Some(count))?;
    let spec = array::<f64>("spec", spec, &[None, Some(graph.output_len())])?;
    let rows = spec.shape()[0];
    let len = graph.input_len();
    let boxes = lower.as_slice()?.chunks_exact(len).zip(upper.as_slice()?.chunks_exact(len));
    let regions = boxes
        .enumerate()
        .map(|(sample, (low, high))| {
            Region::cuboid(low, high)
                .map_err(|error| PyValueError::new_err(format!("sample {sample}: {error}")))
        })
        .collect::<PyResult<Vec<Region>>>()?;
    let spec = spec.as_slice()?.repeat(count);
    let options = Options { method: Method::Crown, memory_limit };
    let limit = match timeout {
        None => None,
        Some(seconds) => Some(
            Duration::try_from_secs_f64(seconds)
                .map_err(|_| PyValueError::new_err(format!("timeout {seconds} is not a time")))?,
        ),
    };
    let planes = call::interruptible_within(py, limit, |cancel| {
        aisec_bounds::margin_planes(graph, regions, &spec, options, cancel)
    })?
    .map_err(|_| PyTimeoutError::new_err("time is up"))?;
    let shape: Vec<usize> = [count, rows].iter().chain(graph.input_shape()).copied().collect();
    Ok((
        planes.bounds.into_pyarray(py).reshape([count, rows])?,
        planes.coefficients.into_pyarray(py).reshape(shape)?,
        planes.constants.into_pyarray(py).reshape([count, rows])?,
    ))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(margin_planes, module)?)?;
    module.add_function(wrap_pyfunction!(margin_bounds, module)?)
}
