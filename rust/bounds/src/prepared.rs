//! What bound propagation needs to know of a graph, worked out once for each graph.

use aisec_graph::{Graph, Operator, Site};
use aisec_numeric::Cancel;

/// A graph with the parts of its operators that do not depend on the region.
pub(crate) struct Prepared<'g> {
    pub graph: &'g Graph,
    pub nodes: &'g [Facts],
    pub cancel: &'g Cancel,
}

/// What holds of one node for every region.
pub(crate) struct Facts {
    pub affine: bool,
    /// The value at zero of an affine node, where it is not zero everywhere.
    pub constant: Option<Vec<f64>>,
    /// Roundings behind one coefficient that is carried back through the node.
    pub terms: usize,
    /// Interval arithmetic gives the exact range of each element over a box.
    pub exact_on_boxes: bool,
    /// The operators that are not affine and read this node.
    pub readers: Vec<usize>,
    /// Every path from the input to the node is affine.
    pub affine_in_input: bool,
    /// The output depends on the node through affine operators alone, itself included.
    pub behind_output: bool,
}

impl<'g> Prepared<'g> {
    pub fn new(graph: &'g Graph, cancel: &'g Cancel) -> Self {
        Self { graph, nodes: graph.facts(|| Facts::of(graph)), cancel }
    }
}

impl Facts {
    /// Those of all nodes.
    fn of(graph: &Graph) -> Vec<Self> {
        let nodes = graph.nodes();
        let mut facts: Vec<Self> = Vec::with_capacity(nodes.len());
        // Whether a box of inputs makes a box of this node's values.
        let mut is_box: Vec<bool> = Vec::with_capacity(nodes.len());
        for (index, node) in nodes.iter().enumerate() {
            let shapes = graph.input_shapes(index);
            let site = Site { batch: 1, inputs: &shapes, output: &node.shape };
            let affine = node.op.is_affine();
            let constant = (affine && index > 0).then(|| {
                let zeros: Vec<Vec<f64>> =
                    node.inputs.iter().map(|&input| vec![0.0; nodes[input].len()]).collect();
                let zeros: Vec<&[f64]> = zeros.iter().map(Vec::as_slice).collect();
                let mut value = vec![0.0; node.len()];
                node.op.forward(&site, &zeros, &mut value);
                value
            });
            let from_box = node.inputs.len() <= 1 && node.inputs.iter().all(|&i| is_box[i]);
            is_box.push(index == 0 || (from_box && node.op.is_separable()));
            facts.push(Self {
                affine,
                constant: constant.filter(|value| value.iter().any(|&c| c != 0.0)),
                terms: if affine { node.op.terms(&site) } else { 1 },
                exact_on_boxes: from_box,
                readers: Vec::new(),
                affine_in_input: affine && node.inputs.iter().all(|&i| facts[i].affine_in_input),
                behind_output: false,
            });
            if !affine {
                node.inputs.iter().for_each(|&input| facts[input].readers.push(index));
            }
        }
        let mut reached = vec![false; nodes.len()];
        reached[graph.output()] = true;
        for index in (0..nodes.len()).rev() {
            if reached[index] && facts[index].affine {
                facts[index].behind_output = true;
                nodes[index].inputs.iter().for_each(|&input| reached[input] = true);
            }
        }
        facts
    }
}
