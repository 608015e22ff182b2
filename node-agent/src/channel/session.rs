//! One connection, from the first byte to its end.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use fog_api::agent::{CHANNEL_PATH, FromAgent, Hello, PROTOCOL, ToAgent, Welcome};
use futures_util::future::BoxFuture;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::Channel;
use super::commands::News;
use crate::config::{Config, ConfigError};

/// Connecting, the handshake, the Welcome and every write have to be done within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often the agent pings.
const PING_EVERY: Duration = Duration::from_secs(5);

/// Without any frame for this long the other end is gone, whatever TCP believes.
const SILENCE: Duration = Duration::from_secs(15);

/// A specification is some tens of kilobytes; nobody sends more than this.
const LARGEST_MESSAGE: usize = 16 << 20;

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The orchestrator cannot be reached or went away.
    Lost(String),
    /// The orchestrator does not want this agent.
    Refused(String),
    /// The node has changed; a new Hello says how.
    FactsChanged,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Lost(reason) => write!(f, "no connection to the orchestrator: {reason}"),
            Ended::Refused(reason) => write!(f, "the orchestrator refuses this agent: {reason}"),
            Ended::FactsChanged => write!(f, "the node's facts have changed, reconnecting to report them"),
        }
    }
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        match error {
            Error::Http(response) if response.status() == StatusCode::UNAUTHORIZED => {
                Ended::Refused("the token is wrong (401); put the orchestrator's token into token_file".to_owned())
            }
            Error::Http(response) => {
                let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
                let detail: String = body.chars().take(300).collect();
                Ended::Lost(format!("{} {detail}", response.status()).trim_end().to_owned())
            }
            other => Ended::Lost(other.to_string()),
        }
    }
}

impl From<ConfigError> for Ended {
    fn from(error: ConfigError) -> Self {
        Ended::Lost(error.to_string())
    }
}

fn late(what: &str) -> Ended {
    Ended::Lost(format!("{what} took longer than {} s", PATIENCE.as_secs()))
}

/// Runs one connection to its end.
pub(super) async fn run(channel: &mut Channel) -> Ended {
    match try_run(channel).await {
        Err(ended) => ended,
        Ok(never) => match never {},
    }
}

async fn try_run(channel: &mut Channel) -> Result<std::convert::Infallible, Ended> {
    let (mut socket, transfer_address) = dial(&channel.config, channel.dial.as_ref()).await?;
    let facts = channel.facts.borrow_and_update().clone();
    let hello = Hello {
        protocol: PROTOCOL,
        node: channel.config.node.clone(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        boot: channel.boot,
        transfer_address,
        facts,
    };
    send(&mut socket, &FromAgent::Hello(hello)).await?;
    let welcome =
        timeout(PATIENCE, await_welcome(&mut socket)).await.map_err(|_| late("the orchestrator's reply"))??;
    tracing::info!(
        orchestrator = channel.config.orchestrator.as_ref().map(|url| url.authority.as_str()),
        peers = welcome.peers.len(),
        "connected"
    );
    channel.peers.send_replace(welcome.peers);
    channel.connected.send_replace(true);
    if let Some(wanted) = interval_of(welcome.sample_interval_s) {
        channel.interval.send_if_modified(|current| std::mem::replace(current, wanted) != wanted);
    }
    channel.outbox.locked(super::Reporter::rewind);
    converse(channel, &mut socket).await
}

type Socket = WebSocketStream<Box<dyn Wire>>;

/// Bytes to and from the orchestrator.
pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// The network between this node and the orchestrator.
pub trait Dial: fmt::Debug + Send + Sync {
    /// A connection to `host:port`, and this node's address on it.
    fn dial<'a>(&'a self, authority: &'a str) -> BoxFuture<'a, std::io::Result<(Box<dyn Wire>, SocketAddr)>>;
}

/// The real one.
#[derive(Debug)]
pub struct Tcp;

impl Dial for Tcp {
    fn dial<'a>(&'a self, authority: &'a str) -> BoxFuture<'a, std::io::Result<(Box<dyn Wire>, SocketAddr)>> {
        Box::pin(async move {
            let stream = TcpStream::connect(authority).await?;
            let _ = stream.set_nodelay(true);
            let local = stream.local_addr()?;
            Ok((Box::new(stream) as Box<dyn Wire>, local))
        })
    }
}

/// Opens the connection and says how other agents reach this one.
async fn dial(config: &Config, network: &dyn Dial) -> Result<(Socket, String), Ended> {
    let Some(orchestrator) = &config.orchestrator else {
        return Err(Ended::Lost("no orchestrator is configured".to_owned()));
    };
    let mut bearer = HeaderValue::from_str(&format!("Bearer {}", config.read_token()?))
        .map_err(|_| Ended::Lost("the token holds characters that no header can carry".to_owned()))?;
    bearer.set_sensitive(true);
    let authority = &orchestrator.authority;
    let mut request = format!("ws://{authority}{CHANNEL_PATH}").into_client_request()?;
    request.headers_mut().insert(header::AUTHORIZATION, bearer);

    let (stream, local) = timeout(PATIENCE, network.dial(authority))
        .await
        .map_err(|_| late("connecting"))?
        .map_err(|error| Ended::Lost(format!("{authority}: {error}")))?;
    let transfer_address = match &config.transfer_address {
        Some(configured) => configured.0.clone(),
        None if !config.transfer_listen.ip().is_unspecified() => config.transfer_listen.to_string(),
        None => SocketAddr::new(local.ip().to_canonical(), config.transfer_listen.port()).to_string(),
    };
    let limits =
        WebSocketConfig::default().max_message_size(Some(LARGEST_MESSAGE)).max_frame_size(Some(LARGEST_MESSAGE));
    let handshake = client_async_with_config(request, stream, Some(limits));
    let (socket, _) = timeout(PATIENCE, handshake).await.map_err(|_| late("the handshake"))??;
    Ok((socket, transfer_address))
}

async fn await_welcome(socket: &mut Socket) -> Result<Welcome, Ended> {
    loop {
        match receive(socket.next().await)? {
            Some(ToAgent::Welcome(welcome)) => return Ok(welcome),
            Some(ToAgent::Refused { reason }) => return Err(Ended::Refused(reason)),
            Some(other) => tracing::warn!(?other, "ignored before the welcome"),
            None => {}
        }
    }
}

async fn converse(channel: &mut Channel, socket: &mut Socket) -> Result<std::convert::Infallible, Ended> {
    let mut ping = interval(PING_EVERY);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    loop {
        let batch = channel.outbox.locked(super::Reporter::next_batch);
        if let Some(batch) = batch {
            send(socket, &FromAgent::Heartbeat(batch)).await?;
        }
        tokio::select! {
            frame = socket.next() => {
                heard = Instant::now();
                match receive(frame)? {
                    Some(ToAgent::Received { up_to }) => channel.outbox.locked(|reporter| reporter.acknowledge(up_to)),
                    Some(ToAgent::Command(command)) => channel.commands.begin(command),
                    Some(ToAgent::Checkup(asked)) => channel.commands.check(asked),
                    Some(ToAgent::Examine(question)) => channel.commands.examine(question),
                    Some(ToAgent::Resize(resize)) => channel.commands.resize(resize),
                    Some(ToAgent::Peers { peers }) => { channel.peers.send_replace(peers); }
                    Some(ToAgent::Refused { reason }) => return Err(Ended::Refused(reason)),
                    Some(ToAgent::Welcome(_)) | None => {}
                }
            }
            news = channel.commands.news() => match news {
                News::Answer(answer) => send(socket, &FromAgent::Answer(answer)).await?,
                News::Logged(logged) => send(socket, &FromAgent::Logged(logged)).await?,
                News::CheckedUp(checked) => send(socket, &FromAgent::CheckedUp(checked)).await?,
                News::Examined(examined) => send(socket, &FromAgent::Examined(examined)).await?,
                News::Resized(resized) => send(socket, &FromAgent::Resized(resized)).await?,
                News::Progress(progress) => send(socket, &FromAgent::Progress(progress)).await?,
            },
            () = channel.outbox.filled.notified() => {}
            _ = ping.tick() => {
                if heard.elapsed() >= SILENCE {
                    return Err(Ended::Lost(format!("nothing heard for {} s", SILENCE.as_secs())));
                }
                write(socket, Message::Ping(Vec::new().into())).await?;
            }
            changed = channel.facts.changed() => {
                if changed.is_ok() {
                    let _ = timeout(Duration::from_secs(1), socket.close(None)).await;
                    return Err(Ended::FactsChanged);
                }
                return Err(Ended::Lost("the agent ends".to_owned()));
            }
        }
    }
}

/// What a frame says; `None` for frames that only show that the other end lives.
fn receive(frame: Option<Result<Message, Error>>) -> Result<Option<ToAgent>, Ended> {
    match frame {
        Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
            Ok(message) => Ok(Some(message)),
            Err(error) => {
                tracing::warn!(%error, "the orchestrator said something this agent does not understand");
                Ok(None)
            }
        },
        Some(Ok(Message::Close(reason))) => Err(Ended::Lost(reason.map_or_else(
            || "the orchestrator closed the connection".to_owned(),
            |frame| format!("the orchestrator closed the connection: {} {}", frame.code, frame.reason),
        ))),
        Some(Ok(_)) => Ok(None),
        Some(Err(error)) => Err(error.into()),
        None => Err(Ended::Lost("the connection ended".to_owned())),
    }
}

async fn send(socket: &mut Socket, message: &FromAgent) -> Result<(), Ended> {
    let text = serde_json::to_string(message).map_err(|error| Ended::Lost(error.to_string()))?;
    write(socket, Message::text(text)).await
}

async fn write(socket: &mut Socket, message: Message) -> Result<(), Ended> {
    Ok(timeout(PATIENCE, socket.send(message)).await.map_err(|_| late("sending"))??)
}

fn interval_of(seconds: f64) -> Option<Duration> {
    (0.2..=60.0).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}
