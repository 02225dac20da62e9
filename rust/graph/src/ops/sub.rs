//! Difference of two nodes.

use aisec_numeric::Scalar;

use super::Build;
use crate::operator::{Operator, Site};
use crate::spec::Parts;

/// `y = a - b`, both of the same shape.
#[derive(Debug, Clone)]
pub struct Sub;

impl Build for Sub {
    const INPUTS: std::ops::RangeInclusive<usize> = 2..=2;

    fn build(_parts: &mut Parts) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Operator for Sub {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        if inputs[0] == inputs[1] {
            return Ok(inputs[0].to_vec());
        }
        Err(format!("inputs must have one shape, got {:?} and {:?}", inputs[0], inputs[1]))
    }

    fn forward<T: Scalar>(&self, _site: &Site, inputs: &[&[T]], output: &mut [T]) {
        let pairs = inputs[0].iter().zip(inputs[1]);
        output.iter_mut().zip(pairs).for_each(|(y, (&a, &b))| *y = a - b);
    }

    fn vjp<T: Scalar>(
        &self,
        _site: &Site,
        _inputs: &[&[T]],
        _output: &[T],
        cotangent: &[T],
        grads: &mut [&mut [T]],
    ) {
        grads[0].iter_mut().zip(cotangent).for_each(|(g, &c)| *g += c);
        grads[1].iter_mut().zip(cotangent).for_each(|(g, &c)| *g += -c);
    }
}
