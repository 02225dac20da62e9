//! Lines around functions that bend by turns: any slopes, and the offsets that are proven for them.

use aisec_numeric::rounding::{mul_up, sub_down, sub_up};

use super::curve::{Interval, product};
use super::functions::{Function, Part};
use super::number::{Number, least};

/// Over an interval shorter than this, relative to its middle if that is below 1, the chord's slope
/// is taken to be the derivative at the middle.
const NARROW: f64 = 1e-4;

/// Points at which a function of many parts is looked at.
const SAMPLES: usize = 64;

/// A function as it is, or upside down.
#[derive(Clone, Copy)]
pub(super) struct Bend {
    pub function: Function,
    pub flipped: bool,
}

fn middle((low, high): Interval) -> f64 {
    0.5 * (low + high)
}

impl Bend {
    fn signed(self, (low, high): Interval) -> Interval {
        if self.flipped { (-high, -low) } else { (low, high) }
    }

    fn value(self, x: f64) -> Interval {
        self.signed(self.function.value(x))
    }

    fn slope(self, x: f64) -> Interval {
        self.signed(self.function.slope(x))
    }

    fn plain(self, x: f64) -> f64 {
        middle(self.value(x))
    }

    fn steep(self, x: f64) -> f64 {
        middle(self.slope(x))
    }

    fn parts(self, l: f64, u: f64) -> Option<Vec<Part>> {
        if !self.function.is_defined(l, u) {
            return None;
        }
        let parts = self.function.parts(l, u)?.into_iter();
        Some(parts.map(|part| Part { convex: part.convex != self.flipped, ..part }).collect())
    }

    /// A line below on `[l, u]`: of the slope given, or the usual one; level where the function is
    /// not defined or has many parts.
    pub fn below<T: Number>(self, l: f64, u: f64, slope: Option<f64>) -> (T, T) {
        let Some(parts) = self.parts(l, u) else {
            let (low, _) = self.signed(self.function.range(l, u));
            return (T::zero(), T::of(low));
        };
        let slope = slope.unwrap_or_else(|| self.usual_slope(l, u, &parts));
        let slope = if slope.is_finite() { slope } else { 0.0 };
        (T::of(slope), T::of(self.offset(l, u, slope, &parts)))
    }

    /// The largest offset for which the line is proven to stay below: where the function is concave
    /// its distance from a line is least at an end, and where it is convex that of a tangent is.
    fn offset(self, l: f64, u: f64, slope: f64, parts: &[Part]) -> f64 {
        let mut offsets = Vec::new();
        let mut done = l;
        let next_to_turn = |l: f64, u: f64| {
            let low = sub_down(self.value(l).0, mul_up(2.0, sub_up(u, l)));
            sub_down(low, mul_up(slope, l).max(mul_up(slope, u)))
        };
        for part in parts {
            if done < part.low {
                offsets.push(next_to_turn(done, part.low));
            }
            done = part.high;
            let ends = [part.low, part.high];
            if part.convex {
                let at = self.parallel(part, slope);
                let (height, steep) = (self.value(at).0, self.slope(at));
                for x in ends {
                    let run = (sub_down(x, at), sub_up(x, at));
                    let rise = if run == (0.0, 0.0) { 0.0 } else { product(steep, run).0 };
                    offsets.push(sub_down(height.plus_down(&rise), mul_up(slope, x)));
                }
            } else {
                offsets.extend(ends.map(|x| sub_down(self.value(x).0, mul_up(slope, x))));
            }
        }
        if done < u {
            offsets.push(next_to_turn(done, u));
        }
        least(offsets)
    }

    /// Where in a convex part the derivative is nearest to `slope`.
    fn parallel(self, part: &Part, slope: f64) -> f64 {
        let (mut low, mut high) = (part.low, part.high);
        if self.steep(low) >= slope {
            return low;
        }
        if self.steep(high) <= slope {
            return high;
        }
        for _ in 0..60 {
            let at = 0.5 * (low + high);
            if self.steep(at) < slope { low = at } else { high = at }
        }
        low
    }

    /// Of the tangent at the point nearest to the middle whose tangent stays below, if there is
    /// one; of the chord, or with many parts of the hull of some points at the middle, otherwise.
    fn usual_slope(self, l: f64, u: f64, parts: &[Part]) -> f64 {
        let at = 0.5 * l + 0.5 * u;
        let tangent = match parts {
            [a] if a.convex => Some(at),
            [a, b] if a.convex => self.last(l, a.high, u).map(|last| at.min(last)),
            [_, b] if b.convex => self.last(u, b.low, l).map(|first| at.max(first)),
            [a, b, c] if b.convex => {
                let ends = (self.last(b.high, b.low, a.low), self.last(b.low, b.high, c.high));
                match ends {
                    (Some(first), Some(last)) if first <= last => Some(at.max(first).min(last)),
                    _ => None,
                }
            }
            _ => None,
        };
        if let Some(point) = tangent {
            return self.steep(point);
        }
        if u - l < NARROW * at.abs().min(1.0) || u - l < f64::MIN_POSITIVE {
            return self.steep(at);
        }
        let simple = parts.len() < 3 || (parts.len() == 3 && parts[1].convex);
        if simple { (self.plain(u) - self.plain(l)) / (u - l) } else { self.hull_slope(l, u) }
    }

    /// The point between `good` and `bad` nearest to `bad` whose tangent is no higher than the
    /// function at `end`.
    fn last(self, good: f64, bad: f64, end: f64) -> Option<f64> {
        let height = self.plain(end);
        let overshoots = |x: f64| self.plain(x) + self.steep(x) * (end - x) > height;
        if overshoots(good) {
            return None;
        }
        let (mut good, mut bad) = (good, bad);
        for _ in 0..60 {
            let at = 0.5 * (good + bad);
            if overshoots(at) { bad = at } else { good = at }
        }
        Some(good)
    }

    fn hull_slope(self, l: f64, u: f64) -> f64 {
        let place = |k: usize| {
            let part = k as f64 / (SAMPLES - 1) as f64;
            (1.0 - part) * l + part * u
        };
        let points: Vec<(f64, f64)> =
            (0..SAMPLES).map(|k| (place(k), self.plain(place(k)))).collect();
        let at = 0.5 * l + 0.5 * u;
        let (left, right) = points.split_at(SAMPLES / 2);
        let mut best = (f64::INFINITY, 0.0);
        for a in left {
            for b in right {
                let slope = (b.1 - a.1) / (b.0 - a.0);
                let height = a.1 + slope * (at - a.0);
                if height < best.0 {
                    best = (height, slope);
                }
            }
        }
        best.1
    }
}

/// -1, 0 or 1.
pub(super) fn sign<T: Number>(x: &T) -> T {
    if *x > T::zero() {
        T::one()
    } else if *x < T::zero() {
        T::of(-1.0)
    } else {
        x.clone()
    }
}

/// A line above the sign on `[l, u]`: level, or with the step near the longer side's end through
/// -1 at the left end and 1 at zero.
pub(super) fn above_sign<T: Number>(l: &T, u: &T) -> (T, T) {
    let (left, right) = (l.below(), u.above());
    let slope = 2.0 / -left;
    if !(left < 0.0 && right >= 0.0 && right < -left && slope.is_finite() && slope > 0.0) {
        return (T::zero(), sign(u));
    }
    let steep = T::of(slope);
    let reach = T::of(-1.0).minus_up(&steep.times_down(l));
    (steep, if reach > T::one() { reach } else { T::one() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use Function::*;

    const ALL: [Function; 13] =
        [Exp, Log, Sqrt, Reciprocal, Square, Cube, Sin, Cos, Erf, Softplus, Elu, Silu, Gelu];

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2500) })]

        /// Lines of any slope stay on their side.
        #[test]
        fn lines_hold(
            function in prop::sample::select(ALL.to_vec()),
            l in prop_oneof![-1e-6..1e-6f64, -4.0..4.0f64, -50.0..50.0f64, 0.001..3.0f64],
            width in prop_oneof![Just(0.0), 0.0..1e-9f64, 0.0..1.0f64, 0.0..12.0f64, 0.0..900.0f64],
            any in prop_oneof![Just(None), (-3.0..3.0f64).prop_map(Some)],
        ) {
            let u = l + width;
            let (low, below) = Bend { function, flipped: false }.below::<f64>(l, u, any);
            let (high, above) =
                Bend { function, flipped: true }.below::<f64>(l, u, any.map(|slope| -slope));
            let (high, above) = (-high, -above);
            for step in 0..=64 {
                let x = (l + width * f64::from(step) / 64.0).clamp(l, u);
                if !function.is_defined(x, x) {
                    continue;
                }
                let (least, most) = function.value(x);
                prop_assert!(low.mul_add(x, below) <= most, "{:?} at {} on [{}, {}]", function, x, l, u);
                prop_assert!(high.mul_add(x, above) >= least, "{:?} at {} on [{}, {}]", function, x, l, u);
                let range = function.range(l, u);
                prop_assert!(range.0 <= most && least <= range.1, "{:?} at {} on [{}, {}]", function, x, l, u);
            }
        }

        #[test]
        fn lines_above_a_sign_hold(l in -2.0..2.0f64, width in 0.0..4.0f64, t in 0.0..1.0f64) {
            let u = l + width;
            let (slope, offset) = above_sign(&l, &u);
            for x in [l, u, 0.0, (l + t * width).clamp(l, u), 5e-324] {
                if l <= x && x <= u {
                    prop_assert!(slope.mul_add(x, offset) >= sign(&x));
                }
            }
        }
    }
}
