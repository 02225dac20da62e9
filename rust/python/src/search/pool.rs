//! Searches over a model the caller owns.

use aisec_search::{Attack, Outcome, Pool};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayDyn, PyArrayMethods, PyReadwriteArrayDyn};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use super::problem::{Arguments, Outcomes, Problem, into_arrays, sample_shape, to_python};
use crate::array::{array, samples};
use crate::call;

/// An attack on a model the caller owns: ask for points, tell the logits, give the gradients.
#[pyclass(name = "SearchPool", module = "aisec_eval._core")]
pub(super) struct SearchPool {
    attack: Attack,
    pool: Pool,
    problem: Problem,
    classes: usize,
}

#[pymethods]
impl SearchPool {
    /// A queue of searches, one a sample; arguments as for `search`.
    #[new]
    #[pyo3(signature = (x, labels, sample_ids, *, num_classes, attack, options, norm, eps, lower, upper, seed, restart, targets=None, starts=None, constraint=None))]
    fn new(
        x: &Bound<'_, PyAny>,
        labels: &Bound<'_, PyAny>,
        sample_ids: &Bound<'_, PyAny>,
        num_classes: usize,
        attack: &str,
        options: &str,
        norm: &str,
        eps: f64,
        lower: &Bound<'_, PyAny>,
        upper: &Bound<'_, PyAny>,
        seed: u64,
        restart: u32,
        targets: Option<&Bound<'_, PyAny>>,
        starts: Option<&Bound<'_, PyAny>>,
        constraint: Option<&str>,
    ) -> PyResult<Self> {
        let arguments = Arguments { x, labels, sample_ids, norm, eps, lower, upper };
        let problem = Problem::new(&arguments, &sample_shape(x)?, Some(num_classes))?;
        let problem = problem.aimed(targets, starts)?.constrained(constraint)?;
        let setting = problem.setting(num_classes, seed, restart);
        Ok(Self {
            attack: Attack::new(attack, options, &setting).map_err(to_python)?,
            pool: Pool::new(problem.count(), problem.len(), num_classes),
            problem,
            classes: num_classes,
        })
    }

    /// Searches not yet finished.
    #[getter]
    fn remaining(&self) -> usize {
        self.pool.remaining()
    }

    /// Writes the next points into the first rows of `buffer` (float32 [b, *input_shape],
    /// C-contiguous).
    ///
    /// Returns:
    ///     How many rows, 0 when every search is finished; and whether `tell` is to be followed
    ///     by `step`.
    fn ask(&mut self, py: Python<'_>, buffer: &Bound<'_, PyAny>) -> PyResult<(usize, bool)> {
        let mut rows = self.writeable("buffer", buffer, None)?;
        let rows = rows.as_slice_mut()?;
        let Self { attack, pool, problem, .. } = self;
        call::detached(py, || pool.ask(rows, |i| problem.start(attack, i))).map_err(to_python)
    }

    /// Takes the logits (float32 [rows asked, num_classes]) of the points in `buffer`.
    ///
    /// Returns:
    ///     Positions in `x` (int64) of the searches that ended; their outcomes as `search`; and
    ///     what to pull back (float32 [rows asked, num_classes], 0 rows where no gradient is
    ///     wanted).
    #[allow(clippy::type_complexity)]
    fn tell<'py>(
        &mut self,
        py: Python<'py>,
        buffer: &Bound<'py, PyAny>,
        logits: &Bound<'py, PyAny>,
    ) -> PyResult<(Bound<'py, PyArray1<i64>>, Outcomes<'py>, Bound<'py, PyArray2<f32>>)> {
        let (asked, classes) = (self.pool.asked(), self.classes);
        let logits = array::<f32>("logits", logits, &[Some(asked), Some(classes)])?;
        let logits = logits.as_slice()?;
        let (rows, count) = samples::<f32>("buffer", buffer, &self.problem.shape, None)?;
        if count < asked {
            return Err(PyValueError::new_err(format!(
                "buffer holds {count} rows, {asked} were asked"
            )));
        }
        let rows = rows.as_slice()?;
        let pool = &mut self.pool;
        let told = call::detached(py, || pool.tell(rows, logits));
        let (positions, outcomes): (Vec<usize>, Vec<Outcome>) = told.ended.into_iter().unzip();
        let positions: Vec<i64> = positions.into_iter().map(|index| index as i64).collect();
        let rows = told.cotangents.len() / classes;
        Ok((
            positions.into_pyarray(py),
            into_arrays(py, &outcomes, &self.problem.shape)?,
            told.cotangents.into_pyarray(py).reshape([rows, classes])?,
        ))
    }

    /// Takes the pull-backs (float32 [rows told, *input_shape], overwritten) of the cotangents of
    /// the last `tell`.
    fn step(&mut self, py: Python<'_>, gradients: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut gradients = self.writeable("gradients", gradients, Some(self.pool.told()))?;
        let (gradients, pool) = (gradients.as_slice_mut()?, &mut self.pool);
        call::detached(py, || pool.step(gradients));
        Ok(())
    }
}

impl SearchPool {
    fn writeable<'py>(
        &self,
        what: &str,
        value: &Bound<'py, PyAny>,
        count: Option<usize>,
    ) -> PyResult<PyReadwriteArrayDyn<'py, f32>> {
        let (array, _) = samples::<f32>(what, value, &self.problem.shape, count)?;
        drop(array);
        let array = value.cast::<PyArrayDyn<f32>>()?;
        array.try_readwrite().map_err(|_| {
            PyRuntimeError::new_err(format!("{what} must be a writeable array not in use"))
        })
    }
}
