//! Carries linear rows back through a graph and bounds them from below: CROWN (Zhang et al.
//! 2018, arXiv:1811.00866) with every rounding error accounted for.
//!
//! A row `a` at a node stands for `a · z`. Going back through an operator replaces it by rows
//! at the inputs and a constant such that the sum bounds `a · z` from below. The constant is
//! kept as a float that never exceeds the real one: what floating-point products may have added
//! to the row, measured against the sizes of the values it meets, is taken off it at once.

use std::borrow::Cow;

use aisec_graph::{Operator, Patch, Relaxation, Site};
use aisec_numeric::rounding::{add_down, add_up, gamma, mul_up, sub_down};

use crate::kernels::{Lines, dot, dot_abs, through_lines};
use crate::prepared::Prepared;
use crate::region::box_minimum;
use crate::state::{NodeState, State};
use crate::trace::{Action, Source, Step, Trace};
use crate::tuned::Own;

/// Buffers that are used again from one block of rows to the next.
#[derive(Default)]
pub(crate) struct Pool {
    free: Vec<Vec<f64>>,
}

impl Pool {
    /// A buffer of `len` zeros.
    pub fn take(&mut self, len: usize) -> Vec<f64> {
        let mut buffer = self.free.pop().unwrap_or_default();
        buffer.clear();
        buffer.resize(len, 0.0);
        buffer
    }

    fn give(&mut self, buffer: Vec<f64>) {
        if self.free.len() < 8 {
            self.free.push(buffer);
        }
    }
}

/// The vectors of one step, cut to its part of the node; shared by all blocks of rows.
struct Local<'a> {
    weight: Cow<'a, [f64]>,
    constant: Option<Cow<'a, [f64]>>,
    lines: Option<[Cow<'a, [f64]>; 4]>,
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
                let lines = match &node.relaxation {
                    Relaxation::Elementwise {
                        lower_slope,
                        lower_offset,
                        upper_slope,
                        upper_offset,
                    } => {
                        Some([lower_slope, lower_offset, upper_slope, upper_offset].map(|v| cut(v)))
                    }
                    _ => None,
                };
                let constant = prepared.nodes[step.node].constant.as_deref().map(cut);
                Local { weight: cut(&node.weight), constant, lines }
            })
            .collect();
        Self { prepared, state, trace, locals, region }
    }

    /// Most coefficients of one row that are alive together.
    pub fn peak(&self) -> usize {
        self.trace.peak
    }

    /// Lower bounds of the rows (row-major, over the part the trace was asked for) over the
    /// region; a bound that is not finite is `-inf`.
    pub fn lower_bounds(&self, rows: Vec<f64>, count: usize, pool: &mut Pool) -> Vec<f64> {
        self.lower_bounds_with(rows, count, &[], pool)
    }

    /// [`Route::lower_bounds`] where each row has lines and multipliers of its own, one `Own` a
    /// row. The route is over a state without the lines that rows have themselves, and the trace
    /// over whole nodes.
    pub fn lower_bounds_with(
        &self,
        rows: Vec<f64>,
        count: usize,
        own: &[Own],
        pool: &mut Pool,
    ) -> Vec<f64> {
        let mut pass = self.begin(rows, count, own, pool);
        for (step, local) in self.trace.steps.iter().zip(&self.locals) {
            pass.step(step, local, pool);
        }
        let finite = |bound: f64| if bound.is_finite() { bound } else { f64::NEG_INFINITY };
        pass.constants.into_iter().map(finite).collect()
    }

    /// Planes over the input that stay below the rows everywhere in the region: coefficients
    /// (row-major) and constants; zero and `-inf` where nothing finite is known. The trace must
    /// start from a whole node and stop at the input.
    pub fn planes(&self, rows: Vec<f64>, count: usize, pool: &mut Pool) -> (Vec<f64>, Vec<f64>) {
        let mut pass = self.begin(rows, count, &[], pool);
        // The input is visited last.
        for (step, local) in self.trace.steps.iter().zip(&self.locals) {
            if step.node > 0 {
                pass.step(step, local, pool);
            }
        }
        let len = self.region.lower().len();
        let mut coefficients = pass.rows[0].take().unwrap_or_else(|| vec![0.0; count * len]);
        for (row, constant) in coefficients.chunks_exact_mut(len).zip(&mut pass.constants) {
            if !(constant.is_finite() && row.iter().all(|a| a.is_finite())) {
                row.fill(0.0);
                *constant = f64::NEG_INFINITY;
            }
        }
        (coefficients, pass.constants)
    }

    fn begin<'r>(
        &'r self,
        rows: Vec<f64>,
        count: usize,
        own: &'r [Own],
        pool: &mut Pool,
    ) -> Pass<'r> {
        let start = self.trace.steps[0].node;
        let mut pass = Pass {
            route: self,
            count,
            own,
            constants: vec![0.0; count],
            rows: (0..=start).map(|_| None).collect(),
        };
        pass.join(start, self.trace.asked, rows, pool);
        pass
    }
}

/// One block of rows on its way.
struct Pass<'r> {
    route: &'r Route<'r>,
    count: usize,
    /// One a row, or none at all.
    own: &'r [Own<'r>],
    constants: Vec<f64>,
    /// Coefficients at each node that is still to be visited.
    rows: Vec<Option<Vec<f64>>>,
}

impl Pass<'_> {
    fn step(&mut self, step: &Step, local: &Local, pool: &mut Pool) {
        let mut rows = self.rows[step.node].take().expect("a step has coefficients");
        self.take_off_multipliers(step.node, &mut rows);
        let node = &self.route.state.nodes[step.node];
        match &step.action {
            Action::Bound => {
                self.bound(step, &rows);
                pool.give(rows);
            }
            Action::Affine { op, inputs } => {
                self.charge_affine(step, local, &rows, node);
                let outputs = self.through_affine(step, op, inputs, &rows, pool);
                pool.give(rows);
                for ((input, patch, _), part) in inputs.iter().zip(outputs) {
                    self.join(*input, *patch, part, pool);
                }
            }
            Action::Relaxed { input, patch, shape } => {
                let part = match &local.lines {
                    Some(lines) => self.through_lines(step.node, rows, lines, local),
                    None => {
                        let part =
                            self.through_select(step, (*input, *patch, shape), &rows, local, pool);
                        pool.give(rows);
                        part
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
        let len: usize = step.shape.iter().product();
        let state = self.route.state;
        for (row, coefficients) in rows.chunks_exact(len).enumerate() {
            let minimum = if step.node == 0 {
                self.route.region.minimum(coefficients)
            } else {
                let node = &state.nodes[step.node];
                box_minimum(coefficients, &node.lower, &node.upper)
            };
            self.charge(row, minimum, 0.0);
        }
    }

    /// The constant of an affine operator and the errors of carrying rows back through it.
    ///
    /// With `W` and `c` the operator's matrix and constant, the computed row differs from `a·W`
    /// by at most `gamma(terms)·|a|·|W|`, and the computed `a·c` from the real one by at most
    /// `gamma(length)·|a|·|c|`; `weight >= |W|·|z| + |c|` bounds both. The factor covers the
    /// roundings of the bound itself as well.
    fn charge_affine(&mut self, step: &Step, local: &Local, rows: &[f64], node: &NodeState) {
        let len = local.weight.len();
        let terms = self.route.prepared.nodes[step.node].terms;
        if terms == 0 && local.constant.is_none() {
            return; // values are only moved
        }
        let factor = gamma(2 * terms.max(len) + 16);
        for (row, coefficients) in rows.chunks_exact(len).enumerate() {
            let size = dot_abs(coefficients, &local.weight);
            let error = add_up(mul_up(factor, size), node.lost);
            let constant = local.constant.as_ref().map_or(0.0, |c| dot(coefficients, c));
            self.charge(row, constant, error);
        }
    }

    fn through_affine(
        &self,
        step: &Step,
        op: &Source,
        inputs: &[(usize, Option<Patch>, Vec<usize>)],
        rows: &[f64],
        pool: &mut Pool,
    ) -> Vec<Vec<f64>> {
        let shapes: Vec<&[usize]> = inputs.iter().map(|input| &input.2[..]).collect();
        let site = Site { batch: self.count, inputs: &shapes, output: &step.shape };
        let mut parts: Vec<Vec<f64>> =
            (0..inputs.len()).map(|slot| pool.take(self.count * site.input_len(slot))).collect();
        let mut grads: Vec<&mut [f64]> = parts.iter_mut().map(Vec::as_mut_slice).collect();
        op.op().vjp(&site, &[], &[], rows, &mut grads);
        parts
    }

    /// Elements with lines of the row's own have none in `lines`; their terms come on top.
    fn through_lines(
        &mut self,
        node: usize,
        mut rows: Vec<f64>,
        lines: &[Cow<[f64]>; 4],
        local: &Local,
    ) -> Vec<f64> {
        let len = local.weight.len();
        let lost = self.route.state.nodes[node].lost;
        let factor = gamma(4 * len + 32);
        let [lower_slope, lower_offset, upper_slope, upper_offset] = lines;
        let lines =
            Lines { lower_slope, lower_offset, upper_slope, upper_offset, size: &local.weight };
        for (row, coefficients) in rows.chunks_exact_mut(len).enumerate() {
            let own = self.own.get(row).and_then(|own| own.at(node));
            let taken = own.map(|own| own.gather(coefficients));
            let (mut constant, mut size) = through_lines(coefficients, lines);
            if let (Some(own), Some(taken)) = (own, taken) {
                let terms = own.scatter(&taken, coefficients);
                constant += terms.0;
                size += terms.1;
            }
            self.charge(row, constant, add_up(mul_up(factor, size), lost));
        }
        rows
    }

    /// Takes the rows' multipliers of splits off the coefficients of the elements split.
    fn take_off_multipliers(&mut self, node: usize, rows: &mut [f64]) {
        let len = rows.len() / self.count.max(1);
        for (row, own) in self.own.iter().enumerate() {
            for multiplier in own.multipliers.iter().filter(|m| m.node == node) {
                let coefficient = &mut rows[row * len + multiplier.index];
                *coefficient -= multiplier.amount;
                // One rounding, relative to the computed value.
                let size = self.route.state.nodes[node].size[multiplier.index];
                let error = mul_up(mul_up(gamma(2), coefficient.abs()), size);
                self.constants[row] = sub_down(self.constants[row], error);
            }
        }
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
        let graph = self.route.prepared.graph;
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
        let (len, input_len) = (picks.len(), shape.iter().product());
        let factor = gamma(2 * len + 16);
        let mut part = pool.take(self.count * input_len);
        let blocks = rows.chunks_exact(len).zip(part.chunks_exact_mut(input_len));
        for (row, (coefficients, part)) in blocks.enumerate() {
            let mut constant = 0.0;
            for (&a, &(below, above, offset)) in coefficients.iter().zip(&picks) {
                match (a > 0.0, above) {
                    (true, _) => part[below] += a,
                    (false, Some(above)) => part[above] += a,
                    (false, None) => constant += a * offset,
                }
            }
            let size = dot_abs(coefficients, &local.weight);
            self.charge(row, constant, add_up(mul_up(factor, size), node.lost));
        }
        part
    }

    /// Adds coefficients to those another path has brought to the same node.
    fn join(&mut self, input: usize, patch: Option<Patch>, part: Vec<f64>, pool: &mut Pool) {
        let step = self.route.trace.steps.iter().find(|step| step.node == input);
        let step = step.expect("every input with coefficients is on the trace");
        let known = self.rows[input].take();
        let len: usize = step.shape.iter().product();
        let same = part.len() == self.count * len; // it lies inside, so it is all of it
        if known.is_none() && same {
            self.rows[input] = Some(part);
            return;
        }
        let shape = &self.route.prepared.graph.nodes()[input].shape;
        let fresh = known.is_none();
        let mut sum = known.unwrap_or_else(|| pool.take(self.count * len));
        let part_len = part.len() / self.count.max(1);
        let size = cut(&self.route.state.nodes[input].size, shape, step.patch);
        for (row, sum) in sum.chunks_exact_mut(len).enumerate() {
            let part = &part[row * part_len..][..part_len];
            match (patch, step.patch.or_else(|| Patch::whole(shape))) {
                (Some(patch), Some(into)) if !same => patch.add_to(part, &into, sum),
                _ => sum.iter_mut().zip(part).for_each(|(s, &x)| *s += x),
            }
            if !fresh {
                // Each sum is one rounding from the real one, relative to the computed value.
                let error = mul_up(gamma(2 * len + 16), dot_abs(sum, &size));
                self.constants[row] = sub_down(self.constants[row], error);
            }
        }
        pool.give(part);
        self.rows[input] = Some(sum);
    }
}
