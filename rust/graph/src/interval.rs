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
    /// Samples whose intervals pass through the graph together: a matrix is read once for all of
    /// them, and what they hold at a node stays in the cache.
    pub const TOGETHER: usize = 4;

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
        let mut kept = vec![false; needed.len()];
        kept[node] = true;
        let run = |lower: &[f64], upper: &[f64], below: &mut [f64], above: &mut [f64]| {
            cancel.check()?;
            let ends = (lower.to_vec(), upper.to_vec());
            let bounds = self.walk(&needed, &kept, ends, lower.len() / length, |_| {});
            let (lower, upper) = &bounds[node];
            below.copy_from_slice(lower);
            above.copy_from_slice(upper);
            Ok::<(), Error>(())
        };
        let (boxes, bounds) = (Self::TOGETHER * length, Self::TOGETHER * out);
        if self.is_small(batch) {
            let (below, above) = (result.0.chunks_mut(bounds), result.1.chunks_mut(bounds));
            let boxes = lower.chunks(boxes).zip(upper.chunks(boxes));
            for ((lower, upper), (below, above)) in boxes.zip(below.zip(above)) {
                run(lower, upper, below, above)?;
            }
        } else {
            lower
                .par_chunks(boxes)
                .zip(upper.par_chunks(boxes))
                .zip(result.0.par_chunks_mut(bounds).zip(result.1.par_chunks_mut(bounds)))
                .try_for_each(|((lower, upper), (below, above))| run(lower, upper, below, above))?;
        }
        Ok(result)
    }

    /// Interval bounds of every node over one sample's box, which must be valid
    /// (see [`Graph::interval`]).
    pub fn intervals(&self, lower: &[f64], upper: &[f64]) -> Vec<Bounds> {
        let all = vec![true; self.nodes().len()];
        self.walk(&all, &all, (lower.to_vec(), upper.to_vec()), 1, |_| {})
    }

    /// Interval bounds of the nodes that are `kept`, the others left empty, over the boxes of
    /// `batch` samples, which must be valid. `mend` may widen the bounds of each node before they
    /// are read.
    pub fn intervals_of(
        &self,
        kept: &[bool],
        (lower, upper): Bounds,
        batch: usize,
        mend: impl FnMut(&mut Bounds),
    ) -> Vec<Bounds> {
        let mut needed = vec![false; kept.len()];
        for node in (0..kept.len()).rev() {
            needed[node] |= kept[node];
            if needed[node] {
                self.nodes()[node].inputs.iter().for_each(|&input| needed[input] = true);
            }
        }
        self.walk(&needed, kept, (lower, upper), batch, mend)
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

    /// Bounds of the nodes that are `needed`; what is not `kept` is emptied once no later one
    /// reads it.
    fn walk(
        &self,
        needed: &[bool],
        kept: &[bool],
        (lower, upper): Bounds,
        batch: usize,
        mut mend: impl FnMut(&mut Bounds),
    ) -> Vec<Bounds> {
        let nodes = (1..needed.len()).filter(|&node| needed[node]);
        let mut last_reader: Vec<usize> = (0..needed.len()).collect();
        for node in nodes.clone() {
            self.nodes()[node].inputs.iter().for_each(|&input| last_reader[input] = node);
        }
        let mut bounds = vec![Bounds::default(); needed.len()];
        bounds[0] = (lower, upper);
        let mut spare: Vec<Vec<f64>> = Vec::new();
        for node in nodes {
            let described = &self.nodes()[node];
            let len = batch * described.len();
            let mut buffer = || {
                // What an operator writes needs no zeros before.
                let mut buffer = spare.pop().unwrap_or_default();
                buffer.resize(len, 0.0);
                buffer
            };
            let mut own = (buffer(), buffer());
            let shapes = self.input_shapes(node);
            let inputs: Vec<Interval> = described
                .inputs
                .iter()
                .map(|&input| Interval { lower: &bounds[input].0, upper: &bounds[input].1 })
                .collect();
            let site = self.site(node, &shapes, batch);
            described.op.interval(&site, &inputs, &mut own.0, &mut own.1);
            mend(&mut own);
            bounds[node] = own;
            for &input in &described.inputs {
                if last_reader[input] == node && !kept[input] {
                    let (lower, upper) = std::mem::take(&mut bounds[input]);
                    spare.extend([lower, upper].into_iter().filter(|part| !part.is_empty()));
                }
            }
        }
        bounds
    }
}
