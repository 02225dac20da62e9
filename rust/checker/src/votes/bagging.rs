//! Bagging: limits of probabilities from counts, and the theorem that turns them into a radius.

use std::collections::BTreeMap;

use aisec_numeric::rounding::{
    add_down, add_up, div_down, div_up, mul_down, mul_up, sub_down, sub_up,
};
use aisec_numeric::{Cancel, Cancelled};

use super::{VoteClaim, VoteFault};

/// How the models' training sets were drawn.
#[derive(Debug, Clone, Copy)]
pub struct Draws {
    /// Samples in the training set.
    pub samples: u64,
    /// Samples that each model was trained on, drawn with replacement.
    pub drawn: u32,
    /// Probability that a claim is wrong.
    pub alpha: f64,
}

/// Checks claims about the most probable class of a bagged ensemble; None where one holds.
///
/// Counts bound probabilities by Clopper and Pearson's limits, `alpha / classes` each; so much
/// poison cannot change the class if Jia, Cao & Gong's condition (2021, theorem 1) holds for every
/// size that the poisoned set may have. Every rounding goes against the claim.
///
/// # Errors
/// When cancelled.
pub fn check_bagging(
    votes: &[u32],
    models: usize,
    classes: usize,
    draws: Draws,
    claims: &[VoteClaim],
    cancel: &Cancel,
) -> Result<Vec<Option<VoteFault>>, Cancelled> {
    let share = div_down(draws.alpha, classes.max(1) as f64);
    let mut limits = BTreeMap::new();
    let mut limit = |hits: usize| {
        *limits.entry(hits).or_insert_with(|| lower_limit(hits as u32, models as u32, share))
    };
    let mut known = BTreeMap::new();
    let mut faults = Vec::with_capacity(claims.len());
    for (votes, claim) in votes.chunks_exact(models.max(1)).zip(claims) {
        cancel.check()?;
        let mut counts = vec![0; classes];
        votes.iter().for_each(|&vote| counts[vote as usize] += 1);
        let order = |&class: &usize| (counts[class], classes - class);
        let class = (0..classes).max_by_key(order).unwrap_or(0);
        let rival = (0..classes).filter(|&rival| rival != class).max_by_key(order);
        faults.push(if claim.class != class as i64 {
            Some(VoteFault::Elected(class))
        } else if let (Ok(radius), Some(rival)) = (u64::try_from(claim.radius), rival) {
            let pair = (counts[class], counts[rival], radius);
            let holds = *known.entry(pair).or_insert_with(|| {
                let low = limit(pair.0);
                let high = sub_up(1.0, limit(models - pair.1)).min(sub_up(1.0, low));
                survives(low, high, draws, radius)
            });
            (!holds).then_some(VoteFault::Rival(rival))
        } else {
            None
        });
    }
    Ok(faults)
}

/// A p for which at least `hits` of `total` have a probability of at most `alpha`.
fn lower_limit(hits: u32, total: u32, alpha: f64) -> f64 {
    let (mut low, mut high) = (0.0, f64::from(hits) / f64::from(total.max(1)));
    for _ in 0..80 {
        let middle = low + (high - low) / 2.0;
        if tail(hits, total, middle) <= alpha { low = middle } else { high = middle }
    }
    low
}

/// At least the probability of `hits` or more of `total`, each of probability `p`.
fn tail(hits: u32, total: u32, p: f64) -> f64 {
    if hits == 0 || p >= 1.0 {
        return 1.0;
    }
    let (q_up, q_down) = (sub_up(1.0, p), sub_down(1.0, p));
    // The first term, large factors and small ones in turn.
    let (mut term, mut left) = (1.0, total - hits);
    for i in 1..=hits {
        term = mul_up(term, mul_up(p, div_up(f64::from(total - hits + i), f64::from(i))));
        while term > 1.0 && left > 0 {
            term = mul_up(term, q_up);
            left -= 1;
        }
    }
    (0..left).for_each(|_| term = mul_up(term, q_up));
    let odds = div_up(p, q_down);
    let mut sum = term;
    for j in hits..total {
        term = mul_up(term, mul_up(odds, div_up(f64::from(total - j), f64::from(j + 1))));
        sum = add_up(sum, term);
    }
    sum
}

/// Whether the condition holds for all sizes from the training set's to `radius` more.
///
/// Smaller sets need not be looked at: the first term grows with the size, and the second does not
/// change below the training set's.
fn survives(low: f64, high: f64, draws: Draws, radius: u64) -> bool {
    let n = draws.samples as f64;
    if radius > draws.samples {
        return false;
    }
    // The theorem rounds the limits to multiples of n^-k: at most that is lost, twice.
    let grain = power(div_up(1.0, n), draws.drawn, mul_up);
    let gap = sub_down(sub_down(low, high), mul_up(2.0, grain));
    (draws.samples..=draws.samples + radius).all(|size| {
        let grown = power(div_up(size as f64, n), draws.drawn, mul_up);
        let kept = power(div_down((size - radius) as f64, n), draws.drawn, mul_down);
        // grown - 2 kept + 1 - gap < 0
        add_up(grown, 1.0) < add_down(mul_down(2.0, kept), gap)
    })
}

fn power(base: f64, exponent: u32, times: fn(f64, f64) -> f64) -> f64 {
    let (mut result, mut square, mut left) = (1.0, base, exponent);
    while left > 0 {
        if left & 1 == 1 {
            result = times(result, square);
        }
        square = times(square, square);
        left >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_barely_above_the_sum_of_its_terms() {
        for (hits, total, p) in [(1, 1, 0.25), (3, 5, 0.5), (7, 20, 0.1), (20, 20, 0.9)] {
            let choose =
                |k: u32| (1..=k).fold(1.0, |c, i| c * f64::from(total - k + i) / f64::from(i));
            let exact: f64 = (hits..=total)
                .map(|k| {
                    choose(k) * f64::powi(p, k as i32) * f64::powi(1.0 - p, (total - k) as i32)
                })
                .sum();
            let found = tail(hits, total, p);
            assert!(found >= exact * (1.0 - 1e-15) && found <= exact * (1.0 + 1e-12));
        }
        assert!(tail(1000, 1000, 0.01) > 0.0);
    }

    #[test]
    fn the_limit_is_where_the_tail_is_alpha() {
        for (hits, total) in [(1, 10), (9, 10), (700, 1000), (1000, 1000)] {
            let p = lower_limit(hits, total, 0.001);
            assert!(tail(hits, total, p) <= 0.001 && tail(hits, total, p + 1e-9) > 0.001);
        }
        assert_eq!(lower_limit(0, 10, 0.001), 0.0);
        // All of n: p^n = alpha.
        assert!((lower_limit(100, 100, 0.01) - 0.01f64.powf(0.01)).abs() < 1e-12);
    }

    #[test]
    fn the_condition_follows_the_contact_of_draws_with_poison() {
        let draws = Draws { samples: 1000, drawn: 10, alpha: 0.001 };
        let last = (0..1000).take_while(|&r| survives(0.95, 0.02, draws, r)).count() as i32 - 1;
        // With r of n replaced: 1 - ((n - r) / n)^k of the draws meet poison, on either side.
        let contact = |r: i32| 1.0 - f64::powi(1.0 - f64::from(r) / 1000.0, 10);
        assert!(2.0 * contact(last) < 0.93 && 2.0 * contact(last + 2) > 0.93);
        assert!(!survives(0.5, 0.5, draws, 0) && survives(0.6, 0.4, draws, 0));
    }
}
