//! Decoupled direction and norm (Rony, Hafemann, Oliveira, Ben Ayed, Sabourin & Granger,
//! "Decoupling direction and norm for efficient gradient-based L2 adversarial attacks and
//! defenses", CVPR 2019, algorithm 1), without the quantisation of images.
//!
//! Cross-entropy steps, each followed by a move to the sphere whose radius shrinks while the point
//! is adversarial and grows while it is not.

use serde::Deserialize;

use crate::attack::{Start, parse};
use crate::fmn::length;
use crate::min_norm::{Descent, Domain, Seen, cosine, searches};
use crate::{Error, Loss, Norm, Result, Setting};

/// Part of the first step size that is left at the end.
const LAST_STEP: f64 = 0.01;

/// How fast a search moves.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DdnConfig {
    /// Gradients.
    pub steps: usize,
    /// Length of the first step and first radius, in units of the input range.
    pub step_size: f64,
    /// By which part the radius changes.
    pub radius_change: f64,
}

impl Default for DdnConfig {
    fn default() -> Self {
        Self { steps: 55, step_size: 1.0, radius_change: 0.05 }
    }
}

impl DdnConfig {
    /// # Errors
    /// When a parameter is out of its range, and for norms other than L2.
    pub fn check(self, norm: Norm) -> Result<Self> {
        if norm != Norm::L2 {
            return Err(Error::input("ddn is for the L2 norm"));
        }
        let step = self.step_size > 0.0 && self.step_size.is_finite();
        if self.steps == 0 || !step || !(self.radius_change > 0.0 && self.radius_change < 1.0) {
            return Err(Error::input(
                "ddn needs steps >= 1, a positive step size and a radius change in (0, 1)",
            ));
        }
        Ok(self)
    }
}

pub(crate) fn make(name: &str, options: &str, setting: &Setting) -> Result<Start> {
    let config = parse::<DdnConfig>(name, options)?.check(setting.norm)?;
    Ok(searches(setting, move || Ddn::new(config)))
}

/// The descent on one sample.
#[derive(Debug)]
pub struct Ddn {
    config: DdnConfig,
    x: Vec<f32>,
    radius: f64,
    done: usize,
}

impl Ddn {
    pub fn new(config: DdnConfig) -> Self {
        Self { config, x: vec![], radius: 0.0, done: 0 }
    }
}

impl Descent for Ddn {
    fn begin(&mut self, domain: &Domain, x: &[f32]) {
        self.x = x.to_vec();
        let distance = domain.length(x);
        let first = self.config.step_size * domain.width();
        self.radius = if distance > 0.0 { distance } else { first };
    }

    fn point(&self) -> &[f32] {
        &self.x
    }

    fn tell(&mut self, _: Seen, _: &[f32], _: usize) -> bool {
        self.done == self.config.steps
    }

    fn cotangent(&self, logits: &[f32], label: usize, cotangent: &mut [f32]) {
        Loss::CrossEntropy.cotangent(logits, label, cotangent);
    }

    fn step(&mut self, domain: &Domain, seen: Seen, gradient: &mut [f32]) {
        let size = length(gradient);
        if !(size > 0.0 && size.is_finite()) {
            // Flat: nowhere to go.
            self.done = self.config.steps;
            return;
        }
        let change = self.config.radius_change;
        self.radius *= if seen.adversarial { 1.0 - change } else { 1.0 + change };
        let first = self.config.step_size * domain.width();
        let step = cosine(first, LAST_STEP * first, self.done, self.config.steps);
        let scale = (step / size) as f32;
        for (x, &g) in self.x.iter_mut().zip(&*gradient) {
            *x += scale * g;
        }
        let distance = domain.length(&self.x);
        if distance > 0.0 {
            let scale = (self.radius / distance) as f32;
            for (x, &clean) in self.x.iter_mut().zip(domain.clean()) {
                *x = clean + scale * (*x - clean);
            }
        }
        domain.clip(&mut self.x);
        self.done += 1;
    }
}
