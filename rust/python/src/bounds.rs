//! Binding of `aisec-bounds`.

use aisec_bounds::{Method, Norm, Options, Region};
use numpy::{IntoPyArray, PyArray2, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
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

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(margin_bounds, module)?)
}
