//! Running a graph on many samples, split over the threads of the current rayon pool.

use aisec_numeric::{Cancel, Scalar};
use rayon::prelude::*;

use crate::operator::Operator;
use crate::plan::Plan;
use crate::{Error, Graph, Result, Workspace};

/// Scalar operations below which splitting costs more than it gains.
const SMALL: usize = 1 << 18;

/// Samples a chunk has at most: enough to amortise packing, few enough to stay in cache.
const CHUNK: usize = 16;

impl Graph {
    /// Scalar operations of one sample's forward pass, roughly.
    pub fn work(&self) -> usize {
        let work =
            |node: usize| self.nodes()[node].op.work(&self.site(node, &self.input_shapes(node), 1));
        (0..=self.output()).map(work).fold(0, usize::saturating_add)
    }

    /// Whether `batch` samples are few enough to run on the calling thread.
    pub fn is_small(&self, batch: usize) -> bool {
        self.work().saturating_mul(batch) <= SMALL
    }

    /// The output of `batch` samples.
    ///
    /// # Panics
    /// When `x` does not hold exactly `batch` samples.
    pub fn forward<T: Scalar>(&self, x: &[T], batch: usize) -> Vec<T> {
        self.forward_to(self.output(), x, batch, &Cancel::new()).expect("nobody cancels it")
    }

    /// The value of `node` for `batch` samples; fails only when cancelled.
    ///
    /// # Panics
    /// When `x` does not hold exactly `batch` samples, or there is no such node.
    pub fn forward_to<T: Scalar>(
        &self,
        node: usize,
        x: &[T],
        batch: usize,
        cancel: &Cancel,
    ) -> Result<Vec<T>> {
        let own;
        let plan = if node == self.output() {
            &self.forward
        } else {
            own = Plan::forward(self.nodes(), node);
            &own
        };
        let (length, out) = (self.input_len(), self.nodes()[node].len());
        assert_eq!(x.len(), batch * length, "x holds `batch` samples");
        let mut output = vec![T::ZERO; batch * out];
        let chunk = self.chunk(batch);
        x.par_chunks(chunk * length).zip(output.par_chunks_mut(chunk * out)).try_for_each_init(
            Workspace::new,
            |workspace, (x, output)| {
                cancel.check()?;
                self.run_forward(plan, workspace, x, x.len() / length, output);
                Ok::<(), Error>(())
            },
        )?;
        Ok(output)
    }

    /// The output of `batch` samples, and the gradient of `Σ cotangent·output` by the input;
    /// fails only when cancelled.
    ///
    /// # Panics
    /// When a slice does not hold exactly `batch` samples.
    pub fn value_and_vjp<T: Scalar>(
        &self,
        x: &[T],
        batch: usize,
        cotangent: &[T],
        cancel: &Cancel,
    ) -> Result<(Vec<T>, Vec<T>)> {
        let (length, out) = (self.input_len(), self.output_len());
        assert_eq!(x.len(), batch * length, "x holds `batch` samples");
        assert_eq!(cotangent.len(), batch * out, "cotangent holds `batch` samples");
        let mut output = vec![T::ZERO; batch * out];
        let mut gradient = vec![T::ZERO; batch * length];
        let chunk = self.chunk(batch);
        x.par_chunks(chunk * length)
            .zip(cotangent.par_chunks(chunk * out))
            .zip(output.par_chunks_mut(chunk * out))
            .zip(gradient.par_chunks_mut(chunk * length))
            .try_for_each_init(
                Workspace::new,
                |workspace, (((x, cotangent), output), gradient)| {
                    cancel.check()?;
                    let batch = x.len() / length;
                    self.vjp_into(workspace, x, batch, cotangent, output, gradient);
                    Ok::<(), Error>(())
                },
            )?;
        Ok((output, gradient))
    }

    /// Samples per chunk; never changes a result, every sample being computed on its own.
    fn chunk(&self, batch: usize) -> usize {
        if self.is_small(batch) {
            return batch.max(1);
        }
        batch.div_ceil(rayon::current_num_threads()).clamp(1, CHUNK)
    }
}
