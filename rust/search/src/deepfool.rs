//! DeepFool (Moosavi-Dezfooli, Fawzi & Frossard, "DeepFool: a simple and accurate method to fool
//! deep neural networks", CVPR 2016, algorithm 2) for L2 and Linf.
//!
//! Each iteration moves to the boundary of the nearest class of the linearised network. The
//! gradients of the classes are pulled back one after another at the same point, so an iteration
//! costs as many evaluations as there are candidate classes.

use serde::Deserialize;

use crate::attack::{Start, parse};
use crate::fmn::length;
use crate::min_norm::{Descent, Domain, Seen, searches};
use crate::{Error, Norm, Result, Setting};
use aisec_numeric::vector::sum_of;

/// How far a search goes.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeepFoolConfig {
    /// Moves.
    pub steps: usize,
    /// Classes considered at a point, those with the largest logits.
    pub candidates: usize,
    /// How far past the boundary the sum of the moves goes, as a part of it.
    pub overshoot: f64,
}

impl Default for DeepFoolConfig {
    fn default() -> Self {
        Self { steps: 50, candidates: 10, overshoot: 0.02 }
    }
}

impl DeepFoolConfig {
    /// # Errors
    /// When a parameter is out of its range, and for norms other than L2 and Linf.
    pub fn check(self, norm: Norm) -> Result<Self> {
        if norm != Norm::L2 && norm != Norm::Linf {
            return Err(Error::input("deepfool is for the L2 and Linf norms"));
        }
        let overshoot = self.overshoot >= 0.0 && self.overshoot.is_finite();
        if self.steps == 0 || self.candidates == 0 || !overshoot {
            return Err(Error::input(
                "deepfool needs steps >= 1, candidates >= 1 and an overshoot of at least 0",
            ));
        }
        Ok(self)
    }
}

/// The linearised boundary of one class.
#[derive(Debug, Clone)]
struct Plane {
    distance: f64,
    gradient: Vec<f32>,
}

pub(crate) fn make(name: &str, options: &str, setting: &Setting) -> Result<Start> {
    let config = parse::<DeepFoolConfig>(name, options)?.check(setting.norm)?;
    Ok(searches(setting, move || DeepFool::new(config)))
}

/// The descent on one sample.
#[derive(Debug)]
pub struct DeepFool {
    config: DeepFoolConfig,
    x: Vec<f32>,
    /// Sum of the moves.
    moved: Vec<f64>,
    done: usize,
    /// Classes not yet pulled back at this point, with `z_y - z_k`; the next one last.
    waiting: Vec<(usize, f64)>,
    /// Whether `waiting` belongs to this point.
    ranked: bool,
    nearest: Option<Plane>,
}

impl DeepFool {
    pub fn new(config: DeepFoolConfig) -> Self {
        Self {
            config,
            x: vec![],
            moved: vec![],
            done: 0,
            waiting: vec![],
            ranked: false,
            nearest: None,
        }
    }

    /// Moves to the nearest plane, and a little further.
    fn advance(&mut self, domain: &Domain) {
        let Some(plane) = self.nearest.take() else {
            // Flat towards every class: nowhere to go.
            self.done = self.config.steps;
            return;
        };
        let size = length(&plane.gradient);
        for (moved, &g) in self.moved.iter_mut().zip(&plane.gradient) {
            let g = f64::from(g);
            *moved += match domain.norm() {
                Norm::Linf if g == 0.0 => 0.0,
                Norm::Linf => plane.distance.copysign(g),
                _ => plane.distance * g / size,
            };
        }
        let factor = 1.0 + self.config.overshoot;
        for ((x, &moved), &clean) in self.x.iter_mut().zip(&self.moved).zip(domain.clean()) {
            *x = (f64::from(clean) + factor * moved) as f32;
        }
        domain.clip(&mut self.x);
        self.ranked = false;
        self.done += 1;
    }
}

impl Descent for DeepFool {
    fn begin(&mut self, _: &Domain, x: &[f32]) {
        self.x = x.to_vec();
        self.moved = vec![0.0; x.len()];
    }

    fn point(&self) -> &[f32] {
        &self.x
    }

    fn tell(&mut self, seen: Seen, logits: &[f32], label: usize) -> bool {
        if !self.ranked {
            let own = f64::from(logits[label]);
            self.waiting.clear();
            let others =
                logits.iter().enumerate().filter(|&(class, z)| class != label && z.is_finite());
            self.waiting.extend(others.map(|(class, &z)| (class, own - f64::from(z))));
            self.waiting.sort_by(|a, b| a.1.total_cmp(&b.1));
            self.waiting.truncate(self.config.candidates);
            self.waiting.reverse();
            self.ranked = true;
        }
        seen.adversarial || self.done == self.config.steps
    }

    fn cotangent(&self, _: &[f32], label: usize, cotangent: &mut [f32]) {
        if let Some(&(class, _)) = self.waiting.last() {
            cotangent[label] = -1.0;
            cotangent[class] = 1.0;
        }
    }

    fn step(&mut self, domain: &Domain, _: Seen, gradient: &mut [f32]) {
        if let Some((_, gap)) = self.waiting.pop() {
            let dual = match domain.norm() {
                Norm::Linf => sum_of(gradient, gradient, |g, _| f64::from(g).abs()),
                _ => length(gradient),
            };
            // At least a little, so that a point on the boundary itself still moves.
            let distance = gap.abs().max(f64::from(f32::EPSILON)) / dual;
            let nearer = self.nearest.as_ref().is_none_or(|plane| distance < plane.distance);
            if dual > 0.0 && distance.is_finite() && nearer {
                self.nearest = Some(Plane { distance, gradient: gradient.to_vec() });
            }
        }
        if self.waiting.is_empty() {
            self.advance(domain);
        }
    }
}
