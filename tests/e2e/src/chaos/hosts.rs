//! A lab for chaos: two hosts over a slow link, a witness outside, CRIU that can be told to fail, little room for images.

use std::path::Path;

use anyhow::Result;
use fog_lab::{CgroupVersion, LabConfig, Suite};

use crate::cluster::Cluster;
use crate::oracle;
use crate::witness::Witness;

const SLOW: &str = "40mbit";
/// Room for memory images on each node; tests fill it.
const ROOM: &str = "size=160m,mode=700";
/// Where CRIU's fault is told, see [`CRIU`].
pub const CRIU_FAULT: &str = "/run/criu-fault";
/// CRIU behind a script that hands it the fault of the hour.
const CRIU: &str = "c=$(command -v criu) && mv $c $c.real && printf '#!/bin/sh\\n[ ! -s /run/criu-fault ] || export CRIU_FAULT=$(cat /run/criu-fault)\\n\
     exec %s.real \"$@\"\\n' $c > $c && chmod 755 $c";

/// A cluster, its oracles and their witness.
pub struct Hosts {
    pub cluster: Cluster,
    pub witness: Witness,
    pub names: Vec<String>,
}

impl Hosts {
    pub fn up(lab: u32, oracles: u32, say: &(dyn Fn(&str) + Sync)) -> Result<Hosts> {
        let mut config = LabConfig::new(&format!("chaos{lab}-{}", std::process::id()), &["A", "B"]);
        for node in &mut config.nodes {
            node.suite = Suite::Forky;
            node.cgroup = Some(if lab.is_multiple_of(2) { CgroupVersion::V2 } else { CgroupVersion::V1 });
        }
        // A daemon that dies and comes back finds its containers as they were.
        config.docker_options.insert("live-restore".into(), true.into());
        let cluster = Cluster::up(config, &mut |line| say(&format!("{lab}: {line}")))?;
        let image = oracle::image()?;
        cluster.lab().load_image(&image)?;
        let witness = Witness::listen(&cluster.lab().outside_address())?;
        for node in ["A", "B"] {
            let node = cluster.node(node);
            node.run(&["sh", "-c", CRIU])?;
            node.run(&["mount", "-t", "tmpfs", "-o", ROOM, "tmpfs", "/run/fogshift/images"])?;
        }
        let names: Vec<String> = (1..=oracles).map(|number| format!("oracle{number}")).collect();
        for name in &names {
            oracle::start(cluster.node("A"), name, witness.address())?;
        }
        for name in &names {
            witness.goes_on(name, 1)?;
            cluster.wait_known(name, "A")?;
        }
        for node in ["A", "B"] {
            cluster.node(node).limit_rate(Some(SLOW))?;
        }
        Ok(Hosts { cluster, witness, names })
    }

    /// With FOG_LAB_KEEP_LOGS=FOLDER the logs of a lab that failed stay.
    pub fn keep_logs(&self) {
        if let Some(folder) = std::env::var_os("FOG_LAB_KEEP_LOGS")
            && let Err(error) = self.cluster.lab().save_logs(&Path::new(&folder).join(self.cluster.lab().instance()))
        {
            eprintln!("cannot keep the logs: {error:#}");
        }
    }
}
