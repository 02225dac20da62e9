//! Binding of complete verification in `aisec-bounds`.

use std::sync::Arc;
use std::time::Duration;

use aisec_bounds::{Answer, Clause, Proof, Region, Search, Why};
use numpy::{IntoPyArray, PyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::array::{array, samples};
use crate::bounds::regions;
use crate::call;
use crate::graph::PyGraph;

/// What a certificate of a refutation is written from, see `Proof` in `aisec-bounds`.
#[pyclass(name = "SplitProof", module = "aisec_eval._core", frozen)]
pub(crate) struct PySplitProof(Arc<Proof>);

#[pymethods]
impl PySplitProof {
    /// The entries of a certificate's proof, JSON.
    ///
    /// Args:
    ///     graph: the network that was decided on.
    ///     lower: corner of the region's box, float64 `[inputs]`.
    ///     upper: the same.
    ///     clauses: how many there are.
    ///     compact: leave bounds that follow from the usual lines to the checker.
    ///
    /// Raises:
    ///     ValueError: arrays do not fit, or the leaves are not the ends of one tree a clause.
    #[pyo3(signature = (graph, lower, upper, *, clauses, compact=false))]
    fn write(
        &self,
        graph: &PyGraph,
        lower: &Bound<'_, PyAny>,
        upper: &Bound<'_, PyAny>,
        clauses: usize,
        compact: bool,
    ) -> PyResult<String> {
        let graph = graph.get();
        let inputs = graph.input_len();
        let lower = array::<f64>("lower", lower, &[Some(inputs)])?;
        let upper = array::<f64>("upper", upper, &[Some(inputs)])?;
        let region = Region::cuboid(lower.as_slice()?, upper.as_slice()?)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        let written = self.0.write(graph, &region, clauses, compact);
        written.map_err(|error| PyValueError::new_err(error.to_string()))
    }

    /// `(clause, depth)` of every end of the proof's trees: how many splits lead to it.
    #[getter]
    fn ends(&self) -> Vec<(usize, usize)> {
        self.0.ends()
    }
}

type Decided<'py> =
    (String, Option<Bound<'py, PyArray1<f64>>>, f64, usize, Option<Py<PySplitProof>>);

/// Decides whether a point of a region meets a clause: outputs with `rows · y <= rhs` in each of
/// the clause's rows. CROWN, alpha-CROWN, and branch and bound over the signs of neurons.
///
/// Args:
///     graph: the network.
///     lower: corner of the box, float64 `[1, *input_shape]`.
///     upper: the same.
///     rows: the rows of all clauses, one clause after the other, float64 `[m, K]`.
///     rhs_lower: their right-hand sides rounded down, float64 `[m]`.
///     rhs_upper: the same rounded up.
///     sizes: how many rows each clause has; they add up to m.
///     center: centre of the ball, float64 `[1, *input_shape]`; without it the box stands alone.
///     radius: of the ball in `norm`.
///     norm: "linf", "l2" or "l1".
///     inner: corners `(lower, upper)`, float64 `[*input_shape]` each, between which a point is in
///         the region beyond doubt; without them the region's own box is taken.
///     timeout: seconds after which to answer with what is known.
///     memory_limit: bytes that coefficients and the queue may take.
///     effort: scalar operations that intermediate bounds may cost beyond CROWN's.
///     most_domains: parts of the region after which to give up.
///     record: keep what a certificate is written from.
///     start: a refutation of the same clauses over a region of another size, to begin with.
///
/// Returns:
///     The answer, "refuted", "met", "timeout", "memory", "domains", "stuck" or "not finite"; a
///     point that meets a clause, float64 of the input's length, or None; where open, how far above
///     its right-hand side some clause stays; parts of the region bounded; a refutation's proof.
///
/// Raises:
///     ValueError: an array has another shape, dtype or layout, or the region is empty.
#[pyfunction]
#[pyo3(signature = (
    graph, lower, upper, *, rows, rhs_lower, rhs_upper, sizes, center=None, radius=0.0,
    norm="linf", inner=None, timeout=None, memory_limit=None, effort=1e11, most_domains=None,
    record=false, start=None
))]
fn decide<'py>(
    graph: &PyGraph,
    lower: &Bound<'py, PyAny>,
    upper: &Bound<'py, PyAny>,
    rows: &Bound<'py, PyAny>,
    rhs_lower: &Bound<'py, PyAny>,
    rhs_upper: &Bound<'py, PyAny>,
    sizes: Vec<usize>,
    center: Option<&Bound<'py, PyAny>>,
    radius: f64,
    norm: &str,
    inner: Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)>,
    timeout: Option<f64>,
    memory_limit: Option<usize>,
    effort: f64,
    most_domains: Option<usize>,
    record: bool,
    start: Option<&PySplitProof>,
) -> PyResult<Decided<'py>> {
    let (graph, py) = (graph.get(), lower.py());
    let shape = graph.input_shape();
    let (lower, _) = samples::<f64>("lower", lower, shape, Some(1))?;
    let (upper, _) = samples::<f64>("upper", upper, shape, Some(1))?;
    let center =
        center.map(|center| samples::<f64>("center", center, shape, Some(1))).transpose()?;
    let center = center.as_ref().map(|(center, _)| center.as_slice()).transpose()?;
    let len = graph.input_len();
    let (lower, upper) = (lower.as_slice()?, upper.as_slice()?);
    let region = regions(len, lower, upper, center, &[radius], norm)?.remove(0);
    let total = sizes.iter().sum();
    let rows = array::<f64>("rows", rows, &[Some(total), Some(graph.output_len())])?;
    let below = array::<f64>("rhs_lower", rhs_lower, &[Some(total)])?;
    let above = array::<f64>("rhs_upper", rhs_upper, &[Some(total)])?;
    let clauses = clauses(&sizes, rows.as_slice()?, below.as_slice()?, above.as_slice()?);
    let corner = |what: &str, side: &Bound<'py, PyAny>| -> PyResult<Vec<f64>> {
        let sizes: Vec<_> = shape.iter().map(|&size| Some(size)).collect();
        Ok(array::<f64>(what, side, &sizes)?.as_slice()?.to_vec())
    };
    let inner = inner
        .map(|(low, high)| Ok::<_, PyErr>((corner("inner", &low)?, corner("inner", &high)?)))
        .transpose()?;
    let inner = inner.or_else(|| Some((region.lower().to_vec(), region.upper().to_vec())));
    let limit = match timeout {
        None => None,
        Some(seconds) => Some(
            Duration::try_from_secs_f64(seconds)
                .map_err(|_| PyValueError::new_err(format!("timeout {seconds} is not a time")))?,
        ),
    };
    let most_domains = most_domains.unwrap_or(usize::MAX);
    let start = start.map(|proof| proof.0.clone());
    let search = Search { memory_limit, effort, most_domains, record, start, inner };
    let decision = call::interruptible_within(py, limit, |cancel| {
        aisec_bounds::decide(graph, region, &clauses, &search, cancel)
    })?;
    let (name, point) = match decision.answer {
        Answer::Refuted => ("refuted", None),
        Answer::Met(point) => ("met", Some(point.into_pyarray(py))),
        Answer::Open(Why::Timeout) => ("timeout", None),
        Answer::Open(Why::Memory) => ("memory", None),
        Answer::Open(Why::Domains) => ("domains", None),
        Answer::Open(Why::NothingToSplit) => ("stuck", None),
        Answer::Open(Why::NotFinite) => ("not finite", None),
    };
    let proof =
        decision.proof.map(|proof| Py::new(py, PySplitProof(Arc::new(proof)))).transpose()?;
    Ok((name.to_owned(), point, decision.bound, decision.domains, proof))
}

fn clauses(sizes: &[usize], rows: &[f64], below: &[f64], above: &[f64]) -> Vec<Clause> {
    let outputs = rows.len().checked_div(below.len()).unwrap_or(0);
    let mut start = 0;
    let clause = |&size: &usize| {
        let part = start..start + size;
        start += size;
        Clause {
            rows: rows[part.start * outputs..part.end * outputs].to_vec(),
            rhs_lower: below[part.clone()].to_vec(),
            rhs_upper: above[part].to_vec(),
        }
    };
    sizes.iter().map(clause).collect()
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PySplitProof>()?;
    module.add_function(wrap_pyfunction!(decide, module)?)
}
