//! Numpy arrays in and out without copying.

use numpy::{
    Element, IntoPyArray, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArray,
    PyUntypedArrayMethods, dtype,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// `value` as a C-contiguous array of `T` with `shape` (`None`: any size); the error names
/// `what`, says what was expected and what came.
pub(crate) fn array<'py, T: Element>(
    what: &str,
    value: &Bound<'py, PyAny>,
    shape: &[Option<usize>],
) -> PyResult<PyReadonlyArrayDyn<'py, T>> {
    let found = value.cast::<PyUntypedArray>().ok();
    let has_shape = found.is_some_and(|array| {
        array.ndim() == shape.len()
            && array.shape().iter().zip(shape).all(|(&n, want)| want.is_none_or(|want| n == want))
    });
    if has_shape
        && found.is_some_and(PyUntypedArrayMethods::is_c_contiguous)
        && let Ok(array) = value.extract::<PyReadonlyArrayDyn<'py, T>>()
        && array.as_slice().is_ok()
    {
        return Ok(array);
    }
    let sizes: Vec<String> =
        shape.iter().map(|size| size.map_or("n".to_owned(), |size| size.to_string())).collect();
    let expected = dtype::<T>(value.py());
    let got = match found {
        None => format!("{}", value.get_type().name()?),
        Some(array) => format!(
            "{}{} of shape {:?}",
            if array.is_c_contiguous() { "" } else { "non-contiguous " },
            array.dtype(),
            array.shape()
        ),
    };
    let remedy = if has_shape {
        format!("; use np.ascontiguousarray({what}, dtype=np.{expected})")
    } else {
        String::new()
    };
    Err(PyValueError::new_err(format!(
        "{what}: expected a C-contiguous {expected} array of shape [{}], got {got}{remedy}",
        sizes.join(", ")
    )))
}

/// A batch of samples of one shape, first axis the samples; with how many there are.
pub(crate) fn samples<'py, T: Element>(
    what: &str,
    value: &Bound<'py, PyAny>,
    sample: &[usize],
    count: Option<usize>,
) -> PyResult<(PyReadonlyArrayDyn<'py, T>, usize)> {
    let shape: Vec<_> = [count].into_iter().chain(sample.iter().map(|&n| Some(n))).collect();
    let array = array(what, value, &shape)?;
    let count = array.shape()[0];
    Ok((array, count))
}

/// Hands `values` to numpy as `[count, *sample]`.
pub(crate) fn into_samples<'py, T: Element>(
    py: Python<'py>,
    values: Vec<T>,
    count: usize,
    sample: &[usize],
) -> PyResult<Bound<'py, PyArrayDyn<T>>> {
    let shape: Vec<usize> = [count].into_iter().chain(sample.iter().copied()).collect();
    values.into_pyarray(py).reshape(shape)
}
