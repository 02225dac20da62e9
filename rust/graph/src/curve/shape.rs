//! Where a curve is convex, where concave, and where there is none.

use crate::enclosure::angle::{self, nearest, quarter};
use crate::enclosure::range::Range;

/// How a curve bends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    /// Convex and concave by turns. Each turn lies between two floats, which differ only where
    /// the derivative is nowhere larger than 2.
    Turns { at: &'static [Range], convex_first: bool },
    /// As sine and cosine: a turn at every other multiple of `π/2`, and convex behind those that
    /// leave the remainder `convex` when divided by 4. The derivative is nowhere larger than 1.
    Waves { convex: i64 },
}

/// The numbers a curve is defined for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Domain {
    All,
    Positive,
    NotNegative,
    NotZero,
}

impl Domain {
    /// Whether all of `[l, u]` belongs to it.
    pub fn holds(self, l: f64, u: f64) -> bool {
        match self {
            Self::All => !(l.is_nan() || u.is_nan()),
            Self::Positive => l > 0.0,
            Self::NotNegative => l >= 0.0,
            Self::NotZero => l > 0.0 || u < 0.0,
        }
    }
}

/// A part of an interval where a curve is convex, or concave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Piece {
    pub low: f64,
    pub high: f64,
    pub convex: bool,
}

/// Most pieces that lines are looked for on.
const MOST: usize = 6;

/// The pieces of one interval, in order; between them there is nothing, or what lies between the
/// two floats around a turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pieces {
    all: [Piece; MOST],
    count: usize,
}

impl std::ops::Deref for Pieces {
    type Target = [Piece];

    fn deref(&self) -> &[Piece] {
        &self.all[..self.count]
    }
}

impl Pieces {
    fn push(&mut self, l: f64, u: f64, turns: Range, convex: bool) -> Option<()> {
        let (low, high) = (l.max(turns.0), u.min(turns.1));
        if low < high || (low == high && l == u && self.count == 0) {
            *self.all.get_mut(self.count)? = Piece { low, high, convex };
            self.count += 1;
        }
        Some(())
    }
}

impl Shape {
    /// `None` where they are too many to tell. The interval is finite; `flipped` takes convex
    /// for concave.
    pub(super) fn pieces(&self, l: f64, u: f64, flipped: bool) -> Option<Pieces> {
        let none = Piece { low: 0.0, high: 0.0, convex: false };
        let mut pieces = Pieces { all: [none; MOST], count: 0 };
        match *self {
            Self::Turns { at, convex_first } => {
                let (mut from, mut convex) = (f64::NEG_INFINITY, convex_first != flipped);
                for turn in at.iter().copied().chain([(f64::INFINITY, f64::INFINITY)]) {
                    pieces.push(l, u, (from, turn.0), convex)?;
                    (from, convex) = (turn.1, !convex);
                }
            }
            Self::Waves { convex } => {
                if !(l.abs() <= angle::LARGEST && u.abs() <= angle::LARGEST && u - l < 20.0) {
                    return None;
                }
                let (first, last) = (nearest(l) as i64 - 3, nearest(u) as i64 + 1);
                for turn in (first..=last).filter(|turn| (turn - convex).rem_euclid(2) == 0) {
                    let bent = ((turn - convex).rem_euclid(4) == 0) != flipped;
                    let ends = (quarter(turn as f64).1, quarter((turn + 2) as f64).0);
                    pieces.push(l, u, ends, bent)?;
                }
            }
        }
        Some(pieces)
    }
}
