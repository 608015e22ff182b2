//! `fogctl support-bundle`: what somebody needs who is to help from afar, without the secrets.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use fog_api::client::MigrationFilter;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::arguments::Bundle;
use crate::exit::{Exit, Failure};
use crate::redact::Redactor;
use crate::render::units;
use crate::session::Session;

/// Migrations in it, and those of them whose logs are.
const MIGRATIONS: u32 = 200;
const LOGS: usize = 20;
const DECISIONS: u32 = 200;
const AUDIT: u32 = 500;
/// The end of a log file that is taken.
const LOG_BYTES: usize = 4 << 20;
/// What is looked for where nobody names a configuration.
const CONFIGURATIONS: [&str; 3] =
    ["/etc/fogshift/orchestrator.toml", "/etc/fogshift/agent.toml", "/etc/fogshift/policy.toml"];
const UNITS: [&str; 2] = ["fog-orchestrator", "fog-agent"];

/// Collects; what cannot be had is said in `missing.txt` and does not stop the rest.
struct Collecting {
    redactor: Redactor,
    entries: Vec<(String, Vec<u8>)>,
    missing: Vec<String>,
}

impl Collecting {
    fn json<T: serde::Serialize, E: std::fmt::Display>(&mut self, name: &str, answer: Result<T, E>) -> Option<T> {
        eprintln!("{name}");
        match answer {
            Ok(value) => {
                let mut clean = serde_json::to_value(&value).unwrap_or(Value::Null);
                self.redactor.json(&mut clean);
                let text = serde_json::to_string_pretty(&clean).unwrap_or_default();
                self.entries.push((name.to_owned(), (text + "\n").into_bytes()));
                Some(value)
            }
            Err(error) => {
                self.missing.push(format!("{name}: {}", self.redactor.text(&error.to_string())));
                None
            }
        }
    }

    fn text<E: std::fmt::Display>(&mut self, name: &str, text: Result<String, E>) {
        eprintln!("{name}");
        match text {
            Ok(text) => self.entries.push((name.to_owned(), self.redactor.text(&text).into_bytes())),
            Err(error) => self.missing.push(format!("{name}: {}", self.redactor.text(&error.to_string()))),
        }
    }

    /// One folder in a compressed archive that only its owner may read.
    fn pack(self, file: File, folder: &str, at: Timestamp) -> std::io::Result<()> {
        let mut entries = self.entries;
        let missing = if self.missing.is_empty() { "nothing\n".to_owned() } else { self.missing.join("\n") + "\n" };
        entries.push(("missing.txt".to_owned(), missing.into_bytes()));
        let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
        for (name, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o600);
            header.set_mtime(at.as_second().unsigned_abs());
            archive.append_data(&mut header, Path::new(folder).join(name), content.as_slice())?;
        }
        archive.into_inner()?.finish()?.flush()
    }
}

pub(super) async fn run(session: &Session, asked: &Bundle) -> Result<Exit, Failure> {
    let at = Timestamp::now();
    let folder = format!("fogshift-support-{}", at.strftime("%Y%m%d-%H%M%S"));
    let path = asked.file.clone().unwrap_or_else(|| PathBuf::from(format!("{folder}.tar.gz")));
    let client = session.reader()?;
    // Whether there is an orchestrator at all is worth knowing before anything else.
    client.ready().await?;
    let failed =
        |error: std::io::Error| Failure::new(Exit::Failed, format!("cannot write {}: {error}", path.display()));
    let file = private(&path).map_err(failed)?;
    let secrets = session.secret().into_iter();
    let mut all = Collecting { redactor: Redactor::new(secrets), entries: Vec::new(), missing: Vec::new() };
    let version = json!({ "fogctl": env!("CARGO_PKG_VERSION"), "url": session.url(), "at": at });
    all.json("version.json", Ok::<_, String>(version));
    all.json("settings.json", Ok::<_, String>(session.settings()));
    all.json("doctor.json", client.doctor().await);
    let nodes = all.json("nodes.json", client.nodes().await);
    for node in nodes.iter().flat_map(|nodes| &nodes.items).take(asked.nodes) {
        all.json(&format!("nodes/{}.doctor.json", node.name), client.node_doctor(&node.name).await);
    }
    all.json("links.json", client.links().await);
    all.json("workloads.json", client.workloads(None).await);
    let filter = MigrationFilter { workload: None, limit: Some(MIGRATIONS) };
    let migrations = all.json("migrations.json", client.migrations(&filter).await);
    for migration in migrations.iter().flat_map(|list| &list.items).take(LOGS) {
        all.json(&format!("migrations/{}.log.json", migration.id), client.migration_log(migration.id).await);
    }
    all.json("decisions.json", client.decisions(Some(DECISIONS)).await);
    all.json("drains.json", client.drains().await);
    all.json("policy.json", client.policy().await);
    all.json("policy-history.json", client.policy_history().await);
    all.json("plan.json", client.plan().await);
    all.json("audit.json", client.audit(Some(AUDIT)).await);
    all.text("metrics.txt", client.metrics().await);
    let configurations = CONFIGURATIONS.iter().map(PathBuf::from).filter(|file| file.exists());
    for file in configurations.chain(asked.config.iter().cloned()) {
        all.text(&format!("config/{}", name(&file)), std::fs::read_to_string(&file));
    }
    for file in &asked.log {
        all.text(&format!("logs/{}", name(file)), end_of(file));
    }
    if !asked.no_journal {
        for unit in UNITS {
            if let Some(text) = journal(unit).await {
                all.text(&format!("logs/{unit}.journal"), text);
            }
        }
    }
    let (count, missing) = (all.entries.len(), all.missing.len());
    all.pack(file, &folder, at).map_err(failed)?;
    let bytes = std::fs::metadata(&path).map_err(failed)?.len();
    let done = json!({ "file": path, "bytes": bytes, "entries": count, "missing": missing });
    session.result(&done, |_| {
        let size = units::bytes(bytes);
        format!(
            "{}  {size}, {count} files, {missing} could not be had (missing.txt says why).\nSecrets are removed; read it before \
             you give it away: names, addresses and images are in it.\n",
            path.display()
        )
    })?;
    Ok(Exit::Done)
}

fn private(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

/// A file's path as one name.
fn name(file: &Path) -> String {
    file.to_string_lossy().trim_start_matches('/').replace(['/', '\\'], "_")
}

fn end_of(file: &Path) -> std::io::Result<String> {
    let bytes = std::fs::read(file)?;
    let from = bytes.len().saturating_sub(LOG_BYTES);
    Ok(String::from_utf8_lossy(&bytes[from..]).into_owned())
}

/// The last day of a unit's journal; `None` where there is no systemd.
async fn journal(unit: &str) -> Option<Result<String, String>> {
    let arguments = ["--unit", unit, "--since", "-1d", "--no-pager", "--output", "short-iso"];
    let output = tokio::process::Command::new("journalctl").args(arguments).output().await.ok()?;
    if !output.status.success() {
        return Some(Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let from = output.stdout.len().saturating_sub(LOG_BYTES);
    Some(Ok(String::from_utf8_lossy(&output.stdout[from..]).into_owned()))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn nothing_secret_is_in_the_archive_and_all_else_is() {
        let folder = std::env::temp_dir().join(format!("fogctl-bundle-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("b.tar.gz");
        let redactor = Redactor::new(["my-own-token".to_owned()]);
        let mut all = Collecting { redactor, entries: Vec::new(), missing: Vec::new() };
        let webhooks = json!({ "items": [{ "url": "https://u:planted-a@h", "secret": "planted-b" }] });
        all.json("webhooks.json", Ok::<_, String>(webhooks));
        all.text("logs/x", Ok::<_, String>("FOG_TOKEN=planted-c\nserving with my-own-token\n".to_owned()));
        all.text("gone", Err::<String, _>("password=planted-d"));
        all.pack(private(&path).unwrap(), "bundle", Timestamp::UNIX_EPOCH).unwrap();
        assert!(private(&path).is_err(), "nothing is written over");
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(File::open(&path).unwrap()));
        let (mut names, mut whole) = (Vec::new(), String::new());
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            names.push(entry.path().unwrap().display().to_string());
            entry.read_to_string(&mut whole).unwrap();
        }
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(names, ["bundle/webhooks.json", "bundle/logs/x", "bundle/missing.txt"]);
        assert!(!whole.contains("planted") && !whole.contains("my-own-token"), "{whole}");
        assert!(whole.contains("gone: password=(removed)") && whole.contains("serving with"), "{whole}");
    }
}
