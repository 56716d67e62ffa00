//! Functions that take lists for sets.

use super::{Cost, Function, Result, global, items};
use crate::value::Val;

pub(super) const FUNCTIONS: &[Function] = &[
    global("sets.contains", 2, "bool", |cost, args| {
        let (a, b) = both(cost, args)?;
        Ok(Val::Bool(contains(&a, &b)))
    }),
    global("sets.equivalent", 2, "bool", |cost, args| {
        let (a, b) = both(cost, args)?;
        Ok(Val::Bool(contains(&a, &b) && contains(&b, &a)))
    }),
    global("sets.intersects", 2, "bool", |cost, args| {
        let (a, b) = both(cost, args)?;
        Ok(Val::Bool(a.iter().any(|v| b.iter().any(|w| v.equals(w)))))
    }),
];

fn both<'a>(cost: &mut Cost, args: &[Val<'a>]) -> Result<(Vec<Val<'a>>, Vec<Val<'a>>)> {
    let (a, b) = (items(cost, &args[0])?, items(cost, &args[1])?);
    cost.charge((a.len() as u64).saturating_mul(b.len() as u64))?;
    Ok((a, b))
}

fn contains(a: &[Val<'_>], b: &[Val<'_>]) -> bool {
    b.iter().all(|v| a.iter().any(|w| v.equals(w)))
}
