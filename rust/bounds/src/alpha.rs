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
    ///
    /// Slopes are searched twice. The mean of those found first bounds the intermediate nodes
    /// again, which keep the better of both bounds; the second search starts where the first
    /// ended and is half as long.
    pub fn tune_margins(
        &self,
        state: &State,
        rows: &[f64],
        tuning: &Tuning,
        bounds: &mut [f64],
    ) -> Result<(), Cancelled> {
        let output = self.prepared.graph.output();
        let len = self.prepared.graph.output_len();
        let left = |bounds: &[f64]| -> Vec<usize> {
            (0..bounds.len()).filter(|&row| !(tuning.stop && bounds[row] > 0.0)).collect()
        };
        let row = |at: usize| Row::new(&rows[at * len..(at + 1) * len], 0.0);
        let open = left(bounds);
        if open.is_empty() {
            return Ok(());
        }
        let Some(layout) = Layout::new(self.prepared, state, output, &[]) else { return Ok(()) };
        if layout.parameters == 0 {
            return Ok(());
        }
        let first: Vec<Row> = open.iter().map(|&at| row(at)).collect();
        let found = self.search(&layout, state, &first, None, tuning)?;
        for (&at, (bound, _)) in open.iter().zip(&found) {
            bounds[at] = bounds[at].max(*bound);
        }
        let still = left(bounds);
        let slopes: Vec<&[f32]> = (open.iter().zip(&found))
            .filter(|(at, _)| still.contains(at))
            .map(|(_, (_, parameters))| &parameters[..])
            .collect();
        if slopes.is_empty() {
            return Ok(());
        }
        let Some(closer) = self.bound_again(state, &layout, &slopes)? else { return Ok(()) };
        let Some(fresh) = Layout::new(self.prepared, &closer, output, &[]) else { return Ok(()) };
        let starts: Vec<Vec<f32>> =
            slopes.into_iter().map(|slopes| fresh.adapt(&layout, slopes)).collect();
        let second: Vec<Row> = still.iter().map(|&at| row(at)).collect();
        let half = Tuning { iterations: tuning.iterations.div_ceil(2), ..*tuning };
        let found = self.search(&fresh, &closer, &second, Some(&starts), &half)?;
        for (at, (bound, _)) in still.into_iter().zip(found) {
            bounds[at] = bounds[at].max(bound);
        }
        Ok(())
    }

    /// The best bound found for each row, in float64, and the parameters behind it.
    fn search(
        &self,
        layout: &Layout,
        state: &State,
        rows: &[Row],
        starts: Option<&[Vec<f32>]>,
        tuning: &Tuning,
    ) -> Result<Vec<(f64, Vec<f32>)>, Cancelled> {
        let own_state = state.without_free(layout);
        let judge = Judge::new(self, layout, state, &own_state);
        let lanes = self.lanes(layout);
        let found: Vec<Vec<(f64, Vec<f32>)>> = rows
            .par_chunks(lanes)
            .enumerate()
            .map_init(Workspace::default, |workspace, (chunk, rows)| {
                let start = |at: usize| starts.map(|starts| &starts[chunk * lanes + at][..]);
                let ascent = |at: usize| {
                    let row = std::slice::from_ref(&rows[at]);
                    Ascent::new(layout, row, vec![1.0], start(at))
                };
                let mut ascents: Vec<Ascent> = (0..rows.len()).map(ascent).collect();
                ascend(layout, &mut ascents, tuning, 0.0, false, workspace)?;
                let bounds = judge.bounds(&ascents, &mut Pool::default());
                let parameters = ascents.iter().map(|ascent| ascent.parameters().to_vec());
                Ok(bounds.into_iter().zip(parameters).collect())
            })
            .collect::<Result<_, Cancelled>>()?;
        Ok(found.into_iter().flatten().collect())
    }

    /// The state with intermediate bounds that also hold for the mean of the slopes found for
    /// some rows, and these lines; `None` where that bounds nothing tighter.
    fn bound_again(
        &self,
        state: &State,
        layout: &Layout,
        slopes: &[&[f32]],
    ) -> Result<Option<State>, Cancelled> {
        let mut mean = vec![0.0; layout.parameters];
        for slopes in slopes {
            mean.iter_mut().zip(*slopes).for_each(|(sum, &slope)| *sum += slope);
        }
        mean.iter_mut().for_each(|sum| *sum /= slopes.len() as f32);
        let chosen = layout.spread(&mean);
        let mut closer = State::new(state.region.clone());
        let mut tighter = false;
        for index in 1..=layout.start {
            closer.push(self.prepared, true);
            closer.narrow(self.prepared, index, state, &[]);
            if let Some((_, parameters)) = chosen.iter().find(|(node, _)| *node == index) {
                closer.choose(self.prepared, parameters);
            }
            // What is affine in the input has one bound only, and the output is bounded by rows.
            if index < layout.start && !self.prepared.nodes[index].affine_in_input {
                self.refine(&mut closer, index)?;
                let (now, before) = (&closer.nodes[index], &state.nodes[index]);
                tighter |= now.lower != before.lower || now.upper != before.upper;
            }
        }
        Ok(tighter.then_some(closer))
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
                own.push(Own::new(layout, self.state, ascent.parameters(), (cuts, betas)));
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
