//! Binding of `aisec-numeric`.

use aisec_numeric::random::{Generator, Stream, rows};
use numpy::{PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::call;

fn draw<'py>(
    py: Python<'py>,
    stream: Stream,
    step: u32,
    samples: &PyReadonlyArray1<'py, i64>,
    count: usize,
    draw: impl Fn(&mut Generator) -> f32 + Sync + Send,
) -> PyResult<Bound<'py, PyArray2<f32>>> {
    let samples: Vec<u64> = samples.as_array().iter().map(|id| id.cast_unsigned()).collect();
    let shape = [samples.len(), count];
    let bytes = samples.len().checked_mul(count).and_then(|n| n.checked_mul(4));
    if bytes.is_none_or(|bytes| isize::try_from(bytes).is_err()) {
        return Err(PyValueError::new_err(format!(
            "{} samples of {count} numbers do not fit in memory: draw fewer at a time",
            samples.len()
        )));
    }
    let values = call::detached(py, || rows(stream, step, &samples, count, draw));
    PyArray1::from_vec(py, values).reshape(shape)
}

/// Uniform numbers in [-1, 1), `count` for each sample, keyed by (seed, attack, restart, step).
#[pyfunction]
fn random_signed<'py>(
    py: Python<'py>,
    seed: u64,
    attack: &str,
    restart: u32,
    step: u32,
    samples: PyReadonlyArray1<'py, i64>,
    count: usize,
) -> PyResult<Bound<'py, PyArray2<f32>>> {
    draw(py, Stream::new(seed, attack, restart), step, &samples, count, Generator::signed)
}

/// Standard normal numbers, `count` for each sample, keyed by (seed, attack, restart, step).
#[pyfunction]
fn random_normal<'py>(
    py: Python<'py>,
    seed: u64,
    attack: &str,
    restart: u32,
    step: u32,
    samples: PyReadonlyArray1<'py, i64>,
    count: usize,
) -> PyResult<Bound<'py, PyArray2<f32>>> {
    draw(py, Stream::new(seed, attack, restart), step, &samples, count, Generator::normal)
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(random_signed, module)?)?;
    module.add_function(wrap_pyfunction!(random_normal, module)?)
}
