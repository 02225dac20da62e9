//! Which neuron to split: BaBSR's estimates (Bunel et al. 2020, arXiv:1909.06588) pick a few,
//! filtered smart branching (De Palma et al. 2021, arXiv:2104.06718) bounds both halves of each.

use aisec_graph::{Activation, Operator};

use crate::ascent::Ascent;
use crate::lanes::Cut;
use crate::layout::Layout;
use crate::state::State;

/// Candidates from each of the two estimates.
const CANDIDATES: usize = 3;

/// An element that may be split.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    /// Index of the activation in the layout.
    pub activation: usize,
    /// Position among its free elements.
    pub at: usize,
    /// Multipliers, of the positive and of the negative half, with which neither half's bound is
    /// below the whole one's: where the lower line counts, what the half's line differs from it.
    pub betas: [f32; 2],
}

/// What the estimates read of the root, for every free element of the layout.
pub(crate) struct Estimates {
    /// Activation, position among its free elements, and slope of the negative side; of hinges.
    cuts: Vec<Option<(usize, usize, f32)>>,
    /// Constant part of what the activation reads.
    bias: Vec<f32>,
    /// Slope and offset of the chord.
    chord: Vec<(f32, f32)>,
}

impl Estimates {
    pub fn new(layout: &Layout, state: &State) -> Self {
        let constants = constants(layout);
        let (mut cuts, mut bias, mut chord) = (Vec::new(), Vec::new(), Vec::new());
        for (index, free) in layout.activations.iter().enumerate() {
            let input = &state.nodes[free.input];
            for (position, &at) in free.at.iter().enumerate() {
                let (l, u) = (input.lower[at as usize] as f32, input.upper[at as usize] as f32);
                let slope = match free.kind {
                    Activation::Hinge { slope } => Some(slope as f32),
                    Activation::Curve(_) => None,
                };
                cuts.push(slope.map(|slope| (index, position, slope)));
                bias.push(constants[free.input][at as usize]);
                // Relative to the line of the negative side, which is zero for a plain ReLU.
                chord.push((u / (u - l), -l * u / (u - l)));
            }
        }
        Self { cuts, bias, chord }
    }

    /// The most promising elements that are not split yet, each once: by BaBSR's score, and by
    /// the offset of the chord alone.
    pub fn candidates(&self, ascent: &Ascent, taken: &[Cut]) -> Vec<Candidate> {
        let mut best: [Vec<(f32, usize)>; 2] = Default::default();
        for (at, (&a, cut)) in ascent.coefficients.iter().zip(&self.cuts).enumerate() {
            let Some((activation, position, _)) = *cut else { continue };
            if a == 0.0 || taken.iter().any(|c| (c.activation, c.at) == (activation, position)) {
                continue;
            }
            let (slope, offset) = self.chord[at];
            let lost = a.min(0.0) * offset;
            let bias = (self.bias[at] * a * (slope - 1.0)).max(self.bias[at] * a * slope);
            keep(&mut best[0], (bias + lost).abs(), at);
            keep(&mut best[1], -lost, at);
        }
        let mut found: Vec<Candidate> = Vec::new();
        for (_, at) in best.into_iter().flatten() {
            let (activation, position, side) = self.cuts[at].expect("only hinges were kept");
            let a = ascent.coefficients[at];
            let line = if a > 0.0 { ascent.best_lines.lower_slope[at] } else { 0.0 };
            let betas = if a > 0.0 && side <= 1.0 {
                [a * (1.0 - line), a * (line - side)].map(|beta| beta.max(0.0))
            } else {
                [0.0; 2]
            };
            let candidate = Candidate { activation, at: position, betas };
            if !found.contains(&candidate) {
                found.push(candidate);
            }
        }
        found
    }

    /// Any element that can still be split.
    pub fn any(&self, taken: &[Cut]) -> Option<Candidate> {
        let free = |candidate: &Candidate| {
            !taken.iter().any(|c| (c.activation, c.at) == (candidate.activation, candidate.at))
        };
        let all = self.cuts.iter().flatten().map(|&(activation, at, _)| Candidate {
            activation,
            at,
            betas: [0.0; 2],
        });
        all.into_iter().find(free)
    }
}

/// Keeps the largest few, earlier ones first among equals.
fn keep(best: &mut Vec<(f32, usize)>, score: f32, at: usize) {
    if score.is_nan() || best.len() == CANDIDATES && score <= best[CANDIDATES - 1].0 {
        return;
    }
    let place = best.iter().position(|other| score > other.0).unwrap_or(best.len());
    best.insert(place, (score, at));
    best.truncate(CANDIDATES);
}

/// Every node's value where the input and all activations are zero.
fn constants(layout: &Layout) -> Vec<Vec<f32>> {
    let graph = layout.prepared.graph;
    let mut values: Vec<Vec<f32>> = vec![Vec::new(); layout.start + 1];
    for step in &layout.steps {
        let node = &graph.nodes()[step.node];
        let mut value = vec![0.0; node.len()];
        if step.node > 0 && layout.prepared.nodes[step.node].affine {
            let shapes = graph.input_shapes(step.node);
            let inputs: Vec<&[f32]> = node.inputs.iter().map(|&input| &values[input][..]).collect();
            node.op.forward(&layout.site(step.node, &shapes, 1), &inputs, &mut value);
        }
        values[step.node] = value;
    }
    values
}
