//! Interval bounds of a node over input boxes.

use aisec_numeric::Cancel;
use rayon::prelude::*;

use crate::operator::{Interval, Operator};
use crate::parallel::zeros;
use crate::plan::ancestors;
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
        let mut result = (zeros(batch, out)?, zeros(batch, out)?);
        let needed = ancestors(self.nodes(), node);
        let run = |lower: &[f64], upper: &[f64], below: &mut [f64], above: &mut [f64]| {
            cancel.check()?;
            let bounds = self.walk(&needed, lower, upper, true);
            let (lower, upper) = &bounds[node];
            below.copy_from_slice(lower);
            above.copy_from_slice(upper);
            Ok::<(), Error>(())
        };
        if self.is_small(batch) {
            let (below, above) = (result.0.chunks_mut(out), result.1.chunks_mut(out));
            let boxes = lower.chunks(length).zip(upper.chunks(length));
            for ((lower, upper), (below, above)) in boxes.zip(below.zip(above)) {
                run(lower, upper, below, above)?;
            }
        } else {
            lower
                .par_chunks(length)
                .zip(upper.par_chunks(length))
                .zip(result.0.par_chunks_mut(out).zip(result.1.par_chunks_mut(out)))
                .try_for_each(|((lower, upper), (below, above))| run(lower, upper, below, above))?;
        }
        Ok(result)
    }

    /// Interval bounds of every node over one sample's box, which must be valid
    /// (see [`Graph::interval`]).
    pub fn intervals(&self, lower: &[f64], upper: &[f64]) -> Vec<Bounds> {
        self.walk(&vec![true; self.nodes().len()], lower, upper, false)
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

    /// Bounds of the nodes of one sample that are `needed`; with `drop`, those that no later
    /// one reads are emptied.
    fn walk(&self, needed: &[bool], lower: &[f64], upper: &[f64], drop: bool) -> Vec<Bounds> {
        let nodes = (1..needed.len()).filter(|&node| needed[node]);
        let mut last_reader: Vec<usize> = (0..needed.len()).collect();
        for node in nodes.clone() {
            self.nodes()[node].inputs.iter().for_each(|&input| last_reader[input] = node);
        }
        let mut bounds = vec![Bounds::default(); needed.len()];
        bounds[0] = (lower.to_vec(), upper.to_vec());
        for node in nodes {
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
            bounds[node] = own;
            if drop {
                for &input in described.inputs.iter().filter(|&&input| last_reader[input] == node) {
                    bounds[input] = Bounds::default();
                }
            }
        }
        bounds
    }
}
