//! code-server's arguments as a template, because their names change between its versions.

use std::ffi::OsString;
use std::path::Path;
use std::str::FromStr;

use super::Listen;

/// `--base-path`, which old notes name, is not an option of code-server: it refuses to start with it.
const DEFAULT: &str = "{listen} --auth none --disable-telemetry --disable-update-check \
     --disable-workspace-trust --disable-proxy --ignore-last-opened --user-data-dir {user_data_dir} \
     --extensions-dir {extensions_dir} {workspace}";

const LISTEN: &str = "{listen}";
const PATHS: [&str; 3] = ["{user_data_dir}", "{extensions_dir}", "{workspace}"];

/// Words with placeholders in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    words: Vec<String>,
}

/// What the placeholders stand for.
#[derive(Debug)]
pub(crate) struct Values<'a> {
    pub(crate) listen: &'a Listen,
    pub(crate) user_data_dir: &'a Path,
    pub(crate) extensions_dir: &'a Path,
    pub(crate) workspace: &'a Path,
}

impl Default for Template {
    fn default() -> Self {
        Self { words: DEFAULT.split_ascii_whitespace().map(str::to_owned).collect() }
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<String> = text.split_ascii_whitespace().map(str::to_owned).collect();
        for word in &words {
            let rest =
                PATHS.iter().fold(word.clone(), |rest, placeholder| rest.replace(placeholder, ""));
            if word != LISTEN && rest.contains(['{', '}']) {
                return Err(format!(
                    "has `{word}`; the placeholders are {LISTEN}, which is a word of its own, {}",
                    PATHS.join(", ")
                ));
            }
        }
        Ok(Self { words })
    }
}

impl Template {
    /// The arguments. A value with spaces in it stays one argument.
    pub(crate) fn expand(&self, values: &Values<'_>) -> Vec<OsString> {
        let mut arguments = Vec::new();
        for word in &self.words {
            if word == LISTEN {
                arguments.extend(listen(values.listen));
                continue;
            }
            let paths = [values.user_data_dir, values.extensions_dir, values.workspace];
            let expanded =
                PATHS.iter().zip(paths).fold(word.clone(), |word, (placeholder, path)| {
                    word.replace(placeholder, &path.to_string_lossy())
                });
            arguments.push(expanded.into());
        }
        arguments
    }
}

fn listen(listen: &Listen) -> Vec<OsString> {
    match listen {
        Listen::Tcp(address) => vec!["--bind-addr".into(), address.to_string().into()],
        Listen::Unix(path) => {
            vec!["--socket".into(), path.into(), "--socket-mode".into(), "600".into()]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(template: &Template, listen: &str) -> String {
        let listen = listen.parse().unwrap();
        let values = Values {
            listen: &listen,
            user_data_dir: Path::new("/data"),
            extensions_dir: Path::new("/extensions"),
            workspace: Path::new("/my work"),
        };
        let words: Vec<_> =
            template.expand(&values).into_iter().map(|word| word.into_string().unwrap()).collect();
        words.join("|")
    }

    #[test]
    fn placeholders_are_filled_in() {
        let template = "--x={workspace} {listen} -d {user_data_dir}".parse().unwrap();

        assert_eq!(
            expand(&template, "127.0.0.1:6000"),
            "--x=/my work|--bind-addr|127.0.0.1:6000|-d|/data"
        );
        assert!(
            expand(&template, "unix:/run/a/b").contains("|--socket|/run/a/b|--socket-mode|600|")
        );
    }

    #[test]
    fn there_is_no_base_path_by_default() {
        let text = expand(&Template::default(), "0.0.0.0:6000");

        assert!(!text.contains("base-path"));
        assert!(text.starts_with("--bind-addr|0.0.0.0:6000|--auth|none|"));
        assert!(text.ends_with("|/my work"));
    }

    #[test]
    fn an_unknown_placeholder_is_named() {
        for word in ["{port}", "x{listen}", "{workspace", "{{workspace}}"] {
            let problem = word.parse::<Template>().unwrap_err();
            assert!(problem.contains(word), "{problem}");
        }
    }
}
