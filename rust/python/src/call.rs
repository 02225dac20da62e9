//! How every binding enters Rust: the thread pool, the GIL, Ctrl-C.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, LazyLock, RwLock};
use std::time::{Duration, Instant};

use aisec_numeric::Cancel;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

const POLL: Duration = Duration::from_millis(50);

/// `RAYON_NUM_THREADS` threads, or one per processor this process may run on.
static POOL: LazyLock<RwLock<Arc<ThreadPool>>> = LazyLock::new(|| {
    let threads = std::env::var("RAYON_NUM_THREADS")
        .ok()
        .and_then(|value| value.parse().ok())
        .filter(|&threads: &usize| threads > 0)
        .or_else(|| std::thread::available_parallelism().ok().map(usize::from))
        .unwrap_or(1);
    RwLock::new(Arc::new(build_pool(threads).expect("a thread pool can be built")))
});

fn build_pool(threads: usize) -> Result<ThreadPool, rayon::ThreadPoolBuildError> {
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("aisec-{index}"))
        .build()
}

fn pool() -> Arc<ThreadPool> {
    POOL.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
}

/// Runs short parallel work on the pool with the GIL released.
pub(crate) fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> T {
    py.detach(|| pool().install(work))
}

/// Runs long work on the pool with the GIL released; Ctrl-C cancels it and is re-raised.
///
/// The work runs on a pool thread while the calling thread polls Python's signal handlers, so
/// handlers run where Python expects them.
pub(crate) fn interruptible<T: Send>(
    py: Python<'_>,
    work: impl FnOnce(&Cancel) -> T + Send,
) -> PyResult<T> {
    interruptible_within(py, None, work)
}

/// [`interruptible`], and cancelled once `limit` has passed.
pub(crate) fn interruptible_within<T: Send>(
    py: Python<'_>,
    limit: Option<Duration>,
    work: impl FnOnce(&Cancel) -> T + Send,
) -> PyResult<T> {
    let start = Instant::now();
    let cancel = Cancel::new();
    let pool = pool();
    let (sender, receiver) = channel();
    std::thread::scope(|scope| {
        let cancel = &cancel;
        let handle = scope.spawn(move || {
            let result = pool.install(|| work(cancel));
            // The receiver lives until this thread is joined.
            let _ = sender.send(());
            result
        });
        let mut interrupt = None;
        // `Receiver` is not `Sync`; a mutable reborrow makes the closure `Send`.
        let mut receiver = receiver;
        loop {
            let receiver = &mut receiver;
            let waited = py.detach(move || receiver.recv_timeout(POLL));
            match waited {
                Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    if interrupt.is_none()
                        && let Err(error) = py.check_signals()
                    {
                        cancel.cancel();
                        interrupt = Some(error);
                    }
                    if limit.is_some_and(|limit| start.elapsed() >= limit) {
                        cancel.cancel();
                    }
                }
            }
        }
        let result = py.detach(|| handle.join());
        match (interrupt, result) {
            (Some(error), _) => Err(error),
            (None, Ok(value)) => Ok(value),
            (None, Err(_)) => Err(PyRuntimeError::new_err(
                "internal error: a native worker panicked; please report it with the input",
            )),
        }
    })
}

/// Sets how many threads native calls use from now on.
#[pyfunction]
fn set_threads(threads: usize) -> PyResult<()> {
    if threads == 0 {
        return Err(PyValueError::new_err("threads must be at least 1, got 0"));
    }
    let built = build_pool(threads).map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
    *POOL.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(built);
    Ok(())
}

/// How many threads native calls use.
#[pyfunction]
fn get_threads() -> usize {
    pool().current_num_threads()
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(set_threads, module)?)?;
    module.add_function(wrap_pyfunction!(get_threads, module)?)
}
