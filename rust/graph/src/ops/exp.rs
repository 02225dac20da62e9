//! Exponential function.

use aisec_numeric::Scalar;

use super::curved::{Curved, Function, increasing};
use crate::curve::{Curve, Domain, Shape};
use crate::enclosure::exp;
use crate::operator::Reads;

/// `y = exp(x)`.
pub type Exp = Curved<Exponential>;

#[derive(Debug, Clone)]
pub struct Exponential;

impl Function for Exponential {
    const CURVE: Curve = Curve {
        value: exp,
        slope: exp,
        range: |l, u| increasing(exp, l, u),
        plain: |x| [x.exp(); 3],
        slopes: (0.0, f64::INFINITY),
        shape: Shape::Turns { at: &[], convex_first: true },
        domain: Domain::All,
    };
    const READS: Reads = Reads::OUTPUT;

    fn value<T: Scalar>(x: T) -> T {
        x.exp()
    }

    fn slope<T: Scalar>(y: T) -> T {
        y
    }
}
