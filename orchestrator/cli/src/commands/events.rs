//! `fogctl events`

use std::time::Duration;

use fog_api::client::{Client, ClientError, MigrationFilter, Notice};
use fog_api::decision::Decision;
use fog_api::event::Event;
use fog_api::migration::Migration;
use futures_util::StreamExt;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::exit::{Exit, Failure};
use crate::render::paint::Paint;
use crate::render::text::clean;
use crate::render::{migration, units};
use crate::session::Session;

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

pub(super) async fn run(session: &Session, follow: bool) -> Result<Exit, Failure> {
    let client = session.reader()?;
    if !follow {
        return past(session, &client).await;
    }
    tokio::select! {
        done = keep_following(session, &client) => done,
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

async fn keep_following(session: &Session, client: &Client) -> Result<Exit, Failure> {
    let mut pause = FIRST_PAUSE;
    let mut connected_once = false;
    loop {
        let error = match listen(session, client, &mut pause, &mut connected_once).await {
            Ok(never) => match never {},
            Err(Stop::Failure(failure)) => return Err(failure),
            Err(Stop::Broken(error)) => error,
        };
        if !connected_once || !error.is_passing() {
            return Err(error.into());
        }
        eprintln!("{}; reconnecting…", clean(&error.to_string()));
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

enum Stop {
    Broken(ClientError),
    Failure(Failure),
}

async fn listen(
    session: &Session,
    client: &Client,
    pause: &mut Duration,
    connected_once: &mut bool,
) -> Result<std::convert::Infallible, Stop> {
    let mut notices = client.notices().await.map_err(Stop::Broken)?;
    if std::mem::replace(connected_once, true) {
        eprintln!("Connected again; what changed meanwhile is not repeated here, the lists show it.");
    }
    *pause = FIRST_PAUSE;
    while let Some(notice) = notices.next().await {
        match notice.map_err(Stop::Broken)? {
            Notice::Ready => {}
            Notice::Missed => eprintln!("Too slow: some events were missed; the lists show the state."),
            Notice::Event(event) => tell(session, Timestamp::now(), &event).map_err(Stop::Failure)?,
        }
    }
    let why = "it closed the event stream".to_owned();
    Err(Stop::Broken(ClientError::Unreachable { url: client.url().to_owned(), why }))
}

fn tell(session: &Session, at: Timestamp, event: &Event) -> Result<(), Failure> {
    session.line(event, |paint| {
        let time = paint.quiet(&units::clock(at, &TimeZone::system()));
        format!("{time}  {:<13}  {}", event.name(), words(event, paint))
    })
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
