//! Arrays of samples in, outcomes out.

use aisec_search::{
    Attack, Bounds, Constraint, Error, Norm, Outcome, Region, Sample, Search, Setting, Status,
};
use numpy::{IntoPyArray, PyArray1, PyArrayDyn};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::array::{array, into_samples, samples};

/// Points [n, *input], margins [n], status [n] (0 exhausted, 1 found, 2 logits not finite),
/// forwards [n], gradients [n], what the last points took off the margin [n].
pub(super) type Outcomes<'py> = (
    Bound<'py, PyArrayDyn<f32>>,
    Bound<'py, PyArray1<f64>>,
    Bound<'py, PyArray1<i8>>,
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<f64>>,
);

/// The samples of one call and where each may move.
pub(super) struct Problem {
    pub x: Vec<f32>,
    pub labels: Vec<i64>,
    pub ids: Vec<i64>,
    targets: Option<Vec<i64>>,
    starts: Option<Vec<f32>>,
    pub shape: Vec<usize>,
    pub norm: Norm,
    pub eps: f64,
    pub bounds: Bounds,
    constraint: Option<Constraint>,
}

/// The Python arguments that every search shares.
pub(super) struct Arguments<'a, 'py> {
    pub x: &'a Bound<'py, PyAny>,
    pub labels: &'a Bound<'py, PyAny>,
    pub sample_ids: &'a Bound<'py, PyAny>,
    pub norm: &'a str,
    pub eps: f64,
    pub lower: &'a Bound<'py, PyAny>,
    pub upper: &'a Bound<'py, PyAny>,
}

impl Problem {
    /// `classes` where the labels are classes.
    pub fn new(
        arguments: &Arguments<'_, '_>,
        shape: &[usize],
        classes: Option<usize>,
    ) -> PyResult<Self> {
        let (x, count) = samples::<f32>("x", arguments.x, shape, None)?;
        let labels = array::<i64>("labels", arguments.labels, &[Some(count)])?;
        let ids = array::<i64>("sample_ids", arguments.sample_ids, &[Some(count)])?;
        if let Some(classes) = classes {
            check_labels(labels.as_slice()?, classes)?;
        }
        let lower = limit("lower", arguments.lower, shape)?;
        let upper = limit("upper", arguments.upper, shape)?;
        Ok(Self {
            x: x.as_slice()?.to_vec(),
            labels: labels.as_slice()?.to_vec(),
            ids: ids.as_slice()?.to_vec(),
            targets: None,
            starts: None,
            shape: shape.to_vec(),
            norm: Norm::parse(arguments.norm).map_err(to_python)?,
            eps: arguments.eps,
            bounds: Bounds::new(&lower, &upper).map_err(to_python)?,
            constraint: None,
        })
    }

    /// Adds a target class and a point to begin at for every sample, where they are given.
    pub fn aimed(
        mut self,
        targets: Option<&Bound<'_, PyAny>>,
        starts: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let count = self.count();
        if let Some(targets) = targets {
            let targets = array::<i64>("targets", targets, &[Some(count)])?;
            self.targets = Some(targets.as_slice()?.to_vec());
        }
        if let Some(starts) = starts {
            let (starts, _) = samples::<f32>("starts", starts, &self.shape, Some(count))?;
            self.starts = Some(starts.as_slice()?.to_vec());
        }
        Ok(self)
    }

    /// Adds what points must satisfy beside the bounds, where it is given.
    pub fn constrained(mut self, constraint: Option<&str>) -> PyResult<Self> {
        if let Some(text) = constraint {
            if self.norm != Norm::Box {
                return Err(PyValueError::new_err("a constraint goes with norm \"box\""));
            }
            self.constraint = Some(Constraint::parse(text, &self.shape).map_err(to_python)?);
        }
        Ok(self)
    }

    pub fn setting(&self, classes: usize, seed: u64, restart: u32) -> Setting {
        Setting {
            shape: self.shape.clone(),
            classes,
            norm: self.norm,
            eps: self.eps,
            bounds: self.bounds.clone(),
            constraint: self.constraint.clone(),
            seed,
            restart,
        }
    }

    pub fn count(&self) -> usize {
        self.labels.len()
    }

    /// Values of one sample.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn region(&self, i: usize) -> Result<Region, Error> {
        Region::new(self.norm, self.eps, self.row(&self.x, i), &self.bounds)
            .map_err(|error| of_sample(i, error))
    }

    pub fn start(&self, attack: &Attack, i: usize) -> Result<Box<dyn Search>, Error> {
        let sample = Sample {
            clean: self.row(&self.x, i),
            label: self.labels[i] as usize,
            id: self.ids[i].cast_unsigned(),
            // A negative target is no class, and refused as such.
            target: self.targets.as_ref().map(|t| usize::try_from(t[i]).unwrap_or(usize::MAX)),
            start: self.starts.as_ref().map(|starts| self.row(starts, i)),
        };
        attack.start(&sample).map_err(|error| of_sample(i, error))
    }

    fn row<'a>(&self, values: &'a [f32], i: usize) -> &'a [f32] {
        &values[i * self.len()..(i + 1) * self.len()]
    }
}

fn of_sample(i: usize, error: Error) -> Error {
    match error {
        Error::Input(message) => Error::Input(format!("sample {i}: {message}")),
        other => other,
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
pub(crate) fn sample_shape(x: &Bound<'_, PyAny>) -> PyResult<Vec<usize>> {
    let shape = x.getattr("shape").and_then(|shape| shape.extract::<Vec<usize>>());
    let wrong = || PyValueError::new_err("x must be an array whose first axis counts samples");
    shape.ok().and_then(|shape| shape.split_first().map(|(_, s)| s.to_vec())).ok_or_else(wrong)
}

/// A number for all inputs, or one number an input.
fn limit(what: &str, value: &Bound<'_, PyAny>, shape: &[usize]) -> PyResult<Vec<f64>> {
    if let Ok(value) = value.extract::<f64>() {
        return Ok(vec![value; shape.iter().product()]);
    }
    let sizes: Vec<_> = shape.iter().map(|&n| Some(n)).collect();
    Ok(array::<f64>(what, value, &sizes)?.as_slice()?.to_vec())
}

pub(super) fn to_python(error: Error) -> PyErr {
    PyValueError::new_err(error.to_string())
}

pub(super) fn into_arrays<'py>(
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
    let late: Vec<f64> = outcomes.iter().map(|outcome| outcome.late).collect();
    Ok((
        into_samples(py, x, outcomes.len(), shape)?,
        margins.into_pyarray(py),
        status.collect::<Vec<i8>>().into_pyarray(py),
        counts(|o| o.forwards),
        counts(|o| o.gradients),
        late.into_pyarray(py),
    ))
}
