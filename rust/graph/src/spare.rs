//! Workspaces a graph keeps between calls, so that small calls allocate only their results.

use std::any::Any;
use std::sync::{Mutex, PoisonError};

use aisec_numeric::Scalar;

use crate::Workspace;

/// Workspaces larger than this are freed after use.
const LARGEST_KEPT: usize = 64 << 20;

/// As many workspaces, of either precision, as have been in use at once.
#[derive(Debug, Default)]
pub(crate) struct Spare(Mutex<Vec<Box<dyn Any + Send>>>);

impl Spare {
    /// Runs `work` with a workspace nobody else uses.
    pub fn with<T: Scalar, R>(&self, work: impl FnOnce(&mut Workspace<T>) -> R) -> R {
        let mut workspace = self.take().unwrap_or_default();
        let result = work(&mut workspace);
        if workspace.bytes() <= LARGEST_KEPT {
            self.lock().push(workspace);
        }
        result
    }

    fn take<T: Scalar>(&self) -> Option<Box<Workspace<T>>> {
        let mut kept = self.lock();
        let at = kept.iter().position(|workspace| workspace.is::<Workspace<T>>())?;
        kept.swap_remove(at).downcast().ok()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Box<dyn Any + Send>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
