//! Plans, buffer reuse, chunks and threads never change a value; gradients are derivatives.

mod common;

use aisec_graph::testing::{random_bent_graph, random_input};
use aisec_graph::{Op, Workspace};
use aisec_numeric::Cancel;
use common::values_of_all_nodes;
use proptest::prelude::*;

/// Random float64 inputs as float32, and a cotangent for them.
fn inputs(seed: u64, graph: &aisec_graph::Graph, batch: usize) -> (Vec<f32>, Vec<f32>) {
    let x = random_input(seed, graph, batch).iter().map(|&v| v as f32).collect();
    let count = batch * graph.output_len();
    let cotangent = (0..count).map(|i| ((i * 7 + 3) % 11) as f32 * 0.3 - 1.5).collect();
    (x, cotangent)
}

#[test]
fn random_graphs_use_every_operator() {
    let mut seen: Vec<&str> = (0..60)
        .flat_map(|seed| {
            let graph = random_bent_graph(seed, 12, 3);
            graph.nodes().iter().map(|node| node.op.name()).collect::<Vec<_>>()
        })
        .collect();
    seen.sort_unstable();
    seen.dedup();
    let mut all = Op::NAMES.to_vec();
    all.sort_unstable();
    assert_eq!(seen, all);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    /// Reused buffers hold what separate buffers hold, at every node.
    #[test]
    fn every_node_has_its_own_value(seed: u64, nodes in 0usize..20) {
        let graph = random_bent_graph(seed, nodes, 3);
        let batch = 1 + (seed % 3) as usize;
        let x = random_input(seed, &graph, batch);
        for (node, expected) in values_of_all_nodes(&graph, &x, batch).iter().enumerate() {
            let value = graph.forward_to(node, &x, batch, &Cancel::new()).unwrap();
            prop_assert_eq!(&value, expected, "node {}", node);
        }
    }

    /// The gradient is the derivative of `cotangent·output` along a random direction.
    #[test]
    fn vjp_is_the_derivative(seed: u64, nodes in 0usize..20) {
        let graph = random_bent_graph(seed, nodes, 3);
        let x = random_input(seed, &graph, 1);
        let direction = random_input(seed ^ 1, &graph, 1);
        let cotangent = [0.7, -1.3, 0.4];
        let along = |t: f64| -> f64 {
            let moved: Vec<f64> = x.iter().zip(&direction).map(|(x, d)| x + t * d).collect();
            graph.forward(&moved, 1).iter().zip(&cotangent).map(|(y, c)| y * c).sum()
        };
        let (value, gradient) = graph.value_and_vjp(&x, 1, &cotangent, &Cancel::new()).unwrap();
        prop_assert_eq!(value, graph.forward(&x, 1));
        let exact: f64 = gradient.iter().zip(&direction).map(|(g, d)| g * d).sum();
        let step = 1e-6;
        let (before, here, after) = (along(-step), along(0.0), along(step));
        let (left, right) = ((here - before) / step, (after - here) / step);
        let tolerance = 1e-4 * (1.0 + exact.abs());
        // At a kink (ReLU at 0, a tie in a maximum) the one-sided derivatives differ.
        if (left - right).abs() < tolerance {
            prop_assert!((exact - (left + right) / 2.0).abs() < tolerance,
                "vjp {}, differences {} and {}", exact, left, right);
        }
    }

    /// float32 stays close to float64.
    #[test]
    fn float32_is_close(seed: u64, nodes in 0usize..20) {
        let graph = random_bent_graph(seed, nodes, 3);
        let (x, _) = inputs(seed, &graph, 2);
        let wide: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
        let exact = graph.forward(&wide, 2);
        let scale = values_of_all_nodes(&graph, &wide, 2)
            .iter()
            .flatten()
            .fold(1.0f64, |scale, value| scale.max(value.abs()));
        for (narrow, exact) in graph.forward(&x, 2).into_iter().zip(exact) {
            prop_assert!((f64::from(narrow) - exact).abs() <= 1e-4 * scale, "{narrow} {exact}");
        }
    }

    /// A sample is bit for bit the same in any batch, position and number of threads, and
    /// through any entry point.
    #[test]
    fn samples_are_independent(seed: u64, nodes in 0usize..20, batch in 1usize..40) {
        let graph = random_bent_graph(seed, nodes, 3);
        let (x, cotangent) = inputs(seed, &graph, batch);
        let (length, out) = (graph.input_len(), graph.output_len());
        let threads = 1 + (seed % 3) as usize;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (outputs, gradients) = pool
            .install(|| graph.value_and_vjp(&x, batch, &cotangent, &Cancel::new()))
            .unwrap();
        prop_assert_eq!(&pool.install(|| graph.forward(&x, batch)), &outputs);
        let mut workspace = Workspace::new();
        let (mut value, mut gradient) = (vec![0.0; out], vec![0.0; length]);
        for sample in (0..batch).rev() {
            let x = &x[sample * length..][..length];
            let cotangent = &cotangent[sample * out..][..out];
            graph.vjp_into(&mut workspace, x, 1, cotangent, &mut value, &mut gradient);
            prop_assert_eq!(&value, &outputs[sample * out..][..out]);
            prop_assert_eq!(&gradient, &gradients[sample * length..][..length]);
            graph.forward_into(&mut workspace, x, 1, &mut value);
            prop_assert_eq!(&value, &outputs[sample * out..][..out]);
        }
    }

    /// One workspace serves any graph, in any order, and stale contents never show.
    #[test]
    fn workspaces_are_only_scratch(seed: u64, nodes in 0usize..20) {
        let mut workspace = Workspace::new();
        for seed in [seed, seed ^ 1, seed] {
            let graph = random_bent_graph(seed, nodes, 3);
            let (x, cotangent) = inputs(seed, &graph, 3);
            let (mut value, mut gradient) = (vec![0.0; 9], vec![0.0; 3 * graph.input_len()]);
            graph.vjp_into(&mut workspace, &x, 3, &cotangent, &mut value, &mut gradient);
            let expected = graph.value_and_vjp(&x, 3, &cotangent, &Cancel::new()).unwrap();
            prop_assert_eq!((value, gradient), expected);
        }
    }

    /// NaN and infinity in one sample neither panic nor leak into its neighbours.
    #[test]
    fn non_finite_samples_stay_alone(seed: u64, nodes in 0usize..20, bad in prop_oneof![
        Just(f32::NAN), Just(f32::INFINITY), Just(f32::NEG_INFINITY)]) {
        let graph = random_bent_graph(seed, nodes, 3);
        let (mut x, cotangent) = inputs(seed, &graph, 3);
        let clean = graph.value_and_vjp(&x, 3, &cotangent, &Cancel::new()).unwrap();
        x[graph.input_len()..][..graph.input_len()].fill(bad);
        let (value, gradient) = graph.value_and_vjp(&x, 3, &cotangent, &Cancel::new()).unwrap();
        for sample in [0, 2] {
            let (value_at, gradient_at) =
                (sample * 3..sample * 3 + 3, sample * graph.input_len()..(sample + 1) * graph.input_len());
            prop_assert_eq!(&value[value_at.clone()], &clean.0[value_at]);
            prop_assert_eq!(&gradient[gradient_at.clone()], &clean.1[gradient_at]);
        }
    }
}

#[test]
fn empty_batches_give_empty_results() {
    let graph = random_bent_graph(3, 8, 3);
    assert!(graph.forward::<f32>(&[], 0).is_empty());
    assert_eq!(graph.value_and_vjp::<f32>(&[], 0, &[], &Cancel::new()).unwrap(), (vec![], vec![]));
}

#[test]
fn cancelled_calls_stop() {
    let graph = random_bent_graph(3, 8, 3);
    let (x, cotangent) = inputs(3, &graph, 2);
    let cancel = Cancel::new();
    cancel.cancel();
    assert_eq!(graph.forward_to(0, &x, 2, &cancel), Err(aisec_graph::Error::Cancelled));
    assert!(graph.value_and_vjp(&x, 2, &cotangent, &cancel).is_err());
}
