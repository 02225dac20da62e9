//! Domains in which every neuron's sign is given: there the network is affine, and the best
//! multipliers are those of a linear program over the input.

use aisec_graph::Activation;

use crate::ascent::Ascent;
use crate::lanes::{Lane, Workspace, evaluate};
use crate::layout::{Layout, Role, Step};
use crate::region::Norm;
use crate::simplex::Program;

/// Most numbers in the program's matrix.
const LARGEST: usize = 1 << 22;

/// Inputs carried forward together.
const POINTS: usize = 16;

/// Times a ball is cut where a program's point is outside.
const TANGENTS: usize = 40;

/// Points outside a ball by less, relative to its radius, are as good as inside.
const OUTSIDE: f64 = 1e-7;

/// What a linear program over a domain found.
pub(crate) struct Optimum {
    /// Multipliers of the cuts and weights of the rows with the largest bound.
    pub betas: Vec<f32>,
    pub weights: Vec<f32>,
    /// Where the worst row is least; `None` where the cuts contradict each other.
    pub point: Option<Vec<f32>>,
}

/// `None` where the network is not affine, or the program too large or in the way of numbers.
pub(crate) fn affine_optimum(
    layout: &Layout,
    ascent: &mut Ascent,
    workspace: &mut Workspace,
) -> Option<Optimum> {
    let inputs = layout.lower.len();
    let lane = &ascent.lane;
    let (cuts, rows) = (lane.cuts.len(), lane.rows.len());
    let hinges =
        layout.activations.iter().all(|free| matches!(free.kind, Activation::Hinge { .. }));
    let selects = |step: &Step| matches!(step.role, Role::Select { .. } | Role::Pair(_));
    let selects = layout.steps.iter().any(selects);
    let size = (2 * inputs + 1) * (cuts + rows);
    if !hinges || selects || cuts < layout.elements || size > LARGEST {
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
    // Variables: moves of the inputs, and the largest residual `s`; rows: each cut is at least zero,
    // and `s` at least each residual, and the ball.
    let moves = Moves::of(layout);
    let columns = moves.each.len() + 1;
    let (mut matrix, mut rhs) = (vec![0.0; (cuts + rows) * columns], Vec::new());
    let mut reach = 1.0;
    for row in 0..cuts + rows {
        let mut start = samples[0][row];
        let slope = |input: usize| samples[input + 1][row] - samples[0][row];
        start += (0..inputs).map(|input| slope(input) * moves.start[input]).sum::<f64>();
        let mut size = start.abs();
        for (at, one) in moves.each.iter().enumerate() {
            let along = one.sign * slope(one.input);
            matrix[row * columns + at] = along;
            size += along.abs() * one.upper.abs().max(one.lower.abs());
        }
        if row >= cuts {
            matrix[row * columns + columns - 1] = 1.0;
            reach = f64::max(reach, 2.0 * size);
        }
        rhs.push(-start);
    }
    let mut cost = vec![0.0; columns];
    cost[columns - 1] = 1.0;
    let mut lower: Vec<f64> = moves.each.iter().map(|one| one.lower).collect();
    let mut upper: Vec<f64> = moves.each.iter().map(|one| one.upper).collect();
    lower.push(-reach);
    upper.push(reach);
    let mut program = Program { cost, rows: matrix, rhs, lower, upper };
    moves.limit(&mut program);
    let mut solution = program.solve()?;
    for _ in 0..TANGENTS {
        let Some(point) = &solution.point else { break };
        if !moves.cut(&mut program, point) {
            break;
        }
        solution = program.solve()?;
    }
    let point = solution.point.as_ref().map(|point| moves.input(point));
    let (betas, others) = solution.multipliers.split_at(cuts);
    let (weights, around) = others.split_at(rows);
    let total: f64 = weights.iter().sum();
    if total > 1e-9 * betas.iter().sum::<f64>() {
        let scaled = |values: &[f64]| values.iter().map(|m| (m / total) as f32).collect();
        let weights = if rows == 1 { vec![1.0] } else { scaled(weights) };
        return Some(Optimum { betas: scaled(betas), weights, point });
    }
    // The cuts contradict each other without any row: `least` is how far.
    let others = (0..cuts).chain(cuts + rows..program.rhs.len());
    let others: Vec<(usize, f64)> = others.zip(betas.iter().chain(around).copied()).collect();
    let sum = |column: usize| -> f64 {
        others.iter().map(|&(row, m)| m * program.rows[row * columns + column]).sum()
    };
    let shortfall: f64 = others.iter().map(|&(row, m)| m * program.rhs[row]).sum();
    let most = |column: usize| {
        let sum = sum(column);
        (sum * program.lower[column]).max(sum * program.upper[column])
    };
    let least = shortfall - (0..columns - 1).map(most).sum::<f64>();
    let factor = 2.0 * reach / least;
    let enough = least > 0.0 && factor.is_finite();
    let betas = betas.iter().map(|beta| (beta * factor) as f32).collect();
    enough.then(|| Optimum { betas, weights: vec![1.0 / rows as f32; rows], point })
}

/// How a program moves the inputs, in units of their ranges: up from one corner of a box; up and
/// down from the centre of a ball.
struct Moves<'a> {
    layout: &'a Layout<'a>,
    /// Of each input, from the lower corner.
    start: Vec<f64>,
    width: Vec<f64>,
    each: Vec<Move>,
}

struct Move {
    input: usize,
    sign: f64,
    lower: f64,
    upper: f64,
}

impl<'a> Moves<'a> {
    fn of(layout: &'a Layout) -> Self {
        let ends = layout.lower.iter().zip(&layout.upper);
        let width: Vec<f64> = ends.map(|(l, u)| f64::from(u - l)).collect();
        let inputs = width.len();
        let Some((_, center, _)) = layout.region.round() else {
            let each = (0..inputs).map(|input| Move { input, sign: 1.0, lower: 0.0, upper: 1.0 });
            return Self { layout, start: vec![0.0; inputs], width, each: each.collect() };
        };
        let place = |input: usize| {
            let run = center[input] - f64::from(layout.lower[input]);
            if width[input] > 0.0 { run / width[input] } else { 0.0 }
        };
        let start: Vec<f64> = (0..inputs).map(place).collect();
        let each = (0..inputs).flat_map(|input| {
            let (down, up) = (start[input], 1.0 - start[input]);
            [(1.0, up, -down), (-1.0, down, -up)].map(|(sign, most, least)| Move {
                input,
                sign,
                lower: least.max(0.0),
                upper: most.max(0.0),
            })
        });
        let each = each.filter(|one| width[one.input] > 0.0 && one.lower <= one.upper).collect();
        Self { layout, start, width, each }
    }

    /// Keeps a program's moves in a ball of L1.
    fn limit(&self, program: &mut Program) {
        if let Some((Norm::L1, _, radius)) = self.layout.region.round() {
            program.rows.extend(self.each.iter().map(|one| -self.width[one.input]));
            program.rows.push(0.0);
            program.rhs.push(-radius);
        }
    }

    /// Cuts a point that is outside a ball of L2 off; whether it is.
    fn cut(&self, program: &mut Program, point: &[f64]) -> bool {
        let Some((Norm::L2, _, radius)) = self.layout.region.round() else { return false };
        let mut away = vec![0.0; self.width.len()];
        for (one, &by) in self.each.iter().zip(point) {
            away[one.input] += one.sign * by * self.width[one.input];
        }
        let length = away.iter().map(|x| x * x).sum::<f64>().sqrt();
        if length <= radius * (1.0 + OUTSIDE) {
            return false;
        }
        // Relative to the radius, like everything else.
        let unit = self.each.iter().map(|one| {
            -one.sign * away[one.input] / length * self.width[one.input] / radius.max(1e-300)
        });
        program.rows.extend(unit);
        program.rows.push(0.0);
        program.rhs.push(-1.0);
        true
    }

    /// The input that moves lead to.
    fn input(&self, point: &[f64]) -> Vec<f32> {
        let mut at = self.start.clone();
        for (one, &by) in self.each.iter().zip(point) {
            at[one.input] += one.sign * by;
        }
        let ends = self.layout.lower.iter().zip(&self.width);
        ends.zip(&at).map(|((&l, w), t)| (f64::from(l) + w * t) as f32).collect()
    }
}
