//! Whether the system ended processes of this container for their memory.

use std::fs;

/// Files of the control group that the agent sees as its own: version 2, and version 1.
const FILES: [&str; 2] =
    ["/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"];

/// How many it has ended so far; 0 where that is not told.
pub(crate) fn kills() -> u64 {
    FILES.iter().find_map(|file| parse(&fs::read_to_string(file).ok()?)).unwrap_or_default()
}

fn parse(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_control_group_are_understood() {
        assert_eq!(parse("low 0\noom 3\noom_kill 2\noom_group_kill 0\n"), Some(2));
        assert_eq!(parse("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"), Some(7));
        assert_eq!(parse("oom_kill_disable 0\n"), None);
    }
}
