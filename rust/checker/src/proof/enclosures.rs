//! Functions enclosed by interval arithmetic alone, at single points.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, FRAC_PI_2, LN_2, SQRT_2};

use aisec_numeric::rounding::{
    add_down, add_up, div_down, div_up, mul_down, mul_up, sub_down, sub_up,
};

use super::curve::{self, Curve, Interval, product};

/// `π/2` less the float next to it lies between these.
const QUARTER_REST: Interval = (6.123_233_995_736_766e-17, 6.123_233_995_736_767e-17);

/// Sine and cosine of more than this are not told from -1 or 1.
pub(super) const LARGEST: f64 = 1e6;

pub(super) fn sum(a: Interval, b: Interval) -> Interval {
    (add_down(a.0, b.0), add_up(a.1, b.1))
}

pub(super) fn negated(a: Interval) -> Interval {
    (-a.1, -a.0)
}

pub(super) fn inverse(a: Interval) -> Interval {
    (div_down(1.0, a.1), div_up(1.0, a.0))
}

pub(super) fn wide(x: f64) -> Interval {
    (x.next_down(), x.next_up())
}

pub(super) fn exp(x: f64) -> Interval {
    if x > 700.0 {
        (1e304, f64::INFINITY) // exp(700) > 1e304
    } else if x > 0.0 {
        inverse(curve::exp(-x))
    } else {
        curve::exp(x)
    }
}

/// `k·ln 2 + 2·artanh((m - 1)/(m + 1))` for `x = m·2^k`, `m` near 1. Of the series, what comes after
/// 24 terms is less than 0.05 times the next power of an argument of at most 0.18.
pub(super) fn ln(x: f64) -> Interval {
    if x < f64::MIN_POSITIVE {
        return (-750.0, -708.0);
    }
    let bits = x.to_bits();
    let (mut k, mut m) =
        ((bits >> 52) as f64 - 1023.0, f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52));
    if m > SQRT_2 {
        (k, m) = (k + 1.0, 0.5 * m);
    }
    let (low, high) = (add_down(m, 1.0), add_up(m, 1.0));
    let top = m - 1.0; // exact
    let s = if top < 0.0 {
        (div_down(top, low), div_up(top, high))
    } else {
        (div_down(top, high), div_up(top, low))
    };
    let square = product(s, s);
    let mut series = (0.0, 0.05);
    for n in (0..24).rev() {
        let n = f64::from(2 * n + 1);
        series = sum(product(series, square), (div_down(2.0, n), div_up(2.0, n)));
    }
    sum(product(s, series), product((k, k), (LN_2, LN_2.next_up())))
}

pub(super) fn softplus(x: f64) -> Interval {
    let (low, high) = exp(-x.abs());
    // y - y²/2 <= ln(1 + y) <= y for y >= 0
    let rest = if high < 1e-7 {
        (sub_down(low, mul_up(high, 0.5 * high)).max(0.0), high)
    } else {
        (ln(add_down(1.0, low)).0, ln(add_up(1.0, high)).1)
    };
    sum((x.max(0.0), x.max(0.0)), rest)
}

/// A number of quarter turns.
pub(super) fn quarter(turn: f64) -> Interval {
    let main = (mul_down(turn, FRAC_PI_2), mul_up(turn, FRAC_PI_2));
    sum(main, product((turn, turn), QUARTER_REST))
}

/// The sine of `x` plus some quarter turns, by Taylor's series around the nearest one.
pub(super) fn wave(x: f64, shift: i64) -> Interval {
    if x.abs() > LARGEST {
        return (-1.0, 1.0);
    }
    let turn = (x / FRAC_PI_2).round();
    let main = turn * FRAC_PI_2;
    let lost = turn.mul_add(FRAC_PI_2, -main); // exact: what rounding took off
    let r = (sub_down(sub_down(x, main), lost), sub_up(sub_up(x, main), lost));
    let r = sum(r, negated(product((turn, turn), QUARTER_REST)));
    let square = product(r, r);
    let square = (square.0.max(0.0), square.1);
    let phase = (turn as i64 + shift).rem_euclid(4);
    // What is left out multiplies the last term by something just below 1.
    let mut series = (0.99, 1.0);
    for n in (1..10).rev() {
        let n = f64::from(2 * n);
        let divisor = if phase % 2 == 0 { n * (n + 1.0) } else { n * (n - 1.0) };
        let term = product(series, square);
        series = (sub_down(1.0, div_up(term.1, divisor)), sub_up(1.0, div_down(term.0, divisor)));
    }
    let value = if phase % 2 == 0 { product(r, series) } else { series };
    let (low, high) = if phase < 2 { value } else { negated(value) };
    (low.max(-1.0), high.min(1.0))
}

/// `2/√π·exp(-x²)·Σ 2^k x^(2k+1) / (1·3·…·(2k+1))`, all of one sign.
pub(super) fn erf(x: f64) -> Interval {
    if x < 0.0 {
        return negated(erf(-x));
    }
    if x > 6.0 {
        return (1.0f64.next_down(), 1.0); // 1 - erf(6) < 2^-55
    }
    let square = (mul_down(x, x), mul_up(x, x));
    let (mut total, mut term) = ((x, x), (x, x));
    for k in 0..400 {
        let next = f64::from(2 * k + 3);
        let ratio = (div_down(2.0 * square.0, next), div_up(2.0 * square.1, next));
        term = product(term, ratio);
        total = sum(total, term);
        if ratio.1 < 0.5 && term.1 <= 1e-19 * total.0 {
            total.1 = add_up(total.1, term.1); // as much again at most
            break;
        }
    }
    let bell = (exp(-square.1).0, exp(-square.0).1);
    let (low, high) =
        product(product(total, bell), (FRAC_2_SQRT_PI.next_down(), FRAC_2_SQRT_PI.next_up()));
    (low.max(0.0), high.min(1.0))
}

pub(super) fn sigmoid(x: f64) -> Interval {
    Curve::Sigmoid.value(x)
}

/// The standard normal distribution function, and its density.
pub(super) fn normal(x: f64) -> (Interval, Interval) {
    let scaled = product((x, x), wide(FRAC_1_SQRT_2));
    let (low, high) = (erf(scaled.0).0, erf(scaled.1).1);
    let part = (0.5 * add_down(1.0, low), 0.5 * add_up(1.0, high));
    let half = (mul_down(x, 0.5 * x), mul_up(x, 0.5 * x));
    let bell = (exp(-half.1).0, exp(-half.0).1);
    let factor = product(wide(FRAC_2_SQRT_PI), product((0.5, 0.5), wide(FRAC_1_SQRT_2)));
    (part, product(bell, factor))
}
