//! Elections by plurality, and by a run-off of the leading two.

use std::cmp::Reverse;

use aisec_numeric::{Cancel, Cancelled};
use rayon::prelude::*;

use super::{VoteClaim, VoteFault};

/// The models that each bucket of training data feeds.
#[derive(Debug, Clone)]
pub struct Buckets(Vec<Vec<usize>>);

impl Buckets {
    /// One bucket a model.
    pub fn one_each(models: usize) -> Self {
        Self((0..models).map(|model| vec![model]).collect())
    }

    /// `feeds` lists `each` models for every bucket. None when they are not distinct models below
    /// `models`.
    pub fn new(feeds: &[u32], each: usize, models: usize) -> Option<Self> {
        if each == 0 || !feeds.len().is_multiple_of(each) {
            return None;
        }
        let mut buckets = Vec::with_capacity(feeds.len() / each);
        for feeds in feeds.chunks_exact(each) {
            let bucket: Vec<usize> = feeds.iter().map(|&model| model as usize).collect();
            let mut sorted = bucket.clone();
            sorted.sort_unstable();
            sorted.dedup();
            if sorted.len() < each || sorted.last().is_none_or(|&last| last >= models) {
                return None;
            }
            buckets.push(bucket);
        }
        Some(Self(buckets))
    }

    /// The most that `count` buckets can move, where a model moves as far as `reach` says.
    fn worst(&self, count: usize, reach: impl Fn(usize) -> i64) -> i64 {
        let mut moves: Vec<i64> =
            self.0.iter().map(|bucket| bucket.iter().map(|&model| reach(model)).sum()).collect();
        moves.sort_unstable_by_key(|&far| Reverse(far));
        moves.iter().take(count).sum()
    }
}

/// Checks claims about the plurality of `models` votes, sample after sample; None where one holds.
///
/// # Errors
/// When cancelled.
pub fn check_plurality(
    votes: &[u32],
    models: usize,
    classes: usize,
    buckets: &Buckets,
    claims: &[VoteClaim],
    cancel: &Cancel,
) -> Result<Vec<Option<VoteFault>>, Cancelled> {
    each(votes, models, claims, cancel, |votes, claim| {
        let lead = |class: usize, rival: usize| lead(votes, class, rival);
        let class = elected(classes, lead, claim.class)?;
        let Some(radius) = radius(claim, buckets)? else { return Ok(()) };
        for rival in (0..classes).filter(|&rival| rival != class) {
            // A model's vote, of the three kinds there are, moves to the rival.
            let reach = |model: usize| reach(votes[model], class, rival);
            if buckets.worst(radius, reach) > lead(class, rival) {
                return Err(VoteFault::Rival(rival));
            }
        }
        Ok(())
    })
}

/// Checks claims about run-offs, from logits `[samples, models, classes]`; None where one holds.
///
/// # Errors
/// When cancelled.
pub fn check_run_off(
    logits: &[f32],
    models: usize,
    classes: usize,
    buckets: &Buckets,
    claims: &[VoteClaim],
    cancel: &Cancel,
) -> Result<Vec<Option<VoteFault>>, Cancelled> {
    each(logits, models * classes, claims, cancel, |logits, claim| {
        let of = |model: usize| &logits[model * classes..][..classes];
        let votes: Vec<u32> = (0..models).map(|model| favourite(of(model))).collect();
        let first = |class: usize, rival: usize| lead(&votes, class, rival);
        let duel = |class: usize, rival: usize| -> Vec<u32> {
            (0..models)
                .map(|model| if above(of(model), class, rival) { class } else { rival } as u32)
                .collect()
        };
        let leader = winner(classes, first, None);
        if classes == 1 {
            elected_is(claim.class, leader)?;
            return radius(claim, buckets).map(|_| ());
        }
        let second = winner(classes, first, Some(leader));
        let ahead = lead(&duel(leader, second), leader, second) >= 0;
        let (class, other) = if ahead { (leader, second) } else { (second, leader) };
        elected_is(claim.class, class)?;
        let Some(radius) = radius(claim, buckets)? else { return Ok(()) };
        // Who can pass the class, or the other of the two, with so many buckets?
        let passes = |class: usize, rival: usize| {
            buckets.worst(radius, |model| reach(votes[model], class, rival)) > first(class, rival)
        };
        let rivals: Vec<usize> = (0..classes).filter(|&rival| rival != class).collect();
        for &rival in &rivals {
            let choices = duel(class, rival);
            let reach = |model: usize| reach(choices[model], class, rival);
            let beaten = buckets.worst(radius, reach) > lead(&choices, class, rival);
            if beaten && (rival == other || passes(other, rival)) {
                return Err(VoteFault::Rival(rival));
            }
        }
        let ahead: Vec<usize> = rivals.into_iter().filter(|&rival| passes(class, rival)).collect();
        for (i, &one) in ahead.iter().enumerate() {
            for &two in &ahead[..i] {
                // Both must pass it at once: a model makes up at most 3 of the two leads together,
                // where it leaves the class for one of them.
                let reach = |model: usize| match votes[model] as usize {
                    vote if vote == class => 3,
                    vote if vote == one || vote == two => 0,
                    _ => 1,
                };
                let needed = |rival| (first(class, rival) + 1).max(0);
                if buckets.worst(radius, reach) >= needed(one) + needed(two) {
                    return Err(VoteFault::KeptOut(two, one));
                }
            }
        }
        Ok(())
    })
}

/// By how many votes `class` is ahead of `rival`; not negative where it is before it.
fn lead(votes: &[u32], class: usize, rival: usize) -> i64 {
    let count = |class: usize| votes.iter().filter(|&&vote| vote as usize == class).count() as i64;
    count(class) - count(rival) - i64::from(rival < class)
}

/// How far one vote that turns to `rival` moves the lead.
fn reach(vote: u32, class: usize, rival: usize) -> i64 {
    match vote as usize {
        vote if vote == class => 2,
        vote if vote == rival => 0,
        _ => 1,
    }
}

fn winner(classes: usize, lead: impl Fn(usize, usize) -> i64, except: Option<usize>) -> usize {
    let stands = |class: &usize| Some(*class) != except;
    let wins = |class: &usize| {
        (0..classes).filter(stands).all(|rival| rival == *class || lead(*class, rival) >= 0)
    };
    (0..classes).filter(stands).find(wins).unwrap_or(0)
}

fn elected(
    classes: usize,
    lead: impl Fn(usize, usize) -> i64,
    claimed: i64,
) -> Result<usize, VoteFault> {
    let class = winner(classes, lead, None);
    elected_is(claimed, class)?;
    Ok(class)
}

fn elected_is(claimed: i64, class: usize) -> Result<(), VoteFault> {
    if claimed == class as i64 { Ok(()) } else { Err(VoteFault::Elected(class)) }
}

fn radius(claim: VoteClaim, buckets: &Buckets) -> Result<Option<usize>, VoteFault> {
    match usize::try_from(claim.radius) {
        Err(_) => Ok(None),
        Ok(radius) if radius > buckets.0.len() => Err(VoteFault::Buckets(buckets.0.len())),
        Ok(radius) => Ok(Some(radius)),
    }
}

/// The smallest of the classes that no other is above.
fn favourite(logits: &[f32]) -> u32 {
    let classes = 0..logits.len();
    let best = classes.clone().find(|&one| classes.clone().all(|two| !exceeds(logits, two, one)));
    best.unwrap_or(0) as u32
}

/// Whether a model puts `class` before `rival`; of equal ones the smaller comes first.
fn above(logits: &[f32], class: usize, rival: usize) -> bool {
    exceeds(logits, class, rival) || (class < rival && !exceeds(logits, rival, class))
}

/// Whether a logit is larger than another; NaN is smaller than any number.
fn exceeds(logits: &[f32], one: usize, two: usize) -> bool {
    logits[one] > logits[two] || (logits[two].is_nan() && !logits[one].is_nan())
}

pub(super) fn each<T: Sync>(
    items: &[T],
    len: usize,
    claims: &[VoteClaim],
    cancel: &Cancel,
    check: impl Fn(&[T], VoteClaim) -> Result<(), VoteFault> + Sync,
) -> Result<Vec<Option<VoteFault>>, Cancelled> {
    items
        .par_chunks_exact(len.max(1))
        .zip(claims)
        .map(|(items, &claim)| {
            cancel.check()?;
            Ok(check(items, claim).err())
        })
        .collect()
}
