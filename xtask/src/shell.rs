//! Running other programs, and telling the person what goes on. Everything is said on stderr: stdout
//! belongs to the program that is run in the end.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// Says what is done next.
pub(crate) fn phase(what: &str) {
    eprintln!("\n==> {what}");
}

/// Says something about the current phase.
pub(crate) fn note(what: &str) {
    eprintln!("    {what}");
}

/// Cargo, the same that runs this program.
pub(crate) fn cargo() -> Command {
    Command::new(setting("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// One environment variable.
pub(crate) fn setting(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Runs a program to its end, its output going to stderr.
///
/// # Errors
/// When it cannot be started or does not succeed.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    command.stdout(std::io::stderr());
    let line = line(command);
    note(&format!("$ {line}"));
    let status = command.status().with_context(|| format!("could not start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed: {status}");
    }
    Ok(())
}

/// Runs a program to its end while `progress` is called every few seconds with the time gone by.
///
/// # Errors
/// When it cannot be started or does not succeed.
pub(crate) fn run_watched(
    command: &mut Command,
    mut progress: impl FnMut(Duration),
) -> anyhow::Result<()> {
    const EVERY: Duration = Duration::from_secs(10);

    command.stdout(std::io::stderr()).stdin(Stdio::null());
    let line = line(command);
    note(&format!("$ {line}"));
    let mut child = command.spawn().with_context(|| format!("could not start `{line}`"))?;
    let started = Instant::now();
    let (done, ended) = std::sync::mpsc::channel();
    let waiter = std::thread::spawn(move || {
        let status = child.wait();
        // The receiver lives until this was received.
        done.send(()).ok();
        status
    });
    while ended.recv_timeout(EVERY) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
        progress(started.elapsed());
    }
    let status = match waiter.join() {
        Ok(status) => status.with_context(|| format!("could not wait for `{line}`"))?,
        Err(_) => bail!("could not wait for `{line}`"),
    };
    if !status.success() {
        bail!("`{line}` failed: {status}");
    }
    Ok(())
}

/// What a program prints.
///
/// # Errors
/// When it cannot be started, does not succeed, or prints something that is not text.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let line = line(command);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("could not start `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}` failed: {}", output.status);
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{line}` printed something that is not text"))
}

/// Where on PATH a program is.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = setting("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// PATH with one folder put first.
///
/// # Errors
/// When the folder's name cannot be in PATH.
pub(crate) fn path_with(folder: &Path) -> anyhow::Result<OsString> {
    let path = setting("PATH").unwrap_or_default();
    let folders = std::iter::once(folder.to_owned()).chain(std::env::split_paths(&path));
    Ok(std::env::join_paths(folders)?)
}

/// Bytes for people.
pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}

/// A command as a person would type it.
fn line(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
