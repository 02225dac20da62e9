//! RayS (Chen & Gu, "RayS: a ray searching method for hard-label adversarial attack", KDD 2020,
//! arXiv:2006.12792, algorithms 1 to 3), for Linf.
//!
//! Searches the sign vectors for the one along which the boundary is nearest, flipping the signs
//! of one block of values at a time: all of them, then halves, quarters, down to single values,
//! over which it passes until the budget is spent.

use std::sync::Arc;

use serde::Deserialize;

use crate::attack::{Start, parse};
use crate::nearest::Nearest;
use crate::{Domain, Error, Norm, Outcome, Result, Sample, Search, Setting};

/// What all samples of one run share.
#[derive(Debug, Clone)]
pub struct RaysConfig {
    queries: u64,
    tolerance: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Options {
    queries: u32,
    tolerance: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self { queries: 5000, tolerance: 1e-3 }
    }
}

pub(crate) fn make(name: &'static str, options: &str, setting: &Setting) -> Result<Start> {
    let Options { queries, tolerance } = parse(name, options)?;
    let config = Arc::new(RaysConfig::new(setting.norm, queries, tolerance)?);
    let setting = setting.clone();
    Ok(Box::new(move |sample: &Sample<'_>| {
        let domain = Domain::new(setting.norm, sample.clean, &setting.bounds)?;
        Ok(Box::new(Rays::new(config.clone(), domain, sample.label, setting.eps)))
    }))
}

impl RaysConfig {
    /// At most `queries` points a sample; binary searches end when the radius is known to
    /// `tolerance`, in units of the input range.
    ///
    /// # Errors
    /// For norms other than Linf, without queries, and when the tolerance is not positive.
    pub fn new(norm: Norm, queries: u32, tolerance: f64) -> Result<Self> {
        if norm != Norm::Linf {
            return Err(Error::input("rays is for the Linf norm"));
        }
        if queries == 0 || !(tolerance > 0.0 && tolerance < 1.0) {
            return Err(Error::input("rays needs queries >= 1 and a tolerance in (0, 1)"));
        }
        Ok(Self { queries: u64::from(queries), tolerance })
    }
}

/// The search on one sample.
#[derive(Debug)]
pub struct Rays {
    config: Arc<RaysConfig>,
    nearest: Nearest,
    /// Whether a value rises along the ray; of the best ray, with the current block flipped.
    rises: Vec<bool>,
    /// The least radius known to be adversarial along the best ray, infinite before any.
    radius: f64,
    /// The binary search along the current ray: not adversarial, adversarial.
    bracket: Option<(f64, f64)>,
    /// Whether the current ray is the first, with no block flipped.
    first: bool,
    blocks: usize,
    block: usize,
}

impl Rays {
    /// Ends at the first adversarial point no further than `goal`; 0 spends the whole budget.
    pub fn new(config: Arc<RaysConfig>, domain: Domain, label: usize, goal: f64) -> Self {
        let rises = vec![true; domain.clean().len()];
        let nearest = Nearest::new(domain, label, goal);
        Self {
            config,
            nearest,
            rises,
            radius: f64::INFINITY,
            bracket: None,
            first: true,
            blocks: 1,
            block: 0,
        }
    }

    /// The radius of the next point: on a new ray what is to beat, at first the whole range.
    fn at(&self) -> f64 {
        match self.bracket {
            Some((low, high)) => 0.5 * (low + high),
            None => self.radius.min(self.nearest.domain.width()),
        }
    }

    fn flip(&mut self) {
        let size = self.rises.len().div_ceil(self.blocks);
        let start = self.block * size;
        let end = (start + size).min(self.rises.len());
        self.rises[start..end].iter_mut().for_each(|rises| *rises = !*rises);
    }

    /// Leaves the current ray, which is kept as the best where it was `better`.
    fn next_ray(&mut self, better: bool) {
        if self.first {
            self.first = false;
        } else {
            if !better {
                self.flip();
            }
            self.block += 1;
            let size = self.rises.len().div_ceil(self.blocks);
            if self.block * size >= self.rises.len() {
                self.block = 0;
                self.blocks = (2 * self.blocks).min(self.rises.len());
            }
        }
        self.bracket = None;
        self.flip();
    }
}

impl Search for Rays {
    fn ask(&mut self, row: &mut [f32]) {
        let domain = &self.nearest.domain;
        let radius = self.at();
        for ((value, &clean), &rises) in row.iter_mut().zip(domain.clean()).zip(&self.rises) {
            let clean = f64::from(clean);
            *value = if rises { clean + radius } else { clean - radius } as f32;
        }
        domain.clip(row);
    }

    fn tell(&mut self, row: &[f32], logits: &[f32]) -> bool {
        let adversarial = self.nearest.learn(row, logits);
        if self.nearest.reached() || self.nearest.forwards >= self.config.queries {
            return true;
        }
        let at = self.at();
        match &mut self.bracket {
            None if adversarial => self.bracket = Some((0.0, at)),
            None => {
                self.next_ray(false);
                return false;
            }
            Some((_, high)) if adversarial => *high = at,
            Some((low, _)) => *low = at,
        }
        if let Some((low, high)) = self.bracket
            && high - low <= self.config.tolerance * self.nearest.domain.width()
        {
            self.radius = high;
            self.next_ray(true);
        }
        false
    }

    fn finish(self: Box<Self>) -> Outcome {
        self.nearest.finish()
    }
}
