//! Docker on this node. The only place that names bollard.
//!
//! Ordinary calls go through bollard's types. Reading a container's configuration and creating
//! one out of it go through [`raw`], so that no field is lost which bollard does not know yet.

mod daemon;
pub mod observe;
pub mod obstacles;
mod ports;
mod raw;
mod resource_limits;
pub mod specification;

pub use daemon::daemon;
pub use obstacles::{lasting_obstacles, obstacles};
pub use ports::port_is_free;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bollard::ClientVersion;
use bollard::errors::Error;
use bollard::models::{ChangeType, ContainerUpdateBody, RestartPolicy};
use bollard::query_parameters::{
    ImportImageOptions, ListContainersOptions, ListContainersOptionsBuilder, RemoveContainerOptions,
    StartContainerOptions, TagImageOptionsBuilder,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use serde_json::Value;
use tokio::sync::mpsc;

/// The API of Docker 25, the oldest that Docker 29 still speaks.
const API: ClientVersion = ClientVersion { major_version: 1, minor_version: 44 };

/// How long Docker may take for what does not depend on a container's size.
const ORDINARY: Duration = Duration::from_secs(60);

/// Docker waits in `start` for as long as the images travel; the engine has its own deadlines for that.
const LONGEST_START: Duration = Duration::from_secs(6 * 3600);

/// Docker did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DockerError {
    /// There is no such container, image or network.
    #[error("{0}")]
    NotFound(String),
    /// Docker answered and said no.
    #[error("{message}")]
    Said {
        /// The HTTP status.
        status: u16,
        /// Docker's words.
        message: String,
    },
    /// Docker could not be asked.
    #[error("Docker does not answer ({0}); is dockerd running?")]
    Unreachable(String),
}

impl DockerError {
    fn of_status(status: u16, message: String) -> DockerError {
        if status == 404 { DockerError::NotFound(message) } else { DockerError::Said { status, message } }
    }
}

impl From<Error> for DockerError {
    fn from(error: Error) -> DockerError {
        match error {
            Error::DockerResponseServerError { status_code, message } => DockerError::of_status(status_code, message),
            other => DockerError::Unreachable(other.to_string()),
        }
    }
}

/// `None` in place of "there is no such thing".
fn found<T>(result: Result<T, DockerError>) -> Result<Option<T>, DockerError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(DockerError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The daemon of this node.
#[derive(Debug, Clone)]
pub struct Docker {
    client: bollard::Docker,
    starter: bollard::Docker,
    socket: PathBuf,
    /// Rises when limits were changed: whoever remembers them asks again.
    updates: Arc<AtomicU64>,
}

impl Docker {
    /// Prepares to talk to the daemon behind this socket. Connects with the first request, not here.
    pub fn new(socket: &Path) -> Result<Docker, DockerError> {
        let connect = |timeout: Duration| {
            let path = socket.to_string_lossy();
            bollard::Docker::connect_with_unix(&path, timeout.as_secs(), &API).map_err(DockerError::from)
        };
        Ok(Docker {
            client: connect(ORDINARY)?,
            starter: connect(LONGEST_START)?,
            socket: socket.to_owned(),
            updates: Arc::default(),
        })
    }

    /// Bollard's client, for `observe`.
    pub(crate) fn client(&self) -> &bollard::Docker {
        &self.client
    }

    /// `docker inspect`, every field of it. `None` where there is no such container.
    pub async fn inspect(&self, container: &str) -> Result<Option<Value>, DockerError> {
        let path = format!("/containers/{}/json", raw::escape(container));
        found(raw::request(&self.socket, "GET", &path, None, ORDINARY).await)
    }

    /// Creates a container from a raw configuration and returns its id.
    pub async fn create(&self, name: &str, body: &Value) -> Result<String, DockerError> {
        let path = format!("/containers/create?name={}", raw::escape(name));
        let created = raw::request(&self.socket, "POST", &path, Some(body), ORDINARY).await?;
        let id = created.get("Id").and_then(Value::as_str);
        id.map(str::to_owned).ok_or_else(|| DockerError::Said {
            status: 200,
            message: "Docker created a container without an id".into(),
        })
    }

    /// Starts a container; returns when it is up, however long that takes.
    pub async fn start(&self, container: &str) -> Result<(), DockerError> {
        Ok(self.starter.start_container(container, None::<StartContainerOptions>).await?)
    }

    /// Freezes every task.
    pub async fn pause(&self, container: &str) -> Result<(), DockerError> {
        Ok(self.client.pause_container(container).await?)
    }

    /// Thaws every task.
    pub async fn unpause(&self, container: &str) -> Result<(), DockerError> {
        Ok(self.client.unpause_container(container).await?)
    }

    /// Kills and removes. A container that is gone, or that is just being removed, is no error.
    pub async fn remove(&self, container: &str) -> Result<(), DockerError> {
        let options = RemoveContainerOptions { force: true, v: true, ..Default::default() };
        match found(self.client.remove_container(container, Some(options)).await.map_err(DockerError::from)) {
            Err(DockerError::Said { status: 409, message }) if message.contains("already in progress") => Ok(()),
            other => other.map(drop),
        }
    }

    /// Sets the restart policy, given as in `inspect`'s `HostConfig.RestartPolicy`.
    pub async fn set_restart_policy(&self, container: &str, policy: &Value) -> Result<(), DockerError> {
        let policy: RestartPolicy = serde_json::from_value(policy.clone())
            .map_err(|error| DockerError::Said { status: 400, message: format!("restart policy {policy}: {error}") })?;
        let body = ContainerUpdateBody { restart_policy: Some(policy), ..Default::default() };
        Ok(self.client.update_container(container, body).await?)
    }

    /// Gives a container other limits; what is `None` stays as it is. `None`: there is no such container.
    pub async fn set_limits(
        &self,
        container: &str,
        cpus: Option<f64>,
        memory_bytes: Option<u64>,
    ) -> Result<Option<()>, DockerError> {
        let Some(inspect) = self.inspect(container).await? else { return Ok(None) };
        let body = resource_limits::update(&inspect["HostConfig"], cpus, memory_bytes);
        let updated = self.client.update_container(container, body).await.map_err(DockerError::from);
        self.updates.fetch_add(1, Ordering::Relaxed);
        found(updated)
    }

    /// How often limits were changed through this daemon or a clone of it.
    pub fn updates(&self) -> u64 {
        self.updates.load(Ordering::Relaxed)
    }

    /// The paths that differ from the image, and whether the image's own is gone there.
    pub async fn changed_files(&self, container: &str) -> Result<Vec<(String, bool)>, DockerError> {
        let changes = self.client.container_changes(container).await?.unwrap_or_default();
        Ok(changes.into_iter().map(|change| (change.path, change.kind == ChangeType::_2)).collect())
    }

    /// The folder below which Docker keeps everything.
    pub async fn data_dir(&self) -> Result<PathBuf, DockerError> {
        Ok(self.client.info().await?.docker_root_dir.unwrap_or_else(|| "/var/lib/docker".into()).into())
    }

    /// `docker volume inspect`; `None` where there is no such volume.
    pub async fn volume(&self, name: &str) -> Result<Option<Value>, DockerError> {
        let path = format!("/volumes/{}", raw::escape(name));
        found(raw::request(&self.socket, "GET", &path, None, ORDINARY).await)
    }

    /// Creates a volume of the local driver.
    pub async fn create_volume(&self, name: &str, labels: &Value, options: &Value) -> Result<(), DockerError> {
        let body = serde_json::json!({"Name": name, "Driver": "local", "Labels": labels, "DriverOpts": options});
        raw::request(&self.socket, "POST", "/volumes/create", Some(&body), ORDINARY).await.map(drop)
    }

    /// Removes a volume that no container has. One that is gone is no error.
    pub async fn remove_volume(&self, name: &str) -> Result<(), DockerError> {
        let removed = self.client.remove_volume(name, None::<bollard::query_parameters::RemoveVolumeOptions>).await;
        found(removed.map_err(DockerError::from)).map(drop)
    }

    /// The containers that have a volume, running or not, by name.
    pub async fn containers_with_volume(&self, name: &str) -> Result<Vec<String>, DockerError> {
        let filters = std::collections::HashMap::from([("volume", vec![name])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let containers = self.client.list_containers(Some(options)).await?;
        let name = |container: bollard::models::ContainerSummary| {
            container.names.and_then(|names| Some(names.first()?.trim_start_matches('/').to_owned()))
        };
        Ok(containers.into_iter().filter_map(name).collect())
    }

    /// Every folder of the host that a container, running or not, has mounted, with the container's name.
    pub async fn bind_mounts(&self) -> Result<Vec<(String, PathBuf)>, DockerError> {
        let options = ListContainersOptionsBuilder::new().all(true).build();
        let mut bound = Vec::new();
        for container in self.client.list_containers(Some(options)).await? {
            let name = container.names.unwrap_or_default().first().map(|name| name.trim_start_matches('/').to_owned());
            for mount in container.mounts.unwrap_or_default() {
                if mount.typ.as_deref() == Some("bind")
                    && let Some(source) = mount.source
                {
                    bound.push((name.clone().unwrap_or_default(), source.into()));
                }
            }
        }
        Ok(bound)
    }

    /// The id behind an image's name or id.
    pub async fn image_id(&self, image: &str) -> Result<Option<String>, DockerError> {
        let image = found(self.client.inspect_image(image).await.map_err(DockerError::from))?;
        Ok(image.and_then(|image| image.id))
    }

    /// What an image takes on the disk.
    pub async fn image_bytes(&self, image: &str) -> Result<Option<u64>, DockerError> {
        let image = found(self.client.inspect_image(image).await.map_err(DockerError::from))?;
        Ok(image.and_then(|image| u64::try_from(image.size?).ok()))
    }

    /// An image as an archive.
    pub fn save_image(&self, image: &str) -> impl Stream<Item = Result<Bytes, DockerError>> {
        self.starter.export_image(image).map(|chunk| chunk.map_err(DockerError::from))
    }

    /// Loads an archive; returns when Docker has all of it.
    pub async fn load_image(&self, archive: mpsc::Receiver<Vec<u8>>) -> Result<(), DockerError> {
        let archive = stream::unfold(archive, async |mut archive| {
            let chunk = archive.recv().await?;
            Some((Ok::<_, std::io::Error>(Bytes::from(chunk)), archive))
        });
        let loaded = self.starter.import_image_stream(ImportImageOptions::default(), archive, None);
        let mut loaded = std::pin::pin!(loaded);
        while let Some(said) = loaded.next().await {
            if let Some(message) = said?.error_detail.and_then(|error| error.message) {
                return Err(DockerError::Said { status: 200, message });
            }
        }
        Ok(())
    }

    /// Gives an image another name.
    pub async fn tag_image(&self, image: &str, repository: &str, tag: &str) -> Result<(), DockerError> {
        let name = TagImageOptionsBuilder::new().repo(repository).tag(tag).build();
        Ok(self.client.tag_image(image, Some(name)).await?)
    }

    /// Where the json-file driver keeps a container's log. Docker itself says so only after the first start.
    pub async fn log_file(&self, container: &str) -> Result<PathBuf, DockerError> {
        Ok(self.data_dir().await?.join("containers").join(container).join(format!("{container}-json.log")))
    }

    /// `docker network inspect`; `None` where there is no such network.
    pub async fn network(&self, name: &str) -> Result<Option<Value>, DockerError> {
        let path = format!("/networks/{}", raw::escape(name));
        found(raw::request(&self.socket, "GET", &path, None, ORDINARY).await)
    }

    /// Published ports of all running containers: port, protocol and the container's name.
    pub async fn published_ports(&self) -> Result<Vec<(u16, String, String)>, DockerError> {
        let containers = self.client.list_containers(None::<ListContainersOptions>).await?;
        let mut published = Vec::new();
        for container in containers {
            let name = container.names.unwrap_or_default().first().map(|name| name.trim_start_matches('/').to_owned());
            for port in container.ports.unwrap_or_default() {
                let protocol = port.typ.map(|typ| typ.to_string()).unwrap_or_else(|| "tcp".into());
                if let Some(public) = port.public_port {
                    published.push((public, protocol, name.clone().unwrap_or_default()));
                }
            }
        }
        Ok(published)
    }
}
