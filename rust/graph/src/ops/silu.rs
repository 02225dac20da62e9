//! Sigmoid-weighted linear unit (swish).

use aisec_numeric::Scalar;

use super::curved::{Curved, Function, valley};
use crate::curve::{Curve, Domain, Shape};
use crate::enclosure::{silu, silu_slope};
use crate::operator::Reads;

/// The curve turns here, where `x·tanh(x/2) = 2`, and as far left of zero.
const TURN: (f64, f64) = (2.399_357_280_515_467_5, 2.399_357_280_515_468);

/// It is least in here, and at least this.
const BOTTOM: (f64, f64) = (-1.278_464_542_761_074, -1.278_464_542_761_073_7);
const LEAST: f64 = -0.278_464_542_761_073_8;

/// `y = x / (1 + exp(−x))`.
pub type Silu = Curved<WeightedLogistic>;

#[derive(Debug, Clone)]
pub struct WeightedLogistic;

impl Function for WeightedLogistic {
    const CURVE: Curve = Curve {
        value: silu,
        slope: silu_slope,
        range: |l, u| valley(silu, (BOTTOM, LEAST), l, u),
        plain: |x| {
            let y = 1.0 / (1.0 + (-x).exp());
            let bend = y * (1.0 - y);
            [x * y, y + x * bend, bend * (2.0 + x * (1.0 - 2.0 * y))]
        },
        slopes: (-0.2, 1.2),
        shape: Shape::Turns { at: &[(-TURN.1, -TURN.0), TURN], convex_first: false },
        domain: Domain::All,
    };
    const READS: Reads = Reads::INPUTS;

    fn value<T: Scalar>(x: T) -> T {
        x / (T::ONE + (-x).exp())
    }

    fn slope<T: Scalar>(x: T) -> T {
        let y = T::ONE / (T::ONE + (-x).exp());
        y + x * y * (T::ONE - y)
    }
}
