//! Paths are brought into one form before anything is decided by them, so that no policy for `/admin` is got around by
//! `/x/../admin`, `//admin` or `/%61dmin`. The rules are Envoy Gateway's: unreserved characters are decoded and dot segments removed
//! (RFC 3986, sections 6.2.2.2 and 6.2.2.3), repeated slashes merged, escaped slashes answered by a redirect.

use std::borrow::Cow;

use crate::api::envoy::EscapedSlashes;

/// What becomes of a path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Normalized<'p> {
    Path(Cow<'p, str>),
    /// The client is to ask for this instead.
    Redirect(String),
    Reject,
}

/// Brings a path, without its query, into its one form.
pub(crate) fn normalize(path: &str, slashes: EscapedSlashes, merge: bool) -> Normalized<'_> {
    if is_normal(path) {
        return Normalized::Path(Cow::Borrowed(path));
    }
    if !path.starts_with('/') || path.contains('\\') && slashes == EscapedSlashes::RejectRequest {
        return Normalized::Reject;
    }
    let escaped = has_escaped_slash(path);
    let mut text = match (escaped, slashes) {
        (true, EscapedSlashes::RejectRequest) => return Normalized::Reject,
        (true, EscapedSlashes::UnescapeAndForward | EscapedSlashes::UnescapeAndRedirect) => {
            unescape_slashes(path)
        }
        _ => path.to_owned(),
    };
    text = decode_unreserved(&text);
    // Some servers take a backslash for a slash: it must not hide one.
    text = text.replace('\\', "/");
    if merge {
        while text.contains("//") {
            text = text.replace("//", "/");
        }
    }
    let Some(text) = remove_dot_segments(&text) else {
        return Normalized::Reject;
    };
    match (escaped, slashes) {
        // Two slashes at the beginning of an address are a host's.
        (true, EscapedSlashes::UnescapeAndRedirect) => {
            Normalized::Redirect(format!("/{}", text.trim_start_matches('/')))
        }
        _ => Normalized::Path(Cow::Owned(text)),
    }
}

/// Whether nothing has to be done, which is so for nearly every path.
fn is_normal(path: &str) -> bool {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        return false;
    }
    let mut after_slash = false;
    for byte in bytes {
        match byte {
            b'%' | b'\\' => return false,
            b'/' | b'.' if after_slash => return false,
            _ => {}
        }
        after_slash = *byte == b'/';
    }
    true
}

fn has_escaped_slash(path: &str) -> bool {
    path.as_bytes()
        .windows(3)
        .any(|w| w[0] == b'%' && matches!(&[w[1], w[2].to_ascii_lowercase()], b"2f" | b"5c"))
}

fn unescape_slashes(path: &str) -> String {
    ["%2F", "%2f", "%5C", "%5c"]
        .iter()
        .fold(path.to_owned(), |text, escape| text.replace(escape, "/"))
}

fn decode_unreserved(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut out = String::with_capacity(path.len());
    let mut i = 0;
    while i < bytes.len() {
        if bytes[i] == b'%'
            && let Some(code) = path
                .get(i + 1..i + 3)
                .and_then(|hex| u8::from_str_radix(hex, 16).ok())
        {
            let c = char::from(code);
            if code.is_ascii_alphanumeric() || "-._~".contains(c) {
                out.push(c);
            } else {
                out.push('%');
                out.push_str(&path[i + 1..i + 3].to_ascii_uppercase());
            }
            i += 3;
            continue;
        }
        // Whole characters, should there ever be any beyond ASCII.
        let length = path[i..].chars().next().map_or(1, char::len_utf8);
        out.push_str(&path[i..i + length]);
        i += length;
    }
    out
}

/// Nothing if the path leads above its root.
fn remove_dot_segments(path: &str) -> Option<String> {
    let mut segments: Vec<&str> = Vec::new();
    let mut rest = path.split('/').skip(1).peekable();
    while let Some(segment) = rest.next() {
        let last = rest.peek().is_none();
        match segment {
            "." if last => segments.push(""),
            "." => {}
            ".." => {
                segments.pop()?;
                if last {
                    segments.push("");
                }
            }
            other => segments.push(other),
        }
    }
    Some(format!("/{}", segments.join("/")))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("/a/b", Some("/a/b"))]
    #[case("/public/../admin", Some("/admin"))]
    #[case("/public/%2e%2E/admin", Some("/admin"))]
    #[case("//admin", Some("/admin"))]
    #[case("/a/./b/.", Some("/a/b/"))]
    #[case("/a/b/..", Some("/a/"))]
    #[case("/%61dmin", Some("/admin"))]
    #[case("/a%20b", Some("/a%20b"))]
    #[case("/a%c3%a4", Some("/a%C3%A4"))]
    #[case("/a%zz", Some("/a%zz"))]
    #[case("/x\\..\\admin", Some("/admin"))]
    #[case("/../etc/passwd", None)]
    #[case("*", None)]
    fn paths_have_one_form(#[case] path: &str, #[case] expected: Option<&str>) {
        let found = normalize(path, EscapedSlashes::KeepUnchanged, true);
        match expected {
            Some(text) => assert_eq!(found, Normalized::Path(text.into())),
            None => assert_eq!(found, Normalized::Reject),
        }
    }

    #[test]
    fn a_redirect_never_leads_to_another_host() {
        let found = normalize(
            "//evil.example.com/%2f",
            EscapedSlashes::UnescapeAndRedirect,
            false,
        );
        assert_eq!(found, Normalized::Redirect("/evil.example.com//".to_owned()));
    }

    #[rstest]
    #[case(EscapedSlashes::UnescapeAndRedirect, Normalized::Redirect("/b".to_owned()))]
    #[case(EscapedSlashes::UnescapeAndForward, Normalized::Path("/b".into()))]
    #[case(EscapedSlashes::RejectRequest, Normalized::Reject)]
    #[case(EscapedSlashes::KeepUnchanged, Normalized::Path("/a%2F..%2Fb".into()))]
    fn escaped_slashes_are_what_the_policy_says(
        #[case] action: EscapedSlashes,
        #[case] expected: Normalized<'_>,
    ) {
        assert_eq!(normalize("/a%2f..%2Fb", action, true), expected);
    }
}
