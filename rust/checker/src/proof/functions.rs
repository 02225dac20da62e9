//! Smooth functions by interval arithmetic alone: values, derivatives, and where they turn.

use std::f64::consts::{FRAC_2_SQRT_PI, FRAC_PI_2, SQRT_2};

use aisec_numeric::rounding::{
    div_down, div_up, mul_down, mul_up, sqrt_down, sqrt_up, sub_down, sub_up,
};

use super::curve::{Interval, product};
use super::enclosures::{
    LARGEST, erf, exp, inverse, ln, negated, normal, quarter, sigmoid, softplus, sum, wave, wide,
};

/// A function of one number that is convex and concave by turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    Exp,
    Log,
    Sqrt,
    Reciprocal,
    Square,
    Cube,
    Sin,
    Cos,
    Erf,
    Softplus,
    Elu,
    Silu,
    Gelu,
}

/// Part of an interval where a function is convex, or concave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Part {
    pub low: f64,
    pub high: f64,
    pub convex: bool,
}

const ANYTHING: Interval = (f64::NEG_INFINITY, f64::INFINITY);

/// Where `x·σ(x)` turns, and where it is least.
const SILU: [Interval; 2] = [
    (2.399_357_280_515_467, 2.399_357_280_515_469),
    (-1.278_464_542_761_075, -1.278_464_542_761_073),
];

/// Where `x·Φ(x)` is least.
const GELU: Interval = (-0.751_791_524_693_565, -0.751_791_524_693_564);

impl Function {
    /// By the name of its operator.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "exp" => Self::Exp,
            "log" => Self::Log,
            "sqrt" => Self::Sqrt,
            "reciprocal" => Self::Reciprocal,
            "square" => Self::Square,
            "cube" => Self::Cube,
            "sin" => Self::Sin,
            "cos" => Self::Cos,
            "erf" => Self::Erf,
            "softplus" => Self::Softplus,
            "elu" => Self::Elu,
            "silu" => Self::Silu,
            "gelu" => Self::Gelu,
            _ => return None,
        })
    }

    /// Whether it is defined, with a derivative inside, on a finite interval.
    pub fn is_defined(self, l: f64, u: f64) -> bool {
        let finite = l.is_finite() && u.is_finite();
        finite
            && match self {
                Self::Log => l > 0.0,
                Self::Sqrt => l >= 0.0,
                Self::Reciprocal => l > 0.0 || u < 0.0,
                _ => true,
            }
    }

    /// Around the value at a finite `x` of its domain.
    pub fn value(self, x: f64) -> Interval {
        match self {
            Self::Exp => exp(x),
            Self::Log => ln(x),
            Self::Sqrt => (sqrt_down(x), sqrt_up(x)),
            Self::Reciprocal => inverse((x, x)),
            Self::Square => (mul_down(x, x), mul_up(x, x)),
            Self::Cube => product((mul_down(x, x), mul_up(x, x)), (x, x)),
            Self::Sin => wave(x, 0),
            Self::Cos => wave(x, 1),
            Self::Erf => erf(x),
            Self::Softplus => softplus(x),
            Self::Elu if x >= 0.0 => (x, x),
            Self::Elu => {
                let (low, high) = exp(x);
                (sub_down(low, 1.0), sub_up(high, 1.0).min(0.0))
            }
            Self::Silu => product((x, x), sigmoid(x)),
            Self::Gelu => product((x, x), normal(x).0),
        }
    }

    /// Around the derivative there.
    pub fn slope(self, x: f64) -> Interval {
        match self {
            Self::Exp => exp(x),
            Self::Log => inverse((x, x)),
            Self::Sqrt => (div_down(0.5, sqrt_up(x)), div_up(0.5, sqrt_down(x))),
            Self::Reciprocal => negated(inverse((mul_down(x, x), mul_up(x, x)))),
            Self::Square => (2.0 * x, 2.0 * x),
            Self::Cube => product((3.0, 3.0), (mul_down(x, x), mul_up(x, x))),
            Self::Sin => wave(x, 1),
            Self::Cos => negated(wave(x, 0)),
            Self::Erf => {
                let bell = (exp(-mul_up(x, x)).0, exp(-mul_down(x, x)).1);
                product(bell, wide(FRAC_2_SQRT_PI))
            }
            Self::Softplus => sigmoid(x),
            Self::Elu if x >= 0.0 => (1.0, 1.0),
            Self::Elu => exp(x),
            Self::Silu => sum(sigmoid(x), product((x, x), product(sigmoid(x), sigmoid(-x)))),
            Self::Gelu => {
                let (part, density) = normal(x);
                sum(part, product((x, x), density))
            }
        }
    }

    /// Around all values on `[l, u]`, which need not be finite; NaN where a bound is.
    pub fn range(self, l: f64, u: f64) -> Interval {
        if l.is_nan() || u.is_nan() {
            return (f64::NAN, f64::NAN);
        }
        let least =
            if self == Self::Exp || self == Self::Softplus { 0.0 } else { f64::NEG_INFINITY };
        let rising = |bottom: f64| {
            let low = if l.is_finite() { self.value(l).0.max(bottom) } else { bottom };
            (low, if u.is_finite() { self.value(u).1 } else { f64::INFINITY })
        };
        match self {
            Self::Exp | Self::Softplus | Self::Cube => rising(least),
            Self::Elu => rising(-1.0),
            Self::Erf => {
                let (low, high) = rising(-1.0);
                (low, high.min(1.0))
            }
            Self::Log | Self::Sqrt if l > 0.0 || (l == 0.0 && self == Self::Sqrt) => {
                if l == f64::INFINITY { (0.0, l) } else { rising(f64::NEG_INFINITY) }
            }
            Self::Reciprocal if l > 0.0 || u < 0.0 => (div_down(1.0, u), div_up(1.0, l)),
            Self::Log | Self::Sqrt | Self::Reciprocal => ANYTHING,
            Self::Square => self.valley(l, u, (0.0, 0.0), 0.0),
            Self::Silu => self.valley(l, u, SILU[1], -0.278_464_542_761_08),
            Self::Gelu => self.valley(l, u, GELU, -0.169_971_207_479_91),
            Self::Sin | Self::Cos => self.swing(l, u),
        }
    }

    /// Falling until somewhere in `bottom`, then rising.
    fn valley(self, l: f64, u: f64, bottom: Interval, least: f64) -> Interval {
        let high = |x: f64| {
            let far = if self == Self::Square || x > 0.0 { f64::INFINITY } else { 0.0 };
            if x.is_finite() { self.value(x).1 } else { far }
        };
        let low = |x: f64| if x.is_finite() { self.value(x).0.max(least) } else { least };
        if u < bottom.0 {
            (low(u), high(l))
        } else if l > bottom.1 {
            (low(l), high(u))
        } else {
            (least, high(l).max(high(u)))
        }
    }

    fn swing(self, l: f64, u: f64) -> Interval {
        if !(u - l < 6.5 && l.abs() <= LARGEST && u.abs() <= LARGEST) {
            return (-1.0, 1.0);
        }
        let ((a, b), (c, d)) = (self.value(l), self.value(u));
        let (mut low, mut high) = (a.min(c), b.max(d));
        let top = if self == Self::Sin { 1 } else { 0 };
        for turn in (l / FRAC_PI_2).floor() as i64 - 1..=(u / FRAC_PI_2).ceil() as i64 + 1 {
            let at = quarter(turn as f64);
            if at.0 <= u && at.1 >= l {
                match (turn - top).rem_euclid(4) {
                    0 => high = 1.0,
                    2 => low = -1.0,
                    _ => {}
                }
            }
        }
        (low, high)
    }

    /// The parts of an interval of its domain, in order; between them lies what is next to a turn,
    /// where derivatives are at most 2. `None` where they are many.
    pub(super) fn parts(self, l: f64, u: f64) -> Option<Vec<Part>> {
        let (turns, mut convex) = self.turns(l, u)?;
        let mut from = f64::NEG_INFINITY;
        let mut parts = Vec::new();
        for turn in turns.into_iter().chain([(f64::INFINITY, f64::INFINITY)]) {
            let (low, high) = (l.max(from), u.min(turn.0));
            if low < high || (low == high && l == u && parts.is_empty()) {
                parts.push(Part { low, high, convex });
            }
            (from, convex) = (turn.1, !convex);
        }
        (parts.len() <= 6).then_some(parts)
    }

    /// Where it turns, at least next to `[l, u]`, and whether it is convex before.
    fn turns(self, l: f64, u: f64) -> Option<(Vec<Interval>, bool)> {
        let root = wide(SQRT_2);
        Some(match self {
            Self::Exp | Self::Square | Self::Softplus | Self::Elu => (Vec::new(), true),
            Self::Log | Self::Sqrt => (Vec::new(), false),
            Self::Cube | Self::Reciprocal => (vec![(0.0, 0.0)], false),
            Self::Erf => (vec![(0.0, 0.0)], true),
            Self::Silu => (vec![negated(SILU[0]), SILU[0]], false),
            Self::Gelu => (vec![negated(root), root], false),
            Self::Sin | Self::Cos => {
                if !(l.abs() <= LARGEST && u.abs() <= LARGEST && u - l < 20.0) {
                    return None;
                }
                let odd = i64::from(self == Self::Cos);
                let mut first = (l / FRAC_PI_2).floor() as i64 - 4;
                first += (first + odd).rem_euclid(2);
                let last = (u / FRAC_PI_2).ceil() as i64 + 4;
                let turns = (first..=last).step_by(2).map(|turn| quarter(turn as f64));
                // Convex where it is negative: sine from 2 to 4 quarter turns, cosine from 1 to 3.
                (turns.collect(), (first + odd).rem_euclid(4) == 0)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Digits computed with 60-digit arithmetic.
    #[test]
    fn enclosures_are_tight_around_known_values() {
        use Function::*;
        let known: [(Function, f64, f64); 16] = [
            (Exp, 3.0, 20.085_536_923_187_668),
            (Log, 30.0, 3.401_197_381_662_155_4),
            (Log, 1e-6, -13.815_510_557_964_274),
            (Log, 1.000_000_1, 9.999_999_505_838_705e-8),
            (Sin, 0.5, 0.479_425_538_604_203),
            (Sin, 1e5, 0.035_748_797_972_016_51),
            (Sin, -12345.678, 0.704_081_313_753_381_6),
            (Cos, -2.0, -0.416_146_836_547_142_4),
            (Cos, 1e5, -0.999_360_807_438_212_5),
            (Erf, 0.5, 0.520_499_877_813_046_5),
            (Erf, -2.0, -0.995_322_265_018_952_7),
            (Softplus, -2.0, 0.126_928_011_042_972_5),
            (Softplus, -30.0, 9.357_622_968_839_737e-14),
            (Silu, -2.0, -0.238_405_844_044_235_1),
            (Gelu, 1.0, 0.841_344_746_068_542_9),
            (Gelu, -2.0, -0.045_500_263_896_358_41),
        ];
        for (function, x, y) in known {
            let (low, high) = function.value(x);
            let room = 4e-16 * y.abs();
            assert!(low <= y + room && y - room <= high, "{function:?} {x}: {low} {high}");
            assert!(high - low < 4e-14 * (1.0 + y.abs()), "{function:?} {x}: {low} {high}");
        }
    }

    /// Derivatives are those of the values, and convex parts are where they grow.
    #[test]
    fn derivatives_and_parts_agree_with_values() {
        use Function::*;
        let all =
            [Exp, Log, Sqrt, Reciprocal, Square, Cube, Sin, Cos, Erf, Softplus, Elu, Silu, Gelu];
        let middle = |(low, high): Interval| 0.5 * (low + high);
        for function in all {
            for step in -80..80 {
                let (x, h) = (f64::from(step) * 0.1 + 0.037, 1e-5);
                if !function.is_defined(x - h, x + h) {
                    continue;
                }
                let rise = middle(function.value(x + h)) - middle(function.value(x - h));
                let slope = middle(function.slope(x));
                assert!(
                    (rise / (2.0 * h) - slope).abs() < 1e-5 * (1.0 + slope.abs()),
                    "{function:?} {x}"
                );
                let (low, high) = function.range(x - h, x + h);
                assert!(low <= function.value(x).1 && function.value(x).0 <= high);
                let bend = middle(function.slope(x + h)) - middle(function.slope(x - h));
                for part in function.parts(x - h, x + h).unwrap() {
                    let wrong = if part.convex { -bend } else { bend };
                    let crossed = part.low > x - h || part.high < x + h;
                    assert!(crossed || wrong < 1e-11 * (1.0 + slope.abs()), "{function:?} {x}");
                }
            }
        }
    }
}
