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

/// Sums `term` over slices in a fixed order of sixteen interleaved partial sums.
///
/// # Panics
/// When an input is shorter than the first.
#[inline(always)]
pub fn sum_over<const N: usize>(inputs: [&[f32]; N], term: impl Fn([f32; N]) -> f64) -> f64 {
    let len = inputs[0].len();
    let inputs = inputs.map(|input| &input[..len]);
    vectorized(
        #[inline(always)]
        || {
            let mut lanes = [0.0f64; LANES];
            for place in 0..len / LANES {
                let mut at = [&[0.0; LANES]; N];
                for (at, input) in at.iter_mut().zip(&inputs) {
                    *at = &input.as_chunks::<LANES>().0[place];
                }
                for lane in 0..LANES {
                    lanes[lane] += term(at.map(|at| at[lane]));
                }
            }
            let done = len - len % LANES;
            let rest: f64 = (done..len).map(|i| term(inputs.map(|input| input[i]))).sum();
            lanes.iter().sum::<f64>() + rest
        },
    )
}

/// [`sum_over`] two slices.
#[inline(always)]
pub fn sum_of(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f64) -> f64 {
    sum_over(
        [a, b],
        #[inline(always)]
        |[a, b]| term(a, b),
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

/// Values that are taken out and sorted once a rank is bracketed by them.
const FEW: usize = 24;
/// Values that give the first bracket of a rank.
const SAMPLED: usize = 64;

/// The value that would stand at `rank` if the magnitudes of `values` were sorted ascending (infinity
/// for NaN). The rank is bracketed in the bits of float32, each step one vectorised count; of what
/// is left between, few, the one is picked.
///
/// # Panics
/// When there is no such rank.
pub fn magnitude_at(values: &[f32], rank: usize) -> f32 {
    assert!(rank < values.len(), "rank {rank} of {} values", values.len());
    // The bits of non-negative floats are ordered as they are. The answer is in `low..=high`,
    // `below` magnitudes lie under it and `upto` not over it.
    let (mut low, mut high) = (0, f32::INFINITY.to_bits());
    let (mut below, mut upto) = (0, values.len());
    let mut guesses = neighbourhood(values, rank);
    let mut halve = false;
    while low < high && upto - below > FEW {
        let guess = guesses.pop().unwrap_or_else(|| {
            halve = !halve;
            // As far between the limits as the rank is between their counts, or half.
            let share = (rank - below) as f64 / (upto - below) as f64;
            low + (if halve { share } else { 0.5 } * f64::from(high - low)) as u32
        });
        let middle = guess.clamp(low, high - 1);
        let count = within(values, f32::from_bits(middle));
        if count > rank {
            (high, upto) = (middle, count);
        } else {
            (low, below) = (middle + 1, count);
        }
    }
    if low == high { f32::from_bits(low) } else { pick(values, low, high, rank - below) }
}

/// Two values around the one at `rank`, as far as evenly spaced samples tell.
fn neighbourhood(values: &[f32], rank: usize) -> Vec<u32> {
    let stride = values.len() / SAMPLED;
    if stride < 2 {
        return vec![];
    }
    let mut sample: Vec<u32> = values.iter().step_by(stride).map(|&value| bits(value)).collect();
    sample.sort_unstable();
    let place = rank * sample.len() / values.len();
    let at = |place: usize| sample[place.min(sample.len() - 1)];
    vec![at(place + 3), at(place.saturating_sub(3))]
}

/// The bits of the magnitude; NaN counts as infinity.
#[inline(always)]
fn bits(value: f32) -> u32 {
    (value.to_bits() & (u32::MAX >> 1)).min(f32::INFINITY.to_bits())
}

/// The magnitude at `rank` of those whose bits are in `low..=high`.
fn pick(values: &[f32], low: u32, high: u32, rank: usize) -> f32 {
    let mut found = Vec::with_capacity(FEW);
    vectorized(
        #[inline(always)]
        || {
            for chunk in values.chunks(2 * LANES) {
                let inside = |&value: &f32| bits(value).wrapping_sub(low) <= high - low;
                if chunk.iter().fold(false, |any, value| any | inside(value)) {
                    found.extend(chunk.iter().filter(|value| inside(value)).map(|&v| bits(v)));
                }
            }
        },
    );
    found.sort_unstable();
    f32::from_bits(found[rank])
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
            repeats in 1usize..9,
        ) {
            // Enough values for samples, and ties.
            let values = values.repeat(repeats);
            let mut sorted: Vec<f32> = values.iter().map(|v| v.abs()).collect();
            sorted.sort_by(f32::total_cmp);
            for (rank, expected) in sorted.iter().enumerate() {
                let found = magnitude_at(&values, rank);
                prop_assert!(found == *expected || (expected.is_nan() && found == f32::INFINITY));
            }
        }
    }
}
