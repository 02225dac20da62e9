//! Counts against brute force, in little memory and any batches.

use aisec_numeric::Cancel;

use super::super::units::{Documents, Unit};
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
