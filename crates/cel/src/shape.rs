//! What is known of a JSON value's type, where JSON alone does not say it.
//!
//! In CEL a `date-time` string is a timestamp and the `1` of a `number` field is a double; which fields an object has is
//! known before there is an object. Schemas say these things through [`Shape`].

/// The type of a value as far as CEL is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Not known before the value is there.
    Dyn,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Int,
    /// A floating-point number, also where JSON writes it without a fraction.
    Double,
    /// A text.
    String,
    /// Base64 text that stands for bytes.
    Bytes,
    /// Text in the form of RFC 3339 that stands for a point in time.
    Timestamp,
    /// Text such as `1h30m` that stands for a span of time.
    Duration,
    /// A list whose items have the shape [`Shape::element`].
    List,
    /// A map with free keys, whose values have the shape [`Shape::element`].
    Map,
    /// An object with declared fields only.
    Object,
}

/// How a list compares and concatenates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListSemantics<'a> {
    /// Order matters.
    Atomic,
    /// Order does not matter, and `+` is the union.
    Set,
    /// Order does not matter, and `+` overwrites items with the same values of these keys.
    Map(&'a [String]),
}

/// The type of a JSON value.
pub trait Shape: Send + Sync {
    /// The value's kind.
    fn kind(&self) -> Kind;

    /// The shape of an object's declared field; the name is not escaped.
    fn field(&self, name: &str) -> Option<&dyn Shape>;

    /// The shape of a list's items or of a map's values.
    fn element(&self) -> Option<&dyn Shape>;

    /// Whether the type of its values is known enough for a field of this shape to be selected at all.
    fn is_declared(&self) -> bool {
        true
    }

    /// Whether only fields that are declared can be selected.
    fn is_closed(&self) -> bool {
        self.kind() == Kind::Object
    }

    /// How a list of this shape compares and concatenates.
    fn list_semantics(&self) -> ListSemantics<'_> {
        ListSemantics::Atomic
    }

    /// The most items, entries or characters that a value may have, if that is bounded.
    fn max_size(&self) -> Option<u64> {
        None
    }
}

/// The words that CEL keeps for itself: no identifier is one of them, and a field of such a name is selected in escaped form.
pub const RESERVED: [&str; 21] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
];

/// Whether a name can stand in an expression as it is.
#[must_use]
pub fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !RESERVED.contains(&name)
}

/// Gives the name of a JSON field for the identifier by which CEL selects it.
///
/// Characters that identifiers cannot have, and reserved words, are written as `__dot__`, `__dash__`, `__slash__`,
/// `__underscores__` and `__namespace__`. `None` when the identifier holds no escape.
#[must_use]
pub fn unescape(identifier: &str) -> Option<String> {
    if !identifier.contains("__") {
        return None;
    }
    if let Some(word) = identifier
        .strip_prefix("__")
        .and_then(|rest| rest.strip_suffix("__"))
        && RESERVED.contains(&word)
    {
        return Some(word.to_owned());
    }
    let mut out = String::with_capacity(identifier.len());
    let mut rest = identifier;
    let mut changed = false;
    'next: while let Some(c) = rest.chars().next() {
        for (escape, text) in [
            ("__underscores__", "__"),
            ("__dot__", "."),
            ("__dash__", "-"),
            ("__slash__", "/"),
        ] {
            if let Some(after) = rest.strip_prefix(escape) {
                out.push_str(text);
                rest = after;
                changed = true;
                continue 'next;
            }
        }
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    changed.then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers() {
        for name in ["a", "_b", "camelCase", "x9"] {
            assert!(is_identifier(name), "{name}");
        }
        for name in ["", "9x", "a-b", "a.b", "while", "namespace", "in", "ä"] {
            assert!(!is_identifier(name), "{name}");
        }
    }

    #[test]
    fn escapes() {
        let cases = [
            ("__namespace__", Some("namespace")),
            ("foo__dot__bar", Some("foo.bar")),
            ("x__dash__prop", Some("x-prop")),
            ("a__slash__b", Some("a/b")),
            ("redact__underscores__d", Some("redact__d")),
            ("string", None),
            ("a__b", None),
        ];
        for (identifier, expected) in cases {
            assert_eq!(unescape(identifier).as_deref(), expected, "{identifier}");
        }
    }
}
