//! The forward pass.

use super::{Convolution, Form, Place, Scalar, grid, pairs, surround};
use crate::gemm::{Left, PackedMatrix, Target};
use crate::lines::{self, PackedRows, SLACK};

#[derive(Debug, Clone)]
pub(super) enum Forward {
    Channels(Channels),
    Lines(Lines),
}

#[derive(Debug, Clone)]
pub(super) struct Channels {
    /// Height and width of what the windows see, padding included.
    pub padded: [usize; 2],
    /// Whether that is a copy, or the input itself.
    pub copied: bool,
    pub rows: Vec<usize>,
    pub taps: Vec<usize>,
    pub positions: Vec<usize>,
}

#[derive(Debug, Clone)]
pub(super) struct Lines {
    /// Height and width of one class of the padded image.
    size: [usize; 2],
    /// Along each axis, the classes that any tap sees.
    classes: [Vec<usize>; 2],
    taps: Vec<usize>,
    /// Values from the first output position to the last, in lines of a class.
    span: usize,
}

impl Convolution {
    pub(super) fn forward_tables(
        &self,
        input: [usize; 2],
        before: [usize; 2],
        output: [usize; 2],
        form: Option<Form>,
    ) -> Forward {
        let [rows, columns] = self.axes;
        let seen = [0, 1].map(|i| {
            let axis = self.axes[i];
            (output[i].max(1) - 1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1
        });
        let size = [seen[0].div_ceil(rows.stride), seen[1].div_ceil(columns.stride)];
        let span = (output[0].max(1) - 1) * size[1] + output[1];
        let positions = output[0] * output[1];
        let cheaper = || {
            // Whole lines are copied fast, their classes are picked out value by value.
            let read = self.channels * input[0] * input[1];
            let split = if columns.stride == 1 { read / 4 } else { 2 * read };
            let moves = split + self.group_out() * positions;
            Form::cheaper(self.group_out(), self.inner(), positions, span, moves)
        };
        if form.unwrap_or_else(cheaper) == Form::Lines {
            let classes = [rows.seen(), columns.seen()];
            let plane = size[0] * size[1];
            let taps = pairs(0..self.channels, pairs(0..rows.kernel, 0..columns.kernel));
            let tap = |(channel, (k, l)): (usize, (usize, usize))| {
                let at = [k * rows.dilation, l * columns.dilation];
                let class = [0, 1].map(|i| {
                    let class = at[i] % self.axes[i].stride;
                    classes[i].binary_search(&class).expect("a tap's class is seen")
                });
                let block = (channel * classes[0].len() + class[0]) * classes[1].len() + class[1];
                block * plane + at[0] / rows.stride * size[1] + at[1] / columns.stride
            };
            let taps = taps.map(tap).collect();
            return Forward::Lines(Lines { size, classes, taps, span });
        }
        let copied = before != [0, 0] || seen[0] > input[0] || seen[1] > input[1];
        let padded = if copied { seen } else { input };
        let plane = padded[0] * padded[1];
        let taps = pairs(0..self.channels, pairs(0..rows.kernel, 0..columns.kernel));
        Forward::Channels(Channels {
            padded,
            copied,
            rows: grid(output, |i, j| i * rows.stride * padded[1] + j * columns.stride),
            taps: taps
                .map(|(channel, (k, l))| {
                    channel * plane + k * rows.dilation * padded[1] + l * columns.dilation
                })
                .collect(),
            positions: (0..positions).collect(),
        })
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
        match &place.forward {
            Forward::Channels(tables) => self.by_channels(place, tables, weight, bias, x, y),
            Forward::Lines(tables) => self.by_lines(place, tables, weight, bias, x, y),
        }
    }

    /// One matrix a group, its columns output channels.
    pub(super) fn channel_packs<T: Scalar>(
        &self,
        weight: &[T],
        bias: &[T],
    ) -> &Vec<PackedMatrix<T>> {
        let (out, inner) = (self.group_out(), self.inner());
        self.packs.forward_channels.get::<T, _>(|| {
            let pack = |group: usize| {
                let weight = &weight[group * out * inner..];
                let bias = &bias[group * out..][..out];
                PackedMatrix::new(inner, out, Some(bias), |k, o| weight[o * inner + k])
            };
            Vec::from_iter((0..self.groups).map(pack))
        })
    }

    fn by_channels<T: Scalar>(
        &self,
        place: &Place,
        tables: &Channels,
        weight: &[T],
        bias: &[T],
        x: &[T],
        y: &mut [T],
    ) {
        let (count, length, out_length) = self.samples(place, x, y);
        let out = self.group_out();
        let packs = self.channel_packs(weight, bias);
        let Channels { padded, copied, rows, taps, positions } = tables;
        let plane = padded[0] * padded[1];
        let copy = if *copied { self.groups * self.channels * plane } else { 0 };
        T::with_scratch(copy, |image| {
            image.fill(T::ZERO);
            for sample in 0..count {
                let mut x = &x[sample * length..][..length];
                let y = &mut y[sample * out_length..][..out_length];
                if *copied {
                    surround(x, place.input, image, *padded, place.before);
                    x = image;
                }
                for (group, pack) in packs.iter().enumerate() {
                    pack.multiply(
                        Left { values: &x[group * self.channels * plane..], rows, taps },
                        Target {
                            values: &mut y[group * out * positions.len()..],
                            rows: positions,
                            stride: positions.len(),
                            accumulate: false,
                        },
                    );
                }
            }
        });
    }

    fn by_lines<T: Scalar>(
        &self,
        place: &Place,
        tables: &Lines,
        weight: &[T],
        bias: &[T],
        x: &[T],
        y: &mut [T],
    ) {
        let (count, length, out_length) = self.samples(place, x, y);
        let (out, inner) = (self.group_out(), self.inner());
        let packs = self.packs.forward_lines.get::<T, _>(|| {
            let pack = |group: usize| {
                let weight = &weight[group * out * inner..];
                let bias = &bias[group * out..][..out];
                PackedRows::new(out, inner, Some(bias), |o, k| weight[o * inner + k])
            };
            Vec::from_iter((0..self.groups).map(pack))
        });
        let Lines { size, classes, taps, span } = tables;
        let planes = classes[0].len() * classes[1].len();
        let group_length = self.channels * planes * size[0] * size[1];
        let [height, width] = place.output;
        let image_length = self.groups * group_length + SLACK;
        T::with_scratch(image_length + lines::scratch(*span), |buffer| {
            let (image, products) = buffer.split_at_mut(image_length);
            image.fill(T::ZERO);
            for sample in 0..count {
                self.split(place, tables, &x[sample * length..][..length], image);
                let y = &mut y[sample * out_length..][..out_length];
                for (group, pack) in packs.iter().enumerate() {
                    let image = &image[group * group_length..];
                    pack.multiply(image, taps, *span, products, |first, lines| {
                        let planes = y[(group * out + first) * height * width..]
                            .chunks_exact_mut(height * width);
                        for (plane, products) in planes.zip(lines) {
                            let lines = products.chunks(size[1]);
                            for (line, products) in plane.chunks_exact_mut(width).zip(lines) {
                                line.copy_from_slice(&products[..width]);
                            }
                        }
                    });
                }
            }
        });
    }

    /// Splits the padded image into its classes; what is padding is left as it is.
    fn split<T: Scalar>(&self, place: &Place, tables: &Lines, x: &[T], image: &mut [T]) {
        let [rows, columns] = self.axes;
        let Lines { size, classes, .. } = tables;
        let planes = classes[0].len() * classes[1].len();
        let [height, width] = place.input;
        let channels = x.chunks_exact(height * width);
        let images = image.chunks_exact_mut(planes * size[0] * size[1]);
        for (x, image) in channels.zip(images) {
            for (i, line) in x.chunks_exact(width).enumerate() {
                let at = i + place.before[0];
                let Ok(class) = classes[0].binary_search(&(at % rows.stride)) else { continue };
                let at = at / rows.stride;
                if at >= size[0] {
                    break;
                }
                for (n, &column) in classes[1].iter().enumerate() {
                    let plane = (class * classes[1].len() + n) * size[0] + at;
                    let out = &mut image[plane * size[1]..][..size[1]];
                    let (stride, before) = (columns.stride, place.before[1]);
                    let first = before.saturating_sub(column).div_ceil(stride);
                    let start = first * stride + column - before;
                    if stride == 1 {
                        let count = width.min(size[1].saturating_sub(first));
                        out[first.min(size[1])..][..count].copy_from_slice(&line[..count]);
                    } else if first < size[1] && start < width {
                        let values = line[start..].iter().step_by(stride);
                        out[first..].iter_mut().zip(values).for_each(|(out, &x)| *out = x);
                    }
                }
            }
        }
    }
}
