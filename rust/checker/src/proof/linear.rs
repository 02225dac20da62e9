//! The affine operators, from their definitions: each output element is a sum of constants times
//! elements of the inputs, divided by a constant, plus a constant.

use std::sync::Arc;

use aisec_graph::{Graph, Tensor};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::windows::Windows;

/// An affine operator at its place in a graph.
#[derive(Debug)]
pub(crate) enum Linear {
    /// Each element is an element of an input (slot, index), or a constant.
    Moved {
        from: Vec<Option<(usize, usize)>>,
        constant: Vec<f64>,
    },
    /// `factor·x / divisor + shift`, element by element.
    Scaled {
        factor: Vec<f64>,
        divisor: Vec<f64>,
        shift: Vec<f64>,
    },
    /// The first input plus `sign` times the second.
    Sum {
        signs: [f64; 2],
    },
    /// `weight [out, in]` and `bias` on the last axis.
    Dense {
        weight: Arc<Tensor>,
        bias: Arc<Tensor>,
    },
    Conv(Conv),
    /// Mean over windows; divisors per output position of a channel.
    Average {
        windows: Windows,
        ones: Vec<f64>,
        divisor: Vec<f64>,
    },
}

/// Where an element comes from: slot and index.
type Source = Option<(usize, usize)>;

#[derive(Debug)]
pub(crate) struct Conv {
    weight: Arc<Tensor>,
    bias: Arc<Tensor>,
    windows: Windows,
    /// Input channels and output channels of one group.
    group: (usize, usize),
}

/// One attribute of a node, which the graph has checked.
pub(crate) fn attr<A: DeserializeOwned>(attrs: &Value, name: &str) -> Result<A, String> {
    let value = attrs.get(name).ok_or_else(|| format!("attribute {name} is missing"))?;
    serde_json::from_value(value.clone()).map_err(|error| format!("attribute {name}: {error}"))
}

fn strides(shape: &[usize]) -> Vec<usize> {
    (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect()
}

/// The indices of element `flat`.
fn unravel(mut flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for axis in (0..shape.len()).rev() {
        index[axis] = flat % shape[axis];
        flat /= shape[axis];
    }
    index
}

fn ravel(index: &[usize], shape: &[usize]) -> usize {
    index.iter().zip(strides(shape)).map(|(i, stride)| i * stride).sum()
}

impl Linear {
    /// The operator of a node, `None` where it is not affine.
    pub fn new(graph: &Graph, at: usize) -> Result<Option<Self>, String> {
        let node = &graph.nodes()[at];
        let shapes = graph.input_shapes(at);
        let len = node.len();
        let tensor = |role: &str| {
            node.tensors.get(role).cloned().ok_or_else(|| format!("tensor {role} is missing"))
        };
        // The value broadcast to the node's shape.
        let broadcast = || -> Result<Vec<f64>, String> {
            let value = tensor("value")?;
            let missing = node.shape.len() - value.shape().len();
            let pick = |flat| {
                let index = unravel(flat, &node.shape);
                let own = value.shape().iter().zip(&index[missing..]);
                let own: Vec<usize> = own.map(|(&n, &i)| if n == 1 { 0 } else { i }).collect();
                value.f64()[ravel(&own, value.shape())]
            };
            Ok((0..len).map(pick).collect())
        };
        let scaled =
            |factor: Option<Vec<f64>>, divisor: Option<Vec<f64>>, shift: Option<Vec<f64>>| {
                Self::Scaled {
                    factor: factor.unwrap_or_else(|| vec![1.0; len]),
                    divisor: divisor.unwrap_or_else(|| vec![1.0; len]),
                    shift: shift.unwrap_or_else(|| vec![0.0; len]),
                }
            };
        let moved = |pick: &dyn Fn(&[usize]) -> Source, fill: f64| {
            let from: Vec<_> = (0..len).map(|flat| pick(&unravel(flat, &node.shape))).collect();
            let constant = from.iter().map(|x| if x.is_some() { 0.0 } else { fill }).collect();
            Self::Moved { from, constant }
        };
        Ok(Some(match node.op.name() {
            "constant" => {
                let constant = tensor("value")?.f64().to_vec();
                Self::Moved { from: vec![None; len], constant }
            }
            "reshape" => {
                let from = (0..len).map(|flat| Some((0, flat))).collect();
                Self::Moved { from, constant: vec![0.0; len] }
            }
            "transpose" => {
                let perm: Vec<usize> = attr(&node.attrs, "perm")?;
                let pick = |index: &[usize]| {
                    let mut source = vec![0; index.len()];
                    perm.iter().zip(index).for_each(|(&axis, &i)| source[axis] = i);
                    Some((0, ravel(&source, shapes[0])))
                };
                moved(&pick, 0.0)
            }
            "slice" => {
                let starts: Vec<isize> = attr(&node.attrs, "starts")?;
                let steps: Vec<isize> = attr(&node.attrs, "steps")?;
                let pick = |index: &[usize]| {
                    let along = |axis: usize| {
                        let steps = if index[axis] == 0 { 0 } else { steps[axis] };
                        (starts[axis] + steps * index[axis] as isize) as usize
                    };
                    let source: Vec<usize> = (0..index.len()).map(along).collect();
                    Some((0, ravel(&source, shapes[0])))
                };
                moved(&pick, 0.0)
            }
            "pad" => {
                let before: Vec<usize> = attr(&node.attrs, "before")?;
                let fill: f64 = attr(&node.attrs, "value")?;
                let pick = |index: &[usize]| {
                    let along = |axis: usize| {
                        index[axis].checked_sub(before[axis]).filter(|&i| i < shapes[0][axis])
                    };
                    let source: Option<Vec<usize>> = (0..index.len()).map(along).collect();
                    source.map(|source| (0, ravel(&source, shapes[0])))
                };
                moved(&pick, fill)
            }
            "concat" => {
                let axis: usize = attr(&node.attrs, "axis")?;
                let pick = |index: &[usize]| {
                    let mut source = index.to_vec();
                    for (slot, shape) in shapes.iter().enumerate() {
                        if source[axis] < shape[axis] {
                            return Some((slot, ravel(&source, shape)));
                        }
                        source[axis] -= shape[axis];
                    }
                    None
                };
                moved(&pick, f64::NAN)
            }
            "add_const" => scaled(None, None, Some(broadcast()?)),
            "mul_const" => scaled(Some(broadcast()?), None, None),
            "div_const" => scaled(None, Some(broadcast()?), None),
            "add" => Self::Sum { signs: [1.0, 1.0] },
            "sub" => Self::Sum { signs: [1.0, -1.0] },
            "affine" => Self::Dense { weight: tensor("weight")?, bias: tensor("bias")? },
            "conv2d" => {
                let (weight, bias) = (tensor("weight")?, tensor("bias")?);
                let groups: usize = attr(&node.attrs, "groups")?;
                let kernel = [weight.shape()[2], weight.shape()[3]];
                Self::Conv(Conv {
                    windows: Windows::new(node, shapes[0], kernel)?,
                    group: (weight.shape()[1], weight.shape()[0] / groups),
                    weight,
                    bias,
                })
            }
            "avg_pool2d" => {
                let kernel: [usize; 2] = attr(&node.attrs, "kernel")?;
                let padded: bool = attr(&node.attrs, "count_include_pad")?;
                let windows = Windows::new(node, shapes[0], kernel)?;
                let count = |at: usize| {
                    let mut seen = 0;
                    windows.taps(at, |_, _| seen += 1);
                    if padded { (kernel[0] * kernel[1]) as f64 } else { f64::from(seen) }
                };
                let divisor = (0..windows.outputs()).map(count).collect();
                Self::Average { ones: vec![1.0], divisor, windows }
            }
            _ => return Ok(None),
        }))
    }

    /// Calls `visit(slot, start, weights)` for the terms of one output element: `weights` meet
    /// the elements of input `slot` from `start` on.
    pub fn terms<'a>(&'a self, output: usize, mut visit: impl FnMut(usize, usize, &'a [f64])) {
        const ONE: &[f64] = &[1.0];
        match self {
            Self::Moved { from, .. } => {
                if let Some((slot, at)) = from[output] {
                    visit(slot, at, ONE);
                }
            }
            Self::Scaled { factor, .. } => visit(0, output, &factor[output..=output]),
            Self::Sum { signs } => {
                visit(0, output, &signs[..1]);
                visit(1, output, &signs[1..]);
            }
            Self::Dense { weight, .. } => {
                let (out, length) = (weight.shape()[0], weight.shape()[1]);
                let row = output % out;
                visit(0, output / out * length, &weight.f64()[row * length..(row + 1) * length]);
            }
            Self::Conv(conv) => conv.terms(output, |start, weights| visit(0, start, weights)),
            Self::Average { windows, ones, .. } => {
                let first = output / windows.outputs() * windows.area();
                windows.taps(output % windows.outputs(), |_, at| visit(0, first + at, ones));
            }
        }
    }

    /// Rows, columns and entries of the matrix, where it is one on the last axis.
    pub fn dense(&self) -> Option<(usize, usize, &[f64])> {
        match self {
            Self::Dense { weight, .. } => {
                Some((weight.shape()[0], weight.shape()[1], weight.f64()))
            }
            _ => None,
        }
    }

    /// Whether windows slide over its one input.
    pub fn slides(&self) -> bool {
        matches!(self, Self::Conv(_) | Self::Average { .. })
    }

    /// The most outputs that read one and the same element of an input.
    pub fn fan(&self) -> usize {
        match self {
            Self::Moved { from, .. } => {
                let mut read: Vec<_> = from.iter().flatten().collect();
                read.sort_unstable();
                read.chunk_by(|a, b| a == b).map(<[_]>::len).max().unwrap_or(0)
            }
            Self::Scaled { .. } | Self::Sum { .. } => 1,
            Self::Dense { weight, .. } => weight.shape()[0],
            Self::Conv(conv) => conv.group.1 * conv.windows.overlap(),
            Self::Average { windows, .. } => windows.overlap(),
        }
    }

    /// What the sum behind an output element is divided by.
    pub fn divisor(&self, output: usize) -> f64 {
        match self {
            Self::Scaled { divisor, .. } => divisor[output],
            Self::Average { divisor, .. } => divisor[output % divisor.len()],
            _ => 1.0,
        }
    }

    /// What is added to it then.
    pub fn constant(&self, output: usize) -> f64 {
        match self {
            Self::Moved { constant, .. } => constant[output],
            Self::Scaled { shift, .. } => shift[output],
            Self::Dense { bias, .. } => bias.f64()[output % bias.len()],
            Self::Conv(conv) => conv.bias.f64()[output / conv.windows.outputs()],
            Self::Sum { .. } | Self::Average { .. } => 0.0,
        }
    }

    /// Whether each output reads at most one input element, and no two the same one.
    pub fn is_separable(&self) -> bool {
        match self {
            Self::Moved { from, .. } => {
                let mut read: Vec<_> = from.iter().flatten().collect();
                let all = read.len();
                read.sort_unstable();
                read.dedup();
                read.len() == all
            }
            Self::Scaled { .. } => true,
            _ => false,
        }
    }
}

impl Conv {
    fn terms<'a>(&'a self, output: usize, mut visit: impl FnMut(usize, &'a [f64])) {
        let windows = &self.windows;
        let (channel, position) = (output / windows.outputs(), output % windows.outputs());
        let (channels, outputs) = self.group;
        let first = channel / outputs * channels * windows.area();
        let taps = windows.kernel[0] * windows.kernel[1];
        let weight = &self.weight.f64()[channel * channels * taps..(channel + 1) * channels * taps];
        // Kernel entries side by side that meet elements side by side.
        let mut runs: Vec<(usize, usize, usize)> = Vec::with_capacity(windows.kernel[0]);
        windows.taps(position, |tap, at| match runs.last_mut() {
            Some((t, p, n)) if *t + *n == tap && *p + *n == at => *n += 1,
            _ => runs.push((tap, at, 1)),
        });
        for c in 0..channels {
            for &(tap, at, n) in &runs {
                let start = c * taps + tap;
                visit(first + c * windows.area() + at, &weight[start..start + n]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use aisec_graph::testing::{random_graph, random_input};

    use super::*;

    /// The definitions here give what the graph's operators compute.
    #[test]
    fn definitions_agree_with_the_operators() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..400 {
            let graph = random_graph(seed, 12, 3);
            let x = random_input(seed, &graph, 1);
            let value = |node: usize| graph.interval(node, &x, &x, 1, &Default::default()).unwrap();
            for at in 1..graph.nodes().len() {
                let Some(linear) = Linear::new(&graph, at).unwrap() else { continue };
                seen.insert(graph.nodes()[at].op.name());
                let inputs: Vec<(Vec<f64>, Vec<f64>)> =
                    graph.nodes()[at].inputs.iter().map(|&input| value(input)).collect();
                let mut readers = std::collections::BTreeMap::new();
                for output in 0..graph.nodes()[at].len() {
                    linear.terms(output, |slot, start, weights| {
                        (start..start + weights.len())
                            .for_each(|i| *readers.entry((slot, i)).or_insert(0) += 1);
                    });
                }
                assert!(readers.values().all(|&count| count <= linear.fan()));
                assert!(readers.is_empty() || readers.values().any(|&n| n == linear.fan()));
                let (low, high) = value(at);
                for output in 0..graph.nodes()[at].len() {
                    let (mut sum, mut room) = (0.0, 1e-12);
                    linear.terms(output, |slot, start, weights| {
                        for (i, w) in weights.iter().enumerate() {
                            sum += w * inputs[slot].0[start + i];
                            room += 2.0
                                * (w * (inputs[slot].1[start + i] - inputs[slot].0[start + i]))
                                    .abs();
                        }
                    });
                    let y = sum / linear.divisor(output) + linear.constant(output);
                    let room = room * (1.0 + y.abs()) / linear.divisor(output).abs().min(1.0);
                    assert!(low[output] - room <= y && y <= high[output] + room, "{at} {output}");
                }
            }
        }
        assert_eq!(seen.len(), 14, "{seen:?}");
    }
}
