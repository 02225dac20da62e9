//! Carries linear rows back through a graph and bounds them from below: CROWN (Zhang et al.
//! 2018, arXiv:1811.00866) with every rounding error accounted for.
//!
//! A row `a` at a node stands for `a · z`. Going back through an operator replaces it by rows
//! at the inputs and a constant such that the sum bounds `a · z` from below. The constant is
//! kept as a float that never exceeds the real one: what floating-point products may have added
//! to the row, measured against the sizes of the values it meets, is taken off it at once.

use std::borrow::Cow;
use std::cell::Cell;

use aisec_graph::beside::{Part, Rows, one_after_another, side_by_side};
use aisec_graph::{Operator, Patch, Relaxation, Site};
use aisec_numeric::conv::Unit;
use aisec_numeric::rounding::{add_down, add_up, gamma, mul_up, sub_down};

use crate::kernels::{LANES, Lines, MOST, dots_beside, least_beside, lines_beside};
use crate::prepared::Prepared;
use crate::region::lowered;
use crate::state::{NodeState, State};
use crate::trace::{Action, Source, Step, Trace};
use crate::tuned::Own;

/// Buffers that are used again from one block of rows to the next, and by the thread's next pool.
pub(crate) struct Pool {
    free: Vec<Vec<f64>>,
}

thread_local! {
    static KEPT: Cell<Vec<Vec<f64>>> = const { Cell::new(Vec::new()) };
}

/// Most buffers, and their length, that are kept.
const BUFFERS: usize = 12;
const LONGEST: usize = 1 << 18;

impl Default for Pool {
    fn default() -> Self {
        Self { free: KEPT.take() }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut kept = std::mem::take(&mut self.free);
        kept.retain(|buffer| buffer.capacity() <= LONGEST);
        // During a thread's end there is nowhere to keep them.
        let _ = KEPT.try_with(|cell| cell.set(kept));
    }
}

impl Pool {
    /// A buffer of `len` zeros.
    pub fn take(&mut self, len: usize) -> Vec<f64> {
        let mut buffer = self.take_any(len);
        buffer.fill(0.0);
        buffer
    }

    /// A buffer of `len` numbers that will be written over: one of that length, which need not be
    /// filled, or the smallest that is long enough.
    fn take_any(&mut self, len: usize) -> Vec<f64> {
        let fitting = self.free.iter().enumerate().filter(|(_, buffer)| buffer.capacity() >= len);
        let best = fitting.min_by_key(|(_, buffer)| (buffer.len() != len, buffer.capacity()));
        let mut buffer = match best.map(|(at, _)| at) {
            Some(at) => self.free.swap_remove(at),
            None => Vec::with_capacity(len),
        };
        buffer.resize(len, 0.0);
        buffer
    }

    fn give(&mut self, buffer: Vec<f64>) {
        if self.free.len() == BUFFERS {
            self.free.swap_remove(0);
        }
        self.free.push(buffer);
    }
}

/// The vectors of one step, cut to its part of the node; shared by all blocks of rows.
struct Local<'a> {
    weight: Cow<'a, [f64]>,
    constant: Option<Cow<'a, [f64]>>,
    lines: Option<[Cow<'a, [f64]>; 4]>,
    /// The elements whose coefficients matter, unless all may: the others are held at zero by
    /// their lines, there or further back.
    wanted: Option<Vec<bool>>,
}

/// A trace with the sample's vectors laid out for it.
pub(crate) struct Route<'a> {
    prepared: &'a Prepared<'a>,
    state: &'a State,
    trace: &'a Trace<'a>,
    locals: Vec<Local<'a>>,
    region: Cow<'a, crate::region::Region>,
}

fn cut<'a>(values: &'a [f64], shape: &[usize], patch: Option<Patch>) -> Cow<'a, [f64]> {
    match patch {
        None => Cow::Borrowed(values),
        Some(patch) => Cow::Owned(patch.gather(shape, values)),
    }
}

impl<'a> Route<'a> {
    pub fn new(prepared: &'a Prepared<'a>, state: &'a State, trace: &'a Trace<'a>) -> Self {
        let mut region = Cow::Borrowed(&state.region);
        let locals = trace
            .steps
            .iter()
            .map(|step| {
                let shape = &prepared.graph.nodes()[step.node].shape;
                if let (0, Some(patch)) = (step.node, step.patch) {
                    region = Cow::Owned(state.region.crop(shape, &patch));
                }
                let cut = |values: &'a [f64]| cut(values, shape, step.patch);
                let node = &state.nodes[step.node];
                let lines = match (&node.relaxation, &step.action) {
                    (
                        Relaxation::Elementwise {
                            lower_slope,
                            lower_offset,
                            upper_slope,
                            upper_offset,
                        },
                        Action::Relaxed { .. },
                    ) => {
                        Some([lower_slope, lower_offset, upper_slope, upper_offset].map(|v| cut(v)))
                    }
                    _ => None,
                };
                let constant = prepared.nodes[step.node].constant.as_deref().map(cut);
                Local { weight: cut(&node.weight), constant, lines, wanted: None }
            })
            .collect();
        let mut route = Self { prepared, state, trace, locals, region };
        for (index, wanted) in route.wanted(None).into_iter().enumerate() {
            route.locals[index].wanted = wanted;
        }
        route
    }

    /// Of each step, the elements whose coefficients matter; rows with lines of their own bring
    /// these for the same elements.
    fn wanted(&self, own: Option<&Own>) -> Vec<Option<Vec<bool>>> {
        let steps = &self.trace.steps;
        let mut found: Vec<Option<Vec<bool>>> = vec![None; steps.len()];
        // Inputs come last.
        for (index, step) in steps.iter().enumerate().rev() {
            found[index] = match (&step.action, &self.locals[index].lines) {
                (Action::Relaxed { .. }, Some([a, b, c, d])) => {
                    let lines = a.iter().zip(b.iter()).zip(c.iter()).zip(d.iter());
                    let mut mask: Vec<bool> = lines
                        .map(|(((&a, &b), &c), &d)| !(a == 0.0 && b == 0.0 && c == 0.0 && d == 0.0))
                        .collect();
                    if let Some(own) = own.and_then(|own| own.at(step.node)) {
                        own.elements().iter().for_each(|&at| mask[at as usize] = true);
                    }
                    mask.contains(&false).then_some(mask)
                }
                // A constant counts wherever the inputs do not.
                (Action::Affine { op, inputs }, _)
                    if op.op().keeps_places() && self.locals[index].constant.is_none() =>
                {
                    let behind = inputs.iter().map(|(input, patch, _)| {
                        let at = self.step_of(*input);
                        found[at].as_ref().filter(|_| steps[at].patch == *patch)
                    });
                    let behind: Option<Vec<&Vec<bool>>> = behind.collect();
                    behind.and_then(|masks| {
                        let (first, rest) = masks.split_first()?;
                        let mut mask = (*first).clone();
                        for other in rest {
                            mask.iter_mut().zip(*other).for_each(|(m, &o)| *m |= o);
                        }
                        Some(mask)
                    })
                }
                _ => None,
            };
        }
        found
    }

    /// Where in the trace a node is visited.
    fn step_of(&self, node: usize) -> usize {
        let found = self.trace.steps.iter().position(|step| step.node == node);
        found.expect("every input with coefficients is on the trace")
    }

    /// Most coefficients of one row that are alive together.
    pub fn peak(&self) -> usize {
        self.trace.peak
    }

    /// Lower bounds of the rows (row-major, over the part the trace was asked for) over the
    /// region; a bound that is not finite is `-inf`.
    pub fn lower_bounds(&self, rows: &[f64], count: usize, pool: &mut Pool) -> Vec<f64> {
        self.lower_bounds_with(rows, count, &[], pool)
    }

    /// [`Route::lower_bounds`] where each row has lines and multipliers of its own, one `Own` a
    /// row, all for the same elements. The route is over a state without the lines that rows have
    /// themselves, and the trace over whole nodes.
    pub fn lower_bounds_with(
        &self,
        rows: &[f64],
        count: usize,
        own: &[Own],
        pool: &mut Pool,
    ) -> Vec<f64> {
        let mut bounds = Vec::with_capacity(count);
        let len = rows.len() / count.max(1);
        for first in (0..count).step_by(MOST) {
            let these = first..count.min(first + MOST);
            let own = own.get(these.clone()).unwrap_or_default();
            let mut pass = Pass::new(self, these.len(), own);
            pass.begin(&rows[these.start * len..these.end * len], pool);
            for index in 0..self.trace.steps.len() {
                pass.step(index, pool);
            }
            bounds.extend(pass.bounds());
        }
        bounds
    }

    /// [`Route::lower_bounds`] of single elements of the start node, times a factor that is 1 or
    /// -1, at most [`MOST`] of them.
    pub fn unit_bounds(&self, units: &[Unit], pool: &mut Pool) -> Vec<f64> {
        let mut pass = Pass::new(self, units.len(), &[]);
        let first = pass.begin_units(units, pool);
        for index in first..self.trace.steps.len() {
            pass.step(index, pool);
        }
        pass.bounds()
    }

    /// Planes over the input that stay below the rows everywhere in the region: coefficients
    /// (row-major) and constants; zero and `-inf` where nothing finite is known. The trace must
    /// start from a whole node and stop at the input; at most [`MOST`] rows.
    pub fn planes(&self, rows: &[f64], count: usize, pool: &mut Pool) -> (Vec<f64>, Vec<f64>) {
        let mut pass = Pass::new(self, count, &[]);
        pass.begin(rows, pool);
        // The input is visited last.
        for (index, step) in self.trace.steps.iter().enumerate() {
            if step.node > 0 {
                pass.step(index, pool);
            }
        }
        let len = self.region.lower().len();
        let mut coefficients = match pass.rows[0].take() {
            Some(held) => one_after_another(&held.values, pass.width),
            None => vec![0.0; count * len],
        };
        coefficients.truncate(count * len);
        pass.constants.truncate(count);
        for (row, constant) in coefficients.chunks_exact_mut(len).zip(&mut pass.constants) {
            if !(constant.is_finite() && row.iter().all(|a| a.is_finite())) {
                row.fill(0.0);
                *constant = f64::NEG_INFINITY;
            }
        }
        (coefficients, pass.constants)
    }
}

/// Coefficients of all rows at one node, side by side: those of element `e` at `e * width` and
/// behind.
struct Held {
    values: Vec<f64>,
    /// Elements that are not alive are zero: as a mask, the one of the step named.
    alive: Option<usize>,
}

/// One block of rows on its way.
struct Pass<'r> {
    route: &'r Route<'r>,
    count: usize,
    /// The rows and zeros that fill the last vector.
    width: usize,
    /// One a row, or none at all.
    own: &'r [Own<'r>],
    /// Of each step, where rows with lines of their own want more than others.
    wanted: Vec<Option<Vec<bool>>>,
    constants: Vec<f64>,
    /// At each node that is still to be visited.
    rows: Vec<Option<Held>>,
}

impl<'r> Pass<'r> {
    fn new(route: &'r Route<'r>, count: usize, own: &'r [Own<'r>]) -> Self {
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
    fn begin(&mut self, rows: &[f64], pool: &mut Pool) {
        let len = rows.len() / self.count.max(1);
        let mut values = pool.take(len * self.width);
        side_by_side(rows, self.width, &mut values);
        let trace = self.route.trace;
        self.join(trace.steps[0].node, trace.asked, Held { values, alive: None }, pool);
    }

    /// Takes single elements in; the step to go on with.
    fn begin_units(&mut self, units: &[Unit], pool: &mut Pool) -> usize {
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

    fn bounds(mut self) -> Vec<f64> {
        self.constants.truncate(self.count);
        let finite = |bound: f64| if bound.is_finite() { bound } else { f64::NEG_INFINITY };
        self.constants.into_iter().map(finite).collect()
    }

    /// The elements whose coefficients matter at a step.
    fn wanted(&self, index: usize) -> Option<&[bool]> {
        match self.wanted.get(index) {
            Some(wanted) => wanted.as_deref(),
            None => self.route.locals[index].wanted.as_deref(),
        }
    }

    fn step(&mut self, index: usize, pool: &mut Pool) {
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
    fn charge(&mut self, row: usize, computed: f64, error: f64) {
        self.constants[row] = add_down(self.constants[row], sub_down(computed, error));
    }

    fn bound(&mut self, step: &Step, rows: &[f64]) {
        let node = &self.route.state.nodes[step.node];
        let len: usize = step.shape.iter().product();
        if step.node == 0 && !self.route.region.is_box() {
            let rows = one_after_another(rows, self.width);
            for (row, coefficients) in rows.chunks_exact(len).take(self.count).enumerate() {
                self.charge(row, self.route.region.minimum(coefficients), 0.0);
            }
            return;
        }
        let (lower, upper) = match step.node {
            0 => (self.route.region.lower(), self.route.region.upper()),
            _ => (&node.lower[..], &node.upper[..]),
        };
        let least = least_beside(rows, self.width, lower, upper);
        for row in 0..self.count {
            self.charge(row, lowered(least.sum[row], least.size[row], len), 0.0);
        }
    }

    /// The constant of an affine operator and the errors of carrying rows back through it.
    ///
    /// With `W` and `c` the operator's matrix and constant, the computed row differs from `a·W`
    /// by at most `gamma(terms)·|a|·|W|`, and the computed `a·c` from the real one by at most
    /// `gamma(length)·|a|·|c|`; `weight >= |W|·|z| + |c|` bounds both. The factor covers the
    /// roundings of the bound itself as well.
    fn charge_affine(&mut self, step: &Step, local: &Local, rows: &[f64], node: &NodeState) {
        let Some(factor) = self.affine_factor(step, local) else { return };
        let totals = dots_beside(rows, self.width, local.constant.as_deref(), &local.weight);
        for row in 0..self.count {
            let error = add_up(mul_up(factor, totals.size[row]), node.lost);
            self.charge(row, totals.sum[row], error);
        }
    }

    /// [`Pass::charge_affine`] of single elements.
    fn charge_units(&mut self, step: &Step, local: &Local, units: &[Unit]) {
        let Some(factor) = self.affine_factor(step, local) else { return };
        let lost = self.route.state.nodes[step.node].lost;
        for (row, unit) in units.iter().enumerate() {
            let constant = local.constant.as_ref().map_or(0.0, |c| unit.factor * c[unit.element]);
            let error = add_up(mul_up(factor, local.weight[unit.element]), lost);
            self.charge(row, constant, error);
        }
    }

    /// `None` where values are only moved.
    fn affine_factor(&self, step: &Step, local: &Local) -> Option<f64> {
        let terms = self.route.prepared.nodes[step.node].terms;
        let moved = terms == 0 && local.constant.is_none();
        (!moved).then(|| gamma(2 * terms.max(local.weight.len()) + 16))
    }

    fn through_affine(
        &self,
        step: &Step,
        op: &Source,
        inputs: &[(usize, Option<Patch>, Vec<usize>)],
        held: &Held,
        pool: &mut Pool,
    ) -> Vec<Held> {
        let route = self.route;
        let shapes: Vec<&[usize]> = inputs.iter().map(|input| &input.2[..]).collect();
        let site = Site { batch: self.width, inputs: &shapes, output: &step.shape };
        let mut parts: Vec<Vec<f64>> =
            (0..inputs.len()).map(|i| pool.take_any(self.width * site.input_len(i))).collect();
        let rows =
            Rows { values: &held.values, alive: held.alive.and_then(|index| self.wanted(index)) };
        let mut views: Vec<Part> = parts
            .iter_mut()
            .zip(inputs)
            .map(|(values, (input, patch, _))| {
                let at = route.step_of(*input);
                let same = route.trace.steps[at].patch == *patch;
                Part { values, wanted: if same { self.wanted(at) } else { None } }
            })
            .collect();
        op.op().vjp_beside(&site, rows, &mut views);
        let alive = held.alive.filter(|_| op.op().keeps_places());
        parts.into_iter().map(|values| Held { values, alive }).collect()
    }

    /// Elements with lines of the row's own have none in `lines`; their terms come on top.
    fn through_lines(
        &mut self,
        index: usize,
        rows: &mut [f64],
        lines: &[Cow<[f64]>; 4],
        local: &Local,
    ) {
        let (node, width) = (self.route.trace.steps[index].node, self.width);
        let len = local.weight.len();
        let lost = self.route.state.nodes[node].lost;
        let factor = gamma(4 * len + 32);
        let own: Vec<_> = self.own.iter().map(|own| own.at(node)).collect();
        let taken: Vec<_> = own
            .iter()
            .enumerate()
            .map(|(row, own)| own.map(|own| own.gather(rows, width, row)))
            .collect();
        let [lower_slope, lower_offset, upper_slope, upper_offset] = lines;
        let (size, alive) = (&local.weight[..], self.wanted(index));
        let lines = Lines { lower_slope, lower_offset, upper_slope, upper_offset, size, alive };
        let mut totals = lines_beside(rows, width, lines);
        for (row, (own, taken)) in own.into_iter().zip(taken).enumerate() {
            if let (Some(own), Some(taken)) = (own, taken) {
                let terms = own.scatter(&taken, rows, width, row);
                totals.sum[row] += terms.0;
                totals.size[row] += terms.1;
            }
        }
        for row in 0..self.count {
            let error = add_up(mul_up(factor, totals.size[row]), lost);
            self.charge(row, totals.sum[row], error);
        }
    }

    /// The coefficients at both inputs; what several outputs read is summed, which the cost of the
    /// step covers, as no sum is longer than the node.
    fn through_planes(
        &mut self,
        step: &Step,
        inputs: &[(usize, Option<Patch>, Vec<usize>)],
        rows: &[f64],
        local: &Local,
        pool: &mut Pool,
    ) -> [Vec<f64>; 2] {
        let width = self.width;
        let node = &self.route.state.nodes[step.node];
        let Relaxation::Planes(planes) = &node.relaxation else {
            unreachable!("two inputs have planes");
        };
        let whole = &self.route.prepared.graph.nodes()[step.node].shape;
        let cut = |values| cut(values, whole, step.patch);
        let none = vec![0.0; local.weight.len()];
        let mut totals = None;
        let parts = [0, 1].map(|slot| {
            let mut part = pool.take_any(rows.len());
            part.copy_from_slice(rows);
            let (lower, upper) = (cut(&planes.lower.slopes[slot]), cut(&planes.upper.slopes[slot]));
            let offsets =
                (slot == 0).then(|| (cut(&planes.lower.offset), cut(&planes.upper.offset)));
            let (lower_offset, upper_offset): (&[f64], &[f64]) = match &offsets {
                Some((lower, upper)) => (lower, upper),
                None => (&none, &none),
            };
            let lines = Lines {
                lower_slope: &lower,
                lower_offset,
                upper_slope: &upper,
                upper_offset,
                size: &local.weight,
                alive: None,
            };
            let sums = lines_beside(&mut part, width, lines);
            totals.get_or_insert(sums);
            match &planes.from[slot] {
                None => part,
                Some(from) => {
                    let len: usize = inputs[slot].2.iter().product();
                    let mut sum = pool.take(width * len);
                    for (values, &at) in part.chunks_exact(width).zip(from.iter()) {
                        let into = &mut sum[at as usize * width..][..width];
                        into.iter_mut().zip(values).for_each(|(sum, &x)| *sum += x);
                    }
                    pool.give(part);
                    sum
                }
            }
        });
        let totals = totals.expect("there are two inputs");
        let factor = gamma(4 * local.weight.len() + 32);
        for row in 0..self.count {
            let error = add_up(mul_up(factor, totals.size[row]), node.lost);
            self.charge(row, totals.sum[row], error);
        }
        parts
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
                self.constants[row] = sub_down(self.constants[row], error);
            }
        }
        any
    }

    /// Positive coefficients go to the input that bounds the output from below, others to the
    /// one that bounds it from above, or its constant.
    fn through_select(
        &mut self,
        step: &Step,
        (input, patch, shape): (usize, Option<Patch>, &[usize]),
        rows: &[f64],
        local: &Local,
        pool: &mut Pool,
    ) -> Vec<f64> {
        let (graph, width) = (self.route.prepared.graph, self.width);
        let node = &self.route.state.nodes[step.node];
        let Relaxation::Select { lower_index, upper_index, upper_offset } = &node.relaxation else {
            unreachable!("affine and elementwise operators are handled before");
        };
        let (own, whole) = (&graph.nodes()[step.node].shape, &graph.nodes()[input].shape);
        let place = |index: usize| match patch {
            None => index,
            Some(patch) => patch.locate(whole, index).expect("the part reads all it selects from"),
        };
        let picks: Vec<(usize, Option<usize>, f64)> = {
            let all: Vec<usize> = (0..lower_index.len()).collect();
            let outputs = step.patch.map_or(all.clone(), |p| p.gather(own, &all));
            let pick =
                |at: usize| (place(lower_index[at]), upper_index[at].map(place), upper_offset[at]);
            outputs.into_iter().map(pick).collect()
        };
        let mut part = pool.take(width * shape.iter().product::<usize>());
        let mut constants = [0.0; MOST];
        for (coefficients, &(below, above, offset)) in rows.chunks_exact(width).zip(&picks) {
            for (row, &a) in coefficients.iter().enumerate() {
                match (a > 0.0, above) {
                    (true, _) => part[below * width + row] += a,
                    (false, Some(above)) => {
                        part[above * width + row] += a;
                        constants[row] += a * offset;
                    }
                    (false, None) => constants[row] += a * offset,
                }
            }
        }
        let factor = gamma(2 * picks.len() + 16);
        let totals = dots_beside(rows, width, None, &local.weight);
        for row in 0..self.count {
            let error = add_up(mul_up(factor, totals.size[row]), node.lost);
            self.charge(row, constants[row], error);
        }
        part
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
