//! The typed client of the REST API, for `fogctl` and the tests.
//!
//! One method a route. A method fails in one of four ways ([`ClientError`]), so that a caller can tell "not there" from
//! "said no" from "this is no orchestrator". What takes long is followed by server-sent events: [`Client::notices`],
//! [`Client::wait_for_migration`].

mod error;
mod notice;
mod sse;
mod wait;

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::IF_MATCH;
use reqwest::{Method, RequestBuilder, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::audit::AuditEntry;
use crate::decision::Decision;
use crate::doctor;
use crate::drain::Drain;
use crate::identity::Identity;
use crate::list::List;
use crate::migration::{LogLine, Migration, MigrationRequest, ResolveRequest};
use crate::node::{Link, Node, Samples};
use crate::policy::{PolicyCheck, PolicyDifference, PolicyRequest, PolicyVersion, PolicyView, RollbackRequest};
use crate::preflight::Preflight;
use crate::problem::Problem;
use crate::workload::Workload;

pub use error::ClientError;
pub use notice::{Notice, Told};
pub use wait::{Update, Waited};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Which migrations a list is to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MigrationFilter {
    /// Only this workload's.
    pub workload: Option<String>,
    /// At most so many, 1 to 1000; the orchestrator's default when left out.
    pub limit: Option<u32>,
}

/// Speaks to one orchestrator. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<String>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the orchestrator at `url`, for example `http://127.0.0.1:7700`. Writes need the token.
    pub fn new(url: &str, token: Option<&str>) -> Result<Self, ClientError> {
        let base = address(url)?;
        let token = token.map(str::trim).filter(|token| !token.is_empty()).map(str::to_owned);
        if token.as_deref().is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
            let why = "the token holds characters that no token has; is the right file given?".to_owned();
            return Err(ClientError::Address { url: url.to_owned(), why });
        }
        // The orchestrator stands in the fog's own network: a proxy for the internet does not lead there.
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("fog-api/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| ClientError::Address { url: url.to_owned(), why: error::innermost(&error) })?;
        Ok(Self { http, base, token })
    }

    /// The orchestrator's address.
    pub fn url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Every node.
    pub async fn nodes(&self) -> Result<List<Node>, ClientError> {
        self.whole(&["v1", "nodes"], &[]).await
    }

    /// Every link, as each of its ends measured it.
    pub async fn links(&self) -> Result<List<Link>, ClientError> {
        self.whole(&["v1", "links"], &[]).await
    }

    /// A node's past, in points of `step_s` seconds; the orchestrator chooses what is left out.
    pub async fn samples(
        &self,
        node: &str,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
        step_s: Option<u32>,
    ) -> Result<Samples, ClientError> {
        let text = |at: Option<Timestamp>| at.map(|at| at.to_string());
        let query = [("from", text(from)), ("to", text(to)), ("step_s", step_s.map(|step| step.to_string()))];
        self.get(&["v1", "nodes", node, "samples"], &query).await
    }

    /// One node.
    pub async fn node(&self, name: &str) -> Result<Node, ClientError> {
        self.get(&["v1", "nodes", name], &[]).await
    }

    /// What the orchestrator finds at itself.
    pub async fn doctor(&self) -> Result<doctor::Report, ClientError> {
        self.get(&["v1", "doctor"], &[]).await
    }

    /// What a node's agent finds there.
    pub async fn node_doctor(&self, node: &str) -> Result<doctor::Report, ClientError> {
        self.get(&["v1", "nodes", node, "doctor"], &[]).await
    }

    /// What `/metrics` says.
    pub async fn metrics(&self) -> Result<String, ClientError> {
        let request = self.request(Method::GET, &["metrics"], &[])?.timeout(REQUEST_TIMEOUT);
        let response = self.send(request).await?;
        response.text().await.map_err(|error| ClientError::from_request(self.url(), &error))
    }

    /// What an order of a node (`cordon`, `uncordon`, `drain`) would make of it; nothing is changed.
    pub async fn try_order(&self, node: &str, order: &str) -> Result<Node, ClientError> {
        self.try_out(&["v1", "nodes", node, order], None::<&()>).await
    }

    /// Whether a migration could begin, and where it would go; nothing is changed.
    pub async fn try_migrate(&self, request: &MigrationRequest) -> Result<Decision, ClientError> {
        self.try_out(&["v1", "migrations"], Some(request)).await
    }

    /// Whether a migration could be cancelled; nothing is changed.
    pub async fn try_cancel(&self, id: Uuid) -> Result<Migration, ClientError> {
        self.try_out(&["v1", "migrations", &id.to_string(), "cancel"], None::<&()>).await
    }

    /// What an answer (`approve`, `dismiss`) would make of a decision; nothing is changed.
    pub async fn try_answer(&self, decision: Uuid, answer: &str) -> Result<Decision, ClientError> {
        self.try_out(&["v1", "decisions", &decision.to_string(), answer], None::<&()>).await
    }

    /// Nothing new comes to the node.
    pub async fn cordon(&self, node: &str) -> Result<Node, ClientError> {
        self.post(&["v1", "nodes", node, "cordon"], None::<&()>).await
    }

    /// The node is used again, and no longer drained.
    pub async fn uncordon(&self, node: &str) -> Result<Node, ClientError> {
        self.post(&["v1", "nodes", node, "uncordon"], None::<&()>).await
    }

    /// Everything that can move leaves the node, and nothing new comes.
    pub async fn drain(&self, node: &str) -> Result<Node, ClientError> {
        self.post(&["v1", "nodes", node, "drain"], None::<&()>).await
    }

    /// What the planner would do now: fog-core's plan as JSON.
    pub async fn plan(&self) -> Result<serde_json::Value, ClientError> {
        self.get(&["v1", "plan"], &[]).await
    }

    /// Every workload, or those of one node.
    pub async fn workloads(&self, node: Option<&str>) -> Result<List<Workload>, ClientError> {
        self.whole(&["v1", "workloads"], &[("node", node.map(str::to_owned))]).await
    }

    /// One workload.
    pub async fn workload(&self, name: &str) -> Result<Workload, ClientError> {
        self.get(&["v1", "workloads", name], &[]).await
    }

    /// Migrations, newest first.
    pub async fn migrations(&self, filter: &MigrationFilter) -> Result<List<Migration>, ClientError> {
        let query = [("workload", filter.workload.clone()), ("limit", filter.limit.map(|limit| limit.to_string()))];
        self.get(&["v1", "migrations"], &query).await
    }

    /// One migration.
    pub async fn migration(&self, id: Uuid) -> Result<Migration, ClientError> {
        self.get(&["v1", "migrations", &id.to_string()], &[]).await
    }

    /// Every reason against moving a workload to a node, before anything is touched.
    pub async fn preflight(&self, workload: &str, to: &str) -> Result<Preflight, ClientError> {
        let query = [("workload", Some(workload.to_owned())), ("to", Some(to.to_owned()))];
        self.get(&["v1", "preflight"], &query).await
    }

    /// Begins a migration; it goes on after this returns.
    pub async fn migrate(&self, request: &MigrationRequest) -> Result<Migration, ClientError> {
        self.post(&["v1", "migrations"], Some(request)).await
    }

    /// Asks a migration to stop and roll back; possible until its commit.
    pub async fn cancel(&self, id: Uuid) -> Result<Migration, ClientError> {
        self.post(&["v1", "migrations", &id.to_string(), "cancel"], None::<&()>).await
    }

    /// Says which end keeps the workload of a migration that cannot end by itself; `dry_run`: only whether that is possible.
    pub async fn resolve(&self, id: Uuid, word: &ResolveRequest, dry_run: bool) -> Result<Migration, ClientError> {
        let query = [("dry_run", dry_run.then(|| "true".to_owned()))];
        let path = ["v1", "migrations", &id.to_string(), "resolve"];
        let request = self.request(Method::POST, &path, &query)?.timeout(REQUEST_TIMEOUT).json(word);
        self.read(self.send(request).await?).await
    }

    /// Decisions, newest first.
    pub async fn decisions(&self, limit: Option<u32>) -> Result<List<Decision>, ClientError> {
        self.get(&["v1", "decisions"], &[("limit", limit.map(|limit| limit.to_string()))]).await
    }

    /// One decision.
    pub async fn decision(&self, id: Uuid) -> Result<Decision, ClientError> {
        self.get(&["v1", "decisions", &id.to_string()], &[]).await
    }

    /// Approves a proposed decision: it is carried out.
    pub async fn approve(&self, decision: Uuid) -> Result<Decision, ClientError> {
        self.post(&["v1", "decisions", &decision.to_string(), "approve"], None::<&()>).await
    }

    /// Dismisses a proposed or recommended decision: its workload is left alone for a while.
    pub async fn dismiss(&self, decision: Uuid) -> Result<Decision, ClientError> {
        self.post(&["v1", "decisions", &decision.to_string(), "dismiss"], None::<&()>).await
    }

    /// What the planner would do in another mode than the policy's: fog-core's plan as JSON.
    pub async fn plan_in(&self, mode: &str) -> Result<serde_json::Value, ClientError> {
        self.get(&["v1", "plan"], &[("mode", Some(mode.to_owned()))]).await
    }

    /// Evens the cluster out once: the migrations that this begins.
    pub async fn rebalance(&self) -> Result<List<Migration>, ClientError> {
        self.post(&["v1", "rebalance"], None::<&()>).await
    }

    /// The policy in force.
    pub async fn policy(&self) -> Result<PolicyView, ClientError> {
        self.get(&["v1", "policy"], &[]).await
    }

    /// Puts a policy into force in the place of version `replaces`; fails with status 412 if another one is in force by then.
    pub async fn put_policy(&self, policy: &PolicyRequest, replaces: u64) -> Result<PolicyView, ClientError> {
        let tag = format!("\"{replaces}\"");
        let request = self.request(Method::PUT, &["v1", "policy"], &[])?.header(IF_MATCH, tag).json(policy);
        self.read(self.send(request.timeout(REQUEST_TIMEOUT)).await?).await
    }

    /// Puts version `to` into force again in the place of version `replaces`.
    pub async fn roll_back_policy(&self, to: &RollbackRequest, replaces: u64) -> Result<PolicyView, ClientError> {
        let tag = format!("\"{replaces}\"");
        let request = self.request(Method::POST, &["v1", "policy", "rollback"], &[])?.header(IF_MATCH, tag).json(to);
        self.read(self.send(request.timeout(REQUEST_TIMEOUT)).await?).await
    }

    /// Whether a policy could be put into force, and what it would change.
    pub async fn check_policy(&self, policy: &PolicyRequest) -> Result<PolicyCheck, ClientError> {
        self.post(&["v1", "policy", "check"], Some(policy)).await
    }

    /// Every policy that was ever in force, newest first.
    pub async fn policy_history(&self) -> Result<List<PolicyVersion>, ClientError> {
        self.whole(&["v1", "policy", "history"], &[]).await
    }

    /// One version, with what differs from `against`, or from the one before.
    pub async fn policy_difference(&self, version: u64, against: Option<u64>) -> Result<PolicyDifference, ClientError> {
        let query = [("against", against.map(|version| version.to_string()))];
        self.get(&["v1", "policy", "history", &version.to_string()], &query).await
    }

    /// Who did what, newest first, at most `limit`.
    pub async fn audit(&self, limit: Option<u32>) -> Result<List<AuditEntry>, ClientError> {
        self.get(&["v1", "audit"], &[("limit", limit.map(|limit| limit.to_string()))]).await
    }

    /// The nodes that are being emptied, with what is left on them and why.
    pub async fn drains(&self) -> Result<List<Drain>, ClientError> {
        self.whole(&["v1", "drains"], &[]).await
    }

    /// Whose token this is.
    pub async fn whoami(&self) -> Result<Identity, ClientError> {
        self.get(&["v1", "whoami"], &[]).await
    }

    /// What the orchestrator logged about a migration, oldest first.
    pub async fn migration_log(&self, id: Uuid) -> Result<List<LogLine>, ClientError> {
        self.whole(&["v1", "migrations", &id.to_string(), "log"], &[]).await
    }

    /// Whether the orchestrator can work.
    pub async fn ready(&self) -> Result<(), ClientError> {
        let request = self.request(Method::GET, &["readyz"], &[])?.timeout(REQUEST_TIMEOUT);
        self.send(request).await.map(drop)
    }

    /// Every page of a list as one.
    async fn whole<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, Option<String>)],
    ) -> Result<List<T>, ClientError> {
        let mut items = Vec::new();
        let mut cursor = None;
        loop {
            let mut query = query.to_vec();
            query.extend([("limit", Some("1000".to_owned())), ("cursor", cursor)]);
            let page: List<T> = self.get(path, &query).await?;
            items.extend(page.items);
            match page.next_cursor {
                Some(next) => cursor = Some(next),
                None => return Ok(List { items, next_cursor: None }),
            }
        }
    }

    async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, Option<String>)],
    ) -> Result<T, ClientError> {
        let request = self.request(Method::GET, path, query)?.timeout(REQUEST_TIMEOUT);
        self.read(self.send(request).await?).await
    }

    async fn post<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: Option<&B>,
    ) -> Result<T, ClientError> {
        let mut request = self.request(Method::POST, path, &[])?.timeout(REQUEST_TIMEOUT);
        if let Some(body) = body {
            request = request.json(body);
        }
        self.read(self.send(request).await?).await
    }

    async fn try_out<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: Option<&B>,
    ) -> Result<T, ClientError> {
        let dry = [("dry_run", Some("true".to_owned()))];
        let mut request = self.request(Method::POST, path, &dry)?.timeout(REQUEST_TIMEOUT);
        if let Some(body) = body {
            request = request.json(body);
        }
        self.read(self.send(request).await?).await
    }

    fn request(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, Option<String>)],
    ) -> Result<RequestBuilder, ClientError> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        for (name, value) in query {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        let request = self.http.request(method, url);
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }

    /// Sends, and tells success from every kind of failure.
    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await.map_err(|error| ClientError::from_request(self.url(), &error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.map_err(|error| ClientError::from_request(self.url(), &error))?;
        Err(match serde_json::from_str::<Problem>(&text) {
            Ok(problem) => ClientError::Problem(problem),
            Err(_) => ClientError::Unexpected {
                url: self.url().to_owned(),
                status: Some(status.as_u16()),
                what: format!("it answered {status}: {}", error::beginning(&text)),
            },
        })
    }

    async fn read<T: DeserializeOwned>(&self, response: Response) -> Result<T, ClientError> {
        let status = response.status().as_u16();
        let text = response.text().await.map_err(|error| ClientError::from_request(self.url(), &error))?;
        serde_json::from_str(&text).map_err(|error| ClientError::Unexpected {
            url: self.url().to_owned(),
            status: Some(status),
            what: format!("its answer cannot be read ({error}): {}", error::beginning(&text)),
        })
    }
}

fn address(url: &str) -> Result<Url, ClientError> {
    let wrong = |why: &str| Err(ClientError::Address { url: url.to_owned(), why: why.to_owned() });
    match Url::parse(url) {
        Ok(base) if base.scheme() == "https" => {
            wrong("this version speaks plain http only; use http:// inside a network that you trust, or a tunnel")
        }
        Ok(base) if base.scheme() != "http" => wrong("the address must begin with http://"),
        Ok(base) if base.query().is_some() || base.fragment().is_some() => {
            wrong("the address must end before any ? or #")
        }
        Ok(base) => Ok(base),
        Err(error) => wrong(&format!("{error}; it must look like http://127.0.0.1:7700")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(url: &str) -> String {
        Client::new(url, None).unwrap_err().to_string()
    }

    #[test]
    fn an_address_that_cannot_work_says_why() {
        assert!(wrong("https://fog:7700").contains("plain http only"));
        assert!(wrong("ftp://fog").contains("http://"));
        assert!(wrong("fog:7700").contains("http://"));
        assert!(wrong("nonsense").contains("must look like http://127.0.0.1:7700"));
    }

    #[test]
    fn names_are_escaped_and_a_path_in_front_is_kept() {
        let client = Client::new("http://fog:1/behind/", None).unwrap();
        let query = [("node", Some("ä&b".to_owned())), ("limit", None)];
        let request = client.request(Method::GET, &["v1", "nodes", "a/b ?"], &query).unwrap().build().unwrap();
        assert_eq!(request.url().as_str(), "http://fog:1/behind/v1/nodes/a%2Fb%20%3F?node=%C3%A4%26b");
    }

    #[test]
    fn a_token_with_line_breaks_inside_is_refused_and_never_shown() {
        let error = Client::new("http://fog", Some("secret\nword")).unwrap_err().to_string();
        assert!(!error.contains("secret"));
        let client = Client::new("http://fog", Some(" secret\n")).unwrap();
        assert!(!format!("{client:?}").contains("secret"));
    }
}
