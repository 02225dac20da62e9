//! Addition of a constant.

use std::sync::Arc;

use aisec_numeric::Scalar;
use aisec_numeric::rounding::{add_down, add_up};

use super::Build;
use super::strided::Strided;
use crate::Tensor;
use crate::beside::{Part, Rows};
use crate::operator::{Interval, Operator, Site};
use crate::patch::{Cropped, Patch};
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

    fn vjp_beside(&self, _site: &Site, rows: Rows, parts: &mut [Part]) {
        parts[0].values.copy_from_slice(rows.values);
    }

    fn keeps_places(&self) -> bool {
        true
    }

    fn interval(&self, site: &Site, inputs: &[Interval], lower: &mut [f64], upper: &mut [f64]) {
        let len = site.output_len();
        let mut value = vec![0.0; len];
        self.view.gather(self.value.f64(), &mut value);
        for i in 0..lower.len() {
            let (l, u, v) = (inputs[0].lower[i], inputs[0].upper[i], value[i % len]);
            lower[i] = add_down(l, v);
            upper[i] = add_up(u, v);
        }
    }

    fn is_separable(&self) -> bool {
        true
    }

    fn terms(&self, _site: &Site) -> usize {
        0
    }

    fn magnitude(&self, _site: &Site, inputs: &[&[f64]], output: &mut [f64]) {
        self.view.zip(inputs[0], self.value.f64(), output, |x, value| add_up(x, value.abs()));
    }

    fn crop(&self, site: &Site, patch: &Patch) -> Option<Cropped<Self>> {
        let (value, view) = self.view.crop(&self.value, site.output, patch)?;
        Some(Cropped { op: Self { value, view }, inputs: vec![*patch] })
    }
}
