//! Lines and ranges hold for every curve, and touch it.

use std::f64::consts::{PI, SQRT_2};

use aisec_numeric::rounding::{add_down, add_up, mul_down, mul_up};
use proptest::prelude::*;

use super::*;
use crate::operator::{Activation, Operator};
use crate::ops::Op;
use crate::spec::Parts;

const NAMES: [&str; 15] = [
    "sigmoid",
    "tanh",
    "exp",
    "log",
    "sqrt",
    "reciprocal",
    "square",
    "cube",
    "sin",
    "cos",
    "erf",
    "softplus",
    "elu",
    "silu",
    "gelu",
];

fn curve(name: &str) -> Curve {
    let mut parts = Parts::new(&[&[1]], serde_json::Map::new(), Default::default());
    let op = Op::build(name, &mut parts).expect("there is such an operator").unwrap();
    match op.activation() {
        Some(Activation::Curve(curve)) => curve,
        other => panic!("{name}: {other:?}"),
    }
}

fn curves() -> impl Strategy<Value = (&'static str, Curve)> {
    prop::sample::select(NAMES.to_vec()).prop_map(|name| (name, curve(name)))
}

/// An interval of any size: a point, tiny, across zero and turns, huge.
fn interval() -> impl Strategy<Value = (f64, f64)> {
    let low = prop_oneof![-1e-6..1e-6f64, -4.0..4.0f64, -50.0..50.0f64, 0.0..3.0f64, -1e5..1e5f64];
    let width =
        prop_oneof![Just(0.0), 0.0..1e-9f64, 0.0..1.0f64, 1.0..12.0f64, 0.0..900.0f64, 0.0..1e6f64];
    (low, width).prop_map(|(low, width)| (low, low + width))
}

fn single(relaxation: Relaxation) -> [f64; 4] {
    match relaxation {
        Relaxation::Elementwise { lower_slope, lower_offset, upper_slope, upper_offset } => {
            [lower_slope[0], lower_offset[0], upper_slope[0], upper_offset[0]]
        }
        _ => unreachable!("the lines are element by element"),
    }
}

fn relaxed(curve: &Curve, l: f64, u: f64) -> [f64; 4] {
    single(curve.relax(Interval { lower: &[l], upper: &[u] }))
}

/// Points of an interval: the ends, evenly spaced ones, and those next to a turn or a pole.
fn points(l: f64, u: f64) -> Vec<f64> {
    let even = (0..=64).map(|step| l + (u - l) * f64::from(step) / 64.0);
    let near = [0.0, -0.751_79, -1.278_46, 2.399_357, SQRT_2, -SQRT_2, PI];
    let ends = (1..=20).map(|k| l + (u - l) * 0.5f64.powi(k));
    even.chain(near).chain(ends).map(|x| x.clamp(l, u)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(8000) })]

    /// Below the enclosure's upper end and above its lower end, everywhere.
    #[test]
    fn lines_hold(
        (name, curve) in curves(),
        (l, u) in interval(),
        chosen in prop_oneof![Just(None), (-9.0..9.0f64, -9.0..9.0f64).prop_map(Some), (0.0..1.0f64, 0.0..1.0f64).prop_map(Some)],
        inside: bool,
    ) {
        let ends = Interval { lower: &[l], upper: &[u] };
        let [ls, lo, us, uo] = match chosen {
            None => relaxed(&curve, l, u),
            Some((below, above)) if inside => {
                let at = |part: f64| l + part.clamp(0.0, 1.0) * (u - l);
                single(curve.relax_with(ends, &[at(below), at(above)]))
            }
            Some((below, above)) => single(curve.relax_with(ends, &[below, above])),
        };
        let (least, most) = (curve.range)(l, u);
        for x in points(l, u) {
            if !curve.domain.holds(x, x) {
                continue;
            }
            let (low, high) = (curve.value)(x);
            prop_assert!(low <= high);
            let (below, above) = (add_down(mul_down(ls, x), lo), add_up(mul_up(us, x), uo));
            prop_assert!(below <= high || below.is_nan(), "{} at {} on [{}, {}]: {} > {}", name, x, l, u, below, high);
            prop_assert!(above >= low || above.is_nan(), "{} at {} on [{}, {}]: {} < {}", name, x, l, u, above, low);
            prop_assert!(least <= high && low <= most, "{} at {} on [{}, {}]", name, x, l, u);
        }
    }

    /// Plain values and derivatives agree with the enclosures, and each is the next one's integral.
    #[test]
    fn derivatives_agree((name, curve) in curves(), x in prop_oneof![-6.0..6.0f64, 0.01..0.5f64]) {
        prop_assume!(curve.domain.holds(x - 2e-3, x + 2e-3));
        let [value, first, second] = curve.derivatives(x);
        let near = |(low, high): Range, y: f64| {
            let room = 1e-11 * (1.0 + y.abs());
            low <= high && low - room <= y && y <= high + room && high - low <= 2.0 * room
        };
        prop_assert!(near((curve.value)(x), value), "{}({})", name, x);
        prop_assert!(near((curve.slope)(x), first), "{}'({})", name, x);
        prop_assert!(curve.slopes.0 <= first && first <= curve.slopes.1);
        let h = 1e-6 * x.abs().clamp(0.01, 1.0);
        let (a, b) = (curve.derivatives(x - h), curve.derivatives(x + h));
        for (derivative, k) in [(first, 0), (second, 1)] {
            let quotient = (b[k] - a[k]) / (2.0 * h);
            let smooth = !(name == "elu" && x.abs() <= h);
            let size = 1.0 + a[k].abs() + derivative.abs();
            prop_assert!(!smooth || (quotient - derivative).abs() < 1e-4 * size, "{} {} {}", name, x, k);
        }
    }

    /// Between its turns the second derivative has the sign that the shape claims.
    #[test]
    fn shapes_are_those_of_the_second_derivative((name, curve) in curves(), (l, u) in interval()) {
        if !(u - l < 20.0 && l.abs() < 600.0 && curve.domain.holds(l, u)) {
            return Ok(());
        }
        if let Some(pieces) = curve.shape.pieces(l, u, false) {
            for piece in pieces.iter() {
                for step in 1..8 {
                    let x = piece.low + (piece.high - piece.low) * f64::from(step) / 8.0;
                    let second = curve.derivatives(x)[2];
                    let wrong = if piece.convex { -second } else { second };
                    prop_assert!(wrong <= 1e-9, "{} at {}", name, x);
                }
            }
            // Nothing is left out but what lies between neighbouring floats.
            let covered: f64 = pieces.iter().map(|piece| piece.high - piece.low).sum();
            prop_assert!(covered >= (u - l) * (1.0 - 1e-9) - 1e-9, "{} [{}, {}]", name, l, u);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]

    /// The lines touch the curve: the gap somewhere is no more than rounding, or sampling.
    #[test]
    fn lines_are_tight((name, curve) in curves(), l in -4.0..4.0f64, width in 1e-3..6.0f64) {
        let u = l + width;
        prop_assume!(curve.domain.holds(l.min(l - 0.05), u + 0.05) || curve.domain == Domain::NotNegative && l > 0.0);
        prop_assume!(curve.domain.holds(l, u));
        let [ls, lo, us, uo] = relaxed(&curve, l, u);
        let gap = |slope: f64, offset: f64| {
            (0..=4000).map(|step| {
                let x = l + width * f64::from(step) / 4000.0;
                ((curve.plain)(x)[0] - slope.mul_add(x, offset)).abs()
            }).fold(f64::INFINITY, f64::min)
        };
        let size = 1.0 + (curve.plain)(l)[0].abs() + (curve.plain)(u)[0].abs();
        let room = 2e-5 * size * (1.0 + 1.0 / l.abs().min(u.abs()).max(0.05).powi(3));
        prop_assert!(gap(ls, lo) < room, "{} below on [{}, {}]", name, l, u);
        prop_assert!(gap(us, uo) < room, "{} above on [{}, {}]", name, l, u);
        // No line is worse at the middle than the hull of samples, but for what lies between them.
        let middle = 0.5 * (l + u);
        for (sign, height) in [(1.0, ls * middle + lo), (-1.0, -(us * middle + uo))] {
            let points: Vec<(f64, f64)> = (0..=400).map(|step| {
                let x = l + width * f64::from(step) / 400.0;
                (x, sign * (curve.plain)(x)[0])
            }).collect();
            let mut hull = f64::INFINITY;
            for &(a, fa) in points.iter().filter(|p| p.0 <= middle).step_by(4) {
                for &(b, fb) in points.iter().filter(|p| p.0 > middle).step_by(4) {
                    hull = hull.min(fa + (fb - fa) * (middle - a) / (b - a));
                }
            }
            prop_assert!(height > hull - 0.02 * size * (1.0 + 1.0 / l.abs().min(u.abs()).max(0.05).powi(3)), "{} on [{}, {}]: {} {}", name, l, u, height, hull);
        }
    }

    /// The usual points give the usual lines, and any of the range touches the curve.
    #[test]
    fn points_of_the_range_touch(
        (name, curve) in curves(), l in -4.0..4.0f64, width in 0.01..6.0f64, t in 0.0..1.0f64,
    ) {
        let u = l + width;
        prop_assume!(curve.domain.holds(l, u));
        let ends = Interval { lower: &[l], upper: &[u] };
        let touches = curve.touches(l, u);
        let usual = [touches[0].usual, touches[1].usual];
        prop_assert_eq!(curve.relax_with(ends, &usual), curve.relax(ends), "{}", name);
        let point = touches
            .map(|touch| touch.range.map_or(touch.usual, |(low, high)| low + t * (high - low)));
        let [ls, lo, us, uo] = single(curve.relax_with(ends, &point));
        for (touch, x, slope, offset) in
            [(touches[0], point[0], ls, lo), (touches[1], point[1], us, uo)]
        {
            let [value, derivative, _] = curve.derivatives(x);
            if touch.range.is_some() {
                let room = 1e-9 * (1.0 + value.abs() + derivative.abs() * (u - l));
                prop_assert!((slope * x + offset - value).abs() < room, "{} at {}", name, x);
                prop_assert!((slope - derivative).abs() < room, "{} at {}", name, x);
            }
        }
    }
}

#[test]
fn infinite_ends_give_constants() {
    let inf = f64::INFINITY;
    assert_eq!(relaxed(&curve("sigmoid"), -inf, inf), [0.0, 0.0, -0.0, 1.0]);
    assert_eq!(relaxed(&curve("tanh"), -inf, inf), [0.0, -1.0, -0.0, 1.0]);
    assert_eq!(relaxed(&curve("sin"), -inf, 3.0), [0.0, -1.0, -0.0, 1.0]);
    assert_eq!(relaxed(&curve("exp"), -inf, 0.0), [0.0, 0.0, -0.0, 1.0]);
    for name in NAMES {
        assert!(relaxed(&curve(name), f64::NAN, 1.0)[1].is_nan(), "{name}");
        let (low, high) = (curve(name).range)(-inf, inf);
        assert!(
            low <= high && (low == -inf || low <= 0.0) && (high == inf || high <= 1.0),
            "{name}"
        );
    }
}

#[test]
fn nothing_is_known_across_a_pole() {
    for (name, l, u) in [
        ("reciprocal", -1.0, 1.0),
        ("reciprocal", 0.0, 1.0),
        ("reciprocal", -1.0, 0.0),
        ("log", 0.0, 1.0),
        ("log", -1.0, 1.0),
        ("sqrt", -1e-300, 1.0),
    ] {
        let [ls, lo, us, uo] = relaxed(&curve(name), l, u);
        assert_eq!((ls, us, lo), (0.0, 0.0, f64::NEG_INFINITY), "{name}");
        assert!(uo == f64::INFINITY || (name == "log" && l == 0.0), "{name}");
    }
    assert_eq!((curve("log").range)(0.0, 1.0), (f64::NEG_INFINITY, 0.0));
    assert_eq!((curve("sqrt").range)(0.0, 4.0), (0.0, 2.0));
    assert_eq!((curve("square").range)(-2.0, 1.0), (0.0, 4.0));
    assert_eq!((curve("reciprocal").range)(-4.0, -2.0), (-0.5, -0.25));
}
