//! The user that runs everything a customer starts.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::config::{Config, Ids};

/// Who runs the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Workload {
    /// Owner of home, workspace and processes.
    pub(crate) ids: Ids,
    /// The agent is root and gives its rights up for the workload.
    pub(crate) switch: bool,
}

/// There is no user to run the workload.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkloadError {
    #[error("only root can run the workload as user {0}")]
    NotRoot(u32),
    #[error(
        "the agent is root and its root folder is not `/`: ZLH_AGENT_UID must say who runs the workload"
    )]
    NoUser,
    #[error("the account `{0}` is root's")]
    RootAccount(String),
    #[error("useradd could not make the account `{user}`: {problem}")]
    UserAdd { user: String, problem: String },
    #[error("cannot read the accounts")]
    Accounts(#[source] io::Error),
}

/// Finds the user, or makes the account.
pub(crate) fn resolve(config: &Config) -> Result<Workload, WorkloadError> {
    let own =
        Ids { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() };
    match config.ids {
        Some(ids) if own.uid == 0 => Ok(Workload { ids, switch: true }),
        Some(ids) if ids == own => Ok(Workload { ids, switch: false }),
        Some(ids) => Err(WorkloadError::NotRoot(ids.uid)),
        None if own.uid != 0 => {
            tracing::warn!(
                "the agent is not root: the workload runs as the agent's own user and can change its files"
            );
            Ok(Workload { ids: own, switch: false })
        }
        None if config.root == Path::new("/") => {
            account(&config.user).map(|ids| Workload { ids, switch: true })
        }
        None => Err(WorkloadError::NoUser),
    }
}

fn account(user: &str) -> Result<Ids, WorkloadError> {
    let look = || {
        std::fs::read_to_string("/etc/passwd")
            .map(|text| find(&text, user))
            .map_err(WorkloadError::Accounts)
    };
    let ids = match look()? {
        Some(ids) => ids,
        None => {
            add(user)?;
            look()?.ok_or_else(|| WorkloadError::UserAdd {
                user: user.to_owned(),
                problem: "it is not in /etc/passwd".to_owned(),
            })?
        }
    };
    if ids.uid == 0 { Err(WorkloadError::RootAccount(user.to_owned())) } else { Ok(ids) }
}

fn add(user: &str) -> Result<(), WorkloadError> {
    let failed = |problem: String| WorkloadError::UserAdd { user: user.to_owned(), problem };
    let output = Command::new("useradd")
        .args([
            "--home-dir",
            "/home/dev",
            "--no-create-home",
            "--shell",
            "/bin/bash",
            "--user-group",
            "--",
            user,
        ])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        tracing::info!(user.name = user, "made the workload's account");
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// One line of passwd(5) is `name:password:uid:gid:…`.
fn find(passwd: &str, user: &str) -> Option<Ids> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(user) {
            return None;
        }
        let mut numbers = fields.skip(1).map(str::parse);
        Some(Ids { uid: numbers.next()?.ok()?, gid: numbers.next()?.ok()? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let passwd = "root:x:0:0::/root:/bin/sh\ndeveloper:x:7:7::/:/bin/sh\ndev:x:1000:1001::/home/dev:/bin/bash\n";

        assert_eq!(find(passwd, "dev"), Some(Ids { uid: 1000, gid: 1001 }));
        assert_eq!(find(passwd, "de"), None);
    }
}
