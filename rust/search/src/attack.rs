//! Attacks by name: from options to searches.

use serde::de::DeserializeOwned;

use crate::{
    Bounds, Constraint, Error, Norm, Region, Result, Search, apgd, carlini_wagner, ddn, deepfool,
    evolution, fab, fmn, hop_skip_jump, rays, sigma_zero, sparse_rs, square,
};

/// What all samples of one run share.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Shape of one sample.
    pub shape: Vec<usize>,
    pub classes: usize,
    pub norm: Norm,
    /// Radius; minimum-norm attacks may end at the first adversarial point within it.
    pub eps: f64,
    pub bounds: Bounds,
    /// What points must satisfy beside the bounds; the norm is then [`Norm::Box`].
    pub constraint: Option<Constraint>,
    pub seed: u64,
    pub restart: u32,
}

impl Setting {
    /// Where a sample may move.
    ///
    /// # Errors
    /// When the sample lies outside the bounds.
    pub fn region(&self, clean: &[f32]) -> Result<Region> {
        Region::new(self.norm, self.eps, clean, &self.bounds)
    }
}

/// One sample of a run.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    pub clean: &'a [f32],
    pub label: usize,
    /// Keys the random numbers.
    pub id: u64,
    /// The class to reach, for targeted attacks.
    pub target: Option<usize>,
    /// A point to begin at, which need not lie in the region.
    pub start: Option<&'a [f32]>,
}

/// Begins the search of one sample.
pub(crate) type Start = Box<dyn Fn(&Sample<'_>) -> Result<Box<dyn Search>> + Send + Sync>;

struct Entry {
    name: &'static str,
    /// Whether every sample needs a target; otherwise none may have one.
    targeted: bool,
    /// Whether samples may have a point to begin at.
    starts: bool,
    /// Whether it knows constraints; which, it says itself.
    constrained: bool,
    make: fn(&'static str, &str, &Setting) -> Result<Start>,
}

const fn entry(
    name: &'static str,
    make: fn(&'static str, &str, &Setting) -> Result<Start>,
) -> Entry {
    Entry { name, targeted: false, starts: false, constrained: false, make }
}

/// Every attack; the name also keys its random numbers.
const ATTACKS: &[Entry] = &[
    Entry { starts: true, ..entry("apgd-ce", apgd::make) },
    Entry { starts: true, ..entry("apgd-dlr", apgd::make) },
    Entry { starts: true, ..entry("apgd-margin", apgd::make) },
    Entry { starts: true, targeted: true, ..entry("apgd-t", apgd::make) },
    Entry { starts: true, targeted: true, ..entry("apgd-margin-t", apgd::make) },
    Entry { starts: true, ..entry("fab", fab::make) },
    Entry { starts: true, targeted: true, ..entry("fab-t", fab::make) },
    Entry { constrained: true, starts: true, ..entry("square", square::make) },
    Entry { starts: true, ..entry("hop-skip-jump", hop_skip_jump::make) },
    Entry { starts: true, ..entry("fmn", fmn::make) },
    Entry { starts: true, ..entry("ddn", ddn::make) },
    Entry { starts: true, ..entry("sigma-zero", sigma_zero::make) },
    entry("carlini-wagner", carlini_wagner::make),
    entry("deepfool", deepfool::make),
    entry("rays", rays::make),
    Entry { constrained: true, ..entry("sparse-rs", sparse_rs::make) },
    Entry { constrained: true, starts: true, ..entry("evolution", evolution::make) },
];

/// An attack with its options, ready to begin on samples.
pub struct Attack {
    entry: &'static Entry,
    classes: usize,
    start: Start,
}

impl Attack {
    /// `options` is a JSON object of the attack's parameters; those left out have their defaults.
    ///
    /// # Errors
    /// An unknown attack or option, and what the attack refuses.
    pub fn new(name: &str, options: &str, setting: &Setting) -> Result<Self> {
        let entry = ATTACKS.iter().find(|entry| entry.name == name).ok_or_else(|| {
            let names: Vec<_> = ATTACKS.iter().map(|entry| entry.name).collect();
            Error::input(format!("attack {name:?} is unknown; choose one of {}", names.join(", ")))
        })?;
        if setting.constraint.is_some() && !entry.constrained {
            return Err(Error::input(format!("{name} searches norm balls and boxes only")));
        }
        let start = (entry.make)(entry.name, options, setting)?;
        Ok(Self { entry, classes: setting.classes, start })
    }

    /// Begins the search of one sample.
    ///
    /// # Errors
    /// When the sample lies outside the bounds, lacks a target or has one that does not fit.
    pub fn start(&self, sample: &Sample<'_>) -> Result<Box<dyn Search>> {
        let name = self.entry.name;
        match sample.target {
            None if self.entry.targeted => {
                return Err(Error::input(format!("{name} needs a target class a sample")));
            }
            Some(_) if !self.entry.targeted => {
                return Err(Error::input(format!("{name} takes no targets")));
            }
            Some(target) if target >= self.classes || target == sample.label => {
                return Err(Error::input(format!(
                    "target {target} must be one of {} classes besides the label {}",
                    self.classes, sample.label
                )));
            }
            _ => {}
        }
        if sample.start.is_some() && !self.entry.starts {
            return Err(Error::input(format!("{name} takes no start points")));
        }
        (self.start)(sample)
    }
}

/// Reads the options of an attack.
pub(crate) fn parse<T: DeserializeOwned>(name: &str, options: &str) -> Result<T> {
    serde_json::from_str(options)
        .map_err(|error| Error::input(format!("options of {name}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(norm: Norm) -> Setting {
        Setting {
            shape: vec![3],
            classes: 4,
            norm,
            eps: 0.1,
            bounds: Bounds::new(&[0.0; 3], &[1.0; 3]).unwrap(),
            constraint: None,
            seed: 0,
            restart: 0,
        }
    }

    #[test]
    fn refusals_name_what_is_wrong() {
        let refused = |name: &str, options: &str| {
            Attack::new(name, options, &setting(Norm::Linf)).err().unwrap().to_string()
        };
        assert!(refused("nope", "{}").contains("choose one of apgd-ce"));
        assert!(refused("square", r#"{"query": 1}"#).contains("options of square: unknown field"));
        assert!(refused("square", r#"{"queries": 0}"#).contains("queries"));
        assert!(Attack::new("apgd-ce", "{}", &setting(Norm::L0)).is_err());

        let clean = [0.5; 3];
        let sample = Sample { clean: &clean, label: 1, id: 0, target: None, start: None };
        let start = |name: &str, sample: Sample<'_>| {
            let attack = Attack::new(name, "{}", &setting(Norm::L2)).unwrap();
            attack.start(&sample).err().map(|error| error.to_string())
        };
        assert_eq!(start("apgd-ce", sample), None);
        assert_eq!(start("apgd-t", Sample { target: Some(3), ..sample }), None);
        assert!(start("apgd-t", sample).unwrap().contains("needs a target"));
        assert!(start("apgd-ce", Sample { target: Some(3), ..sample }).is_some());
        for target in [1, 4] {
            let error = start("apgd-t", Sample { target: Some(target), ..sample }).unwrap();
            assert!(error.contains("4 classes besides the label 1"), "{error}");
        }
    }
}
