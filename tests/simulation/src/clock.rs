//! The clock and the entropy of the simulated process: what the C library's `clock_gettime` and `getrandom` say on the
//! thread that simulates.
//!
//! Everything above them follows, in our code and in libraries: `Timestamp::now`, `Instant::now`, `Uuid::now_v7`, hash
//! maps' keys, the branch that `select!` looks at first, back-off's jitter. Other threads, the database's, see the real
//! ones. Monotonic time is tokio's paused clock; the wall clock is that plus an offset that faults change.
#![allow(unsafe_code, reason = "two functions of the C library are replaced")]

use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

thread_local! {
    static SIMULATED: Cell<bool> = const { Cell::new(false) };
}

/// Nanoseconds since the simulation began.
static NOW: AtomicU64 = AtomicU64::new(0);
/// How far the wall clock is off, in nanoseconds.
static OFF: AtomicI64 = AtomicI64::new(0);
static ENTROPY: AtomicU64 = AtomicU64::new(0);

/// Monotonic time at the beginning, in seconds: not 0, so that subtracting from it does not fail.
const BOOTED: u64 = 1_000_000;
/// Wall clock at the beginning, in seconds: 2027-01-15.
const BEGAN: i64 = 1_800_000_000;

/// From now on this thread lives in simulated time.
pub fn enter(seed: u64) {
    ENTROPY.store(seed, Ordering::Relaxed);
    SIMULATED.set(true);
}

/// So does a thread that simulated ones have made.
pub fn join() {
    SIMULATED.set(true);
}

/// This thread sees the real ones again.
pub fn leave() {
    SIMULATED.set(false);
}

/// Whether this thread lives in simulated time.
pub fn is_simulated() -> bool {
    SIMULATED.get()
}

/// Simulated time has come so far.
pub fn set(since_begin: Duration) {
    NOW.store(since_begin.as_nanos() as u64, Ordering::Relaxed);
}

/// How far simulated time has come.
pub fn now() -> Duration {
    Duration::from_nanos(NOW.load(Ordering::Relaxed))
}

/// The wall clock jumps.
pub fn jump(seconds: i64) {
    OFF.fetch_add(seconds * 1_000_000_000, Ordering::Relaxed);
}

/// The wall clock is right again.
pub fn set_right() {
    OFF.store(0, Ordering::Relaxed);
}

/// # Safety
/// `time` is null or valid for a write, as the C library asks for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> libc::c_int {
    let now = NOW.load(Ordering::Relaxed);
    let nanos = match clock {
        libc::CLOCK_MONOTONIC | libc::CLOCK_MONOTONIC_COARSE | libc::CLOCK_BOOTTIME if SIMULATED.get() => {
            (BOOTED * 1_000_000_000 + now) as i64
        }
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE if SIMULATED.get() => {
            BEGAN * 1_000_000_000 + now as i64 + OFF.load(Ordering::Relaxed)
        }
        // SAFETY: the system call takes what we were given.
        _ => return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) } as libc::c_int,
    };
    let value = libc::timespec { tv_sec: nanos / 1_000_000_000, tv_nsec: nanos % 1_000_000_000 };
    // SAFETY: the caller's promise.
    unsafe { time.write(value) };
    0
}

/// # Safety
/// `buffer` is valid for writes of `length` bytes, as the C library asks for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(
    buffer: *mut libc::c_void,
    length: libc::size_t,
    flags: libc::c_uint,
) -> libc::ssize_t {
    if !SIMULATED.get() {
        // SAFETY: the system call takes what we were given.
        return unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) } as libc::ssize_t;
    }
    if buffer.is_null() {
        return 0; // asked only whether it is there
    }
    // SAFETY: the caller's promise.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    for chunk in bytes.chunks_mut(8) {
        // SplitMix64.
        let mut word = ENTROPY.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        chunk.copy_from_slice(&(word ^ (word >> 31)).to_ne_bytes()[..chunk.len()]);
    }
    length as libc::ssize_t
}
