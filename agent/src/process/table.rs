//! What `/proc` says about processes (proc(5)).

use std::fs;
use std::os::unix::fs::MetadataExt as _;

/// One live process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    pub(crate) session: i32,
    /// Clock ticks after boot: with the number, what tells two processes apart.
    pub(crate) started: u64,
    pub(crate) uid: u32,
}

impl Entry {
    /// Everything that is alive: what has ended and waits for its parent is not.
    pub(crate) fn all() -> Vec<Self> {
        let Ok(folder) = fs::read_dir("/proc") else { return Vec::new() };
        folder
            .flatten()
            .filter_map(|entry| Self::read(entry.file_name().to_str()?.parse().ok()?))
            .collect()
    }

    pub(crate) fn read(pid: i32) -> Option<Self> {
        let uid = fs::metadata(format!("/proc/{pid}")).ok()?.uid();
        parse(pid, uid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    pub(crate) fn arguments(&self) -> Vec<String> {
        strings(&format!("/proc/{}/cmdline", self.pid))
    }

    /// Empty when it is not this agent's to read.
    pub(crate) fn environment(&self) -> Vec<String> {
        strings(&format!("/proc/{}/environ", self.pid))
    }
}

fn strings(path: &str) -> Vec<String> {
    let Ok(bytes) = fs::read(path) else { return Vec::new() };
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    bytes.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned()).collect()
}

fn parse(pid: i32, uid: u32, stat: &str) -> Option<Entry> {
    // The second field is the program's name in parentheses, which may itself hold anything.
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X" | "x") {
        return None;
    }
    Some(Entry {
        pid,
        parent: fields.next()?.parse().ok()?,
        group: fields.next()?.parse().ok()?,
        session: fields.next()?.parse().ok()?,
        started: fields.nth(15)?.parse().ok()?,
        uid,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_be_called_anything() {
        let stat = "42 (a) S 1 2) R 7 8 9 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 123456 999 1";

        let entry = parse(42, 0, stat).unwrap();

        assert_eq!((entry.parent, entry.group, entry.session, entry.started), (7, 8, 9, 123_456));
        assert_eq!(
            parse(42, 0, "42 (sh) Z 7 8 9 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 123456 999 1"),
            None
        );
    }

    #[test]
    fn this_process_is_in_the_table() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let own = Entry::all().into_iter().find(|entry| entry.pid == pid).unwrap();

        assert!(!own.arguments().is_empty());
        assert_eq!(Entry::read(pid), Some(own));
    }
}
