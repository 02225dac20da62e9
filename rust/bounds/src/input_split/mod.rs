//! Branch and bound over the inputs: complete for boxes of few dimensions.
//!
//! Each box is bounded by CROWN planes. Whatever a plane excludes is clipped off the box, and what
//! is left is cut in two across a long edge that the bounds depend on (Bunel et al. 2018,
//! arXiv:1711.00455; clipping: Zhou et al. 2025, arXiv:2512.11087). All bounds are float64 with
//! every rounding error taken off: what is refuted is refuted for the network in real arithmetic.
//!
//! Waves of the most promising boxes are explored in parallel, each depth first for a few boxes.
//! Which boxes make a wave depends on nothing but earlier waves, so the result does not depend on
//! the number of threads.

mod bounder;
mod clauses;
mod clip;
mod explore;
mod form;
mod general;
mod kernel;
mod queue;
mod record;
mod reduced;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use aisec_graph::Graph;
use aisec_numeric::{Cancel, Cancelled};

pub use clauses::Clauses;
use form::Form;
use general::General;
use queue::Queue;
use record::Record;
use reduced::Reduced;

use crate::crown::{Analysis, Method};
use crate::margin::share;
use crate::prepared::Prepared;
use crate::proof::BoxProof;
use crate::region::Region;

/// How far the search may go.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes that waiting boxes and what is known of them may take, and coefficients of any
    /// graph on top.
    pub memory: usize,
    /// Whether the tree of boxes is kept for a certificate.
    pub record: bool,
}

/// Why a search stopped.
#[derive(Debug, Clone, PartialEq)]
pub enum Stopped {
    /// Every clause is refuted throughout the region.
    Refuted,
    /// These points of the region may be counterexamples; the search can go on.
    Points(Vec<Vec<f64>>),
    /// All waves asked for are done, or the call was cancelled; the search can go on.
    Paused,
    /// A box is too small to be cut in float64.
    Precision,
    /// The boxes take more memory than they may.
    Memory,
}

/// A search for outputs that meet one of some clauses.
pub struct InputSplit {
    clauses: Clauses,
    limits: Limits,
    queue: Either,
}

/// ReLU networks have a form of their own; everything else is bounded as it is.
enum Either {
    Reduced(Queue<reduced::Known>),
    General(Queue<general::Known>),
}

macro_rules! either {
    ($self:ident, $queue:ident => $value:expr) => {
        match &$self.queue {
            Either::Reduced($queue) => $value,
            Either::General($queue) => $value,
        }
    };
}

impl InputSplit {
    /// A search of the whole region, which is a box.
    ///
    /// # Errors
    /// When cancelled.
    pub fn new(
        graph: &Graph,
        region: &Region,
        clauses: Clauses,
        limits: Limits,
        cancel: &Cancel,
    ) -> Result<Self, Cancelled> {
        let (lower, upper) = (region.lower(), region.upper());
        let found = Form::of(graph, region, &clauses.rows, cancel)?;
        let record = Record::new(limits.record, found.is_none());
        let queue = match found {
            Some((form, bounds)) => {
                let known = reduced::Known {
                    form: Arc::new(form),
                    lower: bounds.0.into(),
                    upper: bounds.1.into(),
                };
                Either::Reduced(Queue::new(lower, upper, known, record))
            }
            None => Either::General(Queue::new(lower, upper, general::Known::default(), record)),
        };
        Ok(Self { clauses, limits, queue })
    }

    /// Goes on for at most `waves` waves. `graph` is the graph of `new`.
    pub fn advance(&mut self, graph: &Graph, waves: usize, cancel: &Cancel) -> Stopped {
        let (clauses, memory) = (&self.clauses, self.limits.memory);
        match &mut self.queue {
            Either::Reduced(queue) => run(queue, &Reduced, clauses, memory, waves, cancel),
            Either::General(queue) => {
                let prepared = Prepared::new(graph, cancel);
                let block_bytes = share(Some(memory));
                let analysis = Analysis { prepared: &prepared, method: Method::Crown, block_bytes };
                let bounder = General { analysis, rows: &clauses.rows };
                run(queue, &bounder, clauses, memory, waves, cancel)
            }
        }
    }

    /// Boxes bounded so far.
    pub fn domains(&self) -> usize {
        either!(self, queue => queue.domains)
    }

    /// Boxes that wait.
    pub fn waiting(&self) -> usize {
        either!(self, queue => queue.waiting())
    }

    /// The least by which a clause was refuted over the boxes that those that wait were cut from:
    /// not above zero; infinite where none waits.
    pub fn slack(&self) -> f64 {
        either!(self, queue => queue.slack())
    }

    /// Clauses that bounds over the whole region leave open; all of them before the first wave.
    pub fn open(&self) -> Vec<usize> {
        let all = || (0..self.clauses.sizes.len()).collect();
        either!(self, queue => queue.open.clone()).unwrap_or_else(all)
    }

    /// The tree of boxes, complete once everything is refuted; `None` where it was not asked for
    /// or is too large.
    pub fn proof(&self) -> Option<&BoxProof> {
        either!(self, queue => queue.record.proof())
    }
}

fn run<B: bounder::Bounder>(
    queue: &mut Queue<B::Known>,
    bounder: &B,
    clauses: &Clauses,
    memory: usize,
    waves: usize,
    cancel: &Cancel,
) -> Stopped {
    for _ in 0..waves {
        if queue.waiting() == 0 {
            return Stopped::Refuted;
        }
        if queue.stuck {
            return Stopped::Precision;
        }
        if queue.full(memory) {
            return Stopped::Memory;
        }
        if cancel.check().is_err() {
            return Stopped::Paused;
        }
        let points = queue.wave(bounder, clauses, memory, cancel);
        if !points.is_empty() {
            return Stopped::Points(points);
        }
    }
    if queue.waiting() == 0 { Stopped::Refuted } else { Stopped::Paused }
}
