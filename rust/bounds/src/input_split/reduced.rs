//! Bounds of a form's rows over a box, by carrying them back unit by unit, and the form that
//! remains once units are known to be active or inactive.
//!
//! Rounding: a row starts as `c · v + k`, `v` the inputs and outputs, within its `error` of the
//! real function. Carrying it through a level of units computes `c + Σ g·row`. By Higham's bounds
//! each level costs at most `gamma·m` with `m >= |c|·|v| + |k|`, and `m` grows by no more than
//! `Σ |g|·(size + |offset / slope|)`. So the error of a bound is at most its row's, plus `Σ |g|·weight`
//! over all units passed, where `weight = error + rounding·(size + |lower| + |upper|)` and
//! `rounding` is gamma times the number of levels.

use std::sync::Arc;

use aisec_numeric::Cancelled;
use aisec_numeric::rounding::{mul_down, mul_up, sub_down, sub_up};

use super::bounder::Bounder;
use super::form::{Form, Level, SPARE};
use super::kernel::{self, LANES, multiply_add, relax};
use crate::Planes;
use crate::kernels::least;

/// How much longer the positive side must be for the line through zero to follow it, as for the
/// graph's own operators: the choice must not hang on a last digit.
const LONGER: f64 = 1.0 + 1e-9;

/// A form and bounds of its units, for a box and all of its parts.
#[derive(Clone)]
pub(super) struct Known {
    pub form: Arc<Form>,
    pub lower: Arc<[f64]>,
    pub upper: Arc<[f64]>,
}

/// Buffers, and what the last call found.
#[derive(Default)]
pub(super) struct Scratch {
    /// Bounds of the units over the last box.
    pub lower: Vec<f64>,
    pub upper: Vec<f64>,
    /// Bounds of the columns: of inputs and of units' outputs, zero where a unit's sign is known.
    below: Vec<f64>,
    above: Vec<f64>,
    lines: Lines,
    /// Lines of the units whose sign is known; the others stay where they are.
    signs: Lines,
    target: Vec<f64>,
    /// Rows, constants and errors before they were carried.
    start: (Vec<f64>, Vec<f64>, Vec<f64>),
    inputs: Vec<f64>,
    /// Units whose rows `target` started from.
    loaded: Vec<usize>,
    constants: Vec<f64>,
    errors: Vec<f64>,
}

/// What a unit's output is replaced by, see [`kernel::Level`].
#[derive(Default)]
struct Lines {
    below: Vec<f64>,
    above: Vec<f64>,
    offset: Vec<f64>,
    weight: Vec<f64>,
}

impl Lines {
    fn clear(&mut self) {
        self.below.clear();
        self.above.clear();
        self.offset.clear();
        self.weight.clear();
    }

    /// The lines of a unit with these bounds: exact where its sign is known.
    fn push(&mut self, l: f64, u: f64) {
        let (below, above, offset) = if l >= 0.0 {
            (1.0, 1.0, 0.0)
        } else if u <= 0.0 {
            (0.0, 0.0, 0.0)
        } else {
            // At least a little, so that the offset's error is one of the coefficient's.
            let slope = (u / (u - l)).clamp(1e-200, 1.0);
            let offset = mul_up(slope, -l).max(sub_up(u, mul_down(slope, u)));
            (f64::from(u8::from(u > -l * LONGER)), slope, offset)
        };
        self.below.push(below);
        self.above.push(above);
        self.offset.push(offset);
    }

    /// Replaces a unit by its row, or leaves it.
    fn push_exact(&mut self, replaced: bool) {
        let slope = f64::from(u8::from(replaced));
        self.below.push(slope);
        self.above.push(slope);
        self.offset.push(0.0);
    }

    fn weigh(&mut self, form: &Form, lower: &[f64], upper: &[f64]) {
        let rounding = form.rounding();
        let from = self.weight.len();
        for unit in from..self.below.len() {
            let own = form.size[unit] + form.error[unit];
            let reach = own + lower[unit].abs() + upper[unit].abs();
            self.weight.push((form.error[unit] + rounding * reach) * (1.0 + SPARE));
        }
    }

    fn level<'a>(
        &'a self,
        range: std::ops::Range<usize>,
        constant: &'a [f64],
    ) -> kernel::Level<'a> {
        kernel::Level {
            below: &self.below[range.clone()],
            above: &self.above[range.clone()],
            offset: &self.offset[range.clone()],
            weight: &self.weight[range.clone()],
            constant: &constant[range],
        }
    }
}

impl Scratch {
    /// Carries the rows in `target`, coefficients of the inputs and all units before level `at`,
    /// back to the inputs; with `signs` through units whose sign is known alone.
    fn carry(&mut self, form: &Form, at: usize, stride: usize, signs: bool) {
        let lines = if signs { &self.signs } else { &self.lines };
        for level in form.levels[..at].iter().rev() {
            let n = level.range.len();
            if n == 0 {
                continue;
            }
            let first = form.width(level);
            let count = self.constants.len();
            self.inputs.resize(count * n, 0.0);
            let lines = lines.level(level.range.clone(), &form.constants);
            for row in 0..count {
                let outputs = &self.target[row * stride + first..][..n];
                let inputs = &mut self.inputs[row * n..][..n];
                let (constant, error) = relax(outputs, lines, inputs);
                self.constants[row] += constant;
                self.errors[row] += error;
            }
            let rows = form.level_rows(level);
            let columns = form.columns(level);
            let vectors = columns.start / LANES..columns.end / LANES;
            let inputs = &self.inputs[..count * n];
            multiply_add(&mut self.target, stride / LANES, inputs, rows, vectors);
        }
    }

    /// Starts from those rows of a level that are `wanted`, each with a factor of 1 or -1.
    fn load(&mut self, form: &Form, level: &Level, signs: &[f64], wanted: impl Fn(usize) -> bool) {
        let columns = form.columns(level);
        let rounding = form.rounding();
        self.target.clear();
        self.constants.clear();
        self.errors.clear();
        self.loaded.clear();
        let rows = form.level_rows(level).chunks_exact(columns.len());
        for (row, unit) in rows.zip(level.range.clone()).filter(|(_, unit)| wanted(*unit)) {
            self.loaded.push(unit);
            for &sign in signs {
                self.target.resize(self.target.len() + columns.start, 0.0);
                self.target.extend(row.iter().map(|a| sign * a));
                self.constants.push(sign * form.constants[unit]);
                self.errors.push(form.error[unit] + rounding * form.size[unit]);
            }
        }
    }

    /// A lower bound of row `row` of what was carried.
    fn least(&self, form: &Form, row: usize, stride: usize, lower: &[f64], upper: &[f64]) -> f64 {
        let coefficients = &self.target[row * stride..][..form.inputs];
        let (mut sum, mut size) = (self.constants[row], self.constants[row].abs());
        for (&a, (&l, &u)) in coefficients.iter().zip(lower.iter().zip(upper)) {
            let term = a * if a > 0.0 { l } else { u };
            sum += term;
            size += term.abs();
        }
        sub_down(sum, self.error(form, row) + form.rounding() * size)
    }

    /// Keeps the rows as they are, for `least_by_signs`.
    fn keep(&mut self) {
        self.start.0.clone_from(&self.target);
        self.start.1.clone_from(&self.constants);
        self.start.2.clone_from(&self.errors);
    }

    /// Lower bounds of some of the rows kept, by intervals of the inputs and of units whose sign is
    /// not known; through the others they are carried back.
    ///
    /// Which units have been eliminated makes no difference: those are among the others.
    fn least_by_signs(
        &mut self,
        form: &Form,
        at: usize,
        stride: usize,
        rows: &[usize],
    ) -> Vec<f64> {
        let known = self.below.len();
        debug_assert!(known <= stride && known + LANES > stride, "all columns have bounds");
        self.target.clear();
        self.constants.clear();
        self.errors.clear();
        for &row in rows {
            self.target.extend_from_slice(&self.start.0[row * stride..][..stride]);
            self.constants.push(self.start.1[row]);
            self.errors.push(self.start.2[row]);
        }
        self.carry(form, at, stride, true);
        let bound = |row: usize| {
            let coefficients = &self.target[row * stride..][..known];
            let (sum, size) = least(coefficients, &self.below, &self.above);
            let (constant, size) = (self.constants[row], size + self.constants[row].abs());
            sub_down(sum + constant, self.error(form, row) + form.rounding() * size)
        };
        (0..rows.len()).map(bound).collect()
    }

    fn error(&self, form: &Form, row: usize) -> f64 {
        self.errors[row] * (1.0 + SPARE) + form.lost
    }

    /// Planes of the specification over a box. Bounds of the units are tightened on the way.
    pub fn planes(&mut self, known: &Known, lower: &[f64], upper: &[f64]) -> Planes {
        let form = &*known.form;
        self.lower.clear();
        self.lower.extend_from_slice(&known.lower);
        self.upper.clear();
        self.upper.extend_from_slice(&known.upper);
        self.below.clear();
        self.below.extend_from_slice(lower);
        self.above.clear();
        self.above.extend_from_slice(upper);
        self.lines.clear();
        self.signs.clear();
        let last = form.levels.len() - 1;
        for (at, level) in form.levels[..last].iter().enumerate() {
            let stride = form.stride(level);
            self.load(form, level, &[1.0, -1.0], |unit| {
                !(known.lower[unit] >= 0.0 || known.upper[unit] <= 0.0)
            });
            self.keep();
            self.carry(form, at, stride, false);
            for row in 0..self.loaded.len() {
                let low = self.least(form, 2 * row, stride, lower, upper);
                let negative = self.least(form, 2 * row + 1, stride, lower, upper);
                self.tighten(self.loaded[row], low, negative);
            }
            let open = |&row: &usize| {
                let unit = self.loaded[row];
                !(self.lower[unit] >= 0.0 || self.upper[unit] <= 0.0)
            };
            let open: Vec<usize> = (0..self.loaded.len()).filter(open).collect();
            let rows: Vec<usize> = open.iter().flat_map(|&row| [2 * row, 2 * row + 1]).collect();
            let bounds = self.least_by_signs(form, at, stride, &rows);
            for (&row, ends) in open.iter().zip(bounds.chunks_exact(2)) {
                self.tighten(self.loaded[row], ends[0], ends[1]);
            }
            for unit in level.range.clone() {
                let (l, u) = (self.lower[unit], self.upper[unit]);
                self.lines.push(l, u);
                let open = !(l >= 0.0 || u <= 0.0);
                self.signs.push_exact(l >= 0.0);
                self.below.push(0.0);
                self.above.push(if open { u } else { 0.0 });
            }
            self.lines.weigh(form, &self.lower, &self.upper);
            self.signs.weight.clone_from(&self.lines.weight);
        }
        self.load(form, &form.levels[last], &[1.0], |_| true);
        self.keep();
        let mut planes = self.finish(form, lower, upper);
        let rows: Vec<usize> = (0..planes.bounds.len()).collect();
        let by_signs = self.least_by_signs(form, last, form.stride(form.specification()), &rows);
        let finite =
            by_signs.into_iter().map(|b| if b.is_finite() { b } else { f64::NEG_INFINITY });
        planes.bounds.iter_mut().zip(finite).for_each(|(bound, b)| *bound = bound.max(b));
        planes
    }

    /// Takes in lower bounds of a unit and of its negative.
    fn tighten(&mut self, unit: usize, low: f64, negative: f64) {
        // NaN compares false.
        if low > self.lower[unit] {
            self.lower[unit] = low;
        }
        if -negative < self.upper[unit] {
            self.upper[unit] = -negative;
        }
    }

    /// The plane below `Σ weights·row` over the box of the last `planes`.
    pub fn combined(
        &mut self,
        known: &Known,
        weights: &[f64],
        lower: &[f64],
        upper: &[f64],
    ) -> Planes {
        let form = &*known.form;
        let level = form.specification();
        let (columns, rounding) = (form.columns(level), form.rounding());
        self.target.clear();
        self.target.resize(columns.end, 0.0);
        let (mut constant, mut error) = (0.0, 0.0);
        let rows = form.level_rows(level).chunks_exact(columns.len());
        for ((row, unit), &weight) in rows.zip(level.range.clone()).zip(weights) {
            let sums = self.target[columns.start..].iter_mut();
            sums.zip(row).for_each(|(sum, a)| *sum += weight * a);
            constant += weight * form.constants[unit];
            error += weight * (form.error[unit] + 2.0 * rounding * form.size[unit]);
        }
        self.constants.clear();
        self.constants.push(constant);
        self.errors.clear();
        self.errors.push(error);
        self.finish(form, lower, upper)
    }

    fn finish(&mut self, form: &Form, lower: &[f64], upper: &[f64]) -> Planes {
        let (last, stride) = (form.levels.len() - 1, form.stride(form.specification()));
        let mut planes =
            Planes { bounds: vec![f64::NEG_INFINITY; self.constants.len()], ..Planes::default() };
        self.carry(form, last, stride, false);
        for row in 0..self.constants.len() {
            let coefficients = &self.target[row * stride..][..form.inputs];
            let constant = sub_down(self.constants[row], self.error(form, row));
            let bound = self.least(form, row, stride, lower, upper);
            if constant.is_finite() && bound.is_finite() {
                planes.coefficients.extend_from_slice(coefficients);
                planes.constants.push(constant);
                planes.bounds[row] = bound;
            } else {
                planes.coefficients.extend(std::iter::repeat_n(0.0, form.inputs));
                planes.constants.push(f64::NEG_INFINITY);
            }
        }
        planes
    }

    /// Which units a form for the last box keeps: the unstable ones, and active ones too where
    /// eliminating them would fill in more than it takes away. `None` where a new form would
    /// hardly be smaller.
    fn kept(&self, form: &Form) -> Option<Vec<bool>> {
        let units = form.units();
        let bounds = self.lower.iter().zip(&self.upper);
        let unstable: Vec<bool> = bounds.map(|(&l, &u)| !(l >= 0.0 || u <= 0.0)).collect();
        // Products behind the bounds of one box: now, without inactive units, unstable ones only.
        let [mut now, mut lean, mut least] = [0; 3];
        let [mut now_before, mut lean_before, mut least_before] = [0; 3];
        let mut loose_before = 0;
        for level in &form.levels {
            let loose = level.range.clone().filter(|&unit| unit >= units || unstable[unit]).count();
            let active = level
                .range
                .clone()
                .filter(|&unit| unit < units && !unstable[unit] && self.lower[unit] >= 0.0)
                .count();
            now += loose * now_before;
            lean += loose * lean_before;
            least += loose * least_before;
            let columns = form.columns(level).len();
            now_before += level.range.len() * columns;
            lean_before += (loose + active) * columns;
            least_before += loose * (form.inputs + loose_before);
            loose_before += loose;
        }
        let (keep_active, cost) = if lean <= least { (true, lean) } else { (false, least) };
        if 8 * cost > 7 * now {
            return None;
        }
        Some((0..units).map(|u| unstable[u] || (keep_active && self.lower[u] >= 0.0)).collect())
    }

    /// What the last `planes` found, for parts of its box: units that became stable are
    /// eliminated once that is worth it.
    pub fn narrowed(&mut self, known: &Known, lower: &[f64], upper: &[f64]) -> Known {
        let form = &*known.form;
        let units = form.units();
        let Some(keep) = self.kept(form) else {
            return Known {
                form: known.form.clone(),
                lower: self.lower.as_slice().into(),
                upper: self.upper.as_slice().into(),
            };
        };
        let kept: Vec<usize> = (0..units).filter(|&unit| keep[unit]).collect();
        self.lines.clear();
        (0..units).for_each(|unit| self.lines.push_exact(!keep[unit] && self.lower[unit] >= 0.0));
        self.lines.weigh(form, &self.lower, &self.upper);
        let mut next = Form {
            inputs: form.inputs,
            levels: Vec::with_capacity(form.levels.len()),
            rows: Vec::new(),
            constants: Vec::new(),
            error: Vec::new(),
            size: Vec::new(),
            lost: 0.0,
        };
        let mut rows = Vec::new();
        for (at, level) in form.levels.iter().enumerate() {
            let stride = form.stride(level);
            self.load(form, level, &[1.0], |unit| unit >= units || keep[unit]);
            self.carry(form, at, stride, false);
            let before = kept.partition_point(|&unit| unit < level.range.start);
            rows.clear();
            for row in 0..self.loaded.len() {
                let values = &self.target[row * stride..][..stride];
                rows.extend_from_slice(&values[..form.inputs]);
                rows.extend(kept[..before].iter().map(|&unit| values[form.inputs + unit]));
                next.constants.push(self.constants[row]);
                next.error.push(self.error(form, row));
            }
            next.push_rows(&rows, form.inputs + before);
        }
        let corners = lower.iter().zip(upper).map(|(l, u)| l.abs().max(u.abs()));
        let reach: Vec<f64> =
            corners.chain(kept.iter().map(|&unit| self.upper[unit].max(0.0))).collect();
        next.measure(&reach);
        let pick = |values: &[f64]| kept.iter().map(|&unit| values[unit]).collect();
        Known { form: Arc::new(next), lower: pick(&self.lower), upper: pick(&self.upper) }
    }
}

/// Bounds by the form that is left of a ReLU network on each box.
pub(super) struct Reduced;

impl Bounder for Reduced {
    type Known = Known;
    type Scratch = Scratch;

    const BUDGET: usize = 8;

    fn planes(
        &self,
        known: &Known,
        lower: &[f64],
        upper: &[f64],
        scratch: &mut Scratch,
    ) -> Result<Planes, Cancelled> {
        Ok(scratch.planes(known, lower, upper))
    }

    fn combined(
        &self,
        known: &Known,
        weights: &[f64],
        lower: &[f64],
        upper: &[f64],
        scratch: &mut Scratch,
    ) -> Result<Planes, Cancelled> {
        Ok(scratch.combined(known, weights, lower, upper))
    }

    fn narrowed(
        &self,
        known: &Known,
        lower: &[f64],
        upper: &[f64],
        scratch: &mut Scratch,
    ) -> Known {
        scratch.narrowed(known, lower, upper)
    }

    fn values(&self, known: &Known, x: &[f64]) -> Vec<f64> {
        known.form.values(x)
    }

    fn gradient(&self, known: &Known, x: &[f64], row: usize) -> Vec<f64> {
        known.form.gradient(x, row)
    }

    fn bytes(&self, known: &Known) -> usize {
        8 * (known.form.rows.len() + 6 * known.form.constants.len())
    }
}
