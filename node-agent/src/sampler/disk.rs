//! Disk: how full the file system under Docker's data is.

use std::path::Path;

/// Used and free space of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that anyone may still write; root's reserve is left out.
    pub free_bytes: u64,
    /// Bytes in use.
    pub used_bytes: u64,
}

impl Space {
    /// The file system that holds `path`, or its nearest parent that exists.
    pub fn of(path: &Path) -> Option<Self> {
        let stat = path.ancestors().find_map(|existing| rustix::fs::statvfs(existing).ok())?;
        let blocks = |count: u64| count.saturating_mul(stat.f_frsize);
        Some(Self { free_bytes: blocks(stat.f_bavail), used_bytes: blocks(stat.f_blocks.saturating_sub(stat.f_bfree)) })
    }

    /// What is used and what may still be, in steps: some file systems count a little differently every time.
    pub fn usable_bytes(self) -> u64 {
        const STEP: u64 = 64 << 20;
        self.free_bytes.saturating_add(self.used_bytes) / STEP * STEP
    }

    /// Used as a fraction of what is usable, as `df` counts it.
    pub fn fraction(self) -> f64 {
        let usable = self.free_bytes.saturating_add(self.used_bytes);
        if usable == 0 { 0.0 } else { self.used_bytes as f64 / usable as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_path_stands_for_its_parent() {
        let space = Space::of(Path::new("/no/such/place")).expect("root exists");
        assert!(space.usable_bytes() > space.used_bytes);
        assert!(space.fraction() > 0.0 && space.fraction() < 1.0);
    }
}
