//! Addresses: paths, URIs, and the parts of an external connection's target.

use url::Url;

/// Joins path segments into an absolute path without doubled or trailing slashes: `["a", "/b/", ""]` is `/a/b`, nothing is `/`.
pub fn join_path<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut out = String::new();
    for segment in parts
        .into_iter()
        .flat_map(|p| p.split('/'))
        .filter(|s| !s.is_empty())
    {
        out.push('/');
        out.push_str(segment);
    }
    if out.is_empty() { "/".to_owned() } else { out }
}

/// Checks a base path: absolute or relative, of plain segments. Returns what is wrong with it.
///
/// A gateway matches paths literally. `..`, an encoded slash or a query in a prefix would match something else than what is written.
pub fn base_path_problem(path: &str) -> Option<String> {
    if path.split('/').any(|s| s == "." || s == "..") {
        return Some("must not contain \".\" or \"..\" as a segment".to_owned());
    }
    let bad = path
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || "/-._~!$&'()*+,;=:@".contains(*c)));
    bad.map(|c| format!("must consist of letters, digits and \"/-._~!$&'()*+,;=:@\"; found {c:?}"))
}

/// The port that a scheme implies.
pub fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

/// The URI of an endpoint: without scheme just `host:port`; the scheme's own port is left out.
pub fn uri(scheme: &str, host: &str, port: u16, path: &str) -> String {
    let host = if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    if scheme.is_empty() {
        return format!("{host}:{port}");
    }
    let path = if path == "/" { "" } else { path };
    if default_port(scheme) == Some(port) {
        format!("{scheme}://{host}{path}")
    } else {
        format!("{scheme}://{host}:{port}{path}")
    }
}

/// Where an external connection leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    /// The URL as written, when one was written.
    pub url: Option<String>,
    /// The scheme, when there is one.
    pub scheme: Option<String>,
    /// A DNS name or an IP address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The path, `/` when none is written.
    pub path: String,
}

/// Reads an external connection's `url`.
///
/// # Errors
/// What is wrong with it: no URL, no host, or no port where the scheme implies none.
pub fn parse_external(text: &str) -> Result<External, String> {
    let url = Url::parse(text)
        .map_err(|e| format!("{text:?} is not a URL ({e}); expected scheme://host[:port][/path]"))?;
    let host = match url.host() {
        Some(url::Host::Ipv6(ip)) => ip.to_string(),
        Some(host) => host.to_string(),
        None => {
            return Err(format!(
                "{text:?} has no host; expected scheme://host[:port][/path]"
            ));
        }
    };
    if host.is_empty() {
        return Err(format!(
            "{text:?} has no host; expected scheme://host[:port][/path]"
        ));
    }
    let port = url
        .port()
        .or_else(|| well_known_port(url.scheme()))
        .ok_or_else(|| {
            format!(
                "{text:?} has no port, and the scheme {:?} implies none: write scheme://host:port",
                url.scheme()
            )
        })?;
    let path = if url.path().is_empty() {
        "/".to_owned()
    } else {
        url.path().to_owned()
    };
    Ok(External {
        url: Some(text.to_owned()),
        scheme: Some(url.scheme().to_owned()),
        host,
        port,
        path,
    })
}

/// Ports of the schemes that connections commonly name (IANA service names registry).
fn well_known_port(scheme: &str) -> Option<u16> {
    Some(match scheme {
        "http" | "ws" => 80,
        "https" | "wss" => 443,
        "ftp" => 21,
        "amqp" => 5672,
        "amqps" => 5671,
        "mqtt" => 1883,
        "mqtts" => 8883,
        "mysql" => 3306,
        "postgres" | "postgresql" => 5432,
        "mongodb" => 27017,
        "redis" => 6379,
        "rediss" => 6380,
        "ldap" => 389,
        "ldaps" => 636,
        "nats" => 4222,
        "kafka" => 9092,
        "smtp" => 25,
        "smtps" => 465,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::{base_path_problem, join_path, parse_external, uri};

    #[rstest]
    #[case(&["shop", "cart", "/api/v1/"], "/shop/cart/api/v1")]
    #[case(&["shop", "cart", ""], "/shop/cart")]
    #[case(&["", "/"], "/")]
    #[case(&["a//b"], "/a/b")]
    fn paths(#[case] parts: &[&str], #[case] expected: &str) {
        assert_eq!(join_path(parts.iter().copied()), expected);
    }

    #[rstest]
    #[case("https", "h.example", 443, "/a", "https://h.example/a")]
    #[case("http", "h.example", 8080, "/", "http://h.example:8080")]
    #[case("", "db", 5432, "/", "db:5432")]
    #[case("grpc", "::1", 50051, "", "grpc://[::1]:50051")]
    fn uris(
        #[case] scheme: &str,
        #[case] host: &str,
        #[case] port: u16,
        #[case] path: &str,
        #[case] expected: &str,
    ) {
        assert_eq!(uri(scheme, host, port, path), expected);
    }

    #[rstest]
    #[case("https://api.stripe.com/v1", "api.stripe.com", 443, "/v1")]
    #[case("postgres://db.example.com/x", "db.example.com", 5432, "/x")]
    #[case("tcp://[2001:db8::1]:9000", "2001:db8::1", 9000, "/")]
    fn externals(#[case] text: &str, #[case] host: &str, #[case] port: u16, #[case] path: &str) {
        let external = parse_external(text).unwrap();
        assert_eq!(
            (external.host.as_str(), external.port, external.path.as_str()),
            (host, port, path)
        );
    }

    #[rstest]
    #[case("api.stripe.com")]
    #[case("tcp://db.example.com")]
    #[case("mailto:a@b.example")]
    fn bad_externals(#[case] text: &str) {
        assert!(parse_external(text).is_err());
    }

    #[test]
    fn odd_base_paths_are_refused() {
        assert_eq!(base_path_problem("/api/v1.0/~x"), None);
        assert!(base_path_problem("/a/../b").is_some());
        assert!(base_path_problem("/a?b").is_some());
        assert!(base_path_problem("/a%2Fb").is_some());
    }
}
