//! A connection through another machine's gateway: asked for in HTTP, and bytes from its 101 on.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, HOST, UPGRADE};
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use zlh_authn::token::{Claims, SigningKeys, TokenError, TokenKind};

use super::{Place, Stream, in_time, tcp};
use crate::clock;

/// What the connection becomes (RFC 9110 section 7.8).
pub(crate) const PROTOCOL: &str = "zlh-tunnel";
/// A token is used at once.
const TOKEN_TTL: Duration = Duration::from_secs(60);
/// The other side asks a component where the container is, and connects to it.
const OPEN_TIMEOUT: Duration = Duration::from_secs(6);

/// Asks the gateway at the URL for a connection to the place.
pub(super) async fn open(
    gateway: &str,
    place: &Place,
    host_id: &str,
    keys: &SigningKeys,
) -> io::Result<Stream> {
    let authority = gateway.strip_prefix("http://").ok_or(io::ErrorKind::Unsupported)?;
    let token = token(place, host_id, keys).map_err(io::Error::other)?;
    let request = Request::get(format!("/tunnels/{}/{}", place.vmid, place.service.as_str()))
        .header(HOST, authority)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, PROTOCOL)
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    in_time(OPEN_TIMEOUT, async {
        let stream = TokioIo::new(tcp(authority).await?);
        let (mut sender, connection) = http1::handshake(stream).await.map_err(io::Error::other)?;
        // Ends with the upgrade, or with the sender.
        tokio::spawn(connection.with_upgrades());
        let mut answer = sender.send_request(request).await.map_err(io::Error::other)?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            let status = answer.status();
            return Err(io::Error::other(format!("the machine's gateway answered {status}")));
        }
        let upgraded = hyper::upgrade::on(&mut answer).await.map_err(io::Error::other)?;
        Ok(Stream::Tunnel(TokioIo::new(upgraded)))
    })
    .await
}

/// Opens this life of the container, and nothing else.
fn token(place: &Place, host_id: &str, keys: &SigningKeys) -> Result<String, TokenError> {
    let subject = format!("host-proxy:{host_id}");
    let mut claims = Claims::new(TokenKind::Internal, &subject, clock::unix_seconds(), TOKEN_TTL)?;
    claims.vmid = Some(place.vmid);
    claims.instance = Some(place.instance);
    keys.sign(&claims)
}
