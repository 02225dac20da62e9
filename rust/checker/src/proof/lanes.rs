//! The loops that a proof in float64 spends its time in, several elements at a time. Sums are in
//! another order than one by one; what that costs is paid for whatever the order.

use super::lines::Lines;

pub(super) const LANES: usize = 8;

/// A function that runs a loop with the widest vectors the processor has. (Closures would be compiled
/// for the narrowest ones.)
macro_rules! widest {
    ($name:ident($($argument:ident: $type:ty),+) -> $output:ty = $loop:path) => {
        pub(in crate::proof) fn $name($($argument: $type),+) -> $output {
            struct Call<T>(T);
            impl pulp::WithSimd for Call<($($type,)+)> {
                type Output = $output;

                #[inline(always)]
                fn with_simd<S: pulp::Simd>(self, _: S) -> $output {
                    let ($($argument,)+) = self.0;
                    $loop($($argument),+)
                }
            }
            pulp::Arch::new().dispatch(Call(($($argument,)+)))
        }
    };
}
pub(super) use widest;

/// The loops of [`super::number::Number`] for float64.
pub(super) mod wide {
    use super::Lines;

    type Pair = (f64, f64);
    type Sizes = (usize, usize);

    widest!(gather_rows(sums: &mut [f64], factors: &[(usize, f64)], matrix: &[f64]) -> () = super::gather_rows);
    widest!(gather_lines(sums: &mut [f64], stride: usize, lines: &[f64], sizes: Sizes, matrix: &[f64]) -> () = super::gather_lines);
    widest!(weigh(row: &[f64], constants: &[f64], weight: &[f64]) -> Pair = super::weigh);
    widest!(bend(row: &[f64], lines: &Lines<f64>, weight: &[f64], moved: &mut [f64]) -> Pair = super::bend);
    widest!(reach(weights: &[f64], sizes: &[f64]) -> f64 = super::reach);
}

/// See [`super::number::Number::gather_rows`]: many sums at a time stay in registers.
#[inline(always)]
fn gather_rows(sums: &mut [f64], factors: &[(usize, f64)], matrix: &[f64]) {
    #[inline(always)]
    fn part<const N: usize>(
        sums: &mut [f64],
        first: usize,
        factors: &[(usize, f64)],
        matrix: &[f64],
    ) {
        let wide = sums.len();
        let mut own: [f64; N] = std::array::from_fn(|lane| sums[first + lane]);
        for &(row, factor) in factors {
            let row: &[f64; N] = matrix[row * wide + first..][..N].try_into().expect("N numbers");
            for lane in 0..N {
                own[lane] += factor * row[lane];
            }
        }
        sums[first..first + N].copy_from_slice(&own);
    }
    let mut first = 0;
    while first < sums.len() {
        first += match sums.len() - first {
            32.. => {
                part::<32>(sums, first, factors, matrix);
                32
            }
            16.. => {
                part::<16>(sums, first, factors, matrix);
                16
            }
            8.. => {
                part::<8>(sums, first, factors, matrix);
                8
            }
            4.. => {
                part::<4>(sums, first, factors, matrix);
                4
            }
            2.. => {
                part::<2>(sums, first, factors, matrix);
                2
            }
            _ => {
                part::<1>(sums, first, factors, matrix);
                1
            }
        }
    }
}

/// Rows that are gathered together: each row of the matrix is read once for all of them.
const TOGETHER: usize = 4;

/// See [`super::number::Number::gather_lines`]; lines of `sums` start `stride` numbers apart.
#[inline(always)]
fn gather_lines(
    sums: &mut [f64],
    stride: usize,
    lines: &[f64],
    (out, wide): (usize, usize),
    matrix: &[f64],
) {
    let whole = lines.len() / out / TOGETHER * TOGETHER;
    let (block_lines, rest_lines) = lines.split_at(whole * out);
    let mut factors: Vec<(usize, [f64; TOGETHER])> = Vec::with_capacity(out);
    for (block, lines) in block_lines.chunks_exact(TOGETHER * out).enumerate() {
        let sums = &mut sums[block * TOGETHER * stride..];
        factors.clear();
        for row in 0..out {
            let factor: [f64; TOGETHER] = std::array::from_fn(|line| lines[line * out + row]);
            if factor != [0.0; TOGETHER] {
                factors.push((row, factor));
            }
        }
        let mut first = 0;
        while first < wide {
            first += match wide - first {
                24.. => tile::<24>(sums, stride, first, &factors, matrix, wide),
                16.. => tile::<16>(sums, stride, first, &factors, matrix, wide),
                8.. => tile::<8>(sums, stride, first, &factors, matrix, wide),
                4.. => tile::<4>(sums, stride, first, &factors, matrix, wide),
                2.. => tile::<2>(sums, stride, first, &factors, matrix, wide),
                _ => tile::<1>(sums, stride, first, &factors, matrix, wide),
            };
        }
    }
    let mut factors: Vec<(usize, f64)> = Vec::with_capacity(out);
    for (line, values) in rest_lines.chunks_exact(out).enumerate() {
        factors.clear();
        factors.extend(values.iter().copied().enumerate().filter(|(_, factor)| *factor != 0.0));
        gather_rows(&mut sums[(whole + line) * stride..][..wide], &factors, matrix);
    }
}

/// `N` columns of some lines, kept in registers.
#[inline(always)]
fn tile<const N: usize>(
    sums: &mut [f64],
    stride: usize,
    first: usize,
    factors: &[(usize, [f64; TOGETHER])],
    matrix: &[f64],
    wide: usize,
) -> usize {
    let mut own = [[0.0; N]; TOGETHER];
    for line in 0..TOGETHER {
        own[line].copy_from_slice(&sums[line * stride + first..][..N]);
    }
    for (row, factor) in factors {
        let row: &[f64; N] = matrix[row * wide + first..][..N].try_into().expect("N numbers");
        for line in 0..TOGETHER {
            for lane in 0..N {
                own[line][lane] = factor[line].mul_add(row[lane], own[line][lane]);
            }
        }
    }
    for line in 0..TOGETHER {
        sums[line * stride + first..][..N].copy_from_slice(&own[line]);
    }
    N
}

/// The part of a slice that is looked at together.
#[inline(always)]
fn part(values: &[f64], start: usize) -> &[f64; LANES] {
    values[start..start + LANES].try_into().expect("so many lanes")
}

/// See [`super::number::Number::weigh`].
#[inline(always)]
fn weigh(row: &[f64], constants: &[f64], weight: &[f64]) -> (f64, f64) {
    // Nothing is lost where a coefficient is zero, whatever it meets.
    #[inline(always)]
    fn term(a: f64, constant: f64, weight: f64) -> (f64, f64) {
        if a == 0.0 { (0.0, 0.0) } else { (a * constant, a.abs() * weight) }
    }
    let n = row.len();
    let (constants, weight) = (&constants[..n], &weight[..n]);
    let (mut sums, mut sizes) = ([0.0; LANES], [0.0; LANES]);
    let whole = n - n % LANES;
    for start in (0..whole).step_by(LANES) {
        let (a, c, w) = (part(row, start), part(constants, start), part(weight, start));
        for lane in 0..LANES {
            let (sum, size) = term(a[lane], c[lane], w[lane]);
            sums[lane] += sum;
            sizes[lane] += size;
        }
    }
    for i in whole..n {
        let (sum, size) = term(row[i], constants[i], weight[i]);
        sums[i - whole] += sum;
        sizes[i - whole] += size;
    }
    (sums.iter().sum(), sizes.iter().sum())
}

/// See [`super::number::Number::bend`].
#[inline(always)]
fn bend(row: &[f64], lines: &Lines<f64>, weight: &[f64], moved: &mut [f64]) -> (f64, f64) {
    /// What a coefficient becomes, what it adds to the constant, and its size.
    #[inline(always)]
    fn term(a: f64, slopes: (f64, f64), offsets: (f64, f64), weight: f64) -> (f64, f64, f64) {
        let (slope, offset) = if a > 0.0 { (slopes.0, offsets.0) } else { (slopes.1, offsets.1) };
        if a == 0.0 { (0.0, 0.0, 0.0) } else { (a * slope, a * offset, a.abs() * weight) }
    }
    let n = row.len();
    let (below, above) = (&lines.lower_slope[..n], &lines.upper_slope[..n]);
    let (low, high) = (&lines.lower_offset[..n], &lines.upper_offset[..n]);
    let (weight, moved) = (&weight[..n], &mut moved[..n]);
    let (mut sums, mut sizes) = ([0.0; LANES], [0.0; LANES]);
    let whole = n - n % LANES;
    for start in (0..whole).step_by(LANES) {
        let (a, weight) = (part(row, start), part(weight, start));
        let (below, above) = (part(below, start), part(above, start));
        let (low, high) = (part(low, start), part(high, start));
        let moved: &mut [f64; LANES] =
            (&mut moved[start..start + LANES]).try_into().expect("so many lanes");
        for lane in 0..LANES {
            let (slopes, offsets) = ((below[lane], above[lane]), (low[lane], high[lane]));
            let (more, sum, size) = term(a[lane], slopes, offsets, weight[lane]);
            moved[lane] += more;
            sums[lane] += sum;
            sizes[lane] += size;
        }
    }
    for i in whole..n {
        let (more, sum, size) = term(row[i], (below[i], above[i]), (low[i], high[i]), weight[i]);
        moved[i] += more;
        sums[i - whole] += sum;
        sizes[i - whole] += size;
    }
    (sums.iter().sum(), sizes.iter().sum())
}

/// See [`super::number::Number::reach`].
#[inline(always)]
fn reach(weights: &[f64], sizes: &[f64]) -> f64 {
    let n = weights.len();
    let sizes = &sizes[..n];
    let mut sums = [0.0; LANES];
    let whole = n - n % LANES;
    for start in (0..whole).step_by(LANES) {
        let (w, size) = (part(weights, start), part(sizes, start));
        for lane in 0..LANES {
            sums[lane] += w[lane].abs() * size[lane];
        }
    }
    for i in whole..n {
        sums[i - whole] += weights[i].abs() * sizes[i];
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use num_rational::BigRational;

    use super::super::lines::{Line, Lines};
    use super::super::number::Number;

    /// Both arithmetics agree, whatever the length, up to what rounding is said to cost.
    #[test]
    fn sums_are_those_of_exact_numbers() {
        let number = |i: usize, k: usize| ((i * i * k + 7 * i + k) % 23) as f64 / 3.0 - 3.5;
        let exact = |values: &[f64]| values.iter().map(|&x| BigRational::of(x)).collect::<Vec<_>>();
        for n in 1..40 {
            let column = |k: usize| -> Vec<f64> { (0..n).map(|i| number(i, k)).collect() };
            let mut row = column(1);
            row[n / 2] = 0.0;
            let (mut constants, weight) = (column(2), vec![50.0; n]);
            constants[n / 2] = f64::INFINITY; // it meets a coefficient of zero
            let line = |i: usize| Line {
                lower_slope: number(i, 3),
                lower_offset: constants[i],
                upper_slope: number(i, 5),
                upper_offset: number(i, 6),
            };
            let lines: Lines<f64> = (0..n).map(line).collect();
            constants[n / 2] = 0.0;
            let same = Lines {
                lower_slope: exact(&lines.lower_slope),
                lower_offset: exact(&constants),
                upper_slope: exact(&lines.upper_slope),
                upper_offset: exact(&lines.upper_offset),
            };
            let close = |found: f64, real: &BigRational, size: f64| {
                let cost = BigRational::of(f64::cost(n, &size, &1.0));
                let error = (BigRational::of(found) - real).size();
                assert!(error <= cost, "{n}: {found}");
            };
            let (sum, size) = f64::weigh(&row, &constants, &weight);
            close(sum, &BigRational::weigh(&exact(&row), &constants, &[]).0, size);
            let (mut plain, mut real) = (column(4), exact(&column(4)));
            let found = f64::bend(&row, &lines, &weight, &mut plain);
            let sum = BigRational::bend(&exact(&row), &same, &[], &mut real).0;
            close(found.0, &sum, found.1);
            plain.iter().zip(&real).for_each(|(a, b)| close(*a, b, 100.0));
            let sizes = vec![3.0; n];
            let reach = BigRational::reach(&row, &exact(&sizes));
            close(f64::reach(&row, &sizes), &reach, reach.above());
        }
    }
}
