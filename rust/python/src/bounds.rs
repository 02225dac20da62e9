//! Binding of `aisec-bounds`.

use std::time::Duration;

use aisec_bounds::{Method, Norm, Options, Region, Tuning, on_one_thread};
use aisec_numeric::Cancel;
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

/// One radius a sample, from one for all or an array.
fn radii(radius: Option<&Bound<'_, PyAny>>, count: usize) -> PyResult<Vec<f64>> {
    match radius {
        None => Ok(vec![0.0; count]),
        Some(radius) => match radius.extract::<f64>() {
            Ok(radius) => Ok(vec![radius; count]),
            Err(_) => Ok(array::<f64>("radius", radius, &[Some(count)])?.as_slice()?.to_vec()),
        },
    }
}

/// The regions of all samples: boxes, or boxes cut with balls where there are centres.
pub(crate) fn regions(
    len: usize,
    lower: &[f64],
    upper: &[f64],
    center: Option<&[f64]>,
    radii: &[f64],
    norm: &str,
) -> PyResult<Vec<Region>> {
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
    let region = |(sample, &radius): (usize, &f64)| {
        let part = sample * len..(sample + 1) * len;
        let (low, high) = (&lower[part.clone()], &upper[part.clone()]);
        match center {
            None => Region::cuboid(low, high),
            Some(center) => Region::ball(low, high, &center[part], radius, norm),
        }
        .map_err(|error| PyValueError::new_err(format!("sample {sample}: {error}")))
    };
    radii.iter().enumerate().map(region).collect()
}

/// Lower bounds of `spec · logits` over the intersection of a box and a norm ball, valid for the
/// graph in real arithmetic.
///
/// Args:
///     graph: the network.
///     lower: corners of each sample's box, float64 `[n, *input_shape]`.
///     upper: the same.
///     spec: rows over the logits, float64 `[n, m, K]`.
///     method: "ibp", "crown-ibp", "crown" or "alpha-crown".
///     center: centres of the balls, float64 `[n, *input_shape]`; without them the box stands
///         alone.
///     radius: radius of the balls in `norm`, a float or float64 `[n]`.
///     norm: "linf", "l2" or "l1".
///     memory_limit: bytes that coefficients may take while they are carried back.
///     iterations: of "alpha-crown", the first of which is CROWN.
///     rate: length of its first step.
///     decay: what the length is multiplied with after each step.
///     stop: leave a row alone once it is above zero.
///     timeout: seconds after which to give up.
///
/// Returns:
///     float64 `[n, m]`, `-inf` where nothing finite is known; bit for bit the same for any
///     batch, thread count and memory limit.
///
/// Raises:
///     ValueError: an array has another shape, dtype or layout, a region is empty or not
///         finite, or a name is unknown.
///     TimeoutError: time is up; nothing is returned.
#[pyfunction]
#[pyo3(signature = (
    graph, lower, upper, *, spec, method, center=None, radius=None, norm="linf",
    memory_limit=None, iterations=20, rate=0.1, decay=0.98, stop=true, timeout=None
))]
fn margin_bounds<'py>(
    graph: &PyGraph,
    lower: &Bound<'py, PyAny>,
    upper: &Bound<'py, PyAny>,
    spec: &Bound<'py, PyAny>,
    method: &str,
    center: Option<&Bound<'py, PyAny>>,
    radius: Option<&Bound<'py, PyAny>>,
    norm: &str,
    memory_limit: Option<usize>,
    iterations: usize,
    rate: f32,
    decay: f32,
    stop: bool,
    timeout: Option<f64>,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let (graph, py) = (graph.get(), lower.py());
    let tuning = Tuning { iterations, rate, decay, stop, ..Tuning::default() };
    let method = match method {
        "ibp" => Method::Ibp,
        "crown-ibp" => Method::CrownIbp,
        "crown" => Method::Crown,
        "alpha-crown" => Method::AlphaCrown(tuning),
        other => {
            return Err(PyValueError::new_err(format!(
                "method {other:?} is not one of \"ibp\", \"crown-ibp\", \"crown\", \"alpha-crown\""
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
    let spec = spec.as_slice()?;
    let center = center.as_ref().map(|(center, _)| center.as_slice()).transpose()?;
    let radii = radii(radius, count)?;
    let regions =
        regions(graph.input_len(), lower.as_slice()?, upper.as_slice()?, center, &radii, norm)?;
    let options = Options { method, memory_limit };
    let alone = on_one_thread(graph, &regions, method);
    let short = method == Method::Ibp && graph.is_short(2 * count);
    let limit = limit(timeout)?;
    let bound =
        |cancel: &Cancel| aisec_bounds::margin_bounds(graph, regions, spec, options, cancel);
    let bounds = if alone {
        py.detach(|| bound(&Cancel::new()))
    } else if short {
        call::detached(py, || bound(&Cancel::new()))
    } else {
        call::interruptible_within(py, limit, bound)?
    }
    .map_err(|_| PyTimeoutError::new_err("time is up"))?;
    bounds.into_pyarray(py).reshape([count, rows])
}

fn limit(timeout: Option<f64>) -> PyResult<Option<Duration>> {
    let time = |seconds| {
        Duration::try_from_secs_f64(seconds)
            .map_err(|_| PyValueError::new_err(format!("timeout {seconds} is not a time")))
    };
    timeout.map(time).transpose()
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
    let planes = call::interruptible_within(py, limit(timeout)?, |cancel| {
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
