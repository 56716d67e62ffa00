//! Functions on strings: the standard ones, the strings extension and Kubernetes' regular expressions.

use super::{Cost, Function, Result, global, int, items, lists, member, text};
use crate::error::EvalError;
use crate::regex::compile;
use crate::value::Val;

/// How much text one call may make.
const OUTPUT_LIMIT: usize = 8 << 20;

pub(super) const FUNCTIONS: &[Function] = &[
    member("contains", 2, "bool", |c, a| test(c, a, |s, t| s.contains(t))),
    member("startsWith", 2, "bool", |c, a| {
        test(c, a, |s, t| s.starts_with(t))
    }),
    member("endsWith", 2, "bool", |c, a| test(c, a, |s, t| s.ends_with(t))),
    member("matches", 2, "bool", matches),
    global("matches", 2, "bool", matches),
    member("find", 2, "string", find),
    member("findAll", 2, "list", find_all).up_to(3),
    member("charAt", 2, "string", char_at),
    member("indexOf", 2, "int", |c, a| index_of(c, a, false)).up_to(3),
    member("lastIndexOf", 2, "int", |c, a| index_of(c, a, true)).up_to(3),
    member("lowerAscii", 1, "string", |c, a| {
        made(c, a, str::to_ascii_lowercase)
    }),
    member("upperAscii", 1, "string", |c, a| {
        made(c, a, str::to_ascii_uppercase)
    }),
    member("trim", 1, "string", |c, a| made(c, a, |s| s.trim().to_owned())),
    member("reverse", 1, "", |c, a| match a[0].as_str() {
        Some(_) => made(c, a, |s| s.chars().rev().collect()),
        None => lists::reverse(c, a),
    }),
    member("replace", 3, "string", replace).up_to(4),
    member("split", 2, "list", split).up_to(3),
    member("join", 1, "string", join).up_to(2),
    member("substring", 2, "string", substring).up_to(3),
    member("format", 2, "string", format),
    global("strings.quote", 1, "string", |c, a| made(c, a, quote)),
];

fn test<'a>(cost: &mut Cost, args: &[Val<'a>], test: fn(&str, &str) -> bool) -> Result<Val<'a>> {
    let (s, t) = (text(&args[0])?, text(&args[1])?);
    cost.charge(args[0].weight())?;
    Ok(Val::Bool(test(s, t)))
}

fn made<'a>(cost: &mut Cost, args: &[Val<'a>], make: fn(&str) -> String) -> Result<Val<'a>> {
    cost.charge(args[0].weight() * 2)?;
    Ok(Val::string(make(text(&args[0])?)))
}

fn regex(cost: &mut Cost, args: &[Val<'_>]) -> Result<std::sync::Arc<regex::Regex>> {
    let pattern = text(&args[1])?;
    text(&args[0])?;
    // A match walks the text once per part of the pattern at worst.
    cost.charge(args[0].weight().saturating_mul(pattern.len() as u64 / 4 + 1))?;
    compile(pattern).map_err(|why| EvalError::other(format!("error parsing regexp: {why}")))
}

fn matches<'a>(cost: &mut Cost, args: &[Val<'a>]) -> Result<Val<'a>> {
    Ok(Val::Bool(regex(cost, args)?.is_match(text(&args[0])?)))
}

fn find<'a>(cost: &mut Cost, args: &[Val<'a>]) -> Result<Val<'a>> {
    let regex = regex(cost, args)?;
    Ok(Val::string(
        regex.find(text(&args[0])?).map_or("", |m| m.as_str()),
    ))
}

fn find_all<'a>(cost: &mut Cost, args: &[Val<'a>]) -> Result<Val<'a>> {
    let regex = regex(cost, args)?;
    let limit = match args.get(2) {
        None => usize::MAX,
        Some(n) => usize::try_from(int(n)?).unwrap_or(usize::MAX),
    };
    Ok(Val::list(
        regex
            .find_iter(text(&args[0])?)
            .take(limit)
            .map(|m| Val::string(m.as_str()))
            .collect(),
    ))
}

/// The byte position of the character `index`, which may be the end.
fn position(s: &str, index: i64) -> Result<usize> {
    let out_of_range = || EvalError::other(format!("index out of range: {index}"));
    let index = usize::try_from(index).map_err(|_| out_of_range())?;
    s.char_indices()
        .map(|(i, _)| i)
        .chain([s.len()])
        .nth(index)
        .ok_or_else(out_of_range)
}

fn char_at<'a>(cost: &mut Cost, args: &[Val<'a>]) -> Result<Val<'a>> {
    cost.charge(args[0].weight())?;
    let s = text(&args[0])?;
    let at = position(s, int(&args[1])?)?;
    Ok(Val::string(
        s[at..].chars().next().map(String::from).unwrap_or_default(),
    ))
}

fn index_of<'a>(cost: &mut Cost, args: &[Val<'a>], last: bool) -> Result<Val<'a>> {
    cost.charge(args[0].weight())?;
    let Some(s) = args[0].as_str() else {
        return lists::index_of(cost, args, last);
    };
    let wanted = text(&args[1])?;
    let found = match args.get(2) {
        None if last => s.rfind(wanted),
        None => s.find(wanted),
        Some(offset) => {
            let at = position(s, int(offset)?)?;
            if last {
                // The match may start at the offset at the latest.
                s.match_indices(wanted)
                    .map(|(i, _)| i)
                    .take_while(|i| *i <= at)
                    .last()
            } else {
                s[at..].find(wanted).map(|i| i + at)
            }
        }
    };
    Ok(Val::Int(match found {
        None => -1,
        Some(i) => i64::try_from(s[..i].chars().count()).unwrap_or(i64::MAX),
    }))
}

fn replace<'a>(cost: &mut Cost, args: &[Val<'a>]) -> Result<Val<'a>> {
    let (s, from, to) = (text(&args[0])?, text(&args[1])?, text(&args[2])?);
    cost.charge(args[0].weight() * 2)?;
    let limit = match args.get(3) {
        None => usize::MAX,
        Some(n) => usize::try_from(int(n)?).unwrap_or(usize::MAX),
    };
    let count = if from.is_empty() {
        s.chars().count() + 1
    } else {
        s.matches(from).count()
    }
    .min(limit);
    let size = s.len().saturating_add(count.saturating_mul(to.len()));
    if size > OUTPUT_LIMIT {
        return Err(EvalError::cost_limit());
    }
    cost.charge(size as u64 / 10)?;
    Ok(Val::string(s.replacen(from, to, limit)))
}

fn split<'a>(cost: &mut Cost, args: &[Val<'a>]) -> Result<Val<'a>> {
    let (s, separator) = (text(&args[0])?, text(&args[1])?);
    cost.charge(args[0].weight() * 2)?;
    let limit = match args.get(2) {
        None => -1,
        Some(n) => int(n)?,
    };
    let limit = match usize::try_from(limit) {
        Ok(0) => return Ok(Val::list(Vec::new())),
        Ok(n) => n,
        Err(_) => usize::MAX,
    };
    let parts: Vec<Val<'a>> = if separator.is_empty() {
        // Split into characters, the last part with what is over the limit.
        let mut rest = s;
        let mut parts = Vec::new();
        while let Some(c) = rest.chars().next() {
            if parts.len() + 1 >= limit {
                parts.push(Val::string(rest));
                break;
            }
            parts.push(Val::string(&rest[..c.len_utf8()]));
            rest = &rest[c.len_utf8()..];
        }
        parts
    } else {
        s.splitn(limit, separator).map(Val::string).collect()
    };
    cost.charge(parts.len() as u64)?;
    Ok(Val::list(parts))
}

fn join<'a>(cost: &mut Cost, args: &[Val<'a>]) -> Result<Val<'a>> {
    let separator = args.get(1).map_or(Ok(""), text)?;
    let parts = items(cost, &args[0])?;
    let mut out = String::new();
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            out.push_str(separator);
        }
        out.push_str(text(part)?);
        if out.len() > OUTPUT_LIMIT {
            return Err(EvalError::cost_limit());
        }
    }
    cost.charge(out.len() as u64 / 10)?;
    Ok(Val::string(out))
}

fn substring<'a>(cost: &mut Cost, args: &[Val<'a>]) -> Result<Val<'a>> {
    cost.charge(args[0].weight())?;
    let s = text(&args[0])?;
    let from = position(s, int(&args[1])?)?;
    let to = match args.get(2) {
        None => s.len(),
        Some(end) => position(s, int(end)?)?,
    };
    if from > to {
        let (a, b) = (int(&args[1])?, args.get(2).map_or(Ok(0), int)?);
        return Err(EvalError::other(format!(
            "invalid substring range. start: {a}, end: {b}"
        )));
    }
    Ok(match &args[0] {
        Val::Str(s) => Val::Str(&s[from..to]),
        _ => Val::string(&s[from..to]),
    })
}

fn quote(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + 2);
    out.push('"');
    for c in s.chars() {
        match c {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// `'%s has %d'.format(['x', 1])`
fn format<'a>(cost: &mut Cost, args: &[Val<'a>]) -> Result<Val<'a>> {
    let template = text(&args[0])?;
    cost.charge(args[0].weight() * 2)?;
    let values = items(cost, &args[1])?;
    let mut next = values.iter();
    let mut out = String::new();
    let mut chars = template.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut precision = None;
        if chars.peek() == Some(&'.') {
            chars.next();
            let mut digits = 0_usize;
            while let Some(d) = chars.peek().and_then(|c| c.to_digit(10)) {
                digits = digits.saturating_mul(10).saturating_add(d as usize).min(1000);
                chars.next();
            }
            precision = Some(digits);
        }
        let verb = chars
            .next()
            .ok_or_else(|| EvalError::other("unexpected end of format string"))?;
        if verb == '%' {
            out.push('%');
            continue;
        }
        let value = next
            .next()
            .ok_or_else(|| EvalError::other(format!("index {} out of range", values.len())))?;
        out.push_str(&formatted(verb, precision, value)?);
        if out.len() > OUTPUT_LIMIT {
            return Err(EvalError::cost_limit());
        }
    }
    cost.charge(out.len() as u64 / 10)?;
    Ok(Val::string(out))
}

fn formatted(verb: char, precision: Option<usize>, value: &Val<'_>) -> Result<String> {
    let refuse = || {
        EvalError::other(format!(
            "error during formatting: %{verb} cannot be used with a value of type {}",
            value.type_name()
        ))
    };
    #[allow(clippy::cast_precision_loss)] // formatted with a bounded number of digits
    let number = || match value {
        Val::Double(d) => Ok(*d),
        Val::Int(i) => Ok(*i as f64),
        Val::UInt(u) => Ok(*u as f64),
        _ => Err(refuse()),
    };
    Ok(match verb {
        's' => shown(value),
        'd' => match value {
            Val::Int(i) => i.to_string(),
            Val::UInt(u) => u.to_string(),
            Val::Double(d) if d.is_nan() || d.is_infinite() => super::convert::double_text(*d),
            _ => return Err(refuse()),
        },
        'f' => format!("{:.*}", precision.unwrap_or(6), number()?),
        'e' => {
            let text = format!("{:.*e}", precision.unwrap_or(6), number()?);
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let exponent: i32 = exponent.parse().unwrap_or_default();
            format!(
                "{mantissa}e{}{:02}",
                if exponent < 0 { '-' } else { '+' },
                exponent.abs()
            )
        }
        'b' => match value {
            Val::Int(i) if *i < 0 => format!("-{:b}", i.unsigned_abs()),
            Val::Int(i) => format!("{i:b}"),
            Val::UInt(u) => format!("{u:b}"),
            Val::Bool(b) => u8::from(*b).to_string(),
            _ => return Err(refuse()),
        },
        'o' => match value {
            Val::Int(i) if *i < 0 => format!("-{:o}", i.unsigned_abs()),
            Val::Int(i) => format!("{i:o}"),
            Val::UInt(u) => format!("{u:o}"),
            _ => return Err(refuse()),
        },
        'x' | 'X' => {
            let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
            let text = match value {
                Val::Int(i) if *i < 0 => format!("-{:x}", i.unsigned_abs()),
                Val::Int(i) => format!("{i:x}"),
                Val::UInt(u) => format!("{u:x}"),
                Val::Bytes(b) => hex(b),
                other => hex(other.as_str().ok_or_else(refuse)?.as_bytes()),
            };
            if verb == 'X' { text.to_uppercase() } else { text }
        }
        other => {
            return Err(EvalError::other(format!(
                "unrecognized formatting clause \"{other}\""
            )));
        }
    })
}

/// An item or entry as `%s` shows it: texts are quoted there.
fn nested(value: &Val<'_>) -> String {
    value.as_str().map_or_else(|| shown(value), quote)
}

/// A value as `%s` shows it.
fn shown(value: &Val<'_>) -> String {
    match value {
        Val::Null => "null".to_owned(),
        Val::Type(name) => (*name).to_owned(),
        Val::Bytes(b) => String::from_utf8_lossy(b).into_owned(),
        Val::JsonList(_) | Val::List(_) => {
            let items: Vec<String> = value.items().into_iter().flatten().map(|v| nested(&v)).collect();
            format!("[{}]", items.join(", "))
        }
        Val::JsonMap(_) | Val::Map(_) => {
            let mut entries: Vec<String> = value
                .entries()
                .iter()
                .map(|(k, v)| format!("{}: {}", nested(k), nested(v)))
                .collect();
            entries.sort_unstable();
            format!("{{{}}}", entries.join(", "))
        }
        other => other.text().unwrap_or_default(),
    }
}
