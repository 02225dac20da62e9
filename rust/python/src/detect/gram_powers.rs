//! Binding of the Gram matrices of powers.

use aisec_detect::{Maps, gram_deviations as deviations};
use numpy::{IntoPyArray, PyArray1, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::to_python;
use crate::array::array;
use crate::call;

/// How far feature maps are from those of reference samples, by Gram matrices of their powers.
///
/// Args:
///     reference: float32 `[m, channels, positions]`, m >= 1.
///     queries: float32 `[n, channels, positions]`.
///     orders: powers, each from 1 to 64.
///     width: median absolute deviations that are allowed.
///     memory: bytes that may be used, about.
///
/// Returns:
///     float64 `[n]`.
///
/// Raises:
///     ValueError: a value is not finite, or an argument does not fit.
#[pyfunction]
pub(crate) fn gram_deviations<'py>(
    py: Python<'py>,
    reference: &Bound<'py, PyAny>,
    queries: &Bound<'py, PyAny>,
    orders: Vec<u32>,
    width: f64,
    memory: usize,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let reference = array::<f32>("reference", reference, &[None, None, None])?;
    let (channels, positions) = (reference.shape()[1], reference.shape()[2]);
    let queries = array::<f32>("queries", queries, &[None, Some(channels), Some(positions)])?;
    if orders.iter().any(|&order| order == 0 || order > 64) || width.is_nan() || width < 0.0 {
        return Err(PyValueError::new_err(format!(
            "orders {orders:?} must be from 1 to 64, width {width} at least 0"
        )));
    }
    let maps = Maps { channels, positions };
    let (reference, queries) = (reference.as_slice()?, queries.as_slice()?);
    let found = call::interruptible(py, |cancel| {
        deviations(maps, reference, queries, &orders, width, memory, cancel)
    })?;
    Ok(found.map_err(to_python)?.into_pyarray(py))
}
