//! The tree of boxes, written down for a certificate.

use crate::proof::{BoxNode, BoxProof};

/// More nodes than this are not kept: nobody would read the certificate.
const MAX_NODES: usize = 1 << 21;

/// Where a box has its place in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the whole tree.
    Tree(usize),
    /// Among the nodes that one exploration adds.
    Added(usize),
}

/// The nodes bounded so far; those of boxes that wait are empty.
pub(super) struct Record {
    proof: Option<BoxProof>,
}

impl Record {
    pub fn new(wanted: bool, by_intervals: bool) -> Self {
        Self { proof: wanted.then(|| BoxProof { nodes: vec![BoxNode::default()], by_intervals }) }
    }

    pub fn wanted(&self) -> bool {
        self.proof.is_some()
    }

    pub fn proof(&self) -> Option<&BoxProof> {
        self.proof.as_ref()
    }

    /// Takes in what an exploration of the node `given` found: the node itself if it was bounded,
    /// and the nodes below it. Returns where those begin.
    pub fn add(&mut self, given: usize, own: Option<BoxNode>, mut added: Vec<BoxNode>) -> usize {
        let Some(BoxProof { nodes, .. }) = &mut self.proof else { return 0 };
        let offset = nodes.len();
        let shift = |node: &mut BoxNode| {
            if let Some(halves) = &mut node.halves {
                halves.below += offset;
                halves.above += offset;
            }
        };
        added.iter_mut().for_each(shift);
        nodes.extend(added);
        if let Some(mut own) = own {
            shift(&mut own);
            nodes[given] = own;
        }
        if nodes.len() > MAX_NODES {
            self.proof = None;
        }
        offset
    }
}
