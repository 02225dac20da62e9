//! Points in panels of columns, as the sweep multiplies them.

use aisec_numeric::random::Stream;
use rayon::prelude::*;

use super::frame::{Frame, NOWHERE, PANEL};
use super::rows::Rows;

const CACHE_LINE: usize = 64;

/// Points that can be compared panel by panel.
pub(super) trait Layout: Sync {
    fn frame(&self) -> &Frame;

    /// Value k of column n of a panel of consecutive points is at `k * PANEL + n`; the buffer is
    /// used where they do not lie so.
    fn panel<'a>(&'a self, index: usize, buffer: &'a mut Vec<f32>) -> &'a [f32];

    /// The values of one point, and how far they are apart.
    fn point(&self, position: usize) -> (&[f32], usize);

    /// Makes a panel of the points at some positions, and returns their halves.
    fn gather(&self, positions: &[u32], values: &mut Vec<f32>) -> [f32; PANEL] {
        values.resize(PANEL * self.frame().dim, 0.0);
        let mut half = [NOWHERE; PANEL];
        for (n, &position) in positions.iter().enumerate() {
            half[n] = self.frame().half(position as usize);
            let (point, stride) = self.point(position as usize);
            let column = values[n..].iter_mut().step_by(PANEL);
            column.zip(point.iter().step_by(stride)).for_each(|(to, from)| *to = *from);
        }
        half
    }
}

/// All points in panels, in an order drawn at random: what is near is met early whatever the order
/// of the samples, and candidates are few.
#[derive(Debug)]
pub(super) struct Points {
    frame: Frame,
    /// Panel after panel, from `start` on, where a cache line begins.
    values: Vec<f32>,
    start: usize,
}

impl Points {
    /// The points of some of the samples.
    pub(super) fn new(rows: &Rows, samples: &[u32]) -> Self {
        let stream = Stream::new(0, "neighbours", 0);
        let mut drawn: Vec<(u32, u32)> =
            samples.par_iter().map(|&i| (stream.at(u64::from(i), 0).next_u32(), i)).collect();
        drawn.par_sort_unstable();
        let frame = Frame::new(rows, drawn.into_iter().map(|(_, i)| i).collect());

        let size = PANEL * frame.dim;
        let mut values: Vec<f32> = Vec::with_capacity(frame.panels() * size + CACHE_LINE);
        let start = values.as_ptr().align_offset(CACHE_LINE).min(CACHE_LINE);
        values.resize(start + frame.panels() * size, 0.0);
        values[start..].par_chunks_exact_mut(size).enumerate().for_each(|(index, panel)| {
            let first = index * PANEL;
            for position in first..(first + PANEL).min(frame.len()) {
                let column = panel[position - first..].iter_mut().step_by(PANEL);
                column.zip(frame.point(rows, position)).for_each(|(to, value)| *to = value);
            }
        });
        Self { frame, values, start }
    }

    /// Values of a panel.
    pub(super) fn values(&self, index: usize) -> &[f32] {
        let size = PANEL * self.frame.dim;
        &self.values[self.start + index * size..][..size]
    }
}

impl Layout for Points {
    fn frame(&self) -> &Frame {
        &self.frame
    }

    fn panel<'a>(&'a self, index: usize, _: &'a mut Vec<f32>) -> &'a [f32] {
        self.values(index)
    }

    fn point(&self, position: usize) -> (&[f32], usize) {
        (&self.values(position / PANEL)[position % PANEL..], PANEL)
    }
}
