//! Claims are accepted exactly where no poison changes the election, by enumeration.

use aisec_numeric::Cancel;
use proptest::prelude::*;

use super::*;

fn plurality(votes: &[u32], classes: u32) -> u32 {
    let count = |class: u32| votes.iter().filter(|&&vote| vote == class).count();
    (0..classes).rev().max_by_key(|&class| count(class)).unwrap()
}

/// Winner of a run-off in which model `m` ranks the classes by `ranks[m]`.
fn run_off(ranks: &[Vec<u32>], classes: u32) -> u32 {
    let votes: Vec<u32> = ranks.iter().map(|rank| rank[0]).collect();
    let mut order: Vec<u32> = (0..classes).collect();
    order.sort_by_key(|&class| {
        (votes.len() - votes.iter().filter(|&&vote| vote == class).count(), class)
    });
    let pair = [order[0].min(order[1]), order[0].max(order[1])];
    let choices: Vec<u32> = ranks
        .iter()
        .map(|rank| u32::from(rank.iter().find(|class| pair.contains(class)) == Some(&pair[1])))
        .collect();
    pair[plurality(&choices, 2) as usize]
}

/// Whether some `count` buckets can change what `says` of the models.
fn changes<T: Clone>(
    models: &[T],
    feeds: &[Vec<u32>],
    count: usize,
    options: &[T],
    says: impl Fn(&[T]) -> u32,
) -> bool {
    let truth = says(models);
    (0..1u32 << feeds.len()).filter(|set| set.count_ones() as usize == count).any(|set| {
        let hit: Vec<usize> = (0..models.len())
            .filter(|&model| {
                feeds
                    .iter()
                    .enumerate()
                    .any(|(bucket, fed)| set >> bucket & 1 == 1 && fed.contains(&(model as u32)))
            })
            .collect();
        (0..options.len().pow(hit.len() as u32)).any(|mut code| {
            let mut models = models.to_vec();
            for &model in &hit {
                models[model] = options[code % options.len()].clone();
                code /= options.len();
            }
            says(&models) != truth
        })
    })
}

fn spread(models: u32, shifts: &[u32]) -> Vec<Vec<u32>> {
    (0..models).map(|b| shifts.iter().map(|s| (b + s) % models).collect()).collect()
}

fn buckets(feeds: &[Vec<u32>], models: usize) -> Buckets {
    Buckets::new(&feeds.concat(), feeds[0].len(), models).unwrap()
}

/// The largest radius the checker accepts.
fn largest(most: usize, accepted: impl Fn(i64) -> bool) -> usize {
    (0..=most).take_while(|&radius| accepted(radius as i64)).count() - 1
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn one_bucket_a_model_is_decided_exactly(votes in prop::collection::vec(0u32..3, 1..7)) {
        let class = plurality(&votes, 3);
        let accepts = |class, radius| {
            let claims = [VoteClaim { class, radius }];
            let buckets = Buckets::one_each(votes.len());
            check_plurality(&votes, votes.len(), 3, &buckets, &claims, &Cancel::new()).unwrap()[0]
        };
        let feeds = spread(votes.len() as u32, &[0]);
        for radius in 0..=votes.len() {
            let changed = changes(&votes, &feeds, radius, &[0, 1, 2], |v| plurality(v, 3));
            prop_assert_eq!(accepts(i64::from(class), radius as i64).is_some(), changed);
        }
        prop_assert_eq!(accepts(i64::from(class), -1), None);
        prop_assert_eq!(
            accepts(i64::from(class) + 1, 0),
            Some(VoteFault::Elected(class as usize))
        );
        let beyond = accepts(i64::from(class), votes.len() as i64 + 1);
        prop_assert_eq!(beyond, Some(VoteFault::Buckets(votes.len())));
    }

    #[test]
    fn what_is_accepted_of_shared_models_holds(
        votes in prop::collection::vec(0u32..3, 5),
        shifts in prop::sample::subsequence(vec![0u32, 1, 2, 3, 4], 2),
    ) {
        let feeds = spread(5, &shifts);
        let class = i64::from(plurality(&votes, 3));
        let radius = largest(5, |radius| {
            let claims = [VoteClaim { class, radius }];
            let buckets = buckets(&feeds, 5);
            check_plurality(&votes, 5, 3, &buckets, &claims, &Cancel::new()).unwrap()[0].is_none()
        });
        prop_assert!(!changes(&votes, &feeds, radius, &[0, 1, 2], |v| plurality(v, 3)));
    }

    #[test]
    fn what_is_accepted_of_run_offs_holds(
        picks in prop::collection::vec(0usize..6, 2..6), each in 1usize..3,
    ) {
        let options: Vec<Vec<u32>> =
            [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]].map(Vec::from).into();
        let ranks: Vec<Vec<u32>> = picks.iter().map(|&pick| options[pick].clone()).collect();
        let models = ranks.len();
        let mut logits = vec![0.0; 3 * models];
        for (model, rank) in ranks.iter().enumerate() {
            rank.iter().enumerate().for_each(|(at, &c)| logits[3 * model + c as usize] = -(at as f32));
        }
        let feeds = spread(models as u32, &[0, 1][..each]);
        let class = i64::from(run_off(&ranks, 3));
        let check = |class, radius| {
            let claims = [VoteClaim { class, radius }];
            let buckets = buckets(&feeds, models);
            check_run_off(&logits, models, 3, &buckets, &claims, &Cancel::new()).unwrap()[0]
        };
        prop_assert_eq!(check((class + 1) % 3, 0), Some(VoteFault::Elected(class as usize)));
        let radius = largest(models, |radius| check(class, radius).is_none());
        for count in 1..=radius.min(2) {
            prop_assert!(!changes(&ranks, &feeds, count, &options, |r| run_off(r, 3)));
        }
    }
}

#[test]
fn feeds_that_name_a_model_twice_or_none_are_refused() {
    assert!(Buckets::new(&[0, 0], 2, 3).is_none());
    assert!(Buckets::new(&[0, 3], 2, 3).is_none());
    assert!(Buckets::new(&[0, 1, 2], 2, 3).is_none());
    assert!(Buckets::new(&[0, 1], 0, 3).is_none());
}

#[test]
fn bagging_refuses_one_sample_more_than_the_votes_carry() {
    let votes: Vec<u32> = (0..1000).map(|model| u32::from(model < 20)).collect();
    let draws = Draws { samples: 5000, drawn: 20, alpha: 0.001 };
    let accepts = |class, radius| {
        let claims = [VoteClaim { class, radius }];
        check_bagging(&votes, 1000, 2, draws, &claims, &Cancel::new()).unwrap()[0]
    };
    let last = (0..200).take_while(|&radius| accepts(0, radius).is_none()).count() as i64 - 1;
    assert!((140..160).contains(&last));
    assert_eq!(accepts(0, last + 1), Some(VoteFault::Rival(1)));
    assert_eq!(accepts(0, 1 << 40), Some(VoteFault::Rival(1)));
    assert_eq!(accepts(1, 0), Some(VoteFault::Elected(0)));
    assert_eq!(accepts(0, -1), None);
}
