//! Rows with lines of their own, in float64: what a search has found, made into bounds that hold.

use aisec_graph::{Activation, Interval, Operator, Relaxation, Site};
use aisec_numeric::rounding::{add_up, mul_up};

use crate::lanes::Cut;
use crate::layout::{Free, Layout};
use crate::proof::{Parameters, USUAL};
use crate::state::State;

/// Slopes of ReLU are multiples of one part in so many: two digits in a certificate.
pub(crate) const PACKED: f32 = 128.0;

impl Free {
    /// Whether a certificate packs its slopes: those of ReLU's lower lines.
    pub fn packs(&self) -> bool {
        matches!(self.kind, Activation::Hinge { slope: 0.0 })
    }
}

/// Lines and multipliers of one row.
pub(crate) struct Own<'a> {
    lines: Vec<OwnLines<'a>>,
    pub multipliers: Vec<Multiplier>,
}

/// `amount·(z - at)`, which is not negative, is taken off a row: plus or minus a split's `beta`.
pub(crate) struct Multiplier {
    pub node: usize,
    pub index: usize,
    pub amount: f64,
    pub at: f64,
}

/// Lines of some elements of an activation.
pub(crate) struct OwnLines<'a> {
    node: usize,
    at: &'a [u32],
    lower_slope: Vec<f64>,
    lower_offset: Vec<f64>,
    upper_slope: Vec<f64>,
    upper_offset: Vec<f64>,
    /// See `NodeState::weight`.
    weight: Vec<f64>,
}

impl<'a> Own<'a> {
    /// Lines over the part of the region where the cuts hold.
    pub fn new(
        layout: &'a Layout,
        state: &State,
        parameters: &[f32],
        (cuts, betas): (&[Cut], &[f32]),
    ) -> Self {
        let nodes = layout.prepared.graph.nodes();
        let mut lines = Vec::with_capacity(layout.activations.len());
        for free in &layout.activations {
            let input = &state.nodes[free.input];
            let pick = |values: &[f64]| -> Vec<f64> {
                free.at.iter().map(|&at| values[at as usize]).collect()
            };
            let (mut lower, mut upper) = (pick(&input.lower), pick(&input.upper));
            for cut in
                cuts.iter().filter(|cut| layout.activations[cut.activation].input == free.input)
            {
                let element = layout.activations[cut.activation].at[cut.at];
                if let Ok(at) = free.at.binary_search(&element) {
                    (lower[at], upper[at]) = layout.part(free, element as usize, cuts);
                }
            }
            let chosen = &parameters[free.first_parameter..][..free.usual.len()];
            let chosen: Vec<f64> = chosen.iter().map(|&p| f64::from(p)).collect();
            let shape = [free.at.len()];
            let site = Site { batch: 1, inputs: &[&shape], output: &shape };
            let ends = Interval { lower: &lower, upper: &upper };
            let relaxation = nodes[free.node].op.relax_with(&site, &[ends], &chosen);
            let Relaxation::Elementwise { lower_slope, lower_offset, upper_slope, upper_offset } =
                relaxation
            else {
                unreachable!("activations have lines element by element");
            };
            let size = pick(&input.size);
            let weight = (0..size.len())
                .map(|i| {
                    let slope = lower_slope[i].abs().max(upper_slope[i].abs());
                    let offset = lower_offset[i].abs().max(upper_offset[i].abs());
                    add_up(mul_up(slope, size[i]), offset)
                })
                .collect();
            lines.push(OwnLines {
                node: free.node,
                at: &free.at,
                lower_slope,
                lower_offset,
                upper_slope,
                upper_offset,
                weight,
            });
        }
        let multipliers = cuts.iter().zip(betas).filter(|(_, beta)| **beta > 0.0);
        let multipliers = multipliers.map(|(cut, &beta)| {
            let free = &layout.activations[cut.activation];
            let amount = f64::from(cut.sign()) * f64::from(beta);
            let (index, at) = (free.at[cut.at] as usize, f64::from(cut.limit));
            Multiplier { node: free.input, index, amount, at }
        });
        Self { lines, multipliers: multipliers.collect() }
    }

    /// The lines at a node, if there are any.
    pub fn at(&self, node: usize) -> Option<&OwnLines<'a>> {
        self.lines.iter().find(|lines| lines.node == node)
    }
}

impl OwnLines<'_> {
    /// The elements, in ascending order.
    pub fn elements(&self) -> &[u32] {
        self.at
    }

    /// The coefficients of the elements in row `row` of some that lie side by side.
    pub fn gather(&self, rows: &[f64], width: usize, row: usize) -> Vec<f64> {
        self.at.iter().map(|&at| rows[at as usize * width + row]).collect()
    }

    /// Writes the elements' coefficients behind the lines; returns the constant `Σ a·offset` and
    /// the error weight `Σ |a|·weight`. A NaN makes everything NaN.
    pub fn scatter(
        &self,
        coefficients: &[f64],
        rows: &mut [f64],
        width: usize,
        row: usize,
    ) -> (f64, f64) {
        let (mut constant, mut size) = (0.0, 0.0);
        for (i, (&at, &a)) in self.at.iter().zip(coefficients).enumerate() {
            let (slope, offset) = if a > 0.0 {
                (self.lower_slope[i], self.lower_offset[i])
            } else {
                (self.upper_slope[i], self.upper_offset[i])
            };
            constant += a * offset;
            size += a.abs() * self.weight[i];
            rows[at as usize * width + row] = a * slope;
        }
        (constant, size)
    }
}

impl State {
    /// The state without lines at the elements that rows bring themselves.
    pub fn without_free(&self, layout: &Layout) -> Self {
        let mut state = self.clone();
        for free in &layout.activations {
            let node = &mut state.nodes[free.node];
            let Relaxation::Elementwise { lower_slope, lower_offset, upper_slope, upper_offset } =
                &mut node.relaxation
            else {
                unreachable!("activations have lines element by element");
            };
            for values in [lower_slope, lower_offset, upper_slope, upper_offset, &mut node.weight] {
                free.at.iter().for_each(|&at| values[at as usize] = 0.0);
            }
        }
        state
    }
}

impl Layout<'_> {
    /// Parameters found for a layout of wider bounds, within the ranges of this one.
    pub fn adapt(&self, wider: &Self, parameters: &[f32]) -> Vec<f32> {
        let mut adapted = Vec::with_capacity(self.parameters);
        for free in &self.activations {
            adapted.extend_from_slice(&free.usual);
            let Some(before) = wider.activations.iter().find(|other| other.node == free.node)
            else {
                continue;
            };
            let start = adapted.len() - free.usual.len();
            let own = &mut adapted[start..];
            for (at, element) in free.at.iter().enumerate() {
                let Ok(known) = before.at.binary_search(element) else { continue };
                for side in 0..free.kind.parameters() {
                    let here = side * free.at.len() + at;
                    let there = before.first_parameter + side * before.at.len() + known;
                    own[here] = parameters[there].max(free.least[here]).min(free.most[here]);
                }
            }
        }
        adapted
    }

    /// A row's parameters activation by activation, for all elements in order, as
    /// [`Operator::relax_with`] takes them.
    pub fn spread(&self, parameters: &[f32]) -> Vec<(usize, Vec<f64>)> {
        self.activations.iter().map(|free| (free.node, self.all(free, parameters))).collect()
    }

    /// The same as certificates keep them.
    pub fn pack(&self, parameters: &[f32]) -> Vec<(usize, Parameters)> {
        let pack = |free: &Free| {
            if !free.packs() {
                return (free.node, Parameters::Each(self.all(free, parameters)));
            }
            let mut all = vec![USUAL; self.prepared.graph.nodes()[free.node].len()];
            let chosen = &parameters[free.first_parameter..][..free.usual.len()];
            for (&at, &slope) in free.at.iter().zip(chosen) {
                all[at as usize] = (slope * PACKED) as u8;
            }
            (free.node, Parameters::Packed(all))
        };
        self.activations.iter().map(pack).collect()
    }

    fn all(&self, free: &Free, parameters: &[f32]) -> Vec<f64> {
        let (len, count) = (self.prepared.graph.nodes()[free.node].len(), free.at.len());
        let mut all = vec![0.0; len * free.kind.parameters()];
        let chosen = &parameters[free.first_parameter..][..free.usual.len()];
        for (at, &value) in chosen.iter().enumerate() {
            all[at / count * len + free.at[at % count] as usize] = f64::from(value);
        }
        all
    }
}
