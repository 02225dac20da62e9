//! Bounds of single elements by parts: a tree of splits, and slopes and multipliers at its ends.

use super::carry::{Carry, Stop};
use super::certificate::{Branch, ClaimPart, Ends};
use super::check::{Literal, multipliers, need};
use super::domain::Domain;
use super::network::Network;
use super::number::{self, Number};

/// Sides of elements of a node, and the tree they are bounded by.
pub(super) struct Branched<'a> {
    pub node: usize,
    pub claim: &'a ClaimPart,
}

/// Whether the branches are one tree of splits of nodes before `node`, of which `len` gives the sizes.
pub(super) fn check_tree(
    branches: &[Branch],
    node: usize,
    most: usize,
    len: impl Fn(usize) -> usize,
    check: impl Fn(&Ends) -> Result<(), String>,
) -> Result<(), String> {
    // Depths of the parts that are still to come.
    let mut open = vec![0];
    for branch in branches {
        let Some(depth) = open.pop() else {
            return Err(format!("bounds of node {node}: branches after the end of their tree"));
        };
        match branch {
            &Branch::Split(at, index, _) => {
                need(at < node && index < len(at), || {
                    format!("bounds of node {node} cannot be split by element {index} of node {at}")
                })?;
                need(depth < most, || format!("more than {most} splits one below the other"))?;
                open.extend([depth + 1, depth + 1]);
            }
            Branch::Leaf(ends) => {
                need(ends.betas.iter().all(|beta| beta.0 >= 0.0), || {
                    format!("bounds of node {node}: a multiplier is negative")
                })?;
                check(ends)?;
            }
        }
    }
    need(open.is_empty(), || format!("bounds of node {node}: the tree ends before its parts"))
}

impl Branched<'_> {
    /// Lower bounds over a domain whose last cell is the node's: of the elements whose lower bound is
    /// meant, then of what is below zero by those whose upper one is. Where a part has none that is a
    /// number, nor has the whole.
    pub fn prove<T: Number>(
        &self,
        network: &Network,
        domain: &Domain<T>,
    ) -> Result<Vec<T>, String> {
        let len = network.places[self.node].len;
        let sides = self.claim.lower.iter().map(|&i| (i, 1.0));
        let sides: Vec<_> = sides.chain(self.claim.upper.iter().map(|&i| (i, -1.0))).collect();
        let mut rows = vec![T::zero(); sides.len() * len];
        for (row, (element, sign)) in rows.chunks_exact_mut(len).zip(sides) {
            row[element] = T::of(sign);
        }
        let mut least: Option<Vec<T>> = None;
        // Parts that are still to come, and the splits that lead there.
        let mut open: Vec<(Domain<T>, Vec<Literal>)> = vec![(domain.clone(), Vec::new())];
        for branch in &self.claim.tree {
            network.cancel.check().map_err(|_| "cancelled".to_owned())?;
            let (part, path) = open.pop().expect("the branches are one tree");
            match branch {
                Branch::Split(node, index, limit) => {
                    // Below comes first.
                    for above in [true, false] {
                        let mut path = path.clone();
                        path.push((*node, *index, limit.0, above));
                        open.push((part.cut(network, (*node, *index), limit.0, above), path));
                    }
                }
                Branch::Leaf(ends) => {
                    let part = part.with_slopes(network, &ends.slopes)?;
                    let multipliers = multipliers(&path, &ends.betas)?;
                    let (cells, region) = (&part.cells, &*part.region);
                    let stop = Stop::Input;
                    let carry = Carry { network, cells, region, stop, multipliers: &multipliers };
                    let found = carry.minima(self.node, rows.clone());
                    least = Some(match least {
                        None => found,
                        Some(known) => known
                            .into_iter()
                            .zip(found)
                            .map(|(a, b)| number::least([a, b]))
                            .collect(),
                    });
                }
            }
        }
        Ok(least.expect("a tree has ends"))
    }
}
