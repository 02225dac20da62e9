//! Every step-th element along each axis.

use aisec_numeric::Scalar;
use serde::{Deserialize, Serialize};

use super::Build;
use super::strided::Strided;
use crate::beside::{Part, Rows};
use crate::operator::{Interval, Operator, Site};
use crate::outward;
use crate::patch::{Cropped, Patch};
use crate::shape::strides;
use crate::spec::Parts;

/// Along each axis, `count` elements at `start`, `start + step`, …; steps may be negative.
#[derive(Debug, Clone)]
pub struct Slice {
    starts: Vec<usize>,
    counts: Vec<usize>,
    steps: Vec<isize>,
    view: Strided,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Attrs {
    starts: Vec<usize>,
    counts: Vec<usize>,
    steps: Vec<isize>,
}

impl Build for Slice {
    fn build(parts: &mut Parts) -> Result<Self, String> {
        let Attrs { starts, counts, steps } = parts.attrs()?;
        let shape = parts.inputs[0];
        let rank = shape.len();
        if [starts.len(), counts.len(), steps.len()] != [rank; 3] {
            return Err(format!("starts, counts and steps need {rank} entries, one an axis"));
        }
        for axis in 0..rank {
            let (start, count, step) = (starts[axis], counts[axis], steps[axis]);
            let last = isize::try_from(count)
                .ok()
                .and_then(|count| step.checked_mul(count - 1))
                .and_then(|reach| reach.checked_add_unsigned(start))
                .and_then(|last| usize::try_from(last).ok());
            let inside = start < shape[axis] && last.is_some_and(|last| last < shape[axis]);
            if count == 0 || step == 0 || !inside {
                return Err(format!(
                    "axis {axis} of size {}: {count} element(s) from {start} by {step} is empty or out of range",
                    shape[axis]
                ));
            }
        }
        Ok(Self::new(shape, starts, counts, steps))
    }
}

impl Slice {
    /// Of an input of some shape, which holds it.
    fn new(shape: &[usize], starts: Vec<usize>, counts: Vec<usize>, steps: Vec<isize>) -> Self {
        let strides = strides(shape);
        let offset = starts.iter().zip(&strides).map(|(start, stride)| start * stride).sum();
        let dims = (0..shape.len()).map(|axis| {
            // The step of a single element is never taken, and might not fit.
            let step = if counts[axis] == 1 { 1 } else { steps[axis] };
            (counts[axis], step * strides[axis] as isize)
        });
        Self { view: Strided::new(dims, offset), starts, counts, steps }
    }
}

impl Operator for Slice {
    fn shape(&self, _inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        Ok(self.counts.clone())
    }

    fn forward<T: Scalar>(&self, site: &Site, inputs: &[&[T]], output: &mut [T]) {
        let samples = inputs[0].chunks_exact(site.input_len(0));
        for (x, y) in samples.zip(output.chunks_exact_mut(site.output_len())) {
            self.view.gather(x, y);
        }
    }

    fn vjp<T: Scalar>(
        &self,
        site: &Site,
        _inputs: &[&[T]],
        _output: &[T],
        cotangent: &[T],
        grads: &mut [&mut [T]],
    ) {
        let samples = grads[0].chunks_exact_mut(site.input_len(0));
        for (grad, cotangent) in samples.zip(cotangent.chunks_exact(site.output_len())) {
            self.view.scatter_add(cotangent, grad);
        }
    }

    fn vjp_beside(&self, site: &Site, rows: Rows, parts: &mut [Part]) {
        let width = site.batch;
        let places: Vec<usize> = (0..site.input_len(0)).collect();
        let mut from = vec![0; site.output_len()];
        self.view.gather(&places, &mut from);
        parts[0].values.fill(0.0);
        for (row, at) in rows.values.chunks_exact(width).zip(from) {
            parts[0].values[at * width..][..width].copy_from_slice(row);
        }
    }

    fn interval(&self, site: &Site, inputs: &[Interval], lower: &mut [f64], upper: &mut [f64]) {
        outward::moved(self, site, inputs, lower, upper);
    }

    fn terms(&self, _site: &Site) -> usize {
        0
    }

    fn magnitude(&self, site: &Site, inputs: &[&[f64]], output: &mut [f64]) {
        self.forward(site, inputs, output);
    }

    fn is_separable(&self) -> bool {
        true
    }

    /// Of images, of all channels, forwards.
    fn crop(&self, site: &Site, patch: &Patch) -> Option<Cropped<Self>> {
        let &[channels, ..] = site.inputs[0] else { return None };
        let (starts, counts, steps) = (&self.starts, &self.counts, &self.steps);
        if counts.len() != 3 || starts[0] != 0 || counts[0] != channels {
            return None;
        }
        let step = |axis: usize| {
            let step = if counts[axis] == 1 { 1 } else { steps[axis] };
            usize::try_from(step).ok()
        };
        let (_, rows, columns) = (step(0).filter(|&s| s == 1)?, step(1)?, step(2)?);
        let input = Patch {
            top: starts[1] + patch.top * rows,
            left: starts[2] + patch.left * columns,
            height: (patch.height - 1) * rows + 1,
            width: (patch.width - 1) * columns + 1,
        };
        let shape = input.shape(site.inputs[0]);
        let counts = vec![channels, patch.height, patch.width];
        let steps = vec![1, rows as isize, columns as isize];
        let op = Self::new(&shape, vec![0; 3], counts, steps);
        Some(Cropped { op, inputs: vec![input] })
    }
}
