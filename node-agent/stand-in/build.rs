//! Builds `preload/`, which the program carries along and hands to CRIU, as a library of its own.

use std::env;
use std::path::Path;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=preload");
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");
    let variable = |name: &str| env::var_os(name).unwrap_or_default();
    let library = Path::new(&variable("OUT_DIR")).join("fog_later.so");
    let mut rustc = Command::new(variable("RUSTC"));
    rustc.args(["--crate-name", "fog_later", "--crate-type", "cdylib", "--edition", "2024"]);
    rustc.args(["-C", "opt-level=2", "-C", "panic=abort", "-C", "strip=symbols", "--cap-lints", "warn", "--target"]);
    rustc.arg(variable("TARGET")).arg("-o").arg(&library).arg("preload/lib.rs");
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = std::ffi::OsString::from("linker=");
        option.push(linker);
        rustc.arg("-C").arg(option);
    }
    match rustc.status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => {
            println!("cargo::error=rustc ended with {status} while it built preload/lib.rs");
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("cargo::error=rustc could not be started: {error}");
            ExitCode::FAILURE
        }
    }
}
