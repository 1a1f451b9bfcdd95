//! Where an IDE is mounted: at the root of its own host, or below a prefix of the tunnel listener.

use http::Uri;
use zlh_ids::Vmid;

use crate::config::PublicScheme;
use crate::edge::headers::{IDE_COOKIE, SECURE_IDE_COOKIE};

const TUNNEL: &str = "/__ide/";

/// One container's IDE at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mount {
    /// `dev-<vmid>.<suffix>`, an origin of its own.
    Hosted(Vmid),
    /// `/__ide/<vmid>/` on the tunnel listener, an origin that all tunnelled IDEs share.
    Tunnel(Vmid),
}

impl Mount {
    /// The tunnelled IDE that a URL is below.
    #[must_use]
    pub fn tunnel(uri: &Uri) -> Option<Self> {
        let rest = uri.path().strip_prefix(TUNNEL)?;
        rest.split('/').next()?.parse().ok().map(Self::Tunnel)
    }

    /// The container.
    #[must_use]
    pub fn vmid(self) -> Vmid {
        match self {
            Self::Hosted(vmid) | Self::Tunnel(vmid) => vmid,
        }
    }

    /// The path as code-server shall see it; empty when the final slash of the mount is missing.
    pub(super) fn upstream_path(self, path: &str) -> Option<&str> {
        match self {
            Self::Hosted(_) => Some(path),
            Self::Tunnel(vmid) => {
                path.strip_prefix(TUNNEL)?.strip_prefix(vmid.to_string().as_str())
            }
        }
        .filter(|path| path.is_empty() || path.starts_with('/'))
    }

    /// What cookies of this IDE are bound to.
    pub(super) fn cookie_path(self) -> String {
        match self {
            Self::Hosted(_) => "/".to_owned(),
            Self::Tunnel(vmid) => format!("{TUNNEL}{vmid}/"),
        }
    }

    /// The one name under which a session is accepted here. `__Host-` wants the path `/`.
    pub(super) fn cookie_name(self, scheme: PublicScheme) -> &'static str {
        match (self, scheme) {
            (Self::Hosted(_), PublicScheme::Https) => SECURE_IDE_COOKIE,
            _ => IDE_COOKIE,
        }
    }

    pub(super) fn set_cookie(self, scheme: PublicScheme, session: &str, max_age: u64) -> String {
        let secure = match scheme {
            PublicScheme::Http => "",
            PublicScheme::Https => "; Secure",
        };
        format!(
            "{}={session}; Max-Age={max_age}; Path={}; HttpOnly; SameSite=Lax{secure}",
            self.cookie_name(scheme),
            self.cookie_path(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnelled_ide_has_one_spelling() {
        let mount = |path: &'static str| Mount::tunnel(&Uri::from_static(path));

        assert_eq!(mount("/__ide/6001/"), Some(Mount::Tunnel(Vmid::new(6001).unwrap())));
        assert_eq!(mount("/__ide/6001"), mount("/__ide/6001/a?b"));
        for path in [
            "/",
            "/__ide",
            "/__ide/",
            "/__ide/007/",
            "/__ide/6001x/",
            "/__IDE/6001/",
            "//__ide/6001/",
        ] {
            assert_eq!(mount(path), None, "{path}");
        }
    }

    #[test]
    fn the_prefix_is_taken_off() {
        let mount = Mount::Tunnel(Vmid::new(6001).unwrap());

        assert_eq!(mount.upstream_path("/__ide/6001/a/b"), Some("/a/b"));
        assert_eq!(mount.upstream_path("/__ide/6001"), Some(""));
        assert_eq!(Mount::Hosted(Vmid::new(1).unwrap()).upstream_path("/a"), Some("/a"));
    }

    #[test]
    fn cookies_are_bound_to_the_mount() {
        let vmid = Vmid::new(6001).unwrap();

        assert_eq!(
            Mount::Hosted(vmid).set_cookie(PublicScheme::Https, "s", 9),
            "__Host-zlh_dev_ide_token=s; Max-Age=9; Path=/; HttpOnly; SameSite=Lax; Secure"
        );
        assert_eq!(
            Mount::Tunnel(vmid).set_cookie(PublicScheme::Http, "s", 9),
            "zlh_dev_ide_token=s; Max-Age=9; Path=/__ide/6001/; HttpOnly; SameSite=Lax"
        );
    }
}
