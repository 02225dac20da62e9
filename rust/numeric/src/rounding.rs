//! Float64 arithmetic rounded outward: `_down` never exceeds the real result, `_up` never falls
//! below it. Results are the tightest possible (the IEEE directed roundings) except for products
//! and quotients close to underflow, which may be one float further out.
//!
//! The rounding error of a sum is itself a float64 (by two-sum), and so is the remainder of
//! a product, quotient or square root (by fused multiply-add): its sign tells whether the
//! nearest float must be moved. A NaN operand, or `inf - inf` and the like, gives NaN.

/// Products below this magnitude may have a remainder too small for a float64.
const TINY: f64 = f64::from_bits((1023 - 960) << 52);

/// The least float64 above `x`.
#[inline]
pub fn next_up(x: f64) -> f64 {
    x.next_up()
}

/// The greatest float64 below `x`.
#[inline]
pub fn next_down(x: f64) -> f64 {
    x.next_down()
}

/// Moves the nearest float `value` up if the remainder `exact - value` is positive. An infinite
/// `value` of finite operands has an infinite remainder of the opposite sign, so it becomes the
/// largest float; operands that are infinite themselves have the remainder NaN.
#[inline]
fn round_up(value: f64, remainder: f64) -> f64 {
    if remainder > 0.0 { value.next_up() } else { value }
}

#[inline]
fn round_down(value: f64, remainder: f64) -> f64 {
    if remainder < 0.0 { value.next_down() } else { value }
}

/// `(a + b) - value` exactly, for the nearest float `value` (Dekker's fast two-sum, which never
/// overflows on the way).
#[inline]
fn sum_remainder(a: f64, b: f64, value: f64) -> f64 {
    let (large, small) = if a.abs() < b.abs() { (b, a) } else { (a, b) };
    small - (value - large)
}

#[inline]
pub fn add_up(a: f64, b: f64) -> f64 {
    let value = a + b;
    round_up(value, sum_remainder(a, b, value))
}

#[inline]
pub fn add_down(a: f64, b: f64) -> f64 {
    let value = a + b;
    round_down(value, sum_remainder(a, b, value))
}

#[inline]
pub fn sub_up(a: f64, b: f64) -> f64 {
    add_up(a, -b)
}

#[inline]
pub fn sub_down(a: f64, b: f64) -> f64 {
    add_down(a, -b)
}

#[inline]
pub fn mul_up(a: f64, b: f64) -> f64 {
    let value = a * b;
    if value.abs() < TINY {
        return if a == 0.0 || b == 0.0 { value } else { value.next_up() };
    }
    round_up(value, a.mul_add(b, -value))
}

#[inline]
pub fn mul_down(a: f64, b: f64) -> f64 {
    let value = a * b;
    if value.abs() < TINY {
        return if a == 0.0 || b == 0.0 { value } else { value.next_down() };
    }
    round_down(value, a.mul_add(b, -value))
}

/// The sign of `a / b - value`, or `None` where the remainder may have underflowed.
#[inline]
fn quotient_remainder(a: f64, b: f64, value: f64) -> Option<f64> {
    if a.abs() < TINY || value.abs() < f64::MIN_POSITIVE {
        return None;
    }
    let remainder = (-value).mul_add(b, a);
    Some(if b < 0.0 { -remainder } else { remainder })
}

#[inline]
pub fn div_up(a: f64, b: f64) -> f64 {
    let value = a / b;
    match quotient_remainder(a, b, value) {
        None if a == 0.0 || b == 0.0 || b.is_infinite() => value,
        None => value.next_up(),
        Some(remainder) => round_up(value, remainder),
    }
}

#[inline]
pub fn div_down(a: f64, b: f64) -> f64 {
    let value = a / b;
    match quotient_remainder(a, b, value) {
        None if a == 0.0 || b == 0.0 || b.is_infinite() => value,
        None => value.next_down(),
        Some(remainder) => round_down(value, remainder),
    }
}

#[inline]
pub fn sqrt_up(a: f64) -> f64 {
    let value = a.sqrt();
    if a < TINY && a > 0.0 {
        return value.next_up();
    }
    round_up(value, (-value).mul_add(value, a))
}

#[inline]
pub fn sqrt_down(a: f64) -> f64 {
    let value = a.sqrt();
    if a < TINY && a > 0.0 {
        return value.next_down();
    }
    round_down(value, (-value).mul_add(value, a))
}

pub fn sum_up(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |sum, &value| add_up(sum, value))
}

pub fn sum_down(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |sum, &value| add_down(sum, value))
}

/// An upper bound of the inner product of two slices of the same length.
pub fn dot_up(a: &[f64], b: &[f64]) -> f64 {
    debug_assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0, |sum, (&a, &b)| add_up(sum, mul_up(a, b)))
}

/// A lower bound of the inner product of two slices of the same length.
pub fn dot_down(a: &[f64], b: &[f64]) -> f64 {
    debug_assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0, |sum, (&a, &b)| add_down(sum, mul_down(a, b)))
}

/// An upper bound of `n·u / (1 - n·u)` with `u = 2^-53`: the relative error of `n` roundings to
/// nearest (Higham, "Accuracy and stability of numerical algorithms", 3.1), infinite for
/// `n >= 2^53`. A sum of `n` products, in any order, with or without fused multiply-add, is
/// within `gamma(n)·Σ|a_i b_i| + underflow(n)` of the real value unless it overflows.
pub fn gamma(n: usize) -> f64 {
    let unit = f64::EPSILON / 2.0;
    if n >= 1 << 53 {
        return f64::INFINITY;
    }
    let nu = n as f64 * unit;
    div_up(nu, sub_down(1.0, nu))
}

/// An upper bound of what `n` products lose to underflow together: `n·2^-1074`, with another
/// factor of two for the relative errors committed on it.
pub fn underflow(n: usize) -> f64 {
    mul_up(n as f64, 2.0 * f64::from_bits(1))
}

/// The least float32 not below `x` (infinite above the largest float32).
#[inline]
pub fn to_f32_up(x: f64) -> f32 {
    let value = x as f32;
    if f64::from(value) < x { value.next_up() } else { value }
}

/// The greatest float32 not above `x`.
#[inline]
pub fn to_f32_down(x: f64) -> f32 {
    let value = x as f32;
    if f64::from(value) > x { value.next_down() } else { value }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use proptest::prelude::*;

    use super::*;

    /// A finite float as an integer and a power of two.
    fn parts(x: f64) -> (i128, i32) {
        let bits = x.to_bits();
        let exponent = (bits >> 52 & 0x7ff) as i32;
        let fraction = (bits & ((1 << 52) - 1)) as i128;
        let mantissa = if exponent == 0 { fraction } else { fraction | 1 << 52 };
        (if x < 0.0 { -mantissa } else { mantissa }, exponent.max(1) - 1075)
    }

    /// Exact comparison of `m·2^e`.
    fn compare((m1, e1): (i128, i32), (m2, e2): (i128, i32)) -> Ordering {
        if e1 < e2 {
            return compare((m2, e2), (m1, e1)).reverse();
        }
        let shift = (e1 - e2) as u32;
        if m1 != 0 && shift + 1 >= m1.unsigned_abs().leading_zeros() {
            return m1.cmp(&0); // beyond the range of an i128, so larger than m2
        }
        if m1 == 0 { 0.cmp(&m2) } else { (m1 << shift).cmp(&m2) }
    }

    fn plus((m1, e1): (i128, i32), (m2, e2): (i128, i32)) -> (i128, i32) {
        let e = e1.min(e2);
        ((m1 << (e1 - e)) + (m2 << (e2 - e)), e)
    }

    /// `down <= exact <= up`, and they are neighbours or equal (two apart where `tight` is not set).
    fn encloses(down: f64, exact: (i128, i32), up: f64, tight: bool) {
        let order = |x: f64| {
            if x.is_infinite() { parts(x).0.cmp(&0) } else { compare(parts(x), exact) }
        };
        let above = |x: f64| order(x) != Ordering::Less;
        let below = |x: f64| order(x) != Ordering::Greater;
        assert!(below(down) && above(up), "{down:e} {up:e} {exact:?}");
        if tight {
            assert!(up == down || up == down.next_up(), "{down:e} {up:e} {exact:?}");
            assert!(up != down.next_up() || !(below(up) || above(down)), "{down:e} {up:e}");
        } else {
            assert!(up <= down.next_up().next_up(), "{down:e} {up:e} {exact:?}");
        }
    }

    /// Floats of every kind with exponents near `exponent`.
    fn float(exponents: std::ops::Range<i32>) -> impl Strategy<Value = f64> {
        let mantissa = prop_oneof![
            any::<u64>().prop_map(|m| m & ((1 << 52) - 1)),
            (0u64..4),
            (0u64..4).prop_map(|m| (1 << 52) - 1 - m),
            (0u64..1 << 26).prop_map(|m| m << 26),
        ];
        (mantissa, exponents, any::<bool>()).prop_map(|(mantissa, exponent, negative)| {
            let biased = (exponent + 1023).clamp(0, 2046) as u64;
            let x = f64::from_bits(biased << 52 | mantissa);
            if negative { -x } else { x }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn sums(a in float(-30..30), b in float(-30..30)) {
            encloses(add_down(a, b), plus(parts(a), parts(b)), add_up(a, b), true);
            encloses(sub_down(a, b), plus(parts(a), parts(-b)), sub_up(a, b), true);
        }

        #[test]
        fn sums_at_the_ends(a in float(-1023..-990), b in float(-1023..-990),
                            c in float(1000..1024), d in float(1000..1024)) {
            encloses(add_down(a, b), plus(parts(a), parts(b)), add_up(a, b), true);
            encloses(add_down(c, d), plus(parts(c), parts(d)), add_up(c, d), true);
        }

        #[test]
        fn products(a in float(-300..300), b in float(-300..300)) {
            let ((m1, e1), (m2, e2)) = (parts(a), parts(b));
            encloses(mul_down(a, b), (m1 * m2, e1 + e2), mul_up(a, b), true);
        }

        #[test]
        fn products_at_the_ends(a in float(-560..-480), b in float(-560..-480),
                                c in float(480..530), d in float(480..530)) {
            let ((m1, e1), (m2, e2)) = (parts(a), parts(b));
            encloses(mul_down(a, b), (m1 * m2, e1 + e2), mul_up(a, b), false);
            let ((m1, e1), (m2, e2)) = (parts(c), parts(d));
            encloses(mul_down(c, d), (m1 * m2, e1 + e2), mul_up(c, d), true);
        }

        /// `q` bounds `a / b` where `q·|b|` bounds `a·sign(b)`.
        #[test]
        fn quotients(a in prop_oneof![float(-400..400), float(-1023..-900), float(900..1024)],
                     b in prop_oneof![float(-400..400), float(-1023..-900), float(900..1024)]) {
            prop_assume!(b != 0.0);
            let target = parts(if b < 0.0 { -a } else { a });
            let times = |q: f64| {
                let ((m1, e1), (m2, e2)) = (parts(q), parts(b.abs()));
                (m1 * m2, e1 + e2)
            };
            let (down, up) = (div_down(a, b), div_up(a, b));
            prop_assert!(down == f64::NEG_INFINITY || compare(times(down), target) != Ordering::Greater);
            prop_assert!(up == f64::INFINITY || compare(times(up), target) != Ordering::Less);
            prop_assert!(up <= down.next_up().next_up());
            if (1e-250..1e300).contains(&(a / b).abs()) && a.abs() > 1e-250 {
                prop_assert!(up <= down.next_up());
                prop_assert!(up == down || compare(times(down), target) != Ordering::Equal);
            }
        }

        #[test]
        fn roots(a in prop_oneof![float(-1023..1024), float(-2..3)].prop_map(f64::abs)) {
            let square = |q: f64| {
                let (m, e) = parts(q);
                (m * m, 2 * e)
            };
            let (down, up) = (sqrt_down(a), sqrt_up(a));
            prop_assert!(compare(square(down), parts(a)) != Ordering::Greater || down < 0.0);
            prop_assert!(compare(square(up), parts(a)) != Ordering::Less);
            prop_assert!(up <= down.next_up().next_up());
            prop_assert!(a < TINY || up == down || up == down.next_up());
        }

        #[test]
        fn sums_and_dots(pairs in prop::collection::vec((float(-3..3), float(-3..3)), 0..12)) {
            let (a, b): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            let sum = a.iter().map(|&x| parts(x)).fold((0, 0), plus);
            prop_assert!(compare(parts(sum_down(&a)), sum) != Ordering::Greater);
            prop_assert!(compare(parts(sum_up(&a)), sum) != Ordering::Less);
            let dot = a.iter().zip(&b).map(|(&a, &b)| {
                let ((m1, e1), (m2, e2)) = (parts(a), parts(b));
                (m1 * m2, e1 + e2)
            }).fold((0, 0), plus);
            prop_assert!(compare(parts(dot_down(&a, &b)), dot) != Ordering::Greater);
            prop_assert!(compare(parts(dot_up(&a, &b)), dot) != Ordering::Less);
            // The textbook bound encloses the plain sum too.
            let plain: f64 = a.iter().zip(&b).fold(0.0, |sum, (&a, &b)| a.mul_add(b, sum));
            let absolute: Vec<f64> = a.iter().map(|x| x.abs()).collect();
            let magnitude = dot_up(&absolute, &b.iter().map(|x| x.abs()).collect::<Vec<_>>());
            let error = add_up(mul_up(gamma(a.len()), magnitude), underflow(a.len()));
            prop_assert!(compare(parts(add_up(plain, error)), dot) != Ordering::Less);
            prop_assert!(compare(parts(add_down(plain, -error)), dot) != Ordering::Greater);
        }

        #[test]
        fn float32(x in prop_oneof![float(-160..130), float(-3..3)]) {
            let (down, up) = (to_f32_down(x), to_f32_up(x));
            prop_assert!(f64::from(down) <= x && x <= f64::from(up));
            prop_assert!(down == up || down.next_up() == up);
            prop_assert!((down == up) == (f64::from(x as f32) == x));
        }
    }

    #[test]
    fn far_apart_operands() {
        assert_eq!((add_down(1.0, 1e-300), add_up(1.0, 1e-300)), (1.0, 1.0 + f64::EPSILON));
        assert_eq!(add_down(1e-300, -1.0), -1.0);
        assert_eq!(add_up(-1e-300, 1e300), 1e300);
    }

    #[test]
    fn overflow_and_infinities() {
        let (max, inf) = (f64::MAX, f64::INFINITY);
        assert_eq!((add_down(max, max), add_up(max, max)), (max, inf));
        assert_eq!((add_down(-max, -max), add_up(-max, -max)), (-inf, -max));
        assert_eq!((mul_down(max, 2.0), mul_up(max, -2.0)), (max, -max));
        assert_eq!((div_down(max, 0.5), div_up(max, -0.5)), (max, -max));
        assert_eq!((add_down(inf, 1.0), add_up(-inf, 1.0)), (inf, -inf));
        assert_eq!((mul_down(inf, 2.0), div_up(-inf, 2.0)), (inf, -inf));
        assert_eq!((div_down(1.0, inf), div_up(1.0, 0.0), div_down(-1.0, 0.0)), (0.0, inf, -inf));
        assert_eq!((sqrt_down(inf), sqrt_up(0.0)), (inf, 0.0));
        for nan in [add_up(inf, -inf), mul_down(0.0, inf), div_up(0.0, 0.0), sqrt_up(-1.0)] {
            assert!(nan.is_nan());
        }
        assert!(add_up(f64::NAN, 1.0).is_nan() && mul_down(f64::NAN, 0.0).is_nan());
        assert_eq!((to_f32_down(1e300), to_f32_up(1e300)), (f32::MAX, f32::INFINITY));
        assert!(to_f32_up(f64::NAN).is_nan());
    }

    #[test]
    fn gamma_known_values() {
        assert_eq!(gamma(0), 0.0);
        assert_eq!(gamma(1), (f64::EPSILON / 2.0).next_up());
        assert!(gamma(1000) > 1000.0 * f64::EPSILON / 2.0);
        assert_eq!(gamma(1 << 53), f64::INFINITY);
        assert_eq!(underflow(0), 0.0);
        assert!(underflow(3) >= 3.0 * f64::from_bits(1));
    }
}
