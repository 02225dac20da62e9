//! Interval arithmetic on pairs `[low, high]`.

use aisec_numeric::rounding::{add_down, add_up, mul_down, mul_up};

/// A real number lies between the two, or all of some do.
pub(crate) type Range = (f64, f64);

/// Nothing is known.
pub(crate) const ANYTHING: Range = (f64::NEG_INFINITY, f64::INFINITY);

pub(crate) fn negated(a: Range) -> Range {
    (-a.1, -a.0)
}

pub(crate) fn sum(a: Range, b: Range) -> Range {
    (add_down(a.0, b.0), add_up(a.1, b.1))
}

/// NaN where zero meets infinity.
pub(crate) fn product(a: Range, b: Range) -> Range {
    let corners = [(a.0, b.0), (a.0, b.1), (a.1, b.0), (a.1, b.1)];
    let (mut low, mut high) = ANYTHING;
    (low, high) = (-low, -high);
    for (x, y) in corners {
        let (below, above) = (mul_down(x, y), mul_up(x, y));
        low = if below < low || below.is_nan() { below } else { low };
        high = if above > high || above.is_nan() { above } else { high };
        if below.is_nan() || above.is_nan() {
            return (f64::NAN, f64::NAN);
        }
    }
    (low, high)
}

/// Between the least and the greatest of both.
pub(crate) fn hull(a: Range, b: Range) -> Range {
    (a.0.min(b.0), a.1.max(b.1))
}
