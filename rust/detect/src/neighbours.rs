//! Exact nearest neighbours of every sample among the others, in one symmetric sweep.
//!
//! Each pair of blocks is multiplied once and serves the samples of both. What is kept does not
//! depend on the order of pairs or on threads: keys are the same bits wherever a product is
//! computed, and equal keys are ordered by index.

use std::sync::Mutex;

use aisec_numeric::Cancel;
use aisec_numeric::gemm::PackedMatrix;
use pulp::Arch;
use rayon::prelude::*;

use crate::Error;

/// Samples in a block; a product of two blocks stays in cache.
const BLOCK: usize = 256;
/// Candidates kept beyond `k`, so that rounding of float32 keys costs no neighbour.
const SPARE: usize = 8;
/// Keys that are looked at together.
const LANES: usize = 16;

/// How far apart two samples are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// One minus the cosine of the angle; a sample of zeros is at distance 1 from all.
    Cosine,
    /// The Euclidean distance.
    Euclidean,
}

/// A search for the neighbours of all samples, in parts.
#[derive(Debug)]
pub struct Neighbours {
    /// `[samples, dim]`; for cosines every row of length one, else moved to mean zero.
    x: Vec<f32>,
    dim: usize,
    metric: Metric,
    k: usize,
    /// Half the squared length of each sample for Euclidean distances, else zero: the key of a
    /// pair is its product less this.
    half: Vec<f32>,
    packed: Vec<PackedMatrix<f32>>,
    lists: Vec<Mutex<Lists>>,
    /// Pairs of blocks that are done.
    done: usize,
}

impl Neighbours {
    /// Prepares the search for the `k` nearest of each row of `x` `[samples, dim]`.
    ///
    /// # Errors
    /// When a feature is not finite, or the rows do not have `dim` features.
    ///
    /// # Panics
    /// When `k` is zero or not below the number of samples, or there are 2^32 samples.
    pub fn new(x: &[f32], dim: usize, k: usize, metric: Metric) -> Result<Self, Error> {
        let samples = x.len().checked_div(dim).unwrap_or(0);
        if samples * dim != x.len() || dim == 0 {
            return Err(Error::Shape { values: x.len(), rows: samples, dim });
        }
        if let Some(i) = x.iter().position(|value| !value.is_finite()) {
            return Err(Error::NotFinite { row: (i / dim) as u64, feature: i % dim });
        }
        assert!(k > 0 && k < samples && u32::try_from(samples).is_ok(), "0 < k < samples < 2^32");
        let mut x = x.to_vec();
        let half = match metric {
            Metric::Cosine => {
                x.par_chunks_mut(dim).for_each(normalise);
                vec![0.0; samples]
            }
            Metric::Euclidean => {
                centre(&mut x, dim);
                x.par_chunks(dim).map(|row| (0.5 * square(row)) as f32).collect()
            }
        };
        let packed = x
            .par_chunks(BLOCK * dim)
            .map(|block| {
                let columns = block.len() / dim;
                PackedMatrix::new(dim, columns, None, |k, n| block[n * dim + k])
            })
            .collect();
        let width = (k + SPARE).min(samples - 1);
        let lists = (0..samples)
            .step_by(BLOCK)
            .map(|first| Mutex::new(Lists::new((samples - first).min(BLOCK), width)))
            .collect();
        Ok(Self { x, dim, metric, k, half, packed, lists, done: 0 })
    }

    /// Pairs of blocks that were multiplied, and that there are.
    pub fn progress(&self) -> (usize, usize) {
        let blocks = self.packed.len();
        (self.done, blocks * (blocks + 1) / 2)
    }

    /// Multiplies up to `pairs` further pairs of blocks.
    ///
    /// # Errors
    /// When cancelled; the search has to be started again.
    pub fn advance(&mut self, pairs: usize, cancel: &Cancel) -> Result<(), Error> {
        let (done, total) = self.progress();
        let end = total.min(done.saturating_add(pairs));
        (done..end).into_par_iter().try_for_each_init(
            || vec![0.0; BLOCK * BLOCK],
            |tile, pair| {
                cancel.check()?;
                let (row, column) = block_pair(pair);
                self.multiply(row, column, tile);
                Ok::<(), Error>(())
            },
        )?;
        self.done = end;
        Ok(())
    }

    fn multiply(&self, row: usize, column: usize, tile: &mut [f32]) {
        let block = |index: usize| {
            let first = index * BLOCK;
            first..(first + BLOCK).min(self.half.len())
        };
        let (rows, columns) = (block(row), block(column));
        let tile = &mut tile[..rows.len() * columns.len()];
        let left = &self.x[rows.start * self.dim..rows.end * self.dim];
        self.packed[column].multiply_rows(left, tile, false);
        if row == column {
            for i in 0..rows.len() {
                tile[i * rows.len() + i] = f32::NEG_INFINITY;
            }
        }
        let width = columns.len();
        {
            let mut lists = self.lists[row].lock().expect("no thread panics with a list");
            Arch::new().dispatch(
                #[inline(always)]
                || {
                    for (r, keys) in tile.chunks_exact(width).enumerate() {
                        lists.offer_row(r, keys, &self.half[columns.clone()], columns.start);
                    }
                },
            );
        }
        if row != column {
            let mut lists = self.lists[column].lock().expect("no thread panics with a list");
            Arch::new().dispatch(
                #[inline(always)]
                || {
                    for (r, keys) in tile.chunks_exact(width).enumerate() {
                        let id = rows.start + r;
                        lists.offer_column(keys, self.half[id], id);
                    }
                },
            );
        }
    }

    /// The neighbours: indices and distances `[samples, k]`, nearest first, equal distances by
    /// index. Distances are computed anew in float64, and rank the candidates.
    ///
    /// # Panics
    /// When the search has not come to its end.
    pub fn finish(&self) -> (Vec<u32>, Vec<f32>) {
        let (done, total) = self.progress();
        assert_eq!(done, total, "all pairs of blocks are multiplied");
        let samples = self.half.len();
        let (mut ids, mut distances) = (vec![0; samples * self.k], vec![0.0; samples * self.k]);
        ids.par_chunks_mut(BLOCK * self.k)
            .zip(distances.par_chunks_mut(BLOCK * self.k))
            .zip(&self.lists)
            .enumerate()
            .for_each(|(block, ((ids, distances), lists))| {
                let lists = lists.lock().expect("no thread panics with a list");
                for (r, (ids, distances)) in
                    ids.chunks_exact_mut(self.k).zip(distances.chunks_exact_mut(self.k)).enumerate()
                {
                    let mut found: Vec<(f64, u32)> = lists
                        .candidates(r)
                        .map(|id| (self.distance(block * BLOCK + r, id as usize), id))
                        .collect();
                    found.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                    for ((id, distance), found) in ids.iter_mut().zip(distances).zip(found) {
                        (*distance, *id) = (found.0 as f32, found.1);
                    }
                }
            });
        (ids, distances)
    }

    fn distance(&self, one: usize, other: usize) -> f64 {
        let row = |index: usize| &self.x[index * self.dim..(index + 1) * self.dim];
        let pairs = row(one).iter().zip(row(other)).map(|(&a, &b)| (f64::from(a), f64::from(b)));
        match self.metric {
            Metric::Euclidean => pairs.map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt(),
            Metric::Cosine => {
                let lengths = (square(row(one)) * square(row(other))).sqrt();
                let cosine = pairs.map(|(a, b)| a * b).sum::<f64>() / lengths;
                if lengths > 0.0 { (1.0 - cosine).max(0.0) } else { 1.0 }
            }
        }
    }
}

/// The pair of blocks with number `pair`, the first not after the second.
fn block_pair(pair: usize) -> (usize, usize) {
    let mut second = (((8 * pair + 1) as f64).sqrt() as usize).saturating_sub(1) / 2;
    while (second + 1) * (second + 2) / 2 <= pair {
        second += 1;
    }
    while second * (second + 1) / 2 > pair {
        second -= 1;
    }
    (pair - second * (second + 1) / 2, second)
}

fn square(row: &[f32]) -> f64 {
    row.iter().map(|&value| f64::from(value) * f64::from(value)).sum()
}

/// Moves all rows so that their mean is zero: distances stay, and keys cancel less.
fn centre(x: &mut [f32], dim: usize) {
    let mut mean = vec![0.0f64; dim];
    for row in x.chunks_exact(dim) {
        mean.iter_mut().zip(row).for_each(|(mean, &value)| *mean += f64::from(value));
    }
    let count = (x.len() / dim) as f64;
    mean.iter_mut().for_each(|mean| *mean /= count);
    x.par_chunks_exact_mut(dim).for_each(|row| {
        for (value, mean) in row.iter_mut().zip(&mean) {
            *value = (f64::from(*value) - mean) as f32;
        }
    });
}

/// Scales a row to length one.
fn normalise(row: &mut [f32]) {
    let length = square(row).sqrt();
    if length > 0.0 {
        row.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
    }
}

/// The best candidates of the samples of one block: largest keys first, equal keys by index.
#[derive(Debug)]
struct Lists {
    keys: Vec<f32>,
    ids: Vec<u32>,
    /// The last key of each list, which a candidate has to reach.
    last: Vec<f32>,
    width: usize,
}

impl Lists {
    fn new(samples: usize, width: usize) -> Self {
        Self {
            keys: vec![f32::NEG_INFINITY; samples * width],
            ids: vec![u32::MAX; samples * width],
            last: vec![f32::NEG_INFINITY; samples],
            width,
        }
    }

    /// Products of one sample with consecutive others, the first of which is `first`.
    #[inline(always)]
    fn offer_row(&mut self, sample: usize, products: &[f32], half: &[f32], first: usize) {
        let blocks = products.chunks(LANES).zip(half.chunks(LANES));
        for (block, (products, half)) in blocks.enumerate() {
            let last = self.last[sample];
            let mut reached = false;
            for (product, half) in products.iter().zip(half) {
                reached |= product - half >= last;
            }
            if reached {
                for (lane, (product, half)) in products.iter().zip(half).enumerate() {
                    self.offer(sample, product - half, first + block * LANES + lane);
                }
            }
        }
    }

    /// Products of one sample, `id`, with all samples of this block.
    #[inline(always)]
    fn offer_column(&mut self, products: &[f32], half: f32, id: usize) {
        for (block, products) in products.chunks(LANES).enumerate() {
            let start = block * LANES;
            let mut reached = false;
            for (product, last) in products.iter().zip(&self.last[start..]) {
                reached |= product - half >= *last;
            }
            if reached {
                for (lane, product) in products.iter().enumerate() {
                    self.offer(start + lane, product - half, id);
                }
            }
        }
    }

    fn offer(&mut self, sample: usize, key: f32, id: usize) {
        // The sample itself is offered with a key below all others.
        if key < self.last[sample] || key == f32::NEG_INFINITY {
            return;
        }
        let id = id as u32;
        let list = sample * self.width..(sample + 1) * self.width;
        let (keys, ids) = (&mut self.keys[list.clone()], &mut self.ids[list]);
        let place = (0..keys.len()).find(|&i| key > keys[i] || key == keys[i] && id < ids[i]);
        let Some(place) = place else { return };
        keys[place..].rotate_right(1);
        ids[place..].rotate_right(1);
        (keys[place], ids[place]) = (key, id);
        self.last[sample] = keys[keys.len() - 1];
    }

    fn candidates(&self, sample: usize) -> impl Iterator<Item = u32> {
        self.ids[sample * self.width..(sample + 1) * self.width].iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use aisec_numeric::random::Stream;

    use super::*;

    fn random(samples: usize, dim: usize, seed: u64) -> Vec<f32> {
        let mut generator = Stream::new(seed, "neighbours", 0).at(0, 0);
        (0..samples * dim).map(|_| generator.normal()).collect()
    }

    fn search(
        x: &[f32],
        dim: usize,
        k: usize,
        metric: Metric,
        step: usize,
    ) -> (Vec<u32>, Vec<f32>) {
        let mut search = Neighbours::new(x, dim, k, metric).unwrap();
        while search.progress().0 < search.progress().1 {
            search.advance(step, &Cancel::new()).unwrap();
        }
        search.finish()
    }

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
                            Metric::Cosine => 1.0 - dot(a, b) / (dot(a, a) * dot(b, b)).sqrt(),
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

    #[test]
    fn finds_what_comparing_all_pairs_finds() {
        for (samples, dim) in [(5, 1), (257, 3), (700, 17)] {
            let x = random(samples, dim, 1);
            for metric in [Metric::Cosine, Metric::Euclidean] {
                let (_, distances) = search(&x, dim, 4, metric, 1);
                let expected = brute_force(&x, dim, 4, metric);
                for (found, expected) in distances.chunks(4).zip(expected) {
                    for (found, (expected, _)) in found.iter().zip(expected) {
                        assert!((f64::from(*found) - expected).abs() < 1e-6);
                    }
                }
            }
        }
    }

    #[test]
    fn does_not_depend_on_parts_or_threads() {
        let x = random(1100, 8, 2);
        let whole = search(&x, 8, 6, Metric::Euclidean, usize::MAX);
        assert_eq!(whole, search(&x, 8, 6, Metric::Euclidean, 3));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(whole, pool.install(|| search(&x, 8, 6, Metric::Euclidean, 2)));
    }

    #[test]
    fn equal_samples_are_ordered_by_index() {
        let x = [1.0; 40];
        let (ids, distances) = search(&x, 4, 3, Metric::Euclidean, 1);
        assert_eq!(ids[..6], [1, 2, 3, 0, 2, 3]);
        assert_eq!(ids[27..], [0, 1, 2]);
        assert!(distances.iter().all(|&distance| distance == 0.0));
    }

    #[test]
    fn a_common_offset_costs_no_neighbour() {
        let x = random(300, 6, 4);
        let moved: Vec<f32> = x.iter().map(|value| value + 1000.0).collect();
        let (_, distances) = search(&moved, 6, 5, Metric::Euclidean, 1);
        let expected = brute_force(&moved, 6, 5, Metric::Euclidean);
        for (found, expected) in distances.chunks(5).zip(expected) {
            for (found, (expected, _)) in found.iter().zip(expected) {
                assert!((f64::from(*found) - expected).abs() < 1e-3, "{found} {expected}");
            }
        }
    }

    #[test]
    fn zeros_are_as_far_from_all() {
        let x = [0.0, 0.0, 1.0, 0.0, 2.0, 0.1, 0.0, 3.0];
        let (ids, distances) = search(&x, 2, 2, Metric::Cosine, 1);
        assert_eq!((&ids[..2], &distances[..2]), (&[1, 2][..], &[1.0, 1.0][..]));
        assert_eq!(ids[2], 2);
    }

    #[test]
    fn pairs_of_blocks_are_all_met_once() {
        let mut seen: Vec<_> = (0..55).map(block_pair).collect();
        assert!(seen.iter().all(|(first, second)| first <= second && *second < 10));
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 55);
    }

    #[test]
    fn refuses_what_is_not_finite() {
        let error = Neighbours::new(&[0.0, 1.0, f32::NAN, 2.0], 2, 1, Metric::Cosine).unwrap_err();
        assert_eq!(error, Error::NotFinite { row: 1, feature: 0 });
    }
}
