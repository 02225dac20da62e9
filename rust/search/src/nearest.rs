//! The nearest adversarial point of a search that sees decisions only.

use crate::search::beyond_rounding;
use crate::{Domain, Outcome, Status};

/// Answers whether a point is adversarial, and keeps the nearest one that is.
///
/// The class alone decides, where scores are given with one reserve: a change of class that
/// float32 rounding of the forward pass could have caused does not count.
#[derive(Debug)]
pub(crate) struct Nearest {
    pub domain: Domain,
    /// Infinite where no point was adversarial.
    pub distance: f64,
    pub forwards: u64,
    label: usize,
    goal: f64,
    x: Vec<f32>,
    margin: f64,
    not_finite: bool,
}

impl Nearest {
    /// `goal` is the distance from which on nearer points are not wanted; 0 wants all.
    pub fn new(domain: Domain, label: usize, goal: f64) -> Self {
        let x = domain.clean().to_vec();
        Self {
            domain,
            distance: f64::INFINITY,
            forwards: 0,
            label,
            goal,
            x,
            margin: f64::INFINITY,
            not_finite: false,
        }
    }

    /// Whether the point at `row` is adversarial.
    pub fn learn(&mut self, row: &[f32], logits: &[f32]) -> bool {
        self.forwards += 1;
        let Some(margin) = crate::loss::margin(logits, self.label) else {
            self.not_finite = true;
            return false;
        };
        let adversarial = beyond_rounding(margin, logits);
        if adversarial {
            // The bound from above is slower: only for what may be nearer.
            let distance = self.domain.length(row);
            if distance < self.distance {
                self.distance = self.domain.distance(row).min(self.distance);
                self.margin = margin;
                self.x.copy_from_slice(row);
            }
        }
        adversarial
    }

    /// Whether a point is near enough, or nothing is left to gain.
    pub fn reached(&self) -> bool {
        self.distance <= self.goal
    }

    pub fn finish(self) -> Outcome {
        let status = match (self.distance.is_finite(), self.not_finite) {
            (true, _) => Status::Found,
            (false, true) => Status::NotFinite,
            (false, false) => Status::Exhausted,
        };
        Outcome {
            status,
            x: self.x,
            margin: self.margin,
            forwards: self.forwards,
            gradients: 0,
            late: f64::NAN,
        }
    }
}
