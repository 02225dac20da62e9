//! Gram matrices, updated by blocks of rows.
//!
//! Only the lower triangle is kept, as blocks of `PANEL` × `PANEL` entries. Each entry is one
//! chain of fused multiply-adds over the rows in their order, so it does not depend on how the
//! rows were batched, on the instruction set or on threads.

use pulp::{Arch, Simd, WithSimd};

/// Columns in a panel: two of the widest registers.
pub(crate) const PANEL: usize = 16;
const BLOCK: usize = PANEL * PANEL;

/// One block row of the lower triangle, with the sums of the same columns.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct GramRow {
    pub(crate) sum: [f64; PANEL],
    /// Blocks 0..=index, each row-major.
    blocks: Vec<f64>,
}

impl GramRow {
    pub(crate) fn new(index: usize) -> Self {
        Self { sum: [0.0; PANEL], blocks: vec![0.0; (index + 1) * BLOCK] }
    }

    /// Entry (row, column) of the matrix, `row` counted inside this block row.
    pub(crate) fn entry(&self, row: usize, column: usize) -> f64 {
        self.blocks[column / PANEL * BLOCK + row * PANEL + column % PANEL]
    }

    pub(crate) fn entry_mut(&mut self, row: usize, column: usize) -> &mut f64 {
        &mut self.blocks[column / PANEL * BLOCK + row * PANEL + column % PANEL]
    }

    pub(crate) fn blocks_mut(&mut self) -> &mut [f64] {
        &mut self.blocks
    }

    pub(crate) fn add_blocks(&mut self, other: &Self) {
        self.blocks.iter_mut().zip(&other.blocks).for_each(|(ours, theirs)| *ours += theirs);
    }

    /// Adds `weight * vector * vectorᵀ`, of which this is block row `index`.
    pub(crate) fn add_product(&mut self, index: usize, weight: f64, vector: &[f64]) {
        let left = &vector[index * PANEL..][..PANEL];
        let blocks = self.blocks.as_chunks_mut::<BLOCK>().0;
        for (block, right) in blocks.iter_mut().zip(vector.as_chunks::<PANEL>().0) {
            for (row, left) in block.as_chunks_mut::<PANEL>().0.iter_mut().zip(left) {
                let left = weight * left;
                row.iter_mut().zip(right).for_each(|(entry, right)| *entry += left * right);
            }
        }
    }
}

/// Bytes of the statistics of one class.
pub(crate) fn class_bytes(dim: usize) -> usize {
    let panels = dim.div_ceil(PANEL);
    size_of::<f64>()
        .saturating_mul(panels.saturating_mul(panels + 1) / 2)
        .saturating_mul(BLOCK)
        .saturating_add(panels * PANEL * 3 * size_of::<f64>())
}

/// Adds the outer products of the packed rows of `tiles` to `rows`, block rows `first..` of one
/// Gram matrix. A tile holds panel after panel, each `rows of the tile` × `PANEL` values.
pub(crate) fn update(rows: &mut [GramRow], first: usize, tiles: &[&[f64]], panels: usize) {
    struct Update<'a> {
        rows: &'a mut [GramRow],
        first: usize,
        tiles: &'a [&'a [f64]],
        panels: usize,
    }
    impl WithSimd for Update<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            for tile in self.tiles {
                let panel_len = tile.len() / self.panels;
                for column in 0..self.first + self.rows.len() {
                    let right = &tile[column * panel_len..][..panel_len];
                    for (offset, row) in self.rows.iter_mut().enumerate() {
                        let index = self.first + offset;
                        if column <= index {
                            let left = &tile[index * panel_len..][..panel_len];
                            let block = &mut row.blocks[column * BLOCK..][..BLOCK];
                            match S::F64_LANES {
                                8 => multiply::<S, 8>(simd, left, right, block),
                                _ => multiply::<S, 4>(simd, left, right, block),
                            }
                        }
                    }
                }
                for (offset, row) in self.rows.iter_mut().enumerate() {
                    let values = &tile[(self.first + offset) * panel_len..][..panel_len];
                    for value in values.as_chunks::<PANEL>().0 {
                        for (sum, &value) in row.sum.iter_mut().zip(value) {
                            *sum += value;
                        }
                    }
                }
            }
        }
    }
    Arch::new().dispatch(Update { rows, first, tiles, panels });
}

/// `block += leftᵀ·right` for two panels; `ROWS` × 2 registers hold a piece of the block.
#[inline(always)]
fn multiply<S: Simd, const ROWS: usize>(simd: S, left: &[f64], right: &[f64], block: &mut [f64]) {
    const VECTORS: usize = 2;
    let width = PANEL / S::F64_LANES;
    let right = S::as_simd_f64s(right).0;
    let block = S::as_mut_simd_f64s(block).0;
    for vector in (0..width).step_by(VECTORS) {
        for row in (0..PANEL).step_by(ROWS) {
            let mut sums = [[simd.splat_f64s(0.0); VECTORS]; ROWS];
            for (r, sums) in sums.iter_mut().enumerate() {
                let at = (row + r) * width + vector;
                sums.copy_from_slice(&block[at..at + VECTORS]);
            }
            for (left, right) in left.chunks_exact(PANEL).zip(right.chunks_exact(width)) {
                let left: &[f64; ROWS] = left[row..].first_chunk().expect("ROWS divides PANEL");
                let right: &[S::f64s; VECTORS] =
                    right[vector..].first_chunk().expect("VECTORS divides the width");
                for (sums, &left) in sums.iter_mut().zip(left) {
                    let left = simd.splat_f64s(left);
                    for (sum, &right) in sums.iter_mut().zip(right) {
                        *sum = simd.mul_add_f64s(left, right, *sum);
                    }
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                let at = (row + r) * width + vector;
                block[at..at + VECTORS].copy_from_slice(sums);
            }
        }
    }
}
