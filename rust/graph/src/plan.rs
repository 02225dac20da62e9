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
        let mut planner = Planner::new(nodes, target);
        let forward = planner.forward(true);
        planner.finish(forward, Vec::new(), None, None)
    }

    /// The target's value, and the gradient of the input for a cotangent given afterwards.
    pub fn recording(nodes: &[Node], target: usize) -> Self {
        let mut planner = Planner::new(nodes, target);
        let forward = planner.forward(false);
        let (backward, cotangent, gradient) = planner.backward();
        planner.finish(forward, backward, Some(cotangent), gradient)
    }

    /// Replaces buffers by the slots they were given.
    fn renumber(&mut self, slot_of: &[usize]) {
        let places = self
            .forward
            .iter_mut()
            .flat_map(|step| step.inputs.iter_mut().chain([&mut step.output]));
        let read = self
            .backward
            .iter_mut()
            .flat_map(|step| step.inputs.iter_mut().chain([&mut step.output]).flatten());
        for place in places.chain(read).chain([&mut self.target]) {
            if let Place::Slot(buffer) = place {
                *buffer = slot_of[*buffer];
            }
        }
        let grads = self.backward.iter_mut().flat_map(|step| {
            let grads = step
                .grads
                .iter_mut()
                .flat_map(|grad| [&mut grad.slot].into_iter().chain(&mut grad.add_to));
            grads.chain([&mut step.cotangent])
        });
        for buffer in grads.chain(&mut self.cotangent).chain(&mut self.gradient) {
            *buffer = slot_of[*buffer];
        }
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

/// While planning, a slot's number is that of a buffer.
struct Planner<'a> {
    nodes: &'a [Node],
    target: usize,
    /// The nodes that run, in order.
    order: Vec<usize>,
    /// Where each node's value is.
    values: Vec<Place>,
    buffers: Vec<Buffer>,
}

impl<'a> Planner<'a> {
    fn new(nodes: &'a [Node], target: usize) -> Self {
        let needed = ancestors(nodes, target);
        let order = (0..=target).filter(|&node| needed[node]).collect();
        let values = vec![Place::Input; target + 1];
        Self { nodes, target, order, values, buffers: Vec::new() }
    }

    fn buffer(&mut self, node: usize, step: usize) -> usize {
        let len = self.nodes[node].len();
        self.buffers.push(Buffer { len, first: step, last: step });
        self.buffers.len() - 1
    }

    fn keep(&mut self, buffer: usize, step: usize) {
        self.buffers[buffer].last = step;
    }

    fn read(&mut self, place: Place, step: usize) {
        if let Place::Slot(buffer) = place {
            self.keep(buffer, step);
        }
    }

    /// Runs every node. The caller's output receives the target, or else a buffer does.
    fn forward(&mut self, to_caller: bool) -> Vec<Forward> {
        let mut steps = Vec::new();
        for (step, node) in self.order.clone().into_iter().enumerate() {
            let described = &self.nodes[node];
            let to_caller = to_caller && node == self.target;
            if node == 0 && !to_caller {
                continue;
            }
            let inputs: Vec<Place> =
                described.inputs.iter().map(|&input| self.values[input]).collect();
            if described.op.is_view() && !to_caller {
                self.values[node] = inputs[0];
                continue;
            }
            inputs.iter().for_each(|&input| self.read(input, step));
            let output =
                if to_caller { Place::Output } else { Place::Slot(self.buffer(node, step)) };
            self.values[node] = output;
            steps.push(Forward { node, inputs, output });
        }
        self.read(self.values[self.target], self.order.len());
        steps
    }

    /// Runs every node that depends on the input in reverse, given the target's cotangent;
    /// returns the buffers of that and of the input's gradient.
    fn backward(&mut self) -> (Vec<Backward>, usize, Option<usize>) {
        let mut step = self.order.len();
        let (mut depends, mut readers) = (vec![false; self.target + 1], vec![0; self.target + 1]);
        depends[0] = true;
        for &node in &self.order {
            for &input in &self.nodes[node].inputs {
                depends[node] |= depends[input];
                readers[input] += 1;
            }
        }
        let mut grads: Vec<Option<usize>> = vec![None; self.target + 1];
        let cotangent = self.buffer(self.target, step);
        grads[self.target] = Some(cotangent);
        let mut steps = Vec::new();
        let order: Vec<usize> = self.order.iter().copied().filter(|&node| depends[node]).collect();
        for &node in order.iter().rev().filter(|&&node| node != 0) {
            let described = &self.nodes[node];
            let own = grads[node].expect("a node that leads to the target has a cotangent");
            if described.op.is_view() && readers[described.inputs[0]] == 1 {
                grads[described.inputs[0]] = Some(own);
                continue;
            }
            step += 1;
            self.keep(own, step);
            let reads = described.op.reads();
            let inputs: Vec<Option<Place>> = described
                .inputs
                .iter()
                .map(|&input| reads.inputs.then_some(self.values[input]))
                .collect();
            let output = reads.output.then_some(self.values[node]);
            for &place in inputs.iter().chain([&output]).flatten() {
                self.read(place, step);
            }
            let mut written = Vec::new();
            for (at, &input) in described.inputs.iter().enumerate() {
                let twice = described.inputs[..at].contains(&input);
                written.push(match grads[input] {
                    // Where no gradient is wanted, the operator writes it all the same.
                    grad if twice || !depends[input] => {
                        Grad { slot: self.buffer(input, step), fresh: true, add_to: grad }
                    }
                    Some(slot) => {
                        self.keep(slot, step);
                        Grad { slot, fresh: false, add_to: None }
                    }
                    None => {
                        let slot = self.buffer(input, step);
                        grads[input] = Some(slot);
                        Grad { slot, fresh: true, add_to: None }
                    }
                });
            }
            steps.push(Backward { node, inputs, output, cotangent: own, grads: written });
        }
        let gradient = grads[0].filter(|_| depends[self.target]);
        if let Some(buffer) = gradient {
            self.keep(buffer, step + 1);
        }
        (steps, cotangent, gradient)
    }

    fn finish(
        self,
        forward: Vec<Forward>,
        backward: Vec<Backward>,
        cotangent: Option<usize>,
        gradient: Option<usize>,
    ) -> Plan {
        let (slot_of, slots) = assign(&self.buffers);
        let target = self.values[self.target];
        let mut plan = Plan { forward, backward, target, cotangent, gradient, slots };
        plan.renumber(&slot_of);
        plan
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
