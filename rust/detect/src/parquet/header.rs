//! Page headers: Thrift's compact protocol, as far as Parquet's `PageHeader` needs it.

use parquet::basic::Encoding;

/// What precedes a page.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Header {
    /// Bytes after decompression, levels included.
    pub(super) size: usize,
    /// Bytes in the file.
    pub(super) stored: usize,
    pub(super) kind: PageKind,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum PageKind {
    Data(DataPage),
    Dictionary {
        values: u32,
        encoding: Encoding,
    },
    /// Index pages and kinds of a later format, which a reader may skip.
    Other,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct DataPage {
    pub(super) values: u32,
    pub(super) encoding: Encoding,
    /// Of the second version of the page, whose levels are not compressed.
    pub(super) second: Option<SecondVersion>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct SecondVersion {
    pub(super) rows: u32,
    pub(super) nulls: u32,
    pub(super) definition: usize,
    pub(super) repetition: usize,
    pub(super) compressed: bool,
}

/// Why there is no header.
#[derive(Debug, PartialEq)]
pub(super) enum NoHeader {
    /// The bytes end inside it.
    Short,
    Damaged,
}

/// Reads the header at the start of `bytes`; with its length.
pub(super) fn parse(bytes: &[u8]) -> Result<(Header, usize), NoHeader> {
    let mut input = Input { bytes, at: 0 };
    let (mut kind, mut size, mut stored) = (None, None, None);
    let (mut data, mut second, mut dictionary) = (None, None, None);
    let mut field = 0;
    while let Some(wire) = input.field(&mut field)? {
        match (field, wire) {
            (1, Wire::I32) => kind = Some(input.integer()?),
            (2, Wire::I32) => size = Some(input.length()?),
            (3, Wire::I32) => stored = Some(input.length()?),
            (5, Wire::Struct) => data = Some(input.integers()?),
            (7, Wire::Struct) => dictionary = Some(input.integers()?),
            (8, Wire::Struct) => second = Some(input.integers()?),
            _ => input.skip(wire, 0)?,
        }
    }
    let kind = match kind.ok_or(NoHeader::Damaged)? {
        0 => PageKind::Data(data.and_then(first_version).ok_or(NoHeader::Damaged)?),
        2 => dictionary
            .and_then(|fields| {
                Some(PageKind::Dictionary {
                    values: natural(fields[1])?,
                    encoding: encoding(fields[2])?,
                })
            })
            .ok_or(NoHeader::Damaged)?,
        3 => PageKind::Data(second.and_then(second_version).ok_or(NoHeader::Damaged)?),
        _ => PageKind::Other,
    };
    let size = size.ok_or(NoHeader::Damaged)?;
    let stored = stored.ok_or(NoHeader::Damaged)?;
    if let PageKind::Data(DataPage { second: Some(second), .. }) = &kind
        && second.definition.saturating_add(second.repetition) > size.min(stored)
    {
        return Err(NoHeader::Damaged);
    }
    Ok((Header { size, stored, kind }, input.at))
}

/// The integer and boolean fields of a struct by number; nested fields are skipped.
type Fields = [Option<i64>; 9];

fn natural(value: Option<i64>) -> Option<u32> {
    u32::try_from(value?).ok().filter(|&value| i32::try_from(value).is_ok())
}

fn encoding(value: Option<i64>) -> Option<Encoding> {
    Some(match value? {
        0 => Encoding::PLAIN,
        2 => Encoding::PLAIN_DICTIONARY,
        3 => Encoding::RLE,
        5 => Encoding::DELTA_BINARY_PACKED,
        6 => Encoding::DELTA_LENGTH_BYTE_ARRAY,
        7 => Encoding::DELTA_BYTE_ARRAY,
        8 => Encoding::RLE_DICTIONARY,
        9 => Encoding::BYTE_STREAM_SPLIT,
        _ => return None,
    })
}

fn first_version(fields: Fields) -> Option<DataPage> {
    // Levels are run-length encoded since 2013; the older encoding is not read.
    if fields[3]? != 3 || fields[4]? != 3 {
        return None;
    }
    Some(DataPage { values: natural(fields[1])?, encoding: encoding(fields[2])?, second: None })
}

fn second_version(fields: Fields) -> Option<DataPage> {
    let length = |field: Option<i64>| usize::try_from(natural(field)?).ok();
    let second = SecondVersion {
        rows: natural(fields[3])?,
        nulls: natural(fields[2])?,
        definition: length(fields[5])?,
        repetition: length(fields[6])?,
        compressed: fields[7].is_none_or(|value| value != 0),
    };
    Some(DataPage {
        values: natural(fields[1])?,
        encoding: encoding(fields[4])?,
        second: Some(second),
    })
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Wire {
    True,
    False,
    Byte,
    I16,
    I32,
    I64,
    Double,
    Binary,
    List,
    Map,
    Struct,
    Uuid,
}

fn wire(code: u8) -> Result<Wire, NoHeader> {
    Ok(match code {
        1 => Wire::True,
        2 => Wire::False,
        3 => Wire::Byte,
        4 => Wire::I16,
        5 => Wire::I32,
        6 => Wire::I64,
        7 => Wire::Double,
        8 => Wire::Binary,
        9 | 10 => Wire::List,
        11 => Wire::Map,
        12 => Wire::Struct,
        13 => Wire::Uuid,
        _ => return Err(NoHeader::Damaged),
    })
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Input<'_> {
    fn byte(&mut self) -> Result<u8, NoHeader> {
        let byte = *self.bytes.get(self.at).ok_or(NoHeader::Short)?;
        self.at += 1;
        Ok(byte)
    }

    fn varint(&mut self) -> Result<u64, NoHeader> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(NoHeader::Damaged)
    }

    /// A signed integer, zigzag encoded.
    fn integer(&mut self) -> Result<i64, NoHeader> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn length(&mut self) -> Result<usize, NoHeader> {
        i32::try_from(self.integer()?)
            .ok()
            .and_then(|value| usize::try_from(value).ok())
            .ok_or(NoHeader::Damaged)
    }

    /// The next field of a struct: its number goes to `last`. None at the struct's end.
    fn field(&mut self, last: &mut i64) -> Result<Option<Wire>, NoHeader> {
        let byte = self.byte()?;
        if byte == 0 {
            return Ok(None);
        }
        *last = match byte >> 4 {
            0 => self.integer()?,
            delta => last.checked_add(i64::from(delta)).ok_or(NoHeader::Damaged)?,
        };
        wire(byte & 0x0f).map(Some)
    }

    fn integers(&mut self) -> Result<Fields, NoHeader> {
        let mut fields = Fields::default();
        let mut field = 0;
        while let Some(wire) = self.field(&mut field)? {
            let slot = usize::try_from(field).ok().and_then(|field| fields.get_mut(field));
            match (slot, wire) {
                (Some(slot), Wire::I16 | Wire::I32 | Wire::I64) => *slot = Some(self.integer()?),
                (Some(slot), Wire::True | Wire::False) => {
                    *slot = Some(i64::from(wire == Wire::True));
                }
                _ => self.skip(wire, 0)?,
            }
        }
        Ok(fields)
    }

    fn pass(&mut self, count: u64) -> Result<(), NoHeader> {
        let left = self.bytes.len() - self.at;
        match usize::try_from(count) {
            Ok(count) if count <= left => self.at += count,
            _ => return Err(NoHeader::Short),
        }
        Ok(())
    }

    fn skip(&mut self, wire: Wire, depth: u32) -> Result<(), NoHeader> {
        if depth > 16 {
            return Err(NoHeader::Damaged);
        }
        match wire {
            Wire::True | Wire::False => Ok(()),
            Wire::Byte => self.pass(1),
            Wire::I16 | Wire::I32 | Wire::I64 => self.varint().map(drop),
            Wire::Double => self.pass(8),
            Wire::Uuid => self.pass(16),
            Wire::Binary => {
                let length = self.varint()?;
                self.pass(length)
            }
            Wire::Struct => {
                let mut field = 0;
                while let Some(wire) = self.field(&mut field)? {
                    self.skip(wire, depth + 1)?;
                }
                Ok(())
            }
            Wire::List => {
                let byte = self.byte()?;
                let count = match byte >> 4 {
                    15 => self.varint()?,
                    count => u64::from(count),
                };
                self.skip_elements(count, &[self::wire(byte & 0x0f)?], depth)
            }
            Wire::Map => match self.varint()? {
                0 => Ok(()),
                count => {
                    let byte = self.byte()?;
                    let types = [self::wire(byte >> 4)?, self::wire(byte & 0x0f)?];
                    self.skip_elements(count, &types, depth)
                }
            },
        }
    }

    fn skip_elements(&mut self, count: u64, types: &[Wire], depth: u32) -> Result<(), NoHeader> {
        for _ in 0..count {
            for &wire in types {
                match wire {
                    // Inside a collection a boolean is a byte.
                    Wire::True | Wire::False => self.pass(1)?,
                    _ => self.skip(wire, depth + 1)?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // type 0, sizes 300 and 40, crc, data header {values 7, PLAIN, RLE, RLE, statistics}.
    const FIRST: &[u8] = &[
        0x15, 0x00, 0x15, 0xd8, 0x04, 0x15, 0x50, 0x15, 0x02, 0x1c, 0x15, 0x0e, 0x15, 0x00, 0x15,
        0x06, 0x15, 0x06, 0x1c, 0x18, 0x02, b'a', b'b', 0x16, 0x04, 0x00, 0x00, 0x00,
    ];

    #[test]
    fn a_page_of_the_first_version() {
        let (header, length) = parse(&[FIRST, b"values"].concat()).unwrap();
        let page = DataPage { values: 7, encoding: Encoding::PLAIN, second: None };
        assert_eq!(header, Header { size: 300, stored: 40, kind: PageKind::Data(page) });
        assert_eq!(length, FIRST.len());
        for end in 0..FIRST.len() {
            assert_eq!(parse(&FIRST[..end]), Err(NoHeader::Short));
        }
    }

    #[test]
    fn a_page_of_the_second_version() {
        let bytes = [
            0x15, 0x06, 0x15, 0x40, 0x15, 0x30, 0x5c, 0x15, 0x0e, 0x15, 0x02, 0x15, 0x0c, 0x15,
            0x10, 0x15, 0x06, 0x15, 0x08, 0x12, 0x00, 0x00,
        ];
        let (header, length) = parse(&bytes).unwrap();
        assert_eq!(length, bytes.len());
        let second =
            SecondVersion { rows: 6, nulls: 1, definition: 3, repetition: 4, compressed: false };
        let page = DataPage { values: 7, encoding: Encoding::RLE_DICTIONARY, second: Some(second) };
        assert_eq!(header, Header { size: 32, stored: 24, kind: PageKind::Data(page) });
    }

    #[test]
    fn hostile_headers_are_refused() {
        // A negative size; levels longer than the page; structs nested without end.
        for bytes in [
            &[0x15, 0x00, 0x15, 0x01][..],
            &[
                0x15, 0x06, 0x15, 0x02, 0x15, 0x02, 0x5c, 0x15, 0x0e, 0x15, 0x02, 0x15, 0x0c, 0x15,
                0x00, 0x15, 0x06, 0x15, 0x08, 0x00, 0x00,
            ],
            &[0x9c; 100],
            &[0xff; 20],
        ] {
            assert_eq!(parse(bytes), Err(NoHeader::Damaged));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn a_header_with_flipped_bytes_is_read_or_refused(at in 0..FIRST.len(), value: u8) {
            let mut bytes = FIRST.to_vec();
            bytes[at] = value;
            if let Ok((_, length)) = parse(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}
