//! `GET /v1/events`, read.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use reqwest::header::ACCEPT;
use reqwest::{Method, Response};

use super::sse::{Frame, Parser};
use super::{CONNECT_TIMEOUT, Client, ClientError};
use crate::event::{Event, EventFilter, Occurrence};

/// The orchestrator says something every 10 s. A connection that is silent for longer than this is dead, even if nobody
/// closed it.
const LONGEST_SILENCE: Duration = Duration::from_secs(30);

/// What the orchestrator says on the event stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// The stream is open: whatever changes from now on will be told.
    Ready,
    /// This listener was too slow and missed something: fetch the state anew.
    Missed,
    /// Something changed.
    Event(Event),
}

/// What the orchestrator says to a listener that resumes.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// The stream is open. Resume behind this number if nothing else comes.
    Ready(u64),
    /// What was asked for is not kept any more: fetch the state anew.
    Missed,
    /// Something happened; with a number, it is told once.
    Occurrence(Box<Occurrence>),
}

impl Client {
    /// Listens. The stream ends with an error when the connection breaks; who goes on then has to fetch the state anew,
    /// after the new stream is open.
    pub async fn notices(&self) -> Result<BoxStream<'static, Result<Notice, ClientError>>, ClientError> {
        let listener = self.listen(&[]).await?;
        Ok(stream::try_unfold(listener, async |mut listener| {
            Ok(listener.next(Listener::understand).await?.map(|notice| (notice, listener)))
        })
        .boxed())
    }

    /// What happened behind event `after`, then what happens. Resumed with the last number that was seen, it misses and
    /// repeats nothing, also across a restart of the orchestrator.
    pub async fn occurrences(
        &self,
        after: Option<u64>,
        filter: &EventFilter,
    ) -> Result<BoxStream<'static, Result<Told, ClientError>>, ClientError> {
        let query = [
            ("after", after.map(|seq| seq.to_string())),
            ("types", Some(filter.types.join(",")).filter(|types| !types.is_empty())),
            ("node", filter.node.clone()),
            ("workload", filter.workload.clone()),
        ];
        let listener = self.listen(&query).await?;
        Ok(stream::try_unfold(listener, async |mut listener| {
            Ok(listener.next(Listener::told).await?.map(|told| (told, listener)))
        })
        .boxed())
    }

    async fn listen(&self, query: &[(&str, Option<String>)]) -> Result<Listener, ClientError> {
        let request = self.request(Method::GET, &["v1", "events"], query)?.header(ACCEPT, "text/event-stream");
        let broken = |why: &str| ClientError::Unreachable { url: self.url().to_owned(), why: why.to_owned() };
        let response = tokio::time::timeout(CONNECT_TIMEOUT * 2, self.send(request)).await;
        let response = response.map_err(|_| broken("no answer"))??;
        Ok(Listener { url: self.url().to_owned(), response, parser: Parser::default(), waiting: VecDeque::new() })
    }

    /// What changes from now on. Names of events that this version does not know are passed over. See
    /// [`Client::notices`] for a stream that also says when something was missed.
    pub async fn events(&self) -> Result<BoxStream<'static, Result<Event, ClientError>>, ClientError> {
        let notices = self.notices().await?;
        Ok(notices
            .try_filter_map(async |notice| Ok(if let Notice::Event(event) = notice { Some(event) } else { None }))
            .boxed())
    }
}

struct Listener {
    url: String,
    response: Response,
    parser: Parser,
    waiting: VecDeque<Frame>,
}

impl Listener {
    async fn next<T>(
        &mut self,
        understand: impl Fn(&Self, &Frame) -> Result<Option<T>, ClientError>,
    ) -> Result<Option<T>, ClientError> {
        loop {
            while let Some(frame) = self.waiting.pop_front() {
                if let Some(understood) = understand(self, &frame)? {
                    return Ok(Some(understood));
                }
            }
            let chunk = match tokio::time::timeout(LONGEST_SILENCE, self.response.chunk()).await {
                Err(_) => return Err(self.broken(format!("silent for {} s", LONGEST_SILENCE.as_secs()))),
                Ok(Err(error)) => return Err(ClientError::from_request(&self.url, &error)),
                Ok(Ok(None)) => return Err(self.broken("it closed the event stream".to_owned())),
                Ok(Ok(Some(chunk))) => chunk,
            };
            let frames = self.parser.push(&chunk).map_err(|_| self.unexpected("an event has no end".to_owned()))?;
            self.waiting.extend(frames);
        }
    }

    fn understand(&self, frame: &Frame) -> Result<Option<Notice>, ClientError> {
        match frame.name.as_str() {
            "ready" => Ok(Some(Notice::Ready)),
            "missed" => Ok(Some(Notice::Missed)),
            name if Event::NAMES.contains(&name) => serde_json::from_str(&frame.data)
                .map(|event| Some(Notice::Event(event)))
                .map_err(|error| self.unexpected(format!("its event {name:?} cannot be read: {error}"))),
            _ => Ok(None),
        }
    }

    fn told(&self, frame: &Frame) -> Result<Option<Told>, ClientError> {
        let number = || frame.id.as_deref().and_then(|id| id.parse().ok()).unwrap_or_default();
        match frame.name.as_str() {
            "ready" => Ok(Some(Told::Ready(number()))),
            "missed" => Ok(Some(Told::Missed)),
            name if Event::NAMES.contains(&name) => serde_json::from_str(&frame.data)
                .map(|occurrence| Some(Told::Occurrence(Box::new(occurrence))))
                .map_err(|error| self.unexpected(format!("its event {name:?} cannot be read: {error}"))),
            _ => Ok(None),
        }
    }

    fn broken(&self, why: String) -> ClientError {
        ClientError::Unreachable { url: self.url.clone(), why }
    }

    fn unexpected(&self, what: String) -> ClientError {
        ClientError::Unexpected { url: self.url.clone(), status: None, what }
    }
}
