//! Binding of `aisec-search`.

mod pool;
mod problem;

use aisec_numeric::Cancel;
use aisec_numeric::project::L1Workspace;
use aisec_search::{ApgdConfig, Attack, Error, run};
use numpy::{PyArray1, PyArrayDyn};
use pyo3::prelude::*;

use crate::array::{into_samples, samples};
use crate::call;
use crate::graph::PyGraph;
pub(crate) use problem::sample_shape;
use problem::{Arguments, Outcomes, Problem, into_arrays, to_python};

/// An attack on a native graph: the whole search, in parallel over samples.
///
/// Args:
///     graph: logits [n, K], K >= 2.
///     x: float32 [n, *input_shape], inside the bounds.
///     labels: int64 [n].
///     sample_ids: int64 [n]; key the random numbers, with seed, attack and restart.
///     attack: its name, e.g. "apgd-ce", "square"; an unknown name is refused with all there are.
///     options: a JSON object of its parameters.
///     norm: "linf", "l2", "l1", "l0" or "box" (the bounds themselves are the region; eps is
///         unused).
///     eps: radius, a float64 not above the exact one.
///     lower: a float, or float64 [*input_shape].
///     upper: the same.
///     batch: most samples one thread evaluates together; changes no result.
///     targets: int64 [n], the class each sample is to reach, for targeted attacks.
///     starts: float32 [n, *input_shape], where each search begins, for attacks that can.
///     constraint: what points must satisfy beside the bounds, as JSON (norm "box" only).
///
/// Returns:
///     Best points [n, *input_shape], margins there (float64 [n], inf where no logits were
///     finite), status (int8 [n]: 0 exhausted, 1 found, 2 logits not finite), forwards and
///     gradients (int64 [n]), and how much of the margin the last 10 points took off, or the
///     second half of fewer (float64 [n], NaN for minimum-norm attacks). The best point is the
///     one with the smallest margin, and lies in the region without tolerance; of minimum-norm
///     attacks the nearest adversarial one, which may lie further away than eps.
///
/// Raises:
///     ValueError: an array or option does not fit, in one line.
#[pyfunction]
#[pyo3(signature = (graph, x, labels, sample_ids, *, attack, options, norm, eps, lower, upper, seed, restart, batch, targets=None, starts=None, constraint=None))]
fn search<'py>(
    py: Python<'py>,
    graph: &PyGraph,
    x: &Bound<'py, PyAny>,
    labels: &Bound<'py, PyAny>,
    sample_ids: &Bound<'py, PyAny>,
    attack: &str,
    options: &str,
    norm: &str,
    eps: f64,
    lower: &Bound<'py, PyAny>,
    upper: &Bound<'py, PyAny>,
    seed: u64,
    restart: u32,
    batch: usize,
    targets: Option<&Bound<'py, PyAny>>,
    starts: Option<&Bound<'py, PyAny>>,
    constraint: Option<&str>,
) -> PyResult<Outcomes<'py>> {
    let graph = graph.get();
    let (shape, classes) = (graph.input_shape(), graph.output_len());
    let arguments = Arguments { x, labels, sample_ids, norm, eps, lower, upper };
    let problem = Problem::new(&arguments, shape, Some(classes))?.aimed(targets, starts)?;
    let problem = problem.constrained(constraint)?;
    let setting = problem.setting(classes, seed, restart);
    let attack = Attack::new(attack, options, &setting).map_err(to_python)?;
    let work = |cancel: &Cancel| {
        run(graph.as_ref(), problem.count(), batch, cancel, |i| problem.start(&attack, i))
    };
    let outcomes = call::interruptible(py, work)?.map_err(to_python)?;
    into_arrays(py, &outcomes, shape)
}

/// Where APGD starts, and how far each input may go: what a JAX run needs to begin as `search` does.
///
/// Args:
///     x, sample_ids, norm, eps, lower, upper, seed, restart: as for `search`; norm not "l1".
///     attack: its name.
///
/// Returns:
///     Start points, lowest and highest inputs, float32 [n, *input_shape].
#[pyfunction]
#[pyo3(signature = (x, sample_ids, *, norm, eps, lower, upper, seed, restart, attack))]
#[allow(clippy::type_complexity)]
fn apgd_start<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    sample_ids: &Bound<'py, PyAny>,
    norm: &str,
    eps: f64,
    lower: &Bound<'py, PyAny>,
    upper: &Bound<'py, PyAny>,
    seed: u64,
    restart: u32,
    attack: &str,
) -> PyResult<[Bound<'py, PyArrayDyn<f32>>; 3]> {
    let shape = sample_shape(x)?;
    let arguments = Arguments { x, labels: sample_ids, sample_ids, norm, eps, lower, upper };
    let problem = Problem::new(&arguments, &shape, None)?;
    let config = ApgdConfig::new(0, seed, attack, restart);
    let work = || -> Result<_, Error> {
        let mut found = [vec![], vec![], vec![]];
        for i in 0..problem.count() {
            let region = problem.region(i)?;
            found[0].extend(config.start(&region, problem.ids[i].cast_unsigned()));
            found[1].extend_from_slice(region.lower());
            found[2].extend_from_slice(region.upper());
        }
        Ok(found)
    };
    let [start, low, high] = py.detach(work).map_err(to_python)?;
    let give = |values| into_samples(py, values, problem.count(), &shape);
    Ok([give(start)?, give(low)?, give(high)?])
}

/// Moves `points` into the regions around `x` without tolerance; returns float32 of their shape.
#[pyfunction]
#[pyo3(signature = (x, points, *, norm, eps, lower, upper))]
fn project<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    points: &Bound<'py, PyAny>,
    norm: &str,
    eps: f64,
    lower: &Bound<'py, PyAny>,
    upper: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let shape = sample_shape(x)?;
    let (points, count) = samples::<f32>("points", points, &shape, None)?;
    let unused = PyArray1::<i64>::zeros(py, count, false);
    let (labels, sample_ids) = (unused.as_any(), unused.as_any());
    let arguments = Arguments { x, labels, sample_ids, norm, eps, lower, upper };
    let problem = Problem::new(&arguments, &shape, None)?;
    let mut found = points.as_slice()?.to_vec();
    let work = || -> Result<_, Error> {
        let mut workspace = L1Workspace::default();
        for (i, point) in found.chunks_exact_mut(problem.len().max(1)).enumerate() {
            problem.region(i)?.project(point, &mut workspace);
        }
        Ok(found)
    };
    into_samples(py, py.detach(work).map_err(to_python)?, count, &shape)
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<pool::SearchPool>()?;
    module.add_function(wrap_pyfunction!(search, module)?)?;
    module.add_function(wrap_pyfunction!(apgd_start, module)?)?;
    module.add_function(wrap_pyfunction!(project, module)?)
}
