//! Radii against every way to poison small ensembles.

use proptest::prelude::*;

use super::*;

/// What the ensemble says, by its definition.
fn plurality(votes: &[u32], classes: usize) -> u32 {
    let counts: Vec<usize> =
        (0..classes).map(|class| votes.iter().filter(|&&v| v as usize == class).count()).collect();
    (0..classes).max_by_key(|&class| (counts[class], classes - class)).unwrap() as u32
}

/// The run-off's winner when model `m` ranks the classes by `ranks[m]`, the first one first.
fn runoff(ranks: &[Vec<u32>], classes: usize) -> u32 {
    let votes: Vec<u32> = ranks.iter().map(|rank| rank[0]).collect();
    let first = plurality(&votes, classes);
    let without: Vec<u32> = votes.iter().copied().filter(|&v| v != first).collect();
    let mut second = plurality(&without, classes);
    if second == first {
        second = u32::from(first == 0);
    }
    let (low, high) = (first.min(second), first.max(second));
    let place = |rank: &Vec<u32>, class| rank.iter().position(|&c| c == class).unwrap();
    let wins = ranks.iter().filter(|rank| place(rank, low) < place(rank, high)).count();
    if 2 * wins >= ranks.len() { low } else { high }
}

/// Whether some choice of `count` buckets, and of what their models then say, changes `says`.
fn can_change<T: Clone>(
    items: &[T],
    feeds: &Feeds,
    count: usize,
    options: &[T],
    says: &dyn Fn(&[T]) -> u32,
) -> bool {
    let buckets: Vec<&[u32]> = feeds.buckets().collect();
    let truth = says(items);
    (0..1u32 << buckets.len()).filter(|set| set.count_ones() as usize == count).any(|set| {
        let mut models: Vec<usize> = (0..buckets.len())
            .filter(|i| set >> i & 1 == 1)
            .flat_map(|i| buckets[i].iter().map(|&m| m as usize))
            .collect();
        models.sort_unstable();
        models.dedup();
        let mut items = items.to_vec();
        (0..options.len().pow(models.len() as u32)).any(|mut code| {
            for &model in &models {
                items[model] = options[code % options.len()].clone();
                code /= options.len();
            }
            says(&items) != truth
        })
    })
}

fn permutations(classes: u32) -> Vec<Vec<u32>> {
    if classes == 0 {
        return vec![vec![]];
    }
    permutations(classes - 1)
        .into_iter()
        .flat_map(|rest| {
            (0..=rest.len()).map(move |at| {
                let mut whole = rest.clone();
                whole.insert(at, classes - 1);
                whole
            })
        })
        .collect()
}

fn as_logits(ranks: &[Vec<u32>]) -> Vec<f32> {
    let mut logits = Vec::new();
    for rank in ranks {
        let mut row = vec![0.0; rank.len()];
        for (place, &class) in rank.iter().enumerate() {
            row[class as usize] = -(place as f32);
        }
        logits.extend(row);
    }
    logits
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn partition_radii_are_exact(votes in prop::collection::vec(0u32..3, 1..7)) {
        let models = votes.len();
        let feeds = Feeds::partition(models as u32);
        let cancel = Cancel::new();
        let published = partition(&votes, models, 3, &cancel).unwrap()[0];
        let finite = finite(&votes, models, 3, &feeds, &cancel).unwrap()[0];
        let says = |votes: &[u32]| plurality(votes, 3);
        prop_assert_eq!(published.class, says(&votes));
        prop_assert_eq!(finite.class, published.class);
        // The published formula forgets that only votes for the class count twice.
        prop_assert!(published.radius <= finite.radius);
        let first = (1..=models).find(|&r| can_change(&votes, &feeds, r, &[0, 1, 2], &says));
        let exact = first.map_or(models, |r| r - 1) as u32;
        prop_assert_eq!(finite.radius, exact);
    }

    #[test]
    fn finite_radii_hold(
        votes in prop::collection::vec(0u32..3, 5),
        shifts in prop::collection::btree_set(0u32..5, 2),
    ) {
        let shifts: Vec<u32> = shifts.into_iter().collect();
        let models = (0..5).flat_map(|b| shifts.iter().map(move |s| (b + s) % 5)).collect();
        let feeds = Feeds::new(models, 2);
        let certified = finite(&votes, 5, 3, &feeds, &Cancel::new()).unwrap()[0];
        let says = |votes: &[u32]| plurality(votes, 3);
        prop_assert_eq!(certified.class, says(&votes));
        for count in 1..=certified.radius.min(2) as usize {
            prop_assert!(!can_change(&votes, &feeds, count, &[0, 1, 2], &says));
        }
    }

    #[test]
    fn run_off_radii_hold(picks in prop::collection::vec(0usize..6, 2..6), spread in 1usize..3) {
        let options = permutations(3);
        let ranks: Vec<Vec<u32>> = picks.iter().map(|&pick| options[pick].clone()).collect();
        let count = ranks.len() as u32;
        let models = (0..count)
            .flat_map(|b| (0..spread as u32).map(move |s| (b + s) % count))
            .collect();
        let feeds = Feeds::new(models, spread);
        let logits = as_logits(&ranks);
        let certified = run_off(&logits, ranks.len(), 3, &feeds, &Cancel::new()).unwrap()[0];
        let says = |ranks: &[Vec<u32>]| runoff(ranks, 3);
        prop_assert_eq!(certified.class, says(&ranks));
        for count in 1..=certified.radius.min(2) as usize {
            prop_assert!(!can_change(&ranks, &feeds, count, &options, &says));
        }
    }
}

#[test]
fn the_election_differs_from_the_vote() {
    // Class 0 leads with three of seven votes; everybody else prefers 1 to 0.
    let ranks: Vec<Vec<u32>> = [[0, 1, 2]; 3]
        .into_iter()
        .chain([[1, 2, 0]; 2])
        .chain([[2, 1, 0]; 2])
        .map(Vec::from)
        .collect();
    let feeds = Feeds::partition(7);
    let certified = run_off(&as_logits(&ranks), 7, 3, &feeds, &Cancel::new()).unwrap()[0];
    assert_eq!(certified.class, 1);
    let votes: Vec<u32> = ranks.iter().map(|rank| rank[0]).collect();
    assert_eq!(partition(&votes, 7, 3, &Cancel::new()).unwrap()[0].class, 0);
}

#[test]
fn many_samples_are_certified_one_by_one() {
    let votes: Vec<u32> = (0..1000u32).map(|i| i * i % 7 % 4).collect();
    let cancel = Cancel::new();
    let all = partition(&votes, 5, 4, &cancel).unwrap();
    for (votes, certified) in votes.chunks(5).zip(all) {
        assert_eq!(partition(votes, 5, 4, &cancel).unwrap(), [certified]);
    }
}

#[test]
fn one_class_cannot_be_changed() {
    let feeds = Feeds::partition(4);
    let whole = Certified { class: 0, radius: 4 };
    assert_eq!(partition(&[0; 4], 4, 1, &Cancel::new()).unwrap(), [whole]);
    assert_eq!(finite(&[0; 4], 4, 1, &feeds, &Cancel::new()).unwrap(), [whole]);
    assert_eq!(run_off(&[0.0; 4], 4, 1, &feeds, &Cancel::new()).unwrap(), [whole]);
}
