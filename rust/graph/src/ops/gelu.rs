//! Gaussian error linear unit.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, SQRT_2};

use aisec_numeric::Scalar;

use super::curved::{Curved, Function, valley};
use crate::curve::{Curve, Domain, Shape};
use crate::enclosure::{gelu, gelu_slope, plain_erf};
use crate::operator::Reads;

/// The curve turns at `√2`, and as far left of zero.
const TURN: (f64, f64) = (SQRT_2.next_down(), SQRT_2);

/// It is least in here, and at least this.
const BOTTOM: (f64, f64) = (-0.751_791_524_693_564_5, -0.751_791_524_693_564_4);
const LEAST: f64 = -0.169_971_207_479_903_69;

/// `Φ(x)` and the density there.
fn normal(x: f64) -> (f64, f64) {
    let density = 0.5 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2 * (-0.5 * x * x).exp();
    (0.5 * (1.0 + plain_erf(x * FRAC_1_SQRT_2)), density)
}

/// `y = x·Φ(x), Φ the standard normal distribution function`.
pub type Gelu = Curved<WeightedNormal>;

#[derive(Debug, Clone)]
pub struct WeightedNormal;

impl Function for WeightedNormal {
    const CURVE: Curve = Curve {
        value: gelu,
        slope: gelu_slope,
        range: |l, u| valley(gelu, (BOTTOM, LEAST), l, u),
        plain: |x| {
            let (part, density) = normal(x);
            [x * part, part + x * density, density * (2.0 - x * x)]
        },
        slopes: (-0.2, 1.2),
        shape: Shape::Turns { at: &[(-TURN.1, -TURN.0), TURN], convex_first: false },
        domain: Domain::All,
    };
    const READS: Reads = Reads::INPUTS;

    fn value<T: Scalar>(x: T) -> T {
        let x = x.to_f64();
        T::from_f64(x * normal(x).0)
    }

    fn slope<T: Scalar>(x: T) -> T {
        let x = x.to_f64();
        let (part, density) = normal(x);
        T::from_f64(part + x * density)
    }
}
