//! Bounds and slopes that a proof claims, proven or refused.

use std::sync::Arc;

use rayon::prelude::*;

use super::branches::Branched;
use super::carry::Stop;
use super::cell::{Cell, How};
use super::certificate::{ClaimPart, Hex, NodeClaim, NodeSlopes};
use super::domain::Domain;
use super::lines::Slopes;
use super::network::{Network, Rule};
use super::number::Number;

impl<T: Number> Domain<T> {
    /// Proves bounds that are claimed of the last node, by the slopes that come with them and then
    /// by the usual ones.
    pub(super) fn prove(&mut self, network: &Network, claim: &NodeClaim) -> Result<(), String> {
        let at = claim.node;
        let trees: Vec<&ClaimPart> = claim.by.iter().filter(|by| !by.tree.is_empty()).collect();
        let found: Vec<Vec<T>> = trees
            .par_iter()
            .map(|&claim| Branched { node: at, claim }.prove(network, self))
            .collect::<Result<_, _>>()?;
        for (claim, found) in trees.into_iter().zip(found) {
            let (lower, upper) = found.split_at(claim.lower.len());
            self.adopt(at, false, &claim.lower, lower);
            self.adopt(at, true, &claim.upper, upper);
        }
        for (number, part) in claim.by.iter().enumerate().filter(|(_, by)| by.tree.is_empty()) {
            let drawn = self
                .with_slopes(network, &part.slopes)
                .map_err(|why| format!("bounds of node {at}, part {number}: {why}"))?;
            let mut helper = drawn;
            for upper in [false, true] {
                let elements = if upper { &part.upper } else { &part.lower };
                helper.tighten(network, at, upper, elements, Stop::Input);
            }
            let (from, to) = (&helper.cells[at], &self.cells[at]);
            let cell =
                Cell { lower: from.lower.clone(), upper: from.upper.clone(), ..(**to).clone() };
            self.cells[at] = Arc::new(cell);
        }
        for upper in [false, true] {
            let open = self.unproven(claim, upper);
            self.tighten(network, at, upper, &open, Stop::Input);
            if let Some(element) = self.unproven(claim, upper).first() {
                let (side, cell) = (if upper { "upper" } else { "lower" }, &self.cells[at]);
                let (claimed, proven) = if upper {
                    (claim.upper[*element].0, cell.upper[*element].above())
                } else {
                    (claim.lower[*element].0, cell.lower[*element].below())
                };
                return Err(format!(
                    "node {at}, element {element}: {side} bound {claimed:e} is claimed, {proven:e} is proven"
                ));
            }
        }
        Ok(())
    }

    /// Elements of the last node whose claimed bound is closer than what is known.
    fn unproven(&self, claim: &NodeClaim, upper: bool) -> Vec<usize> {
        let cell = &self.cells[claim.node];
        let holds = |i: usize| {
            if upper {
                cell.upper[i] <= T::of(claim.upper[i].0)
            } else {
                cell.lower[i] >= T::of(claim.lower[i].0)
            }
        };
        (0..cell.lower.len()).filter(|&i| !holds(i)).collect()
    }

    /// The same bounds with lines of other slopes; fails where one is out of range.
    pub fn with_slopes(&self, network: &Network, slopes: &[NodeSlopes]) -> Result<Self, String> {
        let mut drawn = self.clone();
        for part in slopes {
            let (at, Rule::Active(activation)) = (part.node, &network.places[part.node].rule)
            else {
                return Err(format!("node {} has no slopes", part.node));
            };
            if at >= drawn.cells.len() {
                return Err(format!("slopes of node {at}, which comes later"));
            }
            let input = drawn.cells[network.places[at].inputs[0]].clone();
            let (low, high) = activation.range();
            let cell = Arc::make_mut(&mut drawn.cells[at]);
            let How::Lines(lines) = &mut cell.how else { unreachable!("it has lines") };
            let all: Vec<usize>;
            let elements = match &part.at {
                Some(at) => at,
                None => {
                    all = (0..network.places[at].len).collect();
                    &all
                }
            };
            for (number, &element) in elements.iter().enumerate() {
                let pick = |side: &[Hex]| side.get(number).map(|x| x.0);
                let chosen = match &part.packed {
                    None => Slopes { lower: pick(&part.lower), upper: pick(&part.upper) },
                    Some(packed) => match packed.0[number] {
                        None => continue,
                        Some(slope) => {
                            Slopes { lower: Some(f64::from(slope) / 128.0), upper: None }
                        }
                    },
                };
                let inside = |slope: Option<f64>| slope.is_none_or(|s| low <= s && s <= high);
                if !inside(chosen.lower) || !inside(chosen.upper) {
                    return Err(format!(
                        "node {at}, element {element}: slope {:?} or {:?} is not in [{low}, {high}]",
                        chosen.lower, chosen.upper
                    ));
                }
                let line = activation.line(&input.lower[element], &input.upper[element], chosen);
                if !T::EXACT {
                    cell.weight[element] = line.weight(&input.size[element]);
                }
                lines.set(element, line);
            }
        }
        Ok(drawn)
    }
}
