//! The calls that components make to agents, all of them: no client makes another, and no gateway lets
//! another through.

/// Method and path of each. `*` stands for one segment.
const CALLS: &[(&str, &str)] = &[
    ("GET", "/ready"),
    ("GET", "/status"),
    ("GET", "/version"),
    ("POST", "/dev/codeserver/start"),
    ("POST", "/dev/codeserver/stop"),
    ("POST", "/dev/codeserver/restart"),
    ("POST", "/start"),
    ("POST", "/stop"),
    ("POST", "/restart"),
    ("POST", "/kill"),
    ("POST", "/console/command"),
    ("GET", "/game/players"),
    ("GET", "/install/log"),
    ("POST", "/install/abort"),
    // What a file is called stands in the query or the body.
    ("GET", "/*/files/list"),
    ("GET", "/*/files/stat"),
    ("GET", "/*/files/read"),
    ("POST", "/*/files/write"),
    ("POST", "/*/files/mkdir"),
    ("POST", "/*/files/rename"),
    ("POST", "/*/files/copy"),
    ("POST", "/*/files/archive"),
    ("POST", "/*/files/extract"),
    ("POST", "/*/files/revert"),
    ("DELETE", "/*/files/delete"),
];

/// Whether components make such a call. The path is without a query.
#[must_use]
pub fn is_listed(method: &str, path: &str) -> bool {
    CALLS.iter().any(|(known, pattern)| *known == method && is_like(pattern, path))
}

fn is_like(pattern: &str, path: &str) -> bool {
    let (mut wanted, mut given) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some("*"), Some(segment)) if is_plain(segment) => {}
            (Some(wanted), Some(given)) if wanted == given => {}
            _ => return false,
        }
    }
}

/// Whether every parser reads the segment as the same name.
fn is_plain(segment: &str) -> bool {
    segment.bytes().any(|byte| byte != b'.')
        && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_listed_by_its_method_and_its_whole_path() {
        assert!(is_listed("POST", "/dev/codeserver/start"));
        for (method, path) in [
            ("GET", "/dev/codeserver/start"),
            ("post", "/dev/codeserver/start"),
            ("POST", "/dev/codeserver/start/"),
            ("POST", "/dev/codeserver//start"),
            ("POST", "/dev/codeserver"),
            ("POST", "/dev/codeserver/start/more"),
            ("POST", "dev/codeserver/start"),
            ("POST", "/dev/codeserver/x/../start"),
            ("POST", "/dev/codeserver/st%61rt"),
            ("POST", "/config"),
            ("PUT", "/dev/files/upload"),
            ("GET", "/console/stream"),
            ("GET", ""),
            ("GET", "/"),
        ] {
            assert!(!is_listed(method, path), "{method} {path}");
        }
    }

    #[test]
    fn a_star_is_one_plain_name() {
        assert!(is_like("/a/*/b", "/a/2026-11-20.tar/b"));
        for path in ["/a//b", "/a/./b", "/a/../b", "/a/%2e%2e/b", "/a/x/y/b", "/a/x%2fb", "/a/b"] {
            assert!(!is_like("/a/*/b", path), "{path}");
        }
    }
}
