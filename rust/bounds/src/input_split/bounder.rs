//! What the search needs of a way to bound rows over boxes.

use aisec_numeric::Cancelled;

use crate::Planes;

/// Bounds a fixed specification over boxes, and remembers for parts of a box what it found there.
pub(super) trait Bounder: Sync {
    /// What holds throughout a box, and so in each of its parts.
    type Known: Clone + Send + Sync;
    type Scratch: Default + Send;

    /// Boxes bounded before a part is handed back, a part of what results depend on.
    const BUDGET: usize;

    /// Planes below all rows of the specification over a box where `known` holds.
    fn planes(
        &self,
        known: &Self::Known,
        lower: &[f64],
        upper: &[f64],
        scratch: &mut Self::Scratch,
    ) -> Result<Planes, Cancelled>;

    /// The plane below `Σ weights·row` over the box of the last `planes`; weights are not negative.
    fn combined(
        &self,
        known: &Self::Known,
        weights: &[f64],
        lower: &[f64],
        upper: &[f64],
        scratch: &mut Self::Scratch,
    ) -> Result<Planes, Cancelled>;

    /// What holds in the box of the last `planes`.
    fn narrowed(
        &self,
        known: &Self::Known,
        lower: &[f64],
        upper: &[f64],
        scratch: &mut Self::Scratch,
    ) -> Self::Known;

    /// The rows' values at a point of the box, roughly.
    fn values(&self, known: &Self::Known, x: &[f64]) -> Vec<f64>;

    /// The gradient of a row's value there, roughly.
    fn gradient(&self, known: &Self::Known, x: &[f64], row: usize) -> Vec<f64>;

    /// Bytes that remembering takes.
    fn bytes(&self, known: &Self::Known) -> usize;
}
