//! Sparse-RS (Croce, Andriushchenko, Singh, Flammarion & Hein, "Sparse-RS: a versatile framework
//! for query-efficient sparse black-box adversarial attacks", AAAI 2022, arXiv:2006.12834,
//! algorithm 2), for L0; patches and frames have searches of their own.
//!
//! Random search over which values are changed and to which end of their range. As many values are
//! changed as may be: one that is at one end moves to the other.

use std::sync::Arc;

use aisec_numeric::random::{Generator, Stream};
use serde::Deserialize;

use crate::attack::{Start, parse};
use crate::search::Record;
use crate::sparse_rs_frame::{SparseRsFrame, SparseRsFrameConfig};
use crate::sparse_rs_patch::{SparseRsPatch, SparseRsPatchConfig};
use crate::{Constraint, Error, Layout, Norm, Outcome, Region, Result, Sample, Search, Setting};

/// Which part of the first share is swapped after an iteration, of 10 000.
const SCHEDULE: [(u64, f64); 9] = [
    (0, 2.0),
    (50, 4.0),
    (200, 5.0),
    (500, 6.0),
    (1000, 8.0),
    (2000, 10.0),
    (4000, 12.0),
    (6000, 15.0),
    (8000, 20.0),
];

/// What all samples of one run share.
#[derive(Debug, Clone)]
pub struct SparseRsConfig {
    queries: u32,
    alpha_init: f64,
    noise: Stream,
}

/// The parameters by name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Options {
    queries: u32,
    /// 0.3 for L0, 0.4 for patches and 0.5 for frames where it is not given.
    alpha_init: Option<f64>,
}

impl Default for Options {
    fn default() -> Self {
        Self { queries: 5000, alpha_init: None }
    }
}

/// What every form of the search is told.
pub(crate) struct Settings {
    pub queries: u32,
    pub alpha_init: Option<f64>,
    pub seed: u64,
    pub restart: u32,
}

pub(crate) fn make(name: &'static str, options: &str, setting: &Setting) -> Result<Start> {
    let Options { queries, alpha_init } = parse(name, options)?;
    let (seed, restart, layout) = (setting.seed, setting.restart, Layout::of(&setting.shape));
    let settings = Settings { queries, alpha_init, seed, restart };
    let owned = setting.clone();
    match setting.constraint {
        Some(Constraint::Patch { height, width }) => {
            let config = Arc::new(SparseRsPatchConfig::new(layout, height, width, &settings)?);
            Ok(Box::new(move |sample: &Sample<'_>| {
                let region = owned.region(sample.clean)?;
                let (label, id) = (sample.label, sample.id);
                Ok(Box::new(SparseRsPatch::new(config.clone(), region, label, id)))
            }))
        }
        Some(Constraint::Frame { width }) => {
            let config = Arc::new(SparseRsFrameConfig::new(layout, width, &settings)?);
            Ok(Box::new(move |sample: &Sample<'_>| {
                let region = owned.region(sample.clean)?;
                let (label, id) = (sample.label, sample.id);
                Ok(Box::new(SparseRsFrame::new(config.clone(), region, label, id)))
            }))
        }
        Some(Constraint::Tabular(_)) => Err(Error::input("sparse-rs does not search tables")),
        None => {
            let alpha_init = alpha_init.unwrap_or(0.3);
            let config = SparseRsConfig::new(setting.norm, queries, alpha_init, seed, restart)?;
            let config = Arc::new(config);
            Ok(Box::new(move |sample: &Sample<'_>| {
                let region = owned.region(sample.clean)?;
                Ok(Box::new(SparseRs::new(config.clone(), region, sample.label, sample.id)))
            }))
        }
    }
}

impl SparseRsConfig {
    /// At most `queries` points a sample; half of `alpha_init` is the share of the changed values
    /// that the first proposals swap.
    ///
    /// # Errors
    /// For norms other than L0, without queries, and when `alpha_init` is not in (0, 1].
    pub fn new(norm: Norm, queries: u32, alpha_init: f64, seed: u64, restart: u32) -> Result<Self> {
        if norm != Norm::L0 {
            return Err(Error::input("sparse-rs is for the L0 norm"));
        }
        if queries == 0 || !(alpha_init > 0.0 && alpha_init <= 1.0) {
            return Err(Error::input("sparse-rs needs queries >= 1 and alpha_init in (0, 1]"));
        }
        Ok(Self { queries, alpha_init, noise: Stream::new(seed, "sparse-rs", restart) })
    }

    /// How many of `count` changed values a proposal swaps; the schedule is stretched to the
    /// budget.
    pub fn swaps(&self, iteration: u32, count: usize) -> usize {
        let scaled = u64::from(iteration) * 10_000 / u64::from(self.queries);
        let passed = SCHEDULE.iter().take_while(|(from, _)| scaled > *from);
        let part = passed.last().map_or(1.0, |(_, part)| *part);
        ((self.alpha_init / part * count as f64) as usize).clamp(1, count.max(1))
    }
}

/// The search on one sample.
#[derive(Debug)]
pub struct SparseRs {
    config: Arc<SparseRsConfig>,
    region: Region,
    label: usize,
    sample: u64,
    /// The best point so far.
    record: Record,
    /// All values; the first `count` are those the best point may change.
    order: Vec<usize>,
    count: usize,
    /// Positions in `order` that the last proposal exchanges.
    exchanged: Vec<(usize, usize)>,
    taken: Vec<bool>,
}

impl SparseRs {
    /// The region's radius is how many values may change; a fraction of one counts nothing.
    pub fn new(config: Arc<SparseRsConfig>, region: Region, label: usize, sample: u64) -> Self {
        // Values whose range is one number cannot change.
        let free = |&i: &usize| region.lower()[i] < region.upper()[i];
        let order: Vec<usize> = (0..region.clean().len()).filter(free).collect();
        let count = order.len().min(region.eps() as usize);
        let record = Record::new(region.clean());
        let taken = vec![false; order.len()];
        Self { config, region, label, sample, record, order, count, exchanged: vec![], taken }
    }

    /// An end of a value's range that it is not at.
    fn end(&self, i: usize, now: f32, generator: &mut Generator) -> f32 {
        let (low, high) = (self.region.lower()[i], self.region.upper()[i]);
        let up = generator.sign() > 0.0;
        if now == low || (now != high && up) { high } else { low }
    }

    /// Changes the first values, in an order that is drawn.
    fn begin(&mut self, generator: &mut Generator, row: &mut [f32]) {
        self.order.sort_unstable();
        for place in 0..self.count {
            let left = (self.order.len() - place) as u32;
            self.order.swap(place, place + generator.below(left) as usize);
            let i = self.order[place];
            row[i] = self.end(i, row[i], generator);
        }
    }

    /// Gives up some changes of the best point for as many others. Where all values may change,
    /// moves some to their other end instead.
    fn exchange(&mut self, iteration: u32, generator: &mut Generator, row: &mut [f32]) {
        let (count, others) = (self.count, self.order.len() - self.count);
        let swaps = self.config.swaps(iteration, count);
        self.exchanged.clear();
        if others == 0 {
            for _ in 0..swaps {
                let i = self.order[draw(&mut self.taken, 0, count, generator)];
                row[i] = self.end(i, row[i], generator);
            }
        } else {
            for _ in 0..swaps.min(others) {
                let out = draw(&mut self.taken, 0, count, generator);
                let new = draw(&mut self.taken, count, others, generator);
                self.exchanged.push((out, new));
                let (out, new) = (self.order[out], self.order[new]);
                row[out] = self.region.clean()[out];
                row[new] = self.end(new, row[new], generator);
            }
        }
        self.taken.fill(false);
    }
}

/// One of the places `from..from + count` that is not taken yet, and takes it.
pub(crate) fn draw(
    taken: &mut [bool],
    from: usize,
    count: usize,
    generator: &mut Generator,
) -> usize {
    loop {
        let place = from + generator.below(count as u32) as usize;
        if !std::mem::replace(&mut taken[place], true) {
            return place;
        }
    }
}

impl Search for SparseRs {
    fn ask(&mut self, row: &mut [f32]) {
        let iteration = self.record.forwards as u32;
        let mut generator = self.config.noise.at(self.sample, iteration);
        row.copy_from_slice(&self.record.x);
        if iteration == 0 {
            self.begin(&mut generator, row);
        } else {
            self.exchange(iteration, &mut generator, row);
        }
    }

    fn tell(&mut self, row: &[f32], logits: &[f32]) -> bool {
        let before = self.record.margin;
        self.record.learn(row, logits, self.label);
        if self.record.margin < before {
            for (out, new) in self.exchanged.drain(..) {
                self.order.swap(out, new);
            }
        }
        self.record.forwards >= u64::from(self.config.queries)
            || self.count == 0
            || self.record.confident(logits)
    }

    fn finish(self: Box<Self>) -> Outcome {
        self.record.finish()
    }
}
