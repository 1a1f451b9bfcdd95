//! `GET /api/dev/:id/ide?token=…` on the public listener: the way to a tunnelled IDE.

use http::{Method, Request, Response, StatusCode};
use zlh_agent_protocol::internal::IdeCredential;
use zlh_ids::Vmid;

use super::access::Accesses;
use super::credential::{Credential, Shown};
use super::{PublicFace, Refusal};
use crate::body::Body;
use crate::edge::Origin;
use crate::edge::headers::IDE_COOKIE;

/// The container in a bootstrap path.
#[must_use]
pub fn container(path: &str) -> Option<Vmid> {
    let rest = path.strip_prefix("/api/dev/")?;
    rest.strip_suffix("/ide").or_else(|| rest.strip_suffix("/ide/"))?.parse().ok()
}

/// Sends a browser with a token that holds to the tunnel listener, which uses the token up.
pub(super) async fn redirect(
    accesses: &Accesses,
    face: &PublicFace,
    vmid: Vmid,
    request: &Request<()>,
    origin: &Origin,
) -> Result<Response<Body>, Refusal> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Refusal::MethodNotAllowed);
    }
    let tunnel = tunnel_url(face, origin).ok_or(Refusal::NotFound)?;
    let credential = Credential::of(request, IDE_COOKIE)?;
    let Shown::Link(token) = credential.shown else { return Err(Refusal::Unauthenticated) };
    accesses.check(vmid, IdeCredential::Token(token.clone())).await?;

    let mut location = format!("{tunnel}/__ide/{vmid}/?token={token}");
    if let Some(query) = credential.query {
        location.push('&');
        location.push_str(&query);
    }
    super::redirect(StatusCode::FOUND, &location)
}

/// The tunnel listener as this browser reaches it: the host it asked for, at the other port. None while there
/// is none.
fn tunnel_url(face: &PublicFace, origin: &Origin) -> Option<String> {
    face.tunnel_url.clone().or_else(|| {
        let port = face.tunnel_address?.port();
        Some(format!("{}://{}:{port}", face.scheme.as_str(), origin.authority.name()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bootstrap_path_names_one_container() {
        assert_eq!(container("/api/dev/6001/ide"), Vmid::new(6001));
        assert_eq!(container("/api/dev/6001/ide/"), Vmid::new(6001));
        for path in [
            "/api/dev/006001/ide",
            "/api/dev/6001/ide-token",
            "/api/dev/6001/ide//",
            "/api/dev//ide",
            "/api/dev/6001/x/ide",
        ] {
            assert_eq!(container(path), None, "{path}");
        }
    }
}
