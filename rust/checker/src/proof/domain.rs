//! What is proven of every node in one part of the input region, and drawing it anew.

use std::sync::Arc;

use rayon::prelude::*;

use super::carry::{Carry, Stop};
use super::cell::{Cell, How, Pick, magnitude, pick, range, sizes};
use super::certificate::{BoundsClaim, ClipRule, Intermediate};
use super::lines::{Activation, Line, Slopes};
use super::network::{Network, Rule};
use super::number::{Number, greatest, larger, smaller};
use super::pair;
use super::region::Region;

/// Rows carried back together.
const BLOCK: usize = 32;

/// A part of the region; cells are shared with the parts it is cut from.
#[derive(Debug, Clone)]
pub(crate) struct Domain<T> {
    pub region: Arc<Region<T>>,
    pub cells: Vec<Arc<Cell<T>>>,
}

impl<T: Number> Domain<T> {
    /// The whole region, with bounds by interval arithmetic.
    pub fn new(network: &Network, region: Region<T>) -> Result<Self, String> {
        for (at, place) in network.places.iter().enumerate().filter(|_| T::EXACT) {
            if let Rule::Active(Activation::Bend(function)) = place.rule {
                let name = format!("{function:?}").to_lowercase();
                return Err(format!("node {at} ({name}): exact arithmetic has no such operator"));
            }
        }
        let nothing = BoundsClaim { rule: Intermediate::Interval, claims: Vec::new() };
        Self { region: Arc::new(region), cells: Vec::new() }.redraw(network, &nothing)
    }

    /// Itself, where numbers are floats.
    pub fn in_floats(&self) -> Option<&Domain<f64>> {
        (self as &dyn std::any::Any).downcast_ref()
    }

    /// Bounds and lines found again for this part, never looser than they were.
    pub fn redraw(&self, network: &Network, wanted: &BoundsClaim) -> Result<Self, String> {
        self.draw(network, wanted, false)
    }

    /// The same for a clip. By signs, interval arithmetic is asked of nodes that operators which
    /// are not linear read only where it is exact.
    pub fn clipped(&self, network: &Network, rule: ClipRule) -> Result<Self, String> {
        let crown = BoundsClaim { rule: Intermediate::Crown, claims: Vec::new() };
        self.draw(network, &crown, rule == ClipRule::Signs)
    }

    fn draw(&self, network: &Network, wanted: &BoundsClaim, signs: bool) -> Result<Self, String> {
        let mut drawn = Self { region: self.region.clone(), cells: Vec::new() };
        for at in 0..network.places.len() {
            if network.cancel.check().is_err() {
                return Err("cancelled".to_owned());
            }
            let known = self.cells.get(at).map(|cell| (&cell.lower[..], &cell.upper[..]));
            let place = &network.places[at];
            let cell = match known {
                Some(known) if signs && !place.readers.is_empty() && !place.exact_on_boxes => {
                    drawn.kept(network, at, known)
                }
                _ => drawn.cell(network, at, known),
            };
            drawn.cells.push(Arc::new(cell));
            if wanted.claims.iter().all(|claim| claim.node != at) {
                drawn.refine(network, at, wanted.rule == Intermediate::Crown, signs);
            }
            for claim in wanted.claims.iter().filter(|claim| claim.node == at) {
                drawn.prove(network, claim)?;
            }
            let cell = Arc::make_mut(&mut drawn.cells[at]);
            cell.size = sizes(&cell.lower, &cell.upper);
        }
        Ok(drawn)
    }

    /// What is above 1 and what a node's inputs may sum to.
    fn reach(inputs: &[&Cell<T>]) -> T {
        inputs.iter().fold(T::one(), |sum, cell| {
            let most = greatest(cell.size.iter().cloned());
            sum.plus_up(&T::of(cell.size.len() as f64).times_up(&most))
        })
    }

    /// A node with the bounds that are known of it.
    fn kept(&self, network: &Network, at: usize, known: (&[T], &[T])) -> Cell<T> {
        let Rule::Linear(linear) = &network.places[at].rule else {
            let cell = self.cell(network, at, Some(known));
            return Cell { lower: known.0.to_vec(), upper: known.1.to_vec(), ..cell };
        };
        let place = &network.places[at];
        let inputs: Vec<&Cell<T>> = place.inputs.iter().map(|&i| &*self.cells[i]).collect();
        let reach = Self::reach(&inputs);
        let mut weight = Vec::new();
        if !T::EXACT {
            weight.extend((0..place.len).map(|output| magnitude(linear, output, &inputs, &reach)));
        }
        Cell {
            lower: known.0.to_vec(),
            upper: known.1.to_vec(),
            size: sizes(known.0, known.1),
            weight,
            reach,
            how: How::Linear,
        }
    }

    /// A node by interval arithmetic from the bounds of its inputs.
    fn cell(&self, network: &Network, at: usize, known: Option<(&[T], &[T])>) -> Cell<T> {
        let place = &network.places[at];
        let inputs: Vec<&Cell<T>> = place.inputs.iter().map(|&i| &*self.cells[i]).collect();
        let reach = Self::reach(&inputs);
        let (mut lower, mut upper, mut weight);
        let mut how = How::Linear;
        match &place.rule {
            Rule::Input => {
                (lower, upper) = (self.region.lower.clone(), self.region.upper.clone());
                weight = sizes(&lower, &upper);
            }
            Rule::Linear(linear) => {
                let (mut l, mut u, mut w) = (Vec::new(), Vec::new(), Vec::new());
                for output in 0..place.len {
                    let (low, high, size) = range(linear, output, &inputs, &reach);
                    l.push(low);
                    u.push(high);
                    w.push(size);
                }
                (lower, upper, weight) = (l, u, w);
            }
            Rule::Active(activation) => {
                let bounds = inputs[0].lower.iter().zip(&inputs[0].upper);
                (lower, upper) = bounds.clone().map(|(l, u)| activation.interval(l, u)).unzip();
                let lines: Vec<Line<T>> =
                    bounds.map(|(l, u)| activation.line(l, u, Slopes::default())).collect();
                let sizes = lines.iter().zip(&inputs[0].size);
                weight = sizes.map(|(line, size)| line.weight(size)).collect();
                how = How::Lines(lines.into_iter().collect());
            }
            Rule::Product(places) => {
                let found = pair::cells(places, [inputs[0], inputs[1]]);
                (lower, upper, weight) = (found.0, found.1, found.2);
                how = How::Planes(found.3);
            }
            Rule::Largest(windows) => {
                let picks: Vec<Pick<T>> = windows.iter().map(|w| pick(w, inputs[0])).collect();
                let over =
                    |values: &[T], w: &[usize]| greatest(w.iter().map(|&i| values[i].clone()));
                lower = windows.iter().map(|w| over(&inputs[0].lower, w)).collect();
                upper = picks.iter().map(|pick| pick.most.clone()).collect();
                let sizes = windows.iter().map(|w| over(&inputs[0].size, w)).zip(&picks);
                weight = sizes.map(|(size, pick)| size.plus_up(&pick.offset.size())).collect();
                how = How::Picks(picks);
            }
        }
        if let Some((l, u)) = known {
            lower = lower.into_iter().zip(l).map(|(a, b)| larger(a, b.clone())).collect();
            upper = upper.into_iter().zip(u).map(|(a, b)| smaller(a, b.clone())).collect();
        }
        let size = sizes(&lower, &upper);
        if T::EXACT {
            weight = Vec::new();
        }
        Cell { lower, upper, size, weight, reach, how }
    }

    /// Tightens the bounds of the last node where something that reads it would gain.
    fn refine(&mut self, network: &Network, at: usize, by_lines: bool, signs: bool) {
        let place = &network.places[at];
        let is_box = self.region.ball.is_none();
        // Interval arithmetic knows nothing of a ball.
        let wanted = if is_box {
            by_lines && !place.exact_on_boxes
        } else {
            by_lines || place.linear_in_input
        };
        if !wanted {
            return;
        }
        for stop in [Stop::Input, Stop::Signs] {
            if stop == Stop::Signs && !signs {
                continue;
            }
            for upper in [false, true] {
                let loose = self.loose(network, at);
                self.tighten(network, at, upper, &loose, stop);
            }
        }
    }

    /// Elements of a node that a reader would like to know better.
    fn loose(&self, network: &Network, at: usize) -> Vec<usize> {
        let cell = &self.cells[at];
        let mut loose = vec![false; cell.lower.len()];
        for &reader in &network.places[at].readers {
            match &network.places[reader].rule {
                Rule::Active(activation) => {
                    let bounds = cell.lower.iter().zip(&cell.upper);
                    loose.iter_mut().zip(bounds).for_each(|(x, (l, u))| {
                        *x |= activation.is_loose(l, u);
                    });
                }
                Rule::Product(_) => {
                    let bounds = cell.lower.iter().zip(&cell.upper);
                    loose.iter_mut().zip(bounds).for_each(|(x, (l, u))| *x |= l != u);
                }
                Rule::Largest(windows) => {
                    for window in windows {
                        let pick = pick(window, cell);
                        let floor = &cell.lower[pick.below];
                        for &i in window.iter().filter(|_| pick.above.is_none()) {
                            let beaten = cell.upper[i] <= *floor;
                            loose[i] |= i == pick.below || !beaten;
                        }
                    }
                }
                _ => {}
            }
        }
        (0..loose.len()).filter(|&i| loose[i]).collect()
    }

    /// Bounds single elements of the last node by rows carried back.
    pub(super) fn tighten(
        &mut self,
        network: &Network,
        at: usize,
        upper: bool,
        elements: &[usize],
        stop: Stop,
    ) {
        let found = self.units(network, at, upper, elements, stop);
        self.adopt(at, upper, elements, &found);
    }

    /// Takes in lower bounds of elements, or of what is below zero by them, where they are closer.
    pub(super) fn adopt(&mut self, at: usize, upper: bool, elements: &[usize], found: &[T]) {
        let cell = Arc::make_mut(&mut self.cells[at]);
        for (&element, bound) in elements.iter().zip(found) {
            let bound = bound.clone();
            if upper {
                let known = cell.upper[element].clone();
                cell.upper[element] = smaller(known, bound.negated());
            } else {
                let known = cell.lower[element].clone();
                cell.lower[element] = larger(known, bound);
            }
        }
    }

    /// Lower bounds of elements, or of what is below zero by them.
    fn units(
        &self,
        network: &Network,
        at: usize,
        upper: bool,
        elements: &[usize],
        stop: Stop,
    ) -> Vec<T> {
        let len = network.places[at].len;
        let sign = T::of(if upper { -1.0 } else { 1.0 });
        let block = |elements: &[usize]| {
            let mut rows = vec![T::zero(); elements.len() * len];
            for (row, &element) in rows.chunks_exact_mut(len).zip(elements) {
                row[element] = sign.clone();
            }
            self.minima(network, at, rows, stop)
        };
        if elements.len() <= BLOCK {
            return if elements.is_empty() { Vec::new() } else { block(elements) };
        }
        let blocks: Vec<Vec<T>> = elements.par_chunks(BLOCK).map(block).collect();
        blocks.into_iter().flatten().collect()
    }

    fn minima(&self, network: &Network, at: usize, rows: Vec<T>, stop: Stop) -> Vec<T> {
        if network.cancel.check().is_err() {
            return vec![T::of(-f64::MAX); rows.len() / network.places[at].len];
        }
        let (cells, region) = (&self.cells, &self.region);
        Carry { network, cells, region, stop, multipliers: &[] }.minima(at, rows)
    }

    /// The part between two corners; bounds and lines stay.
    pub fn within(&self, lower: Vec<T>, upper: Vec<T>) -> Self {
        let mut part = self.clone();
        let cell = Arc::make_mut(&mut part.cells[0]);
        (cell.lower, cell.upper) = (lower.clone(), upper.clone());
        part.region = Arc::new(Region { lower, upper, ball: self.region.ball.clone() });
        part
    }

    /// The part where an element is at most (at least) `at`, with the lines that follow.
    pub fn cut(
        &self,
        network: &Network,
        (node, index): (usize, usize),
        at: f64,
        above: bool,
    ) -> Self {
        let mut part = self.clone();
        let limit = T::of(at);
        let cell = Arc::make_mut(&mut part.cells[node]);
        if above {
            cell.lower[index] = larger(cell.lower[index].clone(), limit);
        } else {
            cell.upper[index] = smaller(cell.upper[index].clone(), limit);
        }
        let (l, u) = (cell.lower[index].clone(), cell.upper[index].clone());
        if node == 0 {
            let region = Arc::make_mut(&mut part.region);
            (region.lower[index], region.upper[index]) = (l.clone(), u.clone());
        }
        for &reader in &network.places[node].readers {
            let Rule::Active(activation) = &network.places[reader].rule else { continue };
            let size = part.cells[node].size[index].clone();
            // Nodes that come later have no bounds yet, where single elements are split.
            let Some(cell) = part.cells.get_mut(reader).map(Arc::make_mut) else { continue };
            let line = activation.line(&l, &u, Slopes::default());
            if !T::EXACT {
                cell.weight[index] = line.weight(&size);
            }
            let How::Lines(lines) = &mut cell.how else { unreachable!("it has lines") };
            lines.set(index, line);
        }
        part
    }
}
