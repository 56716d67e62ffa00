//! Connection templates: text with variables, such as `{{ .host }}:{{ .port }}`.
//!
//! The syntax is the part of Go's templates that connection values use: `{{ .name }}`, with optional trim markers
//! `{{- .name -}}` that swallow the white space beside them. Anything else between the braces is refused, with its
//! position: a template that is half understood would put a wrong address into a running program.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What is wrong with a template, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {problem}")]
pub struct TemplateError {
    /// One-based position of the offending character, counted in characters.
    pub column: usize,
    /// What is wrong there.
    pub problem: TemplateProblem,
}

/// The kinds of mistake in a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateProblem {
    /// `{{` without its `}}`.
    #[error("\"{{{{\" is never closed; expected \"}}}}\"")]
    Unclosed,
    /// Something between the braces that is no variable.
    #[error("{found:?} is not a variable; expected a dot and a name, as in \"{{{{ .host }}}}\"")]
    NotAVariable {
        /// The text between the braces, trimmed.
        found: String,
    },
    /// A variable that this connection does not have.
    #[error("unknown variable \".{name}\"; this connection offers {offered}")]
    Unknown {
        /// The variable's name without the dot.
        name: String,
        /// The names that would have been valid, in order.
        offered: String,
    },
    /// A variable that this connection knows but that has no value here.
    #[error("variable \".{name}\" has no value: {why}")]
    NoValue {
        /// The variable's name without the dot.
        name: String,
        /// Why not.
        why: String,
    },
}

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Variable { name: String, column: usize },
}

/// A variable's value, or why it has none.
pub type Variables = BTreeMap<String, Result<String, String>>;

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// The first mistake, with its column.
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        let mut parts: Vec<Part> = Vec::new();
        let mut rest = source;
        let mut column = 1;
        let mut trim_next = false;
        while !rest.is_empty() {
            let Some(open) = rest.find("{{") else {
                push_text(&mut parts, rest, trim_next, false);
                break;
            };
            let (text, tail) = rest.split_at(open);
            let at = column + text.chars().count();
            let inner = tail.get(2..).unwrap_or_default();
            let Some(close) = inner.find("}}") else {
                return Err(TemplateError {
                    column: at,
                    problem: TemplateProblem::Unclosed,
                });
            };
            let (body, after) = inner.split_at(close);
            let trim_before = body.starts_with("- ");
            let trim_after = body.ends_with(" -");
            let body_text = body.strip_prefix('-').filter(|_| trim_before).unwrap_or(body);
            let body_text = body_text
                .strip_suffix('-')
                .filter(|_| trim_after)
                .unwrap_or(body_text)
                .trim();
            let name = body_text
                .strip_prefix('.')
                .filter(|n| is_name(n))
                .ok_or_else(|| TemplateError {
                    column: at,
                    problem: TemplateProblem::NotAVariable {
                        found: body_text.to_owned(),
                    },
                })?;
            push_text(&mut parts, text, trim_next, trim_before);
            parts.push(Part::Variable {
                name: name.to_owned(),
                column: at,
            });
            trim_next = trim_after;
            column = at + 4 + body.chars().count();
            rest = after.get(2..).unwrap_or_default();
        }
        Ok(Self { parts })
    }

    /// Puts the variables' values in.
    ///
    /// # Errors
    /// Every variable that is unknown or has no value, in the order of the template.
    pub fn render(&self, variables: &Variables) -> Result<String, Vec<TemplateError>> {
        let mut out = String::new();
        let mut errors = Vec::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Variable { name, column } => match variables.get(name.as_str()) {
                    Some(Ok(value)) => out.push_str(value),
                    Some(Err(why)) => errors.push(TemplateError {
                        column: *column,
                        problem: TemplateProblem::NoValue {
                            name: name.clone(),
                            why: why.clone(),
                        },
                    }),
                    None => errors.push(TemplateError {
                        column: *column,
                        problem: TemplateProblem::Unknown {
                            name: name.clone(),
                            offered: offered(variables),
                        },
                    }),
                },
            }
        }
        if errors.is_empty() { Ok(out) } else { Err(errors) }
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str, trim_start: bool, trim_end: bool) {
    let text = if trim_start { text.trim_start() } else { text };
    let text = if trim_end { text.trim_end() } else { text };
    if !text.is_empty() {
        parts.push(Part::Text(text.to_owned()));
    }
}

fn is_name(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn offered(variables: &Variables) -> String {
    let mut out = String::new();
    for (i, name) in variables.keys().enumerate() {
        let separator = if i == 0 { "" } else { ", " };
        // Writing to a `String` cannot fail.
        let _ = write!(out, "{separator}.{name}");
    }
    out
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::{Template, Variables};

    fn variables() -> Variables {
        [
            ("host", Ok("cart.dp".to_owned())),
            ("port", Ok("7070".to_owned())),
            ("scheme", Err("a TCP endpoint has no scheme".to_owned())),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }

    #[rstest]
    #[case("{{ .host }}:{{ .port }}", "cart.dp:7070")]
    #[case("{{.host}}:{{.port}}", "cart.dp:7070")]
    #[case("http://{{   .host }}/é", "http://cart.dp/é")]
    #[case("a {{- .host -}} b", "acart.dpb")]
    #[case("no variables }} here", "no variables }} here")]
    #[case("", "")]
    fn renders(#[case] source: &str, #[case] expected: &str) {
        assert_eq!(
            Template::parse(source).unwrap().render(&variables()).unwrap(),
            expected
        );
    }

    #[rstest]
    #[case("{{ .host", r#"column 1: "{{" is never closed; expected "}}""#)]
    #[case(
        "é{{ host }}",
        r#"column 2: "host" is not a variable; expected a dot and a name, as in "{{ .host }}""#
    )]
    #[case(
        "{{ .host }}{{}}",
        r#"column 12: "" is not a variable; expected a dot and a name, as in "{{ .host }}""#
    )]
    #[case(
        "{{ .a.b }}",
        r#"column 1: ".a.b" is not a variable; expected a dot and a name, as in "{{ .host }}""#
    )]
    #[case(
        "{{ if .host }}",
        r#"column 1: "if .host" is not a variable; expected a dot and a name, as in "{{ .host }}""#
    )]
    fn refuses(#[case] source: &str, #[case] expected: &str) {
        assert_eq!(Template::parse(source).unwrap_err().to_string(), expected);
    }

    #[test]
    fn reports_every_unknown_variable() {
        let errors = Template::parse("{{ .hots }}{{ .scheme }}")
            .unwrap()
            .render(&variables())
            .unwrap_err();
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            errors,
            [
                "column 1: unknown variable \".hots\"; this connection offers .host, .port, .scheme",
                "column 12: variable \".scheme\" has no value: a TCP endpoint has no scheme",
            ]
        );
    }
}
