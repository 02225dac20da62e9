//! Matrix products with a fixed accumulation order.
//!
//! Every output is one chain of fused multiply-adds over the inner index, first to last, started
//! from the bias. So it is bit for bit the same whatever the other rows, the tile shapes, the
//! instruction set and the number of threads. Speed comes from computing many chains at once:
//! a tile of rows × vectors of columns stays in registers for the whole inner loop.
//!
//! The left matrix is addressed through two tables, element (r, k) being
//! `values[rows[r] + taps[k]]`: a plain matrix, its transpose and the patches of an image are all
//! read in place. The right matrix is packed once.

use std::any::Any;
use std::marker::PhantomData;
use std::sync::OnceLock;

use pulp::{Arch, Simd, WithSimd};

use crate::Scalar;

/// The most rows and vectors of columns of a register tile.
pub(crate) const TILE_ROWS: usize = 8;
const TILE_VECTORS: usize = 4;
/// Values in the largest tile, with 512-bit vectors of float32.
pub(crate) const TILE_LEN: usize = TILE_ROWS * TILE_VECTORS * 16;
const CACHE_LINE: usize = 64;

/// A right-hand matrix and the bias its products start from, laid out for the kernel.
#[derive(Debug, Clone)]
pub struct PackedMatrix<T> {
    rows: usize,
    columns: usize,
    panels: Vec<Panel>,
    /// Panel after panel, each holding the bias and then row after row, from `start` on, where
    /// a cache line begins.
    values: Vec<T>,
    start: usize,
}

/// A range of columns, padded with zeros to whole vectors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Panel {
    first: usize,
    columns: usize,
    pub vectors: usize,
}

/// A left-hand matrix: element (r, k) is `values[rows[r] + taps[k]]`.
#[derive(Debug, Clone, Copy)]
pub struct Left<'a, T> {
    pub values: &'a [T],
    pub rows: &'a [usize],
    pub taps: &'a [usize],
}

/// Where a product goes: element (r, n) is `values[rows[r] + n * stride]`.
#[derive(Debug)]
pub struct Target<'a, T> {
    pub values: &'a mut [T],
    pub rows: &'a [usize],
    pub stride: usize,
    /// Whether the product is added to what is there, or replaces it.
    pub accumulate: bool,
}

impl<T: Scalar> PackedMatrix<T> {
    /// Packs the matrix whose element (k, n) is `element(k, n)`; without a bias, sums start at 0.
    pub fn new(
        rows: usize,
        columns: usize,
        bias: Option<&[T]>,
        element: impl Fn(usize, usize) -> T,
    ) -> Self {
        let (lanes, widest) = Arch::new().dispatch(Registers::<T>(PhantomData));
        let vectors = columns.div_ceil(lanes);
        let count = vectors.div_ceil(widest);
        let mut values: Vec<T> = Vec::with_capacity((rows + 1) * vectors * lanes + CACHE_LINE);
        let start = values.as_ptr().align_offset(CACHE_LINE).min(CACHE_LINE);
        values.resize(start, T::ZERO);
        let mut panels = Vec::with_capacity(count);
        let mut done = 0;
        for panel in 0..count {
            // Spread evenly, as a narrow panel keeps few chains in flight.
            let width = (vectors - done).div_ceil(count - panel);
            let first = done * lanes;
            let panel =
                Panel { first, columns: (width * lanes).min(columns - first), vectors: width };
            let padding = width * lanes - panel.columns;
            let range = first..first + panel.columns;
            values.extend(range.clone().map(|n| bias.map_or(T::ZERO, |bias| bias[n])));
            values.extend(std::iter::repeat_n(T::ZERO, padding));
            for k in 0..rows {
                values.extend(range.clone().map(|n| element(k, n)));
                values.extend(std::iter::repeat_n(T::ZERO, padding));
            }
            panels.push(panel);
            done += width;
        }
        Self { rows, columns, panels, values, start }
    }

    /// The inner length.
    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Each panel with its values, bias first, for vectors of `lanes`.
    #[inline(always)]
    pub(crate) fn panels(&self, lanes: usize) -> impl Iterator<Item = (Panel, &[T])> {
        let mut values = &self.values[self.start..];
        self.panels.iter().map(move |&panel| {
            let (this, rest) = values.split_at((self.rows + 1) * panel.vectors * lanes);
            values = rest;
            (panel, this)
        })
    }

    /// `target (+)= bias + left × self`.
    ///
    /// # Panics
    /// When the tables do not have the matrices' sizes or lead outside the values.
    pub fn multiply(&self, left: Left<T>, target: Target<T>) {
        assert_eq!(left.taps.len(), self.rows, "one tap for each row of the right matrix");
        assert_eq!(left.rows.len(), target.rows.len(), "as many rows left as in the target");
        Arch::new().dispatch(Multiply { left, right: self, target });
    }

    /// `out (+)= bias + left × self` for contiguous row-major matrices.
    ///
    /// # Panics
    /// When a slice does not hold whole rows, or not the same number of them.
    pub fn multiply_rows(&self, left: &[T], out: &mut [T], accumulate: bool) {
        let (inner, columns) = (self.rows, self.columns);
        if columns == 0 {
            return assert!(out.is_empty(), "out has rows of length 0");
        }
        let count = out.len() / columns;
        assert_eq!(out.len(), count * columns, "out holds whole rows");
        assert_eq!(left.len(), count * inner, "left holds as many rows as out");
        with_identity(inner, |taps| {
            let mut offsets = [[0; BLOCK_ROWS]; 2];
            for (offsets, length) in offsets.iter_mut().zip([inner, columns]) {
                offsets.iter_mut().enumerate().for_each(|(r, offset)| *offset = r * length);
            }
            for block in (0..count).step_by(BLOCK_ROWS) {
                let rows = (count - block).min(BLOCK_ROWS);
                self.multiply(
                    Left { values: &left[block * inner..], rows: &offsets[0][..rows], taps },
                    Target {
                        values: &mut out[block * columns..],
                        rows: &offsets[1][..rows],
                        stride: 1,
                        accumulate,
                    },
                );
            }
        });
    }
}

/// What a kernel packs, in both precisions, each made when first used: most models run in one.
#[derive(Debug, Default)]
pub struct Packs {
    single: OnceLock<Box<dyn Any + Send + Sync>>,
    double: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl Packs {
    /// The pack for the precision `T`, from `pack` the first time.
    ///
    /// # Panics
    /// When asked for another type than the first time.
    pub fn get<T: Scalar, P: Any + Send + Sync>(&self, pack: impl FnOnce() -> P) -> &P {
        let cell = if size_of::<T>() == 4 { &self.single } else { &self.double };
        let kept = cell.get_or_init(|| Box::new(pack()));
        kept.downcast_ref().expect("a pack keeps its type")
    }
}

/// Rows of a plain product that pass over a panel together while it is in the cache.
pub(crate) const BLOCK_ROWS: usize = 48;

/// Lends the table 0, 1, …, len - 1.
pub(crate) fn with_identity<R>(len: usize, work: impl FnOnce(&[usize]) -> R) -> R {
    use std::cell::Cell;
    thread_local! {
        static TABLE: Cell<Vec<usize>> = const { Cell::new(Vec::new()) };
    }
    let mut table = TABLE.take();
    table.extend(table.len()..len);
    let result = work(&table[..len]);
    TABLE.set(table);
    result
}

/// Asks the instruction set for the lanes of a vector and the most vectors of a tile's row.
struct Registers<T>(PhantomData<T>);

impl<T: Scalar> WithSimd for Registers<T> {
    type Output = (usize, usize);

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> (usize, usize) {
        let widest = if S::REGISTER_COUNT >= 32 { TILE_VECTORS } else { TILE_VECTORS / 2 };
        (size_of::<T::Vector<S>>() / size_of::<T>(), widest)
    }
}

struct Multiply<'a, 'b, T> {
    left: Left<'a, T>,
    right: &'a PackedMatrix<T>,
    target: Target<'b, T>,
}

impl<T: Scalar> WithSimd for Multiply<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { left, right, mut target } = self;
        let lanes = size_of::<T::Vector<S>>() / size_of::<T>();
        for (panel, this) in right.panels(lanes) {
            match panel.vectors {
                1 => product::<T, S, 1>(simd, left, this, panel, &mut target),
                2 => product::<T, S, 2>(simd, left, this, panel, &mut target),
                3 => product::<T, S, 3>(simd, left, this, panel, &mut target),
                4 => product::<T, S, 4>(simd, left, this, panel, &mut target),
                _ => unreachable!("panels are 1 to {TILE_VECTORS} vectors wide"),
            }
        }
    }
}

/// One panel times all rows, in tiles of nearly equal height.
#[inline(always)]
fn product<T: Scalar, S: Simd, const W: usize>(
    simd: S,
    left: Left<T>,
    values: &[T],
    panel: Panel,
    target: &mut Target<T>,
) {
    let Some((bias, values)) = T::vectors::<S>(values).as_chunks::<W>().0.split_first() else {
        return;
    };
    // A tile of M × W needs its sums, one row of the panel and one spare register.
    let tallest = ((S::REGISTER_COUNT - 1) / W - 1).clamp(1, TILE_ROWS);
    let mut buffer = [T::ZERO; TILE_LEN];
    let mut done = 0;
    for tiles in (1..=left.rows.len().div_ceil(tallest)).rev() {
        let count = (left.rows.len() - done).div_ceil(tiles);
        let rows = &left.rows[done..done + count];
        macro_rules! tile {
            ($($m:literal)*) => {
                match count {
                    $($m => {
                        let rows = rows.first_chunk::<$m>().expect("count is its length");
                        let sums = tile::<T, S, $m, W>(simd, left, rows, bias, values);
                        let vectors = T::vectors_mut::<S>(&mut buffer).as_chunks_mut::<W>().0;
                        vectors[..$m].copy_from_slice(&sums);
                    })*
                    _ => unreachable!("tiles have 1 to {TILE_ROWS} rows"),
                }
            };
        }
        tile!(1 2 3 4 5 6 7 8);
        let width = W * (size_of::<T::Vector<S>>() / size_of::<T>());
        target.store(&buffer, width, done..done + count, panel);
        done += count;
    }
}

/// The sums of `M` rows and `W` vectors of columns, in registers.
#[inline(always)]
fn tile<T: Scalar, S: Simd, const M: usize, const W: usize>(
    simd: S,
    left: Left<T>,
    rows: &[usize; M],
    bias: &[T::Vector<S>; W],
    values: &[[T::Vector<S>; W]],
) -> [[T::Vector<S>; W]; M] {
    let mut sums = [*bias; M];
    for (&tap, right) in left.taps.iter().zip(values) {
        for (&row, sums) in rows.iter().zip(&mut sums) {
            let value = T::splat(simd, left.values[row + tap]);
            for (sum, &right) in sums.iter_mut().zip(right) {
                *sum = T::fma(simd, value, right, *sum);
            }
        }
    }
    sums
}

impl<T: Scalar> Target<'_, T> {
    /// Writes a tile whose rows are `width` apart in `tile`.
    #[inline(never)]
    pub(crate) fn store(
        &mut self,
        tile: &[T],
        width: usize,
        rows: std::ops::Range<usize>,
        panel: Panel,
    ) {
        let rows = &self.rows[rows];
        if self.stride == 1 {
            for (&row, tile) in rows.iter().zip(tile.chunks_exact(width)) {
                let out = &mut self.values[row + panel.first..][..panel.columns];
                if self.accumulate {
                    out.iter_mut().zip(tile).for_each(|(out, &sum)| *out += sum);
                } else {
                    out.copy_from_slice(&tile[..panel.columns]);
                }
            }
            return;
        }
        let adjacent = rows.windows(2).all(|pair| pair[1] == pair[0] + 1);
        macro_rules! columns {
            ($($m:literal)*) => {
                match (adjacent, rows.len()) {
                    $((true, $m) => columns::<T, $m>(self, tile, width, rows[0], panel),)*
                    _ => {
                        for (row, tile) in rows.iter().zip(tile.chunks_exact(width)) {
                            columns::<T, 1>(self, tile, width, *row, panel);
                        }
                    }
                }
            };
        }
        columns!(1 2 3 4 5 6 7 8);
    }
}

/// Writes the columns of a tile of `M` rows whose targets are adjacent.
#[inline(always)]
fn columns<T: Scalar, const M: usize>(
    target: &mut Target<T>,
    tile: &[T],
    width: usize,
    row: usize,
    panel: Panel,
) {
    let lines: [&[T]; M] = std::array::from_fn(|i| &tile[i * width..][..panel.columns]);
    for n in 0..panel.columns {
        let start = row + (panel.first + n) * target.stride;
        let out: &mut [T; M] =
            target.values[start..].first_chunk_mut().expect("the target holds the tile");
        let sums: [T; M] = std::array::from_fn(|i| lines[i][n]);
        if target.accumulate {
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
        } else {
            *out = sums;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matrix<T: Scalar>(len: usize, seed: u64) -> Vec<T> {
        let mut generator = crate::random::Stream::new(seed, "gemm", 0).at(0, 0);
        (0..len).map(|_| T::from_f64(f64::from(generator.signed()))).collect()
    }

    /// The definition: one chain a value.
    fn naive<T: Scalar>(a: &[T], b: &[T], bias: &[T], inner: usize) -> Vec<T> {
        let columns = bias.len();
        let row = |a: &[T]| -> Vec<T> {
            (0..columns)
                .map(|n| (0..inner).fold(bias[n], |s, k| a[k].mul_add(b[k * columns + n], s)))
                .collect()
        };
        let rows = a.len().checked_div(inner).unwrap_or(1);
        (0..rows).flat_map(|r| row(&a[r * inner..(r + 1) * inner])).collect()
    }

    fn check<T: Scalar>(rows: usize, inner: usize, columns: usize, seed: u64) {
        let a = matrix::<T>(rows * inner, seed);
        let b = matrix::<T>(inner * columns, seed + 1);
        let bias = matrix::<T>(columns, seed + 2);
        let packed = PackedMatrix::new(inner, columns, Some(&bias), |k, n| b[k * columns + n]);
        let mut out = vec![T::ONE; rows * columns];
        packed.multiply_rows(&a, &mut out, false);
        if inner > 0 {
            assert_eq!(out, naive(&a, &b, &bias, inner));
        } else {
            assert!(out.chunks(columns.max(1)).all(|row| row == bias));
        }

        // Any row alone gives the same bits.
        for r in 0..rows.min(3) {
            let mut alone = vec![T::ZERO; columns];
            packed.multiply_rows(&a[r * inner..(r + 1) * inner], &mut alone, false);
            assert_eq!(alone, out[r * columns..(r + 1) * columns]);
        }

        // Accumulating, through tables: a transposed left matrix into a transposed target.
        let mut transposed = vec![T::ZERO; rows * inner];
        for r in 0..rows {
            for k in 0..inner {
                transposed[k * rows + r] = a[r * inner + k];
            }
        }
        let mut target = matrix::<T>(rows * columns, seed + 3);
        let before = target.clone();
        packed.multiply(
            Left {
                values: &transposed,
                rows: &Vec::from_iter(0..rows),
                taps: &Vec::from_iter((0..inner).map(|k| k * rows)),
            },
            Target {
                values: &mut target,
                rows: &Vec::from_iter(0..rows),
                stride: rows,
                accumulate: true,
            },
        );
        for r in 0..rows {
            for n in 0..columns {
                let expected = before[n * rows + r] + out[r * columns + n];
                assert_eq!(target[n * rows + r], expected);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn products_are_chains(rows in 0usize..60, inner in 0usize..40, columns in 0usize..150, seed: u32) {
            check::<f32>(rows, inner, columns, u64::from(seed));
            check::<f64>(rows, inner, columns, u64::from(seed));
        }
    }

    #[test]
    fn every_tile_shape() {
        for rows in 1..=17 {
            for columns in [1, 7, 8, 9, 16, 17, 31, 32, 33, 48, 49, 64, 65, 80, 128, 130] {
                check::<f32>(rows, 5, columns, 1);
                check::<f64>(rows, 5, columns, 1);
            }
        }
    }

    #[test]
    fn without_a_bias_sums_start_at_zero() {
        let packed = PackedMatrix::new(2, 3, None, |k, n| (10 * k + n) as f32);
        let mut out = [9.0; 3];
        packed.multiply_rows(&[1.0, 2.0], &mut out, false);
        assert_eq!(out, [20.0, 23.0, 26.0]);
    }

    #[test]
    #[should_panic(expected = "as many rows")]
    fn rows_must_agree() {
        PackedMatrix::new(2, 3, None, |_, _| 0.0f32).multiply_rows(&[0.0; 2], &mut [0.0; 6], false);
    }
}
