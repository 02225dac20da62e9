//! Every step-th element along each axis.

use aisec_numeric::Scalar;
use serde::{Deserialize, Serialize};

use super::Build;
use super::strided::Strided;
use crate::operator::{Interval, Operator, Site};
use crate::shape::strides;
use crate::outward;
use crate::spec::Parts;

/// Along each axis, `count` elements at `start`, `start + step`, …; steps may be negative.
#[derive(Debug, Clone)]
pub struct Slice {
    counts: Vec<usize>,
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
        let strides = strides(shape);
        let offset = starts.iter().zip(&strides).map(|(start, stride)| start * stride).sum();
        let dims = (0..rank).map(|axis| {
            // The step of a single element is never taken, and might not fit.
            let step = if counts[axis] == 1 { 1 } else { steps[axis] };
            (counts[axis], step * strides[axis] as isize)
        });
        Ok(Self { view: Strided::new(dims, offset), counts })
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
}
