//! Small networks with known answers.

use aisec_search::Network;

/// `logits = weight·x + bias`, computed sample by sample in order.
pub struct Linear {
    pub weight: Vec<Vec<f32>>,
    pub bias: Vec<f32>,
}

impl Network for Linear {
    type Workspace = ();

    fn input_len(&self) -> usize {
        self.weight[0].len()
    }

    fn num_classes(&self) -> usize {
        self.bias.len()
    }

    fn forward(&self, (): &mut (), x: &[f32], batch: usize, logits: &mut [f32]) {
        let rows = x.chunks_exact(self.input_len()).zip(logits.chunks_exact_mut(self.bias.len()));
        assert_eq!(rows.len(), batch);
        for (x, logits) in rows {
            for (logit, (weight, bias)) in logits.iter_mut().zip(self.weight.iter().zip(&self.bias))
            {
                *logit = weight.iter().zip(x).fold(*bias, |sum, (w, x)| sum + w * x);
            }
        }
    }

    fn record(&self, workspace: &mut (), x: &[f32], batch: usize, logits: &mut [f32]) {
        self.forward(workspace, x, batch, logits);
    }

    fn gradient(&self, (): &mut (), x: &[f32], _: usize, cotangent: &[f32], gradient: &mut [f32]) {
        assert_eq!(gradient.len(), x.len());
        let rows = cotangent.chunks_exact(self.bias.len());
        for (cotangent, gradient) in rows.zip(gradient.chunks_exact_mut(self.input_len())) {
            gradient.fill(0.0);
            for (c, weight) in cotangent.iter().zip(&self.weight) {
                gradient.iter_mut().zip(weight).for_each(|(g, w)| *g += c * w);
            }
        }
    }
}

/// Reproducible values in [0, 1) without structure.
pub fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut generator = aisec_numeric::random::Stream::new(seed, "test", 0).at(0, 0);
    (0..count).map(|_| generator.uniform()).collect()
}
