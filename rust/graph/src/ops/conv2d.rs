//! Two-dimensional convolution (cross-correlation, as in every framework) on CHW images.

use std::sync::{Arc, OnceLock};

use aisec_numeric::Scalar;
use aisec_numeric::rounding::add_up;
use serde::{Deserialize, Serialize};

use super::Build;
use super::window::Window;
use crate::Tensor;
use crate::operator::{Interval, Operator, Site};
use crate::outward;
use crate::patch::{Cropped, Patch};
use crate::spec::Parts;

/// `y[o, i, j] = bias[o] + Σ_{c, k, l} weight[o, c, k, l]·x[c', i·s + k·d − p, j·s + l·d − p]`,
/// where `c'` runs over the channels of `o`'s group and `x` is zero in the padding.
#[derive(Debug, Clone)]
pub struct Conv2d {
    weight: Arc<Tensor>,
    bias: Arc<Tensor>,
    absolute: OnceLock<Arc<Self>>,
    rows: Window,
    columns: Window,
    groups: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Attrs {
    stride: [usize; 2],
    padding: [usize; 4],
    dilation: [usize; 2],
    groups: usize,
}

impl Build for Conv2d {
    fn build(parts: &mut Parts) -> Result<Self, String> {
        let Attrs { stride, padding, dilation, groups } = parts.attrs()?;
        let (weight, bias) = (parts.tensor("weight")?, parts.tensor("bias")?);
        let (&[out, _, height, width], &[length]) = (weight.shape(), bias.shape()) else {
            return Err(format!(
                "weight has shape {:?} and bias {:?}, expected [out, in / groups, kh, kw] and [out]",
                weight.shape(),
                bias.shape()
            ));
        };
        if length != out {
            return Err(format!("bias has {length} entries, weight {out} output channels"));
        }
        if groups == 0 || out % groups != 0 {
            return Err(format!("groups {groups} must be >= 1 and divide {out} output channels"));
        }
        let [rows, columns] = Window::pair([height, width], stride, padding, dilation)?;
        Ok(Self { weight, bias, absolute: OnceLock::new(), rows, columns, groups })
    }
}

impl Conv2d {
    /// `[out, in / groups, kernel height, kernel width]`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// `[out]`.
    pub fn bias(&self) -> &Tensor {
        &self.bias
    }

    /// `|weight|` without a bias, made when first asked for.
    fn absolute(&self) -> &Self {
        self.absolute.get_or_init(|| {
            Arc::new(Self {
                weight: Arc::new(self.weight.map(f64::abs)),
                bias: Arc::new(self.bias.map(|_| 0.0)),
                absolute: OnceLock::new(),
                ..*self
            })
        })
    }

    /// Products in the sum behind one output.
    fn summands(&self) -> usize {
        self.weight.len() / self.weight.shape()[0].max(1)
    }

    /// Calls `visit(weight, input, output)` with the index of each weight and of the elements
    /// of one sample that it connects, output by output and, within one, weight by weight.
    fn connections(&self, site: &Site, mut visit: impl FnMut(usize, usize, usize)) {
        let [_, in_rows, in_columns] = site.inputs[0] else { unreachable!("checked by shape") };
        let [out_channels, out_rows, out_columns] = site.output else {
            unreachable!("checked by shape")
        };
        let channels = self.weight.shape()[1];
        let (kernel_rows, kernel_columns) = (self.rows.kernel, self.columns.kernel);
        let mut output = 0;
        for o in 0..*out_channels {
            let first_channel = o / (out_channels / self.groups) * channels;
            for i in 0..*out_rows {
                for j in 0..*out_columns {
                    for c in 0..channels {
                        for k in self.rows.taps(i, *in_rows) {
                            let row = (first_channel + c) * in_rows + self.rows.position(i, k);
                            let weights = ((o * channels + c) * kernel_rows + k) * kernel_columns;
                            for l in self.columns.taps(j, *in_columns) {
                                let column = self.columns.position(j, l);
                                visit(weights + l, row * in_columns + column, output);
                            }
                        }
                    }
                    output += 1;
                }
            }
        }
    }
}

impl Operator for Conv2d {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        let &[channels, height, width] = inputs[0] else {
            return Err(format!("the input's shape must be [C, H, W], got {:?}", inputs[0]));
        };
        let expected = self.weight.shape()[1].saturating_mul(self.groups);
        if channels != expected {
            return Err(format!(
                "weight has shape {:?} with {} group(s), so the input must have {expected} channels, got {channels}",
                self.weight.shape(),
                self.groups
            ));
        }
        Ok(vec![self.weight.shape()[0], self.rows.output(height)?, self.columns.output(width)?])
    }

    fn forward<T: Scalar>(&self, site: &Site, inputs: &[&[T]], output: &mut [T]) {
        let (weight, bias) = (self.weight.values::<T>(), self.bias.values::<T>());
        let samples = inputs[0].chunks_exact(site.input_len(0));
        for (x, y) in samples.zip(output.chunks_exact_mut(site.output_len())) {
            y.fill(T::ZERO);
            self.connections(site, |w, i, o| y[o] = weight[w].mul_add(x[i], y[o]));
            for (channel, &b) in y.chunks_exact_mut(site.output[1] * site.output[2]).zip(bias) {
                channel.iter_mut().for_each(|y| *y += b);
            }
        }
    }

    fn work(&self, site: &Site) -> usize {
        site.output_len().saturating_mul(2 * self.weight.len() / self.weight.shape()[0])
    }

    fn vjp<T: Scalar>(
        &self,
        site: &Site,
        _inputs: &[&[T]],
        _output: &[T],
        cotangent: &[T],
        grads: &mut [&mut [T]],
    ) {
        let weight = self.weight.values::<T>();
        let samples = grads[0].chunks_exact_mut(site.input_len(0));
        for (grad, cotangent) in samples.zip(cotangent.chunks_exact(site.output_len())) {
            self.connections(site, |w, i, o| grad[i] = weight[w].mul_add(cotangent[o], grad[i]));
        }
    }

    fn interval(&self, site: &Site, inputs: &[Interval], lower: &mut [f64], upper: &mut [f64]) {
        let sums = (self.summands(), outward::largest(self.bias.f64()));
        outward::midpoint_radius(self, self.absolute(), site, inputs[0], sums, lower, upper);
    }

    fn terms(&self, _site: &Site) -> usize {
        self.weight.len() / self.weight.shape()[1].max(1) / self.groups
    }

    fn magnitude(&self, site: &Site, inputs: &[&[f64]], output: &mut [f64]) {
        self.absolute().forward(site, inputs, output);
        let excess = outward::Excess::of(self.summands());
        let constant = outward::largest(self.bias.f64());
        output.iter_mut().for_each(|y| *y = add_up(excess.cover(*y), constant));
    }

    fn crop(&self, site: &Site, patch: &Patch) -> Option<Cropped<Self>> {
        let (axes, input) = Window::crop([self.rows, self.columns], site.inputs[0], patch)?;
        let [rows, columns] = axes;
        let part = Self { rows, columns, absolute: OnceLock::new(), ..self.clone() };
        Some(Cropped { op: part, inputs: vec![input] })
    }
}
