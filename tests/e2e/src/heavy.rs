//! Images of large real programs, made from Debian packages without a registry: PostgreSQL and a Java virtual machine.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use fog_lab::Suite;
use fog_lab::images::{Image, ImageBuilder};

const PACKAGES: [&str; 2] = ["openjdk-21-jre-headless", "postgresql-17"];

/// Where Debian has PostgreSQL's programs.
const POSTGRES_BIN: &str = "usr/lib/postgresql/17/bin";
const JAVA_HOME: &str = "usr/lib/jvm/java-21-openjdk-amd64";

/// A Debian tree with the programs in it; built once, which takes two minutes.
pub fn tree() -> Result<PathBuf> {
    fog_lab::tree(Suite::Trixie, PACKAGES.to_vec(), &|line| eprintln!("workloads: {line}"))
}

/// PostgreSQL with its cluster in `/data`. With the argument `inside` it listens on a Unix socket only and runs pgbench by
/// itself; `ALRM` to the process in `/run/pgbench.pid` ends that with its figures in the log.
pub const POSTGRES: &str = "fog/postgres:1";

const POSTGRES_START: &str = "\
set -e
mkdir -p /data/db
chown 999:999 /data/db
initdb --pgdata /data/db --username postgres --auth trust --no-locale --encoding UTF8 \
  --wal-segsize 1 --no-sync --no-instructions >&2
printf 'host all all all trust\\n' >> /data/db/pg_hba.conf
addresses='*'
[ \"$1\" = inside ] && addresses=
postgres -D /data/db -c listen_addresses=\"$addresses\" -c unix_socket_directories=/run -c shared_buffers=16MB \
  -c min_wal_size=2MB -c max_wal_size=16MB -c jit=off -c log_checkpoints=off -c checkpoint_warning=0 &
until pg_isready --quiet --host /run; do sleep 0.1; done
pgbench --initialize --quiet --host /run --username postgres postgres >&2
if [ \"$1\" = inside ]; then
  pgbench --host /run --username postgres --client 4 --rate 200 --time 36000 postgres &
  echo $! > /run/pgbench.pid
fi
echo ready
wait
";

/// Builds [`POSTGRES`].
pub fn postgres() -> Result<Image> {
    let tree = tree()?;
    let mut builder = ImageBuilder::new(POSTGRES)
        .command(&["sh", "/start"])
        .environment("PATH", &format!("/{POSTGRES_BIN}:/usr/bin:/bin"))
        .environment("LD_PRELOAD", "/lib/not-root.so")
        .file("lib/not-root.so", 0o755, not_root()?)
        .file("start", 0o755, POSTGRES_START)
        .file("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\npostgres:x:999:999::/data:/bin/sh\n")
        .file("etc/group", 0o644, "root:x:0:\npostgres:x:999:\n")
        .program(&tree, "usr/bin/dash")?
        .program(&tree, "usr/bin/sleep")?
        .program(&tree, "usr/bin/chown")?
        .program(&tree, "usr/bin/mkdir")?
        .symlink("bin/sh", "/usr/bin/dash")
        .copy(&tree.join("usr/lib/postgresql/17/lib"), "usr/lib/postgresql/17/lib")?
        .copy(&tree.join("usr/share/postgresql/17"), "usr/share/postgresql/17")?
        .directory("data", 0o700)
        .directory("run", 0o755);
    for program in ["initdb", "postgres", "pg_isready", "pgbench", "psql"] {
        builder = builder.program(&tree, &format!("{POSTGRES_BIN}/{program}"))?;
    }
    builder.build()
}

fn not_root() -> Result<Vec<u8>> {
    let folder = std::env::temp_dir().join(format!("fog-not-root-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let (source, library) = (folder.join("not_root.c"), folder.join("not_root.so"));
    std::fs::write(&source, include_str!("not_root.c"))?;
    let made = Command::new("cc").args(["-shared", "-fPIC", "-O2", "-o"]).arg(&library).arg(&source).status();
    let made = made.context("cannot run cc: install the package gcc");
    let content = made.and_then(|status| {
        ensure!(status.success(), "cc could not build not_root.c");
        std::fs::read(&library).context("cc left nothing behind")
    });
    std::fs::remove_dir_all(&folder)?;
    content
}

/// A Java virtual machine that runs [`BEATS`].
pub const JAVA: &str = "fog/java:1";

/// Builds [`JAVA`]. With a port as its argument it answers HTTP requests.
pub fn java() -> Result<Image> {
    let tree = tree()?;
    let home = tree.join(JAVA_HOME);
    let mut builder = ImageBuilder::new(JAVA)
        .command(&["java", "-Xmx128m", "-XX:+UseSerialGC", "/Beats.java"])
        .environment("PATH", &format!("/{JAVA_HOME}/bin:/usr/bin:/bin"))
        // Debian's java finds its own libraries by where it lies.
        .environment("LD_LIBRARY_PATH", &format!("/{JAVA_HOME}/lib:/{JAVA_HOME}/lib/server"))
        .file("Beats.java", 0o644, include_str!("Beats.java"))
        .file("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\n")
        .copy(&home.join("lib"), &format!("{JAVA_HOME}/lib"))?
        .copy(&home.join("conf"), &format!("{JAVA_HOME}/conf"))?
        .copy(&tree.join("etc/java-21-openjdk"), "etc/java-21-openjdk")?
        .copy(&home.join("bin/java"), &format!("{JAVA_HOME}/bin/java"))?;
    // What its own libraries are linked to.
    for file in libraries(&tree)? {
        // Its content: what the linker asks for may be a link to elsewhere.
        let content = std::fs::read(tree.join(&file)).with_context(|| format!("cannot read {file}"))?;
        builder = builder.file(&file, 0o755, content);
    }
    builder.directory("tmp", 0o1777).build()
}

fn libraries(tree: &std::path::Path) -> Result<Vec<String>> {
    let library_path = format!("LD_LIBRARY_PATH=/{JAVA_HOME}/lib:/{JAVA_HOME}/lib/server");
    let programs =
        ["bin/java", "lib/server/libjvm.so", "lib/libnet.so", "lib/libnio.so", "lib/libzip.so", "lib/libjimage.so"];
    let mut command = Command::new("chroot");
    command
        .arg(tree)
        .args(["env", &library_path, "ldd"])
        .args(programs.map(|program| format!("/{JAVA_HOME}/{program}")));
    let listed = command.output().context("cannot run ldd")?;
    ensure!(listed.status.success(), "ldd: {}", String::from_utf8_lossy(&listed.stderr));
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    let mut found: Vec<String> = text
        .split_whitespace()
        .filter(|word| word.starts_with('/') && !word.ends_with(':') && !word.contains("/jvm/"))
        .map(|word| word.trim_start_matches('/').to_owned())
        .collect();
    found.sort();
    found.dedup();
    Ok(found)
}

/// One figure at the end of pgbench's report, such as `number of transactions actually processed`.
pub fn figure(report: &str, name: &str) -> Result<u64> {
    let line = report.lines().find_map(|line| line.split_once(": ").filter(|(found, _)| found.trim() == name));
    let (_, value) = line.with_context(|| format!("{name:?} is not in pgbench's report:\n{report}"))?;
    let number = value.split(['/', ' ']).next().unwrap_or_default();
    number.parse().with_context(|| format!("{name} is {value:?}"))
}

/// What must hold in pgbench's tables: `history rows|history|accounts|branches|tellers`.
pub const SUMS: &str = "SELECT (SELECT count(*) FROM pgbench_history), (SELECT coalesce(sum(delta), 0) FROM pgbench_history), \
    (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(bbalance) FROM pgbench_branches), \
    (SELECT sum(tbalance) FROM pgbench_tellers)";

/// Whether no transaction was lost, repeated or done by half.
pub fn check_sums(sums: &str, transactions: u64) -> Result<()> {
    let numbers: Vec<i64> =
        sums.trim().split('|').map(str::parse).collect::<Result<_, _>>().context(sums.to_owned())?;
    let [rows, history, accounts, branches, tellers] = numbers[..] else { anyhow::bail!("unexpected: {sums}") };
    ensure!(rows == transactions as i64, "{rows} transactions in the history, {transactions} were done");
    ensure!([accounts, branches, tellers] == [history; 3], "the sums differ: {sums}");
    Ok(())
}
