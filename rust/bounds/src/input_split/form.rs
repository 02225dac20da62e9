//! A ReLU network as nothing but its units: every pre-activation an affine function of the inputs
//! and of earlier units' outputs.
//!
//! On a box where most units are active or inactive throughout, those are eliminated for good:
//! an active one is replaced by its row, an inactive one is zero. What is left of a network on a
//! small box is a matrix that fits the first-level cache, and parts of the box inherit it.

use std::ops::Range;

use aisec_graph::{Graph, Op, Operator, Site};
use aisec_numeric::rounding::{add_up, gamma, mul_up};
use aisec_numeric::{Cancel, Cancelled};

use super::kernel::LANES;
use crate::kernels::{dot, dot_abs};
use crate::prepared::Prepared;
use crate::region::Region;
use crate::state::State;

/// Lower and upper ones of all units.
type Bounds = (Vec<f64>, Vec<f64>);

/// Units of a network that is brought into this form; the rounding errors of all the sums here
/// stay below a factor of `1 + SPARE` up to that size.
const MAX_UNITS: usize = 2048;
pub(super) const SPARE: f64 = 1e-9;
/// Wider inputs are not split.
const MAX_INPUTS: usize = 64;
/// Coefficients of the form, and of the rows that are carried back to make it.
const MAX_COEFFICIENTS: usize = 1 << 22;
/// Rows carried back together.
const BLOCK: usize = 64;

/// Units, level by level, and a specification over them.
///
/// Throughout the box it was made for, the real `z` of every row is within `error` of
/// `row · (x, outputs of earlier levels) + constant`.
pub(super) struct Form {
    pub inputs: usize,
    /// One a layer of units; the last one holds the rows of the specification.
    pub levels: Vec<Level>,
    /// Row-major, one level after the other; a row of a level has columns up to the level's
    /// first unit, see [`Form::columns`].
    pub rows: Vec<f64>,
    pub constants: Vec<f64>,
    pub error: Vec<f64>,
    /// At least `|row| · |(x, outputs)| + |constant|`.
    pub size: Vec<f64>,
    /// At least what all underflows together can cost.
    pub lost: f64,
}

/// Rows of a form that do not read each other.
#[derive(Clone)]
pub(super) struct Level {
    pub range: Range<usize>,
    /// Where its rows start.
    pub offset: usize,
    /// The vector of columns, inputs counted, with the first that any of its rows reads; its
    /// rows start there.
    pub first: usize,
}

impl Form {
    pub fn units(&self) -> usize {
        self.specification().range.start
    }

    pub fn specification(&self) -> &Level {
        self.levels.last().expect("the specification is a level")
    }

    /// How many inputs and units there are before the level.
    pub fn width(&self, level: &Level) -> usize {
        self.inputs + level.range.start
    }

    /// How long a row over all columns before the level is.
    pub fn stride(&self, level: &Level) -> usize {
        self.width(level).next_multiple_of(LANES)
    }

    /// The columns that rows of the level have, inputs first, in whole vectors; the last ones, from
    /// `width` on, are padding.
    pub fn columns(&self, level: &Level) -> Range<usize> {
        level.first..self.stride(level)
    }

    pub fn level_rows(&self, level: &Level) -> &[f64] {
        &self.rows[level.offset..level.offset + self.columns(level).len() * level.range.len()]
    }

    /// Adds a level of rows over all columns before it, `width` of them, without vectors that are
    /// zero in all rows.
    pub fn push_rows(&mut self, rows: &[f64], width: usize) {
        let count = rows.len() / width;
        let first = |row: &[f64]| row.iter().position(|&a| a != 0.0).unwrap_or(width - 1);
        let first = rows.chunks_exact(width).map(first).min().unwrap_or(width - 1);
        let first = first / LANES * LANES;
        let (start, offset) = (width - self.inputs, self.rows.len());
        for row in rows.chunks_exact(width) {
            self.rows.extend_from_slice(&row[first..]);
            self.rows.resize(self.rows.len() + width.next_multiple_of(LANES) - width, 0.0);
        }
        self.levels.push(Level { range: start..start + count, offset, first });
    }

    /// The factor that covers all roundings of a sum over the whole form, see `reduced.rs`.
    pub fn rounding(&self) -> f64 {
        let all = gamma(4 * (self.constants.len() + self.inputs) + 64);
        mul_up((self.levels.len() + 4) as f64, all)
    }

    /// Fills `size` and `lost` from the reach of inputs and units.
    pub fn measure(&mut self, reach: &[f64]) {
        let mut sizes = Vec::with_capacity(self.constants.len());
        for level in &self.levels {
            let columns = self.columns(level);
            let rows = self.level_rows(level).chunks_exact(columns.len());
            let known = columns.start..self.width(level);
            sizes.extend(
                rows.map(|row| dot_abs(&row[..known.len()], &reach[known.clone()]) * (1.0 + SPARE)),
            );
        }
        let added = sizes.iter_mut().zip(&self.constants);
        added.for_each(|(size, constant)| *size = add_up(*size, constant.abs()));
        let sum: f64 = reach.iter().chain(&sizes).sum();
        self.lost = 1e-280 * (1.0 + sum);
        self.size = sizes;
    }

    /// The whole network and the rows `spec` over its output, for all of the box; `None` where it
    /// has other operators than affine ones and ReLU, or is too large.
    ///
    /// Returns the form and the bounds of its units as interval arithmetic gives them.
    pub fn of(
        graph: &Graph,
        region: &Region,
        spec: &[f64],
        cancel: &Cancel,
    ) -> Result<Option<(Self, Bounds)>, Cancelled> {
        let nodes = graph.nodes();
        let mut layers = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            if !node.op.is_affine() {
                if !matches!(node.op, Op::Relu(_)) {
                    return Ok(None);
                }
                layers.push(index);
            }
        }
        let units: usize = layers.iter().map(|&layer| nodes[layer].len()).sum();
        let widest = nodes.iter().map(aisec_graph::Node::len).max().unwrap_or(0);
        let count = spec.len() / graph.output_len();
        let all = (units + count).saturating_mul(graph.input_len() + units);
        if graph.input_len() > MAX_INPUTS
            || units + count > MAX_UNITS
            || all > MAX_COEFFICIENTS
            || widest.saturating_mul(BLOCK) > MAX_COEFFICIENTS
        {
            return Ok(None);
        }
        let prepared = Prepared::new(graph, cancel);
        let mut state = State::new(region.clone());
        (1..nodes.len()).for_each(|_| state.push(&prepared, true));
        let mut form = Self {
            inputs: graph.input_len(),
            levels: Vec::new(),
            rows: Vec::new(),
            constants: Vec::new(),
            error: Vec::new(),
            size: Vec::new(),
            lost: 0.0,
        };
        let (mut lower, mut upper) = (Vec::new(), Vec::new());
        let mut reach = state.nodes[0].size.clone();
        let mut columns = vec![None; nodes.len()];
        columns[0] = Some(0);
        let mut start = 0;
        for &layer in &layers {
            let source = nodes[layer].inputs[0];
            let len = nodes[source].len();
            let mut unit = vec![0.0; len];
            let rows = (0..len).map(|element| {
                unit.fill(0.0);
                unit[element] = 1.0;
                unit.clone()
            });
            form.push_level(&prepared, &state, source, rows, &columns, start)?;
            columns[layer] = Some(form.inputs + start);
            start += len;
            lower.extend_from_slice(&state.nodes[source].lower);
            upper.extend_from_slice(&state.nodes[source].upper);
            reach.extend_from_slice(&state.nodes[layer].size);
        }
        let rows = spec.chunks_exact(graph.output_len()).map(<[f64]>::to_vec);
        form.push_level(&prepared, &state, graph.output(), rows, &columns, start)?;
        form.measure(&reach);
        Ok(Some((form, (lower, upper))))
    }

    fn push_level(
        &mut self,
        prepared: &Prepared,
        state: &State,
        node: usize,
        rows: impl Iterator<Item = Vec<f64>>,
        columns: &[Option<usize>],
        start: usize,
    ) -> Result<(), Cancelled> {
        let rows: Vec<Vec<f64>> = rows.collect();
        let mut all = Vec::new();
        for block in rows.chunks(BLOCK) {
            prepared.cancel.check()?;
            let mut carried = Carried {
                width: self.inputs + start,
                rows: vec![0.0; block.len() * (self.inputs + start)],
                constants: vec![0.0; block.len()],
                error: vec![0.0; block.len()],
            };
            carried.collect(prepared, state, node, block.concat(), columns);
            all.extend(carried.rows);
            self.constants.extend(carried.constants);
            self.error.extend(carried.error);
        }
        self.push_rows(&all, self.inputs + start);
        Ok(())
    }

    /// The inputs, then the outputs of all units, then the values of the specification's rows, at
    /// a point of the box, roughly.
    fn forward(&self, x: &[f64]) -> Vec<f64> {
        let mut point = x.to_vec();
        let last = self.units();
        for level in &self.levels {
            let columns = self.columns(level);
            let known = columns.start..self.width(level);
            let rows = self.level_rows(level).chunks_exact(columns.len());
            for (row, unit) in rows.zip(level.range.clone()) {
                let z = dot(&row[..known.len()], &point[known.clone()]) + self.constants[unit];
                point.push(if unit < last { z.max(0.0) } else { z });
            }
        }
        point
    }

    /// The values of the specification's rows at a point of the box, roughly.
    pub fn values(&self, x: &[f64]) -> Vec<f64> {
        self.forward(x).split_off(self.inputs + self.units())
    }

    /// The gradient of a row of the specification at a point of the box, roughly.
    pub fn gradient(&self, x: &[f64], row: usize) -> Vec<f64> {
        let point = self.forward(x);
        let mut slopes = vec![0.0; self.inputs + self.units()];
        for (at, level) in self.levels.iter().enumerate().rev() {
            let columns = self.columns(level);
            let known = columns.start..self.width(level);
            let rows = self.level_rows(level).chunks_exact(columns.len());
            for (offset, (coefficients, unit)) in rows.zip(level.range.clone()).enumerate() {
                let factor = if at + 1 == self.levels.len() {
                    f64::from(u8::from(offset == row))
                } else if point[self.inputs + unit] > 0.0 {
                    slopes[self.inputs + unit]
                } else {
                    0.0
                };
                if factor != 0.0 {
                    let sums = slopes[known.clone()].iter_mut();
                    sums.zip(coefficients).for_each(|(sum, a)| *sum += factor * a);
                }
            }
        }
        slopes.truncate(self.inputs);
        slopes
    }
}

/// A block of rows that is carried back through affine operators only.
struct Carried {
    width: usize,
    rows: Vec<f64>,
    constants: Vec<f64>,
    error: Vec<f64>,
}

impl Carried {
    /// Carries `start`, rows over `node`, to the nodes that have columns.
    fn collect(
        &mut self,
        prepared: &Prepared,
        state: &State,
        node: usize,
        start: Vec<f64>,
        columns: &[Option<usize>],
    ) {
        let nodes = prepared.graph.nodes();
        let count = self.constants.len();
        let mut waiting: Vec<Option<Vec<f64>>> = vec![None; node + 1];
        waiting[node] = Some(start);
        for index in (0..=node).rev() {
            let Some(rows) = waiting[index].take() else { continue };
            let len = nodes[index].len();
            if let Some(column) = columns[index] {
                for (row, part) in
                    self.rows.chunks_exact_mut(self.width).zip(rows.chunks_exact(len))
                {
                    row[column..column + len].copy_from_slice(part);
                }
                continue;
            }
            self.charge(prepared, state, index, &rows);
            let shapes = prepared.graph.input_shapes(index);
            let site = Site { batch: count, inputs: &shapes, output: &nodes[index].shape };
            let mut parts: Vec<Vec<f64>> =
                (0..shapes.len()).map(|slot| vec![0.0; count * site.input_len(slot)]).collect();
            let mut grads: Vec<&mut [f64]> = parts.iter_mut().map(Vec::as_mut_slice).collect();
            nodes[index].op.vjp(&site, &[], &[], &rows, &mut grads);
            for (&input, part) in nodes[index].inputs.iter().zip(parts) {
                match &mut waiting[input] {
                    None => waiting[input] = Some(part),
                    Some(sum) => {
                        sum.iter_mut().zip(&part).for_each(|(s, x)| *s += x);
                        let size = &state.nodes[input].size;
                        for (error, row) in self.error.iter_mut().zip(sum.chunks_exact(size.len()))
                        {
                            let most = mul_up(gamma(2 * size.len() + 16), dot_abs(row, size));
                            *error = add_up(*error, most);
                        }
                    }
                }
            }
        }
    }

    /// Takes in an affine operator's constant, and what carrying rows back through it can be off
    /// by; the errors of both are relative to the operator's weight.
    fn charge(&mut self, prepared: &Prepared, state: &State, index: usize, rows: &[f64]) {
        let (facts, node) = (&prepared.nodes[index], &state.nodes[index]);
        if facts.terms == 0 && facts.constant.is_none() {
            return; // values are only moved
        }
        let len = node.weight.len();
        let factor = gamma(2 * facts.terms.max(len) + 16);
        for (row, coefficients) in rows.chunks_exact(len).enumerate() {
            let mut error = mul_up(factor, dot_abs(coefficients, &node.weight));
            if let Some(constant) = &facts.constant {
                let sum = self.constants[row] + dot(coefficients, constant);
                error = add_up(error, mul_up(f64::EPSILON, sum.abs()));
                self.constants[row] = sum;
            }
            self.error[row] = add_up(self.error[row], add_up(error, node.lost));
        }
    }
}
