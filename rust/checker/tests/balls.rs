//! Complete verification in balls of L1 and L2: as exact as counting every kink of a small network
//! makes it.

mod support;

use aisec_bounds::{Answer, Clause, Decision, Norm, Search, decide};
use aisec_graph::{Graph, GraphSpec, Tensor};
use aisec_numeric::Cancel;
use num_rational::BigRational;
use num_traits::{FromPrimitive, Signed, ToPrimitive, Zero};
use proptest::prelude::*;
use support::{Numbers, Place, certificate, check, check_exactly};

/// `y = Σ heights · relu(slopes · x + offsets)` of two inputs, all small integers over 4.
struct Folded {
    slopes: Vec<[f64; 2]>,
    offsets: Vec<f64>,
    heights: Vec<f64>,
}

impl Folded {
    fn new(units: usize, numbers: &mut Numbers) -> Self {
        let mut quarter = |most: usize| (numbers.below(2 * most + 1) as f64 - most as f64) * 0.25;
        Self {
            slopes: (0..units).map(|_| [quarter(8), quarter(8)]).collect(),
            offsets: (0..units).map(|_| quarter(4)).collect(),
            heights: (0..units).map(|_| quarter(8)).collect(),
        }
    }

    fn graph(&self) -> Graph {
        let spec = r#"{"nodes": [
            {"name": "x", "op": "input", "attrs": {"shape": [2]}},
            {"name": "z", "op": "affine", "inputs": [0], "tensors": {"weight": 0, "bias": 1}},
            {"name": "a", "op": "relu", "inputs": [1]},
            {"name": "y", "op": "affine", "inputs": [2], "tensors": {"weight": 2, "bias": 3}}
        ], "output": 3}"#;
        let units = self.offsets.len();
        let tensors = [
            (vec![units, 2], self.slopes.concat()),
            (vec![units], self.offsets.clone()),
            (vec![1, units], self.heights.clone()),
            (vec![1], vec![0.0]),
        ];
        let tensors = tensors.map(|(shape, x)| Tensor::new(shape, x).unwrap());
        Graph::new(GraphSpec::from_json(spec).unwrap(), tensors.into()).unwrap()
    }

    fn value<T: From64>(&self, x: &[T; 2]) -> T {
        let mut sum = T::of(0.0);
        for ((slope, &offset), &height) in self.slopes.iter().zip(&self.offsets).zip(&self.heights)
        {
            let z = T::of(slope[0]) * x[0].clone() + T::of(slope[1]) * x[1].clone() + T::of(offset);
            if z > T::of(0.0) {
                sum = sum + T::of(height) * z;
            }
        }
        sum
    }
}

trait From64: Clone + PartialOrd + std::ops::Add<Output = Self> + std::ops::Mul<Output = Self> {
    fn of(x: f64) -> Self;
}

impl From64 for f64 {
    fn of(x: f64) -> Self {
        x
    }
}

impl From64 for BigRational {
    fn of(x: f64) -> Self {
        Self::from_f64(x).unwrap()
    }
}

/// The least value in a ball of L1, exactly: it is where two lines meet, of kinks and of edges.
fn least_in_l1(folded: &Folded, place: &Place) -> f64 {
    let of = <BigRational as From64>::of;
    let mut lines: Vec<[BigRational; 3]> = Vec::new();
    for (slope, &offset) in folded.slopes.iter().zip(&folded.offsets) {
        lines.push([of(slope[0]), of(slope[1]), of(-offset)]);
    }
    let (c, r) = (&place.center, of(place.radius));
    for signs in [[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]] {
        let at = of(signs[0]) * of(c[0]) + of(signs[1]) * of(c[1]) + r.clone();
        lines.push([of(signs[0]), of(signs[1]), at]);
    }
    for axis in 0..2 {
        for end in [place.lower[axis], place.upper[axis]] {
            let unit = |at: usize| of(f64::from(u8::from(at == axis)));
            lines.push([unit(0), unit(1), of(end)]);
        }
    }
    let mut best: Option<BigRational> = None;
    for (i, a) in lines.iter().enumerate() {
        for b in &lines[..i] {
            let det = &a[0] * &b[1] - &a[1] * &b[0];
            if det.is_zero() {
                continue;
            }
            let x =
                [(&a[2] * &b[1] - &b[2] * &a[1]) / &det, (&a[0] * &b[2] - &b[0] * &a[2]) / &det];
            let length = (&x[0] - of(c[0])).abs() + (&x[1] - of(c[1])).abs();
            let inside = length <= r
                && (0..2).all(|k| of(place.lower[k]) <= x[k] && x[k] <= of(place.upper[k]));
            if inside {
                let value = folded.value(&x);
                best = Some(best.map_or(value.clone(), |known| known.min(value)));
            }
        }
    }
    best.expect("the ball has corners").to_f64().unwrap()
}

/// The least value in a ball of L2 that many points show: all over the circle, along each kink and
/// edge of the box, and where these meet.
fn least_in_l2(folded: &Folded, place: &Place) -> f64 {
    let (c, r) = (&place.center, place.radius);
    let mut points: Vec<[f64; 2]> = (0..40_000)
        .map(|k| {
            let angle = std::f64::consts::TAU * f64::from(k) / 40_000.0;
            [c[0] + r * angle.cos(), c[1] + r * angle.sin()]
        })
        .collect();
    let mut lines: Vec<([f64; 2], f64)> =
        folded.slopes.iter().zip(&folded.offsets).map(|(s, o)| (*s, -o)).collect();
    lines.extend([place.lower[0], place.upper[0]].map(|end| ([1.0, 0.0], end)));
    lines.extend([place.lower[1], place.upper[1]].map(|end| ([0.0, 1.0], end)));
    for (i, (a, p)) in lines.iter().enumerate() {
        let size = a[0] * a[0] + a[1] * a[1];
        let short = (p - a[0] * c[0] - a[1] * c[1]) / size;
        let half = (r * r - short * short * size).max(0.0) / size;
        for sign in [1.0, -1.0] {
            let t = sign * half.sqrt();
            points.push([c[0] + short * a[0] - t * a[1], c[1] + short * a[1] + t * a[0]]);
        }
        for (b, q) in &lines[..i] {
            let det = a[0] * b[1] - a[1] * b[0];
            points.push([(p * b[1] - q * a[1]) / det, (a[0] * q - b[0] * p) / det]);
        }
    }
    let inside = |x: &&[f64; 2]| {
        let length = ((x[0] - c[0]).powi(2) + (x[1] - c[1]).powi(2)).sqrt();
        let between = |k: usize| place.lower[k] - 1e-12 <= x[k] && x[k] <= place.upper[k] + 1e-12;
        length <= r * (1.0 + 1e-12) && between(0) && between(1)
    };
    points.iter().filter(inside).map(|x| folded.value(x)).fold(f64::INFINITY, f64::min)
}

fn decided(graph: &Graph, place: &Place, rhs: f64) -> Decision {
    let clause = Clause { rows: vec![1.0], rhs_lower: vec![rhs], rhs_upper: vec![rhs] };
    let search = Search { record: true, ..Search::default() };
    decide(graph, place.region(), &[clause], &search, &Cancel::new())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    /// What is below the least value is refuted, and others agree; what is above it is met by a
    /// point of the ball.
    #[test]
    fn complete_is_exact(seed: u64, units in 1usize..13, size in 0.05..1.5f64, round: bool) {
        let mut numbers = Numbers(seed);
        let folded = Folded::new(units, &mut numbers);
        let graph = folded.graph();
        let norm = if round { Norm::L2 } else { Norm::L1 };
        let center = vec![(numbers.next() * 16.0).round() / 16.0, (numbers.next() * 16.0).round() / 16.0];
        let radius = (size * 64.0).ceil() / 64.0;
        let place = Place::new(center, radius, norm);
        let least = if round { least_in_l2(&folded, &place) } else { least_in_l1(&folded, &place) };
        let room = if round { 1e-4 } else { 1e-5 } * (1.0 + least.abs());
        let below = decided(&graph, &place, least - room);
        prop_assert_eq!(&below.answer, &Answer::Refuted, "{} {}", least, below.bound);
        let entries = below.proof.unwrap().write(&graph, &place.region(), 1, true).unwrap();
        let clause = (vec![vec![1.0]], vec![least - room]);
        let text = certificate(&graph, &place, &[clause], &entries);
        prop_assert_eq!(check(&graph, &text).err(), None);
        if below.domains < 8 {
            prop_assert_eq!(check_exactly(&graph, &text).err(), None);
        }
        let Answer::Met(x) = decided(&graph, &place, least + room).answer else {
            return Err(TestCaseError::fail("a point that meets the clause was not found"));
        };
        let away: Vec<f64> = x.iter().zip(&place.center).map(|(x, c)| (x - c).abs()).collect();
        let length = if round { away[0].hypot(away[1]) } else { away[0] + away[1] };
        prop_assert!(length <= radius * (1.0 + 1e-6), "{} outside {}", length, radius);
        prop_assert!(folded.value(&[x[0], x[1]]) <= least + room);
    }
}
