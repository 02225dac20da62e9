//! Keys of two panels of points: products in registers, compared with thresholds before they are
//! stored. The key of a pair is the product less half the squared lengths, that is minus half the
//! squared distance: the larger, the nearer.

use pulp::{Arch, Simd, WithSimd};

use super::frame::PANEL;

/// Vectors of columns, and the most rows, of a register tile.
const VECTORS: usize = 3;
const ROWS: usize = 8;

/// A pair whose key reached a threshold: row and column in their panels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hit {
    pub(super) key: f32,
    pub(super) row: u16,
    pub(super) column: u16,
}

/// One side of a product: a panel of points, half their squared lengths, and what keys have to
/// reach to be of interest to each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Side<'a> {
    pub(super) values: &'a [f32],
    pub(super) half: &'a [f32; PANEL],
    pub(super) least: &'a [f32; PANEL],
    /// The number of the first point, for hits.
    pub(super) first: usize,
}

/// Adds the pairs whose keys reach the threshold of their row or of their column to `hits`.
pub(super) fn compare(rows: Side, columns: Side, hits: &mut Vec<Hit>) {
    Arch::new().dispatch(Compare { rows, columns, hits });
}

struct Compare<'a, 'b> {
    rows: Side<'a>,
    columns: Side<'a>,
    hits: &'b mut Vec<Hit>,
}

impl WithSimd for Compare<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // A tile needs its sums, a vector of columns each, and one register more.
        if S::REGISTER_COUNT > (ROWS + 1) * VECTORS {
            tiles::<S, ROWS>(simd, self);
        } else {
            tiles::<S, { ROWS / 2 }>(simd, self);
        }
    }
}

#[inline(always)]
fn tiles<S: Simd, const M: usize>(simd: S, work: Compare) {
    let Compare { rows, columns, hits } = work;
    let groups = PANEL / (VECTORS * S::F32_LANES);
    let left = rows.values.as_chunks::<PANEL>().0;
    let right = S::as_simd_f32s(columns.values).0.as_chunks::<VECTORS>().0;
    let half = S::as_simd_f32s(columns.half).0.as_chunks::<VECTORS>().0;
    let least = S::as_simd_f32s(columns.least).0.as_chunks::<VECTORS>().0;
    for group in 0..groups {
        for first in (0..PANEL).step_by(M) {
            let panel = right[group..].iter().step_by(groups);
            let mut keys = products::<S, M>(simd, left, panel, first);
            // Loops, as closures given to `map` are not compiled for the instruction set.
            let mut most = simd.splat_f32s(f32::MIN);
            for r in 0..M {
                let own = simd.splat_f32s(rows.half[first + r]);
                let reach = simd.splat_f32s(rows.least[first + r]);
                for w in 0..VECTORS {
                    let halves = simd.add_f32s(own, half[group][w]);
                    keys[r][w] = simd.sub_f32s(keys[r][w], halves);
                    let lowest = simd.min_f32s(reach, least[group][w]);
                    most = simd.max_f32s(most, simd.sub_f32s(keys[r][w], lowest));
                }
            }
            if simd.reduce_max_f32s(most) >= 0.0 {
                let width = VECTORS * S::F32_LANES;
                let mut buffer = [0.0; ROWS * PANEL];
                let vectors = S::as_mut_simd_f32s(&mut buffer).0.as_chunks_mut::<VECTORS>().0;
                vectors[..M].copy_from_slice(&keys);
                for (r, keys) in buffer.chunks_exact(width).take(M).enumerate() {
                    let start = group * width;
                    let least = &columns.least[start..start + width];
                    collect(keys, least, rows.least[first + r], |n, key| {
                        hits.push(Hit {
                            key,
                            row: (rows.first + first + r) as u16,
                            column: (columns.first + start + n) as u16,
                        });
                    });
                }
            }
        }
    }
}

/// The sums of a tile, in registers: a chain of fused multiply-adds each.
#[inline(always)]
fn products<'a, S: Simd, const M: usize>(
    simd: S,
    left: &[[f32; PANEL]],
    right: impl Iterator<Item = &'a [S::f32s; VECTORS]>,
    first: usize,
) -> [[S::f32s; VECTORS]; M] {
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; M];
    for (left, right) in left.iter().zip(right) {
        let left: &[f32; M] = left[first..].first_chunk().expect("tiles divide a panel");
        for (sums, &value) in sums.iter_mut().zip(left) {
            let value = simd.splat_f32s(value);
            for (sum, &right) in sums.iter_mut().zip(right) {
                *sum = simd.mul_add_f32s(value, right, *sum);
            }
        }
    }
    sums
}

/// Calls `hit` with every key of a row that reaches its threshold or the row's.
#[inline(always)]
fn collect(keys: &[f32], least: &[f32], own: f32, mut hit: impl FnMut(usize, f32)) {
    const LANES: usize = 8;
    for (part, (keys, least)) in keys.chunks(LANES).zip(least.chunks(LANES)).enumerate() {
        let mut reached = false;
        for (key, least) in keys.iter().zip(least) {
            reached |= *key >= least.min(own);
        }
        if reached {
            for (lane, (&key, &least)) in keys.iter().zip(least).enumerate() {
                if key >= least.min(own) {
                    hit(part * LANES + lane, key);
                }
            }
        }
    }
}
