//! Binding of `aisec-detect`'s texts.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use aisec_detect::text::{
    Bands, Clusters, Documents, Error, MinHash, NgramCounts, NgramSketch, Unit,
    duplicate_substrings,
};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::exceptions::{PyKeyboardInterrupt, PyMemoryError, PyOSError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};

use crate::array::array;
use crate::call;

/// Bytes of a record in memory.
const RECORD: usize = 16;

fn to_python(error: Error) -> PyErr {
    match error {
        Error::Cancelled => PyKeyboardInterrupt::new_err(()),
        Error::Io(error) => PyOSError::new_err(format!("temporary file: {error}")),
        _ => PyValueError::new_err(error.to_string()),
    }
}

fn unit(name: &str) -> PyResult<Unit> {
    match name {
        "word" => Ok(Unit::Word),
        "char" => Ok(Unit::Char),
        "byte" => Ok(Unit::Byte),
        _ => Err(PyValueError::new_err(format!(
            "unit={name:?} is unknown; choose one of \"word\", \"char\", \"byte\""
        ))),
    }
}

/// Copies texts out of Python.
fn read(documents: &Bound<'_, PyList>, into: &mut Documents) -> PyResult<()> {
    for document in documents.iter() {
        let number = into.first() + into.len() as u64;
        if let Ok(text) = document.cast::<PyString>() {
            let text = text.to_str().map_err(|_| {
                PyValueError::new_err(format!(
                    "document {number}: holds half a surrogate pair, which is no Unicode text; \
                     repair or remove it"
                ))
            })?;
            into.push(text.as_bytes()).map_err(to_python)?;
        } else if let Ok(bytes) = document.cast::<PyBytes>() {
            into.push(bytes.as_bytes()).map_err(to_python)?;
        } else {
            let found = document.get_type().name()?;
            return Err(PyTypeError::new_err(format!(
                "document {number}: expected str or bytes, got {found}"
            )));
        }
    }
    Ok(())
}

fn batch(documents: &Bound<'_, PyList>, first: u64) -> PyResult<Documents> {
    let mut batch = Documents::new(first);
    read(documents, &mut batch)?;
    Ok(batch)
}

/// A new file that nobody else sees; it vanishes with the process, however that ends.
fn temporary(folder: &Path, name: &str) -> PyResult<File> {
    let path = folder.join(name);
    let open = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
    let file = open.map_err(|error| PyOSError::new_err(format!("{}: {error}", path.display())))?;
    // Where open files cannot be removed, the folder is, later.
    let _ = std::fs::remove_file(&path);
    Ok(file)
}

/// Bands and rows of least weighted area of errors around a Jaccard threshold.
#[pyfunction]
fn optimal_bands(
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
        Ok(Self(MinHash::new(self::unit(unit)?, width, permutations, seed)))
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

/// Clusters of documents that share a key of some band.
#[pyclass(name = "Clusters", module = "aisec_eval._core")]
pub(crate) struct PyClusters(Option<Clusters<File>>);

impl PyClusters {
    fn get(&mut self) -> PyResult<&mut Clusters<File>> {
        self.0.as_mut().ok_or_else(|| PyValueError::new_err("the clusters are finished"))
    }
}

#[pymethods]
impl PyClusters {
    /// Starts with no documents.
    ///
    /// Args:
    ///     folder: where keys that do not fit in memory go.
    ///     memory: bytes for keys.
    ///
    /// Raises:
    ///     OSError: no file can be made in `folder`.
    #[new]
    fn new(folder: PathBuf, memory: usize) -> PyResult<Self> {
        // A full buffer and the bytes it is written from.
        let file = temporary(&folder, "keys")?;
        Ok(Self(Some(Clusters::new(file, memory / (2 * RECORD)))))
    }

    /// Bytes written to disk.
    #[getter]
    fn spilled(&mut self) -> PyResult<u64> {
        Ok(self.get()?.spilled())
    }

    /// Adds documents number `first` on, in any order; those without units share no keys.
    ///
    /// Args:
    ///     first: number of the first.
    ///     keys: uint64 `[n, bands]`.
    ///     units: uint32 `[n]`.
    ///
    /// Raises:
    ///     ValueError: more than 2^32 - 1 documents, or a shape or dtype is wrong.
    ///     OSError: the disk is full.
    fn add(
        &mut self,
        py: Python<'_>,
        first: u64,
        keys: &Bound<'_, PyAny>,
        units: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let keys = array::<u64>("keys", keys, &[None, None])?;
        let units = array::<u32>("units", units, &[Some(keys.shape()[0])])?;
        let (keys, units) = (keys.as_slice()?, units.as_slice()?);
        let clusters = self.get()?;
        call::interruptible(py, |cancel| clusters.add(first, keys, units, cancel))?
            .map_err(to_python)
    }

    /// The least document of each document's cluster, uint32 `[n]`.
    ///
    /// Raises:
    ///     OSError: the temporary file cannot be read.
    fn finish<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<u32>>> {
        self.get()?;
        let Some(clusters) = self.0.take() else {
            return Err(PyValueError::new_err("the clusters are finished"));
        };
        let found =
            call::interruptible(py, |cancel| clusters.finish(cancel))?.map_err(to_python)?;
        Ok(found.into_pyarray(py))
    }
}

/// Substrings that occur more than once.
#[pyclass(name = "Substrings", module = "aisec_eval._core")]
pub(crate) struct PySubstrings {
    documents: Documents,
    length: usize,
    within: bool,
    folder: PathBuf,
    memory: usize,
}

/// Document, start, end, whether it is a copy, and document and start of the first occurrence.
type Spans<'py> = (Bound<'py, PyArray2<u32>>, Bound<'py, PyArray1<bool>>);

#[pymethods]
impl PySubstrings {
    /// Starts with no documents.
    ///
    /// Args:
    ///     length: least bytes, at least 2.
    ///     within: count what repeats in one document only.
    ///     folder: where positions that do not fit in memory go.
    ///     memory: bytes for the documents and their positions.
    ///
    /// Raises:
    ///     ValueError: `length` is below 2.
    #[new]
    fn new(length: usize, within: bool, folder: PathBuf, memory: usize) -> PyResult<Self> {
        if length < 2 {
            return Err(PyValueError::new_err(format!("length={length} must be at least 2")));
        }
        Ok(Self { documents: Documents::new(0), length, within, folder, memory })
    }

    /// Adds documents, str or bytes; they stay in memory.
    ///
    /// Raises:
    ///     MemoryError: they do not fit.
    ///     ValueError: a document is no valid text.
    fn add(&mut self, documents: &Bound<'_, PyList>) -> PyResult<()> {
        read(documents, &mut self.documents)?;
        let needed = self.needed();
        if needed > self.memory / 4 * 3 {
            return Err(PyMemoryError::new_err(format!(
                "the documents take {} MiB of memory, memory_limit is {} MiB and a quarter of it \
                 goes to positions; raise it, or give fewer documents",
                needed.div_ceil(1 << 20),
                self.memory >> 20
            )));
        }
        Ok(())
    }

    /// Rows of (document, start, end, document and start of the first occurrence) uint32 `[m, 5]`,
    /// and whether each is a copy of something earlier, bool `[m]`.
    ///
    /// Raises:
    ///     OSError: the disk is full.
    ///     ValueError: 4 GiB of documents or more.
    fn finish<'py>(&mut self, py: Python<'py>) -> PyResult<Spans<'py>> {
        let names = ["anchors", "windows", "pairs"];
        let files: Vec<File> =
            names.iter().map(|name| temporary(&self.folder, name)).collect::<PyResult<_>>()?;
        let Ok(files) = <[File; 3]>::try_from(files) else { unreachable!("three names") };
        // Two sorters at once, each with a buffer and the bytes it is written from.
        let capacity = self.memory.saturating_sub(self.needed()) / (4 * RECORD);
        let (documents, length, within) = (&self.documents, self.length, self.within);
        let spans = call::interruptible(py, |cancel| {
            duplicate_substrings(documents, length, within, files, capacity, cancel)
        })?
        .map_err(to_python)?;
        let copies: Vec<bool> = spans.iter().map(|span| span.copy).collect();
        let rows: Vec<u32> = spans
            .iter()
            .flat_map(|s| [s.document, s.start, s.end, s.source.0, s.source.1])
            .collect();
        Ok((rows.into_pyarray(py).reshape([copies.len(), 5])?, copies.into_pyarray(py)))
    }
}

impl PySubstrings {
    /// Bytes of documents, with what vectors reserve beyond, and a bit a byte.
    fn needed(&self) -> usize {
        let bytes = self.documents.bytes().len();
        2 * bytes + bytes / 8 + 16 * self.documents.len()
    }
}

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
        Ok(Self(Some(NgramSketch::new(self::unit(unit)?, shortest..=longest, memory, seed))))
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

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(optimal_bands, module)?)?;
    module.add_class::<PyMinHash>()?;
    module.add_class::<PyClusters>()?;
    module.add_class::<PySubstrings>()?;
    module.add_class::<PyNgramSketch>()?;
    module.add_class::<PyNgramCounts>()
}
