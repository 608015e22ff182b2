//! Sustained utilization out of a window of samples.
//!
//! A single sample says nothing: a compiler run or a log rotation makes any node hot for two seconds. The median of the
//! last few samples ignores such a burst entirely (up to half of the window), and unlike a mean it is a value that
//! the node really had, which makes it fit to be told to a person.

/// The median of the last `samples` of `window` (oldest first), ignoring what is not a finite number. `None` if nothing
/// is left. An even number of samples gives the lower middle one: doubt speaks against moving.
pub fn sustained(window: &[f64], samples: usize) -> Option<f64> {
    let last = &window[window.len().saturating_sub(samples.max(1))..];
    let mut finite: Vec<f64> = last.iter().copied().filter(|value| value.is_finite()).collect();
    finite.sort_by(f64::total_cmp);
    finite.get(finite.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_not_sustained() {
        assert_eq!(sustained(&[0.2, 0.99, 0.2], 3), Some(0.2));
        assert_eq!(sustained(&[0.2, 0.9, 0.9], 3), Some(0.9));
        assert_eq!(sustained(&[0.1, 0.1, 0.1, 0.9, 0.91, 0.88], 3), Some(0.9));
        assert_eq!(sustained(&[0.2, 0.9], 3), Some(0.2));
        assert_eq!(sustained(&[], 3), None);
        assert_eq!(sustained(&[f64::NAN, 0.5], 3), Some(0.5));
        assert_eq!(sustained(&[0.5], 0), Some(0.5));
    }
}
