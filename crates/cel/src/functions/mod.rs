//! The functions that expressions may call: the standard library and the libraries of Kubernetes.
//!
//! A function takes its receiver as its first argument. It charges for work that grows with its arguments.

pub(crate) mod access;
pub(crate) mod convert;
pub(crate) mod format;
pub(crate) mod lists;
pub(crate) mod net;
mod optional;
mod quantities;
pub(crate) mod semver;
mod sets;
mod strings;
mod template;
pub(crate) mod time;

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::Library;
use crate::error::EvalError;
use crate::value::Val;

/// What is left of an evaluation's budget.
#[derive(Debug)]
pub(crate) struct Cost {
    pub(crate) left: u64,
}

impl Cost {
    /// Takes from the budget.
    pub(crate) fn charge(&mut self, amount: u64) -> Result<()> {
        match self.left.checked_sub(amount) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(EvalError::cost_limit())
            }
        }
    }
}

pub(crate) type Result<T> = std::result::Result<T, EvalError>;

pub(crate) type Body = for<'a> fn(&mut Cost, &[Val<'a>]) -> Result<Val<'a>>;

/// A function: its name, how it is called, how many arguments it takes with the receiver, and what it does.
#[derive(Clone, Copy)]
pub(crate) struct Function {
    pub(crate) name: &'static str,
    style: Style,
    pub(crate) min: usize,
    pub(crate) max: usize,
    pub(crate) body: Body,
    /// The type of the result where it is always the same, for checks before evaluation.
    pub(crate) result: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Global,
    Member,
}

pub(crate) const fn global(name: &'static str, args: usize, result: &'static str, body: Body) -> Function {
    Function {
        name,
        style: Style::Global,
        min: args,
        max: args,
        body,
        result,
    }
}

pub(crate) const fn member(name: &'static str, args: usize, result: &'static str, body: Body) -> Function {
    Function {
        name,
        style: Style::Member,
        min: args,
        max: args,
        body,
        result,
    }
}

impl Function {
    /// The function with up to `max` arguments.
    pub(crate) const fn up_to(mut self, max: usize) -> Self {
        self.max = max;
        self
    }

    /// Whether it is called on a receiver.
    pub(crate) const fn is_member(&self) -> bool {
        matches!(self.style, Style::Member)
    }

    pub(crate) const fn takes(&self, args: usize) -> bool {
        self.min <= args && args <= self.max
    }
}

type Table = HashMap<&'static str, Function>;

fn table(style: Style) -> Table {
    [
        convert::FUNCTIONS,
        format::FUNCTIONS,
        lists::FUNCTIONS,
        net::FUNCTIONS,
        optional::FUNCTIONS,
        quantities::FUNCTIONS,
        semver::FUNCTIONS,
        sets::FUNCTIONS,
        strings::FUNCTIONS,
        time::FUNCTIONS,
    ]
    .into_iter()
    .flatten()
    .filter(|f| f.style == style)
    .map(|f| (f.name, *f))
    .collect()
}

fn admission(style: Style) -> Table {
    let of_style = access::FUNCTIONS.iter().filter(|f| f.style == style);
    of_style.map(|f| (f.name, *f)).collect()
}

static TEMPLATE: LazyLock<Table> =
    LazyLock::new(|| template::FUNCTIONS.iter().map(|f| (f.name, *f)).collect());
static ADMISSION_GLOBALS: LazyLock<Table> = LazyLock::new(|| admission(Style::Global));
static ADMISSION_MEMBERS: LazyLock<Table> = LazyLock::new(|| admission(Style::Member));
static GLOBALS: LazyLock<Table> = LazyLock::new(|| table(Style::Global));
static MEMBERS: LazyLock<Table> = LazyLock::new(|| table(Style::Member));

/// The function of this name, called on a receiver or not.
pub(crate) fn find(library: Library, name: &str, is_member: bool) -> Option<&'static Function> {
    if library == Library::Admission {
        let own = if is_member {
            ADMISSION_MEMBERS.get(name)
        } else {
            ADMISSION_GLOBALS.get(name)
        };
        if own.is_some() {
            return own;
        }
    }
    if is_member {
        MEMBERS.get(name)
    } else if let (Library::Templates, Some(function)) = (library, TEMPLATE.get(name)) {
        Some(function)
    } else {
        GLOBALS.get(name)
    }
}

/// Every function that templates may call.
pub(crate) fn all() -> impl Iterator<Item = &'static Function> {
    GLOBALS.values().chain(MEMBERS.values()).chain(TEMPLATE.values())
}

/// Whether functions such as `name.of()` exist.
pub(crate) fn is_namespace(name: &str) -> bool {
    matches!(
        name,
        "optional" | "sets" | "lists" | "strings" | "ip" | "format" | "base64" | "math" | "jsonpatch"
    )
}

/// The text of an argument.
pub(crate) fn text<'r>(value: &'r Val<'_>) -> Result<&'r str> {
    value.as_str().ok_or_else(EvalError::no_such_overload)
}

/// The integer of an argument.
pub(crate) fn int(value: &Val<'_>) -> Result<i64> {
    match value {
        Val::Int(i) => Ok(*i),
        _ => Err(EvalError::no_such_overload()),
    }
}

/// The items of an argument that is a list.
pub(crate) fn items<'a>(cost: &mut Cost, value: &Val<'a>) -> Result<Vec<Val<'a>>> {
    let items = value.items().ok_or_else(EvalError::no_such_overload)?;
    cost.charge(value.weight())?;
    Ok(items.collect())
}
