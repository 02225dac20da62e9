//! Sums of products over rows that lie side by side: value `e` of row `r` at `e * width + r`, so
//! that vectors run over rows. Nothing is padded, moved or transposed for it, and what is known
//! to be zero, or is not asked for, is left out.
//!
//! Every sum is one chain of fused multiply-adds from zero, in the order of its terms: a row's
//! values are bit for bit the same whatever lies beside it, and on any instruction set.

use pulp::{Arch, Simd, WithSimd};

/// Widths are multiples of this.
pub const LANES: usize = 8;

/// The most columns of the matrix, and vectors of rows, of a register tile.
const TILE_COLUMNS: usize = 8;
const TILE_VECTORS: usize = 4;

/// Sums `Σ weight[t, c]·value[t]` over the terms `t` of some runs.
#[derive(Debug, Clone, Copy)]
pub struct Sums<'a> {
    pub width: usize,
    pub values: &'a [f64],
    /// How many values a term lies behind the one before it.
    pub value_stride: usize,
    pub weight: &'a [f64],
    /// The same for its row of weights; rows have `columns` entries.
    pub weight_stride: usize,
    pub columns: usize,
}

/// Terms by their number, counted from a value and a weight.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    pub value: usize,
    pub weight: usize,
    pub terms: &'a [u32],
}

/// Where sums go: that of column `c` to value `first + c * stride`.
#[derive(Debug)]
pub struct Target<'a> {
    pub values: &'a mut [f64],
    pub first: usize,
    pub stride: usize,
}

impl Sums<'_> {
    /// Writes the sums of the columns named.
    ///
    /// # Panics
    /// When an index leads outside its slice, or the width is no multiple of [`LANES`].
    pub fn write(&self, runs: &[Run], columns: &[u32], target: Target) {
        assert!(self.width.is_multiple_of(LANES), "rows are padded to whole vectors");
        Arch::new().dispatch(Write { sums: self, runs, columns, target });
    }
}

struct Write<'a, 'b> {
    sums: &'a Sums<'a>,
    runs: &'a [Run<'a>],
    columns: &'a [u32],
    target: Target<'b>,
}

impl WithSimd for Write<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let lanes = size_of::<S::f64s>() / size_of::<f64>();
        let widest = if S::REGISTER_COUNT >= 32 { TILE_VECTORS } else { TILE_VECTORS / 2 };
        let vectors = self.sums.width / lanes;
        let groups = vectors.div_ceil(widest);
        let mut done = 0;
        for group in 0..groups {
            let count = (vectors - done).div_ceil(groups - group);
            let at = done * lanes;
            match count {
                1 => self.group::<S, 1>(simd, at),
                2 => self.group::<S, 2>(simd, at),
                3 => self.group::<S, 3>(simd, at),
                4 => self.group::<S, 4>(simd, at),
                _ => unreachable!("groups are 1 to {TILE_VECTORS} vectors wide"),
            }
            done += count;
        }
    }
}

impl Write<'_, '_> {
    /// The vectors of rows from `at` on, in tiles of nearly as many columns each.
    #[inline(always)]
    fn group<S: Simd, const W: usize>(&mut self, simd: S, at: usize) {
        // A tile of M × W needs its sums, one row of values and one spare register.
        let most = ((S::REGISTER_COUNT - 1) / W - 1).clamp(1, TILE_COLUMNS);
        let mut columns = self.columns;
        for tiles in (1..=columns.len().div_ceil(most)).rev() {
            let (these, rest) = columns.split_at(columns.len().div_ceil(tiles));
            columns = rest;
            let adjacent = these.windows(2).all(|pair| pair[1] == pair[0] + 1);
            macro_rules! tile {
                ($($m:literal)*) => {
                    match these.len() {
                        $($m => {
                            let these = these.first_chunk::<$m>().expect("it is its length");
                            let sums = if adjacent {
                                tile::<S, $m, W, true>(simd, self.sums, self.runs, these, at)
                            } else {
                                tile::<S, $m, W, false>(simd, self.sums, self.runs, these, at)
                            };
                            self.store::<S, $m, W>(these, &sums, at);
                        })*
                        _ => unreachable!("tiles have 1 to {TILE_COLUMNS} columns"),
                    }
                };
            }
            tile!(1 2 3 4 5 6 7 8);
        }
    }

    #[inline(always)]
    fn store<S: Simd, const M: usize, const W: usize>(
        &mut self,
        columns: &[u32; M],
        sums: &[[S::f64s; W]; M],
        at: usize,
    ) {
        let lanes = size_of::<S::f64s>() / size_of::<f64>();
        let Target { values, first, stride } = &mut self.target;
        for (&column, sums) in columns.iter().zip(sums) {
            let start = (*first + column as usize * *stride) * self.sums.width + at;
            let out = S::as_mut_simd_f64s(&mut values[start..start + W * lanes]).0;
            out.copy_from_slice(sums);
        }
    }
}

/// The sums of `M` columns and `W` vectors of rows, in registers.
#[inline(always)]
fn tile<S: Simd, const M: usize, const W: usize, const ADJACENT: bool>(
    simd: S,
    sums: &Sums,
    runs: &[Run],
    columns: &[u32; M],
    at: usize,
) -> [[S::f64s; W]; M] {
    let span = W * (size_of::<S::f64s>() / size_of::<f64>());
    let (value_stride, width) = (sums.value_stride * sums.width, sums.width);
    let mut result = [[simd.splat_f64s(0.0); W]; M];
    for run in runs {
        let (value, weight) = (run.value * width + at, run.weight);
        for &term in run.terms {
            let start = value + term as usize * value_stride;
            let values = S::as_simd_f64s(&sums.values[start..start + span]).0;
            let values: &[S::f64s; W] = values.first_chunk().expect("whole vectors");
            let start = weight + term as usize * sums.weight_stride;
            let weights = &sums.weight[start..start + sums.columns];
            let mut add = |m: usize, weight: f64| {
                let weight = simd.splat_f64s(weight);
                for (sum, &value) in result[m].iter_mut().zip(values) {
                    *sum = simd.mul_add_f64s(weight, value, *sum);
                }
            };
            if ADJACENT {
                let weights: &[f64; M] =
                    weights[columns[0] as usize..].first_chunk().expect("columns are in range");
                for m in 0..M {
                    add(m, weights[m]);
                }
            } else {
                for m in 0..M {
                    add(m, weights[columns[m] as usize]);
                }
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_plain_chains_for_any_width_and_columns() {
        let mut generator = crate::random::Stream::new(3, "beside", 0).at(0, 0);
        let mut numbers = |n: usize| Vec::from_iter((0..n).map(|_| f64::from(generator.signed())));
        let (terms, columns) = (7, 21);
        for width in [8, 16, 24, 32, 40, 72] {
            let (values, weight) = (numbers(terms * 3 * width), numbers(2 * terms * columns));
            let some: Vec<u32> = (0..columns as u32).filter(|c| c % 3 != 1).collect();
            let all: Vec<u32> = (0..columns as u32).collect();
            let runs = [
                Run { value: 1, weight: 0, terms: &[0, 2, 3] },
                Run { value: 0, weight: terms * columns, terms: &[1, 6] },
            ];
            let sums = Sums {
                width,
                values: &values,
                value_stride: 3,
                weight: &weight,
                weight_stride: columns,
                columns,
            };
            for named in [&some, &all] {
                let mut out = vec![9.0; 2 * columns * width];
                sums.write(&runs, named, Target { values: &mut out, first: 1, stride: 2 });
                for e in 0..2 * columns {
                    let column = (e % 2 == 1).then_some(e as u32 / 2);
                    for r in 0..width {
                        let expected = match column.filter(|c| named.contains(c)) {
                            None => 9.0,
                            Some(c) => runs.iter().fold(0.0, |sum, run| {
                                run.terms.iter().fold(sum, |sum, &t| {
                                    let t = t as usize;
                                    let weight = weight[run.weight + t * columns + c as usize];
                                    weight.mul_add(values[(run.value + 3 * t) * width + r], sum)
                                })
                            }),
                        };
                        assert_eq!(out[e * width + r], expected);
                    }
                }
            }
        }
    }
}
