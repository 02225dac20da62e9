//! What a search needs from a network.

use aisec_graph::{Graph, Workspace};

/// A classifier with input gradients, run on the calling thread.
///
/// A sample's logits and gradient must not depend on the batch or its position in it: that is
/// what makes searches reproducible.
pub trait Network: Sync {
    /// Buffers of one thread.
    type Workspace: Default + Send;

    /// Values of one sample.
    fn input_len(&self) -> usize;

    /// Logits of one sample.
    fn num_classes(&self) -> usize;

    /// Writes the logits of `batch` samples.
    fn forward(&self, workspace: &mut Self::Workspace, x: &[f32], batch: usize, logits: &mut [f32]);

    /// Like [`Network::forward`], and keeps what [`Network::gradient`] needs; the logits are the
    /// same bit for bit.
    fn record(&self, workspace: &mut Self::Workspace, x: &[f32], batch: usize, logits: &mut [f32]);

    /// Writes the gradient of `cotangent·logits`, sample by sample, for the last
    /// [`Network::record`] on this workspace.
    fn gradient(
        &self,
        workspace: &mut Self::Workspace,
        x: &[f32],
        batch: usize,
        cotangent: &[f32],
        gradient: &mut [f32],
    );
}

impl Network for Graph {
    type Workspace = Workspace<f32>;

    fn input_len(&self) -> usize {
        Graph::input_len(self)
    }

    fn num_classes(&self) -> usize {
        self.output_len()
    }

    fn forward(
        &self,
        workspace: &mut Self::Workspace,
        x: &[f32],
        batch: usize,
        logits: &mut [f32],
    ) {
        self.forward_into(workspace, x, batch, logits);
    }

    fn record(&self, workspace: &mut Self::Workspace, x: &[f32], batch: usize, logits: &mut [f32]) {
        self.record_into(workspace, x, batch, logits);
    }

    fn gradient(
        &self,
        workspace: &mut Self::Workspace,
        x: &[f32],
        batch: usize,
        cotangent: &[f32],
        gradient: &mut [f32],
    ) {
        self.pullback_into(workspace, x, batch, cotangent, gradient);
    }
}
