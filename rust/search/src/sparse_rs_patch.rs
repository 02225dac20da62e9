//! Sparse-RS for patches (Croce, Andriushchenko, Singh, Flammarion & Hein, "Sparse-RS: a versatile
//! framework for query-efficient sparse black-box adversarial attacks", AAAI 2022,
//! arXiv:2006.12834, section 4: image- and location-specific patches).
//!
//! Random search over where the patch lies and what it shows. Most proposals set a square of it,
//! channel by channel, to either end of the range; every fifth (later every tenth, and so on)
//! shifts the patch instead, ever less far. Squares and shifts are drawn for each sample alone,
//! from all positions; proposals that change nothing are drawn again. A run that has come to rest
//! gives way to a fresh one on the budget that is left.

use std::sync::Arc;

use aisec_numeric::random::{Generator, Stream};

use crate::layout::Window;
use crate::search::Record;
use crate::sparse_rs::Settings;
use crate::{Error, Layout, Outcome, Region, Result, Search};

/// Up to which iteration of 10 000, and by how much, the first share is divided.
const SCHEDULE: [(u64, f64); 7] =
    [(10, 1.0), (50, 2.0), (200, 4.0), (500, 8.0), (1000, 16.0), (4000, 32.0), (8000, 64.0)];
/// What the share is divided by after the last of them.
const LAST: f64 = 128.0;
/// Shifts are at first up to this part of the sample's sides.
const SHIFT: f64 = 0.75;
/// Every how many iterations the patch is shifted, in the first thousand, the second, ...
const TURN: u32 = 5;
/// Proposals that change nothing are drawn again, at most this often.
const REDRAWS: usize = 16;
/// Proposals in a row that must fail before a run is at rest: so many, or so many a value.
const PATIENCE: [usize; 2] = [300, 8];

/// Which part of a patch is redrawn: `alpha_init`, divided as the search goes on.
pub(crate) fn share(alpha_init: f64, iteration: u32, queries: u32) -> f64 {
    let scaled = u64::from(iteration) * 10_000 / u64::from(queries);
    let part = SCHEDULE.iter().find(|(last, _)| scaled <= *last);
    alpha_init / part.map_or(LAST, |(_, part)| *part)
}

/// What all samples of one run share.
#[derive(Debug, Clone)]
pub struct SparseRsPatchConfig {
    layout: Layout,
    height: usize,
    width: usize,
    queries: u32,
    alpha_init: f64,
    noise: Stream,
}

impl SparseRsPatchConfig {
    /// Patches of `height` rows and `width` columns, which must fit the layout.
    ///
    /// # Errors
    /// Without queries, and when `alpha_init` is not in (0, 1].
    pub(crate) fn new(
        layout: Layout,
        height: usize,
        width: usize,
        settings: &Settings,
    ) -> Result<Self> {
        let Settings { queries, seed, restart, .. } = *settings;
        let alpha_init = settings.alpha_init.unwrap_or(0.4);
        if queries == 0 || !(alpha_init > 0.0 && alpha_init <= 1.0) {
            return Err(Error::input("sparse-rs needs queries >= 1 and alpha_init in (0, 1]"));
        }
        let noise = Stream::new(seed, "sparse-rs", restart);
        Ok(Self { layout, height, width, queries, alpha_init, noise })
    }

    /// Sides of the square that a proposal redraws.
    fn redrawn(&self, iteration: u32, queries: u32) -> (usize, usize) {
        let part = share(self.alpha_init, iteration, queries).sqrt();
        let side = |n: usize| ((part * n as f64) as usize).max(1);
        (side(self.height), side(self.width))
    }

    /// How far a shift goes at most, down or up and right or left.
    fn shift(&self, iteration: u32, queries: u32) -> (usize, usize) {
        let left = f64::from(queries - iteration) / f64::from(queries);
        let most = |n: usize| (SHIFT * left * n as f64) as usize;
        (most(self.layout.height), most(self.layout.width))
    }
}

/// A patch: where it lies, and which of its values are at the upper end of their range.
#[derive(Debug, Clone)]
struct Patch {
    row: usize,
    column: usize,
    high: Vec<bool>,
}

/// The search on one sample.
#[derive(Debug)]
pub struct SparseRsPatch {
    config: Arc<SparseRsPatchConfig>,
    region: Region,
    label: usize,
    sample: u64,
    record: Record,
    /// The best patch of the current run.
    best: Patch,
    /// The margin there.
    margin: f64,
    /// The patch of the last proposal.
    proposed: Patch,
    /// When the current run began, and how many proposals in a row have failed.
    began: u32,
    failed: usize,
}

impl SparseRsPatch {
    /// The region's intervals bound every value of the patch.
    pub fn new(
        config: Arc<SparseRsPatchConfig>,
        region: Region,
        label: usize,
        sample: u64,
    ) -> Self {
        let area = config.layout.channels * config.height * config.width;
        let best = Patch { row: 0, column: 0, high: vec![false; area] };
        let record = Record::new(region.clean());
        let proposed = best.clone();
        let (margin, began, failed) = (f64::INFINITY, 0, 0);
        Self { config, region, label, sample, record, best, margin, proposed, began, failed }
    }

    /// Anywhere, with vertical stripes: each column of each channel at one end.
    fn begin(&mut self, generator: &mut Generator) {
        let SparseRsPatchConfig { layout, height, width, .. } = *self.config;
        let patch = &mut self.proposed;
        patch.row = generator.below((layout.height - height + 1) as u32) as usize;
        patch.column = generator.below((layout.width - width + 1) as u32) as usize;
        for channel in patch.high.chunks_exact_mut(height * width) {
            for column in 0..width {
                let high = generator.sign() > 0.0;
                for line in 0..height {
                    channel[line * width + column] = high;
                }
            }
        }
    }

    /// Moves the patch, as far as the sample goes; false where there is nowhere else.
    fn shift(&mut self, iteration: u32, generator: &mut Generator) -> bool {
        let layout = self.config.layout;
        let (down, right) = self.config.shift(iteration, self.config.queries - self.began);
        let best = &self.best;
        let mut along = |at: usize, most: usize, room: usize| {
            let offset = generator.below((2 * most + 1) as u32) as usize;
            (at + offset).saturating_sub(most).min(room)
        };
        for _ in 0..REDRAWS {
            let row = along(best.row, down, layout.height - self.config.height);
            let column = along(best.column, right, layout.width - self.config.width);
            if (row, column) != (best.row, best.column) {
                (self.proposed.row, self.proposed.column) = (row, column);
                return true;
            }
        }
        false
    }

    /// Sets a square of the patch to either end, channel by channel.
    fn redraw(&mut self, iteration: u32, generator: &mut Generator) {
        let SparseRsPatchConfig { height, width, .. } = *self.config;
        let (tall, wide) = self.config.redrawn(iteration, self.config.queries - self.began);
        for _ in 0..REDRAWS {
            let top = generator.below((height - tall + 1) as u32) as usize;
            let left = generator.below((width - wide + 1) as u32) as usize;
            let mut changed = false;
            for channel in self.proposed.high.chunks_exact_mut(height * width) {
                let high = generator.sign() > 0.0;
                for line in channel[top * width..].chunks_mut(width).take(tall) {
                    changed |= line[left..left + wide].iter().any(|&was| was != high);
                    line[left..left + wide].fill(high);
                }
            }
            if changed {
                return;
            }
        }
    }

    /// Writes the sample with the proposed patch.
    fn apply(&self, row: &mut [f32]) {
        let SparseRsPatchConfig { layout, height, width, .. } = *self.config;
        let patch = &self.proposed;
        row.copy_from_slice(self.region.clean());
        let window = Window { row: patch.row, column: patch.column, height, width };
        for (channel, high) in patch.high.chunks_exact(height * width).enumerate() {
            layout.window(channel, window, |index, position| {
                let ends = if high[position] { self.region.upper() } else { self.region.lower() };
                row[index] = ends[index];
            });
        }
    }
}

impl Search for SparseRsPatch {
    fn ask(&mut self, row: &mut [f32]) {
        let step = self.record.forwards as u32;
        let iteration = step - self.began;
        let mut generator = self.config.noise.at(self.sample, step);
        self.proposed.clone_from(&self.best);
        if iteration == 0 {
            self.begin(&mut generator);
        } else {
            let turn = TURN * (1 + iteration / 1000);
            let shifted = iteration.is_multiple_of(turn) && self.shift(iteration, &mut generator);
            if !shifted {
                self.redraw(iteration, &mut generator);
            }
        }
        self.apply(row);
    }

    fn tell(&mut self, row: &[f32], logits: &[f32]) -> bool {
        let margin = self.record.learn(row, logits, self.label);
        if let Some(margin) = margin.filter(|&margin| margin < self.margin) {
            self.best.clone_from(&self.proposed);
            self.margin = margin;
            self.failed = 0;
        } else {
            self.failed += 1;
        }
        let [least, each] = PATIENCE;
        if self.failed >= least.max(each * self.best.high.len()) {
            self.began = self.record.forwards as u32;
            (self.margin, self.failed) = (f64::INFINITY, 0);
        }
        self.record.forwards >= u64::from(self.config.queries)
            || self.region.is_point()
            || self.record.confident(logits)
    }

    fn finish(self: Box<Self>) -> Outcome {
        self.record.finish()
    }
}
