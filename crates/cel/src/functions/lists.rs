//! Functions on lists: Kubernetes' own and the lists extension.

use std::cmp::Ordering;

use super::{Cost, Function, Result, global, int, items, member};
use crate::error::EvalError;
use crate::value::Val;

/// How long a list `lists.range` and `flatten` may make.
const LENGTH_LIMIT: usize = 1 << 20;

pub(super) const FUNCTIONS: &[Function] = &[
    member("isSorted", 1, "bool", is_sorted),
    member("sum", 1, "", sum),
    member("min", 1, "", |c, a| extreme(c, a, Ordering::Less)),
    member("max", 1, "", |c, a| extreme(c, a, Ordering::Greater)),
    member("includes", 2, "bool", |cost, args| {
        let found = items(cost, &args[0])?.iter().any(|v| v.equals(&args[1]));
        Ok(Val::Bool(found))
    }),
    member("slice", 3, "list", slice),
    member("flatten", 1, "list", flatten).up_to(2),
    member("distinct", 1, "list", distinct),
    member("sort", 1, "list", sort),
    member("first", 1, "optional_type", |cost, args| {
        Ok(Val::Optional(
            items(cost, &args[0])?.into_iter().next().map(std::rc::Rc::new),
        ))
    }),
    member("last", 1, "optional_type", |cost, args| {
        Ok(Val::Optional(items(cost, &args[0])?.pop().map(std::rc::Rc::new)))
    }),
    global("lists.range", 1, "list", range),
];

fn is_sorted<'a>(cost: &mut Cost, args: &[Val<'a>]) -> Result<Val<'a>> {
    let items = items(cost, &args[0])?;
    for pair in items.windows(2) {
        if pair[0].compare(&pair[1])? == Some(Ordering::Greater) {
            return Ok(Val::Bool(false));
        }
    }
    Ok(Val::Bool(true))
}

fn sum<'a>(cost: &mut Cost, args: &[Val<'a>]) -> Result<Val<'a>> {
    let mut items = items(cost, &args[0])?.into_iter();
    let Some(first) = items.next() else {
        return Ok(Val::Int(0));
    };
    items.try_fold(first, |sum, item| {
        crate::eval::arithmetic(crate::eval::Operator::Add, &sum, &item)
    })
}

fn extreme<'a>(cost: &mut Cost, args: &[Val<'a>], wanted: Ordering) -> Result<Val<'a>> {
    let mut items = items(cost, &args[0])?.into_iter();
    let name = if wanted == Ordering::Less { "min" } else { "max" };
    let Some(mut best) = items.next() else {
        return Err(EvalError::other(format!("{name} called on empty list")));
    };
    for item in items {
        if item.compare(&best)? == Some(wanted) {
            best = item;
        }
    }
    Ok(best)
}

pub(super) fn index_of<'a>(cost: &mut Cost, args: &[Val<'a>], last: bool) -> Result<Val<'a>> {
    if args.len() != 2 {
        return Err(EvalError::no_such_overload());
    }
    let items = items(cost, &args[0])?;
    let found = if last {
        items.iter().rposition(|v| v.equals(&args[1]))
    } else {
        items.iter().position(|v| v.equals(&args[1]))
    };
    Ok(Val::Int(found.and_then(|i| i64::try_from(i).ok()).unwrap_or(-1)))
}

fn slice<'a>(cost: &mut Cost, args: &[Val<'a>]) -> Result<Val<'a>> {
    let items = items(cost, &args[0])?;
    let (from, to) = (int(&args[1])?, int(&args[2])?);
    let refuse = |why: &str| EvalError::other(format!("cannot slice({from}, {to}), {why}"));
    let (Ok(start), Ok(end)) = (usize::try_from(from), usize::try_from(to)) else {
        return Err(refuse("negative indexes not supported"));
    };
    if start > end {
        return Err(refuse("start index must be less than or equal to end index"));
    }
    match items.get(start..end) {
        Some(part) => Ok(Val::list(part.to_vec())),
        None => Err(refuse(&format!("list is length {}", items.len()))),
    }
}

fn flatten<'a>(cost: &mut Cost, args: &[Val<'a>]) -> Result<Val<'a>> {
    fn into<'a>(cost: &mut Cost, value: &Val<'a>, depth: i64, out: &mut Vec<Val<'a>>) -> Result<()> {
        for item in items(cost, value)? {
            if depth > 0 && item.items().is_some() {
                into(cost, &item, depth - 1, out)?;
            } else if out.len() >= LENGTH_LIMIT {
                return Err(EvalError::cost_limit());
            } else {
                out.push(item);
            }
        }
        Ok(())
    }
    let depth = args.get(1).map_or(Ok(1), int)?;
    if depth < 0 {
        return Err(EvalError::other("level must be non-negative"));
    }
    let mut out = Vec::new();
    into(cost, &args[0], depth, &mut out)?;
    Ok(Val::list(out))
}

fn distinct<'a>(cost: &mut Cost, args: &[Val<'a>]) -> Result<Val<'a>> {
    let mut out: Vec<Val<'a>> = Vec::new();
    for item in items(cost, &args[0])? {
        cost.charge(out.len() as u64 / 4 + 1)?;
        if !out.iter().any(|seen| seen.equals(&item)) {
            out.push(item);
        }
    }
    Ok(Val::list(out))
}

pub(super) fn reverse<'a>(cost: &mut Cost, args: &[Val<'a>]) -> Result<Val<'a>> {
    let mut items = items(cost, &args[0])?;
    items.reverse();
    Ok(Val::list(items))
}

fn sort<'a>(cost: &mut Cost, args: &[Val<'a>]) -> Result<Val<'a>> {
    let items = items(cost, &args[0])?;
    let keys = items.clone();
    sort_by_keys(cost, items, &keys)
}

/// The items in the order of their keys.
pub(crate) fn sort_by_keys<'a>(cost: &mut Cost, items: Vec<Val<'a>>, keys: &[Val<'a>]) -> Result<Val<'a>> {
    let count = items.len() as u64;
    cost.charge(count.saturating_mul(u64::from(count.max(1).ilog2()) + 1))?;
    if let Some(first) = keys.first() {
        for key in keys {
            // Keys of several types have no order.
            if key.type_name() != first.type_name() {
                return Err(EvalError::other("list elements must have the same type"));
            }
            key.compare(first)?;
        }
    }
    let mut pairs: Vec<(&Val<'a>, Val<'a>)> = keys.iter().zip(items).collect();
    pairs.sort_by(|a, b| a.0.compare(b.0).ok().flatten().unwrap_or(Ordering::Equal));
    Ok(Val::list(pairs.into_iter().map(|(_, item)| item).collect()))
}

fn range<'a>(cost: &mut Cost, args: &[Val<'a>]) -> Result<Val<'a>> {
    let count = int(&args[0])?.max(0);
    let size = usize::try_from(count).unwrap_or(usize::MAX);
    if size > LENGTH_LIMIT {
        return Err(EvalError::cost_limit());
    }
    cost.charge(size as u64 + 1)?;
    Ok(Val::list((0..count).map(Val::Int).collect()))
}
