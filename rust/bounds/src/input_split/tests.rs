//! Soundness and agreement of the two ways to bound, and of the search itself, on random networks.

use aisec_graph::{Graph, GraphSpec, Tensor};
use aisec_numeric::Cancel;
use aisec_numeric::rounding::{add_up, mul_down, mul_up, sub_up};
use proptest::prelude::*;

use super::bounder::Bounder;
use super::form::Form;
use super::general::General;
use super::reduced::{Known, Reduced, Scratch};
use super::*;
use crate::margin::share;

/// A small generator.
struct Numbers(u64);

impl Numbers {
    /// In [-1, 1).
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as f64 / (1u64 << 30) as f64 - 1.0
    }

    fn vec(&mut self, n: usize) -> Vec<f64> {
        (0..n).map(|_| self.next()).collect()
    }

    fn below(&mut self, n: usize) -> usize {
        (((self.next() + 1.0) / 2.0 * n as f64) as usize).min(n - 1)
    }
}

/// `inputs` inputs shifted by a constant, some layers of `activation` with a residual addition
/// where widths allow it, and `outputs` outputs.
fn network(seed: u64, inputs: usize, widths: &[usize], outputs: usize, activation: &str) -> Graph {
    let mut numbers = Numbers(seed);
    let mut nodes = vec![
        format!(r#"{{"name":"x","op":"input","attrs":{{"shape":[{inputs}]}}}}"#),
        r#"{"name":"shift","op":"add_const","inputs":[0],"tensors":{"value":0}}"#.to_owned(),
    ];
    let mut tensors = vec![Tensor::new(vec![inputs], numbers.vec(inputs)).unwrap()];
    let (mut last, mut len) = (1, inputs);
    let mut affine = |nodes: &mut Vec<String>, from: usize, len: usize, width: usize| {
        let at = tensors.len();
        let scale = 2.0 / (len as f64).sqrt();
        let weight = numbers.vec(width * len).iter().map(|w| w * scale).collect();
        tensors.push(Tensor::new(vec![width, len], weight).unwrap());
        tensors.push(Tensor::new(vec![width], numbers.vec(width)).unwrap());
        nodes.push(format!(
            r#"{{"name":"n{}","op":"affine","inputs":[{from}],"tensors":{{"weight":{at},"bias":{}}}}}"#,
            nodes.len(),
            at + 1
        ));
        nodes.len() - 1
    };
    for &width in widths {
        let mut z = affine(&mut nodes, last, len, width);
        if width == len {
            nodes
                .push(format!(r#"{{"name":"n{}","op":"add","inputs":[{z},{last}]}}"#, nodes.len()));
            z = nodes.len() - 1;
        }
        nodes.push(format!(r#"{{"name":"n{}","op":"{activation}","inputs":[{z}]}}"#, nodes.len()));
        (last, len) = (nodes.len() - 1, width);
    }
    let output = affine(&mut nodes, last, len, outputs);
    let spec = format!(r#"{{"nodes":[{}],"output":{output}}}"#, nodes.join(","));
    Graph::new(GraphSpec::from_json(&spec).unwrap(), tensors).unwrap()
}

fn root(graph: &Graph, lower: &[f64], upper: &[f64], rows: &[f64]) -> Known {
    let region = Region::cuboid(lower, upper).unwrap();
    let found = Form::of(graph, &region, rows, &Cancel::new()).unwrap();
    let (form, bounds) = found.expect("it is a ReLU network");
    Known { form: Arc::new(form), lower: bounds.0.into(), upper: bounds.1.into() }
}

/// Asserts that the planes lie below the rows at a point, everything rounded the safe way.
fn assert_below(graph: &Graph, planes: &crate::Planes, rows: &[f64], x: &[f64]) {
    let (low, high) = graph.interval(graph.output(), x, x, 1, &Cancel::new()).unwrap();
    for (at, row) in rows.chunks_exact(graph.output_len()).enumerate() {
        let most = row
            .iter()
            .zip(low.iter().zip(&high))
            .fold(0.0, |sum, (&a, (&l, &h))| add_up(sum, mul_up(a, if a > 0.0 { h } else { l })));
        let plane = &planes.coefficients[at * x.len()..][..x.len()];
        // What is left must not be negative: `most - constant - Σ a·x`, rounded up.
        let room =
            plane.iter().zip(x).fold(sub_up(most, planes.constants[at]), |room, (&a, &x)| {
                sub_up(room, mul_down(a, x))
            });
        assert!(room >= 0.0, "row {at} at {x:?}: {room:e}");
        assert!(planes.bounds[at] <= most);
    }
}

/// In deep networks the two ways choose other lines where both signs of a unit are as far, and
/// either may come out ahead on a row; on average neither does.
#[test]
fn bounds_of_deep_networks_are_as_good_as_crown_on_average() {
    let cancel = Cancel::new();
    let (mut sum, mut count) = (0.0, 0.0);
    for seed in 0..100 {
        let widths: &[usize] = if seed % 2 == 0 { &[9, 9, 9] } else { &[20, 13, 12, 6] };
        let inputs = 1 + seed as usize % 4;
        let graph = network(seed, inputs, widths, 3, "relu");
        let rows = Numbers(seed ^ 1).vec(4 * 3);
        let (lower, upper) = (vec![-1.0; inputs], vec![1.0; inputs]);
        let known = root(&graph, &lower, &upper, &rows);
        let prepared = Prepared::new(&graph, &cancel);
        let analysis =
            Analysis { prepared: &prepared, method: Method::Crown, block_bytes: share(None) };
        let general = General { analysis, rows: &rows };
        let reduced = Reduced.planes(&known, &lower, &upper, &mut Scratch::default()).unwrap();
        let whole = general.planes(&general::Known::default(), &lower, &upper, &mut None).unwrap();
        for (a, b) in reduced.bounds.iter().zip(&whole.bounds) {
            sum += (a - b) / b.abs().max(1.0);
            count += 1.0;
        }
    }
    assert!(sum / count > -0.01, "{}", sum / count);
}

fn middle(lower: &[f64], upper: &[f64]) -> Vec<f64> {
    lower.iter().zip(upper).map(|(l, u)| l + 0.5 * (u - l)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    /// Parts of parts of a box, with what they inherit: planes hold at every point, also those
    /// of weighted sums; over the whole box of one layer they are those of CROWN over the graph.
    #[test]
    fn planes_hold_in_parts_of_a_box(
        seed in any::<u64>(),
        inputs in 1..5usize,
        widths in prop_oneof![Just(vec![7]), Just(vec![9, 9, 9]), Just(vec![20, 13, 12, 6])],
        depth in 0..14usize,
    ) {
        let graph = network(seed, inputs, &widths, 3, "relu");
        let mut numbers = Numbers(seed ^ 1);
        let rows = numbers.vec(4 * 3);
        let (mut lower, mut upper) = (vec![-1.0; inputs], vec![1.0; inputs]);
        let mut known = root(&graph, &lower, &upper, &rows);
        let units = known.form.units();
        let cancel = Cancel::new();
        let prepared = Prepared::new(&graph, &cancel);
        let analysis =
            Analysis { prepared: &prepared, method: Method::Crown, block_bytes: share(None) };
        let general = General { analysis, rows: &rows };
        let mut inherited = general::Known::default();
        let (mut scratch, mut state) = (Scratch::default(), None);
        for level in 0..=depth {
            let planes = Reduced.planes(&known, &lower, &upper, &mut scratch).unwrap();
            let whole = general.planes(&inherited, &lower, &upper, &mut state).unwrap();
            if level == 0 && widths.len() == 1 {
                let pairs = planes.coefficients.iter().zip(&whole.coefficients);
                for (a, b) in pairs.chain(planes.constants.iter().zip(&whole.constants)) {
                    prop_assert!((a - b).abs() <= 1e-9 * b.abs().max(1.0), "{} {}", a, b);
                }
                // Intervals know less than rows that go on through units whose sign is known.
                for (a, b) in planes.bounds.iter().zip(&whole.bounds) {
                    prop_assert!(*a >= b - 1e-9 * b.abs().max(1.0), "{} {}", a, b);
                }
            }
            let weights: Vec<f64> = numbers.vec(4).iter().map(|w| w.abs()).collect();
            let joint = Reduced.combined(&known, &weights, &lower, &upper, &mut scratch).unwrap();
            let joint_whole =
                general.combined(&inherited, &weights, &lower, &upper, &mut state).unwrap();
            // The weighted row itself is only known up to rounding: the slack of a few ulps.
            let mut row = vec![0.0; 3];
            for (given, weight) in rows.chunks_exact(3).zip(&weights) {
                row.iter_mut().zip(given).for_each(|(sum, a)| *sum += weight * a);
            }
            for _ in 0..12 {
                let x: Vec<f64> = lower
                    .iter()
                    .zip(&upper)
                    .map(|(l, u)| (l + (numbers.next() * 0.8 + 0.5).clamp(0.0, 1.0) * (u - l)).clamp(*l, *u))
                    .collect();
                assert_below(&graph, &planes, &rows, &x);
                assert_below(&graph, &whole, &rows, &x);
                for joint in [&joint, &joint_whole] {
                    let mut lifted = joint.clone();
                    lifted.constants[0] -= 1e-13 * (1.0 + joint.constants[0].abs());
                    lifted.bounds[0] -= 1e-13 * (1.0 + joint.bounds[0].abs());
                    assert_below(&graph, &lifted, &row, &x);
                }
                let values = known.form.values(&x);
                let outputs = graph.forward(&x, 1);
                for (at, (value, row)) in values.iter().zip(rows.chunks_exact(3)).enumerate() {
                    let (_, slopes) = graph.value_and_vjp(&x, 1, row, &cancel).unwrap();
                    for (a, b) in Reduced.gradient(&known, &x, at).iter().zip(&slopes) {
                        prop_assert!((a - b).abs() < 1e-9 * (1.0 + b.abs()));
                    }
                    let exact: f64 = row.iter().zip(&outputs).map(|(a, y)| a * y).sum();
                    prop_assert!((value - exact).abs() < 1e-9 * (1.0 + exact.abs()));
                }
            }
            known = Reduced.narrowed(&known, &lower, &upper, &mut scratch);
            inherited = general.narrowed(&inherited, &lower, &upper, &mut state);
            let (axis, at) = (numbers.below(inputs), middle(&lower, &upper));
            if numbers.next() > 0.0 { upper[axis] = at[axis] } else { lower[axis] = at[axis] }
        }
        prop_assert!(known.form.units() <= units);
    }
}

#[test]
fn units_are_eliminated_on_small_boxes() {
    let graph = network(3, 2, &[30, 30, 30], 2, "relu");
    let (lower, upper) = (vec![0.4, 0.4], vec![0.4001, 0.4001]);
    let known = root(&graph, &lower, &upper, &[1.0, -1.0]);
    let mut scratch = Scratch::default();
    Reduced.planes(&known, &lower, &upper, &mut scratch).unwrap();
    let after = Reduced.narrowed(&known, &lower, &upper, &mut scratch);
    assert_eq!(known.form.units(), 90);
    assert!(after.form.units() < 5, "{} left", after.form.units());
    assert!(Reduced.bytes(&after) < Reduced.bytes(&known) / 50);
}

fn clauses(rows: Vec<f64>, rhs: Vec<f64>, sizes: &[usize]) -> Clauses {
    Clauses { rows, rhs, sizes: sizes.to_vec() }
}

const LIMITS: Limits = Limits { memory: 1 << 28, record: false };

fn search(graph: &Graph, clauses: Clauses, limits: Limits) -> InputSplit {
    let n = graph.input_len();
    let region = Region::cuboid(&vec![-1.0; n], &vec![1.0; n]).unwrap();
    InputSplit::new(graph, &region, clauses, limits, &Cancel::new()).unwrap()
}

/// The least value of `y_0 - y_1` on a grid, which the exact minimum is not far below.
fn grid_minimum(graph: &Graph) -> f64 {
    let at = |i: usize| (i as f64 / 100.0 - 1.0).clamp(-1.0, 1.0);
    let points: Vec<f64> = (0..201 * 201).flat_map(|i| [at(i / 201), at(i % 201)]).collect();
    let outputs = graph.forward(&points, 201 * 201);
    outputs.chunks_exact(2).map(|y| y[0] - y[1]).fold(f64::INFINITY, f64::min)
}

fn points_reach(graph: &Graph, stopped: &Stopped, rhs: f64) -> bool {
    let Stopped::Points(points) = stopped else { return false };
    points.iter().all(|x| {
        let y = graph.forward(x, 1);
        x.iter().all(|x| x.abs() <= 1.0) && y[0] - y[1] <= rhs + 1e-9
    })
}

#[test]
fn refutes_what_is_out_of_reach_and_finds_what_is_not() {
    for (activation, seeds) in [("relu", 0..12), ("tanh", 0..2)] {
        for seed in seeds {
            let graph = network(seed, 2, &[8, 8], 2, activation);
            let least = grid_minimum(&graph);
            let ask = |rhs: f64| {
                let mut search = search(&graph, clauses(vec![1.0, -1.0], vec![rhs], &[1]), LIMITS);
                let stopped = search.advance(&graph, 10_000, &Cancel::new());
                (stopped, search)
            };
            let (stopped, done) = ask(least - 0.1);
            assert_eq!(stopped, Stopped::Refuted, "{activation} {seed}");
            assert_eq!((done.waiting(), done.slack()), (0, f64::INFINITY));
            let (stopped, _) = ask(least + 1e-3);
            assert!(points_reach(&graph, &stopped, least + 1e-3), "{activation} {seed}");
        }
    }
}

/// Everything that a search tells of itself, except its proof.
fn traits(search: &InputSplit) -> (usize, usize, u64, Vec<usize>) {
    (search.domains(), search.waiting(), search.slack().to_bits(), search.open())
}

#[test]
fn neither_threads_nor_pauses_nor_memory_change_the_answer() {
    let graph = network(5, 3, &[16, 16, 16], 2, "relu");
    let least = {
        // All points whose coordinates are multiples of 1/20, corners included.
        let at = |i: usize| f64::from(i as u32) / 20.0 - 1.0;
        let points: Vec<f64> =
            (0..41 * 41 * 41).flat_map(|i| [at(i / 1681), at(i / 41 % 41), at(i % 41)]).collect();
        let outputs = graph.forward(&points, 41 * 41 * 41);
        outputs.chunks_exact(2).map(|y| y[0] - y[1]).fold(f64::INFINITY, f64::min)
    };
    let question = || clauses(vec![1.0, -1.0], vec![least - 0.04], &[1]);
    let on = |threads: usize, waves: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut search = search(&graph, question(), LIMITS);
            let mut steps = Vec::new();
            loop {
                match search.advance(&graph, waves, &Cancel::new()) {
                    Stopped::Paused => steps.push(traits(&search)),
                    Stopped::Refuted => return (steps, traits(&search)),
                    other => panic!("{other:?}"),
                }
            }
        })
    };
    let (steps, end) = on(1, 1);
    assert!(end.0 > 40 && steps.len() > 1, "{end:?}");
    assert_eq!(on(3, 1), (steps, end.clone()));
    assert_eq!(on(2, 100_000).1, end);

    let small = Limits { memory: 40_000, record: false };
    let mut crowded = search(&graph, question(), small);
    assert_eq!(crowded.advance(&graph, 100_000, &Cancel::new()), Stopped::Refuted);
    let tiny = Limits { memory: 300, record: false };
    let mut full = search(&graph, question(), tiny);
    assert_eq!(full.advance(&graph, 100_000, &Cancel::new()), Stopped::Memory);
    assert!(full.waiting() > 0 && full.slack() < 0.0);
}

#[test]
fn a_cancelled_search_loses_no_box() {
    let graph = network(5, 3, &[16, 16], 2, "relu");
    let question = || clauses(vec![1.0, -1.0], vec![-9.0], &[1]);
    let mut search = search(&graph, question(), LIMITS);
    let cancelled = Cancel::new();
    cancelled.cancel();
    assert_eq!(search.advance(&graph, 5, &cancelled), Stopped::Paused);
    assert_eq!((search.waiting(), search.domains(), search.open()), (1, 0, vec![0]));
}

#[test]
fn a_box_without_an_inside_ends_the_search() {
    let graph = network(2, 2, &[4], 2, "relu");
    let x = [0.25, 0.5];
    let y = graph.forward(&x, 1);
    // Met within rounding only, so neither refuted nor, where it is just missed, found.
    let rhs = y[0] - y[1] - 1e-13;
    let region = Region::cuboid(&x, &x).unwrap();
    let question = clauses(vec![1.0, -1.0], vec![rhs], &[1]);
    let mut search = InputSplit::new(&graph, &region, question, LIMITS, &Cancel::new()).unwrap();
    assert_eq!(search.advance(&graph, 10, &Cancel::new()), Stopped::Precision);
}

/// Follows a recorded tree as a checker does, and asserts that it covers everything.
fn follow(
    question: &Clauses,
    proof: &BoxProof,
    at: usize,
    lower: &[f64],
    upper: &[f64],
    seen: &mut usize,
) {
    *seen += 1;
    let node = &proof.nodes[at];
    for joint in &node.joint {
        assert_eq!(joint.weights.len(), question.sizes[joint.clause]);
        assert!(joint.weights.iter().all(|&w| w >= 0.0) && joint.weights.iter().any(|&w| w > 0.0));
    }
    if let Some(halves) = node.halves {
        let (input, cut) = (halves.input, halves.at);
        assert!(lower[input] < cut && cut < upper[input]);
        let (mut left, mut right) = (upper.to_vec(), lower.to_vec());
        (left[input], right[input]) = (cut, cut);
        follow(question, proof, halves.below, lower, &left, seen);
        follow(question, proof, halves.above, &right, upper, seen);
    }
}

#[test]
fn the_recorded_tree_is_whole() {
    for activation in ["relu", "tanh"] {
        let graph = network(11, 2, &[10, 10], 2, activation);
        let least = grid_minimum(&graph);
        // A conjunction that cannot be met, and a row that cannot.
        let rows = vec![1.0, -1.0, -1.0, 1.0, 1.0, -1.0];
        let rhs = vec![0.3, -0.35, least - 0.05];
        let question = || clauses(rows.clone(), rhs.clone(), &[2, 1]);
        let recorded = Limits { memory: 1 << 28, record: true };
        let mut search = search(&graph, question(), recorded);
        assert_eq!(search.advance(&graph, 100_000, &Cancel::new()), Stopped::Refuted);
        let proof = search.proof().expect("it was asked for");
        assert_eq!(proof.nodes.len(), search.domains());
        let mut seen = 0;
        follow(&question(), proof, 0, &[-1.0; 2], &[1.0; 2], &mut seen);
        assert_eq!(seen, proof.nodes.len());
        assert!(proof.nodes.iter().any(|node| !node.joint.is_empty()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    /// Which units are eliminated makes no difference, in parts of parts of a box: the checker of
    /// certificates, who knows the graph alone, finds the same planes.
    #[test]
    fn planes_do_not_depend_on_what_is_eliminated(
        seed in any::<u64>(),
        inputs in 1..5usize,
        widths in prop_oneof![Just(vec![7]), Just(vec![9, 9, 9]), Just(vec![20, 13, 12, 6])],
        depth in 0..14usize,
    ) {
        let graph = network(seed, inputs, &widths, 3, "relu");
        let mut numbers = Numbers(seed ^ 1);
        let rows = numbers.vec(4 * 3);
        let (mut lower, mut upper) = (vec![-1.0; inputs], vec![1.0; inputs]);
        let mut known = root(&graph, &lower, &upper, &rows);
        let mut whole = known.clone();
        let (mut scratch, mut other) = (Scratch::default(), Scratch::default());
        for _ in 0..=depth {
            let planes = Reduced.planes(&known, &lower, &upper, &mut scratch).unwrap();
            let plain = Reduced.planes(&whole, &lower, &upper, &mut other).unwrap();
            let pairs = planes.coefficients.iter().zip(&plain.coefficients);
            let pairs = pairs.chain(planes.constants.iter().zip(&plain.constants));
            for (a, b) in pairs.chain(planes.bounds.iter().zip(&plain.bounds)) {
                prop_assert!((a - b).abs() <= 1e-8 * (1.0 + b.abs()), "{} {}", a, b);
            }
            known = Reduced.narrowed(&known, &lower, &upper, &mut scratch);
            let (low, high) = (other.lower.as_slice().into(), other.upper.as_slice().into());
            whole = Known { form: whole.form, lower: low, upper: high };
            let (axis, at) = (numbers.below(inputs), middle(&lower, &upper));
            if numbers.next() > 0.0 { upper[axis] = at[axis] } else { lower[axis] = at[axis] }
        }
    }
}
