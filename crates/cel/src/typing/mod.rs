//! Static types: what an expression gives, and everything that is wrong with it, before it runs.
//!
//! [`Program::check`](crate::Program::check) says what kube-apiserver says of a validation rule, and stops at the first
//! mistake. This module is for people who write templates: every mistake is found, each with its place and what to do
//! about it, and fields that may be absent are followed through `has()`.

mod facts;
mod infer;
mod signatures;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::Program;
use crate::error::{CompileError, Position};
use crate::shape::{Kind, Shape};

/// The type of a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// Not known before the value is there.
    Dyn,
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Int,
    /// A whole number without a sign.
    Uint,
    /// A number with a fraction.
    Double,
    /// A text.
    String,
    /// Bytes.
    Bytes,
    /// A point in time.
    Timestamp,
    /// A span of time.
    Duration,
    /// A list of items of a type.
    List(Arc<Type>),
    /// A map from free texts to values of a type.
    Map(Arc<Type>),
    /// A map with declared fields.
    Object(Arc<Object>),
    /// A value that may be absent.
    Optional(Arc<Type>),
    /// A type.
    Type,
    /// A type of a library, such as a quantity or an address; only functions know what to do with it.
    Opaque(&'static str),
}

/// The type of a map with declared fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object {
    /// The fields.
    pub fields: BTreeMap<String, Field>,
    /// Whether there may be others.
    pub open: bool,
}

/// A declared field.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Type of its value.
    pub type_: Type,
    /// Whether it may be absent, so that `has()` must be asked first.
    pub optional: bool,
}

impl Type {
    /// A list of items of this type.
    #[must_use]
    pub fn list(item: Self) -> Self {
        Self::List(Arc::new(item))
    }

    /// A map with values of this type.
    #[must_use]
    pub fn map(value: Self) -> Self {
        Self::Map(Arc::new(value))
    }

    /// A value of this type, or none.
    #[must_use]
    pub fn optional(value: Self) -> Self {
        Self::Optional(Arc::new(value))
    }

    /// An object whose fields are always there; those whose names end in `?` may be absent.
    #[must_use]
    pub fn object<'a>(fields: impl IntoIterator<Item = (&'a str, Self)>) -> Self {
        let fields = fields
            .into_iter()
            .map(|(name, type_)| {
                let field = Field {
                    type_,
                    optional: name.ends_with('?'),
                };
                (name.trim_end_matches('?').to_owned(), field)
            })
            .collect();
        Self::Object(Arc::new(Object { fields, open: false }))
    }

    /// Whether it can be written into a text.
    #[must_use]
    pub fn is_scalar(&self) -> bool {
        matches!(
            self,
            Self::Bool | Self::Int | Self::Uint | Self::Double | Self::String
        )
    }

    /// Whether values of both types can be the same value.
    #[must_use]
    pub fn fits(&self, other: &Self) -> bool {
        infer::comparable(self, other)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dyn => f.write_str("any"),
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Duration => f.write_str("duration"),
            Self::List(item) => write!(f, "list({item})"),
            Self::Map(value) => write!(f, "map({value})"),
            Self::Object(_) => f.write_str("object"),
            Self::Optional(value) => write!(f, "optional({value})"),
            Self::Type => f.write_str("type"),
            Self::Opaque(name) => f.write_str(name),
        }
    }
}

/// A type is also a shape, so that a value is evaluated as what it was checked as.
impl Shape for Type {
    fn kind(&self) -> Kind {
        match self {
            Self::Bool => Kind::Bool,
            Self::Int | Self::Uint => Kind::Int,
            Self::Double => Kind::Double,
            Self::String => Kind::String,
            Self::List(_) => Kind::List,
            Self::Map(_) => Kind::Map,
            Self::Object(object) if !object.open => Kind::Object,
            _ => Kind::Dyn,
        }
    }

    fn field(&self, name: &str) -> Option<&dyn Shape> {
        match self {
            Self::Object(object) => object.fields.get(name).map(|f| &f.type_ as &dyn Shape),
            _ => None,
        }
    }

    fn element(&self) -> Option<&dyn Shape> {
        match self {
            Self::List(of) | Self::Map(of) => Some(of.as_ref()),
            _ => None,
        }
    }
}

/// The variables that an expression sees, and what is known of them.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    variables: BTreeMap<String, Type>,
    present: BTreeSet<String>,
}

impl Scope {
    /// No variables.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a variable, or gives it another type.
    pub fn add(&mut self, name: impl Into<String>, type_: Type) -> &mut Self {
        self.variables.insert(name.into(), type_);
        self
    }

    /// The type of a variable.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Type> {
        self.variables.get(name)
    }

    /// The variables, by name.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &Type)> {
        self.variables.iter().map(|(n, t)| (n.as_str(), t))
    }

    /// Takes for granted that a program of this scope gave `true`: fields that it asked `has()` for are there.
    pub fn assume(&mut self, program: &Program) {
        self.present.extend(facts::when(program, &program.root, true));
    }
}

/// Something that is wrong with an expression, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// What is wrong.
    pub message: String,
    /// What to do, if that can be said.
    pub help: Option<String>,
    /// Where, if that can be said.
    pub position: Option<Position>,
    /// The line at that place.
    pub line: String,
}

impl Mistake {
    fn at(source: &str, offset: usize, message: String, help: Option<String>) -> Self {
        let CompileError { position, line, .. } = CompileError::at(source, offset, "");
        Self {
            message,
            help,
            position,
            line,
        }
    }

    /// The mistake of a whole expression, such as a result of the wrong type.
    #[must_use]
    pub fn whole(source: &str, message: impl Into<String>, help: Option<String>) -> Self {
        let start = source.len() - source.trim_start().len();
        Self::at(source, start, message.into(), help)
    }

    /// The mistake of an expression that cannot be compiled.
    #[must_use]
    pub fn of_compile(error: &CompileError) -> Self {
        let mut position = error.position;
        let (message, help) = match &error.unknown {
            Some((name, is_member)) => {
                // The parser's place of a call is its bracket; people look for the name.
                let short = name.rsplit('.').next().unwrap_or(name);
                if let Some(position) = &mut position {
                    let column = position.column.saturating_sub(1);
                    let before: String = error.line.chars().take(column).collect();
                    if error.line.chars().nth(column) == Some('(') && before.ends_with(short) {
                        position.column -= short.chars().count();
                    }
                }
                signatures::unknown(name, *is_member)
            }
            None => (plain(&error.message), None),
        };
        Self {
            message,
            help,
            position,
            line: error.line.clone(),
        }
    }

    /// The message, and below it the line with a caret and the help:
    ///
    /// ```text
    /// no field "replica"
    ///     parameters.replica + 1
    ///                ^ did you mean "replicas"?
    /// ```
    #[must_use]
    pub fn render(&self) -> String {
        let help = self.help.as_deref().unwrap_or_default();
        match self.position {
            None if help.is_empty() => self.message.clone(),
            None => format!("{} ({help})", self.message),
            Some(Position { column, .. }) => {
                let text = format!(
                    "{}\n    {}\n    {}^ {help}",
                    self.message,
                    self.line,
                    " ".repeat(column.saturating_sub(1))
                );
                text.trim_end().to_owned()
            }
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render())
    }
}

/// A parser's message without what only its author understands.
fn plain(message: &str) -> String {
    let Some(rest) = message.strip_prefix("Syntax error: ") else {
        return message.to_owned();
    };
    if rest.contains("'<EOF>' expecting") {
        return "syntax error: the expression ends too early".to_owned();
    }
    let (what, _) = rest.split_once(" expecting ").unwrap_or((rest, ""));
    format!("syntax error: {what}")
}

/// What is known of an expression before it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// The type of its value.
    pub type_: Type,
    /// Everything that is wrong with it, in the order of its text.
    pub mistakes: Vec<Mistake>,
}

impl Program {
    /// Finds out the type of the program's value, and all its mistakes.
    #[must_use]
    pub fn check_types(&self, scope: &Scope) -> Checked {
        infer::check(self, scope)
    }
}

/// Of some names the one that was probably meant: equal but for case, or a few letters off.
#[must_use]
pub fn closest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let limit = (name.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (distance(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, candidate)| (*distance, *candidate))
        .map(|(_, candidate)| candidate)
}

/// How many letters must be added, removed, changed or swapped with their neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1)
                .min(row[j - 1] + 1)
                .min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows.last()
        .and_then(|row| row.last())
        .copied()
        .unwrap_or_default()
}

/// `did you mean "x"?`, or else the names that there are.
pub(crate) fn suggestion<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let all: Vec<&str> = candidates.into_iter().collect();
    if let Some(close) = closest(name, all.iter().copied()) {
        return Some(format!("did you mean {close:?}?"));
    }
    match all.len() {
        0 => Some("there is none".to_owned()),
        1..=12 => Some(format!("there is {}", all.join(", "))),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
