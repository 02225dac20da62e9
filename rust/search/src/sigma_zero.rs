//! sigma-zero (Cinà, Villani, Pintor, Schönherr, Biggio & Pelillo, "σ-zero: gradient-based
//! optimization of l0-norm adversarial examples", ICLR 2025, arXiv:2402.01879, algorithm 1).
//!
//! Descent on the margin plus a smooth count of the changed values, `sum δ²/(δ² + σ)`; changes
//! smaller than a threshold that follows success and failure are undone after every step.

use serde::Deserialize;

use crate::attack::{Start, parse};
use crate::min_norm::{Descent, Domain, Seen, cosine, margin_cotangent, searches};
use crate::{Error, Norm, Result, Setting};

/// Part of the first step size that is left at the end.
const LAST_STEP: f64 = 0.1;

/// How fast a search moves.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SigmaZeroConfig {
    /// Gradients.
    pub steps: usize,
    /// Largest move of a value in the first step, in units of the input range.
    pub step_size: f64,
    /// Smoothing of the count.
    pub sigma: f64,
    /// First threshold, in units of the input range.
    pub threshold: f64,
    /// By how much the threshold moves, in units of the step size.
    pub threshold_step: f64,
}

impl Default for SigmaZeroConfig {
    fn default() -> Self {
        Self { steps: 1000, step_size: 1.0, sigma: 1e-3, threshold: 0.3, threshold_step: 0.01 }
    }
}

impl SigmaZeroConfig {
    /// # Errors
    /// When a parameter is out of its range, and for norms other than L0.
    pub fn check(self, norm: Norm) -> Result<Self> {
        if norm != Norm::L0 {
            return Err(Error::input("sigma-zero is for the L0 norm"));
        }
        let positive = [self.step_size, self.sigma, self.threshold, self.threshold_step];
        if self.steps == 0 || !positive.iter().all(|&value| value > 0.0 && value.is_finite()) {
            return Err(Error::input(
                "sigma-zero needs steps >= 1 and a positive step size, sigma, threshold and \
                 threshold step",
            ));
        }
        Ok(self)
    }
}

pub(crate) fn make(name: &str, options: &str, setting: &Setting) -> Result<Start> {
    let config = parse::<SigmaZeroConfig>(name, options)?.check(setting.norm)?;
    Ok(searches(setting, move || SigmaZero::new(config)))
}

/// The descent on one sample.
#[derive(Debug)]
pub struct SigmaZero {
    config: SigmaZeroConfig,
    x: Vec<f32>,
    threshold: f64,
    done: usize,
    adversarial: bool,
}

impl SigmaZero {
    pub fn new(config: SigmaZeroConfig) -> Self {
        Self { config, x: vec![], threshold: config.threshold, done: 0, adversarial: false }
    }
}

impl Descent for SigmaZero {
    fn begin(&mut self, _: &Domain, x: &[f32]) {
        self.x = x.to_vec();
    }

    fn point(&self) -> &[f32] {
        &self.x
    }

    fn tell(&mut self, seen: Seen, _: &[f32], _: usize) -> bool {
        self.adversarial = seen.adversarial;
        self.done == self.config.steps
    }

    /// Nothing where the point is adversarial already: only the count is descended then.
    fn cotangent(&self, logits: &[f32], label: usize, cotangent: &mut [f32]) {
        if !self.adversarial {
            margin_cotangent(logits, label, cotangent);
        }
    }

    fn step(&mut self, domain: &Domain, seen: Seen, gradient: &mut [f32]) {
        let (sigma, width) = (self.config.sigma, domain.width());
        let count = gradient.len() as f64;
        let points = self.x.iter().zip(domain.clean());
        for (g, (&x, &clean)) in gradient.iter_mut().zip(points) {
            // In units of the input range, as all constants of the paper.
            let delta = (f64::from(x) - f64::from(clean)) / width;
            let root = delta * delta + sigma;
            let smooth = 2.0 * delta * sigma / (root * root) / count;
            *g = (f64::from(*g) * width - smooth) as f32;
        }
        let largest = gradient.iter().fold(0.0f64, |most, &g| most.max(f64::from(g).abs()));
        let flat = !(largest > 0.0 && largest.is_finite());
        if flat && !seen.adversarial {
            // Nowhere to go.
            self.done = self.config.steps;
            return;
        }
        let first = self.config.step_size;
        let step = cosine(first, LAST_STEP * first, self.done, self.config.steps);
        let scale = if flat { 0.0 } else { (step * width / largest) as f32 };
        for (x, &g) in self.x.iter_mut().zip(&*gradient) {
            *x += scale * g;
        }
        domain.clip(&mut self.x);
        let threshold = (self.threshold * width) as f32;
        for (x, &clean) in self.x.iter_mut().zip(domain.clean()) {
            if (*x - clean).abs() < threshold {
                *x = clean;
            }
        }
        let change = self.config.threshold_step * step;
        self.threshold += if seen.adversarial { change } else { -change };
        self.threshold = self.threshold.clamp(0.0, 1.0);
        self.done += 1;
    }
}
