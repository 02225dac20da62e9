//! Softplus.

use aisec_numeric::Scalar;

use super::curved::{Curved, Function, increasing};
use crate::curve::{Curve, Domain, Shape};
use crate::enclosure::{sigmoid, softplus};
use crate::operator::Reads;

/// `y = ln(1 + exp(x))`.
pub type Softplus = Curved<SmoothRamp>;

#[derive(Debug, Clone)]
pub struct SmoothRamp;

impl Function for SmoothRamp {
    const CURVE: Curve = Curve {
        value: softplus,
        slope: sigmoid,
        range: |l, u| increasing(softplus, l, u),
        plain: |x| {
            let y = 1.0 / (1.0 + (-x).exp());
            [x.max(0.0) + (-x.abs()).exp().ln_1p(), y, y * (1.0 - y)]
        },
        slopes: (0.0, 1.0),
        shape: Shape::Turns { at: &[], convex_first: true },
        domain: Domain::All,
    };
    const READS: Reads = Reads::INPUTS;

    fn value<T: Scalar>(x: T) -> T {
        let x = x.to_f64();
        T::from_f64(x.max(0.0) + (-x.abs()).exp().ln_1p())
    }

    fn slope<T: Scalar>(x: T) -> T {
        T::ONE / (T::ONE + (-x).exp())
    }
}
