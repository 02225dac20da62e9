//! Two-means: Lloyd's iteration from k-means++ seeds (Arthur & Vassilvitskii, SODA 2007), the best
//! of several starts; and what it gives on a Gaussian class, which has no two parts.

use std::ops::Range;

use aisec_numeric::random::{Generator, Stream};
use aisec_numeric::{Cancel, Cancelled};
use rayon::prelude::*;

use crate::rows::{map_rows, sum_groups};

const MOST_ITERATIONS: u32 = 300;
/// Simulated rows that are not worth a wait for other threads.
const FEW: usize = 4096;

/// Rows in two parts.
#[derive(Debug, Clone, PartialEq)]
pub struct TwoMeans {
    /// Rows of the smaller part; of the first row's part where both are as large.
    pub part: Vec<bool>,
    /// Centres of the larger and of the smaller part.
    pub centres: [Vec<f64>; 2],
    /// Squared distances of the rows to their centre, summed.
    pub inertia: f64,
    /// The same to the mean of all rows.
    pub total: f64,
    /// Mean over rows of (b - a) / max(a, b), a and b being the distances to the row's own and to
    /// the other centre: the simplified silhouette (Hruschka et al., 2004), linear in the rows.
    pub silhouette: f64,
}

impl TwoMeans {
    /// The share of the variance that lies between the parts.
    pub fn share(&self) -> f64 {
        if self.total > 0.0 { (1.0 - self.inertia / self.total).clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// Cuts rows [n, width], row-major, into two parts of least inertia.
///
/// Random numbers depend on `stream` and `key` alone, sums on the rows alone: not on threads.
pub fn two_means(
    z: &[f64],
    width: usize,
    stream: &Stream,
    key: u64,
    restarts: u32,
    cancel: &Cancel,
) -> Result<TwoMeans, Cancelled> {
    let rows = z.len() / width;
    let mean = crate::rows::mean(z, width);
    let total = sum_groups(rows, 1, |range, sum| {
        sum[0] = of(z, width, range).map(|row| distance(row, &mean)).sum();
    })[0];
    let mut best: Option<([Vec<f64>; 2], f64)> = None;
    if rows > 1 && total > 0.0 {
        for restart in 0..restarts.max(1) {
            let mut draw = stream.at(key, restart);
            let found = lloyd(z, width, seeds(z, width, &mut draw), cancel)?;
            if best.as_ref().is_none_or(|best| found.1 < best.1) {
                best = Some(found);
            }
        }
    }
    let Some((centres, inertia)) = best else {
        let part = vec![false; rows];
        let centres = [mean.clone(), mean];
        return Ok(TwoMeans { part, centres, inertia: total, total, silhouette: 0.0 });
    };
    Ok(describe(z, width, centres, inertia, total))
}

/// What two-means explains of samples of a Gaussian with independent coordinates of these
/// variances: the share of the variance between the parts, once for each draw.
pub fn gaussian_shares(
    variances: &[f64],
    rows: usize,
    draws: u32,
    seed: u64,
    key: u64,
    restarts: u32,
    cancel: &Cancel,
) -> Result<Vec<f64>, Cancelled> {
    let scale: Vec<f32> = variances.iter().map(|value| value.max(0.0).sqrt() as f32).collect();
    let normal = Stream::new(seed, "two-means-null", 0);
    let one = |draw| {
        cancel.check()?;
        let mut numbers = vec![0.0f32; rows * scale.len()];
        normal.at(key, draw).normals(&mut numbers);
        let z: Vec<f64> = numbers
            .chunks_exact(scale.len())
            .flat_map(|row| row.iter().zip(&scale).map(|(value, scale)| f64::from(value * scale)))
            .collect();
        let stream = Stream::new(seed, "two-means-null-seeds", draw);
        Ok(two_means(&z, scale.len(), &stream, key, restarts, cancel)?.share())
    };
    if rows * draws as usize <= FEW {
        (0..draws).map(one).collect()
    } else {
        (0..draws).into_par_iter().map(one).collect()
    }
}

/// Two rows, the second with odds of its squared distance to the first.
fn seeds(z: &[f64], width: usize, draw: &mut Generator) -> [Vec<f64>; 2] {
    let rows = z.len() / width;
    let first = &z[draw.below(rows as u32) as usize * width..][..width];
    let far = map_rows(z, width, |row| distance(row, first));
    let sum: f64 = far.iter().sum();
    let mut left = f64::from(draw.uniform()) * sum;
    let mut second = far.iter().rposition(|value| *value > 0.0).unwrap_or(0);
    for (row, value) in far.iter().enumerate() {
        if left < *value {
            second = row;
            break;
        }
        left -= value;
    }
    [first.to_vec(), z[second * width..][..width].to_vec()]
}

/// Moves the centres until no row changes sides; returns them and the inertia.
fn lloyd(
    z: &[f64],
    width: usize,
    mut centres: [Vec<f64>; 2],
    cancel: &Cancel,
) -> Result<([Vec<f64>; 2], f64), Cancelled> {
    let rows = z.len() / width;
    let mut last = f64::INFINITY;
    for _ in 0..MOST_ITERATIONS {
        cancel.check()?;
        // Counts, sums and inertia of both sides.
        let sums = sum_groups(rows, 2 * width + 3, |range, sums| {
            for row in of(z, width, range) {
                let (a, b) = (distance(row, &centres[0]), distance(row, &centres[1]));
                let side = usize::from(b < a);
                sums[side * width..][..width].iter_mut().zip(row).for_each(|(s, v)| *s += v);
                sums[2 * width + side] += 1.0;
                sums[2 * width + 2] += a.min(b);
            }
        });
        let inertia = sums[2 * width + 2];
        if sums[2 * width] == 0.0 || sums[2 * width + 1] == 0.0 {
            return Ok((centres, inertia));
        }
        let moved: [Vec<f64>; 2] = std::array::from_fn(|side| {
            let count = sums[2 * width + side];
            sums[side * width..][..width].iter().map(|sum| sum / count).collect()
        });
        // The same rows on either side give the same bits.
        if moved == centres || inertia >= last {
            return Ok((centres, inertia));
        }
        last = inertia;
        centres = moved;
    }
    Ok((centres, last))
}

fn describe(
    z: &[f64],
    width: usize,
    mut centres: [Vec<f64>; 2],
    inertia: f64,
    total: f64,
) -> TwoMeans {
    let rows = z.len() / width;
    let mut part =
        map_rows(z, width, |row| distance(row, &centres[1]) < distance(row, &centres[0]));
    let second = part.iter().filter(|side| **side).count();
    if 2 * second > rows || (2 * second == rows && !part[0]) {
        centres.reverse();
        part.iter_mut().for_each(|side| *side = !*side);
    }
    let sum = sum_groups(rows, 1, |range, sum| {
        sum[0] = of(z, width, range)
            .map(|row| {
                let (a, b) = (distance(row, &centres[0]), distance(row, &centres[1]));
                let (own, other) = (a.min(b).sqrt(), a.max(b).sqrt());
                if other > 0.0 { (other - own) / other } else { 0.0 }
            })
            .sum();
    })[0];
    TwoMeans { part, centres, inertia, total, silhouette: sum / rows as f64 }
}

fn of(z: &[f64], width: usize, range: Range<usize>) -> impl Iterator<Item = &[f64]> {
    z[range.start * width..range.end * width].chunks_exact(width)
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(z: &[f64], width: usize, restarts: u32) -> TwoMeans {
        two_means(z, width, &Stream::new(0, "two-means", 0), 0, restarts, &Cancel::new()).unwrap()
    }

    /// Least inertia over all ways to cut the rows into two.
    fn exhaustive(z: &[f64], width: usize) -> f64 {
        let rows = z.len() / width;
        (0..1u32 << (rows - 1))
            .map(|mask| {
                let mut inertia = 0.0;
                for side in [0, 1] {
                    let own: Vec<&[f64]> = (0..rows)
                        .filter(|row| mask >> row & 1 == side)
                        .map(|row| &z[row * width..][..width])
                        .collect();
                    for column in 0..width {
                        let mean = own.iter().map(|row| row[column]).sum::<f64>()
                            / own.len().max(1) as f64;
                        inertia += own.iter().map(|row| (row[column] - mean).powi(2)).sum::<f64>();
                    }
                }
                inertia
            })
            .fold(f64::INFINITY, f64::min)
    }

    proptest! {
        #[test]
        fn many_starts_find_the_best_split_of_few_rows(
            rows in 2usize..9,
            width in 1usize..4,
            values in prop::collection::vec(-4i8..5, 32),
        ) {
            let z: Vec<f64> = values[..rows * width].iter().map(|v| f64::from(*v)).collect();
            let found = split(&z, width, 60);
            let best = exhaustive(&z, width);
            prop_assert!((found.inertia - best).abs() <= 1e-9 * (1.0 + best));
            prop_assert!(found.part.iter().filter(|side| **side).count() * 2 <= rows);
            prop_assert!((0.0..=1.0).contains(&found.share()));
            prop_assert!((0.0..=1.0).contains(&found.silhouette));
        }
    }

    #[test]
    fn closed_form_on_a_line() {
        let found = split(&[0.0, 0.0, 0.0, 10.0], 1, 8);
        assert_eq!(found.part, [false, false, false, true]);
        assert_eq!((found.inertia, found.total, found.silhouette), (0.0, 75.0, 1.0));
        assert_eq!(found.centres, [vec![0.0], vec![10.0]]);
        let equal = split(&[3.0; 6], 2, 8);
        assert_eq!((equal.share(), equal.part), (0.0, vec![false; 3]));
        assert_eq!(split(&[1.0, 2.0], 2, 8).share(), 0.0);
    }

    #[test]
    fn a_gaussian_line_is_explained_as_theory_says() {
        // Two-means of a normal line explains 2/π of the variance.
        let shares = gaussian_shares(&[4.0], 20_000, 8, 0, 7, 2, &Cancel::new()).unwrap();
        for share in shares {
            assert!((share - 2.0 / std::f64::consts::PI).abs() < 0.02, "{share}");
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let mut draw = Stream::new(5, "rows", 0).at(0, 0);
        let z: Vec<f64> = (0..40_000).map(|_| f64::from(draw.normal())).collect();
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| split(&z, 4, 3))
        };
        assert_eq!(run(1), run(3));
    }
}
