//! Functions on optional values.

use super::{Cost, Function, Result, global, items, member};
use crate::error::EvalError;
use crate::value::Val;

pub(super) const FUNCTIONS: &[Function] = &[
    global("optional.of", 1, "optional_type", |_, args| {
        Ok(Val::some(args[0].clone()))
    }),
    global("optional.none", 0, "optional_type", |_, _| {
        Ok(Val::Optional(None))
    }),
    global("optional.ofNonZeroValue", 1, "optional_type", |_, args| {
        Ok(if is_zero(&args[0]) {
            Val::Optional(None)
        } else {
            Val::some(args[0].clone())
        })
    }),
    member("hasValue", 1, "bool", |_, args| {
        Ok(Val::Bool(inner(&args[0])?.is_some()))
    }),
    member("value", 1, "", |_, args| {
        inner(&args[0])?
            .cloned()
            .ok_or_else(|| EvalError::other("optional.none() dereference"))
    }),
    member("orValue", 2, "", |_, args| {
        Ok(inner(&args[0])?.unwrap_or(&args[1]).clone())
    }),
    member("or", 2, "optional_type", |_, args| {
        inner(&args[1])?;
        Ok(if inner(&args[0])?.is_some() {
            args[0].clone()
        } else {
            args[1].clone()
        })
    }),
    member("unwrapOpt", 1, "list", |cost, args| present(cost, &args[0])),
    global("optional.unwrap", 1, "list", |cost, args| present(cost, &args[0])),
];

/// The values that are there, of a list of optional ones.
fn present<'a>(cost: &mut Cost, list: &Val<'a>) -> Result<Val<'a>> {
    let all = items(cost, list)?;
    let values: Result<Vec<_>> = all
        .iter()
        .map(inner)
        .filter_map(Result::transpose)
        .map(|v| v.cloned())
        .collect();
    Ok(Val::list(values?))
}

fn inner<'r, 'a>(value: &'r Val<'a>) -> Result<Option<&'r Val<'a>>> {
    match value {
        Val::Optional(inner) => Ok(inner.as_deref()),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn is_zero(value: &Val<'_>) -> bool {
    match value {
        Val::Null | Val::Bool(false) | Val::Int(0) | Val::UInt(0) => true,
        Val::Double(d) => *d == 0.0,
        Val::Duration(d) => d.is_zero(),
        other => other.size() == Some(0),
    }
}
