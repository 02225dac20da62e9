//! FAB (Croce & Hein, "Minimally distorted adversarial examples with a fast adaptive boundary
//! attack", ICML 2020, arXiv:1907.02044, algorithm 1), untargeted and, as FAB-T, targeted, for
//! Linf, L2 and L1.
//!
//! Each iteration moves to the linearised boundary from the current point and from the clean
//! input, mixes the two, and falls back towards the clean input where the result is adversarial.

use std::cell::RefCell;
use std::sync::Arc;

use aisec_numeric::random::Stream;
use aisec_numeric::vector::{map, sum_of, sum_over};
use serde::Deserialize;

use crate::attack::{Sample, Setting, Start, parse};
use crate::fmn::length;
use crate::nearest::Nearest;
use crate::plane::{PlaneWorkspace, move_to_plane};
use crate::{Domain, Error, Norm, Outcome, Result, Search};

/// Largest weight of the clean input's move.
const MOST_CLEAN: f64 = 0.1;
/// How far past the boundary a move goes.
const OVERSHOOT: f64 = 1.05;
/// What is left of the perturbation after the step back from an adversarial point.
const BACK: f32 = 0.9;
/// The least length of a move where two are weighed against each other.
const LEAST: f64 = 1e-8;
/// Length of a random start's perturbation, in units of the radius.
const START: f64 = 0.5;

/// What all samples of one FAB run share.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FabConfig {
    /// Iterations; each costs a gradient (untargeted: one a class) and one more evaluation.
    pub steps: usize,
    /// Whether restarts after the first begin at random.
    pub random_start: bool,
}

impl Default for FabConfig {
    fn default() -> Self {
        Self { steps: 100, random_start: false }
    }
}

pub(crate) fn make(name: &'static str, options: &str, setting: &Setting) -> Result<Start> {
    let config: FabConfig = parse(name, options)?;
    if !matches!(setting.norm, Norm::Linf | Norm::L2 | Norm::L1) {
        return Err(Error::input(format!("{name} is for the Linf, L2 and L1 norms")));
    }
    let noise = Stream::new(setting.seed, name, setting.restart);
    let random = config.random_start && setting.restart > 0;
    let (config, setting) = (Arc::new(config), setting.clone());
    Ok(Box::new(move |sample: &Sample<'_>| {
        let domain = Domain::new(setting.norm, sample.clean, &setting.bounds)?;
        let start = match sample.start {
            Some(start) => Some(start.to_vec()),
            None => random.then(|| random_start(&domain, setting.eps, &noise, sample.id)),
        };
        let (label, target) = (sample.label, sample.target);
        Ok(Box::new(Fab::new(config.clone(), domain, label, target, setting.eps, start)))
    }))
}

/// Noise of half the radius: uniform (Linf) or normal (L2, L1).
fn random_start(domain: &Domain, eps: f64, noise: &Stream, sample: u64) -> Vec<f32> {
    let mut generator = noise.at(sample, 0);
    let linf = domain.norm() == Norm::Linf;
    let draw = |_: &f32| if linf { generator.signed() } else { generator.normal() };
    let noise: Vec<f32> = domain.clean().iter().map(draw).collect();
    let scale = START * eps / norm_of(domain.norm(), &noise).max(f64::MIN_POSITIVE);
    let moved = domain.clean().iter().zip(&noise);
    moved.map(|(&x, &u)| (f64::from(x) + scale * f64::from(u)) as f32).collect()
}

fn norm_of(norm: Norm, delta: &[f32]) -> f64 {
    match norm {
        Norm::Linf | Norm::Box => delta.iter().fold(0.0f64, |m, d| m.max(f64::from(d.abs()))),
        Norm::L2 => length(delta),
        Norm::L1 | Norm::L0 => sum_of(delta, delta, |d, _| f64::from(d).abs()),
    }
}

/// The linearised boundary of one class: `normal·(z - x) = -gap` at the current point `x`.
#[derive(Debug, Default)]
struct Plane {
    distance: f64,
    /// Empty where it is the last gradient.
    normal: Vec<f32>,
    gap: f64,
}

/// What a step computes and does not keep: a thread's samples share it, so that it stays in the
/// cache.
#[derive(Debug, Default)]
struct Scratch {
    plane: PlaneWorkspace,
    /// The moves from the current point and from the clean input.
    moves: [Vec<f32>; 2],
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

#[derive(Debug)]
enum Phase {
    /// The gradients at the current point are being collected.
    Linearise,
    /// The point moved to is evaluated.
    Check,
}

/// The search on one sample.
#[derive(Debug)]
pub struct Fab {
    config: Arc<FabConfig>,
    nearest: Nearest,
    label: usize,
    target: Option<usize>,
    phase: Phase,
    iteration: usize,
    x: Vec<f32>,
    /// Classes whose gradient is not yet known at this point, with `z_k - z_y`; the next last.
    waiting: Vec<(usize, f64)>,
    /// The nearest boundary of those that are known.
    plane: Plane,
    gradients: u64,
}

impl Fab {
    /// Ends at the first adversarial point no further than `goal`; 0 spends the whole budget.
    /// Begins at `start`, clipped, or at the clean input.
    pub fn new(
        config: Arc<FabConfig>,
        domain: Domain,
        label: usize,
        target: Option<usize>,
        goal: f64,
        start: Option<Vec<f32>>,
    ) -> Self {
        let mut x = start.unwrap_or_else(|| domain.clean().to_vec());
        domain.clip(&mut x);
        Self {
            config,
            label,
            target,
            phase: Phase::Linearise,
            iteration: 0,
            waiting: Vec::new(),
            plane: Plane::default(),
            gradients: 0,
            nearest: Nearest::new(domain, label, goal),
            x,
        }
    }

    /// Which classes to linearise at the point just evaluated; false where there are none.
    fn begin(&mut self, logits: &[f32]) -> bool {
        let own = f64::from(logits[self.label]);
        let gap = |class: usize| (class, f64::from(logits[class]) - own);
        let classes = match self.target {
            Some(target) => target..target + 1,
            None => 0..logits.len(),
        };
        self.waiting.extend(classes.filter(|&class| class != self.label).map(gap));
        self.waiting.retain(|(_, gap)| gap.is_finite());
        self.waiting.reverse();
        self.plane.distance = f64::INFINITY;
        !self.waiting.is_empty()
    }

    /// Moves to the mixture of both points on the boundary; false where that changes nothing.
    fn advance(&mut self, normal: &[f32]) -> bool {
        SCRATCH.with_borrow_mut(|scratch| {
            let domain = &self.nearest.domain;
            let (norm, lower, upper) = (domain.norm(), domain.lower(), domain.upper());
            let (origin, walls, gap) = (domain.clean(), [lower, upper], self.plane.gap);
            let finite = |w: f32| if w.abs() < f32::INFINITY { f64::from(w) } else { 0.0 };
            let product = sum_over(
                [origin, &self.x, normal],
                #[inline(always)]
                |[origin, x, w]| (f64::from(origin) - f64::from(x)) * finite(w),
            );
            let Scratch { plane, moves: [here, clean] } = scratch;
            let clean_gap = gap + product;
            plane.set_normal(normal);
            here.resize(origin.len(), 0.0);
            clean.resize(origin.len(), 0.0);
            let sizes = [
                move_to_plane(norm, &self.x, gap, walls, plane, here),
                move_to_plane(norm, origin, clean_gap, walls, plane, clean),
            ];
            let [one, other] = sizes.map(|size| size.max(LEAST));
            let mix = (one / (one + other)).min(MOST_CLEAN);
            let (keep, mix, far) = ((1.0 - mix) as f32, mix as f32, OVERSHOOT as f32);
            map(
                here,
                [&self.x, origin, clean, lower, upper],
                #[inline(always)]
                |here, [x, origin, clean, low, high]| {
                    let moved = keep * (x + far * here) + mix * (origin + far * clean);
                    let inside = if moved < low { low } else { moved };
                    if inside > high { high } else { inside }
                },
            );
            std::mem::swap(&mut self.x, here);
            self.x != *here
        })
    }
}

impl Search for Fab {
    fn ask(&mut self, row: &mut [f32]) {
        row.copy_from_slice(&self.x);
    }

    fn tell(&mut self, row: &[f32], logits: &[f32]) -> bool {
        let adversarial = self.nearest.learn(row, logits);
        if self.nearest.reached() || crate::loss::margin(logits, self.label).is_none() {
            return true;
        }
        match self.phase {
            Phase::Linearise => self.waiting.is_empty() && !self.begin(logits),
            Phase::Check => {
                if adversarial {
                    map(
                        &mut self.x,
                        [self.nearest.domain.clean()],
                        #[inline(always)]
                        |x, [clean]| clean + BACK * (x - clean),
                    );
                }
                self.iteration += 1;
                self.phase = Phase::Linearise;
                self.iteration >= self.config.steps
            }
        }
    }

    fn finish(self: Box<Self>) -> Outcome {
        Outcome { gradients: self.gradients, ..self.nearest.finish() }
    }

    fn needs_gradient(&self) -> bool {
        matches!(self.phase, Phase::Linearise)
    }

    fn cotangent(&self, _: &[f32], cotangent: &mut [f32]) {
        cotangent.fill(0.0);
        if let Some(&(class, _)) = self.waiting.last() {
            cotangent[class] = 1.0;
            cotangent[self.label] = -1.0;
        }
    }

    fn step(&mut self, gradient: &mut [f32]) {
        self.gradients += 1;
        let Some((_, gap)) = self.waiting.pop() else { return };
        let norm = self.nearest.domain.norm();
        let last = self.waiting.is_empty();
        if self.target.is_some() {
            // The only boundary: no matter how far.
            self.plane.gap = gap;
            self.plane.distance = 0.0;
        } else {
            let dual = match norm {
                Norm::Linf | Norm::Box => norm_of(Norm::L1, gradient),
                Norm::L2 => length(gradient),
                Norm::L1 | Norm::L0 => norm_of(Norm::Linf, gradient),
            };
            let distance = gap.abs() / (dual + 1e-12);
            if distance < self.plane.distance {
                self.plane.distance = distance;
                self.plane.gap = gap;
                self.plane.normal.clear();
                if !last {
                    self.plane.normal.extend_from_slice(gradient);
                }
            }
        }
        if last {
            let normal = std::mem::take(&mut self.plane.normal);
            let nearest = if normal.is_empty() { gradient } else { &normal[..] };
            // A point that does not move, or has no boundary ahead, never will.
            if !(self.plane.distance.is_finite() && self.advance(nearest)) {
                self.iteration = self.config.steps;
            }
            self.plane.normal = normal;
            self.phase = Phase::Check;
        }
    }
}
