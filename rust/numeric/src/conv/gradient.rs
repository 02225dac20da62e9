//! The input gradient.

use super::{Axis, Convolution, Form, Place, Scalar, pairs, surround};
use crate::gemm::{Left, PackedMatrix, Target};
use crate::lines::{self, PackedRows, SLACK};

#[derive(Debug, Clone)]
pub(super) struct Gather {
    form: Form,
    /// Height and width of the cotangent with zeros around it.
    padded: [usize; 2],
    classes: Vec<Class>,
}

/// The pixels whose positions leave the same remainders.
#[derive(Debug, Clone)]
struct Class {
    /// Where the patch of each pixel starts in the padded cotangent.
    rows: Vec<usize>,
    taps: Vec<usize>,
    pixels: Vec<usize>,
    /// Pixels in a line.
    width: usize,
    /// Values from the first start to the last.
    span: usize,
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

impl Convolution {
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
        let (count, length, out_length) = self.samples(place, gradient, cotangent);
        let tables = place.gather.get_or_init(|| self.gather_tables(place));
        let before = self.axes.map(Axis::reach);
        let plane = tables.padded[0] * tables.padded[1];
        let image_length = self.out_channels * plane + SLACK;
        let span = tables.classes.iter().map(|class| class.span).max().unwrap_or(0);
        T::with_scratch(image_length + lines::scratch(span), |buffer| {
            let (image, products) = buffer.split_at_mut(image_length);
            image.fill(T::ZERO);
            for sample in 0..count {
                let cotangent = &cotangent[sample * out_length..][..out_length];
                surround(cotangent, place.output, image, tables.padded, before);
                let gradient = &mut gradient[sample * length..][..length];
                match tables.form {
                    Form::Channels => self.gather_channels(place, tables, weight, image, gradient),
                    Form::Lines => {
                        self.gather_lines(place, tables, weight, image, products, gradient);
                    }
                }
            }
        });
    }

    fn gather_channels<T: Scalar>(
        &self,
        place: &Place,
        tables: &Gather,
        weight: &[T],
        image: &[T],
        gradient: &mut [T],
    ) {
        let packs = self.packs.gradient_channels.get::<T, _>(|| {
            self.class_packs(|group, terms| {
                let element = |k: usize, c: usize| self.weight(weight, group, terms[k], c);
                PackedMatrix::new(terms.len(), self.channels, None, element)
            })
        });
        self.each_part(place, tables, image, gradient, |part, class, values, gradient| {
            packs[part].multiply(
                Left { values, rows: &class.rows, taps: &class.taps },
                Target {
                    values: gradient,
                    rows: &class.pixels,
                    stride: place.input[0] * place.input[1],
                    accumulate: true,
                },
            );
        });
    }

    fn gather_lines<T: Scalar>(
        &self,
        place: &Place,
        tables: &Gather,
        weight: &[T],
        image: &[T],
        products: &mut [T],
        gradient: &mut [T],
    ) {
        let packs = self.packs.gradient_lines.get::<T, _>(|| {
            self.class_packs(|group, terms| {
                let element = |c: usize, k: usize| self.weight(weight, group, terms[k], c);
                PackedRows::new(self.channels, terms.len(), None, element)
            })
        });
        let [height, width] = place.input;
        let stride = self.axes[1].stride;
        self.each_part(place, tables, image, gradient, |part, class, values, gradient| {
            let values = &values[class.rows[0]..];
            packs[part].multiply(values, &class.taps, class.span, products, |first, lines| {
                let planes = gradient[first * height * width..].chunks_exact_mut(height * width);
                for (plane, products) in planes.zip(lines) {
                    let starts = class.pixels.iter().step_by(class.width);
                    for (&start, products) in starts.zip(products.chunks(tables.padded[1])) {
                        let end = start + (class.width - 1) * stride + 1;
                        let pixels = plane[start..end].iter_mut().step_by(stride);
                        pixels.zip(products).for_each(|(pixel, &product)| *pixel += product);
                    }
                }
            });
        });
    }

    /// Calls `add` with each class of each group that has pixels: the index of its pack, the
    /// class, the group's cotangent and the group's gradient.
    fn each_part<T>(
        &self,
        place: &Place,
        tables: &Gather,
        image: &[T],
        gradient: &mut [T],
        mut add: impl FnMut(usize, &Class, &[T], &mut [T]),
    ) {
        let plane = tables.padded[0] * tables.padded[1];
        let group_length = self.channels * place.input[0] * place.input[1];
        for group in 0..self.groups {
            let values = &image[group * self.group_out() * plane..];
            let gradient = &mut gradient[group * group_length..][..group_length];
            for (index, class) in tables.classes.iter().enumerate() {
                if !class.pixels.is_empty() {
                    add(group * tables.classes.len() + index, class, values, gradient);
                }
            }
        }
    }

    /// Packs every class of every group from its terms: (output channel of the group, tap).
    fn class_packs<P>(&self, pack: impl Fn(usize, &[(usize, usize)]) -> P) -> Vec<P> {
        let [rows, columns] = self.axes;
        let classes = self.classes();
        let packs = pairs(0..self.groups, classes.iter()).map(|(group, &[i, j])| {
            let taps = pairs(rows.class(i), columns.class(j));
            let taps = taps.map(|((k, _), (l, _))| k * columns.kernel + l);
            let terms: Vec<_> = pairs(0..self.group_out(), taps).collect();
            pack(group, &terms)
        });
        packs.collect()
    }

    fn weight<T: Scalar>(
        &self,
        weight: &[T],
        group: usize,
        (out, tap): (usize, usize),
        channel: usize,
    ) -> T {
        let out = group * self.group_out() + out;
        weight[(out * self.channels + channel) * self.taps() + tap]
    }

    /// The classes that any tap sees; the gradient of other pixels is zero.
    fn classes(&self) -> Vec<[usize; 2]> {
        let [rows, columns] = self.axes.map(Axis::seen);
        pairs(rows.iter(), columns.iter()).map(|(&i, &j)| [i, j]).collect()
    }

    fn gather_tables(&self, place: &Place) -> Gather {
        let [rows, columns] = self.axes;
        let last =
            [0, 1].map(|i| ((place.before[i] + place.input[i]).max(1) - 1) / self.axes[i].stride);
        let padded = [last[0] + 1 + rows.reach(), last[1] + 1 + columns.reach()];
        let plane = padded[0] * padded[1];
        let tables = |class: [usize; 2]| {
            // Pixels of the class along an axis: (position / stride, pixel).
            let along = |i: usize| {
                let (stride, before, class) = (self.axes[i].stride, place.before[i], class[i]);
                let first = before.saturating_sub(class).div_ceil(stride);
                let end = (before + place.input[i]).saturating_sub(class).div_ceil(stride);
                (first..end).map(move |at| (at, at * stride + class - before))
            };
            let spots: Vec<_> = pairs(along(0), along(1)).collect();
            let taps = pairs(rows.class(class[0]), columns.class(class[1]));
            let taps =
                taps.map(|((_, i), (_, j))| (rows.reach() - i) * padded[1] + columns.reach() - j);
            let taps = pairs(0..self.group_out(), taps).map(|(o, tap)| o * plane + tap).collect();
            let starts = spots.iter().map(|&((i, _), (j, _))| i * padded[1] + j);
            let rows: Vec<usize> = starts.collect();
            Class {
                taps,
                pixels: spots.iter().map(|&((_, y), (_, x))| y * place.input[1] + x).collect(),
                width: along(1).len(),
                span: rows.last().map_or(0, |last| last - rows[0] + 1),
                rows,
            }
        };
        let classes: Vec<Class> = self.classes().into_iter().map(tables).collect();
        let form = place.gradient_form.unwrap_or_else(|| {
            // Classes differ by a tap at most; the largest stands for all.
            let most = |length: fn(&Class) -> usize| classes.iter().map(length).max().unwrap_or(0);
            let (terms, pixels) = (most(|c| c.taps.len()), most(|c| c.pixels.len()));
            Form::cheaper(self.channels, terms, pixels, most(|c| c.span), self.channels * pixels)
        });
        Gather { form, padded, classes }
    }
}
