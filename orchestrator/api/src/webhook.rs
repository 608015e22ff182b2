//! Webhooks: events that are posted to somebody else's server.
//!
//! Every delivery is a `POST` of one `Occurrence` with the headers `Fogshift-Event` (its type), `Fogshift-Delivery`
//! (`WEBHOOK-SEQ`, the same for every attempt: a receiver that has seen it answers 2xx and forgets it) and
//! `Fogshift-Signature: t=SECONDS,v1=HEX`, where HEX is the HMAC-SHA256 of `SECONDS.BODY` under the webhook's secret and
//! SECONDS the moment of the attempt, so that an old message cannot be sent again.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::event::{EventFilter, Occurrence};

/// `POST /v1/webhooks`
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookRequest {
    /// Where to post to: `http://…`.
    #[schema(max_length = 2000)]
    pub url: String,
    /// Which events; all of the history when left out.
    #[serde(default)]
    pub filter: EventFilter,
    /// What signs the deliveries, 16 to 256 characters; made at random when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 16, max_length = 256)]
    pub secret: Option<String>,
}

/// `GET /v1/webhooks`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Webhook {
    /// Its id; sorts by time.
    pub id: Uuid,
    /// Where its events go.
    pub url: String,
    /// Which events.
    pub filter: EventFilter,
    /// When it was made; it gets the events from then on.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
}

/// The answer to `POST /v1/webhooks`: the only time that the secret is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewWebhook {
    /// The webhook.
    pub webhook: Webhook,
    /// What signs its deliveries.
    pub secret: String,
}

/// An event that the receiver did not take: `GET /v1/dead-letters`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeadLetter {
    /// Its id; sorts by time.
    pub id: Uuid,
    /// The webhook.
    pub webhook: Uuid,
    /// When it was given up.
    pub at: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// What came of the last attempt.
    pub error: String,
    /// The event.
    pub event: Occurrence,
}
