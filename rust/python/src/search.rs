//! Binding of `aisec-search`.

use std::sync::Arc;

use aisec_numeric::Cancel;
use aisec_numeric::project::L1Workspace;
use aisec_search::{
    Apgd, ApgdConfig, ApgdL1, Bounds, Error, Loss, Norm, Outcome, Pool, Region, Square,
    SquareConfig, Status, run_gradients, run_queries,
};
use numpy::{
    IntoPyArray, PyArray1, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyReadwriteArrayDyn,
};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::array::{array, into_samples, samples};
use crate::call;
use crate::graph::PyGraph;

/// Points [n, *input], margins [n], status [n] (0 exhausted, 1 found, 2 logits not finite),
/// forwards [n], gradients [n].
type Outcomes<'py> = (
    Bound<'py, PyArrayDyn<f32>>,
    Bound<'py, PyArray1<f64>>,
    Bound<'py, PyArray1<i8>>,
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<i64>>,
);

/// The samples of one call and where each may move.
struct Problem<'py> {
    x: PyReadonlyArrayDyn<'py, f32>,
    labels: PyReadonlyArrayDyn<'py, i64>,
    ids: PyReadonlyArrayDyn<'py, i64>,
    shape: Vec<usize>,
    norm: Norm,
    eps: f64,
    bounds: Bounds,
}

impl<'py> Problem<'py> {
    fn new(
        arrays: [&Bound<'py, PyAny>; 3],
        shape: &[usize],
        classes: Option<usize>,
        norm: &str,
        eps: f64,
        bounds: [&Bound<'py, PyAny>; 2],
    ) -> PyResult<Self> {
        let [x, labels, ids] = arrays;
        let (x, count) = samples::<f32>("x", x, shape, None)?;
        let labels = array::<i64>("labels", labels, &[Some(count)])?;
        let ids = array::<i64>("sample_ids", ids, &[Some(count)])?;
        if let Some(classes) = classes {
            check_labels(labels.as_slice()?, classes)?;
        }
        let [lower, upper] = [limit("lower", bounds[0], shape)?, limit("upper", bounds[1], shape)?];
        Ok(Self {
            x,
            labels,
            ids,
            shape: shape.to_vec(),
            norm: Norm::parse(norm).map_err(to_python)?,
            eps,
            bounds: Bounds::new(&lower, &upper).map_err(to_python)?,
        })
    }

    /// What the searches read; usable without the GIL.
    fn view(&self) -> PyResult<View<'_>> {
        Ok(View {
            x: self.x.as_slice()?,
            labels: self.labels.as_slice()?,
            ids: self.ids.as_slice()?,
            len: self.shape.iter().product(),
            norm: self.norm,
            eps: self.eps,
            bounds: &self.bounds,
        })
    }
}

#[derive(Clone, Copy)]
struct View<'a> {
    x: &'a [f32],
    labels: &'a [i64],
    ids: &'a [i64],
    len: usize,
    norm: Norm,
    eps: f64,
    bounds: &'a Bounds,
}

impl View<'_> {
    fn count(&self) -> usize {
        self.labels.len()
    }

    fn region(&self, i: usize) -> Result<Region, Error> {
        let clean = &self.x[i * self.len..(i + 1) * self.len];
        Region::new(self.norm, self.eps, clean, self.bounds)
            .map_err(|error| Error::Input(format!("sample {i}: {error}")))
    }

    /// Region, label and id of one sample.
    fn sample(&self, i: usize) -> Result<(Region, usize, u64), Error> {
        Ok((self.region(i)?, self.labels[i] as usize, self.ids[i].cast_unsigned()))
    }

    fn square(&self, config: &Arc<SquareConfig>, i: usize) -> Result<Square, Error> {
        let (region, label, id) = self.sample(i)?;
        Ok(Square::new(config.clone(), region, label, id))
    }
}

fn check_labels(labels: &[i64], classes: usize) -> PyResult<()> {
    if classes < 2 {
        return Err(PyValueError::new_err(format!(
            "the model has {classes} output; an attack needs at least 2 classes"
        )));
    }
    match labels.iter().find(|&&label| label < 0 || label >= classes as i64) {
        None => Ok(()),
        Some(label) => Err(PyValueError::new_err(format!(
            "label {label} is not a class; expected 0 to {}",
            classes - 1
        ))),
    }
}

/// The shape of one sample of the batch `x`.
fn sample_shape(x: &Bound<'_, PyAny>) -> PyResult<Vec<usize>> {
    let shape = x.getattr("shape").and_then(|shape| shape.extract::<Vec<usize>>());
    let wrong = || PyValueError::new_err("x must be an array whose first axis counts samples");
    shape.ok().and_then(|shape| shape.split_first().map(|(_, s)| s.to_vec())).ok_or_else(wrong)
}

fn apgd_config(loss: &str, steps: usize, seed: u64, restart: u32) -> PyResult<Arc<ApgdConfig>> {
    let (kind, name) = match loss {
        "ce" => (Loss::CrossEntropy, "apgd-ce"),
        "dlr" => (Loss::Dlr, "apgd-dlr"),
        "margin" => (Loss::Margin, "apgd-margin"),
        _ => {
            return Err(PyValueError::new_err(format!(
                "loss {loss:?} is unknown; choose ce, dlr or margin"
            )));
        }
    };
    Ok(Arc::new(ApgdConfig::new(kind, steps, seed, name, restart)))
}

/// A number for all inputs, or one number an input.
fn limit(what: &str, value: &Bound<'_, PyAny>, shape: &[usize]) -> PyResult<Vec<f64>> {
    if let Ok(value) = value.extract::<f64>() {
        return Ok(vec![value; shape.iter().product()]);
    }
    let sizes: Vec<_> = shape.iter().map(|&n| Some(n)).collect();
    Ok(array::<f64>(what, value, &sizes)?.as_slice()?.to_vec())
}

fn to_python(error: Error) -> PyErr {
    PyValueError::new_err(error.to_string())
}

fn into_arrays<'py>(
    py: Python<'py>,
    outcomes: &[Outcome],
    shape: &[usize],
) -> PyResult<Outcomes<'py>> {
    let x = outcomes.iter().flat_map(|outcome| outcome.x.iter().copied()).collect();
    let status = outcomes.iter().map(|outcome| match outcome.status {
        Status::Exhausted => 0,
        Status::Found => 1,
        Status::NotFinite => 2,
    });
    let counts = |count: fn(&Outcome) -> u64| {
        let counts: Vec<i64> = outcomes.iter().map(|o| count(o).cast_signed()).collect();
        counts.into_pyarray(py)
    };
    let margins: Vec<f64> = outcomes.iter().map(|outcome| outcome.margin).collect();
    Ok((
        into_samples(py, x, outcomes.len(), shape)?,
        margins.into_pyarray(py),
        status.collect::<Vec<i8>>().into_pyarray(py),
        counts(|o| o.forwards),
        counts(|o| o.gradients),
    ))
}

/// Auto-PGD on a native graph: the whole search, in parallel over samples.
///
/// Args:
///     graph: logits [n, K], K >= 2.
///     x: float32 [n, *input_shape], inside the bounds.
///     labels: int64 [n].
///     sample_ids: int64 [n]; key the random start.
///     norm: "linf", "l2", "l1" or "box" (the bounds themselves are the region; eps is unused).
///     eps: radius, a float64 not above the exact one.
///     lower: a float, or float64 [*input_shape].
///     upper: the same.
///     seed: keys the random start, with restart and the loss's name.
///     loss: "ce", "dlr" or "margin".
///     batch: most samples one thread evaluates together; changes no result.
///
/// Returns:
///     Best points [n, *input_shape], margins there (float64 [n], inf where no logits were
///     finite), status (int8 [n]: 0 exhausted, 1 found, 2 logits not finite), forwards and
///     gradients (int64 [n]). Every point lies in the region without tolerance.
///
/// Raises:
///     ValueError: an array or option does not fit, in one line.
#[pyfunction]
#[pyo3(signature = (graph, x, labels, sample_ids, *, norm, eps, lower, upper, seed, restart, steps, loss, batch))]
fn apgd<'py>(
    py: Python<'py>,
    graph: &PyGraph,
    x: &Bound<'py, PyAny>,
    labels: &Bound<'py, PyAny>,
    sample_ids: &Bound<'py, PyAny>,
    norm: &str,
    eps: f64,
    lower: &Bound<'py, PyAny>,
    upper: &Bound<'py, PyAny>,
    seed: u64,
    restart: u32,
    steps: usize,
    loss: &str,
    batch: usize,
) -> PyResult<Outcomes<'py>> {
    let graph = graph.get();
    let (shape, classes) = (graph.input_shape(), graph.output_len());
    let arrays = [x, labels, sample_ids];
    let problem = Problem::new(arrays, shape, Some(classes), norm, eps, [lower, upper])?;
    let config = apgd_config(loss, steps, seed, restart)?;
    let view = problem.view()?;
    let work = |cancel: &Cancel| {
        let network = graph.as_ref();
        if view.norm == Norm::L1 {
            run_gradients(network, view.count(), batch, cancel, |i| {
                let (region, label, id) = view.sample(i)?;
                Ok(ApgdL1::new(config.clone(), region, label, id))
            })
        } else {
            run_gradients(network, view.count(), batch, cancel, |i| {
                let (region, label, id) = view.sample(i)?;
                Ok(Apgd::new(config.clone(), region, label, id))
            })
        }
    };
    let outcomes = call::interruptible(py, work)?.map_err(to_python)?;
    into_arrays(py, &outcomes, shape)
}

/// Where APGD starts, and how far each input may go: what a JAX run needs to begin as `apgd` does.
///
/// Args:
///     x, sample_ids, norm, eps, lower, upper, seed, restart: as for `apgd`; norm not "l1".
///     loss: "ce", "dlr" or "margin".
///
/// Returns:
///     Start points, lowest and highest inputs, float32 [n, *input_shape].
#[pyfunction]
#[pyo3(signature = (x, sample_ids, *, norm, eps, lower, upper, seed, restart, loss))]
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
    loss: &str,
) -> PyResult<[Bound<'py, PyArrayDyn<f32>>; 3]> {
    let shape = sample_shape(x)?;
    let problem =
        Problem::new([x, sample_ids, sample_ids], &shape, None, norm, eps, [lower, upper])?;
    let config = apgd_config(loss, 0, seed, restart)?;
    let view = problem.view()?;
    let work = || -> Result<_, Error> {
        let mut found = [vec![], vec![], vec![]];
        for i in 0..view.count() {
            let region = view.region(i)?;
            found[0].extend(config.start(&region, view.ids[i].cast_unsigned()));
            found[1].extend_from_slice(region.lower());
            found[2].extend_from_slice(region.upper());
        }
        Ok(found)
    };
    let [start, low, high] = py.detach(work).map_err(to_python)?;
    let give = |values| into_samples(py, values, view.count(), &shape);
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
    let arrays = [x, unused.as_any(), unused.as_any()];
    let problem = Problem::new(arrays, &shape, None, norm, eps, [lower, upper])?;
    let (view, mut found) = (problem.view()?, points.as_slice()?.to_vec());
    let work = || -> Result<_, Error> {
        let mut workspace = L1Workspace::default();
        for (i, point) in found.chunks_exact_mut(view.len.max(1)).enumerate() {
            view.region(i)?.project(point, &mut workspace);
        }
        Ok(found)
    };
    into_samples(py, py.detach(work).map_err(to_python)?, count, &shape)
}

/// Square Attack on a native graph: the whole search, in parallel over samples.
///
/// Args and returns as `apgd`; `queries` bounds the forwards of each sample and `p_init` is the
/// fraction of a sample that the first windows cover.
#[pyfunction]
#[pyo3(signature = (graph, x, labels, sample_ids, *, norm, eps, lower, upper, seed, restart, queries, p_init, batch))]
fn square<'py>(
    py: Python<'py>,
    graph: &PyGraph,
    x: &Bound<'py, PyAny>,
    labels: &Bound<'py, PyAny>,
    sample_ids: &Bound<'py, PyAny>,
    norm: &str,
    eps: f64,
    lower: &Bound<'py, PyAny>,
    upper: &Bound<'py, PyAny>,
    seed: u64,
    restart: u32,
    queries: u32,
    p_init: f64,
    batch: usize,
) -> PyResult<Outcomes<'py>> {
    let graph = graph.get();
    let (shape, classes) = (graph.input_shape(), graph.output_len());
    let arrays = [x, labels, sample_ids];
    let problem = Problem::new(arrays, shape, Some(classes), norm, eps, [lower, upper])?;
    let config = SquareConfig::new(shape, problem.norm, queries, p_init, seed, restart);
    let config = Arc::new(config.map_err(to_python)?);
    let view = problem.view()?;
    let work = |cancel: &Cancel| {
        run_queries(graph.as_ref(), view.count(), batch, cancel, |i| view.square(&config, i))
    };
    let outcomes = call::interruptible(py, work)?.map_err(to_python)?;
    into_arrays(py, &outcomes, shape)
}

/// Square Attack on a model the caller owns: ask for points, tell the logits.
#[pyclass(name = "Square", module = "aisec_eval._core")]
struct PySquare {
    config: Arc<SquareConfig>,
    pool: Pool<Square>,
    x: Vec<f32>,
    labels: Vec<i64>,
    ids: Vec<i64>,
    shape: Vec<usize>,
    classes: usize,
    norm: Norm,
    eps: f64,
    bounds: Bounds,
}

#[pymethods]
impl PySquare {
    /// A queue of searches, one a sample; arguments as for `square`.
    #[new]
    #[pyo3(signature = (x, labels, sample_ids, *, num_classes, norm, eps, lower, upper, seed, restart, queries, p_init))]
    fn new<'py>(
        x: &Bound<'py, PyAny>,
        labels: &Bound<'py, PyAny>,
        sample_ids: &Bound<'py, PyAny>,
        num_classes: usize,
        norm: &str,
        eps: f64,
        lower: &Bound<'py, PyAny>,
        upper: &Bound<'py, PyAny>,
        seed: u64,
        restart: u32,
        queries: u32,
        p_init: f64,
    ) -> PyResult<Self> {
        let shape = sample_shape(x)?;
        let arrays = [x, labels, sample_ids];
        let problem = Problem::new(arrays, &shape, Some(num_classes), norm, eps, [lower, upper])?;
        let config = SquareConfig::new(&shape, problem.norm, queries, p_init, seed, restart);
        let view = problem.view()?;
        Ok(Self {
            config: Arc::new(config.map_err(to_python)?),
            pool: Pool::new(view.count(), view.len),
            x: view.x.to_vec(),
            labels: view.labels.to_vec(),
            ids: view.ids.to_vec(),
            shape,
            classes: num_classes,
            norm: view.norm,
            eps,
            bounds: problem.bounds,
        })
    }

    /// Searches not yet finished.
    #[getter]
    fn remaining(&self) -> usize {
        self.pool.remaining()
    }

    /// Writes the next points into the first rows of `buffer` (float32 [b, *input_shape],
    /// C-contiguous) and returns how many; 0 when every search is finished.
    fn ask(&mut self, py: Python<'_>, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        let mut rows = self.buffer(buffer)?;
        let rows = rows.as_slice_mut()?;
        let Self { config, pool, x, labels, ids, shape, norm, eps, bounds, .. } = self;
        let len = shape.iter().product();
        let view = View { x, labels, ids, len, norm: *norm, eps: *eps, bounds };
        call::detached(py, || pool.ask(rows, |i| view.square(config, i))).map_err(to_python)
    }

    /// Positions in `x` of the rows written by the last `ask`, int64.
    fn asked<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        self.pool.asked().map(|index| index as i64).collect::<Vec<_>>().into_pyarray(py)
    }

    /// Takes the logits (float32 [rows asked, num_classes]) of the points in `buffer`.
    ///
    /// Returns:
    ///     Positions in `x` (int64) of the searches that ended, and their outcomes as `square`.
    #[allow(clippy::type_complexity)]
    fn tell<'py>(
        &mut self,
        py: Python<'py>,
        buffer: &Bound<'py, PyAny>,
        logits: &Bound<'py, PyAny>,
    ) -> PyResult<(Bound<'py, PyArray1<i64>>, Outcomes<'py>)> {
        let asked = self.pool.asked().count();
        let logits = array::<f32>("logits", logits, &[Some(asked), Some(self.classes)])?;
        let logits = logits.as_slice()?;
        let rows = self.buffer(buffer)?;
        let rows = rows.as_slice()?;
        let (pool, classes) = (&mut self.pool, self.classes);
        let ended = call::detached(py, || pool.tell(rows, logits, classes));
        let (positions, outcomes): (Vec<usize>, Vec<Outcome>) = ended.into_iter().unzip();
        let positions: Vec<i64> = positions.into_iter().map(|index| index as i64).collect();
        Ok((positions.into_pyarray(py), into_arrays(py, &outcomes, &self.shape)?))
    }
}

impl PySquare {
    fn buffer<'py>(&self, buffer: &Bound<'py, PyAny>) -> PyResult<PyReadwriteArrayDyn<'py, f32>> {
        let (array, _) = samples::<f32>("buffer", buffer, &self.shape, None)?;
        drop(array);
        let array = buffer.cast::<PyArrayDyn<f32>>()?;
        array
            .try_readwrite()
            .map_err(|_| PyRuntimeError::new_err("buffer must be a writeable array not in use"))
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PySquare>()?;
    module.add_function(wrap_pyfunction!(apgd, module)?)?;
    module.add_function(wrap_pyfunction!(apgd_start, module)?)?;
    module.add_function(wrap_pyfunction!(project, module)?)?;
    module.add_function(wrap_pyfunction!(square, module)?)
}
