//! Functions on quantities, and those that quantities share with versions.

use std::cmp::Ordering;

use super::{Function, Result, global, member, text};
use crate::error::EvalError;
use crate::quantity::Quantity;
use crate::value::Val;

pub(super) const FUNCTIONS: &[Function] = &[
    global("quantity", 1, "kubernetes.Quantity", |_, args| match &args[0] {
        Val::Quantity(q) => Ok(Val::Quantity(*q)),
        other => text(other)?
            .parse()
            .map(Val::Quantity)
            .map_err(|e: crate::QuantityError| EvalError::other(e.to_string())),
    }),
    global("isQuantity", 1, "bool", |_, args| {
        Ok(Val::Bool(text(&args[0])?.parse::<Quantity>().is_ok()))
    }),
    global("sign", 1, "int", |_, args| {
        Ok(Val::Int(quantity(&args[0])?.sign()))
    }),
    member("sign", 1, "int", |_, args| {
        Ok(Val::Int(quantity(&args[0])?.sign()))
    }),
    member("isInteger", 1, "bool", |_, args| {
        Ok(Val::Bool(quantity(&args[0])?.as_integer().is_some()))
    }),
    member("asInteger", 1, "int", |_, args| {
        let whole = quantity(&args[0])?.as_integer();
        whole
            .map(Val::Int)
            .ok_or_else(|| EvalError::other("cannot convert value to integer"))
    }),
    member("asApproximateFloat", 1, "double", |_, args| {
        Ok(Val::Double(quantity(&args[0])?.as_f64()))
    }),
    member("add", 2, "kubernetes.Quantity", |_, args| {
        combine(args, Quantity::checked_add)
    }),
    member("sub", 2, "kubernetes.Quantity", |_, args| {
        combine(args, Quantity::checked_sub)
    }),
    member("isGreaterThan", 2, "bool", |_, args| {
        Ok(Val::Bool(order(args)? == Ordering::Greater))
    }),
    member("isLessThan", 2, "bool", |_, args| {
        Ok(Val::Bool(order(args)? == Ordering::Less))
    }),
    member("compareTo", 2, "int", |_, args| Ok(Val::Int(order(args)? as i64))),
];

fn quantity(value: &Val<'_>) -> Result<Quantity> {
    match value {
        Val::Quantity(q) => Ok(*q),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn combine<'a>(args: &[Val<'a>], with: fn(Quantity, Quantity) -> Option<Quantity>) -> Result<Val<'a>> {
    let other = match &args[1] {
        Val::Int(i) => Quantity::from_integer(*i),
        other => quantity(other)?,
    };
    with(quantity(&args[0])?, other)
        .map(Val::Quantity)
        .ok_or_else(|| EvalError::other("quantity overflow"))
}

fn order(args: &[Val<'_>]) -> Result<Ordering> {
    match (&args[0], &args[1]) {
        (Val::Quantity(a), Val::Quantity(b)) => Ok(a.cmp(b)),
        (Val::Semver(a), Val::Semver(b)) => Ok(a.cmp(b)),
        _ => Err(EvalError::no_such_overload()),
    }
}
