//! What a counterexample must meet: one of several conjunctions of half-spaces over the output.

use std::ops::Range;

use aisec_numeric::rounding::sub_down;

use crate::Planes;

/// What is refuted is refuted by at least this fraction of the numbers involved, so that who
/// checks it may round differently.
pub(super) const MARGIN: f64 = 1e-9;

/// Rows over the output with right-hand sides, and which of them belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct Clauses {
    /// Row-major, each as long as the output.
    pub rows: Vec<f64>,
    /// A counterexample has `row · y <= rhs` in every row of some clause.
    pub rhs: Vec<f64>,
    /// How many rows each clause has; they lie one clause after the other.
    pub sizes: Vec<usize>,
}

impl Clauses {
    /// The rows of each clause.
    pub(super) fn ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.sizes.iter().scan(0, |start, &size| {
            *start += size;
            Some(*start - size..*start)
        })
    }

    /// By how much each clause is refuted, from lower bounds of all rows, less [`MARGIN`]; one row
    /// is enough. Refuted where above zero, never NaN.
    pub(super) fn slack(&self, planes: &Planes, slack: &mut Vec<f64>) {
        let row = |row: usize| {
            let (bound, rhs, constant) = (planes.bounds[row], self.rhs[row], planes.constants[row]);
            let constant = if constant.is_finite() { constant.abs() } else { 0.0 };
            let size = bound.abs().max(rhs.abs()).max(constant);
            sub_down(sub_down(bound, rhs), MARGIN * size)
        };
        slack.clear();
        // `max` skips a NaN, which proves nothing.
        slack.extend(self.ranges().map(|part| part.map(row).fold(f64::NEG_INFINITY, f64::max)));
    }

    /// Whether outputs with these row values meet some clause.
    pub(super) fn met(&self, values: &[f64]) -> bool {
        self.ranges().any(|part| part.clone().all(|row| values[row] <= self.rhs[row]))
    }
}
