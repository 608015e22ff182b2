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

/// nginx with one large file, given out slowly.
pub const NGINX: &str = "fog/nginx:1";

/// The bytes of nginx's file.
pub fn download() -> Vec<u8> {
    // xorshift64 (Marsaglia 2003): no two blocks of it are alike.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    });
    words.take(DOWNLOAD_BYTES / 8).flat_map(u64::to_le_bytes).collect()
}

const DOWNLOAD_BYTES: usize = 12 << 20;

const NGINX_CONF: &str = "
user root; daemon off; worker_processes 2; error_log stderr; pid /run/nginx.pid;
events { worker_connections 64; }
http {
  access_log off; keepalive_timeout 3600; keepalive_requests 1000000; sendfile on; send_timeout 600s;
  server { listen 80; root /srv; limit_rate 4m; }
}
";

/// Builds [`NGINX`].
pub fn nginx() -> Result<Image> {
    let tree = light()?;
    ImageBuilder::new(NGINX)
        .command(&["nginx", "-c", "/etc/nginx.conf"])
        .program(&tree, "usr/sbin/nginx")?
        .file("etc/nginx.conf", 0o644, NGINX_CONF)
        .file("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\n")
        .file("etc/group", 0o644, "root:x:0:\n")
        .file("srv/file", 0o644, download())
        .directory("var/lib/nginx", 0o755)
        .directory("var/log/nginx", 0o755)
        .directory("run", 0o755)
        .build()
}

/// An MQTT broker.
pub const MOSQUITTO: &str = "fog/mosquitto:1";

/// Builds [`MOSQUITTO`].
pub fn mosquitto() -> Result<Image> {
    let tree = light()?;
    ImageBuilder::new(MOSQUITTO)
        .command(&["mosquitto", "-c", "/etc/mosquitto.conf"])
        .program(&tree, "usr/sbin/mosquitto")?
        .file("etc/mosquitto.conf", 0o644, "listener 1883\nallow_anonymous true\nuser root\n")
        .file("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\n")
        .file("etc/group", 0o644, "root:x:0:\n")
        .build()
}
