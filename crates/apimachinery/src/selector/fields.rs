//! Field selectors: `metadata.name=a,spec.nodeName!=b`.

use std::fmt;

use serde_json::Value;

use super::ParseError;

/// One term of a field selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRequirement {
    /// The dotted path, such as `metadata.name`.
    pub field: String,
    /// Whether the field must equal the value, or must not.
    pub equals: bool,
    /// The value.
    pub value: String,
}

/// A parsed field selector. The default selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<FieldRequirement>,
}

impl FieldSelector {
    /// Parses the `fieldSelector` parameter of a request. An empty text selects everything.
    ///
    /// # Errors
    /// When a term has no operator, or a value has an escape that does not exist.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut parts = split_terms(text);
        parts.sort_unstable();
        let mut terms = Vec::new();
        for part in parts {
            if part.is_empty() {
                continue;
            }
            let Some((field, equals, raw)) = split_term(part) else {
                return Err(ParseError(format!(
                    "invalid selector: '{text}'; can't understand '{part}'"
                )));
            };
            terms.push(FieldRequirement {
                field: field.to_owned(),
                equals,
                value: unescape(raw)?,
            });
        }
        Ok(Self { terms })
    }

    /// Whether everything is selected.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// The terms, all of which must hold.
    #[must_use]
    pub fn terms(&self) -> &[FieldRequirement] {
        &self.terms
    }

    /// The one value that `field` must have, if the selector says so. Lets a list by name become a get.
    #[must_use]
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.terms
            .iter()
            .find(|t| t.equals && t.field == field)
            .map(|t| t.value.as_str())
    }

    /// The first field of the selector that is not in `supported`.
    ///
    /// `metadata.name` and `metadata.namespace` are always supported.
    #[must_use]
    pub fn unsupported<S: AsRef<str>>(&self, supported: &[S]) -> Option<&str> {
        self.terms.iter().map(|t| t.field.as_str()).find(|field| {
            !matches!(*field, "metadata.name" | "metadata.namespace")
                && !supported.iter().any(|s| s.as_ref() == *field)
        })
    }

    /// Whether `object` is selected. A field that is absent counts as an empty string.
    ///
    /// Whether a field may be selected by at all is to be checked before, with [`FieldSelector::unsupported`].
    #[must_use]
    pub fn matches(&self, object: &Value) -> bool {
        self.matches_with(|field| field_text(object, field))
    }

    /// Whether an object is selected whose fields are given by `lookup`.
    #[must_use]
    pub fn matches_with(&self, lookup: impl Fn(&str) -> String) -> bool {
        self.terms
            .iter()
            .all(|t| (lookup(&t.field) == t.value) == t.equals)
    }
}

/// A field's value as selectors see it: text, number or truth value; anything else is empty.
#[must_use]
pub fn field_text(object: &Value, path: &str) -> String {
    let mut at = object;
    for name in path.split('.') {
        match at.get(name) {
            Some(next) => at = next,
            None => return String::new(),
        }
    }
    match at {
        Value::String(s) => s.clone(),
        Value::Number(n) => n.to_string(),
        Value::Bool(b) => b.to_string(),
        _ => String::new(),
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, term) in self.terms.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            let value = term
                .value
                .replace('\\', "\\\\")
                .replace(',', "\\,")
                .replace('=', "\\=");
            write!(f, "{}{}{value}", term.field, if term.equals { "=" } else { "!=" })?;
        }
        Ok(())
    }
}

fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    for (i, _) in term.char_indices() {
        let rest = &term[i..];
        for (operator, equals) in [("!=", false), ("==", true), ("=", true)] {
            if let Some(value) = rest.strip_prefix(operator) {
                return Some((&term[..i], equals, value));
            }
        }
    }
    None
}

fn unescape(raw: &str) -> Result<String, ParseError> {
    let mut out = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                other => {
                    let sequence: String = std::iter::once('\\').chain(other).collect();
                    return Err(ParseError(format!(
                        "invalid field selector: invalid escape sequence: {sequence}"
                    )));
                }
            },
            ',' | '=' => {
                let code = c as u32;
                return Err(ParseError(format!(
                    "invalid field selector: unescaped character in value: {code}"
                )));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use serde_json::json;

    #[test]
    fn selects_by_fields() {
        let object = json!({"metadata": {"name": "a"}, "spec": {"replicas": 3, "paused": false}});
        let cases = [
            ("", true),
            ("metadata.name=a", true),
            ("metadata.name==a", true),
            ("metadata.name!=a", false),
            ("metadata.name=a,spec.replicas=3", true),
            ("spec.paused=false", true),
            ("spec.none=", true),
            ("spec.none!=x", true),
            ("spec.none=x", false),
        ];
        for (text, expected) in cases {
            assert_eq!(
                FieldSelector::parse(text).unwrap().matches(&object),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn escapes_and_errors() {
        let selector = FieldSelector::parse(r"a=x\,y\=z\\").unwrap();
        assert_eq!(selector.exact("a"), Some(r"x,y=z\"));
        assert_eq!(FieldSelector::parse(&selector.to_string()).unwrap(), selector);
        for bad in ["a", r"a=\x", "a=b=c", r"a=b\"] {
            assert!(FieldSelector::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(
            FieldSelector::parse("abc").unwrap_err().to_string(),
            "invalid selector: 'abc'; can't understand 'abc'"
        );
        let selector = FieldSelector::parse("metadata.name=a,spec.b=c").unwrap();
        assert_eq!(selector.unsupported::<&str>(&[]), Some("spec.b"));
        assert_eq!(selector.unsupported(&["spec.b"]), None);
    }
}
