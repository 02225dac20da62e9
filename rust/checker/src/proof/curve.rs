//! Sigmoid and tanh by interval arithmetic alone: their values, and how far they stay from a line.

use aisec_numeric::rounding::{
    add_down, add_up, div_down, div_up, mul_down, mul_up, sub_down, sub_up,
};

use super::number::{Number, greatest, least};

/// An S-shaped function: increasing, odd about its value at zero, convex left of zero and concave
/// right of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Curve {
    Sigmoid,
    Tanh,
}

pub(super) type Interval = (f64, f64);

/// Over an interval shorter than this the chord's slope is taken to be the derivative at the
/// middle: the quotient of differences would be little but rounding errors.
const NARROW: f64 = 1e-4;

/// `ln 2` lies between these neighbours.
const LN2: Interval = (std::f64::consts::LN_2, std::f64::consts::LN_2.next_up());

pub(super) fn product(a: Interval, b: Interval) -> Interval {
    let corners = [(a.0, b.0), (a.0, b.1), (a.1, b.0), (a.1, b.1)];
    (least(corners.map(|(x, y)| mul_down(x, y))), greatest(corners.map(|(x, y)| mul_up(x, y))))
}

/// Around `exp(x)` for finite `x <= 0`: `exp(k·ln 2 + r)` with `|r| < 0.4` by Taylor's series, whose
/// rest after 22 terms is less than `0.4^22 / 22!·2 < 1e-29`.
pub(super) fn exp(x: f64) -> Interval {
    if x < -700.0 {
        return (0.0, 1e-304); // exp(-700) < 1e-304
    }
    let k = (x * std::f64::consts::LOG2_E).round();
    let shift = product((k, k), LN2);
    let r = (sub_down(x, shift.1), sub_up(x, shift.0));
    let mut sum = (1.0, 1.0);
    for n in (1..22).rev() {
        let n = f64::from(n);
        let term = product(sum, r);
        sum = (add_down(1.0, div_down(term.0, n)), add_up(1.0, div_up(term.1, n)));
    }
    // Down to 2^-1010 a power of two is a normal number.
    let power = f64::from_bits(((k as i64 + 1023) as u64) << 52);
    (mul_down(sub_down(sum.0, 1e-28), power), mul_up(add_up(sum.1, 1e-28), power))
}

impl Curve {
    /// Around the value at a finite `x`.
    pub fn value(self, x: f64) -> Interval {
        match self {
            // What a ReLU leaves is often zero, and equal values should stay equal.
            Self::Sigmoid if x == 0.0 => (0.5, 0.5),
            Self::Sigmoid if x > 0.0 => {
                let (low, high) = self.value(-x);
                (sub_down(1.0, high), sub_up(1.0, low))
            }
            Self::Sigmoid => {
                let (low, high) = exp(x);
                (div_down(low, add_up(1.0, low)), div_up(high, add_down(1.0, high)).min(0.5))
            }
            Self::Tanh if x > 0.0 => {
                let (low, high) = self.value(-x);
                (-high, -low)
            }
            // x <= tanh x <= x - x³/3 left of zero, which is sharper than the quotient there.
            Self::Tanh if x > -1e-5 => {
                let cube = mul_up(mul_up(-x, -x), -x);
                (x, add_up(x, div_up(cube, 3.0)).min(0.0))
            }
            Self::Tanh => {
                let (low, high) = exp((2.0 * x).max(-1e4));
                let quotient = |e: f64| {
                    (
                        div_down(sub_down(e, 1.0), add_down(e, 1.0)),
                        div_up(sub_up(e, 1.0), add_up(e, 1.0)),
                    )
                };
                (quotient(low).0.max(-1.0), quotient(high).1)
            }
        }
    }

    /// Around the derivative at a finite `x`.
    pub fn slope(self, x: f64) -> Interval {
        let (low, high) = self.value(-x.abs());
        match self {
            // Both increase left of zero: σ(1 - σ) and (1 + tanh)(1 - tanh).
            Self::Sigmoid => (mul_down(low, sub_down(1.0, low)), mul_up(high, sub_up(1.0, high))),
            Self::Tanh => (
                mul_down(add_down(1.0, low), sub_down(1.0, low)),
                mul_up(add_up(1.0, high), sub_up(1.0, high)),
            ),
        }
    }

    /// A point `x <= 0`, as nearly as floats tell, where the derivative is `slope`.
    fn flank(self, slope: f64) -> f64 {
        let x = match self {
            Self::Sigmoid => {
                let y = 2.0 * slope / (1.0 + (1.0 - 4.0 * slope).sqrt());
                (y / (1.0 - y)).ln()
            }
            Self::Tanh => ((slope.sqrt()) / (1.0 + (1.0 - slope).sqrt())).ln(),
        };
        if x < 0.0 { x } else { 0.0 }
    }

    /// The largest offset for which `slope·x + offset` is proven to stay below the curve on
    /// `[l, u]`, which is finite.
    ///
    /// Right of zero the curve is concave, so its distance from a line is least at an end. Left
    /// of zero it lies above any of its tangents, whose distance is least at an end too; the
    /// tangent of the same slope loses nothing.
    pub fn offset_below<T: Number>(self, l: &T, u: &T, slope: f64, mirrored: bool) -> T {
        let value = |x: f64| {
            let (low, high) = self.value(if mirrored { -x } else { x });
            if mirrored { (-high, -low) } else { (low, high) }
        };
        let (left, right) = (l.below(), u.above());
        let line = T::of(slope);
        let mut offsets = Vec::with_capacity(4);
        if left < 0.0 {
            let end = right.min(0.0);
            let at = self.flank(slope).max(left).min(end);
            let (height, steep) = (value(at).0, self.slope(at));
            for x in [left, end] {
                let run = (sub_down(x, at), sub_up(x, at));
                let rise = product(steep, run).0;
                let gap = T::of(height).plus_down(&T::of(rise));
                offsets.push(gap.minus_down(&line.times_up(&T::of(x))));
            }
        }
        if right >= 0.0 {
            for x in [left.max(0.0), right] {
                offsets.push(T::of(value(x).0).minus_down(&line.times_up(&T::of(x))));
            }
        }
        least(offsets)
    }

    /// The slope of the line below that is taken where none is given: of the tangent at the middle
    /// where that is below the curve, else of the tangent that ends at `u`; of the chord where
    /// there is none.
    pub fn usual_slope(self, l: f64, u: f64, mirrored: bool) -> f64 {
        let middle = |(low, high): Interval| 0.5 * (low + high);
        let value = |x: f64| {
            let y = middle(self.value(if mirrored { -x } else { x }));
            if mirrored { -y } else { y }
        };
        let slope = |x: f64| middle(self.slope(x));
        let chord = || match u - l < NARROW {
            true => slope(0.5 * l + 0.5 * u),
            false => (value(u) - value(l)) / (u - l),
        };
        let overshoots = |d: f64| value(d) + slope(d) * (u - d) > value(u);
        let chosen = if u <= 0.0 {
            slope(0.5 * l + 0.5 * u)
        } else if l >= 0.0 || overshoots(l) {
            chord()
        } else {
            let (mut low, mut high) = (l, 0.0);
            for _ in 0..60 {
                let at = 0.5 * (low + high);
                if overshoots(at) { high = at } else { low = at }
            }
            slope(low.min(0.5 * l + 0.5 * u))
        };
        if chosen.is_finite() && chosen > 0.0 { chosen } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use num_rational::BigRational;
    use proptest::prelude::*;

    use super::*;

    /// Digits computed with 40-digit arithmetic: x, sigmoid(x), tanh(x).
    const KNOWN: [(f64, f64, f64); 6] = [
        (0.5, 0.622_459_331_201_854_6, 0.462_117_157_260_009_76),
        (1.0, 0.731_058_578_630_004_9, 0.761_594_155_955_764_9),
        (-2.0, 0.119_202_922_022_117_55, -0.964_027_580_075_816_9),
        (1e-6, 0.500_000_25, 9.999_999_999_996_667e-7),
        (-30.0, 9.357_622_968_839_299e-14, -1.0),
        (5.0, 0.993_307_149_075_715_2, 0.999_909_204_262_595_1),
    ];

    #[test]
    fn enclosures_are_tight_around_known_values() {
        for (x, s, t) in KNOWN {
            for ((low, high), value) in [(Curve::Sigmoid.value(x), s), (Curve::Tanh.value(x), t)] {
                assert!(low <= value.next_up() && value.next_down() <= high, "{x}: {low} {high}");
                assert!(high - low < 4e-14 * value.abs().max(0.02), "{x}: {low} {high}");
            }
        }
        for x in [-1e308, -800.0, 0.0, 800.0, 1e308] {
            for curve in [Curve::Sigmoid, Curve::Tanh] {
                let (low, high) = curve.value(x);
                assert!(low <= high && high - low < 1e-15 && (-1.0..=1.0).contains(&low), "{x}");
                let (low, high) = curve.slope(x);
                assert!((-1e-300..=1.0).contains(&low) && high < 1.0 + 1e-15, "{x}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1500) })]

        /// Lines of any slope stay on their side of the curve, and those of the usual one touch it.
        #[test]
        fn lines_hold(
            l in prop_oneof![-1e-6..1e-6f64, -4.0..4.0f64, -50.0..50.0f64],
            width in prop_oneof![Just(0.0), 0.0..1e-9f64, 0.0..1.0f64, 0.0..20.0f64, 0.0..900.0f64],
            any in prop_oneof![Just(None), (-0.5..1.5f64).prop_map(Some), (0.0..1e-6f64).prop_map(Some)],
            tanh: bool,
        ) {
            let (u, curve) = (l + width, if tanh { Curve::Tanh } else { Curve::Sigmoid });
            let low = any.unwrap_or_else(|| curve.usual_slope(l, u, false));
            let high = any.unwrap_or_else(|| curve.usual_slope(-u, -l, true));
            let below = curve.offset_below(&l, &u, low, false);
            let above = -curve.offset_below(&-u, &-l, high, true);
            let mut gaps = [f64::INFINITY; 2];
            for step in 0..=64 {
                let x = (l + width * f64::from(step) / 64.0).clamp(l, u);
                let (least, most) = curve.value(x);
                prop_assert!(low.mul_add(x, below) <= most, "{} on [{}, {}]", x, l, u);
                prop_assert!(high.mul_add(x, above) >= least, "{} on [{}, {}]", x, l, u);
                gaps[0] = gaps[0].min(most - low.mul_add(x, below));
                gaps[1] = gaps[1].min(high.mul_add(x, above) - least);
            }
            if any.is_none() && width < 1.0 {
                prop_assert!(gaps[0] < 1e-3 && gaps[1] < 1e-3, "{:?}", gaps);
            }
        }

        /// Exact arithmetic gives the same offsets up to rounding.
        #[test]
        fn arithmetics_agree(l in -5.0..5.0f64, width in 0.0..5.0f64, slope in 0.0..1.0f64, tanh: bool) {
            let (u, curve) = (l + width, if tanh { Curve::Tanh } else { Curve::Sigmoid });
            let plain = curve.offset_below(&l, &u, slope, false);
            let exact = curve.offset_below(&BigRational::of(l), &BigRational::of(u), slope, false);
            prop_assert!(BigRational::of(plain) <= exact);
            prop_assert!(exact.below() - plain <= 1e-14 * (1.0 + plain.abs()));
        }
    }
}
