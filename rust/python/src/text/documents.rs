//! Documents from Python, files that nobody sees, and errors.

use std::fs::{File, OpenOptions};
use std::path::Path;

use aisec_detect::text::{Documents, Error, Unit};
use pyo3::exceptions::{PyKeyboardInterrupt, PyOSError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};

/// Bytes of a record in memory.
pub(super) const RECORD: usize = 16;

pub(super) fn to_python(error: Error) -> PyErr {
    match error {
        Error::Cancelled => PyKeyboardInterrupt::new_err(()),
        Error::Io(error) => PyOSError::new_err(format!("temporary file: {error}")),
        _ => PyValueError::new_err(error.to_string()),
    }
}

pub(super) fn unit(name: &str) -> PyResult<Unit> {
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
pub(super) fn read(documents: &Bound<'_, PyList>, into: &mut Documents) -> PyResult<()> {
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

pub(super) fn batch(documents: &Bound<'_, PyList>, first: u64) -> PyResult<Documents> {
    let mut batch = Documents::new(first);
    read(documents, &mut batch)?;
    Ok(batch)
}

/// A new file that nobody else sees; it vanishes with the process, however that ends.
pub(super) fn temporary(folder: &Path, name: &str) -> PyResult<File> {
    let path = folder.join(name);
    let open = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
    let file = open.map_err(|error| PyOSError::new_err(format!("{}: {error}", path.display())))?;
    // Where open files cannot be removed, the folder is, later.
    let _ = std::fs::remove_file(&path);
    Ok(file)
}
