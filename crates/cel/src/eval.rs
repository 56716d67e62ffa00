//! The evaluator.
//!
//! Every node and every item costs; an evaluation ends when its budget does. Memory is bounded with it, since whatever an
//! expression makes it pays for.

use std::collections::BTreeMap;
use std::rc::Rc;

use jiff::SignedDuration;

use crate::error::{EvalError, EvalErrorKind};
use crate::functions::{Cost, lists};
use crate::node::{Field, Literal, Macro, MacroKind, Node, NodeKind};
use crate::shape::ListSemantics;
use crate::value::{Key, Val};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
}

type Result<T> = std::result::Result<T, EvalError>;

/// What making a list, and a map, costs.
const LIST_COST: u64 = 10;
const MAP_COST: u64 = 30;

pub(crate) struct Evaluator<'a, 'p> {
    pub(crate) globals: &'p [Option<Val<'a>>],
    pub(crate) names: &'p [String],
    pub(crate) locals: Vec<Val<'a>>,
    pub(crate) cost: Cost,
}

impl<'a> Evaluator<'a, '_> {
    pub(crate) fn eval(&mut self, node: &'a Node) -> Result<Val<'a>> {
        match &node.kind {
            NodeKind::Literal(literal) => Ok(match literal {
                Literal::Null => Val::Null,
                Literal::Bool(b) => Val::Bool(*b),
                Literal::Int(i) => Val::Int(*i),
                Literal::UInt(u) => Val::UInt(*u),
                Literal::Double(d) => Val::Double(*d),
                Literal::String(s) => Val::Str(s),
                Literal::Bytes(b) => Val::Bytes(Rc::from(&b[..])),
            }),
            NodeKind::Type(name) => Ok(Val::Type(name)),
            NodeKind::Global(at) => {
                self.cost.charge(1)?;
                match self.globals.get(*at) {
                    Some(Some(value)) => Ok(value.clone()),
                    _ => {
                        let name = self.names.get(*at).map_or("", String::as_str);
                        Err(EvalError::other(format!("no such attribute(s): {name}")))
                    }
                }
            }
            NodeKind::Local(at) => {
                self.cost.charge(1)?;
                self.locals
                    .get(*at)
                    .cloned()
                    .ok_or_else(|| EvalError::other("no such variable"))
            }
            NodeKind::Select {
                operand,
                field,
                optional,
            } => {
                let operand = self.eval(operand)?;
                self.cost.charge(1)?;
                select(&operand, field, *optional)
            }
            NodeKind::Has { operand, field } => {
                let operand = self.eval(operand)?;
                has(&operand, field).map(Val::Bool)
            }
            NodeKind::Index {
                operand,
                index,
                optional,
            } => {
                let operand = self.eval(operand)?;
                let index = self.eval(index)?;
                self.cost.charge(1)?;
                at_index(&operand, &index, *optional)
            }
            NodeKind::And(terms) => self.logical(terms, false),
            NodeKind::Or(terms) => self.logical(terms, true),
            NodeKind::Not(operand) => match self.eval(operand)? {
                Val::Bool(b) => {
                    self.cost.charge(1)?;
                    Ok(Val::Bool(!b))
                }
                _ => Err(EvalError::no_such_overload()),
            },
            NodeKind::Negate(operand) => match self.eval(operand)? {
                Val::Int(i) => i
                    .checked_neg()
                    .map(Val::Int)
                    .ok_or_else(|| EvalError::other("integer overflow")),
                Val::Double(d) => Ok(Val::Double(-d)),
                Val::Duration(d) => Ok(Val::Duration(-d)),
                _ => Err(EvalError::no_such_overload()),
            },
            NodeKind::Conditional(parts) => {
                let [condition, then, otherwise] = parts.as_ref();
                match self.eval(condition)? {
                    Val::Bool(true) => self.eval(then),
                    Val::Bool(false) => self.eval(otherwise),
                    _ => Err(EvalError::no_such_overload()),
                }
            }
            NodeKind::Operator(operator, operands) => {
                let [left, right] = operands.as_ref();
                let left = self.eval(left)?;
                let right = self.eval(right)?;
                self.operator(*operator, &left, &right)
            }
            NodeKind::Call { function, args } => {
                let mut values = Vec::with_capacity(args.len());
                for arg in args {
                    values.push(self.eval(arg)?);
                }
                self.cost.charge(1)?;
                (function.0.body)(&mut self.cost, &values)
            }
            NodeKind::List(items) => {
                self.cost.charge(LIST_COST + items.len() as u64)?;
                let mut list = Vec::with_capacity(items.len());
                for (item, optional) in items {
                    match (self.eval(item)?, optional) {
                        (Val::Optional(None), true) => {}
                        (Val::Optional(Some(value)), true) => list.push(value.as_ref().clone()),
                        (_, true) => return Err(EvalError::no_such_overload()),
                        (value, false) => list.push(value),
                    }
                }
                Ok(Val::list(list))
            }
            NodeKind::Map(entries) => {
                self.cost.charge(MAP_COST + entries.len() as u64)?;
                let mut map = BTreeMap::new();
                for (key, value, optional) in entries {
                    let key = Key::of(&self.eval(key)?)?;
                    let value = match (self.eval(value)?, optional) {
                        (Val::Optional(None), true) => continue,
                        (Val::Optional(Some(value)), true) => value.as_ref().clone(),
                        (_, true) => return Err(EvalError::no_such_overload()),
                        (value, false) => value,
                    };
                    if map.insert(key, value).is_some() {
                        return Err(EvalError::other("insert failed: duplicate key"));
                    }
                }
                Ok(Val::Map(Rc::new(map)))
            }
            NodeKind::Macro(m) => self.comprehension(m),
        }
    }

    /// `&&` and `||`: a term that decides hides errors of the others, whichever comes first.
    fn logical(&mut self, terms: &'a [Node], decides: bool) -> Result<Val<'a>> {
        let mut error = None;
        for term in terms {
            match self.eval(term) {
                Ok(Val::Bool(b)) if b == decides => return Ok(Val::Bool(b)),
                Ok(Val::Bool(_)) => {}
                Ok(_) => error = error.or_else(|| Some(EvalError::no_such_overload())),
                Err(e) if e.kind == EvalErrorKind::CostLimit => return Err(e),
                Err(e) => error = error.or(Some(e)),
            }
        }
        error.map_or(Ok(Val::Bool(!decides)), Err)
    }

    fn operator(&mut self, operator: Operator, left: &Val<'a>, right: &Val<'a>) -> Result<Val<'a>> {
        use std::cmp::Ordering::{Equal, Greater, Less};
        let weight = left.weight().min(right.weight());
        Ok(Val::Bool(match operator {
            Operator::Equal | Operator::NotEqual => {
                self.cost.charge(deep_weight(left).min(deep_weight(right)))?;
                left.equals(right) == (operator == Operator::Equal)
            }
            Operator::Less | Operator::LessEqual | Operator::Greater | Operator::GreaterEqual => {
                self.cost.charge(weight)?;
                let order = left.compare(right)?;
                match operator {
                    Operator::Less => order == Some(Less),
                    Operator::LessEqual => matches!(order, Some(Less | Equal)),
                    Operator::Greater => order == Some(Greater),
                    _ => matches!(order, Some(Greater | Equal)),
                }
            }
            Operator::In => {
                return match right {
                    Val::JsonMap(_) | Val::Map(_) => {
                        self.cost.charge(1)?;
                        right.index(left).map(|found| Val::Bool(found.is_some()))
                    }
                    _ => {
                        let items = right.items().ok_or_else(EvalError::no_such_overload)?;
                        self.cost.charge(right.weight())?;
                        Ok(Val::Bool(items.into_iter().any(|item| item.equals(left))))
                    }
                };
            }
            Operator::Add if left.as_str().is_some() || left.items().is_some() => {
                self.cost.charge(left.weight() + right.weight())?;
                return concatenate(&mut self.cost, left, right);
            }
            _ => {
                self.cost.charge(1)?;
                return arithmetic(operator, left, right);
            }
        }))
    }

    fn comprehension(&mut self, m: &'a Macro) -> Result<Val<'a>> {
        let range = self.eval(&m.range)?;
        let depth = self.locals.len();
        // Macros that are not over items leave unused slots, so that slots always fit.
        self.locals.resize(m.slot, Val::Null);
        let result = self.run(m, &range);
        self.locals.truncate(depth);
        result
    }

    fn with<T>(
        &mut self,
        m: &Macro,
        first: Val<'a>,
        second: Option<Val<'a>>,
        run: impl FnOnce(&mut Self) -> T,
    ) -> T {
        self.locals.truncate(m.slot);
        self.locals.push(first);
        self.locals.extend(second);
        run(self)
    }

    fn run(&mut self, m: &'a Macro, range: &Val<'a>) -> Result<Val<'a>> {
        match m.kind {
            MacroKind::Bind => return self.with(m, range.clone(), None, |e| e.eval(&m.body)),
            MacroKind::OptMap | MacroKind::OptFlatMap => {
                let Val::Optional(inner) = range else {
                    return Err(EvalError::no_such_overload());
                };
                let Some(inner) = inner else {
                    return Ok(Val::Optional(None));
                };
                let value = self.with(m, inner.as_ref().clone(), None, |e| e.eval(&m.body))?;
                return match (m.kind, value) {
                    (MacroKind::OptMap, value) => Ok(Val::some(value)),
                    (_, value @ Val::Optional(_)) => Ok(value),
                    _ => Err(EvalError::no_such_overload()),
                };
            }
            _ => {}
        }
        let mut list = Vec::new();
        let mut keys = Vec::new();
        let mut map = BTreeMap::new();
        let mut count = 0_usize;
        let mut error = None;
        for (key, value) in pairs(range, m.two)? {
            self.cost.charge(1)?;
            let item = value.clone().unwrap_or_else(|| key.clone());
            let (first, second) = if m.two {
                (key.clone(), value)
            } else {
                (item.clone(), None)
            };
            let taken = self.with(m, first, second, |e| -> Result<Option<Val<'a>>> {
                if let Some(filter) = &m.filter {
                    match e.eval(filter)? {
                        Val::Bool(true) => {}
                        Val::Bool(false) => return Ok(None),
                        _ => return Err(EvalError::no_such_overload()),
                    }
                }
                e.eval(&m.body).map(Some)
            });
            let value = match taken {
                Ok(Some(value)) => value,
                Ok(None) => continue,
                // A later item may still decide, and then hides this error.
                Err(e)
                    if matches!(m.kind, MacroKind::All | MacroKind::Exists)
                        && e.kind != EvalErrorKind::CostLimit =>
                {
                    error = error.or(Some(e));
                    continue;
                }
                Err(e) => return Err(e),
            };
            match (m.kind, value) {
                (MacroKind::All, Val::Bool(false)) => return Ok(Val::Bool(false)),
                (MacroKind::Exists, Val::Bool(true)) => return Ok(Val::Bool(true)),
                (MacroKind::All | MacroKind::Exists, Val::Bool(_)) => {}
                (MacroKind::All | MacroKind::Exists, _) => {
                    error = error.or_else(|| Some(EvalError::no_such_overload()));
                }
                (MacroKind::ExistsOne, Val::Bool(b)) => count += usize::from(b),
                (MacroKind::Filter, Val::Bool(true)) => list.push(item),
                (MacroKind::Filter, Val::Bool(false)) => {}
                (MacroKind::ExistsOne | MacroKind::Filter, _) => return Err(EvalError::no_such_overload()),
                (MacroKind::Map | MacroKind::TransformList, value) => list.push(value),
                (MacroKind::SortBy, value) => {
                    list.push(item);
                    keys.push(value);
                }
                (MacroKind::TransformMap, value) => {
                    map.insert(Key::of(&key)?, value);
                }
                (MacroKind::TransformMapEntry, value) => {
                    for (key, value) in value.entries() {
                        if map.insert(Key::of(&key)?, value).is_some() {
                            return Err(EvalError::other("insert failed: duplicate key"));
                        }
                    }
                }
                (MacroKind::Bind | MacroKind::OptMap | MacroKind::OptFlatMap, _) => {}
            }
        }
        match m.kind {
            MacroKind::All => error.map_or(Ok(Val::Bool(true)), Err),
            MacroKind::Exists => error.map_or(Ok(Val::Bool(false)), Err),
            MacroKind::ExistsOne => Ok(Val::Bool(count == 1)),
            MacroKind::SortBy => lists::sort_by_keys(&mut self.cost, list, &keys),
            MacroKind::TransformMap | MacroKind::TransformMapEntry => Ok(Val::Map(Rc::new(map))),
            _ => Ok(Val::list(list)),
        }
    }
}

/// The items of a range with their indices, or a map's keys with their values.
///
/// With one variable a map gives its keys alone: a value is then absent.
fn pairs<'a>(range: &Val<'a>, two: bool) -> Result<Vec<(Val<'a>, Option<Val<'a>>)>> {
    if let Some(items) = range.items() {
        let index = |i: usize| Val::Int(i64::try_from(i).unwrap_or(i64::MAX));
        return Ok(items
            .enumerate()
            .map(|(i, item)| (index(i), Some(item)))
            .collect());
    }
    match range {
        Val::JsonMap(_) | Val::Map(_) => Ok(range
            .entries()
            .into_iter()
            .map(|(key, value)| (key, two.then_some(value)))
            .collect()),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn lookup<'a>(operand: &Val<'a>, field: &Field) -> Result<Option<Val<'a>>> {
    match operand {
        Val::JsonMap(_) | Val::Map(_) => Ok(operand.get_named(&field.name).or_else(|| {
            let name = field.unescaped.as_deref()?;
            operand.get_named(name)
        })),
        Val::Access(access) if &*field.name == "requestResource" => Ok(access.of_request()),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn select<'a>(operand: &Val<'a>, field: &Field, optional: bool) -> Result<Val<'a>> {
    match operand {
        // A selection from an optional value is one itself.
        Val::Optional(None) => Ok(Val::Optional(None)),
        Val::Optional(Some(inner)) => Ok(Val::Optional(lookup(inner, field)?.map(Rc::new))),
        _ if optional => Ok(Val::Optional(lookup(operand, field)?.map(Rc::new))),
        _ => lookup(operand, field)?.ok_or_else(|| EvalError::no_such_key(&field.name)),
    }
}

fn has(operand: &Val<'_>, field: &Field) -> Result<bool> {
    match operand {
        Val::Optional(None) => Ok(false),
        Val::Optional(Some(inner)) => has(inner, field),
        _ => lookup(operand, field).map(|found| found.is_some()),
    }
}

fn at_index<'a>(operand: &Val<'a>, index: &Val<'a>, optional: bool) -> Result<Val<'a>> {
    match operand {
        Val::Optional(None) => Ok(Val::Optional(None)),
        Val::Optional(Some(inner)) => Ok(Val::Optional(inner.index(index)?.map(Rc::new))),
        _ if optional => Ok(Val::Optional(operand.index(index)?.map(Rc::new))),
        _ => operand.index(index)?.ok_or_else(|| {
            let shown = index.text().unwrap_or_default();
            if operand.items().is_some() {
                EvalError::other(format!("index out of bounds: {shown}"))
            } else {
                EvalError::no_such_key(&shown)
            }
        }),
    }
}

/// What it costs to compare a value as a whole, looking into nested values up to a point.
pub(crate) fn deep_weight(value: &Val<'_>) -> u64 {
    fn json(value: &serde_json::Value, budget: &mut u64) -> u64 {
        if *budget == 0 {
            return 0;
        }
        *budget -= 1;
        match value {
            serde_json::Value::String(s) => s.len() as u64 / 10 + 1,
            serde_json::Value::Array(items) => 1 + items.iter().map(|v| json(v, budget)).sum::<u64>(),
            serde_json::Value::Object(map) => 1 + map.values().map(|v| json(v, budget)).sum::<u64>(),
            _ => 1,
        }
    }
    // One budget for all: lists that are made of the same list many times over are small but look large.
    fn deep(value: &Val<'_>, budget: &mut u64) -> u64 {
        if *budget == 0 {
            return 0;
        }
        *budget -= 1;
        match value {
            Val::JsonList(list) => list.data.iter().map(|v| json(v, budget)).sum::<u64>() + 1,
            Val::JsonMap(map) => map.data.values().map(|v| json(v, budget)).sum::<u64>() + 1,
            Val::List(items) => items.iter().map(|v| deep(v, budget)).sum::<u64>() + 1,
            Val::Map(map) => map.values().map(|v| deep(v, budget)).sum::<u64>() + 1,
            other => other.weight(),
        }
    }
    deep(value, &mut 10_000)
}

fn concatenate<'a>(cost: &mut Cost, left: &Val<'a>, right: &Val<'a>) -> Result<Val<'a>> {
    if let (Some(a), Some(b)) = (left.as_str(), right.as_str()) {
        let mut text = String::with_capacity(a.len() + b.len());
        text.push_str(a);
        text.push_str(b);
        return Ok(Val::string(text));
    }
    let (Some(a), Some(b)) = (left.items(), right.items()) else {
        return Err(EvalError::no_such_overload());
    };
    let mut items: Vec<Val<'a>> = a.collect();
    match left.semantics() {
        ListSemantics::Atomic => items.extend(b),
        ListSemantics::Set => {
            for item in b {
                cost.charge(items.len() as u64 / 4 + 1)?;
                if !items.iter().any(|i| i.equals(&item)) {
                    items.push(item);
                }
            }
        }
        ListSemantics::Map(keys) => {
            for item in b {
                cost.charge(items.len() as u64 / 4 + 1)?;
                let same = |other: &Val<'a>| {
                    keys.iter()
                        .all(|key| match (item.get_named(key), other.get_named(key)) {
                            (Some(a), Some(b)) => a.equals(&b),
                            (None, None) => true,
                            _ => false,
                        })
                };
                match items.iter().position(same) {
                    Some(at) => items[at] = item,
                    None => items.push(item),
                }
            }
        }
    }
    Ok(Val::list(items))
}

/// Arithmetic of whole numbers, signed or not: none on overflow.
macro_rules! whole {
    ($a:expr, $b:expr, $operator:expr) => {
        match $operator {
            Operator::Divide if *$b == 0 => return Err(EvalError::other("division by zero")),
            Operator::Modulo if *$b == 0 => return Err(EvalError::other("modulus by zero")),
            Operator::Add => $a.checked_add(*$b),
            Operator::Subtract => $a.checked_sub(*$b),
            Operator::Multiply => $a.checked_mul(*$b),
            Operator::Divide => $a.checked_div(*$b),
            Operator::Modulo => $a.checked_rem(*$b),
            _ => return Err(EvalError::no_such_overload()),
        }
    };
}

pub(crate) fn arithmetic<'a>(operator: Operator, left: &Val<'a>, right: &Val<'a>) -> Result<Val<'a>> {
    use Operator::{Add, Divide, Multiply, Subtract};
    let overflow = |what: &str| EvalError::other(format!("{what} overflow"));
    match (left, right) {
        (Val::Int(a), Val::Int(b)) => whole!(a, b, operator)
            .map(Val::Int)
            .ok_or_else(|| overflow("integer")),
        (Val::UInt(a), Val::UInt(b)) => whole!(a, b, operator)
            .map(Val::UInt)
            .ok_or_else(|| overflow("unsigned integer")),
        (Val::Double(a), Val::Double(b)) => Ok(Val::Double(match operator {
            Add => a + b,
            Subtract => a - b,
            Multiply => a * b,
            Divide => a / b,
            _ => return Err(EvalError::no_such_overload()),
        })),
        (Val::Str(_) | Val::String(_), _) if operator == Add => match (left.as_str(), right.as_str()) {
            (Some(a), Some(b)) => Ok(Val::string(format!("{a}{b}"))),
            _ => Err(EvalError::no_such_overload()),
        },
        (Val::Bytes(a), Val::Bytes(b)) if operator == Add => Ok(Val::Bytes([&a[..], &b[..]].concat().into())),
        (Val::Timestamp(t), Val::Duration(d)) | (Val::Duration(d), Val::Timestamp(t)) if operator == Add => t
            .checked_add(*d)
            .map(Val::Timestamp)
            .map_err(|_| overflow("timestamp")),
        (Val::Timestamp(t), Val::Duration(d)) if operator == Subtract => t
            .checked_sub(*d)
            .map(Val::Timestamp)
            .map_err(|_| overflow("timestamp")),
        (Val::Timestamp(a), Val::Timestamp(b)) if operator == Subtract => Ok(Val::Duration(
            SignedDuration::from_nanos_i128(a.as_nanosecond() - b.as_nanosecond()),
        )),
        (Val::Duration(a), Val::Duration(b)) => {
            let result = match operator {
                Add => a.checked_add(*b),
                Subtract => a.checked_sub(*b),
                _ => return Err(EvalError::no_such_overload()),
            };
            result.map(Val::Duration).ok_or_else(|| overflow("duration"))
        }
        _ => Err(EvalError::no_such_overload()),
    }
}
