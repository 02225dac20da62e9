//! Rows side by side are carried back as rows one after another are.

use aisec_graph::beside::{Part, Rows, one_after_another, side_by_side};
use aisec_graph::testing::{random_bent_graph, random_input};
use aisec_graph::{Operator, Site};
use aisec_numeric::conv::Unit;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn rows_side_by_side_agree_with_rows_alone(seed: u64, nodes in 1usize..16, rows in 1usize..20) {
        let graph = random_bent_graph(seed, nodes, 3);
        let width = rows.next_multiple_of(8);
        for (index, node) in graph.nodes().iter().enumerate().skip(1) {
            if !node.op.is_affine() || node.inputs.is_empty() {
                continue;
            }
            let (shapes, len) = (graph.input_shapes(index), node.len());
            let site = |batch: usize| Site { batch, inputs: &shapes, output: &node.shape };
            let lens: Vec<usize> = (0..shapes.len()).map(|i| site(1).input_len(i)).collect();
            let back = |cotangent: &[f64]| -> Vec<Vec<f64>> {
                let mut grads: Vec<Vec<f64>> = lens.iter().map(|&n| vec![0.0; n * rows]).collect();
                let mut views: Vec<&mut [f64]> = grads.iter_mut().map(Vec::as_mut_slice).collect();
                node.op.vjp(&site(rows), &[], &[], cotangent, &mut views);
                grads
            };
            let mut numbers = random_input(seed ^ 7, &graph, 60).into_iter().cycle();
            let alive: Vec<bool> = (0..len).map(|_| numbers.next().unwrap() > -0.4).collect();
            let wanted: Vec<Vec<bool>> = lens
                .iter()
                .map(|&n| (0..n).map(|_| numbers.next().unwrap() > -0.4).collect())
                .collect();
            let counts = |at: usize| if alive[at % len] { 1.0 } else { 0.0 };
            let cotangent: Vec<f64> =
                (0..rows * len).map(|at| counts(at) * numbers.next().unwrap()).collect();
            let mut values = vec![0.0; len * width];
            side_by_side(&cotangent, width, &mut values);
            let expected = back(&cotangent);
            for masked in [false, true] {
                // What was there before is replaced.
                let mut parts: Vec<Vec<f64>> = lens.iter().map(|&n| vec![7.0; n * width]).collect();
                let views = parts.iter_mut().zip(&wanted);
                let mut views: Vec<Part> = views
                    .map(|(values, wanted)| Part { values, wanted: masked.then_some(wanted) })
                    .collect();
                let rows_beside = Rows { values: &values, alive: masked.then_some(&alive) };
                node.op.vjp_beside(&site(width), rows_beside, &mut views);
                for (slot, part) in parts.iter().enumerate() {
                    let part = one_after_another(part, width);
                    for (at, (&a, &b)) in part.iter().zip(&expected[slot]).enumerate() {
                        let skipped = masked && !wanted[slot][at % lens[slot]] && a == 0.0;
                        let close = (a - b).abs() < 1e-9 * (1.0 + b.abs());
                        prop_assert!(skipped || close, "{}: {} is not {}", node.op.name(), a, b);
                    }
                    prop_assert!(part[rows * lens[slot]..].iter().all(|&a| a == 0.0));
                }
            }

            let units: Vec<Unit> = (0..rows)
                .map(|row| Unit {
                    element: (seed as usize).wrapping_add(row * 5) % len,
                    factor: if row % 2 == 0 { 1.0 } else { -1.0 },
                })
                .collect();
            let mut part = vec![7.0; lens[0] * width];
            if lens.len() == 1 && node.op.units_beside(&site(width), &units, &mut part) {
                let mut cotangent = vec![0.0; rows * len];
                for (row, unit) in units.iter().enumerate() {
                    cotangent[row * len + unit.element] = unit.factor;
                }
                let part = one_after_another(&part, width);
                for (a, b) in part.iter().zip(&back(&cotangent)[0]) {
                    prop_assert!((a - b).abs() < 1e-12, "{}: {} is not {}", node.op.name(), a, b);
                }
                prop_assert!(part[rows * lens[0]..].iter().all(|&a| a == 0.0));
            }
        }
    }
}
