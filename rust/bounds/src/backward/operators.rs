//! What each kind of node does to rows that are carried back through it, and what that costs.

use std::borrow::Cow;

use aisec_graph::beside::{Part, Rows, one_after_another};
use aisec_graph::{Operator, Patch, Relaxation, Site};
use aisec_numeric::conv::Unit;
use aisec_numeric::rounding::{add_up, gamma, mul_up};

use super::pass::{Held, Pass};
use super::pool::Pool;
use super::route::{Local, cut};
use crate::kernels::{Lines, MOST, dots_beside, least_beside, lines_beside};
use crate::region::lowered;
use crate::state::NodeState;
use crate::trace::{Source, Step};

impl Pass<'_> {
    pub(super) fn bound(&mut self, step: &Step, rows: &[f64]) {
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
    pub(super) fn charge_affine(
        &mut self,
        step: &Step,
        local: &Local,
        rows: &[f64],
        node: &NodeState,
    ) {
        let Some(factor) = self.affine_factor(step, local) else {
            return;
        };
        let totals = dots_beside(rows, self.width, local.constant.as_deref(), &local.weight);
        for row in 0..self.count {
            let error = add_up(mul_up(factor, totals.size[row]), node.lost);
            self.charge(row, totals.sum[row], error);
        }
    }

    /// [`Pass::charge_affine`] of single elements.
    pub(super) fn charge_units(&mut self, step: &Step, local: &Local, units: &[Unit]) {
        let Some(factor) = self.affine_factor(step, local) else {
            return;
        };
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

    pub(super) fn through_affine(
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
    pub(super) fn through_lines(
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
    pub(super) fn through_planes(
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

    /// Positive coefficients go to the input that bounds the output from below, others to the
    /// one that bounds it from above, or its constant.
    pub(super) fn through_select(
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
}
