//! Work that takes long without waiting for anything, on a thread of its own.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::{JoinError, spawn_blocking};

/// Runs it where it holds nobody up. In a runtime of one thread, a test's or the simulation's, it runs in its turn, so
/// that no other thread changes the order of things.
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return Ok(work());
    }
    spawn_blocking(work).await
}
