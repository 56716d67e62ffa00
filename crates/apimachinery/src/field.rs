//! Field paths and field errors.
//!
//! A field error names one field of one object and what is wrong with it. Its text is the one that kube-apiserver
//! writes, since `kubectl`, controllers and tests match on it.

use std::fmt;

use serde_json::Value;

/// The way from an object's root to one of its fields, as a list on the stack.
///
/// A path costs nothing until it is printed, so a validator may pass one down at every step.
///
/// ```
/// use choreo_apimachinery::field::FieldPath;
/// let spec = FieldPath::new("spec");
/// assert_eq!(spec.child("ports").index(0).child("name").to_string(), "spec.ports[0].name");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct FieldPath<'a> {
    parent: Option<&'a FieldPath<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Root,
    Name(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> FieldPath<'a> {
    /// The root of an object: prints as nothing.
    pub const ROOT: FieldPath<'static> = FieldPath {
        parent: None,
        step: Step::Root,
    };

    /// A path that starts with `name`, which may itself be dotted (`spec.template`).
    #[must_use]
    pub const fn new(name: &'a str) -> Self {
        FieldPath {
            parent: None,
            step: Step::Name(name),
        }
    }

    /// The path of the property `name` of this path.
    #[must_use]
    pub const fn child(&'a self, name: &'a str) -> FieldPath<'a> {
        FieldPath {
            parent: Some(self),
            step: Step::Name(name),
        }
    }

    /// The path of the list element `index`.
    #[must_use]
    pub const fn index(&'a self, index: usize) -> FieldPath<'a> {
        FieldPath {
            parent: Some(self),
            step: Step::Index(index),
        }
    }

    /// The path of the map entry `key`, printed as `[key]`.
    #[must_use]
    pub const fn key(&'a self, key: &'a str) -> FieldPath<'a> {
        FieldPath {
            parent: Some(self),
            step: Step::Key(key),
        }
    }

    /// Whether this is the root, with nothing to print.
    #[must_use]
    pub fn is_root(&self) -> bool {
        matches!(self.step, Step::Root) && self.parent.is_none_or(FieldPath::is_root)
    }
}

impl fmt::Display for FieldPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Name(name) => {
                if self.parent.is_some_and(|p| !p.is_root()) {
                    f.write_str(".")?;
                }
                f.write_str(name)
            }
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => write!(f, "[{key}]"),
        }
    }
}

/// What is wrong with a field. The names are those of `details.causes[].reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FieldErrorKind {
    /// A value that the field refers to does not exist.
    NotFound,
    /// A required value is missing.
    Required,
    /// A value that must be unique occurs again.
    Duplicate,
    /// A malformed value.
    Invalid,
    /// A value outside an enumeration.
    NotSupported,
    /// A value that is well-formed but not permitted here.
    Forbidden,
    /// A value that is too long.
    TooLong,
    /// A list or map with too many items.
    TooMany,
    /// A list or map with too few items.
    TooFew,
    /// A value that is too short.
    TooShort,
    /// A value of another type than the schema's.
    TypeInvalid,
    /// A fault of the server, not of the input.
    Internal,
}

impl FieldErrorKind {
    /// The machine-readable cause, as in `details.causes[].reason`.
    #[must_use]
    pub const fn cause(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TooFew => "FieldValueTooFew",
            Self::TooShort => "FieldValueTooShort",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Internal => "InternalError",
        }
    }

    /// The words that open the message.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::TooFew => "Too few",
            Self::TooShort => "Too short",
            Self::Internal => "Internal error",
        }
    }

    const fn shows_value(self) -> bool {
        matches!(
            self,
            Self::Invalid
                | Self::TypeInvalid
                | Self::NotSupported
                | Self::NotFound
                | Self::Duplicate
                | Self::TooMany
                | Self::TooFew
        )
    }
}

/// One thing that is wrong with one field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// What is wrong.
    pub kind: FieldErrorKind,
    /// The field's path as printed, `<nil>` for the object as a whole.
    pub path: String,
    /// The offending value, where the message shows it.
    pub bad_value: Option<Value>,
    /// What was expected. May be empty.
    pub detail: String,
}

impl FieldError {
    fn new(kind: FieldErrorKind, path: &FieldPath<'_>, bad_value: Option<Value>, detail: String) -> Self {
        let path = if path.is_root() {
            "<nil>".to_owned()
        } else {
            path.to_string()
        };
        Self {
            kind,
            path,
            bad_value,
            detail,
        }
    }

    /// A required value is missing.
    #[must_use]
    pub fn required(path: &FieldPath<'_>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Required, path, None, detail.into())
    }

    /// A malformed value.
    #[must_use]
    pub fn invalid(path: &FieldPath<'_>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Invalid, path, Some(value.into()), detail.into())
    }

    /// A malformed value that is shown in a form of its own.
    #[must_use]
    pub fn invalid_shown(path: &FieldPath<'_>, shown: &str, detail: &str) -> Self {
        Self::new(FieldErrorKind::Invalid, path, None, format!("{shown}: {detail}"))
    }

    /// A value of another type than the schema asks for.
    #[must_use]
    pub fn type_invalid(path: &FieldPath<'_>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(
            FieldErrorKind::TypeInvalid,
            path,
            Some(value.into()),
            detail.into(),
        )
    }

    /// A value outside an enumeration; `valid` are the values that are allowed.
    #[must_use]
    pub fn not_supported<S: AsRef<str>>(path: &FieldPath<'_>, value: impl Into<Value>, valid: &[S]) -> Self {
        let detail = if valid.is_empty() {
            String::new()
        } else {
            let quoted: Vec<String> = valid.iter().map(|v| quote(v.as_ref())).collect();
            format!("supported values: {}", quoted.join(", "))
        };
        Self::new(FieldErrorKind::NotSupported, path, Some(value.into()), detail)
    }

    /// A value that must be unique occurs again.
    #[must_use]
    pub fn duplicate(path: &FieldPath<'_>, value: impl Into<Value>) -> Self {
        Self::new(FieldErrorKind::Duplicate, path, Some(value.into()), String::new())
    }

    /// A value that the field refers to does not exist.
    #[must_use]
    pub fn not_found(path: &FieldPath<'_>, value: impl Into<Value>) -> Self {
        Self::new(FieldErrorKind::NotFound, path, Some(value.into()), String::new())
    }

    /// A value that is not permitted here.
    #[must_use]
    pub fn forbidden(path: &FieldPath<'_>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Forbidden, path, None, detail.into())
    }

    /// A string of more than `max` bytes.
    #[must_use]
    pub fn too_long(path: &FieldPath<'_>, max: u64) -> Self {
        let unit = if max == 1 { "byte" } else { "bytes" };
        Self::new(
            FieldErrorKind::TooLong,
            path,
            None,
            format!("may not be more than {max} {unit}"),
        )
    }

    /// A list of `actual` items where `max` are allowed.
    #[must_use]
    pub fn too_many(path: &FieldPath<'_>, actual: u64, max: u64) -> Self {
        let unit = if max == 1 { "item" } else { "items" };
        Self::new(
            FieldErrorKind::TooMany,
            path,
            Some(actual.into()),
            format!("must have at most {max} {unit}"),
        )
    }

    /// A list of `actual` items where at least `min` are needed.
    #[must_use]
    pub fn too_few(path: &FieldPath<'_>, actual: u64, min: u64) -> Self {
        let unit = if min == 1 { "item" } else { "items" };
        Self::new(
            FieldErrorKind::TooFew,
            path,
            Some(actual.into()),
            format!("must have at least {min} {unit}"),
        )
    }

    /// A fault of the server while it looked at this field.
    #[must_use]
    pub fn internal(path: &FieldPath<'_>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Internal, path, None, detail.into())
    }

    /// The same error with another kind, for callers that keep the texts of a check but report it differently.
    #[must_use]
    pub fn with_kind(mut self, kind: FieldErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// The message without the field's path, as in `details.causes[].message`.
    #[must_use]
    pub fn body(&self) -> String {
        let mut text = self.kind.words().to_owned();
        if self.kind.shows_value()
            && let Some(value) = &self.bad_value
        {
            text.push_str(": ");
            match value {
                Value::String(s) => text.push_str(&quote(s)),
                other => text.push_str(&go_json(&other.to_string())),
            }
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}

impl std::error::Error for FieldError {}

/// Joins messages the way an aggregate error prints: one alone as it is, several as `[a, b]`, each text once.
#[must_use]
pub fn aggregate<S: AsRef<str>>(messages: &[S]) -> String {
    let mut seen: Vec<&str> = Vec::with_capacity(messages.len());
    for message in messages {
        if !seen.contains(&message.as_ref()) {
            seen.push(message.as_ref());
        }
    }
    match seen.as_slice() {
        [] => String::new(),
        [one] => (*one).to_owned(),
        many => format!("[{}]", many.join(", ")),
    }
}

/// JSON as Go writes it, which escapes what could end a script in a web page.
#[must_use]
pub fn go_json(json: &str) -> String {
    // These can only be within texts.
    json.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

/// Quotes a string as Go's `%q` does, which is how every Kubernetes message shows one.
#[must_use]
pub fn quote(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + 2);
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if c.is_control() || matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}') => {
                out.push_str(&format!("\\u{:04x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_print_like_upstream() {
        let spec = FieldPath::new("spec");
        assert_eq!(spec.to_string(), "spec");
        assert_eq!(
            spec.child("a").index(3).key("k").child("b").to_string(),
            "spec.a[3][k].b"
        );
        assert_eq!(FieldPath::ROOT.child("a").child("b").to_string(), "a.b");
        assert!(FieldPath::ROOT.is_root());
    }

    #[test]
    fn errors_print_like_upstream() {
        let spec = FieldPath::new("spec");
        let path = spec.child("x");
        let cases = [
            (FieldError::required(&path, ""), "spec.x: Required value"),
            (
                FieldError::required(&path, "set it"),
                "spec.x: Required value: set it",
            ),
            (
                FieldError::invalid(&path, "a\"b", "must be c"),
                "spec.x: Invalid value: \"a\\\"b\": must be c",
            ),
            (
                FieldError::invalid(&path, 5, "must be less"),
                "spec.x: Invalid value: 5: must be less",
            ),
            (
                FieldError::invalid(&path, json!({"a": 1}), "bad"),
                "spec.x: Invalid value: {\"a\":1}: bad",
            ),
            (
                FieldError::not_supported(&path, "c", &["a", "b"]),
                "spec.x: Unsupported value: \"c\": supported values: \"a\", \"b\"",
            ),
            (
                FieldError::duplicate(&path, "c"),
                "spec.x: Duplicate value: \"c\"",
            ),
            (
                FieldError::forbidden(&path, "not here"),
                "spec.x: Forbidden: not here",
            ),
            (
                FieldError::too_long(&path, 63),
                "spec.x: Too long: may not be more than 63 bytes",
            ),
            (
                FieldError::too_many(&path, 4, 1),
                "spec.x: Too many: 4: must have at most 1 item",
            ),
        ];
        for (error, expected) in cases {
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn aggregates_drop_repeated_texts() {
        assert_eq!(aggregate(&["a"]), "a");
        assert_eq!(aggregate(&["a", "b", "a"]), "[a, b]");
    }
}
