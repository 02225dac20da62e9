//! The points one row of a table may become: whole numbers, categories, directions, a budget.
//!
//! A feature that may change is a gene; every other column stays bit for bit as it is. Points that
//! are handed out satisfy every constraint exactly: costs are rounded up, limits down.

use std::ops::Range;

use aisec_numeric::project;
use aisec_numeric::random::Generator;
use aisec_numeric::rounding::{add_up, div_down, mul_down, mul_up, sqrt_down, sub_down, sub_up};

use crate::constraint::{Feature, Metric, Table};
use crate::{Error, Region, Result};

/// A feature that may change.
#[derive(Debug, Clone)]
pub(crate) struct Gene {
    columns: Range<usize>,
    weight: f64,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// A number between two ends, whole where both ends and every value between are.
    Number { low: f32, high: f32, integer: bool },
    /// One of several categories, at first `now`.
    Category { now: usize },
}

/// What one row may become.
#[derive(Debug, Clone)]
pub(crate) struct Space {
    clean: Vec<f32>,
    genes: Vec<Gene>,
    metric: Metric,
    /// What the summed costs may be: of squares for L2, a number of genes for L0.
    limit: f64,
}

impl Space {
    /// # Errors
    /// When the clean row is not of its features' kinds.
    pub fn new(table: &Table, region: &Region) -> Result<Self> {
        let limit = match table.metric {
            Metric::L2 => mul_down(table.limit, table.limit),
            _ => table.limit,
        };
        let clean = region.clean().to_vec();
        let mut space = Self { clean, genes: vec![], metric: table.metric, limit };
        for feature in &table.features {
            let gene = Gene::new(feature, region)?;
            if gene.choices() && space.least_cost(&gene) <= limit {
                space.genes.push(gene);
            }
        }
        if space.limit < 1.0 && space.metric == Metric::L0 {
            space.genes.clear();
        }
        Ok(space)
    }

    pub fn clean(&self) -> &[f32] {
        &self.clean
    }

    /// How many features may change.
    pub fn len(&self) -> usize {
        self.genes.len()
    }

    /// What the least change of a category costs; numbers can always change by less.
    fn least_cost(&self, gene: &Gene) -> f64 {
        match gene.kind {
            Kind::Number { .. } => 0.0,
            Kind::Category { .. } => self.cost_of(1.0, gene.weight),
        }
    }

    fn cost_of(&self, change: f64, weight: f64) -> f64 {
        let cost = mul_up(change, weight);
        match self.metric {
            Metric::Linf => 0.0,
            Metric::L2 => mul_up(cost, cost),
            Metric::L1 => cost,
            Metric::L0 => f64::from(u8::from(change != 0.0)),
        }
    }

    /// What the change of a gene adds to the budget, rounded up.
    fn cost(&self, gene: usize, row: &[f32]) -> f64 {
        let gene = &self.genes[gene];
        self.cost_of(gene.change(&self.clean, row), gene.weight)
    }

    /// Whether all changes together are within the budget.
    pub fn affords(&self, row: &[f32]) -> bool {
        (0..self.len()).fold(0.0, |sum, gene| add_up(sum, self.cost(gene, row))) <= self.limit
    }

    /// Whether a gene of two rows differs.
    pub fn differs(&self, gene: usize, a: &[f32], b: &[f32]) -> bool {
        let columns = self.genes[gene].columns.clone();
        a[columns.clone()] != b[columns]
    }

    /// Copies a gene.
    pub fn copy(&self, gene: usize, from: &[f32], row: &mut [f32]) {
        let columns = self.genes[gene].columns.clone();
        row[columns.clone()].copy_from_slice(&from[columns]);
    }

    /// Takes a change back.
    pub fn revert(&self, gene: usize, row: &mut [f32]) {
        self.copy(gene, &self.clean, row);
    }

    /// Moves a number to either end of its range, a category to any.
    pub fn push(&self, gene: usize, generator: &mut Generator, row: &mut [f32]) {
        let gene = &self.genes[gene];
        match gene.kind {
            Kind::Number { low, high, .. } => {
                row[gene.columns.start] = if generator.sign() > 0.0 { high } else { low };
            }
            Kind::Category { .. } => gene.draw_category(generator, row),
        }
    }

    /// Draws any value of a gene.
    pub fn scatter(&self, gene: usize, generator: &mut Generator, row: &mut [f32]) {
        let gene = &self.genes[gene];
        match gene.kind {
            Kind::Number { low, high, .. } => {
                let part = f64::from(generator.uniform());
                let value = f64::from(low) + part * (f64::from(high) - f64::from(low));
                row[gene.columns.start] = gene.nearest(value);
            }
            Kind::Category { .. } => gene.draw_category(generator, row),
        }
    }

    /// Moves a number by a step whose size is drawn over orders of magnitude, whole numbers by at
    /// least one; draws a category.
    pub fn step(&self, gene: usize, generator: &mut Generator, row: &mut [f32]) {
        let gene = &self.genes[gene];
        match gene.kind {
            Kind::Number { low, high, integer } => {
                let width = f64::from(high) - f64::from(low);
                let scale = 1.0 / f64::from(1u32 << generator.below(12));
                let mut by = f64::from(generator.signed()) * width * scale;
                if integer && by.abs() < 1.0 {
                    by = if by < 0.0 { -1.0 } else { 1.0 };
                }
                let column = gene.columns.start;
                row[column] = gene.nearest(f64::from(row[column]) + by);
            }
            Kind::Category { .. } => gene.draw_category(generator, row),
        }
    }

    /// Makes a row affordable: genes spend in the given order, numbers as far as the budget goes,
    /// and what is left without is taken back. Every gene's own value must be allowed already.
    pub fn settle(&self, order: &[usize], row: &mut [f32]) {
        if self.metric == Metric::Linf || self.affords(row) {
            return;
        }
        let mut spent = 0.0;
        for &gene in order {
            let total = add_up(spent, self.cost(gene, row));
            if total <= self.limit {
                spent = total;
                continue;
            }
            self.shorten(gene, sub_down(self.limit, spent).max(0.0), row);
            let total = add_up(spent, self.cost(gene, row));
            if total <= self.limit {
                spent = total;
            } else {
                self.revert(gene, row);
            }
        }
        // Summed in another order the costs may round above the limit.
        for &gene in order.iter().rev() {
            if self.affords(row) {
                return;
            }
            self.revert(gene, row);
        }
    }

    /// Shortens the change of a number to what `left` pays for; takes back any other.
    fn shorten(&self, gene: usize, left: f64, row: &mut [f32]) {
        let Gene { columns, weight, kind } = &self.genes[gene];
        let (column, clean) = (columns.start, self.clean[columns.start]);
        let reach = match self.metric {
            Metric::L1 => div_down(left, *weight),
            Metric::L2 => div_down(sqrt_down(left), *weight),
            Metric::L0 | Metric::Linf => 0.0,
        };
        match *kind {
            Kind::Number { low, high, integer } if reach > 0.0 && reach.is_finite() => {
                let (mut low, mut high) = project::linf_range(clean, reach, low, high);
                if integer {
                    (low, high) = (low.ceil(), high.floor());
                }
                row[column] = row[column].clamp(low.min(clean), high.max(clean));
            }
            _ => self.revert(gene, row),
        }
    }

    /// The nearest allowed row, but for the budget: values that fit no category stay.
    pub fn admit(&self, point: &[f32]) -> Vec<f32> {
        let mut row = self.clean.clone();
        for gene in &self.genes {
            let part = &point[gene.columns.clone()];
            match gene.kind {
                Kind::Number { .. } if part[0].is_finite() => {
                    row[gene.columns.start] = gene.nearest(f64::from(part[0]));
                }
                Kind::Category { .. } => {
                    let ones = part.iter().filter(|&&value| value == 1.0).count();
                    if ones == 1 && part.iter().all(|&value| value == 0.0 || value == 1.0) {
                        row[gene.columns.clone()].copy_from_slice(part);
                    }
                }
                Kind::Number { .. } => {}
            }
        }
        row
    }

    /// A number that tells rows apart.
    pub fn key(&self, row: &[f32]) -> u64 {
        // FNV-1a over the genes' bits; adding zero turns -0 into 0.
        let mut key = 0xcbf2_9ce4_8422_2325u64;
        for gene in &self.genes {
            for value in &row[gene.columns.clone()] {
                key = (key ^ u64::from((value + 0.0).to_bits())).wrapping_mul(0x100_0000_01b3);
                key ^= key >> 29;
            }
        }
        key
    }

    /// Every allowed row one after another, where there are at most `most` besides the clean one.
    pub fn enumerate(&self, most: u64) -> Option<Odometer> {
        let values = self.genes.iter().map(|gene| gene.values(&self.clean, most));
        let values: Vec<Vec<f32>> = values.collect::<Option<_>>()?;
        let first = Odometer { places: vec![0; values.len()], values };
        let mut walk = first.clone();
        let mut count = 0;
        while walk.advance(self) {
            count += 1;
            if count > most {
                return None;
            }
        }
        Some(first)
    }
}

impl Gene {
    fn new(feature: &Feature, region: &Region) -> Result<Self> {
        let (columns, clean) = (feature.columns(), region.clean());
        let column = columns.start;
        let kind = match *feature {
            Feature::Number { integer, down, up, reach, .. } => {
                let now = clean[column];
                if integer && now.fract() != 0.0 {
                    return Err(Error::input(format!("column {column} is {now}, not an integer")));
                }
                let (mut low, mut high) = (region.lower()[column], region.upper()[column]);
                if let Some(reach) = reach {
                    (low, high) = project::linf_range(now, reach, low, high);
                }
                if integer {
                    (low, high) = (low.ceil(), high.floor());
                }
                let (low, high) = (if down { low } else { now }, if up { high } else { now });
                Kind::Number { low, high, integer }
            }
            Feature::OneHot { .. } => {
                let part = &clean[columns.clone()];
                let now = part.iter().position(|&value| value == 1.0);
                let rest = part.iter().filter(|&&value| value == 0.0).count();
                match now {
                    Some(now) if rest + 1 == part.len() => Kind::Category { now },
                    _ => {
                        return Err(Error::input(format!(
                            "columns {column} to {} are not one 1 among zeros",
                            columns.end - 1
                        )));
                    }
                }
            }
        };
        Ok(Self { columns, weight: feature.weight(), kind })
    }

    /// Whether there is anything to choose.
    fn choices(&self) -> bool {
        match self.kind {
            Kind::Number { low, high, .. } => low < high,
            Kind::Category { .. } => self.columns.len() > 1,
        }
    }

    /// How far a gene moved, rounded up; 1 for another category.
    fn change(&self, clean: &[f32], row: &[f32]) -> f64 {
        match self.kind {
            Kind::Number { .. } => {
                let (old, new) = (clean[self.columns.start], row[self.columns.start]);
                let (old, new) = (f64::from(old), f64::from(new));
                sub_up(new, old).max(sub_up(old, new))
            }
            Kind::Category { now } => {
                if row[self.columns.start + now] == 1.0 {
                    0.0
                } else {
                    1.0
                }
            }
        }
    }

    /// The allowed number nearest to `value`.
    fn nearest(&self, value: f64) -> f32 {
        match self.kind {
            Kind::Number { low, high, integer } => {
                let value = if integer { value.round() } else { value };
                (value as f32).clamp(low, high)
            }
            Kind::Category { .. } => value as f32,
        }
    }

    fn draw_category(&self, generator: &mut Generator, row: &mut [f32]) {
        let chosen = generator.below(self.columns.len() as u32) as usize;
        self.choose(chosen, row);
    }

    fn choose(&self, category: usize, row: &mut [f32]) {
        row[self.columns.clone()].fill(0.0);
        row[self.columns.start + category] = 1.0;
    }

    /// All values, the clean one first, near ones before far ones; positions for categories. None
    /// for continuous numbers and where there are more than `most` others.
    fn values(&self, clean: &[f32], most: u64) -> Option<Vec<f32>> {
        match self.kind {
            Kind::Number { low, high, integer } => {
                if !integer || f64::from(high) - f64::from(low) > most as f64 {
                    return None;
                }
                let now = f64::from(clean[self.columns.start]);
                let count = (f64::from(high) - f64::from(low)) as u32;
                let mut values: Vec<f64> =
                    (0..=count).map(|step| f64::from(low) + f64::from(step)).collect();
                values.sort_by(|a, b| (a - now).abs().total_cmp(&(b - now).abs()));
                Some(values.into_iter().map(|value| value as f32).collect())
            }
            Kind::Category { now } => {
                let others = (0..self.columns.len()).filter(|&category| category != now);
                Some([now].into_iter().chain(others).map(|category| category as f32).collect())
            }
        }
    }
}

/// A place in the list of all allowed rows; it starts at the clean one.
#[derive(Debug, Clone)]
pub(crate) struct Odometer {
    /// What each gene may be, the clean value first.
    values: Vec<Vec<f32>>,
    places: Vec<usize>,
}

impl Odometer {
    /// Writes the row at this place.
    pub fn write(&self, space: &Space, row: &mut [f32]) {
        row.copy_from_slice(&space.clean);
        for (gene, (values, &place)) in space.genes.iter().zip(self.values.iter().zip(&self.places))
        {
            if place > 0 {
                match gene.kind {
                    Kind::Number { .. } => row[gene.columns.start] = values[place],
                    Kind::Category { .. } => gene.choose(values[place] as usize, row),
                }
            }
        }
    }

    /// Goes to the next affordable row; false after the last one.
    pub fn advance(&mut self, space: &Space) -> bool {
        for gene in (0..self.places.len()).rev() {
            // Farther values cost more, so the first that is too dear is the last to try; genes
            // behind are clean and cost nothing.
            if self.places[gene] + 1 < self.values[gene].len() {
                self.places[gene] += 1;
                if self.cost(space) <= space.limit {
                    return true;
                }
            }
            self.places[gene] = 0;
        }
        false
    }

    fn cost(&self, space: &Space) -> f64 {
        let costs = space.genes.iter().zip(self.values.iter().zip(&self.places));
        costs.fold(0.0, |sum, (gene, (values, &place))| {
            let change = match gene.kind {
                Kind::Number { .. } => {
                    let (old, new) = (f64::from(values[0]), f64::from(values[place]));
                    sub_up(new, old).max(sub_up(old, new))
                }
                Kind::Category { .. } => f64::from(u8::from(place > 0)),
            };
            add_up(sum, space.cost_of(change, gene.weight))
        })
    }
}
