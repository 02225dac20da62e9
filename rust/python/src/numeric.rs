//! Binding of `aisec-numeric`.

use aisec_numeric::random::{Generator, Stream, rows};
use aisec_numeric::warp::{Extent, Warp, warp_rows};
use numpy::{
    PyArray1, PyArray2, PyArrayDyn, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2,
    PyReadonlyArrayDyn, PyUntypedArrayMethods,
};
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

/// Images [n, channels, height, width] turned about their centre by `rotation` [n] degrees
/// counter-clockwise, then moved by `shift` [n, 2] pixels right and down; bilinear.
#[pyfunction]
fn warp<'py>(
    py: Python<'py>,
    x: PyReadonlyArrayDyn<'py, f32>,
    rotation: PyReadonlyArray1<'py, f64>,
    shift: PyReadonlyArray2<'py, f64>,
    fill: f32,
) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let shape = x.shape().to_vec();
    let &[n, channels, height, width] = shape.as_slice() else {
        return Err(PyValueError::new_err(format!(
            "x must be [n, channels, height, width], got {shape:?}"
        )));
    };
    if rotation.shape() != [n] || shift.shape() != [n, 2] {
        return Err(PyValueError::new_err(format!(
            "rotation and shift must be [{n}] and [{n}, 2], got {:?} and {:?}",
            rotation.shape(),
            shift.shape()
        )));
    }
    let warps: Vec<Warp> = rotation
        .as_array()
        .iter()
        .zip(shift.as_array().rows())
        .map(|(&rotation, shift)| Warp { rotation, right: shift[0], down: shift[1] })
        .collect();
    if warps.iter().any(|w| !(w.rotation + w.right + w.down).is_finite()) {
        return Err(PyValueError::new_err("rotation and shift must be finite"));
    }
    let pixels = x.as_slice()?;
    let values = call::detached(py, || {
        let mut out = vec![0.0; pixels.len()];
        warp_rows(pixels, Extent { channels, height, width }, &warps, fill, &mut out);
        out
    });
    PyArray1::from_vec(py, values).reshape(shape)
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(random_signed, module)?)?;
    module.add_function(wrap_pyfunction!(random_normal, module)?)?;
    module.add_function(wrap_pyfunction!(warp, module)?)
}
