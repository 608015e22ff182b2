//! `/v1/events`: server-sent events. What a listener misses it sees in the lists: it fetches them after every
//! (re)connection, and when it is told that it fell behind.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::Stream;
use tokio::sync::broadcast::error::RecvError;

use crate::app::App;

const HEARTBEAT: Duration = Duration::from_secs(10);

/// What changes, as server-sent events; each one's data is an `Event`.
#[utoipa::path(get, path = "/v1/events", tag = "events",
    responses((status = 200, description = "A stream without an end.", content_type = "text/event-stream", body = String)))]
pub(super) async fn stream(State(app): State<App>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let mut events = app.events.listen();
    let shutdown = app.shutdown.clone();
    let stream = async_stream::stream! {
        yield Ok(Event::default().event("ready").data("{}"));
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                () = shutdown.cancelled() => return,
            };
            match event {
                Ok(event) => match Event::default().event(event.name()).json_data(&event) {
                    Ok(event) => yield Ok(event),
                    Err(error) => tracing::error!("an event cannot be written: {error}"),
                },
                Err(RecvError::Lagged(missed)) => {
                    yield Ok(Event::default().event("missed").data(format!("{{\"events\":{missed}}}")));
                }
                Err(RecvError::Closed) => return,
            }
        }
    };
    Sse::new(stream).keep_alive(KeepAlive::new().interval(HEARTBEAT))
}
