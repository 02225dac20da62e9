//! Leading directions by block Lanczos against those of whole covariance matrices.

use aisec_detect::{Error, Krylov, Spectral, Statistics};
use aisec_numeric::Cancel;
use proptest::prelude::*;

const LIMIT: usize = 1 << 30;

/// Rows with a few strong directions over noise; `decay` is the ratio of one to the next.
fn data(rows: usize, dim: usize, classes: i64, decay: f64, seed: u64) -> (Vec<f64>, Vec<i64>) {
    let mut state = seed;
    let mut draw = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
    };
    let directions: Vec<f64> = (0..30 * dim).map(|_| draw()).collect();
    let labels: Vec<i64> = (0..rows).map(|_| ((draw() + 0.5) * classes as f64) as i64).collect();
    let x = labels
        .iter()
        .flat_map(|&label| {
            let weights: Vec<f64> = (0..30).map(|k| draw() * decay.powi(k)).collect();
            (0..dim)
                .map(|j| {
                    let strong: f64 = (0..30).map(|k| weights[k] * directions[k * dim + j]).sum();
                    strong + 0.01 * draw() + label as f64
                })
                .collect::<Vec<_>>()
        })
        .collect();
    (x, labels)
}

fn search(
    x: &[f64],
    labels: &[i64],
    dim: usize,
    batch: usize,
    passes: usize,
) -> (Spectral, Vec<f64>, usize) {
    let cancel = Cancel::new();
    let mut krylov = Krylov::new(dim, LIMIT).unwrap();
    let mut left = 1;
    for _ in 0..passes {
        for (x, labels) in x.chunks(batch * dim).zip(labels.chunks(batch)) {
            krylov.update(x, labels, &cancel).unwrap();
        }
        left = krylov.finish_pass(&cancel).unwrap();
        if left == 0 {
            break;
        }
    }
    let (spectral, errors) = krylov.spectral().unwrap();
    (spectral, errors, left)
}

fn exact(x: &[f64], labels: &[i64], dim: usize) -> Spectral {
    let cancel = Cancel::new();
    let mut statistics = Statistics::new(dim, LIMIT, 0, Statistics::PART_ROWS).unwrap();
    statistics.update(x, labels, &cancel).unwrap();
    Spectral::fit(&mut statistics, &cancel).unwrap()
}

#[test]
fn agrees_with_whole_matrices() {
    for (rows, dim, classes, decay) in
        [(1, 1, 1, 0.5), (9, 3, 2, 0.5), (300, 40, 3, 0.7), (700, 130, 2, 0.9), (90, 700, 2, 0.8)]
    {
        let (x, labels) = data(rows, dim, classes, decay, 1);
        let (found, errors, left) = search(&x, &labels, dim, rows, 12);
        assert_eq!(left, 0);
        for ((found, exact), error) in
            found.classes().iter().zip(exact(&x, &labels, dim).classes()).zip(errors)
        {
            assert_eq!((found.label, found.count), (exact.label, exact.count));
            assert!(error <= 1e-6, "{error}");
            let apart = (found.eigenvalue - exact.eigenvalue).abs();
            assert!(apart <= 1e-9 * exact.eigenvalue, "{found:?} {exact:?}");
            for (a, b) in found.mean.iter().zip(&exact.mean) {
                assert!((a - b).abs() < 1e-12 * (1.0 + b.abs()));
            }
            for (a, b) in found.direction.iter().zip(&exact.direction) {
                assert!((a - b).abs() < 1e-4, "{a} {b}");
            }
        }
    }
}

#[test]
fn the_stated_error_bounds_the_true_one() {
    // Slow decay takes many passes; until then the residual says how far it is.
    let (x, labels) = data(2000, 200, 1, 0.99, 2);
    let truth = exact(&x, &labels, 200).classes()[0].eigenvalue;
    let mut last = f64::INFINITY;
    for passes in [4, 5, 6, 9] {
        let (found, errors, left) = search(&x, &labels, 200, 500, passes);
        let value = found.classes()[0].eigenvalue;
        assert!(value <= truth * (1.0 + 1e-12));
        assert!(truth - value <= errors[0] * value, "{passes}: {truth} {value} {errors:?}");
        assert_eq!(left == 0, errors[0] <= 1e-6);
        assert!(truth - value < last);
        last = truth - value;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]
    #[test]
    fn bits_do_not_depend_on_batches(
        rows in 2usize..300, dim in 1usize..60, classes in 1i64..4, seed: u64, batch in 1usize..300,
    ) {
        let (x, labels) = data(rows, dim, classes, 0.8, seed);
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let whole = one.install(|| search(&x, &labels, dim, rows, 4));
        let cut = search(&x, &labels, dim, batch, 4);
        prop_assert_eq!(whole.0, cut.0);
        prop_assert_eq!(whole.1, cut.1);
    }
}

#[test]
fn refusals() {
    let cancel = Cancel::new();
    let (x, labels) = data(40, 5, 1, 0.5, 3);
    let mut krylov = Krylov::new(5, LIMIT).unwrap();
    assert_eq!(krylov.finish_pass(&cancel), Err(Error::Empty));
    krylov.update(&x, &labels, &cancel).unwrap();
    assert!(krylov.finish_pass(&cancel).unwrap() > 0);
    assert_eq!(krylov.spectral().unwrap_err(), Error::Incomplete);
    let error = krylov.update(&x[..5], &[9], &cancel).unwrap_err();
    assert_eq!(error, Error::UnknownLabel { row: 0, label: 9 });

    let mut krylov = Krylov::new(5, LIMIT).unwrap();
    krylov.update(&x, &labels, &cancel).unwrap();
    krylov.finish_pass(&cancel).unwrap();
    krylov.update(&x[5..], &labels[1..], &cancel).unwrap();
    assert_eq!(krylov.finish_pass(&cancel), Err(Error::Changed { label: 0 }));

    let mut hurt = x.clone();
    hurt[23] = f64::NAN;
    let mut krylov = Krylov::new(5, LIMIT).unwrap();
    krylov.update(&x, &labels, &cancel).unwrap();
    let error = krylov.update(&hurt, &labels, &cancel).unwrap_err();
    assert_eq!(error, Error::NotFinite { row: 44, feature: 3 });

    let mut small = Krylov::new(1000, 300_000).unwrap();
    small.update(&[0.0f32; 2000], &[0, 1], &cancel).unwrap();
    let error = small.update(&[0.0f32; 1000], &[2], &cancel).unwrap_err();
    assert!(matches!(error, Error::Memory { classes: 3, dim: 1000, .. }), "{error}");
}

#[test]
fn equal_samples_have_no_direction() {
    let (found, errors, left) = search(&[3.25; 60], &[0; 10], 6, 4, 12);
    assert_eq!((left, errors), (0, vec![0.0]));
    assert_eq!(found.classes()[0].eigenvalue, 0.0);
    assert_eq!(found.classes()[0].direction, [0.0; 6]);
}
