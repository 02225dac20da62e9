//! Matrix products whose vectors run along lines of an image, read in place: for few rows
//! (channels), where [`crate::gemm`] would leave most of a vector empty.
//!
//! Sums are the same chains of fused multiply-adds, first tap to last, started from the bias, so
//! both kernels give the same bits.

use pulp::{Arch, Simd, WithSimd};

use crate::Scalar;

/// The most rows and vectors of columns of a register tile.
const TILE_ROWS: usize = 4;
const TILE_VECTORS: usize = 4;

/// Values that are read, and written, past the columns asked for: at most one tile.
pub(crate) const SLACK: usize = TILE_VECTORS * 16;

/// A left-hand matrix and the bias its products start from, in blocks of rows, each holding the
/// block's biases and then its columns one after another.
#[derive(Debug, Clone)]
pub(crate) struct PackedRows<T> {
    taps: usize,
    /// (first row, rows) of each block.
    blocks: Vec<(usize, usize)>,
    values: Vec<T>,
}

impl<T: Scalar> PackedRows<T> {
    /// Packs the matrix whose element (row, tap) is `element(row, tap)`.
    pub fn new(
        rows: usize,
        taps: usize,
        bias: Option<&[T]>,
        element: impl Fn(usize, usize) -> T,
    ) -> Self {
        let tallest = Arch::new().dispatch(Tallest);
        let count = rows.div_ceil(tallest);
        let mut blocks = Vec::with_capacity(count);
        let mut values = Vec::with_capacity(rows * (taps + 1));
        let mut first = 0;
        for block in 0..count {
            let height = (rows - first).div_ceil(count - block);
            let range = first..first + height;
            values.extend(range.clone().map(|row| bias.map_or(T::ZERO, |bias| bias[row])));
            for tap in 0..taps {
                values.extend(range.clone().map(|row| element(row, tap)));
            }
            blocks.push((first, height));
            first += height;
        }
        Self { taps, blocks, values }
    }

    /// Calls `take` with the first row of each block and its products with the columns
    /// `0..columns` of the right matrix, whose element (tap, column) is
    /// `right[taps[tap] + column]`; lines of products are [`pitch`] values apart in `out`.
    ///
    /// # Panics
    /// When `taps` has the wrong length, or when they lead to less than [`SLACK`] values before
    /// the end of `right`, or `out` is shorter than [`scratch`].
    pub fn multiply(
        &self,
        right: &[T],
        taps: &[usize],
        columns: usize,
        out: &mut [T],
        mut take: impl FnMut(usize, std::slice::ChunksExact<T>),
    ) {
        assert_eq!(taps.len(), self.taps, "one tap for each column of the left matrix");
        let pitch = pitch(columns);
        let mut values = &self.values[..];
        for &(first, rows) in &self.blocks {
            let (left, rest) = values.split_at(rows * (self.taps + 1));
            values = rest;
            Arch::new().dispatch(Block { left, rows, right, taps, columns, out });
            take(first, out[..rows * pitch].chunks_exact(pitch));
        }
    }
}

/// Distance of two lines of products.
pub(crate) fn pitch(columns: usize) -> usize {
    columns.max(1).next_multiple_of(SLACK)
}

/// Length of the buffer for the products with `columns` columns.
pub(crate) fn scratch(columns: usize) -> usize {
    TILE_ROWS * pitch(columns)
}

/// Asks the instruction set for the most rows of a tile.
struct Tallest;

impl WithSimd for Tallest {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        // A tile needs its sums, one row of the right matrix and one spare register.
        ((S::REGISTER_COUNT - 1) / TILE_VECTORS - 1).min(TILE_ROWS)
    }
}

struct Block<'a, T> {
    left: &'a [T],
    rows: usize,
    right: &'a [T],
    taps: &'a [usize],
    columns: usize,
    out: &'a mut [T],
}

impl<T: Scalar> WithSimd for Block<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.rows {
            1 => self.lines::<S, 1>(simd),
            2 => self.lines::<S, 2>(simd),
            3 => self.lines::<S, 3>(simd),
            4 => self.lines::<S, 4>(simd),
            _ => unreachable!("blocks have 1 to {TILE_ROWS} rows"),
        }
    }
}

impl<T: Scalar> Block<'_, T> {
    #[inline(always)]
    fn lines<S: Simd, const M: usize>(self, simd: S) {
        let Some((bias, left)) = self.left.as_chunks::<M>().0.split_first() else { return };
        let lanes = size_of::<T::Vector<S>>() / size_of::<T>();
        let pitch = pitch(self.columns);
        let mut done = 0;
        while done < self.columns {
            let vectors = (self.columns - done).div_ceil(lanes).min(TILE_VECTORS);
            macro_rules! tile {
                ($($w:literal)*) => {
                    match vectors {
                        $($w => {
                            let right = &self.right[done..];
                            let sums = tile::<T, S, M, $w>(simd, bias, left, right, self.taps);
                            for (row, sums) in sums.iter().enumerate() {
                                let line = &mut self.out[row * pitch + done..][..$w * lanes];
                                T::vectors_mut::<S>(line).copy_from_slice(sums);
                            }
                        })*
                        _ => unreachable!("tiles are 1 to {TILE_VECTORS} vectors wide"),
                    }
                };
            }
            tile!(1 2 3 4);
            done += vectors * lanes;
        }
    }
}

/// The sums of `M` rows and `W` vectors of columns, in registers.
#[inline(always)]
fn tile<T: Scalar, S: Simd, const M: usize, const W: usize>(
    simd: S,
    bias: &[T; M],
    left: &[[T; M]],
    right: &[T],
    taps: &[usize],
) -> [[T::Vector<S>; W]; M] {
    let width = W * (size_of::<T::Vector<S>>() / size_of::<T>());
    let mut sums = bias.map(|bias| [T::splat(simd, bias); W]);
    for (&tap, left) in taps.iter().zip(left) {
        let right = T::vectors::<S>(&right[tap..tap + width]);
        let right: &[_; W] = right.first_chunk().expect("width is W vectors");
        for (&value, sums) in left.iter().zip(&mut sums) {
            let value = T::splat(simd, value);
            for (sum, &right) in sums.iter_mut().zip(right) {
                *sum = T::fma(simd, value, right, *sum);
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: Scalar>(rows: usize, taps: usize, columns: usize) {
        let value = |i: usize| T::from_f64((i * 37 % 101) as f64 / 101.0 - 0.5);
        let bias: Vec<T> = (0..rows).map(value).collect();
        let offsets: Vec<usize> = (0..taps).map(|tap| tap * 13 % 29).collect();
        let right: Vec<T> = (0..columns + 29 + SLACK).map(|i| value(i + 7)).collect();
        let element = |row: usize, tap: usize| value(row * taps + tap + 3);
        let packed = PackedRows::new(rows, taps, Some(&bias), element);
        let mut out = vec![T::ZERO; scratch(columns)];
        let mut seen = 0;
        packed.multiply(&right, &offsets, columns, &mut out, |first, lines| {
            for (row, line) in (first..).zip(lines) {
                for (column, &product) in line[..columns].iter().enumerate() {
                    let expected = (0..taps).fold(bias[row], |sum, tap| {
                        element(row, tap).mul_add(right[offsets[tap] + column], sum)
                    });
                    assert_eq!(product, expected, "{row} {column}");
                }
                seen += 1;
            }
        });
        assert_eq!(seen, rows);
    }

    #[test]
    fn products_are_chains() {
        for rows in 0..10 {
            for columns in [0, 1, 7, 8, 15, 16, 17, 33, 48, 63, 64, 65, 130] {
                for taps in [0, 1, 5] {
                    check::<f32>(rows, taps, columns);
                    check::<f64>(rows, taps, columns);
                }
            }
        }
    }
}
