//! Maximum pooling of CHW images.

use aisec_numeric::Scalar;
use aisec_numeric::rounding::sub_up;
use serde::{Deserialize, Serialize};

use super::Build;
use super::window::Window;
use crate::operator::{Interval, Operator, Reads, Relaxation, Site};
use crate::outward;
use crate::patch::{Cropped, Patch};
use crate::spec::Parts;

/// The maximum of each window; padding never wins. Of equal maxima the first, row by row,
/// receives the gradient.
#[derive(Debug, Clone)]
pub struct MaxPool2d {
    rows: Window,
    columns: Window,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Attrs {
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 4],
    dilation: [usize; 2],
}

impl Build for MaxPool2d {
    fn build(parts: &mut Parts) -> Result<Self, String> {
        let Attrs { kernel, stride, padding, dilation } = parts.attrs()?;
        let [rows, columns] = Window::pair(kernel, stride, padding, dilation)?;
        Ok(Self { rows, columns })
    }
}

impl MaxPool2d {
    /// Along height and width.
    pub(crate) fn windows(&self) -> [Window; 2] {
        [self.rows, self.columns]
    }

    /// Calls `visit(output, positions)` for each window of one channel, the positions being
    /// indices into the channel, row by row.
    fn each(&self, site: &Site, mut visit: impl FnMut(usize, &mut dyn Iterator<Item = usize>)) {
        let (height, width) = (site.inputs[0][1], site.inputs[0][2]);
        let (out_rows, out_columns) = (site.output[1], site.output[2]);
        for i in 0..out_rows {
            for j in 0..out_columns {
                let mut positions = self.rows.taps(i, height).flat_map(|k| {
                    let row = self.rows.position(i, k) * width;
                    self.columns.taps(j, width).map(move |l| row + self.columns.position(j, l))
                });
                visit(i * out_columns + j, &mut positions);
            }
        }
    }
}

impl MaxPool2d {
    /// Calls `visit(positions, winner)` for every window in output order, positions being indices
    /// into the sample.
    fn winners(&self, site: &Site, input: Interval, mut visit: impl FnMut(&[usize], &Winner)) {
        let length = site.inputs[0][1] * site.inputs[0][2];
        let mut window = Vec::new();
        for first in (0..input.lower.len()).step_by(length.max(1)) {
            self.each(site, |_, positions| {
                window.clear();
                window.extend(positions.map(|at| first + at));
                visit(&window, &Winner::of(&window, input));
            });
        }
    }
}

/// Bounds that are closer than this, relative to 1 or themselves, count as equal: which input wins
/// must not hang on the last digit, so that other code finds the same one.
const TIE: f64 = 1e-9;

/// What bounds say of a window's maximum.
struct Winner {
    /// The first input whose lower bound is the largest, ties counted.
    best: usize,
    /// How far another one can exceed it, at most, where that is no more than a tie.
    decided: Option<f64>,
    /// The largest upper bound.
    most: f64,
}

impl Winner {
    fn of(window: &[usize], input: Interval) -> Self {
        let largest = input.lower[argmax(input.lower, &mut window.iter().copied())];
        let tie = if largest.is_finite() { TIE * (1.0 + largest.abs()) } else { 0.0 };
        let close = |&at: &usize| input.lower[at] >= largest - tie;
        // With NaN nothing is close; then nothing is known of any of them.
        let best = window.iter().copied().find(close).unwrap_or(window[0]);
        let floor = input.lower[best];
        let excess =
            window.iter().filter(|at| **at != best).map(|&at| sub_up(input.upper[at], floor));
        let excess = excess.fold(0.0, |most: f64, x| if x > most || x.is_nan() { x } else { most });
        let most = input.upper[argmax(input.upper, &mut window.iter().copied())];
        Self { best, decided: (excess <= 2.0 * tie).then_some(excess), most }
    }
}

impl Operator for MaxPool2d {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        Window::pool([self.rows, self.columns], inputs[0])
    }

    fn forward<T: Scalar>(&self, site: &Site, inputs: &[&[T]], output: &mut [T]) {
        let (input, outputs) = (image(site.inputs[0]), image(site.output));
        output.fill(T::NEG_INFINITY);
        let channels = inputs[0].chunks_exact(input[0] * input[1]);
        for (x, y) in channels.zip(output.chunks_exact_mut(outputs[0] * outputs[1])) {
            Window::sweep([self.rows, self.columns], input, outputs, |at, first| {
                Window::spread(self.columns.stride, &mut y[at], &x[first..], |y, &x| {
                    // Selected, not branched on, so that it is a vector operation.
                    *y = if x > *y || is_nan(x) { x } else { *y };
                });
            });
        }
    }

    fn reads(&self) -> Reads {
        Reads::INPUTS
    }

    fn work(&self, site: &Site) -> usize {
        let seen = self.rows.kernel.saturating_mul(self.columns.kernel);
        site.output_len().saturating_mul(seen.min(site.input_len(0)))
    }

    fn vjp<T: Scalar>(
        &self,
        site: &Site,
        inputs: &[&[T]],
        _output: &[T],
        cotangent: &[T],
        grads: &mut [&mut [T]],
    ) {
        let (input, outputs) = (image(site.inputs[0]), image(site.output));
        let length = input[0] * input[1];
        let channels = grads[0].chunks_exact_mut(length).zip(inputs[0].chunks_exact(length));
        for ((grad, x), cotangent) in channels.zip(cotangent.chunks_exact(outputs[0] * outputs[1]))
        {
            for i in 0..outputs[0] {
                let rows = self.rows.taps(i, input[0]);
                for j in 0..outputs[1] {
                    let columns = self.columns.taps(j, input[1]);
                    let (mut best, mut most) = (usize::MAX, T::NEG_INFINITY);
                    for k in rows.clone() {
                        let row = self.rows.position(i, k) * input[1];
                        for l in columns.clone() {
                            let at = row + self.columns.position(j, l);
                            if best == usize::MAX || x[at] > most || is_nan(x[at]) && !is_nan(most)
                            {
                                (best, most) = (at, x[at]);
                            }
                        }
                    }
                    grad[best] += cotangent[i * outputs[1] + j];
                }
            }
        }
    }

    fn interval(&self, site: &Site, inputs: &[Interval], lower: &mut [f64], upper: &mut [f64]) {
        outward::moved(self, site, inputs, lower, upper);
    }

    fn is_affine(&self) -> bool {
        false
    }

    /// Below: the input with the largest lower bound. Above: the input that no other can
    /// exceed, or else the largest upper bound.
    fn relax(&self, site: &Site, inputs: &[Interval]) -> Relaxation {
        let (mut lower_index, mut upper_index) = (Vec::new(), Vec::new());
        let mut upper_offset = Vec::new();
        self.winners(site, inputs[0], |_, winner| {
            lower_index.push(winner.best);
            upper_index.push(winner.decided.map(|_| winner.best));
            upper_offset.push(winner.decided.unwrap_or(winner.most));
        });
        Relaxation::Select { lower_index, upper_index, upper_offset }
    }

    /// Everything a window that is not decided may take its maximum from.
    fn mark_loose(&self, site: &Site, input: Interval, loose: &mut [bool]) {
        self.winners(site, input, |positions, winner| {
            for at in positions.iter().filter(|_| winner.decided.is_none()) {
                let beaten = input.upper[*at] <= input.lower[winner.best];
                loose[*at] |= !beaten || *at == winner.best;
            }
        });
    }

    fn crop(&self, site: &Site, patch: &Patch) -> Option<Cropped<Self>> {
        let (axes, input) = Window::crop([self.rows, self.columns], site.inputs[0], patch)?;
        let [rows, columns] = axes;
        Some(Cropped { op: Self { rows, columns }, inputs: vec![input] })
    }
}

/// The first position of the largest value, or of the first NaN.
fn argmax<T: Scalar>(x: &[T], positions: &mut dyn Iterator<Item = usize>) -> usize {
    let first = positions.next().expect("shape refuses windows that miss the input");
    positions.fold(first, |best, at| {
        let above = x[at] > x[best] || is_nan(x[at]) && !is_nan(x[best]);
        if above { at } else { best }
    })
}

/// Height and width of a `[C, H, W]` shape.
fn image(shape: &[usize]) -> [usize; 2] {
    [shape[1], shape[2]]
}

/// A comparison that vectorises, unlike `partial_cmp`.
#[allow(clippy::eq_op)]
fn is_nan<T: Scalar>(value: T) -> bool {
    value != value
}
