//! Binding of `aisec-bounds`' randomised smoothing.

use aisec_bounds::smoothing::{Noisy, Streams, class_counts};
use aisec_numeric::lattice_normal::LatticeNormal;
use numpy::{
    IntoPyArray, PyArray1, PyArrayDyn, PyReadonlyArray1, PyReadonlyArrayDyn, PyUntypedArrayMethods,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rayon::prelude::*;

use crate::array::into_samples;
use crate::call;
use crate::graph::PyGraph;

/// Whole numbers up to here are float32 numbers.
const EXACT: i64 = 1 << 24;

/// One input and the noise that is added to it.
#[pyclass(frozen, name = "Noisy", module = "aisec_eval._core")]
pub(crate) struct PyNoisy {
    noisy: Noisy,
    shape: Vec<usize>,
}

#[pymethods]
impl PyNoisy {
    /// Normal noise of standard deviation `sigma` on `x`, float32 `[*input_shape]`.
    #[staticmethod]
    fn normal(x: PyReadonlyArrayDyn<'_, f32>, sigma: f32) -> PyResult<Self> {
        if !(sigma > 0.0 && sigma.is_finite()) {
            return Err(PyValueError::new_err(format!("sigma must be positive, got {sigma}")));
        }
        let shape = x.shape().to_vec();
        Ok(Self { noisy: Noisy::Normal { x: x.as_slice()?.to_vec(), sigma }, shape })
    }

    /// Noise on the multiples of `numerator / denominator`.
    ///
    /// Args:
    ///     levels: which multiple each element of the input is, int32 `[*input_shape]`.
    ///     thresholds: 2^64 times the probability that the noise is at most `lowest + k` levels,
    ///         uint64, ascending.
    ///     lowest: the least level of the noise.
    ///     numerator: with `denominator`, the distance between levels.
    ///     denominator: the same.
    #[staticmethod]
    fn lattice(
        levels: PyReadonlyArrayDyn<'_, i32>,
        thresholds: PyReadonlyArray1<'_, u64>,
        lowest: i32,
        numerator: u32,
        denominator: u32,
    ) -> PyResult<Self> {
        let (shape, levels) = (levels.shape().to_vec(), levels.as_slice()?.to_vec());
        let thresholds = thresholds.as_slice()?.to_vec();
        let highest = i64::from(lowest) + thresholds.len() as i64;
        let noise = i64::from(lowest).abs().max(highest.abs());
        let largest = levels.iter().map(|&level| i64::from(level).abs()).max().unwrap_or(0) + noise;
        let fits = largest.checked_mul(i64::from(numerator)).is_some_and(|value| value < EXACT);
        if !fits || denominator == 0 || i64::from(denominator) >= EXACT {
            return Err(PyValueError::new_err(
                "the lattice is too fine for float32; use a coarser one, or less noise",
            ));
        }
        let normal = LatticeNormal::new(thresholds, lowest)
            .map_err(|_| PyValueError::new_err("thresholds must ascend"))?;
        Ok(Self { noisy: Noisy::Lattice { levels, normal, numerator, denominator }, shape })
    }

    /// The noisy copies `first..first + count`, float32 `[count, *input_shape]`.
    fn copies<'py>(
        &self,
        py: Python<'py>,
        seed: u64,
        phase: u32,
        sample: u64,
        first: u32,
        count: u32,
    ) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        within(first, count)?;
        let (len, streams) = (self.noisy.len(), Streams::new(seed, phase));
        let mut copies = vec![0.0; len * count as usize];
        call::detached(py, || {
            copies.par_chunks_mut(len.max(1)).zip(first..first + count).for_each(|(out, copy)| {
                self.noisy.write(&streams, sample, copy, out);
            });
        });
        into_samples(py, copies, count as usize, &self.shape)
    }

    /// How many of the noisy copies `first..first + count` each class wins, int64 `[K]`; a copy
    /// with a logit that is not finite counts for no class.
    fn class_counts<'py>(
        &self,
        py: Python<'py>,
        graph: &PyGraph,
        seed: u64,
        phase: u32,
        sample: u64,
        first: u32,
        count: u32,
    ) -> PyResult<Bound<'py, PyArray1<i64>>> {
        within(first, count)?;
        let graph = graph.get();
        if self.shape != graph.input_shape() {
            return Err(PyValueError::new_err(format!(
                "the input has shape {:?}, the graph takes {:?}",
                self.shape,
                graph.input_shape()
            )));
        }
        let streams = Streams::new(seed, phase);
        let counts = call::interruptible(py, |cancel| {
            class_counts(graph, &self.noisy, &streams, sample, first, count, cancel)
        })?
        .map_err(|_| PyValueError::new_err("cancelled"))?;
        let counts: Vec<i64> = counts.into_iter().map(u64::cast_signed).collect();
        Ok(counts.into_pyarray(py))
    }
}

fn within(first: u32, count: u32) -> PyResult<()> {
    match first.checked_add(count) {
        Some(_) => Ok(()),
        None => Err(PyValueError::new_err("a sample has at most 2^32 - 1 noisy copies")),
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyNoisy>()
}
