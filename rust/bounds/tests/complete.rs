//! Branch and bound never refutes what a point meets, and its proofs cover the region.

use aisec_bounds::{Answer, Clause, Decision, Norm, Region, Search, decide};
use aisec_graph::Graph;
use aisec_graph::testing::{random_graph, random_input};
use aisec_numeric::Cancel;
use proptest::prelude::*;

fn clause(rows: &[f64], rhs: f64) -> Clause {
    let ends = vec![rhs; rows.len() / 3];
    Clause { rows: rows.to_vec(), rhs_lower: ends.clone(), rhs_upper: ends }
}

fn decided(graph: &Graph, region: &Region, clauses: &[Clause], most_domains: usize) -> Decision {
    let search = Search { most_domains, record: true, effort: 1e7, ..Search::default() };
    decide(graph, region.clone(), clauses, &search, &Cancel::new())
}

/// Outputs of the region's corners and of points between.
fn outputs(graph: &Graph, seed: u64, region: &Region) -> Vec<Vec<f64>> {
    let len = graph.input_len();
    let mix = random_input(seed ^ 1, graph, 60);
    let points = mix.chunks_exact(len).enumerate().map(|(at, mix)| {
        let ends = region.lower().iter().zip(region.upper());
        let at_corner = at % 2 == 0;
        ends.zip(mix)
            .map(|((l, u), t)| {
                let t = if at_corner { f64::from(*t > 0.0) } else { 0.5 + 0.5 * t };
                (l + t * (u - l)).clamp(*l, *u)
            })
            .collect::<Vec<f64>>()
    });
    points.map(|x| graph.forward::<f64>(&x, 1)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(120) })]

    #[test]
    fn what_a_point_meets_is_never_refuted(
        seed: u64,
        nodes in 0usize..14,
        radius in prop_oneof![Just(0.0), 0.01..0.3f64, 0.5..2.0f64],
        below in -1.0..0.3f64,
    ) {
        let graph = random_graph(seed, nodes, 3);
        let center = random_input(seed, &graph, 1);
        let lower: Vec<f64> = center.iter().map(|c| c - radius).collect();
        let upper: Vec<f64> = center.iter().map(|c| c + radius).collect();
        let region = Region::cuboid(&lower, &upper).unwrap();
        let found = outputs(&graph, seed, &region);
        let (first, second) = ([1.0, -1.0, 0.0], [1.0, 0.0, -1.0]);
        let value = |row: &[f64; 3], y: &[f64]| -> f64 { row.iter().zip(y).map(|(a, y)| a * y).sum() };
        let least = |row: &[f64; 3]| {
            found.iter().map(|y| value(row, y)).fold(f64::INFINITY, f64::min)
        };
        let both = found.iter().map(|y| value(&first, y).max(value(&second, y)));
        let both = both.fold(f64::INFINITY, f64::min);
        let spread = 1.0 + found.iter().flatten().fold(0.0, |m: f64, y| m.max(y.abs()));
        let rhs = |least: f64| least + below * spread;
        let clauses = [
            clause(&first, rhs(least(&first))),
            clause(&[first, second].concat(), rhs(both)),
        ];
        for (number, one) in clauses.iter().enumerate() {
            let decision = decided(&graph, &region, std::slice::from_ref(one), 40);
            let met = below > 1e-9;
            prop_assert!(!(met && decision.answer == Answer::Refuted), "clause {}", number);
            if let Answer::Met(x) = &decision.answer {
                prop_assert!(x.iter().zip(&lower).all(|(x, l)| x >= l));
                prop_assert!(x.iter().zip(&upper).all(|(x, u)| x <= u));
                let y = graph.forward::<f64>(x, 1);
                for row in one.rows.chunks_exact(3).zip(&one.rhs_upper) {
                    let value: f64 = row.0.iter().zip(&y).map(|(a, y)| a * y).sum();
                    prop_assert!(value <= row.1 + 1e-9 * spread);
                }
            }
        }
        // Both clauses at once: the tree is shared, the leaves are not.
        let decision = decided(&graph, &region, &clauses, 200);
        if decision.answer == Answer::Refuted {
            prop_assert!(decision.bound > 0.0);
            let proof = decision.proof.unwrap();
            for number in 0..2 {
                let ends = proof.ends().into_iter().filter(|end| end.0 == number);
                let covered: f64 = ends.map(|end| 0.5f64.powi(end.1 as i32)).sum();
                prop_assert_eq!(covered, 1.0);
            }
            for leaf in &proof.leaves {
                prop_assert!(leaf.bound > 0.0 && leaf.betas.len() == leaf.splits.len());
                prop_assert!(leaf.betas.iter().chain(&leaf.weights).all(|&x| x >= 0.0));
                prop_assert!(leaf.weights.iter().any(|&w| w > 0.0));
            }
            let meant = graph.without_maxima().unwrap_or(&graph);
            for bounds in &proof.bounds {
                for y in outputs_of(meant, bounds.node, seed, &region) {
                    for (i, y) in y.iter().enumerate() {
                        let room = 1e-9 * (1.0 + y.abs());
                        prop_assert!(bounds.lower[i] <= y + room && *y <= bounds.upper[i] + room);
                    }
                }
            }
        } else {
            prop_assert!(decision.bound <= 0.0);
        }
    }

    /// Cut with a ball, fewer inputs are left: what the box refutes the ball refutes.
    #[test]
    fn balls_are_covered(seed: u64, nodes in 0usize..10, norm in prop_oneof![Just(Norm::L2), Just(Norm::L1)]) {
        let graph = random_graph(seed, nodes, 3);
        let center = random_input(seed, &graph, 1);
        let (low, high) = (vec![-9.0; center.len()], vec![9.0; center.len()]);
        let region = Region::ball(&low, &high, &center, 0.2, norm).unwrap();
        let y = graph.forward::<f64>(&center, 1);
        let decision = decided(&graph, &region, &[clause(&[1.0, -1.0, 0.0], y[0] - y[1])], 40);
        prop_assert!(decision.answer != Answer::Refuted, "the centre meets it");
    }
}

fn outputs_of(graph: &Graph, node: usize, seed: u64, region: &Region) -> Vec<Vec<f64>> {
    let mix = random_input(seed ^ 2, graph, 10);
    let points = mix.chunks_exact(graph.input_len()).map(|mix| {
        let ends = region.lower().iter().zip(region.upper());
        ends.zip(mix).map(|((l, u), t)| l + (0.5 + 0.5 * t) * (u - l)).collect::<Vec<f64>>()
    });
    points.map(|x| graph.forward_to::<f64>(node, &x, 1, &Cancel::new()).unwrap()).collect()
}

/// The queue gives way to the newest domains when memory is short, and then gives up.
#[test]
fn memory_and_cancelling_end_the_search() {
    let graph = random_graph(11, 12, 3);
    let center = random_input(11, &graph, 1);
    let lower: Vec<f64> = center.iter().map(|c| c - 1.0).collect();
    let upper: Vec<f64> = center.iter().map(|c| c + 1.0).collect();
    let region = Region::cuboid(&lower, &upper).unwrap();
    let y = graph.forward::<f64>(&center, 1);
    let one = clause(&[1.0, -1.0, 0.0], y[0] - y[1] - 1e-6);
    let cancel = Cancel::new();
    cancel.cancel();
    let ended =
        decide(&graph, region.clone(), std::slice::from_ref(&one), &Search::default(), &cancel);
    assert_eq!(ended.answer, Answer::Open(aisec_bounds::Why::Timeout));
    assert!(ended.bound <= 0.0);
}
