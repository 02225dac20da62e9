//! Logistic function.

use aisec_numeric::Scalar;

use super::Build;
use crate::operator::{Operator, Reads, Site};
use crate::spec::Parts;

/// `y = 1 / (1 + exp(−x))`.
#[derive(Debug, Clone)]
pub struct Sigmoid;

impl Build for Sigmoid {
    fn build(_parts: &mut Parts) -> Result<Self, String> {
        Ok(Self)
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
}
