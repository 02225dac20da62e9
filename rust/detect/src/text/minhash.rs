//! MinHash signatures (Broder, "On the resemblance and containment of documents", 1997).
//!
//! A shingle's hash is a pair (lo, hi) of 32-bit values; the values under the "permutations" are
//! `a_i·lo + hi mod 2^32`, with `a_i` pairwise different modulo the number of permutations,
//! rounded up to a power of two, m. If the pair is a random function of the shingle, then
//!
//! * each value is uniform, whatever `a_i`, and values of different shingles are independent, so
//!   the least one is equally likely at every shingle: signatures agree at a position with the
//!   Jaccard similarity as probability (but for ties of different shingles, n/2^32 for n of them);
//! * values of one shingle under i and j differ by `(a_i - a_j)·lo`, uniform over the multiples of
//!   a power of two below m: all but the log2(m) lowest bits are independent. So agreement at
//!   different positions is pairwise independent up to ties, and the estimate's variance is
//!   `s(1 - s)/k`, as with truly random permutations.
//!
//! Linear functions modulo a prime promise less about the second, and cost more: here a shingle
//! takes one 32-bit multiplication, addition and minimum a permutation.

use aisec_numeric::Cancel;
use aisec_numeric::random::Stream;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::hash::{Hasher, mix};
use super::units::{Documents, Unit, Units};
use super::{Bands, Error, check};

/// Permutations that are worked on together: their minima stay in registers.
const LANES: usize = 64;

/// Signatures of documents as sets of shingles: runs of units.
#[derive(Debug, Clone)]
pub struct MinHash {
    unit: Unit,
    width: usize,
    hasher: Hasher,
    factors: Vec<[u32; LANES]>,
    permutations: usize,
}

impl MinHash {
    /// `permutations` must be 1 to 4,096 and `width`, the units of a shingle, at least 1.
    pub fn new(unit: Unit, width: usize, permutations: usize, seed: u64) -> Self {
        let period = permutations.next_power_of_two() as u32;
        let mut random = Stream::new(seed, "minhash", 0).at(0, 0);
        let mut factors = vec![[0; LANES]; permutations.div_ceil(LANES)];
        for (i, factor) in factors.as_flattened_mut()[..permutations].iter_mut().enumerate() {
            *factor = (random.next_u32() / period).wrapping_mul(period).wrapping_add(i as u32);
        }
        let hasher = Hasher::new(seed, "shingles");
        Self { unit, width: width.max(1), hasher, factors, permutations }
    }

    pub fn permutations(&self) -> usize {
        self.permutations
    }

    /// Hashes of a document's shingles, and the number of its units. A document shorter than a
    /// shingle is one shingle; one without units has none.
    fn shingles(
        &self,
        documents: &Documents,
        index: usize,
        units: &mut Units,
        out: &mut Vec<u64>,
    ) -> Result<u32, Error> {
        documents.units(index, self.unit, &self.hasher, units)?;
        out.clear();
        let width = self.width.min(units.hashes.len());
        self.hasher.runs(&units.hashes, width, out);
        Ok(u32::try_from(units.hashes.len()).unwrap_or(u32::MAX))
    }

    /// Hashes of a document's shingles, each once, ascending.
    pub fn shingle_set(&self, documents: &Documents, index: usize) -> Result<Vec<u64>, Error> {
        let mut out = Vec::new();
        self.shingles(documents, index, &mut Units::default(), &mut out)?;
        out.sort_unstable();
        out.dedup();
        Ok(out)
    }

    /// Signatures `[n, permutations]`, and the number of units of each document.
    pub fn signatures(
        &self,
        documents: &Documents,
        cancel: &Cancel,
    ) -> Result<(Vec<u32>, Vec<u32>), Error> {
        let mut signatures = vec![0; documents.len() * self.permutations];
        let mut units = vec![0; documents.len()];
        self.each(
            documents,
            &mut units,
            &mut signatures,
            self.permutations,
            cancel,
            |minima, out| {
                out.copy_from_slice(minima);
            },
        )?;
        Ok((signatures, units))
    }

    /// Keys `[n, bands]` of documents that are candidates if any agrees, and numbers of units.
    pub fn band_keys(
        &self,
        documents: &Documents,
        bands: Bands,
        cancel: &Cancel,
    ) -> Result<(Vec<u64>, Vec<u32>), Error> {
        let mut keys = vec![0; documents.len() * bands.bands];
        let mut units = vec![0; documents.len()];
        self.each(documents, &mut units, &mut keys, bands.bands, cancel, |minima, out| {
            for (band, (key, values)) in out.iter_mut().zip(minima.chunks(bands.rows)).enumerate() {
                *key = values.iter().fold(mix(band as u64), |state, &value| {
                    mix(state ^ u64::from(value)).wrapping_add(0x9E37_79B9_7F4A_7C15)
                });
            }
        })?;
        Ok((keys, units))
    }

    /// Calls `write` with each document's signature and its `size` places in `out`.
    fn each<T: Send>(
        &self,
        documents: &Documents,
        units: &mut [u32],
        out: &mut [T],
        size: usize,
        cancel: &Cancel,
        write: impl Fn(&[u32], &mut [T]) + Sync,
    ) -> Result<(), Error> {
        let scratch = || (Units::default(), Vec::new(), vec![[0; LANES]; self.factors.len()]);
        out.par_chunks_mut(size).zip(units).enumerate().with_min_len(16).try_for_each_init(
            scratch,
            |(buffer, shingles, minima), (index, (out, units))| {
                check(cancel)?;
                *units = self.shingles(documents, index, buffer, shingles)?;
                Arch::new().dispatch(Minima { factors: &self.factors, shingles, minima });
                write(&minima.as_flattened()[..self.permutations], out);
                Ok(())
            },
        )
    }
}

/// The least value of all shingles under each permutation.
struct Minima<'a> {
    factors: &'a [[u32; LANES]],
    shingles: &'a [u64],
    minima: &'a mut [[u32; LANES]],
}

impl WithSimd for Minima<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        for (factors, minima) in self.factors.iter().zip(self.minima) {
            let mut least = [u32::MAX; LANES];
            for &shingle in self.shingles {
                let (low, high) = (shingle as u32, (shingle >> 32) as u32);
                for lane in 0..LANES {
                    let value = factors[lane].wrapping_mul(low).wrapping_add(high);
                    least[lane] = least[lane].min(value);
                }
            }
            *minima = least;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn documents(texts: &[String]) -> Documents {
        let mut documents = Documents::new(0);
        for text in texts {
            documents.push(text.as_bytes()).unwrap();
        }
        documents
    }

    #[test]
    fn signature_is_the_minimum_over_shingles() {
        let texts = documents(&["a b c d e f a b".to_owned(), String::new(), "one".to_owned()]);
        for permutations in [1, 5, 64, 128, 200] {
            let minhash = MinHash::new(Unit::Word, 2, permutations, 3);
            let (signatures, units) = minhash.signatures(&texts, &Cancel::new()).unwrap();
            assert_eq!(units, [8, 0, 1]);
            let flat = minhash.factors.as_flattened();
            let period = permutations.next_power_of_two() as u32;
            let residues: HashSet<u32> = flat[..permutations].iter().map(|a| a % period).collect();
            assert_eq!(residues.len(), permutations);
            for index in 0..3 {
                let set = minhash.shingle_set(&texts, index).unwrap();
                assert_eq!(set.len(), [6, 0, 1][index]);
                for (i, &factor) in flat[..permutations].iter().enumerate() {
                    let value =
                        |s: &u64| (*s as u32).wrapping_mul(factor).wrapping_add((*s >> 32) as u32);
                    let least = set.iter().map(value).min().unwrap_or(u32::MAX);
                    assert_eq!(signatures[index * permutations + i], least);
                }
            }
        }
    }

    /// Over many pairs of known similarity, agreement has the mean and the variance that
    /// independent random permutations give.
    #[test]
    fn agreement_estimates_jaccard() {
        let permutations = 128;
        for (shared, own) in [(5, 20), (30, 10), (45, 3)] {
            let pairs = 600;
            let texts: Vec<String> = (0..pairs)
                .flat_map(|pair| {
                    let side = |side: usize| {
                        let shared = (0..shared).map(|i| format!("s{pair}x{i}"));
                        let own = (0..own).map(|i| format!("o{pair}x{i}y{side}"));
                        shared.chain(own).collect::<Vec<_>>().join(" ")
                    };
                    [side(0), side(1)]
                })
                .collect();
            let texts = documents(&texts);
            let minhash = MinHash::new(Unit::Word, 1, permutations, 11);
            let (signatures, _) = minhash.signatures(&texts, &Cancel::new()).unwrap();
            let jaccard = f64::from(shared) / f64::from(shared + 2 * own);
            let estimates: Vec<f64> = signatures
                .chunks(2 * permutations)
                .map(|pair| {
                    let (one, two) = pair.split_at(permutations);
                    let equal = one.iter().zip(two).filter(|(one, two)| one == two).count();
                    equal as f64 / permutations as f64
                })
                .collect();
            let n = estimates.len() as f64;
            let mean = estimates.iter().sum::<f64>() / n;
            let variance = estimates.iter().map(|e| (e - jaccard).powi(2)).sum::<f64>() / n;
            let expected = jaccard * (1.0 - jaccard) / permutations as f64;
            assert!((mean - jaccard).abs() < 4.5 * (expected / n).sqrt(), "{mean} {jaccard}");
            // The variance of a sample variance of nearly normal values is 2/n of its square.
            let spread = 4.5 * (2.0 / n).sqrt();
            assert!((variance / expected - 1.0).abs() < spread, "{variance} {expected}");
        }
    }

    #[test]
    fn invalid_text_is_named() {
        let mut texts = Documents::new(40);
        texts.push(b"fine").unwrap();
        texts.push(b"a\xFF").unwrap();
        let minhash = MinHash::new(Unit::Word, 2, 16, 0);
        let error = minhash.signatures(&texts, &Cancel::new()).unwrap_err();
        assert!(matches!(error, Error::NotUtf8 { document: 41, position: 1 }), "{error}");
        MinHash::new(Unit::Byte, 2, 16, 0).signatures(&texts, &Cancel::new()).unwrap();
    }
}
