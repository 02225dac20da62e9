//! Binding of certificates: writing those of `aisec-bounds`, checking with `aisec-checker`.

use aisec_bounds::Method;
use aisec_checker::{Arithmetic, Norm, Refusal};
use numpy::{PyArray1, PyArray2, PyArrayMethods, ToPyArray};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::call;
use crate::graph::PyGraph;

type Vector<'py> = Bound<'py, PyArray1<f64>>;
type Ball<'py> = (&'static str, Vector<'py>, f64);
type Clause<'py> = (Bound<'py, PyArray2<f64>>, Vector<'py>);
type Case<'py> =
    (Vector<'py>, Vector<'py>, Option<Ball<'py>>, Vec<Clause<'py>>, Vector<'py>, usize);

/// Checks a certificate, independently of what wrote it.
///
/// Accepted means: no point of the region of any case has outputs that meet one of its clauses,
/// for the graph in real arithmetic.
///
/// Args:
///     graph: the network.
///     text: the certificate, decompressed.
///     exact: in rational arithmetic instead of float64, for small networks.
///
/// Returns:
///     For each case what was proven: corners of the region float64 `[inputs]`; norm ("l1" or
///     "l2"), centre and radius of a ball it is cut with, or None; the clauses as rows
///     `[k, outputs]` and right-hand sides `[k]` of `rows @ y <= rhs`; the least bound claimed of
///     each clause, infinite where clipping alone refutes it; how many leaves the proof has.
///
/// Raises:
///     ValueError: the certificate is not accepted; says why in one line.
#[pyfunction]
#[pyo3(signature = (graph, text, *, exact=false))]
fn check_certificate<'py>(
    py: Python<'py>,
    graph: &PyGraph,
    text: &[u8],
    exact: bool,
) -> PyResult<Vec<Case<'py>>> {
    let graph = graph.get();
    let arithmetic = if exact { Arithmetic::Exact } else { Arithmetic::Float };
    let proven = call::interruptible(py, |cancel| {
        aisec_checker::check_certificate(graph, text, arithmetic, cancel)
    })?
    .map_err(|why: Refusal| PyValueError::new_err(why.to_string()))?;
    let case = |case: &aisec_checker::ProvenCase| {
        let ball = case.ball.as_ref().map(|ball| {
            let norm = if ball.norm == Norm::L2 { "l2" } else { "l1" };
            (norm, ball.center.to_pyarray(py), ball.radius)
        });
        let clause = |(rows, rhs): &(Vec<f64>, Vec<f64>)| {
            let shape = [rhs.len(), rows.len() / rhs.len().max(1)];
            Ok((rows.to_pyarray(py).reshape(shape)?, rhs.to_pyarray(py)))
        };
        Ok((
            case.lower.to_pyarray(py),
            case.upper.to_pyarray(py),
            ball,
            case.clauses.iter().map(clause).collect::<PyResult<_>>()?,
            case.bounds.to_pyarray(py),
            case.leaves,
        ))
    };
    proven.cases.iter().map(case).collect()
}

/// The entries of a certificate's proof that clauses of one row each are refuted over the whole
/// region by lower bounds of `row · y - rhs` that a method gives with its usual lines.
///
/// Args:
///     method: "ibp", "crown-ibp" or "crown".
///     bounds: one a clause, above zero.
///
/// Returns:
///     JSON.
///
/// Raises:
///     ValueError: the method is another one, or a bound is not above zero and finite.
#[pyfunction]
fn plain_proof(method: &str, bounds: Vec<f64>) -> PyResult<String> {
    let method = match method {
        "ibp" => Method::Ibp,
        "crown-ibp" => Method::CrownIbp,
        "crown" => Method::Crown,
        other => {
            return Err(PyValueError::new_err(format!("method {other:?} has no plain proof")));
        }
    };
    if let Some(bound) = bounds.iter().find(|bound| !(**bound > 0.0 && bound.is_finite())) {
        return Err(PyValueError::new_err(format!("a bound of {bound} proves nothing")));
    }
    Ok(aisec_bounds::plain_proof(method, &bounds))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(check_certificate, module)?)?;
    module.add_function(wrap_pyfunction!(plain_proof, module)?)
}
