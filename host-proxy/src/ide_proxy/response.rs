//! The container's answer as the browser sees it: it may speak for its own origin and for nothing else.

use http::header::{
    ALT_SVC, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE,
    STRICT_TRANSPORT_SECURITY,
};

use super::Mount;
use crate::edge::REQUEST_ID;
use crate::edge::headers::{cookie_name, is_ide_cookie, remove_hop_by_hop};

const SERVICE_WORKER_ALLOWED: HeaderName = HeaderName::from_static("service-worker-allowed");
/// Headers that reach beyond this IDE, or beyond this answer.
const NOT_THEIRS: [HeaderName; 6] = [
    STRICT_TRANSPORT_SECURITY,
    ALT_SVC,
    REQUEST_ID,
    HeaderName::from_static("clear-site-data"),
    HeaderName::from_static("nel"),
    HeaderName::from_static("report-to"),
];

/// Removes what the container may not say, and forbids other sites to frame the IDE.
pub(super) fn filter(headers: &mut HeaderMap, mount: Mount) {
    remove_hop_by_hop(headers);
    for name in NOT_THEIRS {
        headers.remove(name);
    }
    let cors: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("access-control-"))
        .cloned()
        .collect();
    for name in cors {
        headers.remove(name);
    }
    filter_service_worker(headers, mount);
    filter_cookies(headers, mount);
    let html = |value: &HeaderValue| value.as_bytes().starts_with(b"text/html");
    if headers.get(CONTENT_TYPE).is_some_and(html) {
        headers.append(CONTENT_SECURITY_POLICY, HeaderValue::from_static("frame-ancestors 'self'"));
    }
}

/// code-server's own service worker asks for the scope `/`. A hosted IDE has an origin of its own, where
/// that harms nobody; on the tunnel's shared origin it would rule over every other IDE.
fn filter_service_worker(headers: &mut HeaderMap, mount: Mount) {
    let whole_origin = headers
        .get(SERVICE_WORKER_ALLOWED)
        .is_some_and(|scope| scope.as_bytes().trim_ascii() == b"/");
    if !(whole_origin && matches!(mount, Mount::Hosted(_))) {
        headers.remove(SERVICE_WORKER_ALLOWED);
    }
}

/// Keeps cookies that are not ours and stay on this host and below this mount.
fn filter_cookies(headers: &mut HeaderMap, mount: Mount) {
    if !headers.contains_key(SET_COOKIE) {
        return;
    }
    let path = mount.cookie_path();
    let kept: Vec<HeaderValue> = headers
        .get_all(SET_COOKIE)
        .iter()
        .filter(|cookie| stays_here(cookie.as_bytes(), path.as_bytes()))
        .cloned()
        .collect();
    headers.remove(SET_COOKIE);
    for cookie in kept {
        headers.append(SET_COOKIE, cookie);
    }
}

fn stays_here(cookie: &[u8], mount_path: &[u8]) -> bool {
    let mut parts = cookie.split(|byte| *byte == b';');
    let name = cookie_name(parts.next().unwrap_or_default());
    !is_ide_cookie(name)
        && parts.all(|attribute| {
            let value =
                attribute.splitn(2, |byte| *byte == b'=').nth(1).unwrap_or_default().trim_ascii();
            let attribute = cookie_name(attribute);
            if attribute.eq_ignore_ascii_case(b"domain") {
                return value.is_empty();
            }
            !attribute.eq_ignore_ascii_case(b"path") || value.starts_with(mount_path)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use zlh_ids::Vmid;

    fn hosted() -> Mount {
        Mount::Hosted(Vmid::new(6001).unwrap())
    }

    fn tunnel() -> Mount {
        Mount::Tunnel(Vmid::new(6001).unwrap())
    }

    fn kept(mount: Mount, name: &'static str, value: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        filter(&mut headers, mount);
        headers.contains_key(name)
    }

    #[test]
    fn a_container_sets_only_cookies_that_stay_with_it() {
        for (cookie, on_its_own_host, on_the_shared_host) in [
            ("a=1", true, true),
            ("a=1; Path=/", true, false),
            ("a=1; Path=/__ide/6001/", true, true),
            ("a=1; Path=/__ide/6002/", true, false),
            ("a=1; Domain=ide.example", false, false),
            ("a=1; domain = .example", false, false),
            ("zlh_dev_ide_token=x", false, false),
            ("__Host-zlh_dev_ide_token=x; Path=/; Secure", false, false),
            ("ZLH_dev_ide_token=x", false, false),
        ] {
            assert_eq!(kept(hosted(), "set-cookie", cookie), on_its_own_host, "{cookie}");
            assert_eq!(kept(tunnel(), "set-cookie", cookie), on_the_shared_host, "{cookie}");
        }
    }

    #[test]
    fn a_container_speaks_for_its_own_origin_only() {
        for (name, value) in [
            ("access-control-allow-origin", "*"),
            ("access-control-allow-credentials", "true"),
            ("strict-transport-security", "max-age=1; includeSubDomains"),
            ("clear-site-data", "\"*\""),
            ("alt-svc", "h3=\":443\""),
            ("connection", "x"),
            ("x-request-id", "theirs"),
        ] {
            assert!(!kept(hosted(), name, value), "{name}");
        }
        assert!(kept(hosted(), "cache-control", "public, max-age=31536000"));
        assert!(kept(hosted(), "content-encoding", "gzip"));
    }

    #[test]
    fn a_service_worker_never_rules_over_other_ides() {
        assert!(kept(hosted(), "service-worker-allowed", "/"));
        assert!(!kept(hosted(), "service-worker-allowed", "https://other.example/"));
        assert!(!kept(tunnel(), "service-worker-allowed", "/"));
    }

    #[test]
    fn pages_cannot_be_framed_by_other_sites() {
        assert!(kept(hosted(), "content-type", "text/html; charset=utf-8"));
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'self'"));

        filter(&mut headers, hosted());

        let policies: Vec<_> = headers.get_all(CONTENT_SECURITY_POLICY).iter().collect();
        assert_eq!(policies, ["default-src 'self'", "frame-ancestors 'self'"]);
    }
}
