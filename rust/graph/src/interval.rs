//! Interval bounds of a node over input boxes.

use std::ops::Range;

use aisec_numeric::Cancel;
use rayon::prelude::*;

use crate::operator::{Interval, Operator};
use crate::{Error, Graph, Result};

/// Lower and upper bounds, `batch` samples one after another.
pub type Bounds = (Vec<f64>, Vec<f64>);

impl Graph {
    /// Bounds of `node` over the boxes `lower <= x <= upper`, outward rounded: they hold for
    /// the graph in real arithmetic.
    ///
    /// # Errors
    /// When the bounds do not hold `batch` samples, are NaN or cross, or on cancellation.
    pub fn interval(
        &self,
        node: usize,
        lower: &[f64],
        upper: &[f64],
        batch: usize,
        cancel: &Cancel,
    ) -> Result<Bounds> {
        self.check_box(lower, upper, batch)?;
        let (length, out) = (self.input_len(), self.nodes()[node].len());
        let mut result = (vec![0.0; batch * out], vec![0.0; batch * out]);
        lower
            .par_chunks(length)
            .zip(upper.par_chunks(length))
            .zip(result.0.par_chunks_mut(out).zip(result.1.par_chunks_mut(out)))
            .try_for_each(|((lower, upper), (below, above))| {
                cancel.check()?;
                let mut bounds = self.walk(0..node + 1, lower, upper, true);
                let (lower, upper) = bounds.swap_remove(node);
                below.copy_from_slice(&lower);
                above.copy_from_slice(&upper);
                Ok::<(), Error>(())
            })?;
        Ok(result)
    }

    /// Interval bounds of every node over one sample's box, which must be valid
    /// (see [`Graph::interval`]).
    pub fn intervals(&self, lower: &[f64], upper: &[f64]) -> Vec<Bounds> {
        self.walk(0..self.nodes().len(), lower, upper, false)
    }

    /// Refuses boxes that are not `batch` samples, NaN or crossed.
    pub fn check_box(&self, lower: &[f64], upper: &[f64], batch: usize) -> Result<()> {
        let expected = batch * self.input_len();
        if lower.len() != expected || upper.len() != expected {
            return Err(Error::Input(format!(
                "lower and upper have {} and {} elements, expected {batch} samples of shape {:?}",
                lower.len(),
                upper.len(),
                self.input_shape()
            )));
        }
        let ordered = |i: usize| lower[i] <= upper[i]; // and neither is NaN
        match (0..expected).find(|&i| !ordered(i)) {
            None => Ok(()),
            Some(at) => Err(Error::Input(format!(
                "lower {} is not <= upper {} at sample {}, flat index {}",
                lower[at],
                upper[at],
                at / self.input_len(),
                at % self.input_len()
            ))),
        }
    }

    /// Bounds of the nodes `0..range.end` of one sample; with `drop`, those no later node of
    /// the range reads are emptied.
    fn walk(&self, range: Range<usize>, lower: &[f64], upper: &[f64], drop: bool) -> Vec<Bounds> {
        let mut last_reader: Vec<usize> = (0..range.end).collect();
        for node in range.clone() {
            self.nodes()[node].inputs.iter().for_each(|&input| last_reader[input] = node);
        }
        let mut bounds: Vec<Bounds> = vec![(lower.to_vec(), upper.to_vec())];
        for node in 1..range.end {
            let described = &self.nodes()[node];
            let mut own = (vec![0.0; described.len()], vec![0.0; described.len()]);
            let shapes = self.input_shapes(node);
            let inputs: Vec<Interval> = described
                .inputs
                .iter()
                .map(|&input| Interval { lower: &bounds[input].0, upper: &bounds[input].1 })
                .collect();
            let site = self.site(node, &shapes, 1);
            described.op.interval(&site, &inputs, &mut own.0, &mut own.1);
            bounds.push(own);
            if drop {
                for &input in described.inputs.iter().filter(|&&input| last_reader[input] == node) {
                    bounds[input] = Bounds::default();
                }
            }
        }
        bounds
    }
}
