//! The orchestrator: the real service on a real database, and what starts and ends it.
//!
//! Left out is only what has nothing to do with where a container is: reading the policy file again at SIGHUP, bringing
//! samples from level to level, forgetting old history, the pulse, webhooks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{Request, StatusCode};
use fog_orchestrator::app::App;
use fog_orchestrator::config::Config;
use fog_orchestrator::policy::PolicyHolder;
use fog_orchestrator::store::Store;
use fog_orchestrator::{driver, http, ingest, peers, planner, service};
use serde_json::Value;
use tokio::task::JoinHandle;
use tower::ServiceExt;

use crate::agent::{TOKEN, copy};
use crate::cluster::{Broken, Cluster};
use crate::disk::DISK;
use crate::network::Network;

/// As it is at first. Samples are few, so that hours pass quickly; cooldowns are short, so that much happens.
pub const POLICY: &str = "
max_downtime_ms = 60000
[sampling]
interval_s = 30.0
window = 1
[heartbeat]
interval_s = 30.0
suspect_s = 70.0
offline_s = 200.0
[cooldown]
moved_s = 60.0
return_s = 120.0
failed_s = 30.0
settle_s = 30.0
";

/// What lasts across its lives.
pub struct Orchestrator {
    folder: PathBuf,
    lives: u64,
    now: Option<Running>,
    /// The disk as it was a while ago, for [`Broken::LosesWrites`].
    older: Option<PathBuf>,
}

/// One that runs.
struct Running {
    app: App,
    router: Router,
    tasks: Vec<JoinHandle<()>>,
}

impl Orchestrator {
    /// One that has never run.
    pub fn new(folder: &Path) -> Orchestrator {
        Orchestrator { folder: folder.join("orchestrator"), lives: 0, now: None, older: None }
    }

    /// The service, while it runs.
    pub fn app(&self) -> Option<&App> {
        self.now.as_ref().map(|running| &running.app)
    }

    fn data(&self, life: u64) -> PathBuf {
        self.folder.join(format!("data-{life}"))
    }

    /// Starts it.
    pub async fn start(&mut self, cluster: &Cluster, network: &Network) -> anyhow::Result<()> {
        self.lives += 1;
        let data_dir = self.data(self.lives);
        std::fs::create_dir_all(&data_dir)?;
        let policy = self.folder.join("policy.toml");
        std::fs::write(&policy, POLICY)?;
        std::fs::write(data_dir.join("token"), TOKEN)?;
        let store = Store::open_single(&data_dir.join("fogshift.db"), DISK.may_go_on(self.lives)).await?;
        let config = Config { data_dir, policy: Some(policy.clone()), ..Config::default() };
        let app = service::around(config, PolicyHolder::load(Some(policy))?, store).await?;
        let listener = network.listen();
        driver::resume_all(&app).await?;
        let router = http::router(app.clone());
        let service = router.clone().into_make_service();
        let tasks = vec![
            tokio::spawn(async move { drop(axum::serve(listener, service).await) }),
            tokio::spawn(planner::run(app.clone())),
            tokio::spawn(ingest::watch_silence(app.clone())),
            tokio::spawn(peers::keep_told(app.clone())),
        ];
        cluster.inner().orchestrator = Some(app.clone());
        self.now = Some(Running { app, router, tasks });
        cluster.change(|inner| inner.say("the orchestrator starts"));
        Ok(())
    }

    /// Dies at once: what it has written stays, its connections are reset, nothing of it acts any more.
    pub fn die(&mut self, cluster: &Cluster, network: &Network) -> anyhow::Result<()> {
        let Some(Running { app, tasks, .. }) = self.now.take() else { return Ok(()) };
        DISK.died(self.lives);
        // The dead one's tasks come to their ends on a disk that nobody reads any more.
        let old = self.older.take().unwrap_or_else(|| self.data(self.lives));
        copy(&old, &self.data(self.lives + 1))?;
        app.shutdown.cancel();
        tasks.iter().for_each(JoinHandle::abort);
        network.end_listening();
        let mut inner = cluster.inner();
        inner.orchestrator = None;
        inner.say("the orchestrator died");
        drop(inner);
        tokio::spawn(async move {
            app.drivers.ended().await;
            app.store.close().await;
        });
        if self.lives > 1 {
            let _ = std::fs::remove_dir_all(self.data(self.lives - 1));
        }
        Ok(())
    }

    /// Keeps the disk as it is now, for [`Broken::LosesWrites`].
    pub fn look_back(&mut self, cluster: &Cluster) -> anyhow::Result<()> {
        if cluster.is(Broken::LosesWrites) && self.now.is_some() {
            let older = self.folder.join("older");
            let _ = std::fs::remove_dir_all(&older);
            copy(&self.data(self.lives), &older)?;
            self.older = Some(older);
        }
        Ok(())
    }

    /// A person's request. The answer comes as long as the orchestrator lives.
    pub fn ask(
        &self,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Option<impl Future<Output = Option<(StatusCode, Value)>> + Send + 'static> {
        let Running { app, router, .. } = self.now.as_ref()?;
        let person: std::net::SocketAddr = ([10, 0, 0, 200], 40000).into();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {TOKEN}"))
            .header("content-type", "application/json")
            .header("if-match", "*")
            .extension(ConnectInfo(person))
            .body(if body.is_null() { Body::empty() } else { Body::from(body.to_string()) });
        let (router, gone) = (router.clone(), app.shutdown.clone());
        Some(async move {
            let answering = async {
                let response = router.oneshot(request.ok()?).await.ok()?;
                let status = response.status();
                let bytes = to_bytes(response.into_body(), 1 << 20).await.ok()?;
                Some((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
            };
            tokio::select! {
                biased;
                () = gone.cancelled() => None,
                answer = tokio::time::timeout(Duration::from_secs(120), answering) => answer.ok().flatten(),
            }
        })
    }
}
