//! Intermediate bounds with slopes of their own: every element whose relaxation is loose is
//! optimised like a row of the output, layer by layer, each over the bounds found before it.

use std::sync::Arc;

use aisec_graph::{Activation, Operator};
use aisec_numeric::Cancelled;
use rayon::prelude::*;

use crate::alpha::Judge;
use crate::ascent::{Ascent, Tuning, ascend};
use crate::backward::Pool;
use crate::crown::Analysis;
use crate::inner::{Goal, cost_of, worth};
use crate::lanes::{Row, Workspace};
use crate::layout::{Layout, Sign};
use crate::prepared::Prepared;
use crate::proof::Leaf;
use crate::region::Region;
use crate::state::State;
use crate::warm::Warm;

/// Bounds of the nodes that activations read, by node.
pub(crate) type Known = Arc<Vec<(usize, Vec<f64>, Vec<f64>)>>;

/// What is behind one intermediate bound.
pub(crate) struct TunedBound {
    pub node: usize,
    pub element: usize,
    pub upper: bool,
    pub means: Means,
}

/// What gives a bound.
pub(crate) enum Means {
    Parameters(Vec<f32>),
    /// Parts of the region, each with parameters of its own.
    Parts(Vec<Leaf>),
}

/// A bound that was found: of the element or, of its upper side, of minus the element.
struct Found {
    element: usize,
    upper: bool,
    bound: f64,
    means: Means,
}

/// How much may be spent on intermediate bounds.
#[derive(Clone, Copy)]
pub(crate) struct Effort<'a> {
    /// Scalar operations.
    pub work: f64,
    /// Passes of one element, at most.
    pub iterations: usize,
    /// Scalar operations that branching may cost.
    pub branching: f64,
    /// Domains of one side of an element, at most.
    pub domains: usize,
    /// Whether to keep the parameters.
    pub record: bool,
    /// Parameters to begin with.
    pub warm: Option<&'a Warm<'a>>,
}

/// Passes of a bound that begins with parameters found before.
const FURTHER: usize = 6;

/// Below this many passes tuning is not worth its setting up.
const FEWEST: usize = 3;

impl Analysis<'_> {
    /// [`Analysis::state`] with tuned intermediate bounds, and the parameters behind them; never
    /// looser than `known`.
    pub fn tuned_state(
        &self,
        region: Region,
        known: &Known,
        effort: Effort,
    ) -> Result<(State, Vec<TunedBound>), Cancelled> {
        let (mut state, mut tuned) = (State::new(region), Vec::new());
        let (mut left, mut branching) = (effort.work, effort.branching);
        for index in 1..=self.prepared.graph.output() {
            state.push(self.prepared, true);
            state.narrow_to(self.prepared, index, known, &[]);
            self.refine(&mut state, index)?;
            let left = (&mut left, &mut branching);
            self.tune(&mut state, index, effort, left, &mut tuned)?;
        }
        Ok((state, tuned))
    }

    /// Bounds that hold where elements have the signs given, never looser than `known`, which
    /// hold there too.
    pub fn signed_state(
        &self,
        region: Region,
        known: &Known,
        signs: &[Sign],
    ) -> Result<Signed, Cancelled> {
        let mut state = State::new(region);
        for index in 0..=self.prepared.graph.output() {
            if index > 0 {
                state.push(self.prepared, true);
            }
            state.narrow_to(self.prepared, index, known, signs);
            if index > 0 && state.excluded(index).is_none() {
                self.refine(&mut state, index)?;
            }
            if let Some(element) = state.excluded(index) {
                return Ok(Signed::Nowhere(index, element));
            }
            state.uncross(index);
        }
        Ok(Signed::There(state))
    }

    /// Whether all that reads a node are hinges.
    fn hinges(&self, index: usize) -> bool {
        let nodes = self.prepared.graph.nodes();
        let hinge = |&reader: &usize| {
            matches!(nodes[reader].op.activation(), Some(Activation::Hinge { .. }))
        };
        self.prepared.nodes[index].readers.iter().all(hinge)
    }

    /// Whether the effort suffices to branch bounds of any node.
    pub fn would_branch(&self, state: &State, effort: Effort) -> bool {
        let wanted = |&index: &usize| {
            let facts = &self.prepared.nodes[index];
            !facts.readers.is_empty() && !facts.affine_in_input && self.hinges(index)
        };
        (1..self.prepared.graph.output()).filter(wanted).any(|index| {
            let goals = 2 * self.loose(state, index).iter().filter(|&&loose| loose).count();
            let layout = Layout::new(self.prepared, state, index, &[]);
            layout.is_some_and(|layout| worth(&layout, goals, effort.branching, effort.domains) > 0)
        })
    }

    fn tune(
        &self,
        state: &mut State,
        index: usize,
        effort: Effort,
        (left, branching): (&mut f64, &mut f64),
        tuned: &mut Vec<TunedBound>,
    ) -> Result<(), Cancelled> {
        let facts = &self.prepared.nodes[index];
        if facts.readers.is_empty() || facts.affine_in_input {
            return Ok(()); // nothing on the way to choose
        }
        let hinges = self.hinges(index);
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
        let goals = 2 * loose.iter().filter(|&&loose| loose).count();
        let domains = if hinges { worth(&layout, goals, *branching, effort.domains) } else { 0 };
        for upper in [false, true] {
            let sign = if upper { -1.0 } else { 1.0 };
            let rows: Vec<Row> = (0..loose.len())
                .filter(|&element| loose[element] && !gone[element])
                .map(|element| Row { entries: vec![(element, sign)], rhs: 0.0 })
                .collect();
            let bounds: Vec<Vec<(usize, f64, Vec<f32>)>> = rows
                .par_chunks(self.lanes(&layout))
                .map_init(Workspace::default, |workspace, rows| {
                    let begin = |row: &Row| effort.warm?.tuned(&layout, row.entries[0].0, upper);
                    let starts: Vec<Option<Vec<f32>>> = rows.iter().map(begin).collect();
                    let ascent = |(row, start): (_, &Option<Vec<f32>>)| {
                        Ascent::new(&layout, std::slice::from_ref(row), vec![1.0], start.as_deref())
                    };
                    let mut ascents: Vec<Ascent> = rows.iter().zip(&starts).map(ascent).collect();
                    let warm = starts.iter().all(Option::is_some);
                    let iterations = if warm { iterations.min(FURTHER) } else { iterations };
                    let tuning = Tuning { iterations, ..tuning };
                    ascend(&layout, &mut ascents, &tuning, 0.0, false, workspace)?;
                    ascents.iter_mut().for_each(|ascent| ascent.round(&layout));
                    let bounds = judge.bounds(&ascents, &mut Pool::default());
                    Ok(ascents
                        .iter()
                        .zip(bounds)
                        .map(|(ascent, bound)| {
                            let kept = if effort.record || domains > 0 {
                                ascent.parameters()
                            } else {
                                &[]
                            };
                            (ascent.lane.rows[0].entries[0].0, bound, kept.to_vec())
                        })
                        .collect())
                })
                .collect::<Result<_, Cancelled>>()?;
            for (element, bound, parameters) in bounds.into_iter().flatten() {
                gone[element] |= hinges && bound > 0.0;
                let means = Means::Parameters(parameters);
                found.push(Found { element, upper, bound, means });
            }
        }
        if domains > 0 {
            *branching -= cost_of(&layout, goals, domains);
            let open = |found: &&mut Found| !gone[found.element] && found.bound <= 0.0;
            let mut open: Vec<&mut Found> = found.iter_mut().filter(open).collect();
            let goal = |found: &&mut Found| match &found.means {
                Means::Parameters(start) => {
                    Goal { element: found.element, upper: found.upper, start: start.clone() }
                }
                Means::Parts(_) => unreachable!("only slopes were tuned"),
            };
            let goals: Vec<Goal> = open.iter().map(goal).collect();
            let how = (domains, effort.record);
            let bounds = self.branch(&layout, (state, &own_state), goals, how)?;
            for (found, (bound, leaves)) in open.iter_mut().zip(bounds) {
                if bound > found.bound {
                    (found.bound, found.means) = (bound, Means::Parts(leaves));
                }
            }
        }
        drop(judge);
        drop(layout);
        let node = &mut state.nodes[index];
        for Found { element, upper, bound, means } in found {
            let better =
                if upper { -bound < node.upper[element] } else { bound > node.lower[element] };
            if better {
                if upper {
                    node.upper[element] = -bound;
                } else {
                    node.lower[element] = bound;
                }
                if effort.record {
                    tuned.push(TunedBound { node: index, element, upper, means });
                }
            }
        }
        node.measure();
        Ok(())
    }
}

/// What is known of the part of a region where elements have some signs.
pub(crate) enum Signed {
    There(State),
    /// There is no such point: the bounds of this node's element exclude each other.
    Nowhere(usize, usize),
}

/// Bounds that cross by less, relative to 1 or themselves, prove nothing: other code, which sums in
/// another order, might not see it.
const CROSSING: f64 = 1e-9;

impl State {
    /// Brings what is known of a node, and the signs of its elements, into the last node's bounds.
    pub(crate) fn narrow(
        &mut self,
        prepared: &Prepared,
        index: usize,
        known: &Self,
        signs: &[Sign],
    ) {
        let known = &known.nodes[index];
        self.meet(prepared, index, Some((&known.lower, &known.upper)), signs);
    }

    /// The same of bounds of some nodes.
    fn narrow_to(&mut self, prepared: &Prepared, index: usize, known: &Known, signs: &[Sign]) {
        let known = known.iter().find(|known| known.0 == index);
        self.meet(prepared, index, known.map(|known| (&known.1[..], &known.2[..])), signs);
    }

    fn meet(
        &mut self,
        prepared: &Prepared,
        index: usize,
        known: Option<(&[f64], &[f64])>,
        signs: &[Sign],
    ) {
        let node = &mut self.nodes[index];
        if let Some((lower, upper)) = known {
            node.lower.iter_mut().zip(lower).for_each(|(l, &k)| *l = l.max(k));
            node.upper.iter_mut().zip(upper).for_each(|(u, &k)| *u = u.min(k));
        }
        let nodes = prepared.graph.nodes();
        for sign in signs.iter().filter(|sign| nodes[sign.node].inputs[0] == index) {
            let (lower, upper) = (&mut node.lower[sign.element], &mut node.upper[sign.element]);
            Sign::narrow(f64::from(sign.limit), sign.positive, lower, upper);
        }
        node.measure();
    }

    /// An element whose bounds, which all hold, exclude each other.
    fn excluded(&self, index: usize) -> Option<usize> {
        let node = &self.nodes[index];
        let mut bounds = node.lower.iter().zip(&node.upper);
        bounds.position(|(l, u)| l - u > CROSSING * (1.0 + l.abs()))
    }

    /// Bounds that cross by no more than roundings change places.
    fn uncross(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let bounds = node.lower.iter_mut().zip(&mut node.upper);
        bounds.filter(|(l, u)| l > u).for_each(|(l, u)| std::mem::swap(l, u));
    }

    /// Bounds of the nodes that activations read.
    pub fn known(&self, prepared: &Prepared) -> Known {
        let read = prepared.nodes.iter().enumerate().take(self.nodes.len());
        let read = read.filter(|(_, facts)| !facts.readers.is_empty());
        let bounds = read.map(|(node, _)| {
            (node, self.nodes[node].lower.clone(), self.nodes[node].upper.clone())
        });
        Arc::new(bounds.collect())
    }
}
