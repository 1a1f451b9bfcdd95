//! A small artifact store: a runtime that is one file, and a code-server that is a few lines of Python.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};
use zlh_agent_protocol::artifact::{
    Artifact, CODE_SERVER_ADDON, DEV_CATALOG_PATH, DevCatalog, Package,
};

/// Listens like code-server, has a helper in a session of its own like its terminal, and is as broken as files
/// of the workspace say.
const CODE_SERVER: &str = r#"#!/usr/bin/env python3
import http.server, os, socketserver, subprocess, sys, time
if os.path.exists("dies"):
    sys.exit("not today")
while os.path.exists("slow"):
    time.sleep(0.05)
subprocess.Popen(["sleep", "86400"], start_new_session=True, env={})
class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        while self.path == "/" and os.path.exists("hangs"):
            time.sleep(0.05)
        broken = self.path == "/" and os.path.exists("broken")
        self.send_response(500 if broken else 302 if self.path == "/" else 200)
        self.send_header("content-length", "0")
        self.end_headers()
    def address_string(self):
        return "-"
path = sys.argv[sys.argv.index("--socket") + 1]
if os.path.exists(path):
    os.unlink(path)
Server(path, Handler).serve_forever()
"#;

type Files = Arc<Mutex<HashMap<String, Vec<u8>>>>;

pub(crate) struct Store {
    files: Files,
    address: SocketAddr,
}

impl Store {
    pub(crate) async fn start() -> Self {
        let mut files = HashMap::new();
        let node = package(&mut files, "node", "24", "bin/node", "#!/bin/sh\n");
        let code_server =
            package(&mut files, CODE_SERVER_ADDON, "4.0.0", "bin/code-server", CODE_SERVER);
        let catalog = DevCatalog { runtimes: vec![node], addons: vec![code_server] };
        files.insert(DEV_CATALOG_PATH.to_owned(), serde_json::to_vec(&catalog).unwrap());

        let files: Files = Arc::new(Mutex::new(files));
        let router = Router::new()
            .fallback(async |State(files): State<Files>, uri: Uri| {
                files.lock().unwrap().get(uri.path()).cloned().ok_or(StatusCode::NOT_FOUND)
            })
            .with_state(Arc::clone(&files));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { files, address }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Flips a bit of a file, or flips it back.
    pub(crate) fn flip(&self, path: &str) {
        self.files.lock().unwrap().get_mut(path).unwrap()[20] ^= 1;
    }
}

fn package(
    files: &mut HashMap<String, Vec<u8>>,
    id: &str,
    version: &str,
    program: &str,
    text: &str,
) -> Package {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(text.len().try_into().unwrap());
    builder.append_data(&mut header, program, text.as_bytes()).unwrap();
    let archive = builder.into_inner().unwrap().finish().unwrap();

    let path = format!("devcontainer/{id}-{version}.tar.gz");
    let artifact = Artifact {
        version: version.to_owned(),
        path: path.clone(),
        sha256: Sha256::digest(&archive).iter().map(|byte| format!("{byte:02x}")).collect(),
        size_bytes: archive.len().try_into().unwrap(),
        unpacked_bytes: text.len().try_into().unwrap(),
        program: program.to_owned(),
    };
    files.insert(format!("/{path}"), archive);
    Package { id: id.to_owned(), versions: vec![artifact] }
}
