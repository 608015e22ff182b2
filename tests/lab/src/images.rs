//! Container images without a registry: built here as `docker load` archives, byte for byte the same every time, so that
//! every node of a lab has the same image under the same ID.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::command::run;
use crate::node::Node;

/// The image every node has: busybox, counting seconds to its log.
pub const BUSYBOX: &str = "fog/busybox:1";

/// The default command of [`BUSYBOX`].
pub const LOOPER: [&str; 3] = ["sh", "-c", "i=0; while true; do echo $i; i=$(expr $i + 1); sleep 1; done"];

const APPLETS: &[&str] = &[
    "[",
    "ash",
    "awk",
    "base64",
    "basename",
    "cat",
    "chmod",
    "chown",
    "cp",
    "cut",
    "date",
    "dd",
    "df",
    "dirname",
    "du",
    "echo",
    "env",
    "expr",
    "false",
    "find",
    "free",
    "grep",
    "gunzip",
    "gzip",
    "head",
    "hostname",
    "httpd",
    "id",
    "ifconfig",
    "ip",
    "kill",
    "killall",
    "ln",
    "ls",
    "md5sum",
    "mkdir",
    "mkfifo",
    "mktemp",
    "mount",
    "mv",
    "nc",
    "netstat",
    "nproc",
    "od",
    "pgrep",
    "pidof",
    "ping",
    "printf",
    "ps",
    "pwd",
    "readlink",
    "rm",
    "rmdir",
    "route",
    "sed",
    "seq",
    "sh",
    "sha256sum",
    "sleep",
    "sort",
    "stat",
    "sync",
    "tail",
    "tar",
    "tee",
    "test",
    "time",
    "timeout",
    "top",
    "touch",
    "tr",
    "traceroute",
    "true",
    "uname",
    "uniq",
    "uptime",
    "usleep",
    "vi",
    "wc",
    "wget",
    "which",
    "whoami",
    "xargs",
    "yes",
];

enum Entry {
    Directory(u32),
    File(u32, Vec<u8>),
    Symlink(PathBuf),
}

/// What goes into an image of one layer.
pub struct ImageBuilder {
    name: String,
    command: Vec<String>,
    environment: Vec<String>,
    /// By path without a leading slash; sorted, so that the archive does not depend on the order of additions.
    entries: BTreeMap<PathBuf, Entry>,
}

/// A finished image.
pub struct Image {
    pub name: String,
    /// `sha256:…` of the image's configuration, which is what Docker calls the image ID.
    pub id: String,
    /// What `docker load` reads.
    pub archive: Vec<u8>,
}

impl ImageBuilder {
    /// `name` with its tag, e.g. `fog/redis:1`.
    pub fn new(name: &str) -> Self {
        let mut builder = ImageBuilder {
            name: name.to_owned(),
            command: Vec::new(),
            environment: Vec::new(),
            entries: BTreeMap::new(),
        };
        builder.environment.push("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
        builder.entries.insert(PathBuf::from("tmp"), Entry::Directory(0o1777));
        builder
    }

    #[must_use]
    pub fn command<S: AsRef<str>>(mut self, command: &[S]) -> Self {
        self.command = command.iter().map(|word| word.as_ref().to_owned()).collect();
        self
    }

    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push(format!("{name}={value}"));
        self
    }

    #[must_use]
    pub fn directory(mut self, path: &str, mode: u32) -> Self {
        self.insert(path, Entry::Directory(mode));
        self
    }

    #[must_use]
    pub fn file(mut self, path: &str, mode: u32, contents: impl Into<Vec<u8>>) -> Self {
        self.insert(path, Entry::File(mode, contents.into()));
        self
    }

    #[must_use]
    pub fn symlink(mut self, path: &str, target: &str) -> Self {
        self.insert(path, Entry::Symlink(PathBuf::from(target)));
        self
    }

    /// Copies a file, a link or a whole folder of the machine (of a node's root file system, say) to `path`.
    pub fn copy(mut self, source: &Path, path: &str) -> Result<Self> {
        self.copy_into(source, Path::new(path.trim_matches('/')))?;
        Ok(self)
    }

    /// Copies a program of a Debian tree ([`Node::rootfs`]) with the libraries it is linked to, e.g.
    /// `usr/bin/redis-server`.
    pub fn program(mut self, rootfs: &Path, path: &str) -> Result<Self> {
        let inside = format!("/{}", path.trim_matches('/'));
        let listed = run("chroot", &[&rootfs.to_string_lossy(), "ldd", &inside])?;
        let libraries = listed.split_whitespace().filter(|word| word.starts_with('/'));
        for file in libraries.chain([inside.as_str()]).map(|file| file.trim_end_matches(':')) {
            let source = rootfs.join(file.trim_start_matches('/'));
            let contents = fs::read(&source).with_context(|| format!("cannot read {}", source.display()))?;
            self.insert(file, Entry::File(0o755, contents));
        }
        Ok(self)
    }

    fn copy_into(&mut self, source: &Path, path: &Path) -> Result<()> {
        let problem = || format!("cannot copy {} into the image {}", source.display(), self.name);
        let metadata = fs::symlink_metadata(source).with_context(problem)?;
        let mode = metadata.permissions().mode() & 0o7777;
        let entry = if metadata.is_symlink() {
            Entry::Symlink(fs::read_link(source).with_context(problem)?)
        } else if metadata.is_dir() {
            for inner in fs::read_dir(source).with_context(problem)? {
                let inner = inner.with_context(|| format!("cannot read {}", source.display()))?;
                self.copy_into(&inner.path(), &path.join(inner.file_name()))?;
            }
            Entry::Directory(mode)
        } else if metadata.is_file() {
            Entry::File(mode, fs::read(source).with_context(problem)?)
        } else {
            return Ok(()); // sockets and devices belong to no image
        };
        if !path.as_os_str().is_empty() {
            self.entries.insert(path.to_owned(), entry);
        }
        Ok(())
    }

    fn insert(&mut self, path: &str, entry: Entry) {
        self.entries.insert(PathBuf::from(path.trim_matches('/')), entry);
    }

    pub fn build(mut self) -> Result<Image> {
        self.add_parents();
        let layer = self.layer().context("cannot write the image's layer")?;
        let layer_digest = hex(&layer);
        let config = serde_json::to_vec(&json!({
            "architecture": architecture()?,
            "os": "linux",
            "created": "2024-01-01T00:00:00Z",
            "config": { "Cmd": self.command, "Env": self.environment },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer_digest}")] },
            "history": [{ "created": "2024-01-01T00:00:00Z", "created_by": "fog-lab" }],
        }))
        .context("cannot write the image's configuration")?;
        let id = hex(&config);
        let layer_path = format!("{layer_digest}/layer.tar");
        let manifest = serde_json::to_vec(&json!([{
            "Config": format!("{id}.json"),
            "RepoTags": [self.name],
            "Layers": [layer_path],
        }]))
        .context("cannot write the image's manifest")?;
        let mut archive = Builder::new(Vec::new());
        for (path, contents) in
            [("manifest.json", &manifest), (format!("{id}.json").as_str(), &config), (layer_path.as_str(), &layer)]
        {
            append(&mut archive, Path::new(path), &Entry::File(0o644, contents.clone()))?;
        }
        let archive = archive.into_inner().context("cannot finish the image's archive")?;
        Ok(Image { name: self.name, id: format!("sha256:{id}"), archive })
    }

    /// Every folder on the way to an entry exists, with the usual mode.
    fn add_parents(&mut self) {
        let parents: Vec<PathBuf> =
            self.entries.keys().flat_map(|path| path.ancestors().skip(1)).map(Path::to_owned).collect();
        for parent in parents.into_iter().filter(|parent| !parent.as_os_str().is_empty()) {
            self.entries.entry(parent).or_insert(Entry::Directory(0o755));
        }
    }

    fn layer(&self) -> Result<Vec<u8>> {
        let mut layer = Builder::new(Vec::new());
        for (path, entry) in &self.entries {
            append(&mut layer, path, entry)?;
        }
        Ok(layer.into_inner()?)
    }
}

fn append(archive: &mut Builder<Vec<u8>>, path: &Path, entry: &Entry) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    let result = match entry {
        Entry::Directory(mode) => {
            header.set_entry_type(EntryType::Directory);
            header.set_mode(*mode);
            header.set_size(0);
            archive.append_data(&mut header, path, std::io::empty())
        }
        Entry::File(mode, contents) => {
            header.set_entry_type(EntryType::Regular);
            header.set_mode(*mode);
            header.set_size(contents.len() as u64);
            archive.append_data(&mut header, path, contents.as_slice())
        }
        Entry::Symlink(target) => {
            header.set_entry_type(EntryType::Symlink);
            header.set_mode(0o777);
            header.set_size(0);
            archive.append_link(&mut header, path, target)
        }
    };
    result.with_context(|| format!("cannot add {} to the archive", path.display()))
}

fn architecture() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => bail!("no image can be built for the processor architecture {other}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
        text
    })
}

/// [`BUSYBOX`] from the static busybox of a root file system.
pub fn busybox(rootfs: &Path) -> Result<Image> {
    let path = rootfs.join("usr/bin/busybox");
    let mut binary = Vec::new();
    fs::File::open(&path)
        .and_then(|mut file| file.read_to_end(&mut binary))
        .with_context(|| format!("cannot read {}", path.display()))?;
    let mut image = ImageBuilder::new(BUSYBOX).command(&LOOPER).file("bin/busybox", 0o755, binary);
    for applet in APPLETS {
        image = image.symlink(&format!("bin/{applet}"), "busybox");
    }
    image
        .directory("root", 0o700)
        .file("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
        .file("etc/group", 0o644, "root:x:0:\nnogroup:x:65534:\n")
        .build()
}

/// Loads an image into a node and makes sure that it is the very image.
pub fn load(node: &Node, image: &Image) -> Result<()> {
    node.run_with_input(&["docker", "load", "--quiet"], &image.archive)
        .with_context(|| format!("cannot load the image {} into node {}", image.name, node.name()))?;
    let found = node.run(&["docker", "image", "inspect", "--format", "{{.Id}}", &image.name])?;
    // With containerd's image store the ID is the digest of a manifest that Docker makes itself.
    let containerd =
        found != image.id && node.run(&["docker", "info", "--format", "{{.DriverStatus}}"])?.contains("containerd");
    ensure!(
        found == image.id || containerd,
        "node {} knows {} as {found}, expected {}",
        node.name(),
        image.name,
        image.id
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(reverse: bool) -> Image {
        let mut builder = ImageBuilder::new("fog/test:1").command(&LOOPER).environment("A", "b");
        let mut files = vec![("/usr/bin/x", "x"), ("etc/y", "y"), ("z", "z")];
        if reverse {
            files.reverse();
        }
        for (path, contents) in files {
            builder = builder.file(path, 0o644, contents);
        }
        builder.symlink("bin/long-link", &"a/".repeat(80)).build().expect("image")
    }

    #[test]
    fn the_same_contents_give_the_same_bytes() {
        let (one, other) = (sample(false), sample(true));
        assert_eq!(one.id, other.id);
        assert!(one.archive == other.archive);
        assert!(one.id.starts_with("sha256:") && one.id.len() == 71);
    }

    #[test]
    fn the_id_is_the_digest_of_the_configuration_in_the_archive() {
        let image = sample(false);
        let mut archive = tar::Archive::new(image.archive.as_slice());
        let mut names = Vec::new();
        for entry in archive.entries().expect("entries") {
            let mut entry = entry.expect("entry");
            let name = entry.path().expect("path").display().to_string();
            let mut contents = Vec::new();
            entry.read_to_end(&mut contents).expect("contents");
            if Path::new(&name).extension().is_some_and(|extension| extension == "json") && name != "manifest.json" {
                assert_eq!(image.id, format!("sha256:{}", hex(&contents)));
            }
            if name.ends_with("layer.tar") {
                assert_eq!(name, format!("{}/layer.tar", hex(&contents)));
            }
            names.push(name);
        }
        assert_eq!(names.len(), 3);
    }

    #[test]
    fn a_folder_is_copied_with_links() {
        let folder = tempfile::tempdir().expect("folder");
        fs::create_dir(folder.path().join("in")).expect("in");
        fs::write(folder.path().join("in/file"), "1").expect("file");
        std::os::unix::fs::symlink("file", folder.path().join("in/link")).expect("link");
        let builder = ImageBuilder::new("fog/test:1").copy(folder.path(), "/opt/x").expect("copied");
        for path in ["opt/x", "opt/x/in", "opt/x/in/file", "opt/x/in/link"] {
            assert!(builder.entries.contains_key(Path::new(path)), "{path}");
        }
    }
}
