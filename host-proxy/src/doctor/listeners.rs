//! The addresses: free, or held by the `zlh` that runs.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;
use std::{fs, io};

use bytes::Bytes;
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::Verdict;
use super::folder::holder;
use crate::app::url;
use crate::config::Config;

/// It answers from memory.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Every listener of these settings, by its flag.
pub(super) fn of(config: &Config) -> Vec<(&'static str, SocketAddr)> {
    let mut listeners = vec![("--listen", config.listen)];
    listeners.extend(config.ide_listen.map(|address| ("--ide-listen", address)));
    listeners.push(("--admin-listen", config.admin_listen));
    listeners.push(("--artifact-listen", config.artifact_listen));
    listeners.extend(config.gateway_listen.map(|address| ("--gateway-listen", address)));
    listeners
}

pub(super) async fn listener(config: &Config, flag: &str, address: SocketAddr) -> Verdict {
    match TcpListener::bind(address) {
        Ok(_) => Verdict::ok(format!("{address} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            // Only the one that uses this data folder was started with these settings.
            let ours = matches!(holder(config), Ok(Some(_))) && is_alive(config.admin_listen).await;
            match ours {
                true => Verdict::ok(format!("{address} is taken, and zlh is alive")),
                false if holds("1", address.port()) => {
                    Verdict::warn(format!("{address} is held by systemd: right if by `zlh.socket`"))
                }
                false => Verdict::wrong(
                    format!(
                        "{address} is taken by something that is not the zlh of this data folder"
                    ),
                    format!("end it (`ss -ltnp` names it), or give another `{flag}`"),
                ),
            }
        }
        Err(error) => Verdict::wrong(
            format!("{address} cannot be listened on: {error}"),
            format!("give `{flag}` an address of this machine, and a port that its user may take"),
        ),
    }
}

/// Whether the process has a socket that listens on the port, as far as we may see.
fn holds(pid: &str, port: u16) -> bool {
    let listening: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| {
            table.lines().filter_map(|line| listener_on(port, line)).collect::<Vec<_>>()
        })
        .collect();
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    open.filter_map(|open| fs::read_link(open.path()).ok())
        .any(|link| link.to_str().is_some_and(|link| listening.iter().any(|socket| socket == link)))
}

/// The name of the socket in a line of `/proc/net/tcp`, if it listens on the port (proc_pid_net(5)).
fn listener_on(port: u16, line: &str) -> Option<String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
    let listens = fields.get(3) == Some(&"0A") && u16::from_str_radix(local_port, 16) == Ok(port);
    listens.then(|| fields.get(9).map(|inode| format!("socket:[{inode}]")))?
}

/// Whether `/livez` there says so.
async fn is_alive(admin: SocketAddr) -> bool {
    let asked = tokio::time::timeout(ANSWER_TIMEOUT, livez(admin)).await;
    asked.is_ok_and(|status| status.is_ok_and(|status| status == StatusCode::OK))
}

async fn livez(admin: SocketAddr) -> Result<StatusCode, Box<dyn std::error::Error + Send + Sync>> {
    let url = url(admin);
    let authority = url.trim_start_matches("http://");
    let stream = TcpStream::connect(authority).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get("/livez").header(HOST, authority).body(Empty::<Bytes>::new())?;
    let status = sender.send_request(request).await?.status();
    connection.abort();
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_a_listening_socket_is_can_be_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let clients = client.local_addr().unwrap().port();

        assert!(holds("self", port));
        assert!(!holds("self", clients), "a connection listens for nobody");
        assert!(!holds("1", port) || std::process::id() == 1);
    }
}
