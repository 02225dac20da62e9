//! Rows carried back through a network, in plain arithmetic with its cost taken off: a row `a` at
//! some nodes and a constant stand for a lower bound `constant + Σ a·z` of what was asked for.
//!
//! The computed coefficients are taken as they are; what they differ from the exact ones meets
//! elements no larger than `Cell::size`, and is paid for with the constant at once.

use std::sync::Arc;

use super::cell::{Cell, How};
use super::lanes::LANES;
use super::lines::Activation;
use super::network::{Network, Rule};
use super::number::Number;
use super::region::{Region, box_minimum};

/// Where rows end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// At the input's region.
    Input,
    /// At the bounds of the first node on each path that is not linear.
    Bounds,
    /// At the bounds of the first element on each path whose line is not the function itself, because
    /// its sign is not known.
    Signs,
    /// At the input and the outputs of activations, where they stay.
    Units,
}

/// `weight · sign·(z - at)` is taken off a row where `sign·(z - at) >= 0` is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Multiplier {
    pub node: usize,
    pub index: usize,
    pub positive: bool,
    pub at: f64,
    pub weight: f64,
}

/// Terms of one of the sums that [`Number::weigh`] and [`Number::bend`] add up, and those sums.
fn lane_terms(len: usize) -> usize {
    len / LANES + 1 + LANES
}

pub(crate) struct Carry<'a, T> {
    pub network: &'a Network<'a>,
    pub cells: &'a [Arc<Cell<T>>],
    pub region: &'a Region<T>,
    pub stop: Stop,
    pub multipliers: &'a [Multiplier],
}

struct Rows<T> {
    constants: Vec<T>,
    /// Coefficients at each node, row after row.
    at: Vec<Option<Vec<T>>>,
}

impl<T: Number> Carry<'_, T> {
    /// Lower bounds of `rows` (row-major, over the node `start`), NaN where nothing is known.
    pub fn minima(&self, start: usize, rows: Vec<T>) -> Vec<T> {
        self.down_to(0, start, rows).constants
    }

    /// Planes over the input below `rows` over the output: coefficients (row-major), constants.
    pub fn planes(&self, rows: Vec<T>) -> (Vec<T>, Vec<T>) {
        let start = self.network.output();
        let (len, wide) = (self.network.places[start].len, self.network.places[0].len);
        let count = rows.len() / len;
        let mut state = self.down_to(1, start, rows);
        let coefficients = state.at[0].take();
        (coefficients.unwrap_or_else(|| vec![T::zero(); count * wide]), state.constants)
    }

    /// Rows over the input and the outputs of activations, with [`Stop::Units`]: constants, and
    /// coefficients at each node up to `start`.
    pub fn rests(&self, start: usize, rows: Vec<T>) -> (Vec<T>, Vec<Option<Vec<T>>>) {
        let state = self.down_to(0, start, rows);
        (state.constants, state.at)
    }

    fn down_to(&self, last: usize, start: usize, rows: Vec<T>) -> Rows<T> {
        let count = rows.len() / self.network.places[start].len;
        let mut state = Rows { constants: vec![T::zero(); count], at: vec![None; start + 1] };
        state.at[start] = Some(rows);
        for multiplier in self.multipliers {
            if multiplier.node <= start {
                let len = self.network.places[multiplier.node].len;
                state.at[multiplier.node].get_or_insert_with(|| vec![T::zero(); count * len]);
            }
        }
        for node in (last..=start).rev() {
            let Some(mut rows) = state.at[node].take() else { continue };
            self.take_off(&mut state, node, &mut rows);
            match &self.network.places[node].rule {
                Rule::Input | Rule::Active(_) if self.stop == Stop::Units => {
                    state.at[node] = Some(rows);
                }
                Rule::Input => self.end(&mut state, node, &rows),
                Rule::Linear(_) => self.through_linear(&mut state, node, &rows),
                _ if self.stop == Stop::Bounds => self.end(&mut state, node, &rows),
                Rule::Active(activation) if self.stop == Stop::Signs => {
                    self.end_open(&mut state, node, *activation, &mut rows);
                    self.through_lines(&mut state, node, &rows);
                }
                Rule::Active(_) => self.through_lines(&mut state, node, &rows),
                _ if self.stop == Stop::Signs => self.end(&mut state, node, &rows),
                Rule::Largest(_) => self.through_picks(&mut state, node, &rows),
                Rule::Product(_) => self.through_planes(&mut state, node, &rows),
            }
        }
        state
    }

    fn end(&self, state: &mut Rows<T>, node: usize, rows: &[T]) {
        let cell = &self.cells[node];
        for (row, constant) in rows.chunks_exact(cell.lower.len()).zip(&mut state.constants) {
            let least = if node == 0 {
                self.region.minimum(row, &cell.size)
            } else {
                box_minimum(row, &cell.lower, &cell.upper, &cell.size)
            };
            *constant = constant.plus_down(&least);
        }
    }

    /// Ends at the elements of an activation whose sign is not known.
    fn end_open(&self, state: &mut Rows<T>, node: usize, activation: Activation, rows: &mut [T]) {
        let (cell, input) = (&self.cells[node], &self.cells[self.network.places[node].inputs[0]]);
        let bounds = input.lower.iter().zip(&input.upper);
        let open = |(l, u)| match activation {
            Activation::Hinge(_) => activation.is_loose(l, u),
            _ => true,
        };
        let open: Vec<bool> = bounds.map(open).collect();
        for (row, constant) in rows.chunks_exact_mut(open.len()).zip(&mut state.constants) {
            let mut rest = vec![T::zero(); open.len()];
            for i in (0..open.len()).filter(|&i| open[i]) {
                std::mem::swap(&mut rest[i], &mut row[i]);
            }
            let least = box_minimum(&rest, &cell.lower, &cell.upper, &cell.size);
            *constant = constant.plus_down(&least);
        }
    }

    fn take_off(&self, state: &mut Rows<T>, node: usize, rows: &mut [T]) {
        let cell = &self.cells[node];
        let len = cell.lower.len();
        for m in self.multipliers.iter().filter(|m| m.node == node) {
            let signed = T::of(if m.positive { m.weight } else { -m.weight });
            let shift = signed.times_down(&T::of(m.at));
            for (row, constant) in rows.chunks_exact_mut(len).zip(&mut state.constants) {
                let sum = row[m.index].plus(&signed.negated());
                if !T::EXACT {
                    let size = row[m.index].size().plus(&signed.size()).times(&cell.size[m.index]);
                    *constant = constant.minus_down(&T::cost(2, &size, &T::one()));
                }
                row[m.index] = sum;
                *constant = constant.plus_down(&shift);
            }
        }
    }

    /// Makes room at the inputs of `node`, and pays for rounding that rows already there will be
    /// part of.
    fn open(&self, state: &mut Rows<T>, node: usize) {
        let place = &self.network.places[node];
        for &input in &place.inputs {
            let (len, count) = (self.network.places[input].len, state.constants.len());
            match &state.at[input] {
                None => state.at[input] = Some(vec![T::zero(); count * len]),
                Some(_) if T::EXACT => {}
                Some(rows) => {
                    for (row, constant) in rows.chunks_exact(len).zip(&mut state.constants) {
                        let mut size = T::zero();
                        let sizes = row.iter().zip(&self.cells[input].size);
                        sizes.for_each(|(a, m)| size.gather(&a.size(), m));
                        // `size` may be off by as much as it is: the cost allows for twice the terms.
                        let cost = T::cost(place.fan, &size, &T::one());
                        *constant = constant.minus_down(&cost);
                    }
                }
            }
        }
    }

    /// Adds a sum of offsets to a row's constant, less the cost of the whole step. So many terms
    /// were added one after the other.
    fn pay(&self, node: usize, constant: &mut T, (sum, size): (T, T), terms: usize) {
        let (place, cell) = (&self.network.places[node], &self.cells[node]);
        let cost = T::cost(place.fan.max(terms), &size, &cell.reach);
        *constant = constant.plus_down(&sum.minus_down(&cost));
    }

    fn through_linear(&self, state: &mut Rows<T>, node: usize, rows: &[T]) {
        let place = &self.network.places[node];
        let Rule::Linear(linear) = &place.rule else { unreachable!("it is linear") };
        let weight = &self.cells[node].weight;
        for (row, constant) in rows.chunks_exact(place.len).zip(&mut state.constants) {
            self.pay(
                node,
                constant,
                T::weigh(row, &place.constants, weight),
                lane_terms(place.len),
            );
        }
        self.open(state, node);
        let count = state.constants.len();
        if let Some((out, length, weight)) = linear.dense() {
            let sums = state.at[place.inputs[0]].as_mut().expect("room was made");
            // A row may be several lines of the last axis.
            T::gather_lines(sums, rows, (out, length), weight);
            return;
        }
        if count > 1 && linear.slides() {
            let wide = self.network.places[place.inputs[0]].len;
            let sums = state.at[place.inputs[0]].as_mut().expect("room was made");
            if T::gather_windows(sums, wide, rows, place.len, linear) {
                return;
            }
        }
        let mut alive: Vec<(usize, T)> = Vec::with_capacity(count);
        for output in 0..place.len {
            alive.clear();
            let divisor = linear.divisor(output);
            for row in 0..count {
                let a = &rows[row * place.len + output];
                if !a.is_zero() {
                    let a = if divisor == 1.0 { a.clone() } else { a.over(&T::of(divisor)) };
                    alive.push((row, a));
                }
            }
            if alive.is_empty() {
                continue;
            }
            linear.terms(output, |slot, start, weights| {
                let input = place.inputs[slot];
                let len = self.network.places[input].len;
                let sums = state.at[input].as_mut().expect("room was made");
                for (row, a) in &alive {
                    let first = row * len + start;
                    let sums = &mut sums[first..first + weights.len()];
                    sums.iter_mut().zip(weights).for_each(|(sum, &w)| sum.gather(a, &T::of(w)));
                }
            });
        }
    }

    fn through_lines(&self, state: &mut Rows<T>, node: usize, rows: &[T]) {
        let cell = &self.cells[node];
        let How::Lines(lines) = &cell.how else { unreachable!("it has lines") };
        self.open(state, node);
        let sums = state.at[self.network.places[node].inputs[0]].as_mut().expect("room was made");
        let len = cell.lower.len();
        let rows = rows.chunks_exact(len).zip(sums.chunks_exact_mut(len));
        for ((row, sums), constant) in rows.zip(&mut state.constants) {
            self.pay(node, constant, T::bend(row, lines, &cell.weight, sums), lane_terms(len));
        }
    }

    fn through_planes(&self, state: &mut Rows<T>, node: usize, rows: &[T]) {
        let cell = &self.cells[node];
        let (How::Planes(planes), Rule::Product(places)) =
            (&cell.how, &self.network.places[node].rule)
        else {
            unreachable!("it has planes");
        };
        self.open(state, node);
        let inputs = &self.network.places[node].inputs;
        let len = planes.len();
        for (number, row) in rows.chunks_exact(len).enumerate() {
            let (mut sum, mut size) = (T::zero(), T::zero());
            for (i, a) in row.iter().enumerate().filter(|(_, a)| !a.is_zero()) {
                let offset = if *a > T::zero() { &planes[i].below } else { &planes[i].above };
                sum.gather(a, offset);
                if !T::EXACT {
                    size.gather(&a.size(), &cell.weight[i]);
                }
                for (slot, &input) in inputs.iter().enumerate() {
                    let first = number * self.network.places[input].len;
                    let sums = state.at[input].as_mut().expect("room was made");
                    sums[first + places[i][slot]].gather(a, &planes[i].slopes[slot]);
                }
            }
            self.pay(node, &mut state.constants[number], (sum, size), len);
        }
    }

    fn through_picks(&self, state: &mut Rows<T>, node: usize, rows: &[T]) {
        let How::Picks(picks) = &self.cells[node].how else { unreachable!("it has picks") };
        let weight = &self.cells[node].weight;
        for (row, constant) in rows.chunks_exact(picks.len()).zip(&mut state.constants) {
            let (mut sum, mut size) = (T::zero(), T::zero());
            for (i, a) in row.iter().enumerate().filter(|(_, a)| !a.is_zero()) {
                if *a < T::zero() {
                    sum.gather(a, &picks[i].offset);
                }
                if !T::EXACT {
                    size.gather(&a.size(), &weight[i]);
                }
            }
            self.pay(node, constant, (sum, size), picks.len());
        }
        self.open(state, node);
        let input = self.network.places[node].inputs[0];
        let sums = state.at[input].as_mut().expect("room was made");
        let (len, wide) = (picks.len(), self.network.places[input].len);
        for (sums, row) in sums.chunks_exact_mut(wide).zip(rows.chunks_exact(len)) {
            for (a, pick) in row.iter().zip(picks).filter(|(a, _)| !a.is_zero()) {
                let to = if *a > T::zero() { Some(pick.below) } else { pick.above };
                if let Some(to) = to {
                    sums[to] = sums[to].plus(a);
                }
            }
        }
    }
}
