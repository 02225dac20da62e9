//! Intermediate bounds by parts: what the search writes is accepted, and nothing else is.

mod support;

use aisec_bounds::{
    Answer, Leaf, NodeBounds, Norm, Parameters, Proof, RootTree, Search, Split, USUAL, decide, hex,
};
use aisec_checker::Refusal;
use aisec_graph::{Graph, GraphSpec, Tensor};
use aisec_numeric::Cancel;
use proptest::prelude::*;
use serde_json::{Value, json};
use support::{Clause, Numbers, Place, certificate, check, check_exactly, layered};

/// `relu(y)` of `y = relu(x1 + x2) + relu(x1 - x2) + relu(x2) + relu(3 - x2)`.
fn wedge() -> Graph {
    let spec = r#"{"nodes": [
        {"name": "x", "op": "input", "attrs": {"shape": [2]}},
        {"name": "z", "op": "affine", "inputs": [0], "tensors": {"weight": 0, "bias": 1}},
        {"name": "a", "op": "relu", "inputs": [1]},
        {"name": "y", "op": "affine", "inputs": [2], "tensors": {"weight": 2, "bias": 3}},
        {"name": "b", "op": "relu", "inputs": [3]},
        {"name": "w", "op": "affine", "inputs": [4], "tensors": {"weight": 4, "bias": 3}}
    ], "output": 5}"#;
    let tensors = [
        (vec![4, 2], vec![1.0, 1.0, 1.0, -1.0, 0.0, 1.0, 0.0, -1.0]),
        (vec![4], vec![0.0, 0.0, 0.0, 3.0]),
        (vec![1, 4], vec![1.0; 4]),
        (vec![1], vec![0.0]),
        (vec![1, 1], vec![1.0]),
    ];
    let tensors = tensors.into_iter().map(|(shape, x)| Tensor::new(shape, x).unwrap()).collect();
    Graph::new(GraphSpec::from_json(spec).unwrap(), tensors).unwrap()
}

/// That `relu(y) > 3.4` over a box where y is at least 3.5: by a bound of y, of which the usual
/// lines show 3.05, and the two signs of `x1 + x2`, with slope 1 at `x2`, all of it.
fn wedge_certificate() -> Value {
    let place = Place {
        lower: vec![0.25, -1.0],
        upper: vec![0.5, 0.2],
        center: vec![],
        radius: 0.0,
        norm: Norm::Linf,
    };
    let leaf = |beta: f64| json!({"leaf": {"betas": [hex(beta)], "slopes": [{"node": 2, "at": [2], "lower": ["0x1p+0"]}]}});
    let lower = [-0.75, 0.05, -1.0, 2.8].map(|x: f64| hex(x - 1e-9));
    let upper = [0.7, 1.5, 0.2, 4.0].map(|x: f64| hex(x + 1e-9));
    let claims = json!([
        {
            "node": 1,
            "lower": lower,
            "upper": upper,
        },
        {
            "node": 3,
            "lower": [hex(3.5 - 1e-8)],
            "upper": [hex(1e3)],
            "by": [{
                "lower": [0],
                "slopes": [],
                "tree": [{"split": [1, 0, "0x0p+0"]}, leaf(1.0), leaf(0.0)],
            }],
        },
    ]);
    let leaf = json!([{"clause": 0, "weights": ["0x1p+0"], "bound": hex(0.1 - 1e-7)}]);
    let proof = json!([{"bounds": {"rule": "crown", "claims": claims}}, {"leaf": leaf}]);
    let text = certificate(&wedge(), &place, &[(vec![vec![1.0]], vec![3.4])], &proof.to_string());
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_bound_by_parts_is_accepted() {
    let text = wedge_certificate().to_string();
    let proven = check(&wedge(), &text).unwrap();
    assert_eq!(proven, check_exactly(&wedge(), &text).unwrap());
    assert!(proven.cases[0].bounds[0] > 0.099);
}

#[test]
fn mutations_are_refused() {
    let good = wedge_certificate();
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut certificate = good.clone();
        change(certificate.pointer_mut("/cases/0/proof/0/bounds/claims/1").unwrap());
        assert_ne!(certificate, good, "the mutation changes nothing");
        let text = certificate.to_string();
        check_exactly(&wedge(), &text).expect_err("exact arithmetic accepts it");
        check(&wedge(), &text).expect_err("the mutation is accepted").to_string()
    };
    let h = |x: f64| json!(hex(x));
    let set = |at: &'static str, to: Value| {
        changed(&move |claim| *claim.pointer_mut(at).unwrap() = to.clone())
    };
    let tree = |change: &dyn Fn(&mut Vec<Value>)| {
        changed(&|claim| change(claim.pointer_mut("/by/0/tree").unwrap().as_array_mut().unwrap()))
    };
    // A bound shifted by 1e-6; slopes, multipliers and splits that leave it unproven.
    for (at, to) in [
        ("/lower/0", h(3.5 + 1e-6)),
        ("/by/0/tree/1/leaf/betas/0", h(0.9)),
        ("/by/0/tree/2/leaf/betas/0", h(1.0)),
        ("/by/0/tree/1/leaf/slopes/0/lower/0", h(0.9)),
        ("/by/0/tree/0/split/1", json!(1)),
        ("/by/0/tree/0/split/2", h(0.25)),
        ("/by/0/tree/0/split/2", h(-0.75)),
    ] {
        let why = set(at, to);
        assert!(why.contains("claimed") && why.contains("proven"), "{at}: {why}");
    }
    // A part that overflows has no bound, and so has the whole.
    for beta in [1e300, 1e308, f64::MAX] {
        for part in ["/by/0/tree/1/leaf/betas/0", "/by/0/tree/2/leaf/betas/0"] {
            assert!(set(part, h(beta)).contains("is proven"), "{part}: {beta:e}");
        }
    }
    // What is out of range, or not there.
    for slope in [-1e-6, 1.0 + 1e-6] {
        let why = set("/by/0/tree/1/leaf/slopes/0/lower/0", h(slope));
        assert!(why.contains("not in [0, 1]"), "{why}");
    }
    assert!(set("/by/0/tree/1/leaf/betas/0", h(-1e-9)).contains("negative"));
    assert!(set("/by/0/tree/1/leaf/betas", json!([h(1.0), h(0.0)])).contains("for 1 splits"));
    assert!(set("/by/0/tree/0/split/1", json!(4)).contains("cannot be split"));
    for node in [3, 4, 99] {
        assert!(set("/by/0/tree/0/split/0", json!(node)).contains("cannot be split"));
    }
    assert!(set("/by/0/lower/0", json!(1)).contains("has 1 elements"));
    assert!(
        changed(&|v| {
            v["by"][0]["slopes"] = json!([{"node": 2, "at": [2], "lower": ["0x1p+0"]}]);
        })
        .contains("belong to the parts")
    );
    // A part is missing, there twice, or the wrong one.
    assert!(tree(&|all| drop(all.pop())).contains("ends before"));
    assert!(tree(&|all| drop(all.remove(1))).contains("ends before"));
    assert!(tree(&|all| drop(all.remove(0))).contains("after the end"));
    assert!(tree(&|all| all.push(all[1].clone())).contains("after the end"));
    assert!(tree(&|all| all.swap(1, 2)).contains("is proven"));
    assert!(tree(&|all| all.clear()).contains("is proven"));
    assert!(tree(&|all| all[1] = json!({"leaf": {"bound": "0x1p+0"}})).contains("not a cert"));
    // Deeper than any proof.
    let deep = tree(&|all| {
        let split = all[0].clone();
        (0..1100).for_each(|_| all.insert(0, split.clone()));
    });
    assert!(deep.contains("one below the other") || deep.contains("ends before"), "{deep}");
}

/// In an empty part multipliers show any bound, in rationals; floats overflow, and what is not a
/// number then is no bound of the whole.
#[test]
fn a_part_without_a_number_proves_nothing() {
    let mut certificate = wedge_certificate();
    let tree = "/cases/0/proof/0/bounds/claims/1/by/0/tree";
    let tree = certificate.pointer_mut(tree).unwrap().as_array_mut().unwrap();
    let with = |betas: [f64; 2]| {
        let mut leaf = tree[1].clone();
        leaf["leaf"]["betas"] = json!(betas.map(hex));
        leaf
    };
    let parts = [json!({"split": [1, 1, "0x0p+0"]}), with([f64::MAX; 2]), with([1.0, 0.0])];
    tree.splice(1..2, parts);
    let text = certificate.to_string();
    assert_eq!(check_exactly(&wedge(), &text).err(), None);
    let why = check(&wedge(), &text).unwrap_err().to_string();
    assert!(why.contains("is proven"), "{why}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]

    /// Random trees, slopes and multipliers: a bound that a point of the region is below is never
    /// proven, and one with room always is.
    #[test]
    fn any_tree_is_sound(seed: u64, size in 0.05..0.8f64, upper: bool, ball: bool) {
        let mut numbers = Numbers(seed);
        let graph = layered(seed, &[2, 4, 3, 2], "relu");
        let norm = if ball { Norm::L2 } else { Norm::Linf };
        let place = Place::new(vec![numbers.next(), numbers.next()], size, norm);
        let (node, element) = (3, numbers.below(3));
        let mut most = f64::NEG_INFINITY;
        let sign = if upper { -1.0 } else { 1.0 };
        for _ in 0..300 {
            let mut x = [numbers.next(), numbers.next()];
            let length = if ball { (x[0] * x[0] + x[1] * x[1]).sqrt().max(1.0) } else { 1.0 };
            (0..2).for_each(|i| {
                x[i] = (place.center[i] + size * (1.0 - 1e-12) * x[i] / length)
                    .clamp(place.lower[i], place.upper[i]);
            });
            let (low, high) = graph.interval(node, &x, &x, 1, &Cancel::new()).unwrap();
            let value = if upper { -low[element] } else { high[element] };
            most = most.max(-value);
        }
        let least = -most; // of what was seen
        let bounds = graph.intervals(&place.lower, &place.upper);
        let tree = |claim: f64| {
            let mut numbers = Numbers(seed ^ 7);
            let (mut lower, mut above) = bounds[node].clone();
            (lower.iter_mut()).zip(&mut above).for_each(|(l, u)| (*l, *u) = (-1e3, 1e3));
            if upper { above[element] = -claim } else { lower[element] = claim }
            let known = |node: usize, (lower, upper): (Vec<f64>, Vec<f64>)| NodeBounds { node, lower, upper };
            let leaves = random_leaves(&mut numbers);
            Proof {
                bounds: vec![known(1, bounds[1].clone()), known(node, (lower, above))],
                trees: vec![RootTree { node, element, upper, leaves }],
                leaves: vec![leaf(Vec::new(), Vec::new(), Vec::new())],
                ..Proof::default()
            }
        };
        let written = |claim: f64| {
            let entries = tree(claim).write(&graph, &place.region(), 1, false).unwrap();
            let clause: Clause = (vec![vec![1.0, -1.0]], vec![-1e4]);
            certificate(&graph, &place, &[clause], &entries)
        };
        let false_ = written(least + 1e-6);
        prop_assert!(matches!(check(&graph, &false_), Err(Refusal::Unproven(_))), "{}", sign);
        prop_assert!(matches!(check_exactly(&graph, &false_), Err(Refusal::Unproven(_))));
        let easy = written(least - 200.0);
        prop_assert_eq!(check(&graph, &easy).err(), None);
        prop_assert_eq!(check(&graph, &easy), check_exactly(&graph, &easy));
    }
}

fn leaf(splits: Vec<Split>, betas: Vec<f64>, slopes: Vec<(usize, Parameters)>) -> Leaf {
    Leaf {
        clause: 0,
        splits,
        slopes,
        betas,
        weights: vec![1.0],
        bound: 1e-3,
        lower: None,
        upper: None,
    }
}

/// The ends of a random tree over the four units of the first layer.
fn random_leaves(numbers: &mut Numbers) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    let mut open: Vec<Vec<Split>> = vec![Vec::new()];
    while let Some(splits) = open.pop() {
        if splits.len() < 4 && numbers.below(4) > 0 {
            let index = numbers.below(4);
            for positive in [false, true] {
                let mut more = splits.clone();
                more.push(Split { node: 1, index, at: 0.0, positive });
                open.push(more);
            }
            continue;
        }
        let slope = |k: usize| if k > 128 { USUAL } else { k as u8 };
        let slopes = (0..4).map(|_| slope(numbers.below(160))).collect();
        let betas = splits.iter().map(|_| (numbers.next() * 0.5).max(0.0)).collect();
        leaves.push(leaf(splits, betas, vec![(2, Parameters::Packed(slopes))]));
    }
    leaves
}

/// A question that takes more than a tree over the whole region: its certificate has bounds by
/// parts, and is accepted.
#[test]
fn what_the_search_writes_is_accepted() {
    for seed in 0..12 {
        let graph = layered(seed, &[8, 32, 32, 16, 2], "relu");
        let mut numbers = Numbers(seed);
        let center: Vec<f64> = (0..8).map(|_| numbers.next()).collect();
        let place = Place::new(center, 0.3, Norm::Linf);
        let value = |x: &[f64]| {
            let y = graph.forward::<f64>(x, 1);
            y[0] - y[1]
        };
        let corners: Vec<f64> = (0..2000)
            .map(|_| {
                let signs = (0..8).map(|i| place.center[i] + 0.3 * numbers.next().signum());
                value(&signs.collect::<Vec<f64>>())
            })
            .collect();
        let (low, high) = corners
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &x| (l.min(x), h.max(x)));
        let rhs = low - 0.15 * (high - low);
        let clause = aisec_bounds::Clause {
            rows: vec![1.0, -1.0],
            rhs_lower: vec![rhs],
            rhs_upper: vec![rhs],
        };
        let how = Search { record: true, most_domains: 3000, ..Search::default() };
        let found = decide(&graph, place.region(), &[clause], &how, &Cancel::new());
        if found.answer != Answer::Refuted {
            continue;
        }
        let entries = found.proof.unwrap().write(&graph, &place.region(), 1, false).unwrap();
        let text = certificate(&graph, &place, &[(vec![vec![1.0, -1.0]], vec![rhs])], &entries);
        assert_eq!(check(&graph, &text).err(), None, "{seed}");
        if entries.contains("\"tree\"") {
            return;
        }
    }
    panic!("none of the questions took long enough");
}
