//! The graph's input.

use aisec_numeric::Scalar;
use serde::{Deserialize, Serialize};

use super::Build;
use crate::operator::{Interval, Operator, Site};
use crate::shape::elements;
use crate::spec::Parts;

/// One sample of the given shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    shape: Vec<usize>,
}

impl Build for Input {
    const INPUTS: std::ops::RangeInclusive<usize> = 0..=0;

    fn build(parts: &mut Parts) -> Result<Self, String> {
        let input: Self = parts.attrs()?;
        elements(&input.shape)?;
        Ok(input)
    }
}

impl Operator for Input {
    fn shape(&self, _inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        Ok(self.shape.clone())
    }

    /// The executor places the samples; there is nothing to compute.
    fn forward<T: Scalar>(&self, _site: &Site, _inputs: &[&[T]], _output: &mut [T]) {}

    fn vjp<T: Scalar>(
        &self,
        _site: &Site,
        _inputs: &[&[T]],
        _output: &[T],
        _cotangent: &[T],
        _grads: &mut [&mut [T]],
    ) {
    }

    /// The caller places the bounds; there is nothing to compute.
    fn interval(&self, _site: &Site, _inputs: &[Interval], _lower: &mut [f64], _upper: &mut [f64]) {
    }

    fn terms(&self, _site: &Site) -> usize {
        0
    }

    fn magnitude(&self, _site: &Site, _inputs: &[&[f64]], _output: &mut [f64]) {}
}
