//! Bind mounts move where the policy names their folder, and nowhere else; what is on a host is never overwritten.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::process;

use fog_api::migration::{Migration, Phase};
use fog_api::policy::PolicyRequest;
use fog_api::preflight::Preflight;
use fog_e2e::cluster::{Cluster, DEADLINE, leftovers, state};
use fog_e2e::looper::check_consecutive;
use fog_lab::images::BUSYBOX;
use fog_lab::{CgroupVersion, LabConfig, Suite, wait_until};

const FOLDER: &str = "/srv/data/counter";
const ASIDE: &str = "/srv/data/.counter.fogshift-moved";

/// Writes numbers into a file of the folder, one after the other.
const COUNT: &str = "i=0; while true; do echo $i >> /data/numbers; i=$((i+1)); usleep 50000; done";

/// Everything in the folder but what is being written.
const LIST: &str = "cd /data && find . ! -name numbers ! -type d -exec stat -c '%n %f %u:%g %s %h %Y' {} + | sort; \
                    find . -type d -exec stat -c '%n %f %u:%g' {} + | sort; sha256sum deep/large";

fn allow(cluster: &Cluster, folders: &str) {
    let known = cluster.ask(|client| async move { client.policy().await }).unwrap();
    let others = known.text.split("[files]").next().unwrap_or_default();
    let request = PolicyRequest { text: format!("{others}\n[files]\nbind_mounts = {folders}\n"), note: None };
    cluster.ask(|client| async move { client.put_policy(&request, known.version).await }).unwrap();
}

fn blockers(cluster: &Cluster, to: &str) -> Vec<String> {
    let found: Preflight = cluster.ask(|client| async move { client.preflight("counter", to).await }).unwrap();
    let said = found.findings.into_iter().filter(|finding| finding.check == "mounts").map(|finding| finding.message);
    let said: Vec<String> = said.collect();
    eprintln!("counter → {to}: {said:?}");
    assert_eq!(found.possible, said.is_empty());
    said
}

fn numbers(cluster: &Cluster, node: &str) -> Vec<u64> {
    let text = cluster.node(node).run(&["cat", &format!("{FOLDER}/numbers")]).unwrap();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn counts_on(cluster: &Cluster, node: &str, than: usize) -> usize {
    let counted = wait_until(DEADLINE, "the counter to count on", || {
        Ok(Some(numbers(cluster, node).len()).filter(|count| *count > than + 5))
    });
    check_consecutive(&numbers(cluster, node)).unwrap();
    counted.unwrap()
}

fn exists(cluster: &Cluster, node: &str, path: &str) -> bool {
    cluster.node(node).exec(&["test", "-e", path]).unwrap().status.success()
}

/// The last report may still be of the frozen container, or of another policy.
fn moved(cluster: &Cluster, to: &str) -> Migration {
    let begun = wait_until(DEADLINE, "the counter to be movable", || Ok(cluster.begin("counter", to).ok()));
    cluster.over(begun.unwrap().id).unwrap()
}

fn there_and_back(suite: Suite, cgroup: CgroupVersion) {
    let config = LabConfig::new(&format!("bind-{suite}-{}", process::id()), &["A", "B"])
        .each_node(|node| (node.suite, node.cgroup) = (suite, Some(cgroup)));
    let cluster = Cluster::up(config, &mut |line| eprintln!("{suite} {cgroup}: {line}")).unwrap();
    let (a, b) = (cluster.node("A"), cluster.node("B"));
    a.run(&[
        "sh",
        "-c",
        &format!(
            "mkdir -p {FOLDER}/deep && cd {FOLDER} && head -c 3000000 /dev/urandom > deep/large && echo hi > small && \
         ln small second && ln -s small soft && chown 12:34 small && chmod 2750 deep && chown 5:6 . && chmod 700 ."
        ),
    ])
    .unwrap();
    let mount = format!("{FOLDER}:/data");
    a.run(&["docker", "run", "--detach", "--name", "counter", "--volume", &mount, BUSYBOX, "sh", "-c", COUNT]).unwrap();
    cluster.wait_known("counter", "A").unwrap();
    let mut counted = counts_on(&cluster, "A", 0);

    // The policy does not name it: refused, with the field's name, by preflight, on the workload and when asked to move.
    for folders in ["[]", "[\"/srv/dat\", \"/srv/data/counter/deep\"]"] {
        allow(&cluster, folders);
        assert!(blockers(&cluster, "B").iter().any(|said| said.contains("files.bind_mounts")), "{folders}");
        let refused = cluster.begin("counter", "B").unwrap_err();
        assert!(format!("{refused:#}").contains("files.bind_mounts"), "{refused:#}");
    }
    allow(&cluster, "[\"/srv/data\"]");
    assert_eq!(blockers(&cluster, "B"), Vec::<String>::new());

    // What is at the destination is not overwritten.
    b.run(&["sh", "-c", &format!("mkdir -p {FOLDER} && echo mine > {FOLDER}/theirs")]).unwrap();
    assert!(blockers(&cluster, "B").iter().any(|said| said.contains("not empty")));
    let refused = moved(&cluster, "B");
    assert_eq!(refused.phase, Phase::RolledBack);
    assert!(refused.cause.unwrap().message.contains("not empty"));
    assert_eq!(b.run(&["cat", &format!("{FOLDER}/theirs")]).unwrap(), "mine");
    b.run(&["rm", "-r", "/srv/data"]).unwrap();
    b.run(&["ln", "-s", "/etc", "/srv/data"]).unwrap();
    assert!(blockers(&cluster, "B").iter().any(|said| said.contains("link")));
    b.run(&["rm", "/srv/data"]).unwrap();
    // Nor is a folder moved that another container writes to.
    a.run(&["docker", "create", "--name", "other", "--volume", "/srv/data:/all", BUSYBOX]).unwrap();
    assert!(blockers(&cluster, "B").iter().any(|said| said.contains("other")));
    a.run(&["docker", "rm", "other"]).unwrap();

    let listed = a.run(&["docker", "exec", "counter", "sh", "-c", LIST]).unwrap();
    assert!(listed.contains("deep/large"), "{listed}");
    for (from, to) in [("A", "B"), ("B", "A"), ("A", "B")] {
        let migration = moved(&cluster, to);
        assert_eq!(migration.phase, Phase::Done, "{:?}", migration.cause);
        eprintln!("{suite} {cgroup}: {from} → {to}: {:?} ms", migration.downtime_ms);
        assert_eq!(cluster.node(to).run(&["docker", "exec", "counter", "sh", "-c", LIST]).unwrap(), listed);
        counted = counts_on(&cluster, to, counted);
        assert_eq!(state(cluster.node(from), "counter").unwrap(), None);
        assert!(!exists(&cluster, from, FOLDER) && exists(&cluster, from, ASIDE), "kept beside its place on {from}");
        assert!(!exists(&cluster, to, ASIDE), "the older copy is gone from {to}");
        for node in [from, to] {
            assert_eq!(leftovers(cluster.node(node)).unwrap(), Vec::<String>::new(), "left behind on {node}");
        }
        cluster.wait_known("counter", to).unwrap();
    }

    // A move that breaks off leaves nothing of the folder at its destination.
    b.limit_rate(Some("4mbit")).unwrap();
    let id = cluster.begin("counter", "A").unwrap().id;
    wait_until(DEADLINE, "the folder to be on A", || Ok(exists(&cluster, "A", FOLDER).then_some(()))).unwrap();
    cluster.ask(|client| async move { client.cancel(id).await }).unwrap();
    assert_eq!(cluster.over(id).unwrap().phase, Phase::RolledBack);
    b.limit_rate(None).unwrap();
    counts_on(&cluster, "B", counted);
    assert!(!exists(&cluster, "A", FOLDER) && exists(&cluster, "A", ASIDE));
}

#[test]
fn docker_28_cgroup_v2() {
    there_and_back(Suite::Forky, CgroupVersion::V2);
}
