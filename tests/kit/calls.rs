//! What tests called and what was answered, for `cargo xtask test` to compare with the API's description.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ::http::{Method, StatusCode};

use crate::config;

/// Of this process; none where nobody asked for it.
static CALLS: OnceLock<Option<File>> = OnceLock::new();

/// Adds a line such as `GET /api/health 200` to this process's file in the folder `ZLH_TEST_CALLS`. Lines of
/// tests that run at once do not mix: each is one write to the end of the file.
pub(crate) fn record(method: &Method, path: &str, status: StatusCode) {
    let file = CALLS.get_or_init(|| {
        let folder = PathBuf::from(config::setting("ZLH_TEST_CALLS")?);
        let test = std::env::current_exe().expect("the running test has a path");
        let name = test.file_name().map(Path::new).expect("a test has a name");
        let file = folder.join(format!("{}.{}", name.display(), std::process::id()));
        Some(File::options().create(true).append(true).open(file).expect("a file for calls"))
    });
    if let Some(mut file) = file.as_ref() {
        let line = format!("{method} {path} {}\n", status.as_u16());
        file.write_all(line.as_bytes()).expect("room for calls");
    }
}
