//! Natural logarithm.

use aisec_numeric::Scalar;
use aisec_numeric::rounding::{div_down, div_up};

use super::curved::{Curved, Function, increasing};
use crate::curve::{Curve, Domain, Shape};
use crate::enclosure::ln;
use crate::enclosure::range::{ANYTHING};
use crate::operator::Reads;

/// `y = ln(x)`.
pub type Log = Curved<Logarithm>;

#[derive(Debug, Clone)]
pub struct Logarithm;

impl Function for Logarithm {
    const CURVE: Curve = Curve {
        value: ln,
        slope: |x| (div_down(1.0, x), div_up(1.0, x)),
        range: |l, u| if l >= 0.0 { increasing(ln, l, u) } else { ANYTHING },
        plain: |x| [x.ln(), 1.0 / x, -1.0 / (x * x)],
        slopes: (0.0, f64::INFINITY),
        shape: Shape::Turns { at: &[], convex_first: false },
        domain: Domain::Positive,
    };
    const READS: Reads = Reads::INPUTS;

    fn value<T: Scalar>(x: T) -> T {
        T::from_f64(x.to_f64().ln())
    }

    fn slope<T: Scalar>(x: T) -> T {
        T::ONE / x
    }
}
