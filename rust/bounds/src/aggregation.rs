//! Certified radii of ensembles against poisoned training data, from the votes of their members.
//!
//! The training set is cut into buckets, and each bucket feeds some of the models. A radius is a
//! number of buckets: however the samples of that many are changed, added or removed, and whatever
//! the models they feed then say, the ensemble's prediction stands.
//! Deep partition aggregation: Levine & Feizi, ICLR 2021 (arXiv:2006.14768). Finite aggregation:
//! Wang et al., ICML 2022 (arXiv:2202.02628). Run-off election: Rezaei et al., ICML 2023
//! (arXiv:2302.02300). Between equal counts the smaller class wins, everywhere.

use aisec_numeric::{Cancel, Cancelled};
use rayon::prelude::*;

/// Samples that one thread certifies between two looks at `cancel`.
const BLOCK: usize = 64;

/// A prediction, and how many buckets may be poisoned without changing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Certified {
    pub class: u32,
    pub radius: u32,
}

/// Which models each bucket feeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feeds {
    models: Vec<u32>,
    /// Models of each bucket.
    spread: usize,
}

impl Feeds {
    /// `models` lists `spread` distinct models for each bucket.
    ///
    /// # Panics
    /// When the list is not a multiple of `spread`, or `spread` is zero.
    pub fn new(models: Vec<u32>, spread: usize) -> Self {
        assert!(spread > 0 && models.len().is_multiple_of(spread), "`spread` models a bucket");
        Self { models, spread }
    }

    /// One bucket for each of `count` models: deep partition aggregation.
    pub fn partition(count: u32) -> Self {
        Self::new((0..count).collect(), 1)
    }

    fn buckets(&self) -> impl Iterator<Item = &[u32]> {
        self.models.chunks_exact(self.spread)
    }
}

/// Deep partition aggregation: the published radius, `(n_c - max(n_i + [i < c])) / 2` rounded down.
///
/// `votes` holds one class of `classes` for each of `models` models, sample after sample.
///
/// # Errors
/// When cancelled.
pub fn partition(
    votes: &[u32],
    models: usize,
    classes: usize,
    cancel: &Cancel,
) -> Result<Vec<Certified>, Cancelled> {
    by_sample(votes, models, cancel, || {
        let mut counts = vec![0u32; classes];
        move |votes: &[u32]| {
            count(votes, &mut counts);
            let class = first_of_largest(&counts, None);
            let gap = (0..classes)
                .filter(|&rival| rival != class)
                .map(|rival| gap(&counts, class, rival).div_ceil(2) - 1)
                .min();
            Certified { class: class as u32, radius: gap.unwrap_or(models as u32) }
        }
    })
}

/// Finite aggregation: for each rival, the buckets that move the vote most are poisoned first.
///
/// # Errors
/// When cancelled.
pub fn finite(
    votes: &[u32],
    models: usize,
    classes: usize,
    feeds: &Feeds,
    cancel: &Cancel,
) -> Result<Vec<Certified>, Cancelled> {
    by_sample(votes, models, cancel, || {
        let mut tally = Tally::new(feeds, classes);
        move |votes: &[u32]| {
            tally.count(votes, feeds);
            let class = first_of_largest(&tally.total, None);
            let needed = (0..classes)
                .filter(|&rival| rival != class)
                .map(|rival| tally.needed_to_pass(class, rival))
                .min();
            tally.certified(class, needed)
        }
    })
}

/// Run-off election: the two classes with most votes meet again, each model choosing between them
/// by its logits, `[samples, models, classes]`.
///
/// Poison wins by keeping the class out of the run-off, which takes two rivals that pass it, or by
/// bringing there a rival that then beats it.
///
/// # Errors
/// When cancelled.
pub fn run_off(
    logits: &[f32],
    models: usize,
    classes: usize,
    feeds: &Feeds,
    cancel: &Cancel,
) -> Result<Vec<Certified>, Cancelled> {
    by_sample(logits, models * classes, cancel, || {
        let mut first = Tally::new(feeds, classes);
        let mut duel = Tally::new(feeds, 2);
        let (mut votes, mut choices) = (vec![0u32; models], vec![0u32; models]);
        move |logits: &[f32]| {
            for (vote, logits) in votes.iter_mut().zip(logits.chunks_exact(classes)) {
                *vote = best(logits);
            }
            first.count(&votes, feeds);
            let leader = first_of_largest(&first.total, None);
            if classes == 1 {
                return first.certified(leader, None);
            }
            let second = first_of_largest(&first.total, Some(leader));
            let mut meet = |duel: &mut Tally, one: usize, other: usize| {
                for (choice, logits) in choices.iter_mut().zip(logits.chunks_exact(classes)) {
                    *choice = u32::from(prefers(logits, other, one));
                }
                duel.count(&choices, feeds);
            };
            let (low, high) = (leader.min(second), leader.max(second));
            meet(&mut duel, low, high);
            let (class, other) =
                if duel.total[0] >= duel.total[1] { (low, high) } else { (high, low) };
            let mut needed = first.needed_to_keep_out(class);
            for rival in (0..classes).filter(|&rival| rival != class) {
                // In a duel the smaller class comes first, as ties go to it.
                let (low, high) = (class.min(rival), class.max(rival));
                meet(&mut duel, low, high);
                let (mine, theirs) = if class < rival { (0, 1) } else { (1, 0) };
                let beaten = duel.needed_to_pass(mine, theirs);
                let there = if rival == other { 0 } else { first.needed_to_pass(other, rival) };
                needed = needed.min(beaten.max(there));
            }
            first.certified(class, Some(needed))
        }
    })
}

/// Runs `certify` on every sample's `len` items, `make` once for each block of samples.
fn by_sample<T: Sync, F: FnMut(&[T]) -> Certified>(
    items: &[T],
    len: usize,
    cancel: &Cancel,
    make: impl Fn() -> F + Sync,
) -> Result<Vec<Certified>, Cancelled> {
    let len = len.max(1);
    let blocks: Result<Vec<Vec<Certified>>, Cancelled> = items
        .par_chunks(BLOCK * len)
        .map(|block| {
            cancel.check()?;
            Ok(block.chunks_exact(len).map(make()).collect())
        })
        .collect();
    Ok(blocks?.concat())
}

/// Votes of one sample: in all, and by bucket.
struct Tally {
    total: Vec<u32>,
    /// `[buckets, classes]`: votes of the models that each bucket feeds.
    part: Vec<u32>,
    spread: u32,
    classes: usize,
    /// How many buckets move a gap by each amount.
    moves: Vec<u32>,
}

impl Tally {
    fn new(feeds: &Feeds, classes: usize) -> Self {
        let buckets = feeds.models.len() / feeds.spread;
        Self {
            total: vec![0; classes],
            part: vec![0; buckets * classes],
            spread: feeds.spread as u32,
            classes,
            moves: Vec::new(),
        }
    }

    fn count(&mut self, votes: &[u32], feeds: &Feeds) {
        count(votes, &mut self.total);
        for (part, models) in self.part.chunks_exact_mut(self.classes).zip(feeds.buckets()) {
            part.fill(0);
            for &model in models {
                part[votes[model as usize] as usize] += 1;
            }
        }
    }

    /// Fewest buckets after which `rival` can be ahead of `class`; `u32::MAX` when all are not
    /// enough. A model moves the gap by 2 when it leaves the class for the rival, by 1 when it
    /// leaves another, not at all when it is the rival's.
    fn needed_to_pass(&mut self, class: usize, rival: usize) -> u32 {
        let (gap, spread) = (gap_or_none(&self.total, class, rival), self.spread);
        self.needed(gap, |part| spread + part[class] - part[rival])
    }

    /// Fewest buckets after which two rivals can be ahead of `class`: for each of the two, and for
    /// their gaps together, of which a model moves at most 3.
    fn needed_to_keep_out(&mut self, class: usize) -> u32 {
        let rivals: Vec<usize> = (0..self.classes).filter(|&rival| rival != class).collect();
        let alone: Vec<u32> =
            rivals.iter().map(|&rival| self.needed_to_pass(class, rival)).collect();
        let mut fewest = u32::MAX;
        for (i, &one) in rivals.iter().enumerate() {
            for (j, &other) in rivals.iter().enumerate().take(i) {
                let each = alone[i].max(alone[j]);
                if each >= fewest {
                    continue;
                }
                let spread = self.spread;
                let gaps = signed_gap(&self.total, class, one).max(0)
                    + signed_gap(&self.total, class, other).max(0);
                let both = self.needed(gaps as u32, |part| {
                    (spread + 2 * part[class]).saturating_sub(part[one] + part[other])
                });
                fewest = fewest.min(each.max(both));
            }
        }
        fewest
    }

    /// Fewest buckets whose moves add up to `gap`.
    fn needed(&mut self, gap: u32, moved: impl Fn(&[u32]) -> u32) -> u32 {
        if gap == 0 {
            return 0;
        }
        self.moves.clear();
        self.moves.resize(3 * self.spread as usize + 1, 0);
        for part in self.part.chunks_exact(self.classes) {
            self.moves[moved(part) as usize] += 1;
        }
        let (mut left, mut used) = (u64::from(gap), 0);
        for (step, &buckets) in self.moves.iter().enumerate().skip(1).rev() {
            let step = step as u64;
            let enough = left.div_ceil(step);
            if enough <= u64::from(buckets) {
                return used + enough as u32;
            }
            left -= step * u64::from(buckets);
            used += buckets;
        }
        u32::MAX
    }

    /// The radius is one bucket less than poison needs; all buckets where it needs more.
    fn certified(&self, class: usize, needed: Option<u32>) -> Certified {
        let buckets = (self.part.len() / self.classes) as u32;
        let radius = needed.unwrap_or(u32::MAX).saturating_sub(1).min(buckets);
        Certified { class: class as u32, radius }
    }
}

fn count(votes: &[u32], counts: &mut [u32]) {
    counts.fill(0);
    for &vote in votes {
        counts[vote as usize] += 1;
    }
}

/// The class with the largest count, `except` left out.
fn first_of_largest(counts: &[u32], except: Option<usize>) -> usize {
    let mut best = None;
    for (class, &count) in counts.iter().enumerate() {
        if Some(class) != except && best.is_none_or(|(_, largest)| count > largest) {
            best = Some((class, count));
        }
    }
    best.map_or(0, |(class, _)| class)
}

/// How far `rival` must come up on `class` to be ahead of it; not positive where it is.
fn signed_gap(counts: &[u32], class: usize, rival: usize) -> i64 {
    i64::from(counts[class]) - i64::from(counts[rival]) + i64::from(class < rival)
}

/// [`signed_gap`] of the winner, which is positive.
fn gap(counts: &[u32], class: usize, rival: usize) -> u32 {
    signed_gap(counts, class, rival) as u32
}

/// [`signed_gap`], or zero where the rival is ahead already.
fn gap_or_none(counts: &[u32], class: usize, rival: usize) -> u32 {
    signed_gap(counts, class, rival).max(0) as u32
}

/// The first of the largest logits; NaN is smaller than any number.
fn best(logits: &[f32]) -> u32 {
    let mut best = 0;
    for class in 1..logits.len() {
        if logits[class] > logits[best] || logits[best].is_nan() && !logits[class].is_nan() {
            best = class;
        }
    }
    best as u32
}

/// Whether a model chooses `class` over the smaller class `other`.
fn prefers(logits: &[f32], class: usize, other: usize) -> bool {
    logits[class] > logits[other] || logits[other].is_nan() && !logits[class].is_nan()
}

#[cfg(test)]
mod tests;
