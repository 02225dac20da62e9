//! Cooperative cancellation of long calls.

use std::sync::atomic::{AtomicBool, Ordering};

/// Set by the caller, polled by the engines between units of work.
#[derive(Debug, Default)]
pub struct Cancel(AtomicBool);

/// The call was cancelled; whatever it had computed is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancelled;

impl Cancel {
    pub const fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn check(&self) -> Result<(), Cancelled> {
        if self.0.load(Ordering::Relaxed) { Err(Cancelled) } else { Ok(()) }
    }
}
