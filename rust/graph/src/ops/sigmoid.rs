//! Logistic function.

use aisec_numeric::Scalar;
use aisec_numeric::rounding::{mul_down, mul_up, sub_down, sub_up};

use super::curved::{Curved, Function, increasing};
use crate::curve::{Curve, Domain, Shape};
use crate::enclosure::sigmoid;
use crate::operator::Reads;

/// `y = 1 / (1 + exp(−x))`.
pub type Sigmoid = Curved<Logistic>;

#[derive(Debug, Clone)]
pub struct Logistic;

impl Function for Logistic {
    const CURVE: Curve = Curve {
        value: sigmoid,
        // f(1 - f)
        slope: |x| {
            let (low, high) = sigmoid(x);
            (mul_down(low, sub_down(1.0, high)), mul_up(high, sub_up(1.0, low)))
        },
        range: |l, u| increasing(sigmoid, l, u),
        plain: |x| {
            let y = 1.0 / (1.0 + (-x).exp());
            let slope = y * (1.0 - y);
            [y, slope, slope * (1.0 - 2.0 * y)]
        },
        slopes: (0.0, 1.0),
        shape: Shape::Turns { at: &[(0.0, 0.0)], convex_first: true },
        domain: Domain::All,
    };
    const READS: Reads = Reads::OUTPUT;

    fn value<T: Scalar>(x: T) -> T {
        T::ONE / (T::ONE + (-x).exp())
    }

    fn slope<T: Scalar>(y: T) -> T {
        y * (T::ONE - y)
    }
}
