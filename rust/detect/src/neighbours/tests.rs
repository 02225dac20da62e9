use aisec_numeric::random::Stream;
use proptest::prelude::*;

use super::*;

fn random(samples: usize, dim: usize, seed: u64) -> Vec<f32> {
    let mut generator = Stream::new(seed, "neighbours", 0).at(0, 0);
    (0..samples * dim).map(|_| generator.normal()).collect()
}

fn search(x: &[f32], dim: usize, k: usize, metric: Metric, step: usize) -> (Vec<u32>, Vec<f32>) {
    let mut search = Neighbours::new(x.to_vec(), dim, k, metric).unwrap();
    while search.progress().0 < search.progress().1 {
        search.advance(step, &Cancel::new()).unwrap();
    }
    search.finish(&Cancel::new()).unwrap()
}

/// All pairs, in float64, by the definition of the distance.
fn brute_force(x: &[f32], dim: usize, k: usize, metric: Metric) -> Vec<Vec<(f64, u32)>> {
    let rows: Vec<Vec<f64>> =
        x.chunks(dim).map(|row| row.iter().map(|&v| f64::from(v)).collect()).collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    (0..rows.len())
        .map(|i| {
            let mut all: Vec<(f64, u32)> = (0..rows.len())
                .filter(|&j| j != i)
                .map(|j| {
                    let (a, b) = (&rows[i], &rows[j]);
                    let distance = match metric {
                        Metric::Cosine => {
                            let lengths = (dot(a, a) * dot(b, b)).sqrt();
                            if lengths == 0.0 { 1.0 } else { (1.0 - dot(a, b) / lengths).max(0.0) }
                        }
                        Metric::Euclidean => {
                            a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
                        }
                    };
                    (distance, j as u32)
                })
                .collect();
            all.sort_by(|a, b| a.0.total_cmp(&b.0));
            all.truncate(k);
            all
        })
        .collect()
}

/// Whether what was found is what comparing all pairs finds: the same samples, unless two
/// distances differ by less than float64 rounds.
fn check(x: &[f32], dim: usize, k: usize, metric: Metric, tolerance: f64) {
    let (ids, distances) = search(x, dim, k, metric, 3);
    let expected = brute_force(x, dim, k + 1, metric);
    let rows = ids.chunks(k).zip(distances.chunks(k)).zip(&expected);
    for (i, ((ids, distances), expected)) in rows.enumerate() {
        for j in 0..k {
            let (distance, id) = expected[j];
            assert!(
                (f64::from(distances[j]) - distance).abs() <= 1e-7 * distance + tolerance,
                "{i} {j}: {} {distance}",
                distances[j],
            );
            let near = |other: Option<&(f64, u32)>| {
                other.is_some_and(|other| (other.0 - distance).abs() <= tolerance)
            };
            if !near(j.checked_sub(1).map(|j| &expected[j])) && !near(expected.get(j + 1)) {
                assert_eq!(ids[j], id, "{i} {j}");
            }
        }
    }
}

#[test]
fn finds_what_comparing_all_pairs_finds() {
    for (samples, dim) in [(5, 1), (257, 3), (700, 17), (481, 50)] {
        let x = random(samples, dim, 1);
        for metric in [Metric::Cosine, Metric::Euclidean] {
            check(&x, dim, 4, metric, 1e-15);
        }
    }
}

/// Whole numbers: distances are exact, ties many, and the order is that of the indices.
fn check_whole_numbers(x: &[f32], dim: usize, k: usize) {
    let (ids, _) = search(x, dim, k, Metric::Euclidean, 2);
    let expected = brute_force(x, dim, k, Metric::Euclidean);
    for (i, (ids, expected)) in ids.chunks(k).zip(expected).enumerate() {
        assert_eq!(ids, expected.iter().map(|pair| pair.1).collect::<Vec<_>>(), "{i}");
    }
}

#[test]
fn ties_are_ordered_by_index() {
    // All at the same distance from all.
    let unit: Vec<f32> = (0..300 * 300).map(|i| f32::from(u8::from(i % 301 == 0))).collect();
    check_whole_numbers(&unit, 300, 7);
    // Many copies of few samples, and samples at few distances.
    let mut generator = Stream::new(3, "neighbours", 0).at(0, 0);
    for (dim, values) in [(1, 3), (4, 2), (12, 2), (30, 2)] {
        let x: Vec<f32> = (0..900 * dim).map(|_| generator.below(values) as f32).collect();
        check_whole_numbers(&x, dim, 9);
    }
    check_whole_numbers(&[1.0; 40], 4, 3);
}

#[test]
fn what_float32_does_not_tell_apart_is_told_apart() {
    // A line of samples 1e-7 apart, far from the origin of two clusters.
    let x: Vec<f32> = (0..600)
        .flat_map(|i| [(i % 2) as f32 * 1e4, 1.0 + (i * 7919 % 600) as f32 * 2.5e-7, 3.0])
        .collect();
    check_whole_numbers(&x, 3, 5);
    let moved: Vec<f32> = random(300, 6, 4).iter().map(|value| value + 1000.0).collect();
    check(&moved, 6, 5, Metric::Euclidean, 0.0);
    check(&moved, 6, 5, Metric::Cosine, 2e-16);
}

#[test]
fn any_scale() {
    let x = random(300, 5, 6);
    let (expected, _) = search(&x, 5, 4, Metric::Euclidean, 1);
    for power in [-60, 60] {
        let scaled: Vec<f32> = x.iter().map(|value| value * 2f32.powi(power)).collect();
        for metric in [Metric::Euclidean, Metric::Cosine] {
            check(&scaled, 5, 4, metric, 2e-16 * 2f64.powi(power).min(1.0));
        }
        assert_eq!(search(&scaled, 5, 4, Metric::Euclidean, 1).0, expected);
    }
}

#[test]
fn does_not_depend_on_parts_or_threads() {
    let x = random(1100, 8, 2);
    let whole = search(&x, 8, 6, Metric::Euclidean, usize::MAX);
    assert_eq!(whole, search(&x, 8, 6, Metric::Euclidean, 3));
    for threads in [1, 4] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(whole, pool.install(|| search(&x, 8, 6, Metric::Euclidean, 2)));
    }
}

#[test]
fn zeros_are_as_far_from_all() {
    let x = [0.0, 0.0, 1.0, 0.0, 2.0, 0.1, 0.0, 3.0, -1.0, 0.0, 0.0, -0.0];
    let (ids, distances) = search(&x, 2, 4, Metric::Cosine, 1);
    assert_eq!((&ids[..4], &distances[..4]), (&[1, 2, 3, 4][..], &[1.0; 4][..]));
    assert_eq!(ids[4..8], [2, 0, 3, 5]);
    assert_eq!(ids[16..20], [0, 3, 5, 2]);
    let nothing = search(&[0.0; 8], 2, 2, Metric::Cosine, 1);
    assert_eq!(nothing.0, [1, 2, 0, 2, 0, 1, 0, 1]);
    assert_eq!(nothing.1, [1.0; 8]);
}

#[test]
fn pairs_of_blocks_are_all_met_once() {
    let mut seen: Vec<_> = (0..55).map(|pair| block_pair(pair, 10)).collect();
    assert!(seen.iter().all(|(first, second)| first <= second && *second < 10));
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 55);
}

#[test]
fn refuses_what_is_not_finite() {
    let x = vec![0.0, 1.0, f32::NAN, 2.0];
    let error = Neighbours::new(x, 2, 1, Metric::Cosine).unwrap_err();
    assert_eq!(error, Error::NotFinite { row: 1, feature: 0 });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn small_sets_of_whole_numbers(
        dim in 1usize..5,
        values in prop::collection::vec(-2i8..3, 12..400),
        k in 1usize..6,
    ) {
        let samples = values.len() / dim;
        prop_assume!(samples > k);
        let x: Vec<f32> = values[..samples * dim].iter().map(|&v| f32::from(v)).collect();
        check_whole_numbers(&x, dim, k);
        check(&x, dim, k.min(samples - 1), Metric::Cosine, 1e-15);
    }
}

/// Clusters of Gaussians of `inner` dimensions among `dim`.
fn clusters(samples: usize, dim: usize, inner: usize, seed: u64) -> Vec<f32> {
    let mut generator = Stream::new(seed, "neighbours", 1).at(0, 0);
    let count = 20;
    let mut normals = |n: usize| -> Vec<f32> { (0..n).map(|_| generator.normal()).collect() };
    let (centres, maps) = (normals(count * dim), normals(count * inner * dim));
    (0..samples)
        .flat_map(|i| {
            let (cluster, at) = (i * 7 % count, normals(inner));
            let (centre, map) = (&centres[cluster * dim..], &maps[cluster * inner * dim..]);
            let mut row = centre[..dim].to_vec();
            for (at, map) in at.iter().zip(map.chunks(dim)) {
                row.iter_mut().zip(map).for_each(|(value, step)| *value += 0.3 * at * step);
            }
            row
        })
        .collect()
}

fn graph(x: &[f32], dim: usize, k: usize, metric: Metric) -> (Vec<u32>, Vec<f32>, Recall) {
    let mut search = NeighbourGraph::new(x.to_vec(), dim, k, metric, 0).unwrap();
    while search.progress().0 < search.progress().1 {
        search.advance(&Cancel::new()).unwrap();
    }
    search.finish(&Cancel::new()).unwrap()
}

#[test]
fn a_graph_finds_most() {
    for (inner, metric) in [(4, Metric::Cosine), (8, Metric::Euclidean)] {
        let x = clusters(4000, 24, inner, 1);
        let (ids, distances, recall) = graph(&x, 24, 10, metric);
        let (exact, nearest) = search(&x, 24, 10, metric, 64);
        let right = ids.iter().zip(&exact).filter(|(a, b)| a == b).count();
        assert!(right as f64 > 0.95 * exact.len() as f64, "{right}");
        // What was measured is what is true, and every distance is that of float64.
        let found: usize = (0..4000)
            .map(|i| {
                let exact = &exact[i * 10..][..10];
                ids[i * 10..][..10].iter().filter(|id| exact.contains(id)).count()
            })
            .sum();
        let truth = found as f64 / exact.len() as f64;
        assert!((recall.mean - truth).abs() < 0.01 && recall.low <= truth, "{recall:?} {truth}");
        assert!(distances.iter().zip(&nearest).all(|(found, nearest)| found >= nearest));
    }
}

#[test]
fn a_graph_does_not_depend_on_threads() {
    let x = clusters(3000, 16, 6, 2);
    let whole = graph(&x, 16, 5, Metric::Euclidean);
    for threads in [1, 4] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(whole, pool.install(|| graph(&x, 16, 5, Metric::Euclidean)));
    }
}

#[test]
fn a_graph_of_few_samples_and_of_copies_is_exact() {
    for samples in [2, 3, 49, 240] {
        let x: Vec<f32> = (0..samples).map(|i| (i * 37 % 11) as f32).collect();
        let (ids, distances, recall) = graph(&x, 1, 1, Metric::Euclidean);
        assert_eq!((ids, distances), search(&x, 1, 1, Metric::Euclidean, 1));
        assert_eq!(recall.mean, 1.0);
    }
    let same = graph(&[2.0; 12], 2, 3, Metric::Cosine);
    assert_eq!(same.0[..6], [1, 2, 3, 0, 2, 3]);
}

/// Votes by the definition: the nearest of all, one after the other.
fn check_votes(x: &[f32], dim: usize, metric: Metric, class: &[u32], k: &[usize], near: usize) {
    let samples = class.len();
    let mut votes =
        NeighbourVotes::new(x.to_vec(), dim, metric, class.to_vec(), k.to_vec(), near).unwrap();
    while votes.progress().0 < votes.progress().1 {
        votes.advance(3, &Cancel::new()).unwrap();
    }
    let rows = Rows::new(x.to_vec(), dim, metric).unwrap();
    for (i, ballot) in votes.ballots().iter().enumerate() {
        let others = (0..samples as u32).filter(|&id| id as usize != i);
        let mut ranked: Vec<_> = others.map(|id| (rows.rank(i, id as usize), id)).collect();
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
        let all: Vec<u32> = ranked.iter().map(|pair| pair.1).collect();
        let mut counts = vec![0; k.len()];
        all[..k[class[i] as usize]].iter().for_each(|&id| counts[class[id as usize] as usize] += 1);
        assert_eq!(ballot.own, std::mem::take(&mut counts[class[i] as usize]), "{i}");
        assert_eq!(ballot.rival, *counts.iter().max().unwrap(), "{i}");
        let first = counts.iter().position(|&count| count == ballot.rival).unwrap();
        assert!(ballot.rival == 0 || ballot.class as usize == first);
        assert_eq!(ballot.ids, all[..near]);
        let distances: Vec<f32> = ranked[..near].iter().map(|pair| rows.distance(pair.0)).collect();
        assert_eq!(ballot.distances, distances);
    }
}

#[test]
fn votes_are_those_of_all_neighbours_in_order() {
    let mut generator = Stream::new(9, "neighbours", 0).at(0, 0);
    let mut class = |n: usize| Vec::from_iter((0..n).map(|_| generator.below(3)));
    // More points than the sample that thresholds are from.
    let (x, classes) = (clusters(2300, 8, 3, 3), class(2300));
    for metric in [Metric::Cosine, Metric::Euclidean] {
        check_votes(&x[..8 * 700], 8, metric, &classes[..700], &[1, 90, 699], 5);
    }
    check_votes(&x, 8, Metric::Cosine, &classes, &[60, 300, 40], 20);
    // Ties, copies and zeros.
    let mut generator = Stream::new(8, "neighbours", 0).at(0, 0);
    let x: Vec<f32> = (0..600 * 4).map(|_| generator.below(3) as f32 - 1.0).collect();
    for metric in [Metric::Cosine, Metric::Euclidean] {
        check_votes(&x, 4, metric, &classes[..600], &[50, 3, 200], 7);
    }
    check_votes(&[0.0; 30], 3, Metric::Cosine, &classes[..10], &[4, 5, 9], 2);
}
