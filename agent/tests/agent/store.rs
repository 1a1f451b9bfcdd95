//! A small artifact store: a runtime that is one file, and a code-server that is a few lines of Python.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use zlh_agent_protocol::artifact::{
    Artifact, CODE_SERVER_ADDON, DEV_CATALOG_PATH, DevCatalog, GAME_CATALOG_PATH, Package,
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

/// A game that is played by its console, and is as broken as files of its folder say.
const SERVER: &str = r#"#!/bin/sh
echo "server $$ of $(id -u) in $(pwd) with port $1 and $(cat settings.txt)"
if [ -e dies ]; then
    echo "Error: Cannot find module 'left-pad'"
    exit 3
fi
[ -e deaf ] && trap '' TERM INT HUP
[ -e mute ] && exec sleep 86400
# Children that outlive it: one in a session of its own and without an environment.
sleep 86400 &
env -i setsid sleep 86400 &
if [ -e hungry ]; then
    echo "java.lang.OutOfMemoryError: Java heap space"
fi
echo "ready to play"
while true; do
    if ! read -r line; then continue; fi
    case $line in
        quit) [ -e deaf ] || { echo "saved" > world.sav; exit 0; } ;;
        exit*) exit "${line#exit }" ;;
        flood) head -c 200000000 /dev/zero | tr '\0' 'x'; echo; echo "flooded" ;;
        count*) for n in $(seq "${line#count }"); do echo "line $n."; done ;;
        size) stty size ;;
        *) echo "you said $line" ;;
    esac
done
"#;

fn game_catalog(artifact: Artifact) -> Value {
    json!({"games": [{"id": "parlour", "variants": [{"id": "vanilla", "versions": [{
        "artifact": artifact,
        "server": {
            "command": ["{artifact}/server.sh", "{port}"],
            "files": [{"path": "settings.txt", "text": "world {world}"}],
            "ports": [{"name": "game", "protocol": "tcp", "default": 7777}],
            "minMemoryMb": 64,
            "readiness": {"kind": "log", "contains": ["ready to play"]},
            "startSeconds": 3,
            "stop": {"commands": ["quit"], "commandSeconds": 1, "signalSeconds": 1},
            "crashHints": [{"contains": "left-pad", "class": "mod_or_plugin_error"}],
        },
    }]}]}]})
}

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
        let server = package(&mut files, "server", "1", "server.sh", SERVER);
        let games = game_catalog(server.versions.into_iter().next().unwrap());
        files.insert(GAME_CATALOG_PATH.to_owned(), serde_json::to_vec(&games).unwrap());

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
