//! Semantic versions.

use std::cmp::Ordering;
use std::fmt;
use std::rc::Rc;

use super::{Function, Result, global, member, text};
use crate::error::EvalError;
use crate::value::Val;

pub(super) const FUNCTIONS: &[Function] = &[
    global("semver", 1, "kubernetes.Semver", |_, args| {
        let version = Semver::parse(text(&args[0])?, normalize(args)?);
        version
            .map(|v| Val::Semver(Rc::new(v)))
            .ok_or_else(|| EvalError::other("No Major.Minor.Patch elements found or an element is malformed"))
    })
    .up_to(2),
    global("isSemver", 1, "bool", |_, args| {
        Ok(Val::Bool(
            Semver::parse(text(&args[0])?, normalize(args)?).is_some(),
        ))
    })
    .up_to(2),
    member("major", 1, "int", |_, args| number(args, |v| v.numbers[0])),
    member("minor", 1, "int", |_, args| number(args, |v| v.numbers[1])),
    member("patch", 1, "int", |_, args| number(args, |v| v.numbers[2])),
];

fn normalize(args: &[Val<'_>]) -> Result<bool> {
    match args.get(1) {
        None => Ok(false),
        Some(Val::Bool(b)) => Ok(*b),
        Some(_) => Err(EvalError::no_such_overload()),
    }
}

fn number<'a>(args: &[Val<'a>], get: fn(&Semver) -> u64) -> Result<Val<'a>> {
    match &args[0] {
        Val::Semver(v) => Ok(Val::Int(i64::try_from(get(v)).unwrap_or(i64::MAX))),
        _ => Err(EvalError::no_such_overload()),
    }
}

/// A version after semver.org 2.0.
#[derive(Clone, Debug)]
pub(crate) struct Semver {
    numbers: [u64; 3],
    pre: Vec<String>,
    build: String,
}

impl Semver {
    fn parse(text: &str, normalize: bool) -> Option<Self> {
        let text = if normalize {
            text.strip_prefix('v').unwrap_or(text)
        } else {
            text
        };
        let (rest, build) = text.split_once('+').map_or((text, ""), |(r, b)| (r, b));
        let (core, pre) = rest.split_once('-').map_or((rest, None), |(c, p)| (c, Some(p)));
        let identifier = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let leading_zero =
            |s: &str| s.len() > 1 && s.starts_with('0') && s.bytes().all(|b| b.is_ascii_digit());
        if text.contains('+') && !build.split('.').all(identifier) {
            return None;
        }
        let pre: Vec<String> = pre.map_or_else(Vec::new, |p| p.split('.').map(str::to_owned).collect());
        if !pre.iter().all(|p| identifier(p) && !leading_zero(p)) {
            return None;
        }
        let parts: Vec<&str> = core.split('.').collect();
        if parts.len() > 3 || (parts.len() < 3 && !normalize) {
            return None;
        }
        let mut numbers = [0; 3];
        for (number, part) in numbers.iter_mut().zip(&parts) {
            let part = if normalize && part.len() > 1 {
                part.trim_start_matches('0')
            } else {
                part
            };
            let part = if part.is_empty() && normalize { "0" } else { part };
            if leading_zero(part) || !part.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            *number = part.parse().ok()?;
        }
        Some(Self {
            numbers,
            pre,
            build: build.to_owned(),
        })
    }
}

impl fmt::Display for Semver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(f, "{major}.{minor}.{patch}")?;
        if !self.pre.is_empty() {
            write!(f, "-{}", self.pre.join("."))?;
        }
        if !self.build.is_empty() {
            write!(f, "+{}", self.build)?;
        }
        Ok(())
    }
}

impl Ord for Semver {
    fn cmp(&self, other: &Self) -> Ordering {
        fn part(a: &str, b: &str) -> Ordering {
            match (a.parse::<u64>(), b.parse::<u64>()) {
                (Ok(a), Ok(b)) => a.cmp(&b),
                (Ok(_), Err(_)) => Ordering::Less,
                (Err(_), Ok(_)) => Ordering::Greater,
                (Err(_), Err(_)) => a.cmp(b),
            }
        }
        self.numbers
            .cmp(&other.numbers)
            .then_with(|| match (self.pre.is_empty(), other.pre.is_empty()) {
                (true, true) => Ordering::Equal,
                // A version without a pre-release comes after all with one.
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) => self
                    .pre
                    .iter()
                    .zip(&other.pre)
                    .map(|(a, b)| part(a, b))
                    .find(|o| o.is_ne())
                    .unwrap_or_else(|| self.pre.len().cmp(&other.pre.len())),
            })
    }
}

impl PartialOrd for Semver {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Semver {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Semver {}
