//! Certificates that the usual lines prove: whatever the certifier writes is accepted.

mod support;

use aisec_bounds::{Method, Norm, hex};
use aisec_graph::testing::{random_graph, random_input};
use aisec_graph::{Graph, GraphSpec, Tensor};
use proptest::prelude::*;
use support::{Numbers, Place, certificate, check, check_exactly, layered, plain};

const METHODS: [Method; 3] = [Method::Ibp, Method::CrownIbp, Method::Crown];
const NORMS: [Norm; 3] = [Norm::Linf, Norm::L2, Norm::L1];

/// Rows over the outputs: one against each other, and random ones.
fn rows(outputs: usize, numbers: &mut Numbers) -> Vec<Vec<f64>> {
    let mut rows: Vec<Vec<f64>> = (1..outputs)
        .map(|i| (0..outputs).map(|k| f64::from(i8::from(k == 0) - i8::from(k == i))).collect())
        .collect();
    rows.push((0..outputs).map(|_| numbers.next()).collect());
    rows
}

fn accepted(seed: u64, nodes: usize, size: f64, norm: Norm) -> Result<(), TestCaseError> {
    let graph = random_graph(seed, nodes, 3);
    let rows = rows(3, &mut Numbers(seed));
    let radius = size * if norm == Norm::L1 { 4.0 } else { 1.0 };
    let place = Place::new(random_input(seed, &graph, 1), radius, norm);
    for method in METHODS {
        let text = plain(&graph, &place, &rows, method);
        prop_assert_eq!(check(&graph, &text).err(), None, "{:?} {:?}", method, norm);
    }
    Ok(())
}

/// A sigmoid of what a ReLU holds at zero meets a maximum: whether the others can exceed it, and
/// which line it has, must not hang on the last bit of a bound.
#[test]
fn ties_are_the_same_ties() {
    for norm in NORMS {
        for (seed, nodes, size) in [
            (16_542_017_655_253_995_154, 11, 0.165_443_996_727_240_42),
            (14_988_766_585_856_978_620, 11, 0.017_636_529_379_592_98),
            (12_256_850_900_456_778_333, 11, 0.016_474_915_318_191_053),
        ] {
            accepted(seed, nodes, size, norm).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    /// Whatever the operators, the norm and the method.
    #[test]
    fn plain_certificates_are_accepted(seed: u64, nodes in 0usize..14, size in 0.001..0.3f64) {
        accepted(seed, nodes, size, NORMS[(seed % 3) as usize])?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(30) })]

    /// Exact arithmetic agrees on tiny networks: it proves whatever floats prove.
    #[test]
    fn both_arithmetics_accept(seed: u64, size in 0.01..0.6f64) {
        let activation = ["relu", "tanh", "sigmoid"][(seed % 3) as usize];
        let graph = layered(seed, &[2, 4, 3, 3], activation);
        let mut numbers = Numbers(seed);
        let norm = NORMS[numbers.below(3)];
        let place = Place::new(vec![numbers.next(), numbers.next()], size, norm);
        let rows = rows(3, &mut numbers);
        for method in METHODS {
            let text = plain(&graph, &place, &rows, method);
            let found = check(&graph, &text);
            prop_assert_eq!(found.clone().err(), None);
            prop_assert_eq!(found, check_exactly(&graph, &text));
        }
    }
}

/// A network in the rounding gap: in real arithmetic `y < 0` everywhere, in floats `y > 0`.
#[test]
fn what_only_floats_believe_is_refused() {
    let spec = r#"{"nodes": [
        {"name": "x", "op": "input", "attrs": {"shape": [1]}},
        {"name": "z", "op": "affine", "inputs": [0], "tensors": {"weight": 0, "bias": 1}},
        {"name": "a", "op": "relu", "inputs": [1]},
        {"name": "y", "op": "affine", "inputs": [2], "tensors": {"weight": 2, "bias": 3}}
    ], "output": 3}"#;
    // y = relu(1 + x) - relu(x + tiny) - 1 = -tiny, where 1 + x is rounded up in floats.
    let unit = 2f64.powi(-53);
    for tiny in [2f64.powi(-60), 2f64.powi(-80), 2f64.powi(-200)] {
        let tensors = [
            (vec![2, 1], vec![1.0, 1.0]),
            (vec![2], vec![1.0, tiny]),
            (vec![1, 2], vec![1.0, -1.0]),
            (vec![1], vec![-1.0]),
        ];
        let tensors =
            tensors.into_iter().map(|(shape, x)| Tensor::new(shape, x).unwrap()).collect();
        let graph = Graph::new(GraphSpec::from_json(spec).unwrap(), tensors).unwrap();
        let (lower, upper) = (1.4 * unit, 1.6 * unit);
        assert!(
            -1.0 + (1.0 + upper) - (upper + tiny) > 0.0
                && -1.0 + (1.0 + lower) - (lower + tiny) > 0.0
        );
        let place = Place {
            lower: vec![lower],
            upper: vec![upper],
            center: vec![],
            radius: 0.0,
            norm: Norm::Linf,
        };
        let proof = format!(
            "[{{\"bounds\":{{\"rule\":\"crown\"}}}},{{\"leaf\":[{{\"clause\":0,\"weights\":[\"0x1p+0\"],\"bound\":\"{}\"}}]}}]",
            hex(f64::from_bits(1))
        );
        let above = |rhs: f64| certificate(&graph, &place, &[(vec![vec![1.0]], vec![rhs])], &proof);
        assert!(check(&graph, &above(0.0)).is_err() && check_exactly(&graph, &above(0.0)).is_err());
        assert!(
            check(&graph, &above(-tiny)).is_err() && check_exactly(&graph, &above(-tiny)).is_err()
        );
        assert!(check_exactly(&graph, &above(-tiny.next_up())).is_ok());
        assert!(check(&graph, &above(-1e-13)).is_ok());
    }
}
