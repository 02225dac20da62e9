//! alpha-CROWN (Xu et al. 2021, arXiv:2011.13824): slopes are searched in float32, the bounds
//! they give are computed once more in float64.

use aisec_numeric::Cancelled;
use aisec_numeric::rounding::{add_up, gamma, mul_up, sub_down, underflow};
use rayon::prelude::*;

use crate::ascent::{Ascent, Tuning, ascend};
use crate::backward::{Pool, Route};
use crate::crown::Analysis;
use crate::lanes::{Row, Workspace};
use crate::layout::Layout;
use crate::state::State;
use crate::trace::{Stop, Trace};
use crate::tuned::Own;

/// Rows optimised together when memory does not ask for fewer.
const LANES: usize = 16;

impl Analysis<'_> {
    /// Raises lower bounds of `rows` (row-major, dense, over the output); with `tuning.stop`
    /// only of those that are not above zero.
    pub fn tune_margins(
        &self,
        state: &State,
        rows: &[f64],
        tuning: &Tuning,
        bounds: &mut [f64],
    ) -> Result<(), Cancelled> {
        let output = self.prepared.graph.output();
        let open: Vec<usize> =
            (0..bounds.len()).filter(|&row| !(tuning.stop && bounds[row] > 0.0)).collect();
        if open.is_empty() {
            return Ok(());
        }
        let Some(layout) = Layout::new(self.prepared, state, output, &[]) else { return Ok(()) };
        if layout.parameters == 0 {
            return Ok(());
        }
        let len = self.prepared.graph.output_len();
        let dense = |row: usize| &rows[row * len..(row + 1) * len];
        let rows: Vec<Row> = open.iter().map(|&row| Row::new(dense(row), 0.0)).collect();
        let own_state = state.without_free(&layout);
        let judge = Judge::new(self, &layout, state, &own_state);
        let found: Vec<Vec<f64>> = rows
            .par_chunks(self.lanes(&layout))
            .map_init(Workspace::default, |workspace, rows| {
                let mut ascents: Vec<Ascent> = rows
                    .iter()
                    .map(|row| Ascent::new(&layout, std::slice::from_ref(row), vec![1.0], None))
                    .collect();
                ascend(&layout, &mut ascents, tuning, 0.0, false, workspace)?;
                Ok(judge.bounds(&ascents, &mut Pool::default()))
            })
            .collect::<Result<_, Cancelled>>()?;
        for (row, bound) in open.into_iter().zip(found.into_iter().flatten()) {
            bounds[row] = bounds[row].max(bound);
        }
        Ok(())
    }

    /// How many rows are optimised together.
    pub fn lanes(&self, layout: &Layout) -> usize {
        (self.block_bytes / (4 * layout.row_size().max(1))).clamp(1, LANES)
    }
}

/// Bounds optimised rows in float64.
pub(crate) struct Judge<'a> {
    layout: &'a Layout<'a>,
    state: &'a State,
    trace: Trace<'a>,
    own_state: &'a State,
    block: usize,
}

impl<'a> Judge<'a> {
    /// `own_state` is `state` without the free lines of the layout.
    pub fn new(
        analysis: &Analysis<'a>,
        layout: &'a Layout<'a>,
        state: &'a State,
        own_state: &'a State,
    ) -> Self {
        let trace = Trace::new(layout.prepared, own_state, layout.start, None, Stop::Input);
        let block = analysis.block(trace.peak).min(LANES);
        Self { layout, state, trace, own_state, block }
    }

    /// Lower bounds, in real arithmetic, of each row's weighted sum less its right-hand sides over
    /// the part of the region where its cuts hold; `-inf` where nothing finite is known.
    pub fn bounds(&self, ascents: &[Ascent], pool: &mut Pool) -> Vec<f64> {
        let layout = self.layout;
        let route = Route::new(layout.prepared, self.own_state, &self.trace);
        let len = layout.prepared.graph.nodes()[layout.start].len();
        let mut bounds = Vec::with_capacity(ascents.len());
        for block in ascents.chunks(self.block) {
            let mut rows = pool.take(block.len() * len);
            let mut taken = Vec::with_capacity(block.len());
            let mut own = Vec::with_capacity(block.len());
            for (ascent, row) in block.iter().zip(rows.chunks_exact_mut(len)) {
                let sizes = &self.state.nodes[layout.start].size;
                taken.push(combine(ascent.lane.rows, ascent.weights(), row, sizes));
                let (cuts, betas) = (&ascent.lane.cuts, ascent.betas());
                own.push(Own::new(layout, self.state, ascent.parameters(), cuts, betas));
            }
            let found = route.lower_bounds_with(&rows, block.len(), &own, pool);
            let less = found.into_iter().zip(taken).map(|(bound, taken)| sub_down(bound, taken));
            bounds.extend(less.map(|b| if b.is_finite() { b } else { f64::NEG_INFINITY }));
        }
        bounds
    }
}

/// Writes the weighted sum of the rows and returns what must be taken off a bound of it: the
/// weighted right-hand sides and the sum's own rounding errors, for outputs up to `sizes`.
fn combine(rows: &[Row], weights: &[f32], sum: &mut [f64], sizes: &[f64]) -> f64 {
    let (mut rhs, mut error) = (0.0, 0.0);
    let exact = rows.len() == 1 && weights[0] == 1.0;
    let factor = gamma(2 * rows.len() + 4);
    for (row, &weight) in rows.iter().zip(weights) {
        let weight = f64::from(weight);
        rhs = add_up(rhs, if exact { row.rhs } else { mul_up(weight, row.rhs) });
        for &(at, a) in &row.entries {
            let term = weight * a;
            sum[at] += term;
            if !exact {
                let relative = add_up(mul_up(factor, term.abs()), underflow(4));
                error = add_up(error, mul_up(relative, sizes[at]));
            }
        }
    }
    add_up(rhs, error)
}
