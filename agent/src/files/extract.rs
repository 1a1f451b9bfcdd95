//! Unpacks a `.tar.gz` or `.zip` into a new folder. What archives say of themselves is not believed: entries and
//! bytes are counted while they are unpacked.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use zip::ZipArchive;
use zlh_agent_protocol::files::Entry;

use super::path::RelativePath;
use super::policy::Act;
use super::stage::create;
use super::tree::Budget;
use super::{FileError, Files, MAX_ENTRIES};
use crate::install::{Limits, UnpackError, unpack};

/// What one archive may become, however much room there is.
const MAX_BYTES: u64 = 16 << 30;

impl Files {
    pub(super) fn extract(&self, from: &str, to: &str) -> Result<Entry, FileError> {
        let (from, to) = (RelativePath::parse_below(from)?, RelativePath::parse_below(to)?);
        self.check(Act::Read, &from)?;
        self.check(Act::Arrange, &to)?;
        self.free_place(&to)?;
        let (folder, name) = self.parent(&to)?;
        let (archive, _) = self.open_file(&from)?;
        let archive = io::BufReader::with_capacity(1 << 16, archive.into_std());

        let draft = self.stage.draft();
        let limits = Limits { entries: MAX_ENTRIES, bytes: self.stage.free()?.min(MAX_BYTES) };
        if from.as_str().ends_with(".zip") {
            let budget = Budget { entries: limits.entries, bytes: limits.bytes };
            self.unzip(archive, &draft.path, budget)?;
        } else if [".tar.gz", ".tgz"].iter().any(|end| from.as_str().ends_with(end)) {
            unpack(archive, &draft.path, limits, &|| self.stopping.is_cancelled())?;
        } else {
            return Err(FileError::Invalid(
                "`from` is not a `.tar.gz`, `.tgz` or `.zip`".to_owned(),
            ));
        }
        self.hand_over(&draft.path)?;
        self.stage.sync()?;
        self.stage.place(&draft.path, (&folder, name), false)?;
        self.entry(&to)
    }

    pub(super) fn unzip(
        &self,
        archive: impl Read + io::Seek,
        into: &Path,
        mut budget: Budget,
    ) -> Result<(), FileError> {
        let mut archive = ZipArchive::new(archive).map_err(broken)?;
        if archive.len() > budget.entries {
            return Err(UnpackError::TooMany(MAX_ENTRIES).into());
        }
        fs::create_dir(into)?;
        for index in 0..archive.len() {
            self.interrupted()?;
            let mut entry = archive.by_index(index).map_err(broken)?;
            let name = entry.name().map_err(broken)?.into_owned();
            let name = RelativePath::parse_below(&name)
                .map_err(|_| FileError::Refused(format!("`{name}` leads out of the archive")))?;
            let path = into.join(name.as_path());
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            if entry.is_dir() {
                fs::create_dir_all(&path)?;
            } else if entry.is_file() {
                let mut file = create(&path)?;
                let copied = io::copy(&mut (&mut entry).take(budget.bytes + 1), &mut file);
                budget.take_bytes(copied.map_err(|error| broken(error.into()))?)?;
                let program = entry.unix_mode().unwrap_or_default() & 0o111 != 0;
                file.set_permissions(mode(program))?;
            } else {
                return Err(FileError::Refused(format!("`{}` is a link", name.as_str())));
            }
        }
        Ok(())
    }

    /// Gives all of it to the workload.
    fn hand_over(&self, path: &Path) -> Result<(), FileError> {
        let metadata = fs::symlink_metadata(path)?;
        if metadata.is_dir() {
            for entry in fs::read_dir(path)? {
                self.hand_over(&entry?.path())?;
            }
            fs::set_permissions(path, mode(true))?;
        }
        Ok(self.stage.own(path)?)
    }
}

fn mode(program: bool) -> fs::Permissions {
    fs::Permissions::from_mode(if program { 0o755 } else { 0o644 })
}

fn broken(error: zip::result::ZipError) -> FileError {
    match error {
        // What the disk says is no fault of the archive.
        zip::result::ZipError::Io(error) if error.raw_os_error().is_some() => error.into(),
        error => FileError::Refused(format!("it is not a valid archive: {error}")),
    }
}

impl From<UnpackError> for FileError {
    fn from(error: UnpackError) -> Self {
        match error {
            UnpackError::Interrupted => Self::Interrupted,
            UnpackError::TooMany(_) | UnpackError::TooLarge(_) => {
                Self::TooLarge(format!("the archive {error}"))
            }
            UnpackError::Entry { source, .. } if source.raw_os_error().is_some() => source.into(),
            error => Self::Refused(format!("the archive: {error}")),
        }
    }
}
