//! The boxes that wait, and the waves they are taken in.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use aisec_numeric::Cancel;
use rayon::prelude::*;

use super::bounder::Bounder;
use super::clauses::Clauses;
use super::explore::{Buffers, Explorer, Part};
use super::record::{Place, Record};

/// Parts explored together; a part of what the result depends on.
const WAVE: usize = 32;
/// Bytes of a part beside its box and what is known of it.
const OVERHEAD: usize = 160;

/// Parts by slack, the worst first, where counterexamples are most likely; once they take too
/// much memory the newest first, which keeps the queue short.
pub(super) struct Queue<K> {
    root: K,
    worst: BinaryHeap<Waiting<K>>,
    newest: Vec<Waiting<K>>,
    serial: usize,
    bytes: usize,
    pub record: Record,
    pub domains: usize,
    pub stuck: bool,
    /// Clauses that the bounds over the whole region leave open, once they are known.
    pub open: Option<Vec<usize>>,
}

struct Waiting<K> {
    part: Part<K>,
    serial: usize,
    bytes: usize,
}

impl<K> Ord for Waiting<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        let slack = other.part.slack.total_cmp(&self.part.slack);
        slack.then(other.serial.cmp(&self.serial))
    }
}

impl<K> PartialOrd for Waiting<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> PartialEq for Waiting<K> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<K> Eq for Waiting<K> {}

impl<K: Clone + Send + Sync> Queue<K> {
    pub fn new(lower: &[f64], upper: &[f64], known: K, record: Record) -> Self {
        let mut queue = Self {
            root: known.clone(),
            worst: BinaryHeap::new(),
            newest: Vec::new(),
            serial: 0,
            bytes: 0,
            record,
            domains: 0,
            stuck: false,
            open: None,
        };
        let (lower, upper) = (lower.to_vec(), upper.to_vec());
        queue.push(
            Part { lower, upper, slack: f64::NEG_INFINITY, known, place: Place::Tree(0) },
            0,
            false,
        );
        queue
    }

    pub fn waiting(&self) -> usize {
        self.worst.len() + self.newest.len()
    }

    pub fn slack(&self) -> f64 {
        let all = self.worst.iter().chain(&self.newest);
        all.fold(f64::INFINITY, |least, waiting| least.min(waiting.part.slack))
    }

    fn push(&mut self, part: Part<K>, known: usize, newest: bool) {
        // Both halves of a box share what is known of it.
        let bytes = OVERHEAD + 16 * part.lower.len() + known / 2;
        self.bytes += bytes;
        let waiting = Waiting { part, serial: self.serial, bytes };
        self.serial += 1;
        if newest { self.newest.push(waiting) } else { self.worst.push(waiting) }
    }

    fn pop(&mut self) -> Option<Part<K>> {
        let waiting = self.newest.pop().or_else(|| self.worst.pop())?;
        self.bytes -= waiting.bytes;
        Some(waiting.part)
    }

    /// Explores the next wave; returns points that may be counterexamples.
    pub fn wave<B: Bounder<Known = K>>(
        &mut self,
        bounder: &B,
        clauses: &Clauses,
        limit: usize,
        cancel: &Cancel,
    ) -> Vec<Vec<f64>> {
        // The root alone comes first: what it leaves open directs the search elsewhere.
        let budget = if self.open.is_none() { 1 } else { B::BUDGET };
        let mut taken = Vec::with_capacity(WAVE);
        while taken.len() < WAVE
            && let Some(part) = self.pop()
        {
            taken.push(part);
        }
        let record = self.record.wanted();
        let explorer = Explorer { bounder, clauses, budget, record, cancel };
        let found: Vec<_> = taken
            .into_par_iter()
            .with_max_len(1)
            .map_init(Buffers::default, |buffers, part| {
                let Place::Tree(given) = part.place else { unreachable!("it was in the queue") };
                (given, explorer.explore(part, buffers))
            })
            .collect();
        let mut points = Vec::new();
        let crowded = self.bytes > limit / 2;
        for (given, explored) in found {
            let offset = self.record.add(given, explored.own, explored.added);
            for mut part in explored.rest {
                if let Place::Added(at) = part.place {
                    part.place = Place::Tree(offset + at);
                }
                let known = bounder.bytes(&part.known);
                self.push(part, known, crowded);
            }
            self.domains += explored.domains;
            self.stuck |= explored.stuck;
            if explored.domains > 0 && self.open.is_none() {
                self.open = Some(explored.open);
            }
            points.extend(explored.points);
        }
        if self.bytes > limit {
            self.forget();
        }
        points
    }

    /// Lets go of what is known of parts but for their boxes; it is found again from the root.
    fn forget(&mut self) {
        let mut waiting = std::mem::take(&mut self.worst).into_vec();
        for waiting in waiting.iter_mut().chain(&mut self.newest) {
            waiting.part.known = self.root.clone();
            let bytes = OVERHEAD + 16 * waiting.part.lower.len();
            self.bytes -= waiting.bytes - bytes;
            waiting.bytes = bytes;
        }
        self.worst = waiting.into();
    }

    /// Whether the boxes alone take more than the limit.
    pub fn full(&self, limit: usize) -> bool {
        self.bytes > limit
    }
}
