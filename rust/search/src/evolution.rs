//! An evolutionary search over rows of a table, in the line of MoEvA2 (Simonetto, Dyrmishi,
//! Ghamizi, Cordy & Le Traon, "A unified framework for adversarial attack and defense in
//! constrained feature space", IJCAI 2022, arXiv:2112.01156).
//!
//! As there: a population of changed rows, two-point crossover over features, mutation by kind of
//! feature. Different: every child is made to satisfy all constraints before it is evaluated, so
//! that the margin is the only objective where MoEvA2 weighs it against distance and violations;
//! each child replaces the worst member at once; and no row is evaluated twice. Where no more rows
//! are allowed than there are queries, all of them are tried instead.

use std::collections::HashSet;
use std::sync::Arc;

use aisec_numeric::random::{Generator, Stream};
use serde::Deserialize;

use crate::attack::{Start, parse};
use crate::search::Record;
use crate::tabular::{Odometer, Space};
use crate::{Constraint, Error, Outcome, Result, Sample, Search, Setting};

/// Children of two parents, of 10; the others have one.
const CROSSED: u32 = 9;
/// Children that were evaluated before are drawn again, at most this often.
const REDRAWS: usize = 16;

/// What all samples of one run share.
#[derive(Debug, Clone)]
pub struct EvolutionConfig {
    queries: u32,
    population: usize,
    noise: Stream,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Options {
    queries: u32,
    population: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { queries: 5000, population: 40 }
    }
}

pub(crate) fn make(name: &'static str, options: &str, setting: &Setting) -> Result<Start> {
    let Options { queries, population } = parse(name, options)?;
    let Some(Constraint::Tabular(table)) = setting.constraint.clone() else {
        return Err(Error::input("evolution is for tables"));
    };
    let config = EvolutionConfig::new(queries, population, setting.seed, setting.restart)?;
    let (config, setting) = (Arc::new(config), setting.clone());
    Ok(Box::new(move |sample: &Sample<'_>| {
        let space = Space::new(&table, &setting.region(sample.clean)?)?;
        let (label, id, start) = (sample.label, sample.id, sample.start);
        Ok(Box::new(Evolution::new(config.clone(), space, label, id, start)))
    }))
}

impl EvolutionConfig {
    /// At most `queries` rows a sample, of which `population` are kept.
    ///
    /// # Errors
    /// Without queries, or with fewer than two members.
    pub(crate) fn new(queries: u32, population: u32, seed: u64, restart: u32) -> Result<Self> {
        if queries == 0 || population < 2 {
            return Err(Error::input("evolution needs queries >= 1 and a population of 2 or more"));
        }
        let noise = Stream::new(seed, "evolution", restart);
        Ok(Self { queries, population: population as usize, noise })
    }
}

/// The search on one sample.
#[derive(Debug)]
pub(crate) struct Evolution {
    config: Arc<EvolutionConfig>,
    space: Space,
    label: usize,
    sample: u64,
    record: Record,
    /// Where the search begins, made to fit.
    start: Vec<f32>,
    members: Vec<(Vec<f32>, f64)>,
    /// Keys of the rows that were evaluated.
    seen: HashSet<u64>,
    /// Where all rows are tried.
    odometer: Option<Odometer>,
    /// Whether there is no row left to try.
    exhausted: bool,
}

impl Evolution {
    pub fn new(
        config: Arc<EvolutionConfig>,
        space: Space,
        label: usize,
        sample: u64,
        start: Option<&[f32]>,
    ) -> Self {
        let mut odometer = space.enumerate(u64::from(config.queries));
        let exhausted = odometer.as_mut().is_some_and(|odometer| !odometer.advance(&space));
        let mut begin = start.map_or_else(|| space.clean().to_vec(), |start| space.admit(start));
        space.settle(&(0..space.len()).collect::<Vec<_>>(), &mut begin);
        let record = Record::new(space.clean());
        Self {
            config,
            label,
            sample,
            record,
            start: begin,
            members: vec![],
            seen: HashSet::new(),
            odometer,
            exhausted,
            space,
        }
    }

    /// Any allowed row: a part of the features is drawn, evenly over how many.
    fn immigrant(&self, generator: &mut Generator, row: &mut [f32]) {
        row.copy_from_slice(self.space.clean());
        let part = generator.uniform();
        let far = generator.sign() > 0.0;
        let order = shuffled(self.space.len(), generator);
        for (place, &gene) in order.iter().enumerate() {
            if place > 0 && generator.uniform() >= part {
                continue;
            }
            if far {
                self.space.push(gene, generator, row);
            } else {
                self.space.scatter(gene, generator, row);
            }
        }
        self.space.settle(&order, row);
    }

    /// Of two members drawn the better.
    fn parent(&self, generator: &mut Generator) -> &[f32] {
        let mut draw = || &self.members[generator.below(self.members.len() as u32) as usize];
        let (a, b) = (draw(), draw());
        if a.1 <= b.1 { &a.0 } else { &b.0 }
    }

    /// A member with features of another between two points, and some of its own changed.
    fn child(&self, generator: &mut Generator, row: &mut [f32]) {
        let genes = self.space.len();
        row.copy_from_slice(self.parent(generator));
        if generator.below(10) < CROSSED {
            let other = self.parent(generator);
            let mut cut = || generator.below(genes as u32 + 1) as usize;
            let (a, b) = (cut(), cut());
            for gene in a.min(b)..a.max(b) {
                self.space.copy(gene, other, row);
            }
        }
        // One feature for certain, each other with a chance of one in as many as there are.
        let certain = generator.below(genes as u32) as usize;
        let mut order = shuffled(genes, generator);
        let mut changed = 0;
        for place in 0..genes {
            let gene = order[place];
            if gene != certain && generator.below(genes as u32) != 0 {
                continue;
            }
            match generator.below(4) {
                0 => self.space.push(gene, generator, row),
                1 => self.space.revert(gene, row),
                2 => self.space.scatter(gene, generator, row),
                _ => self.space.step(gene, generator, row),
            }
            // What is new spends first: old changes make room for it.
            order.swap(changed, place);
            changed += 1;
        }
        self.space.settle(&order, row);
    }

    fn propose(&self, generator: &mut Generator, row: &mut [f32]) {
        let grown = self.members.len() >= self.config.population;
        for redraw in 0..REDRAWS {
            if grown && 2 * redraw < REDRAWS {
                self.child(generator, row);
            } else {
                self.immigrant(generator, row);
            }
            if !self.seen.contains(&self.space.key(row)) {
                return;
            }
        }
    }
}

/// The numbers below `count` in an order that is drawn.
pub(crate) fn shuffled(count: usize, generator: &mut Generator) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for place in 1..count {
        order.swap(place, generator.below(place as u32 + 1) as usize);
    }
    order
}

impl Search for Evolution {
    fn ask(&mut self, row: &mut [f32]) {
        if let Some(odometer) = &self.odometer
            && !self.exhausted
        {
            return odometer.write(&self.space, row);
        }
        let iteration = self.record.forwards as u32;
        if iteration == 0 || self.exhausted {
            return row.copy_from_slice(&self.start);
        }
        let mut generator = self.config.noise.at(self.sample, iteration);
        self.propose(&mut generator, row);
    }

    fn tell(&mut self, row: &[f32], logits: &[f32]) -> bool {
        let margin = self.record.learn(row, logits, self.label).unwrap_or(f64::INFINITY);
        if let Some(odometer) = &mut self.odometer {
            self.exhausted = self.exhausted || !odometer.advance(&self.space);
        } else {
            self.seen.insert(self.space.key(row));
            if self.members.len() < self.config.population {
                self.members.push((row.to_vec(), margin));
            } else {
                let worst = self.members.iter_mut().max_by(|a, b| a.1.total_cmp(&b.1));
                // Rows as bad as the worst replace it: plateaus are crossed.
                if let Some(worst) = worst.filter(|worst| margin <= worst.1) {
                    worst.0.copy_from_slice(row);
                    worst.1 = margin;
                }
            }
        }
        self.record.forwards >= u64::from(self.config.queries)
            || self.exhausted
            || self.space.len() == 0
            || self.record.confident(logits)
    }

    fn finish(self: Box<Self>) -> Outcome {
        self.record.finish()
    }
}
