//! Max pooling as ReLUs of differences: `max(a, b) = b + relu(a - b)`, pair by pair along one axis
//! and then the other, which is the same in real arithmetic.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::constants::Constants;
use crate::graph::{Node, build_node};
use crate::ops::{Op, Window};
use crate::{Graph, NodeSpec, Result};

/// Most nodes that one pooling is replaced by.
const LARGEST: usize = 400;

impl Graph {
    /// The graph without the max poolings that can be replaced: those without padding, or of values
    /// that are nowhere negative, so that padding with zeros changes nothing. `None` where there is
    /// none of them. Made the first time it is asked for.
    pub fn without_maxima(&self) -> Option<&Self> {
        self.without_maxima.get_or_init(|| self.replace_maxima().map(Box::new)).as_deref()
    }

    fn replace_maxima(&self) -> Option<Self> {
        let mut build = Build { nodes: Vec::new(), constants: Constants::new(Vec::new()) };
        let mut place: Vec<usize> = Vec::with_capacity(self.nodes().len());
        let mut replaced = false;
        for node in self.nodes() {
            let inputs: Vec<usize> = node.inputs.iter().map(|&input| place[input]).collect();
            let pooled = match &node.op {
                Op::MaxPool2d(pool) => {
                    let positive = is_positive(self, node.inputs[0]);
                    build.pool(node, pool.windows(), inputs[0], positive)
                }
                _ => None,
            };
            replaced |= pooled.is_some();
            place.push(pooled.unwrap_or_else(|| {
                build.nodes.push(Node { inputs, ..node.clone() });
                build.nodes.len() - 1
            }));
        }
        let digest = blake3::hash(format!("{} without maxima", self.digest()).as_bytes());
        let (output, digest) = (place[self.output()], digest.to_hex().to_string());
        replaced.then(|| Self::of_nodes(build.nodes, output, digest))
    }
}

/// Whether no value of a node is negative, as its operator says.
fn is_positive(graph: &Graph, node: usize) -> bool {
    let Node { op, inputs, .. } = &graph.nodes()[node];
    match op {
        Op::Relu(_) | Op::Sigmoid(_) | Op::Exp(_) | Op::Square(_) | Op::Softplus(_) => true,
        Op::MaxPool2d(_) | Op::Reshape(_) | Op::Transpose(_) | Op::Slice(_) => {
            is_positive(graph, inputs[0])
        }
        Op::Add(_) | Op::Concat(_) => inputs.iter().all(|&input| is_positive(graph, input)),
        _ => false,
    }
}

struct Build {
    nodes: Vec<Node>,
    constants: Constants,
}

impl Build {
    fn push(&mut self, name: &str, op: &str, inputs: &[usize], attrs: Value) -> Result<usize> {
        let spec = NodeSpec {
            name: name.to_owned(),
            op: op.to_owned(),
            inputs: inputs.to_vec(),
            tensors: BTreeMap::new(),
            attrs: attrs.as_object().cloned().unwrap_or_default(),
        };
        let (node, _) = build_node(&self.nodes, spec, &mut self.constants)?;
        self.nodes.push(node);
        Ok(self.nodes.len() - 1)
    }

    /// The node that has a pooling's values; `None` where it cannot be replaced.
    fn pool(
        &mut self,
        node: &Node,
        windows: [Window; 2],
        input: usize,
        positive: bool,
    ) -> Option<usize> {
        let padded = windows.iter().any(|window| window.before + window.after > 0);
        let taps = windows[0].kernel + windows[1].kernel;
        if padded && !positive || 4 * taps > LARGEST {
            return None;
        }
        let first = self.nodes.len();
        let found = self.both_axes(node, windows, input, padded);
        if found.is_err() {
            self.nodes.truncate(first); // it would be too large
        }
        found.ok()
    }

    fn both_axes(
        &mut self,
        node: &Node,
        windows: [Window; 2],
        input: usize,
        padded: bool,
    ) -> Result<usize> {
        let mut at = input;
        if padded {
            let before = [0, windows[0].before, windows[1].before];
            let after = [0, windows[0].after, windows[1].after];
            let attrs = json!({ "before": before, "after": after, "value": 0.0 });
            at = self.push(&node.name, "pad", &[at], attrs)?;
        }
        // Columns first: lines of the image are one after another.
        for axis in [1, 0] {
            at = self.along(&node.name, axis + 1, windows[axis], node.shape[axis + 1], at)?;
        }
        Ok(at)
    }

    /// The largest of the taps along one axis.
    fn along(
        &mut self,
        name: &str,
        axis: usize,
        window: Window,
        outputs: usize,
        input: usize,
    ) -> Result<usize> {
        let mut open: Vec<usize> = Vec::with_capacity(window.kernel);
        for tap in 0..window.kernel {
            let mut counts = self.nodes[input].shape.clone();
            let (mut starts, mut steps) = (vec![0; counts.len()], vec![1; counts.len()]);
            starts[axis] = tap * window.dilation;
            (counts[axis], steps[axis]) = (outputs, window.stride);
            let attrs = json!({ "starts": starts, "counts": counts, "steps": steps });
            open.push(self.push(name, "slice", &[input], attrs)?);
        }
        while open.len() > 1 {
            let pairs: Vec<Vec<usize>> = open.chunks(2).map(<[usize]>::to_vec).collect();
            open.clear();
            for pair in pairs {
                let &[a, b] = &pair[..] else {
                    open.extend(pair);
                    continue;
                };
                let difference = self.push(name, "sub", &[a, b], json!({}))?;
                let more = self.push(name, "relu", &[difference], json!({}))?;
                open.push(self.push(name, "add", &[b, more], json!({}))?);
            }
        }
        Ok(open[0])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::GraphSpec;

    fn pooled(shape: [usize; 3], attrs: &Value, relu: bool) -> Result<Graph> {
        let mut nodes = vec![json!({ "name": "x", "op": "input", "attrs": { "shape": shape } })];
        if relu {
            nodes.push(json!({ "name": "r", "op": "relu", "inputs": [0] }));
        }
        let last = nodes.len() - 1;
        nodes.push(json!({ "name": "m", "op": "max_pool2d", "inputs": [last], "attrs": attrs }));
        let spec = json!({ "nodes": nodes, "output": last + 1 }).to_string();
        Graph::new(GraphSpec::from_json(&spec)?, Vec::new())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

        /// Integers are added without rounding, so that the values are the same.
        #[test]
        fn values_stay(
            shape in (1..3usize, 1..8usize, 1..8usize),
            kernel in (1..4usize, 1..5usize), stride in (1..4usize, 1..4usize),
            padding in prop_oneof![Just([0; 4]), prop::array::uniform4(0..2usize)],
            dilation in (1..3usize, 1..3usize), relu: bool, seed: u64,
        ) {
            let attrs = json!({
                "kernel": [kernel.0, kernel.1], "stride": [stride.0, stride.1],
                "padding": padding, "dilation": [dilation.0, dilation.1],
            });
            let Ok(graph) = pooled([shape.0, shape.1, shape.2], &attrs, relu) else { return Ok(()) };
            let x: Vec<f64> = crate::testing::random_input(seed, &graph, 1)
                .iter().map(|x| (9.0 * x).round()).collect();
            match graph.without_maxima() {
                Some(other) => {
                    prop_assert_eq!(graph.forward(&x, 1), other.forward::<f64>(&x, 1));
                    prop_assert!(other.without_maxima().is_none());
                    prop_assert!(other.digest() != graph.digest());
                }
                None => prop_assert!(!relu && padding != [0; 4]),
            }
        }
    }

    #[test]
    fn what_has_none_stays_as_it_is() {
        let graph = crate::testing::random_graph(3, 0, 2);
        assert!(graph.without_maxima().is_none());
    }
}
