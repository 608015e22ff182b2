//! `fogctl`: Fogshift from a terminal or a script.
//!
//! Results go to stdout, everything else to stderr, so that `--output json` can be piped. Each command lives in its own
//! file under `commands`; what they have in common is the way in ([`session`]), the way out ([`exit`]) and the words and
//! tables for people ([`render`]). Everything that is known about a
//! cluster comes from the public API; `plan` and `policy check` and `test` try the planner on files, without one.

mod arguments;
mod commands;
mod exit;
mod redact;
mod render;
mod session;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use arguments::Arguments;

#[tokio::main]
async fn main() -> ExitCode {
    let matches = Arguments::command().get_matches();
    let arguments = match Arguments::from_arg_matches(&matches) {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    let session = session::Session::new(&arguments.global, &matches);
    match commands::run(&session, arguments.command).await {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.tell(session.paint_stderr());
            failure.exit.into()
        }
    }
}
