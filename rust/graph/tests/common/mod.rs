//! What several test files share.

use aisec_graph::{Graph, Operator, Site};

/// Every node's float64 value, each in its own buffer, one operator after another.
pub fn values_of_all_nodes(graph: &Graph, x: &[f64], batch: usize) -> Vec<Vec<f64>> {
    let mut values: Vec<Vec<f64>> = vec![x.to_vec()];
    for (index, node) in graph.nodes().iter().enumerate().skip(1) {
        let shapes = graph.input_shapes(index);
        let site = Site { batch, inputs: &shapes, output: &node.shape };
        let inputs: Vec<&[f64]> = node.inputs.iter().map(|&input| &values[input][..]).collect();
        let mut output = vec![f64::NAN; batch * node.len()];
        node.op.forward(&site, &inputs, &mut output);
        values.push(output);
    }
    values
}
