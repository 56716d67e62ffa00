//! Texts with expressions between `${` and `}`.
//!
//! A text that is one expression and nothing else has the expression's type: `"${parameters.replicas}"` is a number. In
//! any other text the values are written into it. `$${` stands for `${` itself.

use std::borrow::Cow;

/// A text, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text<'t> {
    /// Its parts, in order.
    pub parts: Vec<Part<'t>>,
}

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part<'t> {
    /// Text that stays as it is.
    Literal(Cow<'t, str>),
    /// An expression.
    Expression(&'t str),
}

/// A text that cannot be taken apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {problem}")]
pub struct TextError {
    /// Position in the text, from 1, in characters.
    pub column: usize,
    /// What is wrong there.
    pub problem: &'static str,
}

impl<'t> Text<'t> {
    /// Takes a text apart.
    ///
    /// # Errors
    /// When an expression is empty or has no end.
    pub fn parse(source: &'t str) -> Result<Self, TextError> {
        let mut parts: Vec<Part<'t>> = Vec::new();
        let mut rest = source;
        while let Some(open) = rest.find("${") {
            let column = |at: &str| source[..source.len() - at.len()].chars().count() + 1;
            let (before, from) = rest.split_at(open);
            if before.ends_with('$') {
                // `$${`: the text `${`.
                push(&mut parts, &rest[..open - 1]);
                push(&mut parts, "${");
                rest = &from[2..];
                continue;
            }
            push(&mut parts, before);
            let inside = &from[2..];
            let Some(end) = end_of(inside) else {
                return Err(TextError {
                    column: column(from),
                    problem: "\"${\" is never closed; expected \"}\" (write \"$${\" for the text itself)",
                });
            };
            let expression = &inside[..end];
            if expression.trim().is_empty() {
                return Err(TextError {
                    column: column(from),
                    problem: "there is no expression between \"${\" and \"}\"",
                });
            }
            parts.push(Part::Expression(expression));
            rest = &inside[end + 1..];
        }
        push(&mut parts, rest);
        Ok(Self { parts })
    }

    /// The expression, when the text is nothing else.
    pub fn whole(&self) -> Option<&'t str> {
        let mut expressions = self.parts.iter().filter_map(|p| match p {
            Part::Expression(e) => Some(*e),
            Part::Literal(_) => None,
        });
        let first = expressions.next()?;
        // A block of YAML text ends in a new line that nobody means.
        let blank = self.parts.iter().all(|p| match p {
            Part::Literal(text) => text.trim().is_empty(),
            Part::Expression(_) => true,
        });
        (blank && expressions.next().is_none()).then_some(first)
    }

    /// The text, when there is no expression in it.
    pub fn plain(&self) -> Option<String> {
        let literals = self.parts.iter().map(|p| match p {
            Part::Literal(text) => Some(text.as_ref()),
            Part::Expression(_) => None,
        });
        literals.collect()
    }
}

fn push<'t>(parts: &mut Vec<Part<'t>>, text: &'t str) {
    if text.is_empty() {
        return;
    }
    match parts.last_mut() {
        Some(Part::Literal(last)) => last.to_mut().push_str(text),
        _ => parts.push(Part::Literal(Cow::Borrowed(text))),
    }
}

/// Where the expression that a text begins with ends: at the first `}` that closes nothing and is in no string.
fn end_of(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut depth = 0_usize;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            quote @ (b'"' | b'\'') => {
                let raw = at > 0 && matches!(bytes[at - 1], b'r' | b'R');
                let triple = bytes[at..].starts_with(&[quote; 3]);
                at += if triple { 3 } else { 1 };
                loop {
                    match bytes.get(at) {
                        None => return None,
                        Some(b'\\') if !raw => at += 1,
                        Some(b) if *b == quote && !triple => break,
                        Some(_) if triple && bytes[at..].starts_with(&[quote; 3]) => {
                            at += 2;
                            break;
                        }
                        Some(_) => {}
                    }
                    at += 1;
                }
            }
            b'{' => depth += 1,
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(source: &str) -> String {
        match Text::parse(source) {
            Err(error) => error.to_string(),
            Ok(text) => text
                .parts
                .iter()
                .map(|p| match p {
                    Part::Literal(text) => format!("[{text}]"),
                    Part::Expression(e) => format!("<{e}>"),
                })
                .collect(),
        }
    }

    #[test]
    fn parts() {
        for (source, expected) in [
            ("", ""),
            ("plain", "[plain]"),
            ("${a}", "<a>"),
            ("x-${a}-y", "[x-]<a>[-y]"),
            ("${a}${b}", "<a><b>"),
            ("${ {'k': 1}.k }", "< {'k': 1}.k >"),
            ("${'}' + \"}\"}", "<'}' + \"}\">"),
            ("${'''}'''}", "<'''}'''>"),
            ("${'\\'}'}", "<'\\'}'>"),
            ("${r'\\'}", "<r'\\'>"),
            ("echo $${HOME} ${a}", "[echo ${HOME} ]<a>"),
            ("$HOME $(x)", "[$HOME $(x)]"),
            (
                "ö ${a",
                "column 3: \"${\" is never closed; expected \"}\" (write \"$${\" for the text itself)",
            ),
            (
                "${'a}",
                "column 1: \"${\" is never closed; expected \"}\" (write \"$${\" for the text itself)",
            ),
            (
                "a${ }",
                "column 2: there is no expression between \"${\" and \"}\"",
            ),
        ] {
            assert_eq!(shown(source), expected, "{source}");
        }
    }

    #[test]
    fn a_text_that_is_one_expression() {
        let whole = |s: &'static str| Text::parse(s).ok().and_then(|t| t.whole());
        assert_eq!(whole("${a}"), Some("a"));
        assert_eq!(whole("${a}\n"), Some("a"));
        assert_eq!(whole("${a}${b}"), None);
        assert_eq!(whole("v${a}"), None);
        assert_eq!(whole("a"), None);
    }
}
