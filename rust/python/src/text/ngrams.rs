//! The two passes that count n-grams.

use aisec_detect::text::{NgramCounts, NgramSketch};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use super::documents::{batch, to_python, unit as unit_of};
use crate::array::array;
use crate::call;

/// The first pass over documents: how many hold each n-gram, at most.
#[pyclass(name = "NgramSketch", module = "aisec_eval._core")]
pub(crate) struct PyNgramSketch(Option<NgramSketch>);

#[pymethods]
impl PyNgramSketch {
    /// Starts with no documents.
    ///
    /// Args:
    ///     unit: "word", "char" or "byte".
    ///     shortest: least units of an n-gram, at least 1.
    ///     longest: most units.
    ///     memory: bytes.
    ///     seed: of the hash functions.
    ///
    /// Raises:
    ///     ValueError: an argument does not fit.
    #[new]
    fn new(
        unit: &str,
        shortest: usize,
        longest: usize,
        memory: usize,
        seed: u64,
    ) -> PyResult<Self> {
        if shortest == 0 || longest < shortest || longest > 64 {
            return Err(PyValueError::new_err(format!(
                "n-grams of {shortest} to {longest} units: give 1 <= shortest <= longest <= 64"
            )));
        }
        Ok(Self(Some(NgramSketch::new(unit_of(unit)?, shortest..=longest, memory, seed))))
    }

    /// Counts documents, str or bytes.
    ///
    /// Raises:
    ///     ValueError: a document is no valid text, or the counting has begun.
    fn add(&mut self, py: Python<'_>, documents: &Bound<'_, PyList>) -> PyResult<()> {
        let sketch = self.0.as_mut().ok_or_else(|| PyValueError::new_err("counting has begun"))?;
        let batch = batch(documents, sketch.documents())?;
        call::interruptible(py, |cancel| sketch.add(&batch, cancel))?.map_err(to_python)
    }
}

/// The second pass: documents of each class that hold each frequent n-gram.
#[pyclass(name = "NgramCounts", module = "aisec_eval._core")]
pub(crate) struct PyNgramCounts {
    counts: NgramCounts,
    classes: usize,
}

/// Hashes uint64 `[m]`, units uint32 `[m]`, counts uint32 `[m, classes]`, fingerprints uint64
/// `[m]`, texts.
type Counted<'py> = (
    Bound<'py, PyArray1<u64>>,
    Bound<'py, PyArray1<u32>>,
    Bound<'py, PyArray2<u32>>,
    Bound<'py, PyArray1<u64>>,
    Vec<Py<PyBytes>>,
);

/// Numbers of documents uint32 `[k]`, and hashes uint64 `[k]` of n-grams that they hold.
type Holders<'py> = (Bound<'py, PyArray1<u32>>, Bound<'py, PyArray1<u64>>);

#[pymethods]
impl PyNgramCounts {
    /// Takes the sketch of the first pass, which is empty afterwards.
    ///
    /// Args:
    ///     sketch: of the same documents.
    ///     classes: how many there are.
    ///     least: documents an n-gram must be in.
    ///     memory: bytes; `least` is doubled until the n-grams fit.
    ///
    /// Raises:
    ///     ValueError: the sketch was taken before.
    #[new]
    fn new(
        sketch: &mut PyNgramSketch,
        classes: usize,
        least: u32,
        memory: usize,
    ) -> PyResult<Self> {
        let sketch = sketch.0.take().ok_or_else(|| PyValueError::new_err("counting has begun"))?;
        Ok(Self { counts: NgramCounts::new(sketch, classes, least, memory), classes })
    }

    /// N-grams in fewer documents are not counted; grows where memory is short.
    #[getter]
    fn least(&self) -> u32 {
        self.counts.least()
    }

    /// Counts documents of classes uint32 `[n]`, numbers below that of classes.
    ///
    /// Raises:
    ///     ValueError: a document is no valid text, or a class does not fit.
    fn add(
        &mut self,
        py: Python<'_>,
        documents: &Bound<'_, PyList>,
        classes: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let labels = array::<u32>("classes", classes, &[Some(documents.len())])?;
        let labels = labels.as_slice()?;
        if let Some(label) = labels.iter().find(|&&label| label as usize >= self.classes) {
            return Err(PyValueError::new_err(format!(
                "class {label} is not below {}",
                self.classes
            )));
        }
        let batch = batch(documents, self.counts.documents())?;
        call::interruptible(py, |cancel| self.counts.add(&batch, labels, cancel))?
            .map_err(to_python)
    }

    /// Takes the n-grams: hashes uint64 `[m]`, ascending, units uint32 `[m]`, documents of each
    /// class uint32 `[m, classes]`, fingerprints uint64 `[m]` (equal for n-grams in the same
    /// documents), and texts where they occur first, at most 200 bytes.
    fn take<'py>(&mut self, py: Python<'py>) -> PyResult<Counted<'py>> {
        let found = call::detached(py, || self.counts.take());
        let keys: Vec<u64> = found.iter().map(|ngram| ngram.key).collect();
        let lengths: Vec<u32> = found.iter().map(|ngram| ngram.length).collect();
        let counts: Vec<u32> = found.iter().flat_map(|ngram| &ngram.counts).copied().collect();
        let fingerprints: Vec<u64> = found.iter().map(|ngram| ngram.fingerprint).collect();
        let texts = found.iter().map(|ngram| PyBytes::new(py, &ngram.text).unbind()).collect();
        let counts = counts.into_pyarray(py).reshape([found.len(), self.classes])?;
        let (keys, lengths) = (keys.into_pyarray(py), lengths.into_pyarray(py));
        Ok((keys, lengths, counts, fingerprints.into_pyarray(py), texts))
    }

    /// Which documents hold which n-grams: numbers in the list uint32 `[k]`, hashes `[k]`.
    ///
    /// Args:
    ///     documents: str or bytes.
    ///     keys: hashes of n-grams, ascending, uint64 `[m]`.
    ///     first: number of the first document, for messages.
    ///
    /// Raises:
    ///     ValueError: a document is no valid text.
    fn find<'py>(
        &self,
        py: Python<'py>,
        documents: &Bound<'py, PyList>,
        keys: &Bound<'py, PyAny>,
        first: u64,
    ) -> PyResult<Holders<'py>> {
        let keys = array::<u64>("keys", keys, &[None])?;
        let keys = keys.as_slice()?;
        let batch = batch(documents, first)?;
        let found = call::interruptible(py, |cancel| self.counts.find(&batch, keys, cancel))?
            .map_err(to_python)?;
        let (numbers, keys): (Vec<u32>, Vec<u64>) = found.into_iter().unzip();
        Ok((numbers.into_pyarray(py), keys.into_pyarray(py)))
    }
}
