//! Max pooling in branch and bound: exact, and proven to others.

mod support;

use aisec_bounds::{Answer, Decision, Method, Norm, Search, Tuning, decide};
use aisec_graph::{Graph, GraphSpec, Tensor};
use aisec_numeric::Cancel;
use serde_json::{Value, json};
use support::{Clause, Numbers, Place, bounds, certificate, check, check_exactly};

const ROW: [f64; 2] = [1.0, -1.0];

/// Two inputs, an image of 3·3, perhaps a ReLU, pooling, and two outputs.
fn pooled(seed: u64, attrs: &Value, relu: bool) -> Graph {
    let mut numbers = Numbers(seed);
    let mut tensor = |shape: &[usize], scale: f64| {
        let values = (0..shape.iter().product::<usize>()).map(|_| numbers.next() * scale);
        Tensor::new(shape.to_vec(), values.collect()).unwrap()
    };
    let mut nodes = vec![
        json!({ "name": "x", "op": "input", "attrs": { "shape": [2] } }),
        json!({ "name": "a", "op": "affine", "inputs": [0], "tensors": { "weight": 0, "bias": 1 } }),
        json!({ "name": "r", "op": "reshape", "inputs": [1], "attrs": { "shape": [1, 3, 3] } }),
    ];
    if relu {
        nodes.push(json!({ "name": "p", "op": "relu", "inputs": [2] }));
    }
    let last = nodes.len();
    nodes.push(json!({ "name": "m", "op": "max_pool2d", "inputs": [last - 1], "attrs": attrs }));
    let kernel = attrs["kernel"][0].as_u64().unwrap() as usize;
    let stride = attrs["stride"][0].as_u64().unwrap() as usize;
    let padding = 2 * attrs["padding"][0].as_u64().unwrap() as usize;
    let side = (3 + padding - kernel) / stride + 1;
    let count = side * side;
    nodes.push(
        json!({ "name": "f", "op": "reshape", "inputs": [last], "attrs": { "shape": [count] } }),
    );
    nodes.push(json!({
        "name": "y", "op": "affine", "inputs": [last + 1], "tensors": { "weight": 2, "bias": 3 },
    }));
    let tensors = vec![
        tensor(&[9, 2], 1.0),
        tensor(&[9], 0.5),
        tensor(&[2, count], 1.0 / (count as f64).sqrt()),
        tensor(&[2], 0.1),
    ];
    let spec = json!({ "nodes": nodes, "output": last + 2 }).to_string();
    Graph::new(GraphSpec::from_json(&spec).unwrap(), tensors).unwrap()
}

/// Kernel, stride and padding, and whether a ReLU comes before.
const KINDS: [(usize, usize, usize, bool); 6] = [
    (2, 1, 0, true),
    (2, 1, 0, false),
    (3, 3, 0, true),
    (3, 3, 0, false),
    (3, 2, 1, true),
    (2, 1, 1, true),
];

/// The least and the largest of the values on a fine grid, the least improved by steps in all
/// directions: of a function that is linear in pieces.
fn extremes(graph: &Graph, place: &Place) -> (f64, f64) {
    const SIDE: usize = 101;
    let value = |x: &[f64]| {
        let y = graph.forward::<f64>(x, 1);
        ROW[0] * y[0] + ROW[1] * y[1]
    };
    let along = |i: usize, part: f64| place.lower[i] + part * (place.upper[i] - place.lower[i]);
    let part = |k: usize| k as f64 / (SIDE - 1) as f64;
    let point = |k: usize| vec![along(0, part(k / SIDE)), along(1, part(k % SIDE))];
    let mut seen: Vec<(f64, Vec<f64>)> =
        (0..SIDE * SIDE).map(point).map(|x| (value(&x), x)).collect();
    seen.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut best, most) = (seen[0].0, seen.last().unwrap().0);
    for (mut height, mut x) in seen.into_iter().take(8) {
        let mut step = 1.0 / SIDE as f64;
        while step > 1e-10 {
            let moved = |turn: u32| {
                let angle = f64::from(turn) * std::f64::consts::TAU / 64.0;
                let to = [angle.cos(), angle.sin()];
                let x: Vec<f64> = (0..2)
                    .map(|i| {
                        let width = place.upper[i] - place.lower[i];
                        (x[i] + step * to[i] * width).clamp(place.lower[i], place.upper[i])
                    })
                    .collect();
                (value(&x), x)
            };
            let lowest = (0..64).map(moved).min_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
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

fn search(graph: &Graph, place: &Place, rhs: f64) -> Decision {
    let clause =
        aisec_bounds::Clause { rows: ROW.to_vec(), rhs_lower: vec![rhs], rhs_upper: vec![rhs] };
    let search = Search { most_domains: 20_000, record: true, effort: 1e7, ..Search::default() };
    decide(graph, place.region(), &[clause], &search, &Cancel::new())
}

/// From both sides, and others agree; the same proof of a question that a point answers is refused.
#[test]
fn complete_is_exact() {
    let mut open = 0;
    for seed in 0..48 {
        let (kernel, stride, padding, relu) = KINDS[seed as usize % KINDS.len()];
        let attrs = json!({
            "kernel": ([kernel; 2]), "stride": ([stride; 2]), "padding": ([padding; 4]), "dilation": [1, 1],
        });
        let graph = pooled(seed, &attrs, relu);
        let mut numbers = Numbers(seed ^ 7);
        let center = vec![numbers.next(), numbers.next()];
        let place = Place::new(center, 0.3 + 0.3 * numbers.next().abs(), Norm::Linf);
        let (low, high) = extremes(&graph, &place);
        let above = low + 1e-7 * (1.0 + low.abs());
        assert!(search(&graph, &place, above).answer != Answer::Refuted, "{seed}");
        let rhs = low - 1e-4 * (high - low) - 1e-6;
        let found = search(&graph, &place, rhs);
        let spent = (found.domains, found.bound);
        assert!(!matches!(found.answer, Answer::Met(_)), "{seed}");
        // Overlapping windows give signs that all but contradict each other: one may stay open.
        let refuted = found.answer == Answer::Refuted;
        assert!(refuted || stride < kernel, "{seed}: {spent:?} of {}", high - low);
        open += usize::from(!refuted);
        if !refuted {
            continue;
        }
        let entries = found.proof.unwrap().write(&graph, &place.region(), 1, true).unwrap();
        let clause: Clause = (vec![ROW.to_vec()], vec![rhs]);
        let text = certificate(&graph, &place, &[clause], &entries);
        assert_eq!(check(&graph, &text).err(), None, "{seed}");
        if found.domains < 20 {
            assert_eq!(check_exactly(&graph, &text).err(), None, "{seed}");
        }
        let mut changed: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(changed["cases"][0]["proof"][0], json!({ "maxima": "relu" }));
        let met: Clause = (vec![ROW.to_vec()], vec![above]);
        assert!(check(&graph, &certificate(&graph, &place, &[met], &entries)).is_err(), "{seed}");
        let proof = changed["cases"][0]["proof"].as_array_mut().unwrap();
        proof.insert(1, json!({ "maxima": "relu" }));
        assert!(check(&graph, &changed.to_string()).is_err(), "{seed}: named twice");
    }
    assert!(open <= 2, "{open}");
}

/// Bounds with slopes never come out below those without, nor above what is there.
#[test]
fn slopes_help() {
    for seed in 0..48 {
        let (kernel, stride, padding, relu) = KINDS[seed as usize % KINDS.len()];
        let attrs = json!({
            "kernel": ([kernel; 2]), "stride": ([stride; 2]), "padding": ([padding; 4]), "dilation": [1, 1],
        });
        let graph = pooled(seed, &attrs, relu);
        let place = Place::new(vec![0.1, -0.2], 0.4, Norm::Linf);
        let (low, _) = extremes(&graph, &place);
        let rows = [ROW.to_vec()];
        let crown = bounds(&graph, &place, &rows, Method::Crown)[0];
        let tuning = Tuning { stop: false, ..Tuning::default() };
        let alpha = bounds(&graph, &place, &rows, Method::AlphaCrown(tuning))[0];
        assert!(crown <= alpha && alpha <= low + 1e-9 * (1.0 + low.abs()), "{seed}");
    }
}
