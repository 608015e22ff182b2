//! Building a lab, in an order in which each failure can be undone: record, root file systems, cgroups, switch, then all
//! nodes at once.

use std::fs::{self, File};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};

use crate::cgroup::{Layout, Subtree};
use crate::config::{LabConfig, Suite};
use crate::host::{self, Site};
use crate::images::{self, Image};
use crate::lab::{Lab, OUTSIDE, check_machine, down};
use crate::network::{Network, free_port, free_subnet};
use crate::node::Node;
use crate::programs::{ORCHESTRATOR, copy_program, prepare_layer, start_dockerd};
use crate::rootfs;
use crate::state::{NodeState, ProcessId, State, base_directory, instance_directory, program};

const FIRST_ADDRESS: u8 = 11;
/// CRIU's lazy page server wants pipes of this size, and without CAP_SYS_RESOURCE gets them only below this limit.
const PIPE_MAX_SIZE: u64 = 16_777_216;
const PIPE_MAX_SIZE_FILE: &str = "/proc/sys/fs/pipe-max-size";

pub(crate) fn up(config: LabConfig, progress: &mut dyn FnMut(&str)) -> Result<Lab> {
    config.check()?;
    check_machine(&config)?;
    let layout = Layout::detect()?;
    let directory = instance_directory(config.directory.as_deref(), &config.instance)?;
    if let Some(state) = State::load(&directory)? {
        let running = Lab::assemble(directory.clone(), state, &layout).nodes.iter().any(Node::is_up);
        let found = if running { "is up already" } else { "has left remains of an earlier run" };
        bail!(
            "the lab {0:?} {found}: end it with `fog-lab down --instance {0}`, or name another with --instance",
            config.instance
        );
    }
    // The progress callback stays on this thread, the building threads send to it.
    let result = thread::scope(|scope| {
        let (sender, lines) = channel::<String>();
        let builder = scope.spawn(|| build(&config, &layout, &directory, sender));
        for line in lines {
            progress(&line);
        }
        builder.join().unwrap_or_else(|panic| resume_unwind(panic))
    });
    result.map_err(|error| match down(&directory, &config.instance) {
        Ok(()) => error,
        Err(second) => error.context(format!("and the remains could not be removed: {second:#}")),
    })
}

fn build(config: &LabConfig, layout: &Layout, directory: &Path, sender: Sender<String>) -> Result<Lab> {
    let start = Instant::now();
    let say = |line: &str| drop(sender.send(line.to_owned())); // nobody listens any more: fine
    raise_pipe_limit()?;
    let rootfs = root_file_systems(config, &say)?;
    let mut state = record(config, layout, directory, &rootfs)?;
    prepare_files(config, directory)?;
    let instance = Subtree::of_instance(layout, &config.instance);
    for name in state.nodes.iter().map(|node| node.name.as_str()).chain([OUTSIDE]) {
        instance.child(name).create()?;
    }
    take_network(config, directory, &mut state)?;
    let lab = Lab::assemble(directory.to_owned(), state.clone(), layout);
    say(&format!("the nodes' network is 10.{}.{}.0/24", state.subnet[0], state.subnet[1]));

    let image = match config.images {
        true => Some(images::busybox(&state.nodes[0].rootfs)?),
        false => None,
    };
    let hosts_file = hosts_file(&lab);
    let site = Site {
        directory,
        program: &directory.join("bin/fog-lab"),
        outside: &lab.outside,
        v1_hierarchies: &layout.v1_mount_options(),
        hosts_file: &hosts_file,
        seed: config.seed,
    };
    let (orchestrator, inits) = thread::scope(|scope| {
        let orchestrator = config.programs.then(|| scope.spawn(|| lab.start_orchestrator()));
        let nodes: Vec<_> =
            lab.nodes.iter().map(|node| scope.spawn(|| start_node(node, &site, image.as_ref(), &say, start))).collect();
        let inits: Vec<Result<ProcessId>> = nodes.into_iter().map(joined).collect();
        (orchestrator.map_or(Ok(()), joined), inits)
    });
    for (node, init) in state.nodes.iter_mut().zip(inits) {
        node.init = Some(init?);
    }
    orchestrator?;
    state.save(directory)?;
    let lab = Lab::assemble(directory.to_owned(), state, layout);
    if config.programs {
        say(&format!("the orchestrator answers at {}", lab.url()));
        for node in &lab.nodes {
            lab.start_agent(node.name())?;
        }
    }
    say(&format!("the lab {} is up after {:.1} s", config.instance, start.elapsed().as_secs_f64()));
    Ok(lab)
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

fn start_node(
    node: &Node,
    site: &Site<'_>,
    image: Option<&Image>,
    say: &dyn Fn(&str),
    start: Instant,
) -> Result<ProcessId> {
    if let Some(bytes) = node.state.memory_bytes {
        node.subtree.set_memory_limit(bytes)?;
    }
    let mut node = node.clone();
    let init = host::start(&node, site)?;
    node.state.init = Some(init);
    start_dockerd(&node)?;
    if let Some(image) = image {
        images::load(&node, image)?;
    }
    // Last, so that a small quota does not slow the start down.
    if let Some(cpus) = node.state.cpus {
        node.subtree.set_cpu_quota(cpus)?;
    }
    say(&format!(
        "node {} ({}, cgroup {}, {}) is up after {:.1} s",
        node.name(),
        node.suite(),
        node.cgroup(),
        node.address(),
        start.elapsed().as_secs_f64()
    ));
    Ok(init)
}

fn root_file_systems(config: &LabConfig, say: &(dyn Fn(&str) + Sync)) -> Result<Vec<(Suite, PathBuf)>> {
    let mut suites: Vec<Suite> = config.nodes.iter().map(|node| node.suite).collect();
    suites.sort_unstable();
    suites.dedup();
    thread::scope(|scope| {
        let builds: Vec<_> = suites
            .iter()
            .map(|suite| scope.spawn(|| Ok((*suite, rootfs::ensure(*suite, &config.packages, say)?))))
            .collect();
        builds.into_iter().map(joined).collect()
    })
}

/// Writes the instance's record, before anything that it names exists.
fn record(config: &LabConfig, layout: &Layout, directory: &Path, rootfs: &[(Suite, PathBuf)]) -> Result<State> {
    let mut nodes = Vec::new();
    for (index, node) in (FIRST_ADDRESS..).zip(&config.nodes) {
        let rootfs = rootfs.iter().find(|(suite, _)| *suite == node.suite);
        nodes.push(NodeState {
            name: node.name.clone(),
            index,
            suite: node.suite,
            rootfs: rootfs.map(|(_, path)| path.clone()).ok_or_else(|| anyhow!("no root file system"))?,
            cgroup: layout.choose(node.cgroup)?,
            cpus: node.cpus,
            memory_bytes: node.memory_bytes,
            link: node.link.clone(),
            booted_earlier: node.booted_earlier,
            labels: node.labels.clone(),
            init: None,
        });
    }
    let policy = config
        .policy
        .as_deref()
        .map(|path| fs::canonicalize(path).with_context(|| format!("cannot read the policy {}", path.display())));
    let state = State {
        instance: config.instance.clone(),
        subnet: [0, 0],
        orchestrator_port: free_port()?,
        policy: policy.transpose()?,
        programs: config.programs,
        nodes,
    };
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    state.save(directory)?;
    Ok(state)
}

fn prepare_files(config: &LabConfig, directory: &Path) -> Result<()> {
    let bin = directory.join("bin");
    fs::create_dir_all(&bin).with_context(|| format!("cannot create {}", bin.display()))?;
    let own = program(config.bin_dir.as_deref())?;
    fs::copy(&own, bin.join("fog-lab")).with_context(|| format!("cannot copy {}", own.display()))?;
    let bin_dir = match &config.bin_dir {
        Some(bin_dir) => bin_dir.clone(),
        None => own.parent().unwrap_or(Path::new(".")).to_owned(),
    };
    let bin_dir = config.programs.then_some(bin_dir.as_path());
    prepare_layer(&directory.join("layer"), &config.docker_options, bin_dir)?;
    bin_dir.map_or(Ok(()), |bin_dir| copy_program(bin_dir, ORCHESTRATOR, &bin))
}

/// Picks a subnet and takes it, while no other lab does the same.
fn take_network(config: &LabConfig, directory: &Path, state: &mut State) -> Result<()> {
    let lock_path = base_directory(config.directory.as_deref()).join(".network.lock");
    let lock = File::create(&lock_path).with_context(|| format!("cannot create {}", lock_path.display()))?;
    lock.lock().with_context(|| format!("cannot lock {}", lock_path.display()))?;
    state.subnet = free_subnet()?;
    state.save(directory)?;
    Network::new(&state.instance, state.subnet).create_switch().context("cannot build the nodes' network")
}

fn hosts_file(lab: &Lab) -> String {
    let mut text = format!("127.0.0.1 localhost\n{} orchestrator\n", lab.state.bridge_address());
    for node in &lab.nodes {
        text += &format!("{} {}\n", node.address(), node.name());
    }
    text
}

fn raise_pipe_limit() -> Result<()> {
    let current = fs::read_to_string(PIPE_MAX_SIZE_FILE).context("cannot read fs.pipe-max-size")?;
    if current.trim().parse::<u64>().is_ok_and(|size| size >= PIPE_MAX_SIZE) {
        return Ok(());
    }
    fs::write(PIPE_MAX_SIZE_FILE, PIPE_MAX_SIZE.to_string())
        .context("cannot raise fs.pipe-max-size, which CRIU's lazy page server needs")
}
