//! Linear bounds of sigmoid and tanh: increasing, convex left of zero and concave right of it.
//!
//! The slope is chosen in plain floating point; the offset is then computed so that the line
//! holds for exactly that slope, from enclosures of the function and its derivative alone.

use aisec_numeric::rounding::{add_down, mul_down, mul_up, sub_down, sub_up};

use crate::operator::{Interval, Relaxation};

/// A function and its derivative, each as an enclosure `[low, high]` at a point.
#[derive(Debug, Clone, Copy)]
pub struct Curve {
    pub(crate) value: fn(f64) -> (f64, f64),
    pub(crate) slope: fn(f64) -> (f64, f64),
    /// The function and its first two derivatives in plain floating point.
    pub(crate) plain: fn(f64) -> [f64; 3],
}

/// Where one of an element's lines may touch the curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Touch {
    /// The parameter behind the line of [`crate::Operator::relax`].
    pub usual: f64,
    /// The points whose tangents stay on their side of the curve; `None` where the line is the
    /// chord and there is nothing to choose.
    pub range: Option<(f64, f64)>,
}

impl Touch {
    fn mirrored(self) -> Self {
        Self { usual: -self.usual, range: self.range.map(|(low, high)| (-high, -low)) }
    }
}

/// Over an interval shorter than this the chord has the derivative at its middle for a slope: the
/// quotient of differences would be little but rounding errors, and other code that finds the same
/// line would not find it again. It costs less than 1e-9.
const NARROW: f64 = 1e-4;

/// Halvings of the search for a tangent point.
const STEPS: usize = 60;

/// The curve, or its mirror image `-f(-x)`, which has the same shape.
#[derive(Clone, Copy)]
struct Side {
    curve: Curve,
    mirrored: bool,
}

impl Side {
    fn value(&self, x: f64) -> (f64, f64) {
        if self.mirrored {
            let (low, high) = (self.curve.value)(-x);
            (-high, -low)
        } else {
            (self.curve.value)(x)
        }
    }

    fn slope(&self, x: f64) -> (f64, f64) {
        (self.curve.slope)(if self.mirrored { -x } else { x })
    }

    fn middle(enclosure: (f64, f64)) -> f64 {
        0.5 * (enclosure.0 + enclosure.1)
    }

    /// Slope and offset of a line below the curve on `[l, u]`.
    fn below(&self, l: f64, u: f64) -> (f64, f64) {
        self.below_at(l, u, self.touch(l, u).usual)
    }

    /// The choice there is for the line below.
    fn touch(&self, l: f64, u: f64) -> Touch {
        const CHORD: Touch = Touch { usual: 1.0, range: None };
        if !(l.is_finite() && u.is_finite()) {
            CHORD
        } else if u <= 0.0 {
            Touch { usual: 0.5 * l + 0.5 * u, range: Some((l, u)) }
        } else if l < 0.0 {
            let last = self.tangent_through(l, u);
            // The middle leaves the least area, and is what `u` just below zero would get.
            last.map_or(CHORD, |last| Touch {
                usual: last.min(0.5 * l + 0.5 * u),
                range: Some((l, last)),
            })
        } else {
            CHORD
        }
    }

    /// The line below that touches the curve at `point`, see [`crate::Activation::Curve`].
    fn below_at(&self, l: f64, u: f64, point: f64) -> (f64, f64) {
        if !(l.is_finite() && u.is_finite()) {
            return (0.0, self.value(l).0); // increasing
        }
        let inside = if point > l { point.min(u) } else { l };
        let touch = (l < 0.0 && (u <= 0.0 || point < 0.0)).then_some(inside);
        let slope = match touch {
            Some(point) => Self::middle(self.slope(point)),
            None if u - l < NARROW => Self::middle(self.slope(0.5 * l + 0.5 * u)),
            None => (Self::middle(self.value(u)) - Self::middle(self.value(l))) / (u - l),
        };
        let slope = if slope.is_finite() && slope > 0.0 { slope } else { 0.0 };
        (slope, self.offset(l, u, slope, touch.unwrap_or(l)))
    }

    /// A point left of zero whose tangent meets the curve again at `u` (or just beyond), if
    /// there is one in `[l, 0]`.
    fn tangent_through(&self, l: f64, u: f64) -> Option<f64> {
        let end = Self::middle(self.value(u));
        let overshoots =
            |d: f64| Self::middle(self.value(d)) + Self::middle(self.slope(d)) * (u - d) > end;
        if overshoots(l) {
            return None;
        }
        let (mut low, mut high) = (l, 0.0);
        for _ in 0..STEPS {
            let middle = 0.5 * (low + high);
            if overshoots(middle) { high = middle } else { low = middle }
        }
        Some(low)
    }

    /// The largest offset this can prove for a line of the given slope below the curve.
    ///
    /// Right of zero the curve is concave, so its distance from a line is least at an end; left
    /// of zero it lies above its tangent at `touch`, whose distance is least at an end too.
    fn offset(&self, l: f64, u: f64, slope: f64, touch: f64) -> f64 {
        let mut offset = f64::INFINITY;
        if l < 0.0 {
            let point = touch.clamp(l, u.min(0.0));
            let (value, steep) = (self.value(point).0, self.slope(point));
            for x in [l, u.min(0.0)] {
                let run = (sub_down(x, point), sub_up(x, point));
                let rise = [(steep.0, run.0), (steep.0, run.1), (steep.1, run.0), (steep.1, run.1)]
                    .map(|(a, b)| mul_down(a, b));
                let least = rise.into_iter().fold(f64::INFINITY, smaller);
                offset = smaller(offset, sub_down(add_down(value, least), mul_up(slope, x)));
            }
        }
        if u > 0.0 {
            for x in [l.max(0.0), u] {
                offset = smaller(offset, sub_down(self.value(x).0, mul_up(slope, x)));
            }
        }
        if l == 0.0 && u == 0.0 { self.value(0.0).0 } else { offset }
    }
}

/// The smaller of two lower bounds; nothing is known where one is NaN.
fn smaller(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NEG_INFINITY } else { a.min(b) }
}

impl Curve {
    /// The curve as it is, and its mirror image.
    fn sides(&self) -> [Side; 2] {
        [Side { curve: *self, mirrored: false }, Side { curve: *self, mirrored: true }]
    }

    /// The function and its first two derivatives in plain floating point.
    pub fn derivatives(&self, x: f64) -> [f64; 3] {
        (self.plain)(x)
    }

    /// What there is to choose for the lower and for the upper line of one element.
    pub fn touches(&self, l: f64, u: f64) -> [Touch; 2] {
        let [below, above] = self.sides();
        [below.touch(l, u), above.touch(-u, -l).mirrored()]
    }

    /// Lines for every element of one sample.
    pub(crate) fn relax(&self, input: Interval) -> Relaxation {
        let [below, above] = self.sides();
        Self::build(input, |_, l, u| (below.below(l, u), above.below(-u, -l)))
    }

    /// [`Curve::relax`] with the points where the lines touch, those of all lower lines first.
    pub(crate) fn relax_with(&self, input: Interval, points: &[f64]) -> Relaxation {
        let [below, above] = self.sides();
        let n = input.lower.len();
        Self::build(input, |i, l, u| {
            (below.below_at(l, u, points[i]), above.below_at(-u, -l, -points[n + i]))
        })
    }

    /// Lines from those below the curve and below its mirror image.
    fn build(
        input: Interval,
        mut lines: impl FnMut(usize, f64, f64) -> ((f64, f64), (f64, f64)),
    ) -> Relaxation {
        let n = input.lower.len();
        let mut columns = [const { Vec::new() }; 4];
        columns.iter_mut().for_each(|column| column.reserve_exact(n));
        for (i, (&l, &u)) in input.lower.iter().zip(input.upper).enumerate() {
            let ((lower_slope, lower_offset), (upper_slope, mirrored_offset)) = lines(i, l, u);
            let line = [lower_slope, lower_offset, upper_slope, -mirrored_offset];
            columns.iter_mut().zip(line).for_each(|(column, x)| column.push(x));
        }
        let [lower_slope, lower_offset, upper_slope, upper_offset] = columns;
        Relaxation::Elementwise { lower_slope, lower_offset, upper_slope, upper_offset }
    }

    /// Wherever the bounds differ, tighter ones give closer lines.
    pub(crate) fn mark_loose(&self, input: Interval, loose: &mut [bool]) {
        let bounds = input.lower.iter().zip(input.upper);
        loose.iter_mut().zip(bounds).for_each(|(loose, (l, u))| *loose |= l != u);
    }

    /// Bounds of an increasing function are those of its ends.
    pub(crate) fn interval(&self, input: Interval, lower: &mut [f64], upper: &mut [f64]) {
        lower.iter_mut().zip(input.lower).for_each(|(y, &x)| *y = (self.value)(x).0);
        upper.iter_mut().zip(input.upper).for_each(|(y, &x)| *y = (self.value)(x).1);
    }
}

#[cfg(test)]
mod tests {
    use aisec_numeric::rounding::{add_up, mul_up};
    use proptest::prelude::*;

    use super::*;
    use crate::enclosure::{sigmoid, tanh};

    const CURVES: [Curve; 2] = [
        Curve {
            value: sigmoid,
            slope: |x| {
                let (low, high) = sigmoid(x);
                (mul_down(low, sub_down(1.0, high)), mul_up(high, sub_up(1.0, low)))
            },
            plain: crate::ops::Sigmoid::derivatives,
        },
        Curve {
            value: tanh,
            slope: |x| {
                let (low, high) = tanh(x.abs());
                (sub_down(1.0, mul_up(high, high)), sub_up(1.0, mul_down(low, low)))
            },
            plain: crate::ops::Tanh::derivatives,
        },
    ];

    fn relaxed(curve: &Curve, l: f64, u: f64) -> [f64; 4] {
        single(curve.relax(Interval { lower: &[l], upper: &[u] }))
    }

    fn single(relaxation: Relaxation) -> [f64; 4] {
        match relaxation {
            Relaxation::Elementwise { lower_slope, lower_offset, upper_slope, upper_offset } => {
                [lower_slope[0], lower_offset[0], upper_slope[0], upper_offset[0]]
            }
            _ => unreachable!("the lines are element by element"),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

        /// Below the enclosure's upper end and above its lower end, everywhere.
        #[test]
        fn lines_hold(
            l in prop_oneof![-1e-6..1e-6f64, -4.0..4.0f64, -50.0..50.0f64],
            width in prop_oneof![Just(0.0), 0.0..1e-9f64, 0.0..1.0f64, 0.0..20.0f64, 0.0..900.0f64],
            points in prop_oneof![Just(None), (-9.0..9.0f64, -9.0..9.0f64).prop_map(Some)],
        ) {
            let u = l + width;
            for curve in &CURVES {
                let ends = Interval { lower: &[l], upper: &[u] };
                let [ls, lo, us, uo] = match points {
                    None => relaxed(curve, l, u),
                    Some((below, above)) => single(curve.relax_with(ends, &[below, above])),
                };
                for step in 0..=64 {
                    let x = (l + width * f64::from(step) / 64.0).clamp(l, u);
                    let (low, high) = (curve.value)(x);
                    prop_assert!(add_up(mul_up(ls, x), lo) <= high + 1e-300 + 4e-16 * high.abs());
                    prop_assert!(ls.mul_add(x, lo) <= high, "{} on [{}, {}]", x, l, u);
                    prop_assert!(us.mul_add(x, uo) >= low, "{} on [{}, {}]", x, l, u);
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

        /// The lines touch the curve: the gap somewhere is no more than rounding.
        #[test]
        fn lines_are_tight(l in -3.0..3.0f64, width in 1e-3..4.0f64) {
            let u = l + width;
            for curve in &CURVES {
                let [ls, lo, us, uo] = relaxed(curve, l, u);
                let gap = |slope: f64, offset: f64| {
                    (0..=4000).map(|step| {
                        let x = l + width * f64::from(step) / 4000.0;
                        ((curve.value)(x).0 - slope.mul_add(x, offset)).abs()
                    }).fold(f64::INFINITY, f64::min)
                };
                prop_assert!(gap(ls, lo) < 1e-6 && gap(us, uo) < 1e-6);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

        /// The usual points give the usual lines, and any of the range touches the curve.
        #[test]
        fn points_of_the_range_touch(l in -4.0..4.0f64, width in 0.01..6.0f64, t in 0.0..1.0f64) {
            let u = l + width;
            let ends = Interval { lower: &[l], upper: &[u] };
            for curve in &CURVES {
                let touches = curve.touches(l, u);
                let usual = [touches[0].usual, touches[1].usual];
                prop_assert_eq!(curve.relax_with(ends, &usual), curve.relax(ends));
                let point = touches.map(|touch| {
                    touch.range.map_or(touch.usual, |(low, high)| low + t * (high - low))
                });
                let [ls, lo, us, uo] = single(curve.relax_with(ends, &point));
                for (touch, x, slope, offset) in
                    [(touches[0], point[0], ls, lo), (touches[1], point[1], us, uo)]
                {
                    let [value, derivative, _] = curve.derivatives(x);
                    if touch.range.is_some() {
                        prop_assert!((slope * x + offset - value).abs() < 1e-9);
                        prop_assert!((slope - derivative).abs() < 1e-9);
                    }
                }
            }
        }

        #[test]
        fn plain_derivatives_are_derivatives(x in -6.0..6.0f64) {
            for curve in &CURVES {
                let step = 1e-4;
                let (a, b) = (curve.derivatives(x - step), curve.derivatives(x + step));
                let [value, first, second] = curve.derivatives(x);
                prop_assert!(((curve.value)(x).0 - value).abs() < 1e-12);
                prop_assert!(((b[0] - a[0]) / (2.0 * step) - first).abs() < 1e-7);
                prop_assert!(((b[1] - a[1]) / (2.0 * step) - second).abs() < 1e-7);
            }
        }
    }

    #[test]
    fn infinite_ends_give_constants() {
        let inf = f64::INFINITY;
        let [ls, lo, us, uo] = relaxed(&CURVES[0], -inf, inf);
        assert_eq!((ls, lo, us, uo), (0.0, 0.0, 0.0, 1.0));
        let [ls, lo, us, uo] = relaxed(&CURVES[1], -inf, inf);
        assert_eq!((ls, lo, us, uo), (0.0, -1.0, 0.0, 1.0));
        assert!(relaxed(&CURVES[1], f64::NAN, 1.0)[1].is_nan());
    }
}
