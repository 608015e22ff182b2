//! `create`: the first phase. Returns when the restored container's namespaces exist.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use crate::agent::{Verdict, ask};
use crate::arguments::Call;
use crate::restore_folder::RestoreFolder;
use crate::{Next, SUPERVISE, bundle, log, runc};

pub(crate) fn create(call: &Call, folder: &RestoreFolder) -> Result<Next, String> {
    let bundle = call.bundle.clone().unwrap_or_else(|| Path::new(".").to_path_buf());
    match ask(&call.container, bundle::rootfs(&bundle).as_deref())? {
        Verdict::Create => Ok(Next::Runc),
        Verdict::Refuse { reason } => Err(reason),
        Verdict::Restore { images, work, criu_config, criu_options, network, cgroups, closed_network, gate } => {
            let pid_file = call.pid_file.as_deref().ok_or("create without --pid-file")?;
            let program = std::env::current_exe().map_err(|error| format!("cannot find myself: {error}"))?;
            let hooks = bundle::Hooks { program: &program, folder: folder.path(), closed_network };
            bundle::prepare(&bundle, &hooks, &criu_config, call.systemd_cgroup())?;
            let mut restore: Vec<OsString> = vec![runc()];
            restore.extend(call.global.iter().cloned());
            restore.extend(["restore", "--detach", "--file-locks"].map(OsString::from));
            if !network {
                restore.extend(["--empty-ns", "network"].map(OsString::from));
            }
            if !cgroups {
                restore.extend(["--manage-cgroups-mode", "ignore"].map(OsString::from));
            }
            restore.push("--image-path".into());
            restore.extend([images.into(), "--work-path".into(), work.into(), "--bundle".into(), bundle.into()]);
            restore.extend(["--pid-file".into(), folder.path().join("restored.pid").into()]);
            restore.extend(call.no_pivot.then(|| "--no-pivot".into()));
            restore.push(call.container.clone().into());
            let environment = fog_stand_in::prepare(&folder.path().join("bin"), &program)
                .map_err(|error| format!("nothing can stand in for CRIU: {error}"))?;
            let environment = environment.into_iter().chain([
                (fog_stand_in::GATE, gate.into_os_string()),
                // CRIU reads it, at the end of the chain.
                ("CRIU_CONFIG_FILE", criu_options.into_os_string()),
            ]);
            let pid = supervise(folder, &program, environment, &restore)
                .map_err(|message| message + &log::last_error(call.log.as_deref()))?;
            std::fs::write(pid_file, pid.to_string())
                .map_err(|error| format!("{} cannot be written: {error}", pid_file.display()))?;
            Ok(Next::Done)
        }
    }
}

/// Starts the supervisor and waits until it knows the restored container's first process.
fn supervise(
    folder: &RestoreFolder,
    program: &Path,
    environment: impl Iterator<Item = (&'static str, OsString)>,
    restore: &[OsString],
) -> Result<u32, String> {
    let socket = folder.report_socket();
    std::fs::remove_file(&socket).ok();
    let listener =
        UnixListener::bind(&socket).map_err(|error| format!("{} cannot be made: {error}", socket.display()))?;
    // It inherits our standard output and error, which are the container's.
    let mut supervisor = Command::new(program)
        .arg(SUPERVISE)
        .arg(folder.path())
        .args(restore)
        .envs(environment)
        .stdin(Stdio::inherit())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("the supervisor cannot be started: {error}"))?;
    // Two things can happen: a report, or the supervisor's end.
    let (sender, report) = mpsc::channel();
    let ended = sender.clone();
    std::thread::spawn(move || {
        let mut line = String::new();
        let heard = listener.accept().and_then(|(stream, _)| BufReader::new(stream).read_line(&mut line));
        if heard.is_ok() && !line.is_empty() {
            sender.send(line).ok();
        }
    });
    std::thread::spawn(move || {
        supervisor.wait().ok();
        // A report that is on its way wins.
        std::thread::sleep(std::time::Duration::from_millis(100));
        ended.send("the supervisor of the restore ended\n".to_owned()).ok();
    });
    let line = report.recv().map_err(|_| "nothing is known of the restore")?;
    std::fs::remove_file(&socket).ok();
    let line = line.trim_end();
    line.strip_prefix("pid ").and_then(|pid| pid.parse().ok()).ok_or_else(|| line.to_owned())
}
