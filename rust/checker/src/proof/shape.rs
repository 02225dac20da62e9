//! Whether a case fits the network: sizes, indices, and entries that are one tree.

use super::branches::check_tree;
use super::certificate::{Case, Ends, Entry, Hex, MAX_DEPTH, NodeSlopes};
use super::check::{Tree, need};
use super::lines::Activation;
use super::network::{Network, Rule};

impl<'a> Tree<'a> {
    pub fn of(network: &'a Network<'a>, case: &'a Case) -> Result<Self, String> {
        let (inputs, outputs) = (network.places[0].len, network.places[network.output()].len);
        let region = &case.region;
        need(region.lower.len() == inputs && region.upper.len() == inputs, || {
            format!(
                "the region's corners have {} and {} elements, the input has {inputs}",
                region.lower.len(),
                region.upper.len()
            )
        })?;
        let crossed = region.lower.iter().zip(&region.upper).position(|(l, u)| l.0 > u.0);
        need(crossed.is_none(), || {
            format!("lower exceeds upper at element {}", crossed.unwrap_or(0))
        })?;
        if let Some(ball) = &region.ball {
            need(ball.center.len() == inputs && ball.radius.0 >= 0.0, || {
                "the ball does not fit the input, or its radius is negative".to_owned()
            })?;
        }
        for (number, clause) in case.clauses.iter().enumerate() {
            let fits = clause.rows.len() == clause.rhs.len()
                && clause.rows.iter().all(|row| row.len() == outputs);
            need(fits, || {
                format!(
                    "clause {number}: expected rows of {outputs} numbers and as many right-hand sides"
                )
            })?;
        }
        let tree = Self { network, case, second: seconds(&case.proof)? };
        for (at, entry) in case.proof.iter().enumerate() {
            tree.check_entry(entry).map_err(|why| format!("entry {at}: {why}"))?;
        }
        Ok(tree)
    }

    /// Whether everything an entry refers to is there.
    fn check_entry(&self, entry: &Entry) -> Result<(), String> {
        let len = |node: usize| self.network.places.get(node).map(|place| place.len);
        match entry {
            Entry::Maxima(_) => Ok(()),
            Entry::Nothing(node, index) | Entry::Split(node, index, _) => {
                need(len(*node).is_some_and(|n| *index < n), || {
                    format!("there is no element {index} of node {node}")
                })
            }
            Entry::Bounds(claim) => {
                for part in &claim.claims {
                    let n = len(part.node).unwrap_or(0);
                    need(part.node > 0 && part.lower.len() == n && part.upper.len() == n, || {
                        format!("bounds of node {} do not fit it", part.node)
                    })?;
                    for by in &part.by {
                        need(by.lower.iter().chain(&by.upper).all(|&i| i < n), || {
                            format!("node {} has {n} elements", part.node)
                        })?;
                        self.check_slopes(&by.slopes)?;
                        let size = |node: usize| len(node).unwrap_or(0);
                        let ends = |ends: &Ends| self.check_slopes(&ends.slopes);
                        let tree = !by.tree.is_empty();
                        need(!tree || by.slopes.is_empty(), || {
                            format!("bounds of node {}: slopes belong to the parts", part.node)
                        })?;
                        if tree {
                            check_tree(&by.tree, part.node, MAX_DEPTH, size, ends)?;
                        }
                    }
                }
                Ok(())
            }
            Entry::Apart(clauses) => clauses.iter().try_for_each(|&k| self.check_clause(k, None)),
            Entry::Clip(claim) => claim
                .joint
                .iter()
                .try_for_each(|joint| self.check_clause(joint.clause, Some(&joint.weights))),
            Entry::Leaf(refutations) => refutations.iter().try_for_each(|refutation| {
                let (clause, betas) = (refutation.clause, &refutation.betas);
                self.check_clause(clause, Some(&refutation.weights))?;
                need(betas.iter().all(|beta| beta.0 >= 0.0), || {
                    format!("clause {clause}: a multiplier is negative")
                })?;
                self.check_slopes(&refutation.slopes)
            }),
        }
    }

    fn check_clause(&self, clause: usize, weights: Option<&[Hex]>) -> Result<(), String> {
        let Some(spec) = self.case.clauses.get(clause) else {
            return Err(format!("there is no clause {clause}"));
        };
        let fits = weights.is_none_or(|weights| {
            weights.len() == spec.rows.len() && weights.iter().all(|weight| weight.0 >= 0.0)
        });
        need(fits, || format!("clause {clause}: weights must be one a row, none negative"))
    }

    fn check_slopes(&self, slopes: &[NodeSlopes]) -> Result<(), String> {
        slopes.iter().try_for_each(|part| {
            let place = self.network.places.get(part.node);
            let fits = place.is_some_and(|place| {
                let at = part.at.as_deref();
                let count = at.map_or(place.len, <[usize]>::len);
                let sided = |side: &[Hex]| side.is_empty() || side.len() == count;
                let packed = part.packed.as_ref();
                at.is_none_or(|at| at.iter().all(|&i| i < place.len))
                    && match place.rule {
                        Rule::Active(Activation::Hinge(0.0)) if packed.is_some() => {
                            packed.is_some_and(|packed| packed.0.len() == count)
                                && part.lower.is_empty()
                                && part.upper.is_empty()
                        }
                        Rule::Active(_) => {
                            packed.is_none()
                                && at.is_some()
                                && sided(&part.lower)
                                && sided(&part.upper)
                        }
                        _ => false,
                    }
            });
            need(fits, || format!("slopes do not fit node {}", part.node))
        })
    }
}

/// Where the second part of each split starts; fails unless the entries are one binary tree of
/// moderate depth.
fn seconds(proof: &[Entry]) -> Result<Vec<usize>, String> {
    let mut second = vec![0; proof.len()];
    // Depth and end of the part that starts at each entry, from the last one on.
    let mut part: Vec<(usize, usize)> = vec![(0, 0); proof.len()];
    let cut = || "the proof ends before all parts are covered".to_owned();
    for at in (0..proof.len()).rev() {
        let get = |start: usize| part.get(start).copied().ok_or_else(cut);
        part[at] = match &proof[at] {
            Entry::Leaf(_) | Entry::Nothing(..) => (1, at + 1),
            Entry::Maxima(_) if at > 0 => {
                return Err(format!("entry {at}: only the first one can choose the network"));
            }
            Entry::Maxima(_) | Entry::Bounds(_) | Entry::Clip(_) => {
                let (depth, end) = get(at + 1)?;
                (depth + 1, end)
            }
            Entry::Split(..) | Entry::Apart(_) => {
                let (below, middle) = get(at + 1)?;
                let (above, end) = get(middle)?;
                second[at] = middle;
                (below.max(above) + 1, end)
            }
        };
        need(part[at].0 <= MAX_DEPTH, || {
            format!("more than {MAX_DEPTH} splits one below the other")
        })?;
    }
    match part.first() {
        None => Err(cut()),
        Some((_, end)) if *end < proof.len() => {
            Err(format!("entry {end} and what follows is no part of the proof"))
        }
        Some(_) => Ok(second),
    }
}
