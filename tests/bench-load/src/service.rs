//! The orchestrator under test: a process of its own, with its own database.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

const POLICY: &str = "
[sampling]
interval_s = 5.0
window = 3
[heartbeat]
interval_s = 5.0
suspect_s = 15.0
offline_s = 30.0
";

/// Ends with its owner.
pub struct Orchestrator {
    process: Child,
    program: PathBuf,
    dir: tempfile::TempDir,
    port: u16,
    pub url: String,
    pub token: String,
    pub http: reqwest::Client,
}

impl Drop for Orchestrator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(program: &Path, dir: &Path, port: u16) -> Result<Child> {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("log"))?;
    Command::new(program)
        .args(["--listen", &format!("127.0.0.1:{port}")])
        .arg("--data-dir")
        .arg(dir.join("data"))
        .arg("--policy")
        .arg(dir.join("policy.toml"))
        .env("RUST_LOG", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))
}

impl Orchestrator {
    pub async fn start(program: &Path) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        std::fs::write(dir.path().join("policy.toml"), POLICY)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let process = spawn(program, dir.path(), port)?;
        let http = reqwest::Client::builder().timeout(Duration::from_secs(30)).build()?;
        let url = format!("http://127.0.0.1:{port}");
        let program = program.to_owned();
        let mut this = Self { process, program, dir, port, url, token: String::new(), http };
        this.ready().await?;
        this.token = std::fs::read_to_string(this.dir.path().join("data/token"))?.trim().to_owned();
        Ok(this)
    }

    /// How long it took until it answers that it is ready.
    async fn ready(&self) -> Result<Duration> {
        let begin = Instant::now();
        loop {
            let answer = self.http.get(format!("{}/readyz", self.url)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(begin.elapsed());
            }
            ensure!(begin.elapsed() < Duration::from_secs(60), "the orchestrator does not answer:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// SIGKILL, and a new start: how long until it serves again.
    pub async fn restart(&mut self) -> Result<Duration> {
        self.process.kill()?;
        self.process.wait()?;
        self.process = spawn(&self.program, self.dir.path(), self.port)?;
        self.ready().await
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// CPU seconds used, resident bytes now and at most, bytes given to the disk.
    pub fn usage(&self) -> Result<Usage> {
        let process = procfs::process::Process::new(self.process.id().cast_signed())?;
        let (stat, status) = (process.stat()?, process.status()?);
        Ok(Usage {
            at: Instant::now(),
            cpu_s: (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64,
            memory_bytes: status.vmrss.unwrap_or(0) * 1024,
            most_memory_bytes: status.vmhwm.unwrap_or(0) * 1024,
            written_bytes: process.io().map_or(0, |io| io.write_bytes),
        })
    }

    pub async fn metrics(&self) -> Result<String> {
        Ok(self.http.get(format!("{}/metrics", self.url)).send().await?.error_for_status()?.text().await?)
    }

    /// One of its metrics.
    pub async fn metric(&self, series: &str) -> Result<f64> {
        let text = self.metrics().await?;
        let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        let value = line.and_then(|line| line.rsplit(' ').next()).with_context(|| format!("no metric {series}"))?;
        Ok(value.parse()?)
    }
}

/// What a process has used.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    at: Instant,
    cpu_s: f64,
    pub memory_bytes: u64,
    pub most_memory_bytes: u64,
    written_bytes: u64,
}

impl Usage {
    /// Cores busy since.
    pub fn cores_since(&self, before: &Self) -> f64 {
        (self.cpu_s - before.cpu_s) / self.at.duration_since(before.at).as_secs_f64()
    }

    /// Bytes a second written since.
    pub fn written_since(&self, before: &Self) -> f64 {
        (self.written_bytes - before.written_bytes) as f64 / self.at.duration_since(before.at).as_secs_f64()
    }
}
