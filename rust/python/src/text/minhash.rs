//! MinHash signatures, and the bands that they are cut into.

use aisec_detect::text::{Bands, MinHash};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::documents::{batch, to_python, unit as unit_of};
use crate::call;

/// Bands and rows of least weighted area of errors around a Jaccard threshold.
#[pyfunction]
pub(super) fn optimal_bands(
    threshold: f64,
    permutations: usize,
    false_positives: f64,
    false_negatives: f64,
) -> (usize, usize) {
    let best = Bands::optimal(threshold, permutations, false_positives, false_negatives);
    (best.bands, best.rows)
}

/// MinHash signatures of texts as sets of shingles.
#[pyclass(name = "MinHash", module = "aisec_eval._core", frozen)]
pub(crate) struct PyMinHash(MinHash);

type Keys<'py> = (Bound<'py, PyArray2<u64>>, Bound<'py, PyArray1<u32>>);
type Signatures<'py> = (Bound<'py, PyArray2<u32>>, Bound<'py, PyArray1<u32>>);

#[pymethods]
impl PyMinHash {
    /// Draws the hash functions.
    ///
    /// Args:
    ///     unit: "word", "char" or "byte".
    ///     width: units of a shingle, at least 1.
    ///     permutations: values of a signature, 1 to 4096.
    ///     seed: of the hash functions.
    ///
    /// Raises:
    ///     ValueError: an argument does not fit.
    #[new]
    fn new(unit: &str, width: usize, permutations: usize, seed: u64) -> PyResult<Self> {
        if width == 0 || permutations == 0 || permutations > 4096 {
            return Err(PyValueError::new_err(format!(
                "width={width} must be at least 1, permutations={permutations} 1 to 4096"
            )));
        }
        Ok(Self(MinHash::new(unit_of(unit)?, width, permutations, seed)))
    }

    /// Signatures uint32 `[n, permutations]` and numbers of units uint32 `[n]`.
    ///
    /// Args:
    ///     documents: str or bytes.
    ///     first: number of the first document, for messages.
    ///
    /// Raises:
    ///     ValueError: a document is no valid text.
    fn signatures<'py>(
        &self,
        py: Python<'py>,
        documents: &Bound<'py, PyList>,
        first: u64,
    ) -> PyResult<Signatures<'py>> {
        let batch = batch(documents, first)?;
        let (signatures, units) =
            call::interruptible(py, |cancel| self.0.signatures(&batch, cancel))?
                .map_err(to_python)?;
        let shape = [units.len(), self.0.permutations()];
        Ok((signatures.into_pyarray(py).reshape(shape)?, units.into_pyarray(py)))
    }

    /// Keys of bands uint64 `[n, bands]` and numbers of units uint32 `[n]`.
    ///
    /// Args:
    ///     documents: str or bytes.
    ///     bands: number of bands.
    ///     rows: values of the signature in each; all bands must fit in it.
    ///     first: number of the first document, for messages.
    ///
    /// Raises:
    ///     ValueError: a document is no valid text, or the bands do not fit.
    fn band_keys<'py>(
        &self,
        py: Python<'py>,
        documents: &Bound<'py, PyList>,
        bands: usize,
        rows: usize,
        first: u64,
    ) -> PyResult<Keys<'py>> {
        let fit = bands.checked_mul(rows).is_some_and(|used| used <= self.0.permutations());
        if bands == 0 || rows == 0 || !fit {
            return Err(PyValueError::new_err(format!(
                "{bands} bands of {rows} rows do not fit in {} permutations",
                self.0.permutations()
            )));
        }
        let batch = batch(documents, first)?;
        let cut = Bands { bands, rows };
        let (keys, units) =
            call::interruptible(py, |cancel| self.0.band_keys(&batch, cut, cancel))?
                .map_err(to_python)?;
        Ok((keys.into_pyarray(py).reshape([units.len(), bands])?, units.into_pyarray(py)))
    }

    /// Hashes of a document's shingles, each once, ascending.
    ///
    /// Raises:
    ///     ValueError: no valid text.
    fn shingles<'py>(
        &self,
        py: Python<'py>,
        document: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyArray1<u64>>> {
        let batch = batch(&PyList::new(py, [document])?, 0)?;
        let set = self.0.shingle_set(&batch, 0).map_err(to_python)?;
        Ok(set.into_pyarray(py))
    }
}
