//! Waiting for a condition instead of sleeping for a guess: the caller says what it waits for and
//! for how long at most, and a failure names what never came true.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const POLL: Duration = Duration::from_millis(20);

/// Polls `condition` until it answers `Some`, fails, or `deadline` has passed.
///
/// `awaited` completes the sentence "waited 10 s in vain for …".
pub fn wait_until<T>(deadline: Duration, awaited: &str, mut condition: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if start.elapsed() >= deadline {
            bail!("waited {:.1} s in vain for {awaited}", deadline.as_secs_f64());
        }
        sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_the_value_once_it_is_there() {
        let mut calls = 0;
        let value = wait_until(Duration::from_secs(5), "the third call", || {
            calls += 1;
            Ok((calls == 3).then_some(calls))
        });
        assert_eq!(value.expect("third call answers"), 3);
    }

    #[test]
    fn names_what_never_came() {
        let error = wait_until::<()>(Duration::from_millis(1), "the moon", || Ok(None)).expect_err("never true");
        assert!(error.to_string().contains("the moon"), "{error}");
    }
}
