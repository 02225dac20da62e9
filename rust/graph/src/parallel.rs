//! Running a graph on many samples, split over the threads of the current rayon pool.

use aisec_numeric::{Cancel, Scalar};
use rayon::prelude::*;

use crate::plan::Plan;
use crate::{Error, Graph, Result};

/// Scalar operations below which another thread costs more than it gains (some 0.1 ms).
const SMALL: usize = 1 << 23;

/// Scalar operations nobody minds waiting for (some 20 ms).
const SHORT: usize = 1 << 31;

/// Samples a chunk has at most: enough to amortise packing, few enough to stay in cache.
const CHUNK: usize = 16;

/// Elements of scratch memory a chunk may take, unless a single sample takes more.
const CHUNK_ELEMENTS: usize = 1 << 24;

impl Graph {
    /// Whether `batch` samples are few enough to run on the calling thread.
    pub fn is_small(&self, batch: usize) -> bool {
        self.work().saturating_mul(batch) <= SMALL
    }

    /// Whether `batch` samples are done before anyone would want to cancel them.
    pub fn is_short(&self, batch: usize) -> bool {
        self.work().saturating_mul(batch) <= SHORT
    }

    /// The output of `batch` samples.
    ///
    /// # Panics
    /// When `x` does not hold exactly `batch` samples.
    pub fn forward<T: Scalar>(&self, x: &[T], batch: usize) -> Vec<T> {
        self.forward_to(self.output(), x, batch, &Cancel::new()).expect("nobody cancels it")
    }

    /// The value of `node` for `batch` samples.
    ///
    /// # Errors
    /// When cancelled, or when the result does not fit in memory.
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
        let mut output = zeros(batch, out)?;
        let run = |x: &[T], output: &mut [T]| {
            cancel.check()?;
            self.spare.with(|workspace| {
                self.run_forward(plan, workspace, x, x.len() / length, output);
            });
            Ok::<(), Error>(())
        };
        let chunk = self.chunk(plan, batch);
        if chunk >= batch {
            run(x, &mut output)?;
        } else {
            x.par_chunks(chunk * length)
                .zip(output.par_chunks_mut(chunk * out))
                .try_for_each(|(x, output)| run(x, output))?;
        }
        Ok(output)
    }

    /// The output of `batch` samples, and the gradient of `Σ cotangent·output` by the input.
    ///
    /// # Errors
    /// When cancelled, or when the result does not fit in memory.
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
        let (mut output, mut gradient) = (zeros(batch, out)?, zeros(batch, length)?);
        let run = |x: &[T], cotangent: &[T], output: &mut [T], gradient: &mut [T]| {
            cancel.check()?;
            self.spare.with(|workspace| {
                self.vjp_into(workspace, x, x.len() / length, cotangent, output, gradient);
            });
            Ok::<(), Error>(())
        };
        let chunk = self.chunk(&self.recording, batch);
        if chunk >= batch {
            run(x, cotangent, &mut output, &mut gradient)?;
        } else {
            x.par_chunks(chunk * length)
                .zip(cotangent.par_chunks(chunk * out))
                .zip(output.par_chunks_mut(chunk * out))
                .zip(gradient.par_chunks_mut(chunk * length))
                .try_for_each(|(((x, c), output), gradient)| run(x, c, output, gradient))?;
        }
        Ok((output, gradient))
    }

    /// Samples per chunk; never changes a result, every sample being computed on its own.
    fn chunk(&self, plan: &Plan, batch: usize) -> usize {
        if self.is_small(batch) {
            return batch.max(1);
        }
        let fitting = CHUNK_ELEMENTS / plan.slots.iter().sum::<usize>().max(1);
        batch.div_ceil(rayon::current_num_threads()).min(CHUNK).min(fitting).max(1)
    }
}

/// `batch` zeroed samples of `len` elements, or an error where the allocation would fail.
pub(crate) fn zeros<T: Scalar>(batch: usize, len: usize) -> Result<Vec<T>> {
    let mut probe: Vec<T> = Vec::new();
    match batch.checked_mul(len) {
        Some(count) if probe.try_reserve_exact(count).is_ok() => {
            drop(probe);
            Ok(vec![T::ZERO; count])
        }
        _ => Err(Error::Input(format!(
            "{batch} samples of {len} elements do not fit in memory; use smaller batches"
        ))),
    }
}
