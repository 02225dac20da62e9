//! From batches of rows to Gram matrices: rows are sorted by class, packed into tiles, multiplied.

use pulp::Arch;
use rayon::prelude::*;

use crate::class::Chain;
use crate::gram::{self, PANEL};
use crate::gram_single::{self, TILE, Tile};
use crate::{Error, Feature, Statistics};

/// Rows packed together in float64: two panels of them fit in the first-level cache.
pub(crate) const ROWS: usize = 128;
/// Values packed before the Gram matrices are updated (8 MiB in float64).
pub(crate) const PACKED: usize = 1 << 20;
/// Block rows of a Gram matrix that one task updates.
const GROUP: usize = 2;

/// Rows of a class that are packed, in their order.
enum Piece<'a> {
    Double(&'a [f64]),
    Single(Tile<'a>),
}

/// Rows of one class that become a tile in float32.
struct Job<'a> {
    slot: usize,
    /// The first of them, from batches before.
    waiting: &'a [f64],
    rows: &'a [usize],
    centre: &'a mut [f64],
    packed: &'a mut [f32],
    /// The rows in float64, where float32 cannot hold them.
    double: Vec<f64>,
}

/// What becomes of the new rows of a class.
#[derive(Clone, Copy)]
struct Share {
    /// Where they start in the rows sorted by class.
    start: usize,
    /// Multiplied in float64.
    exact: usize,
    /// With those that wait, multiples of `TILE`.
    tiled: usize,
    /// Wait for a tile to be full.
    left: usize,
}

impl Statistics {
    /// Adds rows of one part, at most `PACKED / dim` of them.
    pub(crate) fn add<T: Feature>(&mut self, x: &[T], labels: &[i64]) -> Result<(), Error> {
        let (dim, panels) = (self.dim, self.dim.div_ceil(PANEL));
        let slots = self.assign(x, labels)?;
        let (order, shares) = self.sort(&slots);
        let waiting: Vec<Vec<f64>> = self
            .chains
            .iter_mut()
            .zip(&shares)
            .map(|(c, share)| if share.tiled > 0 { std::mem::take(&mut c.waiting) } else { vec![] })
            .collect();

        let exact: usize = shares.iter().map(|share| share.exact).sum();
        let tiles: usize = shares
            .iter()
            .zip(&waiting)
            .map(|(share, waiting)| (share.tiled + waiting.len() / dim) / TILE)
            .sum();
        let mut packed = std::mem::take(&mut self.packed);
        packed.resize(packed.len().max(exact * panels * PANEL), 0.0);
        let mut packed_single = std::mem::take(&mut self.packed_single);
        packed_single.resize(packed_single.len().max(tiles * TILE * panels * PANEL), 0.0);
        let mut centres = vec![0.0; tiles * panels * PANEL];

        let mut doubles = Vec::new();
        let mut singles = Vec::new();
        let mut rest = packed.as_mut_slice();
        let mut tiles = centres
            .chunks_exact_mut(panels * PANEL)
            .zip(packed_single.chunks_exact_mut(TILE * panels * PANEL));
        for (slot, (share, waiting)) in shares.iter().zip(&waiting).enumerate() {
            let (exact, mut late) =
                order[share.start..][..share.exact + share.tiled].split_at(share.exact);
            for rows in exact.chunks(ROWS) {
                let (tile, tail) = rest.split_at_mut(rows.len() * panels * PANEL);
                doubles.push((slot, rows, tile));
                rest = tail;
            }
            let mut waiting = waiting.as_slice();
            while !late.is_empty() {
                let Some((centre, packed)) = tiles.next() else { break };
                let (rows, tail) = late.split_at(TILE - waiting.len() / dim);
                singles.push(Job { slot, waiting, rows, centre, packed, double: Vec::new() });
                (waiting, late) = (&[], tail);
            }
        }
        let chains = &self.chains;
        let refused = doubles
            .par_iter_mut()
            .filter_map(|(slot, rows, tile)| {
                let finite = Arch::new().dispatch(
                    #[inline(always)]
                    || pack(x, dim, rows, &chains[*slot].shift, tile),
                );
                if finite { None } else { find_not_finite(x, dim, rows) }
            })
            .min();
        let late = singles
            .par_iter_mut()
            .filter_map(|job| {
                let shift = &chains[job.slot].shift;
                let holds = Arch::new().dispatch(
                    #[inline(always)]
                    || pack_single(x, dim, shift, job),
                );
                if holds {
                    return None;
                }
                job.double = vec![0.0; TILE * panels * PANEL];
                pack_waiting(job.waiting, dim, TILE, &mut job.double);
                let before = job.waiting.len() / dim;
                for (r, &row) in (before..).zip(job.rows) {
                    let row = x[row * dim..][..dim].iter().zip(shift);
                    pack_row(
                        row.map(|(&value, shift)| value.into() - shift),
                        r,
                        TILE,
                        &mut job.double,
                    );
                }
                find_not_finite(x, dim, job.rows)
            })
            .min();
        let left = self.chains.par_iter_mut().zip(&shares).filter_map(|(chain, share)| {
            let rows = &order[share.start + share.exact + share.tiled..][..share.left];
            for &row in rows {
                let values = x[row * dim..][..dim].iter().zip(&chain.shift);
                chain.waiting.extend(values.map(|(&value, shift)| value.into() - shift));
            }
            find_not_finite(x, dim, rows)
        });
        let left = left.min();
        if let Some((row, feature)) = [refused, late, left].into_iter().flatten().min() {
            return Err(Error::NotFinite { row: self.first + self.rows + row as u64, feature });
        }
        self.rows += labels.len() as u64;

        let mut of_class: Vec<Vec<Piece<'_>>> = shares.iter().map(|_| Vec::new()).collect();
        for (slot, _, tile) in &doubles {
            of_class[*slot].push(Piece::Double(tile));
        }
        for job in &singles {
            of_class[job.slot].push(if job.double.is_empty() {
                Piece::Single(Tile { packed: job.packed, centre: job.centre })
            } else {
                Piece::Double(&job.double)
            });
        }
        let mut tasks: Vec<_> = self
            .chains
            .iter_mut()
            .zip(&of_class)
            .filter(|(_, pieces)| !pieces.is_empty())
            .flat_map(|(chain, pieces)| {
                chain.gram.chunks_mut(GROUP).enumerate().map(move |(g, rows)| (g, rows, pieces))
            })
            .collect();
        // The lower block rows are the longest: they start first.
        tasks.sort_by_key(|(group, ..)| std::cmp::Reverse(*group));
        tasks.into_par_iter().with_max_len(1).for_each(|(group, rows, pieces)| {
            for piece in pieces {
                match piece {
                    Piece::Double(tile) => gram::update(rows, group * GROUP, &[tile], panels),
                    Piece::Single(tile) => gram_single::update(rows, group * GROUP, tile),
                }
            }
        });
        self.packed = packed;
        self.packed_single = packed_single;
        Ok(())
    }

    /// Finds the class of each row, making those that are new.
    fn assign<T: Feature>(&mut self, x: &[T], labels: &[i64]) -> Result<Vec<usize>, Error> {
        let mut slots = Vec::with_capacity(labels.len());
        for (row, &label) in labels.iter().enumerate() {
            let slot = match self.slots.get(&label) {
                Some(&slot) => slot,
                None => {
                    self.check_memory(1)?;
                    let values = &x[row * self.dim..][..self.dim];
                    self.chains
                        .push(Chain::new(values.iter().map(|&value| value.into()).collect()));
                    self.labels.push(label);
                    self.slots.insert(label, self.chains.len() - 1);
                    self.chains.len() - 1
                }
            };
            slots.push(slot);
        }
        Ok(slots)
    }

    /// Rows class after class, and what becomes of those of each; counts them.
    fn sort(&mut self, slots: &[usize]) -> (Vec<usize>, Vec<Share>) {
        let mut counts = vec![0; self.chains.len()];
        for &slot in slots {
            counts[slot] += 1;
        }
        let mut start = 0;
        let mut shares = Vec::with_capacity(counts.len());
        for (chain, &count) in self.chains.iter_mut().zip(&counts) {
            let exact = self.exact_rows.saturating_sub(chain.count).min(count as u64) as usize;
            chain.count += count as u64;
            let before = chain.waiting.len() / self.dim;
            let late = count - exact;
            let tiled = ((before + late) / TILE * TILE).saturating_sub(before);
            shares.push(Share { start, exact, tiled, left: late - tiled });
            start += count;
        }
        let mut next: Vec<usize> = shares.iter().map(|share| share.start).collect();
        let mut order = vec![0; slots.len()];
        for (row, &slot) in slots.iter().enumerate() {
            order[next[slot]] = row;
            next[slot] += 1;
        }
        (order, shares)
    }
}

/// Adds rows that waited for a tile to be full, and will not see it.
pub(crate) fn add_waiting(waiting: &[f64], chain: &mut Chain) {
    let (dim, panels) = (chain.shift.len(), chain.gram.len());
    let rows = waiting.len() / dim;
    let mut tile = vec![0.0; rows * panels * PANEL];
    pack_waiting(waiting, dim, rows, &mut tile);
    gram::update(&mut chain.gram, 0, &[&tile], panels);
}

/// Writes rows that are shifted already to the start of a tile of `rows` rows.
fn pack_waiting(waiting: &[f64], dim: usize, rows: usize, tile: &mut [f64]) {
    for (r, row) in waiting.chunks_exact(dim).enumerate() {
        pack_row(row.iter().copied(), r, rows, tile);
    }
}

fn pack_row(values: impl Iterator<Item = f64>, r: usize, rows: usize, tile: &mut [f64]) {
    for (column, value) in values.enumerate() {
        tile[(column / PANEL * rows + r) * PANEL + column % PANEL] = value;
    }
}

#[inline(always)]
fn pack_single<T: Feature>(x: &[T], dim: usize, shift: &[f64], job: &mut Job<'_>) -> bool {
    let before = job.waiting.len() / dim;
    gram_single::pack(
        #[inline(always)]
        |r, at, out| {
            let width = PANEL.min(dim - at);
            if r < before {
                out[width..].fill(0.0);
                out[..width].copy_from_slice(&job.waiting[r * dim + at..][..width]);
                return;
            }
            let values = &x[job.rows[r - before] * dim + at..][..width];
            let shift = &shift[at..][..width];
            if let (Some(values), Some(shift)) =
                (values.first_chunk::<PANEL>(), shift.first_chunk::<PANEL>())
            {
                for column in 0..PANEL {
                    let value: f64 = values[column].into();
                    out[column] = value - shift[column];
                }
            } else {
                out[width..].fill(0.0);
                for ((out, &value), shift) in out.iter_mut().zip(values).zip(shift) {
                    *out = value.into() - shift;
                }
            }
        },
        job.centre,
        job.packed,
    )
}

/// Writes `x[rows] - shift` panel after panel, padding columns with zeros; false where a value is
/// not finite.
#[inline(always)]
fn pack<T: Feature>(x: &[T], dim: usize, rows: &[usize], shift: &[f64], tile: &mut [f64]) -> bool {
    let mut probe = [0.0; PANEL];
    for (panel, out) in tile.chunks_exact_mut(rows.len() * PANEL).enumerate() {
        let first = panel * PANEL;
        let width = PANEL.min(dim - first);
        let shift = &shift[first..][..width];
        for (&row, out) in rows.iter().zip(out.as_chunks_mut::<PANEL>().0) {
            let values = &x[row * dim + first..][..width];
            if let (Some(values), Some(shift)) =
                (values.first_chunk::<PANEL>(), shift.first_chunk::<PANEL>())
            {
                for column in 0..PANEL {
                    let value: f64 = values[column].into();
                    out[column] = value - shift[column];
                    // 0 for finite values, NaN for all others.
                    probe[column] += value * 0.0;
                }
            } else {
                out[width..].fill(0.0);
                for column in 0..width {
                    let value: f64 = values[column].into();
                    out[column] = value - shift[column];
                    probe[column] += value * 0.0;
                }
            }
        }
    }
    probe.iter().all(|&value| value == 0.0)
}

fn find_not_finite<T: Feature>(x: &[T], dim: usize, rows: &[usize]) -> Option<(usize, usize)> {
    rows.iter().find_map(|&row| {
        let values = &x[row * dim..][..dim];
        let feature = values.iter().position(|&value| !value.into().is_finite())?;
        Some((row, feature))
    })
}
