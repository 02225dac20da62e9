//! What a certificate is written from, collected while branch and bound goes on.

use aisec_graph::{Activation, Operator};

use crate::layout::{Layout, Sign};
use crate::prepared::Prepared;
use crate::proof::{
    Inside, Leaf, NodeBounds, Parameters, Part, Proof, RootSlopes, RootTree, Split,
};
use crate::refine::{Means, TunedBound};
use crate::split_tree::Refuted;
use crate::state::State;

/// More bytes than this are not kept: nobody would read the certificate.
const MOST: usize = 256 << 20;

/// Parts that bounds were found for, the whole region first; each hangs in an earlier one.
pub(crate) struct Record {
    parts: Option<Vec<Kept>>,
    bytes: usize,
}

struct Kept {
    parent: usize,
    part: Part,
}

impl Record {
    pub fn new(wanted: bool) -> Self {
        Self { parts: wanted.then(Vec::new), bytes: 0 }
    }

    /// Whether anything is kept.
    pub fn wanted(&self) -> bool {
        self.parts.is_some()
    }

    /// Adds a part, and returns its number.
    pub fn add(&mut self, parent: usize, part: Part) -> usize {
        self.bytes += size_of::<Kept>() + part_bytes(&part);
        let Some(parts) = &mut self.parts else { return 0 };
        parts.push(Kept { parent, part });
        let number = parts.len() - 1;
        if self.bytes > MOST {
            self.parts = None;
        }
        number
    }

    /// Adds leaves to a part that is there.
    pub fn extend(&mut self, number: usize, leaves: Vec<Leaf>) {
        self.bytes += leaves.iter().map(leaf_bytes).sum::<usize>();
        if let Some(Kept { part: Part { inside: Inside::Proof(proof), .. }, .. }) =
            self.parts.as_mut().and_then(|parts| parts.get_mut(number))
        {
            proof.leaves.extend(leaves);
        }
        if self.bytes > MOST {
            self.parts = None;
        }
    }

    /// The proof, once everything is refuted.
    pub fn finish(&mut self) -> Option<Proof> {
        let mut parts = self.parts.take()?;
        while parts.len() > 1 {
            let Kept { parent, part } = parts.pop()?;
            let Inside::Proof(above) = &mut parts.get_mut(parent)?.part.inside else { return None };
            above.parts.push(part);
        }
        match parts.pop()?.part.inside {
            Inside::Proof(proof) => Some(proof),
            Inside::Nothing { .. } => None,
        }
    }
}

fn part_bytes(part: &Part) -> usize {
    let splits = size_of_val(&part.splits[..]);
    let Inside::Proof(proof) = &part.inside else { return splits };
    let bounds = proof.bounds.iter().map(|node| 16 * node.lower.len()).sum::<usize>();
    let slopes = proof.slopes_root.iter().map(|row| slopes_bytes(&row.slopes)).sum::<usize>();
    let trees = proof.trees.iter().flat_map(|tree| &tree.leaves).map(leaf_bytes).sum::<usize>();
    splits + bounds + slopes + trees + proof.leaves.iter().map(leaf_bytes).sum::<usize>()
}

fn leaf_bytes(leaf: &Leaf) -> usize {
    let numbers = leaf.betas.len() + leaf.weights.len();
    size_of::<Leaf>() + slopes_bytes(&leaf.slopes) + size_of_val(&leaf.splits[..]) + 8 * numbers
}

fn slopes_bytes(slopes: &[(usize, Parameters)]) -> usize {
    let one = |(_, parameters): &(usize, Parameters)| match parameters {
        Parameters::Each(values) => 48 + 8 * values.len(),
        Parameters::Packed(values) => 48 + values.len(),
    };
    slopes.iter().map(one).sum()
}

/// A proof over bounds of the whole region, or a part of it, without leaves yet. Bounds that slopes
/// of their own are behind are kept, and those that lines have to be drawn from.
pub(crate) fn begun(prepared: &Prepared, state: &State, tuned: &[TunedBound]) -> Option<Proof> {
    let nodes = prepared.graph.nodes();
    let packed = |reader: &usize| {
        matches!(nodes[*reader].op.activation(), Some(Activation::Hinge { slope: 0.0 }))
    };
    let read = |node: &usize| {
        let readers = &prepared.nodes[*node].readers;
        !readers.iter().all(packed) || tuned.iter().any(|tuned| tuned.node == *node)
    };
    let bounds = (1..state.nodes.len()).filter(read).map(|node| NodeBounds {
        node,
        lower: state.nodes[node].lower.clone(),
        upper: state.nodes[node].upper.clone(),
    });
    let (mut slopes_root, mut trees) = (Vec::new(), Vec::new());
    for same in tuned.chunk_by(|a, b| a.node == b.node) {
        let layout = Layout::new(prepared, state, same[0].node, &[])?;
        for &TunedBound { node, element, upper, ref means } in same {
            match means {
                Means::Parameters(parameters) => slopes_root.push(RootSlopes {
                    node,
                    rows: vec![(element, upper)],
                    slopes: layout.pack(parameters),
                }),
                Means::Parts(leaves) => {
                    trees.push(RootTree { node, element, upper, leaves: leaves.clone() });
                }
            }
        }
    }
    Some(Proof { slopes_root, trees, bounds: bounds.collect(), ..Proof::default() })
}

/// The signs of a path as a certificate says them.
pub(crate) fn splits(prepared: &Prepared, signs: &[Sign]) -> Vec<Split> {
    let nodes = prepared.graph.nodes();
    let split = |sign: &Sign| Split {
        node: nodes[sign.node].inputs[0],
        index: sign.element,
        at: f64::from(sign.limit),
        positive: sign.positive,
    };
    signs.iter().map(split).collect()
}

/// A leaf of a tree whose domains begin with the cuts for the last of the signs of `path`, or
/// with none of them.
pub(crate) fn leaf(layout: &Layout, refuted: &Refuted, path: &[Sign], begun: usize) -> Leaf {
    let wide = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
    let (own, all) = (&refuted.cuts[begun..], path.len());
    let signs: Vec<Sign> =
        path.iter().copied().chain(own.iter().map(|cut| layout.sign(cut))).collect();
    let mut betas = vec![0.0; all - begun];
    betas.extend(wide(&refuted.betas));
    Leaf {
        clause: refuted.clause,
        splits: splits(layout.prepared, &signs),
        slopes: layout.pack(&refuted.parameters),
        betas,
        weights: wide(&refuted.weights),
        bound: refuted.bound,
        lower: None,
        upper: None,
    }
}
