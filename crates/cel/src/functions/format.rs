//! Named formats: `format.dns1123Label().validate(name)`.

use super::{Cost, Function, Result, convert, global, member, text, time};
use crate::error::EvalError;
use crate::value::Val;

/// A format that has a name and says what is wrong with a text.
pub(crate) struct NameFormat {
    /// Name as in `format.named`.
    key: &'static str,
    /// Name as it prints.
    pub(crate) name: &'static str,
    check: fn(&str) -> Vec<String>,
}

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const NAME: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

static FORMATS: &[NameFormat] = &[
    NameFormat {
        key: "dns1123Label",
        name: "DNS1123Label",
        check: |s| named(s, 63, is_label, LABEL),
    },
    NameFormat {
        key: "dns1123Subdomain",
        name: "DNS1123Subdomain",
        check: |s| named(s, 253, is_subdomain, SUBDOMAIN),
    },
    NameFormat {
        key: "dns1035Label",
        name: "DNS1035Label",
        check: |s| named(s, 63, is_1035, LABEL_1035),
    },
    NameFormat {
        key: "qualifiedName",
        name: "QualifiedName",
        check: qualified,
    },
    NameFormat {
        key: "dns1123LabelPrefix",
        name: "DNS1123LabelPrefix",
        check: |s| named(&masked(s), 63, is_label, LABEL),
    },
    NameFormat {
        key: "dns1123SubdomainPrefix",
        name: "DNS1123SubdomainPrefix",
        check: |s| named(&masked(s), 253, is_subdomain, SUBDOMAIN),
    },
    NameFormat {
        key: "dns1035LabelPrefix",
        name: "DNS1035LabelPrefix",
        check: |s| named(&masked(s), 63, is_1035, LABEL_1035),
    },
    NameFormat {
        key: "labelValue",
        name: "LabelValue",
        check: |s| named(s, 63, |s| s.is_empty() || is_key(s), VALUE),
    },
    NameFormat {
        key: "uri",
        name: "URI",
        check: |s| one(super::net::is_url(s), "invalid URI for request"),
    },
    NameFormat {
        key: "uuid",
        name: "uuid",
        check: |s| one(is_uuid(s), "does not match the UUID format"),
    },
    NameFormat {
        key: "byte",
        name: "byte",
        check: |s| one(convert::base64_decode(s).is_some(), "invalid base64"),
    },
    NameFormat {
        key: "date",
        name: "date",
        check: |s| {
            one(
                s.len() == 10 && s.parse::<jiff::civil::Date>().is_ok(),
                "invalid date",
            )
        },
    },
    NameFormat {
        key: "datetime",
        name: "datetime",
        check: |s| one(time::parse_timestamp(s).is_some(), "invalid datetime"),
    },
];

macro_rules! constants {
    ($($key:literal),* $(,)?) => {
        &[
            global("format.named", 1, "optional_type", |_, args| {
                let key = text(&args[0])?;
                Ok(FORMATS.iter().find(|f| f.key == key).map_or(Val::Optional(None), |f| Val::some(Val::Format(f))))
            }),
            member("validate", 2, "optional_type", validate),
            $(global(concat!("format.", $key), 0, "kubernetes.NamedFormat", |_, _| constant($key)),)*
        ]
    };
}

pub(super) const FUNCTIONS: &[Function] = constants![
    "dns1123Label",
    "dns1123Subdomain",
    "dns1035Label",
    "qualifiedName",
    "dns1123LabelPrefix",
    "dns1123SubdomainPrefix",
    "dns1035LabelPrefix",
    "labelValue",
    "uri",
    "uuid",
    "byte",
    "date",
    "datetime",
];

fn constant<'a>(key: &str) -> Result<Val<'a>> {
    FORMATS
        .iter()
        .find(|f| f.key == key)
        .map(Val::Format)
        .ok_or_else(EvalError::no_such_overload)
}

fn validate<'a>(cost: &mut Cost, args: &[Val<'a>]) -> Result<Val<'a>> {
    let Val::Format(format) = &args[0] else {
        return Err(EvalError::no_such_overload());
    };
    cost.charge(args[1].weight().saturating_mul(8))?;
    let problems = (format.check)(text(&args[1])?);
    Ok(if problems.is_empty() {
        Val::Optional(None)
    } else {
        Val::some(Val::list(problems.into_iter().map(Val::string).collect()))
    })
}

fn one(good: bool, problem: &str) -> Vec<String> {
    if good {
        Vec::new()
    } else {
        vec![problem.to_owned()]
    }
}

fn named(s: &str, limit: usize, check: fn(&str) -> bool, problem: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if s.len() > limit {
        problems.push(format!("must be no more than {limit} characters"));
    }
    if !check(s) {
        problems.push(problem.to_owned());
    }
    problems
}

fn qualified(s: &str) -> Vec<String> {
    let (prefix, name) = s.split_once('/').map_or((None, s), |(p, n)| (Some(p), n));
    let mut problems = Vec::new();
    match prefix {
        Some("") => problems.push("prefix part must be non-empty".to_owned()),
        Some(prefix) => {
            problems.extend(
                named(prefix, 253, is_subdomain, SUBDOMAIN)
                    .into_iter()
                    .map(|p| format!("prefix part {p}")),
            );
        }
        None => {}
    }
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        problems.push("name part must be no more than 63 characters".to_owned());
    }
    if !is_key(name) {
        problems.push(NAME.to_owned());
    }
    problems
}

/// A prefix may end in a dash, which letters will follow.
fn masked(s: &str) -> String {
    match s.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => format!("{rest}a"),
        _ => s.to_owned(),
    }
}

fn is_label(s: &str) -> bool {
    let alnum = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    alnum(s.bytes().next())
        && alnum(s.bytes().last())
        && s.bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_subdomain(s: &str) -> bool {
    s.split('.').all(is_label)
}

fn is_1035(s: &str) -> bool {
    is_label(s) && s.starts_with(|c: char| c.is_ascii_lowercase())
}

fn is_key(s: &str) -> bool {
    let alnum = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    alnum(s.bytes().next())
        && alnum(s.bytes().last())
        && s.bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn is_uuid(s: &str) -> bool {
    let hex: Vec<u8> = s.bytes().filter(|b| *b != b'-').collect();
    let dashes: Vec<usize> = s.match_indices('-').map(|(i, _)| i).collect();
    let placed = dashes
        .iter()
        .zip(0..)
        .all(|(at, before): (&usize, usize)| matches!(at - before, 8 | 12 | 16 | 20));
    hex.len() == 32 && hex.iter().all(u8::is_ascii_hexdigit) && placed
}
