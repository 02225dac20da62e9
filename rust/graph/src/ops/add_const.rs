//! Addition of a constant.

use std::sync::Arc;

use aisec_numeric::Scalar;

use super::Build;
use super::strided::Strided;
use crate::Tensor;
use crate::operator::{Operator, Site};
use crate::spec::Parts;

/// `y = x + value`, the value broadcast to the input's shape.
#[derive(Debug, Clone)]
pub struct AddConst {
    value: Arc<Tensor>,
    view: Strided,
}

impl Build for AddConst {
    fn build(parts: &mut Parts) -> Result<Self, String> {
        let value = parts.tensor("value")?;
        let view = Strided::broadcast(value.shape(), parts.inputs[0]).ok_or_else(|| {
            format!("value of shape {:?} does not broadcast to {:?}", value.shape(), parts.inputs[0])
        })?;
        Ok(Self { value, view })
    }
}

impl Operator for AddConst {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        Ok(inputs[0].to_vec())
    }

    fn forward<T: Scalar>(&self, site: &Site, inputs: &[&[T]], output: &mut [T]) {
        let (value, len) = (self.value.values::<T>(), site.output_len());
        for (x, y) in inputs[0].chunks_exact(len).zip(output.chunks_exact_mut(len)) {
            self.view.zip(x, value, y, |x, value| x + value);
        }
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
}
