//! The figures: as a table of medians, and every one of them as JSON.

use std::fmt;

use fog_api::agent::Stage;
use fog_api::migration::Strategy;
use fog_lab::{CgroupVersion, Suite};
use serde::Serialize;

use crate::moves::Size;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    suite: Suite,
    cgroup: CgroupVersion,
    strategy: Strategy,
    kernel: String,
    cpus: usize,
    sizes: Vec<Size>,
}

impl Report {
    pub fn new((suite, cgroup, strategy): (Suite, CgroupVersion, Strategy), sizes: Vec<Size>) -> Report {
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        Report { suite, cgroup, strategy, kernel, cpus, sizes }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}, {}, cgroup {}, Linux {}, {} CPUs; milliseconds",
            self.strategy, self.suite, self.cgroup, self.kernel, self.cpus
        )?;
        for size in &self.sizes {
            let moves = &size.moves;
            writeln!(
                f,
                "\n{:<34}{:>8}{:>8}{:>8}",
                format!("{} MiB, {} moves", size.mib, moves.len()),
                "min",
                "median",
                "max"
            )?;
            let gap = Spread::of(moves.iter().map(|one| one.gap_ms));
            let bare = Spread::of(size.bare.iter().map(|one| one.gap_ms));
            line(f, "gap in the workload", &gap)?;
            line(f, "downtime on the record", &Spread::of(moves.iter().filter_map(|one| one.migration.downtime_ms)))?;
            for stage in [
                Stage::PreCopy,
                Stage::Freeze,
                Stage::Dump,
                Stage::Ship,
                Stage::Verify,
                Stage::Restore,
                Stage::Drain,
                Stage::Resume,
            ] {
                let took = moves.iter().filter_map(|one| one.migration.stages_ms.get(&stage).copied());
                line(f, &format!("  {stage:?}").to_lowercase(), &Spread::of(took))?;
            }
            line(f, "gap with bare criu dump + restore", &bare)?;
            line(f, "  dump", &Spread::of(size.bare.iter().map(|one| one.dump_ms)))?;
            line(f, "  restore", &Spread::of(size.bare.iter().map(|one| one.restore_ms)))?;
            writeln!(f, "{:<34}{:>16.2}", "ratio of the medians", gap.median / bare.median)?;
        }
        Ok(())
    }
}

fn line(f: &mut fmt::Formatter<'_>, what: &str, spread: &Spread) -> fmt::Result {
    writeln!(f, "{what:<34}{:>8.1}{:>8.1}{:>8.1}", spread.min, spread.median, spread.max)
}

/// Where the values lie; not a number when there are none.
pub struct Spread {
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

impl Spread {
    pub fn of(values: impl Iterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let (last, middle) = (values.len().saturating_sub(1), values.len() / 2);
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(at(middle.saturating_sub(1)), at(middle))
        } else {
            at(middle)
        };
        Spread { min: at(0), median, max: at(last) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads() {
        let spread = Spread::of([3.0, 1.0, 2.0, 10.0].into_iter());
        assert_eq!((spread.min, spread.median, spread.max), (1.0, 2.5, 10.0));
        assert_eq!(Spread::of([5.0].into_iter()).median, 5.0);
        assert!(Spread::of(std::iter::empty()).median.is_nan());
    }
}
