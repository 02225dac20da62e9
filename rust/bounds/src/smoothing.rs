//! How often a network says each class under noise: what randomised smoothing (Cohen et al.,
//! "Certified adversarial robustness via randomized smoothing", ICML 2019) counts.

use aisec_graph::{Graph, Workspace};
use aisec_numeric::lattice_normal::LatticeNormal;
use aisec_numeric::random::Stream;
use aisec_numeric::{Cancel, Cancelled};
use rayon::prelude::*;

/// Noisy copies that one thread evaluates at once, and the input elements they may hold.
const COPIES: usize = 16;
const ELEMENTS: usize = 1 << 22;

/// Noise that is added to an input, and the input it is added to.
#[derive(Debug, Clone)]
pub enum Noisy {
    /// Normal numbers times `sigma`, in float32.
    Normal { x: Vec<f32>, sigma: f32 },
    /// Points of the lattice of the multiples of `numerator / denominator`: the input's level plus
    /// a random one. The point is a function of their sum alone.
    Lattice { levels: Vec<i32>, normal: LatticeNormal, numerator: u32, denominator: u32 },
}

impl Noisy {
    /// Elements of the input.
    pub fn len(&self) -> usize {
        match self {
            Self::Normal { x, .. } => x.len(),
            Self::Lattice { levels, .. } => levels.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes copy number `copy`, keyed by the streams, `sample` and `copy`.
    pub fn write(&self, streams: &Streams, sample: u64, copy: u32, out: &mut [f32]) {
        match self {
            Self::Normal { x, sigma } => {
                streams.high.at(sample, copy).normals(out);
                for (out, x) in out.iter_mut().zip(x) {
                    *out = sigma * *out + *x;
                }
            }
            Self::Lattice { levels, normal, numerator, denominator } => {
                let mut high = streams.high.at(sample, copy);
                let mut low = streams.low.at(sample, copy);
                let mut noise = [0; 256];
                let (numerator, denominator) = (*numerator as i32, *denominator as f32);
                for (out, levels) in out.chunks_mut(noise.len()).zip(levels.chunks(noise.len())) {
                    let noise = &mut noise[..out.len()];
                    normal.fill(&mut high, &mut low, noise);
                    for ((out, level), noise) in out.iter_mut().zip(levels).zip(noise) {
                        // Exact below 2^24: one correctly rounded division.
                        *out = ((level + *noise) * numerator) as f32 / denominator;
                    }
                }
            }
        }
    }
}

/// The random numbers of one phase of one seed.
#[derive(Debug, Clone, Copy)]
pub struct Streams {
    high: Stream,
    low: Stream,
}

impl Streams {
    /// Phases choose the class and count it; they share no numbers.
    pub fn new(seed: u64, phase: u32) -> Self {
        let stream = |name| Stream::new(seed, name, phase);
        Self { high: stream("smoothing"), low: stream("smoothing-low") }
    }
}

/// How many of the noisy copies `first..first + count` each class wins, `[K]`. The first of equal
/// logits wins; a copy with a logit that is not finite counts for no class. Does not depend on
/// threads, nor on how copies are split over calls.
///
/// # Errors
/// When cancelled.
pub fn class_counts(
    graph: &Graph,
    noisy: &Noisy,
    streams: &Streams,
    sample: u64,
    first: u32,
    count: u32,
    cancel: &Cancel,
) -> Result<Vec<u64>, Cancelled> {
    let (len, classes) = (noisy.len(), graph.output_len());
    let block = (ELEMENTS / len.max(1)).clamp(1, COPIES);
    (0..count.div_ceil(block as u32))
        .into_par_iter()
        .map_init(
            || (Workspace::new(), vec![0.0; block * len], vec![0.0; block * classes]),
            |(workspace, x, logits), part| {
                cancel.check()?;
                let start = part * block as u32;
                let copies = block.min((count - start) as usize);
                for (row, x) in x.chunks_exact_mut(len).take(copies).enumerate() {
                    noisy.write(streams, sample, first + start + row as u32, x);
                }
                let logits = &mut logits[..copies * classes];
                graph.forward_into(workspace, &x[..copies * len], copies, logits);
                let mut counts = vec![0u64; classes];
                for winner in logits.chunks_exact(classes).filter_map(winner) {
                    counts[winner] += 1;
                }
                Ok(counts)
            },
        )
        .try_reduce(
            || vec![0; classes],
            |mut total, counts| {
                total.iter_mut().zip(counts).for_each(|(total, count)| *total += count);
                Ok(total)
            },
        )
}

fn winner(logits: &[f32]) -> Option<usize> {
    let mut best = 0;
    for (class, value) in logits.iter().enumerate() {
        if !value.is_finite() {
            return None;
        }
        if *value > logits[best] {
            best = class;
        }
    }
    Some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_winner_is_the_first_of_the_largest_and_finite() {
        assert_eq!(winner(&[1.0, 3.0, 3.0]), Some(1));
        assert_eq!(winner(&[1.0, f32::NAN]), None);
        assert_eq!(winner(&[f32::INFINITY, 0.0]), None);
    }

    #[test]
    fn lattice_points_depend_on_the_sum_of_levels_alone() {
        // All mass on the levels 0 and 1.
        let normal = LatticeNormal::new(vec![1 << 63], 0).unwrap();
        let at = |level: i32| {
            let noisy = Noisy::Lattice {
                levels: vec![level; 600],
                normal: normal.clone(),
                numerator: 2,
                denominator: 255,
            };
            let mut out = vec![0.0; 600];
            noisy.write(&Streams::new(3, 1), 5, 7, &mut out);
            out
        };
        let (lower, upper) = (at(10), at(11));
        let points = |level: i32| (level * 2) as f32 / 255.0;
        assert!(lower.iter().all(|&x| x == points(10) || x == points(11)));
        for (low, high) in lower.iter().zip(&upper) {
            assert_eq!(*low == points(10), *high == points(11));
        }
    }
}
