//! Cosine.

use aisec_numeric::Scalar;

use super::curved::{Curved, Function};
use crate::curve::{Curve, Domain, Shape};
use crate::enclosure::angle;
use crate::enclosure::range::{negated};
use crate::operator::Reads;

/// `y = cos(x)`.
pub type Cos = Curved<Cosine>;

#[derive(Debug, Clone)]
pub struct Cosine;

impl Function for Cosine {
    const CURVE: Curve = Curve {
        value: angle::cos,
        slope: |x| negated(angle::sin(x)),
        range: |l, u| angle::swing(l, u, angle::cos, 0),
        plain: |x| [x.cos(), -x.sin(), -x.cos()],
        slopes: (-1.0, 1.0),
        shape: Shape::Waves { convex: 1 },
        domain: Domain::All,
    };
    const READS: Reads = Reads::INPUTS;

    fn value<T: Scalar>(x: T) -> T {
        T::from_f64(x.to_f64().cos())
    }

    fn slope<T: Scalar>(x: T) -> T {
        -T::from_f64(x.to_f64().sin())
    }
}
