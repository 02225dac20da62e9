//! Product of two nodes.

use std::sync::Arc;

use aisec_numeric::Scalar;

use super::Build;
use super::strided::Strided;
use crate::enclosure::range::product;
use crate::operator::{Interval, Operator, Reads, Relaxation, Site};
use crate::pair::{Planes, planes};
use crate::patch::{Cropped, Patch};
use crate::spec::Parts;

/// `y = a · b`, shapes broadcast by numpy's rules.
#[derive(Debug, Clone)]
pub struct Mul {
    /// Of each input: the element that each element of the output reads; its own place, if there
    /// is nothing here.
    from: [Option<Arc<[u32]>>; 2],
}

impl Build for Mul {
    const INPUTS: std::ops::RangeInclusive<usize> = 2..=2;

    fn build(parts: &mut Parts) -> Result<Self, String> {
        let shape = broadcast(parts.inputs)?;
        let len: usize = shape.iter().product();
        if u32::try_from(len).is_err() {
            return Err("has more elements than can be numbered".to_owned());
        }
        let from = |slot: usize| -> Option<Arc<[u32]>> {
            let own = parts.inputs[slot];
            let size = own.iter().product::<usize>();
            let places: Vec<f64> = (0..size).map(|at| at as f64).collect();
            let mut gathered = vec![0.0; len];
            Strided::broadcast(own, &shape)?.gather(&places, &mut gathered);
            (size < len).then(|| gathered.iter().map(|&at| at as u32).collect())
        };
        Ok(Self { from: [from(0), from(1)] })
    }
}

/// The common shape of two inputs.
fn broadcast(inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
    let rank = inputs[0].len().max(inputs[1].len());
    let size = |shape: &[usize], axis: usize| {
        (axis + shape.len()).checked_sub(rank).map_or(1, |own| shape[own])
    };
    (0..rank)
        .map(|axis| match (size(inputs[0], axis), size(inputs[1], axis)) {
            (a, b) if a == b || b == 1 => Ok(a),
            (1, b) => Ok(b),
            _ => Err(format!(
                "inputs of shapes {:?} and {:?} do not broadcast",
                inputs[0], inputs[1]
            )),
        })
        .collect()
}

impl Mul {
    /// The elements of both inputs that one of the output reads.
    fn places(&self, at: usize) -> [usize; 2] {
        [0, 1].map(|slot| self.from[slot].as_ref().map_or(at, |from| from[at] as usize))
    }
}

impl Operator for Mul {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        broadcast(inputs)
    }

    fn forward<T: Scalar>(&self, site: &Site, inputs: &[&[T]], output: &mut [T]) {
        let (a, b) = (site.input_len(0), site.input_len(1));
        for (sample, y) in output.chunks_exact_mut(site.output_len()).enumerate() {
            let (a, b) = (&inputs[0][sample * a..][..a], &inputs[1][sample * b..][..b]);
            if let [None, None] = &self.from {
                y.iter_mut().zip(a.iter().zip(b)).for_each(|(y, (&a, &b))| *y = a * b);
                continue;
            }
            for (at, y) in y.iter_mut().enumerate() {
                let [i, j] = self.places(at);
                *y = a[i] * b[j];
            }
        }
    }

    fn reads(&self) -> Reads {
        Reads::INPUTS
    }

    fn vjp<T: Scalar>(
        &self,
        site: &Site,
        inputs: &[&[T]],
        _output: &[T],
        cotangent: &[T],
        grads: &mut [&mut [T]],
    ) {
        let (a, b) = (site.input_len(0), site.input_len(1));
        for (sample, cotangent) in cotangent.chunks_exact(site.output_len()).enumerate() {
            let (a, b) = (sample * a, sample * b);
            for (at, &c) in cotangent.iter().enumerate() {
                if c != T::ZERO {
                    let [i, j] = self.places(at);
                    grads[0][a + i] += c * inputs[1][b + j];
                    grads[1][b + j] += c * inputs[0][a + i];
                }
            }
        }
    }

    fn interval(&self, site: &Site, inputs: &[Interval], lower: &mut [f64], upper: &mut [f64]) {
        let (a, b) = (site.input_len(0), site.input_len(1));
        let len = site.output_len();
        for at in 0..lower.len() {
            let (sample, [i, j]) = (at / len, self.places(at % len));
            let (i, j) = (sample * a + i, sample * b + j);
            let end = |slot: usize, at: usize| (inputs[slot].lower[at], inputs[slot].upper[at]);
            (lower[at], upper[at]) = product(end(0, i), end(1, j));
        }
    }

    fn is_affine(&self) -> bool {
        false
    }

    fn relax(&self, site: &Site, inputs: &[Interval]) -> Relaxation {
        let mut found = Planes::new(self.from.clone(), site.output_len());
        for at in 0..site.output_len() {
            let [i, j] = self.places(at);
            let x = (inputs[0].lower[i], inputs[0].upper[i]);
            let y = (inputs[1].lower[j], inputs[1].upper[j]);
            found.push(planes(x, y));
        }
        Relaxation::Planes(found)
    }

    /// Wherever the bounds differ, tighter ones give closer planes.
    fn mark_loose(&self, _site: &Site, input: Interval, loose: &mut [bool]) {
        let bounds = input.lower.iter().zip(input.upper);
        loose.iter_mut().zip(bounds).for_each(|(loose, (l, u))| *loose |= l != u);
    }

    fn crop(&self, site: &Site, patch: &Patch) -> Option<Cropped<Self>> {
        let plain = site.inputs.iter().all(|&shape| shape == site.output);
        plain.then(|| Cropped { op: self.clone(), inputs: vec![*patch; 2] })
    }
}
