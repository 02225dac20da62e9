//! Re-checks what an ensemble's votes are said to prove of poisoned training data.
//!
//! A claim is a class and a number of poisoned buckets (of samples, for bagging). The checker
//! decides whether so many can change the election, by the greedy choice of the worst buckets for
//! every way there is to lose; it searches for no radius. Between equal counts the smaller class
//! wins, everywhere.

mod bagging;
mod election;

use std::fmt;

pub use bagging::{Draws, check_bagging};
pub use election::{Buckets, check_plurality, check_run_off};

/// What is said of one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VoteClaim {
    pub class: i64,
    /// Poison that cannot change the class; negative where nothing is claimed but the class.
    pub radius: i64,
}

/// Why a claim is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VoteFault {
    /// The votes elect another class.
    Elected(usize),
    /// More buckets than there are.
    Buckets(usize),
    /// So much poison can put this class ahead, or the bound does not exclude it.
    Rival(usize),
    /// So much poison can keep the class out of the run-off.
    KeptOut(usize, usize),
}

impl fmt::Display for VoteFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Elected(class) => write!(f, "the votes elect class {class}"),
            Self::Buckets(count) => write!(f, "the radius exceeds the {count} buckets there are"),
            Self::Rival(class) => write!(f, "so much poison may put class {class} ahead"),
            Self::KeptOut(one, other) => {
                write!(f, "so much poison may put classes {one} and {other} into the run-off")
            }
        }
    }
}

#[cfg(test)]
mod tests;
