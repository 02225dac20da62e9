//! Fully connected layer on the last axis.

use std::sync::{Arc, OnceLock};

use aisec_numeric::Scalar;
use aisec_numeric::rounding::add_up;

use super::Build;
use crate::Tensor;
use crate::operator::{Interval, Operator, Site};
use crate::outward;
use crate::spec::Parts;

/// `y[.., o] = bias[o] + Σ_i weight[o, i]·x[.., i]`.
#[derive(Debug, Clone)]
pub struct Affine {
    weight: Arc<Tensor>,
    bias: Arc<Tensor>,
    absolute: OnceLock<Arc<Self>>,
}

impl Build for Affine {
    fn build(parts: &mut Parts) -> Result<Self, String> {
        let (weight, bias) = (parts.tensor("weight")?, parts.tensor("bias")?);
        match (weight.shape(), bias.shape()) {
            ([out, _], [length]) if length == out => Ok(Self { weight, bias, absolute: OnceLock::new() }),
            (weight, bias) => Err(format!(
                "weight has shape {weight:?} and bias {bias:?}, expected [out, in] and [out]"
            )),
        }
    }
}

impl Affine {
    /// `[out, in]`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// `[out]`.
    pub fn bias(&self) -> &Tensor {
        &self.bias
    }

    /// Lengths of the last axis: (out, in).
    pub fn lengths(&self) -> (usize, usize) {
        (self.weight.shape()[0], self.weight.shape()[1])
    }
}

impl Affine {
    /// `|weight|` without a bias, made when first asked for.
    fn absolute(&self) -> &Self {
        self.absolute.get_or_init(|| {
            Arc::new(Self {
                weight: Arc::new(self.weight.map(f64::abs)),
                bias: Arc::new(self.bias.map(|_| 0.0)),
                absolute: OnceLock::new(),
            })
        })
    }

    /// Products in the sum behind one output.
    fn summands(&self) -> usize {
        self.lengths().1
    }
}

impl Operator for Affine {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        let (out, length) = self.lengths();
        match inputs[0].split_last() {
            Some((&last, lead)) if last == length => Ok([lead, &[out]].concat()),
            _ => Err(format!(
                "weight has shape {:?}, so the input's last axis must be {length}; its shape is {:?}",
                self.weight.shape(),
                inputs[0]
            )),
        }
    }

    fn forward<T: Scalar>(&self, _site: &Site, inputs: &[&[T]], output: &mut [T]) {
        let (out, length) = self.lengths();
        let (weight, bias) = (self.weight.values::<T>(), self.bias.values::<T>());
        for (x, y) in inputs[0].chunks_exact(length).zip(output.chunks_exact_mut(out)) {
            for (o, row) in weight.chunks_exact(length).enumerate() {
                let sum = row.iter().zip(x).fold(T::ZERO, |sum, (&w, &x)| w.mul_add(x, sum));
                y[o] = sum + bias[o];
            }
        }
    }

    fn work(&self, site: &Site) -> usize {
        site.output_len().saturating_mul(2 * self.lengths().1)
    }

    fn vjp<T: Scalar>(
        &self,
        _site: &Site,
        _inputs: &[&[T]],
        _output: &[T],
        cotangent: &[T],
        grads: &mut [&mut [T]],
    ) {
        let (out, length) = self.lengths();
        let weight = self.weight.values::<T>();
        let rows = grads[0].chunks_exact_mut(length).zip(cotangent.chunks_exact(out));
        for (grad, cotangent) in rows {
            for (&c, row) in cotangent.iter().zip(weight.chunks_exact(length)) {
                grad.iter_mut().zip(row).for_each(|(g, &w)| *g = w.mul_add(c, *g));
            }
        }
    }

    fn interval(&self, site: &Site, inputs: &[Interval], lower: &mut [f64], upper: &mut [f64]) {
        let sums = (self.summands(), outward::largest(self.bias.f64()));
        outward::midpoint_radius(self, self.absolute(), site, inputs[0], sums, lower, upper);
    }

    fn terms(&self, _site: &Site) -> usize {
        self.lengths().0
    }

    fn magnitude(&self, site: &Site, inputs: &[&[f64]], output: &mut [f64]) {
        self.absolute().forward(site, inputs, output);
        let excess = outward::Excess::of(self.summands());
        let constant = outward::largest(self.bias.f64());
        output.iter_mut().for_each(|y| *y = add_up(excess.cover(*y), constant));
    }
}
