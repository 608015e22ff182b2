//! `fogctl events`

use std::time::Duration;

use fog_api::client::{Client, ClientError, MigrationFilter, Told};
use fog_api::decision::Decision;
use fog_api::event::{Event, EventFilter};
use fog_api::migration::Migration;
use futures_util::StreamExt;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::arguments::Events;
use crate::exit::{Exit, Failure};
use crate::render::paint::Paint;
use crate::render::text::clean;
use crate::render::{migration, units};
use crate::session::Session;

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

pub(super) async fn run(session: &Session, asked: Events) -> Result<Exit, Failure> {
    let client = session.reader()?;
    if !asked.follow {
        return past(session, &client).await;
    }
    let filter = EventFilter { types: asked.types, node: asked.node, workload: asked.workload };
    let mut listener =
        Listener { session, client, filter, seen: asked.after, pause: FIRST_PAUSE, connected_once: false };
    tokio::select! {
        done = listener.keep_following() => done,
        _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
    }
}

/// What the lists still know, in the order in which it happened.
async fn past(session: &Session, client: &Client) -> Result<Exit, Failure> {
    let migrations = client.migrations(&MigrationFilter::default()).await?.items;
    let decisions = client.decisions(None).await?.items;
    let mut events: Vec<(Timestamp, Event)> = Vec::new();
    events.extend(decisions.into_iter().map(|decision| (decision.at, Event::Decision { decision })));
    events.extend(
        migrations
            .into_iter()
            .map(|migration| (migration.finished_at.unwrap_or(migration.created_at), Event::Migration { migration })),
    );
    events.sort_by_key(|(at, _)| *at);
    for (at, event) in &events {
        tell(session, *at, event)?;
    }
    Ok(Exit::Done)
}

enum Stop {
    Broken(ClientError),
    Failure(Failure),
}

struct Listener<'a> {
    session: &'a Session,
    client: Client,
    filter: EventFilter,
    /// The number of the last event, behind which a new connection goes on.
    seen: Option<u64>,
    pause: Duration,
    connected_once: bool,
}

impl Listener<'_> {
    async fn keep_following(&mut self) -> Result<Exit, Failure> {
        loop {
            let error = match self.listen().await {
                Ok(never) => match never {},
                Err(Stop::Failure(failure)) => return Err(failure),
                Err(Stop::Broken(error)) => error,
            };
            if !self.connected_once || !error.is_passing() {
                return Err(error.into());
            }
            eprintln!("{}; reconnecting…", clean(&error.to_string()));
            tokio::time::sleep(self.pause).await;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn listen(&mut self) -> Result<std::convert::Infallible, Stop> {
        let mut told = self.client.occurrences(self.seen, &self.filter).await.map_err(Stop::Broken)?;
        if std::mem::replace(&mut self.connected_once, true) {
            eprintln!("Connected again.");
        }
        self.pause = FIRST_PAUSE;
        while let Some(told) = told.next().await {
            match told.map_err(Stop::Broken)? {
                Told::Ready(seq) => self.seen = self.seen.max(Some(seq)),
                Told::Missed => eprintln!("Some events are not kept any more; the lists show the state."),
                Told::Occurrence(told) => {
                    self.seen = self.seen.max(told.seq);
                    self.session.line(&told, |paint| line(told.at, &told.event, paint)).map_err(Stop::Failure)?;
                }
            }
        }
        let why = "it closed the event stream".to_owned();
        Err(Stop::Broken(ClientError::Unreachable { url: self.client.url().to_owned(), why }))
    }
}

fn tell(session: &Session, at: Timestamp, event: &Event) -> Result<(), Failure> {
    session.line(event, |paint| line(at, event, paint))
}

fn line(at: Timestamp, event: &Event, paint: Paint) -> String {
    let time = paint.quiet(&units::clock(at, &TimeZone::system()));
    format!("{time}  {:<13}  {}", event.name(), words(event, paint))
}

fn words(event: &Event, paint: Paint) -> String {
    match event {
        Event::Node { node } => {
            let used = node.utilization.as_ref();
            let cpu = units::or_unknown(used.map(|used| used.cpu_sustained), units::percent);
            let memory = units::or_unknown(used.map(|used| used.memory), units::percent);
            format!("{}  cpu {cpu}  memory {memory}  workloads {}", paint.head(&clean(&node.name)), node.workloads)
        }
        Event::Workload { workload } => format!(
            "{}  on {}  cpus {:.2}  memory {}",
            paint.head(&clean(&workload.name)),
            clean(&workload.node),
            workload.cpus,
            units::bytes(workload.memory_bytes)
        ),
        Event::WorkloadGone { name } => paint.head(&clean(name)),
        Event::Migration { migration } => migration_words(migration, paint),
        Event::Decision { decision } => decision_words(decision, paint),
        Event::Policy { version, by } => format!("version {version} is in force, by {}", clean(by)),
        Event::WorkloadFound { name, node, .. } => format!("{}  on {}", paint.head(&clean(name)), clean(node)),
        Event::Availability { name, availability } => {
            format!("{}  {}", paint.head(&clean(name)), format!("{availability:?}").to_lowercase())
        }
        Event::NodeOrdered { name, cordoned, draining, by } => {
            let order = match (cordoned, draining) {
                (_, true) => "draining",
                (true, false) => "cordoned",
                (false, false) => "uncordoned",
            };
            format!("{}  {order}, by {}", paint.head(&clean(name)), clean(by))
        }
    }
}

fn migration_words(migration: &Migration, paint: Paint) -> String {
    let mut words = migration::headline(migration, paint);
    if let Some(progress) = &migration.progress {
        let total = progress.bytes_total.map(|total| format!(" of {}", units::bytes(total))).unwrap_or_default();
        words.push_str(&format!("  {} {}{total}", migration::stage_word(progress.stage), units::bytes(progress.bytes)));
    }
    if let Some(cause) = &migration.cause {
        words.push_str(&format!("  {}", clean(&cause.message)));
    }
    words
}

fn decision_words(decision: &Decision, paint: Paint) -> String {
    format!("{}  {}", paint.head(&clean(&decision.workload)), clean(&decision.reason))
}
