//! A checked graph: every shape inferred, every constant finite, every index in range.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use crate::constants::Constants;
use crate::error::one_line;
use crate::operator::{Operator, Site};
use crate::ops::Op;
use crate::plan::Plan;
use crate::shape::{MAX_ELEMENTS, elements};
use crate::spare::Spare;
use crate::spec::{NodeSpec, Parts};
use crate::{Error, GraphSpec, Result, Tensor};

/// One operator applied to the outputs of earlier nodes.
#[derive(Debug, Clone)]
pub struct Node {
    pub name: String,
    pub op: Op,
    /// Indices of the nodes it reads, all smaller than its own.
    pub inputs: Vec<usize>,
    /// One sample's output shape.
    pub shape: Vec<usize>,
    /// What `op` was built from: attributes in canonical form, for code that gives operators
    /// their meaning independently of [`Op`].
    pub attrs: Value,
    /// Constants by their role.
    pub tensors: BTreeMap<String, Arc<Tensor>>,
}

impl Node {
    /// Elements of one sample's output.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Never: every size is at least 1.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A directed acyclic graph of operators from one input to one output. Immutable.
#[derive(Debug)]
pub struct Graph {
    nodes: Vec<Node>,
    output: usize,
    digest: String,
    pub(crate) forward: Plan,
    pub(crate) recording: Plan,
    work: usize,
    pub(crate) spare: Spare,
    facts: OnceLock<Box<dyn Any + Send + Sync>>,
    pub(crate) without_maxima: OnceLock<Option<Box<Self>>>,
}

impl Graph {
    /// Checks a description and its tensors, which the nodes refer to by index.
    pub fn new(spec: GraphSpec, tensors: Vec<Tensor>) -> Result<Self> {
        let mut constants = Constants::new(tensors);
        let mut nodes: Vec<Node> = Vec::new();
        let mut canonical = Vec::new();
        let mut total = 0usize;
        for (index, described) in spec.nodes.into_iter().enumerate() {
            let name = described.name.clone();
            let (node, line) = build_node(&nodes, described, &mut constants)?;
            total = total.saturating_add(node.len());
            if total > MAX_ELEMENTS {
                let reason = format!(
                    "nodes up to here have more than {MAX_ELEMENTS} elements a sample; use a smaller model"
                );
                return Err(Error::node(index, &name, reason));
            }
            nodes.push(node);
            canonical.push(line);
        }
        if nodes.is_empty() {
            return Err(Error::spec("there are no nodes; node 0 must be `input`"));
        }
        if spec.output >= nodes.len() {
            let last = nodes.len() - 1;
            return Err(Error::spec(format!("output {} is not a node (0 to {last})", spec.output)));
        }
        let computed = serde_json::json!(["aisec graph 1", canonical, spec.output]).to_string();
        let digest = blake3::hash(computed.as_bytes()).to_hex().to_string();
        Ok(Self::of_nodes(nodes, spec.output, digest))
    }

    /// With nodes that were checked.
    pub(crate) fn of_nodes(nodes: Vec<Node>, output: usize, digest: String) -> Self {
        let forward = Plan::forward(&nodes, output);
        let recording = Plan::recording(&nodes, output);
        let work = (0..=output).map(|node| work(&nodes, node)).fold(0, usize::saturating_add);
        Self {
            nodes,
            output,
            digest,
            forward,
            recording,
            work,
            spare: Spare::default(),
            facts: OnceLock::new(),
            without_maxima: OnceLock::new(),
        }
    }

    /// What an engine needs to know of the graph besides: made the first time, kept with it.
    ///
    /// # Panics
    /// When asked for another type than the first time.
    pub fn facts<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> &T {
        let kept = self.facts.get_or_init(|| Box::new(make()));
        kept.downcast_ref().expect("facts keep their type")
    }

    /// In topological order; node 0 is the input.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The index of the output node.
    pub fn output(&self) -> usize {
        self.output
    }

    /// One sample's shape.
    pub fn input_shape(&self) -> &[usize] {
        &self.nodes[0].shape
    }

    pub fn output_shape(&self) -> &[usize] {
        &self.nodes[self.output].shape
    }

    /// Elements of one input sample.
    pub fn input_len(&self) -> usize {
        self.nodes[0].len()
    }

    /// Elements of one output sample.
    pub fn output_len(&self) -> usize {
        self.nodes[self.output].len()
    }

    /// BLAKE3 of what the graph computes, in hex: operators, edges, attributes and tensors;
    /// not the names of nodes, nor how tensors are numbered or shared.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Scalar operations of one sample's forward pass, roughly.
    pub fn work(&self) -> usize {
        self.work
    }

    /// Where `node` is applied, for a `batch` of samples; `shapes` holds its inputs' shapes.
    pub(crate) fn site<'a>(
        &'a self,
        node: usize,
        shapes: &'a [&'a [usize]],
        batch: usize,
    ) -> Site<'a> {
        Site { batch, inputs: shapes, output: &self.nodes[node].shape }
    }

    /// Shapes of the inputs of `node`.
    pub fn input_shapes(&self, node: usize) -> Vec<&[usize]> {
        self.nodes[node].inputs.iter().map(|&input| &self.nodes[input].shape[..]).collect()
    }
}

/// Scalar operations of one sample at `node`.
fn work(nodes: &[Node], node: usize) -> usize {
    let Node { op, inputs, shape, .. } = &nodes[node];
    let shapes: Vec<&[usize]> = inputs.iter().map(|&input| &nodes[input].shape[..]).collect();
    op.work(&Site { batch: 1, inputs: &shapes, output: shape })
}

/// Builds the next node, and what of it enters the digest.
pub(crate) fn build_node(
    nodes: &[Node],
    spec: NodeSpec,
    constants: &mut Constants,
) -> Result<(Node, Value)> {
    let index = nodes.len();
    let NodeSpec { name, op, inputs, tensors: roles, attrs } = spec;
    let fail = |reason: String| Error::node(index, &name, reason);
    if (index == 0) != (op == "input") {
        return Err(fail("node 0, and no other, must be `input`".to_owned()));
    }
    if let Some(input) = inputs.iter().find(|&&input| input >= index) {
        return Err(fail(format!("input {input} is not one of the {index} earlier nodes")));
    }
    let shapes: Vec<&[usize]> = inputs.iter().map(|&input| &nodes[input].shape[..]).collect();
    let (mut tensors, mut digests) = (BTreeMap::new(), BTreeMap::new());
    for (role, at) in roles {
        let (tensor, digest) =
            constants.get(at).map_err(|reason| fail(format!("tensor `{role}` {reason}")))?;
        tensors.insert(role.clone(), tensor);
        digests.insert(role, digest);
    }
    let mut parts = Parts::new(&shapes, attrs, tensors.clone());
    let built = Op::build(&op, &mut parts).ok_or_else(|| Error::UnknownOperator {
        node: index,
        name: one_line(&name),
        op: one_line(&op),
        supported: Op::NAMES.join(", "),
    })?;
    let built = built.map_err(fail)?;
    let attrs = parts.finish().map_err(fail)?;
    let shape = built.shape(&shapes).map_err(fail)?;
    elements(&shape).map_err(fail)?;
    let line = serde_json::json!([op, inputs, digests, attrs]);
    Ok((Node { name, op: built, inputs, shape, attrs, tensors }, line))
}
