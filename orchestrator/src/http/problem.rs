//! Everything that a request can fail with, as problem+json.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use fog_api::problem::{FieldError, MEDIA_TYPE, Place, Problem};
use fog_core::place::Refusal;
use fog_core::{PolicyError, SnapshotError};

use crate::metrics::MetricsError;
use crate::planner::BeginError;
use crate::policy::LoadError;
use crate::proposals::AnswerError;
use crate::store::StoreError;

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// No such path.
    #[error("there is nothing at {path}; the API is under /v1")]
    UnknownPath {
        /// The path.
        path: String,
    },
    /// No such method on this path.
    #[error("{path} does not know this method")]
    UnknownMethod {
        /// The path.
        path: String,
    },
    /// The token is missing or wrong.
    #[error(
        "this needs the header `Authorization: Bearer TOKEN` with the orchestrator's token: it is in the file `token` of its data directory"
    )]
    Unauthorised,
    /// The body is too large.
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// The body or a parameter does not have the right form.
    #[error("{pointer}: {detail}")]
    Malformed {
        /// JSON pointer, or the parameter's name.
        pointer: String,
        /// What was expected.
        detail: String,
    },
    /// A parameter of the path, the query or a header does not have the right form.
    #[error("{name}: {detail}")]
    Parameter {
        /// Its name.
        name: String,
        /// What was expected.
        detail: String,
    },
    /// A field of the body has the right form and says something that cannot be.
    #[error("{pointer}: {detail}")]
    Invalid {
        /// JSON pointer.
        pointer: String,
        /// What was expected.
        detail: String,
    },
    /// A policy or a snapshot says something wrong.
    #[error("{title}: {}", errors.iter().map(|error| error.detail.as_str()).collect::<Vec<_>>().join("; "))]
    Wrong {
        /// `policy` or `snapshot`.
        kind: &'static str,
        /// The kind in words.
        title: &'static str,
        /// Everything, with its place.
        errors: Vec<FieldError>,
    },
    /// The token does not allow this.
    #[error("the token {name:?} may only read: use one with the role admin")]
    Forbidden {
        /// The token's name.
        name: String,
    },
    /// The body's type is not one that is read here.
    #[error("the body is {given:?}: send application/json")]
    MediaType {
        /// The header.
        given: String,
    },
    /// The name is taken.
    #[error("there is a {what} {name:?} already")]
    Taken {
        /// `token` and so on.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The key belongs to another request.
    #[error("this Idempotency-Key was used for another request: use a new one for every new write")]
    KeyReused,
    /// The key's first request has not been answered.
    #[error(
        "a request with this Idempotency-Key is under way, or was when the orchestrator ended: look whether it was done before you ask with a new key"
    )]
    KeyUnderWay,
    /// The key's answer held a secret.
    #[error("this was done, and its answer held a secret that is not kept: undo it and ask with a new key")]
    KeySecret,
    /// `If-Match` is missing.
    #[error("this needs the header `If-Match` with the ETag of what it replaces, now \"{newest}\"")]
    MatchMissing {
        /// The version in force.
        newest: u64,
    },
    /// Somebody else was faster.
    #[error("it has changed meanwhile: version {newest} is in force; read it, and apply your change to it")]
    MatchFailed {
        /// The version in force.
        newest: u64,
    },
    /// A webhook's receiver did not take an event.
    #[error("it was not taken: {error}")]
    NotTaken {
        /// What came of it.
        error: String,
    },
    /// No such thing.
    #[error("{what} {name:?} is not known")]
    Unknown {
        /// `node`, `workload`, `migration`, `decision`.
        what: &'static str,
        /// Its name or id.
        name: String,
    },
    /// The planner says no.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// It cannot be cancelled any more.
    #[error("migration {id} is {phase}: it can only be cancelled before its commit")]
    TooLate {
        /// The migration.
        id: uuid::Uuid,
        /// Its phase.
        phase: fog_api::migration::Phase,
    },
    /// A person's word makes no sense there.
    #[error("migration {id} is {phase}: {why}")]
    NotResolvable {
        /// The migration.
        id: uuid::Uuid,
        /// Its phase.
        phase: fog_api::migration::Phase,
        /// Why not, and what to do.
        why: String,
    },
    /// The migration was not begun.
    #[error("{0}")]
    NotBegun(#[from] BeginError),
    /// A decision was not approved or dismissed.
    #[error("{0}")]
    Answer(AnswerError),
    /// The store failed.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// There is more to do than can be done.
    #[error("the orchestrator has more to do than it can; try again in {again_s} s")]
    Busy {
        /// When to try again, in seconds.
        again_s: u32,
    },
    /// The metrics cannot be read.
    #[error("{0}")]
    Metrics(#[from] MetricsError),
    /// A defect.
    #[error("the orchestrator has a defect here; its log shows it")]
    Defect,
}

impl RouteError {
    /// A parameter does not have the right form.
    pub(super) fn parameter(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Parameter { name: name.into(), detail: detail.into() }
    }

    /// A field says something that cannot be.
    pub(super) fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Invalid { pointer: pointer.into(), detail: detail.into() }
    }

    /// The text at `pointer` is no policy.
    pub(super) fn policy(pointer: &str, error: &PolicyError) -> Self {
        Self::Wrong { kind: "invalid-policy", title: "The policy is not valid", errors: policy_errors(pointer, error) }
    }

    /// A policy was not changed.
    pub(super) fn policy_change(pointer: &str, error: LoadError) -> Self {
        match error {
            LoadError::Wrong(error) => Self::policy(pointer, &error),
            LoadError::Changed { newest, .. } => Self::MatchFailed { newest },
            LoadError::Store(error) => Self::Store(error),
            LoadError::Unreadable { .. } => Self::Defect,
        }
    }

    /// The snapshot at `pointer` is none.
    pub(super) fn snapshot(pointer: &str, error: &SnapshotError) -> Self {
        let of = |problem: &fog_core::Problem| {
            let path: String = problem.field.replace(['[', '.'], "/").replace(']', "");
            self::error(&format!("{pointer}/{path}"), &format!("{}; {}", problem.reason, problem.remedy))
        };
        let errors = error.problems.iter().map(of).collect();
        Self::Wrong { kind: "invalid-snapshot", title: "The snapshot is not valid", errors }
    }

    fn problem(&self) -> Problem {
        let (status, kind, title) = self.kind();
        let errors = match self {
            RouteError::Malformed { pointer, detail } => field(pointer, detail),
            RouteError::Parameter { name, detail } => {
                vec![FieldError { parameter: Some(name.clone()), ..error("", detail) }]
            }
            RouteError::Invalid { pointer, detail } => field(pointer, detail),
            RouteError::Wrong { errors, .. } => errors.clone(),
            RouteError::Refused(refusal) => match refusal {
                Refusal::UnknownWorkload { .. } | Refusal::NotMovable { .. } => {
                    field("/workload", &refusal.to_string())
                }
                Refusal::UnknownNode { .. } | Refusal::AlreadyThere { .. } | Refusal::Infeasible { .. } => {
                    field("/destination", &refusal.to_string())
                }
                Refusal::Strategy(_) => field("/strategy", &refusal.to_string()),
                Refusal::NoFeasibleDestination { .. } => Vec::new(),
            },
            _ => Vec::new(),
        };
        Problem {
            kind: format!("urn:fogshift:problem:{kind}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: self.to_string(),
            errors,
        }
    }

    fn kind(&self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            RouteError::UnknownPath { .. } => (S::NOT_FOUND, "unknown-path", "No such path"),
            RouteError::UnknownMethod { .. } => (S::METHOD_NOT_ALLOWED, "unknown-method", "No such method here"),
            RouteError::Unauthorised => (S::UNAUTHORIZED, "unauthorised", "The token is missing or wrong"),
            RouteError::TooLarge { .. } => (S::PAYLOAD_TOO_LARGE, "too-large", "The body is too large"),
            RouteError::Malformed { .. } | RouteError::Parameter { .. } => {
                (S::BAD_REQUEST, "malformed", "The request does not have the right form")
            }
            RouteError::Invalid { .. } => (S::UNPROCESSABLE_ENTITY, "invalid", "A field says something that cannot be"),
            RouteError::Wrong { kind, title, .. } => (S::UNPROCESSABLE_ENTITY, kind, title),
            RouteError::Forbidden { .. } => (S::FORBIDDEN, "forbidden", "The token does not allow this"),
            RouteError::MediaType { .. } => (S::UNSUPPORTED_MEDIA_TYPE, "media-type", "The body is not JSON"),
            RouteError::Taken { .. } => (S::CONFLICT, "taken", "The name is taken"),
            RouteError::NotTaken { .. } => (S::CONFLICT, "not-taken", "The receiver did not take it"),
            RouteError::KeyReused => {
                (S::UNPROCESSABLE_ENTITY, "key-reused", "The Idempotency-Key is another request's")
            }
            RouteError::KeyUnderWay => (S::CONFLICT, "key-under-way", "The first request is not answered"),
            RouteError::KeySecret => (S::CONFLICT, "key-secret", "The answer is not kept"),
            RouteError::MatchMissing { .. } => (S::PRECONDITION_REQUIRED, "match-missing", "If-Match is missing"),
            RouteError::MatchFailed { .. } => (S::PRECONDITION_FAILED, "match-failed", "Somebody else was faster"),
            RouteError::Busy { .. } => (S::TOO_MANY_REQUESTS, "busy", "Too much to do"),
            RouteError::Unknown { .. } => (S::NOT_FOUND, "not-found", "No such thing"),
            RouteError::Refused(refusal) => match refusal {
                Refusal::UnknownWorkload { .. } => (S::UNPROCESSABLE_ENTITY, "unknown-workload", "Unknown workload"),
                Refusal::UnknownNode { .. } => (S::UNPROCESSABLE_ENTITY, "unknown-node", "Unknown node"),
                Refusal::AlreadyThere { .. } => (S::CONFLICT, "already-there", "The workload is there already"),
                Refusal::NotMovable { .. } => (S::CONFLICT, "not-movable", "The workload cannot be moved"),
                Refusal::Infeasible { .. } => (S::CONFLICT, "infeasible", "The destination cannot take the workload"),
                Refusal::NoFeasibleDestination { .. } => {
                    (S::CONFLICT, "no-feasible-destination", "No node can take the workload")
                }
                Refusal::Strategy(_) => {
                    (S::UNPROCESSABLE_ENTITY, "strategy-unavailable", "The workload does not allow the strategy")
                }
            },
            RouteError::NotResolvable { .. } => {
                (S::CONFLICT, "not-resolvable", "There is nothing to resolve like that")
            }
            RouteError::TooLate { .. } => (S::CONFLICT, "too-late", "It is too late to cancel"),
            RouteError::NotBegun(BeginError::Store(StoreError::AlreadyMigrating { .. })) => {
                (S::CONFLICT, "already-migrating", "The workload is being migrated already")
            }
            RouteError::NotBegun(BeginError::Gone(_) | BeginError::Store(StoreError::OwnerChanged { .. })) => {
                (S::CONFLICT, "workload-gone", "The workload is gone meanwhile")
            }
            RouteError::Answer(error) => match error {
                AnswerError::NotOpen { .. } => (S::CONFLICT, "not-open", "The decision waits for nobody"),
                AnswerError::AdviceOnly { .. } => (S::CONFLICT, "advice-only", "The decision is a recommendation only"),
                AnswerError::NoLongerHolds(_) => (S::CONFLICT, "no-longer-holds", "The decision no longer holds"),
                // `From` turns the others into what they are.
                AnswerError::Unknown(_) | AnswerError::NotBegun(_) | AnswerError::Store(_) => {
                    (S::INTERNAL_SERVER_ERROR, "store", "The orchestrator's store failed")
                }
            },
            RouteError::NotBegun(_) | RouteError::Store(_) | RouteError::Metrics(_) => {
                (S::INTERNAL_SERVER_ERROR, "store", "The orchestrator's store failed")
            }
            RouteError::Defect => (S::INTERNAL_SERVER_ERROR, "defect", "A defect"),
        }
    }
}

impl From<AnswerError> for RouteError {
    fn from(error: AnswerError) -> Self {
        match error {
            AnswerError::Unknown(id) => RouteError::Unknown { what: "decision", name: id.to_string() },
            AnswerError::NotBegun(error) => RouteError::NotBegun(error),
            AnswerError::Store(error) => RouteError::Store(error),
            other => RouteError::Answer(other),
        }
    }
}

/// Everything wrong with a policy, each with its place in the text.
pub(super) fn policy_errors(pointer: &str, error: &PolicyError) -> Vec<FieldError> {
    let of = |problem: &fog_core::Problem| FieldError {
        pointer: pointer.to_owned(),
        detail: format!("{}; {}", problem.reason, problem.remedy),
        parameter: None,
        place: problem.place.map(|place| Place { line: place.line, column: place.column }),
        field: Some(problem.field.clone()).filter(|field| !field.is_empty()),
    };
    error.problems.iter().map(of).collect()
}

fn field(pointer: &str, detail: &str) -> Vec<FieldError> {
    vec![error(pointer, detail)]
}

fn error(pointer: &str, detail: &str) -> FieldError {
    FieldError { pointer: pointer.to_owned(), detail: detail.to_owned(), ..FieldError::default() }
}

impl IntoResponse for RouteError {
    fn into_response(self) -> Response {
        let problem = self.problem();
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status.is_server_error() {
            tracing::error!(kind = problem.kind, "{}", problem.detail);
        }
        let mut response = (status, axum::Json(problem)).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if let RouteError::Busy { again_s } = &self {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(*again_s));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A panic in a handler is a defect, not a closed connection.
pub(super) fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    RouteError::Defect.into_response()
}
