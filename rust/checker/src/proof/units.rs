//! A network of affine operators and ReLUs as nothing but its units: what each one reads as a row
//! over the inputs and over the outputs of earlier units.
//!
//! Throughout the box that rows were made for, what a unit reads is within `error` of
//! `row · (x, outputs) + constant`. Units whose sign is known there need no row of their own: an
//! active one is replaced by its row, an inactive one is zero. Parts of the box inherit what is
//! left.

use std::ops::Range;

use aisec_numeric::rounding::{self, add_up, sub_down, sub_up};

use super::carry::{Carry, Stop};
use super::domain::Domain;
use super::lanes::LANES;
use super::lines::{Activation, Slopes};
use super::network::{Network, Rule};
use super::number::Number;
use super::unit_lanes::{self as lanes};

/// Inputs and units of a network that is looked at so, and entries of all rows.
const MOST: (usize, usize, usize) = (64, 4096, 1 << 22);

/// More than all roundings of a sum of non-negative numbers here can take off, relative to it.
pub(super) const SPARE: f64 = 1e-9;

/// Units that do not read each other.
#[derive(Debug, Default)]
pub(super) struct Level {
    /// Which units they are.
    pub units: Range<usize>,
    /// The column that rows start at; those before it are zero in all of them.
    pub first: usize,
    /// How long rows are: up to the last unit before the level, in whole vectors.
    pub wide: usize,
    /// Row-major.
    pub rows: Vec<f64>,
}

/// The units of a box, level by level; the last level is what is asked of the outputs. Columns are
/// the inputs, then the units.
#[derive(Debug, Default)]
pub(super) struct Units {
    pub inputs: usize,
    pub levels: Vec<Level>,
    pub constants: Vec<f64>,
    pub errors: Vec<f64>,
    /// At least `|row| · |(x, outputs)| + |constant|`.
    pub sizes: Vec<f64>,
    /// At least what all underflows together can cost a bound.
    lost: f64,
    /// Carried back through some levels, a coefficient takes part in no more sums than there are
    /// rows, and each costs `gamma` of its terms; all terms together are at most the size of the row
    /// and what `Lines::weight` counts for the units that were passed.
    rounding: f64,
}

/// What outputs of units are replaced by: lines below and above them, and what is lost for each
/// coefficient that meets one.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub below: Vec<f64>,
    pub above: Vec<f64>,
    pub low: Vec<f64>,
    pub high: Vec<f64>,
    pub weight: Vec<f64>,
}

/// Rows on their way back: over the inputs and all units before a level.
#[derive(Debug, Default, Clone)]
pub(super) struct Rows {
    pub values: Vec<f64>,
    pub wide: usize,
    pub constants: Vec<f64>,
    /// What the real function may differ by.
    pub errors: Vec<f64>,
}

impl Units {
    /// The whole network and rows over its output, with the bounds that interval arithmetic has of
    /// each unit; `None` where it has other operators or is too large.
    pub fn of(
        network: &Network,
        domain: &Domain<f64>,
        asked: &[Vec<f64>],
    ) -> Option<(Self, Vec<f64>, Vec<f64>)> {
        let layers: Vec<usize> = (0..network.places.len())
            .filter(|&at| !matches!(network.places[at].rule, Rule::Input | Rule::Linear(_)))
            .collect();
        let plain = |&at: &usize| matches!(network.places[at].rule, Rule::Active(Activation::Hinge(slope)) if slope == 0.0);
        let inputs = network.places[0].len;
        let units: usize = layers.iter().map(|&at| network.places[at].len).sum();
        let entries = (units + asked.len()).saturating_mul(inputs + units);
        if !layers.iter().all(plain)
            || domain.region.ball.is_some()
            || inputs > MOST.0
            || units > MOST.1
            || entries > MOST.2
        {
            return None;
        }
        let mut whole = Self { inputs, ..Self::default() };
        let (mut lower, mut upper) = (Vec::new(), Vec::new());
        let mut columns = vec![None; network.places.len()];
        columns[0] = Some(0);
        let mut reach = domain.cells[0].size.clone();
        for &at in &layers {
            let source = network.places[at].inputs[0];
            let len = network.places[source].len;
            let unit = |i: usize| (0..len).map(|k| f64::from(u8::from(k == i))).collect();
            let rows: Vec<Vec<f64>> = (0..len).map(unit).collect();
            whole.push(network, domain, source, &rows, &columns, &reach)?;
            columns[at] = Some(inputs + lower.len());
            lower.extend_from_slice(&domain.cells[source].lower);
            upper.extend_from_slice(&domain.cells[source].upper);
            reach.extend_from_slice(&domain.cells[at].size);
        }
        whole.push(network, domain, network.output(), asked, &columns, &reach)?;
        // From here on what is known never is anything but a number.
        if !lower.iter().chain(&upper).chain(&reach).all(|x| x.is_finite()) {
            return None;
        }
        whole.finish(&reach);
        Some((whole, lower, upper))
    }

    /// Adds a level of rows over one node.
    fn push(
        &mut self,
        network: &Network,
        domain: &Domain<f64>,
        node: usize,
        starts: &[Vec<f64>],
        columns: &[Option<usize>],
        reach: &[f64],
    ) -> Option<()> {
        let (cells, region) = (&domain.cells, &*domain.region);
        let carry = Carry { network, cells, region, stop: Stop::Units, multipliers: &[] };
        let mut rows = Rows { wide: reach.len(), ..Rows::default() };
        for start in starts {
            network.cancel.check().ok()?;
            // A row and the one below zero by it: real values lie between the two constants.
            let both: Vec<f64> = start.iter().copied().chain(start.iter().map(|a| -a)).collect();
            let (constants, at) = carry.rests(node, both);
            let (low, high) = (constants[0], -constants[1]);
            let middle = 0.5 * low + 0.5 * high;
            rows.constants.push(middle);
            rows.errors.push(sub_up(high, middle).max(sub_up(middle, low)));
            let from = rows.values.len();
            rows.values.resize(from + rows.wide, 0.0);
            for (part, column) in at.iter().zip(columns) {
                let Some(part) = part else { continue };
                let (row, opposite) = part.split_at(part.len() / 2);
                if row.iter().zip(opposite).any(|(a, b)| *a != -b) {
                    return None;
                }
                let first = from + (*column)?;
                rows.values[first..first + row.len()].copy_from_slice(row);
            }
        }
        self.add(rows, reach);
        Some(())
    }

    /// Adds a level of rows over all columns there are, elements of which are no larger than `reach`.
    fn add(&mut self, rows: Rows, reach: &[f64]) {
        let (count, width) = (rows.constants.len(), reach.len());
        let lines = || rows.values.chunks_exact(rows.wide.max(1)).map(|row| &row[..width]);
        let nonzero = |row: &[f64]| row.iter().position(|&a| a != 0.0);
        let first = lines().filter_map(nonzero).min().unwrap_or(0) / LANES * LANES;
        let wide = width.next_multiple_of(LANES) - first;
        let mut values = Vec::with_capacity(count * wide);
        for row in lines() {
            values.extend_from_slice(&row[first..]);
            values.resize(values.len().next_multiple_of(wide.max(1)), 0.0);
        }
        let sums =
            rows.constants.iter().zip(lines()).map(|(constant, row)| {
                add_up(f64::reach(row, reach) * (1.0 + SPARE), constant.abs())
            });
        let from = width - self.inputs;
        self.sizes.extend(sums);
        self.constants.extend(rows.constants);
        self.errors.extend(rows.errors);
        self.levels.push(Level { units: from..from + count, first, wide, rows: values });
    }

    /// Every underflow is of less than `2^-1074`, and meets something no larger than the sum here.
    fn finish(&mut self, reach: &[f64]) {
        let all = self.constants.len() + self.inputs + self.levels.len();
        self.rounding = rounding::gamma(4 * all + 64);
        self.lost = 1e-280 * (1.0 + reach.iter().chain(&self.sizes).sum::<f64>());
    }

    /// How many units there are; rows of the last level do not count.
    pub fn count(&self) -> usize {
        self.asked().units.start
    }

    /// The last level.
    pub fn asked(&self) -> &Level {
        self.levels.last().expect("what is asked is a level")
    }

    /// Starts from some rows of a level, each as it is and, with `both`, below zero by it.
    pub fn start(&self, level: &Level, wanted: &[usize], both: bool) -> Rows {
        let signs: &[f64] = if both { &[1.0, -1.0] } else { &[1.0] };
        let (wide, count) = (level.first + level.wide, wanted.len() * signs.len());
        let mut rows = Rows { wide, ..Rows::default() };
        rows.values.reserve(count * wide);
        let rounding = self.rounding;
        for &unit in wanted {
            let from = (unit - level.units.start) * level.wide;
            let row = &level.rows[from..from + level.wide];
            for sign in signs {
                rows.values.resize(rows.values.len() + level.first, 0.0);
                rows.values.extend(row.iter().map(|a| sign * a));
                rows.constants.push(sign * self.constants[unit]);
                rows.errors.push(self.errors[unit] + rounding * self.sizes[unit]);
            }
        }
        rows
    }

    /// Adds the sum of the rows of the last level, each times a weight that is not negative.
    pub fn combine(&self, rows: &mut Rows, own: &[usize], weights: &[f64]) {
        let mut sum = vec![0.0; rows.wide];
        let (mut constant, mut error) = (0.0, 0.0);
        for (row, (&unit, &weight)) in own.iter().zip(weights).enumerate() {
            let values = &rows.values[row * rows.wide..][..rows.wide];
            sum.iter_mut().zip(values).for_each(|(sum, a)| *sum += weight * a);
            constant += weight * rows.constants[row];
            error += weight * (rows.errors[row] + self.rounding * self.sizes[unit]);
        }
        rows.values.extend(sum);
        rows.constants.push(constant);
        rows.errors.push(error);
    }

    /// Carries rows over everything before level `at` back through the units that `lines` replace.
    pub fn carry(&self, rows: &mut Rows, at: usize, lines: &Lines) {
        if rows.constants.is_empty() {
            return;
        }
        let mut moved = Vec::new();
        for level in self.levels[..at].iter().rev() {
            let (n, range) = (level.units.len(), level.units.clone());
            let parts = [&lines.below, &lines.above, &lines.low, &lines.high];
            if parts.iter().all(|part| part[range.clone()].iter().all(|&x| x == 0.0)) {
                continue; // nothing is moved
            }
            moved.resize(rows.constants.len() * n, 0.0);
            let from = self.inputs + range.start;
            let part = lanes::Part {
                below: &lines.below[range.clone()],
                above: &lines.above[range.clone()],
                low: &lines.low[range.clone()],
                high: &lines.high[range.clone()],
                weight: &lines.weight[range.clone()],
                constant: &self.constants[range.clone()],
            };
            for (row, moved) in moved.chunks_exact_mut(n).enumerate() {
                let outputs = &rows.values[row * rows.wide + from..][..n];
                let (sum, error) = lanes::replace(outputs, &part, moved);
                rows.constants[row] += sum;
                rows.errors[row] += error;
            }
            let sums = &mut rows.values[level.first..];
            lanes::gather_lines(sums, rows.wide, &moved, (n, level.wide), &level.rows);
        }
    }

    /// What is left where units that are not kept are replaced: by their rows, or by nothing where
    /// they are inactive. Columns that are left are no larger than `reach`.
    pub fn without(&self, kept: &[bool], lines: &Lines, reach: &[f64]) -> Self {
        let mut next = Self { inputs: self.inputs, ..Self::default() };
        let columns: Vec<usize> = (0..self.inputs)
            .chain((0..self.count()).filter(|&unit| kept[unit]).map(|unit| self.inputs + unit))
            .collect();
        for (at, level) in self.levels.iter().enumerate() {
            let all = at + 1 == self.levels.len();
            let wanted: Vec<usize> =
                level.units.clone().filter(|&unit| all || kept[unit]).collect();
            let mut rows = self.start(level, &wanted, false);
            self.carry(&mut rows, at, lines);
            let before = self.inputs + level.units.start;
            let chosen = &columns[..columns.partition_point(|&column| column < before)];
            let all = rows.values.chunks_exact(rows.wide.max(1));
            let values = all.flat_map(|row| chosen.iter().map(|&column| row[column])).collect();
            let errors = rows.errors.iter().map(|&error| self.charged(error)).collect();
            let rows = Rows { values, wide: chosen.len(), constants: rows.constants, errors };
            next.add(rows, &reach[..chosen.len()]);
        }
        next.finish(reach);
        next
    }

    /// A sum of errors, with what computing it and underflow can have cost.
    pub fn charged(&self, error: f64) -> f64 {
        add_up(error * (1.0 + SPARE), self.lost)
    }

    /// Lower bounds of rows between columns' bounds, and of what is below zero by them.
    pub fn range(&self, rows: &Rows, row: usize, lower: &[f64], upper: &[f64]) -> (f64, f64) {
        let values = &rows.values[row * rows.wide..][..lower.len()];
        let (low, high, size) = lanes::ends(values, lower, upper);
        let constant = rows.constants[row];
        let error = self.charged(rows.errors[row] + self.rounding * (size + constant.abs()));
        (sub_down(low + constant, error), sub_down(-(high + constant), error))
    }
}

impl Lines {
    /// The usual lines of the next unit.
    pub fn usual(&mut self, units: &Units, unit: usize, l: f64, u: f64) {
        let line = Activation::Hinge(0.0).line(&l, &u, Slopes::default());
        let slopes = (line.lower_slope, line.upper_slope);
        self.push(
            units,
            unit,
            slopes,
            (line.lower_offset, line.upper_offset),
            l.abs().max(u.abs()),
        );
    }

    /// The next unit's row instead of it, or nothing.
    pub fn replaced(&mut self, units: &Units, unit: usize, by_row: bool, l: f64, u: f64) {
        let slope = f64::from(u8::from(by_row));
        self.push(units, unit, (slope, slope), (0.0, 0.0), l.abs().max(u.abs()));
    }

    /// The weight is what a coefficient 1 of the unit's output costs: the row's own error, and the
    /// rounding of all that joins the sums there.
    fn push(
        &mut self,
        units: &Units,
        unit: usize,
        slopes: (f64, f64),
        offsets: (f64, f64),
        reach: f64,
    ) {
        let steepest = slopes.0.abs().max(slopes.1.abs());
        let own = units.errors[unit] + units.rounding * (units.sizes[unit] + reach);
        let shift = units.rounding * (offsets.0.abs() + offsets.1.abs());
        let weight = if steepest == 0.0 && shift == 0.0 { 0.0 } else { steepest * own + shift };
        self.below.push(slopes.0);
        self.above.push(slopes.1);
        self.low.push(offsets.0);
        self.high.push(offsets.1);
        self.weight.push(weight * (1.0 + SPARE));
    }
}
