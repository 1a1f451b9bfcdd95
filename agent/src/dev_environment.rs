//! What processes of a dev container find in their environment, in the IDE and in the shell alike.

use std::ffi::OsString;
use std::path::Path;

use crate::install::Installed;
use crate::layout::Layout;

/// Where the customer's runtime has its programs; login shells put it in front of their `PATH`.
pub(crate) const RUNTIME_PATH: &str = "ZLH_RUNTIME_PATH";
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The customer's own shell.
pub(crate) fn shell() -> &'static str {
    if Path::new("/bin/bash").exists() { "/bin/bash" } else { "/bin/sh" }
}

pub(crate) fn dev_environment(
    layout: &Layout,
    user: &str,
    runtime: &Installed,
) -> Vec<(&'static str, OsString)> {
    let runtime_path = runtime.program.parent().unwrap_or(&runtime.folder).as_os_str().to_owned();
    // The customer's runtime alone: code-server calls the Node that it brings by its path.
    let mut path = runtime_path.clone();
    path.push(":");
    path.push(SYSTEM_PATH);
    let mut environment = vec![
        ("HOME", layout.home().into_os_string()),
        ("USER", user.into()),
        ("LOGNAME", user.into()),
        ("SHELL", shell().into()),
        ("TERM", "xterm-256color".into()),
        ("LANG", "C.UTF-8".into()),
        ("PATH", path),
        (RUNTIME_PATH, runtime_path),
    ];
    environment.extend(layout.temporary().map(|folder| ("TMPDIR", folder.into_os_string())));
    environment
}
