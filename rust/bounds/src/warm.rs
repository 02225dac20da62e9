//! A search that begins where another one ended, over a region of another size.
//!
//! The ends of a tree of signs cover any region, whatever they were found for, and any slopes and
//! multipliers give bounds that hold: what one radius was proven by is where the next one starts.

use aisec_graph::{Activation, Operator};

use crate::layout::{Layout, Sign};
use crate::prepared::Prepared;
use crate::proof::{Inside, Leaf, Parameters, Proof, RootSlopes, Split, USUAL};
use crate::split_tree::Domain;
use crate::state::State;
use crate::tuned::PACKED;

/// What a proof leaves behind.
pub(crate) struct Warm<'a> {
    /// By clause.
    ends: Vec<Vec<End<'a>>>,
    tuned: Vec<&'a RootSlopes>,
    /// Intermediate bounds were branched.
    pub branched: bool,
}

struct End<'a> {
    splits: &'a [Split],
    leaf: Option<&'a Leaf>,
}

impl<'a> Warm<'a> {
    pub fn new(proof: &'a Proof, clauses: usize) -> Self {
        let mut warm = Self { ends: Vec::new(), tuned: Vec::new(), branched: false };
        warm.ends.resize_with(clauses, Vec::new);
        warm.collect(proof);
        warm
    }

    fn collect(&mut self, proof: &'a Proof) {
        self.tuned.extend(&proof.slopes_root);
        self.branched |= !proof.trees.is_empty();
        for leaf in &proof.leaves {
            if let Some(ends) = self.ends.get_mut(leaf.clause) {
                ends.push(End { splits: &leaf.splits, leaf: Some(leaf) });
            }
        }
        for part in &proof.parts {
            match &part.inside {
                Inside::Proof(proof) => self.collect(proof),
                Inside::Nothing { .. } => {
                    let end = || End { splits: &part.splits, leaf: None };
                    for &clause in &part.clauses {
                        if let Some(ends) = self.ends.get_mut(clause) {
                            ends.push(end());
                        }
                    }
                }
            }
        }
    }

    /// Whether a clause was split.
    pub fn is_split(&self, clause: usize) -> bool {
        self.ends[clause].len() > 1
    }

    /// The parameters of one bound of an element, where it was tuned.
    pub fn tuned(&self, layout: &Layout, element: usize, upper: bool) -> Option<Vec<f32>> {
        let rows = (layout.start, (element, upper));
        let found =
            self.tuned.iter().find(|one| one.node == rows.0 && one.rows.contains(&rows.1))?;
        Some(gather(layout, &found.slopes))
    }

    /// The parts of a region to begin with, for a clause: those that its bounds do not exclude.
    pub fn domains(
        &self,
        layout: &Layout,
        state: &State,
        clause: usize,
        weights: &[f32],
    ) -> Vec<Domain> {
        let domain = |end: &End| self.domain(layout, state, clause, weights, end);
        let found: Vec<Domain> = self.ends[clause].iter().filter_map(domain).collect();
        if found.is_empty() { vec![Domain::whole(clause, weights.to_vec())] } else { found }
    }

    fn domain(
        &self,
        layout: &Layout,
        state: &State,
        clause: usize,
        weights: &[f32],
        end: &End,
    ) -> Option<Domain> {
        let mut domain = Domain::whole(clause, weights.to_vec());
        for (at, split) in end.splits.iter().enumerate() {
            let sign = Sign {
                node: activation(layout.prepared, split)?,
                element: split.index,
                limit: split.at as f32,
                positive: split.positive,
            };
            let known = &state.nodes[split.node];
            let open = known.lower[split.index] < split.at && split.at < known.upper[split.index];
            if let Some(cut) = layout.cut(&sign).filter(|_| open) {
                domain.cuts.push(cut);
                domain.betas.push(end.leaf.map_or(0.0, |leaf| leaf.betas[at] as f32));
                continue;
            }
            // The sign is known here: this half is all there is, or it is empty.
            let positive = known.lower[split.index] >= split.at;
            if positive != split.positive && !(positive && known.upper[split.index] <= split.at) {
                return None;
            }
        }
        if let Some(leaf) = end.leaf {
            domain.parameters = gather(layout, &leaf.slopes);
            domain.weights = leaf.weights.iter().map(|&weight| weight as f32).collect();
        }
        Some(domain)
    }
}

/// The activation that a split is meant for: of several that read a node, a hinge where it is at zero.
fn activation(prepared: &Prepared, split: &Split) -> Option<usize> {
    let nodes = prepared.graph.nodes();
    let kinds = prepared.nodes[split.node].readers.iter().filter_map(|&reader| {
        nodes[reader].op.activation().map(|kind| (matches!(kind, Activation::Hinge { .. }), reader))
    });
    let found = kinds.max_by_key(|(hinge, _)| *hinge == (split.at == 0.0));
    found.map(|(_, reader)| reader)
}

/// Parameters of a layout's elements, the usual ones where others are not known.
fn gather(layout: &Layout, slopes: &[(usize, Parameters)]) -> Vec<f32> {
    let mut all = Vec::with_capacity(layout.parameters);
    for free in &layout.activations {
        let known = slopes.iter().find(|(node, _)| *node == free.node).map(|found| &found.1);
        let len = layout.prepared.graph.nodes()[free.node].len();
        for (at, &usual) in free.usual.iter().enumerate() {
            let element = free.at[at % free.at.len()] as usize;
            let value = match known {
                Some(Parameters::Packed(values)) if values[element] != USUAL => {
                    f32::from(values[element]) / PACKED
                }
                Some(Parameters::Each(values)) => values[at / free.at.len() * len + element] as f32,
                _ => usual,
            };
            all.push(value.clamp(free.least[at], free.most[at]));
        }
    }
    all
}
