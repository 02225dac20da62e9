//! Windows of the same bytes, and the spans that they make up.

use std::io::{Read, Seek, Write};

use aisec_numeric::Cancel;

use super::super::{Error, Partitions};
use super::{Span, Text};

/// Windows with the same bytes.
struct Group {
    first: u32,
    /// Where the document of the first ends.
    end: usize,
    /// Windows of which it is not known yet that they count.
    pending: Vec<u32>,
    told: bool,
}

impl Text<'_> {
    /// Pairs (window, its first occurrence) of windows that repeat, by comparing bytes.
    pub(super) fn compare<F: Read + Write + Seek>(
        &self,
        length: usize,
        within: bool,
        windows: Partitions<F>,
        pairs: &mut Partitions<F>,
        cancel: &Cancel,
    ) -> Result<(), Error> {
        let bytes = |at: u32| &self.bytes()[at as usize..at as usize + length];
        let mut key = None;
        let mut groups: Vec<Group> = Vec::new();
        windows.sorted(cancel, |(hash, at)| {
            if key != Some(hash) {
                key = Some(hash);
                groups.clear();
            }
            let Some(group) = groups.iter_mut().find(|group| bytes(group.first) == bytes(at))
            else {
                let pending = vec![at];
                groups.push(Group { first: at, end: self.document_end(at), pending, told: false });
                return Ok(());
            };
            group.pending.push(at);
            if group.told || within || at as usize >= group.end {
                group.told = true;
                for window in group.pending.drain(..) {
                    pairs.push((u64::from(window), group.first))?;
                }
            }
            Ok(())
        })
    }

    fn document_end(&self, position: u32) -> usize {
        self.documents.ends()[self.locate(position).0 as usize]
    }

    /// Unites windows; pairs come in order of position.
    pub(super) fn spans<F: Read + Write + Seek>(
        &self,
        length: usize,
        pairs: Partitions<F>,
        cancel: &Cancel,
    ) -> Result<Vec<Span>, Error> {
        let mut spans: Vec<Span> = Vec::new();
        // The open span of first occurrences and that of copies.
        let mut open: [Option<usize>; 2] = [None, None];
        pairs.sorted(cancel, |(window, first)| {
            let window = window as u32;
            let (document, start) = self.locate(window);
            let (from, copy) = (window - start, first != window);
            let end = from + length as u32;
            if let Some(index) = open[usize::from(copy)]
                && spans[index].document == document
                && from <= spans[index].end
            {
                spans[index].end = end;
                return Ok(());
            }
            let (source, source_start) = self.locate(first);
            open[usize::from(copy)] = Some(spans.len());
            let source = (source, first - source_start);
            spans.push(Span { document, start: from, end, copy, source });
            Ok(())
        })?;
        Ok(spans)
    }
}
