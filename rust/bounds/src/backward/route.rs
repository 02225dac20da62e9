//! The way back with the sample's vectors laid out for it, and the bounds that rows get there.

use std::borrow::Cow;

use aisec_graph::beside::one_after_another;
use aisec_graph::{Operator, Patch, Relaxation};
use aisec_numeric::conv::Unit;

use super::pass::Pass;
use super::pool::Pool;
use crate::kernels::MOST;
use crate::prepared::Prepared;
use crate::state::State;
use crate::trace::{Action, Trace};
use crate::tuned::Own;

/// The vectors of one step, cut to its part of the node; shared by all blocks of rows.
pub(super) struct Local<'a> {
    pub(super) weight: Cow<'a, [f64]>,
    pub(super) constant: Option<Cow<'a, [f64]>>,
    pub(super) lines: Option<[Cow<'a, [f64]>; 4]>,
    /// The elements whose coefficients matter, unless all may: the others are held at zero by
    /// their lines, there or further back.
    pub(super) wanted: Option<Vec<bool>>,
}

/// A trace with the sample's vectors laid out for it.
pub(crate) struct Route<'a> {
    pub(super) prepared: &'a Prepared<'a>,
    pub(super) state: &'a State,
    pub(super) trace: &'a Trace<'a>,
    pub(super) locals: Vec<Local<'a>>,
    pub(super) region: Cow<'a, crate::region::Region>,
}

pub(super) fn cut<'a>(values: &'a [f64], shape: &[usize], patch: Option<Patch>) -> Cow<'a, [f64]> {
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
    pub(super) fn wanted(&self, own: Option<&Own>) -> Vec<Option<Vec<bool>>> {
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
    pub(super) fn step_of(&self, node: usize) -> usize {
        let found = self.trace.steps.iter().position(|step| step.node == node);
        found.expect("every input with coefficients is on the trace")
    }

    /// Most coefficients of one row that are alive together.
    pub fn peak(&self) -> usize {
        self.trace.peak
    }

    /// Multiplications and additions of one row, roughly.
    pub fn work(&self) -> usize {
        self.trace.work
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
