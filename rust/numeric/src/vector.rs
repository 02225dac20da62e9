//! Loops over float32 slices that the compiler turns into vector arithmetic.
//!
//! Sums run in a fixed order of interleaved partial sums, so the machine's vector width changes
//! no result.

/// Interleaved partial sums of one pass.
pub const LANES: usize = 16;

/// Values that [`map`] computes before it stores them.
const BLOCK: usize = 64;

/// Runs a loop compiled for the widest vector instructions of the machine. Every operation
/// still rounds as written, so the machine does not change results. The closure and what it calls
/// must be `#[inline(always)]`.
#[inline(always)]
pub fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// Replaces each value by `new(value, inputs)`, the inputs being those at its place.
///
/// # Panics
/// When an input is shorter than `values`.
#[inline(always)]
pub fn map<const N: usize>(
    values: &mut [f32],
    inputs: [&[f32]; N],
    new: impl Fn(f32, [f32; N]) -> f32,
) {
    let inputs = inputs.map(|input| &input[..values.len()]);
    vectorized(
        #[inline(always)]
        || {
            let (chunks, rest) = values.as_chunks_mut::<BLOCK>();
            let done = chunks.len();
            for (place, chunk) in chunks.iter_mut().enumerate() {
                let mut at = [&[0.0; BLOCK]; N];
                for (at, input) in at.iter_mut().zip(&inputs) {
                    *at = &input.as_chunks::<BLOCK>().0[place];
                }
                // Nothing is stored before all of a chunk is computed: no load has to wait.
                let mut moved = [0.0; BLOCK];
                for lane in 0..BLOCK {
                    let mut input = [0.0; N];
                    for (input, at) in input.iter_mut().zip(&at) {
                        *input = at[lane];
                    }
                    moved[lane] = new(chunk[lane], input);
                }
                *chunk = moved;
            }
            for (place, value) in rest.iter_mut().enumerate() {
                *value = new(*value, inputs.map(|input| input[done * BLOCK + place]));
            }
        },
    );
}

/// Sums `term` over two slices in a fixed order of sixteen interleaved partial sums.
#[inline(always)]
pub fn sum_of(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f64) -> f64 {
    vectorized(
        #[inline(always)]
        || {
            let mut lanes = [0.0f64; LANES];
            let ((a_chunks, a_rest), (b_chunks, b_rest)) =
                (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
            for (a, b) in a_chunks.iter().zip(b_chunks) {
                for lane in 0..LANES {
                    lanes[lane] += term(a[lane], b[lane]);
                }
            }
            let rest: f64 = a_rest.iter().zip(b_rest).map(|(&a, &b)| term(a, b)).sum();
            lanes.iter().sum::<f64>() + rest
        },
    )
}

/// The largest `|a - b|`; differences that are NaN do not count.
pub fn largest_difference(a: &[f32], b: &[f32]) -> f64 {
    vectorized(
        #[inline(always)]
        || {
            let difference = |a: f32, b: f32| (f64::from(a) - f64::from(b)).abs();
            let mut lanes = [0.0f64; LANES];
            let ((a_chunks, a_rest), (b_chunks, b_rest)) =
                (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
            for (a, b) in a_chunks.iter().zip(b_chunks) {
                for lane in 0..LANES {
                    let step = difference(a[lane], b[lane]);
                    lanes[lane] = if step > lanes[lane] { step } else { lanes[lane] };
                }
            }
            let rest = a_rest.iter().zip(b_rest).map(|(&a, &b)| difference(a, b));
            rest.chain(lanes).fold(0.0, f64::max)
        },
    )
}

/// The value that would stand at `rank` if the magnitudes of `values` were sorted ascending (infinity
/// for NaN): a binary search over the bits of float32, each step one vectorised count.
///
/// # Panics
/// When there is no such rank.
pub fn magnitude_at(values: &[f32], rank: usize) -> f32 {
    assert!(rank < values.len(), "rank {rank} of {} values", values.len());
    // The bits of non-negative floats are ordered as they are.
    let (mut low, mut high) = (0, f32::INFINITY.to_bits());
    while low < high {
        let middle = low + (high - low) / 2;
        let limit = f32::from_bits(middle);
        if within(values, limit) > rank { high = middle } else { low = middle + 1 }
    }
    f32::from_bits(low)
}

/// How many magnitudes are at most `limit`.
fn within(values: &[f32], limit: f32) -> usize {
    const WIDE: usize = 2 * LANES;
    vectorized(
        #[inline(always)]
        || {
            let mut lanes = [0u32; WIDE];
            let (chunks, rest) = values.as_chunks::<WIDE>();
            for chunk in chunks {
                for lane in 0..WIDE {
                    lanes[lane] += if chunk[lane].abs() <= limit { 1 } else { 0 };
                }
            }
            let rest = rest.iter().filter(|value| value.abs() <= limit).count();
            lanes.iter().sum::<u32>() as usize + rest
        },
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sums_agree(pairs in prop::collection::vec((-1.0f32..1.0, -1.0f32..1.0), 0..50)) {
            let (a, b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            let expected: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(a * b)).sum();
            prop_assert!((sum_of(&a, &b, |a, b| f64::from(a * b)) - expected).abs() < 1e-12);
            let largest = a.iter().zip(&b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs());
            prop_assert_eq!(largest_difference(&a, &b), largest.fold(0.0, f64::max));
        }

        #[test]
        fn magnitudes_are_those_of_the_sorted_values(
            values in prop::collection::vec(prop_oneof![
                8 => -2.0f32..2.0,
                2 => (0i8..4).prop_map(|k| f32::from(k) / 4.0),
                1 => Just(f32::NAN),
                1 => Just(-f32::INFINITY),
                1 => Just(-0.0f32),
            ], 1..60),
        ) {
            let mut sorted: Vec<f32> = values.iter().map(|v| v.abs()).collect();
            sorted.sort_by(f32::total_cmp);
            for (rank, expected) in sorted.iter().enumerate() {
                let found = magnitude_at(&values, rank);
                prop_assert!(found == *expected || (expected.is_nan() && found == f32::INFINITY));
            }
        }
    }
}
