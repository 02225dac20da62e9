//! Binding of `aisec-graph`.

use std::sync::Arc;

use aisec_graph::{Error, Graph, GraphSpec, Tensor};
use aisec_numeric::{Cancel, Scalar};
use numpy::{Element, PyArrayDyn, PyReadonlyArrayDyn, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::array::{into_samples, samples};
use crate::call;

/// A network: operators from one input to one output, checked when it is made. Immutable.
#[pyclass(name = "Graph", module = "aisec_eval._core", frozen)]
pub(crate) struct PyGraph {
    graph: Arc<Graph>,
}

type Samples<'py, T> = Bound<'py, PyArrayDyn<T>>;

impl PyGraph {
    /// The graph, for the bindings of the engines that run it.
    pub(crate) fn get(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// The node asked for, the output by default.
    fn node(&self, node: Option<isize>) -> PyResult<usize> {
        let Some(node) = node else { return Ok(self.graph.output()) };
        let count = self.graph.nodes().len();
        usize::try_from(node).ok().filter(|&node| node < count).ok_or_else(|| {
            PyValueError::new_err(format!("node {node}: expected 0 to {}", count - 1))
        })
    }

    fn run<'py, T: Scalar + Element>(
        &self,
        x: &Bound<'py, PyAny>,
        node: Option<isize>,
    ) -> PyResult<Samples<'py, T>> {
        let node = self.node(node)?;
        let (x, batch) = samples::<T>("x", x, self.graph.input_shape(), None)?;
        let (py, values) = (x.py(), x.as_slice()?);
        let output =
            self.enter(py, batch, |cancel| self.graph.forward_to(node, values, batch, cancel))?;
        into_samples(py, output, batch, &self.graph.nodes()[node].shape)
    }

    /// Runs `work` with the GIL released: on the calling thread when it is small, on the pool
    /// otherwise, and interruptible when it takes long.
    fn enter<R: Send>(
        &self,
        py: Python<'_>,
        batch: usize,
        work: impl FnOnce(&Cancel) -> Result<R, Error> + Send,
    ) -> PyResult<R> {
        let result = if self.graph.is_small(batch) {
            py.detach(|| work(&Cancel::new()))
        } else if self.graph.is_short(batch) {
            call::detached(py, || work(&Cancel::new()))
        } else {
            call::interruptible(py, work)?
        };
        result.map_err(to_python)
    }
}

#[pymethods]
impl PyGraph {
    /// Checks a description (JSON) and its tensors.
    ///
    /// Args:
    ///     spec: `{"nodes": [{"name", "op", "inputs", "tensors", "attrs"}], "output": int}`,
    ///         nodes in topological order, node 0 the input; shapes without the batch axis.
    ///     tensors: float32 or float64 C-contiguous arrays, referred to by index.
    ///
    /// Raises:
    ///     ValueError: what is wrong, at which node, in one line.
    #[new]
    fn new(py: Python<'_>, spec: &str, tensors: Vec<Bound<'_, PyAny>>) -> PyResult<Self> {
        let read = |(index, value): (usize, &Bound<'_, PyAny>)| tensor(index, value);
        let tensors = tensors.iter().enumerate().map(read).collect::<PyResult<Vec<Tensor>>>()?;
        let graph = py.detach(|| Graph::new(GraphSpec::from_json(spec)?, tensors));
        Ok(Self { graph: Arc::new(graph.map_err(to_python)?) })
    }

    /// One sample's input shape.
    #[getter]
    fn input_shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.graph.input_shape())
    }

    /// One sample's output shape.
    #[getter]
    fn output_shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.graph.output_shape())
    }

    #[getter]
    fn num_nodes(&self) -> usize {
        self.graph.nodes().len()
    }

    /// BLAKE3, in hex, of operators, edges, attributes and tensors; node names do not enter.
    #[getter]
    fn digest(&self) -> &str {
        self.graph.digest()
    }

    /// The name of a node.
    fn node_name(&self, node: isize) -> PyResult<&str> {
        Ok(&self.graph.nodes()[self.node(Some(node))?].name)
    }

    /// The operator of a node.
    fn node_op(&self, node: isize) -> PyResult<&'static str> {
        Ok(self.graph.nodes()[self.node(Some(node))?].op.name())
    }

    /// One sample's shape at a node.
    fn node_shape<'py>(&self, py: Python<'py>, node: isize) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.graph.nodes()[self.node(Some(node))?].shape)
    }

    /// The value of `node` (the output by default) in float32.
    ///
    /// Args:
    ///     x: float32 `[n, *input_shape]`, C-contiguous, in the model's input range.
    ///     node: index of a node.
    ///
    /// Returns:
    ///     float32 `[n, *node_shape(node)]`; each sample bit for bit the same in any batch.
    ///
    /// Raises:
    ///     ValueError: `x` has another shape, dtype or layout, or there is no such node.
    #[pyo3(signature = (x, node=None))]
    fn forward<'py>(
        &self,
        x: &Bound<'py, PyAny>,
        node: Option<isize>,
    ) -> PyResult<Samples<'py, f32>> {
        self.run(x, node)
    }

    /// Like `forward`, in float64.
    #[pyo3(signature = (x, node=None))]
    fn forward64<'py>(
        &self,
        x: &Bound<'py, PyAny>,
        node: Option<isize>,
    ) -> PyResult<Samples<'py, f64>> {
        self.run(x, node)
    }

    /// The output, and the gradient of `sum(cotangent * output)` by `x`, both float32.
    ///
    /// Args:
    ///     x: float32 `[n, *input_shape]`.
    ///     cotangent: float32 `[n, *output_shape]`.
    ///
    /// Returns:
    ///     float32 `[n, *output_shape]` and `[n, *input_shape]`.
    ///
    /// Raises:
    ///     ValueError: an array has another shape, dtype or layout.
    fn value_and_vjp<'py>(
        &self,
        x: &Bound<'py, PyAny>,
        cotangent: &Bound<'py, PyAny>,
    ) -> PyResult<(Samples<'py, f32>, Samples<'py, f32>)> {
        let graph = &self.graph;
        let (x, batch) = samples::<f32>("x", x, graph.input_shape(), None)?;
        let (cotangent, _) =
            samples::<f32>("cotangent", cotangent, graph.output_shape(), Some(batch))?;
        let (py, values, cotangent) = (x.py(), x.as_slice()?, cotangent.as_slice()?);
        let (output, gradient) =
            self.enter(py, batch, |cancel| graph.value_and_vjp(values, batch, cotangent, cancel))?;
        Ok((
            into_samples(py, output, batch, graph.output_shape())?,
            into_samples(py, gradient, batch, graph.input_shape())?,
        ))
    }

    /// Interval bounds of `node` (the output by default) over boxes, in float64, rounded
    /// outward: they hold for the graph in real arithmetic.
    ///
    /// Args:
    ///     lower: float64 `[n, *input_shape]`.
    ///     upper: the same, nowhere below `lower`.
    ///     node: index of a node.
    ///
    /// Returns:
    ///     Lower and upper bounds, float64 `[n, *node_shape(node)]`.
    ///
    /// Raises:
    ///     ValueError: an array has another shape, dtype or layout, is NaN, or the box is empty,
    ///         or there is no such node.
    #[pyo3(signature = (lower, upper, node=None))]
    fn interval<'py>(
        &self,
        lower: &Bound<'py, PyAny>,
        upper: &Bound<'py, PyAny>,
        node: Option<isize>,
    ) -> PyResult<(Samples<'py, f64>, Samples<'py, f64>)> {
        let node = self.node(node)?;
        let (lower, batch) = samples::<f64>("lower", lower, self.graph.input_shape(), None)?;
        let (upper, _) = samples::<f64>("upper", upper, self.graph.input_shape(), Some(batch))?;
        let (py, lower, upper) = (lower.py(), lower.as_slice()?, upper.as_slice()?);
        let (below, above) =
            self.enter(py, batch, |cancel| self.graph.interval(node, lower, upper, batch, cancel))?;
        let shape = &self.graph.nodes()[node].shape;
        Ok((into_samples(py, below, batch, shape)?, into_samples(py, above, batch, shape)?))
    }

    fn __repr__(&self) -> String {
        format!(
            "Graph({} nodes, {:?} -> {:?}, digest {}…)",
            self.graph.nodes().len(),
            self.graph.input_shape(),
            self.graph.output_shape(),
            &self.graph.digest()[..12]
        )
    }
}

/// A constant from a float32 or float64 array.
fn tensor(index: usize, value: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    let wrong = |got: String| {
        PyValueError::new_err(format!(
            "tensor {index}: expected a C-contiguous float32 or float64 array, got {got}"
        ))
    };
    let Ok(untyped) = value.cast::<PyUntypedArray>() else {
        return Err(wrong(value.get_type().name()?.to_string()));
    };
    let shape = untyped.shape().to_vec();
    let values = if !untyped.is_c_contiguous() {
        None
    } else if let Ok(array) = value.extract::<PyReadonlyArrayDyn<'_, f64>>() {
        array.as_slice().ok().map(<[f64]>::to_vec)
    } else if let Ok(array) = value.extract::<PyReadonlyArrayDyn<'_, f32>>() {
        array.as_slice().ok().map(|values| values.iter().copied().map(f64::from).collect())
    } else {
        None
    };
    let values = values.ok_or_else(|| {
        let layout = if untyped.is_c_contiguous() { "" } else { "non-contiguous " };
        wrong(format!("{layout}{} of shape {shape:?}", untyped.dtype()))
    })?;
    Tensor::new(shape, values).map_err(PyValueError::new_err)
}

fn to_python(error: Error) -> PyErr {
    PyValueError::new_err(error.to_string())
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyGraph>()
}
