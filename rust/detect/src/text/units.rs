//! Documents, and the units they are made of.
//!
//! **Words** are maximal runs of characters that are neither white space, control characters nor
//! punctuation, in lower case (Unicode, without regard to language). Punctuation is all of ASCII
//! but letters and digits, the symbols of Latin-1, arrows to mathematical symbols (U+2190 to
//! U+2BFF), and the blocks of general, supplemental, CJK and full-width punctuation. Marks belong
//! to their letter. In scripts that are written without spaces (Han, kana, Thai, Lao, Tibetan,
//! Myanmar, Khmer) every character is a word. **Characters** are Unicode scalar values in lower
//! case, white space reduced to one space between them. **Bytes** are taken as they are. Nothing
//! is normalised: bring texts into one form (NFC) before, where sources differ.

use super::Error;
use super::hash::Hasher;

/// What a document is cut into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Word,
    Char,
    Byte,
}

/// Documents one after the other in one buffer.
#[derive(Debug, Clone, Default)]
pub struct Documents {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Number of the first document, for messages.
    first: u64,
}

impl Documents {
    pub fn new(first: u64) -> Self {
        Self { first, ..Self::default() }
    }

    /// Adds a document.
    pub fn push(&mut self, document: &[u8]) -> Result<(), Error> {
        if u32::try_from(document.len()).is_err() {
            let document_number = self.first + self.len() as u64;
            return Err(Error::TooLong { document: document_number, bytes: document.len() });
        }
        self.bytes.extend_from_slice(document);
        self.ends.push(self.bytes.len());
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Number of the first document.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// All documents, one after the other.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where each document ends.
    pub fn ends(&self) -> &[usize] {
        &self.ends
    }

    pub fn get(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }

    /// A document as text.
    fn text(&self, index: usize) -> Result<&str, Error> {
        std::str::from_utf8(self.get(index)).map_err(|error| Error::NotUtf8 {
            document: self.first + index as u64,
            position: error.valid_up_to(),
        })
    }

    /// Hashes of a document's units, and where they stand in it.
    pub(crate) fn units(
        &self,
        index: usize,
        unit: Unit,
        hasher: &Hasher,
        out: &mut Units,
    ) -> Result<(), Error> {
        out.hashes.clear();
        out.spans.clear();
        match unit {
            Unit::Byte => {
                for (i, &byte) in self.get(index).iter().enumerate() {
                    out.push(hasher.number(u64::from(byte)), i, i + 1);
                }
            }
            Unit::Char => characters(self.text(index)?, hasher, out),
            Unit::Word => words(self.text(index)?, hasher, out),
        }
        Ok(())
    }
}

/// Units of one document; kept from one to the next for its memory.
#[derive(Debug, Default)]
pub(crate) struct Units {
    pub(crate) hashes: Vec<u64>,
    pub(crate) spans: Vec<(u32, u32)>,
    word: Vec<u8>,
}

impl Units {
    fn push(&mut self, hash: u64, start: usize, end: usize) {
        self.hashes.push(hash);
        self.spans.push((start as u32, end as u32));
    }
}

fn characters(text: &str, hasher: &Hasher, out: &mut Units) {
    let mut space = None;
    for (start, character) in text.char_indices() {
        if character.is_whitespace() {
            space.get_or_insert(start);
            continue;
        }
        if let Some(space) = space.take()
            && !out.hashes.is_empty()
        {
            out.push(hasher.number(u64::from(u32::from(' '))), space, start);
        }
        let end = start + character.len_utf8();
        for lower in character.to_lowercase() {
            out.push(hasher.number(u64::from(u32::from(lower))), start, end);
        }
    }
}

fn words(text: &str, hasher: &Hasher, out: &mut Units) {
    let mut word = std::mem::take(&mut out.word);
    word.clear();
    let bytes = text.as_bytes();
    let (mut i, mut start) = (0, 0);
    while i < bytes.len() {
        let byte = bytes[i];
        if byte.is_ascii() {
            if byte.is_ascii_alphanumeric() {
                if word.is_empty() {
                    start = i;
                }
                word.push(byte.to_ascii_lowercase());
            } else if !word.is_empty() {
                out.push(hasher.unit(&word), start, i);
                word.clear();
            }
            i += 1;
            continue;
        }
        // `i` is at the start of a character: steps are whole characters.
        let Some(character) = text[i..].chars().next() else { break };
        let end = i + character.len_utf8();
        let alone = stands_alone(character);
        if !word.is_empty() && (alone || separates(character)) {
            out.push(hasher.unit(&word), start, i);
            word.clear();
        }
        if !separates(character) {
            if word.is_empty() {
                start = i;
            }
            let mut buffer = [0; 4];
            for lower in character.to_lowercase() {
                word.extend_from_slice(lower.encode_utf8(&mut buffer).as_bytes());
            }
            if alone {
                out.push(hasher.unit(&word), start, end);
                word.clear();
            }
        }
        i = end;
    }
    if !word.is_empty() {
        out.push(hasher.unit(&word), start, bytes.len());
    }
    out.word = word;
}

/// White space, control characters and punctuation beyond ASCII.
fn separates(character: char) -> bool {
    character.is_whitespace()
        || character.is_control()
        || matches!(u32::from(character),
            0x00A0..=0x00A9 | 0x00AB..=0x00B4 | 0x00B6..=0x00B9 | 0x00BB..=0x00BF
            | 0x00D7 | 0x00F7 | 0x2000..=0x200B | 0x200E..=0x206F | 0x2190..=0x2BFF
            | 0x2E00..=0x2E7F | 0x3000..=0x3004 | 0x3008..=0x3020 | 0xFE10..=0xFE1F
            | 0xFE30..=0xFE6F | 0xFF01..=0xFF0F | 0xFF1A..=0xFF20 | 0xFF3B..=0xFF40
            | 0xFF5B..=0xFF65 | 0xFEFF)
}

/// Characters of scripts that are written without spaces.
fn stands_alone(character: char) -> bool {
    matches!(u32::from(character),
        0x0E00..=0x0EFF | 0x0F00..=0x0FFF | 0x1000..=0x109F | 0x1780..=0x17FF
        | 0x3005..=0x3007 | 0x3040..=0x30FF | 0x31F0..=0x31FF | 0x3400..=0x4DBF
        | 0x4E00..=0x9FFF | 0xF900..=0xFAFF | 0xFF66..=0xFF9D | 0x20000..=0x3FFFF)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(text: &str, unit: Unit) -> Vec<String> {
        let mut documents = Documents::new(0);
        documents.push(text.as_bytes()).unwrap();
        let mut units = Units::default();
        let hasher = Hasher::new(0, "test");
        documents.units(0, unit, &hasher, &mut units).unwrap();
        let cut = |&(start, end): &(u32, u32)| text[start as usize..end as usize].to_owned();
        units.spans.iter().map(cut).collect()
    }

    #[test]
    fn words_of_many_scripts() {
        assert_eq!(cut("Hello, World! x_1", Unit::Word), ["Hello", "World", "x", "1"]);
        assert_eq!(cut("naïve—Straße…ΣΊΣΥΦΟΣ", Unit::Word), ["naïve", "Straße", "ΣΊΣΥΦΟΣ"]);
        assert_eq!(cut("東京へ行く。ok", Unit::Word), ["東", "京", "へ", "行", "く", "ok"]);
        assert_eq!(cut("नमस्ते दुनिया", Unit::Word), ["नमस्ते", "दुनिया"]);
        assert_eq!(cut("e\u{301}a b", Unit::Word), ["e\u{301}a", "b"]);
        assert!(cut(" \t.,!—", Unit::Word).is_empty() && cut("", Unit::Word).is_empty());
    }

    #[test]
    fn case_and_space_do_not_count() {
        let hasher = Hasher::new(0, "test");
        let hashes = |text: &str, unit| {
            let mut documents = Documents::new(0);
            documents.push(text.as_bytes()).unwrap();
            let mut units = Units::default();
            documents.units(0, unit, &hasher, &mut units).unwrap();
            units.hashes
        };
        assert_eq!(hashes("Ärger  IST,da", Unit::Word), hashes("ärger ist da.", Unit::Word));
        assert_eq!(hashes(" A \n B ", Unit::Char), hashes("a b", Unit::Char));
        assert_ne!(hashes("a b", Unit::Byte), hashes("a  b", Unit::Byte));
        assert_ne!(hashes("ab", Unit::Word), hashes("a b", Unit::Word));
    }

    proptest! {
        /// Spans are in order and on character boundaries; the ASCII path agrees with the other.
        #[test]
        fn spans_fit(text: String) {
            for unit in [Unit::Word, Unit::Char] {
                let words = cut(&text, unit);
                prop_assert!(words.iter().all(|word| !word.is_empty()));
            }
            let separated: Vec<String> = text
                .split(|c: char| if c.is_ascii() { !c.is_ascii_alphanumeric() } else { separates(c) })
                .flat_map(|run| {
                    let mut parts = vec![String::new()];
                    for character in run.chars() {
                        if stands_alone(character) {
                            parts.push(character.to_string());
                            parts.push(String::new());
                        } else if let Some(last) = parts.last_mut() {
                            last.push(character);
                        }
                    }
                    parts
                })
                .filter(|word| !word.is_empty())
                .collect();
            prop_assert_eq!(cut(&text, Unit::Word), separated);
        }
    }
}
