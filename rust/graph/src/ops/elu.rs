//! Exponential linear unit.

use aisec_numeric::Scalar;
use aisec_numeric::rounding::{sub_down, sub_up};

use super::curved::{Curved, Function, increasing};
use crate::curve::{Curve, Domain, Shape};
use crate::enclosure::exp;
use crate::operator::Reads;

/// `y = x for positive x, exp(x) − 1 otherwise`.
pub type Elu = Curved<ExponentialRamp>;

#[derive(Debug, Clone)]
pub struct ExponentialRamp;

impl Function for ExponentialRamp {
    const CURVE: Curve = Curve {
        value: |x| {
            let (low, high) = exp(x.min(0.0));
            if x >= 0.0 { (x, x) } else { (sub_down(low, 1.0).max(-1.0), sub_up(high, 1.0).min(0.0)) }
        },
        slope: |x| if x >= 0.0 { (1.0, 1.0) } else { exp(x) },
        range: |l, u| increasing(Self::CURVE.value, l, u),
        plain: |x| if x >= 0.0 { [x, 1.0, 0.0] } else { [x.exp_m1(), x.exp(), x.exp()] },
        slopes: (0.0, 1.0),
        shape: Shape::Turns { at: &[], convex_first: true },
        domain: Domain::All,
    };
    const READS: Reads = Reads::INPUTS;

    fn value<T: Scalar>(x: T) -> T {
        if x >= T::ZERO { x } else { T::from_f64(x.to_f64().exp_m1()) }
    }

    fn slope<T: Scalar>(x: T) -> T {
        if x >= T::ZERO { T::ONE } else { x.exp() }
    }
}
