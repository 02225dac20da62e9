//! Square root.

use aisec_numeric::Scalar;
use aisec_numeric::rounding::{div_down, div_up, sqrt_down, sqrt_up};

use super::curved::{Curved, Function};
use crate::curve::{Curve, Domain, Shape};
use crate::enclosure::range::{ANYTHING};
use crate::operator::Reads;

/// `y = √x`.
pub type Sqrt = Curved<SquareRoot>;

#[derive(Debug, Clone)]
pub struct SquareRoot;

impl Function for SquareRoot {
    const CURVE: Curve = Curve {
        value: |x| (sqrt_down(x), sqrt_up(x)),
        slope: |x| (div_down(0.5, sqrt_up(x)), div_up(0.5, sqrt_down(x))),
        range: |l, u| {
            let end = if u == f64::INFINITY { u } else { sqrt_up(u) };
            if l >= 0.0 { (sqrt_down(l.min(f64::MAX)), end) } else { ANYTHING }
        },
        plain: |x| {
            let y = x.sqrt();
            [y, 0.5 / y, -0.25 / (x * y)]
        },
        slopes: (0.0, f64::INFINITY),
        shape: Shape::Turns { at: &[], convex_first: false },
        domain: Domain::NotNegative,
    };
    const READS: Reads = Reads::OUTPUT;

    fn value<T: Scalar>(x: T) -> T {
        x.sqrt()
    }

    fn slope<T: Scalar>(y: T) -> T {
        T::from_f64(0.5) / y
    }
}
