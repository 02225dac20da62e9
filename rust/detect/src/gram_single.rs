//! Gram matrices of long classes: products in float32 about the mean of a tile, sums in float64.
//!
//! A tile is [`TILE`] consecutive rows of one class. About its own mean the rows are small, so that
//! float32 keeps 24 bits of what varies; the mean and everything that is added over tiles is
//! float64. An entry of the covariance is off by at most `TILE · 2⁻²³` of the two features'
//! standard deviations, and roundings of different tiles cancel: by about `2⁻²⁰ / √rows`.

use pulp::{Arch, Simd, WithSimd};

use crate::gram::{GramRow, PANEL};

/// Rows of a tile.
pub(crate) const TILE: usize = 128;
const BLOCK: usize = PANEL * PANEL;
/// Residuals whose squares, summed over a tile, neither overflow nor lose bits below the least
/// normal number.
const LARGEST: f32 = 1.0e15;
const LEAST: f32 = 1.0e-15;
/// Of the mean: residuals so small are what rounding the mean left over.
const ROUNDING: f64 = 1.0e-13;

/// The rows of a tile: float32 about `centre`.
#[derive(Debug)]
pub(crate) struct Tile<'a> {
    /// Panel after panel, `TILE` × `PANEL` values each.
    pub(crate) packed: &'a [f32],
    /// Mean of the rows, as the chain measures them, [panels · PANEL].
    pub(crate) centre: &'a [f64],
}

/// Writes `TILE` rows about their mean, panel after panel. `row(r, column, out)` gives a piece of a
/// row. False where float32 cannot hold the residuals or their squares.
#[inline(always)]
pub(crate) fn pack(
    row: impl Fn(usize, usize, &mut [f64; PANEL]),
    centre: &mut [f64],
    packed: &mut [f32],
) -> bool {
    let mut holds = true;
    let mut values = [[0.0; PANEL]; TILE];
    for (panel, (centre, out)) in centre
        .as_chunks_mut::<PANEL>()
        .0
        .iter_mut()
        .zip(packed.chunks_exact_mut(TILE * PANEL))
        .enumerate()
    {
        let mut sum = [0.0; PANEL];
        for (r, values) in values.iter_mut().enumerate() {
            row(r, panel * PANEL, values);
            for column in 0..PANEL {
                sum[column] += values[column];
            }
        }
        for column in 0..PANEL {
            centre[column] = sum[column] / TILE as f64;
        }
        let mut most = [0.0f32; PANEL];
        for (values, out) in values.iter().zip(out.as_chunks_mut::<PANEL>().0) {
            for column in 0..PANEL {
                out[column] = (values[column] - centre[column]) as f32;
                let size = out[column].abs();
                most[column] = if size > most[column] { size } else { most[column] };
            }
        }
        for column in 0..PANEL {
            let (most, centre) = (most[column], centre[column]);
            if f64::from(most) <= ROUNDING * centre.abs() {
                out.iter_mut().skip(column).step_by(PANEL).for_each(|value| *value = 0.0);
            } else {
                let fits = most == 0.0 || (LEAST..LARGEST).contains(&most);
                holds &= fits && centre.is_finite();
            }
        }
    }
    holds
}

/// Adds tiles, one after the other, to `rows`, block rows `first..` of one Gram matrix.
pub(crate) fn update(rows: &mut [GramRow], first: usize, tile: &Tile<'_>) {
    struct Update<'a, 'b> {
        rows: &'a mut [GramRow],
        first: usize,
        tile: &'a Tile<'b>,
    }
    impl WithSimd for Update<'_, '_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let panel = |index: usize| &self.tile.packed[index * TILE * PANEL..][..TILE * PANEL];
            let centres = self.tile.centre.as_chunks::<PANEL>().0;
            let mut products = [[0.0f32; BLOCK]; 2];
            for column in (0..self.first + self.rows.len()).step_by(2) {
                for (offset, row) in self.rows.iter_mut().enumerate() {
                    let index = self.first + offset;
                    if column > index {
                        continue;
                    }
                    let left = panel(index);
                    let count = 2.min(index + 1 - column);
                    let right = [panel(column), panel(column + count - 1)];
                    match (S::F32_LANES, count) {
                        (16, 2) => multiply::<S, 8, 2>(simd, left, right, 0, &mut products),
                        (16, _) => multiply::<S, 16, 1>(simd, left, right, 0, &mut products),
                        (lanes, _) => {
                            for vector in 0..PANEL / lanes {
                                multiply::<S, 4, 2>(simd, left, right, vector, &mut products);
                            }
                        }
                    }
                    for (at, products) in (column..).zip(&products[..count]) {
                        let block = &mut row.blocks_mut()[at * BLOCK..][..BLOCK];
                        flush(simd, block, products, &centres[index], &centres[at]);
                    }
                }
            }
            for (offset, row) in self.rows.iter_mut().enumerate() {
                for (sum, centre) in row.sum.iter_mut().zip(&centres[self.first + offset]) {
                    *sum += TILE as f64 * centre;
                }
            }
        }
    }
    Arch::new().dispatch(Update { rows, first, tile });
}

/// `out[p] = leftᵀ·right[p]` in vector `at` of every row, for `PANELS` panels side by side.
#[inline(always)]
fn multiply<S: Simd, const ROWS: usize, const PANELS: usize>(
    simd: S,
    left: &[f32],
    right: [&[f32]; 2],
    at: usize,
    out: &mut [[f32; BLOCK]; 2],
) {
    let width = PANEL / S::F32_LANES;
    assert!(at < width);
    let right = right.map(|right| S::as_simd_f32s(right).0.chunks_exact(width));
    for row in (0..PANEL).step_by(ROWS) {
        let mut sums = [[simd.splat_f32s(0.0); PANELS]; ROWS];
        let [near, far] = right.clone();
        for (left, right) in left.as_chunks::<PANEL>().0.iter().zip(near.zip(far)) {
            let left: &[f32; ROWS] = left[row..].first_chunk().expect("ROWS divides PANEL");
            let right = [right.0[at], right.1[at]];
            for (sums, &left) in sums.iter_mut().zip(left) {
                let left = simd.splat_f32s(left);
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum = simd.mul_add_f32s(left, right, *sum);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (out, &sum) in out.iter_mut().zip(sums) {
                S::as_mut_simd_f32s(out).0[(row + r) * width + at] = sum;
            }
        }
    }
}

/// Adds the products of a tile, and those of its mean.
#[inline(always)]
fn flush<S: Simd>(
    simd: S,
    block: &mut [f64],
    products: &[f32; BLOCK],
    left: &[f64; PANEL],
    right: &[f64; PANEL],
) {
    let mut wide = [0.0; BLOCK];
    for (wide, &product) in wide.iter_mut().zip(products) {
        *wide = product.into();
    }
    let right = S::as_simd_f64s(right).0;
    let rows = block.as_chunks_mut::<PANEL>().0.iter_mut().zip(wide.as_chunks::<PANEL>().0);
    for ((block, wide), left) in rows.zip(left) {
        let left = simd.splat_f64s(TILE as f64 * left);
        let block = S::as_mut_simd_f64s(block).0.iter_mut();
        for ((block, &wide), &right) in block.zip(S::as_simd_f64s(wide).0).zip(right) {
            let more = simd.add_f64s(wide, simd.mul_f64s(left, right));
            *block = simd.add_f64s(*block, more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tile(width: usize, scale: f64) -> Vec<Vec<f64>> {
        let mut stream = aisec_numeric::random::Stream::new(3, "tile", 0).at(0, 0);
        let mut value = |i: usize| f64::from(stream.normal()) * scale + i as f64;
        (0..TILE).map(|_| (0..width).map(&mut value).collect()).collect()
    }

    fn pack_rows(rows: &[Vec<f64>], centre: &mut [f64], packed: &mut [f32]) -> bool {
        pack(|r, at, out| out.copy_from_slice(&rows[r][at..at + PANEL]), centre, packed)
    }

    #[test]
    fn products_are_those_of_plain_loops() {
        for panels in 1..=5 {
            let width = panels * PANEL;
            let rows = tile(width, 2.0);
            let (mut centre, mut packed) = (vec![0.0; width], vec![0.0; TILE * width]);
            assert!(pack_rows(&rows, &mut centre, &mut packed));
            let mut gram: Vec<_> = (0..panels).map(GramRow::new).collect();
            // In groups of two block rows, as statistics are updated.
            for (group, rows) in gram.chunks_mut(2).enumerate() {
                update(rows, group * 2, &Tile { packed: &packed, centre: &centre });
            }
            for i in 0..width {
                let sum: f64 = rows.iter().map(|row| row[i]).sum();
                assert!((gram[i / PANEL].sum[i % PANEL] - sum).abs() < 1e-9 * sum.abs().max(1.0));
                for j in 0..=i {
                    let expected: f64 = rows.iter().map(|row| row[i] * row[j]).sum();
                    let value = gram[i / PANEL].entry(i % PANEL, j);
                    // 128 rows of deviation 2: 2⁻²³ · 128 · 128 · 4 at most, far less in truth.
                    assert!((value - expected).abs() < 1e-3, "{value} {expected}");
                }
            }
        }
    }

    #[test]
    fn what_float32_cannot_hold_is_refused() {
        let (mut centre, mut packed) = (vec![0.0; PANEL], vec![0.0; TILE * PANEL]);
        for (scale, holds) in [(1.0, true), (1e-12, true), (1e-17, false), (1e16, false)] {
            let mut rows = tile(PANEL, scale);
            rows.iter_mut()
                .for_each(|row| row.iter_mut().enumerate().for_each(|(i, v)| *v -= i as f64));
            assert_eq!(pack_rows(&rows, &mut centre, &mut packed), holds, "{scale}");
        }
        let mut rows = tile(PANEL, 1.0);
        rows[5][3] = f64::NAN;
        assert!(!pack_rows(&rows, &mut centre, &mut packed));
        // Equal rows are exact.
        assert!(pack_rows(&vec![vec![0.1; PANEL]; TILE], &mut centre, &mut packed));
        assert!(packed.iter().all(|&value| value == 0.0));
    }
}
