//! Rectifier.

use aisec_numeric::Scalar;

use super::Build;
use crate::operator::{Activation, Interval, Operator, Reads, Relaxation, Site};
use crate::spec::Parts;
use crate::{hinge, outward};

/// `y = max(x, 0)`; the gradient at 0 is 0, and NaN stays NaN.
#[derive(Debug, Clone)]
pub struct Relu;

impl Build for Relu {
    fn build(_parts: &mut Parts) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Operator for Relu {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        Ok(inputs[0].to_vec())
    }

    fn forward<T: Scalar>(&self, _site: &Site, inputs: &[&[T]], output: &mut [T]) {
        output.iter_mut().zip(inputs[0]).for_each(|(y, &x)| *y = if x <= T::ZERO { T::ZERO } else { x });
    }

    fn reads(&self) -> Reads {
        Reads::OUTPUT
    }

    fn vjp<T: Scalar>(
        &self,
        _site: &Site,
        _inputs: &[&[T]],
        output: &[T],
        cotangent: &[T],
        grads: &mut [&mut [T]],
    ) {
        let pairs = output.iter().zip(cotangent);
        grads[0].iter_mut().zip(pairs).for_each(|(g, (&y, &c))| *g += if y > T::ZERO { c } else { T::ZERO });
    }

    fn interval(&self, site: &Site, inputs: &[Interval], lower: &mut [f64], upper: &mut [f64]) {
        outward::moved(self, site, inputs, lower, upper);
    }

    fn is_affine(&self) -> bool {
        false
    }

    fn relax(&self, _site: &Site, inputs: &[Interval]) -> Relaxation {
        hinge::relax(0.0, inputs[0])
    }

    fn activation(&self) -> Option<Activation> {
        Some(Activation::Hinge { slope: 0.0 })
    }

    fn relax_with(&self, _site: &Site, inputs: &[Interval], parameters: &[f64]) -> Relaxation {
        hinge::relax_with(0.0, inputs[0], parameters)
    }

    fn mark_loose(&self, _site: &Site, input: Interval, loose: &mut [bool]) {
        hinge::mark_loose(input, loose);
    }

    fn is_separable(&self) -> bool {
        true
    }
}
