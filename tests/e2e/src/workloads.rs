//! Images of real programs, made from Debian packages without a registry.

use std::path::PathBuf;

use anyhow::Result;
use fog_lab::images::{self, Image, ImageBuilder};
use fog_lab::{Node, Suite};

/// What the images are made of; small enough for `make test`.
const LIGHT: [&str; 5] = ["mosquitto", "mosquitto-clients", "nginx", "python3", "redis-server"];

/// A Debian tree with the programs in it; built once, which takes a minute.
pub fn light() -> Result<PathBuf> {
    fog_lab::tree(Suite::Trixie, LIGHT.to_vec(), &|line| eprintln!("workloads: {line}"))
}

/// Redis without persistence.
pub const REDIS: &str = "fog/redis:1";

/// Builds [`REDIS`].
pub fn redis() -> Result<Image> {
    let tree = light()?;
    let command = ["redis-server", "--save", "", "--appendonly", "no", "--protected-mode", "no"];
    ImageBuilder::new(REDIS)
        .command(&command)
        .program(&tree, "usr/bin/redis-server")?
        .program(&tree, "usr/bin/redis-cli")?
        .directory("data", 0o755)
        .build()
}

/// Python with its standard library.
pub const PYTHON: &str = "fog/python:1";

/// Builds [`PYTHON`].
pub fn python() -> Result<Image> {
    let tree = light()?;
    let builder = ImageBuilder::new(PYTHON)
        .command(&["python3"])
        .program(&tree, "usr/bin/python3.13")?
        .copy(&tree.join("usr/lib/python3.13"), "usr/lib/python3.13")?
        .symlink("usr/bin/python3", "python3.13");
    // What its modules are linked to.
    let modules = "usr/lib/python3.13/lib-dynload";
    let ctypes = std::fs::read_dir(tree.join(modules))?.flatten().map(|entry| entry.file_name());
    let linked = ctypes
        .filter_map(|name| name.into_string().ok())
        .filter(|name| name.starts_with("_ctypes.") || name.starts_with("_ssl."));
    linked.into_iter().try_fold(builder, |builder, name| builder.program(&tree, &format!("{modules}/{name}")))?.build()
}

/// Loads an image into every one of these nodes.
pub fn load<'a>(nodes: impl IntoIterator<Item = &'a Node>, image: &Image) -> Result<()> {
    nodes.into_iter().try_for_each(|node| images::load(node, image))
}
