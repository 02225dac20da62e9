//! Fast minimum-norm attack (Pintor, Roli, Brendel & Biggio, "Fast minimum-norm adversarial
//! attacks through adaptive norm constraints", NeurIPS 2021, algorithm 1) for Linf, L2, L1, L0.
//!
//! Gradient steps inside a ball whose radius shrinks while the point is adversarial and grows
//! while it is not.

use aisec_numeric::project::L1Workspace;
use serde::Deserialize;

use crate::attack::{Start, parse};
use crate::min_norm::{Descent, Domain, Seen, cosine, margin_cotangent, searches};
use crate::{Error, Norm, Result, Setting};
use aisec_numeric::vector::sum_of;

/// Part of the first step size that is left at the end.
const LAST_STEP: f64 = 0.01;

/// How fast a search moves.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FmnConfig {
    /// Gradients.
    pub steps: usize,
    /// Euclidean length of the first step, in units of the input range; without one 30 (Linf),
    /// 3 (L0) or 1: in Linf long steps end in the corners of the ball.
    pub step_size: Option<f64>,
    /// By which part the radius changes at the start and at the end.
    pub radius_change: (f64, f64),
}

impl Default for FmnConfig {
    fn default() -> Self {
        Self { steps: 55, step_size: None, radius_change: (0.05, 0.001) }
    }
}

impl FmnConfig {
    /// # Errors
    /// When a parameter is out of its range.
    pub fn check(self) -> Result<Self> {
        let (first, last) = self.radius_change;
        let in_range = self.step_size.is_none_or(|step| step > 0.0 && step.is_finite())
            && (0.0..1.0).contains(&first)
            && (0.0..1.0).contains(&last);
        if self.steps == 0 || !in_range {
            return Err(Error::input(
                "fmn needs steps >= 1, a positive step size and radius changes in [0, 1)",
            ));
        }
        Ok(self)
    }
}

pub(crate) fn make(name: &str, options: &str, setting: &Setting) -> Result<Start> {
    let config = parse::<FmnConfig>(name, options)?.check()?;
    Ok(searches(setting, move || Fmn::new(config)))
}

/// The descent on one sample.
#[derive(Debug)]
pub struct Fmn {
    config: FmnConfig,
    x: Vec<f32>,
    radius: f64,
    done: usize,
    workspace: L1Workspace,
}

impl Fmn {
    pub fn new(config: FmnConfig) -> Self {
        Self {
            config,
            x: vec![],
            radius: f64::INFINITY,
            done: 0,
            workspace: L1Workspace::default(),
        }
    }

    /// The radius of the next step. As long as nothing adversarial is known it is the distance to
    /// the boundary of the linearised network.
    fn adapt(&self, norm: Norm, seen: Seen, gradient: &[f32]) -> f64 {
        let change = cosine(
            self.config.radius_change.0,
            self.config.radius_change.1,
            self.done,
            self.config.steps,
        );
        let dual = match norm {
            Norm::Linf | Norm::Box => sum_of(gradient, gradient, |g, _| f64::from(g).abs()),
            Norm::L2 => length(gradient),
            Norm::L1 => gradient.iter().fold(0.0f64, |most, &g| most.max(f64::from(g).abs())),
            Norm::L0 => {
                let radius = if self.radius.is_finite() { self.radius } else { seen.distance };
                return if seen.adversarial {
                    (radius - 1.0).min((radius * (1.0 - change)).floor()).min(seen.nearest).max(0.0)
                } else {
                    (radius + 1.0).max((radius * (1.0 + change)).floor())
                };
            }
        };
        if seen.adversarial {
            (self.radius * (1.0 - change)).min(seen.nearest)
        } else if seen.nearest.is_finite() {
            self.radius * (1.0 + change)
        } else {
            // A little further, and some growth in any case: on the boundary itself nothing is
            // adversarial yet.
            let growth = (1.0 + change) * seen.margin / dual;
            seen.distance + growth.max(change * seen.distance)
        }
    }
}

/// Euclidean length.
pub(crate) fn length(gradient: &[f32]) -> f64 {
    sum_of(gradient, gradient, |g, _| f64::from(g) * f64::from(g)).sqrt()
}

impl Descent for Fmn {
    fn begin(&mut self, _: &Domain, x: &[f32]) {
        self.x = x.to_vec();
    }

    fn point(&self) -> &[f32] {
        &self.x
    }

    fn tell(&mut self, _: Seen, _: &[f32], _: usize) -> bool {
        self.done == self.config.steps
    }

    fn cotangent(&self, logits: &[f32], label: usize, cotangent: &mut [f32]) {
        margin_cotangent(logits, label, cotangent);
    }

    fn step(&mut self, domain: &Domain, seen: Seen, gradient: &mut [f32]) {
        let size = length(gradient);
        if !(size > 0.0 && size.is_finite()) {
            // Flat: nowhere to go.
            self.done = self.config.steps;
            return;
        }
        self.radius = self.adapt(domain.norm(), seen, gradient);
        let default = match domain.norm() {
            Norm::Linf => 30.0,
            Norm::L0 => 3.0,
            _ => 1.0,
        };
        let first = self.config.step_size.unwrap_or(default) * domain.width();
        let step = cosine(first, LAST_STEP * first, self.done, self.config.steps);
        let scale = (step / size) as f32;
        for (x, &g) in self.x.iter_mut().zip(&*gradient) {
            *x += scale * g;
        }
        domain.project(&mut self.x, self.radius, &mut self.workspace);
        self.done += 1;
    }
}
