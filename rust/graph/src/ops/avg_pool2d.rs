//! Average pooling of CHW images.

use aisec_numeric::Scalar;
use serde::{Deserialize, Serialize};

use super::Build;
use super::window::Window;
use crate::operator::{Interval, Operator, Site};
use crate::outward;
use crate::patch::{Cropped, Patch};
use crate::spec::Parts;

/// The mean of each window, over the whole kernel when padding counts (as zeros), over the
/// positions inside the input otherwise.
#[derive(Debug, Clone)]
pub struct AvgPool2d {
    rows: Window,
    columns: Window,
    count_include_pad: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Attrs {
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 4],
    count_include_pad: bool,
}

impl Build for AvgPool2d {
    fn build(parts: &mut Parts) -> Result<Self, String> {
        let Attrs { kernel, stride, padding, count_include_pad } = parts.attrs()?;
        let [rows, columns] = Window::pair(kernel, stride, padding, [1, 1])?;
        Ok(Self { rows, columns, count_include_pad })
    }
}

impl AvgPool2d {
    /// Calls `visit(output, divisor)` for each output of one channel.
    fn divisors(&self, site: &Site, mut visit: impl FnMut(usize, f64)) {
        let (height, width) = (site.inputs[0][1], site.inputs[0][2]);
        for i in 0..site.output[1] {
            for j in 0..site.output[2] {
                let count = if self.count_include_pad {
                    self.rows.kernel * self.columns.kernel
                } else {
                    self.rows.taps(i, height).len() * self.columns.taps(j, width).len()
                };
                visit(i * site.output[2] + j, count as f64);
            }
        }
    }
}

impl Operator for AvgPool2d {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        Window::pool([self.rows, self.columns], inputs[0])
    }

    fn forward<T: Scalar>(&self, site: &Site, inputs: &[&[T]], output: &mut [T]) {
        let (input, outputs) =
            ([site.inputs[0][1], site.inputs[0][2]], [site.output[1], site.output[2]]);
        output.fill(T::ZERO);
        let channels = inputs[0].chunks_exact(input[0] * input[1]);
        for (x, y) in channels.zip(output.chunks_exact_mut(outputs[0] * outputs[1])) {
            Window::sweep([self.rows, self.columns], input, outputs, |at, first| {
                Window::spread(self.columns.stride, &mut y[at], &x[first..], |y, &x| *y += x);
            });
            self.divisors(site, |at, count| y[at] = y[at] / T::from_f64(count));
        }
    }

    fn work(&self, site: &Site) -> usize {
        let seen = self.rows.kernel.saturating_mul(self.columns.kernel);
        site.output_len().saturating_mul(seen.min(site.input_len(0)))
    }

    fn vjp<T: Scalar>(
        &self,
        site: &Site,
        _inputs: &[&[T]],
        _output: &[T],
        cotangent: &[T],
        grads: &mut [&mut [T]],
    ) {
        let (input, outputs) =
            ([site.inputs[0][1], site.inputs[0][2]], [site.output[1], site.output[2]]);
        let mut shares = vec![T::ZERO; outputs[0] * outputs[1]];
        let channels = grads[0].chunks_exact_mut(input[0] * input[1]);
        for (grad, cotangent) in channels.zip(cotangent.chunks_exact(shares.len())) {
            self.divisors(site, |at, count| shares[at] = cotangent[at] / T::from_f64(count));
            Window::sweep([self.rows, self.columns], input, outputs, |at, first| {
                let grad = grad[first..].iter_mut().step_by(self.columns.stride);
                grad.zip(&shares[at]).for_each(|(g, &share)| *g += share);
            });
        }
    }

    fn interval(&self, site: &Site, inputs: &[Interval], lower: &mut [f64], upper: &mut [f64]) {
        outward::average(self, site, inputs[0], self.terms(site), lower, upper);
    }

    fn terms(&self, _site: &Site) -> usize {
        self.rows.kernel * self.columns.kernel + 1
    }

    fn magnitude(&self, site: &Site, inputs: &[&[f64]], output: &mut [f64]) {
        self.forward(site, inputs, output);
        let excess = outward::Excess::of(self.terms(site));
        output.iter_mut().for_each(|y| *y = excess.cover(*y));
    }

    fn crop(&self, site: &Site, patch: &Patch) -> Option<Cropped<Self>> {
        let (axes, input) = Window::crop([self.rows, self.columns], site.inputs[0], patch)?;
        let [rows, columns] = axes;
        Some(Cropped { op: Self { rows, columns, ..*self }, inputs: vec![input] })
    }
}
