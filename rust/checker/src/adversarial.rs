//! Whether adversarial examples are what they claim to be.

use std::fmt;

use aisec_graph::{Error, Graph};
use aisec_numeric::Cancel;
use aisec_numeric::rounding::{add_up, mul_up, sqrt_up, sub_down, sub_up};

use crate::{Constraint, Violation};

/// How far an adversarial example is from its clean input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    Linf,
    L2,
    L1,
    /// The number of elements that differ.
    L0,
    /// Not measured: any point of the box will do.
    Box,
}

/// What is claimed of every sample.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    pub metric: Metric,
    /// The largest distance allowed; without meaning for [`Metric::Box`].
    pub eps: f64,
    /// Corners of the input range, one sample's elements.
    pub lower: &'a [f64],
    pub upper: &'a [f64],
    /// What must hold beside all that.
    pub constraint: Option<&'a Constraint>,
}

/// Why an example is not accepted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    Label { label: i64, classes: usize },
    NotFinite { element: usize },
    OutsideBox { element: usize },
    TooFar { distance: f64, eps: f64 },
    Constraint(Violation),
    Margin { margin: f64 },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Label { label, classes } => {
                write!(f, "label {label} is not one of {classes} classes")
            }
            Self::NotFinite { element } => write!(f, "not finite at element {element}"),
            Self::OutsideBox { element } => {
                write!(f, "outside the input range at element {element}")
            }
            Self::TooFar { distance, eps } => {
                write!(f, "distance {distance:e} is not proven to be within {eps:e}")
            }
            Self::Constraint(violation) => violation.fmt(f),
            Self::Margin { margin } => {
                write!(f, "margin is not proven negative (upper bound {margin:e})")
            }
        }
    }
}

/// What was found of one sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Finding {
    /// An upper bound of the least margin `z_label - z_i` over the other classes at the
    /// adversarial example; negative only where it is proven misclassified.
    pub margin_upper: f64,
    /// An upper bound of the distance, 0 for [`Metric::Box`].
    pub distance_upper: f64,
    /// `None` where the claim holds.
    pub fault: Option<Fault>,
}

/// Checks one adversarial example after another: every element finite, exactly inside the box,
/// no further from `x` than `eps` without any tolerance, and misclassified by the graph in real
/// arithmetic, some other class being strictly above the label's.
///
/// `x` is not read for [`Metric::Box`] without a constraint. What cannot be decided is a fault, NaN included.
///
/// # Errors
/// When the arrays do not fit the graph, or on cancellation.
pub fn check_adversarial(
    graph: &Graph,
    x: &[f32],
    x_adv: &[f32],
    labels: &[i64],
    claim: &Claim,
    cancel: &Cancel,
) -> Result<Vec<Finding>, Error> {
    let (len, classes, batch) = (graph.input_len(), graph.output_len(), labels.len());
    let fits = x_adv.len() == batch * len
        && (x.len() == batch * len || (claim.metric == Metric::Box && claim.constraint.is_none()))
        && [claim.lower.len(), claim.upper.len()] == [len; 2];
    if !fits {
        return Err(Error::Input(format!(
            "x, x_adv and the box do not hold {batch} samples of shape {:?}",
            graph.input_shape()
        )));
    }
    // A point that is not finite has no interval; it is refused below whatever stands here.
    let points: Vec<f64> =
        x_adv.iter().map(|&value| if value.is_finite() { f64::from(value) } else { 0.0 }).collect();
    let (below, above) = graph.interval(graph.output(), &points, &points, batch, cancel)?;
    let finding = |sample: usize| {
        let part = sample * len..(sample + 1) * len;
        let adversarial = &x_adv[part.clone()];
        let label = usize::try_from(labels[sample]).ok().filter(|&label| label < classes);
        let outputs = sample * classes..(sample + 1) * classes;
        let margin_upper = match label {
            Some(label) if adversarial.iter().all(|v| v.is_finite()) => {
                margin(&below[outputs.clone()], &above[outputs], label)
            }
            _ => f64::INFINITY,
        };
        let distance_upper = match claim.metric {
            Metric::Box => 0.0,
            metric => distance(metric, &x[part.clone()], adversarial),
        };
        let fault = fault(claim, adversarial, (labels[sample], label.is_some(), classes))
            .or_else(|| {
                let within = claim.metric == Metric::Box || distance_upper <= claim.eps;
                (!within).then_some(Fault::TooFar { distance: distance_upper, eps: claim.eps })
            })
            .or_else(|| {
                let constraint = claim.constraint?;
                let found =
                    constraint.violation(graph.input_shape(), &x[part.clone()], adversarial);
                found.map(Fault::Constraint)
            })
            .or_else(|| {
                let proven = margin_upper < 0.0;
                (!proven).then_some(Fault::Margin { margin: margin_upper })
            });
        Finding { margin_upper, distance_upper, fault }
    };
    Ok((0..batch).map(finding).collect())
}

/// What is wrong with label, values or box.
fn fault(
    claim: &Claim,
    x_adv: &[f32],
    (label, known, classes): (i64, bool, usize),
) -> Option<Fault> {
    if !known {
        return Some(Fault::Label { label, classes });
    }
    if let Some(element) = x_adv.iter().position(|value| !value.is_finite()) {
        return Some(Fault::NotFinite { element });
    }
    let inside = |element: usize| {
        let value = f64::from(x_adv[element]);
        claim.lower[element] <= value && value <= claim.upper[element]
    };
    (0..x_adv.len()).find(|&e| !inside(e)).map(|element| Fault::OutsideBox { element })
}

/// An upper bound of `z_label - max z_i` from bounds of the outputs; infinite where NaN.
fn margin(below: &[f64], above: &[f64], label: usize) -> f64 {
    let own = above[label];
    let others = below.iter().enumerate().filter(|&(class, _)| class != label);
    others.fold(f64::INFINITY, |least, (_, &other)| {
        let margin = sub_up(own, other);
        if margin < least { margin } else { least }
    })
}

/// An upper bound of the distance between two points; NaN where one is not finite.
fn distance(metric: Metric, x: &[f32], x_adv: &[f32]) -> f64 {
    let steps = x.iter().zip(x_adv).map(|(&a, &b)| {
        let (a, b) = (f64::from(a), f64::from(b));
        // The larger of the rounded-up step and the negated rounded-down one.
        let (up, down) = (sub_up(b, a), -sub_down(b, a));
        let step = if up.is_nan() || up > down { up } else { down };
        // Of two float32 numbers the difference is zero only where they are equal.
        if metric == Metric::L0 && step > 0.0 && step.is_finite() { 1.0 } else { step }
    });
    match metric {
        Metric::Linf | Metric::Box => {
            steps.fold(0.0, |most, step| if step.is_nan() || step > most { step } else { most })
        }
        // Counts are exact in float64.
        Metric::L1 | Metric::L0 => steps.fold(0.0, add_up),
        Metric::L2 => sqrt_up(steps.fold(0.0, |sum, step| add_up(sum, mul_up(step, step)))),
    }
}
