//! Error function.

use aisec_numeric::Scalar;
use aisec_numeric::rounding::{mul_down, mul_up};

use super::curved::{Curved, Function, increasing};
use crate::curve::{Curve, Domain, Shape};
use crate::enclosure::{erf, exp, plain_erf};
use crate::operator::Reads;

/// `2/√π` lies between the floats around this one.
const FACTOR: f64 = std::f64::consts::FRAC_2_SQRT_PI;

/// `y = erf(x)`.
pub type Erf = Curved<ErrorFunction>;

#[derive(Debug, Clone)]
pub struct ErrorFunction;

impl Function for ErrorFunction {
    const CURVE: Curve = Curve {
        value: erf,
        slope: |x| {
            let (low, high) = (exp(-mul_up(x, x)).0, exp(-mul_down(x, x)).1);
            (mul_down(low, FACTOR.next_down()), mul_up(high, FACTOR.next_up()))
        },
        range: |l, u| increasing(erf, l, u),
        plain: |x| {
            let slope = FACTOR * (-x * x).exp();
            [plain_erf(x), slope, -2.0 * x * slope]
        },
        slopes: (0.0, 1.2),
        shape: Shape::Turns { at: &[(0.0, 0.0)], convex_first: true },
        domain: Domain::All,
    };
    const READS: Reads = Reads::INPUTS;

    fn value<T: Scalar>(x: T) -> T {
        T::from_f64(plain_erf(x.to_f64()))
    }

    fn slope<T: Scalar>(x: T) -> T {
        T::from_f64(FACTOR) * (-(x * x)).exp()
    }
}
