//! The natural logarithm and functions made from it.

use aisec_numeric::rounding::{add_down, add_up, mul_down, mul_up, sub_down, sub_up};

use super::exp;
use super::range::{ANYTHING, Range};

/// `ln 2` lies between these neighbours.
const LN2: Range = (std::f64::consts::LN_2, std::f64::consts::LN_2.next_up());

/// `x · 2^512` and `x / 2^512` are exact for the numbers that are moved by them.
const LARGE: f64 = f64::from_bits((1023 + 512) << 52);

/// Around the logarithm: `-inf` at zero, nothing for negative numbers.
///
/// With any guess `y`, `ln x = y + ln(1 + d)` where `d = x·exp(-y) - 1`, and
/// `d - d² <= ln(1 + d) <= d` for `|d| <= 1/2`: a bad guess could only widen the answer.
pub(crate) fn ln(x: f64) -> Range {
    if x.is_nan() {
        return (x, x);
    }
    if x < 0.0 {
        return ANYTHING;
    }
    if x == 0.0 || x == 1.0 {
        let value = if x == 0.0 { f64::NEG_INFINITY } else { 0.0 };
        return (value, value);
    }
    if x == f64::INFINITY {
        return (709.0, x); // ln(MAX) > 709
    }
    let shifted = |x: f64, by: f64| {
        let ((low, high), shift) = (ln(x), (mul_down(512.0, LN2.0), mul_up(512.0, LN2.1)));
        if by > 0.0 {
            (add_down(low, shift.0), add_up(high, shift.1))
        } else {
            (sub_down(low, shift.1), sub_up(high, shift.0))
        }
    };
    // Elsewhere exp(-guess) is far from overflow and underflow.
    if x < 1e-200 {
        return shifted(x * LARGE, -1.0);
    }
    if x > 1e200 {
        return shifted(x / LARGE, 1.0);
    }
    let guess = x.ln();
    let (low, high) = exp(-guess);
    let (low, high) = (sub_down(mul_down(x, low), 1.0), sub_up(mul_up(x, high), 1.0));
    if !(low >= -0.25 && high <= 0.25) {
        return ANYTHING;
    }
    let square = mul_up(low, low).max(mul_up(high, high));
    (add_down(guess, sub_down(low, square)), add_up(guess, high))
}

/// Around `ln(1 + exp(x))`, which is positive.
pub(crate) fn softplus(x: f64) -> Range {
    if x.is_nan() {
        return (x, x);
    }
    let (low, high) = exp(-x.abs());
    // y - y²/2 < ln(1 + y) < y for positive y: sharper where y is small.
    let rest = if x.abs() > 15.0 {
        (sub_down(low, mul_up(low, 0.5 * low)).max(0.0), high)
    } else {
        (ln(add_down(1.0, low)).0.max(0.0), ln(add_up(1.0, high)).1)
    };
    (add_down(x.max(0.0), rest.0), add_up(x.max(0.0), rest.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        // Digits computed with 60-digit arithmetic.
        for (x, y) in [
            (1e-6, -13.815_510_557_964_274),
            (1e-300, -690.775_527_898_213_7),
            (1e300, 690.775_527_898_213_7),
            (1.0000001, 9.999_999_505_838_704e-8),
            (30.0, 3.401_197_381_662_155_5),
        ] {
            let (low, high) = ln(x);
            assert!(low <= f64::next_up(y) && f64::next_down(y) <= high, "{x}: {low} {high}");
            assert!(high - low < 2e-14 * (1.0 + y.abs()), "{x}: {low} {high}");
        }
        for (x, y) in [
            (0.5, 0.974_076_984_180_106_7),
            (-2.0, 0.126_928_011_042_972_5),
            (5.0, 5.006_715_348_489_118),
            (-30.0, 9.357_622_968_839_737e-14),
            (100.0, 100.0),
        ] {
            let (low, high) = softplus(x);
            assert!(low <= f64::next_up(y) && f64::next_down(y) <= high, "{x}: {low} {high}");
            assert!(high - low < 2e-14 * (1.0 + y.abs()), "{x}: {low} {high}");
        }
    }

    #[test]
    fn inverse_of_exp() {
        for i in -600..600 {
            let x = f64::from(i) * 1.1;
            let (low, high) = exp(x);
            assert!(ln(low).0 <= x && x <= ln(high).1, "{x}");
        }
        assert_eq!(ln(1.0), (0.0, 0.0));
        assert!(ln(f64::from_bits(1)).1 < -744.4 && ln(f64::MAX).0 > 709.7);
        assert_eq!((ln(0.0).0, ln(-1.0)), (f64::NEG_INFINITY, ANYTHING));
        assert!(ln(f64::NAN).0.is_nan() && softplus(f64::NAN).0.is_nan());
        assert_eq!(softplus(f64::NEG_INFINITY).0, 0.0);
        assert_eq!(softplus(f64::INFINITY).1, f64::INFINITY);
    }
}
