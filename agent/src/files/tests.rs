use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use tempfile::TempDir;
use tokio::sync::mpsc;
use zlh_agent_protocol::files::{
    ArchiveFiles, EntryKind, ListFiles, MAX_TEXT_BYTES, UploadFile, Uploaded, WriteFile,
};

use super::*;

/// A container with a workspace, and a file outside of it that nobody may see.
struct World {
    folder: TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir_all(world.path("")).unwrap();
        fs::write(world.folder.path().join("home/dev/secret"), "secret").unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(world.path(""), Some(4321), Some(4322)).unwrap();
        }
        world
    }

    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join("home/dev/workspace").join(below)
    }

    fn try_open(&self) -> Result<Files, FileError> {
        let layout = Layout::new(self.folder.path().to_owned());
        let now = OffsetDateTime::now_utc();
        Files::open(&layout, ContainerType::Dev, CancellationToken::new(), now)
    }

    fn files(&self) -> Files {
        self.try_open().unwrap()
    }

    fn write(&self, path: &str, content: &str) -> Result<(), FileError> {
        let (path, content) = (path.to_owned(), content.to_owned());
        self.files().write(&WriteFile { path, content, if_modified_at: None }).map(drop)
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    fn upload(&self, size: u64, offset: u64, bytes: &[u8]) -> Result<Uploaded, FileError> {
        let upload =
            self.files().begin_upload(&UploadFile { path: "up".to_owned(), size, offset })?;
        let (sender, receiver) = mpsc::channel(8);
        sender.try_send(Bytes::copy_from_slice(bytes)).unwrap();
        drop(sender);
        upload.receive(receiver)
    }

    /// Everything in the workspace is the workload's, and nothing is left of what was being made.
    fn assert_tidy(&self) {
        if rustix::process::geteuid().is_root() {
            let mut folders = vec![self.path("")];
            while let Some(folder) = folders.pop() {
                for entry in fs::read_dir(folder).unwrap() {
                    let path = entry.unwrap().path();
                    let metadata = fs::symlink_metadata(&path).unwrap();
                    assert_eq!((metadata.uid(), metadata.gid()), (4321, 4322), "{path:?}");
                    if metadata.is_dir() {
                        folders.push(path);
                    }
                }
            }
        }
        let stage = self.folder.path().join("var/lib/zlh-agent/files");
        assert_eq!(fs::read_dir(stage).unwrap().count(), 3, "shadow, uploaded, parts");
    }
}

#[track_caller]
fn refused<T>(result: Result<T, FileError>) {
    assert!(matches!(result, Err(FileError::Refused(_))), "{:?}", result.err());
}

#[track_caller]
fn conflict<T>(result: Result<T, FileError>) {
    assert!(matches!(result, Err(FileError::Conflict(_))), "{:?}", result.err());
}

#[test]
fn links_that_lead_out_are_followed_by_nothing() {
    let world = World::new();
    symlink("../secret", world.path("up")).unwrap();
    symlink("..", world.path("out")).unwrap();
    symlink(world.folder.path(), world.path("abs")).unwrap();
    fs::write(world.path("mine"), "mine").unwrap();
    let files = world.files();

    for path in ["up", "out/secret", "abs/home/dev/secret"] {
        refused(files.read(path));
        refused(files.download(path, &axum::http::HeaderMap::new()));
        refused(world.write(path, "overwritten"));
    }
    for folder in ["out", "abs"] {
        let path = folder.to_owned();
        refused(files.list(&ListFiles { path, after: None, limit: None }));
        let inside = format!("{folder}/new");
        refused(files.make_folder(&inside));
        refused(files.rename("mine", &inside));
        refused(files.copy("mine", &inside));
        refused(files.delete(&format!("{folder}/secret")));
        let asked = UploadFile { path: inside, size: 1, offset: 0 };
        refused(world.files().begin_upload(&asked));
    }
    refused(world.upload(1, 0, b"x"));
    // As links they can be seen, copied, packed and removed.
    assert_eq!(files.stat("up").unwrap().kind, EntryKind::Link);
    files.copy("out", "out2").unwrap();
    for link in ["up", "out", "out2", "abs"] {
        files.delete(link).unwrap();
    }
    let secret = world.folder.path().join("home/dev/secret");
    assert_eq!(fs::read_to_string(secret).unwrap(), "secret");
    assert_eq!(fs::read_dir(world.folder.path().join("home/dev")).unwrap().count(), 2);
}

#[test]
fn a_link_in_place_of_the_workspace_is_not_followed() {
    let world = World::new();
    fs::create_dir_all(world.folder.path().join("var/lib")).unwrap();
    fs::remove_dir(world.path("")).unwrap();
    for target in ["/etc", "../../var", "."] {
        let workspace = world.folder.path().join("home/dev/workspace");
        symlink(target, &workspace).unwrap();

        assert!(world.try_open().is_err(), "{target}");

        fs::remove_file(workspace).unwrap();
    }
}

#[test]
fn what_is_not_a_file_is_refused_at_once() {
    let world = World::new();
    let kind = rustix::fs::FileType::Fifo;
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(rustix::fs::CWD, world.path("pipe"), kind, mode, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(world.path("socket")).unwrap();
    fs::create_dir(world.path("folder")).unwrap();
    let files = world.files();

    for path in ["pipe", "socket"] {
        assert_eq!(files.stat(path).unwrap().kind, EntryKind::Special);
        assert!(files.read(path).is_err());
        refused(world.write(path, "x"));
        refused(files.copy(path, "copy"));
        let paths = vec![path.to_owned()];
        refused(files.archive(&ArchiveFiles { paths, to: "a.tar.gz".to_owned() }));
    }
    refused(files.read("pipe"));
    refused(files.read("folder"));
    conflict(world.write("folder", "x"));
    for path in ["pipe", "socket", "folder"] {
        files.delete(path).unwrap();
    }
    assert_eq!(fs::read_dir(world.path("")).unwrap().count(), 0);
    world.assert_tidy();
}

#[test]
fn pages_of_a_folder_have_each_name_once() {
    let world = World::new();
    let mut names: Vec<_> = (0..250).map(|number| format!("f{number}")).collect();
    for name in &names {
        fs::write(world.path(name), "").unwrap();
    }
    names.sort();
    let files = world.files();

    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = files.list(&ListFiles { path: String::new(), after, limit: Some(100) }).unwrap();
        assert!(page.entries.len() <= 100);
        seen.extend(page.entries.into_iter().map(|entry| entry.name));
        after = page.next;
        if after.is_none() {
            break;
        }
    }

    assert_eq!(seen, names);
    for limit in [0, 1001] {
        let asked = ListFiles { path: String::new(), after: None, limit: Some(limit) };
        assert!(matches!(files.list(&asked), Err(FileError::Invalid(_))));
    }
}

#[test]
fn the_first_writing_can_be_reverted_and_rights_stay() {
    let world = World::new();
    world.write("a.sh", "first").unwrap();
    let files = world.files();
    conflict(files.revert("a.sh"));
    fs::set_permissions(world.path("a.sh"), fs::Permissions::from_mode(0o4755)).unwrap();

    world.write("a.sh", "second").unwrap();
    world.write("a.sh", "third").unwrap();

    assert_eq!(files.read("a.sh").unwrap().content, "third");
    let entry = files.stat("a.sh").unwrap();
    assert_eq!((entry.mode.as_str(), entry.revertible), ("755", true));
    assert_eq!(fs::metadata(world.path("a.sh")).unwrap().mode() & 0o7777, 0o755, "no setuid");
    assert!(!files.revert("a.sh").unwrap().revertible);
    assert_eq!(world.text("a.sh"), "first");
    world.assert_tidy();
}

#[test]
fn a_file_that_changed_meanwhile_is_not_overwritten() {
    let world = World::new();
    world.write("a", "one").unwrap();
    let files = world.files();
    let read = files.read("a").unwrap();
    let write = |if_modified_at| {
        let content = "two".to_owned();
        files.write(&WriteFile { path: "a".to_owned(), content, if_modified_at })
    };

    write(Some(read.modified_at.clone())).unwrap();

    conflict(write(Some(read.modified_at)));
    assert_eq!(world.text("a"), "two");
}

#[test]
fn only_text_of_some_size_is_read_and_written() {
    let world = World::new();
    fs::write(world.path("binary"), [0xff, 0xfe]).unwrap();
    fs::write(world.path("large"), vec![b'x'; MAX_TEXT_BYTES + 1]).unwrap();

    refused(world.files().read("binary"));
    assert!(matches!(world.files().read("large"), Err(FileError::TooLarge(_))));
    let large = "x".repeat(MAX_TEXT_BYTES + 1);
    assert!(matches!(world.write("new", &large), Err(FileError::TooLarge(_))));
    assert!(!world.path("new").exists());
}

#[test]
fn nothing_is_replaced_by_renaming_copying_or_unpacking() {
    let world = World::new();
    let files = world.files();
    files.make_folder("folder").unwrap();
    world.write("folder/a", "a").unwrap();
    symlink("a", world.path("folder/link")).unwrap();
    world.write("b", "b").unwrap();

    conflict(files.rename("b", "folder/a"));
    conflict(files.copy("b", "folder/a"));
    conflict(files.make_folder("folder"));
    conflict(files.copy("folder", "folder/in/itself"));
    assert!(matches!(files.rename("gone", "c"), Err(FileError::NotFound)));
    files.copy("folder", "other").unwrap();
    files.rename("other/a", "other/c").unwrap();

    assert_eq!(world.text("folder/a"), "a");
    assert_eq!(world.text("other/c"), "a");
    assert_eq!(fs::read_link(world.path("other/link")).unwrap(), PathBuf::from("a"));
    files.delete("other").unwrap();
    assert!(!world.path("other").exists());
    fs::remove_file(world.path("folder/link")).unwrap();
}

#[test]
fn what_was_packed_comes_out_the_same() {
    let world = World::new();
    let files = world.files();
    files.make_folder("src").unwrap();
    world.write("src/a", "text of a").unwrap();
    fs::set_permissions(world.path("src/a"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("a", world.path("src/link")).unwrap();
    let asked = ArchiveFiles { paths: vec!["src".to_owned()], to: "src.tar.gz".to_owned() };

    files.archive(&asked).unwrap();
    files.extract("src.tar.gz", "out").unwrap();

    assert_eq!(world.text("out/src/link"), "text of a");
    assert_eq!(fs::metadata(world.path("out/src/a")).unwrap().mode() & 0o777, 0o755);
    conflict(files.archive(&asked));
    conflict(files.extract("src.tar.gz", "out"));
    fs::remove_file(world.path("src/link")).unwrap();
    world.assert_tidy();
}

fn tar_of(name: &str, kind: tar::EntryType, link: &str, bytes: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    if let Some(field) = header.as_gnu_mut() {
        field.name[..name.len()].copy_from_slice(name.as_bytes());
        field.linkname[..link.len()].copy_from_slice(link.as_bytes());
    }
    header.set_cksum();
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    tar.append(&header, bytes).unwrap();
    tar.into_inner().unwrap().finish().unwrap()
}

fn zip_of(name: &str, link: bool, bytes: &[u8]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    if link {
        zip.add_symlink(name, "/etc", options).unwrap();
    } else {
        zip.start_file(name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[test]
fn archives_that_lead_out_leave_nothing_behind() {
    let world = World::new();
    for (name, archive) in [
        ("up.tar.gz", tar_of("../evil", tar::EntryType::Regular, "", b"x")),
        ("abs.tgz", tar_of("/tmp/evil", tar::EntryType::Regular, "", b"x")),
        ("link.tar.gz", tar_of("l", tar::EntryType::Symlink, "../../secret", b"")),
        ("pipe.tar.gz", tar_of("p", tar::EntryType::Fifo, "", b"")),
        ("up.zip", zip_of("../evil", false, b"x")),
        ("abs.zip", zip_of("/evil", false, b"x")),
        ("link.zip", zip_of("l", true, b"")),
        ("broken.zip", b"PK\x03\x04 and no more".to_vec()),
        ("broken.tar.gz", b"\x1f\x8b\x08 and no more".to_vec()),
    ] {
        fs::write(world.path(name), archive).unwrap();

        let error = world.files().extract(name, "out").expect_err(name);

        assert!(matches!(error, FileError::Refused(_)), "{name}: {error:?}");
        assert!(!world.path("out").exists(), "{name}");
        fs::remove_file(world.path(name)).unwrap();
    }
    world.assert_tidy();
    fs::write(world.path("good.zip"), zip_of("a/b", false, b"text")).unwrap();
    world.files().extract("good.zip", "out").unwrap();
    assert_eq!(world.text("out/a/b"), "text");
}

#[test]
fn a_bomb_goes_off_at_the_limit() {
    let world = World::new();
    let zeros = vec![0; 4 << 20];
    let into = world.folder.path().join("bomb");
    let limits = crate::install::Limits { entries: 10, bytes: 1 << 20 };
    let tar = tar_of("bomb", tar::EntryType::Regular, "", &zeros);
    assert!(tar.len() < 64 << 10);
    assert!(crate::install::unpack(&tar[..], &into, limits, &|| false).is_err());

    let zip = zip_of("bomb", false, &zeros);
    let into = world.folder.path().join("bomb2");
    let budget = tree::Budget { entries: 10, bytes: 1 << 20 };
    let error = world.files().unzip(std::io::Cursor::new(zip), &into, budget).unwrap_err();

    assert!(matches!(error, FileError::Full), "{error:?}");
    assert!(fs::metadata(into.join("bomb")).unwrap().len() <= (1 << 20) + 1);
}

#[test]
fn an_upload_is_seen_when_it_is_whole_and_goes_on_where_it_ended() {
    let world = World::new();
    fs::write(world.path("up"), "old").unwrap();

    let first = world.upload(10, 0, b"01234").unwrap();

    assert_eq!((first.offset, first.complete), (5, false));
    assert_eq!(world.text("up"), "old");
    let asked = UploadFile { path: "up".to_owned(), size: 10, offset: 0 };
    assert_eq!(world.files().uploaded(&asked).unwrap().offset, 5);
    for wrong in [4, 6] {
        conflict(world.upload(10, wrong, b"x"));
    }
    let last = world.upload(10, 5, b"56789").unwrap();
    assert_eq!((last.offset, last.complete), (10, true));
    assert_eq!(world.text("up"), "0123456789");
    assert_eq!(world.files().stat("up").unwrap().source.as_deref(), Some("user"));
    if rustix::process::geteuid().is_root() {
        assert_eq!(fs::metadata(world.path("up")).unwrap().uid(), 4321);
    }
    world.write("up", "edited").unwrap();
    assert_eq!(world.files().stat("up").unwrap().source, None);
    world.assert_tidy();
}

#[test]
fn more_bytes_than_announced_are_refused_and_forgotten() {
    let world = World::new();

    let result = world.upload(3, 0, b"0123");

    assert!(matches!(result, Err(FileError::TooLarge(_))), "{:?}", result.err());
    assert!(!world.path("up").exists());
    let asked = UploadFile { path: "up".to_owned(), size: 9, offset: 0 };
    assert_eq!(world.files().uploaded(&asked).unwrap().offset, 0);
    let asked = UploadFile { path: "up".to_owned(), size: 1 << 39, offset: 0 };
    assert!(matches!(world.files().begin_upload(&asked), Err(FileError::Full)));
}

#[test]
fn one_file_has_one_upload_at_a_time() {
    let world = World::new();
    let asked = UploadFile { path: "up".to_owned(), size: 9, offset: 0 };

    let first = world.files().begin_upload(&asked).unwrap();

    conflict(world.files().begin_upload(&asked));
    drop(first);
    world.files().begin_upload(&asked).unwrap();
    let nowhere = UploadFile { path: "no/folder".to_owned(), size: 9, offset: 0 };
    assert!(matches!(world.files().begin_upload(&nowhere), Err(FileError::NotFound)));
}

#[test]
fn an_archive_is_one_that_others_read() {
    let world = World::new();
    world.write("a", "text").unwrap();
    let asked = ArchiveFiles { paths: vec!["a".to_owned()], to: "a.tar.gz".to_owned() };
    world.files().archive(&asked).unwrap();

    let archive = fs::File::open(world.path("a.tar.gz")).unwrap();
    let mut tar = tar::Archive::new(GzDecoder::new(archive));
    let mut entry = tar.entries().unwrap().next().unwrap().unwrap();
    let mut text = String::new();
    entry.read_to_string(&mut text).unwrap();

    assert_eq!((entry.path().unwrap().to_str(), text.as_str()), (Some("a"), "text"));
}
