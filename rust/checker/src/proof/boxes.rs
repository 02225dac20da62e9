//! Proofs that only cut and clip the input's box, of networks of affine operators and ReLUs: the same
//! bounds as everywhere, from what is left of the network on each box.

use std::ops::Range;
use std::sync::Arc;

use aisec_numeric::rounding::{add_down, mul_up, sub_down};

use super::certificate::{ClipClaim, ClipRule, Entry, Hex};
use super::check::{Tree, need};
use super::domain::Domain;
use super::number::{larger, smaller};
use super::region::clip;
use super::units::{Lines, Rows, Units};

/// A box, what is known of the units throughout, and what is to be proven of it.
#[derive(Clone)]
pub(super) struct Part {
    units: Arc<Units>,
    /// Bounds of what the units read.
    known: (Vec<f64>, Vec<f64>),
    lower: Vec<f64>,
    upper: Vec<f64>,
    needed: Vec<bool>,
}

/// Bounds and lines of the units that were reached so far, on one box.
struct Found<'a> {
    units: &'a Units,
    lower: Vec<f64>,
    upper: Vec<f64>,
    /// Bounds of the inputs and of units' outputs; zero where a unit's sign is known.
    least: Vec<f64>,
    most: Vec<f64>,
    lines: Lines,
    /// The rows of active units instead of them; nothing instead of the others.
    signs: Lines,
}

fn is_open(l: f64, u: f64) -> bool {
    !(l >= 0.0 || u <= 0.0)
}

impl Tree<'_> {
    /// The whole box, where the proof and the network are of this kind.
    pub fn boxes(&self, domain: &Domain<f64>) -> Option<Part> {
        let plain = |entry: &Entry| match entry {
            Entry::Clip(claim) => claim.rule == ClipRule::Signs,
            Entry::Split(node, ..) => *node == 0,
            Entry::Leaf(refutations) => refutations.is_empty(),
            Entry::Apart(_) => true,
            _ => false,
        };
        let clips = self.case.proof.iter().any(|entry| matches!(entry, Entry::Clip(_)));
        if !clips || !self.case.proof.iter().all(plain) {
            return None;
        }
        let rows = self.case.clauses.iter().flat_map(|clause| &clause.rows);
        let asked: Vec<Vec<f64>> = rows.map(|row| row.iter().map(|x| x.0).collect()).collect();
        let (units, lower, upper) = Units::of(self.network, domain, &asked)?;
        Some(Part {
            units: Arc::new(units),
            known: (lower, upper),
            lower: domain.region.lower.clone(),
            upper: domain.region.upper.clone(),
            needed: vec![true; self.case.clauses.len()],
        })
    }

    /// Proves the box that starts at an entry; returns how many leaves it took.
    pub fn walk_boxes(&self, at: usize, part: Part) -> Result<usize, String> {
        self.network.cancel.check().map_err(|_| "cancelled".to_owned())?;
        match &self.case.proof[at] {
            Entry::Clip(claim) => self.walk_boxes(at + 1, self.clip_box(part, claim)),
            &Entry::Split(_, index, Hex(limit)) => {
                let side = |above: bool| {
                    let mut side = part.clone();
                    if above {
                        side.lower[index] = larger(side.lower[index], limit);
                    } else {
                        side.upper[index] = smaller(side.upper[index], limit);
                    }
                    self.walk_boxes(if above { self.second[at] } else { at + 1 }, side)
                };
                let (below, above) = rayon::join(|| side(false), || side(true));
                Ok(below? + above?)
            }
            Entry::Apart(clauses) => {
                let side = |listed: bool| {
                    let mut side = part.clone();
                    for (k, needed) in side.needed.iter_mut().enumerate() {
                        *needed &= clauses.contains(&k) == listed;
                    }
                    self.walk_boxes(if listed { at + 1 } else { self.second[at] }, side)
                };
                let (first, second) = rayon::join(|| side(true), || side(false));
                Ok(first? + second?)
            }
            _ => {
                let open = part.needed.iter().position(|&needed| needed);
                need(open.is_none(), || {
                    format!("entry {at}: clause {} is not refuted", open.unwrap_or(0))
                })?;
                Ok(1)
            }
        }
    }

    /// See [`Tree::clip`].
    fn clip_box(&self, part: Part, claim: &ClipClaim) -> Part {
        let Part { units, known, lower, upper, mut needed } = part;
        let mut found = Found::new(&units, known, &lower, &upper);
        (0..units.levels.len() - 1).for_each(|at| found.level(at));
        let mut hull: Option<(Vec<f64>, Vec<f64>)> = None;
        let mut next = units.asked().units.start;
        for (k, clause) in self.case.clauses.iter().enumerate() {
            let own: Vec<usize> = (next..next + clause.rows.len()).collect();
            next += own.len();
            if !needed[k] {
                continue;
            }
            let mut rows = units.start(units.asked(), &own, false);
            let mut shifts: Vec<f64> = clause.rhs.iter().map(|rhs| -rhs.0).collect();
            let least = found.by_signs(units.levels.len() - 1, rows.clone());
            if least.iter().zip(&shifts).any(|((least, _), shift)| add_down(*least, *shift) > 0.0) {
                needed[k] = false;
                continue;
            }
            for joint in claim.joint.iter().filter(|joint| joint.clause == k) {
                let weights: Vec<f64> = joint.weights.iter().map(|weight| weight.0).collect();
                units.combine(&mut rows, &own, &weights);
                let terms = weights.iter().zip(&clause.rhs);
                shifts.push(terms.fold(0.0, |sum, (w, rhs)| sub_down(sum, mul_up(*w, rhs.0))));
            }
            let planes = found.planes(rows, &shifts);
            let (single, joint) = planes.split_at(own.len());
            let (mut low, mut high) = (lower.clone(), upper.clone());
            needed[k] = [single, single, joint, joint]
                .iter()
                .flat_map(|planes| planes.iter())
                .all(|(row, constant)| clip(row, constant, &mut low, &mut high));
            if needed[k] {
                hull = Some(match hull {
                    None => (low, high),
                    Some((l, u)) => (
                        l.into_iter().zip(low).map(|(a, b)| if b < a { b } else { a }).collect(),
                        u.into_iter().zip(high).map(|(a, b)| if b > a { b } else { a }).collect(),
                    ),
                });
            }
        }
        match hull {
            None => Part { known: (found.lower, found.upper), units, lower, upper, needed },
            Some((lower, upper)) => {
                let (fewer, known) = found.narrowed();
                Part { units: fewer.map_or(units, Arc::new), known, lower, upper, needed }
            }
        }
    }
}

impl<'a> Found<'a> {
    fn new(units: &'a Units, known: (Vec<f64>, Vec<f64>), lower: &[f64], upper: &[f64]) -> Self {
        Self {
            units,
            lower: known.0,
            upper: known.1,
            least: lower.to_vec(),
            most: upper.to_vec(),
            lines: Lines::default(),
            signs: Lines::default(),
        }
    }

    /// Bounds the units of a level: by rows through units whose sign is known, then by rows through
    /// the lines of all units before, each where the sign is still open.
    fn level(&mut self, at: usize) {
        let level = &self.units.levels[at];
        let open = self.open(level.units.clone());
        let bounds = self.by_signs(at, self.units.start(level, &open, false));
        open.iter().zip(bounds).for_each(|(&unit, bound)| self.tighten(unit, bound));
        if at > 0 {
            let open = self.open(level.units.clone());
            let mut rows = self.units.start(level, &open, true);
            self.units.carry(&mut rows, at, &self.lines);
            for (k, &unit) in open.iter().enumerate() {
                let below =
                    |row| self.units.range(&rows, row, self.inputs(false), self.inputs(true)).0;
                let bound = (below(2 * k), below(2 * k + 1));
                self.tighten(unit, bound);
            }
        }
        for unit in level.units.clone() {
            let (l, u) = (self.lower[unit], self.upper[unit]);
            self.lines.usual(self.units, unit, l, u);
            self.signs.replaced(self.units, unit, l >= 0.0, l, u);
            self.least.push(0.0);
            self.most.push(if is_open(l, u) { u } else { 0.0 });
        }
    }

    /// The corners of the box.
    fn inputs(&self, upper: bool) -> &[f64] {
        &(if upper { &self.most } else { &self.least })[..self.units.inputs]
    }

    fn open(&self, units: Range<usize>) -> Vec<usize> {
        units.filter(|&unit| is_open(self.lower[unit], self.upper[unit])).collect()
    }

    /// Takes in lower bounds of a unit and of what is below zero by it; NaN says nothing.
    fn tighten(&mut self, unit: usize, bound: (f64, f64)) {
        self.lower[unit] = larger(self.lower[unit], bound.0);
        self.upper[unit] = smaller(self.upper[unit], -bound.1);
    }

    /// Lower bounds of rows over what comes before level `at`, and of what is below zero by them,
    /// where they end at the units of open sign.
    fn by_signs(&self, at: usize, mut rows: Rows) -> Vec<(f64, f64)> {
        self.units.carry(&mut rows, at, &self.signs);
        let count = rows.constants.len();
        (0..count).map(|row| self.units.range(&rows, row, &self.least, &self.most)).collect()
    }

    /// Planes over the inputs below rows over all units, plus a shift each.
    fn planes(&self, mut rows: Rows, shifts: &[f64]) -> Vec<(Vec<f64>, f64)> {
        self.units.carry(&mut rows, self.units.levels.len() - 1, &self.lines);
        let plane = |(row, shift): (usize, &f64)| {
            let coefficients = &rows.values[row * rows.wide..][..self.units.inputs];
            let constant = sub_down(rows.constants[row], self.units.charged(rows.errors[row]));
            (coefficients.to_vec(), add_down(constant, *shift))
        };
        shifts.iter().enumerate().map(plane).collect()
    }

    /// Which units parts of the box should keep: those of open sign and, where replacing them fills
    /// in more rows than it saves, active ones. `None` where little would be saved.
    fn kept(&self) -> Option<Vec<bool>> {
        let count = self.units.count();
        let kept = |with_active: bool| -> Vec<bool> {
            let kept = |unit: usize| {
                let (l, u) = (self.lower[unit], self.upper[unit]);
                is_open(l, u) || (with_active && l >= 0.0)
            };
            (0..count).map(kept).collect()
        };
        // Products behind the rows of one box: of each open unit with all rows kept before it.
        let work = |kept: Option<&[bool]>| {
            let is_kept = |&unit: &usize| kept.is_none_or(|kept| kept[unit]);
            let (mut work, mut before, mut columns) = (0, 0, self.units.inputs);
            for level in &self.units.levels {
                let last = level.units.start == count;
                work += before * if last { 2 } else { 2 * self.open(level.units.clone()).len() };
                if !last {
                    let own = level.units.clone().filter(is_kept).count();
                    before += own * (columns - level.first.min(columns));
                    columns += own;
                }
            }
            work
        };
        let (lean, full) = (kept(false), kept(true));
        let (least, kept) =
            [lean, full].map(|kept| (work(Some(&kept)), kept)).into_iter().min_by_key(|x| x.0)?;
        (8 * least < 7 * work(None)).then_some(kept)
    }

    /// The units for parts of the box, where fewer will do, and what is known of them.
    fn narrowed(self) -> (Option<Units>, (Vec<f64>, Vec<f64>)) {
        let Some(kept) = self.kept() else { return (None, (self.lower, self.upper)) };
        let chosen = || (0..kept.len()).filter(|&unit| kept[unit]);
        let ends = self.inputs(false).iter().zip(self.inputs(true));
        let reach: Vec<f64> = ends
            .map(|(l, u)| l.abs().max(u.abs()))
            .chain(chosen().map(|unit| self.upper[unit].max(0.0)))
            .collect();
        let mut lines = Lines::default();
        for unit in 0..kept.len() {
            let (l, u) = (self.lower[unit], self.upper[unit]);
            lines.replaced(self.units, unit, !kept[unit] && l >= 0.0, l, u);
        }
        let units = self.units.without(&kept, &lines, &reach);
        let pick = |values: &[f64]| chosen().map(|unit| values[unit]).collect();
        (Some(units), (pick(&self.lower), pick(&self.upper)))
    }
}

#[cfg(test)]
mod tests;
