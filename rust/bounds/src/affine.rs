//! Domains in which every neuron's sign is given: there the network is affine, and the best
//! multipliers are those of a linear program over the input.

use aisec_graph::Activation;

use crate::ascent::Ascent;
use crate::lanes::{Lane, Workspace, evaluate};
use crate::layout::{Layout, Role, Step};
use crate::simplex::Program;

/// Most numbers in the program's matrix.
const LARGEST: usize = 1 << 22;

/// Inputs carried forward together.
const POINTS: usize = 16;

/// The multipliers of the cuts and the weights of the rows with the largest bound; `None` where
/// the network is not affine, the region no box, or the program too large.
pub(crate) fn affine_optimum(
    layout: &Layout,
    ascent: &mut Ascent,
    workspace: &mut Workspace,
) -> Option<(Vec<f32>, Vec<f32>)> {
    let inputs = layout.lower.len();
    let lane = &ascent.lane;
    let (cuts, rows) = (lane.cuts.len(), lane.rows.len());
    let hinges =
        layout.activations.iter().all(|free| matches!(free.kind, Activation::Hinge { .. }));
    let selects = |step: &Step| matches!(step.role, Role::Select { .. } | Role::Pair(_));
    let selects = layout.steps.iter().any(selects);
    let size = (inputs + 1) * (cuts + rows);
    if !hinges || selects || cuts < layout.elements || !layout.region.is_box() || size > LARGEST {
        return None;
    }
    // What the cut elements and the rows are at the lower corner, and with one input moved.
    let mut samples: Vec<Vec<f64>> = Vec::with_capacity(inputs + 1);
    let moved: Vec<usize> = (0..=inputs).collect();
    for some in moved.chunks(POINTS) {
        let mut points = Vec::with_capacity(some.len() * inputs);
        for &at in some {
            let first = points.len();
            points.extend_from_slice(&layout.lower);
            if at > 0 {
                points[first + at - 1] = layout.upper[at - 1];
            }
        }
        let mut lanes: Vec<Lane> = some
            .iter()
            .map(|_| {
                let mut copy = Lane::new(layout, ascent.lane.rows, ascent.lane.weights.clone());
                copy.lines = ascent.lane.lines.clone();
                copy
            })
            .collect();
        let mut views: Vec<&mut Lane> = lanes.iter_mut().collect();
        evaluate(layout, &mut views, &points, workspace);
        for lane in &lanes {
            let signed = ascent.lane.cuts.iter().map(|cut| {
                let at = layout.activations[cut.activation].first + cut.at;
                f64::from(cut.sign() * lane.values[at])
            });
            let residuals = lane.residuals.iter().map(|&r| -f64::from(r));
            samples.push(signed.chain(residuals).collect());
        }
    }
    // Variables: how far each input has moved, in [0, 1], and the largest residual `s`; rows:
    // each cut is at least zero, and `s` at least each residual.
    let columns = inputs + 1;
    let (mut matrix, mut rhs) = (vec![0.0; (cuts + rows) * columns], Vec::new());
    let mut reach = 1.0;
    for row in 0..cuts + rows {
        let start = samples[0][row];
        let mut size = start.abs();
        for input in 0..inputs {
            let slope = samples[input + 1][row] - start;
            matrix[row * columns + input] = slope;
            size += slope.abs();
        }
        if row >= cuts {
            matrix[row * columns + inputs] = 1.0;
            reach = f64::max(reach, 2.0 * size);
        }
        rhs.push(-start);
    }
    let mut cost = vec![0.0; columns];
    cost[inputs] = 1.0;
    let (mut lower, mut upper) = (vec![0.0; columns], vec![1.0; columns]);
    (lower[inputs], upper[inputs]) = (-reach, reach);
    let program = Program { cost, rows: matrix, rhs, lower, upper };
    let found = program.multipliers()?;
    let (betas, weights) = found.split_at(cuts);
    let total: f64 = weights.iter().sum();
    if total > 1e-9 * betas.iter().sum::<f64>() {
        let scaled = |values: &[f64]| values.iter().map(|m| (m / total) as f32).collect();
        return Some((scaled(betas), if rows == 1 { vec![1.0] } else { scaled(weights) }));
    }
    // The cuts contradict each other without any row: `least` is how far.
    let sum = |column: usize| -> f64 {
        (0..cuts).map(|cut| betas[cut] * program.rows[cut * columns + column]).sum()
    };
    let shortfall: f64 = betas.iter().zip(&program.rhs).map(|(beta, rhs)| beta * rhs).sum();
    let least = shortfall - (0..inputs).map(|input| sum(input).max(0.0)).sum::<f64>();
    let factor = 2.0 * reach / least;
    let enough = least > 0.0 && factor.is_finite();
    let betas = betas.iter().map(|beta| (beta * factor) as f32).collect();
    enough.then(|| (betas, vec![1.0 / rows as f32; rows]))
}
