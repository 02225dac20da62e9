//! Concatenation along an axis.

use aisec_numeric::Scalar;
use serde::{Deserialize, Serialize};

use super::Build;
use crate::operator::{Interval, Operator, Site};
use crate::outward;
use crate::patch::{Cropped, Patch};
use crate::spec::Parts;

/// The inputs one after another along `axis`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concat {
    axis: usize,
}

impl Build for Concat {
    const INPUTS: std::ops::RangeInclusive<usize> = 1..=1024;

    fn build(parts: &mut Parts) -> Result<Self, String> {
        parts.attrs()
    }
}

impl Concat {
    /// Elements of input `index` that lie together: its size along the axis and everything
    /// inside it.
    fn run(&self, site: &Site, index: usize) -> usize {
        site.inputs[index][self.axis..].iter().product()
    }

    /// Calls `visit(input, piece of the input, piece of the output)` for all samples; the
    /// pieces are (start, length).
    fn pieces(&self, site: &Site, mut visit: impl FnMut(usize, usize, usize, usize)) {
        let outer: usize = site.output[..self.axis].iter().product();
        let mut output = 0;
        for block in 0..site.batch * outer {
            for input in 0..site.inputs.len() {
                let run = self.run(site, input);
                visit(input, block * run, output, run);
                output += run;
            }
        }
    }
}

impl Operator for Concat {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        let (axis, mut shape) = (self.axis, inputs[0].to_vec());
        if axis >= shape.len() {
            return Err(format!("axis {axis} is out of range for shape {shape:?}"));
        }
        for other in &inputs[1..] {
            let fits = other.len() == shape.len()
                && (0..shape.len()).all(|i| i == axis || other[i] == shape[i]);
            if !fits {
                return Err(format!("cannot join {shape:?} and {other:?} along axis {axis}"));
            }
            shape[axis] = shape[axis].saturating_add(other[axis]);
        }
        Ok(shape)
    }

    fn forward<T: Scalar>(&self, site: &Site, inputs: &[&[T]], output: &mut [T]) {
        self.pieces(site, |input, from, to, run| {
            output[to..to + run].copy_from_slice(&inputs[input][from..from + run]);
        });
    }

    fn vjp<T: Scalar>(
        &self,
        site: &Site,
        _inputs: &[&[T]],
        _output: &[T],
        cotangent: &[T],
        grads: &mut [&mut [T]],
    ) {
        self.pieces(site, |input, to, from, run| {
            let cotangent = &cotangent[from..from + run];
            grads[input][to..to + run].iter_mut().zip(cotangent).for_each(|(g, &c)| *g += c);
        });
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

    fn crop(&self, site: &Site, patch: &Patch) -> Option<Cropped<Self>> {
        let along_channels = self.axis == 0 && site.output.len() == 3;
        along_channels.then(|| Cropped { op: self.clone(), inputs: vec![*patch; site.inputs.len()] })
    }
}
