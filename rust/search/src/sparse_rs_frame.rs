//! Sparse-RS for frames (Croce, Andriushchenko, Singh, Flammarion & Hein, "Sparse-RS: a versatile
//! framework for query-efficient sparse black-box adversarial attacks", AAAI 2022,
//! arXiv:2006.12834, adversarial frames), a frame for each image.
//!
//! Random search over the values at the image's border. A proposal draws some pixels of the frame
//! and paints a square from each, all in one direction, with either end of the range in every
//! channel. The squares' side is drawn from one pixel up to the frame's width, where the authors
//! always take the width: single pixels can be corrected.

use std::sync::Arc;

use aisec_numeric::random::{Generator, Stream};

use crate::search::Record;
use crate::sparse_rs::{Settings, draw};
use crate::sparse_rs_patch::share;
use crate::{Error, Layout, Outcome, Region, Result, Search};

/// What all samples of one run share.
#[derive(Debug, Clone)]
pub struct SparseRsFrameConfig {
    layout: Layout,
    width: usize,
    queries: u32,
    alpha_init: f64,
    noise: Stream,
    /// The frame's pixels, row by row.
    pixels: Vec<(usize, usize)>,
}

impl SparseRsFrameConfig {
    /// Frames of `width` pixels.
    ///
    /// # Errors
    /// Without queries, and when `alpha_init` is not in (0, 1].
    pub(crate) fn new(layout: Layout, width: usize, settings: &Settings) -> Result<Self> {
        let Settings { queries, seed, restart, .. } = *settings;
        let alpha_init = settings.alpha_init.unwrap_or(0.5);
        if queries == 0 || !(alpha_init > 0.0 && alpha_init <= 1.0) {
            return Err(Error::input("sparse-rs needs queries >= 1 and alpha_init in (0, 1]"));
        }
        let all = (0..layout.height).flat_map(|row| (0..layout.width).map(move |at| (row, at)));
        let pixels = all.filter(|&(row, at)| inside(layout, width, row, at)).collect();
        let noise = Stream::new(seed, "sparse-rs", restart);
        Ok(Self { layout, width, queries, alpha_init, noise, pixels })
    }
}

/// Whether a pixel belongs to the frame. An axis of length one has no border.
fn inside(layout: Layout, width: usize, row: usize, column: usize) -> bool {
    let near = |at: usize, size: usize| size > 1 && (at < width || size - at <= width);
    near(row, layout.height) || near(column, layout.width)
}

/// The search on one sample.
#[derive(Debug)]
pub struct SparseRsFrame {
    config: Arc<SparseRsFrameConfig>,
    region: Region,
    label: usize,
    sample: u64,
    /// The best point so far.
    record: Record,
    taken: Vec<bool>,
}

impl SparseRsFrame {
    /// The region's intervals bound every value of the frame.
    pub fn new(
        config: Arc<SparseRsFrameConfig>,
        region: Region,
        label: usize,
        sample: u64,
    ) -> Self {
        let taken = vec![false; config.pixels.len()];
        let record = Record::new(region.clean());
        Self { config, region, label, sample, record, taken }
    }

    /// Every value of the frame at either end.
    fn begin(&self, generator: &mut Generator, row: &mut [f32]) {
        for &(line, column) in &self.config.pixels {
            for channel in 0..self.config.layout.channels {
                let index = self.config.layout.index(channel, line, column);
                row[index] = self.end(generator)[index];
            }
        }
    }

    fn end(&self, generator: &mut Generator) -> &[f32] {
        if generator.sign() > 0.0 { self.region.upper() } else { self.region.lower() }
    }

    fn repaint(&mut self, iteration: u32, generator: &mut Generator, row: &mut [f32]) {
        let SparseRsFrameConfig { layout, width, queries, alpha_init, .. } = *self.config;
        let pixels = &self.config.pixels;
        let part = share(alpha_init, iteration, queries) * pixels.len() as f64;
        let (down, right) = (generator.sign() > 0.0, generator.sign() > 0.0);
        let side = 1 + generator.below(width.min(layout.height.max(layout.width)) as u32) as usize;
        let along = |at: usize, forward: bool, step: usize, size: usize| {
            if forward { (at + step).min(size - 1) } else { at.saturating_sub(step) }
        };
        for _ in 0..(part as usize).clamp(1, pixels.len()) {
            let (top, left) = pixels[draw(&mut self.taken, 0, pixels.len(), generator)];
            for channel in 0..layout.channels {
                let up = generator.sign() > 0.0;
                let ends = if up { self.region.upper() } else { self.region.lower() };
                for step in 0..side * side {
                    let line = along(top, down, step / side, layout.height);
                    let column = along(left, right, step % side, layout.width);
                    if inside(layout, width, line, column) {
                        let index = layout.index(channel, line, column);
                        row[index] = ends[index];
                    }
                }
            }
        }
        self.taken.fill(false);
    }
}

impl Search for SparseRsFrame {
    fn ask(&mut self, row: &mut [f32]) {
        let iteration = self.record.forwards as u32;
        let mut generator = self.config.noise.at(self.sample, iteration);
        if iteration == 0 {
            row.copy_from_slice(self.region.clean());
            self.begin(&mut generator, row);
        } else {
            row.copy_from_slice(&self.record.x);
            self.repaint(iteration, &mut generator, row);
        }
    }

    fn tell(&mut self, row: &[f32], logits: &[f32]) -> bool {
        self.record.learn(row, logits, self.label);
        self.record.forwards >= u64::from(self.config.queries)
            || self.config.pixels.is_empty()
            || self.region.is_point()
            || self.record.confident(logits)
    }

    fn finish(self: Box<Self>) -> Outcome {
        self.record.finish()
    }
}
