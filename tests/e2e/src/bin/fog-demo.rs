//! `make demo`: the scenario of the source thesis on four real hosts.

use std::process::ExitCode;

fn main() -> ExitCode {
    match fog_e2e::demo::play(std::env::var_os("DEMO_EXIT").is_some_and(|value| value == "1")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
