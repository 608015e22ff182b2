//! The agents' channel: a WebSocket that each agent dials. Its messages are [`fog_api::agent`]'s.

use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use fog_api::agent::{FromAgent, Hello, PROTOCOL, Peer, ToAgent, Welcome};
use fog_core::model::NodeName;
use futures_util::{SinkExt, Stream, StreamExt};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use crate::agents::Seat;
use crate::app::{App, Service};
use crate::driver::Input;
use crate::store::Class;
use crate::{clock, ingest, peers};

/// The largest message an agent may send.
const LARGEST_MESSAGE: usize = 16 << 20;
/// Each connection keeps one: ten thousand of the usual 128 KiB would be a gigabyte.
const READ_BUFFER: usize = 4 << 10;
/// A connection on which nothing arrives for this long is dead: agents ping every few seconds.
const SILENCE: Duration = Duration::from_secs(30);
const HELLO_DEADLINE: Duration = Duration::from_secs(10);
const SEND_DEADLINE: Duration = Duration::from_secs(10);

/// `GET /v1/agents/channel`
pub async fn upgrade(State(app): State<App>, upgrade: WebSocketUpgrade) -> Response {
    let upgrade = upgrade.read_buffer_size(READ_BUFFER);
    upgrade.max_message_size(LARGEST_MESSAGE).max_frame_size(LARGEST_MESSAGE).on_upgrade(move |socket| async move {
        let shutdown = app.shutdown.clone();
        tokio::select! {
            () = serve(app, socket) => {}
            () = shutdown.cancelled() => {}
        }
    })
}

async fn serve(app: App, mut socket: WebSocket) {
    let hello = match timeout(HELLO_DEADLINE, receive(&mut socket, HELLO_DEADLINE)).await.and_then(|heard| heard) {
        Ok(Some(Ok(FromAgent::Hello(hello)))) => hello,
        Ok(Some(Ok(_))) => return refuse(&mut socket, "the first message must be a hello".into()).await,
        Ok(Some(Err(error))) => return refuse(&mut socket, format!("the hello cannot be read: {error}")).await,
        Ok(None) | Err(_) => return,
    };
    if let Err(reason) = admit(&app, &hello) {
        tracing::warn!(node = hello.node, "an agent was refused: {reason}");
        return refuse(&mut socket, reason).await;
    }
    let node = hello.node.clone();
    let mut seat = app.agents.enter(&node, hello.boot);
    if let Err(error) = ingest::hello(&app, &hello).await {
        tracing::error!(node, "cannot store the node: {error}");
    } else if welcome(&app, &mut socket, &node).await {
        tracing::info!(node, version = hello.agent_version, "agent connected");
        tell_peers(&app);
        app.agents.announce(&node);
        converse(&app, &mut socket, &mut seat, &hello).await;
        tracing::info!(node, "agent disconnected");
    }
    app.agents.leave(&node, &seat);
    ingest::tell_node(&app, &node);
}

fn admit(app: &Service, hello: &Hello) -> Result<(), String> {
    if hello.protocol != PROTOCOL {
        return Err(format!(
            "the agent speaks protocol {} and the orchestrator {PROTOCOL}: install the same version of Fogshift on both",
            hello.protocol
        ));
    }
    NodeName::new(hello.node.clone()).map_err(|error| format!("{error}: set `node` in agent.toml"))?;
    if !(hello.facts.cpus.is_finite() && hello.facts.cpus > 0.0) || hello.facts.memory_bytes == 0 {
        return Err("the node says it has no CPU or no memory".into());
    }
    if !(hello.facts.cpu_score.is_finite() && hello.facts.cpu_score > 0.0) {
        return Err("the node's cpu_score must be above 0".into());
    }
    // Two machines of one name would take turns in closing each other's connection.
    let address = app.fleet().nodes.get(&hello.node).map(|view| view.stored.transfer_address.clone());
    match (app.agents.boot(&hello.node), address) {
        (Some(boot), Some(address)) if boot != hello.boot && address != hello.transfer_address => Err(format!(
            "a node named {} is connected already from {address}: give each machine its own `node` in agent.toml",
            hello.node
        )),
        _ => Ok(()),
    }
}

async fn refuse(socket: &mut WebSocket, reason: String) {
    send(socket, &ToAgent::Refused { reason }).await;
    let _ = timeout(SEND_DEADLINE, socket.close()).await;
}

async fn welcome(app: &Service, socket: &mut WebSocket, node: &str) -> bool {
    let sample_interval_s = app.policy.get().policy.sampling.interval_s;
    send(socket, &ToAgent::Welcome(Welcome { sample_interval_s, peers: peers_of(app, node) })).await
}

fn peers_of(app: &Service, node: &str) -> Vec<Peer> {
    peers::of(&app.fleet(), node, clock::now())
}

/// In a small cluster everybody hears at once of a newcomer; in a large one those who measure it hear in their turn.
fn tell_peers(app: &Service) {
    if !peers::is_small(&app.fleet()) {
        return;
    }
    for node in app.agents.connected() {
        app.agents.send(&node, ToAgent::Peers { peers: peers_of(app, &node) });
    }
}

async fn converse(app: &App, socket: &mut WebSocket, seat: &mut Seat, hello: &Hello) {
    loop {
        tokio::select! {
            message = receive(socket, SILENCE) => match message {
                Ok(Some(Ok(message))) => {
                    // On the heap while it lasts: ten thousand connections wait, and few hear something.
                    if !Box::pin(heard(app, socket, hello, message)).await {
                        return;
                    }
                }
                Ok(Some(Err(error))) => {
                    // It may be newer than we are; what can be read still counts.
                    app.metrics.unreadable.inc();
                    tracing::warn!(node = hello.node, "a message cannot be read and is passed over: {error}");
                }
                Ok(None) => return,
                Err(_) => {
                    tracing::warn!(node = hello.node, "nothing heard for {} s, closing", SILENCE.as_secs());
                    return;
                }
            },
            message = seat.queue.recv() => match message {
                Some(message) => {
                    if !send(socket, &message).await {
                        return;
                    }
                }
                None => return,
            },
            () = seat.closed.cancelled() => return,
        }
    }
}

async fn heard(app: &App, socket: &mut WebSocket, hello: &Hello, message: FromAgent) -> bool {
    match message {
        FromAgent::Hello(_) => true,
        FromAgent::Heartbeat(heartbeat) => {
            match ingest::samples(app, Class::Heartbeat, &hello.node, heartbeat.samples).await {
                Ok(Some(up_to)) => send(socket, &ToAgent::Received { up_to }).await,
                Ok(None) => true,
                Err(error) => {
                    // Not acknowledged: the agent keeps them and sends them again.
                    tracing::error!(node = hello.node, "cannot store samples: {error}");
                    false
                }
            }
        }
        FromAgent::Progress(progress) => {
            app.drivers.give(progress.migration, Input::Progress(progress));
            true
        }
        FromAgent::Logged(logged) => {
            for (migration, line) in logged.lines {
                app.drivers.give(migration, Input::Logged { node: hello.node.clone(), line });
            }
            true
        }
        FromAgent::CheckedUp(answer) => {
            app.checkups.answered(answer);
            true
        }
        FromAgent::Examined(examined) => {
            app.examinations.answered(examined);
            true
        }
        FromAgent::Resized(resized) => {
            app.resizes.answered(resized);
            true
        }
        FromAgent::Answer(answer) => {
            let node = hello.node.clone();
            app.drivers.give(answer.key.migration, Input::Answer { node, answer });
            true
        }
    }
}

/// The next message; `None` when the connection ended. An error when nothing at all was heard for so long: a ping is heard
/// too, since an agent may be told to sample once an hour.
async fn receive<E>(
    frames: &mut (impl Stream<Item = Result<Message, E>> + Unpin),
    silence: Duration,
) -> Result<Option<Result<FromAgent, serde_json::Error>>, Elapsed> {
    loop {
        let Some(frame) = timeout(silence, frames.next()).await? else { return Ok(None) };
        return Ok(match frame {
            Ok(Message::Text(text)) => Some(read(&text)),
            Ok(Message::Binary(bytes)) => Some(serde_json::from_slice(&bytes)),
            Ok(Message::Ping(_) | Message::Pong(_)) => continue,
            Ok(Message::Close(_)) | Err(_) => None,
        });
    }
}

/// Nearly every message is a heartbeat. Which of several types a message has, serde finds out only after it has copied all of it.
fn read(text: &str) -> Result<FromAgent, serde_json::Error> {
    if text.starts_with(r#"{"type":"heartbeat","#) {
        return serde_json::from_str(text).map(FromAgent::Heartbeat);
    }
    serde_json::from_str(text)
}

async fn send(socket: &mut WebSocket, message: &ToAgent) -> bool {
    let Ok(text) = serde_json::to_string(message) else { return false };
    matches!(timeout(SEND_DEADLINE, socket.send(Message::Text(text.into()))).await, Ok(Ok(())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_only_pings_is_there_and_a_silent_one_is_not() {
        let second = Duration::from_secs(1);
        let mut frames = Box::pin(async_stream::stream! {
            for _ in 0..4 {
                tokio::time::sleep(SILENCE - second).await;
                yield Ok::<_, axum::Error>(Message::Ping(Vec::new().into()));
            }
            yield Ok(Message::Text("{}".into()));
            std::future::pending::<()>().await;
        });
        let heard = receive(&mut frames, SILENCE).await;
        assert!(matches!(heard, Ok(Some(Err(_)))), "it was heard, and says nothing: {heard:?}");
        assert!(receive(&mut frames, SILENCE).await.is_err());
    }
}
