//! Binding of `aisec_bounds::input_split`.

use std::sync::Arc;
use std::time::Duration;

use aisec_bounds::Region;
use aisec_bounds::input_split::{Clauses, InputSplit, Limits, Stopped};
use aisec_graph::Graph;
use numpy::{IntoPyArray, PyArray2, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::array::array;
use crate::call;
use crate::graph::PyGraph;

/// Branch and bound over a box of inputs, for outputs that meet one of some clauses.
///
/// All bounds hold for the graph in real arithmetic. The same for any number of threads, and for
/// any way to cut it into calls of `advance` that run to their end.
///
/// Args:
///     graph: the network.
///     lower: corner of the box, float64 `[inputs]`.
///     upper: the same.
///     rows: half-spaces over the output, float64 `[m, outputs]`.
///     rhs: float64 `[m]`: outputs meet a clause where `rows @ y <= rhs` in all of its rows.
///     sizes: how many rows each clause has; they lie one clause after the other.
///     memory_limit: bytes that boxes which wait may take, with what is known of them; beyond half
///         of it the newest go first.
///     record: whether the tree of boxes is kept.
///
/// Raises:
///     ValueError: an array has another shape, dtype or layout, the box is empty or not finite, or
///         sizes do not add up.
#[pyclass(name = "InputSplit", module = "aisec_eval._core")]
pub(crate) struct PyInputSplit {
    graph: Arc<Graph>,
    search: InputSplit,
}

#[pymethods]
impl PyInputSplit {
    #[new]
    #[pyo3(signature = (graph, lower, upper, *, rows, rhs, sizes, memory_limit, record=false))]
    fn new(
        graph: &PyGraph,
        lower: &Bound<'_, PyAny>,
        upper: &Bound<'_, PyAny>,
        rows: &Bound<'_, PyAny>,
        rhs: &Bound<'_, PyAny>,
        sizes: Vec<usize>,
        memory_limit: usize,
        record: bool,
    ) -> PyResult<Self> {
        let (network, py) = (graph.get(), lower.py());
        let inputs = network.input_len();
        let lower = array::<f64>("lower", lower, &[Some(inputs)])?;
        let upper = array::<f64>("upper", upper, &[Some(inputs)])?;
        let rows = array::<f64>("rows", rows, &[None, Some(network.output_len())])?;
        let count = rows.shape()[0];
        let rhs = array::<f64>("rhs", rhs, &[Some(count)])?;
        if sizes.iter().try_fold(0usize, |sum, &size| sum.checked_add(size)) != Some(count) {
            return Err(PyValueError::new_err(format!("sizes must add up to the {count} rows")));
        }
        let clauses =
            Clauses { rows: rows.as_slice()?.to_vec(), rhs: rhs.as_slice()?.to_vec(), sizes };
        let region = Region::cuboid(lower.as_slice()?, upper.as_slice()?)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        let limits = Limits { memory: memory_limit, record };
        let search = call::interruptible(py, |cancel| {
            InputSplit::new(network, &region, clauses, limits, cancel)
        })?
        .map_err(|_| PyRuntimeError::new_err("cancelled"))?;
        Ok(Self { graph: network.clone(), search })
    }

    /// Goes on for some waves of boxes, until something is found or time is up.
    ///
    /// Args:
    ///     waves: at most so many; the first one is the whole box alone.
    ///     timeout: seconds after which to pause.
    ///
    /// Returns:
    ///     "refuted", "points", "paused", "precision" or "memory", and points float64
    ///     `[n, inputs]` that may be counterexamples, none unless "points".
    ///
    /// Raises:
    ///     ValueError: timeout is not a time.
    fn advance<'py>(
        &mut self,
        py: Python<'py>,
        waves: usize,
        timeout: f64,
    ) -> PyResult<(&'static str, Bound<'py, PyArray2<f64>>)> {
        let limit = Duration::try_from_secs_f64(timeout)
            .map_err(|_| PyValueError::new_err(format!("timeout {timeout} is not a time")))?;
        let (graph, search) = (&self.graph, &mut self.search);
        let inputs = graph.input_len();
        let stopped = call::interruptible_within(py, Some(limit), |cancel| {
            search.advance(graph, waves, cancel)
        })?;
        let (status, points) = match stopped {
            Stopped::Refuted => ("refuted", Vec::new()),
            Stopped::Points(points) => ("points", points),
            Stopped::Paused => ("paused", Vec::new()),
            Stopped::Precision => ("precision", Vec::new()),
            Stopped::Memory => ("memory", Vec::new()),
        };
        let count = points.len();
        Ok((status, points.concat().into_pyarray(py).reshape([count, inputs])?))
    }

    /// Boxes bounded so far.
    #[getter]
    fn domains(&self) -> usize {
        self.search.domains()
    }

    /// Boxes that wait.
    #[getter]
    fn waiting(&self) -> usize {
        self.search.waiting()
    }

    /// The least by which a clause was refuted where boxes wait: not above zero; infinite where
    /// none does.
    #[getter]
    fn slack(&self) -> f64 {
        self.search.slack()
    }

    /// The entries of a certificate's proof, JSON; None where the tree was not kept, or is too large.
    ///
    /// It holds once the search has ended with "refuted".
    ///
    /// Raises:
    ///     ValueError: its boxes are not the nodes of one tree.
    fn proof(&self) -> PyResult<Option<String>> {
        let written = self.search.proof().map(aisec_bounds::BoxProof::write).transpose();
        written.map_err(|error| PyValueError::new_err(error.to_string()))
    }

    /// Clauses that bounds over the whole box leave open; all of them before the first wave.
    #[getter]
    fn open(&self) -> Vec<usize> {
        self.search.open()
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyInputSplit>()
}
