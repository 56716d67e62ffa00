//! Regular expressions as Kubernetes means them: RE2 syntax with Go's ASCII classes.
//!
//! The `regex` crate shares RE2's linear-time guarantee and nearly all of its syntax. What differs is translated: `\d`,
//! `\w`, `\s` and `\b` are ASCII in RE2, `\Q...\E` quotes, `\C` does not exist, and inside a class `[`, `&&`, `--` and
//! `~~` are plain characters.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use parking_lot::RwLock;
use regex::{Regex, RegexBuilder};

/// Upper bound of compiled programs, so that a hostile pattern costs little memory.
const SIZE_LIMIT: usize = 4 << 20;

/// How many compiled patterns are kept. Patterns come from schemas, of which there are few; a full cache starts afresh.
const CACHE_LIMIT: usize = 4096;

static CACHE: LazyLock<RwLock<HashMap<String, Arc<Regex>>>> = LazyLock::new(RwLock::default);

/// The compiled pattern, from the cache where it was compiled before.
///
/// # Errors
/// What is wrong with the pattern.
pub fn compile(pattern: &str) -> Result<Arc<Regex>, String> {
    if let Some(found) = CACHE.read().get(pattern) {
        return Ok(found.clone());
    }
    let compiled = RegexBuilder::new(&translate(pattern))
        .size_limit(SIZE_LIMIT)
        .build()
        .map(Arc::new)
        .map_err(|e| match e {
            regex::Error::CompiledTooBig(_) => "expression is too large".to_owned(),
            other => last_line(&other.to_string()),
        })?;
    let mut cache = CACHE.write();
    if cache.len() >= CACHE_LIMIT {
        cache.clear();
    }
    cache.insert(pattern.to_owned(), compiled.clone());
    Ok(compiled)
}

/// The library draws the pattern with a caret over several lines; the last one says what is wrong.
fn last_line(text: &str) -> String {
    text.lines()
        .last()
        .unwrap_or_default()
        .trim_start_matches("error: ")
        .to_owned()
}

fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut chars = pattern.chars().peekable();
    let mut in_class = false;
    let mut class_start = false;
    while let Some(c) = chars.next() {
        let at_start = std::mem::take(&mut class_start);
        match c {
            '\\' => match chars.next() {
                Some('d') => out.push_str(if in_class { "0-9" } else { "[0-9]" }),
                Some('w') => out.push_str(if in_class { "0-9A-Za-z_" } else { "[0-9A-Za-z_]" }),
                Some('s') => out.push_str(if in_class {
                    "\\t\\n\\f\\r "
                } else {
                    "[\\t\\n\\f\\r ]"
                }),
                Some('D') => out.push_str("[^0-9]"),
                Some('W') => out.push_str("[^0-9A-Za-z_]"),
                Some('S') => out.push_str("[^\\t\\n\\f\\r ]"),
                Some('b') if !in_class => out.push_str("(?-u:\\b)"),
                Some('Q') => {
                    let mut quoted = String::new();
                    while let Some(c) = chars.next() {
                        if c == '\\' && chars.peek() == Some(&'E') {
                            chars.next();
                            break;
                        }
                        quoted.push(c);
                    }
                    out.push_str(&regex::escape(&quoted));
                }
                Some(other) => {
                    out.push('\\');
                    out.push(other);
                }
                None => out.push('\\'),
            },
            '[' if !in_class => {
                in_class = true;
                class_start = true;
                out.push('[');
                if chars.peek() == Some(&'^') {
                    chars.next();
                    out.push('^');
                }
            }
            '[' if chars.peek() == Some(&':') => out.push('['),
            '[' => out.push_str("\\["),
            // A class that starts with `]` holds it; elsewhere `]` ends the class, unless it ends `[:name:]`.
            ']' if in_class && at_start => out.push_str("\\]"),
            ']' if in_class && out.ends_with(':') => {
                out.push(']');
                in_class = closes_named_class(&out);
            }
            ']' => {
                in_class = false;
                out.push(']');
            }
            '&' | '~' | '-' if in_class && chars.peek() == Some(&c) => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

/// Whether the text ends in a named class such as `[:alpha:]`.
fn closes_named_class(out: &str) -> bool {
    out.strip_suffix(":]")
        .and_then(|rest| rest.rfind("[:").map(|at| &rest[at + 2..]))
        .is_some_and(|name| {
            let name = name.strip_prefix('^').unwrap_or(name);
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase())
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn means_what_re2_means() {
        let cases = [
            (r"^\d+$", "123", true),
            (r"^\d+$", "١٢٣", false),
            (r"^\w+$", "añb", false),
            (r"^[\w.-]+$", "a.b-c_1", true),
            (r"^[^\d]$", "a", true),
            (r"^[a-z[]+$", "a[b", true),
            (r"^[]a]+$", "]a", true),
            (r"^[^]a]+$", "b", true),
            (r"^[a&&b]+$", "a&b", true),
            (r"^[[:alpha:]]+$", "abc", true),
            (r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", "Pending", true),
            (r"^[[:^alpha:]a]+$", "1a", true),
            (r"^[[:alpha:]1]+$", "abc1", true),
            (r"^[a,:]*[b]$", "a:b", true),
            (r"^\Qa.b\E$", "a.b", true),
            (r"^\Qa.b\E$", "axb", false),
            (r"\bfoo\b", "a foo b", true),
            (r"^[!#-'*+\-.0-9A-Z^-z|~]+$", "a-b", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(
                compile(pattern).unwrap().is_match(text),
                expected,
                "{pattern} on {text}"
            );
        }
        assert!(compile("(").is_err());
        assert!(compile("(?=a)").is_err());
        assert!(compile("(a{1000}){1000}").is_err());
    }
}
