//! Two-dimensional convolution (cross-correlation, as in every framework) on CHW images.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use aisec_numeric::Scalar;
use aisec_numeric::conv::{Convolution, Frame, Place, Unit};
use aisec_numeric::rounding::add_up;
use serde::{Deserialize, Serialize};

use super::Build;
use super::window::Window;
use crate::Tensor;
use crate::beside::{Part, Rows};
use crate::operator::{Interval, Operator, Site};
use crate::outward;
use crate::patch::{Cropped, Patch};
use crate::shape::elements;
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
    kernel: Arc<Convolution>,
    place: OnceLock<Box<Place>>,
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
        let (&[out, channels, height, width], &[length]) = (weight.shape(), bias.shape()) else {
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
        let shape = [out, channels, height, width];
        let kernel = Arc::new(Convolution::new(shape, stride, dilation, groups));
        let (absolute, place) = (OnceLock::new(), OnceLock::new());
        Ok(Self { weight, bias, absolute, rows, columns, groups, kernel, place })
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
                kernel: Arc::new(self.kernel.unpacked()),
                ..self.clone()
            })
        })
    }

    /// Products in the sum behind one output.
    fn summands(&self) -> usize {
        self.weight.len() / self.weight.shape()[0].max(1)
    }

    fn frame(&self, site: &Site) -> Frame {
        let size = |shape: &[usize]| [shape[1], shape[2]];
        let before = [self.rows.before, self.columns.before];
        Frame { input: size(site.inputs[0]), before, output: size(site.output) }
    }

    /// The index tables of `site`, kept from the first call: a node has one shape.
    fn place(&self, site: &Site) -> Cow<'_, Place> {
        let size = |shape: &[usize]| [shape[1], shape[2]];
        let (input, output) = (size(site.inputs[0]), size(site.output));
        let make = || self.kernel.place(input, [self.rows.before, self.columns.before], output);
        let kept = self.place.get_or_init(|| Box::new(make()));
        if (kept.input, kept.output) == (input, output) {
            Cow::Borrowed(kept)
        } else {
            Cow::Owned(make())
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
        let shape =
            vec![self.weight.shape()[0], self.rows.output(height)?, self.columns.output(width)?];
        // The kernels keep a padded copy of one sample of the input, or of the output.
        let padded = |window: Window, size: usize| size + window.before + window.after;
        let (rows, columns) = (padded(self.rows, height), padded(self.columns, width));
        for kept in [[channels, rows, columns], [shape[0], 2 * rows, 2 * columns]] {
            elements(&kept).map_err(|reason| format!("with its padding, {reason}"))?;
        }
        Ok(shape)
    }

    fn forward<T: Scalar>(&self, site: &Site, inputs: &[&[T]], output: &mut [T]) {
        let (weight, bias) = (self.weight.values::<T>(), self.bias.values::<T>());
        self.kernel.forward(&self.place(site), weight, bias, inputs[0], output);
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
        self.kernel.input_gradient(&self.place(site), weight, cotangent, grads[0]);
    }

    fn vjp_beside(&self, site: &Site, rows: Rows, parts: &mut [Part]) {
        let part = &mut parts[0];
        self.kernel.gradient_beside(
            &self.frame(site),
            self.weight.f64(),
            (rows.values, rows.alive),
            site.batch,
            (part.values, part.wanted),
        );
    }

    fn units_beside(&self, site: &Site, units: &[Unit], part: &mut [f64]) -> bool {
        let (frame, weight) = (self.frame(site), self.weight.f64());
        self.kernel.gradient_of_units(&frame, weight, units, site.batch, part);
        true
    }

    fn interval(&self, site: &Site, inputs: &[Interval], lower: &mut [f64], upper: &mut [f64]) {
        let sums = (self.summands(), outward::largest(self.bias.f64()));
        outward::midpoint_radius(inputs[0], sums, lower, upper, |spread, centre, reach| {
            let parts = (self.weight.f64(), self.bias.f64());
            let place = self.place(site);
            if !self.kernel.forward_absolute(&place, parts, spread, centre, reach) {
                self.forward(site, &[spread.middle], centre);
                self.absolute().forward(site, &[spread.radius], reach);
            }
        });
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
        let restricted = |op: &Self| Self { rows, columns, place: OnceLock::new(), ..op.clone() };
        let absolute = Arc::new(restricted(self.absolute()));
        let part = Self { absolute: OnceLock::from(absolute), ..restricted(self) };
        Some(Cropped { op: part, inputs: vec![input] })
    }
}
