//! Leaky rectifier.

use aisec_numeric::Scalar;
use serde::{Deserialize, Serialize};

use super::Build;
use crate::operator::{Activation, Interval, Operator, Reads, Relaxation, Site};
use crate::hinge;
use crate::spec::Parts;

/// `y = x` for positive `x`, `slope·x` otherwise (the gradient at 0 is `slope`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeakyRelu {
    slope: f64,
}

impl Build for LeakyRelu {
    fn build(parts: &mut Parts) -> Result<Self, String> {
        let relu: Self = parts.attrs()?;
        if !(relu.slope as f32).is_finite() {
            return Err(format!("slope {:e} is not finite in float32", relu.slope));
        }
        Ok(relu)
    }
}

impl Operator for LeakyRelu {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        Ok(inputs[0].to_vec())
    }

    fn forward<T: Scalar>(&self, _site: &Site, inputs: &[&[T]], output: &mut [T]) {
        let slope = T::from_f64(self.slope);
        let y = |x| if x <= T::ZERO { slope * x } else { x };
        output.iter_mut().zip(inputs[0]).for_each(|(o, &x)| *o = y(x));
    }

    fn reads(&self) -> Reads {
        Reads::INPUTS
    }

    fn vjp<T: Scalar>(
        &self,
        _site: &Site,
        inputs: &[&[T]],
        _output: &[T],
        cotangent: &[T],
        grads: &mut [&mut [T]],
    ) {
        let slope = T::from_f64(self.slope);
        let pairs = inputs[0].iter().zip(cotangent);
        grads[0]
            .iter_mut()
            .zip(pairs)
            .for_each(|(g, (&x, &c))| *g += if x <= T::ZERO { slope * c } else { c });
    }

    fn interval(&self, _site: &Site, inputs: &[Interval], lower: &mut [f64], upper: &mut [f64]) {
        hinge::interval(self.slope, inputs[0], lower, upper);
    }

    fn is_affine(&self) -> bool {
        false
    }

    fn relax(&self, _site: &Site, inputs: &[Interval]) -> Relaxation {
        hinge::relax(self.slope, inputs[0])
    }

    fn activation(&self) -> Option<Activation> {
        Some(Activation::Hinge { slope: self.slope })
    }

    fn relax_with(&self, _site: &Site, inputs: &[Interval], parameters: &[f64]) -> Relaxation {
        hinge::relax_with(self.slope, inputs[0], parameters)
    }

    fn mark_loose(&self, _site: &Site, input: Interval, loose: &mut [bool]) {
        hinge::mark_loose(input, loose);
    }

    fn is_separable(&self) -> bool {
        true
    }
}
