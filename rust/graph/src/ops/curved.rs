//! What all operators that apply one smooth function to every element have in common.

use std::fmt::Debug;
use std::marker::PhantomData;

use aisec_numeric::Scalar;

use super::Build;
use crate::curve::Curve;
use crate::operator::{Activation, Interval, Operator, Reads, Relaxation, Site};
use crate::spec::Parts;

/// A smooth function of one number.
pub trait Function: Debug + Clone + 'static {
    const CURVE: Curve;
    /// What [`Function::slope`] is given: the input or the output.
    const READS: Reads;

    fn value<T: Scalar>(x: T) -> T;

    /// The derivative.
    fn slope<T: Scalar>(seen: T) -> T;
}

/// `y = F(x)`, element by element.
#[derive(Debug, Clone)]
pub struct Curved<F>(PhantomData<F>);

impl<F: Function> Build for Curved<F> {
    fn build(_parts: &mut Parts) -> Result<Self, String> {
        Ok(Self(PhantomData))
    }
}

impl<F: Function> Operator for Curved<F> {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        Ok(inputs[0].to_vec())
    }

    fn forward<T: Scalar>(&self, _site: &Site, inputs: &[&[T]], output: &mut [T]) {
        output.iter_mut().zip(inputs[0]).for_each(|(y, &x)| *y = F::value(x));
    }

    fn reads(&self) -> Reads {
        F::READS
    }

    fn vjp<T: Scalar>(
        &self,
        _site: &Site,
        inputs: &[&[T]],
        output: &[T],
        cotangent: &[T],
        grads: &mut [&mut [T]],
    ) {
        let seen = if F::READS.output { output } else { inputs[0] };
        for (g, (&seen, &c)) in grads[0].iter_mut().zip(seen.iter().zip(cotangent)) {
            // Nothing flows back through an infinite slope where nothing came in.
            if c != T::ZERO {
                *g += c * F::slope(seen);
            }
        }
    }

    fn interval(&self, _site: &Site, inputs: &[Interval], lower: &mut [f64], upper: &mut [f64]) {
        F::CURVE.interval(inputs[0], lower, upper);
    }

    fn is_affine(&self) -> bool {
        false
    }

    fn relax(&self, _site: &Site, inputs: &[Interval]) -> Relaxation {
        F::CURVE.relax(inputs[0])
    }

    fn activation(&self) -> Option<Activation> {
        Some(Activation::Curve(F::CURVE))
    }

    fn relax_with(&self, _site: &Site, inputs: &[Interval], parameters: &[f64]) -> Relaxation {
        F::CURVE.relax_with(inputs[0], parameters)
    }

    fn mark_loose(&self, _site: &Site, input: Interval, loose: &mut [bool]) {
        F::CURVE.mark_loose(input, loose);
    }

    fn is_separable(&self) -> bool {
        true
    }
}

/// Bounds of an increasing function are those of its ends.
pub(super) fn increasing(value: fn(f64) -> (f64, f64), l: f64, u: f64) -> (f64, f64) {
    (value(l).0, value(u).1)
}

/// Bounds of a function that falls until somewhere in `bottom`, where it is `least`, and rises then.
pub(super) fn valley(
    value: fn(f64) -> (f64, f64),
    (bottom, least): ((f64, f64), f64),
    l: f64,
    u: f64,
) -> (f64, f64) {
    if u <= bottom.0 {
        (value(u).0, value(l).1)
    } else if l >= bottom.1 {
        (value(l).0, value(u).1)
    } else {
        (least, value(l).1.max(value(u).1))
    }
}
