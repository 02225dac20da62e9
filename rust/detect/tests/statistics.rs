//! Statistics of shards: the same bits for any cut, and nothing damaged is taken.

use aisec_detect::{Error, Spectral, Statistics};
use aisec_numeric::Cancel;
use proptest::prelude::*;

const LIMIT: usize = 1 << 30;
const DIM: usize = 19;
const PART: u64 = 32;

fn data(rows: usize, classes: i64, seed: u64) -> (Vec<f32>, Vec<i64>) {
    let mut state = seed;
    let mut draw = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let x = (0..rows * DIM).map(|i| draw() * (i % DIM + 1) as f32 + 3.0).collect();
    let labels = (0..rows).map(|_| ((draw() + 0.5) * classes as f32) as i64 - 2).collect();
    (x, labels)
}

/// Statistics of rows `first..end`, taken in batches.
fn shard(x: &[f32], labels: &[i64], first: usize, end: usize, batch: usize) -> Statistics {
    let mut statistics = Statistics::new(DIM, LIMIT, first as u64, PART).unwrap();
    for (x, labels) in
        x[first * DIM..end * DIM].chunks(batch * DIM).zip(labels[first..end].chunks(batch))
    {
        statistics.update(x, labels, &Cancel::new()).unwrap();
    }
    statistics
}

fn through_bytes(mut statistics: Statistics) -> Statistics {
    Statistics::from_bytes(&statistics.to_bytes().unwrap(), LIMIT).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn shards_give_the_same_bits(
        rows in 1usize..400,
        classes in 1i64..5,
        seed: u64,
        batch in 1usize..120,
        cuts in prop::collection::btree_set(1usize..12, 0..5),
    ) {
        let (x, labels) = data(rows, classes, seed);
        let mut whole = shard(&x, &labels, 0, rows, rows);
        let cuts: Vec<usize> = cuts.into_iter().map(|cut| cut * PART as usize).collect();
        let cuts = [0].into_iter().chain(cuts.into_iter().filter(|&cut| cut < rows));
        let starts: Vec<usize> = cuts.collect();
        let shards: Vec<_> = starts
            .iter()
            .zip(starts[1..].iter().chain([&rows]))
            .map(|(&first, &end)| through_bytes(shard(&x, &labels, first, end, batch)))
            .collect();
        // Neighbours may be merged first, wherever they begin.
        let mut merged: Vec<Statistics> = Vec::new();
        for shard in shards.into_iter().rev() {
            match merged.pop() {
                Some(next) => {
                    let mut shard = shard;
                    shard.merge(next).unwrap();
                    merged.push(through_bytes(shard));
                }
                None => merged.push(shard),
            }
        }
        let mut merged = merged.pop().unwrap();
        prop_assert_eq!(merged.rows(), rows as u64);
        let fit = Spectral::fit(&mut merged, &Cancel::new()).unwrap();
        prop_assert_eq!(&fit, &Spectral::fit(&mut whole, &Cancel::new()).unwrap());
        prop_assert_eq!(merged.to_bytes().unwrap(), whole.to_bytes().unwrap());
    }
}

#[test]
fn parts_add_to_the_direct_computation() {
    let (x, labels) = data(300, 3, 1);
    let mut statistics = shard(&x, &labels, 0, 300, 300);
    let classes: Vec<_> = statistics
        .classes()
        .unwrap()
        .map(|(label, count, mean)| (label, count, mean.to_vec()))
        .collect();
    assert_eq!(classes.len(), 3);
    for (label, count, mean) in classes {
        let own: Vec<&[f32]> =
            x.chunks(DIM).zip(&labels).filter(|(_, l)| **l == label).map(|(row, _)| row).collect();
        assert_eq!(count, own.len() as u64);
        let covariance = statistics.covariance(label).unwrap().unwrap();
        assert_eq!(covariance.mean, mean);
        for i in 0..DIM {
            let average = own.iter().map(|row| f64::from(row[i])).sum::<f64>() / count as f64;
            assert!((average - mean[i]).abs() < 1e-12);
            for j in 0..DIM {
                let expected = own
                    .iter()
                    .map(|row| (f64::from(row[i]) - mean[i]) * (f64::from(row[j]) - mean[j]))
                    .sum::<f64>()
                    / count as f64;
                let value = covariance.matrix[i * DIM + j];
                assert!((value - expected).abs() < 1e-11, "{value} {expected}");
            }
        }
    }
    assert_eq!(statistics.covariance(99).unwrap(), None);
}

#[test]
fn shards_that_do_not_fit_are_refused() {
    let cancel = Cancel::new();
    let (x, labels) = data(100, 2, 2);
    assert_eq!(
        Statistics::new(DIM, LIMIT, 5, PART).unwrap_err(),
        Error::NoPart { row: 5, part_rows: PART }
    );
    let mut first = shard(&x, &labels, 0, 32, 32);
    let second = shard(&x, &labels, 64, 96, 32);
    assert_eq!(first.merge(second), Err(Error::Apart { end: 32, first: 64 }));
    let narrow = Statistics::new(DIM - 1, LIMIT, 32, PART).unwrap();
    assert!(matches!(first.merge(narrow), Err(Error::Unlike { .. })));
    // The first shard can go on after a refusal.
    first.merge(shard(&x, &labels, 32, 100, 32)).unwrap();
    assert_eq!(first.update(&x[..DIM], &labels[..1], &cancel), Err(Error::Ended { row: 100 }));

    let mut later = shard(&x, &labels, 32, 100, 32);
    assert_eq!(Spectral::fit(&mut later, &cancel).unwrap_err(), Error::NotFirst { first: 32 });

    let mut small = Statistics::new(DIM, 15_000, 0, PART).unwrap();
    assert!(matches!(small.merge(shard(&x, &labels, 0, 100, 9)), Err(Error::Memory { .. })));
}

#[test]
fn damaged_bytes_are_refused() {
    let (x, labels) = data(70, 2, 3);
    let bytes = shard(&x, &labels, 0, 70, 70).to_bytes().unwrap();
    for end in 0..bytes.len() {
        assert_eq!(Statistics::from_bytes(&bytes[..end], LIMIT).unwrap_err(), Error::Bytes);
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert_eq!(Statistics::from_bytes(&longer, LIMIT).unwrap_err(), Error::Bytes);
    // Features, rows, sets, classes, count: none can be another number.
    for at in [8, 32, 40, 48, 64] {
        let mut other = bytes.clone();
        other[at] ^= 1;
        assert_eq!(Statistics::from_bytes(&other, LIMIT).unwrap_err(), Error::Bytes, "{at}");
    }
    assert!(matches!(Statistics::from_bytes(&bytes, 1000), Err(Error::Memory { .. })));
}

/// Large classes of many features, an outlier first, and one feature beyond float32's range.
fn wide(rows: usize, dim: usize) -> (Vec<f64>, Vec<i64>) {
    let mut stream = aisec_numeric::random::Stream::new(5, "wide", 0).at(0, 0);
    let labels: Vec<i64> = (0..rows).map(|row| i64::from(row % 5 == 0)).collect();
    let x = (0..rows * dim)
        .map(|at| {
            let value = f64::from(stream.normal()) + if at < dim { 1e3 } else { 7.0 };
            match at % dim {
                3 if at / dim > rows / 2 => value * 1e30,
                8 => 0.1,
                _ => value,
            }
        })
        .collect();
    (x, labels)
}

#[test]
fn float32_products_are_as_close_as_promised() {
    let (rows, dim) = (8000, 130);
    let (mut x, labels) = wide(rows, dim);
    // The direct computation has no need of a feature that swamps the others.
    x.chunks_mut(dim).for_each(|row| row[3] = row[4] - row[5]);
    let cancel = Cancel::new();
    let mut single = Statistics::new(dim, LIMIT, 0, Statistics::PART_ROWS).unwrap().in_single();
    let mut double = Statistics::new(dim, LIMIT, 0, Statistics::PART_ROWS).unwrap();
    for statistics in [&mut single, &mut double] {
        statistics.update(&x, &labels, &cancel).unwrap();
    }
    // Of class 0 there are more rows than are multiplied in float64, of class 1 fewer.
    let equal = single.covariance(1).unwrap() == double.covariance(1).unwrap();
    assert!(equal, "rows below the least number are exact");
    let (near, exact) = (single.covariance(0).unwrap().unwrap(), double.covariance(0).unwrap());
    let exact = exact.unwrap();
    assert_ne!(near.matrix, exact.matrix);
    assert_eq!(near.count, exact.count);
    let deviation: Vec<f64> = (0..dim).map(|i| exact.matrix[i * dim + i].sqrt()).collect();
    assert_eq!((deviation[8], near.matrix[8 * dim + 8]), (0.0, 0.0));
    for i in 0..dim {
        assert!((near.mean[i] - exact.mean[i]).abs() <= 1e-12 * exact.mean[i].abs());
        for j in 0..dim {
            let off = (near.matrix[i * dim + j] - exact.matrix[i * dim + j]).abs();
            assert!(off <= 2e-7 * deviation[i] * deviation[j], "{i} {j} {off}");
        }
    }
}

#[test]
fn float32_products_are_the_same_bits_in_any_batch_thread_and_type() {
    let (rows, dim) = (9000, 130);
    let (x, labels) = wide(rows, dim);
    let single: Vec<f32> = x.iter().map(|&value| value as f32).collect();
    let same: Vec<f64> = single.iter().map(|&value| value.into()).collect();
    let gather = |batch: usize, threads: usize, double: bool| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut statistics = Statistics::new(dim, LIMIT, 0, 1 << 13).unwrap().in_single();
        pool.install(|| {
            for (first, labels) in (0..).step_by(batch).zip(labels.chunks(batch)) {
                let range = first * dim..(first + labels.len()) * dim;
                if double {
                    statistics.update(&same[range], labels, &Cancel::new()).unwrap();
                } else {
                    statistics.update(&single[range], labels, &Cancel::new()).unwrap();
                }
            }
        });
        statistics.to_bytes().unwrap()
    };
    let whole = gather(rows, 1, false);
    assert_eq!(gather(777, 3, false), whole);
    assert_eq!(gather(61, 2, true), whole);
}

#[test]
fn rows_that_are_not_finite_are_named_in_tiles_too() {
    let (rows, dim) = (6000, 130);
    let (x, labels) = wide(rows, dim);
    for (row, batch) in [(5000, 6000), (5001, 40), (5999, 6000), (4000, 1)] {
        let mut x = x.clone();
        x[row * dim + 129] = f64::INFINITY;
        let mut statistics = Statistics::new(dim, LIMIT, 0, 1 << 14).unwrap().in_single();
        let refused = (0..).step_by(batch).zip(labels.chunks(batch)).find_map(|(first, labels)| {
            let x = &x[first * dim..(first + labels.len()) * dim];
            statistics.update(x, labels, &Cancel::new()).err()
        });
        assert_eq!(refused, Some(Error::NotFinite { row: row as u64, feature: 129 }));
    }
}
