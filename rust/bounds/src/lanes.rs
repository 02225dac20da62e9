//! Rows carried back through the linear relaxation in float32, each with its own lines, and
//! their minimisers carried forward again.
//!
//! The value of a row at its minimiser, through the lines that the way back picked, is the row's
//! bound; what the way forward meets there gives the gradient by every slope and multiplier in
//! closed form, so nothing is recorded and nothing differentiated.

use aisec_graph::Operator;
use pulp::{Arch, NullaryFnOnce};

use crate::layout::{Layout, Lines, NONE, Role};

/// A sparse row over the start node, and the right-hand side that is taken off it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub entries: Vec<(usize, f64)>,
    pub rhs: f64,
}

/// One side of a split.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cut {
    /// Index of the activation in the layout.
    pub activation: usize,
    /// Position among its free elements.
    pub at: usize,
    /// What the element is at least, if `positive`, and at most otherwise; zero for hinges.
    pub limit: f32,
    pub positive: bool,
}

impl Row {
    /// The entries of a dense row that are not zero.
    pub fn new(dense: &[f64], rhs: f64) -> Self {
        let entries = dense.iter().copied().enumerate().filter(|&(_, a)| a != 0.0).collect();
        Self { entries, rhs }
    }
}

impl Cut {
    pub fn sign(&self) -> f32 {
        if self.positive { 1.0 } else { -1.0 }
    }
}

/// What one lane asks, and its answer.
pub(crate) struct Lane<'a> {
    pub rows: &'a [Row],
    /// One a row, not negative.
    pub weights: Vec<f32>,
    pub lines: Lines,
    pub cuts: Vec<Cut>,
    /// One a cut, not negative.
    pub betas: Vec<f32>,
    /// Filled by a pass: coefficients on the free elements' outputs, and the values the
    /// activations read there.
    pub coefficients: Vec<f32>,
    pub values: Vec<f32>,
    /// `row · y - rhs` at the minimiser, one a row.
    pub residuals: Vec<f32>,
    /// The bound of the weighted sum over the lane's part of the region.
    pub bound: f32,
}

impl<'a> Lane<'a> {
    pub fn new(layout: &Layout, rows: &'a [Row], weights: Vec<f32>) -> Self {
        let mut lines = Lines::default();
        for free in &layout.activations {
            lines.lower_slope.extend_from_slice(&free.lines.lower_slope);
            lines.lower_offset.extend_from_slice(&free.lines.lower_offset);
            lines.upper_slope.extend_from_slice(&free.lines.upper_slope);
            lines.upper_offset.extend_from_slice(&free.lines.upper_offset);
        }
        Self {
            rows,
            weights,
            lines,
            cuts: Vec::new(),
            betas: Vec::new(),
            coefficients: vec![0.0; layout.elements],
            values: vec![0.0; layout.elements],
            residuals: vec![0.0; rows.len()],
            bound: f32::NEG_INFINITY,
        }
    }
}

/// Buffers for some lanes, used again from pass to pass.
#[derive(Default)]
pub(crate) struct Workspace {
    nodes: Vec<Vec<f32>>,
    /// Signs at selecting nodes.
    kept: Vec<Vec<f32>>,
    /// The minimiser of each lane.
    pub minimisers: Vec<f32>,
}

impl Workspace {
    fn reserve(&mut self, layout: &Layout, count: usize) {
        let nodes = layout.prepared.graph.nodes();
        self.nodes.resize_with(layout.start + 1, Vec::new);
        self.kept.resize_with(layout.start + 1, Vec::new);
        for step in &layout.steps {
            let len = nodes[step.node].len() * count;
            let buffer = &mut self.nodes[step.node];
            if buffer.len() < len {
                buffer.resize(len, 0.0);
            }
            buffer[..len].fill(0.0);
        }
    }
}

/// Bounds all lanes and fills what gradients are made of. Each lane's answer is the same bit for
/// bit whichever lanes come with it.
pub(crate) fn pass(layout: &Layout, lanes: &mut [&mut Lane], workspace: &mut Workspace) {
    if lanes.is_empty() {
        return;
    }
    workspace.reserve(layout, lanes.len());
    backward(layout, lanes, workspace);
    minimise(layout, lanes.len(), workspace);
    forward(layout, lanes, workspace);
}

/// Carries given inputs forward, one a lane: fills values and residuals.
pub(crate) fn evaluate(
    layout: &Layout,
    lanes: &mut [&mut Lane],
    inputs: &[f32],
    workspace: &mut Workspace,
) {
    workspace.reserve(layout, lanes.len());
    workspace.nodes[0][..inputs.len()].copy_from_slice(inputs);
    forward(layout, lanes, workspace);
}

fn backward(layout: &Layout, lanes: &mut [&mut Lane], workspace: &mut Workspace) {
    let (graph, count) = (layout.prepared.graph, lanes.len());
    let len = |node: usize| graph.nodes()[node].len();
    let start = len(layout.start);
    for (lane, buffer) in lanes.iter().zip(workspace.nodes[layout.start].chunks_exact_mut(start)) {
        for (row, &weight) in lane.rows.iter().zip(&lane.weights) {
            row.entries.iter().for_each(|&(at, a)| buffer[at] += weight * a as f32);
        }
    }
    for step in layout.steps.iter().rev() {
        let node = &graph.nodes()[step.node];
        let own_len = node.len();
        let mut own = std::mem::take(&mut workspace.nodes[step.node]);
        cut(layout, step.node, lanes, &mut own, own_len);
        match &step.role {
            Role::Input | Role::Constant => {}
            Role::Affine => {
                let shapes = graph.input_shapes(step.node);
                let site = layout.site(step.node, &shapes, count);
                let mut grads = take_inputs(workspace, &node.inputs, |input| len(input) * count);
                {
                    let mut views: Vec<&mut [f32]> = grads
                        .iter_mut()
                        .zip(&node.inputs)
                        .map(|(grad, &input)| &mut grad[..len(input) * count])
                        .collect();
                    node.op.vjp(&site, &[], &[], &own[..own_len * count], &mut views);
                }
                give_inputs(workspace, &node.inputs, grads);
            }
            Role::Activation(index) => {
                let free = &layout.activations[*index];
                let target = &mut workspace.nodes[free.input];
                let rows = own[..own_len * count]
                    .chunks_exact(own_len)
                    .zip(target.chunks_exact_mut(own_len));
                for (lane, (row, target)) in lanes.iter_mut().zip(rows) {
                    if !free.base.is_empty() {
                        add_scaled(target, row, &free.base);
                    }
                    let range = free.first..free.first + free.at.len();
                    let lower = &lane.lines.lower_slope[range.clone()];
                    let upper = &lane.lines.upper_slope[range.clone()];
                    let marks = &mut lane.coefficients[range];
                    for (((&at, mark), &below), &above) in
                        free.at.iter().zip(marks).zip(lower).zip(upper)
                    {
                        let a = row[at as usize];
                        *mark = a;
                        target[at as usize] += a * if a > 0.0 { below } else { above };
                    }
                }
            }
            Role::Select { below, above, .. } => {
                let input = node.inputs[0];
                let input_len = len(input);
                let target = &mut workspace.nodes[input];
                let rows = own.chunks_exact(own_len).zip(target.chunks_exact_mut(input_len));
                for (row, target) in rows.take(count) {
                    for ((&a, &below), &above) in row.iter().zip(below).zip(above) {
                        let at = if a > 0.0 { below } else { above };
                        if at != NONE {
                            target[at as usize] += a;
                        }
                    }
                }
                let kept = &mut workspace.kept[step.node];
                kept.clear();
                kept.extend_from_slice(&own[..own_len * count]);
            }
            Role::Pair(pair) => {
                for slot in 0..node.inputs.len() {
                    let input_len = len(node.inputs[slot]);
                    let target = &mut workspace.nodes[node.inputs[slot]];
                    let rows = own.chunks_exact(own_len).zip(target.chunks_exact_mut(input_len));
                    for (row, target) in rows.take(count) {
                        let planes = pair.below.iter().zip(&pair.above).zip(&pair.places);
                        for (&a, ((below, above), places)) in row.iter().zip(planes) {
                            let slope = if a > 0.0 { below[slot] } else { above[slot] };
                            target[places[slot] as usize] += a * slope;
                        }
                    }
                }
                let kept = &mut workspace.kept[step.node];
                kept.clear();
                kept.extend_from_slice(&own[..own_len * count]);
            }
        }
        workspace.nodes[step.node] = own;
    }
}

/// Takes the multipliers off the coefficients of the elements that were split.
fn cut(layout: &Layout, node: usize, lanes: &[&mut Lane], rows: &mut [f32], len: usize) {
    if !layout.activations.iter().any(|free| free.input == node) {
        return;
    }
    for (lane, row) in lanes.iter().zip(rows.chunks_exact_mut(len)) {
        for (cut, &beta) in lane.cuts.iter().zip(&lane.betas) {
            let free = &layout.activations[cut.activation];
            if free.input == node {
                row[free.at[cut.at] as usize] -= cut.sign() * beta;
            }
        }
    }
}

/// Replaces the coefficients on the input by the points of the region that minimise them.
fn minimise(layout: &Layout, count: usize, workspace: &mut Workspace) {
    let len = layout.lower.len();
    for row in workspace.nodes[0][..count * len].chunks_exact_mut(len) {
        if layout.region.is_box() {
            Arch::new().dispatch(Corner { row, lower: &layout.lower, upper: &layout.upper });
        } else {
            layout.region.minimiser(row);
        }
    }
    workspace.minimisers.clear();
    workspace.minimisers.extend_from_slice(&workspace.nodes[0][..count * len]);
}

/// Replaces coefficients by the ends that minimise them.
struct Corner<'a> {
    row: &'a mut [f32],
    lower: &'a [f32],
    upper: &'a [f32],
}

impl NullaryFnOnce for Corner<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for ((a, &l), &u) in self.row.iter_mut().zip(self.lower).zip(self.upper) {
            *a = if *a > 0.0 { l } else { u };
        }
    }
}

fn forward(layout: &Layout, lanes: &mut [&mut Lane], workspace: &mut Workspace) {
    let (graph, count) = (layout.prepared.graph, lanes.len());
    let len = |node: usize| graph.nodes()[node].len();
    for step in &layout.steps {
        let node = &graph.nodes()[step.node];
        let own_len = node.len();
        let mut own = std::mem::take(&mut workspace.nodes[step.node]);
        match &step.role {
            Role::Input => {}
            Role::Constant | Role::Affine => {
                let shapes = graph.input_shapes(step.node);
                let site = layout.site(step.node, &shapes, count);
                let inputs: Vec<&[f32]> = node
                    .inputs
                    .iter()
                    .map(|&input| &workspace.nodes[input][..len(input) * count])
                    .collect();
                node.op.forward(&site, &inputs, &mut own[..own_len * count]);
            }
            Role::Activation(index) => {
                let free = &layout.activations[*index];
                let source = &workspace.nodes[free.input];
                let rows = own.chunks_exact_mut(own_len).zip(source.chunks_exact(own_len));
                for (lane, (row, source)) in lanes.iter_mut().zip(rows) {
                    if !free.base.is_empty() {
                        set_scaled(row, source, &free.base);
                    }
                    let range = free.first..free.first + free.at.len();
                    let lines = &lane.lines;
                    let lower = lines.lower_slope[range.clone()]
                        .iter()
                        .zip(&lines.lower_offset[range.clone()]);
                    let upper = lines.upper_slope[range.clone()]
                        .iter()
                        .zip(&lines.upper_offset[range.clone()]);
                    let marks =
                        lane.coefficients[range.clone()].iter().zip(&mut lane.values[range]);
                    for (((&at, (&a, value)), below), above) in
                        free.at.iter().zip(marks).zip(lower).zip(upper)
                    {
                        let z = source[at as usize];
                        *value = z;
                        let (slope, offset) = if a > 0.0 { below } else { above };
                        row[at as usize] = slope * z + offset;
                    }
                }
            }
            Role::Select { below, above, offset } => {
                let source = workspace.nodes[node.inputs[0]].chunks_exact(len(node.inputs[0]));
                let kept = workspace.kept[step.node].chunks_exact(own_len);
                for ((row, source), kept) in own.chunks_exact_mut(own_len).zip(source).zip(kept) {
                    let picks = below.iter().zip(above).zip(offset);
                    for ((y, &a), ((&below, &above), &offset)) in
                        row.iter_mut().zip(kept).zip(picks)
                    {
                        let at = if a > 0.0 { below } else { above };
                        *y = if at == NONE { offset } else { source[at as usize] };
                    }
                }
            }
            Role::Pair(pair) => {
                let [first, second] = [0, node.inputs.len() - 1].map(|slot| {
                    let input = node.inputs[slot];
                    workspace.nodes[input].chunks_exact(len(input))
                });
                let kept = workspace.kept[step.node].chunks_exact(own_len);
                for ((row, kept), (x, z)) in
                    own.chunks_exact_mut(own_len).zip(kept).zip(first.zip(second))
                {
                    let planes = pair.below.iter().zip(&pair.above).zip(&pair.places);
                    for ((y, &a), ((below, above), places)) in row.iter_mut().zip(kept).zip(planes)
                    {
                        let [s, t, offset] = if a > 0.0 { below } else { above };
                        *y = s * x[places[0] as usize] + t * z[places[1] as usize] + offset;
                    }
                }
            }
        }
        workspace.nodes[step.node] = own;
    }
    let outputs = workspace.nodes[layout.start].chunks_exact(len(layout.start));
    for (lane, output) in lanes.iter_mut().zip(outputs) {
        let mut bound = 0.0;
        for ((row, residual), &weight) in
            lane.rows.iter().zip(&mut lane.residuals).zip(&lane.weights)
        {
            let value: f32 = row.entries.iter().map(|&(at, a)| a as f32 * output[at]).sum();
            *residual = value - row.rhs as f32;
            bound += weight * *residual;
        }
        for (cut, &beta) in lane.cuts.iter().zip(&lane.betas) {
            let at = layout.activations[cut.activation].first + cut.at;
            bound -= cut.sign() * beta * (lane.values[at] - cut.limit);
        }
        lane.bound = bound;
    }
}

/// The buffers of a node's inputs; of one that is named twice, a second one.
fn take_inputs(
    workspace: &mut Workspace,
    inputs: &[usize],
    len: impl Fn(usize) -> usize,
) -> Vec<Vec<f32>> {
    let mut taken = Vec::with_capacity(inputs.len());
    for (slot, &input) in inputs.iter().enumerate() {
        taken.push(if inputs[..slot].contains(&input) {
            vec![0.0; len(input)]
        } else {
            std::mem::take(&mut workspace.nodes[input])
        });
    }
    taken
}

fn give_inputs(workspace: &mut Workspace, inputs: &[usize], taken: Vec<Vec<f32>>) {
    for (slot, (&input, buffer)) in inputs.iter().zip(taken).enumerate() {
        if inputs[..slot].contains(&input) {
            let sum = workspace.nodes[input].iter_mut();
            sum.zip(&buffer).for_each(|(sum, &part)| *sum += part);
        } else {
            workspace.nodes[input] = buffer;
        }
    }
}

/// A loop over three slices. It is a type of its own because a closure would not be inlined into
/// the code for the instruction set found.
struct Scaled<'a, const ADD: bool> {
    target: &'a mut [f32],
    row: &'a [f32],
    scale: &'a [f32],
}

impl<const ADD: bool> NullaryFnOnce for Scaled<'_, ADD> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for ((t, &a), &s) in self.target.iter_mut().zip(self.row).zip(self.scale) {
            *t = if ADD { *t + a * s } else { a * s };
        }
    }
}

fn add_scaled(target: &mut [f32], row: &[f32], scale: &[f32]) {
    Arch::new().dispatch(Scaled::<true> { target, row, scale });
}

fn set_scaled(target: &mut [f32], row: &[f32], scale: &[f32]) {
    Arch::new().dispatch(Scaled::<false> { target, row, scale });
}
