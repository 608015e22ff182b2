//! `fogctl completion`

use clap::CommandFactory;

use crate::arguments::Arguments;
use crate::exit::{Exit, Failure};
use crate::session;

pub(super) fn run(shell: clap_complete::Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "fogctl", &mut script);
    session::write(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
