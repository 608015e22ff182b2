//! Posts events to webhooks: one task each, in order, out of the stored history, so that nothing is lost over a restart.
//! What a receiver has not taken after every attempt becomes a dead letter, and the next event is posted.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use fog_api::event::Occurrence;
use fog_api::webhook::DeadLetter;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::app::{App, Service};
use crate::clock;
use crate::store::{StoreError, StoredWebhook};

const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
const BATCH: u32 = 64;
/// The store does not take what was done: so long until it is tried again.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// The running webhooks.
pub struct Webhooks {
    http: reqwest::Client,
    running: Mutex<BTreeMap<Uuid, CancellationToken>>,
}

/// What came of an attempt.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// Nobody answered.
    #[error("no answer: {0}")]
    Unreachable(String),
    /// The receiver said no.
    #[error("the receiver answered {0}")]
    Refused(u16),
}

impl Webhooks {
    /// With a client that follows nobody elsewhere.
    pub fn new() -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(ANSWER_WITHIN)
            .user_agent(concat!("fogshift/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http, running: Mutex::default() })
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<Uuid, CancellationToken>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops one.
    pub fn stop(&self, id: Uuid) {
        if let Some(running) = self.running().remove(&id) {
            running.cancel();
        }
    }
}

/// The value of `Fogshift-Signature`.
pub fn signature(secret: &str, seconds: i64, body: &[u8]) -> String {
    // A key of any length is fine for HMAC.
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of every length");
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body);
    let digits: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={seconds},v1={digits}")
}

/// Starts every webhook that the store knows.
pub async fn start_all(app: &App) -> Result<(), StoreError> {
    for stored in app.store.webhooks().await? {
        start(app, stored);
    }
    Ok(())
}

/// Starts one; it runs until it is removed or the service ends.
pub fn start(app: &App, stored: StoredWebhook) {
    let stop = app.shutdown.child_token();
    app.webhooks.running().insert(stored.webhook.id, stop.clone());
    let app = app.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = post(&app, stored) => {}
            () = stop.cancelled() => {}
        }
    });
}

async fn post(app: &Service, mut stored: StoredWebhook) {
    let id = stored.webhook.id;
    let mut told = app.store.told();
    loop {
        told.mark_unchanged();
        let (events, last) = match app.store.events_after(stored.done, BATCH).await {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(webhook = %id, "cannot read the events: {error}");
                tokio::time::sleep(STORE_PAUSE).await;
                continue;
            }
        };
        for event in events.iter().filter(|one| stored.webhook.filter.takes(&one.event)) {
            let letter = deliver(app, &stored, event).await.err().map(|error| dead(app, &stored, event, &error));
            let seq = event.seq.unwrap_or(last);
            keep(app, id, seq, letter.as_ref()).await;
            stored.done = seq;
        }
        if last == stored.done && events.is_empty() {
            if told.changed().await.is_err() {
                return;
            }
        } else if last > stored.done {
            keep(app, id, last, None).await;
            stored.done = last;
        }
    }
}

fn dead(app: &Service, stored: &StoredWebhook, event: &Occurrence, error: &DeliveryError) -> DeadLetter {
    tracing::warn!(webhook = %stored.webhook.id, url = stored.webhook.url, seq = event.seq, "an event was given up: {error}");
    DeadLetter {
        id: Uuid::now_v7(),
        webhook: stored.webhook.id,
        at: clock::now(),
        attempts: app.config.webhook_attempts,
        error: error.to_string(),
        event: event.clone(),
    }
}

/// An event must not be posted twice because the store was busy once.
async fn keep(app: &Service, id: Uuid, seq: u64, letter: Option<&DeadLetter>) {
    while let Err(error) = app.store.webhook_done(id, seq, letter).await {
        tracing::error!(webhook = %id, "cannot store how far the webhook is: {error}");
        tokio::time::sleep(STORE_PAUSE).await;
    }
}

/// Posts until the receiver takes it or every attempt is used up.
async fn deliver(app: &Service, stored: &StoredWebhook, event: &Occurrence) -> Result<(), DeliveryError> {
    let pauses = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(app.config.webhook_pause_ms.into()))
        .with_max_delay(LONGEST_PAUSE)
        .with_jitter()
        .with_max_times(app.config.webhook_attempts.saturating_sub(1) as usize);
    (|| attempt(app, stored, event)).retry(pauses).sleep(tokio::time::sleep).await
}

/// Posts once.
pub async fn attempt(app: &Service, stored: &StoredWebhook, event: &Occurrence) -> Result<(), DeliveryError> {
    let body = serde_json::to_vec(event).map_err(|error| DeliveryError::Unreachable(error.to_string()))?;
    let signed = signature(&stored.secret, clock::now().as_second(), &body);
    let delivery = format!("{}-{}", stored.webhook.id, event.seq.unwrap_or_default());
    let request = app
        .webhooks
        .http
        .post(&stored.webhook.url)
        .header("content-type", "application/json")
        .header("fogshift-event", event.event.name())
        .header("fogshift-delivery", delivery)
        .header("fogshift-signature", signed)
        .body(body);
    match request.send().await {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(DeliveryError::Refused(answer.status().as_u16())),
        Err(error) => Err(DeliveryError::Unreachable(error.without_url().to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_hmac_of_moment_and_body() {
        // echo -n '1700000000.{"a":1}' | openssl dgst -sha256 -hmac 0123456789abcdef
        let expected = "t=1700000000,v1=9eb18f493f8ec135d9eb2dad817c369bb4e9cbfa818657897a7437c1cd8c3a23";
        assert_eq!(signature("0123456789abcdef", 1_700_000_000, br#"{"a":1}"#), expected);
    }
}
