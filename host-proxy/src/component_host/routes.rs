//! Finds the component for a path, and tells it how it was found, as Spin does.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use routefinder::Router;

use super::manifest::{self, ManifestError, Target};

/// Prefix of the headers that only the host may set.
const HOST_HEADERS: &str = "spin-";

/// The routes of an application. The most specific match wins, whatever the order in the manifest.
pub(crate) struct Routes(Router<Entry>);

/// What a public route leads to.
#[derive(Clone)]
struct Entry {
    route: String,
    target: Target,
}

/// A route that matched.
#[derive(Debug)]
pub(crate) struct Matched<'a> {
    pub(crate) target: &'a Target,
    route: &'a str,
    path_info: String,
    parameters: Vec<(String, String)>,
}

impl Routes {
    /// Of two equal routes the later one wins, as in Spin. Private ones are left out.
    pub(crate) fn new(routes: Vec<manifest::Route>) -> Result<Self, ManifestError> {
        let mut unique: Vec<Entry> = Vec::new();
        for manifest::Route { route, target } in routes {
            let Some(route) = route else { continue };
            if let Some(index) = unique.iter().position(|other| other.route == route) {
                tracing::error!("route {route} is there twice, the later one is served");
                unique.remove(index);
            }
            unique.push(Entry { route, target });
        }
        let mut router = Router::new();
        for entry in unique {
            let invalid = |reason: String| {
                ManifestError::invalid("trigger.http.route", format!("`{}`: {reason}", entry.route))
            };
            let pattern = pattern(&entry.route).map_err(invalid)?;
            router.add(pattern.as_str(), entry.clone()).map_err(invalid)?;
        }
        Ok(Self(router))
    }

    pub(crate) fn find(&self, path: &str) -> Option<Matched<'_>> {
        // routefinder's own choice depends on the order of insertion: two segments of fixed text are equal
        // to it, so its routes have no total order.
        let found =
            self.0.match_iter(path).min_by_key(|found| specificity(&found.handler().route))?;
        let captures = found.captures();
        // A trailing slash belongs to the path info, and routefinder drops it.
        let path_info = captures.wildcard().map_or_else(String::new, |rest| {
            match (rest.is_empty(), path.ends_with('/')) {
                (true, false) => String::new(),
                (true, true) => "/".to_owned(),
                (false, false) => format!("/{rest}"),
                (false, true) => format!("/{rest}/"),
            }
        });
        let parameters =
            captures.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let entry = found.handler();
        Some(Matched { target: &entry.target, route: &entry.route, path_info, parameters })
    }
}

/// Turns a route into routefinder's notation, refusing what would make it panic or never match.
fn pattern(route: &str) -> Result<String, String> {
    if !route.starts_with('/') || !route.is_ascii() {
        return Err("a route starts with `/` and is ASCII".into());
    }
    let (path, wildcard) = match route.strip_suffix("/...").or_else(|| route.strip_suffix("/*")) {
        Some(path) => (path, "/*"),
        None => (route, ""),
    };
    if path.contains('*') || path.contains("...") {
        return Err("a wildcard is `/...` and stands at the end".into());
    }
    for segment in path.split('/') {
        match segment.strip_prefix(':') {
            Some(name) => drop(parameter_header(name)?),
            None if segment.contains(':') => {
                return Err(format!("`{segment}`: a parameter fills its segment"));
            }
            None => {}
        }
    }
    Ok(format!("{path}{wildcard}"))
}

/// Orders routes that match the same path: the first segment in which they differ decides, and fixed text
/// comes before a parameter before a wildcard.
fn specificity(route: &str) -> Vec<u8> {
    let rank = |segment: &str| match segment {
        "..." | "*" => 2,
        segment if segment.starts_with(':') => 1,
        _ => 0,
    };
    route.split('/').map(rank).collect()
}

fn parameter_header(name: &str) -> Result<HeaderName, String> {
    let valid = !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    let header = format!("{HOST_HEADERS}path-match-{}", name.to_ascii_lowercase());
    match HeaderName::from_bytes(header.as_bytes()) {
        Ok(header) if valid => Ok(header),
        _ => Err(format!("`:{name}` is not a parameter's name")),
    }
}

/// Removes what a client may not say. Spin lets it through, in front of its own values.
pub(crate) fn remove_host_headers(headers: &mut HeaderMap) {
    let forged: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with(HOST_HEADERS)).cloned().collect();
    for name in forged {
        headers.remove(name);
    }
}

impl Matched<'_> {
    /// A request of another component's to `target`: as if it had come in by a route for everything.
    pub(crate) fn chained<'a>(target: &'a Target, path: &str) -> Matched<'a> {
        Matched { target, route: "/...", path_info: path.to_owned(), parameters: Vec::new() }
    }

    /// Adds Spin's headers.
    pub(crate) fn add_headers(&self, headers: &mut HeaderMap, url: &Uri, client: SocketAddr) {
        let component_route =
            self.route.strip_suffix("/...").or_else(|| self.route.strip_suffix("/*"));
        let fixed = [
            ("spin-full-url", url.to_string()),
            ("spin-path-info", self.path_info.clone()),
            ("spin-matched-route", self.route.to_owned()),
            ("spin-base-path", "/".to_owned()),
            ("spin-raw-component-route", self.route.to_owned()),
            ("spin-component-route", component_route.unwrap_or(self.route).to_owned()),
            ("spin-client-addr", client.to_string()),
        ];
        for (name, value) in fixed {
            // All of these are visible ASCII: they come from a parsed URI and from checked routes.
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        for (name, value) in &self.parameters {
            if let (Ok(name), Ok(value)) = (parameter_header(name), HeaderValue::from_str(value)) {
                headers.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(routes: &[(&str, &str)]) -> Result<Routes, ManifestError> {
        let route = |(route, component): &(&str, &str)| manifest::Route {
            route: Some((*route).to_owned()),
            target: Target::Component((*component).to_owned()),
        };
        Routes::new(routes.iter().map(route).collect())
    }

    fn component(routes: &Routes, path: &str) -> String {
        match routes.find(path).map(|matched| matched.target) {
            Some(Target::Component(id)) => id.clone(),
            _ => String::new(),
        }
    }

    #[test]
    fn the_most_specific_route_wins_whatever_the_order() {
        let routes = routes(&[
            ("/...", "all"),
            ("/api/...", "api"),
            ("/api/:id", "one"),
            ("/api/:id/x/...", "deep"),
            ("/api/fixed", "fixed"),
        ])
        .unwrap();

        let found =
            ["/", "/a/b", "/api", "/api/fixed", "/api/7", "/api/7/y", "/api/7/x", "/api/7/x/z"]
                .map(|path| component(&routes, path));

        assert_eq!(found, ["all", "all", "api", "fixed", "one", "api", "deep", "deep"]);
    }

    #[test]
    fn a_wildcard_never_hides_what_was_inserted_around_it() {
        let mut all = vec![("/internal/...", "wildcard"), ("/internal/users", "exact")];
        all.extend(
            ["/a/b", "/c/d", "/.e/f.g", "/h/:i/j", "/k/...", "/l"].map(|route| (route, "other")),
        );
        for turn in 0..all.len() {
            all.rotate_left(1);
            let routes = routes(&all).unwrap();
            assert_eq!(component(&routes, "/internal/users"), "exact", "turn {turn}");
            assert_eq!(component(&routes, "/internal/other"), "wildcard", "turn {turn}");
        }
    }

    #[test]
    fn an_exact_route_matches_nothing_else_but_a_trailing_slash() {
        let routes = routes(&[("/hello", "hello")]).unwrap();

        let found =
            ["/hello", "/hello/", "/hello/x", "/hellox", "/"].map(|path| component(&routes, path));

        assert_eq!(found, ["hello", "hello", "", "", ""]);
    }

    #[test]
    fn the_later_of_two_equal_routes_wins() {
        let routes = routes(&[("/a", "first"), ("/a", "second")]).unwrap();

        assert_eq!(component(&routes, "/a"), "second");
    }

    #[test]
    fn a_component_learns_how_it_was_found() {
        let routes = routes(&[("/users/:userid/cart/...", "cart")]).unwrap();
        let url: Uri = "http://h/users/42/cart/items/x/?q=1".parse().unwrap();
        let mut headers = HeaderMap::new();

        let matched = routes.find(url.path()).unwrap();
        matched.add_headers(&mut headers, &url, ([192, 0, 2, 1], 9).into());

        let mut seen: Vec<String> =
            headers.iter().map(|(k, v)| format!("{k}: {}", v.to_str().unwrap())).collect();
        seen.sort();
        assert_eq!(
            seen,
            [
                "spin-base-path: /",
                "spin-client-addr: 192.0.2.1:9",
                "spin-component-route: /users/:userid/cart",
                "spin-full-url: http://h/users/42/cart/items/x/?q=1",
                "spin-matched-route: /users/:userid/cart/...",
                "spin-path-info: /items/x/",
                "spin-path-match-userid: 42",
                "spin-raw-component-route: /users/:userid/cart/...",
            ]
        );
    }

    #[test]
    fn what_a_client_says_in_the_hosts_name_is_removed() {
        let mut headers = HeaderMap::new();
        for name in ["spin-client-addr", "spin-path-match-userid", "x-spin", "accept"] {
            headers.append(name, HeaderValue::from_static("forged"));
        }

        remove_host_headers(&mut headers);

        assert_eq!(headers.len(), 2);
    }

    #[test]
    fn a_route_that_cannot_work_is_refused() {
        for route in ["", "a", "/*/b", "/a/.../b", "/:", "/:a.b", "/a:b", "/:é", "/a*", "/a..."] {
            let error = routes(&[(route, "x")]).err().map(|error| error.to_string());
            assert!(error.is_some_and(|text| text.contains(&format!("`{route}`"))), "{route}");
        }
    }
}
