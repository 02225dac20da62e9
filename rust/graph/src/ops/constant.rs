//! A constant, the same for every sample.

use std::sync::Arc;

use aisec_numeric::Scalar;

use super::Build;
use crate::Tensor;
use crate::operator::{Interval, Operator, Site};
use crate::outward;
use crate::spec::Parts;

/// `y = value`.
#[derive(Debug, Clone)]
pub struct Constant {
    value: Arc<Tensor>,
}

impl Build for Constant {
    const INPUTS: std::ops::RangeInclusive<usize> = 0..=0;

    fn build(parts: &mut Parts) -> Result<Self, String> {
        Ok(Self { value: parts.tensor("value")? })
    }
}

impl Operator for Constant {
    fn shape(&self, _inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        Ok(self.value.shape().to_vec())
    }

    fn forward<T: Scalar>(&self, _site: &Site, _inputs: &[&[T]], output: &mut [T]) {
        let value = self.value.values::<T>();
        output.chunks_exact_mut(value.len()).for_each(|y| y.copy_from_slice(value));
    }

    fn vjp<T: Scalar>(
        &self,
        _site: &Site,
        _inputs: &[&[T]],
        _output: &[T],
        _cotangent: &[T],
        _grads: &mut [&mut [T]],
    ) {
    }

    fn interval(&self, site: &Site, inputs: &[Interval], lower: &mut [f64], upper: &mut [f64]) {
        outward::moved(self, site, inputs, lower, upper);
    }

    fn terms(&self, _site: &Site) -> usize {
        0
    }

    fn magnitude(&self, site: &Site, inputs: &[&[f64]], output: &mut [f64]) {
        self.forward(site, inputs, output);
        output.iter_mut().for_each(|y| *y = y.abs());
    }
}
