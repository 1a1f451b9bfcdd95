//! Where things are: the repository, the programs under test, and room for data.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The repository's top folder.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the repository").to_owned()
}

/// Where `zlh` and `zlh-agent` were built: told by `cargo xtask test`, else beside the running test.
#[must_use]
pub fn programs() -> PathBuf {
    if let Some(folder) = setting("ZLH_TEST_PROGRAMS") {
        return folder.into();
    }
    let test = std::env::current_exe().expect("the running test has a path");
    // target/debug/deps/<test>
    test.ancestors().nth(2).expect("a test lies in deps/").to_owned()
}

/// The program `zlh`.
#[must_use]
pub fn zlh() -> PathBuf {
    let program = programs().join("zlh");
    assert!(
        program.is_file(),
        "{} is missing: run the tests with `cargo xtask test`",
        program.display()
    );
    program
}

/// The program schemathesis, which `cargo xtask test` installs.
#[must_use]
pub fn schemathesis() -> PathBuf {
    let program = root().join("target/schemathesis/bin/schemathesis");
    assert!(
        program.is_file(),
        "{} is missing: run the tests with `cargo xtask test`",
        program.display()
    );
    program
}

/// The artifact store that `cargo xtask artifacts` makes.
#[must_use]
pub fn artifacts() -> PathBuf {
    root().join("artifacts")
}

/// The manifest of the components.
#[must_use]
pub fn manifest() -> PathBuf {
    root().join("spin.toml")
}

/// Where pictures of the browser are kept.
#[must_use]
pub fn screenshots() -> PathBuf {
    root().join("target/screenshots")
}

/// Where folders for data are made.
#[must_use]
pub fn scratch_root() -> PathBuf {
    let below = if passable(&root()) {
        root().join("target/tmp")
    } else {
        std::env::temp_dir().join("zlh-tests")
    };
    std::fs::create_dir_all(&below).expect("room for data");
    below
}

/// A folder that belongs to one test and that the users of containers can pass through.
#[must_use]
pub fn scratch(name: &str) -> tempfile::TempDir {
    let folder = tempfile::Builder::new()
        .prefix(&format!("{name}-"))
        .permissions(std::fs::Permissions::from_mode(0o711))
        .tempdir_in(scratch_root());
    folder.expect("a folder for data")
}

/// Makes a system whose state lies in the folder share compiled code with all other tests: compiling the
/// components takes longer than most tests.
pub fn share_compiled_code(state: &Path) {
    let shared = root().join("target/tmp/compiled");
    std::fs::create_dir_all(&shared).expect("room for compiled code");
    std::fs::create_dir_all(state).expect("room for state");
    std::os::unix::fs::symlink(shared, state.join("compiled")).expect("a link to compiled code");
}

/// Whether every user may pass through the folder and those above it.
fn passable(folder: &Path) -> bool {
    folder.ancestors().all(|folder| {
        std::fs::metadata(folder).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
    })
}

/// One environment variable, if it is set.
#[must_use]
pub fn setting(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}
