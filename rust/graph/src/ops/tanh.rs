//! Hyperbolic tangent.

use aisec_numeric::Scalar;
use aisec_numeric::rounding::{mul_down, mul_up, sub_down, sub_up};

use super::Build;
use crate::enclosure::tanh;
use crate::operator::{Interval, Operator, Reads, Relaxation, Site};
use crate::s_shape::Curve;
use crate::spec::Parts;

/// `y = tanh(x)`.
#[derive(Debug, Clone)]
pub struct Tanh;

impl Build for Tanh {
    fn build(_parts: &mut Parts) -> Result<Self, String> {
        Ok(Self)
    }
}

/// The function and its derivative `1 - f²`.
const CURVE: Curve = Curve {
    value: tanh,
    slope: |x| {
        let (low, high) = tanh(x.abs());
        (sub_down(1.0, mul_up(high, high)), sub_up(1.0, mul_down(low, low)))
    },
};

impl Operator for Tanh {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        Ok(inputs[0].to_vec())
    }

    fn forward<T: Scalar>(&self, _site: &Site, inputs: &[&[T]], output: &mut [T]) {
        output.iter_mut().zip(inputs[0]).for_each(|(y, &x)| *y = x.tanh());
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
        grads[0].iter_mut().zip(pairs).for_each(|(g, (&y, &c))| *g += c * (T::ONE - y * y));
    }

    fn interval(&self, _site: &Site, inputs: &[Interval], lower: &mut [f64], upper: &mut [f64]) {
        CURVE.interval(inputs[0], lower, upper);
    }

    fn is_affine(&self) -> bool {
        false
    }

    fn relax(&self, _site: &Site, inputs: &[Interval]) -> Relaxation {
        CURVE.relax(inputs[0])
    }

    fn mark_loose(&self, _site: &Site, input: Interval, loose: &mut [bool]) {
        CURVE.mark_loose(input, loose);
    }

    fn is_separable(&self) -> bool {
        true
    }
}
