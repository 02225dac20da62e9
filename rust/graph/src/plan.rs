//! Which node runs when, and in which buffer its value and its gradient live. A buffer is
//! reused as soon as its last reader has run.

use std::collections::BTreeSet;

use crate::Node;
use crate::operator::Operator;

/// Where a value is kept while a plan runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The caller's samples.
    Input,
    /// The caller's output.
    Output,
    /// A buffer of the workspace.
    Slot(usize),
}

/// Running one node forward.
#[derive(Debug, Clone)]
pub(crate) struct Forward {
    pub node: usize,
    pub inputs: Vec<Place>,
    pub output: Place,
}

/// Carrying one node's cotangent to its inputs.
#[derive(Debug, Clone)]
pub(crate) struct Backward {
    pub node: usize,
    /// Values [`Operator::vjp`] reads; `None` where it does not.
    pub inputs: Vec<Option<Place>>,
    pub output: Option<Place>,
    pub cotangent: usize,
    pub grads: Vec<Grad>,
}

/// The gradient of one input of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grad {
    pub slot: usize,
    /// The slot holds no gradient yet and is zeroed first.
    pub fresh: bool,
    /// The node reads this input twice: the slot is added to this one afterwards.
    pub add_to: Option<usize>,
}

/// A schedule for one target node.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub forward: Vec<Forward>,
    pub backward: Vec<Backward>,
    /// Where the target's value is.
    pub target: Place,
    /// Slots of the target's cotangent and the input's gradient (`None` when the target does
    /// not depend on the input); only plans that record have them.
    pub cotangent: Option<usize>,
    pub gradient: Option<usize>,
    /// Elements of one sample in each slot.
    pub slots: Vec<usize>,
}

/// One buffer before slots are assigned: alive from the first to the last step, inclusive.
struct Buffer {
    len: usize,
    first: usize,
    last: usize,
}

impl Plan {
    /// The target's value alone.
    pub fn forward(nodes: &[Node], target: usize) -> Self {
        Planner::new(nodes, target).finish(false)
    }

    /// The target's value, and the gradient of the input for a cotangent given afterwards.
    pub fn recording(nodes: &[Node], target: usize) -> Self {
        Planner::new(nodes, target).finish(true)
    }
}

/// Which of the nodes up to `target` it is computed from, itself included.
pub(crate) fn ancestors(nodes: &[Node], target: usize) -> Vec<bool> {
    let mut needed = vec![false; target + 1];
    needed[target] = true;
    for node in (0..=target).rev() {
        if needed[node] {
            nodes[node].inputs.iter().for_each(|&input| needed[input] = true);
        }
    }
    needed
}

struct Planner<'a> {
    nodes: &'a [Node],
    target: usize,
    needed: Vec<bool>,
    buffers: Vec<Buffer>,
}

/// A value before slots are assigned.
#[derive(Clone, Copy)]
enum Value {
    Input,
    Output,
    Buffer(usize),
}

impl<'a> Planner<'a> {
    fn new(nodes: &'a [Node], target: usize) -> Self {
        let needed = ancestors(nodes, target);
        Self { nodes, target, needed, buffers: Vec::new() }
    }

    fn buffer(&mut self, len: usize, step: usize) -> usize {
        self.buffers.push(Buffer { len, first: step, last: step });
        self.buffers.len() - 1
    }

    fn read(&mut self, value: Value, step: usize) {
        if let Value::Buffer(buffer) = value {
            self.buffers[buffer].last = self.buffers[buffer].last.max(step);
        }
    }

    fn finish(mut self, record: bool) -> Plan {
        let nodes = self.nodes;
        let order: Vec<usize> = (0..=self.target).filter(|&node| self.needed[node]).collect();
        // Forward: a view shares its input's buffer, unless the caller's output receives it.
        let mut values = vec![Value::Input; nodes.len()];
        let mut forward = Vec::new();
        for (step, &node) in order.iter().enumerate() {
            let to_caller = node == self.target && !record;
            if node == 0 && !to_caller {
                continue;
            }
            let inputs: Vec<Value> =
                nodes[node].inputs.iter().map(|&input| values[input]).collect();
            if nodes[node].op.is_view() && !to_caller {
                values[node] = inputs[0];
                continue;
            }
            inputs.iter().for_each(|&input| self.read(input, step));
            values[node] = if to_caller {
                Value::Output
            } else {
                Value::Buffer(self.buffer(nodes[node].len(), step))
            };
            forward.push((node, inputs, values[node]));
        }
        let mut step = order.len();
        self.read(values[self.target], step);
        let mut backward = Vec::new();
        let (mut cotangent, mut gradient) = (None, None);
        if record {
            let mut depends = vec![false; nodes.len()];
            depends[0] = true;
            for &node in &order[1.min(order.len())..] {
                depends[node] = nodes[node].inputs.iter().any(|&input| depends[input]);
            }
            let mut readers = vec![0usize; nodes.len()];
            for &node in order.iter().filter(|&&node| node != 0) {
                nodes[node].inputs.iter().for_each(|&input| readers[input] += 1);
            }
            let mut grads: Vec<Option<usize>> = vec![None; nodes.len()];
            let first = self.buffer(nodes[self.target].len(), step);
            (cotangent, grads[self.target]) = (Some(first), Some(first));
            for &node in order.iter().rev().filter(|&&node| node != 0 && depends[node]) {
                let described = &nodes[node];
                let own = grads[node].expect("a node that leads to the target has a cotangent");
                if described.op.is_view() && readers[described.inputs[0]] == 1 {
                    grads[described.inputs[0]] = Some(own);
                    continue;
                }
                step += 1;
                self.read(Value::Buffer(own), step);
                let reads = described.op.reads();
                let mut inputs = Vec::new();
                for &input in &described.inputs {
                    inputs.push(reads.inputs.then_some(values[input]));
                }
                let output = reads.output.then_some(values[node]);
                for &value in inputs.iter().chain([&output]).flatten() {
                    self.read(value, step);
                }
                let mut targets: Vec<(usize, bool, Option<usize>)> = Vec::new();
                for (at, &input) in described.inputs.iter().enumerate() {
                    let len = nodes[input].len();
                    let twice = described.inputs[..at].contains(&input);
                    targets.push(match grads[input] {
                        Some(grad) if twice => (self.buffer(len, step), true, Some(grad)),
                        // No gradient is wanted there; the operator writes it all the same.
                        _ if !depends[input] => (self.buffer(len, step), true, None),
                        Some(grad) => {
                            self.read(Value::Buffer(grad), step);
                            (grad, false, None)
                        }
                        None => {
                            let grad = self.buffer(len, step);
                            grads[input] = Some(grad);
                            (grad, true, None)
                        }
                    });
                }
                backward.push((node, inputs, output, own, targets));
            }
            gradient = grads[0].filter(|_| depends[self.target]);
            if let Some(grad) = gradient {
                self.read(Value::Buffer(grad), step + 1);
            }
        }
        let (slot_of, slots) = assign(&self.buffers);
        let place = |value: Value| match value {
            Value::Input => Place::Input,
            Value::Output => Place::Output,
            Value::Buffer(buffer) => Place::Slot(slot_of[buffer]),
        };
        Plan {
            forward: forward
                .into_iter()
                .map(|(node, inputs, output)| Forward {
                    node,
                    inputs: inputs.into_iter().map(place).collect(),
                    output: place(output),
                })
                .collect(),
            backward: backward
                .into_iter()
                .map(|(node, inputs, output, own, targets)| Backward {
                    node,
                    inputs: inputs.into_iter().map(|value| value.map(place)).collect(),
                    output: output.map(place),
                    cotangent: slot_of[own],
                    grads: targets
                        .into_iter()
                        .map(|(buffer, fresh, add_to)| Grad {
                            slot: slot_of[buffer],
                            fresh,
                            add_to: add_to.map(|grad| slot_of[grad]),
                        })
                        .collect(),
                })
                .collect(),
            target: place(values[self.target]),
            cotangent: cotangent.map(|buffer| slot_of[buffer]),
            gradient: gradient.map(|buffer| slot_of[buffer]),
            slots,
        }
    }
}

/// Gives each buffer a slot that no other buffer uses while it is alive: the smallest free one
/// that is large enough, else the largest free one, grown.
fn assign(buffers: &[Buffer]) -> (Vec<usize>, Vec<usize>) {
    let mut slot_of = vec![0; buffers.len()];
    let mut slots: Vec<usize> = Vec::new();
    let mut free: BTreeSet<(usize, usize)> = BTreeSet::new();
    let mut busy: BTreeSet<(usize, usize)> = BTreeSet::new();
    // Buffers are created in the order of their first step.
    for (index, buffer) in buffers.iter().enumerate() {
        while let Some(&(last, slot)) = busy.first()
            && last < buffer.first
        {
            busy.remove(&(last, slot));
            free.insert((slots[slot], slot));
        }
        let found = free.range((buffer.len, 0)..).next().or_else(|| free.last()).copied();
        let slot = match found {
            Some((len, slot)) => {
                free.remove(&(len, slot));
                slots[slot] = len.max(buffer.len);
                slot
            }
            None => {
                slots.push(buffer.len);
                slots.len() - 1
            }
        };
        slot_of[index] = slot;
        busy.insert((buffer.last, slot));
    }
    (slot_of, slots)
}
