//! Serves a folder of runtimes and code-server to agents: files as they are, and nothing else.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::TryStreamExt as _;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use percent_encoding::percent_decode_str;
use tokio::fs::File;
use tokio_util::io::ReaderStream;

use crate::answer::{self, Code};
use crate::body::{self, Body};

/// Large reads: the files are hundreds of megabytes.
const CHUNK_BYTES: usize = 256 << 10;

/// The artifact store.
#[derive(Debug, Clone)]
pub struct Artifacts {
    folder: Arc<Path>,
}

impl Artifacts {
    /// A store of what is below a folder. The folder may come later.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.into() }
    }

    /// Answers one request.
    pub async fn handle(&self, request: Request<Incoming>) -> Response<Body> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response =
                answer::error(Code::MethodNotAllowed, "only GET and HEAD are served");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let Some((file, length)) = self.open(request.uri().path()).await else {
            return answer::not_found();
        };
        let mut response = Response::new(match *request.method() {
            Method::HEAD => body::empty(),
            _ => {
                let chunks = ReaderStream::with_capacity(file, CHUNK_BYTES);
                let frames = chunks.map_ok(Frame::data).map_err(Into::into);
                StreamBody::new(frames).boxed_unsync()
            }
        });
        let headers = response.headers_mut();
        headers.insert(CONTENT_LENGTH, length.into());
        headers.insert(CONTENT_TYPE, content_type(request.uri().path()));
        response
    }

    async fn open(&self, path: &str) -> Option<(File, u64)> {
        let path = self.folder.join(relative(path)?);
        // Links may lead from place to place in the folder, but not out of it.
        let folder = tokio::fs::canonicalize(&self.folder).await.ok()?;
        let path = tokio::fs::canonicalize(path).await.ok()?;
        if !path.starts_with(&folder) {
            return None;
        }
        let file = File::open(path).await.ok()?;
        let metadata = file.metadata().await.ok()?;
        metadata.is_file().then_some((file, metadata.len()))
    }
}

/// The path below the folder: plain names only.
fn relative(path: &str) -> Option<PathBuf> {
    path.strip_prefix('/')?
        .split('/')
        .map(|segment| {
            let name = percent_decode_str(segment).decode_utf8().ok()?;
            let plain = !matches!(&*name, "" | "." | "..") && !name.contains(['/', '\0']);
            plain.then(|| name.into_owned())
        })
        .collect()
}

fn content_type(path: &str) -> HeaderValue {
    HeaderValue::from_static(if path.ends_with(".json") {
        "application/json"
    } else {
        "application/octet-stream"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_lead_into_the_folder() {
        assert_eq!(
            relative("/devcontainer/_catalog.json"),
            Some("devcontainer/_catalog.json".into())
        );
        assert_eq!(relative("/a%20b"), Some("a b".into()));
        for path in ["/", "", "/a/", "//a", "/../a", "/a/%2e%2e/b", "/a%2fb", "/a%00", "/%ff"] {
            assert_eq!(relative(path), None, "{path}");
        }
    }

    #[tokio::test]
    async fn links_do_not_lead_out_of_the_folder() {
        let outside = tempfile::tempdir().unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "s").unwrap();
        std::fs::write(folder.path().join("a.json"), "{}").unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), folder.path().join("out"))
            .unwrap();
        std::os::unix::fs::symlink("a.json", folder.path().join("in")).unwrap();
        let artifacts = Artifacts::new(folder.path());

        assert!(artifacts.open("/out").await.is_none());
        assert_eq!(artifacts.open("/in").await.unwrap().1, 2);
        assert!(artifacts.open("/missing").await.is_none());
    }
}
