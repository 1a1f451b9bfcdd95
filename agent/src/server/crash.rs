//! Why a server ended, as far as its end and its last words tell.

use zlh_agent_protocol::config::CrashClass;
use zlh_agent_protocol::game::CrashHint;

/// Lines of output that are kept of a crash, and what is kept of each.
const MAX_LINES: usize = 50;
const MAX_CHARS: usize = 300;
/// What a shell answers for a program that is not there (POSIX.1-2024, XCU 2.8.2).
const NOT_FOUND: i32 = 127;

/// Texts that mean the same in the output of all games, in the order in which they are looked for.
const HINTS: [(&str, CrashClass); 22] = [
    ("java.lang.OutOfMemoryError", CrashClass::Oom),
    ("There is insufficient memory for the Java Runtime", CrashClass::Oom),
    ("JavaScript heap out of memory", CrashClass::Oom),
    ("std::bad_alloc", CrashClass::Oom),
    ("Cannot allocate memory", CrashClass::Oom),
    ("MemoryError", CrashClass::Oom),
    ("error while loading shared libraries", CrashClass::MissingDependency),
    ("Missing or unsupported mandatory dependencies", CrashClass::MissingDependency),
    ("requires any version of", CrashClass::MissingDependency),
    ("UnknownDependencyException", CrashClass::MissingDependency),
    ("Could not find or load main class", CrashClass::MissingDependency),
    ("Unable to access jarfile", CrashClass::MissingDependency),
    ("Cannot find module", CrashClass::MissingDependency),
    ("ModuleNotFoundError", CrashClass::MissingDependency),
    ("Failed to find a graphics set", CrashClass::MissingDependency),
    ("ModLoadingException", CrashClass::ModOrPluginError),
    ("Mod Loading has failed", CrashClass::ModOrPluginError),
    ("Incompatible mods found", CrashClass::ModOrPluginError),
    ("InvalidPluginException", CrashClass::ModOrPluginError),
    ("org.spongepowered.asm.mixin", CrashClass::ModOrPluginError),
    ("java.lang.NoClassDefFoundError", CrashClass::MissingDependency),
    ("java.lang.ClassNotFoundException", CrashClass::MissingDependency),
];

/// How a server ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) exit_code: Option<i32>,
    pub(crate) signal: Option<i32>,
    /// The system killed something of the container for its memory meanwhile.
    pub(crate) out_of_memory: bool,
}

/// The game's own hints come first: a text may mean something else there.
pub(crate) fn classify(end: End, tail: &[String], hints: &[CrashHint]) -> CrashClass {
    const SIGKILL: i32 = 9;
    if end.out_of_memory && (end.signal == Some(SIGKILL) || end.exit_code == Some(128 + SIGKILL)) {
        return CrashClass::Oom;
    }
    let own = hints.iter().map(|hint| (hint.contains.as_str(), hint.class));
    for (text, class) in own.chain(HINTS) {
        if tail.iter().any(|line| line.contains(text)) {
            return class;
        }
    }
    match (end.exit_code, end.signal) {
        (Some(NOT_FOUND), _) => CrashClass::MissingDependency,
        (Some(0), _) | (None, None) => CrashClass::UnexpectedExit,
        _ => CrashClass::NonzeroExit,
    }
}

/// The last lines of output as people may be shown them: without colours and other control characters.
pub(crate) fn lines(output: &str) -> Vec<String> {
    let mut lines: Vec<String> = plain(output)
        .lines()
        .map(|line| {
            // What follows a carriage return was written over what was before it.
            let seen = line.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default();
            seen.chars().filter(|c| !c.is_control()).take(MAX_CHARS).collect::<String>()
        })
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines.drain(..lines.len().saturating_sub(MAX_LINES));
    lines
}

/// Without escape sequences (ECMA-48 sections 5.3, 5.4 and 5.6).
fn plain(output: &str) -> String {
    let mut text = String::with_capacity(output.len());
    let mut chars = output.chars();
    while let Some(c) = chars.next() {
        if c != '\u{1b}' {
            text.push(c);
            continue;
        }
        match chars.next() {
            // A control sequence ends with its first byte from `@` on.
            Some('[') => {
                let _ = chars.by_ref().find(|c| matches!(c, '@'..='~'));
            }
            // A string ends with a bell, or with the escape of its terminator.
            Some(']' | 'P' | '^' | '_' | 'X') => {
                let _ = chars.by_ref().find(|c| matches!(c, '\u{7}' | '\u{1b}'));
            }
            _ => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(code: i32) -> End {
        End { exit_code: Some(code), ..End::default() }
    }

    fn signal(number: i32) -> End {
        End { signal: Some(number), ..End::default() }
    }

    #[test]
    fn the_class_of_a_crash() {
        let mod_hint = CrashHint {
            contains: "plugin says no".to_owned(),
            class: CrashClass::ModOrPluginError,
        };
        let killed = End { out_of_memory: true, ..signal(9) };
        let table: [(End, &str, CrashClass); 15] = [
            (killed, "", CrashClass::Oom),
            (End { out_of_memory: true, ..exit(137) }, "", CrashClass::Oom),
            (End { out_of_memory: true, ..exit(1) }, "", CrashClass::NonzeroExit),
            (signal(9), "", CrashClass::NonzeroExit),
            (signal(11), "", CrashClass::NonzeroExit),
            (exit(1), "java.lang.OutOfMemoryError: Java heap space", CrashClass::Oom),
            (exit(0), "", CrashClass::UnexpectedExit),
            (End::default(), "", CrashClass::UnexpectedExit),
            (exit(3), "all is well", CrashClass::NonzeroExit),
            (exit(127), "", CrashClass::MissingDependency),
            (
                exit(1),
                "x: error while loading shared libraries: liby.so",
                CrashClass::MissingDependency,
            ),
            (exit(1), "Error: Cannot find module 'x'", CrashClass::MissingDependency),
            (
                exit(1),
                "Mod Loading has failed: java.lang.NoClassDefFoundError",
                CrashClass::ModOrPluginError,
            ),
            (exit(1), "the plugin says no", CrashClass::ModOrPluginError),
            (exit(0), "the plugin says no", CrashClass::ModOrPluginError),
        ];
        for (end, line, class) in table {
            let tail = ["begin".to_owned(), line.to_owned(), "end".to_owned()];
            let hints = std::slice::from_ref(&mod_hint);
            assert_eq!(classify(end, &tail, hints), class, "{end:?} {line}");
        }
    }

    #[test]
    fn lines_are_fit_to_be_shown() {
        let output = "\u{1b}[32mgreen\u{1b}[0m\r\n\r\n\u{1b}]0;title\u{7}10%\r20%\r\nbell\u{7}\n> ";

        assert_eq!(lines(output), ["green", "20%", "bell", "> "]);
        let many = "line\n".repeat(80) + &"x".repeat(1000);
        assert_eq!((lines(&many).len(), lines(&many)[49].len()), (50, 300));
    }
}
