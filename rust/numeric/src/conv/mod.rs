//! Two-dimensional convolution (cross-correlation) on CHW images, and its input gradient, as
//! matrix products that read the image in place.
//!
//! Each has two forms, chosen by an estimate of their cost; both give the same bits:
//! - *channels*: vectors run over channels; a patch of the image is a row of the left matrix,
//!   given by where it starts, and a kernel tap is one of its entries, given by how far it lies
//!   from there. The result comes out transposed.
//! - *lines*: vectors run along lines of the image, better when there are few channels.
//!
//! With stride s, positions fall into s classes along each axis by their remainder. Forward in
//! lines, the image is split into its classes, within which patches move by one. In the input
//! gradient, each class of pixels sees its own subset of the kernel, and within a class the
//! gradient is a convolution of the cotangent that moves by one.

mod absolute;
mod beside;
mod forward;
mod gradient;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;

pub use beside::{Frame, Unit};
use forward::Forward;
use gradient::Gather;

use crate::Scalar;
use crate::gemm::Packs;

/// A convolution's weights, packed when first used.
#[derive(Debug)]
pub struct Convolution {
    out_channels: usize,
    /// Input channels of one group.
    channels: usize,
    groups: usize,
    axes: [Axis; 2],
    packs: FormPacks,
}

/// What each form of each direction packs.
#[derive(Debug, Default)]
struct FormPacks {
    forward_channels: Packs,
    forward_lines: Packs,
    gradient_channels: Packs,
    gradient_lines: Packs,
    beside: OnceLock<Vec<f64>>,
}

/// One spatial axis.
#[derive(Debug, Clone, Copy)]
struct Axis {
    kernel: usize,
    stride: usize,
    dilation: usize,
}

impl Axis {
    /// The classes that kernel taps see, in ascending order.
    fn seen(self) -> Vec<usize> {
        let mut classes: Vec<usize> =
            (0..self.kernel).map(|tap| tap * self.dilation % self.stride).collect();
        classes.sort_unstable();
        classes.dedup();
        classes
    }
}

/// What vectors run over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Channels,
    Lines,
}

impl Form {
    /// The cheaper form of `channels` sums of `terms` products at `positions` positions, when
    /// lines of `span` values hold them. Costs are in products of 16 lanes, of which moving one
    /// value to its place costs about one; by lines, `moves` values are moved altogether.
    fn cheaper(channels: usize, terms: usize, positions: usize, span: usize, moves: usize) -> Self {
        let product = |a: usize, b: usize, c: usize| a.saturating_mul(b).saturating_mul(c);
        let by_channels = product(positions, terms, channels.div_ceil(16))
            .saturating_add(product(positions, channels, 1));
        // A single channel waits for its loads.
        let by_lines = product(span.div_ceil(16), terms, channels.max(2)).saturating_add(moves);
        if by_lines < by_channels { Self::Lines } else { Self::Channels }
    }
}

/// Where a convolution is applied: sizes and the index tables that follow from them.
#[derive(Debug, Clone)]
pub struct Place {
    /// Height and width of the input, padding before it, height and width of the output.
    pub input: [usize; 2],
    pub before: [usize; 2],
    pub output: [usize; 2],
    forward: Forward,
    gather: OnceLock<Gather>,
    /// The form of the gradient, where it is prescribed.
    gradient_form: Option<Form>,
}

impl Convolution {
    /// `weight` has shape `[out_channels, in_channels / groups, kh, kw]`; all entries of
    /// `stride`, `dilation`, `groups` and the kernel are at least 1.
    pub fn new(
        weight: [usize; 4],
        stride: [usize; 2],
        dilation: [usize; 2],
        groups: usize,
    ) -> Self {
        let [out_channels, channels, height, width] = weight;
        let axis = |kernel, stride, dilation| Axis { kernel, stride, dilation };
        let axes = [axis(height, stride[0], dilation[0]), axis(width, stride[1], dilation[1])];
        Self { out_channels, channels, groups, axes, packs: FormPacks::default() }
    }

    /// The same convolution for other weights of the same shape.
    pub fn unpacked(&self) -> Self {
        Self { packs: FormPacks::default(), ..*self }
    }

    /// The tables for inputs of height and width `input`, `before` rows and columns of padding
    /// above and to the left, and outputs of height and width `output`.
    pub fn place(&self, input: [usize; 2], before: [usize; 2], output: [usize; 2]) -> Place {
        self.place_as(input, before, output, [None; 2])
    }

    /// [`Self::place`] with prescribed forms of the forward pass and the gradient.
    fn place_as(
        &self,
        input: [usize; 2],
        before: [usize; 2],
        output: [usize; 2],
        [forward, gradient_form]: [Option<Form>; 2],
    ) -> Place {
        let forward = self.forward_tables(input, before, output, forward);
        Place { input, before, output, forward, gather: OnceLock::new(), gradient_form }
    }

    /// Output channels of one group.
    fn group_out(&self) -> usize {
        self.out_channels / self.groups
    }

    /// Kernel taps of one pair of channels.
    fn taps(&self) -> usize {
        self.axes[0].kernel * self.axes[1].kernel
    }

    /// Products in the sum behind one output.
    fn inner(&self) -> usize {
        self.channels * self.taps()
    }

    /// How many samples the slices hold, and the lengths of one input and one output sample.
    fn samples<T>(&self, place: &Place, input: &[T], output: &[T]) -> (usize, usize, usize) {
        let length = self.groups * self.channels * place.input[0] * place.input[1];
        let out_length = self.out_channels * place.output[0] * place.output[1];
        let count = input.len().checked_div(length).unwrap_or(0);
        assert_eq!(count * length, input.len(), "the input holds whole samples");
        assert_eq!(count * out_length, output.len(), "the output holds as many samples");
        (count, length, out_length)
    }
}

/// All pairs, the first slowest.
fn pairs<A: Copy, B: Copy>(
    first: impl Iterator<Item = A> + Clone,
    second: impl Iterator<Item = B> + Clone,
) -> impl Iterator<Item = (A, B)> + Clone {
    first.flat_map(move |a| second.clone().map(move |b| (a, b)))
}

/// `entry(i, j)` for every cell of a grid, row by row.
fn grid(size: [usize; 2], entry: impl Fn(usize, usize) -> usize) -> Vec<usize> {
    pairs(0..size[0], 0..size[1]).map(|(i, j)| entry(i, j)).collect()
}

/// Copies the planes of `image` into the middle of larger or cropped planes, `before` rows and
/// columns from their corner; what lies around is left as it is.
fn surround<T: Copy>(
    image: &[T],
    size: [usize; 2],
    padded: &mut [T],
    padded_size: [usize; 2],
    before: [usize; 2],
) {
    let [rows, columns] = [0, 1].map(|i| size[i].min(padded_size[i].saturating_sub(before[i])));
    if rows * columns == 0 {
        return;
    }
    let planes = image.chunks_exact(size[0] * size[1]);
    for (plane, out) in planes.zip(padded.chunks_exact_mut(padded_size[0] * padded_size[1])) {
        let lines = plane.chunks_exact(size[1]).take(rows);
        for (line, out) in lines.zip(out.chunks_exact_mut(padded_size[1]).skip(before[0])) {
            out[before[1]..][..columns].copy_from_slice(&line[..columns]);
        }
    }
}
