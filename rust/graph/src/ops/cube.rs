//! Third power.

use aisec_numeric::Scalar;
use aisec_numeric::rounding::{mul_down, mul_up};

use super::curved::{Curved, Function, increasing};
use crate::curve::{Curve, Domain, Shape};
use crate::enclosure::range::product;
use crate::operator::Reads;

/// `y = x³`.
pub type Cube = Curved<ThirdPower>;

#[derive(Debug, Clone)]
pub struct ThirdPower;

impl Function for ThirdPower {
    const CURVE: Curve = Curve {
        value: |x| product((mul_down(x, x), mul_up(x, x)), (x, x)),
        slope: |x| (mul_down(3.0, mul_down(x, x)), mul_up(3.0, mul_up(x, x))),
        range: |l, u| increasing(Self::CURVE.value, l, u),
        plain: |x| [x * x * x, 3.0 * x * x, 6.0 * x],
        slopes: (0.0, f64::INFINITY),
        shape: Shape::Turns { at: &[(0.0, 0.0)], convex_first: false },
        domain: Domain::All,
    };
    const READS: Reads = Reads::INPUTS;

    fn value<T: Scalar>(x: T) -> T {
        x * x * x
    }

    fn slope<T: Scalar>(x: T) -> T {
        T::from_f64(3.0) * x * x
    }
}
