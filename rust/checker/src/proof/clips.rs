//! Boxes shrunk to where counterexamples may be.

use super::carry::{Carry, Stop};
use super::certificate::{ClipClaim, ClipRule, Hex};
use super::check::{Part, Tree};
use super::domain::Domain;
use super::number::Number;
use super::region::clip;

impl Tree<'_> {
    /// Bounds found anew, and the box shrunk to the hull of where the clauses may be met.
    pub fn clip<T: Number>(&self, part: Part<T>, claim: &ClipClaim) -> Result<Part<T>, String> {
        let mut domain = part.domain.clipped(self.network, claim.rule)?;
        let mut needed = part.needed;
        let (low, high) = (domain.region.lower.clone(), domain.region.upper.clone());
        let mut hull: Option<(Vec<T>, Vec<T>)> = None;
        for k in 0..needed.len() {
            if !needed[k] {
                continue;
            }
            let count = self.case.clauses[k].rows.len();
            let single =
                |row: usize| (0..count).map(|i| Hex(f64::from(u8::from(i == row)))).collect();
            let mut weights: Vec<Vec<Hex>> = (0..count).map(single).collect();
            weights.extend(
                claim.joint.iter().filter(|joint| joint.clause == k).map(|j| j.weights.clone()),
            );
            let (mut rows, mut shifts) = (Vec::new(), Vec::new());
            for weights in &weights {
                let (row, shift) = self.combined(&domain, k, weights);
                rows.extend(row);
                shifts.push(shift);
            }
            let (cells, region) = (&domain.cells[..], &*domain.region);
            let stop = match claim.rule {
                ClipRule::Signs => Stop::Signs,
                ClipRule::Interval => Stop::Bounds,
            };
            let network = self.network;
            let short = Carry { network, cells, region, stop, multipliers: &[] };
            let len = rows.len() / weights.len();
            let least = short.minima(network.output(), rows[..count * len].to_vec());
            if least.iter().zip(&shifts).any(|(least, shift)| least.plus_down(shift) > T::zero()) {
                needed[k] = false;
                continue;
            }
            let carry = Carry { stop: Stop::Input, ..short };
            let (planes, constants) = carry.planes(rows);
            let planes: Vec<(&[T], T)> = planes
                .chunks_exact(low.len())
                .zip(constants.iter().zip(&shifts).map(|(c, shift)| c.plus_down(shift)))
                .collect();
            let (mut lower, mut upper) = (low.clone(), high.clone());
            let (single, joint) = planes.split_at(count);
            needed[k] = [single, single, joint, joint]
                .iter()
                .flat_map(|planes| planes.iter())
                .all(|(row, constant)| clip(row, constant, &mut lower, &mut upper));
            if needed[k] {
                hull = Some(match hull {
                    None => (lower, upper),
                    Some((l, u)) => (
                        l.into_iter().zip(lower).map(|(a, b)| if b < a { b } else { a }).collect(),
                        u.into_iter().zip(upper).map(|(a, b)| if b > a { b } else { a }).collect(),
                    ),
                });
            }
        }
        if let Some((lower, upper)) = hull {
            domain = domain.within(lower, upper);
        }
        Ok(Part { domain, needed, cheap: false, ..part })
    }

    /// `Σ weight·row` over the output, and a lower bound of `-Σ weight·rhs` less what rounding of
    /// the row may cost.
    pub fn combined<T: Number>(
        &self,
        domain: &Domain<T>,
        k: usize,
        weights: &[Hex],
    ) -> (Vec<T>, T) {
        let clause = &self.case.clauses[k];
        let output = &domain.cells[self.network.output()];
        let mut row = vec![T::zero(); output.lower.len()];
        let (mut constant, mut size) = (T::zero(), T::zero());
        for ((weight, coefficients), rhs) in weights.iter().zip(&clause.rows).zip(&clause.rhs) {
            if weight.0 == 0.0 {
                continue;
            }
            let weight = T::of(weight.0);
            constant = constant.minus_down(&weight.times_up(&T::of(rhs.0)));
            for (i, c) in coefficients.iter().enumerate() {
                row[i].gather(&weight, &T::of(c.0));
                if !T::EXACT {
                    size.gather(&weight.times(&T::of(c.0)).size(), &output.size[i]);
                }
            }
        }
        let terms = 2 * row.len() * clause.rows.len();
        let single = weights.iter().filter(|weight| weight.0 != 0.0).map(|weight| weight.0);
        if !single.eq([1.0]) {
            constant = constant.minus_down(&T::cost(terms, &size, &T::one()));
        }
        (row, constant)
    }
}
