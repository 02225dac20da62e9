//! Sine.

use aisec_numeric::Scalar;

use super::curved::{Curved, Function};
use crate::curve::{Curve, Domain, Shape};
use crate::enclosure::angle;
use crate::operator::Reads;

/// `y = sin(x)`.
pub type Sin = Curved<Sine>;

#[derive(Debug, Clone)]
pub struct Sine;

impl Function for Sine {
    const CURVE: Curve = Curve {
        value: angle::sin,
        slope: angle::cos,
        range: |l, u| angle::swing(l, u, angle::sin, 1),
        plain: |x| [x.sin(), x.cos(), -x.sin()],
        slopes: (-1.0, 1.0),
        shape: Shape::Waves { convex: 2 },
        domain: Domain::All,
    };
    const READS: Reads = Reads::INPUTS;

    fn value<T: Scalar>(x: T) -> T {
        T::from_f64(x.to_f64().sin())
    }

    fn slope<T: Scalar>(x: T) -> T {
        T::from_f64(x.to_f64().cos())
    }
}
