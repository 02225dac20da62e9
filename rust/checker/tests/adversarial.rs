//! What the checker accepts, and everything it must not.

use aisec_checker::{Claim, Fault, Finding, Metric, check_adversarial};
use aisec_graph::testing::{random_graph, random_input};
use aisec_graph::{Graph, GraphSpec, Tensor};
use aisec_numeric::Cancel;
use proptest::prelude::*;

/// `z0 = x0`, `z1 = x1`, `z2 = x0` over two inputs in [0, 1].
fn compare() -> Graph {
    let spec = r#"{"nodes": [
        {"name": "x", "op": "input", "inputs": [], "tensors": {}, "attrs": {"shape": [2]}},
        {"name": "z", "op": "affine", "inputs": [0], "tensors": {"weight": 0, "bias": 1}, "attrs": {}}
    ], "output": 1}"#;
    let weight = Tensor::new(vec![3, 2], vec![1.0, 0.0, 0.0, 1.0, 1.0, 0.0]).unwrap();
    let bias = Tensor::new(vec![3], vec![0.0; 3]).unwrap();
    Graph::new(GraphSpec::from_json(spec).unwrap(), vec![weight, bias]).unwrap()
}

fn check(metric: Metric, eps: f64, x: [f32; 2], x_adv: [f32; 2], label: i64) -> Finding {
    let claim = Claim { metric, eps, lower: &[0.0, 0.0], upper: &[1.0, 1.0], constraint: None };
    check_adversarial(&compare(), &x, &x_adv, &[label], &claim, &Cancel::new()).unwrap()[0]
}

#[test]
fn a_true_claim_is_accepted() {
    for (metric, eps) in
        [(Metric::Linf, 0.5), (Metric::L2, 0.5), (Metric::L1, 0.5), (Metric::Box, 0.0)]
    {
        let finding = check(metric, eps, [0.5, 0.25], [0.5, 0.75], 0);
        assert_eq!(finding.fault, None, "{metric:?}");
        assert!(finding.margin_upper < 0.0 && finding.margin_upper > -0.2501);
    }
}

#[test]
fn distances_have_no_tolerance() {
    let far = |metric, eps| check(metric, eps, [0.5, 0.25], [0.25, 0.75], 0).fault;
    for (metric, distance) in [(Metric::Linf, 0.5), (Metric::L1, 0.75), (Metric::L0, 2.0)] {
        assert_eq!(far(metric, distance), None);
        assert!(matches!(far(metric, distance.next_down()), Some(Fault::TooFar { .. })));
    }
    // sqrt(0.3125) is not a float64; only its upper neighbour is proven.
    let root = 0.3125f64.sqrt();
    let (low, high) =
        if root * root > 0.3125 { (root.next_down(), root) } else { (root, root.next_up()) };
    assert_eq!(far(Metric::L2, high), None);
    assert!(matches!(far(Metric::L2, low), Some(Fault::TooFar { .. })));
    assert!(matches!(far(Metric::L2, f64::NAN), Some(Fault::TooFar { .. })));
}

#[test]
fn counts_are_of_elements_that_differ() {
    let distance = |x: [f32; 2], x_adv| check(Metric::L0, 9.0, x, x_adv, 0).distance_upper;
    assert_eq!(distance([0.5, 0.25], [0.5, 0.25]), 0.0);
    assert_eq!(distance([0.5, 0.25], [0.5, 0.25f32.next_up()]), 1.0);
    assert_eq!(distance([0.0, 0.25], [1e-45, 1.0]), 2.0);
    assert_eq!(distance([0.0, 0.25], [-0.0, 1.0]), 1.0);
}

#[test]
fn the_box_is_exact() {
    let above = 1f32.next_up();
    let outside = |x_adv| check(Metric::Linf, 9.0, [0.0, 0.5], x_adv, 0).fault;
    assert_eq!(outside([0.0, 1.0]), None);
    assert_eq!(outside([0.0, above]), Some(Fault::OutsideBox { element: 1 }));
    assert_eq!(outside([-1e-45, 1.0]), Some(Fault::OutsideBox { element: 0 }));
    assert_eq!(outside([-0.0, 1.0]), None);
}

#[test]
fn ties_are_not_misclassified() {
    // Classes 0 and 2 always tie, so neither is ever strictly above the other.
    let tie = check(Metric::Linf, 1.0, [0.5, 0.25], [0.5, 0.5], 0);
    assert_eq!(tie.fault, Some(Fault::Margin { margin: tie.margin_upper }));
    assert!(tie.margin_upper >= 0.0);
}

#[test]
fn what_is_not_a_number_is_never_accepted() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for metric in [Metric::Linf, Metric::L2, Metric::L1, Metric::L0, Metric::Box] {
            let finding = check(metric, f64::INFINITY, [0.5, 0.25], [0.5, bad], 0);
            assert_eq!(finding.fault, Some(Fault::NotFinite { element: 1 }));
            assert_eq!(finding.margin_upper, f64::INFINITY);
        }
        for metric in [Metric::Linf, Metric::L2, Metric::L1, Metric::L0] {
            let clean = check(metric, 1.0, [0.5, bad], [0.5, 0.75], 0);
            assert!(matches!(clean.fault, Some(Fault::TooFar { .. })));
        }
        assert_eq!(check(Metric::Box, 1.0, [0.5, bad], [0.5, 0.75], 0).fault, None);
    }
}

#[test]
fn labels_must_be_classes() {
    for label in [-1, 3, i64::MAX, i64::MIN] {
        let fault = check(Metric::Box, 0.0, [0.0, 0.0], [0.0, 1.0], label).fault;
        assert_eq!(fault, Some(Fault::Label { label, classes: 3 }));
    }
}

#[test]
fn arrays_that_do_not_fit_are_refused() {
    let claim =
        Claim { metric: Metric::Linf, eps: 1.0, lower: &[0.0], upper: &[1.0], constraint: None };
    let result = check_adversarial(&compare(), &[0.0; 2], &[0.0; 2], &[0], &claim, &Cancel::new());
    assert!(result.unwrap_err().to_string().contains("do not hold 1 samples"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// The margin's upper bound lies above the float64 forward's margin, and close to it.
    #[test]
    fn margins_enclose_the_forward(seed: u64, nodes in 0usize..14) {
        let graph = random_graph(seed, nodes, 4);
        let x: Vec<f32> = random_input(seed, &graph, 2).iter().map(|&v| v as f32).collect();
        let wide: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
        let logits = graph.forward(&wide, 2);
        let len = graph.input_len();
        let (lower, upper) = (vec![-2.0; len], vec![2.0; len]);
        let claim = Claim { metric: Metric::Linf, eps: 0.0, lower: &lower, upper: &upper, constraint: None };
        let labels = [1, 3];
        let findings = check_adversarial(&graph, &x, &x, &labels, &claim, &Cancel::new()).unwrap();
        for (sample, finding) in findings.iter().enumerate() {
            let z = &logits[sample * 4..sample * 4 + 4];
            let label = labels[sample] as usize;
            let other = (0..4).filter(|&i| i != label).map(|i| z[i]).fold(f64::MIN, f64::max);
            let (margin, size) = (z[label] - other, 1.0 + z[label].abs() + other.abs());
            prop_assert!((finding.margin_upper - margin).abs() < 1e-9 * size);
            prop_assert_eq!(finding.distance_upper, 0.0);
            prop_assert_eq!(finding.fault.is_none(), finding.margin_upper < 0.0);
            if margin > 1e-9 * size {
                prop_assert!(finding.fault.is_some());
            }
        }
    }
}
