//! What a client shows to be let into an IDE.

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, Request};
use percent_encoding::percent_decode_str;

use super::Refusal;
use crate::edge::headers::cookie_name;

/// Longest credential that anybody is asked about, in bytes; ours have at most about 500.
const MAX_CREDENTIAL_BYTES: usize = 2048;
/// A sibling host can plant cookies of our name, so each is tried, but not without end.
const MAX_COOKIES: usize = 4;

/// What was found, and the query without it.
pub(super) struct Credential {
    pub(super) shown: Shown,
    pub(super) query: Option<String>,
}

/// Kinds of credentials, strongest statement first: a link names the wish to open this IDE now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// `?token=`.
    Link(String),
    /// `Authorization: Bearer`.
    Bearer(String),
    /// Cookies of our name.
    Cookies(Vec<String>),
    Nothing,
}

impl Credential {
    pub(super) fn of<B>(request: &Request<B>, cookie: &str) -> Result<Self, Refusal> {
        let (tokens, query) = split_query(request.uri().query());
        let shown = match tokens.as_slice() {
            [] => match bearer(request.headers())? {
                Some(token) => Shown::Bearer(token),
                None => cookies(request.headers(), cookie)?,
            },
            [token] => Shown::Link(acceptable(token)?),
            _ => return Err(Refusal::Unauthenticated),
        };
        Ok(Self { shown, query })
    }
}

/// The values of every `token` parameter, and the query without them.
pub(super) fn split_query(query: Option<&str>) -> (Vec<String>, Option<String>) {
    let Some(query) = query else { return (Vec::new(), None) };
    let (mut tokens, mut kept) = (Vec::new(), Vec::new());
    for parameter in query.split('&') {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if percent_decode_str(name).eq(b"token".iter().copied()) {
            tokens.push(percent_decode_str(value).decode_utf8_lossy().into_owned());
        } else {
            kept.push(parameter);
        }
    }
    let kept = (!kept.is_empty()).then(|| kept.join("&"));
    (tokens, kept)
}

fn bearer(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return if headers.contains_key(AUTHORIZATION) {
            Err(Refusal::Unauthenticated)
        } else {
            Ok(None)
        };
    };
    let token = value.to_str().ok().and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    token.map(acceptable).transpose()
}

fn cookies(headers: &HeaderMap, wanted: &str) -> Result<Shown, Refusal> {
    let mut sessions: Vec<String> = Vec::new();
    for pair in headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b';'))
    {
        if cookie_name(pair) != wanted.as_bytes() {
            continue;
        }
        let value = pair.splitn(2, |byte| *byte == b'=').nth(1).unwrap_or_default().trim_ascii();
        let value = str::from_utf8(value).ok().and_then(|value| acceptable(value).ok());
        if let Some(value) = value.filter(|value| !sessions.contains(value)) {
            sessions.push(value);
        }
    }
    match sessions.len() {
        0 => Ok(Shown::Nothing),
        count if count <= MAX_COOKIES => Ok(Shown::Cookies(sessions)),
        _ => Err(Refusal::Unauthenticated),
    }
}

/// Tokens and sessions are base64url with dots; anything else need not be asked about.
fn acceptable(text: &str) -> Result<String, Refusal> {
    let known =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'=');
    if (1..=MAX_CREDENTIAL_BYTES).contains(&text.len()) && text.bytes().all(known) {
        Ok(text.to_owned())
    } else {
        Err(Refusal::Unauthenticated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body;

    fn shown(uri: &str, headers: &[(&str, &str)]) -> Result<Shown, Refusal> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body::empty()).unwrap();
        Credential::of(&request, "zlh_dev_ide_token").map(|credential| credential.shown)
    }

    #[test]
    fn the_token_is_taken_out_of_the_query_in_every_spelling() {
        for (query, tokens, kept) in [
            ("token=a", vec!["a"], None),
            ("folder=/x&token=a&b", vec!["a"], Some("folder=/x&b")),
            ("%74oke%6E=a&x=1", vec!["a"], Some("x=1")),
            ("token=a&token=b", vec!["a", "b"], None),
            ("token", vec![""], None),
            ("tokens=a&Token=b", vec![], Some("tokens=a&Token=b")),
        ] {
            assert_eq!(
                split_query(Some(query)),
                (tokens.into_iter().map(str::to_owned).collect(), kept.map(str::to_owned)),
                "{query}"
            );
        }
    }

    #[test]
    fn every_cookie_of_our_name_counts_and_too_many_are_refused() {
        let two = [("cookie", "zlh_dev_ide_token=a; x=1"), ("cookie", "zlh_dev_ide_token=b")];
        let many = "zlh_dev_ide_token=1;zlh_dev_ide_token=2;zlh_dev_ide_token=3;\
                    zlh_dev_ide_token=4;zlh_dev_ide_token=5";

        assert_eq!(shown("/", &two), Ok(Shown::Cookies(vec!["a".to_owned(), "b".to_owned()])));
        assert_eq!(shown("/", &[("cookie", many)]), Err(Refusal::Unauthenticated));
        assert_eq!(shown("/", &[("cookie", "__Host-zlh_dev_ide_token=a")]), Ok(Shown::Nothing));
    }

    #[test]
    fn two_tokens_or_headers_are_as_good_as_none() {
        let twice = [("authorization", "Bearer a"), ("authorization", "Bearer b")];

        assert_eq!(shown("/?token=a&token=b", &[]), Err(Refusal::Unauthenticated));
        assert_eq!(shown("/", &twice), Err(Refusal::Unauthenticated));
        assert_eq!(shown("/", &[("authorization", "bearer a")]), Ok(Shown::Bearer("a".to_owned())));
        assert_eq!(shown("/", &[("authorization", "Basic a")]), Ok(Shown::Nothing));
    }
}
