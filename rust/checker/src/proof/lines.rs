//! Lines around activations: any slopes, and the offsets that are proven for them here.

use super::bend::{Bend, above_sign, sign};
use super::curve::Curve;
use super::functions::Function;
use super::number::{Number, greatest, least};

/// An activation that acts element by element.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Activation {
    /// `x` for positive `x`, `slope·x` otherwise.
    Hinge(f64),
    Curve(Curve),
    Bend(Function),
    Sign,
}

/// `lower_slope·x + lower_offset <= y <= upper_slope·x + upper_offset` for one element.
#[derive(Debug, Clone)]
pub(crate) struct Line<T> {
    pub lower_slope: T,
    pub lower_offset: T,
    pub upper_slope: T,
    pub upper_offset: T,
}

/// The lines of all elements of a node.
#[derive(Debug, Clone)]
pub(crate) struct Lines<T> {
    pub lower_slope: Vec<T>,
    pub lower_offset: Vec<T>,
    pub upper_slope: Vec<T>,
    pub upper_offset: Vec<T>,
}

impl<T: Number> Lines<T> {
    pub fn set(&mut self, at: usize, line: Line<T>) {
        self.lower_slope[at] = line.lower_slope;
        self.lower_offset[at] = line.lower_offset;
        self.upper_slope[at] = line.upper_slope;
        self.upper_offset[at] = line.upper_offset;
    }
}

impl<T> FromIterator<Line<T>> for Lines<T> {
    fn from_iter<I: IntoIterator<Item = Line<T>>>(lines: I) -> Self {
        let (mut lower_slope, mut lower_offset) = (Vec::new(), Vec::new());
        let (mut upper_slope, mut upper_offset) = (Vec::new(), Vec::new());
        for line in lines {
            lower_slope.push(line.lower_slope);
            lower_offset.push(line.lower_offset);
            upper_slope.push(line.upper_slope);
            upper_offset.push(line.upper_offset);
        }
        Self { lower_slope, lower_offset, upper_slope, upper_offset }
    }
}

/// Slopes a proof asks for; where it does not, the usual ones are taken.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Slopes {
    pub lower: Option<f64>,
    pub upper: Option<f64>,
}

impl Activation {
    /// Slopes outside of this range are refused: they only waste the bound.
    pub fn range(self) -> (f64, f64) {
        match self {
            Self::Hinge(slope) => (slope.min(1.0), slope.max(1.0)),
            Self::Curve(_) => (0.0, 1.0),
            Self::Bend(_) | Self::Sign => (-f64::MAX, f64::MAX),
        }
    }

    /// The value lies between these for inputs in `[l, u]`.
    pub fn interval<T: Number>(self, l: &T, u: &T) -> (T, T) {
        match self {
            Self::Hinge(slope) => {
                let (left, right) = (value(slope, l), value(slope, u));
                let (low, high) = (least([left.0, right.0]), greatest([left.1, right.1]));
                if *l < T::zero() && *u > T::zero() {
                    (least([low, T::zero()]), greatest([high, T::zero()]))
                } else {
                    (low, high)
                }
            }
            Self::Curve(curve) => {
                (T::of(curve.value(l.below()).0), T::of(curve.value(u.above()).1))
            }
            Self::Bend(function) => {
                let (low, high) = function.range(l.below(), u.above());
                (T::of(low), T::of(high))
            }
            Self::Sign => (sign(l), sign(u)),
        }
    }

    /// Whether closer bounds could give closer lines.
    pub fn is_loose<T: Number>(self, l: &T, u: &T) -> bool {
        match self {
            Self::Hinge(_) => !(*l >= T::zero() || *u <= T::zero()),
            Self::Curve(_) | Self::Bend(_) => l != u,
            Self::Sign => !(*l > T::zero() || *u < T::zero()),
        }
    }

    /// Lines for inputs in `[l, u]`; with offsets that are not numbers where the bounds leave none.
    /// On an empty interval anything holds.
    pub fn line<T: Number>(self, l: &T, u: &T, slopes: Slopes) -> Line<T> {
        let (l, u) = if *u < *l { (u, l) } else { (l, u) };
        let (left, right) = (l.below(), u.above());
        match self {
            Self::Hinge(slope) => hinge(slope, l, u, slopes),
            Self::Bend(function) => {
                let side = |flipped| Bend { function, flipped };
                let upside = slopes.upper.map(|slope| -slope);
                let (lower_slope, lower_offset) = side(false).below(left, right, slopes.lower);
                let (slope, offset): (T, T) = side(true).below(left, right, upside);
                let (upper_slope, upper_offset) = (slope.negated(), offset.negated());
                Line { lower_slope, lower_offset, upper_slope, upper_offset }
            }
            Self::Sign => {
                let (slope, offset) = above_sign(&u.negated(), &l.negated());
                let (upper_slope, upper_offset) = above_sign(l, u);
                Line {
                    lower_slope: slope,
                    lower_offset: offset.negated(),
                    upper_slope,
                    upper_offset,
                }
            }
            Self::Curve(_) if !(left.is_finite() && right.is_finite()) => Line {
                lower_slope: T::zero(),
                lower_offset: T::of(-1.0),
                upper_slope: T::zero(),
                upper_offset: T::one(),
            },
            Self::Curve(curve) => {
                let lower = slopes.lower.unwrap_or_else(|| curve.usual_slope(left, right, false));
                let upper = slopes.upper.unwrap_or_else(|| curve.usual_slope(-right, -left, true));
                Line {
                    lower_slope: T::of(lower),
                    lower_offset: curve.offset_below(l, u, lower, false),
                    upper_slope: T::of(upper),
                    upper_offset: curve
                        .offset_below(&u.negated(), &l.negated(), upper, true)
                        .negated(),
                }
            }
        }
    }
}

/// Around a hinge's value.
fn value<T: Number>(slope: f64, x: &T) -> (T, T) {
    if *x > T::zero() {
        return (x.clone(), x.clone());
    }
    let slope = T::of(slope);
    (slope.times_down(x), slope.times_up(x))
}

/// Lines around a hinge. Between its ends and zero it is linear, so a line's distance is least at
/// one of the three.
fn hinge<T: Number>(slope: f64, l: &T, u: &T, slopes: Slopes) -> Line<T> {
    let zero = T::zero();
    let known = if *l >= zero {
        Some(1.0)
    } else if *u <= zero {
        Some(slope)
    } else {
        None
    };
    if let Some(slope) = known {
        return Line {
            lower_slope: T::of(slope),
            lower_offset: zero.clone(),
            upper_slope: T::of(slope),
            upper_offset: zero,
        };
    }
    let (left, right) = (l.below(), u.above());
    let (low, high) = Activation::Hinge(slope).range();
    let quotient = (right - slope * left) / (right - left);
    let chord = if quotient.is_finite() { quotient.clamp(low, high) } else { 1.0 };
    // Of two equally long sides the choice must not hang on the last bit of a bound.
    let longer = if right > -left * LONGER { 1.0 } else { slope };
    let (lower, upper) = if slope <= 1.0 { (longer, chord) } else { (chord, longer) };
    let (lower, upper) = (slopes.lower.unwrap_or(lower), slopes.upper.unwrap_or(upper));
    let gaps = |line: f64| {
        let line = T::of(line);
        [l, u].map(|x| {
            let (below, above) = value(slope, x);
            (below.minus_down(&line.times_up(x)), above.minus_up(&line.times_down(x)))
        })
    };
    let ([a, b], [c, d]) = (gaps(lower), gaps(upper));
    Line {
        lower_slope: T::of(lower),
        lower_offset: least([a.0, b.0, T::zero()]),
        upper_slope: T::of(upper),
        upper_offset: greatest([c.1, d.1, T::zero()]),
    }
}

/// How much longer one side of zero must be than the other to count as longer.
const LONGER: f64 = 1.0 + 1e-9;

#[cfg(test)]
mod tests {
    use num_rational::BigRational;
    use proptest::prelude::*;

    use super::*;

    fn number() -> impl Strategy<Value = f64> {
        (-1.0..1.0f64, prop_oneof![-100..100i32, -2..2i32]).prop_map(|(m, e)| m * 10f64.powi(e))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

        /// Both arithmetics, any slopes, in exact terms at the ends, at zero and between.
        #[test]
        fn hinges_hold(
            a in number(), b in number(), t in 0.0..1.0f64,
            slope in prop_oneof![Just(0.0), Just(0.5), Just(1.0), -2.0..3.0f64],
            lower in prop_oneof![Just(None), (-2.0..3.0f64).prop_map(Some)],
            upper in prop_oneof![Just(None), (-2.0..3.0f64).prop_map(Some)],
        ) {
            let (l, u) = (a.min(b), a.max(b));
            let (hinge, slopes) = (Activation::Hinge(slope), Slopes { lower, upper });
            let plain = hinge.line(&l, &u, slopes);
            let of = |x: f64| BigRational::of(x);
            let plain = Line {
                lower_slope: of(plain.lower_slope), lower_offset: of(plain.lower_offset),
                upper_slope: of(plain.upper_slope), upper_offset: of(plain.upper_offset),
            };
            let exact = hinge.line(&of(l), &of(u), slopes);
            let range = hinge.interval(&l, &u);
            for x in [l, u, 0.0, (l + t * (u - l)).clamp(l, u)] {
                if l <= x && x <= u {
                    let y = if x > 0.0 { of(x) } else { of(x) * of(slope) };
                    for line in [&plain, &exact] {
                        prop_assert!(&line.lower_slope * of(x) + &line.lower_offset <= y);
                        prop_assert!(&line.upper_slope * of(x) + &line.upper_offset >= y);
                    }
                    prop_assert!(of(range.0) <= y && y <= of(range.1));
                }
            }
        }
    }

    #[test]
    fn usual_lines_are_the_known_ones() {
        let line = |l: f64, u: f64| {
            let line = Activation::Hinge(0.0).line(&l, &u, Slopes::default());
            [line.lower_slope, line.lower_offset, line.upper_slope, line.upper_offset]
        };
        assert_eq!(line(-1.0, 1.0), [0.0, 0.0, 0.5, 0.5]);
        assert_eq!(line(-1.0, 3.0), [1.0, 0.0, 0.75, 0.75]);
        assert_eq!(line(0.5, 1.0), [1.0, 0.0, 1.0, 0.0]);
        assert_eq!(line(-1.0, 0.0), [0.0; 4]);
    }

    #[test]
    fn nothing_is_known_of_nan() {
        let inf = f64::INFINITY;
        for (l, u) in [(f64::NAN, 1.0), (-1.0, f64::NAN), (f64::NAN, f64::NAN), (-inf, inf)] {
            let line = Activation::Hinge(0.1).line(&l, &u, Slopes::default());
            assert!(!line.upper_offset.is_finite());
            assert!(Activation::Hinge(0.1).is_loose(&l, &u));
            let line = Activation::Curve(Curve::Tanh).line(&l, &u, Slopes::default());
            assert_eq!((line.lower_offset, line.upper_offset), (-1.0, 1.0));
        }
    }
}
