//! Proofs by random trees, slopes and multipliers: sound whatever they say.

mod support;

use aisec_bounds::{BoxNode, BoxProof, Halves, Joint, Norm};
use aisec_checker::Refusal;
use aisec_numeric::Cancel;
use proptest::prelude::*;
use support::{Clause, Numbers, Place, certificate, check, check_exactly, layered, random_proof};

const NORMS: [Norm; 3] = [Norm::Linf, Norm::L2, Norm::L1];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(30) })]

    /// Random trees, slopes and multipliers: what holds with room is accepted, in both arithmetics;
    /// what a point of the region refutes never is.
    #[test]
    fn any_proof_is_sound(seed: u64, size in 0.05..0.8f64) {
        let mut numbers = Numbers(seed);
        let graph = layered(seed, &[2, 4, 3, 2], "relu");
        let norm = NORMS[numbers.below(3)];
        let place = Place::new(vec![numbers.next(), numbers.next()], size, norm);
        let row = vec![1.0, -1.0];
        let mut least = f64::INFINITY;
        for step in 0..400 {
            let mut x = [numbers.next(), numbers.next()];
            if step % 2 == 0 {
                x.iter_mut().for_each(|x| *x = x.signum()); // corners
            }
            let length = match norm {
                Norm::Linf => 1.0,
                Norm::L2 => (x[0] * x[0] + x[1] * x[1]).sqrt(),
                Norm::L1 => x[0].abs() + x[1].abs(),
            }.max(1.0);
            let x: Vec<f64> = (0..2)
                .map(|i| (place.center[i] + size * (1.0 - 1e-12) * x[i] / length).clamp(place.lower[i], place.upper[i]))
                .collect();
            let (low, high) = graph.interval(graph.output(), &x, &x, 1, &Cancel::new()).unwrap();
            least = least.min(high[0] - low[1] + 1e-9);
        }
        let proof = random_proof(&graph, &place, 2, &mut numbers);
        let entries = proof.write(&graph, &place.region(), 2, seed % 2 == 0).unwrap();
        let question = |rhs: f64| -> String {
            let clause: Clause = (vec![row.clone()], vec![rhs]);
            certificate(&graph, &place, &[clause.clone(), clause], &entries)
        };
        let false_ = question(least);
        prop_assert!(matches!(check(&graph, &false_), Err(Refusal::Unproven(_))));
        prop_assert!(matches!(check_exactly(&graph, &false_), Err(Refusal::Unproven(_))));
        // Betas may waste some of the bound: 0.5 each at most, over values below 20.
        let easy = question(least - 400.0);
        prop_assert_eq!(check(&graph, &easy).err(), None);
        prop_assert_eq!(check(&graph, &easy), check_exactly(&graph, &easy));
        // One entry refutes both clauses where neither was split.
        let whole = proof.parts.is_empty() && proof.leaves.iter().all(|leaf| leaf.splits.is_empty());
        let leaves = if whole { 1 } else { proof.ends().len() };
        prop_assert_eq!(check(&graph, &easy).unwrap().cases[0].leaves, leaves);
    }

    /// The same of random trees of boxes.
    #[test]
    fn any_proof_by_boxes_is_sound(seed: u64, size in 0.05..0.8f64, wasteful: bool) {
        let mut numbers = Numbers(seed);
        let activation = ["relu", "tanh"][numbers.below(2)];
        let graph = layered(seed, &[2, 4, 3, 2], activation);
        let place = Place::new(vec![numbers.next(), numbers.next()], size, Norm::Linf);
        let mut least = [f64::INFINITY; 2];
        for _ in 0..300 {
            let x: Vec<f64> =
                (0..2).map(|i| (place.center[i] + size * numbers.next()).clamp(place.lower[i], place.upper[i])).collect();
            let (low, high) = graph.interval(graph.output(), &x, &x, 1, &Cancel::new()).unwrap();
            for k in 0..2 {
                least[k] = least[k].min(high[k] - low[1 - k] + 1e-9);
            }
        }
        // Exact arithmetic takes its time.
        let small = seed % 4 == 0;
        let mut proof = BoxProof { nodes: vec![BoxNode::default()], by_intervals: seed % 2 == 0 };
        let mut open = vec![(0, place.lower.clone(), place.upper.clone(), 0)];
        while let Some((node, lower, upper, depth)) = open.pop() {
            if numbers.below(2) == 0 {
                proof.nodes[node].joint.push(Joint { clause: 0, weights: vec![0.25, 0.75] });
            }
            if depth < (if small { 2 } else { 5 }) && numbers.below(4) > 0 {
                let input = numbers.below(2);
                let at = lower[input] + (0.5 + 0.3 * numbers.next()) * (upper[input] - lower[input]);
                let below = proof.nodes.len();
                proof.nodes[node].halves = Some(Halves { input, at, below, above: below + 1 });
                proof.nodes.extend([BoxNode::default(), BoxNode::default()]);
                let (mut left, mut right) = (upper.clone(), lower.clone());
                (left[input], right[input]) = (at, at);
                open.push((below, lower, left, depth + 1));
                open.push((below + 1, right, upper, depth + 1));
            }
        }
        let entries = proof.write().unwrap();
        // Both rows together, and the second one alone.
        let question = |first: [f64; 2], second: f64| {
            let clauses: Vec<Clause> = vec![
                (vec![vec![1.0, -1.0], vec![-1.0, 1.0]], first.to_vec()),
                (vec![vec![-1.0, 1.0]], vec![second]),
            ];
            certificate(&graph, &place, &clauses, &entries)
        };
        // A point meets the second clause, or both rows of the first one.
        let room = if wasteful { 0.0 } else { 40.0 };
        for text in [question([least[0] - 40.0, 0.0], least[1]), question([least[0], -least[0] + 1.0 + room], least[1] - 40.0)] {
            prop_assert!(matches!(check(&graph, &text), Err(Refusal::Unproven(_))));
            prop_assert!(!small || matches!(check_exactly(&graph, &text), Err(Refusal::Unproven(_))));
        }
        let easy = question([least[0] - 40.0, least[1] + 1.0], least[1] - 40.0);
        prop_assert_eq!(check(&graph, &easy).err(), None);
        prop_assert_eq!(check_exactly(&graph, &easy).err().filter(|_| small), None);
    }
}
