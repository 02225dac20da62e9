//! Planes below and above the product of two numbers (McCormick 1976).

use std::sync::Arc;

use aisec_numeric::rounding::{mul_down, mul_up, sub_down, sub_up};

use crate::enclosure::range::{Range, product};

/// Linear bounds of elements that each depend on one element of two inputs:
/// `slope[0]·x + slope[1]·y + offset`.
#[derive(Debug, Clone, PartialEq)]
pub struct Planes {
    /// Of each input: the element that each element of the output reads; its own place, if there
    /// is nothing here.
    pub from: [Option<Arc<[u32]>>; 2],
    pub lower: Plane,
    pub upper: Plane,
}

/// One side of all elements.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plane {
    pub slopes: [Vec<f64>; 2],
    pub offset: Vec<f64>,
}

impl Planes {
    pub(crate) fn new(from: [Option<Arc<[u32]>>; 2], len: usize) -> Self {
        let plane = || Plane {
            slopes: [Vec::with_capacity(len), Vec::with_capacity(len)],
            offset: Vec::with_capacity(len),
        };
        Self { from, lower: plane(), upper: plane() }
    }

    pub(crate) fn push(&mut self, [lower, upper]: [[f64; 3]; 2]) {
        for (plane, [x, y, offset]) in [(&mut self.lower, lower), (&mut self.upper, upper)] {
            plane.slopes[0].push(x);
            plane.slopes[1].push(y);
            plane.offset.push(offset);
        }
    }

    /// The elements of both inputs that one of the output reads.
    pub fn places(&self, at: usize) -> [usize; 2] {
        [0, 1].map(|slot| self.from[slot].as_ref().map_or(at, |from| from[at] as usize))
    }
}

/// Slopes and offset of a plane below and of one above `x·y`.
///
/// The convex hull is the larger of two planes, each exact on two sides of the rectangle; any mean
/// of the two has the same average distance, and the one with the slopes at the middle the
/// smallest largest one. The difference from a plane with any slopes is bilinear, so it is
/// least and greatest at a corner.
pub(crate) fn planes(x: Range, y: Range) -> [[f64; 3]; 2] {
    let slopes = [0.5 * y.0 + 0.5 * y.1, 0.5 * x.0 + 0.5 * x.1];
    if !(slopes[0].is_finite() && slopes[1].is_finite()) {
        let (low, high) = product(x, y);
        return [[0.0, 0.0, low], [0.0, 0.0, high]];
    }
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    for (x, y) in [(x.0, y.0), (x.0, y.1), (x.1, y.0), (x.1, y.1)] {
        let [a, b] = slopes;
        let below = sub_down(sub_down(mul_down(x, y), mul_up(a, x)), mul_up(b, y));
        let above = sub_up(sub_up(mul_up(x, y), mul_down(a, x)), mul_down(b, y));
        least = if below < least || below.is_nan() { below } else { least };
        most = if above > most || above.is_nan() { above } else { most };
    }
    [[slopes[0], slopes[1], least], [slopes[0], slopes[1], most]]
}

#[cfg(test)]
mod tests {
    use aisec_numeric::rounding::{add_down, add_up};
    use proptest::prelude::*;

    use super::*;

    fn ends() -> impl Strategy<Value = Range> {
        let low = prop_oneof![-1.0..1.0f64, -1e-9..1e-9f64, -1e6..1e6f64];
        let width = prop_oneof![Just(0.0), 0.0..1e-12f64, 0.0..2.0f64, 0.0..1e9f64];
        (low, width).prop_map(|(low, width)| (low, low + width))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4000) })]

        #[test]
        fn planes_hold(x in ends(), y in ends(), s in 0.0..1.0f64, t in 0.0..1.0f64) {
            let [[a, b, c], [d, e, f]] = planes(x, y);
            let range = product(x, y);
            let inside = |(l, u): Range, t: f64| (l + t * (u - l)).clamp(l, u);
            for (x, y) in [(x.0, y.0), (x.0, y.1), (x.1, y.0), (x.1, y.1), (inside(x, s), inside(y, t))] {
                let below = add_down(add_down(mul_down(a, x), mul_down(b, y)), c);
                let above = add_up(add_up(mul_up(d, x), mul_up(e, y)), f);
                prop_assert!(below <= mul_up(x, y) && above >= mul_down(x, y));
                prop_assert!(range.0 <= mul_up(x, y) && mul_down(x, y) <= range.1);
            }
            // They meet the product at corners, but for rounding.
            let gap = |x: f64, y: f64| x * y - (a * x + b * y + c);
            let least = [(x.0, y.0), (x.0, y.1), (x.1, y.0), (x.1, y.1)]
                .iter().map(|&(x, y)| gap(x, y)).fold(f64::INFINITY, f64::min);
            let size = x.0.abs().max(x.1.abs()) * y.0.abs().max(y.1.abs());
            prop_assert!(least <= 1e-14 * size + 1e-300);
        }
    }

    #[test]
    fn infinite_ends() {
        let inf = f64::INFINITY;
        assert_eq!(planes((0.5, inf), (1.0, 2.0)), [[0.0, 0.0, 0.5], [0.0, 0.0, inf]]);
        assert!(planes((-inf, inf), (0.0, 1.0))[0][2].is_nan());
        assert!(!planes((f64::NAN, 1.0), (0.0, 1.0))[1][2].is_finite());
    }
}
