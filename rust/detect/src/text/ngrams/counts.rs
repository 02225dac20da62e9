//! The second pass: exact counts of what the sketch believes to be frequent.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher as StdHasher};

use aisec_numeric::Cancel;
use rayon::prelude::*;

use super::super::Error;
use super::super::hash::mix;
use super::super::units::Documents;
use super::SHARDS;
use super::cutter::Occurrence;
use super::sketch::NgramSketch;

/// Bytes of an n-gram's text that are kept.
const SHOWN: usize = 200;

/// Keys are hashes already.
#[derive(Default)]
struct Identity(u64);

impl StdHasher for Identity {
    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }

    fn finish(&self) -> u64 {
        // The leading bits, which tables look at, are the same in a shard.
        self.0.rotate_left(16)
    }
}

type Index = HashMap<u64, u32, BuildHasherDefault<Identity>>;

/// Exact counts of the n-grams whose hashes fall into one shard.
#[derive(Default)]
struct Shard {
    index: Index,
    entries: Vec<Entry>,
    /// Documents of each class, entry by entry.
    counts: Vec<u32>,
    text: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Entry {
    key: u64,
    /// Sum over documents of a hash of their number: equal for n-grams in the same documents.
    fingerprint: u64,
    text: (usize, u32),
    length: u32,
}

/// The second pass: counts per class of the n-grams that may be frequent.
pub struct NgramCounts {
    sketch: NgramSketch,
    classes: usize,
    least: u32,
    limit: usize,
    shards: Vec<Shard>,
    documents: u64,
}

/// One frequent n-gram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ngram {
    /// Its hash, for [`NgramCounts::find`].
    pub key: u64,
    pub length: u32,
    /// Documents of each class that hold it.
    pub counts: Vec<u32>,
    /// Equal for n-grams that occur in the same documents.
    pub fingerprint: u64,
    /// Its bytes where it occurs first, at most 200.
    pub text: Vec<u8>,
}

impl NgramCounts {
    /// Counts n-grams in at least `least` documents, at most 65,535, as many as fit in `bytes`.
    pub fn new(sketch: NgramSketch, classes: usize, least: u32, bytes: usize) -> Self {
        // An entry, its index, counts and text, and what vectors reserve beyond.
        let limit = (bytes / (120 + 6 * classes)).max(64);
        let shards = (0..SHARDS).map(|_| Shard::default()).collect();
        let least = least.clamp(1, u32::from(u16::MAX));
        Self { sketch, classes, least, limit, shards, documents: 0 }
    }

    /// N-grams in fewer documents were not counted.
    pub fn least(&self) -> u32 {
        self.least
    }

    /// Documents counted so far.
    pub fn documents(&self) -> u64 {
        self.documents
    }

    /// Counts documents with their classes, numbers below that of classes.
    pub fn add(
        &mut self,
        documents: &Documents,
        classes: &[u32],
        cancel: &Cancel,
    ) -> Result<(), Error> {
        let (sketch, least) = (&self.sketch, self.least);
        let frequent = |occurrence: &Occurrence| sketch.estimate(occurrence.key) >= least;
        let found = sketch
            .cutter
            .cut_all(documents, cancel, |occurrence| frequent(occurrence).then_some(*occurrence))?;
        let (width, first) = (self.classes, self.documents);
        self.shards.par_iter_mut().enumerate().for_each(|(number, shard)| {
            for (index, cut) in found.iter().enumerate() {
                let mark = mix(first.wrapping_add(index as u64));
                for occurrence in cut.of(number) {
                    let at = shard.entry(occurrence, documents.get(index), width);
                    shard.entries[at].fingerprint =
                        shard.entries[at].fingerprint.wrapping_add(mark);
                    shard.counts[at * width + classes[index] as usize] += 1;
                }
            }
        });
        self.documents += documents.len() as u64;
        self.fit();
        Ok(())
    }

    fn fit(&mut self) {
        let most = u32::from(u16::MAX);
        while self.shards.iter().map(|shard| shard.entries.len()).sum::<usize>() > self.limit
            && self.least < most
        {
            self.least = self.least.saturating_mul(2).min(most);
            let (sketch, least, width) = (&self.sketch, self.least, self.classes);
            self.shards.par_iter_mut().for_each(|shard| {
                shard.keep(width, |entry| sketch.estimate(entry.key) >= least);
            });
        }
    }

    /// Which of the documents hold an n-gram of `keys`, which ascend.
    pub fn find(
        &self,
        documents: &Documents,
        keys: &[u64],
        cancel: &Cancel,
    ) -> Result<Vec<(u32, u64)>, Error> {
        let known = |occurrence: &Occurrence| keys.binary_search(&occurrence.key).is_ok();
        let found = self
            .sketch
            .cutter
            .cut_all(documents, cancel, |occurrence| known(occurrence).then_some(occurrence.key))?;
        let pairs = found.iter().enumerate();
        Ok(pairs.flat_map(|(at, cut)| cut.items.iter().map(move |&key| (at as u32, key))).collect())
    }

    /// Takes the n-grams in at least `least` documents, ordered by hash.
    pub fn take(&mut self) -> Vec<Ngram> {
        let mut all = Vec::new();
        for shard in std::mem::take(&mut self.shards) {
            let mut order: Vec<usize> = (0..shard.entries.len()).collect();
            order.sort_unstable_by_key(|&at| shard.entries[at].key);
            for at in order {
                let counts = &shard.counts[at * self.classes..][..self.classes];
                if counts.iter().map(|&count| u64::from(count)).sum::<u64>() < u64::from(self.least)
                {
                    continue;
                }
                let Entry { key, fingerprint, text: (start, bytes), length } = shard.entries[at];
                let text = shard.text[start..start + bytes as usize].to_vec();
                all.push(Ngram { key, length, counts: counts.to_vec(), fingerprint, text });
            }
        }
        all
    }
}

impl Shard {
    fn entry(&mut self, found: &Occurrence, document: &[u8], width: usize) -> usize {
        let next = self.entries.len() as u32;
        let at = *self.index.entry(found.key).or_insert(next);
        if at == next {
            let text = &document[found.start as usize..found.end as usize];
            let text = &text[..text.len().min(SHOWN)];
            let place = (self.text.len(), text.len() as u32);
            self.text.extend_from_slice(text);
            self.counts.resize(self.counts.len() + width, 0);
            let Occurrence { key, length, .. } = *found;
            self.entries.push(Entry { key, fingerprint: 0, text: place, length });
        }
        at as usize
    }

    fn keep(&mut self, width: usize, keep: impl Fn(&Entry) -> bool) {
        let old = std::mem::take(self);
        for (at, entry) in old.entries.into_iter().enumerate() {
            if keep(&entry) {
                let (start, bytes) = entry.text;
                let text = (self.text.len(), bytes);
                self.text.extend_from_slice(&old.text[start..start + bytes as usize]);
                self.index.insert(entry.key, self.entries.len() as u32);
                self.entries.push(Entry { text, ..entry });
                self.counts.extend_from_slice(&old.counts[at * width..][..width]);
            }
        }
    }
}
