//! `bias + m × W` and `r × |W|` in one pass over `W`: the two products of an interval in midpoint
//! and radius form, for which `|W|` is never stored and a weight is read once.
//!
//! Every output is the chain of fused multiply-adds that [`crate::gemm`] computes for `W` and for
//! `|W|`, so it has the same bits.

use pulp::{Arch, Simd, WithSimd};

use crate::gemm::{
    BLOCK_ROWS, Left, PackedMatrix, Panel, TILE_LEN, TILE_ROWS, Target, with_identity,
};

/// Two left matrices with the same tables: element (r, k) is at `rows[r] + taps[k]` of either.
#[derive(Debug, Clone, Copy)]
pub struct Spread<'a> {
    pub middle: &'a [f64],
    pub radius: &'a [f64],
}

impl PackedMatrix<f64> {
    /// `centre = bias + middle × self` and `reach = radius × |self|`; the tables are those of
    /// `rows` and `taps`, and of `out` for the targets, where element (r, n) is at
    /// `out[r] + n * stride`.
    ///
    /// # Panics
    /// When the tables do not have the matrices' sizes or lead outside the values.
    pub fn multiply_absolute(
        &self,
        left: Spread,
        (rows, taps): (&[usize], &[usize]),
        (out, stride): (&[usize], usize),
        centre: &mut [f64],
        reach: &mut [f64],
    ) {
        assert_eq!(taps.len(), self.rows(), "one tap for each row of the right matrix");
        assert_eq!(rows.len(), out.len(), "as many rows left as in the target");
        let target = |values| Target { values, rows: out, stride, accumulate: false };
        let left = [left.middle, left.radius].map(|values| Left { values, rows, taps });
        let targets = [target(centre), target(reach)];
        Arch::new().dispatch(Multiply { left, right: self, targets });
    }

    /// The same for contiguous row-major matrices.
    ///
    /// # Panics
    /// When a slice does not hold whole rows, or not the same number of them.
    pub fn multiply_rows_absolute(&self, left: Spread, centre: &mut [f64], reach: &mut [f64]) {
        let (inner, columns) = (self.rows(), self.columns());
        if columns == 0 {
            return assert!(centre.is_empty(), "the centre has rows of length 0");
        }
        let count = centre.len() / columns;
        assert_eq!(centre.len(), count * columns, "the centre holds whole rows");
        assert_eq!(reach.len(), centre.len(), "the reach is as long as the centre");
        assert_eq!(left.middle.len(), count * inner, "left holds as many rows");
        assert_eq!(left.radius.len(), left.middle.len(), "radii are as many as middles");
        with_identity(inner, |taps| {
            let mut offsets = [[0; BLOCK_ROWS]; 2];
            for (offsets, length) in offsets.iter_mut().zip([inner, columns]) {
                offsets.iter_mut().enumerate().for_each(|(r, offset)| *offset = r * length);
            }
            for block in (0..count).step_by(BLOCK_ROWS) {
                let rows = (count - block).min(BLOCK_ROWS);
                self.multiply_absolute(
                    Spread {
                        middle: &left.middle[block * inner..],
                        radius: &left.radius[block * inner..],
                    },
                    (&offsets[0][..rows], taps),
                    (&offsets[1][..rows], 1),
                    &mut centre[block * columns..],
                    &mut reach[block * columns..],
                );
            }
        });
    }
}

struct Multiply<'a, 'b> {
    left: [Left<'a, f64>; 2],
    right: &'a PackedMatrix<f64>,
    targets: [Target<'b, f64>; 2],
}

impl WithSimd for Multiply<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { left, right, mut targets } = self;
        let lanes = size_of::<S::f64s>() / size_of::<f64>();
        for (panel, values) in right.panels(lanes) {
            match panel.vectors {
                1 => product::<S, 1>(simd, left, values, panel, &mut targets),
                2 => product::<S, 2>(simd, left, values, panel, &mut targets),
                3 => product::<S, 3>(simd, left, values, panel, &mut targets),
                4 => product::<S, 4>(simd, left, values, panel, &mut targets),
                _ => unreachable!("panels are 1 to 4 vectors wide"),
            }
        }
    }
}

/// One panel times all rows, in tiles of nearly equal height.
#[inline(always)]
fn product<S: Simd, const W: usize>(
    simd: S,
    left: [Left<f64>; 2],
    values: &[f64],
    panel: Panel,
    targets: &mut [Target<f64>; 2],
) {
    let Some((bias, values)) = S::as_simd_f64s(values).0.as_chunks::<W>().0.split_first() else {
        return;
    };
    let rows = left[0].rows;
    // A tile of M × W needs its sums, one row of the panel, that row's sizes and two factors.
    let tallest = ((S::REGISTER_COUNT - 2) / W).saturating_sub(2) / 2;
    let tallest = tallest.clamp(1, TILE_ROWS);
    let width = W * (size_of::<S::f64s>() / size_of::<f64>());
    let mut buffer = [0.0; TILE_LEN];
    let mut done = 0;
    for tiles in (1..=rows.len().div_ceil(tallest)).rev() {
        let count = (rows.len() - done).div_ceil(tiles);
        let these = &rows[done..done + count];
        macro_rules! tile {
            ($($m:literal)*) => {
                match count {
                    $($m => {
                        let these = these.first_chunk::<$m>().expect("count is its length");
                        let sums = tile::<S, $m, W>(simd, left, these, bias, values);
                        for (sums, target) in sums.iter().zip(targets.iter_mut()) {
                            let vectors = S::as_mut_simd_f64s(&mut buffer).0;
                            vectors.as_chunks_mut::<W>().0[..$m].copy_from_slice(sums);
                            target.store(&buffer, width, done..done + count, panel);
                        }
                    })*
                    _ => unreachable!("tiles have 1 to {TILE_ROWS} rows"),
                }
            };
        }
        tile!(1 2 3 4 5 6 7 8);
        done += count;
    }
}

/// Centres and reaches of `M` rows and `W` vectors of columns, in registers.
#[inline(always)]
fn tile<S: Simd, const M: usize, const W: usize>(
    simd: S,
    [middle, radius]: [Left<f64>; 2],
    rows: &[usize; M],
    bias: &[S::f64s; W],
    values: &[[S::f64s; W]],
) -> [[[S::f64s; W]; M]; 2] {
    let mut centre = [*bias; M];
    let mut reach = [[simd.splat_f64s(0.0); W]; M];
    for (&tap, right) in middle.taps.iter().zip(values) {
        let mut sizes = *right;
        for size in &mut sizes {
            *size = simd.abs_f64s(*size);
        }
        for i in 0..M {
            let at = rows[i] + tap;
            let factor = simd.splat_f64s(middle.values[at]);
            for (sum, &right) in centre[i].iter_mut().zip(right) {
                *sum = simd.mul_add_f64s(factor, right, *sum);
            }
            let factor = simd.splat_f64s(radius.values[at]);
            for (sum, &size) in reach[i].iter_mut().zip(&sizes) {
                *sum = simd.mul_add_f64s(factor, size, *sum);
            }
        }
    }
    [centre, reach]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_products_have_the_bits_of_two_plain_ones() {
        let mut generator = crate::random::Stream::new(5, "absolute", 0).at(0, 0);
        let mut numbers = |n: usize| Vec::from_iter((0..n).map(|_| f64::from(generator.signed())));
        for inner in [0, 1, 5, 17] {
            for columns in [0, 1, 7, 8, 13, 16, 24, 31, 32, 33, 100] {
                let (weight, bias) = (numbers(inner * columns), numbers(columns));
                let element = |k: usize, n: usize| weight[k * columns + n];
                let plain = PackedMatrix::new(inner, columns, Some(&bias), element);
                let size = PackedMatrix::new(inner, columns, None, |k, n| element(k, n).abs());
                for count in [0, 1, 2, 3, 5, 8, 11, 50] {
                    let (middle, radius) = (numbers(count * inner), numbers(count * inner));
                    let fresh = || vec![9.0; count * columns];
                    let (mut centre, mut reach) = (fresh(), fresh());
                    let left = Spread { middle: &middle, radius: &radius };
                    plain.multiply_rows_absolute(left, &mut centre, &mut reach);
                    let mut expected = [fresh(), fresh()];
                    plain.multiply_rows(&middle, &mut expected[0], false);
                    size.multiply_rows(&radius, &mut expected[1], false);
                    assert_eq!([centre, reach], expected, "{inner} {columns} {count}");
                }
            }
        }
    }
}
