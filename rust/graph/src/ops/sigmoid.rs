//! Logistic function.

use aisec_numeric::Scalar;
use aisec_numeric::rounding::{mul_down, mul_up, sub_down, sub_up};

use super::Build;
use crate::enclosure::sigmoid;
use crate::operator::{Activation, Interval, Operator, Reads, Relaxation, Site};
use crate::s_shape::Curve;
use crate::spec::Parts;

/// `y = 1 / (1 + exp(−x))`.
#[derive(Debug, Clone)]
pub struct Sigmoid;

impl Build for Sigmoid {
    fn build(_parts: &mut Parts) -> Result<Self, String> {
        Ok(Self)
    }
}

/// The function and its derivative `f(1 - f)`.
const CURVE: Curve = Curve {
    value: sigmoid,
    slope: |x| {
        let (low, high) = sigmoid(x);
        (mul_down(low, sub_down(1.0, high)), mul_up(high, sub_up(1.0, low)))
    },
    plain: Sigmoid::derivatives,
};

impl Sigmoid {
    /// The function and its first two derivatives in plain floating point.
    pub(crate) fn derivatives(x: f64) -> [f64; 3] {
        let y = 1.0 / (1.0 + (-x).exp());
        let slope = y * (1.0 - y);
        [y, slope, slope * (1.0 - 2.0 * y)]
    }
}

impl Operator for Sigmoid {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        Ok(inputs[0].to_vec())
    }

    fn forward<T: Scalar>(&self, _site: &Site, inputs: &[&[T]], output: &mut [T]) {
        output.iter_mut().zip(inputs[0]).for_each(|(y, &x)| *y = T::ONE / (T::ONE + (-x).exp()));
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
        grads[0].iter_mut().zip(pairs).for_each(|(g, (&y, &c))| *g += c * y * (T::ONE - y));
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

    fn activation(&self) -> Option<Activation> {
        Some(Activation::Curve(CURVE))
    }

    fn relax_with(&self, _site: &Site, inputs: &[Interval], parameters: &[f64]) -> Relaxation {
        CURVE.relax_with(inputs[0], parameters)
    }

    fn mark_loose(&self, _site: &Site, input: Interval, loose: &mut [bool]) {
        CURVE.mark_loose(input, loose);
    }

    fn is_separable(&self) -> bool {
        true
    }
}
