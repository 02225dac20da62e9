//! Two-dimensional convolution (cross-correlation) on CHW images, and its input gradient, as
//! matrix products that read the image in place: a patch is a row of the left matrix, given by
//! where it starts, and a kernel tap is one of its entries, given by how far it lies from there.
//!
//! The input gradient takes one of two forms, chosen by the shape of the weights alone:
//! - *gather*: with stride s the input pixels fall into s² classes, each seeing its own subset of
//!   the kernel; within a class the gradient is a convolution of the cotangent. Vectors run over
//!   input channels.
//! - *scatter*: per output position, the products of the cotangent with the whole kernel,
//!   which are then added to the pixels they belong to. Vectors run over channels × taps, which
//!   is better when there are few channels.

use std::ops::Range;
use std::sync::OnceLock;

use crate::Scalar;
use crate::gemm::{Left, PackedMatrix, Packs, Target};

/// Output positions whose products the scatter form computes at a time.
const SCATTER_BLOCK: usize = 256;

/// A convolution's weights, packed when first used.
#[derive(Debug)]
pub struct Convolution {
    out_channels: usize,
    /// Input channels of one group.
    channels: usize,
    groups: usize,
    axes: [Axis; 2],
    forward: Packs,
    backward: Packs,
}

/// One spatial axis.
#[derive(Debug, Clone, Copy)]
struct Axis {
    kernel: usize,
    stride: usize,
    dilation: usize,
}

impl Axis {
    /// The kernel taps that input positions of class `class` see, with how many outputs before
    /// `position / stride` theirs lies (positions count from the start of the padding).
    fn class(self, class: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
        (0..self.kernel).filter_map(move |tap| {
            let ahead = (tap * self.dilation).checked_sub(class)?;
            (ahead % self.stride == 0).then(|| (tap, ahead / self.stride))
        })
    }

    /// The most outputs an input position looks back.
    fn reach(self) -> usize {
        (self.kernel - 1) * self.dilation / self.stride
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
}

#[derive(Debug, Clone)]
struct Forward {
    /// Height and width of what the windows see, padding included.
    padded: [usize; 2],
    /// Whether that is a copy, or the input itself.
    copied: bool,
    rows: Vec<usize>,
    taps: Vec<usize>,
    positions: Vec<usize>,
}

#[derive(Debug, Clone)]
struct Gather {
    /// Height and width of the cotangent with zeros around it.
    padded: [usize; 2],
    classes: Vec<Class>,
}

#[derive(Debug, Clone)]
struct Class {
    rows: Vec<usize>,
    taps: Vec<usize>,
    pixels: Vec<usize>,
}

impl Convolution {
    /// `weight` has shape `[out_channels, in_channels / groups, kh, kw]`; all entries of
    /// `stride`, `dilation` and `groups` are at least 1.
    pub fn new(
        weight: [usize; 4],
        stride: [usize; 2],
        dilation: [usize; 2],
        groups: usize,
    ) -> Self {
        let [out_channels, channels, height, width] = weight;
        let axis = |kernel, stride, dilation| Axis { kernel, stride, dilation };
        Self {
            out_channels,
            channels,
            groups,
            axes: [axis(height, stride[0], dilation[0]), axis(width, stride[1], dilation[1])],
            forward: Packs::default(),
            backward: Packs::default(),
        }
    }

    /// The same convolution for other weights of the same shape.
    pub fn unpacked(&self) -> Self {
        Self { forward: Packs::default(), backward: Packs::default(), ..*self }
    }

    /// The tables for inputs of height and width `input`, `before` rows and columns of padding
    /// above and to the left, and outputs of height and width `output`.
    pub fn place(&self, input: [usize; 2], before: [usize; 2], output: [usize; 2]) -> Place {
        let [rows, columns] = self.axes;
        let seen = [0, 1].map(|i| {
            let axis = self.axes[i];
            (output[i].max(1) - 1) * axis.stride + (axis.kernel.max(1) - 1) * axis.dilation + 1
        });
        let copied = before != [0, 0] || seen[0] > input[0] || seen[1] > input[1];
        let padded = if copied { seen } else { input };
        let plane = padded[0] * padded[1];
        let forward = Forward {
            padded,
            copied,
            rows: grid(output, |i, j| i * rows.stride * padded[1] + j * columns.stride),
            taps: (0..self.channels)
                .flat_map(|channel| {
                    grid([rows.kernel, columns.kernel], move |k, l| {
                        channel * plane + k * rows.dilation * padded[1] + l * columns.dilation
                    })
                })
                .collect(),
            positions: (0..output[0] * output[1]).collect(),
        };
        Place { input, before, output, forward, gather: OnceLock::new() }
    }

    fn group_out(&self) -> usize {
        self.out_channels / self.groups
    }

    fn taps(&self) -> usize {
        self.axes[0].kernel * self.axes[1].kernel
    }

    /// `y = bias + weight ∗ x` for every sample of `x`.
    ///
    /// # Panics
    /// When the slices do not hold the same number of whole samples.
    pub fn forward<T: Scalar>(
        &self,
        place: &Place,
        weight: &[T],
        bias: &[T],
        x: &[T],
        y: &mut [T],
    ) {
        let (out, inner) = (self.group_out(), self.channels * self.taps());
        let packs = self.forward.get(|| {
            let pack = |group: usize| {
                let weight = &weight[group * out * inner..];
                let bias = &bias[group * out..][..out];
                PackedMatrix::new(inner, out, Some(bias), |k, o| weight[o * inner + k])
            };
            (0..self.groups).map(pack).collect()
        });
        let Forward { padded, copied, rows, taps, positions } = &place.forward;
        let plane = padded[0] * padded[1];
        let length = if *copied { self.groups * self.channels * plane } else { 0 };
        T::with_scratch(length, |image| {
            image.fill(T::ZERO);
            for (x, y) in self.samples(place, x, y) {
                let x = if *copied {
                    surround(x, place.input, image, *padded, place.before);
                    &*image
                } else {
                    x
                };
                let outputs = y.chunks_exact_mut(out * positions.len());
                for ((pack, values), group) in packs.iter().zip(outputs).zip(0..) {
                    let values_in = &x[group * self.channels * plane..];
                    pack.multiply(
                        Left { values: values_in, rows, taps },
                        Target {
                            values,
                            rows: positions,
                            stride: positions.len(),
                            accumulate: false,
                        },
                    );
                }
            }
        });
    }

    /// Adds the vector-Jacobian product of `cotangent` to `gradient`, for every sample.
    ///
    /// # Panics
    /// When the slices do not hold the same number of whole samples.
    pub fn input_gradient<T: Scalar>(
        &self,
        place: &Place,
        weight: &[T],
        cotangent: &[T],
        gradient: &mut [T],
    ) {
        if self.scatters() {
            self.scatter(place, weight, cotangent, gradient);
        } else {
            self.gather(place, weight, cotangent, gradient);
        }
    }

    /// Whether the scatter form takes fewer steps: an estimate per output position and output
    /// channel, in products of 16 lanes, plus the additions of the scatter (about half a step
    /// each).
    fn scatters(&self) -> bool {
        let (out, taps) = (self.group_out(), self.taps());
        let scatter = out * (self.channels * taps).div_ceil(16) + self.channels * taps / 2;
        let gather = out * taps * self.channels.div_ceil(16);
        scatter < gather
    }

    fn scatter<T: Scalar>(&self, place: &Place, weight: &[T], cotangent: &[T], gradient: &mut [T]) {
        let (out, inner) = (self.group_out(), self.channels * self.taps());
        let packs = self.backward.get(|| {
            let pack = |group: usize| {
                let weight = &weight[group * out * inner..];
                PackedMatrix::new(out, inner, None, |o, n| weight[o * inner + n])
            };
            (0..self.groups).map(pack).collect()
        });
        let positions = &place.forward.positions;
        let taps: Vec<usize> = (0..out).map(|o| o * positions.len()).collect();
        let [height, width] = place.output;
        let lines = SCATTER_BLOCK.div_ceil(width.max(1)).min(height);
        let pixels = self.channels * place.input[0] * place.input[1];
        T::with_scratch(inner * lines * width, |products| {
            for (gradient, cotangent) in self.samples_mut(place, gradient, cotangent) {
                let groups = cotangent.chunks_exact(out * positions.len());
                let targets = gradient.chunks_exact_mut(pixels);
                for ((pack, values), gradient) in packs.iter().zip(groups).zip(targets) {
                    for first in (0..height).step_by(lines.max(1)) {
                        let lines = first..(first + lines).min(height);
                        let rows = &positions[first * width..lines.end * width];
                        pack.multiply(
                            Left { values, rows, taps: &taps },
                            Target {
                                values: products,
                                rows: &positions[..rows.len()],
                                stride: rows.len(),
                                accumulate: false,
                            },
                        );
                        self.add_products(place, lines, products, gradient);
                    }
                }
            }
        });
    }

    /// Adds the products of some lines of the output, `[channels, kh, kw, lines, columns]`, to
    /// the pixels they belong to.
    fn add_products<T: Scalar>(
        &self,
        place: &Place,
        lines: Range<usize>,
        products: &[T],
        gradient: &mut [T],
    ) {
        let [rows, columns] = self.axes;
        let [height, width] = place.input;
        let planes = products.chunks_exact(lines.len() * place.output[1]);
        for (index, plane) in planes.take(self.channels * self.taps()).enumerate() {
            let (tap, channel) = (index % self.taps(), index / self.taps());
            let k = tap / columns.kernel * rows.dilation;
            let l = tap % columns.kernel * columns.dilation;
            // Output positions whose tap falls inside the input.
            let inside = |axis: Axis, offset: usize, before: usize, length: usize, end: usize| {
                let first = before.saturating_sub(offset).div_ceil(axis.stride);
                let last = (length + before).saturating_sub(offset).div_ceil(axis.stride);
                first.min(end)..last.min(end)
            };
            let range = inside(columns, l, place.before[1], width, place.output[1]);
            let seen = inside(rows, k, place.before[0], height, lines.end);
            if range.is_empty() {
                continue;
            }
            let start = range.start * columns.stride + l - place.before[1];
            for i in seen.start.max(lines.start)..seen.end {
                let row = channel * height + i * rows.stride + k - place.before[0];
                let line = &mut gradient[row * width..][start..width];
                let products = &plane[(i - lines.start) * place.output[1]..][range.clone()];
                let pixels = line.iter_mut().step_by(columns.stride);
                pixels.zip(products).for_each(|(pixel, &product)| *pixel += product);
            }
        }
    }

    fn gather<T: Scalar>(&self, place: &Place, weight: &[T], cotangent: &[T], gradient: &mut [T]) {
        let (out, inner) = (self.group_out(), self.channels * self.taps());
        let [rows, columns] = self.axes;
        let packs = self.backward.get(|| {
            let mut packs = Vec::new();
            for group in 0..self.groups {
                let weight = &weight[group * out * inner..];
                for class in self.classes() {
                    let taps: Vec<usize> = pairs(rows.class(class[0]), columns.class(class[1]))
                        .map(|((k, _), (l, _))| k * columns.kernel + l)
                        .collect();
                    packs.push(PackedMatrix::new(out * taps.len(), self.channels, None, |k, c| {
                        let (o, tap) = (k / taps.len(), taps[k % taps.len()]);
                        weight[o * inner + c * self.taps() + tap]
                    }));
                }
            }
            packs
        });
        let Gather { padded, classes } = place.gather.get_or_init(|| self.gather_tables(place));
        let plane = padded[0] * padded[1];
        let before = [rows.reach(), columns.reach()];
        let pixels = place.input[0] * place.input[1];
        T::with_scratch(self.out_channels * plane, |image| {
            image.fill(T::ZERO);
            for (gradient, cotangent) in self.samples_mut(place, gradient, cotangent) {
                surround(cotangent, place.output, image, *padded, before);
                let targets = gradient.chunks_exact_mut(self.channels * pixels);
                let groups = packs.chunks_exact(classes.len()).zip(targets).enumerate();
                for (group, (packs, gradient)) in groups {
                    let values = &image[group * out * plane..];
                    for (pack, class) in packs.iter().zip(classes) {
                        pack.multiply(
                            Left { values, rows: &class.rows, taps: &class.taps },
                            Target {
                                values: gradient,
                                rows: &class.pixels,
                                stride: pixels,
                                accumulate: true,
                            },
                        );
                    }
                }
            }
        });
    }

    fn classes(&self) -> impl Iterator<Item = [usize; 2]> {
        let [rows, columns] = self.axes;
        (0..rows.stride).flat_map(move |i| (0..columns.stride).map(move |j| [i, j]))
    }

    fn gather_tables(&self, place: &Place) -> Gather {
        let [rows, columns] = self.axes;
        let last =
            [0, 1].map(|i| ((place.before[i] + place.input[i]).max(1) - 1) / self.axes[i].stride);
        let padded = [last[0] + 1 + rows.reach(), last[1] + 1 + columns.reach()];
        let plane = padded[0] * padded[1];
        let tables = |class: [usize; 2]| {
            // Pixels of the class, as quotients of their padded position by the stride.
            let along = |i: usize| {
                let (stride, before, class) = (self.axes[i].stride, place.before[i], class[i]);
                let first = before.saturating_sub(class).div_ceil(stride);
                let end = (before + place.input[i]).saturating_sub(class).div_ceil(stride);
                (first..end).map(move |at| (at, at * stride + class - before))
            };
            let spots: Vec<_> = pairs(along(0), along(1)).collect();
            let taps = (0..self.group_out()).flat_map(|o| {
                pairs(rows.class(class[0]), columns.class(class[1])).map(move |((_, i), (_, j))| {
                    o * plane + (rows.reach() - i) * padded[1] + columns.reach() - j
                })
            });
            Class {
                rows: spots.iter().map(|&((i, _), (j, _))| i * padded[1] + j).collect(),
                taps: taps.collect(),
                pixels: spots.iter().map(|&((_, y), (_, x))| y * place.input[1] + x).collect(),
            }
        };
        Gather { padded, classes: self.classes().map(tables).collect() }
    }

    fn samples<'a, T>(
        &self,
        place: &Place,
        x: &'a [T],
        y: &'a mut [T],
    ) -> impl Iterator<Item = (&'a [T], &'a mut [T])> {
        let [input, output] = self.lengths(place);
        assert_eq!(x.len() / input, y.len() / output, "as many samples in as out");
        x.chunks_exact(input).zip(y.chunks_exact_mut(output))
    }

    fn samples_mut<'a, T>(
        &self,
        place: &Place,
        gradient: &'a mut [T],
        cotangent: &'a [T],
    ) -> impl Iterator<Item = (&'a mut [T], &'a [T])> {
        let [input, output] = self.lengths(place);
        assert_eq!(gradient.len() / input, cotangent.len() / output, "as many samples in as out");
        gradient.chunks_exact_mut(input).zip(cotangent.chunks_exact(output))
    }

    /// Values of one input and one output sample, at least 1 to divide by.
    fn lengths(&self, place: &Place) -> [usize; 2] {
        let input = self.groups * self.channels * place.input[0] * place.input[1];
        [input.max(1), (self.out_channels * place.output[0] * place.output[1]).max(1)]
    }
}

/// All pairs, the first slowest.
fn pairs<A: Copy, B>(
    first: impl Iterator<Item = A>,
    second: impl Iterator<Item = B> + Clone,
) -> impl Iterator<Item = (A, B)> {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    struct Case {
        groups: usize,
        /// Of one group.
        channels: [usize; 2],
        input: [usize; 2],
        kernel: [usize; 2],
        stride: [usize; 2],
        dilation: [usize; 2],
        /// Top, left, bottom, right.
        padding: [usize; 4],
    }

    impl Case {
        fn output(&self) -> Option<[usize; 2]> {
            let axis = |i: usize| {
                let span = (self.kernel[i] - 1) * self.dilation[i] + 1;
                let padded = self.input[i] + self.padding[i] + self.padding[i + 2];
                Some(padded.checked_sub(span)? / self.stride[i] + 1)
            };
            Some([axis(0)?, axis(1)?])
        }

        /// (weight, input, output) indices of every product of one sample, in the kernels' order.
        fn products(&self) -> Vec<[usize; 3]> {
            let output = self.output().unwrap();
            let [channels, out] = self.channels;
            let mut products = Vec::new();
            for o in 0..out * self.groups {
                for (i, j) in pairs(0..output[0], 0..output[1]) {
                    for c in 0..channels {
                        for (k, l) in pairs(0..self.kernel[0], 0..self.kernel[1]) {
                            let y = i * self.stride[0] + k * self.dilation[0];
                            let x = j * self.stride[1] + l * self.dilation[1];
                            let (Some(y), Some(x)) =
                                (y.checked_sub(self.padding[0]), x.checked_sub(self.padding[1]))
                            else {
                                continue;
                            };
                            if y < self.input[0] && x < self.input[1] {
                                let weight = (o * channels + c) * self.kernel[0] + k;
                                let channel = o / out * channels + c;
                                products.push([
                                    weight * self.kernel[1] + l,
                                    (channel * self.input[0] + y) * self.input[1] + x,
                                    (o * output[0] + i) * output[1] + j,
                                ]);
                            }
                        }
                    }
                }
            }
            products
        }
    }

    fn cases() -> impl Strategy<Value = Case> {
        let two = |range: Range<usize>| [range.clone(), range];
        let four = [0..3usize, 0..3, 0..3, 0..3];
        (1..3usize, [1..19usize, 1..12], [1..25usize, 1..25], two(1..5), two(1..4), two(1..3), four)
            .prop_map(|(groups, channels, input, kernel, stride, dilation, padding)| Case {
                groups,
                channels,
                input,
                kernel,
                stride,
                dilation,
                padding,
            })
            .prop_filter("the kernel fits", |case| case.output().is_some())
    }

    fn values<T: Scalar>(len: usize, name: &str) -> Vec<T> {
        let mut generator = crate::random::Stream::new(0, name, 0).at(0, 0);
        (0..len).map(|_| T::from_f64(f64::from(generator.signed()))).collect()
    }

    fn check<T: Scalar>(case: &Case, tolerance: f64) {
        let [channels, out] = case.channels;
        let (groups, output, batch) = (case.groups, case.output().unwrap(), 3);
        let weight_shape = [out * groups, channels, case.kernel[0], case.kernel[1]];
        let convolution = Convolution::new(weight_shape, case.stride, case.dilation, groups);
        let place = convolution.place(case.input, [case.padding[0], case.padding[1]], output);
        let weight = values::<T>(weight_shape.iter().product(), "weight");
        let bias = values::<T>(out * groups, "bias");
        let (plane, out_plane) = (case.input[0] * case.input[1], output[0] * output[1]);
        let (length, out_length) = (channels * groups * plane, out * groups * out_plane);
        let x = values::<T>(batch * length, "x");
        let mut y = values::<T>(batch * out_length, "overwritten");
        convolution.forward(&place, &weight, &bias, &x, &mut y);
        let cotangent = values::<T>(batch * out_length, "cotangent");
        let before = values::<T>(batch * length, "gradient");
        let mut gradient = before.clone();
        convolution.input_gradient(&place, &weight, &cotangent, &mut gradient);

        let products = case.products();
        for s in 0..batch {
            let x = &x[s * length..][..length];
            let mut expected: Vec<T> =
                (0..out_length).map(|index| bias[index / out_plane]).collect();
            for &[w, i, o] in &products {
                expected[o] = x[i].mul_add(weight[w], expected[o]);
            }
            assert_eq!(y[s * out_length..][..out_length], expected);

            let cotangent = &cotangent[s * out_length..][..out_length];
            let mut expected = vec![0.0; length];
            for &[w, i, o] in &products {
                expected[i] += weight[w].to_f64() * cotangent[o].to_f64();
            }
            let gradient = &gradient[s * length..][..length];
            for (i, expected) in expected.iter().enumerate() {
                let expected = expected + before[s * length + i].to_f64();
                assert!((gradient[i].to_f64() - expected).abs() < tolerance, "pixel {i}");
            }

            // A sample alone gives the same bits.
            let mut alone = before[s * length..][..length].to_vec();
            convolution.input_gradient(&place, &weight, cotangent, &mut alone);
            assert_eq!(alone, gradient);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn agrees_with_the_definition(case in cases()) {
            check::<f64>(&case, 1e-12);
            check::<f32>(&case, 1e-3);
        }
    }

    /// Both forms of the gradient are exercised, whatever the estimate says.
    #[test]
    fn gather_and_scatter_agree() {
        for (channels, stride, dilation) in [(1, 2, 1), (3, 1, 2), (17, 3, 1), (5, 2, 3)] {
            let shape = [6, channels, 3, 4];
            let weight = values::<f64>(shape.iter().product(), "weight");
            let [gather, scatter] =
                [0, 1].map(|_| Convolution::new(shape, [stride; 2], [dilation; 2], 1));
            let output = [3, 4].map(|k| (11 + 3 - (k - 1) * dilation - 1) / stride + 1);
            let place = gather.place([11, 11], [1, 2], output);
            let cotangent = values(6 * output[0] * output[1], "cotangent");
            let (mut one, mut two) = (vec![0.0; channels * 121], vec![0.0; channels * 121]);
            gather.gather(&place, &weight, &cotangent, &mut one);
            scatter.scatter(&place, &weight, &cotangent, &mut two);
            assert!(one.iter().zip(&two).all(|(a, b): (&f64, &f64)| (a - b).abs() < 1e-12));
        }
    }

    #[test]
    fn no_samples_and_no_positions() {
        let convolution = Convolution::new([2, 1, 2, 2], [1, 1], [1, 1], 1);
        let place = convolution.place([3, 3], [0, 0], [2, 2]);
        convolution.forward::<f32>(&place, &[1.0; 8], &[0.0; 2], &[], &mut []);
        convolution.input_gradient::<f32>(&place, &[1.0; 8], &[], &mut []);
    }
}
