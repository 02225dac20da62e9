//! What holds of rows, bounds and planes, in exact terms; and that they are those of other proofs.

use aisec_graph::testing::{random_graph, random_input};
use aisec_graph::{Graph, GraphSpec, Tensor};
use aisec_numeric::Cancel;
use num_rational::BigRational;

use super::super::network::{Network, Place, Rule};
use super::super::number::Number;
use super::super::region::Region;
use super::*;

/// A small generator of numbers in [-1, 1).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as f64 / (1u64 << 30) as f64 - 1.0
    }
}

/// Layers with a path around the second one.
fn shortcut(seed: u64, wide: usize) -> Graph {
    let mut numbers = Numbers(seed);
    let affine = |name: &str, input: usize, at: usize| {
        format!(
            r#"{{"name":"{name}","op":"affine","inputs":[{input}],"tensors":{{"weight":{at},"bias":{}}}}}"#,
            at + 1
        )
    };
    let nodes = [
        r#"{"name":"x","op":"input","attrs":{"shape":[3]}}"#.to_owned(),
        affine("z0", 0, 0),
        r#"{"name":"a0","op":"relu","inputs":[1]}"#.to_owned(),
        affine("z1", 2, 2),
        r#"{"name":"a1","op":"relu","inputs":[3]}"#.to_owned(),
        affine("z2", 4, 4),
        r#"{"name":"s","op":"add","inputs":[5,2]}"#.to_owned(),
        r#"{"name":"a2","op":"relu","inputs":[6]}"#.to_owned(),
        affine("y", 7, 6),
    ];
    let sizes = [(wide, 3), (wide, wide), (wide, wide), (2, wide)];
    let mut tensors = Vec::new();
    for (out, length) in sizes {
        let mut values = |n: usize, scale: f64| (0..n).map(|_| numbers.next() * scale).collect();
        let weight = values(out * length, (3.0 / length as f64).sqrt());
        tensors.push(Tensor::new(vec![out, length], weight).unwrap());
        tensors.push(Tensor::new(vec![out], values(out, 0.5)).unwrap());
    }
    let spec = format!(r#"{{"nodes":[{}],"output":8}}"#, nodes.join(","));
    Graph::new(GraphSpec::from_json(&spec).unwrap(), tensors).unwrap()
}

fn exact(x: f64) -> BigRational {
    BigRational::of(x)
}

/// The exact values of all nodes at a point.
fn values(network: &Network, x: &[f64]) -> Vec<Vec<BigRational>> {
    let x: Vec<BigRational> = x.iter().map(|&x| exact(x)).collect();
    let point = Region { lower: x.clone(), upper: x, ball: None };
    let domain = Domain::new(network, point).unwrap();
    domain.cells.iter().map(|cell| cell.lower.clone()).collect()
}

/// Which element of which node each unit is, where none are eliminated.
fn places(network: &Network) -> Vec<(usize, usize)> {
    let reads = |place: &Place| match place.rule {
        Rule::Active(_) => Some(place.inputs[0]),
        _ => None,
    };
    let sources = network.places.iter().filter_map(reads);
    sources.flat_map(|at| (0..network.places[at].len).map(move |i| (at, i))).collect()
}

/// Checks the rows, bounds and planes of one box at points of it.
fn hold(
    network: &Network,
    found: &Found,
    places: &[(usize, usize)],
    points: &[Vec<f64>],
    asked: &[Vec<f64>],
) {
    let units = found.units;
    let planes = found.planes(
        units.start(units.asked(), &units.asked().units.clone().collect::<Vec<_>>(), false),
        &vec![0.0; asked.len()],
    );
    for x in points {
        let all = values(network, x);
        let read: Vec<BigRational> = places.iter().map(|&(at, i)| all[at][i].clone()).collect();
        let outputs: Vec<BigRational> = asked
            .iter()
            .map(|row| row.iter().zip(&all[network.output()]).map(|(a, y)| exact(*a) * y).sum())
            .collect();
        for (unit, z) in read.iter().enumerate() {
            assert!(exact(found.lower[unit]) <= *z && *z <= exact(found.upper[unit]), "{unit}");
        }
        let zero = BigRational::zero();
        let columns: Vec<BigRational> = x
            .iter()
            .map(|&x| exact(x))
            .chain(read.iter().map(|z| if *z > zero { z.clone() } else { zero.clone() }))
            .collect();
        for level in &units.levels {
            for (row, unit) in level.rows.chunks(level.wide.max(1)).zip(level.units.clone()) {
                let mut sum = exact(units.constants[unit]);
                for (a, v) in row.iter().zip(columns.get(level.first..).unwrap_or(&[])) {
                    sum += exact(*a) * v;
                }
                let z = read.get(unit).unwrap_or_else(|| &outputs[unit - units.count()]);
                let error = (sum - z).size();
                assert!(error <= exact(units.errors[unit]), "unit {unit}: {}", error.above());
                assert!(units.errors[unit] <= 1e-9 * (1.0 + units.sizes[unit]));
            }
        }
        for ((row, constant), y) in planes.iter().zip(&outputs) {
            let mut plane = exact(*constant);
            row.iter().zip(x).for_each(|(a, x)| plane += exact(*a) * exact(*x));
            assert!(plane <= *y);
        }
    }
}

/// Boxes within boxes: everything holds at points, in exact terms, and open units have the bounds
/// that proofs of any network find.
#[test]
fn rows_bounds_and_planes_hold_and_are_the_usual_ones() {
    let (mut boxes, mut narrowed, mut random) = (0, 0, 0);
    for seed in 0..160 {
        let graph = match seed % 4 {
            0 => shortcut(seed, 4 + seed as usize % 9),
            _ => random_graph(seed, 9, 2),
        };
        let cancel = Cancel::new();
        let network = Network::new(&graph, &cancel).unwrap();
        let mut numbers = Numbers(seed);
        let center = random_input(seed, &graph, 1);
        let size = 0.6 + 0.5 * numbers.next();
        let mut lower: Vec<f64> = center.iter().map(|x| x - size).collect();
        let mut upper: Vec<f64> = center.iter().map(|x| x + size).collect();
        let region = Region { lower: lower.clone(), upper: upper.clone(), ball: None };
        let mut domain = Domain::new(&network, region).unwrap();
        let asked: Vec<Vec<f64>> =
            (0..2).map(|_| (0..graph.output_len()).map(|_| numbers.next()).collect()).collect();
        let Some((units, l, u)) = Units::of(&network, &domain, &asked) else { continue };
        if units.count() == 0 {
            continue;
        }
        random += u32::from(seed % 4 != 0);
        let (mut units, mut known) = (units, (l, u));
        let mut places = places(&network);
        for _ in 0..5 {
            let points: Vec<Vec<f64>> = (0..3)
                .map(|_| {
                    let pick = |(l, u): (&f64, &f64)| {
                        let part = (1.3 * numbers.next()).clamp(-1.0, 1.0);
                        (0.5 * (1.0 - part) * l + 0.5 * (1.0 + part) * u).clamp(*l, *u)
                    };
                    lower.iter().zip(&upper).map(pick).collect()
                })
                .collect();
            let before = places.clone();
            let mut found = Found::new(&units, known, &lower, &upper);
            (0..units.levels.len() - 1).for_each(|at| found.level(at));
            hold(&network, &found, &places, &points, &asked);
            boxes += 1;
            domain = domain.within(lower.clone(), upper.clone());
            domain = domain.clipped(&network, ClipRule::Signs).unwrap();
            for (unit, &(at, i)) in before.iter().enumerate() {
                let (l, u) = (domain.cells[at].lower[i], domain.cells[at].upper[i]);
                if l < 0.0 && u > 0.0 {
                    let room = 1e-9 * (1.0 + units.sizes[unit]);
                    assert!((found.lower[unit] - l).abs() <= room, "{seed}: {unit}");
                    assert!((found.upper[unit] - u).abs() <= room, "{seed}: {unit}");
                }
            }
            if let Some(kept) = found.kept() {
                places = (0..kept.len()).filter(|&unit| kept[unit]).map(|u| before[u]).collect();
                narrowed += 1;
            }
            let (fewer, next) = found.narrowed();
            units = fewer.unwrap_or(units);
            known = next;
            for i in 0..lower.len() {
                let (a, b) = (numbers.next().abs(), numbers.next().abs());
                let wide = upper[i] - lower[i];
                (lower[i], upper[i]) = (lower[i] + 0.4 * a * wide, upper[i] - 0.4 * b * wide);
            }
        }
    }
    assert!(boxes > 200 && narrowed > 100 && random > 4, "{boxes} {narrowed} {random}");
}

/// Replacing nothing leaves rows as they are, replacing all leaves rows over the inputs.
#[test]
fn replaced_rows_are_the_real_ones() {
    for seed in 0..10 {
        let graph = shortcut(seed, 5);
        let cancel = Cancel::new();
        let network = Network::new(&graph, &cancel).unwrap();
        let x = random_input(seed, &graph, 1);
        // Around a point where no sign changes, every unit is replaced.
        let region = Region {
            lower: x.iter().map(|x| x - 1e-7).collect(),
            upper: x.iter().map(|x| x + 1e-7).collect(),
            ball: None,
        };
        let (lower, upper) = (region.lower.clone(), region.upper.clone());
        let domain = Domain::new(&network, region).unwrap();
        let (units, l, u) = Units::of(&network, &domain, &[vec![1.0, 0.0]]).unwrap();
        assert!(l.iter().zip(&u).all(|(l, u)| *l >= 0.0 || *u <= 0.0));
        let mut found = Found::new(&units, (l, u), &lower, &upper);
        (0..units.levels.len() - 1).for_each(|at| found.level(at));
        let (fewer, known) = found.narrowed();
        let fewer = fewer.unwrap();
        assert!(fewer.count() == 0 && known.0.is_empty());
        let rows = fewer.start(fewer.asked(), &[0], false);
        let (low, _) = fewer.range(&rows, 0, &lower, &upper);
        let y = values(&network, &x)[network.output()][0].below();
        assert!(low <= y && y - low < 1e-5, "{low} {y}");
    }
}
