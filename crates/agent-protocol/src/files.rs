//! Files of a container: `/{dev,game}/files/…` of the agent, and the same bodies at the public API.
//!
//! | Call | Answer |
//! | --- | --- |
//! | `GET list?path=&after=&limit=` | 200 [`Listing`] |
//! | `GET stat?path=` | 200 [`Entry`] |
//! | `GET read?path=` | 200 [`Content`] |
//! | `POST write` [`WriteFile`] | 200 [`Entry`] |
//! | `POST mkdir` [`MakeFolder`] | 201 [`Entry`] |
//! | `POST rename` [`MoveFile`] | 200 [`Entry`] |
//! | `POST copy` [`MoveFile`] | 201 [`Entry`] |
//! | `POST archive` [`ArchiveFiles`] | 201 [`Entry`] |
//! | `POST extract` [`MoveFile`] | 201 [`Entry`] |
//! | `POST revert` [`RevertFile`] | 200 [`Entry`] |
//! | `DELETE delete?path=` | 204 |
//! | `GET upload?path=&size=` | 200 [`Uploaded`] |
//! | `PUT upload?path=&size=&offset=` with raw bytes | 202 [`Uploaded`] until it is whole, then 201 |
//! | `GET download?path=` | 200 or 206 with raw bytes |
//!
//! Paths are relative to the container's workspace or server folder, with `/` between names; the folder itself is
//! the empty path. 404 where there is no such file, 409 where something is in the way, 413 where it is too large,
//! 422 for what is refused on principle, 507 when the disk is full.

use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{Array, Object, Type};
use utoipa::{IntoParams, ToSchema};

/// Longest path, in bytes.
pub const MAX_PATH_BYTES: usize = 1024;
/// Largest file that is read or written as JSON, in bytes: an editor's. Larger ones are streamed.
pub const MAX_TEXT_BYTES: usize = 1 << 20;
/// Most entries of one [`Listing`].
pub const MAX_LISTED: usize = 1000;
/// Entries of a [`Listing`] unless another number is asked for.
pub const DEFAULT_LISTED: usize = 200;
/// Most paths of one [`ArchiveFiles`].
pub const MAX_ARCHIVED: usize = 100;

/// A name that is neither empty nor `.` nor `..`, and has no `/` and no zero byte.
const NAME: &str = r"(\.{0,2}[^./\x00]|\.{3})[^/\x00]*";

/// Below the folder.
fn below() -> Object {
    path(format!("^{NAME}(/{NAME})*/?$"))
}

/// Below the folder, or itself.
fn within() -> Object {
    path(format!("^({NAME}(/{NAME})*/?)?$"))
}

/// An archive below the folder.
fn archive() -> Object {
    path(format!(r"^({NAME}/)*[^/\x00]*\.tar\.gz$"))
}

fn path(pattern: String) -> Object {
    let described = Object::builder().schema_type(Type::String).pattern(Some(pattern));
    described.description(Some("Names with `/` between them, 1,024 bytes at most.")).build()
}

fn several_below() -> Array {
    let described = Array::builder().items(below()).min_items(Some(1));
    described.max_items(Some(MAX_ARCHIVED)).description(Some("What to pack.")).build()
}

/// Which folder, and which part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListFiles {
    /// The folder; empty for the outermost.
    #[serde(default)]
    #[param(schema_with = within)]
    pub path: String,
    /// Names up to this one are left out: `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Most entries, 1 to 1,000; 200 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
}

/// Which file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FilePath {
    /// The file or folder.
    // A schema made by a function would make the parameter optional.
    #[param(
        pattern = r"^(\.{0,2}[^./\x00]|\.{3})[^/\x00]*(/(\.{0,2}[^./\x00]|\.{3})[^/\x00]*)*/?$"
    )]
    pub path: String,
}

/// Which file, or the folder itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PathWithin {
    /// The file or folder; empty for the outermost.
    #[param(
        pattern = r"^((\.{0,2}[^./\x00]|\.{3})[^/\x00]*(/(\.{0,2}[^./\x00]|\.{3})[^/\x00]*)*/?)?$"
    )]
    pub path: String,
}

/// One page of a folder, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Listing {
    /// The folder.
    pub path: String,
    /// What is in it.
    pub entries: Vec<Entry>,
    /// `after` of the next page; none on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub next: Option<String>,
}

/// A file, folder or link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = FileEntry)]
pub struct Entry {
    /// Its last name; empty for the outermost folder.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
    /// Size in bytes; of what is not a file, as the system counts.
    pub size_bytes: u64,
    /// Permission bits in octal, such as `644`.
    pub mode: String,
    /// When its contents last changed; RFC 3339 in UTC.
    pub modified_at: String,
    /// `user` when it was uploaded, and has not been replaced otherwise.
    pub source: Option<String>,
    /// Whether it can be reverted to what it was before its first change.
    pub revertible: bool,
}

/// What an [`Entry`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link; it is followed only to what lies in the same tree.
    Link,
    /// A pipe, socket or device; it can be removed, and nothing else.
    Special,
}

/// A text file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = FileContent)]
pub struct Content {
    /// The file.
    pub path: String,
    /// All of it; a file that is not UTF-8 is refused, and can be downloaded.
    pub content: String,
    /// When it last changed, to be sent back with [`WriteFile`].
    pub modified_at: String,
}

/// Makes or replaces a text file, all at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct WriteFile {
    /// The file.
    #[schema(schema_with = below)]
    pub path: String,
    /// All of it.
    pub content: String,
    /// Refuse with 409 if the file changed after this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_modified_at: Option<String>,
}

/// Makes a folder in one that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MakeFolder {
    /// The folder.
    #[schema(schema_with = below)]
    pub path: String,
}

/// From here to there; there nothing may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveFile {
    /// What there is.
    #[schema(schema_with = below)]
    pub from: String,
    /// What there will be.
    #[schema(schema_with = below)]
    pub to: String,
}

/// Packs files and folders into a new `.tar.gz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ArchiveFiles {
    /// What to pack, 1 to 100.
    #[schema(schema_with = several_below)]
    pub paths: Vec<String>,
    /// The archive.
    #[schema(schema_with = archive)]
    pub to: String,
}

/// Makes a file what it was before its first change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevertFile {
    /// The file.
    #[schema(schema_with = below)]
    pub path: String,
}

/// Query of an upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UploadFile {
    /// The file to make or replace.
    pub path: String,
    /// Size of all of it, in bytes.
    pub size: u64,
    /// How much of it the agent has already, as it said itself; 0 begins anew.
    #[serde(default)]
    pub offset: u64,
}

/// How far an upload is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Uploaded {
    /// The file.
    pub path: String,
    /// Bytes that are safely there: where to go on.
    pub offset: u64,
    /// All of it is there, and the file in place.
    pub complete: bool,
}
