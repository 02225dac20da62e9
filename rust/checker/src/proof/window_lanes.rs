//! Rows carried back through sliding windows, many at a time: what an output element adds to the few
//! elements it reads is added for all rows at once, which lie side by side.

use super::lanes::widest;
use super::linear::Linear;

/// Rows side by side.
const TOGETHER: usize = 16;

type Side = [f64; TOGETHER];

/// Where weights meet elements of the input side by side: the first of them, and the weights.
type Run<'a> = (usize, &'a [f64]);

widest!(add_runs(sums: &mut [Side], factors: &Side, runs: &[Run<'_>]) -> () = add_all);

#[inline(always)]
fn add_all(sums: &mut [Side], factors: &Side, runs: &[Run]) {
    for (start, weights) in runs {
        for (sum, weight) in sums[*start..].iter_mut().zip(*weights) {
            for lane in 0..TOGETHER {
                sum[lane] = factors[lane].mul_add(*weight, sum[lane]);
            }
        }
    }
}

/// Adds to lines of `sums`, `wide` numbers each, what lines of `rows` over the `len` outputs of an
/// operator with one input are over that input.
pub(super) fn gather_windows(
    sums: &mut [f64],
    wide: usize,
    rows: &[f64],
    len: usize,
    linear: &Linear,
) {
    let mut factors = vec![[0.0; TOGETHER]; len];
    let mut sides = vec![[0.0; TOGETHER]; wide];
    let mut runs: Vec<Run> = Vec::new();
    for (rows, sums) in rows.chunks(TOGETHER * len).zip(sums.chunks_mut(TOGETHER * wide)) {
        // Lines that are missing in the last block are zero.
        factors.fill([0.0; TOGETHER]);
        for (lane, row) in rows.chunks_exact(len).enumerate() {
            for (output, (factors, &a)) in factors.iter_mut().zip(row).enumerate() {
                let divisor = linear.divisor(output);
                factors[lane] = if divisor == 1.0 { a } else { a / divisor };
            }
        }
        for (lane, line) in sums.chunks_exact(wide).enumerate() {
            sides.iter_mut().zip(line).for_each(|(side, &sum)| side[lane] = sum);
        }
        for (output, factors) in factors.iter().enumerate() {
            if *factors == [0.0; TOGETHER] {
                continue;
            }
            runs.clear();
            linear.terms(output, |_, start, weights| runs.push((start, weights)));
            add_runs(&mut sides, factors, &runs);
        }
        for (lane, line) in sums.chunks_exact_mut(wide).enumerate() {
            line.iter_mut().zip(&sides).for_each(|(sum, side)| *sum = side[lane]);
        }
    }
}

#[cfg(test)]
mod tests {
    use aisec_graph::testing::random_graph;

    use super::*;

    /// Against sums one by one, for every window of random graphs and any number of rows.
    #[test]
    fn sums_are_those_one_by_one() {
        let mut seen = 0;
        for seed in 0..200 {
            let graph = random_graph(seed, 10, 2);
            for at in 1..graph.nodes().len() {
                let Some(linear) = Linear::new(&graph, at).unwrap() else { continue };
                if !linear.slides() {
                    continue;
                }
                seen += 1;
                let len = graph.nodes()[at].len();
                let wide = graph.nodes()[graph.nodes()[at].inputs[0]].len();
                let number = |i: usize| ((i * i * 3 + i + seed as usize) % 13) as f64 / 8.0 - 0.75;
                let count = 1 + seed as usize % 35;
                let rows: Vec<f64> = (0..count * len)
                    .map(|i| if (i / 3) % 5 == 1 { 0.0 } else { number(i) })
                    .collect();
                let start: Vec<f64> = (0..count * wide).map(number).collect();
                let mut sums = start.clone();
                gather_windows(&mut sums, wide, &rows, len, &linear);
                let mut plain = start;
                for (row, line) in rows.chunks_exact(len).zip(plain.chunks_exact_mut(wide)) {
                    for (output, a) in row.iter().enumerate() {
                        linear.terms(output, |_, first, weights| {
                            for (i, w) in weights.iter().enumerate() {
                                line[first + i] += a / linear.divisor(output) * w;
                            }
                        });
                    }
                }
                let close = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-10 * (1.0 + b.abs());
                assert!(sums.iter().zip(&plain).all(close), "{seed}: {at}");
            }
        }
        assert!(seen > 100, "{seen}");
    }
}
