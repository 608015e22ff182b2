//! Pressure stall information: how long tasks waited, `some` of the last 10 s.

use std::path::PathBuf;

use fog_api::agent::Pressure;
use procfs::{CpuPressure, FromRead, IoPressure, MemoryPressure};

use super::cgroup::{Cgroups, Membership};
use crate::config::Scope;

/// The node's pressure; `None` where the kernel does not measure it. A confined node reads its own cgroup's and never
/// the machine's, which tells of its neighbours.
pub(super) fn read(scope: Scope, cgroups: &Cgroups) -> Option<Pressure> {
    let file = |resource: &str| -> Option<PathBuf> {
        match scope {
            Scope::Host => Some(format!("/proc/pressure/{resource}").into()),
            Scope::Cgroup => cgroups.pressure_file(&Membership::root(), resource),
        }
    };
    Some(Pressure {
        cpu: fraction(CpuPressure::from_file(file("cpu")?).ok()?.some.avg10),
        memory: fraction(MemoryPressure::from_file(file("memory")?).ok()?.some.avg10),
        io: fraction(IoPressure::from_file(file("io")?).ok()?.some.avg10),
    })
}

fn fraction(percent: f32) -> f64 {
    (f64::from(percent) / 100.0).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn psi() {
        let text =
            "some avg10=25.00 avg60=1.31 avg300=1.88 total=18443910\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
        let pressure = CpuPressure::from_read(text.as_bytes()).expect("parses");
        assert_eq!(fraction(pressure.some.avg10), 0.25);
        assert_eq!(fraction(250.0), 1.0);
    }
}
