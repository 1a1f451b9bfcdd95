//! Header hygiene: what ends at a hop, what only we may say, and what is nobody else's business.

use http::header::{
    AUTHORIZATION, CONNECTION, COOKIE, EXPECT, FORWARDED, HeaderMap, HeaderName, HeaderValue, TE,
    TRANSFER_ENCODING, UPGRADE,
};

use super::{Origin, REQUEST_ID};

/// Names that the IDE's cookie has had on any mount. All are taken out of what others see.
pub(crate) const IDE_COOKIES: [&str; 2] = [IDE_COOKIE, SECURE_IDE_COOKIE];
/// The IDE's cookie without TLS, and on the tunnel listener.
pub(crate) const IDE_COOKIE: &str = "zlh_dev_ide_token";
/// The IDE's cookie with TLS: browsers accept the prefix only from this very host (RFC 6265bis 4.1.3.2).
pub(crate) const SECURE_IDE_COOKIE: &str = "__Host-zlh_dev_ide_token";

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Removes the fields that concern one connection only, first those that `Connection` names
/// (RFC 9110 section 7.6.1).
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // The message's own destination is no option of the connection.
        .filter(|name| name != http::header::HOST)
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [CONNECTION, PROXY_CONNECTION, KEEP_ALIVE, TE, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
}

/// Cleans a request: hop-by-hop fields, and everything that only we may claim.
pub fn clean_request(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
    let claims: Vec<HeaderName> =
        headers.keys().filter(|name| is_claim(name.as_str())).cloned().collect();
    for name in claims {
        headers.remove(name);
    }
    // Our server answers `100 Continue` itself.
    headers.remove(EXPECT);
}

fn is_claim(name: &str) -> bool {
    name == FORWARDED
        || name == REQUEST_ID
        || name.starts_with("x-forwarded-")
        || name.starts_with("spin-")
        || matches!(
            name,
            "x-real-ip" | "x-agent-token" | "x-client-ip" | "true-client-ip" | "proxy"
        )
}

/// Says who asked, for which host and over which scheme, and names the request.
pub fn set_forwarded(headers: &mut HeaderMap, origin: &Origin, scheme: &'static str) {
    if let Ok(client) = HeaderValue::from_str(&origin.client.ip().to_string()) {
        headers.insert(X_FORWARDED_FOR, client);
    }
    if let Ok(host) = HeaderValue::from_str(origin.authority.as_str()) {
        headers.insert(X_FORWARDED_HOST, host);
    }
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
    headers.insert(REQUEST_ID, origin.request_id.clone());
}

/// Removes the IDE's cookies; others stay as they are.
pub fn remove_ide_cookies(headers: &mut HeaderMap) {
    let Some(first) = headers.get(COOKIE) else { return };
    let several = headers.get_all(COOKIE).iter().count() > 1;
    if !several && !mentions_ide_cookie(first.as_bytes()) {
        return;
    }
    let kept: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b';'))
        .map(<[u8]>::trim_ascii)
        .filter(|pair| !pair.is_empty() && !is_ide_cookie(cookie_name(pair)))
        .collect();
    let kept = HeaderValue::from_bytes(&kept.join(b"; ".as_slice())).ok();
    headers.remove(COOKIE);
    if let Some(kept) = kept.filter(|kept| !kept.is_empty()) {
        headers.insert(COOKIE, kept);
    }
}

/// Removes what proves who the client is.
pub fn remove_credentials(headers: &mut HeaderMap) {
    remove_ide_cookies(headers);
    headers.remove(AUTHORIZATION);
}

/// Whether a cookie's name is ours, in any case: some parsers ignore it.
pub(crate) fn is_ide_cookie(name: &[u8]) -> bool {
    IDE_COOKIES.iter().any(|ours| name.eq_ignore_ascii_case(ours.as_bytes()))
}

/// The part before `=`.
pub(crate) fn cookie_name(pair: &[u8]) -> &[u8] {
    pair.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii()
}

fn mentions_ide_cookie(value: &[u8]) -> bool {
    value.split(|byte| *byte == b';').any(|pair| is_ide_cookie(cookie_name(pair)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn what_the_connection_names_ends_here() {
        let mut cleaned = headers(&[
            ("connection", "close, X-Secret , host"),
            ("x-secret", "1"),
            ("host", "a"),
            ("te", "trailers"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("upgrade", "h2c"),
            ("transfer-encoding", "chunked"),
            ("accept", "*/*"),
        ]);

        remove_hop_by_hop(&mut cleaned);

        assert_eq!(cleaned, headers(&[("host", "a"), ("accept", "*/*")]));
    }

    #[test]
    fn a_client_cannot_say_what_only_we_may_say() {
        let mut cleaned = headers(&[
            ("forwarded", "host=evil"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-anything", "x"),
            ("x-real-ip", "1.2.3.4"),
            ("spin-client-addr", "1.2.3.4"),
            ("x-request-id", "mine"),
            ("x-agent-token", "t"),
            ("expect", "100-continue"),
            ("origin", "http://a"),
        ]);

        clean_request(&mut cleaned);

        assert_eq!(cleaned, headers(&[("origin", "http://a")]));
    }

    #[test]
    fn our_cookies_are_taken_out_and_others_stay() {
        for (before, after) in [
            ("zlh_dev_ide_token=x", None),
            ("a=1; zlh_dev_ide_token=x; b=2", Some("a=1; b=2")),
            ("__Host-zlh_dev_ide_token=x;a=1", Some("a=1")),
            ("ZLH_DEV_IDE_TOKEN=x; a=1", Some("a=1")),
            (" zlh_dev_ide_token =x; a=1", Some("a=1")),
            ("zlh_dev_ide_token; a=1", Some("a=1")),
            ("a=zlh_dev_ide_token=x", Some("a=zlh_dev_ide_token=x")),
            ("xzlh_dev_ide_token=1", Some("xzlh_dev_ide_token=1")),
        ] {
            let mut cleaned = headers(&[("cookie", before)]);

            remove_ide_cookies(&mut cleaned);

            assert_eq!(
                cleaned.get(COOKIE).map(|value| value.to_str().unwrap()),
                after,
                "{before:?}"
            );
        }
    }

    #[test]
    fn our_cookies_are_found_in_every_cookie_header() {
        let mut cleaned = headers(&[("cookie", "a=1")]);
        cleaned.append(COOKIE, HeaderValue::from_static("zlh_dev_ide_token=x; b=2"));

        remove_ide_cookies(&mut cleaned);

        let left: Vec<_> = cleaned.get_all(COOKIE).iter().collect();
        assert_eq!(left, ["a=1; b=2"]);
    }
}
