//! Reciprocal.

use aisec_numeric::Scalar;
use aisec_numeric::rounding::{div_down, div_up, mul_down, mul_up};

use super::curved::{Curved, Function};
use crate::curve::{Curve, Domain, Shape};
use crate::enclosure::range::{ANYTHING};
use crate::operator::Reads;

/// `y = 1 / x`.
pub type Reciprocal = Curved<Inverse>;

#[derive(Debug, Clone)]
pub struct Inverse;

impl Function for Inverse {
    const CURVE: Curve = Curve {
        value: |x| (div_down(1.0, x), div_up(1.0, x)),
        slope: |x| {
            let (low, high) = (mul_down(x, x), mul_up(x, x));
            (div_down(-1.0, low), div_up(-1.0, high))
        },
        range: |l, u| {
            if l > 0.0 || u < 0.0 { (div_down(1.0, u), div_up(1.0, l)) } else { ANYTHING }
        },
        plain: |x| {
            let y = 1.0 / x;
            [y, -y * y, 2.0 * y * y * y]
        },
        slopes: (f64::NEG_INFINITY, 0.0),
        shape: Shape::Turns { at: &[(0.0, 0.0)], convex_first: false },
        domain: Domain::NotZero,
    };
    const READS: Reads = Reads::OUTPUT;

    fn value<T: Scalar>(x: T) -> T {
        T::ONE / x
    }

    fn slope<T: Scalar>(y: T) -> T {
        -(y * y)
    }
}
