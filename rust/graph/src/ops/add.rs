//! Sum of two nodes.

use aisec_numeric::Scalar;
use aisec_numeric::rounding::{add_down, add_up};

use super::Build;
use crate::beside::{Part, Rows};
use crate::operator::{Interval, Operator, Site};
use crate::patch::{Cropped, Patch};
use crate::spec::Parts;

/// `y = a + b`, both of the same shape.
#[derive(Debug, Clone)]
pub struct Add;

impl Build for Add {
    const INPUTS: std::ops::RangeInclusive<usize> = 2..=2;

    fn build(_parts: &mut Parts) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Operator for Add {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        if inputs[0] == inputs[1] {
            return Ok(inputs[0].to_vec());
        }
        Err(format!("inputs must have one shape, got {:?} and {:?}", inputs[0], inputs[1]))
    }

    fn forward<T: Scalar>(&self, _site: &Site, inputs: &[&[T]], output: &mut [T]) {
        let pairs = inputs[0].iter().zip(inputs[1]);
        output.iter_mut().zip(pairs).for_each(|(y, (&a, &b))| *y = a + b);
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
        grads[1].iter_mut().zip(cotangent).for_each(|(g, &c)| *g += c);
    }

    fn vjp_beside(&self, _site: &Site, rows: Rows, parts: &mut [Part]) {
        parts.iter_mut().for_each(|part| part.values.copy_from_slice(rows.values));
    }

    fn keeps_places(&self) -> bool {
        true
    }

    fn interval(&self, _site: &Site, inputs: &[Interval], lower: &mut [f64], upper: &mut [f64]) {
        let (a, b) = (inputs[0], inputs[1]);
        for i in 0..lower.len() {
            lower[i] = add_down(a.lower[i], b.lower[i]);
            upper[i] = add_up(a.upper[i], b.upper[i]);
        }
    }

    fn terms(&self, _site: &Site) -> usize {
        0
    }

    fn magnitude(&self, _site: &Site, inputs: &[&[f64]], output: &mut [f64]) {
        let pairs = inputs[0].iter().zip(inputs[1]);
        output.iter_mut().zip(pairs).for_each(|(y, (&a, &b))| *y = add_up(a, b));
    }

    fn crop(&self, _site: &Site, patch: &Patch) -> Option<Cropped<Self>> {
        Some(Cropped { op: self.clone(), inputs: vec![*patch; 2] })
    }
}
