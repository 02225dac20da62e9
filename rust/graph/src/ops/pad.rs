//! Padding with a constant.

use aisec_numeric::Scalar;
use serde::{Deserialize, Serialize};

use super::Build;
use super::strided::Strided;
use crate::operator::{Interval, Operator, Site};
use crate::outward;
use crate::patch::{Cropped, Patch};
use crate::shape::{elements, strides};
use crate::spec::Parts;

/// `before` and `after` entries of `value` around each axis.
#[derive(Debug, Clone)]
pub struct Pad {
    before: Vec<usize>,
    shape: Vec<usize>,
    value: f64,
    view: Strided,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Attrs {
    before: Vec<usize>,
    after: Vec<usize>,
    value: f64,
}

impl Build for Pad {
    fn build(parts: &mut Parts) -> Result<Self, String> {
        let Attrs { before, after, value } = parts.attrs()?;
        let input = parts.inputs[0];
        let rank = input.len();
        if [before.len(), after.len()] != [rank; 2] {
            return Err(format!("before and after need {rank} entries, one an axis"));
        }
        if !(value as f32).is_finite() {
            return Err(format!("value {value:e} is not finite in float32"));
        }
        let shape: Vec<usize> = (0..rank)
            .map(|axis| before[axis].saturating_add(input[axis]).saturating_add(after[axis]))
            .collect();
        elements(&shape)?;
        Ok(Self::new(input, before, shape, value))
    }
}

impl Pad {
    /// From one shape to another that holds it.
    fn new(input: &[usize], before: Vec<usize>, shape: Vec<usize>, value: f64) -> Self {
        let strides = strides(&shape);
        let offset = before.iter().zip(&strides).map(|(before, stride)| before * stride).sum();
        let dims = input.iter().zip(&strides).map(|(&size, &stride)| (size, stride as isize));
        Self { view: Strided::new(dims, offset), before, shape, value }
    }
}

impl Operator for Pad {
    fn shape(&self, _inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        Ok(self.shape.clone())
    }

    fn forward<T: Scalar>(&self, site: &Site, inputs: &[&[T]], output: &mut [T]) {
        output.fill(T::from_f64(self.value));
        let samples = inputs[0].chunks_exact(site.input_len(0));
        for (x, y) in samples.zip(output.chunks_exact_mut(site.output_len())) {
            self.view.scatter(x, y);
        }
    }

    fn vjp<T: Scalar>(
        &self,
        site: &Site,
        _inputs: &[&[T]],
        _output: &[T],
        cotangent: &[T],
        grads: &mut [&mut [T]],
    ) {
        let samples = grads[0].chunks_exact_mut(site.input_len(0));
        for (grad, cotangent) in samples.zip(cotangent.chunks_exact(site.output_len())) {
            self.view.gather_add(cotangent, grad);
        }
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

    fn is_separable(&self) -> bool {
        true
    }

    /// Of images, with no channels added, where the part reads any of the input.
    fn crop(&self, site: &Site, patch: &Patch) -> Option<Cropped<Self>> {
        let (&[channels, height, width], &[padded, ..]) = (site.inputs[0], &self.shape[..]) else {
            return None;
        };
        if padded != channels {
            return None;
        }
        // First line of the input, how many, and how many lines are added before them.
        let along = |start: usize, count: usize, before: usize, size: usize| {
            let first = start.saturating_sub(before);
            let last = (start + count).saturating_sub(before).min(size);
            (first < last).then(|| (first, last - first, (first + before) - start))
        };
        let (top, rows, above) = along(patch.top, patch.height, self.before[1], height)?;
        let (left, columns, aside) = along(patch.left, patch.width, self.before[2], width)?;
        let input = Patch { top, left, height: rows, width: columns };
        let shape = patch.shape(&self.shape);
        let op = Self::new(&[channels, rows, columns], vec![0, above, aside], shape, self.value);
        Some(Cropped { op, inputs: vec![input] })
    }
}
