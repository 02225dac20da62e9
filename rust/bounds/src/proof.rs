//! What a certificate is written from: everything a bound was computed with, so that other code
//! can compute it again without searching.
//!
//! A proof covers one region and a list of clauses; a clause is a set of rows over the output
//! with right-hand sides, and is refuted where no output meets `row · y <= rhs` in all of them.
//! For each clause the leaves that name it cover the region: their splits are the ends of a
//! binary tree, or their boxes fill the region's box.

/// A proof that no point of a region, or of a part of it, meets any of some clauses.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Proof {
    /// How the root's intermediate bounds were found; what no entry names has the lines that
    /// `Operator::relax` chooses.
    pub slopes_root: Vec<RootSlopes>,
    /// Bounds over the region or part of every node that an activation reads (and that is not the
    /// input), in topological order. Each follows from the ones before it. Those of parts may be
    /// left out where `Parameters::Packed` are all there are.
    pub bounds: Vec<NodeBounds>,
    /// Where no slopes over the whole region or part give a root bound, but those of parts of it.
    pub trees: Vec<RootTree>,
    pub leaves: Vec<Leaf>,
    /// Parts with a proof of their own, from bounds that are found anew.
    pub parts: Vec<Part>,
}

impl Proof {
    /// Clause and number of splits of everything that ends a branch, of parts as well.
    pub fn ends(&self) -> Vec<(usize, usize)> {
        let mut ends: Vec<(usize, usize)> =
            self.leaves.iter().map(|leaf| (leaf.clause, leaf.splits.len())).collect();
        for part in &self.parts {
            match &part.inside {
                Inside::Nothing { .. } => {
                    ends.extend(part.clauses.iter().map(|&clause| (clause, part.splits.len())));
                }
                Inside::Proof(proof) => ends.extend(proof.ends()),
            }
        }
        ends
    }
}

/// Where some clauses are refuted by a proof of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    pub clauses: Vec<usize>,
    /// From the whole region on.
    pub splits: Vec<Split>,
    pub inside: Inside,
}

/// Why clauses cannot be met in a part.
#[derive(Debug, Clone, PartialEq)]
pub enum Inside {
    /// It holds no point: once its bounds are found anew, those of this node's element exclude each
    /// other.
    Nothing {
        node: usize,
        index: usize,
    },
    Proof(Proof),
}

/// What an activation's lines are chosen by, for all of its elements.
#[derive(Debug, Clone, PartialEq)]
pub enum Parameters {
    /// As `Operator::relax_with` takes them.
    Each(Vec<f64>),
    /// Slopes of ReLU's lower lines in 1/128, or `USUAL`.
    Packed(Vec<u8>),
}

/// The slope that `Operator::relax` chooses.
pub const USUAL: u8 = 255;

/// Parameters of the activations for some of the bounds of one node.
#[derive(Debug, Clone, PartialEq)]
pub struct RootSlopes {
    /// The node that is bounded.
    pub node: usize,
    /// Its elements, and whether their upper bound is meant (their lower one otherwise).
    pub rows: Vec<(usize, bool)>,
    /// Per activation node before it: see [`Leaf::slopes`].
    pub slopes: Vec<(usize, Parameters)>,
}

/// Parts that one bound of an element was found by: the ends of a tree.
#[derive(Debug, Clone, PartialEq)]
pub struct RootTree {
    pub node: usize,
    pub element: usize,
    /// Its upper bound is meant.
    pub upper: bool,
    /// Weights and clauses say nothing.
    pub leaves: Vec<Leaf>,
}

/// Bounds of all elements of one node.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeBounds {
    pub node: usize,
    pub lower: Vec<f64>,
    pub upper: Vec<f64>,
}

/// One part of the region, and why a clause cannot be met in it.
///
/// In the part `min Σ weights·(row · y - rhs)` is at least `bound`, which is above zero: the rows
/// are carried back through lines given by `slopes` over the root's bounds, clamped where a split
/// says so, and `beta · ±(z - at)`, which is not negative there, is taken off on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct Leaf {
    /// Which clause it refutes.
    pub clause: usize,
    pub splits: Vec<Split>,
    /// Per activation node (its own index, not its input's). A node that is not listed has the lines
    /// that `Operator::relax` chooses.
    pub slopes: Vec<(usize, Parameters)>,
    /// One a split, none negative.
    pub betas: Vec<f64>,
    /// One a row of the clause, none negative, not all zero.
    pub weights: Vec<f64>,
    pub bound: f64,
    /// The part's box where the input was split; the whole region otherwise.
    pub lower: Option<Vec<f64>>,
    pub upper: Option<Vec<f64>>,
}

/// The side of a number where one element is that an activation reads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Split {
    /// The node the activation reads.
    pub node: usize,
    pub index: usize,
    /// Zero where the activation is piecewise linear.
    pub at: f64,
    /// The element is at least `at`; at most `at` otherwise.
    pub positive: bool,
}

/// A proof by cutting the region's box, for searches that split the input: nodes in any order,
/// the first is the whole region.
///
/// At every node bounds and lines are found for its box as `Operator::relax` chooses them, by rows
/// carried back, from those of the node above it; before that by rows carried back through
/// elements whose sign is known, or by interval arithmetic. Then, for each clause that is not refuted yet,
/// the box is clipped to where counterexamples may be: by the plane of each row, twice, and by
/// that of its joint condition, twice. A clause for which nothing is left is refuted. What is left
/// for the others, the hull, is cut in two.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BoxProof {
    pub nodes: Vec<BoxNode>,
    /// Whether interval arithmetic comes first.
    pub by_intervals: bool,
}

/// One box.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BoxNode {
    /// At most one a clause.
    pub joint: Vec<Joint>,
    /// `None` where every clause is refuted.
    pub halves: Option<Halves>,
}

/// A condition that follows from those of a clause: `Σ weights·(row · y - rhs) <= 0`.
#[derive(Debug, Clone, PartialEq)]
pub struct Joint {
    pub clause: usize,
    /// One a row of the clause, none negative.
    pub weights: Vec<f64>,
}

/// A box cut at `at` across an input: the nodes of what is at most and at least there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Halves {
    pub input: usize,
    pub at: f64,
    pub below: usize,
    pub above: usize,
}
