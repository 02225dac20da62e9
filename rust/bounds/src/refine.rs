//! Intermediate bounds with slopes of their own: every element whose relaxation is loose is
//! optimised like a row of the output, layer by layer, each over the bounds found before it.

use aisec_graph::{Activation, Operator};
use aisec_numeric::Cancelled;
use rayon::prelude::*;

use crate::alpha::Judge;
use crate::ascent::{Ascent, Tuning, ascend};
use crate::backward::Pool;
use crate::crown::Analysis;
use crate::lanes::{Row, Workspace};
use crate::layout::{Layout, Sign};
use crate::prepared::Prepared;
use crate::region::Region;
use crate::state::State;

/// Parameters behind one intermediate bound.
pub(crate) struct TunedBound {
    pub node: usize,
    pub element: usize,
    pub upper: bool,
    pub parameters: Vec<f32>,
}

/// How much may be spent on intermediate bounds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Scalar operations.
    pub work: f64,
    /// Passes of one element, at most.
    pub iterations: usize,
    /// Whether to keep the parameters.
    pub record: bool,
}

/// Below this many passes tuning is not worth its setting up.
const FEWEST: usize = 3;

impl Analysis<'_> {
    /// [`Analysis::state`] with tuned intermediate bounds, and the parameters behind them.
    pub fn tuned_state(
        &self,
        region: Region,
        effort: Effort,
    ) -> Result<(State, Vec<TunedBound>), Cancelled> {
        let (mut state, mut tuned) = (State::new(region), Vec::new());
        let mut left = effort.work;
        for index in 1..=self.prepared.graph.output() {
            state.push(self.prepared, true);
            self.refine(&mut state, index)?;
            self.tune(&mut state, index, effort, &mut left, &mut tuned)?;
        }
        Ok((state, tuned))
    }

    /// Bounds that hold where elements have the signs given, never looser than `known`, which
    /// hold everywhere; `None` where no point of the region has these signs.
    pub fn signed_state(&self, known: &State, signs: &[Sign]) -> Result<Option<State>, Cancelled> {
        let mut state = State::new(known.region.clone());
        for index in 0..=self.prepared.graph.output() {
            if index > 0 {
                state.push(self.prepared, true);
            }
            state.narrow(self.prepared, index, known, signs);
            if index > 0 && !state.is_empty(index) {
                self.refine(&mut state, index)?;
            }
            if state.is_empty(index) {
                return Ok(None);
            }
        }
        Ok(Some(state))
    }

    fn tune(
        &self,
        state: &mut State,
        index: usize,
        effort: Effort,
        left: &mut f64,
        tuned: &mut Vec<TunedBound>,
    ) -> Result<(), Cancelled> {
        let facts = &self.prepared.nodes[index];
        if facts.readers.is_empty() || facts.affine_in_input {
            return Ok(()); // nothing on the way to choose
        }
        let nodes = self.prepared.graph.nodes();
        let hinges = facts
            .readers
            .iter()
            .all(|&reader| matches!(nodes[reader].op.activation(), Some(Activation::Hinge { .. })));
        let Some(layout) = Layout::new(self.prepared, state, index, &[]) else { return Ok(()) };
        if layout.parameters == 0 {
            return Ok(());
        }
        let loose = self.loose(state, index).iter().filter(|&&loose| loose).count();
        let cost = (4 * loose.max(1) * layout.work()) as f64;
        // Half of what is left goes into this layer, so that later ones have their share.
        let iterations = ((0.5 * *left / cost) as usize).min(effort.iterations);
        if iterations < FEWEST {
            return Ok(());
        }
        *left -= cost * iterations as f64;
        let tuning = Tuning { iterations, stop: hinges, ..Tuning::default() };
        let mut found = Vec::new();
        let own_state = state.without_free(&layout);
        let judge = Judge::new(self, &layout, state, &own_state);
        let loose = self.loose(state, index);
        let mut gone = vec![false; loose.len()];
        for upper in [false, true] {
            let sign = if upper { -1.0 } else { 1.0 };
            let rows: Vec<Row> = (0..loose.len())
                .filter(|&element| loose[element] && !gone[element])
                .map(|element| Row { entries: vec![(element, sign)], rhs: 0.0 })
                .collect();
            let bounds: Vec<Vec<(usize, f64, Vec<f32>)>> = rows
                .par_chunks(self.lanes(&layout))
                .map_init(Workspace::default, |workspace, rows| {
                    let ascent =
                        |row| Ascent::new(&layout, std::slice::from_ref(row), vec![1.0], None);
                    let mut ascents: Vec<Ascent> = rows.iter().map(ascent).collect();
                    ascend(&layout, &mut ascents, &tuning, 0.0, false, workspace)?;
                    let bounds = judge.bounds(&ascents, &mut Pool::default());
                    Ok(ascents
                        .iter()
                        .zip(bounds)
                        .map(|(ascent, bound)| {
                            let kept = if effort.record { ascent.parameters() } else { &[] };
                            (ascent.lane.rows[0].entries[0].0, bound, kept.to_vec())
                        })
                        .collect())
                })
                .collect::<Result<_, Cancelled>>()?;
            for (element, bound, parameters) in bounds.into_iter().flatten() {
                gone[element] |= hinges && bound > 0.0;
                found.push((element, upper, bound, parameters));
            }
        }
        drop(judge);
        drop(layout);
        let node = &mut state.nodes[index];
        for (element, upper, bound, parameters) in found {
            let better =
                if upper { -bound < node.upper[element] } else { bound > node.lower[element] };
            if better {
                if upper {
                    node.upper[element] = -bound;
                } else {
                    node.lower[element] = bound;
                }
                if effort.record {
                    tuned.push(TunedBound { node: index, element, upper, parameters });
                }
            }
        }
        node.measure();
        Ok(())
    }
}

impl State {
    /// Brings what is known of a node, and the signs of its elements, into the last node's bounds.
    pub(crate) fn narrow(
        &mut self,
        prepared: &Prepared,
        index: usize,
        known: &Self,
        signs: &[Sign],
    ) {
        let (node, known) = (&mut self.nodes[index], &known.nodes[index]);
        for (l, &k) in node.lower.iter_mut().zip(&known.lower) {
            *l = l.max(k);
        }
        for (u, &k) in node.upper.iter_mut().zip(&known.upper) {
            *u = u.min(k);
        }
        let nodes = prepared.graph.nodes();
        for sign in signs.iter().filter(|sign| nodes[sign.node].inputs[0] == index) {
            if sign.positive {
                node.lower[sign.element] = node.lower[sign.element].max(0.0);
            } else {
                node.upper[sign.element] = node.upper[sign.element].min(0.0);
            }
        }
        node.measure();
    }

    /// Whether bounds that all hold contradict each other.
    fn is_empty(&self, index: usize) -> bool {
        let node = &self.nodes[index];
        node.lower.iter().zip(&node.upper).any(|(l, u)| l > u)
    }
}
