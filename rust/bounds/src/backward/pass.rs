//! One block of rows on its way back.

use aisec_graph::beside::side_by_side;
use aisec_graph::{Operator, Patch, Site};
use aisec_numeric::conv::Unit;
use aisec_numeric::rounding::{add_down, gamma, mul_up, sub_down};

use super::pool::Pool;
use super::route::{Route, cut};
use crate::kernels::{LANES, MOST, dots_beside};
use crate::trace::Action;
use crate::tuned::Own;

/// Coefficients of all rows at one node, side by side: those of element `e` at `e * width` and
/// behind.
pub(super) struct Held {
    pub(super) values: Vec<f64>,
    /// Elements that are not alive are zero: as a mask, the one of the step named.
    pub(super) alive: Option<usize>,
}

/// One block of rows on its way.
pub(super) struct Pass<'r> {
    pub(super) route: &'r Route<'r>,
    pub(super) count: usize,
    /// The rows and zeros that fill the last vector.
    pub(super) width: usize,
    /// One a row, or none at all.
    pub(super) own: &'r [Own<'r>],
    /// Of each step, where rows with lines of their own want more than others.
    pub(super) wanted: Vec<Option<Vec<bool>>>,
    pub(super) constants: Vec<f64>,
    /// At each node that is still to be visited.
    pub(super) rows: Vec<Option<Held>>,
}

impl<'r> Pass<'r> {
    pub(super) fn new(route: &'r Route<'r>, count: usize, own: &'r [Own<'r>]) -> Self {
        assert!(count <= MOST, "rows come in blocks");
        let width = count.max(1).next_multiple_of(LANES);
        Self {
            route,
            count,
            width,
            own,
            wanted: own.first().map_or(Vec::new(), |own| route.wanted(Some(own))),
            constants: vec![0.0; width],
            rows: (0..=route.trace.steps[0].node).map(|_| None).collect(),
        }
    }

    /// Takes rows in, one after another, over the part of the start node that was asked for.
    pub(super) fn begin(&mut self, rows: &[f64], pool: &mut Pool) {
        let len = rows.len() / self.count.max(1);
        let mut values = pool.take(len * self.width);
        side_by_side(rows, self.width, &mut values);
        let trace = self.route.trace;
        self.join(trace.steps[0].node, trace.asked, Held { values, alive: None }, pool);
    }

    /// Takes single elements in; the step to go on with.
    pub(super) fn begin_units(&mut self, units: &[Unit], pool: &mut Pool) -> usize {
        let step = &self.route.trace.steps[0];
        let shape = &self.route.prepared.graph.nodes()[step.node].shape;
        let place = |unit: &Unit| Unit {
            element: match step.patch {
                Some(patch) => patch.locate(shape, unit.element).expect("the part holds it"),
                None => unit.element,
            },
            factor: unit.factor,
        };
        let units: Vec<Unit> = units.iter().map(place).collect();
        if let Action::Affine { op, inputs } = &step.action
            && let [(input, patch, input_shape)] = &inputs[..]
        {
            let shapes = [&input_shape[..]];
            let site = Site { batch: self.width, inputs: &shapes, output: &step.shape };
            let mut values = pool.take_any(self.width * site.input_len(0));
            if op.op().units_beside(&site, &units, &mut values) {
                self.charge_units(step, &self.route.locals[0], &units);
                self.join(*input, *patch, Held { values, alive: None }, pool);
                return 1;
            }
            pool.give(values);
        }
        let mut values = pool.take(self.width * step.shape.iter().product::<usize>());
        for (row, unit) in units.iter().enumerate() {
            values[unit.element * self.width + row] = unit.factor;
        }
        self.rows[step.node] = Some(Held { values, alive: None });
        0
    }

    pub(super) fn bounds(mut self) -> Vec<f64> {
        self.constants.truncate(self.count);
        let finite = |bound: f64| {
            if bound.is_finite() { bound } else { f64::NEG_INFINITY }
        };
        self.constants.into_iter().map(finite).collect()
    }

    /// The elements whose coefficients matter at a step.
    pub(super) fn wanted(&self, index: usize) -> Option<&[bool]> {
        match self.wanted.get(index) {
            Some(wanted) => wanted.as_deref(),
            None => self.route.locals[index].wanted.as_deref(),
        }
    }

    pub(super) fn step(&mut self, index: usize, pool: &mut Pool) {
        let (step, local) = (&self.route.trace.steps[index], &self.route.locals[index]);
        let mut held = self.rows[step.node].take().expect("a step has coefficients");
        if self.take_off_multipliers(step.node, &mut held.values) {
            held.alive = None;
        }
        let node = &self.route.state.nodes[step.node];
        match &step.action {
            Action::Bound => {
                self.bound(step, &held.values);
                pool.give(held.values);
            }
            Action::Affine { op, inputs } => {
                self.charge_affine(step, local, &held.values, node);
                let outputs = self.through_affine(step, op, inputs, &held, pool);
                pool.give(held.values);
                for ((input, patch, _), part) in inputs.iter().zip(outputs) {
                    self.join(*input, *patch, part, pool);
                }
            }
            Action::Relaxed { inputs } if inputs.len() > 1 => {
                let parts = self.through_planes(step, inputs, &held.values, local, pool);
                pool.give(held.values);
                for ((input, patch, _), values) in inputs.iter().zip(parts) {
                    self.join(*input, *patch, Held { values, alive: None }, pool);
                }
            }
            Action::Relaxed { inputs } => {
                let (input, patch, shape) = &inputs[0];
                let part = match &local.lines {
                    Some(lines) => {
                        self.through_lines(index, &mut held.values, lines, local);
                        let alive = self.wanted(index).is_some().then_some(index);
                        Held { values: held.values, alive }
                    }
                    None => {
                        let place = (*input, *patch, &shape[..]);
                        let part = self.through_select(step, place, &held.values, local, pool);
                        pool.give(held.values);
                        Held { values: part, alive: None }
                    }
                };
                self.join(*input, *patch, part, pool);
            }
        }
    }

    /// Takes `computed` into row `row`'s constant, less `error`.
    pub(super) fn charge(&mut self, row: usize, computed: f64, error: f64) {
        self.constants[row] = add_down(self.constants[row], sub_down(computed, error));
    }

    /// Takes the rows' multipliers of splits off the coefficients of the elements split; whether
    /// there were any.
    fn take_off_multipliers(&mut self, node: usize, rows: &mut [f64]) -> bool {
        let mut any = false;
        for (row, own) in self.own.iter().enumerate() {
            for multiplier in own.multipliers.iter().filter(|m| m.node == node) {
                any = true;
                let coefficient = &mut rows[multiplier.index * self.width + row];
                *coefficient -= multiplier.amount;
                // One rounding, relative to the computed value.
                let size = self.route.state.nodes[node].size[multiplier.index];
                let error = mul_up(mul_up(gamma(2), coefficient.abs()), size);
                // Two float32: the product is exact.
                let shift = multiplier.amount * multiplier.at;
                self.constants[row] = add_down(sub_down(self.constants[row], error), shift);
            }
        }
        any
    }

    /// Adds coefficients to those another path has brought to the same node.
    fn join(&mut self, input: usize, patch: Option<Patch>, part: Held, pool: &mut Pool) {
        let (step, width) = (&self.route.trace.steps[self.route.step_of(input)], self.width);
        let known = self.rows[input].take();
        let len: usize = step.shape.iter().product();
        let same = part.values.len() == width * len; // it lies inside, so it is all of it
        if known.is_none() && same {
            self.rows[input] = Some(part);
            return;
        }
        let shape = &self.route.prepared.graph.nodes()[input].shape;
        let fresh = known.is_none();
        let mut sum = known.map_or_else(|| pool.take(width * len), |held| held.values);
        match (patch, step.patch.or_else(|| Patch::whole(shape))) {
            (Some(patch), Some(into)) if !same => {
                patch.add_beside(&part.values, &into, width, &mut sum);
            }
            _ => sum.iter_mut().zip(&part.values).for_each(|(s, &x)| *s += x),
        }
        if !fresh {
            // Each sum is one rounding from the real one, relative to the computed value.
            let size = cut(&self.route.state.nodes[input].size, shape, step.patch);
            let factor = gamma(2 * len + 16);
            let totals = dots_beside(&sum, width, None, &size);
            for row in 0..self.count {
                let error = mul_up(factor, totals.size[row]);
                self.constants[row] = sub_down(self.constants[row], error);
            }
        }
        pool.give(part.values);
        self.rows[input] = Some(Held { values: sum, alive: None });
    }
}
