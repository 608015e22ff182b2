//! How a command ends: its exit status, and what is said when it did not work.

use std::process::ExitCode;

use fog_api::client::ClientError;
use fog_api::problem::FieldError;

use crate::render::paint::Paint;
use crate::render::text::clean;

/// The exit statuses that `fogctl --help` documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    Unreachable = 3,
    Unauthorised = 4,
    TimedOut = 5,
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not work: what failed and why, then what to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) what: String,
    pub(crate) hints: Vec<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), hints: Vec::new() }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    pub(crate) fn tell(&self, paint: Paint) {
        eprintln!("{} {}", paint.bad("fogctl:"), clean(&self.what));
        for hint in &self.hints {
            eprintln!("  {}", clean(hint));
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let what = error.to_string();
        match error {
            ClientError::Address { .. } => Self::new(Exit::Usage, what).hint("Set --url or FOG_URL."),
            ClientError::Unreachable { .. } => Self::new(Exit::Unreachable, format!("{what}."))
                .hint("Is the orchestrator running? Set --url or FOG_URL."),
            ClientError::Problem(problem) if problem.status == 401 => {
                Self::new(Exit::Unauthorised, format!("not authorised: {}.", problem.title.to_lowercase()))
                    .hint("Set --token-file or FOG_TOKEN_FILE to the file `token` of the orchestrator's data directory, or FOG_TOKEN to its content.")
            }
            ClientError::Problem(problem) => {
                let mut failure = Self::new(Exit::Failed, what);
                // A field's error that only repeats the detail helps nobody.
                let says_more = |error: &&FieldError| error.place.is_some() || !problem.detail.contains(&error.detail);
                for error in problem.errors.iter().filter(says_more) {
                    failure = failure.hint(where_and_what(error));
                }
                failure
            }
            ClientError::Unexpected { .. } => Self::new(Exit::Failed, what)
                .hint("Is that the orchestrator's address, and of this version? Set --url or FOG_URL."),
        }
    }
}

/// `line 2, column 1, overload.cpu.start: …`, or the pointer to the field of a request.
pub(crate) fn where_and_what(error: &FieldError) -> String {
    let mut parts = Vec::new();
    match &error.place {
        Some(place) => parts.push(format!("line {}, column {}", place.line, place.column)),
        None => parts.extend(Some(error.pointer.clone()).filter(|pointer| !pointer.is_empty())),
    }
    parts.extend(error.field.clone().filter(|field| !field.is_empty()));
    if parts.is_empty() { error.detail.clone() } else { format!("{}: {}", parts.join(", "), error.detail) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fog_api::problem::{Place, Problem};

    #[test]
    fn an_error_in_a_policy_names_its_place() {
        let error = FieldError {
            pointer: "/text".into(),
            place: Some(Place { line: 2, column: 1 }),
            field: Some("overload.cpu.strt".into()),
            detail: "unknown".into(),
            ..FieldError::default()
        };
        assert_eq!(where_and_what(&error), "line 2, column 1, overload.cpu.strt: unknown");
    }

    fn problem(status: u16, detail: &str, field: &str) -> Failure {
        Failure::from(ClientError::Problem(Problem {
            kind: "urn:fogshift:problem:x".into(),
            title: "The token is missing or wrong".into(),
            status,
            detail: detail.into(),
            errors: vec![FieldError { pointer: "/destination".into(), detail: field.into(), ..FieldError::default() }],
        }))
    }

    #[test]
    fn nobody_there_says_what_to_do() {
        let error = ClientError::Unreachable { url: "http://fog:7700".into(), why: "connection refused".into() };
        let failure = Failure::from(error);
        assert_eq!(failure.exit, Exit::Unreachable);
        assert_eq!(failure.what, "cannot reach http://fog:7700: connection refused.");
        assert!(failure.hints[0].contains("FOG_URL"));
    }

    #[test]
    fn a_refusal_is_shown_with_its_fields_but_not_twice() {
        let failure = problem(422, "E is not known", "expected one of A, B");
        assert_eq!(
            (failure.exit, failure.hints),
            (Exit::Failed, vec!["/destination: expected one of A, B".to_owned()])
        );
        assert!(problem(422, "E is not known", "E is not known").hints.is_empty());
    }

    #[test]
    fn without_a_token_it_says_where_to_find_it() {
        let failure = problem(401, "this needs the header", "");
        assert_eq!(failure.exit, Exit::Unauthorised);
        assert!(failure.hints[0].contains("FOG_TOKEN_FILE"));
    }
}
