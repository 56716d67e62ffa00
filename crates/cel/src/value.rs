//! The values of an evaluation.
//!
//! A value borrows what it can: fields of the objects that an expression is evaluated over are never copied.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value as Json;

use crate::error::EvalError;
use crate::functions::Cost;
use crate::functions::access::Access;
use crate::functions::format::NameFormat;
use crate::functions::net::Url;
use crate::functions::semver::Semver;
use crate::quantity::Quantity;
use crate::shape::{Kind, ListSemantics, Shape};

/// A list or map of the input, with its shape.
pub(crate) struct Typed<'a, T: ?Sized> {
    pub(crate) data: &'a T,
    pub(crate) shape: Option<&'a dyn Shape>,
}

impl<T: ?Sized> Clone for Typed<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for Typed<'_, T> {}

impl<'a, T: ?Sized> Typed<'a, T> {
    pub(crate) fn element(&self) -> Option<&'a dyn Shape> {
        self.shape.and_then(Shape::element)
    }
}

#[derive(Clone)]
pub(crate) enum Val<'a> {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Double(f64),
    Str(&'a str),
    String(Rc<str>),
    Bytes(Rc<[u8]>),
    JsonList(Typed<'a, [Json]>),
    JsonMap(Typed<'a, serde_json::Map<String, Json>>),
    List(Rc<Vec<Val<'a>>>),
    Map(Rc<BTreeMap<Key, Val<'a>>>),
    Timestamp(Timestamp),
    Duration(SignedDuration),
    Type(&'static str),
    Optional(Option<Rc<Val<'a>>>),
    Quantity(Quantity),
    Ip(IpAddr),
    Cidr(ipnet::IpNet),
    Url(Rc<Url>),
    Semver(Rc<Semver>),
    Format(&'static NameFormat),
    /// A question to an authorizer, or its answer.
    Access(Rc<Access<'a>>),
}

/// A key of a map that an expression made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Bool(bool),
    Int(i128),
    String(Rc<str>),
}

impl Key {
    pub(crate) fn of(value: &Val<'_>) -> Result<Self, EvalError> {
        Ok(match value {
            Val::Bool(b) => Self::Bool(*b),
            Val::Int(i) => Self::Int(i128::from(*i)),
            Val::UInt(u) => Self::Int(i128::from(*u)),
            #[allow(clippy::cast_possible_truncation)] // whole and in range
            Val::Double(d) if d.fract() == 0.0 && d.abs() < 1e18 => Self::Int(*d as i128),
            Val::Str(s) => Self::String(Rc::from(*s)),
            Val::String(s) => Self::String(s.clone()),
            other => {
                return Err(EvalError::other(format!(
                    "unsupported key type: {}",
                    other.type_name()
                )));
            }
        })
    }

    pub(crate) fn to_val<'a>(&self) -> Val<'a> {
        match self {
            Self::Bool(b) => Val::Bool(*b),
            Self::Int(i) => {
                i64::try_from(*i).map_or_else(|_| Val::UInt(u64::try_from(*i).unwrap_or_default()), Val::Int)
            }
            Self::String(s) => Val::String(s.clone()),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Bool(b) => b.to_string(),
            Self::Int(i) => i.to_string(),
            Self::String(s) => s.to_string(),
        }
    }
}

impl<'a> Val<'a> {
    pub(crate) fn from_json(json: &'a Json, shape: Option<&'a dyn Shape>) -> Self {
        let kind = shape.map_or(Kind::Dyn, Shape::kind);
        match json {
            Json::Null => Val::Null,
            Json::Bool(b) => Val::Bool(*b),
            Json::Number(n) => match (n.as_i64(), kind) {
                (Some(i), Kind::Double) => {
                    #[allow(clippy::cast_precision_loss)] // JSON numbers of this type are doubles
                    Val::Double(i as f64)
                }
                (Some(i), _) => Val::Int(i),
                (None, _) => match n.as_u64() {
                    Some(u) if kind != Kind::Double => Val::UInt(u),
                    _ => {
                        let d = n.as_f64().unwrap_or(f64::NAN);
                        #[allow(clippy::cast_possible_truncation)] // whole and in range
                        if kind == Kind::Int && d.fract() == 0.0 && d.abs() < 9e18 {
                            Val::Int(d as i64)
                        } else {
                            Val::Double(d)
                        }
                    }
                },
            },
            Json::String(s) => match kind {
                Kind::Timestamp => crate::functions::time::parse_timestamp(s)
                    .or_else(|| crate::functions::time::parse_date(s))
                    .map_or(Val::Str(s), Val::Timestamp),
                Kind::Duration => {
                    crate::functions::time::parse_duration(s).map_or(Val::Str(s), Val::Duration)
                }
                Kind::Bytes => {
                    crate::functions::convert::base64_decode(s).map_or(Val::Str(s), |b| Val::Bytes(b.into()))
                }
                _ => Val::Str(s),
            },
            Json::Array(items) => Val::JsonList(Typed { data: items, shape }),
            Json::Object(map) => Val::JsonMap(Typed { data: map, shape }),
        }
    }

    pub(crate) fn string(text: impl Into<Rc<str>>) -> Self {
        Val::String(text.into())
    }

    pub(crate) fn list(items: Vec<Val<'a>>) -> Self {
        Val::List(Rc::new(items))
    }

    pub(crate) fn some(value: Val<'a>) -> Self {
        Val::Optional(Some(Rc::new(value)))
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Val::Str(s) => Some(s),
            Val::String(s) => Some(s),
            _ => None,
        }
    }

    /// The items of a list, one by one; `None` for anything else.
    pub(crate) fn items(&self) -> Option<Items<'a, '_>> {
        match self {
            Val::JsonList(list) => Some(Items::Json(list.data.iter(), list.element())),
            Val::List(items) => Some(Items::Made(items.iter())),
            _ => None,
        }
    }

    /// The number of items, entries, characters or bytes.
    pub(crate) fn size(&self) -> Option<usize> {
        Some(match self {
            Val::Str(s) => s.chars().count(),
            Val::String(s) => s.chars().count(),
            Val::Bytes(b) => b.len(),
            Val::JsonList(l) => l.data.len(),
            Val::JsonMap(m) => m.data.len(),
            Val::List(l) => l.len(),
            Val::Map(m) => m.len(),
            _ => return None,
        })
    }

    /// What it costs to walk over the value once.
    pub(crate) fn weight(&self) -> u64 {
        match self {
            Val::Str(s) => s.len() as u64 / 10 + 1,
            Val::String(s) => s.len() as u64 / 10 + 1,
            Val::Bytes(b) => b.len() as u64 / 10 + 1,
            _ => self.size().unwrap_or(1) as u64 + 1,
        }
    }

    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Val::Null => "null_type",
            Val::Bool(_) => "bool",
            Val::Int(_) => "int",
            Val::UInt(_) => "uint",
            Val::Double(_) => "double",
            Val::Str(_) | Val::String(_) => "string",
            Val::Bytes(_) => "bytes",
            Val::JsonList(_) | Val::List(_) => "list",
            Val::JsonMap(_) | Val::Map(_) => "map",
            Val::Timestamp(_) => "google.protobuf.Timestamp",
            Val::Duration(_) => "google.protobuf.Duration",
            Val::Type(_) => "type",
            Val::Optional(_) => "optional_type",
            Val::Quantity(_) => "kubernetes.Quantity",
            Val::Ip(_) => "net.IP",
            Val::Cidr(_) => "net.CIDR",
            Val::Url(_) => "kubernetes.URL",
            Val::Semver(_) => "kubernetes.Semver",
            Val::Format(_) => "kubernetes.NamedFormat",
            Val::Access(access) => access.type_name(),
        }
    }

    /// The field or entry of this name, of a map.
    pub(crate) fn get_named(&self, name: &str) -> Option<Val<'a>> {
        match self {
            Val::JsonMap(map) => {
                let value = map.data.get(name)?;
                let shape = map.shape.and_then(|s| s.field(name).or_else(|| s.element()));
                Some(Val::from_json(value, shape))
            }
            Val::Map(map) => map.get(&Key::String(Rc::from(name))).cloned(),
            _ => None,
        }
    }

    /// The item at an index or the entry of a key; `Ok(None)` when there is none.
    pub(crate) fn index(&self, index: &Val<'_>) -> Result<Option<Val<'a>>, EvalError> {
        match self {
            Val::JsonMap(_) => match index.as_str() {
                Some(name) => Ok(self.get_named(name)),
                None => Ok(None),
            },
            Val::Map(map) => Ok(map.get(&Key::of(index)?).cloned()),
            Val::JsonList(_) | Val::List(_) => {
                let at = match index {
                    Val::Int(i) => usize::try_from(*i).ok(),
                    Val::UInt(u) => usize::try_from(*u).ok(),
                    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // whole and in range
                    Val::Double(d) if d.fract() == 0.0 && *d >= 0.0 && *d < 1e15 => Some(*d as usize),
                    Val::Double(_) => None,
                    _ => return Err(EvalError::no_such_overload()),
                };
                Ok(at.and_then(|at| match self {
                    Val::JsonList(list) => list.data.get(at).map(|v| Val::from_json(v, list.element())),
                    Val::List(items) => items.get(at).cloned(),
                    _ => None,
                }))
            }
            _ => Err(EvalError::no_such_overload()),
        }
    }

    pub(crate) fn equals(&self, other: &Val<'_>) -> bool {
        match (self, other) {
            (Val::Null, Val::Null) => true,
            (Val::Bool(a), Val::Bool(b)) => a == b,
            (Val::Int(_) | Val::UInt(_) | Val::Double(_), Val::Int(_) | Val::UInt(_) | Val::Double(_)) => {
                self.compare_numbers(other) == Some(Ordering::Equal)
            }
            (Val::Str(_) | Val::String(_), _) => self.as_str() == other.as_str(),
            (Val::Bytes(a), Val::Bytes(b)) => a == b,
            (Val::JsonList(_) | Val::List(_), Val::JsonList(_) | Val::List(_)) => self.lists_equal(other),
            (Val::JsonMap(_) | Val::Map(_), Val::JsonMap(_) | Val::Map(_)) => {
                self.size() == other.size()
                    && self.entries().into_iter().all(|(key, value)| {
                        other.index(&key).ok().flatten().is_some_and(|v| value.equals(&v))
                    })
            }
            (Val::Timestamp(a), Val::Timestamp(b)) => a == b,
            (Val::Duration(a), Val::Duration(b)) => a == b,
            (Val::Type(a), Val::Type(b)) => a == b,
            (Val::Optional(a), Val::Optional(b)) => match (a, b) {
                (None, None) => true,
                (Some(a), Some(b)) => a.equals(b),
                _ => false,
            },
            (Val::Quantity(a), Val::Quantity(b)) => a == b,
            (Val::Ip(a), Val::Ip(b)) => a == b,
            (Val::Cidr(a), Val::Cidr(b)) => a == b,
            (Val::Url(a), Val::Url(b)) => a == b,
            (Val::Semver(a), Val::Semver(b)) => a == b,
            (Val::Format(a), Val::Format(b)) => a.name == b.name,
            _ => false,
        }
    }

    /// How the list compares, by its shape.
    pub(crate) fn semantics(&self) -> ListSemantics<'a> {
        match self {
            Val::JsonList(list) => list.shape.map_or(ListSemantics::Atomic, Shape::list_semantics),
            _ => ListSemantics::Atomic,
        }
    }

    fn lists_equal(&self, other: &Val<'_>) -> bool {
        if self.size() != other.size() {
            return false;
        }
        let (Some(a), Some(b)) = (self.items(), other.items()) else {
            return false;
        };
        if self.semantics() == ListSemantics::Atomic && other.semantics() == ListSemantics::Atomic {
            return a.zip(b).all(|(a, b)| a.equals(&b));
        }
        let b: Vec<Val<'_>> = b.collect();
        a.into_iter().all(|a| b.iter().any(|b| a.equals(b)))
    }

    fn compare_numbers(&self, other: &Val<'_>) -> Option<Ordering> {
        #[allow(clippy::cast_precision_loss)] // the loss is looked after below
        fn with_double(i: i128, d: f64) -> Option<Ordering> {
            if d.is_nan() {
                None
            } else if d >= 1.8e19 {
                Some(Ordering::Less)
            } else if d <= -9.3e18 {
                Some(Ordering::Greater)
            } else {
                #[allow(clippy::cast_possible_truncation)] // in range
                let whole = d.trunc() as i128;
                Some(i.cmp(&whole).then(if d.fract() == 0.0 {
                    Ordering::Equal
                } else if d > 0.0 {
                    Ordering::Less
                } else {
                    Ordering::Greater
                }))
            }
        }
        let integer = |v: &Val<'_>| match v {
            Val::Int(i) => Some(i128::from(*i)),
            Val::UInt(u) => Some(i128::from(*u)),
            _ => None,
        };
        match (self, other) {
            (Val::Double(a), Val::Double(b)) => a.partial_cmp(b),
            (Val::Double(a), b) => with_double(integer(b)?, *a).map(Ordering::reverse),
            (a, Val::Double(b)) => with_double(integer(a)?, *b),
            (a, b) => Some(integer(a)?.cmp(&integer(b)?)),
        }
    }

    /// The order of two values of an ordered type; `Err` when they have none, `Ok(None)` for NaN.
    pub(crate) fn compare(&self, other: &Val<'_>) -> Result<Option<Ordering>, EvalError> {
        Ok(Some(match (self, other) {
            (Val::Int(_) | Val::UInt(_) | Val::Double(_), Val::Int(_) | Val::UInt(_) | Val::Double(_)) => {
                return Ok(self.compare_numbers(other));
            }
            (Val::Bool(a), Val::Bool(b)) => a.cmp(b),
            (Val::Bytes(a), Val::Bytes(b)) => a.cmp(b),
            (Val::Timestamp(a), Val::Timestamp(b)) => a.cmp(b),
            (Val::Duration(a), Val::Duration(b)) => a.cmp(b),
            (a, b) => match (a.as_str(), b.as_str()) {
                (Some(a), Some(b)) => a.cmp(b),
                _ => return Err(EvalError::no_such_overload()),
            },
        }))
    }

    /// The entries of a map.
    pub(crate) fn entries(&self) -> Vec<(Val<'a>, Val<'a>)> {
        match self {
            Val::JsonMap(map) => map
                .data
                .iter()
                .map(|(name, value)| {
                    let shape = map.shape.and_then(|s| s.field(name).or_else(|| s.element()));
                    (Val::Str(name), Val::from_json(value, shape))
                })
                .collect(),
            Val::Map(map) => map.iter().map(|(k, v)| (k.to_val(), v.clone())).collect(),
            _ => Vec::new(),
        }
    }

    /// The value as JSON, as far as it has a JSON form: types that have none give their text.
    pub(crate) fn to_json(&self) -> Json {
        match self {
            Val::Null => Json::Null,
            Val::Bool(b) => (*b).into(),
            Val::Int(i) => (*i).into(),
            Val::UInt(u) => (*u).into(),
            Val::Double(d) => (*d).into(),
            Val::Str(s) => (*s).into(),
            Val::String(s) => s.as_ref().into(),
            Val::Bytes(b) => crate::functions::convert::base64_encode(b).into(),
            Val::JsonList(list) => list.data.to_vec().into(),
            Val::JsonMap(map) => Json::Object(map.data.clone()),
            Val::List(items) => items.iter().map(Val::to_json).collect(),
            Val::Map(map) => map.iter().map(|(k, v)| (k.text(), v.to_json())).collect(),
            Val::Optional(None) => Json::Null,
            Val::Optional(Some(value)) => value.to_json(),
            Val::Type(name) => (*name).into(),
            other => other.text().map_or(Json::Null, Json::from),
        }
    }

    /// As [`Val::to_json`], paying for every list and map: a small value may hold the same list many times over.
    pub(crate) fn to_json_within(&self, cost: &mut Cost) -> Result<Json, EvalError> {
        match self {
            Val::JsonList(_) | Val::JsonMap(_) => {
                cost.charge(crate::eval::deep_weight(self))?;
                Ok(self.to_json())
            }
            Val::List(items) => {
                cost.charge(self.weight())?;
                items.iter().map(|v| v.to_json_within(cost)).collect()
            }
            Val::Map(map) => {
                cost.charge(self.weight())?;
                let entries = map.iter().map(|(k, v)| Ok((k.text(), v.to_json_within(cost)?)));
                entries.collect::<Result<_, EvalError>>().map(Json::Object)
            }
            Val::Optional(Some(value)) => value.to_json_within(cost),
            Val::Str(_) | Val::String(_) => {
                cost.charge(self.weight() - 1)?;
                Ok(self.to_json())
            }
            other => Ok(other.to_json()),
        }
    }

    /// The text of a value that `string()` accepts.
    pub(crate) fn text(&self) -> Option<String> {
        Some(match self {
            Val::Bool(b) => b.to_string(),
            Val::Int(i) => i.to_string(),
            Val::UInt(u) => u.to_string(),
            Val::Double(d) => crate::functions::convert::double_text(*d),
            Val::Str(s) => (*s).to_owned(),
            Val::String(s) => s.to_string(),
            Val::Timestamp(t) => t.to_string(),
            Val::Duration(d) => crate::functions::time::duration_text(*d),
            Val::Quantity(q) => q.to_string(),
            Val::Ip(ip) => ip.to_string(),
            Val::Cidr(cidr) => cidr.to_string(),
            Val::Url(url) => url.source.clone(),
            Val::Semver(v) => v.to_string(),
            Val::Format(f) => f.name.to_owned(),
            _ => return None,
        })
    }
}

/// Iterator over a list's items.
pub(crate) enum Items<'a, 'r> {
    Json(std::slice::Iter<'a, Json>, Option<&'a dyn Shape>),
    Made(std::slice::Iter<'r, Val<'a>>),
}

impl<'a> Iterator for Items<'a, '_> {
    type Item = Val<'a>;

    fn next(&mut self) -> Option<Val<'a>> {
        match self {
            Items::Json(items, shape) => items.next().map(|v| Val::from_json(v, *shape)),
            Items::Made(items) => items.next().cloned(),
        }
    }
}
