//! Random small graphs, over every operator or the plain ones, for property tests of this and
//! other crates.

use std::collections::BTreeMap;

use aisec_numeric::random::{Generator, Stream};
use serde_json::{Value, json};

use crate::ops::Op;
use crate::{Graph, GraphSpec, NodeSpec, Tensor};

/// Most elements of one sample at any node of a random graph.
const LARGEST: usize = 160;

/// A random graph: about `nodes` operators on a small image or vector, a pick of every
/// operator, residual additions, concatenations and shared nodes, and `classes` logits at the
/// end. The same arguments give the same graph.
pub fn random_graph(seed: u64, nodes: usize, classes: usize) -> Graph {
    let (spec, tensors) = random_spec(seed, nodes, classes);
    Graph::new(spec, tensors).expect("random graphs are valid")
}

/// The same with the operators that bend as well: a pick of all there are.
pub fn random_bent_graph(seed: u64, nodes: usize, classes: usize) -> Graph {
    let (spec, tensors) = random_bent_spec(seed, nodes, classes);
    Graph::new(spec, tensors).expect("random graphs are valid")
}

/// `batch` inputs of `graph`, uniform in [-1, 1).
pub fn random_input(seed: u64, graph: &Graph, batch: usize) -> Vec<f64> {
    let mut random = Stream::new(seed, "testing/input", 0).at(0, 0);
    (0..batch * graph.input_len()).map(|_| f64::from(random.signed())).collect()
}

/// The description behind [`random_graph`].
pub fn random_spec(seed: u64, nodes: usize, classes: usize) -> (GraphSpec, Vec<Tensor>) {
    random_from(&Op::NAMES[..PLAIN], seed, nodes, classes)
}

/// The description behind [`random_bent_graph`].
pub fn random_bent_spec(seed: u64, nodes: usize, classes: usize) -> (GraphSpec, Vec<Tensor>) {
    random_from(Op::NAMES, seed, nodes, classes)
}

fn random_from(
    operators: &[&str],
    seed: u64,
    nodes: usize,
    classes: usize,
) -> (GraphSpec, Vec<Tensor>) {
    let mut build = Builder::new(seed);
    for _ in 0..nodes {
        let op = operators[build.below(operators.len())];
        build.grow(op);
    }
    build.finish(classes)
}

/// The operators up to here are those of piecewise linear networks, sigmoid and tanh.
const PLAIN: usize = 20;

struct Builder {
    random: Generator,
    nodes: Vec<NodeSpec>,
    shapes: Vec<Vec<usize>>,
    tensors: Vec<Tensor>,
}

impl Builder {
    fn new(seed: u64) -> Self {
        let random = Stream::new(seed, "testing/graph", 0).at(0, 0);
        let mut build = Self { random, nodes: vec![], shapes: vec![], tensors: vec![] };
        let shape = if build.below(4) == 0 {
            vec![build.between(1, 7)]
        } else {
            vec![build.between(1, 3), build.between(3, 6), build.between(3, 6)]
        };
        build.push("input", &[], &[], json!({ "shape": shape }), shape);
        build
    }

    fn below(&mut self, n: usize) -> usize {
        self.random.below(n as u32) as usize
    }

    /// Uniform on `least..=most`.
    fn between(&mut self, least: usize, most: usize) -> usize {
        least + self.below(most - least + 1)
    }

    fn pair(&mut self, least: usize, most: usize) -> [usize; 2] {
        [self.between(least, most), self.between(least, most)]
    }

    fn push(
        &mut self,
        op: &str,
        inputs: &[usize],
        tensors: &[(&str, Vec<usize>, Vec<f64>)],
        attrs: Value,
        shape: Vec<usize>,
    ) -> usize {
        let mut roles = BTreeMap::new();
        for (role, shape, values) in tensors {
            roles.insert((*role).to_owned(), self.tensors.len());
            self.tensors.push(Tensor::new(shape.clone(), values.clone()).expect("sizes agree"));
        }
        let index = self.nodes.len();
        self.nodes.push(NodeSpec {
            name: format!("{op}_{index}"),
            op: op.to_owned(),
            inputs: inputs.to_vec(),
            tensors: roles,
            attrs: attrs.as_object().cloned().unwrap_or_default(),
        });
        self.shapes.push(shape);
        index
    }

    /// Values that float32 cannot hold, of about `scale`.
    fn values(&mut self, count: usize, scale: f64) -> Vec<f64> {
        (0..count).map(|_| f64::from(self.random.signed()) * scale * 1.1).collect()
    }

    /// A node for the next one to read, recent ones more often.
    fn source(&mut self, fits: impl Fn(&[usize]) -> bool) -> Option<usize> {
        let fitting: Vec<usize> =
            (0..self.shapes.len()).filter(|&i| fits(&self.shapes[i])).collect();
        let recent = fitting.len().min(3);
        match recent {
            0 => None,
            _ if self.below(4) == 0 => Some(fitting[self.below(fitting.len())]),
            _ => Some(fitting[fitting.len() - 1 - self.below(recent)]),
        }
    }

    /// A shape that broadcasts to `shape`.
    fn broadcastable(&mut self, shape: &[usize]) -> Vec<usize> {
        let dropped = self.below(shape.len() + 1);
        shape[dropped..].iter().map(|&n| if self.below(2) == 0 { 1 } else { n }).collect()
    }

    /// Appends one operator, or nothing where no node fits it or the result would be large.
    fn grow(&mut self, op: &str) {
        let image = |shape: &[usize]| shape.len() == 3;
        let fits = matches!(op, "conv2d" | "avg_pool2d" | "max_pool2d");
        let Some(x) = self.source(|shape| !shape.is_empty() && (!fits || image(shape))) else {
            return;
        };
        let shape = self.shapes[x].clone();
        let elements: usize = shape.iter().product();
        match op {
            "input" => {}
            "constant" => {
                let values = self.values(elements, 0.5);
                self.push(op, &[], &[("value", shape.clone(), values)], json!({}), shape);
            }
            "affine" => {
                let length = shape[shape.len() - 1];
                let out = self.between(1, 6);
                let mut output = shape;
                *output.last_mut().expect("has an axis") = out;
                if output.iter().product::<usize>() <= LARGEST {
                    let tensors = self.weights(vec![out, length], out, length);
                    self.push(op, &[x], &tensors, json!({}), output);
                }
            }
            "conv2d" => self.conv(x, &shape),
            "add_const" | "mul_const" | "div_const" => {
                let broadcast = self.broadcastable(&shape);
                let mut values = self.values(broadcast.iter().product(), 1.0);
                if op == "div_const" {
                    values.iter_mut().for_each(|v| *v = (v.abs() + 0.5).copysign(*v));
                }
                self.push(op, &[x], &[("value", broadcast, values)], json!({}), shape);
            }
            "add" | "sub" => {
                let other = self.source(|s| s == shape).expect("x itself fits");
                self.push(op, &[x, other], &[], json!({}), shape);
            }
            "reshape" => {
                let last = *shape.last().expect("has an axis");
                let output = match self.below(4) {
                    0 => vec![elements],
                    1 => [&shape[..], &[1]].concat(),
                    2 if shape.len() < 3 => [vec![1; 3 - shape.len()], shape].concat(),
                    _ => vec![elements / last, last],
                };
                self.push(op, &[x], &[], json!({ "shape": output }), output);
            }
            "transpose" => {
                let mut perm: Vec<usize> = (0..shape.len()).collect();
                for i in (1..perm.len()).rev() {
                    perm.swap(i, self.below(i + 1));
                }
                let output = perm.iter().map(|&axis| shape[axis]).collect();
                self.push(op, &[x], &[], json!({ "perm": perm }), output);
            }
            "pad" => {
                let before: Vec<usize> = shape.iter().map(|_| self.below(2)).collect();
                let after: Vec<usize> = shape.iter().map(|_| self.below(3)).collect();
                let output: Vec<usize> =
                    (0..shape.len()).map(|i| before[i] + shape[i] + after[i]).collect();
                if output.iter().product::<usize>() <= LARGEST {
                    let value = if self.below(2) == 0 { 0.0 } else { 0.3 };
                    let attrs = json!({ "before": before, "after": after, "value": value });
                    self.push(op, &[x], &[], attrs, output);
                }
            }
            "avg_pool2d" | "max_pool2d" => self.pool(op, x, &shape),
            "concat" => {
                let axis = self.below(shape.len());
                let mut inputs = vec![x];
                for _ in 0..self.between(0, 4) {
                    let other = self.source(|s| {
                        s.len() == shape.len()
                            && (0..s.len()).all(|i| i == axis || s[i] == shape[i])
                    });
                    inputs.push(other.expect("x itself fits"));
                }
                let mut output = shape;
                output[axis] = inputs.iter().map(|&input| self.shapes[input][axis]).sum();
                if output.iter().product::<usize>() <= LARGEST {
                    self.push(op, &inputs, &[], json!({ "axis": axis }), output);
                }
            }
            "slice" => {
                let (mut starts, mut counts, mut steps) = (vec![], vec![], vec![]);
                for &size in &shape {
                    let (first, last) = (self.below(size), self.below(size));
                    let step = self.between(1, 2);
                    counts.push(first.abs_diff(last) / step + 1);
                    starts.push(first);
                    steps.push(if last < first { -(step as isize) } else { step as isize });
                }
                let attrs = json!({ "starts": starts, "counts": counts, "steps": steps });
                self.push(op, &[x], &[], attrs, counts);
            }
            "leaky_relu" => {
                let slope = [0.01, 0.2, 1.5, -0.3][self.below(4)];
                self.push(op, &[x], &[], json!({ "slope": slope }), shape);
            }
            "relu" | "sigmoid" | "tanh" => {
                self.push(op, &[x], &[], json!({}), shape);
            }
            "sin" | "cos" | "erf" | "sign" | "softplus" | "elu" | "silu" | "gelu" => {
                self.push(op, &[x], &[], json!({}), shape);
            }
            "mul" => {
                // Another node that broadcasts to this one's shape.
                let fits = |s: &[usize]| {
                    let own = shape.iter().rev().zip(s.iter().rev());
                    s.len() <= shape.len() && own.into_iter().all(|(&n, &m)| m == n || m == 1)
                };
                let other = self.source(fits).expect("x itself fits");
                let x = self.push("tanh", &[x], &[], json!({}), shape.clone());
                self.push(op, &[x, other], &[], json!({}), shape);
            }
            "exp" | "square" | "cube" => {
                // Of small numbers: powers of powers soon leave all bounds.
                let x = self.push("tanh", &[x], &[], json!({}), shape.clone());
                self.push(op, &[x], &[], json!({}), shape);
            }
            "log" | "sqrt" | "reciprocal" => {
                // Of positive numbers, and some negative ones where there may be.
                let x = self.push("softplus", &[x], &[], json!({}), shape.clone());
                let least = vec![0.2];
                let mut x = self.push(
                    "add_const",
                    &[x],
                    &[("value", vec![1], least)],
                    json!({}),
                    shape.clone(),
                );
                if op == "reciprocal" && self.below(2) == 0 {
                    let sign = ("value", vec![1], vec![-1.0]);
                    x = self.push("mul_const", &[x], &[sign], json!({}), shape.clone());
                }
                self.push(op, &[x], &[], json!({}), shape);
            }
            other => unreachable!("operator {other} has no random case"),
        }
    }

    /// Weight and bias that keep values of about the size of the input's.
    fn weights(
        &mut self,
        shape: Vec<usize>,
        out: usize,
        fan_in: usize,
    ) -> [(&'static str, Vec<usize>, Vec<f64>); 2] {
        let weight = self.values(shape.iter().product(), (3.0 / fan_in as f64).sqrt());
        let bias = self.values(out, 0.3);
        [("weight", shape, weight), ("bias", vec![out], bias)]
    }

    fn conv(&mut self, x: usize, shape: &[usize]) {
        let groups = if self.below(2) == 0 { shape[0] } else { 1 };
        let channels = shape[0] / groups;
        let out = groups * self.between(1, 3);
        let (kernel, stride, dilation) = (self.pair(1, 3), self.pair(1, 2), self.pair(1, 2));
        let padding = [self.pair(0, 2), self.pair(0, 2)].concat();
        let Some([height, width]) = sliding(&shape[1..], kernel, stride, &padding, dilation) else {
            return;
        };
        if out * height * width > LARGEST {
            return;
        }
        let fan_in = channels * kernel[0] * kernel[1];
        let tensors = self.weights(vec![out, channels, kernel[0], kernel[1]], out, fan_in);
        let attrs = json!({
            "stride": stride, "padding": padding, "dilation": dilation, "groups": groups
        });
        self.push("conv2d", &[x], &tensors, attrs, vec![out, height, width]);
    }

    fn pool(&mut self, op: &str, x: usize, shape: &[usize]) {
        let (kernel, stride) = (self.pair(1, 3), self.pair(1, 3));
        let dilation = if op == "max_pool2d" { self.pair(1, 2) } else { [1, 1] };
        let mut padding = [self.pair(0, 1), self.pair(0, 1)].concat();
        for axis in 0..4 {
            // With a dilated kernel a window can straddle the input and see none of it.
            if kernel[axis % 2] <= padding[axis] || dilation[axis % 2] > 1 {
                padding[axis] = 0;
            }
        }
        let Some([height, width]) = sliding(&shape[1..], kernel, stride, &padding, dilation) else {
            return;
        };
        let mut attrs = json!({ "kernel": kernel, "stride": stride, "padding": padding });
        if op == "max_pool2d" {
            attrs["dilation"] = json!(dilation);
        } else {
            attrs["count_include_pad"] = json!(self.below(2) == 0);
        }
        self.push(op, &[x], &[], attrs, vec![shape[0], height, width]);
    }

    fn finish(mut self, classes: usize) -> (GraphSpec, Vec<Tensor>) {
        let last = self.nodes.len() - 1;
        let length = self.shapes[last].iter().product();
        let flat = self.push("reshape", &[last], &[], json!({ "shape": [length] }), vec![length]);
        let tensors = self.weights(vec![classes, length], classes, length);
        let output = self.push("affine", &[flat], &tensors, json!({}), vec![classes]);
        (GraphSpec { nodes: self.nodes, output }, self.tensors)
    }
}

/// The output's height and width, unless the kernel does not fit.
fn sliding(
    size: &[usize],
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: &[usize],
    dilation: [usize; 2],
) -> Option<[usize; 2]> {
    let along = |axis: usize| {
        let padded = size[axis] + padding[axis] + padding[axis + 2];
        let room = padded.checked_sub((kernel[axis] - 1) * dilation[axis] + 1)?;
        Some(room / stride[axis] + 1)
    };
    Some([along(0)?, along(1)?])
}
