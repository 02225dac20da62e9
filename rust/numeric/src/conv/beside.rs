//! The input gradient of rows that lie side by side, see [`crate::beside`].

use super::{Axis, Convolution};
use crate::beside::{Run, Sums, Target};

/// Heights and widths, and the padding before the input.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    pub input: [usize; 2],
    pub before: [usize; 2],
    pub output: [usize; 2],
}

/// A cotangent that is one entry of the output, times `factor`, for one row.
#[derive(Debug, Clone, Copy)]
pub struct Unit {
    pub element: usize,
    pub factor: f64,
}

impl Axis {
    /// The (tap, output) pairs that see input position `at`, by tap.
    fn seen_by(self, at: usize, before: usize, outputs: usize) -> Vec<(usize, usize)> {
        let pairs = (0..self.kernel).filter_map(|tap| {
            let ahead = (at + before).checked_sub(tap * self.dilation)?;
            let output = ahead / self.stride;
            (ahead % self.stride == 0 && output < outputs).then_some((tap, output))
        });
        pairs.collect()
    }
}

impl Convolution {
    /// The vector-Jacobian products of `width` cotangents, side by side, written to `gradient`.
    ///
    /// Elements of the cotangents that are not `alive` are taken as zero; elements of the
    /// gradient that are not `wanted` become zero.
    ///
    /// # Panics
    /// When the slices do not have the sizes of the frame.
    pub fn gradient_beside(
        &self,
        frame: &Frame,
        weight: &[f64],
        (cotangent, alive): (&[f64], Option<&[bool]>),
        width: usize,
        (gradient, wanted): (&mut [f64], Option<&[bool]>),
    ) {
        let [height, columns] = frame.input;
        let (pixels, positions) = (height * columns, frame.output[0] * frame.output[1]);
        let (out, taps) = (self.group_out(), self.taps());
        assert_eq!(cotangent.len(), self.out_channels * positions * width, "whole cotangents");
        assert_eq!(gradient.len(), self.groups * self.channels * pixels * width, "whole gradients");
        let packed = self.packs.beside.get_or_init(|| self.pack_beside(weight));
        let terms = Lists::new(alive, self.groups, out, positions);
        let channels = Lists::new(wanted, self.groups, self.channels, pixels);
        if wanted.is_some() {
            gradient.fill(0.0);
        }
        let across: Vec<Vec<(usize, usize)>> = (0..columns)
            .map(|x| self.axes[1].seen_by(x, frame.before[1], frame.output[1]))
            .collect();
        let mut runs = Vec::with_capacity(taps);
        for group in 0..self.groups {
            let sums = Sums {
                width,
                values: &cotangent[group * out * positions * width..],
                value_stride: positions,
                weight: &packed[group * taps * out * self.channels..],
                weight_stride: self.channels,
                columns: self.channels,
            };
            for y in 0..height {
                let down = self.axes[0].seen_by(y, frame.before[0], frame.output[0]);
                for (x, across) in across.iter().enumerate() {
                    let pixel = y * columns + x;
                    let channels = channels.at(group, pixel);
                    if channels.is_empty() {
                        continue;
                    }
                    runs.clear();
                    for &(k, i) in &down {
                        for &(l, j) in across {
                            let position = i * frame.output[1] + j;
                            let tap = k * self.axes[1].kernel + l;
                            runs.push(Run {
                                value: position,
                                weight: tap * out * self.channels,
                                terms: terms.at(group, position),
                            });
                        }
                    }
                    let first = group * self.channels * pixels + pixel;
                    let target = Target { values: gradient, first, stride: pixels };
                    sums.write(&runs, channels, target);
                }
            }
        }
    }

    /// [`Convolution::gradient_beside`] of single entries of the output, one a row; rows without
    /// one, up to `width`, are zero.
    ///
    /// # Panics
    /// When the slices do not have the sizes of the frame, or there are more units than rows.
    pub fn gradient_of_units(
        &self,
        frame: &Frame,
        weight: &[f64],
        units: &[Unit],
        width: usize,
        gradient: &mut [f64],
    ) {
        let ([height, columns], [_, across]) = (frame.input, frame.output);
        let positions = frame.output[0] * across;
        assert!(units.len() <= width, "one unit a row");
        gradient.fill(0.0);
        let [down, right] = self.axes;
        for (row, unit) in units.iter().enumerate() {
            let (out, position) = (unit.element / positions, unit.element % positions);
            let (i, j) = (position / across, position % across);
            let first = out / self.group_out() * self.channels;
            for channel in 0..self.channels {
                let kernel = &weight[(out * self.channels + channel) * self.taps()..];
                for k in 0..down.kernel {
                    let y = (i * down.stride + k * down.dilation).wrapping_sub(frame.before[0]);
                    if y >= height {
                        continue;
                    }
                    let line = ((first + channel) * height + y) * columns;
                    for l in 0..right.kernel {
                        let x =
                            (j * right.stride + l * right.dilation).wrapping_sub(frame.before[1]);
                        if x < columns {
                            gradient[(line + x) * width + row] =
                                unit.factor * kernel[k * right.kernel + l];
                        }
                    }
                }
            }
        }
    }

    /// Group by group, tap by tap, output channel by output channel: the weights of all channels.
    fn pack_beside(&self, weight: &[f64]) -> Vec<f64> {
        let (out, taps) = (self.group_out(), self.taps());
        let mut packed = Vec::with_capacity(weight.len());
        for group in 0..self.groups {
            for tap in 0..taps {
                for o in group * out..(group + 1) * out {
                    let at = |channel: usize| (o * self.channels + channel) * taps + tap;
                    packed.extend((0..self.channels).map(|channel| weight[at(channel)]));
                }
            }
        }
        packed
    }
}

/// The channels of each group that count at each place.
struct Lists {
    places: usize,
    /// Where each place's list starts, one more at the end; empty if all channels count.
    starts: Vec<u32>,
    channels: Vec<u32>,
}

impl Lists {
    fn new(mask: Option<&[bool]>, groups: usize, channels: usize, places: usize) -> Self {
        let Some(mask) = mask else {
            let all = (0..channels as u32).collect();
            return Self { places, starts: Vec::new(), channels: all };
        };
        let mut lists = Self { places, starts: vec![0], channels: Vec::new() };
        for group in mask.chunks_exact(channels * places).take(groups) {
            for place in 0..places {
                let named = (0..channels).filter(|channel| group[channel * places + place]);
                lists.channels.extend(named.map(|channel| channel as u32));
                lists.starts.push(lists.channels.len() as u32);
            }
        }
        lists
    }

    fn at(&self, group: usize, place: usize) -> &[u32] {
        let index = group * self.places + place;
        match self.starts.get(index..index + 2) {
            Some(ends) => &self.channels[ends[0] as usize..ends[1] as usize],
            None => &self.channels,
        }
    }
}
