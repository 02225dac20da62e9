//! Clusters of documents that share a key: connected components, named by their least member.

use std::io::{Read, Seek, Write};

use aisec_numeric::Cancel;

use super::{Error, Partitions, check};

/// Sets that are merged; the root of each is its least member.
#[derive(Debug, Default)]
struct Sets(Vec<u32>);

impl Sets {
    fn grow(&mut self, len: usize) {
        self.0.extend(self.0.len() as u32..len as u32);
    }

    fn root(&mut self, mut member: u32) -> u32 {
        while self.0[member as usize] != member {
            let above = self.0[self.0[member as usize] as usize];
            self.0[member as usize] = above;
            member = above;
        }
        member
    }

    fn merge(&mut self, one: u32, two: u32) {
        let (one, two) = (self.root(one), self.root(two));
        self.0[one.max(two) as usize] = one.min(two);
    }
}

/// Gathers keys of documents, in any order; documents with a common key end in one cluster.
#[derive(Debug)]
pub struct Clusters<F> {
    partitions: Partitions<F>,
    documents: usize,
}

impl<F: Read + Write + Seek> Clusters<F> {
    /// `capacity` records of 16 bytes are kept in memory, the others in `file`.
    pub fn new(file: F, capacity: usize) -> Self {
        Self { partitions: Partitions::new(file, capacity), documents: 0 }
    }

    /// Bytes written to the file.
    pub fn spilled(&self) -> u64 {
        self.partitions.spilled()
    }

    /// Adds documents from number `first` on, with `keys.len() / units.len()` keys each. Documents
    /// without units have no keys.
    pub fn add(
        &mut self,
        first: u64,
        keys: &[u64],
        units: &[u32],
        cancel: &Cancel,
    ) -> Result<(), Error> {
        let end = first.saturating_add(units.len() as u64);
        if end > u64::from(u32::MAX) {
            return Err(Error::TooMany);
        }
        self.documents = self.documents.max(end as usize);
        if units.is_empty() {
            return Ok(());
        }
        check(cancel)?;
        let bands = keys.len() / units.len();
        for ((document, keys), &units) in (first as u32..).zip(keys.chunks(bands.max(1))).zip(units)
        {
            if units > 0 {
                for &key in keys {
                    self.partitions.push((key, document))?;
                }
            }
        }
        Ok(())
    }

    /// The least document of each document's cluster.
    pub fn finish(self, cancel: &Cancel) -> Result<Vec<u32>, Error> {
        let mut sets = Sets::default();
        sets.grow(self.documents);
        let mut last = None;
        self.partitions.sorted(cancel, |(key, document)| {
            match last {
                Some((same, first)) if same == key => sets.merge(first, document),
                _ => last = Some((key, document)),
            }
            Ok(())
        })?;
        for document in 0..sets.0.len() {
            sets.0[document] = sets.root(document as u32);
        }
        Ok(sets.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    /// Components by repeated relabelling.
    fn components(keys: &[Vec<u64>], units: &[u32]) -> Vec<u32> {
        let mut label: Vec<u32> = (0..keys.len() as u32).collect();
        loop {
            let before = label.clone();
            for i in 0..keys.len() {
                for j in 0..keys.len() {
                    let meet = units[i] > 0
                        && units[j] > 0
                        && keys[i].iter().any(|key| keys[j].contains(key));
                    if meet {
                        label[i] = label[i].min(label[j]);
                    }
                }
            }
            if label == before {
                return label;
            }
        }
    }

    proptest! {
        /// The components, for any shards in any order and any memory.
        #[test]
        fn components_for_any_sharding(
            keys in prop::collection::vec(prop::collection::vec(0u64..40, 3), 0..40),
            empty in prop::collection::vec(0u32..4, 40),
            cuts in prop::collection::vec(0usize..41, 0..5),
            backwards: bool,
            capacity in 1usize..50,
        ) {
            let units = &empty[..keys.len()];
            let mut ends: Vec<usize> = cuts.into_iter().map(|cut| cut.min(keys.len())).collect();
            ends.extend([0, keys.len()]);
            ends.sort_unstable();
            let mut shards: Vec<_> = ends.windows(2).map(|pair| pair[0]..pair[1]).collect();
            if backwards {
                shards.reverse();
            }
            let cancel = Cancel::new();
            let mut clusters = Clusters::new(Cursor::new(Vec::new()), capacity);
            for shard in shards {
                let flat: Vec<u64> = keys[shard.clone()].concat();
                clusters.add(shard.start as u64, &flat, &units[shard], &cancel).unwrap();
            }
            prop_assert_eq!(clusters.finish(&cancel).unwrap(), components(&keys, units));
        }
    }
}
