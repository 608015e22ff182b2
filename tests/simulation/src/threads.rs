//! The database's threads, one at a time and only while the simulation waits: so that nothing depends on how fast they are.
//!
//! Two functions of the C library are replaced for the process that simulates. A thread that it makes (`pthread_create`)
//! is ours: it runs when it is its turn, until it waits for something (`syscall`, of which every wait and wake-up of the
//! standard library is one: a futex) or ends; then the simulation goes on. A wake-up makes it ready for another turn. The
//! order of the turns is that of the threads' making. Threads of the process that starts the simulations are none of ours.
#![allow(unsafe_code, reason = "functions of the C library are replaced")]

use std::cell::Cell;
use std::ffi::{CStr, c_int, c_long, c_void};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::clock;

/// A thread of ours.
#[derive(Default)]
struct Thread {
    /// 1: it may run.
    turn: AtomicU32,
    /// The futex that it waits at; 0: it is ready.
    waits_at: AtomicUsize,
    ended: AtomicBool,
}

thread_local! {
    static ME: Cell<Option<&'static Thread>> = const { Cell::new(None) };
}

/// Whoever has the turn looks and changes, so this is never waited for.
static THREADS: Mutex<Vec<&'static Thread>> = Mutex::new(Vec::new());
/// 1: the simulation may go on.
static BACK: AtomicU32 = AtomicU32::new(0);

fn threads() -> Vec<&'static Thread> {
    let mut threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    threads.retain(|thread| !thread.ended.load(Ordering::Acquire));
    threads.clone()
}

/// Lets threads that are ready run, each in its turn, until all wait.
pub fn run_until_all_wait() {
    while run_a_round() {}
}

/// Every thread that is ready has one turn. False: none was.
fn run_a_round() -> bool {
    let mut ran = false;
    for thread in threads() {
        if thread.waits_at.load(Ordering::Acquire) == 0 {
            ran = true;
            give(&thread.turn);
            take(&BACK);
        }
    }
    ran
}

fn give(turn: &AtomicU32) {
    turn.store(1, Ordering::Release);
    // SAFETY: the address of a word that lives for ever.
    unsafe { real_syscall()(libc::SYS_futex, turn.as_ptr() as c_long, WAKE | PRIVATE, 1, 0, 0, 0) };
}

fn take(turn: &AtomicU32) {
    while turn.swap(0, Ordering::Acquire) == 0 {
        // SAFETY: the address of a word that lives for ever.
        unsafe { real_syscall()(libc::SYS_futex, turn.as_ptr() as c_long, WAIT | PRIVATE, 0, 0, 0, 0) };
    }
}

const WAIT: c_long = libc::FUTEX_WAIT as c_long;
const WAKE: c_long = libc::FUTEX_WAKE as c_long;
const WAIT_BITSET: c_long = libc::FUTEX_WAIT_BITSET as c_long;
const PRIVATE: c_long = libc::FUTEX_PRIVATE_FLAG as c_long;
const OPERATION: c_long = 0x7f;

type Syscall = unsafe extern "C" fn(c_long, c_long, c_long, c_long, c_long, c_long, c_long) -> c_long;
type Start = extern "C" fn(*mut c_void) -> *mut c_void;
type Create = unsafe extern "C" fn(*mut libc::pthread_t, *const libc::pthread_attr_t, Start, *mut c_void) -> c_int;

/// The C library's own function of that name.
fn real(name: &CStr, kept: &AtomicUsize) -> usize {
    let mut address = kept.load(Ordering::Relaxed);
    if address == 0 {
        // SAFETY: a name that ends with a zero.
        address = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) } as usize;
        assert!(address != 0, "the C library has no {name:?}");
        kept.store(address, Ordering::Relaxed);
    }
    address
}

fn real_syscall() -> Syscall {
    static KEPT: AtomicUsize = AtomicUsize::new(0);
    // SAFETY: it takes a number and up to six words, and looks at those that the number asks for.
    unsafe { std::mem::transmute::<usize, Syscall>(real(c"syscall", &KEPT)) }
}

fn real_create() -> Create {
    static KEPT: AtomicUsize = AtomicUsize::new(0);
    // SAFETY: that is its type.
    unsafe { std::mem::transmute::<usize, Create>(real(c"pthread_create", &KEPT)) }
}

/// # Safety
/// As the C library's `syscall`, whose further words are passed on unseen.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syscall(
    number: c_long,
    one: c_long,
    two: c_long,
    three: c_long,
    four: c_long,
    five: c_long,
    six: c_long,
) -> c_long {
    let go_on = || {
        // SAFETY: the caller's promise.
        unsafe { real_syscall()(number, one, two, three, four, five, six) }
    };
    if number != libc::SYS_futex || !clock::is_simulated() {
        return go_on();
    }
    match two & OPERATION {
        WAIT | WAIT_BITSET => {
            let differs = || {
                // SAFETY: the caller gives the address of the word.
                unsafe { (*(one as *const AtomicU32)).load(Ordering::SeqCst) != three as u32 }
            };
            if let Some(me) = ME.get() {
                if !differs() {
                    me.waits_at.store(one as usize, Ordering::Release);
                    give(&BACK);
                    take(&me.turn);
                    return 0;
                }
            } else {
                // The simulation itself waits for one of them, if it waits at all.
                while !differs() {
                    if !run_a_round() {
                        return go_on();
                    }
                }
            }
            // SAFETY: this thread's own.
            unsafe { *libc::__errno_location() = libc::EAGAIN };
            -1
        }
        WAKE => {
            let mut woken = 0;
            for thread in threads() {
                if woken < three && thread.waits_at.load(Ordering::Acquire) == one as usize {
                    thread.waits_at.store(0, Ordering::Release);
                    woken += 1;
                }
            }
            woken
        }
        _ => go_on(),
    }
}

struct Begin {
    start: Start,
    argument: *mut c_void,
    thread: &'static Thread,
}

extern "C" fn begin(begin: *mut c_void) -> *mut c_void {
    // SAFETY: made below, for this thread alone.
    let Begin { start, argument, thread } = *unsafe { Box::from_raw(begin.cast::<Begin>()) };
    take(&thread.turn);
    clock::join();
    ME.set(Some(thread));
    let result = start(argument);
    // What the C library still does at a thread's end is not simulated.
    ME.set(None);
    clock::leave();
    thread.ended.store(true, Ordering::Release);
    give(&BACK);
    result
}

/// # Safety
/// As the C library's `pthread_create`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_create(
    made: *mut libc::pthread_t,
    attributes: *const libc::pthread_attr_t,
    start: Start,
    argument: *mut c_void,
) -> c_int {
    if !clock::is_simulated() {
        // SAFETY: the caller's promise.
        return unsafe { real_create()(made, attributes, start, argument) };
    }
    let thread: &'static Thread = Box::leak(Box::default());
    let ours = Box::into_raw(Box::new(Begin { start, argument, thread }));
    // SAFETY: the caller's promise; `begin` takes what is ours.
    let result = unsafe { real_create()(made, attributes, begin, ours.cast()) };
    if result == 0 {
        THREADS.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
    } else {
        // SAFETY: no thread has taken it.
        drop(unsafe { Box::from_raw(ours) });
    }
    result
}
