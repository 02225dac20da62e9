//! HopSkipJump (Chen, Jordan & Wainwright, "HopSkipJumpAttack: a query-efficient decision-based
//! attack", S&P 2020, arXiv:1904.02144, algorithm 2), for L2 and Linf.
//!
//! From an adversarial point: a binary search to the boundary, an estimate of the direction in
//! which the boundary is crossed from the decisions at random points around, a jump along it, and
//! again. Each iteration may spend more on its estimate than the one before.

use std::sync::Arc;

use aisec_numeric::random::{Generator, Stream};
use serde::Deserialize;

use crate::attack::{Start, parse};
use crate::nearest::Nearest;
use crate::{Domain, Error, Layout, Norm, Outcome, Result, Sample, Search, Setting};
use aisec_numeric::vector::{sum_of, vectorized};

/// Radius of the first estimate, in units of the input range.
const FIRST_RADIUS: f64 = 0.1;
/// Least radius of an estimate a value, in units of the input range: below, float32 numbers near
/// the range's ends are too coarse to hold the points.
const LEAST_RADIUS: f64 = 1.0 / (1 << 18) as f64;
/// How often a jump is halved before another estimate is made.
const JUMP_HALVINGS: u32 = 20;
/// Most halvings of a binary search: float32 has no finer points.
const MOST_HALVINGS: u32 = 22;
/// Coarseness of the noise a search without a start begins with: the sides of its blocks, in turn.
const BLOCKS: [usize; 4] = [1, 2, 4, 8];

/// What all samples of one run share.
#[derive(Debug, Clone)]
pub struct HopSkipJumpConfig {
    layout: Layout,
    queries: u64,
    first_probes: u32,
    most_probes: u32,
    tries: u32,
    noise: Stream,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Options {
    queries: u32,
    first_probes: u32,
    most_probes: u32,
    tries: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { queries: 5000, first_probes: 100, most_probes: 10_000, tries: 100 }
    }
}

pub(crate) fn make(name: &'static str, options: &str, setting: &Setting) -> Result<Start> {
    let Options { queries, first_probes, most_probes, tries } = parse(name, options)?;
    let probes = [first_probes, most_probes];
    let Setting { norm, seed, restart, .. } = *setting;
    let config =
        HopSkipJumpConfig::new(&setting.shape, norm, queries, probes, tries, seed, restart)?;
    let (config, setting) = (Arc::new(config), setting.clone());
    Ok(Box::new(move |sample: &Sample<'_>| {
        let domain = Domain::new(setting.norm, sample.clean, &setting.bounds)?;
        let (config, goal) = (config.clone(), setting.eps);
        let search = HopSkipJump::new(config, domain, sample.label, sample.id, goal, sample.start);
        Ok(Box::new(search))
    }))
}

impl HopSkipJumpConfig {
    /// At most `queries` points a sample; the first estimate takes `first_probes`, the i-th
    /// `first_probes * sqrt(i)`, none more than `most_probes`. Without an adversarial start,
    /// `tries` points of noise are tried.
    ///
    /// # Errors
    /// For norms other than L2 and Linf, and when a count is zero.
    pub fn new(
        shape: &[usize],
        norm: Norm,
        queries: u32,
        [first_probes, most_probes]: [u32; 2],
        tries: u32,
        seed: u64,
        restart: u32,
    ) -> Result<Self> {
        if !matches!(norm, Norm::L2 | Norm::Linf) {
            return Err(Error::input("hop-skip-jump is for the L2 and Linf norms"));
        }
        if [queries, first_probes, most_probes, tries].contains(&0) {
            return Err(Error::input("hop-skip-jump needs counts of at least 1"));
        }
        Ok(Self {
            layout: Layout::of(shape),
            queries: u64::from(queries),
            first_probes,
            most_probes,
            tries,
            noise: Stream::new(seed, "hop-skip-jump", restart),
        })
    }

    fn probes(&self, iteration: u32) -> u32 {
        let wanted = f64::from(self.first_probes) * f64::from(iteration).sqrt();
        (wanted as u32).min(self.most_probes)
    }
}

#[derive(Debug)]
enum Phase {
    /// Looks for an adversarial point: the one given, then noise.
    Start { given: Option<Vec<f32>>, tried: u32 },
    /// Binary search between the clean input (0) and `far` (1).
    Line { far: Vec<f32>, low: f64, high: f64, left: u32 },
    /// Decisions at `left` more points within `radius` of the centre.
    Probe { radius: f64, left: u32, crossed: Half, stayed: Half },
    /// A jump from the centre, halved until it ends on an adversarial point.
    Jump { direction: Vec<f32>, size: f64, left: u32 },
}

/// The probes with one decision: their number and the sum of their offsets, in radii.
#[derive(Debug)]
struct Half {
    count: u32,
    sum: Vec<f64>,
}

impl Half {
    fn new(len: usize) -> Self {
        Self { count: 0, sum: vec![0.0; len] }
    }
}

/// The search on one sample.
#[derive(Debug)]
pub struct HopSkipJump {
    config: Arc<HopSkipJumpConfig>,
    nearest: Nearest,
    sample: u64,
    phase: Phase,
    iteration: u32,
    /// The adversarial point the next estimate is made around.
    centre: Vec<f32>,
}

impl HopSkipJump {
    /// Ends at the first adversarial point no further than `goal`; 0 spends the whole budget.
    /// `start` is a point that should be adversarial, an input of another class say.
    pub fn new(
        config: Arc<HopSkipJumpConfig>,
        domain: Domain,
        label: usize,
        sample: u64,
        goal: f64,
        start: Option<&[f32]>,
    ) -> Self {
        let given = start.map(|start| {
            let mut given = start.to_vec();
            domain.clip(&mut given);
            given
        });
        let centre = domain.clean().to_vec();
        let nearest = Nearest::new(domain, label, goal);
        let phase = Phase::Start { given, tried: 0 };
        Self { config, nearest, sample, phase, iteration: 0, centre }
    }

    /// Uniform noise over the input range, the same within each block of a plane.
    fn noise(&self, tried: u32, generator: &mut Generator, row: &mut [f32]) {
        let layout = self.config.layout;
        let (lower, upper) = (self.nearest.domain.lower(), self.nearest.domain.upper());
        let side = BLOCKS[tried as usize % BLOCKS.len()];
        let mut values = vec![0.0; layout.width.div_ceil(side)];
        for channel in 0..layout.channels {
            for line in 0..layout.height {
                if line % side == 0 {
                    values.fill_with(|| generator.uniform());
                }
                for column in 0..layout.width {
                    let i = layout.index(channel, line, column);
                    row[i] = lower[i] + values[column / side] * (upper[i] - lower[i]);
                }
            }
        }
        self.nearest.domain.clip(row);
    }

    /// Draws `far`, which is adversarial, to the boundary.
    fn line(&mut self, far: &[f32]) -> Phase {
        self.centre.copy_from_slice(far);
        let domain = &self.nearest.domain;
        let distance = domain.length(far);
        // What is left of the line is small beside the next estimate's radius in any one
        // direction, so that its decisions are mixed.
        let step = self.radius(distance) / length_of_ones(domain.norm(), far.len());
        let halvings = (distance / step).log2().ceil().clamp(1.0, f64::from(MOST_HALVINGS));
        Phase::Line { far: far.to_vec(), low: 0.0, high: 1.0, left: halvings as u32 }
    }

    /// Radius of the estimate around a centre at this distance.
    fn radius(&self, distance: f64) -> f64 {
        let domain = &self.nearest.domain;
        let n = self.centre.len() as f64;
        let ones = match domain.norm() {
            Norm::L2 => n.sqrt(),
            _ => 1.0,
        };
        (distance / n).max(LEAST_RADIUS * domain.width() * ones)
    }

    fn probe(&mut self) -> Phase {
        self.iteration += 1;
        let domain = &self.nearest.domain;
        let radius = match self.iteration {
            1 => FIRST_RADIUS * domain.width(),
            _ => self.radius(domain.length(&self.centre)),
        };
        let len = self.centre.len();
        let left = self.config.probes(self.iteration);
        Phase::Probe { radius, left, crossed: Half::new(len), stayed: Half::new(len) }
    }

    /// The direction the decisions point to, and the first jump along it.
    fn jump(&self, crossed: &Half, stayed: &Half) -> Phase {
        let domain = &self.nearest.domain;
        // Decisions are 1 and -1; their mean is the baseline, unless all are the same.
        let total = f64::from(crossed.count + stayed.count);
        let mean = (f64::from(crossed.count) - f64::from(stayed.count)) / total;
        let (plus, minus) = if mean.abs() == 1.0 { (1.0, 1.0) } else { (1.0 - mean, 1.0 + mean) };
        let estimate: Vec<f64> = crossed
            .sum
            .iter()
            .zip(&stayed.sum)
            .map(|(crossed, stayed)| plus * crossed - minus * stayed)
            .collect();
        let direction = match domain.norm() {
            Norm::L2 => {
                let length = estimate.iter().map(|v| v * v).sum::<f64>().sqrt();
                let scale = 1.0 / length.max(f64::MIN_POSITIVE);
                estimate.iter().map(|v| (v * scale) as f32).collect()
            }
            _ => estimate.iter().map(|&v| if v == 0.0 { 0.0 } else { v.signum() as f32 }).collect(),
        };
        let size = domain.length(&self.centre) / f64::from(self.iteration).sqrt();
        Phase::Jump { direction, size, left: JUMP_HALVINGS }
    }
}

/// How much longer a perturbation of all values is than one of a single value, at most.
fn length_of_ones(norm: Norm, len: usize) -> f64 {
    match norm {
        Norm::L2 => (len as f64).sqrt(),
        _ => len as f64,
    }
}

/// A random offset of the centre: uniform on the sphere (L2) or in the cube (Linf).
fn offset(norm: Norm, radius: f64, generator: &mut Generator, row: &mut [f32]) {
    match norm {
        Norm::L2 => {
            generator.normals(row);
            let square = sum_of(row, row, |a, b| f64::from(a) * f64::from(b));
            let scale = (radius / square.max(f64::MIN_POSITIVE).sqrt()) as f32;
            row.iter_mut().for_each(|value| *value *= scale);
        }
        _ => {
            let radius = radius as f32;
            row.fill_with(|| radius * generator.signed());
        }
    }
}

impl Search for HopSkipJump {
    fn ask(&mut self, row: &mut [f32]) {
        let domain = &self.nearest.domain;
        let mut generator = self.config.noise.at(self.sample, self.nearest.forwards as u32);
        match &self.phase {
            Phase::Start { given: Some(given), .. } => row.copy_from_slice(given),
            Phase::Start { given: None, tried } => self.noise(*tried, &mut generator, row),
            Phase::Line { far, low, high, .. } => domain.between(far, 0.5 * (low + high), row),
            Phase::Probe { radius, .. } => {
                offset(domain.norm(), *radius, &mut generator, row);
                row.iter_mut().zip(&self.centre).for_each(|(value, centre)| *value += centre);
                domain.clip(row);
            }
            Phase::Jump { direction, size, .. } => {
                let size = *size as f32;
                for ((value, centre), way) in row.iter_mut().zip(&self.centre).zip(direction) {
                    *value = centre + size * way;
                }
                domain.clip(row);
            }
        }
    }

    fn tell(&mut self, row: &[f32], logits: &[f32]) -> bool {
        let adversarial = self.nearest.learn(row, logits);
        if self.nearest.reached() || self.nearest.forwards >= self.config.queries {
            return true;
        }
        let next = match &mut self.phase {
            Phase::Start { .. } if adversarial => Some(self.line(row)),
            Phase::Start { given, tried } => {
                *tried += u32::from(given.take().is_none());
                if *tried >= self.config.tries {
                    return true;
                }
                None
            }
            Phase::Line { low, high, left, .. } => {
                let at = 0.5 * (*low + *high);
                *left -= 1;
                if adversarial {
                    *high = at;
                    self.centre.copy_from_slice(row);
                } else {
                    *low = at;
                }
                (*left == 0).then(|| self.probe())
            }
            Phase::Probe { radius, left, crossed, stayed } => {
                let half = if adversarial { crossed } else { stayed };
                half.count += 1;
                *left -= 1;
                let scale = (1.0 / *radius) as f32;
                let centre = &self.centre;
                vectorized(
                    #[inline(always)]
                    || {
                        for ((sum, value), centre) in half.sum.iter_mut().zip(row).zip(centre) {
                            *sum += f64::from((value - centre) * scale);
                        }
                    },
                );
                if *left > 0 {
                    return false;
                }
                let Phase::Probe { crossed, stayed, .. } = &self.phase else { unreachable!() };
                Some(self.jump(crossed, stayed))
            }
            Phase::Jump { .. } if adversarial => Some(self.line(row)),
            Phase::Jump { size, left, .. } => {
                *size *= 0.5;
                *left -= 1;
                (*left == 0).then(|| self.probe())
            }
        };
        if let Some(next) = next {
            self.phase = next;
        }
        false
    }

    fn finish(self: Box<Self>) -> Outcome {
        self.nearest.finish()
    }
}
