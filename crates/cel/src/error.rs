//! What can go wrong with an expression.

use std::fmt;

/// A place in an expression's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1, in characters.
    pub column: usize,
}

/// An expression that cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.render())]
pub struct CompileError {
    /// What is wrong, without the place.
    pub message: String,
    /// Where, if that can be said.
    pub position: Option<Position>,
    /// The line at that place.
    pub line: String,
    /// The function that does not exist, when that is what is wrong, and whether it was called on a receiver.
    pub unknown: Option<(String, bool)>,
}

impl CompileError {
    pub(crate) fn whole(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            position: None,
            line: String::new(),
            unknown: None,
        }
    }

    pub(crate) fn at(source: &str, offset: usize, message: impl Into<String>) -> Self {
        let mut end = offset.min(source.len());
        while !source.is_char_boundary(end) {
            end -= 1;
        }
        let before = &source[..end];
        let line = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |i| i + 1);
        let column = before[start..].chars().count() + 1;
        Self {
            message: message.into(),
            position: Some(Position { line, column }),
            line: source[start..].lines().next().unwrap_or_default().to_owned(),
            unknown: None,
        }
    }

    /// The message with place, line and caret, in the form of the CEL libraries:
    ///
    /// ```text
    /// ERROR: <input>:1:6: undeclared reference to 'x' (in container '')
    ///  | 1 + x
    ///  | ....^
    /// ```
    #[must_use]
    pub fn render(&self) -> String {
        match self.position {
            None => self.message.clone(),
            Some(Position { line, column }) => format!(
                "ERROR: <input>:{line}:{column}: {}\n | {}\n | {}^",
                self.message,
                self.line,
                ".".repeat(column.saturating_sub(1))
            ),
        }
    }
}

/// Several mistakes of one expression, as the CEL libraries tell of them: one below the other.
#[must_use]
pub fn render_all(errors: &[CompileError]) -> String {
    let all: Vec<String> = errors.iter().map(CompileError::render).collect();
    all.join("\n")
}

/// Why an evaluation failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EvalErrorKind {
    /// A function or operator got values of types that it does not take.
    NoSuchOverload,
    /// The expression cost more than it may.
    CostLimit,
    /// Anything else: a missing key, division by zero, a malformed argument.
    Other,
}

/// An evaluation that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvalError {
    /// The sort of failure.
    pub kind: EvalErrorKind,
    /// What happened.
    pub message: String,
}

impl EvalError {
    pub(crate) fn other(message: impl Into<String>) -> Self {
        Self {
            kind: EvalErrorKind::Other,
            message: message.into(),
        }
    }

    pub(crate) fn no_such_overload() -> Self {
        Self {
            kind: EvalErrorKind::NoSuchOverload,
            message: "no such overload".to_owned(),
        }
    }

    pub(crate) fn no_such_key(key: &str) -> Self {
        Self::other(format!("no such key: {key}"))
    }

    pub(crate) fn cost_limit() -> Self {
        Self {
            kind: EvalErrorKind::CostLimit,
            message: "operation cancelled: actual cost limit exceeded".to_owned(),
        }
    }
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for EvalError {}
