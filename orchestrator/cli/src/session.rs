//! What every command needs: the client, and where and how its results are written.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use clap::ArgMatches;
use clap::parser::ValueSource;
use fog_api::client::{Client, ClientError};
use serde::Serialize;

use crate::arguments::{Global, Output};
use crate::commands::config::Setting;
use crate::exit::{Exit, Failure};
use crate::render::paint::Paint;

/// Where the token comes from.
#[derive(Debug, PartialEq, Eq)]
enum Token {
    None,
    Given(String),
    File(PathBuf),
}

pub(crate) struct Session {
    url: String,
    token: Token,
    output: Output,
    /// Where the address, the token and the way of writing came from.
    sources: [&'static str; 3],
    paint_stdout: Paint,
    paint_stderr: Paint,
}

impl Session {
    pub(crate) fn new(global: &Global, matches: &ArgMatches) -> Self {
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let token = token(global, given_on_command_line(matches, "token_file"));
        let token_argument = if matches!(token, Token::File(_)) { "token_file" } else { "token" };
        Self {
            url: global.url.clone(),
            token,
            output: global.output,
            sources: ["url", token_argument, "output"].map(|argument| source(matches, argument)),
            paint_stdout: Paint::new(colours && std::io::stdout().is_terminal()),
            paint_stderr: Paint::new(colours && std::io::stderr().is_terminal()),
        }
    }

    /// A client that reads. A token that cannot be had does not matter for that.
    pub(crate) fn reader(&self) -> Result<Client, ClientError> {
        let token = self.read_token().ok().flatten();
        Client::new(&self.url, token.as_deref())
    }

    /// A client that changes something.
    pub(crate) fn writer(&self) -> Result<Client, Failure> {
        Ok(Client::new(&self.url, self.read_token()?.as_deref())?)
    }

    /// The token, to be kept out of what is written.
    pub(crate) fn secret(&self) -> Option<String> {
        self.read_token().ok().flatten().map(|token| token.trim().to_owned())
    }

    pub(crate) const fn paint_stdout(&self) -> Paint {
        self.paint_stdout
    }

    fn read_token(&self) -> Result<Option<String>, Failure> {
        match &self.token {
            Token::None => Ok(None),
            Token::Given(token) => Ok(Some(token.clone())),
            Token::File(file) => std::fs::read_to_string(file).map(Some).map_err(|error| {
                Failure::new(Exit::Usage, format!("cannot read the token from {}: {error}", file.display()))
                    .hint("Set --token-file or FOG_TOKEN_FILE to a file that you may read.")
            }),
        }
    }

    /// What is in force and where it came from. The token itself is not told.
    pub(crate) fn settings(&self) -> Vec<Setting> {
        let token = match &self.token {
            Token::None => None,
            Token::Given(_) => Some("given, not shown".to_owned()),
            Token::File(file) => Some(file.display().to_string()),
        };
        let name = if matches!(self.token, Token::File(_)) { "token-file" } else { "token" };
        let output = if self.wants_json() { "json" } else { "table" };
        let [url_from, token_from, output_from] = self.sources;
        vec![
            Setting { name: "url", value: Some(self.url.clone()), from: url_from },
            Setting { name, value: token, from: token_from },
            Setting { name: "output", value: Some(output.to_owned()), from: output_from },
        ]
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Colours for what is no result.
    pub(crate) fn paint_stderr(&self) -> Paint {
        self.paint_stderr
    }

    pub(crate) fn wants_json(&self) -> bool {
        self.output == Output::Json
    }

    /// Writes a result: as JSON, or as `people` like it.
    pub(crate) fn result<T: Serialize>(&self, value: &T, people: impl FnOnce(Paint) -> String) -> Result<(), Failure> {
        if self.wants_json() {
            let json =
                serde_json::to_string_pretty(value).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
            write(&format!("{json}\n"))
        } else {
            write(&people(self.paint_stdout))
        }
    }

    /// Writes one of many results: a line of JSON, or a line for people.
    pub(crate) fn line<T: Serialize>(&self, value: &T, people: impl FnOnce(Paint) -> String) -> Result<(), Failure> {
        let line = if self.wants_json() {
            serde_json::to_string(value).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?
        } else {
            people(self.paint_stdout)
        };
        write(&format!("{line}\n"))
    }
}

/// Writes to stdout. Whoever stops reading (`| head`) has seen enough: that ends the program without a word.
pub(crate) fn write(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(Exit::Done as i32),
        Err(error) => Err(Failure::new(Exit::Failed, format!("cannot write the result: {error}"))),
    }
}

/// Global arguments are recorded wherever they stood: with the program or with its command.
fn given_on_command_line(matches: &ArgMatches, argument: &str) -> bool {
    matches.value_source(argument) == Some(ValueSource::CommandLine)
        || matches
            .subcommand()
            .is_some_and(|(_, matches)| matches.value_source(argument) == Some(ValueSource::CommandLine))
}

/// A flag before or behind the command, the environment variable of that name, or the default.
fn source(matches: &ArgMatches, argument: &str) -> &'static str {
    if given_on_command_line(matches, argument) {
        return "flag";
    }
    match (matches.value_source(argument), argument) {
        (Some(ValueSource::EnvVariable), "url") => "environment, FOG_URL",
        (Some(ValueSource::EnvVariable), "token") => "environment, FOG_TOKEN",
        (Some(ValueSource::EnvVariable), _) => "environment, FOG_TOKEN_FILE",
        _ => "default",
    }
}

/// A token file on the command line goes before a token out of the environment.
fn token(global: &Global, file_on_command_line: bool) -> Token {
    match (&global.token, &global.token_file) {
        (_, Some(file)) if file_on_command_line => Token::File(file.clone()),
        (Some(token), _) => Token::Given(token.clone()),
        (None, Some(file)) => Token::File(file.clone()),
        (None, None) => Token::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::Arguments;
    use clap::{CommandFactory, FromArgMatches};

    fn chosen(line: &str) -> Token {
        let matches = Arguments::command().mut_args(|arg| arg.env(None::<&str>)).get_matches_from(line.split(' '));
        let arguments = Arguments::from_arg_matches(&matches).unwrap();
        token(&arguments.global, given_on_command_line(&matches, "token_file"))
    }

    #[test]
    fn a_token_file_is_found_before_and_behind_the_command() {
        let file = Token::File("t".into());
        assert_eq!(chosen("fogctl --token-file t nodes"), file);
        assert_eq!(chosen("fogctl nodes --token-file t"), file);
        assert_eq!(chosen("fogctl nodes --token x"), Token::Given("x".into()));
        assert_eq!(chosen("fogctl nodes"), Token::None);
    }

    #[test]
    fn the_environment_s_token_yields_to_a_file_on_the_command_line() {
        let global = Global {
            url: String::new(),
            token: Some("env".into()),
            token_file: Some("t".into()),
            output: Output::Table,
        };
        assert_eq!(token(&global, true), Token::File("t".into()));
        assert_eq!(token(&global, false), Token::Given("env".into()));
    }
}
