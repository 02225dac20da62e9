//! Binding of the neighbour search.

use aisec_detect::{Ballot, Metric, NeighbourGraph, NeighbourVotes, Neighbours};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods};
use numpy::{PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::to_python;
use crate::call;

/// Indices and distances.
type Found<'py> = (Bound<'py, PyArray2<u32>>, Bound<'py, PyArray2<f32>>);
/// These, and the recall: its mean, its lower bound, the samples looked at.
type Measured<'py> = (Bound<'py, PyArray2<u32>>, Bound<'py, PyArray2<f32>>, (f64, f64, usize));

/// The exact nearest neighbours of every sample among the others, found in parts.
#[pyclass(name = "Neighbours", module = "aisec_eval._core")]
pub(crate) struct PyNeighbours {
    search: Neighbours,
    k: usize,
}

#[pymethods]
impl PyNeighbours {
    /// Prepares the search; the features are copied twice.
    ///
    /// Args:
    ///     x: features, float32 `[n, d]`.
    ///     k: neighbours of each sample, below `n`.
    ///     metric: "cosine" or "euclidean".
    ///
    /// Raises:
    ///     ValueError: a feature is not finite, or an argument does not fit.
    #[new]
    fn new(py: Python<'_>, x: PyReadonlyArray2<'_, f32>, k: usize, metric: &str) -> PyResult<Self> {
        let metric = metric_of(metric)?;
        let (samples, dim) = (x.shape()[0], x.shape()[1]);
        check_k(k, samples, 32)?;
        let x = x.as_slice()?;
        let search = call::detached(py, || Neighbours::new(x.to_vec(), dim, k, metric));
        Ok(Self { search: search.map_err(to_python)?, k })
    }

    /// Bytes that a search of `samples` holds, beside the features that it is given.
    #[staticmethod]
    fn memory(samples: usize, dim: usize, k: usize) -> usize {
        Neighbours::memory(samples, dim, k)
    }

    /// Pairs of blocks of samples that were compared, and that there are.
    #[getter]
    fn progress(&self) -> (usize, usize) {
        self.search.progress()
    }

    /// Compares up to `pairs` further pairs of blocks.
    fn advance(&mut self, py: Python<'_>, pairs: usize) -> PyResult<()> {
        call::interruptible(py, |cancel| self.search.advance(pairs, cancel))?.map_err(to_python)
    }

    /// Indices, uint32 `[n, k]`, and distances, float32 `[n, k]`, nearest first.
    ///
    /// Raises:
    ///     ValueError: pairs are left.
    fn finish<'py>(&self, py: Python<'py>) -> PyResult<Found<'py>> {
        let (done, total) = self.search.progress();
        if done < total {
            return Err(PyValueError::new_err(format!("{} pairs are left", total - done)));
        }
        let found = call::interruptible(py, |cancel| self.search.finish(cancel))?;
        let (ids, distances) = found.map_err(to_python)?;
        arrays(py, ids, distances, self.k)
    }
}

/// Most of the nearest neighbours of every sample among the others, from a graph, in parts.
#[pyclass(name = "NeighbourGraph", module = "aisec_eval._core")]
pub(crate) struct PyNeighbourGraph {
    search: NeighbourGraph,
    k: usize,
}

#[pymethods]
impl PyNeighbourGraph {
    /// Prepares the search; the features are copied twice.
    ///
    /// Args:
    ///     x: features, float32 `[n, d]`.
    ///     k: neighbours of each sample, below `n`, which is below 2^31.
    ///     metric: "cosine" or "euclidean".
    ///     seed: names the random choices.
    ///
    /// Raises:
    ///     ValueError: a feature is not finite, or an argument does not fit.
    #[new]
    #[pyo3(signature = (x, k, metric, *, seed=0))]
    fn new(
        py: Python<'_>,
        x: PyReadonlyArray2<'_, f32>,
        k: usize,
        metric: &str,
        seed: u64,
    ) -> PyResult<Self> {
        let metric = metric_of(metric)?;
        let (samples, dim) = (x.shape()[0], x.shape()[1]);
        check_k(k, samples, 31)?;
        let x = x.as_slice()?;
        let search = call::detached(py, || NeighbourGraph::new(x.to_vec(), dim, k, metric, seed));
        Ok(Self { search: search.map_err(to_python)?, k })
    }

    /// Bytes that a search of `samples` holds, beside the features that it is given.
    #[staticmethod]
    fn memory(samples: usize, dim: usize, k: usize) -> usize {
        NeighbourGraph::memory(samples, dim, k)
    }

    /// Trees and rounds that are done, and that there are at most.
    #[getter]
    fn progress(&self) -> (usize, usize) {
        self.search.progress()
    }

    /// Compares the leaves of one tree, or the choices of one round.
    fn advance(&mut self, py: Python<'_>) -> PyResult<()> {
        call::interruptible(py, |cancel| self.search.advance(cancel))?.map_err(to_python)
    }

    /// Indices, uint32 `[n, k]`, and distances, float32 `[n, k]`, nearest first; the mean share of
    /// true neighbours among them, measured on samples, its lower bound of 95 % confidence, and
    /// the number of these samples.
    ///
    /// Raises:
    ///     ValueError: trees or rounds are left.
    fn finish<'py>(&self, py: Python<'py>) -> PyResult<Measured<'py>> {
        let (done, total) = self.search.progress();
        if done < total {
            return Err(PyValueError::new_err(format!(
                "{} trees or rounds are left",
                total - done
            )));
        }
        let found = call::interruptible(py, |cancel| self.search.finish(cancel))?;
        let (ids, distances, recall) = found.map_err(to_python)?;
        let (ids, distances) = arrays(py, ids, distances, self.k)?;
        Ok((ids, distances, (recall.mean, recall.low, recall.samples)))
    }
}

fn metric_of(name: &str) -> PyResult<Metric> {
    match name {
        "cosine" => Ok(Metric::Cosine),
        "euclidean" => Ok(Metric::Euclidean),
        other => Err(PyValueError::new_err(format!(
            "metric {other:?} is not one of \"cosine\", \"euclidean\""
        ))),
    }
}

fn check_k(k: usize, samples: usize, bits: u32) -> PyResult<()> {
    if k == 0 || k >= samples || samples as u64 >= 1 << bits {
        return Err(PyValueError::new_err(format!(
            "k={k} must be at least 1 and below the number of samples, {samples}, which must be \
             below 2^{bits}"
        )));
    }
    Ok(())
}

fn arrays(py: Python<'_>, ids: Vec<u32>, distances: Vec<f32>, k: usize) -> PyResult<Found<'_>> {
    let shape = [ids.len() / k, k];
    Ok((ids.into_pyarray(py).reshape(shape)?, distances.into_pyarray(py).reshape(shape)?))
}

/// Votes [n] for the own class and for the rival, the rival, and the nearest neighbours [n, near].
type Counted<'py> = (
    Bound<'py, PyArray1<u32>>,
    Bound<'py, PyArray1<u32>>,
    Bound<'py, PyArray1<u32>>,
    Bound<'py, PyArray2<u32>>,
    Bound<'py, PyArray2<f32>>,
);

/// How the neighbourhood of every sample votes, exact, counted in parts.
#[pyclass(name = "NeighbourVotes", module = "aisec_eval._core")]
pub(crate) struct PyNeighbourVotes {
    count: NeighbourVotes,
    near: usize,
}

#[pymethods]
impl PyNeighbourVotes {
    /// Prepares the count; the features are copied twice.
    ///
    /// Args:
    ///     x: features, float32 `[n, d]`.
    ///     code: class of each sample, uint32 `[n]`.
    ///     k: neighbours that vote, for samples of each class, below `n`.
    ///     near: neighbours that are kept, below `n`.
    ///     metric: "cosine" or "euclidean".
    ///
    /// Raises:
    ///     ValueError: a feature is not finite, or an argument does not fit.
    #[new]
    fn new(
        py: Python<'_>,
        x: PyReadonlyArray2<'_, f32>,
        code: PyReadonlyArray1<'_, u32>,
        k: Vec<usize>,
        near: usize,
        metric: &str,
    ) -> PyResult<Self> {
        let metric = metric_of(metric)?;
        let (samples, dim) = (x.shape()[0], x.shape()[1]);
        for &k in k.iter().chain([&near]) {
            check_k(k, samples, 32)?;
        }
        let (x, code) = (x.as_slice()?, code.as_slice()?.to_vec());
        if code.len() != samples || code.iter().any(|&class| class as usize >= k.len()) {
            return Err(PyValueError::new_err(format!(
                "code must have {samples} classes below {}, one a sample",
                k.len()
            )));
        }
        let count =
            call::detached(py, || NeighbourVotes::new(x.to_vec(), dim, metric, code, k, near));
        Ok(Self { count: count.map_err(to_python)?, near })
    }

    /// Bytes that a count for `samples` holds at most, beside the features that it is given.
    #[staticmethod]
    fn memory(samples: usize, dim: usize, near: usize, threads: usize) -> usize {
        NeighbourVotes::memory(samples, dim, near, threads)
    }

    /// Panels of samples that are done, and that there are.
    #[getter]
    fn progress(&self) -> (usize, usize) {
        self.count.progress()
    }

    /// Counts the votes for up to `panels` further panels.
    fn advance(&mut self, py: Python<'_>, panels: usize) -> PyResult<()> {
        call::interruptible(py, |cancel| self.count.advance(panels, cancel))?.map_err(to_python)
    }

    /// Neighbours of the own class, uint32 `[n]`, of the most frequent other class, that class;
    /// indices, uint32 `[n, near]`, and distances, float32 `[n, near]`, nearest first.
    ///
    /// Raises:
    ///     ValueError: panels are left.
    fn finish<'py>(&self, py: Python<'py>) -> PyResult<Counted<'py>> {
        let (done, total) = self.count.progress();
        if done < total {
            return Err(PyValueError::new_err(format!("{} panels are left", total - done)));
        }
        let ballots = self.count.ballots();
        let each = |value: fn(&Ballot) -> u32| -> Bound<'py, PyArray1<u32>> {
            ballots.iter().map(value).collect::<Vec<_>>().into_pyarray(py)
        };
        let ids = ballots.iter().flat_map(|ballot| ballot.ids.iter().copied()).collect();
        let distances = ballots.iter().flat_map(|ballot| ballot.distances.iter().copied());
        let (ids, distances) = arrays(py, ids, distances.collect(), self.near)?;
        Ok((each(|b| b.own), each(|b| b.rival), each(|b| b.class), ids, distances))
    }
}
