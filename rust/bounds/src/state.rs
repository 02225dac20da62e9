//! What is known of one sample's region: bounds of every node and the lines chosen for it.

use aisec_graph::{Interval, Node, Operator, Relaxation, Site};
use aisec_numeric::rounding::{add_up, mul_up, underflow};

use crate::kernels;
use crate::prepared::Prepared;
use crate::region::Region;

/// Bounds and relaxations of the nodes up to some point, for one sample.
///
/// Propagation only reads it, so whoever chooses slopes or splits neurons edits this and
/// nothing else.
#[derive(Clone)]
pub(crate) struct State {
    pub region: Region,
    pub nodes: Vec<NodeState>,
}

/// One node's bounds and linear relaxation over the region.
#[derive(Clone)]
pub(crate) struct NodeState {
    pub lower: Vec<f64>,
    pub upper: Vec<f64>,
    /// How the node's output is bounded by lines in its inputs.
    pub relaxation: Relaxation,
    /// At least `|x|` of every element.
    pub size: Vec<f64>,
    /// At least the sum of the absolute values of all terms behind an element when a line in
    /// the node's inputs is evaluated: what rounding errors are relative to.
    pub weight: Vec<f64>,
    /// What underflow can cost a row that is carried back through the node.
    pub lost: f64,
}

impl State {
    pub fn new(region: Region) -> Self {
        let mut input = NodeState {
            lower: region.lower().to_vec(),
            upper: region.upper().to_vec(),
            relaxation: Relaxation::Affine,
            size: Vec::new(),
            weight: Vec::new(),
            lost: 0.0,
        };
        input.measure();
        input.weight.clone_from(&input.size);
        Self { region, nodes: vec![input] }
    }

    /// Adds the next node by interval arithmetic from the bounds of its inputs, and what it takes
    /// to carry rows back through it if that will be asked for.
    pub fn push(&mut self, prepared: &Prepared, carried: bool) {
        let index = self.nodes.len();
        let graph = prepared.graph;
        let node = &graph.nodes()[index];
        let shapes = graph.input_shapes(index);
        let site = Site { batch: 1, inputs: &shapes, output: &node.shape };
        let sources: Vec<&NodeState> = node.inputs.iter().map(|&i| &self.nodes[i]).collect();
        let inputs: Vec<Interval> =
            sources.iter().map(|s| Interval { lower: &s.lower, upper: &s.upper }).collect();
        let (mut lower, mut upper) = (vec![0.0; node.len()], vec![0.0; node.len()]);
        node.op.interval(&site, &inputs, &mut lower, &mut upper);
        kernels::widen(&mut lower, f64::NEG_INFINITY);
        kernels::widen(&mut upper, f64::INFINITY);
        self.adopt(prepared, lower, upper, carried);
    }

    /// Adds the next node with bounds that are known.
    pub fn adopt(&mut self, prepared: &Prepared, lower: Vec<f64>, upper: Vec<f64>, carried: bool) {
        let index = self.nodes.len();
        let (graph, facts) = (prepared.graph, &prepared.nodes[index]);
        let node = &graph.nodes()[index];
        let mut state = NodeState {
            lower,
            upper,
            relaxation: Relaxation::Affine,
            size: Vec::new(),
            weight: Vec::new(),
            lost: f64::INFINITY,
        };
        if carried {
            let shapes = graph.input_shapes(index);
            let site = Site { batch: 1, inputs: &shapes, output: &node.shape };
            let sources: Vec<&NodeState> = node.inputs.iter().map(|&i| &self.nodes[i]).collect();
            let inputs: Vec<Interval> =
                sources.iter().map(|s| Interval { lower: &s.lower, upper: &s.upper }).collect();
            state.relaxation = node.op.relax(&site, &inputs);
            state.weight = weights(node, &site, &state.relaxation, &sources);
            let reach = sources.iter().fold(1.0, |sum, s| add_up(sum, reach(&s.size)));
            state.lost = mul_up(underflow(facts.terms + node.len() + 8), reach);
        }
        state.measure();
        self.nodes.push(state);
    }
}

impl State {
    /// Replaces the lines of the last node, an activation, by those of other parameters (all
    /// elements', as [`Operator::relax_with`] takes them).
    pub fn choose(&mut self, prepared: &Prepared, parameters: &[f64]) {
        let index = self.nodes.len() - 1;
        let node = &prepared.graph.nodes()[index];
        let shapes = prepared.graph.input_shapes(index);
        let site = Site { batch: 1, inputs: &shapes, output: &node.shape };
        let sources: Vec<&NodeState> = node.inputs.iter().map(|&i| &self.nodes[i]).collect();
        let inputs: Vec<Interval> =
            sources.iter().map(|s| Interval { lower: &s.lower, upper: &s.upper }).collect();
        let relaxation = node.op.relax_with(&site, &inputs, parameters);
        let weight = weights(node, &site, &relaxation, &sources);
        let state = &mut self.nodes[index];
        (state.relaxation, state.weight) = (relaxation, weight);
    }
}

/// At least the sum of the values, which are not negative.
fn reach(sizes: &[f64]) -> f64 {
    mul_up(sizes.len() as f64, sizes.iter().fold(0.0, |most: f64, &size| most.max(size)))
}

/// See [`NodeState::weight`].
fn weights(node: &Node, site: &Site, relaxation: &Relaxation, sources: &[&NodeState]) -> Vec<f64> {
    let mut weight = vec![0.0; node.len()];
    match relaxation {
        Relaxation::Affine => {
            let sizes: Vec<&[f64]> = sources.iter().map(|s| &s.size[..]).collect();
            node.op.magnitude(site, &sizes, &mut weight);
        }
        Relaxation::Elementwise { lower_slope, lower_offset, upper_slope, upper_offset } => {
            for (i, weight) in weight.iter_mut().enumerate() {
                let slope = lower_slope[i].abs().max(upper_slope[i].abs());
                let offset = lower_offset[i].abs().max(upper_offset[i].abs());
                *weight = add_up(mul_up(slope, sources[0].size[i]), offset);
            }
        }
        Relaxation::Planes(planes) => {
            for (i, weight) in weight.iter_mut().enumerate() {
                let places = planes.places(i);
                let most = |a: &[f64], b: &[f64]| a[i].abs().max(b[i].abs());
                *weight = most(&planes.lower.offset, &planes.upper.offset);
                for (slot, place) in places.into_iter().enumerate() {
                    let slope = most(&planes.lower.slopes[slot], &planes.upper.slopes[slot]);
                    *weight = add_up(*weight, mul_up(slope, sources[slot].size[place]));
                }
            }
        }
        Relaxation::Select { lower_index, upper_index, upper_offset } => {
            let size = &sources[0].size;
            for (i, weight) in weight.iter_mut().enumerate() {
                let above = upper_index[i].map_or(0.0, |at| size[at]);
                *weight = size[lower_index[i]].max(add_up(above, upper_offset[i].abs()));
            }
        }
    }
    weight
}

impl NodeState {
    /// Brings `size` up to date with the bounds.
    pub fn measure(&mut self) {
        self.size.resize(self.lower.len(), 0.0);
        kernels::sizes(&self.lower, &self.upper, &mut self.size);
    }
}
