//! Square Attack on rows of a table: random search over blocks of features.
//!
//! As for vectors (see `square`), but a block is of consecutive features, of which a category's
//! columns are one: numbers move to either end of what they may be, categories to any, and where
//! the changes share a budget those of the block spend first and old ones make room. Every point
//! satisfies all constraints.

use std::sync::Arc;

use aisec_numeric::random::{Generator, Stream};

use crate::attack::Start;
use crate::constraint::Table;
use crate::evolution::shuffled;
use crate::search::Record;
use crate::square::fraction;
use crate::tabular::Space;
use crate::{Error, Outcome, Result, Sample, Search, Setting};

/// Proposals that change nothing are drawn again, at most this often.
const REDRAWS: usize = 16;

/// What all samples of one run share.
#[derive(Debug, Clone)]
pub(crate) struct SquareTabularConfig {
    queries: u32,
    p_init: f64,
    noise: Stream,
}

pub(crate) fn make(table: Table, queries: u32, p_init: f64, setting: &Setting) -> Result<Start> {
    if queries == 0 || !(p_init > 0.0 && p_init <= 1.0) {
        return Err(Error::input("square needs queries >= 1 and p_init in (0, 1]"));
    }
    let noise = Stream::new(setting.seed, "square", setting.restart);
    let config = Arc::new(SquareTabularConfig { queries, p_init, noise });
    let setting = setting.clone();
    Ok(Box::new(move |sample: &Sample<'_>| {
        let space = Space::new(&table, &setting.region(sample.clean)?)?;
        let (label, id, start) = (sample.label, sample.id, sample.start);
        Ok(Box::new(SquareTabular::new(config.clone(), space, label, id, start)))
    }))
}

/// The search on one sample.
#[derive(Debug)]
pub(crate) struct SquareTabular {
    config: Arc<SquareTabularConfig>,
    space: Space,
    label: usize,
    sample: u64,
    /// The accepted point is the record's: the smallest margin so far.
    record: Record,
    /// The first point, where it is not drawn.
    start: Option<Vec<f32>>,
}

impl SquareTabular {
    /// Begins at `start`, made to fit, or with every feature at an end.
    pub fn new(
        config: Arc<SquareTabularConfig>,
        space: Space,
        label: usize,
        sample: u64,
        start: Option<&[f32]>,
    ) -> Self {
        let start = start.map(|start| {
            let mut row = space.admit(start);
            space.settle(&(0..space.len()).collect::<Vec<_>>(), &mut row);
            row
        });
        let record = Record::new(space.clean());
        Self { config, label, sample, record, start, space }
    }

    /// Pushes the features of a block; those behind it in the order make room.
    fn flip_block(&self, iteration: u32, generator: &mut Generator, row: &mut [f32]) {
        let genes = self.space.len();
        let part = fraction(self.config.p_init, iteration);
        let size = ((part * genes as f64).round() as usize).clamp(1, genes);
        for _ in 0..REDRAWS {
            row.copy_from_slice(&self.record.x);
            let first = generator.below((genes - size + 1) as u32) as usize;
            let block = first..first + size;
            for gene in block.clone() {
                self.space.push(gene, generator, row);
            }
            if !block.clone().any(|gene| self.space.differs(gene, row, &self.record.x)) {
                continue;
            }
            if self.space.affords(row) {
                return;
            }
            let mut order = shuffled(genes, generator);
            order.sort_by_key(|gene| !block.contains(gene));
            self.space.settle(&order, row);
            if (0..genes).any(|gene| self.space.differs(gene, row, &self.record.x)) {
                return;
            }
        }
    }
}

impl Search for SquareTabular {
    fn ask(&mut self, row: &mut [f32]) {
        let iteration = self.record.forwards as u32;
        if self.space.len() == 0 {
            return row.copy_from_slice(self.space.clean());
        }
        if iteration == 0
            && let Some(start) = &self.start
        {
            return row.copy_from_slice(start);
        }
        let mut generator = self.config.noise.at(self.sample, iteration);
        if iteration == 0 {
            row.copy_from_slice(self.space.clean());
            let order = shuffled(self.space.len(), &mut generator);
            for &gene in &order {
                self.space.push(gene, &mut generator, row);
            }
            return self.space.settle(&order, row);
        }
        self.flip_block(iteration, &mut generator, row);
    }

    fn tell(&mut self, row: &[f32], logits: &[f32]) -> bool {
        self.record.learn(row, logits, self.label);
        self.record.forwards >= u64::from(self.config.queries)
            || self.space.len() == 0
            || self.record.confident(logits)
    }

    fn finish(self: Box<Self>) -> Outcome {
        self.record.finish()
    }
}
