//! Dotted paths into JSON, as the health rules use them: `status.parents.*.conditions`, with `|default` at the end.

use std::borrow::Cow;

use serde_json::Value;

/// Every value at a path; `*` stands for all items of a list.
pub(super) fn matches<'a>(object: &'a Value, path: &str, out: &mut Vec<&'a Value>) {
    let path = path.split_once('|').map_or(path, |(p, _)| p);
    let (head, tail) = path.split_once('.').map_or((path, None), |(h, t)| (h, Some(t)));
    let mut step = |value: &'a Value| match tail {
        Some(tail) => matches(value, tail, out),
        None => out.push(value),
    };
    if head == "*" {
        object.as_array().into_iter().flatten().for_each(&mut step);
    } else if let Some(value) = object.get(head) {
        step(value);
    }
}

/// The first value at a path, or the default that the path names.
pub(super) fn lookup<'a>(object: &'a Value, path: &str) -> Option<Cow<'a, Value>> {
    let mut found = Vec::new();
    matches(object, path, &mut found);
    found.first().map(|v| Cow::Borrowed(*v)).or_else(|| {
        let (_, default) = path.split_once('|')?;
        Some(Cow::Owned(
            serde_json::from_str(default).unwrap_or_else(|_| Value::String(default.to_owned())),
        ))
    })
}

/// The first value at a path as text: strings without quotes, nothing for absent ones.
pub(super) fn first_text(object: &Value, path: &str) -> String {
    match lookup(object, path).as_deref() {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(s)) => s.clone(),
        Some(other) => other.to_string(),
    }
}

/// Replaces every `{path|default}` in a text.
pub(super) fn render(template: &str, object: &Value) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let Some((path, tail)) = after.split_once('}') else {
            out.push('{');
            rest = after;
            continue;
        };
        out.push_str(&first_text(object, path));
        rest = tail;
    }
    out.push_str(rest);
    out
}
