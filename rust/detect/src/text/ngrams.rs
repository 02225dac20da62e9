//! In how many documents of each class an n-gram occurs, for all frequent n-grams, in bounded
//! memory.
//!
//! A first pass counts documents in a count-min sketch with conservative update (Cormode &
//! Muthukrishnan, 2005; Estan & Varghese, 2003), which never counts too few. A second pass counts
//! exactly those n-grams that the sketch believes to be in `least` documents, so every n-gram in
//! that many documents is counted. If they do not fit in memory, `least` is doubled until they do.
//! Hashes are divided into shards that are worked on in the order of documents, so nothing depends
//! on batches or threads.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher as StdHasher};
use std::ops::RangeInclusive;

use aisec_numeric::Cancel;
use rayon::prelude::*;

use super::hash::{Hasher, mix};
use super::units::{Documents, Unit, Units};
use super::{Error, check};

const ROWS: usize = 2;
const SHARDS: usize = 64;
/// Bytes of an n-gram's text that are kept.
const SHOWN: usize = 200;

/// The n-grams of a document.
#[derive(Debug, Clone)]
struct Cutter {
    unit: Unit,
    lengths: RangeInclusive<usize>,
    hasher: Hasher,
}

/// An n-gram in a document: its hash, number of units, and bytes.
#[derive(Debug, Clone, Copy)]
struct Occurrence {
    key: u64,
    length: u32,
    start: u32,
    end: u32,
}

#[derive(Default)]
struct Scratch {
    units: Units,
    runs: Vec<u64>,
    found: Vec<Occurrence>,
}

/// What a document holds of each shard, one after the other.
struct Cut<T> {
    items: Vec<T>,
    ends: [u32; SHARDS],
}

impl<T: Copy> Cut<T> {
    fn new(found: &[Occurrence], item: impl Fn(&Occurrence) -> Option<T>) -> Self {
        let mut cut = Self { items: Vec::with_capacity(found.len()), ends: [0; SHARDS] };
        let mut shard = 0;
        for occurrence in found {
            while shard < shard_of(occurrence.key) {
                cut.ends[shard] = cut.items.len() as u32;
                shard += 1;
            }
            cut.items.extend(item(occurrence));
        }
        cut.ends[shard..].fill(cut.items.len() as u32);
        cut
    }

    fn of(&self, shard: usize) -> &[T] {
        let start = if shard == 0 { 0 } else { self.ends[shard - 1] as usize };
        &self.items[start..self.ends[shard] as usize]
    }
}

impl Cutter {
    /// The n-grams of a document, each once, where it occurs first, ascending by hash.
    fn cut(&self, documents: &Documents, index: usize, scratch: &mut Scratch) -> Result<(), Error> {
        let Scratch { units, runs, found } = scratch;
        documents.units(index, self.unit, &self.hasher, units)?;
        found.clear();
        for length in self.lengths.clone() {
            runs.clear();
            self.hasher.runs(&units.hashes, length, runs);
            for (i, &key) in runs.iter().enumerate() {
                let (start, end) = (units.spans[i].0, units.spans[i + length - 1].1);
                found.push(Occurrence { key, length: length as u32, start, end });
            }
        }
        found.sort_unstable_by_key(|occurrence| (occurrence.key, occurrence.start));
        found.dedup_by_key(|occurrence| occurrence.key);
        Ok(())
    }

    /// What `item` makes of the n-grams of each document.
    fn cut_all<T: Copy + Send>(
        &self,
        documents: &Documents,
        cancel: &Cancel,
        item: impl Fn(&Occurrence) -> Option<T> + Sync,
    ) -> Result<Vec<Cut<T>>, Error> {
        (0..documents.len())
            .into_par_iter()
            .with_min_len(16)
            .map_init(Scratch::default, |scratch, index| {
                check(cancel)?;
                self.cut(documents, index, scratch)?;
                Ok(Cut::new(&scratch.found, &item))
            })
            .collect()
    }
}

/// The first pass: how many documents hold an n-gram, at most.
#[derive(Debug)]
pub struct NgramSketch {
    cutter: Cutter,
    /// Rows of counters of each shard, one after the other; they stop at 65,535.
    counts: Vec<Vec<u16>>,
    documents: u64,
}

impl NgramSketch {
    /// N-grams of `lengths` units; the sketch takes `bytes`, rounded down to a power of two.
    pub fn new(unit: Unit, lengths: RangeInclusive<usize>, bytes: usize, seed: u64) -> Self {
        let size = 1usize << (bytes.max(1 << 12) / (2 * ROWS * SHARDS)).ilog2();
        let cutter = Cutter { unit, lengths, hasher: Hasher::new(seed, "ngrams") };
        let counts = (0..SHARDS).map(|_| vec![0; size * ROWS]).collect();
        Self { cutter, counts, documents: 0 }
    }

    pub fn documents(&self) -> u64 {
        self.documents
    }

    /// Counts the documents.
    pub fn add(&mut self, documents: &Documents, cancel: &Cancel) -> Result<(), Error> {
        let found = self.cutter.cut_all(documents, cancel, |occurrence| Some(occurrence.key))?;
        self.documents += documents.len() as u64;
        self.counts.par_iter_mut().enumerate().for_each(|(number, counts)| {
            for cut in &found {
                for &key in cut.of(number) {
                    let places = places(counts, key);
                    let least = places.map(|place| counts[place]).into_iter().min().unwrap_or(0);
                    for place in places {
                        counts[place] = counts[place].max(least.saturating_add(1));
                    }
                }
            }
        });
        Ok(())
    }

    /// Never less than the number of documents with the n-gram, up to 65,535.
    fn estimate(&self, key: u64) -> u32 {
        let counts = &self.counts[shard_of(key)];
        u32::from(places(counts, key).map(|place| counts[place]).into_iter().min().unwrap_or(0))
    }
}

fn places(counts: &[u16], key: u64) -> [usize; ROWS] {
    let size = counts.len() / ROWS;
    let second = mix(key ^ 0x5851_F42D_4C95_7F2D) as usize & (size - 1);
    [key as usize & (size - 1), size + second]
}

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

fn shard_of(key: u64) -> usize {
    (key >> (64 - SHARDS.ilog2())) as usize
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn count(
        texts: &[Vec<u8>],
        classes: &[u32],
        least: u32,
        bytes: (usize, usize),
        batch: usize,
    ) -> (u32, Vec<Ngram>) {
        let cancel = Cancel::new();
        let batches: Vec<(Documents, &[u32])> = texts
            .chunks(batch)
            .zip(classes.chunks(batch))
            .enumerate()
            .map(|(number, (texts, classes))| {
                let mut documents = Documents::new((number * batch) as u64);
                texts.iter().for_each(|text| documents.push(text).unwrap());
                (documents, classes)
            })
            .collect();
        let mut sketch = NgramSketch::new(Unit::Byte, 1..=2, bytes.0, 0);
        batches.iter().for_each(|(documents, _)| sketch.add(documents, &cancel).unwrap());
        let mut counts = NgramCounts::new(sketch, 3, least, bytes.1);
        for (documents, classes) in &batches {
            counts.add(documents, classes, &cancel).unwrap();
        }
        let least = counts.least();
        let found = counts.take();
        let keys: Vec<u64> = found.iter().map(|ngram| ngram.key).collect();
        let mut times: BTreeMap<u64, u32> = BTreeMap::new();
        for (documents, _) in &batches {
            for (_, key) in counts.find(documents, &keys, &cancel).unwrap() {
                *times.entry(key).or_default() += 1;
            }
        }
        assert!(found.iter().all(|ngram| times[&ngram.key] == ngram.counts.iter().sum::<u32>()));
        (least, found)
    }

    fn brute(texts: &[Vec<u8>], classes: &[u32], least: u32) -> BTreeMap<Vec<u8>, Vec<u32>> {
        let mut counts: BTreeMap<Vec<u8>, Vec<u32>> = BTreeMap::new();
        for (text, &class) in texts.iter().zip(classes) {
            let ngrams: BTreeSet<&[u8]> = text.windows(1).chain(text.windows(2)).collect();
            for ngram in ngrams {
                counts.entry(ngram.to_vec()).or_insert_with(|| vec![0; 3])[class as usize] += 1;
            }
        }
        counts.retain(|_, counts| counts.iter().sum::<u32>() >= least);
        counts
    }

    fn documents() -> impl Strategy<Value = (Vec<Vec<u8>>, Vec<u32>)> {
        prop::collection::vec((prop::collection::vec(any::<u8>(), 0..40), 0u32..3), 0..60)
            .prop_map(|pairs| pairs.into_iter().unzip())
    }

    proptest! {
        /// Exact, however coarse the sketch, however the documents are cut into batches.
        #[test]
        fn exact_counts((texts, classes) in documents(), least in 1u32..5, batch in 1usize..70) {
            for sketch in [1 << 12, 1 << 18] {
                let (kept, found) = count(&texts, &classes, least, (sketch, 1 << 24), batch);
                prop_assert_eq!(kept, least);
                let found: BTreeMap<_, _> =
                    found.into_iter().map(|ngram| (ngram.text, ngram.counts)).collect();
                prop_assert_eq!(found, brute(&texts, &classes, least));
            }
        }

        /// Little memory: only more frequent n-grams, but all of those, and for any batches.
        #[test]
        fn bounded((texts, classes) in documents(), batch in 1usize..70) {
            let (kept, found) = count(&texts, &classes, 1, (1 << 12, 0), batch);
            let whole = count(&texts, &classes, 1, (1 << 12, 0), 1000);
            prop_assert_eq!((kept, &found), (whole.0, &whole.1));
            prop_assert!(found.len() <= 64);
            let found: BTreeMap<_, _> =
                found.into_iter().map(|ngram| (ngram.text, ngram.counts)).collect();
            prop_assert_eq!(found, brute(&texts, &classes, kept));
        }
    }

    #[test]
    fn same_documents_same_fingerprint() {
        let texts = [b"xaby".to_vec(), b"ab".to_vec(), b"ay".to_vec()];
        let (_, found) = count(&texts, &[0, 1, 2], 1, (1 << 16, 1 << 20), 2);
        let of = |text: &[u8]| found.iter().find(|ngram| ngram.text == text).unwrap().fingerprint;
        assert_eq!(of(b"ab"), of(b"b"));
        assert_ne!(of(b"ab"), of(b"a"));
    }
}
