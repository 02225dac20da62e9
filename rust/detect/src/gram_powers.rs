//! Gram matrices of powers of feature maps, and how far samples are from what a class has.
//!
//! Of the maps `A` (channels by positions) of a sample, `(A^p (A^p)^T)^(1/p)` for each order `p`,
//! powers and roots entry by entry (roots keep the sign). Every entry of the upper triangle has a
//! median and a median absolute deviation over reference samples, both exact; a sample deviates by
//! what its entries are beyond `median +- width * deviation`, relative to that limit plus the mean
//! magnitude of the medians of the order, so that entries that are always zero do not decide.

use aisec_numeric::Cancel;
use aisec_numeric::vector::vectorized;
use rayon::prelude::*;

use crate::Error;

/// Entries whose columns are gathered together: one cache line of float32.
const LINE: usize = 16;
/// Products that are summed side by side.
const LANES: usize = 8;

/// The shape of a sample's feature maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Maps {
    pub channels: usize,
    pub positions: usize,
}

impl Maps {
    fn values(self) -> usize {
        self.channels * self.positions
    }

    /// Entries of the upper triangle.
    fn entries(self) -> usize {
        self.channels * (self.channels + 1) / 2
    }

    fn samples(self, x: &[f32]) -> Result<usize, Error> {
        let dim = self.values();
        let rows = x.len().checked_div(dim).unwrap_or(0);
        if dim == 0 || rows * dim != x.len() {
            return Err(Error::Shape { values: x.len(), rows, dim });
        }
        match x.iter().position(|value| !value.is_finite()) {
            Some(i) => Err(Error::NotFinite { row: (i / dim) as u64, feature: i % dim }),
            None => Ok(rows),
        }
    }
}

/// Sums, over all orders and entries, of what each of `queries` has beyond the limits that the
/// `reference` samples set.
///
/// Up to about `memory` bytes are used; below what the matrices of one order take, they are
/// computed in parts, twice. The result is bit for bit the same for any `memory` and threads.
///
/// # Errors
/// When values are not finite or do not fill samples, there are no reference samples, or the call
/// is cancelled.
pub fn gram_deviations(
    maps: Maps,
    reference: &[f32],
    queries: &[f32],
    orders: &[u32],
    width: f64,
    memory: usize,
    cancel: &Cancel,
) -> Result<Vec<f64>, Error> {
    let (m, n) = (maps.samples(reference)?, maps.samples(queries)?);
    if m == 0 {
        return Err(Error::Empty);
    }
    // Deviations do not change with the scale; powers of values up to one do not overflow.
    let largest = reference.iter().chain(queries).fold(0.0_f32, |a, b| a.max(b.abs()));
    let scale = if largest > 0.0 { 1.0 / f64::from(largest) } else { 1.0 };
    let parts = parts(maps, (memory / (4 * (m + n).max(1))).max(1));
    let mut total = vec![0.0; n];
    for &order in orders {
        let run = |x: &[f32], part: &Part| matrices(maps, x, order, scale, part, cancel);
        let mut limits = Vec::with_capacity(maps.entries());
        let mut kept = None;
        for part in &parts {
            let found = run(reference, part)?;
            limits.extend(centres(&found, part.entries, m));
            kept = Some(found);
        }
        let typical = limits.iter().map(|c| c.median.abs()).sum::<f64>() / limits.len() as f64;
        let whole = parts.len() == 1 && std::ptr::eq(reference, queries);
        let mut limits = limits.as_slice();
        for part in &parts {
            let found = match kept.take_if(|_| whole) {
                Some(found) => found,
                None => run(queries, part)?,
            };
            let (now, later) = limits.split_at(part.entries);
            limits = later;
            total.par_iter_mut().zip(found.par_chunks(part.entries)).for_each(|(sum, row)| {
                for (&value, centre) in row.iter().zip(now) {
                    *sum += centre.excess(f64::from(value), width, typical);
                }
            });
        }
    }
    Ok(total)
}

/// Median and median absolute deviation of an entry.
#[derive(Debug, Clone, Copy)]
struct Centre {
    median: f64,
    deviation: f64,
}

impl Centre {
    fn excess(self, value: f64, width: f64, typical: f64) -> f64 {
        let reach = width * self.deviation;
        let limit = if value > self.median { self.median + reach } else { self.median - reach };
        let beyond = (value - self.median).abs() - reach;
        let unit = limit.abs() + typical;
        if beyond > 0.0 && unit > 0.0 { beyond / unit } else { 0.0 }
    }
}

/// Rows of the upper triangle that are computed together.
struct Part {
    first: usize,
    last: usize,
    entries: usize,
}

/// Cuts the triangle into parts of rows with up to about `most` entries.
fn parts(maps: Maps, most: usize) -> Vec<Part> {
    let mut found: Vec<Part> = Vec::new();
    for row in 0..maps.channels {
        let entries = maps.channels - row;
        match found.last_mut() {
            Some(part) if part.entries + entries <= most => {
                part.last = row + 1;
                part.entries += entries;
            }
            _ => found.push(Part { first: row, last: row + 1, entries }),
        }
    }
    found
}

/// The entries of a part, `[samples, entries]`.
fn matrices(
    maps: Maps,
    x: &[f32],
    order: u32,
    scale: f64,
    part: &Part,
    cancel: &Cancel,
) -> Result<Vec<f32>, Error> {
    let samples = x.len() / maps.values();
    let mut found = vec![0.0_f32; samples * part.entries];
    found.par_chunks_mut(part.entries).zip(x.par_chunks(maps.values())).try_for_each_init(
        || vec![0.0_f64; maps.values()],
        |powers, (entries, sample)| {
            cancel.check()?;
            for (power, &value) in powers.iter_mut().zip(sample) {
                *power = (f64::from(value) * scale).powi(order.cast_signed());
            }
            vectorized(
                #[inline(always)]
                || triangle(maps, powers, order, part, entries),
            );
            Ok::<(), Error>(())
        },
    )?;
    Ok(found)
}

/// The products of all pairs of rows of a part.
#[inline(always)]
fn triangle(maps: Maps, powers: &[f64], order: u32, part: &Part, entries: &mut [f32]) {
    let map = |channel: usize| &powers[channel * maps.positions..][..maps.positions];
    let mut entries = entries.iter_mut();
    for row in part.first..part.last {
        for (column, entry) in (row..maps.channels).zip(&mut entries) {
            *entry = root(dot(map(row), map(column)), order) as f32;
        }
    }
}

#[inline(always)]
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a_lanes, a_rest) = a.as_chunks::<LANES>();
    let (b_lanes, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (x, y) in a_lanes.iter().zip(b_lanes) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f64>() + rest
}

/// The root of the magnitude, with the sign.
#[inline(always)]
fn root(value: f64, order: u32) -> f64 {
    let size = value.abs();
    let found = match order {
        1 => size,
        2 => size.sqrt(),
        3 => size.cbrt(),
        4 => size.sqrt().sqrt(),
        6 => size.cbrt().sqrt(),
        8 => size.sqrt().sqrt().sqrt(),
        _ => size.powf(f64::from(order).recip()),
    };
    found.copysign(value)
}

/// Median and deviation of every column of `[samples, entries]`.
fn centres(values: &[f32], entries: usize, samples: usize) -> Vec<Centre> {
    let lines = entries.div_ceil(LINE);
    let of_line = |line: usize| {
        let columns = line * LINE..((line + 1) * LINE).min(entries);
        let mut gathered = vec![Vec::with_capacity(samples); columns.len()];
        for row in values.chunks_exact(entries) {
            for (column, &value) in gathered.iter_mut().zip(&row[columns.clone()]) {
                column.push(value);
            }
        }
        gathered.into_iter().map(|mut column| {
            let middle = median(&mut column);
            for value in &mut column {
                *value = (f64::from(*value) - middle).abs() as f32;
            }
            Centre { median: middle, deviation: median(&mut column) }
        })
    };
    (0..lines).into_par_iter().flat_map_iter(of_line).collect()
}

/// The middle value, or the mean of the two middle ones; the order is lost.
fn median(values: &mut [f32]) -> f64 {
    let (half, odd) = (values.len() / 2, values.len() % 2 == 1);
    let (below, &mut upper, _) = values.select_nth_unstable_by(half, f32::total_cmp);
    let upper = f64::from(upper);
    if odd {
        return upper;
    }
    let lower = below.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    f64::midpoint(f64::from(lower), upper)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: Maps = Maps { channels: 3, positions: 11 };
    const ORDERS: [u32; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

    fn random(count: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                ((state >> 40) as f32 / (1 << 24) as f32 - 0.3) * 5.0
            })
            .collect()
    }

    fn deviations(reference: &[f32], queries: &[f32], orders: &[u32], memory: usize) -> Vec<f64> {
        gram_deviations(MAPS, reference, queries, orders, 1.5, memory, &Cancel::new()).unwrap()
    }

    fn middle(mut values: Vec<f64>) -> f64 {
        values.sort_by(f64::total_cmp);
        let half = values.len() / 2;
        if values.len() % 2 == 1 {
            values[half]
        } else {
            f64::midpoint(values[half - 1], values[half])
        }
    }

    /// Entry by entry from the definition.
    fn direct(reference: &[f32], queries: &[f32], orders: &[u32]) -> Vec<f64> {
        let entry = |sample: &[f32], p: u32, i: usize, j: usize| {
            let sum: f64 = (0..MAPS.positions)
                .map(|s| {
                    let at = |c: usize| f64::from(sample[c * MAPS.positions + s]);
                    at(i).powi(p.cast_signed()) * at(j).powi(p.cast_signed())
                })
                .sum();
            sum.signum() * sum.abs().powf(1.0 / f64::from(p))
        };
        let mut total = vec![0.0; queries.len() / MAPS.values()];
        for &p in orders {
            let mut limits = Vec::new();
            for i in 0..MAPS.channels {
                for j in i..MAPS.channels {
                    let all: Vec<f64> =
                        reference.chunks(MAPS.values()).map(|a| entry(a, p, i, j)).collect();
                    let median = middle(all.clone());
                    let deviation = middle(all.iter().map(|g| (g - median).abs()).collect());
                    limits.push((i, j, median, deviation));
                }
            }
            let typical = limits.iter().map(|l| l.2.abs()).sum::<f64>() / limits.len() as f64;
            for (sum, sample) in total.iter_mut().zip(queries.chunks(MAPS.values())) {
                for &(i, j, median, deviation) in &limits {
                    let g = entry(sample, p, i, j);
                    let (low, high) = (median - 1.5 * deviation, median + 1.5 * deviation);
                    *sum += (low - g).max(0.0) / (low.abs() + typical)
                        + (g - high).max(0.0) / (high.abs() + typical);
                }
            }
        }
        total
    }

    #[test]
    fn deviations_are_those_of_the_definition() {
        for samples in [1, 4, 7] {
            let reference = random(samples * MAPS.values(), 1);
            let queries = random(5 * MAPS.values(), 2);
            let found = deviations(&reference, &queries, &ORDERS, 1 << 20);
            for (a, b) in found.iter().zip(direct(&reference, &queries, &ORDERS)) {
                assert!((a - b).abs() <= 1e-4 * b.abs() + 1e-5, "{a} {b}");
            }
        }
    }

    #[test]
    fn the_powers_matter() {
        let reference = random(20 * MAPS.values(), 3);
        let queries = random(6 * MAPS.values(), 4);
        // Roots of one and the same matrix order samples alike; matrices of powers do not.
        let of = |p: u32| deviations(&reference, &queries, &[p], 1 << 20);
        let order = |d: Vec<f64>| {
            let mut rows: Vec<usize> = (0..d.len()).collect();
            rows.sort_by(|&a, &b| d[a].total_cmp(&d[b]));
            rows
        };
        assert_ne!(order(of(1)), order(of(8)));
    }

    #[test]
    fn memory_and_scale_do_not_matter() {
        let reference = random(9 * MAPS.values(), 5);
        let queries = random(4 * MAPS.values(), 6);
        let expected = deviations(&reference, &queries, &ORDERS, 1 << 20);
        assert_eq!(deviations(&reference, &queries, &ORDERS, 1), expected);
        assert_eq!(deviations(&reference, &queries, &ORDERS, 4 * 13 * 3), expected);
        let larger = |x: &[f32]| x.iter().map(|v| v * 2.0_f32.powi(60)).collect::<Vec<_>>();
        assert_eq!(deviations(&larger(&reference), &larger(&queries), &ORDERS, 1 << 20), expected);
        let own = deviations(&reference, &reference, &ORDERS, 1 << 20);
        assert_eq!(own, deviations(&reference, &reference.clone(), &ORDERS, 1 << 20));
    }

    #[test]
    fn constant_and_zero_maps_do_not_deviate() {
        let zeros = vec![0.0; 6 * MAPS.values()];
        assert_eq!(deviations(&zeros, &zeros, &ORDERS, 1 << 20), vec![0.0; 6]);
        let ones = vec![1.0; 6 * MAPS.values()];
        assert_eq!(deviations(&ones, &ones, &ORDERS, 1 << 20), vec![0.0; 6]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let cancel = Cancel::new();
        let call = |reference: &[f32], queries: &[f32]| {
            gram_deviations(MAPS, reference, queries, &ORDERS, 3.0, 1 << 20, &cancel)
        };
        let good = random(2 * MAPS.values(), 7);
        assert!(matches!(call(&good[1..], &good), Err(Error::Shape { .. })));
        assert!(matches!(call(&[], &good), Err(Error::Empty)));
        let mut bad = good.clone();
        bad[MAPS.values() + 2] = f32::NAN;
        assert_eq!(call(&good, &bad), Err(Error::NotFinite { row: 1, feature: 2 }));
        cancel.cancel();
        assert_eq!(call(&good, &good), Err(Error::Cancelled));
    }
}
