//! Fully connected layer on the last axis.

use std::sync::{Arc, OnceLock};

use aisec_numeric::Scalar;
use aisec_numeric::beside::{Run, Sums, Target};
use aisec_numeric::conv::Unit;
use aisec_numeric::gemm::{PackedMatrix, Packs};
use aisec_numeric::rounding::add_up;

use super::Build;
use crate::Tensor;
use crate::beside::{Part, Rows};
use crate::operator::{Interval, Operator, Site};
use crate::outward;
use crate::spec::Parts;

/// `y[.., o] = bias[o] + Σ_i weight[o, i]·x[.., i]`.
#[derive(Debug, Clone)]
pub struct Affine {
    weight: Arc<Tensor>,
    bias: Arc<Tensor>,
    absolute: OnceLock<Arc<Self>>,
    forward: Arc<Packs>,
    backward: Arc<Packs>,
}

impl Build for Affine {
    fn build(parts: &mut Parts) -> Result<Self, String> {
        let (weight, bias) = (parts.tensor("weight")?, parts.tensor("bias")?);
        match (weight.shape(), bias.shape()) {
            ([out, _], [length]) if length == out => Ok(Self::new(weight, bias)),
            (weight, bias) => Err(format!(
                "weight has shape {weight:?} and bias {bias:?}, expected [out, in] and [out]"
            )),
        }
    }
}

impl Affine {
    fn new(weight: Arc<Tensor>, bias: Arc<Tensor>) -> Self {
        let (forward, backward) = (Arc::default(), Arc::default());
        Self { weight, bias, absolute: OnceLock::new(), forward, backward }
    }

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
            let (weight, bias) = (self.weight.map(f64::abs), self.bias.map(|_| 0.0));
            Arc::new(Self::new(Arc::new(weight), Arc::new(bias)))
        })
    }

    fn forward_pack<T: Scalar>(&self) -> &PackedMatrix<T> {
        let (out, length) = self.lengths();
        let (weight, bias) = (self.weight.values::<T>(), self.bias.values::<T>());
        let element = |i: usize, o: usize| weight[o * length + i];
        self.forward.get::<T, _>(|| PackedMatrix::new(length, out, Some(bias), element))
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
        self.forward_pack::<T>().multiply_rows(inputs[0], output, false);
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
        let pack = || PackedMatrix::new(out, length, None, |o, i| weight[o * length + i]);
        self.backward.get::<T, _>(pack).multiply_rows(cotangent, grads[0], true);
    }

    fn vjp_beside(&self, site: &Site, rows: Rows, parts: &mut [Part]) {
        let ((out, length), width) = (self.lengths(), site.batch);
        let part = &mut parts[0];
        if part.wanted.is_some() {
            part.values.fill(0.0);
        }
        let named = |mask: Option<&[bool]>, first: usize, count: usize| -> Vec<u32> {
            let chosen = (0..count).filter(|i| mask.is_none_or(|mask| mask[first + i]));
            chosen.map(|i| i as u32).collect()
        };
        let sums = Sums {
            width,
            values: rows.values,
            value_stride: 1,
            weight: self.weight.f64(),
            weight_stride: length,
            columns: length,
        };
        for line in 0..site.output_len() / out {
            let terms = named(rows.alive, line * out, out);
            let columns = named(part.wanted, line * length, length);
            let runs = [Run { value: line * out, weight: 0, terms: &terms }];
            let target = Target { values: part.values, first: line * length, stride: 1 };
            sums.write(&runs, &columns, target);
        }
    }

    fn units_beside(&self, site: &Site, units: &[Unit], part: &mut [f64]) -> bool {
        let ((out, length), width) = (self.lengths(), site.batch);
        part.fill(0.0);
        for (row, unit) in units.iter().enumerate() {
            let weight = &self.weight.f64()[unit.element % out * length..][..length];
            let first = unit.element / out * length;
            let column = part[first * width + row..].iter_mut().step_by(width);
            column.zip(weight).for_each(|(a, w)| *a = unit.factor * w);
        }
        true
    }

    fn interval(&self, _site: &Site, inputs: &[Interval], lower: &mut [f64], upper: &mut [f64]) {
        let sums = (self.summands(), outward::largest(self.bias.f64()));
        outward::midpoint_radius(inputs[0], sums, lower, upper, |spread, centre, reach| {
            self.forward_pack::<f64>().multiply_rows_absolute(spread, centre, reach);
        });
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
