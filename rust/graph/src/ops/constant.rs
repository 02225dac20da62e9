//! A constant, the same for every sample.

use std::sync::Arc;

use aisec_numeric::Scalar;

use super::Build;
use crate::Tensor;
use crate::operator::{Operator, Site};
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
}
