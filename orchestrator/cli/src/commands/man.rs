//! `fogctl man`: manual pages, made of the same text as `--help`.

use std::path::Path;

use clap::CommandFactory;

use crate::arguments::Arguments;
use crate::exit::{Exit, Failure};

pub(super) fn run(folder: &Path) -> Result<Exit, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(Exit::Failed, format!("cannot write the manual pages to {}: {error}", folder.display()))
            .hint("Name a folder that you may write to.")
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    // An environment's secrets and addresses do not belong into a page.
    let command = Arguments::command().mut_args(|arg| arg.hide_env_values(true));
    clap_mangen::generate_to(command, folder).map_err(failed)?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_its_page() {
        let folder = std::env::temp_dir().join(format!("fogctl-man-{}", std::process::id()));
        assert_eq!(run(&folder), Ok(Exit::Done));
        for command in Arguments::command().get_subcommands() {
            let page = std::fs::read_to_string(folder.join(format!("fogctl-{}.1", command.get_name())));
            assert!(page.is_ok_and(|page| page.contains(".TH")), "{}", command.get_name());
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
