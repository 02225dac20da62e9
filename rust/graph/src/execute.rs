//! Running a graph on the calling thread, in buffers that are kept between calls.

use aisec_numeric::Scalar;

use crate::Graph;
use crate::operator::Operator;
use crate::plan::{Backward, Forward, Place, Plan};

/// Scratch memory of one thread. It grows to what a call needs and serves any graph; once
/// grown, further calls of the same size allocate nothing.
#[derive(Debug, Default)]
pub struct Workspace<T> {
    slots: Vec<Vec<T>>,
}

impl<T: Scalar> Workspace<T> {
    pub fn new() -> Self {
        Self { slots: Vec::new() }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.slots.iter().map(|slot| slot.capacity() * size_of::<T>()).sum()
    }

    fn reserve(&mut self, plan: &Plan, batch: usize) {
        if self.slots.len() < plan.slots.len() {
            self.slots.resize_with(plan.slots.len(), Vec::new);
        }
        for (slot, len) in self.slots.iter_mut().zip(&plan.slots) {
            if slot.len() < len * batch {
                slot.resize(len * batch, T::ZERO);
            }
        }
    }
}

/// Inputs per node that are handled without allocating.
const INLINE: usize = 4;

/// Collects into `inline` when everything fits there, into `spilled` otherwise.
fn few<'a, U: Copy>(
    items: impl ExactSizeIterator<Item = U>,
    inline: &'a mut [U; INLINE],
    spilled: &'a mut Vec<U>,
) -> &'a [U] {
    let count = items.len();
    if count > INLINE {
        spilled.extend(items);
        return spilled;
    }
    inline.iter_mut().zip(items).for_each(|(slot, item)| *slot = item);
    &inline[..count]
}

impl Graph {
    /// Writes the output of `batch` samples.
    ///
    /// # Panics
    /// When `x` or `output` does not hold exactly `batch` samples.
    pub fn forward_into<T: Scalar>(
        &self,
        workspace: &mut Workspace<T>,
        x: &[T],
        batch: usize,
        output: &mut [T],
    ) {
        assert_eq!(output.len(), batch * self.output_len(), "output holds `batch` samples");
        self.run_forward(&self.forward, workspace, x, batch, output);
    }

    /// Like [`Graph::forward_into`], and keeps what [`Graph::pullback_into`] needs.
    ///
    /// # Panics
    /// When `x` or `output` does not hold exactly `batch` samples.
    pub fn record_into<T: Scalar>(
        &self,
        workspace: &mut Workspace<T>,
        x: &[T],
        batch: usize,
        output: &mut [T],
    ) {
        assert_eq!(output.len(), batch * self.output_len(), "output holds `batch` samples");
        self.run_forward(&self.recording, workspace, x, batch, &mut []);
        output.copy_from_slice(value(
            self.recording.target,
            x,
            &workspace.slots,
            batch * self.output_len(),
        ));
    }

    /// Writes the gradient of `Σ cotangent·output` by the input, for the samples of the
    /// [`Graph::record_into`] that used this workspace last (with the same `x` and `batch`).
    /// May be called once per recording.
    ///
    /// # Panics
    /// When a slice does not hold exactly `batch` samples.
    pub fn pullback_into<T: Scalar>(
        &self,
        workspace: &mut Workspace<T>,
        x: &[T],
        batch: usize,
        cotangent: &[T],
        gradient: &mut [T],
    ) {
        let plan = &self.recording;
        assert_eq!(cotangent.len(), batch * self.output_len(), "cotangent holds `batch` samples");
        assert_eq!(gradient.len(), batch * self.input_len(), "gradient holds `batch` samples");
        let (Some(seed), Some(result)) = (plan.cotangent, plan.gradient) else {
            return gradient.fill(T::ZERO);
        };
        workspace.slots[seed][..cotangent.len()].copy_from_slice(cotangent);
        for step in &plan.backward {
            self.run_backward(step, &mut workspace.slots, x, batch);
        }
        gradient.copy_from_slice(&workspace.slots[result][..gradient.len()]);
    }

    /// [`Graph::record_into`] and [`Graph::pullback_into`] for a cotangent known beforehand.
    ///
    /// # Panics
    /// When a slice does not hold exactly `batch` samples.
    pub fn vjp_into<T: Scalar>(
        &self,
        workspace: &mut Workspace<T>,
        x: &[T],
        batch: usize,
        cotangent: &[T],
        output: &mut [T],
        gradient: &mut [T],
    ) {
        self.record_into(workspace, x, batch, output);
        self.pullback_into(workspace, x, batch, cotangent, gradient);
    }

    pub(crate) fn run_forward<T: Scalar>(
        &self,
        plan: &Plan,
        workspace: &mut Workspace<T>,
        x: &[T],
        batch: usize,
        output: &mut [T],
    ) {
        assert_eq!(x.len(), batch * self.input_len(), "x holds `batch` samples");
        workspace.reserve(plan, batch);
        for step in &plan.forward {
            let len = self.nodes()[step.node].len() * batch;
            match step.output {
                Place::Input => unreachable!("no node writes the caller's samples"),
                Place::Output => self.apply(step, &workspace.slots, x, batch, &mut output[..len]),
                Place::Slot(slot) => {
                    let mut buffer = std::mem::take(&mut workspace.slots[slot]);
                    self.apply(step, &workspace.slots, x, batch, &mut buffer[..len]);
                    workspace.slots[slot] = buffer;
                }
            }
        }
    }

    fn apply<T: Scalar>(
        &self,
        step: &Forward,
        slots: &[Vec<T>],
        x: &[T],
        batch: usize,
        output: &mut [T],
    ) {
        let node = &self.nodes()[step.node];
        if step.node == 0 {
            return output.copy_from_slice(x);
        }
        let (mut inline_shapes, mut spilled_shapes) = ([&[][..]; INLINE], Vec::new());
        let shapes = node.inputs.iter().map(|&input| &self.nodes()[input].shape[..]);
        let shapes = few(shapes, &mut inline_shapes, &mut spilled_shapes);
        let (mut inline, mut spilled) = ([&[][..]; INLINE], Vec::new());
        let inputs = node
            .inputs
            .iter()
            .zip(&step.inputs)
            .map(|(&input, &place)| value(place, x, slots, self.nodes()[input].len() * batch));
        let inputs = few(inputs, &mut inline, &mut spilled);
        node.op.forward(&self.site(step.node, shapes, batch), inputs, output);
    }

    fn run_backward<T: Scalar>(
        &self,
        step: &Backward,
        slots: &mut [Vec<T>],
        x: &[T],
        batch: usize,
    ) {
        let node = &self.nodes()[step.node];
        let len = |node: usize| self.nodes()[node].len() * batch;
        let (mut inline_shapes, mut spilled_shapes) = ([&[][..]; INLINE], Vec::new());
        let shapes = node.inputs.iter().map(|&input| &self.nodes()[input].shape[..]);
        let shapes = few(shapes, &mut inline_shapes, &mut spilled_shapes);
        let site = self.site(step.node, shapes, batch);

        // The buffers written are taken out of the workspace, so that the rest can be read.
        let (mut inline_taken, mut spilled_taken) = ([const { Vec::new() }; INLINE], Vec::new());
        let taken: &mut [Vec<T>] = if step.grads.len() > INLINE {
            spilled_taken.resize_with(step.grads.len(), Vec::new);
            &mut spilled_taken
        } else {
            &mut inline_taken[..step.grads.len()]
        };
        for ((buffer, grad), &input) in taken.iter_mut().zip(&step.grads).zip(&node.inputs) {
            *buffer = std::mem::take(&mut slots[grad.slot]);
            if grad.fresh {
                buffer[..len(input)].fill(T::ZERO);
            }
        }
        {
            let (mut inline, mut spilled) = ([&[][..]; INLINE], Vec::new());
            let inputs = node.inputs.iter().zip(&step.inputs).map(|(&input, place)| {
                place.map_or(&[][..], |place| value(place, x, slots, len(input)))
            });
            let inputs = few(inputs, &mut inline, &mut spilled);
            let output =
                step.output.map_or(&[][..], |place| value(place, x, slots, len(step.node)));
            let cotangent = &slots[step.cotangent][..len(step.node)];
            let mut written = taken.iter_mut().zip(&node.inputs).map(|(b, &i)| &mut b[..len(i)]);
            if step.grads.len() > INLINE {
                let mut grads: Vec<&mut [T]> = written.collect();
                node.op.vjp(&site, inputs, output, cotangent, &mut grads);
            } else {
                let mut grads: [&mut [T]; INLINE] =
                    std::array::from_fn(|_| written.next().unwrap_or(&mut []));
                node.op.vjp(&site, inputs, output, cotangent, &mut grads[..step.grads.len()]);
            }
        }
        for (buffer, grad) in taken.iter_mut().zip(&step.grads) {
            slots[grad.slot] = std::mem::take(buffer);
        }
        for (grad, &input) in step.grads.iter().zip(&node.inputs) {
            let Some(sum) = grad.add_to else { continue };
            let part = std::mem::take(&mut slots[grad.slot]);
            slots[sum].iter_mut().zip(&part[..len(input)]).for_each(|(sum, &part)| *sum += part);
            slots[grad.slot] = part;
        }
    }
}

/// The value at `place`, which no step writes while it is read.
fn value<'a, T>(place: Place, x: &'a [T], slots: &'a [Vec<T>], len: usize) -> &'a [T] {
    match place {
        Place::Input => x,
        Place::Output => unreachable!("the caller's output is never read"),
        Place::Slot(slot) => &slots[slot][..len],
    }
}
