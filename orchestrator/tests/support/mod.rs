//! A real orchestrator process with simulated nodes.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fog_api::migration::Migration;
use fog_sim::node::{Load, SimNode};
use fog_sim::world::World;
use tokio::task::AbortHandle;

pub const DEADLINE: Duration = Duration::from_secs(30);

/// Short periods, so that tests wait little; everything else as people get it.
pub const POLICY: &str = "
[sampling]
interval_s = 0.1
window = 3
[heartbeat]
interval_s = 0.1
suspect_s = 3.0
offline_s = 6.0
";

pub struct Orchestrator {
    process: Child,
    pub url: String,
    pub token: String,
    pub http: reqwest::Client,
    dir: tempfile::TempDir,
    port: u16,
    pub nodes: Vec<AbortHandle>,
}

impl Drop for Orchestrator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.nodes.iter().for_each(AbortHandle::abort);
    }
}

/// What came back; `body` is null where it is no JSON.
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: serde_json::Value,
}

async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default();
    Answer { status, headers, body }
}

fn spawn(dir: &Path, port: u16) -> Child {
    command(dir, port).spawn().unwrap()
}

fn command(dir: &Path, port: u16) -> Command {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_fog-orchestrator"));
    command
        .arg("--config")
        .arg(dir.join("orchestrator.toml"))
        .args(["--listen", &format!("127.0.0.1:{port}")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    command
}

impl Orchestrator {
    pub async fn start() -> Self {
        Self::start_with(POLICY).await
    }

    pub async fn start_with(policy: &str) -> Self {
        Self::start_as(policy, "").await
    }

    /// With more lines in the configuration.
    pub async fn start_configured(lines: &str) -> Self {
        Self::start_as(POLICY, lines).await
    }

    async fn start_as(policy: &str, lines: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (data, policy_file) = (dir.path().join("data"), dir.path().join("policy.toml"));
        std::fs::write(&policy_file, policy).unwrap();
        let patience = if lines.contains("stall_timeout_s") { "" } else { "stall_timeout_s = 3\n" };
        let config = format!("data_dir = {data:?}\npolicy = {policy_file:?}\n{patience}{lines}");
        std::fs::write(dir.path().join("orchestrator.toml"), config).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = spawn(dir.path(), port);
        let url = format!("http://127.0.0.1:{port}");
        let http = reqwest::Client::new();
        let mut this = Self { process, url, token: String::new(), http, dir, port, nodes: Vec::new() };
        this.ready().await;
        this.token = std::fs::read_to_string(data.join("token")).unwrap().trim().to_owned();
        this
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    pub fn write_policy(&self, text: &str) {
        std::fs::write(self.dir.path().join("policy.toml"), text).unwrap();
    }

    pub fn database(&self) -> PathBuf {
        self.dir.path().join("data/fogshift.db")
    }

    async fn ready(&self) {
        let ready =
            || async { self.http.get(format!("{}/readyz", self.url)).send().await.ok()?.error_for_status().ok() };
        self.until("the orchestrator is ready", ready).await;
    }

    /// SIGKILL: no handler runs.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub async fn restart(&mut self) {
        self.process = spawn(self.dir.path(), self.port);
        self.ready().await;
    }

    /// Starts it again so that it dies at a write of its ledger, see `store/fail_point.rs`.
    pub async fn restart_to_die(&mut self, at: &str) {
        self.process = command(self.dir.path(), self.port).env("FOG_DIE_AT", at).spawn().unwrap();
        self.ready().await;
    }

    /// Waits until it has died.
    pub async fn died(&mut self) {
        let begin = Instant::now();
        while !self.is_dead() {
            assert!(begin.elapsed() < DEADLINE, "it does not die\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn database_says(&self, question: &'static str) -> Vec<sqlx::sqlite::SqliteRow> {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(self.database());
        let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
        let rows = sqlx::query(question).fetch_all(&pool).await.unwrap();
        pool.close().await;
        rows
    }

    /// What SQLite finds wrong with the file.
    pub async fn integrity(&self) -> String {
        sqlx::Row::get(&self.database_says("PRAGMA integrity_check").await[0], 0)
    }

    /// Who owns the only workload, with the epoch.
    pub async fn owner(&self, workload: &str) -> (String, i64) {
        let rows = self.database_says("SELECT workload, owner, epoch FROM ownership").await;
        let row = rows.iter().find(|row| sqlx::Row::get::<String, _>(*row, 0) == workload).unwrap();
        (sqlx::Row::get(row, 1), sqlx::Row::get(row, 2))
    }

    /// Asks for a migration; `None`: it was not acknowledged.
    pub async fn try_migrate(&self, workload: &str, to: &str) -> Option<String> {
        let body = serde_json::json!({"workload": workload, "destination": to});
        let request = self.http.post(format!("{}/v1/migrations", self.url)).bearer_auth(&self.token).json(&body);
        let response = request.send().await.ok()?;
        if response.status() != 202 {
            return None;
        }
        let body: serde_json::Value = response.json().await.ok()?;
        Some(body["id"].as_str()?.to_owned())
    }

    /// The newest migration's id.
    pub async fn newest_migration(&self) -> Option<String> {
        let list = self.get("/v1/migrations").await;
        Some(list["items"].as_array()?.first()?["id"].as_str()?.to_owned())
    }

    /// Whether nothing is left to do for a migration, on either end.
    pub async fn finished(&self, id: &str) -> bool {
        let rows = self.database_says("SELECT id, finished FROM migrations").await;
        rows.iter().any(|row| sqlx::Row::get::<String, _>(row, 0) == id && sqlx::Row::get::<i64, _>(row, 1) == 1)
    }

    /// Whether it has died by itself.
    pub fn is_dead(&mut self) -> bool {
        self.process.try_wait().unwrap().is_some()
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits for a condition, or fails with the log.
    pub async fn until<T, F: Future<Output = Option<T>>>(&self, what: &str, mut condition: impl FnMut() -> F) -> T {
        let begin = Instant::now();
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            assert!(begin.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn node(&mut self, world: &Arc<World>, name: &str, cpu: f64, rtt_ms: &[(&str, f64)]) -> Arc<SimNode> {
        let rtt_ms = rtt_ms.iter().map(|(to, ms)| ((*to).to_owned(), *ms)).collect();
        let node = SimNode::new(name, Load { cpu, memory: 0.3, rtt_ms }, world, Duration::from_millis(100));
        self.nodes.push(tokio::spawn(Arc::clone(&node).run(self.url.clone(), self.token.clone())).abort_handle());
        node
    }

    pub async fn get(&self, path: &str) -> serde_json::Value {
        self.http.get(format!("{}{path}", self.url)).send().await.unwrap().json().await.unwrap()
    }

    pub async fn post(&self, path: &str, body: serde_json::Value) -> (u16, serde_json::Value) {
        let request = self.http.post(format!("{}{path}", self.url)).bearer_auth(&self.token).json(&body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// Any request, with the token.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<serde_json::Value>,
    ) -> Answer {
        let mut request = self.http.request(method.parse().unwrap(), format!("{}{path}", self.url));
        request = request.bearer_auth(&self.token);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        answer(request).await
    }

    /// A request without a body, with somebody's token.
    pub async fn as_whom(&self, token: Option<&str>, method: &str, path: &str) -> Answer {
        let request = self.http.request(method.parse().unwrap(), format!("{}{path}", self.url));
        answer(match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
        .await
    }

    /// The first page of a list.
    pub async fn list(&self, path: &str) -> Vec<serde_json::Value> {
        let answer = self.send("GET", path, &[], None).await;
        answer.body["items"].as_array().unwrap_or_else(|| panic!("{path}: {}", answer.body)).clone()
    }

    /// Waits until a workload is known on a node.
    pub async fn workload_on(&self, workload: &str, node: &str) {
        let there = || async {
            let list = self.get("/v1/workloads").await;
            let there = list["items"].as_array()?.iter().any(|w| w["name"] == workload && w["node"] == node);
            there.then_some(())
        };
        self.until(&format!("{workload} is on {node}"), there).await;
    }

    /// Waits until every node is active.
    pub async fn active(&self, count: usize) {
        let active = || async {
            let list = self.get("/v1/nodes").await;
            let active = list["items"].as_array()?.iter().filter(|node| node["availability"] == "active").count();
            (active == count).then_some(())
        };
        self.until(&format!("{count} nodes are active"), active).await;
    }

    /// Asks for a migration and returns its id.
    pub async fn migrate(&self, workload: &str, to: &str) -> String {
        let (status, body) =
            self.post("/v1/migrations", serde_json::json!({"workload": workload, "destination": to})).await;
        assert_eq!(status, 202, "{body}");
        body["id"].as_str().unwrap().to_owned()
    }

    /// Waits until a migration is over.
    pub async fn over(&self, id: &str) -> Migration {
        self.until(&format!("migration {id} is over"), || self.try_over(id)).await
    }

    /// A migration that is over; `None`: it is not, or nobody answers.
    pub async fn try_over(&self, id: &str) -> Option<Migration> {
        let response = self.http.get(format!("{}/v1/migrations/{id}", self.url)).send().await.ok()?;
        let migration: Migration = response.json().await.ok()?;
        migration.phase.is_over().then_some(migration)
    }
}
