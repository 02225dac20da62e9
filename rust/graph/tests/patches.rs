//! Operators on parts of images do what the whole does there.

use aisec_graph::testing::{random_bent_graph, random_input};
use aisec_graph::{Interval, Operator, Patch, Relaxation, Site};
use proptest::prelude::*;

/// A patch of a `[C, H, W]` node, any of them by turns.
fn patch(shape: &[usize], seed: u64) -> Patch {
    let pick = |n: usize, salt: u64| {
        (seed.wrapping_mul(0x9e37_79b9).rotate_left(salt as u32) % n as u64) as usize
    };
    let (top, left) = (pick(shape[1], 3), pick(shape[2], 17));
    let height = 1 + pick(shape[1] - top, 29);
    let width = 1 + pick(shape[2] - left, 41);
    Patch { top, left, height, width }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    /// The gradient of something that lives in a patch lives in the patches the operator names,
    /// with the same values; and so do the inputs that a relaxation selects.
    #[test]
    fn parts_agree_with_the_whole(seed: u64, nodes in 1usize..16) {
        let graph = random_bent_graph(seed, nodes, 3);
        for (index, node) in graph.nodes().iter().enumerate().skip(1) {
            let shapes = graph.input_shapes(index);
            let site = Site { batch: 1, inputs: &shapes, output: &node.shape };
            if node.shape.len() != 3 {
                continue;
            }
            let patch = patch(&node.shape, seed);
            let Some(part) = node.op.crop(&site, &patch) else { continue };
            prop_assert_eq!(part.inputs.len(), node.inputs.len());
            let cotangent: Vec<f64> = random_input(seed ^ 5, &graph, 60)
                .into_iter()
                .cycle()
                .take(patch.shape(&node.shape).iter().product())
                .collect();
            let whole = Patch::whole(&node.shape).unwrap();
            let mut spread = vec![0.0; node.len()];
            patch.add_beside(&cotangent, &whole, 1, &mut spread);
            if node.op.is_affine() {
                let mut grads: Vec<Vec<f64>> =
                    (0..shapes.len()).map(|slot| vec![0.0; site.input_len(slot)]).collect();
                let mut views: Vec<&mut [f64]> = grads.iter_mut().map(Vec::as_mut_slice).collect();
                node.op.vjp(&site, &[], &[], &spread, &mut views);
                let part_shapes: Vec<Vec<usize>> =
                    part.inputs.iter().zip(&shapes).map(|(p, shape)| p.shape(shape)).collect();
                let inputs: Vec<&[usize]> = part_shapes.iter().map(Vec::as_slice).collect();
                let part_shape = patch.shape(&node.shape);
                let part_site = Site { batch: 1, inputs: &inputs, output: &part_shape };
                let mut parts: Vec<Vec<f64>> =
                    (0..inputs.len()).map(|slot| vec![0.0; part_site.input_len(slot)]).collect();
                let mut views: Vec<&mut [f64]> = parts.iter_mut().map(Vec::as_mut_slice).collect();
                part.op.vjp(&part_site, &[], &[], &cotangent, &mut views);
                for slot in 0..inputs.len() {
                    let mut back = vec![0.0; site.input_len(slot)];
                    let all = Patch::whole(shapes[slot]).unwrap();
                    part.inputs[slot].add_beside(&parts[slot], &all, 1, &mut back);
                    for (a, b) in back.iter().zip(&grads[slot]) {
                        prop_assert!((a - b).abs() < 1e-9 * (1.0 + b.abs()), "{}", node.op.name());
                    }
                }
            } else {
                let values = random_input(seed, &graph, 200);
                let lower = &values[..site.input_len(0)];
                let upper: Vec<f64> = lower.iter().map(|l| l + 0.3).collect();
                let input = Interval { lower, upper: &upper };
                if let Relaxation::Select { lower_index, .. } = node.op.relax(&site, &vec![input; shapes.len()]) {
                    for picked in patch.gather(&node.shape, &lower_index) {
                        prop_assert!(part.inputs[0].locate(shapes[0], picked).is_some());
                    }
                }
            }
        }
    }
}
