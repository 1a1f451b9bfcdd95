//! Compiled code on disk, so that a second start compiles nothing.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};
use wasmtime::component::Component;
use wasmtime::{Engine, Result};

use super::component_files::remove_others;

/// Compositions that are kept for each component, so that swapping to and fro compiles nothing.
const KEPT_PER_COMPONENT: usize = 4;

/// A folder of compiled components. Whoever can write to it can run code in this process, so its files
/// are its owner's only, like the databases beside it.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
    /// Files in use, the latest last.
    used: Mutex<VecDeque<PathBuf>>,
}

impl Cache {
    pub(crate) fn open(folder: PathBuf) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(Self { folder, used: Mutex::default() })
    }

    /// Loads a component, compiling it first if this engine has not done so before. Blocks.
    pub(crate) fn component(&self, engine: &Engine, wasm: &[u8]) -> Result<Component> {
        let path = self.folder.join(format!("{}.cwasm", key(engine, wasm)));
        self.note(&path);
        if path.exists() {
            match deserialize(engine, &path) {
                Ok(component) => return Ok(component),
                Err(error) => {
                    tracing::warn!(error = %error, "unusable compiled code is compiled again");
                }
            }
        }
        let code = engine.precompile_component(wasm)?;
        write(&path, &code)?;
        deserialize(engine, &path)
    }

    /// Removes code that has not been asked for lately. A folder that is a link stays as it is: others
    /// may use it. Blocks.
    pub(crate) fn prune(&self, components: usize) -> io::Result<()> {
        if fs::symlink_metadata(&self.folder)?.is_symlink() {
            return Ok(());
        }
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let surplus = used.len().saturating_sub(components * KEPT_PER_COMPONENT);
        used.drain(..surplus);
        remove_others(&self.folder, |path| used.iter().any(|used| used == path))
    }

    fn note(&self, path: &Path) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.retain(|used| used != path);
        used.push_back(path.to_owned());
    }
}

/// Digest of the code and of everything about the engine that its compilation depends on.
fn key(engine: &Engine, wasm: &[u8]) -> String {
    let mut digest = Digesting(Sha256::new_with_prefix(wasm));
    engine.precompile_compatibility_hash().hash(&mut digest);
    digest.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Feeds what is hashed to a digest that, unlike a standard hasher's, is the same in every build.
struct Digesting(Sha256);

impl Hasher for Digesting {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest is read instead.
    fn finish(&self) -> u64 {
        0
    }
}

/// Maps the file, so that its pages are shared with the file cache and read when they are first run.
fn deserialize(engine: &Engine, path: &Path) -> Result<Component> {
    #[expect(unsafe_code, reason = "loading compiled code cannot be made safe")]
    // SAFETY: the file was written by `write` below from the output of the same engine's compiler, under
    // a name that this engine derives from it, into a folder that only this process's user writes to.
    // It is replaced, never changed in place.
    unsafe {
        Component::deserialize_file(engine, path)
    }
}

/// Writes a whole file or none.
fn write(path: &Path, code: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(code)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    fn files(folder: &Path) -> Vec<PathBuf> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn code_is_compiled_once_and_again_when_its_file_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path().join("compiled")).unwrap();
        let engine = Engine::default();
        cache.component(&engine, COMPONENT).unwrap();
        let [file] = files(&cache.folder).try_into().unwrap();
        let written = fs::metadata(&file).unwrap().modified().unwrap();

        cache.component(&engine, COMPONENT).unwrap();
        let reused = fs::metadata(&file).unwrap().modified().unwrap() == written;
        fs::write(&file, b"damaged").unwrap();
        cache.component(&engine, COMPONENT).unwrap();

        assert!(reused);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(files(&cache.folder).len(), 1);
    }

    #[test]
    fn code_that_is_not_in_use_is_removed_unless_others_may_use_it() {
        let folder = tempfile::tempdir().unwrap();
        let shared = folder.path().join("shared");
        let link = folder.path().join("link");
        let cache = Cache::open(shared.clone()).unwrap();
        std::os::unix::fs::symlink(&shared, &link).unwrap();
        cache.component(&Engine::default(), COMPONENT).unwrap();
        let stale = shared.join("stale.cwasm");
        fs::write(&stale, b"").unwrap();

        Cache::open(link).unwrap().prune(1).unwrap();
        let kept = files(&shared).len();
        cache.prune(1).unwrap();

        assert_eq!(kept, 2);
        assert_eq!(files(&shared).len(), 1);
        assert!(!stale.exists());
    }

    #[test]
    fn another_configuration_has_other_code() {
        let other = Engine::new(wasmtime::Config::new().epoch_interruption(true)).unwrap();

        assert_ne!(key(&Engine::default(), COMPONENT), key(&other, COMPONENT));
    }
}
