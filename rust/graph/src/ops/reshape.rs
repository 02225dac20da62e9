//! The same elements under another shape: reshape, flatten, squeeze, unsqueeze.

use aisec_numeric::Scalar;
use serde::{Deserialize, Serialize};

use super::Build;
use crate::beside::{Part, Rows};
use crate::operator::{Interval, Operator, Site};
use crate::shape::elements;
use crate::outward;
use crate::spec::Parts;

/// `y` has the input's elements in the input's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reshape {
    shape: Vec<usize>,
}

impl Build for Reshape {
    fn build(parts: &mut Parts) -> Result<Self, String> {
        parts.attrs()
    }
}

impl Operator for Reshape {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        if elements(&self.shape)? == elements(inputs[0])? {
            return Ok(self.shape.clone());
        }
        Err(format!("cannot reshape {:?} to {:?}: different sizes", inputs[0], self.shape))
    }

    fn forward<T: Scalar>(&self, _site: &Site, inputs: &[&[T]], output: &mut [T]) {
        output.copy_from_slice(inputs[0]);
    }

    fn is_view(&self) -> bool {
        true
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
    }

    fn vjp_beside(&self, _site: &Site, rows: Rows, parts: &mut [Part]) {
        parts[0].values.copy_from_slice(rows.values);
    }

    fn keeps_places(&self) -> bool {
        true
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
