//! The way back from a node to the inputs for one part of an image: which part of each node
//! the coefficients live in.

use aisec_graph::{Op, Operator, Patch, Relaxation, Site};

use crate::prepared::Prepared;
use crate::state::State;

/// Where rows stop being carried back and are bounded by the node's own interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// At the input.
    Input,
    /// At the first operator on each path that is not affine.
    Nonlinear,
}

/// Nodes in the order they are visited, last first.
pub(crate) struct Trace<'g> {
    pub steps: Vec<Step<'g>>,
    /// The part of the start node that rows are given on; the first step may need more of it.
    pub asked: Option<Patch>,
    /// Most coefficients of one row that are kept at once.
    pub peak: usize,
    /// Multiplications and additions of one row on its way, roughly.
    pub work: usize,
}

/// One node on the way.
pub(crate) struct Step<'g> {
    pub node: usize,
    /// The part of the node that has coefficients; all of it when `None`.
    pub patch: Option<Patch>,
    pub shape: Vec<usize>,
    pub action: Action<'g>,
}

impl Step<'_> {
    fn work(&self) -> usize {
        let Action::Affine { op, inputs } = &self.action else { return 0 };
        let inputs: Vec<&[usize]> = inputs.iter().map(|input| input.2.as_slice()).collect();
        op.op().work(&Site { batch: 1, inputs: &inputs, output: &self.shape })
    }
}

/// What happens to the coefficients there.
pub(crate) enum Action<'g> {
    /// They are bounded by the node's interval (at the input, by the region).
    Bound,
    /// They pass to the inputs through an affine operator, the graph's own or its part.
    Affine { op: Source<'g>, inputs: Vec<(usize, Option<Patch>, Vec<usize>)> },
    /// They pass to the inputs, mostly one, along lines or planes.
    Relaxed { inputs: Vec<(usize, Option<Patch>, Vec<usize>)> },
}

pub(crate) enum Source<'g> {
    Whole(&'g Op),
    Part(Box<Op>),
}

impl Source<'_> {
    pub fn op(&self) -> &Op {
        match self {
            Self::Whole(op) => op,
            Self::Part(op) => op,
        }
    }
}

/// The part of a node that is needed.
#[derive(Clone, Copy)]
enum Extent {
    Part(Patch),
    All,
}

impl Extent {
    fn join(self, other: Self) -> Self {
        match (self, other) {
            (Self::Part(a), Self::Part(b)) => Self::Part(a.union(&b)),
            _ => Self::All,
        }
    }

    fn patch(self) -> Option<Patch> {
        match self {
            Self::Part(patch) => Some(patch),
            Self::All => None,
        }
    }
}

impl<'g> Trace<'g> {
    pub fn new(
        prepared: &Prepared<'g>,
        state: &State,
        start: usize,
        patch: Option<Patch>,
        stop: Stop,
    ) -> Self {
        let nodes = prepared.graph.nodes();
        let mut needed: Vec<Option<Extent>> = vec![None; start + 1];
        needed[start] = Some(patch.map_or(Extent::All, Extent::Part));
        let mut steps = Vec::new();
        for index in (0..=start).rev() {
            let Some(mut extent) = needed[index] else { continue };
            let node = &nodes[index];
            if let (Extent::Part(patch), Some(whole)) = (extent, Patch::whole(&node.shape))
                && patch == whole
            {
                extent = Extent::All;
            }
            let shapes = prepared.graph.input_shapes(index);
            let site = Site { batch: 1, inputs: &shapes, output: &node.shape };
            let affine = prepared.nodes[index].affine;
            let elementwise =
                matches!(state.nodes[index].relaxation, Relaxation::Elementwise { .. });
            let stops = index == 0 || (stop == Stop::Nonlinear && !affine);
            let mut cropped = None;
            if let Extent::Part(patch) = extent
                && !stops
                && !elementwise
            {
                cropped = node.op.crop(&site, &patch);
                if cropped.is_none() {
                    extent = Extent::All;
                }
            }
            let inputs: Vec<Extent> = match (&cropped, extent) {
                (Some(part), _) => part.inputs.iter().map(|&p| Extent::Part(p)).collect(),
                (None, Extent::Part(patch)) => vec![Extent::Part(patch); node.inputs.len()],
                (None, Extent::All) => vec![Extent::All; node.inputs.len()],
            };
            let described = |slot: usize| {
                let (input, patch) = (node.inputs[slot], inputs[slot].patch());
                let shape = &nodes[input].shape;
                (input, patch, patch.map_or_else(|| shape.clone(), |p| p.shape(shape)))
            };
            let action = if stops {
                Action::Bound
            } else if affine {
                let op = match cropped {
                    Some(part) => Source::Part(Box::new(part.op)),
                    None => Source::Whole(&node.op),
                };
                Action::Affine { op, inputs: (0..inputs.len()).map(described).collect() }
            } else {
                Action::Relaxed { inputs: (0..node.inputs.len()).map(described).collect() }
            };
            if !stops {
                for (&input, &extent) in node.inputs.iter().zip(&inputs) {
                    let joined = needed[input].map_or(extent, |known| known.join(extent));
                    needed[input] = Some(joined);
                }
            }
            let patch = extent.patch();
            let shape = patch.map_or_else(|| node.shape.clone(), |p| p.shape(&node.shape));
            steps.push(Step { node: index, patch, shape, action });
        }
        let peak = peak(&steps);
        let work = steps.iter().map(Step::work).sum();
        Self { steps, asked: patch, peak, work }
    }
}

/// Follows the steps and counts the coefficients of a row that are alive together.
fn peak(steps: &[Step]) -> usize {
    let size = |node: usize| {
        steps.iter().find(|step| step.node == node).map_or(0, |s| s.shape.iter().product())
    };
    let mut alive: Vec<usize> = steps.first().map(|step| step.node).into_iter().collect();
    let mut most: usize = alive.iter().map(|&node| size(node)).sum();
    for step in steps {
        let mut extra = 0;
        let inputs: Vec<usize> = match &step.action {
            Action::Bound => Vec::new(),
            Action::Relaxed { inputs } if inputs.len() == 1 => vec![inputs[0].0],
            Action::Affine { inputs, .. } | Action::Relaxed { inputs } => {
                extra = inputs.iter().map(|(_, _, shape)| shape.iter().product::<usize>()).sum();
                inputs.iter().map(|input| input.0).collect()
            }
        };
        for input in inputs {
            if !alive.contains(&input) {
                alive.push(input);
            }
        }
        most = most.max(extra + alive.iter().map(|&node| size(node)).sum::<usize>());
        alive.retain(|&node| node != step.node);
    }
    most
}
