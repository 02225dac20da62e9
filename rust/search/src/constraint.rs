//! Threat models that are more than a range of every value: which values may change together, and
//! into what.

use serde::Deserialize;

use crate::{Error, Layout, Result};

/// What a point must satisfy beside the bounds.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Constraint {
    /// Only pixels of one rectangle of this size change, wherever it lies.
    Patch { height: usize, width: usize },
    /// Only pixels no further than `width` from an edge change.
    Frame { width: usize },
    /// Features of a table: whole numbers, categories, directions, and a budget of changes.
    Tabular(Table),
}

/// The features that may change, and what all changes together may cost.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    pub metric: Metric,
    /// The largest sum (L1), sum of squares' root (L2) or number (L0) of changes; unused by Linf.
    pub limit: f64,
    pub features: Vec<Feature>,
}

/// How the changes of the features add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    Linf,
    L2,
    L1,
    L0,
}

/// A feature; columns that no feature names are fixed.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Feature {
    /// A number; `reach` limits its change alone, `weight` is what a unit of it costs.
    Number { column: usize, integer: bool, down: bool, up: bool, reach: Option<f64>, weight: f64 },
    /// `size` columns, exactly one of them 1 and the others 0; another category costs `weight`.
    OneHot { column: usize, size: usize, weight: f64 },
}

impl Feature {
    /// The columns it stands in.
    pub(crate) fn columns(&self) -> std::ops::Range<usize> {
        match *self {
            Self::Number { column, .. } => column..column.saturating_add(1),
            Self::OneHot { column, size, .. } => column..column.saturating_add(size),
        }
    }

    /// What a change costs: of a unit (numbers) or as a whole (categories).
    pub(crate) fn weight(&self) -> f64 {
        match *self {
            Self::Number { weight, .. } | Self::OneHot { weight, .. } => weight,
        }
    }
}

impl Constraint {
    /// Reads a constraint on samples of this shape.
    ///
    /// # Errors
    /// Text that is no constraint, or one that does not fit the shape.
    pub fn parse(text: &str, shape: &[usize]) -> Result<Self> {
        let constraint: Self = serde_json::from_str(text)
            .map_err(|error| Error::input(format!("constraint: {error}")))?;
        constraint.check(shape)?;
        Ok(constraint)
    }

    fn check(&self, shape: &[usize]) -> Result<()> {
        let layout = Layout::of(shape);
        let (height, width) = (layout.height, layout.width);
        match self {
            Self::Patch { height: h, width: w } => {
                if !((1..=height).contains(h) && (1..=width).contains(w)) {
                    return Err(Error::input(format!(
                        "a patch of {h}x{w} pixels does not fit a sample of {height}x{width}"
                    )));
                }
            }
            Self::Frame { width: thickness } => {
                if *thickness == 0 {
                    return Err(Error::input("a frame must be at least 1 pixel wide"));
                }
            }
            Self::Tabular(table) => table.check(shape.iter().product())?,
        }
        Ok(())
    }
}

impl Table {
    fn check(&self, columns: usize) -> Result<()> {
        let mut taken = vec![false; columns];
        for feature in &self.features {
            for column in feature.columns() {
                match taken.get_mut(column) {
                    Some(taken) if !*taken => *taken = true,
                    _ => {
                        return Err(Error::input(format!(
                            "column {column} is not one of {columns}, or belongs to two features"
                        )));
                    }
                }
            }
            let positive = |value: f64| value >= 0.0 && value.is_finite();
            let reach = match *feature {
                Feature::Number { reach, .. } => reach.is_none_or(positive),
                Feature::OneHot { size, .. } => size >= 1,
            };
            if !reach || !positive(feature.weight()) {
                return Err(Error::input(format!(
                    "feature at column {}: reach and weight must be finite and at least 0",
                    feature.columns().start
                )));
            }
        }
        if self.limit >= 0.0 && self.limit.is_finite() {
            Ok(())
        } else {
            Err(Error::input(format!("limit={} must be finite and at least 0", self.limit)))
        }
    }
}
