//! The programs' log on standard error, and the lines of it that are about a migration.
//!
//! A span with a field `migration` makes every line inside it one of that migration: `tracing::error_span!`, because a span
//! that the log's level leaves out would name nothing.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};
use uuid::Uuid;

use crate::migration::LogLine;

/// How the log reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line: `timestamp`, `level`, `target`, `message`, and every field of the line and of what it is part of.
    Json,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("expected text or json".to_owned()),
        }
    }
}

/// Takes a line about a migration.
pub type Collect = fn(Uuid, LogLine);

/// Starts the log. `level` is what is written where RUST_LOG says nothing. Every line about a migration also goes to `collect`,
/// from `debug` up and whatever RUST_LOG says, if its target begins with `ours`.
pub fn start(format: Format, level: &str, ours: &'static str, collect: Option<Collect>) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let written = match format {
        Format::Text => {
            let ansi = std::io::stderr().is_terminal();
            tracing_subscriber::fmt::layer().with_ansi(ansi).with_target(false).with_writer(std::io::stderr).boxed()
        }
        Format::Json => Json.boxed(),
    };
    let kept = collect
        .map(|collect| MigrationLines(collect).with_filter(Targets::new().with_target(ours, LevelFilter::DEBUG)));
    tracing_subscriber::registry().with(written.with_filter(filter)).with(kept).init();
}

#[derive(Debug, Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
}

fn remember<S>(attributes: &Attributes<'_>, id: &Id, context: &Context<'_, S>)
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let Some(span) = context.span(id) else { return };
    let mut fields = Fields::default();
    attributes.record(&mut fields);
    span.extensions_mut().replace(fields);
}

fn add<S>(id: &Id, values: &Record<'_>, context: &Context<'_, S>)
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    if let Some(span) = context.span(id)
        && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
    {
        values.record(fields);
    }
}

/// The event's own fields, and before them those of the spans that it is in; the inner ones win.
fn fields<S>(event: &Event<'_>, context: &Context<'_, S>) -> Map<String, Value>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let mut all = Map::new();
    for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
        if let Some(Fields(fields)) = span.extensions().get() {
            all.extend(fields.clone());
        }
    }
    let mut own = Fields(all);
    event.record(&mut own);
    own.0
}

struct Json;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Json {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        remember(attributes, id, &context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        add(id, values, &context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = Map::new();
        line.insert("timestamp".into(), Timestamp::now().to_string().into());
        line.insert("level".into(), event.metadata().level().as_str().into());
        line.insert("target".into(), event.metadata().target().into());
        for (name, value) in fields(event, &context) {
            line.entry(name).or_insert(value);
        }
        let mut text = Value::Object(line).to_string();
        text.push('\n');
        // Whoever closed our standard error wants no log.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}

struct MigrationLines(Collect);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for MigrationLines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        remember(attributes, id, &context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        add(id, values, &context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let level = *event.metadata().level();
        if level > Level::DEBUG {
            return;
        }
        let mut fields = fields(event, &context);
        let migration = fields.remove("migration");
        let Some(migration) = migration.and_then(|id| id.as_str()?.parse().ok()) else { return };
        let mut message = fields.remove("message").and_then(|text| Some(text.as_str()?.to_owned())).unwrap_or_default();
        for (name, value) in fields.iter().filter(|(name, _)| *name != "workload") {
            // Writing to a string does not fail.
            let _ = match value.as_str() {
                Some(text) => write!(message, " {name}={text}"),
                None => write!(message, " {name}={value}"),
            };
        }
        let level = level.as_str().to_lowercase();
        (self.0)(migration, LogLine { at: Timestamp::now(), level, node: None, message });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    static TAKEN: Mutex<Vec<(Uuid, LogLine)>> = Mutex::new(Vec::new());

    #[test]
    fn every_line_inside_a_span_is_the_migrations_and_says_the_spans_fields() {
        let collect: Collect = |migration, line| TAKEN.lock().unwrap().push((migration, line));
        let quiet = MigrationLines(collect).with_filter(Targets::new().with_target("fog_api", LevelFilter::DEBUG));
        let subscriber = tracing_subscriber::registry().with(quiet);
        let id = Uuid::from_u128(7);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("about nothing");
            let span = tracing::error_span!("step", migration = %id, workload = "web", step = tracing::field::Empty);
            span.record("step", "ship");
            span.in_scope(|| tracing::warn!(bytes = 3, "sent"));
            tracing::debug!(migration = %id, "by its own word");
        });
        let taken = TAKEN.lock().unwrap();
        let said: Vec<&str> = taken.iter().map(|(_, line)| line.message.as_str()).collect();
        assert_eq!(said, ["sent bytes=3 step=ship", "by its own word"]);
        assert!(taken.iter().all(|(migration, _)| *migration == id));
        assert_eq!(taken[0].1.level, "warn");
    }
}
