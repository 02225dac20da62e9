//! Branch and bound over the values that curves read: exact in the end, and proven to others.

mod support;

use aisec_bounds::{
    Answer, Decision, Leaf, NodeBounds, Norm, Parameters, Proof, Search, Split, decide, hex,
};
use aisec_checker::Refusal;
use aisec_graph::Graph;
use aisec_numeric::Cancel;
use proptest::prelude::*;
use serde_json::{Value, json};
use support::{Clause, Numbers, Place, certificate, check, check_exactly, layered};

const CURVES: [&str; 12] = [
    "sigmoid", "tanh", "exp", "square", "cube", "sin", "cos", "erf", "softplus", "elu", "silu",
    "gelu",
];

/// Those that rationals are good for.
const EXACTLY: [&str; 2] = ["sigmoid", "tanh"];

const ROW: [f64; 2] = [1.0, -1.0];

fn value(graph: &Graph, x: &[f64]) -> f64 {
    let y = graph.forward::<f64>(x, 1);
    ROW[0] * y[0] + ROW[1] * y[1]
}

/// The least value over a box of two inputs, from a fine grid and steps from its best points, and
/// the largest seen.
fn least(graph: &Graph, place: &Place) -> (f64, f64) {
    const SIDE: usize = 61;
    let width = |i: usize| place.upper[i] - place.lower[i];
    let point = |a: usize, b: usize| {
        let part = |k: usize| k as f64 / (SIDE - 1) as f64;
        vec![place.lower[0] + part(a) * width(0), place.lower[1] + part(b) * width(1)]
    };
    let all: Vec<Vec<f64>> = (0..SIDE * SIDE).map(|k| point(k / SIDE, k % SIDE)).collect();
    let mut seen: Vec<(f64, Vec<f64>)> = all.into_iter().map(|x| (value(graph, &x), x)).collect();
    seen.sort_by(|a, b| a.0.total_cmp(&b.0));
    let most = seen.last().unwrap().0;
    let mut best = seen[0].0;
    for (mut height, mut x) in seen.into_iter().take(12) {
        let mut step = 1.0 / SIDE as f64;
        while step > 1e-9 {
            let moves = [(0, 1.0), (0, -1.0), (1, 1.0), (1, -1.0)].map(|(i, sign)| {
                let mut moved = x.clone();
                moved[i] = (x[i] + sign * step * width(i)).clamp(place.lower[i], place.upper[i]);
                (value(graph, &moved), moved)
            });
            let lowest = moves.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
            if lowest.0 < height {
                (height, x) = lowest;
            } else {
                step *= 0.5;
            }
        }
        best = best.min(height);
    }
    (best, most)
}

fn search(graph: &Graph, place: &Place, rhs: f64, most_domains: usize) -> Decision {
    let clause =
        aisec_bounds::Clause { rows: ROW.to_vec(), rhs_lower: vec![rhs], rhs_upper: vec![rhs] };
    let search = Search { most_domains, record: true, effort: 1e7, ..Search::default() };
    decide(graph, place.region(), &[clause], &search, &Cancel::new())
}

/// The certificate of a refutation.
fn written(graph: &Graph, place: &Place, rhs: f64, proof: &Proof) -> String {
    let entries = proof.write(graph, &place.region(), 1, true).unwrap();
    let clause: Clause = (vec![ROW.to_vec()], vec![rhs]);
    certificate(graph, place, &[clause], &entries)
}

fn entries(certificate: &Value) -> Vec<Value> {
    certificate["cases"][0]["proof"].as_array().unwrap().clone()
}

/// From both sides: what is a little below the least value is refuted, and others agree; what is not
/// below it never is.
#[test]
fn complete_is_exact() {
    let (mut most, mut open) = (0, 0);
    for seed in 0..72 {
        let curve = CURVES[seed as usize % CURVES.len()];
        let mut numbers = Numbers(seed);
        let sizes: &[usize] = if seed % 2 == 0 { &[2, 3, 2] } else { &[2, 3, 2, 2] };
        let graph = layered(seed, sizes, curve);
        let place = Place::new(vec![numbers.next(), numbers.next()], 0.6, Norm::Linf);
        let (low, high) = least(&graph, &place);
        let above = low + 1e-9 * (1.0 + low.abs());
        assert!(search(&graph, &place, above, 100).answer != Answer::Refuted, "{curve}");
        let rhs = low - 0.02 * (high - low);
        let found = search(&graph, &place, rhs, 6000);
        let spent = (found.domains, found.bound);
        assert!(!matches!(found.answer, Answer::Met(_)), "{seed}, {curve}: {spent:?}");
        if found.answer != Answer::Refuted {
            open += 1;
            continue;
        }
        most = most.max(found.domains);
        let text = written(&graph, &place, rhs, &found.proof.unwrap());
        assert_eq!(check(&graph, &text).err(), None, "{seed}, {curve}");
        if EXACTLY.contains(&curve) && found.domains < 40 {
            assert_eq!(check_exactly(&graph, &text).err(), None, "{seed}, {curve}");
        }
    }
    assert!(most > 20, "{most}: nothing had to be split");
    assert!(open <= 2, "{open}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    /// Random trees, points of splitting, lines and multipliers prove nothing that a point refutes.
    #[test]
    fn any_tree_is_sound(
        seed: u64,
        curve in prop::sample::select(CURVES.to_vec()),
        size in 0.05..1.0f64,
    ) {
        let mut numbers = Numbers(seed);
        let graph = layered(seed, &[2, 3, 2], curve);
        let place = Place::new(vec![numbers.next(), numbers.next()], size, Norm::Linf);
        let (low, high) = least(&graph, &place);
        prop_assume!(high - low < 1e4);
        let proof = random_tree(&graph, &place, &mut numbers);
        let false_ = written(&graph, &place, low + 1e-6 * (1.0 + low.abs()), &proof);
        prop_assert!(matches!(check(&graph, &false_), Err(Refusal::Unproven(_))));
        prop_assert!(check_exactly(&graph, &false_).is_err());
        // Multipliers of at most a half, over values that are no larger than these.
        let reach: f64 = graph.intervals(&place.lower, &place.upper).iter()
            .flat_map(|(l, u)| l.iter().chain(u).map(|x| x.abs())).fold(1.0, f64::max);
        let easy = written(&graph, &place, low - 40.0 * reach - 40.0 * (high - low), &proof);
        prop_assert_eq!(check(&graph, &easy).err(), None);
        prop_assert!(!EXACTLY.contains(&curve) || check_exactly(&graph, &easy).is_ok());
    }
}

/// Changes of certificates by splits at some value: some that none survives, others that may do no
/// harm to a single one.
#[test]
fn mutations() {
    let (mut shifts, mut crossings) = ([0, 0], [0, 0]);
    for seed in 0..48 {
        let curve = ["sigmoid", "tanh", "silu", "exp"][seed as usize % 4];
        let mut numbers = Numbers(seed);
        let graph = layered(seed, &[2, 3, 2], curve);
        let place = Place::new(vec![numbers.next(), numbers.next()], 1.0, Norm::Linf);
        let (low, high) = least(&graph, &place);
        let rhs = low - 0.005 * (high - low);
        let found = search(&graph, &place, rhs, 1000);
        if found.answer != Answer::Refuted {
            continue;
        }
        let text = written(&graph, &place, rhs, &found.proof.unwrap());
        let bound = check(&graph, &text).unwrap().cases[0].bounds[0];
        let good: Value = serde_json::from_str(&text).unwrap();
        let all = entries(&good);
        let is_leaf = |i: usize| all.get(i).is_some_and(|entry| entry.get("leaf").is_some());
        let refused = |change: &dyn Fn(&mut Vec<Value>)| {
            let mut other = good.clone();
            let mut changed = all.clone();
            change(&mut changed);
            other["cases"][0]["proof"] = json!(changed);
            check(&graph, &other.to_string()).is_err()
        };
        let leaves: Vec<usize> = (0..all.len()).filter(|&i| is_leaf(i)).collect();
        for &leaf in &leaves {
            assert!(refused(&|all| drop(all.remove(leaf))), "{seed}: a child is missing");
        }
        let more = bound + 2.0 * (high - low) + 1.0;
        assert!(refused(&|all| all[leaves[0]]["leaf"][0]["bound"] = json!(hex(more))), "{seed}");
        for &leaf in leaves.iter().filter(|_| EXACTLY.contains(&curve)) {
            let slopes = all[leaf]["leaf"][0]["slopes"].as_array().cloned().unwrap_or_default();
            for (k, part) in slopes.iter().enumerate() {
                for side in ["lower", "upper"].into_iter().filter(|side| part.get(side).is_some()) {
                    let steep = |all: &mut Vec<Value>| {
                        all[leaf]["leaf"][0]["slopes"][k][side][0] = json!(hex(1.01));
                    };
                    assert!(refused(&steep), "{seed}: no line of the curve is so steep");
                }
            }
        }
        // One half is everything, and was not proven so; halves change places.
        for at in (0..all.len()).filter(|&i| all[i].get("split").is_some()) {
            for far in [1e3, -1e3] {
                shifts[0] += 1;
                shifts[1] += usize::from(refused(&|all| all[at]["split"][2] = json!(hex(far))));
            }
            if is_leaf(at + 1) && is_leaf(at + 2) {
                crossings[0] += 1;
                crossings[1] += usize::from(refused(&|all| all.swap(at + 1, at + 2)));
            }
        }
    }
    assert!(shifts[0] > 40 && 10 * shifts[1] > 7 * shifts[0], "{shifts:?}");
    assert!(crossings[0] > 10 && 10 * crossings[1] > 7 * crossings[0], "{crossings:?}");
}

/// A tree of splits at random places, with random touching points and multipliers.
fn random_tree(graph: &Graph, place: &Place, numbers: &mut Numbers) -> Proof {
    let everything = graph.intervals(&place.lower, &place.upper);
    let (node, at) = (1, 2);
    let (lower, upper) = everything[node].clone();
    let width = graph.nodes()[node].shape[0];
    let mut leaves = Vec::new();
    let mut open: Vec<Vec<Split>> = vec![Vec::new()];
    while let Some(splits) = open.pop() {
        if splits.len() < 5 && numbers.below(4) > 0 {
            let index = numbers.below(width);
            let part = 0.6 * numbers.next() + 0.5;
            let limit = (lower[index] + part * (upper[index] - lower[index])) as f32;
            for positive in [false, true] {
                let mut more = splits.clone();
                more.push(Split { node, index, at: f64::from(limit), positive });
                open.push(more);
            }
            continue;
        }
        let points = (0..2 * width).map(|k| {
            let i = k % width;
            lower[i] + 0.5 * (numbers.next() + 1.0) * (upper[i] - lower[i])
        });
        leaves.push(Leaf {
            clause: 0,
            slopes: vec![(at, Parameters::Each(points.collect()))],
            betas: splits.iter().map(|_| (numbers.next() * 0.5).max(0.0)).collect(),
            splits,
            weights: vec![1.0],
            bound: f64::from_bits(2),
            lower: None,
            upper: None,
        });
    }
    Proof { bounds: vec![NodeBounds { node, lower, upper }], leaves, ..Proof::default() }
}
