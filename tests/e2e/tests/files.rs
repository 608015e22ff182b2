//! What moves besides memory: files of every kind in the writable layer and in a volume, there and back.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process;
use std::time::Duration;

use fog_api::migration::Phase;
use fog_e2e::cluster::{Cluster, DEADLINE, leftovers, state};
use fog_e2e::looper::check_consecutive;
use fog_lab::images::BUSYBOX;
use fog_lab::{CgroupVersion, LabConfig, Suite, wait_until};
use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};

/// Makes files of every kind below `$1`.
const MAKE: &str = r#"
mkdir -p $1/tree/empty $1/tree/deep/er && cd $1/tree
head -c 3000000 /dev/urandom > large; echo hello > small; : > nothing
chmod 4755 small; chmod 1777 empty; chown 12:34 large
ln small second; ln second deep/third
ln -s ../../nowhere dangling; ln -s small good; ln -s /etc/passwd absolute
mkfifo -m 640 fifo; mknod null c 1 3; mknod disk b 7 9
dd if=/dev/urandom of=sparse bs=1k count=8 seek=200000 2>/dev/null
printf 'x' > 'a name
of two lines'; echo x > ' leading'; echo x > '-dash'
touch -d '2001-02-03 04:05:06' large deep/er; chown -h 5:6 good
"#;

/// Changes what the image has, in the writable layer alone.
const OVERRIDE: &str = "
rm /bin/yes; rm -rf /home; mkdir -p /home/new; rm /bin/vi; mkdir /bin/vi; echo x > /bin/vi/inside
rm -rf /srv; echo 'a file now' > /srv; echo more >> /etc/passwd; chmod 700 /etc; rm -f /gone/kept; rm -rf /gone; mkdir /gone
";

/// Appends numbers to a file in the writable layer and to one in the volume.
const COUNT: &str =
    "i=0; while true; do echo $i >> /tmp/numbers; echo $i >> /data/numbers; i=$((i+1)); usleep 100000; done";

/// Everything that must be equal afterwards: kind, mode, owner, size, links, device, time, target, content. What Docker
/// makes itself is left out, and so is a folder's count of links, which means nothing on overlay.
const LIST: &str = r#"
places="/etc /home /srv /bin /gone /var/tree /data/tree"
own="( -path /etc/hosts -o -path /etc/hostname -o -path /etc/resolv.conf -o -path /etc/mtab )"
find $places -xdev ! $own ! -type d -exec stat -c '%n %f %u:%g %s %h %t:%T %Y %N' {} + | sort
find $places -xdev -type d -exec stat -c '%n %f %u:%g %Y' {} + | sort
find $places -xdev ! $own -type f -exec sha256sum {} + | sort
"#;

fn inside(cluster: &Cluster, node: &str, script: &str) -> String {
    cluster.node(node).run(&["docker", "exec", "counter", "sh", "-c", script]).unwrap()
}

fn numbers(cluster: &Cluster, node: &str, file: &str) -> Vec<u64> {
    inside(cluster, node, &format!("cat {file}")).lines().map(|line| line.parse().unwrap()).collect()
}

const NOTE: (&str, &[u8]) = ("user.note", b"a\0b");
/// `cap_net_bind_service=ep`, as the kernel stores it.
const CAPABILITY: (&str, &[u8]) =
    ("security.capability", &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);

/// A place in the container as this machine sees it.
fn outside(cluster: &Cluster, node: &str, place: &str) -> PathBuf {
    let node = cluster.node(node);
    let format = "{{.GraphDriver.Data.MergedDir}}";
    let root = node.run(&["docker", "inspect", "--format", format, "counter"]).unwrap();
    let volume = node.run(&["docker", "volume", "inspect", "--format", "{{.Mountpoint}}", "numbers"]).unwrap();
    let inside = match place.strip_prefix("/data/") {
        Some(rest) => format!("{volume}/{rest}"),
        None => format!("{root}{place}"),
    };
    node.path(&inside).unwrap()
}

fn attributes(cluster: &Cluster, node: &str) -> Vec<(PathBuf, &'static str, &'static [u8])> {
    let places = ["/var/tree/large", "/data/tree/large"].map(|place| outside(cluster, node, place));
    places.into_iter().flat_map(|path| [NOTE, CAPABILITY].map(|(name, value)| (path.clone(), name, value))).collect()
}

/// What busybox cannot show: attributes are there, holes are holes, and times to the nanosecond.
fn details(cluster: &Cluster, node: &str) -> Vec<String> {
    for (path, name, expected) in attributes(cluster, node) {
        let mut value = [0; 100];
        let length = lgetxattr(&path, name, &mut value[..]).unwrap();
        assert_eq!(&value[..length], expected, "{name} of {}", path.display());
    }
    let places = ["/var/tree", "/data/tree"].map(|place| (place, outside(cluster, node, place)));
    let mut times = Vec::new();
    for (place, folder) in places {
        assert!(fs::metadata(folder.join("sparse")).unwrap().blocks() < 1000, "{place} on {node}");
        for name in ["", "small", "deep", "deep/er", "empty", "fifo", "null", "sparse", "dangling"] {
            let metadata = fs::symlink_metadata(folder.join(name)).unwrap();
            times.push(format!("{place}/{name} {}.{:09}", metadata.mtime(), metadata.mtime_nsec()));
        }
    }
    times
}

fn counts_on(cluster: &Cluster, node: &str, than: usize) -> usize {
    let counted = wait_until(DEADLINE, "the counter to count on", || {
        Ok(Some(numbers(cluster, node, "/data/numbers").len()).filter(|count| *count > than + 5))
    });
    for file in ["/tmp/numbers", "/data/numbers"] {
        check_consecutive(&numbers(cluster, node, file)).unwrap();
    }
    counted.unwrap()
}

fn volumes(cluster: &Cluster, node: &str) -> String {
    cluster.node(node).run(&["docker", "volume", "ls", "--quiet"]).unwrap()
}

/// An image with two layers, so that there is something to hide; made on A.
const IMAGE: &str = "fog/files:1";

fn make_image(cluster: &Cluster) {
    let a = cluster.node("A");
    let script = "mkdir -p /gone/by /srv/folder /home/user; for place in /gone /gone/by /srv/folder /home/user; do \
        echo $place > $place/kept; done; ln /home/user/kept /home/user/linked";
    a.run(&["docker", "run", "--name", "maker", BUSYBOX, "sh", "-c", script]).unwrap();
    a.run(&["docker", "commit", "maker", IMAGE]).unwrap();
    a.run(&["docker", "rm", "maker"]).unwrap();
}

fn copy_image(cluster: &Cluster) {
    let (a, b) = (cluster.node("A"), cluster.node("B"));
    a.run(&["docker", "save", "--output", "/root/image.tar", IMAGE]).unwrap();
    fs::copy(a.path("/root/image.tar").unwrap(), b.path("/root/image.tar").unwrap()).unwrap();
    b.run(&["docker", "load", "--input", "/root/image.tar"]).unwrap();
}

fn image_id(cluster: &Cluster, node: &str) -> String {
    cluster.node(node).run(&["docker", "image", "inspect", "--format", "{{.Id}}", IMAGE]).unwrap()
}

fn start(cluster: &Cluster) {
    let a = cluster.node("A");
    make_image(cluster);
    a.run(&["docker", "volume", "create", "--label", "team=fog", "numbers"]).unwrap();
    let run = ["docker", "run", "--detach", "--name", "counter", "--volume", "numbers:/data", "--cap-add", "MKNOD"];
    a.run(&[&run[..], &[IMAGE, "sh", "-c", COUNT]].concat()).unwrap();
    inside(cluster, "A", &format!("set -- /var; {MAKE}"));
    inside(cluster, "A", &format!("set -- /data; {MAKE}"));
    inside(cluster, "A", OVERRIDE);
    // Attributes that the container itself may not set.
    for (path, name, value) in attributes(cluster, "A") {
        lsetxattr(&path, name, value, XattrFlags::empty()).unwrap();
    }
    cluster.wait_known("counter", "A").unwrap();
}

fn cluster(name: &str, suite: Suite, cgroup: CgroupVersion) -> Cluster {
    let mut config = LabConfig::new(&format!("layer-{name}-{suite}-{}", process::id()), &["A", "B"]);
    for node in &mut config.nodes {
        (node.suite, node.cgroup) = (suite, Some(cgroup));
    }
    Cluster::up(config, &mut |line| eprintln!("{suite} {cgroup}: {line}")).unwrap()
}

fn there_and_back(suite: Suite, cgroup: CgroupVersion, image_everywhere: bool) {
    let cluster = cluster("moves", suite, cgroup);
    start(&cluster);
    if image_everywhere {
        copy_image(&cluster);
    }
    let mut counted = counts_on(&cluster, "A", 0);
    let (listed, detailed) = (inside(&cluster, "A", LIST), details(&cluster, "A"));
    assert!(listed.contains("/var/tree/small") && !listed.contains("/bin/yes"), "{listed}");

    for (from, to) in [("A", "B"), ("B", "A")] {
        // The last report may still be of the frozen container; then it is refused for a moment.
        let begun = wait_until(DEADLINE, "the counter to be movable", || Ok(cluster.begin("counter", to).ok()));
        let migration = cluster.over(begun.unwrap().id).unwrap();
        assert_eq!(migration.phase, Phase::Done, "{:?}", migration.cause);
        eprintln!("{suite} {cgroup}: {from} → {to}: {:?} ms, {:?}", migration.downtime_ms, migration.stages_ms);
        assert_eq!(inside(&cluster, to, LIST), listed, "{from} → {to}");
        assert_eq!(details(&cluster, to), detailed, "{from} → {to}");
        assert_eq!(image_id(&cluster, to), image_id(&cluster, from), "the image came along, its name too");
        counted = counts_on(&cluster, to, counted);
        assert_eq!(state(cluster.node(from), "counter").unwrap(), None);
        assert_eq!(volumes(&cluster, from), "", "the volume has moved");
        let label = ["docker", "volume", "inspect", "--format", "{{.Labels.team}}", "numbers"];
        assert_eq!(cluster.node(to).run(&label).unwrap(), "fog");
        for node in [from, to] {
            assert_eq!(leftovers(cluster.node(node)).unwrap(), Vec::<String>::new(), "left behind on {node}");
        }
        cluster.wait_known("counter", to).unwrap();
    }
}

#[test]
fn docker_28_cgroup_v2() {
    there_and_back(Suite::Forky, CgroupVersion::V2, false);
}

#[test]
fn docker_26_cgroup_v1() {
    there_and_back(Suite::Trixie, CgroupVersion::V1, true);
}

#[test]
fn what_does_not_get_through_leaves_the_source_as_it_was() {
    let cluster = cluster("breaks", Suite::Forky, CgroupVersion::V2);
    start(&cluster);
    let (a, b) = (cluster.node("A"), cluster.node("B"));
    let counted = counts_on(&cluster, "A", 0);
    let listed = inside(&cluster, "A", LIST);

    eprintln!("== a volume of that name is there already");
    b.run(&["docker", "volume", "create", "numbers"]).unwrap();
    let migration = cluster.over(cluster.begin("counter", "B").unwrap().id).unwrap();
    assert_eq!(migration.phase, Phase::RolledBack);
    let message = migration.cause.unwrap().message;
    assert!(message.contains("volume numbers") && message.contains("B"), "{message}");
    assert_eq!(volumes(&cluster, "B"), "numbers", "what belongs to a user is not touched");
    b.run(&["docker", "volume", "rm", "numbers"]).unwrap();
    cluster.wait_known("counter", "A").unwrap();

    eprintln!("== the transfer breaks while files travel");
    a.limit_rate(Some("4mbit")).unwrap();
    let id = cluster.begin("counter", "B").unwrap().id;
    let travelling =
        wait_until(DEADLINE, "the volume to be on B", || Ok((volumes(&cluster, "B") == "numbers").then_some(())));
    travelling.unwrap();
    std::thread::sleep(Duration::from_secs(1));
    cluster.lab().cut_between("A", "B").unwrap();
    let migration = cluster.over(id).unwrap();
    eprintln!("{:?}", migration.cause);
    assert_eq!(migration.phase, Phase::RolledBack);
    cluster.lab().heal_between("A", "B").unwrap();
    a.limit_rate(None).unwrap();
    counts_on(&cluster, "A", counted);
    assert_eq!(inside(&cluster, "A", LIST), listed);
    let clean = wait_until(DEADLINE, "B to be clean", || {
        let clean = volumes(&cluster, "B").is_empty() && state(b, "counter")?.is_none() && leftovers(b)?.is_empty();
        Ok(clean.then_some(()))
    });
    clean.unwrap();
}
