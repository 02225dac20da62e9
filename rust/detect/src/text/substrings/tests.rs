//! Spans against brute force, whatever memory there is.

use super::*;
use proptest::prelude::*;
use std::collections::HashMap;
use std::io::Cursor;

fn find(texts: &[Vec<u8>], length: usize, within: bool, capacity: usize) -> Vec<Span> {
    let mut documents = Documents::new(0);
    for text in texts {
        documents.push(text).unwrap();
    }
    let files = std::array::from_fn(|_| Cursor::new(Vec::new()));
    duplicate_substrings(&documents, length, within, files, capacity, &Cancel::new()).unwrap()
}

/// For every byte whether it is in a first occurrence, and whether in a copy.
type Marks = Vec<Vec<(bool, bool)>>;

fn marks(texts: &[Vec<u8>], spans: &[Span]) -> Marks {
    let mut marks: Marks = texts.iter().map(|text| vec![(false, false); text.len()]).collect();
    for span in spans {
        for at in span.start..span.end {
            let mark = &mut marks[span.document as usize][at as usize];
            *(if span.copy { &mut mark.1 } else { &mut mark.0 }) = true;
        }
    }
    marks
}

fn brute(texts: &[Vec<u8>], length: usize, within: bool) -> Marks {
    let mut seen: HashMap<&[u8], Vec<(usize, usize)>> = HashMap::new();
    for (document, text) in texts.iter().enumerate() {
        for (start, window) in text.windows(length).enumerate() {
            seen.entry(window).or_default().push((document, start));
        }
    }
    let mut marks = marks(texts, &[]);
    for places in seen.values() {
        let across = places.iter().any(|place| place.0 != places[0].0);
        if places.len() > 1 && (within || across) {
            for (i, &(document, start)) in places.iter().enumerate() {
                for mark in &mut marks[document][start..start + length] {
                    *(if i > 0 { &mut mark.1 } else { &mut mark.0 }) = true;
                }
            }
        }
    }
    marks
}

fn texts() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let random = prop::collection::vec(0u8..3, 0..60);
    let repeated = (0u8..2, 0usize..60).prop_map(|(byte, count)| vec![byte; count]);
    let long = (prop::collection::vec(any::<u8>(), 0..20), 1usize..4)
        .prop_map(|(part, times)| part.repeat(times));
    prop::collection::vec(prop_oneof![random, repeated, long], 0..8)
}

proptest! {
    #[test]
    fn exactly_what_brute_force_finds(
        texts in texts(), length in 2usize..12, within: bool, capacity in 1usize..300,
    ) {
        let spans = find(&texts, length, within, capacity);
        prop_assert_eq!(marks(&texts, &spans), brute(&texts, length, within));
        for span in &spans {
            let (document, start) = (span.source.0 as usize, span.source.1 as usize);
            let from = span.start as usize;
            prop_assert_eq!(
                &texts[document][start..start + length],
                &texts[span.document as usize][from..from + length]
            );
            prop_assert_eq!(span.copy, (span.source.0, span.source.1) < (span.document, span.start));
        }
    }

    /// A passage planted in two documents is found, whatever surrounds it.
    #[test]
    fn planted_passage(
        before in prop::collection::vec(any::<u8>(), 0..300),
        passage in prop::collection::vec(any::<u8>(), 50..200),
        other in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let texts = [[&before[..], &passage].concat(), [&other[..], &passage, &before].concat()];
        let spans = find(&texts, 50, false, 1000);
        let copy = spans.iter().find(|span| span.copy).unwrap();
        prop_assert!(copy.document == 1 && copy.start as usize <= other.len());
        prop_assert!(copy.end as usize >= other.len() + passage.len());
    }
}

/// Thue–Morse sequences agree in hash modulo 2^64; bytes tell them apart.
#[test]
fn equal_hashes_of_different_bytes() {
    let bit = |i: usize| (i.count_ones() & 1) as u8;
    let one: Vec<u8> = (0..4096).map(bit).collect();
    let two: Vec<u8> = (0..4096).map(|i| 1 - bit(i)).collect();
    assert!(find(&[one.clone(), two.clone()], 4096, true, 100).is_empty());
    assert_eq!(find(&[one.clone(), two, one], 4096, true, 100).len(), 2);
}
