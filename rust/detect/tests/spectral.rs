//! Spectral signatures against a direct computation, and the promises about batches and threads.

use aisec_detect::{Error, Spectral, Statistics, leading_eigenpair};
use aisec_numeric::Cancel;
use proptest::prelude::*;

const LIMIT: usize = 1 << 30;

fn start(dim: usize, limit: usize) -> Result<Statistics, Error> {
    Statistics::new(dim, limit, 0, Statistics::PART_ROWS)
}

fn random(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
    }
}

/// Rows whose classes have different spreads, in an order that mixes the classes.
fn data(rows: usize, dim: usize, classes: i64, seed: u64) -> (Vec<f32>, Vec<i64>) {
    let mut draw = random(seed);
    let labels: Vec<i64> =
        (0..rows).map(|_| ((draw() + 0.5) * classes as f64) as i64 * 7 - 3).collect();
    let x = labels
        .iter()
        .flat_map(|label| {
            let shared = draw();
            (0..dim)
                .map(|j| (draw() + shared * (j % 3) as f64 + *label as f64) as f32)
                .collect::<Vec<_>>()
        })
        .collect();
    (x, labels)
}

fn scan(x: &[f32], labels: &[i64], dim: usize, batch: usize) -> (Spectral, Vec<f64>) {
    let cancel = Cancel::new();
    let mut statistics = start(dim, LIMIT).unwrap();
    for (x, labels) in x.chunks(batch * dim).zip(labels.chunks(batch)) {
        statistics.update(x, labels, &cancel).unwrap();
    }
    let spectral = Spectral::fit(&mut statistics, &cancel).unwrap();
    let scores = x
        .chunks(batch * dim)
        .zip(labels.chunks(batch))
        .enumerate()
        .flat_map(|(i, (x, labels))| {
            spectral.score(x, labels, (i * batch) as u64, &cancel).unwrap()
        })
        .collect();
    (spectral, scores)
}

/// Means, then covariances of centred rows, then scores: four plain loops.
fn direct(x: &[f32], labels: &[i64], dim: usize) -> Vec<f64> {
    let mut scores = vec![0.0; labels.len()];
    let mut classes = labels.to_vec();
    classes.sort_unstable();
    classes.dedup();
    for class in classes {
        let rows: Vec<usize> = (0..labels.len()).filter(|&i| labels[i] == class).collect();
        let n = rows.len() as f64;
        let mean: Vec<f64> = (0..dim)
            .map(|j| rows.iter().map(|&i| f64::from(x[i * dim + j])).sum::<f64>() / n)
            .collect();
        let mut covariance = vec![0.0; dim * dim];
        for &i in &rows {
            for j in 0..dim {
                for k in 0..dim {
                    covariance[j * dim + k] += (f64::from(x[i * dim + j]) - mean[j])
                        * (f64::from(x[i * dim + k]) - mean[k])
                        / n;
                }
            }
        }
        let (_, v) = leading_eigenpair(&covariance, dim, &Cancel::new()).unwrap();
        for &i in &rows {
            let along: f64 = (0..dim).map(|j| v[j] * (f64::from(x[i * dim + j]) - mean[j])).sum();
            scores[i] = along * along;
        }
    }
    scores
}

#[test]
fn agrees_with_the_direct_computation() {
    for (rows, dim, classes) in [(1, 1, 1), (40, 3, 1), (300, 16, 3), (700, 33, 4), (5000, 40, 2)] {
        let (x, labels) = data(rows, dim, classes, 1);
        let (_, scores) = scan(&x, &labels, dim, rows);
        for (score, expected) in scores.iter().zip(direct(&x, &labels, dim)) {
            assert!((score - expected).abs() <= 1e-9 * (1.0 + expected), "{score} {expected}");
        }
    }
}

#[test]
fn the_mean_score_of_a_class_is_its_eigenvalue() {
    let (x, labels) = data(3000, 20, 3, 2);
    let (spectral, scores) = scan(&x, &labels, 20, 3000);
    for class in spectral.classes() {
        let own: Vec<f64> = scores
            .iter()
            .zip(&labels)
            .filter(|(_, l)| **l == class.label)
            .map(|(s, _)| *s)
            .collect();
        assert_eq!(own.len() as u64, class.count);
        let mean = own.iter().sum::<f64>() / own.len() as f64;
        assert!((mean - class.eigenvalue).abs() <= 1e-12 * mean);
    }
}

#[test]
fn a_common_offset_costs_no_accuracy() {
    let (x, labels) = data(500, 12, 2, 3);
    let wide: Vec<f64> = x.iter().map(|v| f64::from((v * 1024.0).round()) + 1e9).collect();
    let near: Vec<f32> = x.iter().map(|v| (v * 1024.0).round()).collect();
    let cancel = Cancel::new();
    let mut statistics = start(12, LIMIT).unwrap();
    statistics.update(&wide, &labels, &cancel).unwrap();
    let far = Spectral::fit(&mut statistics, &cancel).unwrap();
    let (close, _) = scan(&near, &labels, 12, 500);
    for (a, b) in far.classes().iter().zip(close.classes()) {
        assert!((a.eigenvalue - b.eigenvalue).abs() <= 1e-12 * b.eigenvalue);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn bits_do_not_depend_on_batches(
        rows in 1usize..600, dim in 1usize..40, classes in 1i64..5, seed: u64, batch in 1usize..700,
    ) {
        let (x, labels) = data(rows, dim, classes, seed);
        prop_assert_eq!(scan(&x, &labels, dim, batch), scan(&x, &labels, dim, rows));
    }
}

#[test]
fn bits_do_not_depend_on_threads_or_internal_blocks() {
    // 20,000 rows of 100 features are several internal blocks.
    let (x, labels) = data(20_000, 100, 3, 5);
    let with = |threads: usize, batch: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| scan(&x, &labels, 100, batch))
    };
    let one = with(1, 20_000);
    assert_eq!(one, with(2, 20_000));
    assert_eq!(one, with(5, 777));
}

#[test]
fn float32_and_float64_give_the_same_bits() {
    let (x, labels) = data(400, 19, 2, 6);
    let wide: Vec<f64> = x.iter().map(|&v| v.into()).collect();
    let cancel = Cancel::new();
    let mut statistics = start(19, LIMIT).unwrap();
    statistics.update(&wide, &labels, &cancel).unwrap();
    let spectral = Spectral::fit(&mut statistics, &cancel).unwrap();
    let scores = spectral.score(&wide, &labels, 0, &cancel).unwrap();
    assert_eq!((spectral, scores), scan(&x, &labels, 19, 400));
}

#[test]
fn equal_samples_and_single_members_score_zero() {
    let x: Vec<f32> = [[1e7f32, -3.25, 0.1]; 9].concat();
    let (spectral, scores) = scan(&x, &[0, 0, 0, 0, 0, 0, 0, 0, 4], 3, 2);
    assert!(spectral.classes().iter().all(|class| class.eigenvalue == 0.0));
    assert_eq!(scores, [0.0; 9]);
}

#[test]
fn refusals_name_the_row_and_end_the_scan() {
    let cancel = Cancel::new();
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let (mut x, labels) = data(300, 21, 2, 7);
        x[250 * 21 + 20] = value;
        x[251 * 21] = value;
        let mut statistics = start(21, LIMIT).unwrap();
        statistics.update(&x[..100 * 21], &labels[..100], &cancel).unwrap();
        let error = statistics.update(&x[100 * 21..], &labels[100..], &cancel).unwrap_err();
        assert_eq!(error, Error::NotFinite { row: 250, feature: 20 });
        assert_eq!(statistics.update(&x[..21], &labels[..1], &cancel), Err(Error::Incomplete));
        assert!(matches!(Spectral::fit(&mut statistics, &cancel), Err(Error::Incomplete)));

        let (good, _) = data(300, 21, 2, 7);
        let (spectral, _) = scan(&good, &labels, 21, 300);
        let error = spectral.score(&x, &labels, 1000, &cancel).unwrap_err();
        assert_eq!(error, Error::NotFinite { row: 1250, feature: 20 });
    }
}

#[test]
fn other_refusals() {
    let cancel = Cancel::new();
    assert_eq!(start(0, LIMIT).unwrap_err(), Error::Empty);
    let mut statistics = start(2, LIMIT).unwrap();
    assert!(matches!(Spectral::fit(&mut statistics, &cancel), Err(Error::Empty)));
    assert!(matches!(statistics.update(&[1.0f32; 5], &[0, 0], &cancel), Err(Error::Shape { .. })));
    statistics.update(&[1e200, 0.0, -1e200, 0.0], &[0, 0], &cancel).unwrap();
    assert_eq!(Spectral::fit(&mut statistics, &cancel).unwrap_err(), Error::Overflow { label: 0 });

    let mut small = start(100, 200_000).unwrap();
    small.update(&[0.0f32; 100], &[0], &cancel).unwrap();
    let error = small.update(&[0.0f32; 500], &[0, 1, 2, 3, 4], &cancel).unwrap_err();
    assert!(matches!(error, Error::Memory { dim: 100, limit: 200_000, .. }), "{error}");

    let (spectral, _) = scan(&[0.0, 1.0, 2.0, 5.0], &[0, 0], 2, 2);
    let error = spectral.score(&[0.0f32, 0.0], &[9], 3, &cancel).unwrap_err();
    assert_eq!(error, Error::UnknownLabel { row: 3, label: 9 });
    assert!(matches!(spectral.score(&[0.0f32], &[9], 3, &cancel), Err(Error::Shape { .. })));

    cancel.cancel();
    let mut statistics = start(2, LIMIT).unwrap();
    assert_eq!(statistics.update(&[1.0f32; 4], &[0, 0], &cancel), Err(Error::Cancelled));
    assert_eq!(spectral.score(&[0.0f32, 0.0], &[0], 0, &cancel), Err(Error::Cancelled));
}
