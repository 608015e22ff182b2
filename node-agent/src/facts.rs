//! What the node is, as opposed to what it does at the moment.

use std::time::Duration;

use fog_api::agent::NodeFacts;

use crate::config::Config;
use crate::doctor;
use crate::sampler::{Capacity, Cgroups, Space};
use crate::tools;

/// How often an agent that is connected looks whether its facts have changed.
pub const REFRESH: Duration = Duration::from_secs(60);

/// Collects the facts. Runs a few programs, so it takes a moment.
pub async fn collect(config: &Config) -> NodeFacts {
    let cgroups = Cgroups::detect();
    let capacity = Capacity::of(config, &cgroups);
    let uname = rustix::system::uname();
    let findings = doctor::examine(config).await;
    NodeFacts {
        arch: uname.machine().to_string_lossy().into_owned(),
        kernel: uname.release().to_string_lossy().into_owned(),
        cpus: capacity.cpus,
        // A benchmark of a moment says more about the neighbours than about the core.
        cpu_score: 1.0,
        memory_bytes: capacity.memory_bytes,
        disk_bytes: findings.docker_data.as_deref().and_then(Space::of).map(Space::usable_bytes),
        cpu_features: cpu_features(&std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
        cgroup: cgroups.layout.map_or_else(|| "none".to_owned(), |layout| layout.to_string()),
        docker: findings.docker_version.clone(),
        criu: tools::criu_version().await.map(|version| version.text),
        runc: tools::runc_version().await.map(|version| version.text),
        labels: config.labels.clone(),
        cannot_migrate: findings.reasons_against(),
    }
}

/// What a program may find out about an x86 CPU and then depend on: instruction sets. The rest of the flags are about
/// the kernel, virtualisation and defects, and differ between machines that run the same programs.
const INSTRUCTION_SETS: [&str; 44] = [
    "abm",
    "adx",
    "aes",
    "avx",
    "avx2",
    "bmi1",
    "bmi2",
    "cldemote",
    "clflushopt",
    "clwb",
    "cmov",
    "cx16",
    "cx8",
    "erms",
    "f16c",
    "fma",
    "fma4",
    "fsgsbase",
    "fsrm",
    "fxsr",
    "gfni",
    "lahf_lm",
    "mmx",
    "movbe",
    "movdir64b",
    "movdiri",
    "pclmulqdq",
    "pku",
    "popcnt",
    "rdpid",
    "rdrand",
    "rdseed",
    "rdtscp",
    "sha_ni",
    "sse",
    "sse2",
    "ssse3",
    "tbm",
    "vaes",
    "vpclmulqdq",
    "waitpkg",
    "xsave",
    "xsavec",
    "xsaveopt",
];

fn cpu_features(cpuinfo: &str) -> Vec<String> {
    let line = |key: &str| {
        let lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(name, _)| name.trim() == key).map(|(_, flags)| flags).next()
    };
    let counts = |flag: &str| {
        INSTRUCTION_SETS.contains(&flag)
            || ["sse4", "avx512", "avx_", "amx_", "xop"].iter().any(|p| flag.starts_with(p))
    };
    let mut features: Vec<String> = match (line("flags"), line("Features")) {
        (Some(flags), _) => flags.split_whitespace().filter(|flag| counts(flag)).map(str::to_owned).collect(),
        (None, Some(features)) => features.split_whitespace().map(str::to_owned).collect(),
        (None, None) => Vec::new(),
    };
    features.sort();
    features.dedup();
    features
}

#[cfg(test)]
mod tests {
    use super::cpu_features;

    #[test]
    fn only_what_a_program_can_depend_on_counts() {
        let x86 = "processor\t: 0\nflags\t\t: fpu sse sse4_2 avx512f hypervisor constant_tsc avx2\n\nflags\t: other\n";
        assert_eq!(cpu_features(x86), ["avx2", "avx512f", "sse", "sse4_2"]);
        assert_eq!(cpu_features("Features\t: fp asimd aes\n"), ["aes", "asimd", "fp"]);
        assert_eq!(cpu_features("model name : ?\n"), Vec::<String>::new());
    }
}
