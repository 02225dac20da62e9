//! Square.

use aisec_numeric::Scalar;
use aisec_numeric::rounding::{mul_down, mul_up};

use super::curved::{Curved, Function, valley};
use crate::curve::{Curve, Domain, Shape};
use crate::operator::Reads;

/// `y = x²`.
pub type Square = Curved<SecondPower>;

#[derive(Debug, Clone)]
pub struct SecondPower;

impl Function for SecondPower {
    const CURVE: Curve = Curve {
        value: |x| (mul_down(x, x), mul_up(x, x)),
        slope: |x| (2.0 * x, 2.0 * x),
        range: |l, u| valley(Self::CURVE.value, ((0.0, 0.0), 0.0), l, u),
        plain: |x| [x * x, 2.0 * x, 2.0],
        slopes: (f64::NEG_INFINITY, f64::INFINITY),
        shape: Shape::Turns { at: &[], convex_first: true },
        domain: Domain::All,
    };
    const READS: Reads = Reads::INPUTS;

    fn value<T: Scalar>(x: T) -> T {
        x * x
    }

    fn slope<T: Scalar>(x: T) -> T {
        x + x
    }
}
