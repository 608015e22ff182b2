//! What is done to running migrations, and how it is mended.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use fog_lab::wait_until;
use serde::Serialize;

use super::Moving;
use super::hosts::{CRIU_FAULT, Hosts};
use crate::cluster::DEADLINE;
use crate::meddler::{Harm, Meddler};
use crate::random::Random;

const FILL: &str = "/run/fogshift/images/fill";
const RESET: &str = "fog_chaos_reset";
/// Longer than an agent waits for its peer's next bytes.
const LONG: Duration = Duration::from_secs(33);

/// A fault. "A node" is either of the two, at random: the source of some and the destination of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Nothing: it must be done.
    None,
    /// SIGKILL of a node's agent.
    KillAgent,
    /// SIGKILL of the orchestrator.
    KillOrchestrator,
    /// SIGKILL of everything of ours.
    KillAll,
    /// SIGSTOP of a node's agent; it wakes when its migration may be over.
    FreezeAgent,
    /// SIGSTOP of the orchestrator.
    FreezeOrchestrator,
    /// SIGTERM of a node's agent: every connection ends in good order.
    CloseAgent,
    /// SIGKILL of a node's dockerd; another one takes its place.
    RestartDocker,
    /// No packet passes between the two nodes for a while.
    CutNodes,
    /// No packet passes between the two nodes until both ends have given up.
    CutNodesLong,
    /// A node loses its network.
    CutNode,
    /// A node's connections to the orchestrator are reset for a while.
    ResetOrchestrator,
    /// Every connection between the agents is reset.
    ResetLink,
    /// Every connection between the agents is closed in good order.
    CloseLink,
    /// A bit of every connection between the agents flips.
    FlipBit,
    /// CRIU fails in a node's dumps.
    CriuDump,
    /// CRIU fails in a node's restores.
    CriuRestore,
    /// A node's room for images is full.
    ImagesFull,
    /// A user cancels it.
    Cancel,
    /// A user removes it at its source, `docker rm -f`.
    RemoveAtSource,
    /// A user stops it at its source, `docker stop`.
    StopAtSource,
    /// A user removes it at its destination.
    RemoveAtDestination,
    /// A user makes a container of that name at the destination.
    TakeName,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Fault; 23] = [
        Fault::None,
        Fault::KillAgent,
        Fault::KillOrchestrator,
        Fault::KillAll,
        Fault::FreezeAgent,
        Fault::FreezeOrchestrator,
        Fault::CloseAgent,
        Fault::RestartDocker,
        Fault::CutNodes,
        Fault::CutNodesLong,
        Fault::CutNode,
        Fault::ResetOrchestrator,
        Fault::ResetLink,
        Fault::CloseLink,
        Fault::FlipBit,
        Fault::CriuDump,
        Fault::CriuRestore,
        Fault::ImagesFull,
        Fault::Cancel,
        Fault::RemoveAtSource,
        Fault::StopAtSource,
        Fault::RemoveAtDestination,
        Fault::TakeName,
    ];

    /// Its name, as the table and `FAULTS=…` have it.
    pub fn name(self) -> String {
        serde_json::json!(self).as_str().unwrap_or_default().to_owned()
    }

    /// The fault of a name.
    pub fn named(name: &str) -> Result<Fault> {
        let known = || Fault::ALL.map(Fault::name).join(", ");
        let found = Fault::ALL.into_iter().find(|fault| fault.name() == name);
        found.with_context(|| format!("no fault is called {name:?}: there are {}", known()))
    }

    /// Whether a user's own deed may end the container.
    pub fn is_a_users(self) -> bool {
        matches!(self, Fault::RemoveAtSource | Fault::StopAtSource | Fault::RemoveAtDestination)
    }

    /// Whether it has to be there before a move begins, and stays until all of them are over.
    fn is_laid(self) -> bool {
        matches!(self, Fault::CriuDump | Fault::CriuRestore)
    }
}

/// Where a fault strikes.
pub struct Trouble<'a> {
    pub hosts: &'a Hosts,
    pub fault: Fault,
    pub node: &'static str,
}

impl<'a> Trouble<'a> {
    /// What has to be there before the moves begin.
    pub fn prepare(&self, random: &mut Random) -> Result<Vec<Meddler<'a>>> {
        let cluster = &self.hosts.cluster;
        let harm = match self.fault {
            Fault::FlipBit => Harm::FlipBit,
            Fault::CloseLink => Harm::Close,
            Fault::ResetLink => Harm::Reset,
            Fault::CriuDump | Fault::CriuRestore => {
                // criu/include/fault-injection.h: early in the dump, at the parasite's call; at the root task's restore, after it.
                let number = random.of(if self.fault == Fault::CriuDump { &["1", "5"] } else { &["2", "6"] });
                // A move begins on either node.
                for node in ["A", "B"] {
                    cluster.node(node).write_file(CRIU_FAULT, number)?;
                }
                return Ok(Vec::new());
            }
            _ => return Ok(Vec::new()),
        };
        let outside = cluster.lab().outside_address();
        let (a, b) = (cluster.node("A"), cluster.node("B"));
        let both = [(a, b), (b, a)].map(|(from, to)| Meddler::between(from, to, &outside, harm, random.fork()));
        both.into_iter().collect()
    }

    /// The fault comes, and stays for as long as it should.
    pub fn happen(&self, moves: &[Moving], random: &mut Random) -> Result<()> {
        let (cluster, node) = (&self.hosts.cluster, self.node);
        let lab = cluster.lab();
        let while_longer = Duration::from_millis(1_000 + random.below(4_000));
        match self.fault {
            Fault::None | Fault::CriuDump | Fault::CriuRestore => {}
            Fault::FlipBit | Fault::CloseLink | Fault::ResetLink => sleep(while_longer),
            Fault::KillAgent => lab.kill_agent(node)?,
            Fault::KillOrchestrator => lab.kill_orchestrator()?,
            Fault::KillAll => {
                lab.kill_orchestrator()?;
                lab.kill_agent("A")?;
                lab.kill_agent("B")?;
            }
            Fault::FreezeAgent => {
                lab.freeze_agent(node)?;
                sleep(while_longer);
                lab.wake_agent(node)?;
            }
            Fault::FreezeOrchestrator => {
                lab.freeze_orchestrator()?;
                sleep(while_longer);
                lab.wake_orchestrator()?;
            }
            Fault::CloseAgent => lab.stop_agent(node)?,
            Fault::RestartDocker => {
                lab.kill_dockerd(node)?;
                lab.start_dockerd(node)?;
            }
            Fault::CutNodes | Fault::CutNodesLong => {
                lab.cut_between("A", "B")?;
                sleep(if self.fault == Fault::CutNodesLong { LONG } else { while_longer });
            }
            Fault::CutNode => {
                lab.cut(node)?;
                sleep(while_longer);
            }
            Fault::ResetOrchestrator => {
                let url = lab.url();
                let port = url.rsplit(':').next().context("an address has a port")?;
                let rules = format!(
                    "table inet {RESET} {{ chain out {{ type filter hook output priority 0; ip daddr {} tcp dport {port} reject with tcp reset; }}; }}",
                    lab.outside_address()
                );
                cluster.node(node).run_with_input(&["nft", "-f", "-"], rules.as_bytes())?;
                sleep(while_longer);
            }
            Fault::ImagesFull => {
                // It ends when nothing fits any more, which is no success.
                cluster.node(node).exec(&["dd", "if=/dev/zero", &format!("of={FILL}"), "bs=1M"])?;
                sleep(while_longer);
            }
            Fault::Cancel
            | Fault::RemoveAtSource
            | Fault::StopAtSource
            | Fault::RemoveAtDestination
            | Fault::TakeName => {
                moves.iter().try_for_each(|moving| self.user(moving))?;
            }
        }
        Ok(())
    }

    /// What a user does to one of them. Any of it may come too late, which is an answer too.
    fn user(&self, moving: &Moving) -> Result<()> {
        let cluster = &self.hosts.cluster;
        let (id, name, home, away) = (moving.id, moving.name.as_str(), moving.home, moving.away);
        let by_user = |node: &str, command: &[&str]| cluster.node(node).exec(command).map(drop);
        match self.fault {
            Fault::Cancel => drop(cluster.ask(|client| async move { client.cancel(id).await })),
            Fault::RemoveAtSource => by_user(home, &["docker", "rm", "--force", name])?,
            Fault::StopAtSource => by_user(home, &["docker", "stop", "--time", "1", name])?,
            Fault::RemoveAtDestination => by_user(away, &["docker", "rm", "--force", name])?,
            _ => by_user(away, &["docker", "create", "--name", name, fog_lab::images::BUSYBOX])?,
        }
        Ok(())
    }

    /// Everything that was broken is whole again.
    pub fn mend(&self, moves: &[Moving]) -> Result<()> {
        let (cluster, node) = (&self.hosts.cluster, self.node);
        let lab = cluster.lab();
        match self.fault {
            Fault::CutNodes | Fault::CutNodesLong => lab.heal_between("A", "B")?,
            Fault::CutNode => lab.heal(node)?,
            Fault::ResetOrchestrator => drop(cluster.node(node).run(&["nft", "delete", "table", "inet", RESET])?),
            Fault::ImagesFull => drop(cluster.node(node).run(&["rm", "-f", FILL])?),
            _ => {}
        }
        lab.start_orchestrator()?;
        lab.start_agent("A")?;
        lab.start_agent("B")?;
        if self.fault.is_laid() {
            for moving in moves {
                let over = || cluster.ask(|client| async move { client.migration(moving.id).await });
                wait_until(DEADLINE, "the moves to be over", || {
                    Ok(over().ok().filter(|migration| migration.phase.is_over()).map(drop))
                })?;
            }
            for node in ["A", "B"] {
                cluster.node(node).run(&["rm", "-f", CRIU_FAULT])?;
            }
        }
        if self.fault == Fault::TakeName {
            for moving in moves {
                self.give_name_back(moving)?;
            }
        }
        Ok(())
    }

    /// The user's own container must be as he made it, until he removes it.
    fn give_name_back(&self, moving: &Moving) -> Result<()> {
        let taken = self.hosts.cluster.node(moving.away);
        let format = "{{.Config.Image}} {{.State.Status}}";
        let inspect = taken.exec(&["docker", "inspect", "--format", format, &moving.name])?;
        if String::from_utf8_lossy(&inspect.stdout).trim() == format!("{} created", fog_lab::images::BUSYBOX) {
            taken.run(&["docker", "rm", &moving.name])?;
        }
        Ok(())
    }
}
