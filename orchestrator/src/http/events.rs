//! `/v1/events`: server-sent events.
//!
//! History is read from the store, where the transaction that made it happen put it; the bus only carries what is live.
//! A listener that is slow, or comes back after a restart, therefore gets every event once, and in order.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event as Frame, KeepAlive};
use axum::response::{IntoResponse, Response, Sse};
use fog_api::event::{Event, EventFilter, Occurrence, ServerSentEvent};
use serde::Deserialize;
use tokio::sync::broadcast::{self, error::RecvError};
use utoipa::IntoParams;

use super::RouteError;
use super::input::Parameters;
use crate::app::App;
use crate::clock;

const HEARTBEAT: Duration = Duration::from_secs(10);
/// So many events are read from the store at once.
const BATCH: u32 = 256;
const LAST_EVENT_ID: &str = "last-event-id";

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Only events of these names, separated by commas.
    types: Option<String>,
    /// Only events about this node.
    node: Option<String>,
    /// Only events about this workload.
    workload: Option<String>,
    /// Everything behind this event, then what happens. The header `Last-Event-ID` goes before it.
    #[param(minimum = 0)]
    after: Option<u64>,
    /// Whether live events (without an `id`) are wanted too; true when left out.
    live: Option<bool>,
    /// Whether to wait for more; false ends the stream with the newest event. True when left out.
    follow: Option<bool>,
}

/// What happens, as server-sent events. The name is the event's `type`, the data an `Occurrence`. Resume with
/// `Last-Event-ID`: no event of the history is missed or repeated, also across a restart. `ready` says that the stream is
/// open, `missed` that events were asked for which are not kept any more.
#[utoipa::path(get, path = "/v1/events", tag = "events",
    params(Wanted, ("Last-Event-ID" = Option<u64>, Header, description = "The last event that was seen.")),
    responses((status = 200, description = "Server-sent events.", content_type = "text/event-stream", body = ServerSentEvent)))]
pub(super) async fn stream(
    State(app): State<App>,
    Parameters(wanted): Parameters<Wanted>,
    headers: HeaderMap,
) -> Result<Response, RouteError> {
    let types = wanted.types.as_deref().unwrap_or_default();
    let filter = EventFilter {
        types: types.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        node: wanted.node,
        workload: wanted.workload,
    };
    if let Some(unknown) = filter.unknown_type() {
        let detail = format!("no event is named {unknown:?}; give some of: {}", Event::NAMES.join(", "));
        return Err(RouteError::parameter("types", detail));
    }
    let resumed = match headers.get(LAST_EVENT_ID) {
        Some(value) => Some(
            number(value.to_str().unwrap_or_default().trim())
                .ok_or_else(|| RouteError::parameter("Last-Event-ID", "give the `id` of an event, a number"))?,
        ),
        None => wanted.after,
    };
    if resumed.is_some_and(|seq| i64::try_from(seq).is_err()) {
        return Err(RouteError::parameter("after", format!("give at most {}", i64::MAX)));
    }
    let follow = wanted.follow.unwrap_or(true);
    let listener = Listener {
        told: app.store.told(),
        live: (follow && wanted.live.unwrap_or(true)).then(|| app.events.listen()),
        filter,
        seq: 0,
        app,
    };
    listener.open(resumed, follow).await
}

fn number(text: &str) -> Option<u64> {
    text.parse::<i64>().ok().and_then(|number| number.try_into().ok())
}

struct Listener {
    app: App,
    filter: EventFilter,
    told: tokio::sync::watch::Receiver<u64>,
    live: Option<broadcast::Receiver<Event>>,
    /// The last event that was given or passed over.
    seq: u64,
}

impl Listener {
    async fn open(mut self, resumed: Option<u64>, follow: bool) -> Result<Response, RouteError> {
        let range = self.app.store.event_range().await?;
        let missed = match resumed {
            None => false,
            Some(seq) => seq + 1 < range.oldest || seq > range.newest,
        };
        // Of a number that was never given, nothing can follow: begin with what is kept.
        self.seq = match resumed {
            None if follow => range.newest,
            None => range.oldest.saturating_sub(1),
            Some(_) if missed => range.oldest.saturating_sub(1),
            Some(seq) => seq,
        };
        let stream = async_stream::stream! {
            let ready = Frame::default().event("ready").id(self.seq.to_string()).data("{}");
            yield Ok::<_, Infallible>(ready);
            if missed {
                let data = format!("{{\"oldest\":{}}}", range.oldest);
                yield Ok(Frame::default().event("missed").data(data));
            }
            loop {
                self.told.mark_unchanged();
                loop {
                    let before = self.seq;
                    let (events, last) = match self.app.store.events_after(self.seq, BATCH).await {
                        Ok(read) => read,
                        Err(error) => {
                            // The listener comes back with the last number it has.
                            tracing::error!("an event stream ends: {error}");
                            return;
                        }
                    };
                    for occurrence in events.iter().filter(|one| self.filter.takes(&one.event)) {
                        if let Some(frame) = frame(occurrence) {
                            yield Ok(frame);
                        }
                    }
                    self.seq = last;
                    if self.app.shutdown.is_cancelled() {
                        return;
                    }
                    if last < before + u64::from(BATCH) {
                        break;
                    }
                }
                if !follow {
                    return;
                }
                match self.more().await {
                    More::History => {}
                    More::Live(event) => {
                        let occurrence = Occurrence { seq: None, at: clock::now(), event };
                        if let Some(frame) = frame(&occurrence) {
                            yield Ok(frame);
                        }
                    }
                    // Also tells how far the history was searched, so that a resumption need not search it again.
                    More::Alive => yield Ok(Frame::default().id(self.seq.to_string()).comment("alive")),
                    More::End => return,
                }
            }
        };
        Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(HEARTBEAT * 2)).into_response())
    }

    /// Waits for whatever comes next.
    async fn more(&mut self) -> More {
        let quiet = tokio::time::sleep(HEARTBEAT);
        tokio::pin!(quiet);
        loop {
            let live = async {
                match &mut self.live {
                    Some(live) => live.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.told.changed() => return if changed.is_ok() { More::History } else { More::End },
                event = live => match event {
                    Ok(event) if self.filter.takes(&event) => return More::Live(event),
                    // Live events that were too fast for this listener are followed by newer ones.
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return More::End,
                },
                () = &mut quiet => return More::Alive,
                () = self.app.shutdown.cancelled() => return More::End,
            }
        }
    }
}

enum More {
    History,
    Live(Event),
    Alive,
    End,
}

fn frame(occurrence: &Occurrence) -> Option<Frame> {
    let frame = Frame::default().event(occurrence.event.name());
    let frame = match occurrence.seq {
        Some(seq) => frame.id(seq.to_string()),
        None => frame,
    };
    frame.json_data(occurrence).inspect_err(|error| tracing::error!("an event cannot be written: {error}")).ok()
}
