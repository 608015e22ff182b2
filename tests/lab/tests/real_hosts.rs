//! The lab on this machine for real: needs root, debootstrap and a minute. `cargo test -p fog-lab -- --ignored`

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use fog_lab::{CgroupVersion, Lab, LabConfig, LabGuard, Suite, images, wait_until};

const LIMIT: Duration = Duration::from_secs(20);

fn lab(instance: &str) -> Result<LabGuard> {
    let config = LabConfig::new(&format!("{instance}-{}", std::process::id()), &["A", "B"])
        .programs(false)
        .node("A", |node| node.cpus = Some(0.5))
        .node("B", |node| {
            node.suite = Suite::Forky;
            node.cgroup = Some(CgroupVersion::V2);
            node.link = "delay=20ms,jitter=1ms".parse().expect("a link");
        });
    Ok(LabGuard::new(Lab::up(config, &mut |line| eprintln!("{line}"))?))
}

fn reaches(lab: &Lab, from: &str, to: &str) -> Result<bool> {
    let address = lab.node(to).address();
    Ok(lab.node(from).exec(&["busybox", "ping", "-c", "1", "-W", "1", address])?.status.success())
}

#[test]
#[ignore = "needs root and debootstrap: `make e2e` runs it"]
fn nodes_are_hosts_with_the_same_image_and_own_faults() -> Result<()> {
    let lab = lab("test-faults")?;
    let (a, b) = (lab.node("A"), lab.node("B"));

    let id = |node: &fog_lab::Node| node.run(&["docker", "image", "inspect", "--format", "{{.Id}}", images::BUSYBOX]);
    ensure!(id(a)? == id(b)?, "one image, one ID");
    for node in [a, b] {
        node.run(&["docker", "run", "--detach", "--name", "looper", images::BUSYBOX])?;
        wait_until(LIMIT, "three numbers in the log", || {
            Ok(node.run(&["docker", "logs", "looper"])?.starts_with("0\n1\n2").then_some(()))
        })?;
    }
    let image = images::ImageBuilder::new("fog/jq:1").program(a.rootfs(), "usr/bin/jq")?.command(&["jq"]).build()?;
    lab.load_image(&image)?;
    for node in [a, b] {
        ensure!(node.run(&["docker", "run", "--rm", "fog/jq:1", "/usr/bin/jq", "-n", "1 + 1"])? == "2");
    }
    let failed = a.run(&["sh", "-c", "echo reason >&2; exit 3"]).expect_err("exit status 3");
    ensure!(failed.to_string().contains("reason"), "{failed}");
    ensure!(a.run_with_input(&["cat"], b"through")? == "through");

    ensure!(reaches(&lab, "A", "B")?);
    lab.cut("B")?;
    ensure!(!reaches(&lab, "A", "B")?);
    lab.heal("B")?;
    wait_until(LIMIT, "B to be back", || Ok(reaches(&lab, "A", "B")?.then_some(())))?;
    lab.cut_between("A", "B")?;
    ensure!(!reaches(&lab, "A", "B")? && !reaches(&lab, "B", "A")?);
    lab.cut_between("A", "B")?; // once more is no mistake
    lab.heal_between("A", "B")?;
    wait_until(LIMIT, "A and B to talk again", || Ok(reaches(&lab, "A", "B")?.then_some(())))?;
    lab.heal_between("A", "B")?;
    b.limit_rate(Some("10mbit"))?;
    b.limit_rate(None)?;
    ensure!(reaches(&lab, "A", "B")?);

    lab.kill_dockerd("A")?;
    ensure!(!lab.dockerd_is_running("A")?);
    lab.start_dockerd("A")?;
    lab.stop_dockerd("A")?;
    lab.start_dockerd("A")?;
    a.run(&["docker", "version"])?;

    let again = Lab::attach(lab.instance())?;
    ensure!(again.node("B").is_up());
    let mut child = b.spawn(&["sleep", "1234"])?;
    let sleeps = || -> Result<bool> { Ok(b.exec(&["pgrep", "-f", "^sleep 1234"])?.status.success()) };
    wait_until(LIMIT, "the command to run", || Ok(sleeps()?.then_some(())))?;
    child.kill()?;
    child.wait()?;
    wait_until(LIMIT, "the command to die with its handle", || Ok((!sleeps()?).then_some(())))?;
    lab.down()?;
    lab.down() // twice is fine
}

#[test]
#[ignore = "needs root and debootstrap: `make e2e` runs it"]
fn a_burn_holds_the_node_at_its_utilization() -> Result<()> {
    let lab = lab("test-burn")?;
    let a = lab.node("A");
    lab.burn("A", 0.9)?;
    let utilization = || -> Result<f64> {
        let (start, before) = (Instant::now(), a.cpu_usage()?);
        std::thread::sleep(Duration::from_secs(4)); // the length of the measurement
        Ok((a.cpu_usage()? - before).as_secs_f64() / start.elapsed().as_secs_f64() / 0.5)
    };
    wait_until(2 * LIMIT, "a utilization of 0.9", || Ok(((utilization()? - 0.9).abs() < 0.05).then_some(())))?;
    let held = utilization()?;
    ensure!((held - 0.9).abs() < 0.05, "held at {held}");
    lab.stop_burn("A")?;
    wait_until(LIMIT, "an idle node", || Ok((utilization()? < 0.3).then_some(())))
}
