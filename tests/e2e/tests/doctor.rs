//! `fog-agent doctor` on real hosts: it names what is missing, and `--fix` mends what is safe without stopping a container.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::process;

use fog_e2e::looper;
use fog_lab::{Lab, LabConfig, LabGuard, Node, Suite};

fn doctor(node: &Node, options: &[&str]) -> (i32, String) {
    let output = node.exec(&[&["/usr/local/bin/fog-agent", "doctor"][..], options].concat()).unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn the_doctor_finds_a_missing_runtime_and_registers_it() {
    let mut config = LabConfig::new(&format!("doctor-{}", process::id()), &["A", "B"]);
    config.bin_dir = Some(fog_e2e::cluster::programs().unwrap());
    config.nodes[1].suite = Suite::Forky;
    let lab = LabGuard::new(Lab::up(config, &mut |line| eprintln!("doctor: {line}")).unwrap());
    for node in lab.nodes() {
        let (status, said) = doctor(node, &[]);
        eprintln!("{}:\n{said}", node.name());
        assert_eq!(status, 0, "a node of the lab can migrate: {said}");

        looper::run(node, "bystander", &[]).unwrap();
        let process = node.run(&["docker", "inspect", "--format", "{{.State.Pid}}", "bystander"]).unwrap();
        node.write_file(
            "/etc/docker/daemon.json",
            r#"{"log-level": "warn", "runtimes": {"other": {"path": "/usr/bin/runc"}}}"#,
        )
        .unwrap();
        node.run(&["sh", "-c", "kill -HUP $(cat /var/run/docker.pid)"]).unwrap();
        let forgotten = fog_lab::wait_until(fog_e2e::cluster::DEADLINE, "dockerd to forget the runtime", || {
            Ok((!node.run(&["docker", "info", "--format", "{{json .Runtimes}}"])?.contains("fog-runc")).then_some(()))
        });
        forgotten.unwrap();
        let (status, said) = doctor(node, &["--output", "json"]);
        assert_eq!(status, 1, "{said}");
        assert!(said.contains("runtime fog") && said.contains("--fix"), "{said}");

        let (status, said) = doctor(node, &["--fix"]);
        eprintln!("{} --fix:\n{said}", node.name());
        assert_eq!(status, 0, "{said}");
        let daemon = node.run(&["cat", "/etc/docker/daemon.json"]).unwrap();
        assert!(
            ["warn", "other", "fog-runc"].iter().all(|word| daemon.contains(word)),
            "what was there is kept: {daemon}"
        );
        assert_eq!(node.run(&["docker", "inspect", "--format", "{{.State.Pid}}", "bystander"]).unwrap(), process);
    }
}
