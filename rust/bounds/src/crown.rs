//! Bounds of all nodes and of a specification, for one sample.

use aisec_graph::{Interval, Operator, Patch, Site};
use aisec_numeric::Cancelled;
use aisec_numeric::conv::Unit;
use aisec_numeric::rounding::add_down;
use rayon::prelude::*;

use crate::ascent::Tuning;
use crate::backward::{Pool, Route};
use crate::kernels::MOST;
use crate::prepared::Prepared;
use crate::region::Region;
use crate::state::State;
use crate::trace::{Stop, Trace};

/// Height and width of the parts of an image whose elements go together: large enough that
/// laying out a part is shared by several rows, small enough that receptive fields stay small.
const TILE: usize = 2;

/// How intermediate bounds are found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// Interval arithmetic.
    Ibp,
    /// Interval arithmetic, and linear bounds for the output alone.
    CrownIbp,
    /// Interval arithmetic first, then linear bounds for every element whose relaxation it
    /// leaves loose.
    Crown,
    /// `Crown`, and slopes optimised for every row of the output.
    AlphaCrown(Tuning),
}

impl Method {
    /// Whether intermediate bounds are intervals.
    pub(crate) fn by_intervals(self) -> bool {
        matches!(self, Self::Ibp | Self::CrownIbp)
    }
}

/// What is known of linear functions of the output over one region, or over several, one after
/// the other.
#[derive(Debug, Clone, Default)]
pub struct Planes {
    /// Lower bounds, one a row; `-inf` where nothing finite is known.
    pub bounds: Vec<f64>,
    /// `coefficients · x + constant` is at most the row's value at every `x` of the region:
    /// row-major, one row of the input's length each.
    pub coefficients: Vec<f64>,
    /// One a row; `-inf`, with coefficients of zero, where nothing finite is known.
    pub constants: Vec<f64>,
}

/// Bounds one sample at a time; rows are independent, so neither blocks nor threads show.
#[derive(Clone, Copy)]
pub(crate) struct Analysis<'a> {
    pub prepared: &'a Prepared<'a>,
    pub method: Method,
    /// Bytes that the coefficients of one block may take.
    pub block_bytes: usize,
}

/// Multiplications and additions between two looks at the clock, a few seconds' worth.
const WORK: usize = 1 << 33;

/// Units that are bounded together, and the part of the node they lie in.
type Tile = (Option<Patch>, Vec<Unit>);

impl Analysis<'_> {
    /// Lower bounds of `rows` (row-major, each over the output) over the region.
    pub fn margins(&self, region: Region, rows: &[f64]) -> Result<Vec<f64>, Cancelled> {
        let (state, output) = (self.state(region)?, self.prepared.graph.output());
        let mut bounds = self.rows(&state, output, rows, Stop::Nonlinear)?;
        if self.method != Method::Ibp {
            let linear = self.rows(&state, output, rows, Stop::Input)?;
            bounds.iter_mut().zip(linear).for_each(|(bound, linear)| *bound = bound.max(linear));
        }
        if let Method::AlphaCrown(tuning) = self.method {
            self.tune_margins(&state, rows, &tuning, &mut bounds)?;
        }
        Ok(bounds)
    }

    /// Planes over the input below `rows`, and the lower bounds of `margins`.
    pub fn planes(&self, region: Region, rows: &[f64]) -> Result<Planes, Cancelled> {
        self.planes_within(&self.state(region)?, rows)
    }

    /// The same where the bounds of all nodes are known.
    pub fn planes_within(&self, state: &State, rows: &[f64]) -> Result<Planes, Cancelled> {
        let output = self.prepared.graph.output();
        let mut bounds = self.rows(state, output, rows, Stop::Nonlinear)?;
        let trace = Trace::new(self.prepared, state, output, None, Stop::Input);
        let route = Route::new(self.prepared, state, &trace);
        let len: usize = self.prepared.graph.output_len();
        let (mut coefficients, mut constants) = (Vec::new(), Vec::new());
        for block in rows.chunks(len * self.together(&route)) {
            self.prepared.cancel.check()?;
            let found = route.planes(block, block.len() / len, &mut Pool::default());
            coefficients.extend(found.0);
            constants.extend(found.1);
        }
        let width = self.prepared.graph.input_len();
        for ((bound, row), &constant) in
            bounds.iter_mut().zip(coefficients.chunks_exact(width)).zip(&constants)
        {
            *bound = bound.max(add_down(constant, state.region.minimum(row)));
        }
        Ok(Planes { bounds, coefficients, constants })
    }

    /// Bounds and relaxations of every node up to the output.
    pub fn state(&self, region: Region) -> Result<State, Cancelled> {
        let mut state = State::new(region);
        for index in 1..=self.prepared.graph.output() {
            let facts = &self.prepared.nodes[index];
            let carried = self.method != Method::Ibp
                || facts.behind_output
                || (facts.affine_in_input && !state.region.is_box());
            state.push(self.prepared, carried);
            self.refine(&mut state, index)?;
        }
        Ok(state)
    }

    /// Tightens the bounds of the last node where an operator that reads it would gain.
    pub fn refine(&self, state: &mut State, index: usize) -> Result<(), Cancelled> {
        let facts = &self.prepared.nodes[index];
        let only_linear = self.method.by_intervals();
        // Interval arithmetic knows nothing of a ball: even it starts from linear bounds of
        // whatever is affine in the input.
        let skip = if state.region.is_box() {
            only_linear || facts.exact_on_boxes
        } else {
            only_linear && !facts.affine_in_input
        };
        if skip || facts.readers.is_empty() {
            return Ok(());
        }
        for sign in [1.0, -1.0] {
            let loose = self.loose(state, index);
            let units: Vec<Unit> = (0..loose.len())
                .filter(|&element| loose[element])
                .map(|element| Unit { element, factor: sign })
                .collect();
            let bounds = self.units(state, index, &units)?;
            let node = &mut state.nodes[index];
            for (element, bound) in bounds {
                if sign > 0.0 {
                    node.lower[element] = node.lower[element].max(bound);
                } else {
                    node.upper[element] = node.upper[element].min(-bound);
                }
            }
        }
        state.nodes[index].measure();
        Ok(())
    }

    /// The elements of a node that an operator reading it would like to know better.
    pub fn loose(&self, state: &State, index: usize) -> Vec<bool> {
        let graph = self.prepared.graph;
        let node = &state.nodes[index];
        let mut loose = vec![false; node.lower.len()];
        for &reader in &self.prepared.nodes[index].readers {
            let shapes = graph.input_shapes(reader);
            let site = Site { batch: 1, inputs: &shapes, output: &graph.nodes()[reader].shape };
            let input = Interval { lower: &node.lower, upper: &node.upper };
            graph.nodes()[reader].op.mark_loose(&site, input, &mut loose);
        }
        loose
    }

    /// Lower bounds of single elements, times their sign: on images tile by tile, so
    /// that coefficients stay in the receptive field, in blocks otherwise.
    fn units(
        &self,
        state: &State,
        index: usize,
        units: &[Unit],
    ) -> Result<Vec<(usize, f64)>, Cancelled> {
        let groups = match self.tiles(state, index, units) {
            Some(tiles) => tiles,
            None => units.chunks(MOST).map(|units| (None, units.to_vec())).collect(),
        };
        let whole = groups.first().is_some_and(|group| group.0.is_none());
        let shared = whole.then(|| Trace::new(self.prepared, state, index, None, Stop::Input));
        let shared = shared.as_ref().map(|trace| Route::new(self.prepared, state, trace));
        let bounds: Vec<Vec<(usize, f64)>> = groups
            .par_iter()
            .map_init(Pool::default, |pool, (patch, units)| {
                self.prepared.cancel.check()?;
                let own = patch
                    .map(|patch| Trace::new(self.prepared, state, index, Some(patch), Stop::Input));
                let own = own.as_ref().map(|trace| Route::new(self.prepared, state, trace));
                let route = own.as_ref().or(shared.as_ref()).expect("one of the two exists");
                let mut bounds = Vec::with_capacity(units.len());
                for block in units.chunks(self.together(route)) {
                    self.prepared.cancel.check()?;
                    let found = route.unit_bounds(block, pool);
                    bounds.extend(block.iter().map(|unit| unit.element).zip(found));
                }
                Ok(bounds)
            })
            .collect::<Result<_, Cancelled>>()?;
        Ok(bounds.into_iter().flatten().collect())
    }

    /// The elements of an image tile by tile, unless the node has no local way back.
    fn tiles(&self, state: &State, index: usize, units: &[Unit]) -> Option<Vec<Tile>> {
        let &[_, height, width] = self.prepared.graph.nodes()[index].shape.as_slice() else {
            return None;
        };
        let across = width.div_ceil(TILE);
        let patch = |at: usize| {
            let (top, left) = (at / across * TILE, at % across * TILE);
            let (height, width) = (TILE.min(height - top), TILE.min(width - left));
            Patch { top, left, height, width }
        };
        let probe = Trace::new(self.prepared, state, index, Some(patch(0)), Stop::Input);
        probe.steps[0].patch?;
        let mut tiles: Vec<Vec<Unit>> = vec![Vec::new(); height.div_ceil(TILE) * across];
        for unit in units {
            let (row, column) = (unit.element / width % height, unit.element % width);
            tiles[row / TILE * across + column / TILE].push(*unit);
        }
        let tiles = tiles.into_iter().enumerate().filter(|(_, units)| !units.is_empty());
        Some(tiles.map(|(at, units)| (Some(patch(at)), units)).collect())
    }

    /// Lower bounds of dense rows over a node.
    pub fn rows(
        &self,
        state: &State,
        index: usize,
        rows: &[f64],
        stop: Stop,
    ) -> Result<Vec<f64>, Cancelled> {
        let trace = Trace::new(self.prepared, state, index, None, stop);
        let route = Route::new(self.prepared, state, &trace);
        let len: usize = self.prepared.graph.nodes()[index].len();
        let block = len * self.together(&route);
        if rows.len() <= block {
            return Ok(route.lower_bounds(rows, rows.len() / len, &mut Pool::default()));
        }
        let blocks: Vec<Vec<f64>> = rows
            .par_chunks(block)
            .map_init(Pool::default, |pool, block| {
                self.prepared.cancel.check()?;
                Ok(route.lower_bounds(block, block.len() / len, pool))
            })
            .collect::<Result<_, Cancelled>>()?;
        Ok(blocks.into_iter().flatten().collect())
    }

    /// How many rows go together, so that they fit and a deadline is not far away.
    fn together(&self, route: &Route<'_>) -> usize {
        self.block(route.peak()).min(WORK / route.work().max(1)).max(1)
    }

    /// How many rows go together when one keeps up to `peak` coefficients alive.
    pub fn block(&self, peak: usize) -> usize {
        (self.block_bytes / (8 * peak.max(1))).clamp(1, MOST)
    }
}
