//! Permutation of the axes.

use aisec_numeric::Scalar;
use serde::{Deserialize, Serialize};

use super::Build;
use super::strided::Strided;
use crate::operator::{Interval, Operator, Site};
use crate::shape::strides;
use crate::outward;
use crate::spec::Parts;

/// Output axis `i` is input axis `perm[i]`.
#[derive(Debug, Clone)]
pub struct Transpose {
    perm: Vec<usize>,
    view: Strided,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Attrs {
    perm: Vec<usize>,
}

impl Build for Transpose {
    fn build(parts: &mut Parts) -> Result<Self, String> {
        let Attrs { perm } = parts.attrs()?;
        let shape = parts.inputs[0];
        let mut sorted = perm.clone();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..shape.len()) {
            return Err(format!("perm {perm:?} does not permute the axes of {shape:?}"));
        }
        let strides = strides(shape);
        let view = Strided::new(perm.iter().map(|&i| (shape[i], strides[i] as isize)), 0);
        Ok(Self { perm, view })
    }
}

impl Operator for Transpose {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        Ok(self.perm.iter().map(|&axis| inputs[0][axis]).collect())
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
