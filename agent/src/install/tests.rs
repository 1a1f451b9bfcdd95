//! The installer against archives that are wrong in one way each.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};
use tempfile::TempDir;

use super::*;

/// Name, kind, link target, contents.
type Line<'a> = (&'a str, EntryType, &'a str, &'a [u8]);

const PROGRAM: Line<'_> = ("bin/tool", EntryType::Regular, "", b"#!/bin/sh\n");

/// Writes names as they are; `tar::Builder` would refuse the bad ones.
fn archive(lines: &[Line<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, kind, link, contents) in lines {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o6777);
        header.set_mtime(1_000_000_000);
        header.set_size(contents.len().try_into().unwrap());
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        builder.append(&header, *contents).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

fn artifact(archive: &[u8]) -> Artifact {
    Artifact {
        version: "1".to_owned(),
        path: "devcontainer/tool-1.tar.gz".to_owned(),
        sha256: Sha256::digest(archive).iter().map(|byte| format!("{byte:02x}")).collect(),
        size_bytes: archive.len().try_into().unwrap(),
        unpacked_bytes: 1000,
        program: "bin/tool".to_owned(),
    }
}

/// A store with one file, an installer, and a folder to install to.
struct Bench {
    folder: TempDir,
    store: Store,
    installer: Installer,
}

impl Bench {
    async fn new(archive: &[u8]) -> Self {
        let files = HashMap::from([("/devcontainer/tool-1.tar.gz".to_owned(), archive.to_vec())]);
        let router = Router::new()
            .fallback(async |State(files): State<Arc<HashMap<String, Vec<u8>>>>, uri: Uri| {
                files.get(uri.path()).cloned().ok_or(StatusCode::NOT_FOUND)
            })
            .with_state(Arc::new(files));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });

        let folder = tempfile::tempdir().unwrap();
        let downloads = folder.path().join("downloads");
        fs::create_dir(&downloads).unwrap();
        let installer = Installer {
            downloads,
            cache: None,
            stopping: CancellationToken::new(),
            turn: Arc::default(),
        };
        Self {
            folder,
            store: Store::new(&format!("http://{address}"), Duration::ZERO).unwrap(),
            installer,
        }
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("tools/1")
    }

    async fn install(&self, artifact: &Artifact) -> Result<Installed, String> {
        self.installer
            .install(&self.store, artifact, &self.target())
            .await
            .map_err(|error| crate::error::chain(&error))
    }

    /// Everything below the folder but the two that are always there.
    fn left(&self) -> Vec<PathBuf> {
        let mut left = Vec::new();
        for shelf in ["downloads", "tools"] {
            if let Ok(entries) = fs::read_dir(self.folder.path().join(shelf)) {
                left.extend(entries.map(|entry| entry.unwrap().path()));
            }
        }
        left
    }
}

/// Installs an archive and expects a refusal that leaves nothing.
async fn refusal(lines: &[Line<'_>]) -> String {
    let archive = archive(lines);
    let bench = Bench::new(&archive).await;
    let error = bench.install(&artifact(&archive)).await.unwrap_err();
    assert_eq!(bench.left(), Vec::<PathBuf>::new(), "{error}");
    error
}

#[tokio::test]
async fn an_archive_is_unpacked_without_special_rights() {
    let archive = archive(&[
        ("./", EntryType::Directory, "", b""),
        ("./bin/tool", EntryType::Regular, "", b"#!/bin/sh\n"),
        ("./lib/a/link", EntryType::Symlink, "../../bin/tool", b""),
        ("./hard", EntryType::Link, "./bin/tool", b""),
    ]);
    let bench = Bench::new(&archive).await;

    let installed = bench.install(&artifact(&archive)).await.unwrap();

    assert_eq!(fs::read(bench.target().join("lib/a/link")).unwrap(), b"#!/bin/sh\n");
    let metadata = fs::metadata(bench.target().join("hard")).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o755);
    assert_eq!(
        metadata.modified().unwrap(),
        std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000)
    );
    assert_eq!(super::installed(&bench.target()), Some(installed));
    assert_eq!(bench.left(), [bench.target()]);
}

#[tokio::test]
async fn a_wrong_hash_names_the_file_what_was_expected_and_what_was_found() {
    let archive = archive(&[PROGRAM]);
    let right = artifact(&archive);
    for surplus in [0, 1] {
        let mut wrong = archive.clone();
        wrong[20] ^= 1;
        wrong.extend(std::iter::repeat_n(0, surplus));
        let bench = Bench::new(&wrong).await;

        let error = bench.install(&right).await.unwrap_err();

        let found = artifact(&wrong).sha256;
        let expected = &right.sha256;
        assert_eq!(
            error,
            format!("devcontainer/tool-1.tar.gz: expected SHA-256 {expected}, found {found}")
        );
        assert_eq!(bench.left(), Vec::<PathBuf>::new());
    }
}

#[tokio::test]
async fn nothing_leads_out_of_the_tree() {
    let out = ["../evil", "/evil", "a/../../evil", "a/../evil"];
    for name in out {
        let error = refusal(&[PROGRAM, (name, EntryType::Regular, "", b"x")]).await;
        assert!(error.contains("leads out"), "{name}: {error}");
    }
    for target in ["../../evil", "/etc/passwd", "tool/../../../evil", "x/..", ""] {
        let error = refusal(&[PROGRAM, ("bin/link", EntryType::Symlink, target, b"")]).await;
        assert!(error.contains("leads out"), "{target}: {error}");
    }
    for target in out {
        let error = refusal(&[PROGRAM, ("bin/link", EntryType::Link, target, b"")]).await;
        assert!(error.contains("leads out"), "{target}: {error}");
    }
}

#[tokio::test]
async fn nothing_is_written_through_a_link() {
    let link: Line<'_> = ("link", EntryType::Symlink, "bin", b"");
    for through in [
        ("link/evil", EntryType::Regular, "", b"x".as_slice()),
        ("link/a/evil", EntryType::Directory, "", b""),
        ("link", EntryType::Directory, "", b""),
        ("link/evil", EntryType::Symlink, "..", b""),
        ("hard", EntryType::Link, "link/tool", b""),
    ] {
        let error = refusal(&[PROGRAM, link, through]).await;
        assert!(error.contains("is below a link"), "{through:?}: {error}");
    }
    let error = refusal(&[PROGRAM, link, ("link", EntryType::Regular, "", b"x")]).await;
    assert!(error.contains("File exists"), "{error}");
}

#[tokio::test]
async fn special_files_are_refused() {
    for kind in [EntryType::Fifo, EntryType::Char, EntryType::Block] {
        let error = refusal(&[PROGRAM, ("dev", kind, "", b"")]).await;
        assert!(error.contains("neither a file"), "{error}");
    }
}

#[tokio::test]
async fn more_than_the_catalogue_says_is_refused() {
    let contents = [0; 600];
    let error = refusal(&[
        PROGRAM,
        ("a", EntryType::Regular, "", &contents),
        ("b", EntryType::Regular, "", &contents),
    ])
    .await;

    assert!(error.contains("more than the 1000 bytes"), "{error}");
}

#[tokio::test]
async fn an_archive_without_its_program_is_refused() {
    let error = refusal(&[("bin/other", EntryType::Regular, "", b"x")]).await;

    assert_eq!(error, "devcontainer/tool-1.tar.gz: has no program bin/tool");
}

#[tokio::test]
async fn what_is_not_an_archive_is_refused() {
    let text = b"<html>not found</html>";
    let bench = Bench::new(text).await;

    let error = bench.install(&artifact(text)).await.unwrap_err();

    assert!(error.contains("is not a valid archive"), "{error}");
    assert_eq!(bench.left(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_missing_file_is_not_asked_for_again() {
    let archive = archive(&[PROGRAM]);
    let bench = Bench::new(&archive).await;
    let elsewhere = Artifact { path: "devcontainer/none.tar.gz".to_owned(), ..artifact(&archive) };

    let error = bench.install(&elsewhere).await.unwrap_err();

    assert_eq!(error, "devcontainer/none.tar.gz: the artifact store answered 404 Not Found");
}

#[tokio::test]
async fn an_interrupted_installation_is_done_again_and_a_complete_one_is_not() {
    let archive = archive(&[PROGRAM]);
    let bench = Bench::new(&archive).await;
    let artifact = artifact(&archive);
    // What a crash may leave: half a tree aside, and a folder without the marker.
    fs::create_dir_all(bench.folder.path().join("tools/1.partial/bin")).unwrap();
    fs::create_dir_all(bench.target().join("bin")).unwrap();
    fs::write(bench.target().join("bin/tool"), "half").unwrap();

    bench.install(&artifact).await.unwrap();
    assert_eq!(fs::read(bench.target().join("bin/tool")).unwrap(), b"#!/bin/sh\n");
    assert_eq!(bench.left(), [bench.target()]);

    fs::write(bench.target().join("bin/tool"), "kept").unwrap();
    bench.install(&artifact).await.unwrap();
    assert_eq!(fs::read(bench.target().join("bin/tool")).unwrap(), b"kept");
}

#[tokio::test]
async fn a_catalogue_cannot_lead_out_of_the_store_or_the_folder() {
    let archive = archive(&[PROGRAM]);
    let bench = Bench::new(&archive).await;
    let good = artifact(&archive);
    for (field, bad) in [
        ("path", Artifact { path: "../secret".to_owned(), ..good.clone() }),
        ("path", Artifact { path: "a b".to_owned(), ..good.clone() }),
        ("program", Artifact { program: "/bin/sh".to_owned(), ..good.clone() }),
        ("sha256", Artifact { sha256: "../../etc".to_owned(), ..good.clone() }),
    ] {
        let error = bench.install(&bad).await.unwrap_err();
        assert!(error.contains(field) && error.contains("not valid"), "{error}");
    }
}

#[tokio::test]
async fn agents_of_one_machine_unpack_an_artifact_once() {
    use std::os::unix::fs::MetadataExt as _;

    let archive = archive(&[PROGRAM, ("bin/link", EntryType::Symlink, "tool", b"")]);
    let (first, second) = (Bench::new(&archive).await, Bench::new(b"the store lost it").await);
    let shared = tempfile::tempdir().unwrap();
    let artifact = artifact(&archive);
    let with_cache = |bench: Bench| Bench {
        installer: Installer {
            cache: Cache::open(&shared.path().join("cache")),
            ..bench.installer
        },
        ..bench
    };
    let (first, second) = (with_cache(first), with_cache(second));
    if !rustix::process::geteuid().is_root() {
        assert!(
            first.installer.cache.is_none(),
            "only root can share what workloads cannot change"
        );
        return;
    }

    first.install(&artifact).await.unwrap();
    second.install(&artifact).await.unwrap();

    let inode = |bench: &Bench| fs::metadata(bench.target().join("bin/tool")).unwrap().ino();
    assert_eq!(inode(&first), inode(&second));
    assert_eq!(fs::read_link(second.target().join("bin/link")).unwrap(), Path::new("tool"));
}

#[test]
fn a_cache_that_others_can_write_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();

    assert!(Cache::open(folder.path()).is_none());
}
