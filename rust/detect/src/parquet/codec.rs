//! Decompression of pages.

use std::io::{self, Read};

use parquet::basic::Compression;

use super::header::{DataPage, Header, PageKind};
use super::{TableError, damaged};

#[derive(Debug, Clone, Copy)]
pub(super) enum Codec {
    Uncompressed,
    Snappy,
    Gzip,
    Lz4,
    Zstd,
}

/// What a decompressor keeps between pages.
pub(super) type Context = Option<zstd::bulk::Decompressor<'static>>;

impl Codec {
    pub(super) fn new(compression: Compression) -> Result<Self, TableError> {
        Ok(match compression {
            Compression::UNCOMPRESSED => Self::Uncompressed,
            Compression::SNAPPY => Self::Snappy,
            Compression::GZIP(_) => Self::Gzip,
            Compression::LZ4_RAW => Self::Lz4,
            Compression::ZSTD(_) => Self::Zstd,
            other => {
                let name = format!("{other}");
                let name = name.split('(').next().unwrap_or_default().to_owned();
                return Err(TableError::Codec { name });
            }
        })
    }

    /// Whether the bytes of a page are in the file as they are.
    pub(super) fn keeps(self, header: &Header) -> bool {
        match (&header.kind, self) {
            (_, Self::Uncompressed) => true,
            (PageKind::Data(DataPage { second: Some(second), .. }), _) => !second.compressed,
            _ => false,
        }
    }

    /// Writes the bytes of a page to `out`; levels of the second version are not compressed.
    pub(super) fn decompress(
        self,
        header: &Header,
        stored: &[u8],
        out: &mut Vec<u8>,
        zstd: &mut Context,
    ) -> Result<(), TableError> {
        let codec = if self.keeps(header) { Self::Uncompressed } else { self };
        let levels = match &header.kind {
            PageKind::Data(DataPage { second: Some(second), .. }) => {
                second.definition + second.repetition
            }
            _ => 0,
        };
        let broken = || damaged("a page cannot be decompressed");
        let (head, body) = stored.split_at_checked(levels).ok_or_else(broken)?;
        if levels > header.size {
            return Err(broken());
        }
        // Growing writes zeros once; afterwards the length only moves inside what was written.
        if out.len() < header.size {
            out.resize(header.size, 0);
        } else {
            out.truncate(header.size);
        }
        out[..levels].copy_from_slice(head);
        let target = &mut out[levels..];
        let done = if target.is_empty() {
            Ok(0)
        } else {
            match codec {
                Self::Uncompressed if body.len() == target.len() => {
                    target.copy_from_slice(body);
                    Ok(target.len())
                }
                Self::Uncompressed => Err(io::ErrorKind::InvalidData.into()),
                Self::Snappy => {
                    snap::raw::Decoder::new().decompress(body, target).map_err(io::Error::other)
                }
                Self::Lz4 => {
                    lz4_flex::block::decompress_into(body, target).map_err(io::Error::other)
                }
                Self::Gzip => flate2::read::MultiGzDecoder::new(body)
                    .read_exact(target)
                    .map(|()| target.len()),
                Self::Zstd => match zstd {
                    Some(zstd) => zstd.decompress_to_buffer(body, target),
                    None => zstd::bulk::Decompressor::new()
                        .and_then(|new| zstd.insert(new).decompress_to_buffer(body, target)),
                },
            }
        };
        match done {
            Ok(size) if size == header.size - levels => Ok(()),
            _ => Err(broken()),
        }
    }
}
