//! What the machine has left: disk, memory, open files.

use std::fs;

use rustix::process::{Resource, getrlimit};

use super::Verdict;
use super::folder::existing;
use crate::component_host::Limits;
use crate::config::Config;

const MIB: u64 = 1 << 20;
/// Below it, one runtime and code-server cannot be unpacked: they are 0.7 GB.
const LEAST_DISK: u64 = 1024 * MIB;
const FEW_DISK: u64 = 5 * 1024 * MIB;
/// Below it, `zlh` itself may not start: compiling a component takes some 200 MB.
const LEAST_MEMORY: u64 = 256 * MIB;
const FEW_MEMORY: u64 = 1024 * MIB;

pub(super) async fn disk(config: &Config) -> Verdict {
    let root = std::path::absolute(&config.data_dir).unwrap_or_else(|_| config.data_dir.clone());
    match rustix::fs::statvfs(existing(&root)) {
        Ok(found) => judge_disk(found.f_bavail.saturating_mul(found.f_frsize)),
        Err(error) => Verdict::warn(format!("free space cannot be told: {error}")),
    }
}

fn judge_disk(free: u64) -> Verdict {
    let text = format!("{} MiB free below the data folder", free / MIB);
    match free {
        ..LEAST_DISK => {
            Verdict::wrong(text, "free some space, or give a `--data-dir` on a larger disk")
        }
        LEAST_DISK..FEW_DISK => Verdict::warn(format!("{text}: enough for a few containers")),
        _ => Verdict::ok(text),
    }
}

pub(super) async fn memory() -> Verdict {
    let limits = Limits::default();
    let most = u64::from(limits.max_instances).saturating_mul(limits.memory_bytes as u64);
    match fs::read_to_string("/proc/meminfo").ok().and_then(|text| available(&text)) {
        Some(available) => judge_memory(available, most),
        None => Verdict::warn("free memory cannot be told"),
    }
}

/// `MemAvailable:    4711 kB`
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

fn judge_memory(available: u64, most: u64) -> Verdict {
    let (available_mib, most) = (available / MIB, most / MIB);
    let text = format!(
        "{available_mib} MiB available; all instances of components together are held to {most} MiB"
    );
    match available {
        ..LEAST_MEMORY => Verdict::wrong(text, "end other programs, or use a larger machine"),
        LEAST_MEMORY..FEW_MEMORY => {
            Verdict::warn(format!("{text}: enough for few requests at once"))
        }
        _ => Verdict::ok(text),
    }
}

pub(super) async fn open_files(config: &Config) -> Verdict {
    // `zlh` raises its own limit to this one.
    judge_open_files(getrlimit(Resource::Nofile).maximum, config.limits.max_connections as u64)
}

fn judge_open_files(limit: Option<u64>, connections: u64) -> Verdict {
    // One that is forwarded is a connection on either side.
    let wanted = connections.saturating_mul(2);
    match limit {
        None => Verdict::ok("no limit"),
        Some(limit) if limit >= wanted => Verdict::ok(format!("up to {limit}")),
        Some(limit) => Verdict::warn(format!(
            "up to {limit}, and {connections} connections (`ZLH_MAX_CONNECTIONS`) may need {wanted}: \
             raise `LimitNOFILE=` of the service, or allow fewer connections"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_judged_by_what_is_needed() {
        for (free, wrong) in [(LEAST_DISK - 1, true), (LEAST_DISK, false), (FEW_DISK, false)] {
            assert_eq!(matches!(judge_disk(free), Verdict::Wrong { .. }), wrong, "{free}");
        }
        assert!(matches!(judge_disk(FEW_DISK), Verdict::Ok { .. }));
        assert!(matches!(judge_memory(LEAST_MEMORY - 1, 0), Verdict::Wrong { .. }));
        assert!(matches!(judge_memory(FEW_MEMORY - 1, 0), Verdict::Warn { .. }));
        assert!(matches!(judge_memory(FEW_MEMORY, 0), Verdict::Ok { .. }));
    }

    #[test]
    fn each_connection_may_need_a_second_one() {
        assert!(matches!(judge_open_files(Some(1024), 8192), Verdict::Warn { .. }));
        assert!(matches!(judge_open_files(Some(16_383), 8192), Verdict::Warn { .. }));
        assert!(matches!(judge_open_files(Some(16_384), 8192), Verdict::Ok { .. }));
        assert!(matches!(judge_open_files(None, 8192), Verdict::Ok { .. }));
    }

    #[test]
    fn available_memory_is_read_in_bytes() {
        let text = "MemTotal:       16000 kB\nMemAvailable:    2048 kB\n";

        assert_eq!(available(text), Some(2 * MIB));
        assert_eq!(available("MemTotal: 1 kB"), None);
    }
}
