//! Sine and cosine.

use aisec_numeric::rounding::{add_down, add_up, sub_down, sub_up};

use super::range::{Range, hull, negated};

/// `π/2` as a sum: the first two have 30 significant bits, so that their products with less than
/// `2^23` are exact; the rest lies between the last two.
const QUARTER: (f64, f64) =
    (f64::from_bits(0x3ff9_21fb_5400_0000), f64::from_bits(0x3e11_0b46_1180_0000));
const REST: Range = (5.170_182_981_794_104e-19, 5.170_182_981_794_107e-19);

/// Beyond this nothing is said of an angle: the values lie between -1 and 1.
pub(crate) const LARGEST: f64 = 1e6;

/// Absolute error of the Taylor polynomials below, with room to spare: what they leave out is less
/// than `0.8^19 / 19!`, and Horner's scheme, with values below 1, adds a few units of `2^-53`.
const ERROR: f64 = 16.0 * f64::EPSILON;

/// What the first two parts of `turn` quarter turns leave out.
fn rest(turn: f64) -> Range {
    let ends = [turn * REST.0, turn * REST.1];
    (ends[0].min(ends[1]).next_down(), ends[0].max(ends[1]).next_up())
}

/// Around the `turn`-th multiple of `π/2`, for at most `2^22` turns either way.
pub(crate) fn quarter(turn: f64) -> Range {
    let rest = rest(turn);
    let low = add_down(turn * QUARTER.0, add_down(turn * QUARTER.1, rest.0));
    let high = add_up(turn * QUARTER.0, add_up(turn * QUARTER.1, rest.1));
    (low, high)
}

/// The multiple of `π/2` next to an angle.
pub(crate) fn nearest(x: f64) -> f64 {
    (x * std::f64::consts::FRAC_2_PI).round()
}

/// Around the sine of a number no larger than 0.8 or so.
fn sine(r: f64) -> Range {
    let square = r * r;
    let mut sum = 1.0;
    for n in (1..=8).rev() {
        let n = f64::from(n);
        sum = 1.0 - sum * square / (2.0 * n * (2.0 * n + 1.0));
    }
    (r * sum - ERROR, r * sum + ERROR)
}

/// Around the cosine of a number no larger than 0.8 or so.
fn cosine(r: f64) -> Range {
    let square = r * r;
    let mut sum = 1.0;
    for n in (1..=9).rev() {
        let n = f64::from(n);
        sum = 1.0 - sum * square / (2.0 * n * (2.0 * n - 1.0));
    }
    (sum - ERROR, sum + ERROR)
}

/// The sine of `x` plus `shift` quarter turns.
fn wave(x: f64, shift: i64) -> Range {
    if x.is_nan() {
        return (x, x);
    }
    if x.abs() > LARGEST {
        return (-1.0, 1.0);
    }
    let turn = nearest(x);
    // The first difference is exact or nearly so; with the whole multiple its last digits would go.
    let rest = rest(turn);
    let low = sub_down(sub_down(sub_down(x, turn * QUARTER.0), turn * QUARTER.1), rest.1);
    let high = sub_up(sub_up(sub_up(x, turn * QUARTER.0), turn * QUARTER.1), rest.0);
    let middle = 0.5 * (low + high);
    let radius = sub_up(high, middle).max(sub_up(middle, low));
    let (least, most) = match (turn as i64 + shift).rem_euclid(4) {
        0 => sine(middle),
        1 => cosine(middle),
        2 => negated(sine(middle)),
        _ => negated(cosine(middle)),
    };
    (sub_down(least, radius).max(-1.0), add_up(most, radius).min(1.0))
}

pub(crate) fn sin(x: f64) -> Range {
    if x == 0.0 { (x, x) } else { wave(x, 0) }
}

pub(crate) fn cos(x: f64) -> Range {
    if x == 0.0 { (1.0, 1.0) } else { wave(x, 1) }
}

/// The values on `[l, u]` of the function that is `at` at single points and has its maxima at
/// quarter turns `peak + 4k` (and its minima half-way between).
pub(crate) fn swing(l: f64, u: f64, at: fn(f64) -> Range, peak: i64) -> Range {
    if l.is_nan() || u.is_nan() {
        return (f64::NAN, f64::NAN);
    }
    if !(u - l < 6.5 && l.abs() <= LARGEST && u.abs() <= LARGEST) {
        return (-1.0, 1.0);
    }
    let mut range = hull(at(l), at(u));
    let (first, last) = (nearest(l) as i64 - 1, nearest(u) as i64 + 1);
    for turn in first..=last {
        let (low, high) = quarter(turn as f64);
        if high >= l && low <= u {
            match (turn - peak).rem_euclid(4) {
                0 => range.1 = 1.0,
                2 => range.0 = -1.0,
                _ => {}
            }
        }
    }
    range
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        // Digits computed with 60-digit arithmetic: x, sin x, cos x.
        for (x, s, c) in [
            (0.5, 0.479_425_538_604_203, 0.877_582_561_890_372_6),
            (-2.0, -0.909_297_426_825_681_7, -0.416_146_836_547_142_4),
            (3.0, 0.141_120_008_059_867_2, -0.989_992_496_600_445_5),
            (-30.0, 0.988_031_624_092_861_8, 0.154_251_449_887_584_05),
            (1e5, 0.035_748_797_972_016_51, -0.999_360_807_438_212_5),
            (-12345.678, 0.704_081_313_753_381_6, 0.710_119_358_716_062_8),
        ] {
            for ((low, high), y) in [(sin(x), s), (cos(x), c)] {
                assert!(low <= y + 1e-16 && y - 1e-16 <= high, "{x}: {low} {high} {y}");
                assert!(high - low < 2e-14, "{x}: {low} {high}");
            }
        }
    }

    #[test]
    fn circle_and_halves() {
        for i in -4000..4000 {
            let x = f64::from(i) * 0.37;
            let ((a, b), (c, d)) = (sin(x), cos(x));
            let size = |l: f64, u: f64| l.abs().max(u.abs()).powi(2);
            assert!(size(a, b) + size(c, d) >= 1.0 - 1e-15);
            // sin 2x = 2 sin x cos x
            let twice = sin(2.0 * x);
            let product = 2.0 * (0.5 * (a + b)) * (0.5 * (c + d));
            assert!(twice.0 - 2e-14 <= product && product <= twice.1 + 2e-14, "{x}");
        }
        assert_eq!((sin(0.0), cos(0.0)), ((0.0, 0.0), (1.0, 1.0)));
        assert_eq!((sin(1e300), cos(f64::INFINITY)), ((-1.0, 1.0), (-1.0, 1.0)));
        assert!(sin(f64::NAN).0.is_nan());
    }

    #[test]
    fn swings_hold_their_peaks() {
        assert_eq!(swing(1.0, 2.0, sin, 1).1, 1.0);
        assert_eq!(swing(-2.0, -1.0, sin, 1).0, -1.0);
        assert_eq!(swing(-0.5, 0.5, cos, 0).1, 1.0);
        assert_eq!(swing(0.0, 7.0, sin, 1), (-1.0, 1.0));
        let (low, high) = swing(0.1, 1.5, sin, 1);
        assert!(low > 0.099 && high < 0.998);
    }
}
