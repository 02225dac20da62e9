//! Which neuron to split: BaBSR's estimates (Bunel et al. 2020, arXiv:1909.06588) pick a few,
//! filtered smart branching (De Palma et al. 2021, arXiv:2104.06718) bounds both halves of each.

use aisec_graph::{Activation, Curve, Operator};

use crate::ascent::Ascent;
use crate::lanes::Cut;
use crate::layout::Layout;

/// Candidates from each of the two estimates.
const CANDIDATES: usize = 3;

/// An element that may be split.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    /// Index of the activation in the layout.
    pub activation: usize,
    /// Position among its free elements.
    pub at: usize,
    /// Where to split it.
    pub limit: f32,
    /// Multipliers, of the positive and of the negative half, with which neither half's bound is
    /// below the whole one's: what the half's line differs from the whole one's.
    pub betas: [f32; 2],
}

/// What the estimates read of the root, for every free element of the layout.
pub(crate) struct Estimates<'a> {
    layout: &'a Layout<'a>,
    /// Activation, and position among its free elements.
    places: Vec<(usize, usize)>,
    /// Constant part of what the activation reads.
    bias: Vec<f32>,
    /// Hinges: slope and offset of the chord.
    chord: Vec<(f32, f32)>,
    /// Curves: where to split, and what that gains.
    bends: Vec<Option<Bend>>,
}

impl<'a> Estimates<'a> {
    pub fn new(layout: &'a Layout<'a>) -> Self {
        let constants = constants(layout);
        let (mut places, mut bias, mut chord) = (Vec::new(), Vec::new(), Vec::new());
        let mut bends = Vec::new();
        for (index, free) in layout.activations.iter().enumerate() {
            for (position, &at) in free.at.iter().enumerate() {
                let (l, u) = (free.ends[position].0 as f32, free.ends[position].1 as f32);
                places.push((index, position));
                bias.push(constants[free.input][at as usize]);
                // Relative to the line of the negative side, which is zero for a plain ReLU.
                chord.push((u / (u - l), -l * u / (u - l)));
                bends.push(match free.kind {
                    Activation::Curve(curve) => Bend::of(&curve, free.ends[position]),
                    Activation::Hinge { .. } => None,
                });
            }
        }
        Self { layout, places, bias, chord, bends }
    }

    /// The most promising elements that can be split, each once: by BaBSR's score or what a split
    /// takes off a curve's distance from its chord, and by that distance alone.
    pub fn candidates(&self, ascent: &Ascent, taken: &[Cut]) -> Vec<Candidate> {
        let mut best: [Vec<(f32, usize)>; 2] = Default::default();
        for (at, &a) in ascent.coefficients.iter().enumerate() {
            let (activation, position) = self.places[at];
            let kind = self.layout.activations[activation].kind;
            let is_taken = || taken.iter().any(|c| (c.activation, c.at) == (activation, position));
            if let Activation::Curve(_) = kind {
                if let Some(bend) = self.bend(at, taken).filter(|_| a != 0.0) {
                    keep(&mut best[0], a.abs() * bend.gained, at);
                    keep(&mut best[1], a.abs() * bend.gap, at);
                }
                continue;
            }
            if a == 0.0 || is_taken() {
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
            let candidate = self.candidate(at, ascent, taken);
            if !found.contains(&candidate) {
                found.push(candidate);
            }
        }
        found
    }

    /// An element to be split, and multipliers to begin with.
    fn candidate(&self, at: usize, ascent: &Ascent, taken: &[Cut]) -> Candidate {
        let (activation, position) = self.places[at];
        let free = &self.layout.activations[activation];
        let (a, lines) = (ascent.coefficients[at], &ascent.best_lines);
        let (limit, [high, low], line) = match free.kind {
            Activation::Curve(curve) => {
                let bend = self.bend(at, taken).expect("it can be split");
                let (l, u) = self.layout.part(free, free.at[position] as usize, taken);
                let limit = f64::from(bend.limit);
                let slope = |l: f64, u: f64| {
                    let bent = self.layout.bends.between(free.node, &curve, (l, u));
                    bent.lines[usize::from(a <= 0.0)].0
                };
                let line = if a > 0.0 { lines.lower_slope[at] } else { lines.upper_slope[at] };
                (bend.limit, [slope(limit, u), slope(l, limit)], line)
            }
            Activation::Hinge { slope } if a > 0.0 && slope <= 1.0 => {
                (0.0, [1.0, slope as f32], lines.lower_slope[at])
            }
            Activation::Hinge { .. } => (0.0, [0.0; 2], 0.0),
        };
        let betas = [a * (high - line), a * (line - low)].map(|beta| beta.max(0.0));
        Candidate { activation, at: position, limit, betas }
    }

    /// Where a curve's element is split within what splits have left, if that gains anything.
    fn bend(&self, at: usize, taken: &[Cut]) -> Option<Bend> {
        let (activation, position) = self.places[at];
        let free = &self.layout.activations[activation];
        let Activation::Curve(curve) = free.kind else { return None };
        let element = free.at[position] as usize;
        let own = |cut: &Cut| {
            let other = &self.layout.activations[cut.activation];
            other.input == free.input && other.at[cut.at] as usize == element
        };
        if !taken.iter().any(own) {
            return self.bends[at];
        }
        Bend::of(&curve, self.layout.part(free, element, taken))
    }

    /// Any element that can still be split: a hinge, or the curve with the largest gap.
    pub fn any(&self, taken: &[Cut]) -> Option<Candidate> {
        let mut widest: Option<(f32, Candidate)> = None;
        for (at, &(activation, position)) in self.places.iter().enumerate() {
            let candidate = Candidate { activation, at: position, limit: 0.0, betas: [0.0; 2] };
            if let Activation::Hinge { .. } = self.layout.activations[activation].kind {
                if !taken.iter().any(|c| (c.activation, c.at) == (activation, position)) {
                    return Some(candidate);
                }
            } else if let Some(bend) = self.bend(at, taken)
                && widest.is_none_or(|(gap, _)| bend.gap > gap)
            {
                widest = Some((bend.gap, Candidate { limit: bend.limit, ..candidate }));
            }
        }
        widest.map(|(_, candidate)| candidate)
    }
}

/// Where the part of a curve between two ends is split best.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bend {
    limit: f32,
    /// How far it is from its chord.
    gap: f32,
    /// How much less far the worse half is from its own.
    gained: f32,
}

/// Where curves may be split, in parts of the whole.
const PLACES: [f64; 7] = [0.5, 0.375, 0.625, 0.25, 0.75, 0.125, 0.875];

/// Curves that are nearer to their chord than this, relative to their values, are not split.
const STRAIGHT: f64 = 1e-6;

impl Bend {
    /// `None` where the curve is next to straight, or not finite.
    pub fn of(curve: &Curve, (l, u): (f64, f64)) -> Option<Self> {
        let size = curve.derivatives(l)[0].abs() + curve.derivatives(u)[0].abs();
        let gap = bow(curve, l, u);
        let bent = gap > STRAIGHT * size.max(1e-3);
        if !bent || !size.is_finite() {
            return None;
        }
        let halves = PLACES.into_iter().filter_map(|part| {
            let limit = (l + part * (u - l)) as f32;
            let at = f64::from(limit);
            (l < at && at < u).then(|| (limit, bow(curve, l, at).max(bow(curve, at, u))))
        });
        let (limit, left) = halves.min_by(|a, b| a.1.total_cmp(&b.1))?;
        Some(Self { limit, gap: gap as f32, gained: (gap - left) as f32 })
    }
}

/// The mean distance of a curve from its chord, at some points.
fn bow(curve: &Curve, l: f64, u: f64) -> f64 {
    let (low, high) = (curve.derivatives(l)[0], curve.derivatives(u)[0]);
    let parts = [0.125, 0.375, 0.625, 0.875];
    let distance =
        |part: f64| (curve.derivatives(l + part * (u - l))[0] - low - part * (high - low)).abs();
    parts.map(distance).iter().sum::<f64>() / 4.0
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
