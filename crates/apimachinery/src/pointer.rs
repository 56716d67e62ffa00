//! JSON Pointers (RFC 6901).

use serde_json::Value;

/// The value at a pointer such as `/metadata/name`. The same as [`Value::pointer`], which makes two strings for each step of the
/// path: the checks of one write take dozens of steps.
pub fn at<'v>(value: &'v Value, pointer: &str) -> Option<&'v Value> {
    // Escapes and positions in lists are rare.
    if pointer.contains('~') {
        return value.pointer(pointer);
    }
    let Some(steps) = pointer.strip_prefix('/') else {
        return pointer.is_empty().then_some(value);
    };
    steps.split('/').try_fold(value, |at, step| match at {
        Value::Object(map) => map.get(step),
        Value::Array(items) => index(step).and_then(|index| items.get(index)),
        _ => None,
    })
}

/// A position in a list: digits without a sign and without a leading zero.
fn index(step: &str) -> Option<usize> {
    if step.starts_with('+') || (step.starts_with('0') && step.len() != 1) {
        return None;
    }
    step.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn finds_what_serde_json_finds() {
        let value = json!({
            "": {"": 1}, "a": {"b": [0, {"c": null}]}, "x/y": 2, "m~n": 3, "list": [1, 2], "0": "zero", "é": true,
        });
        for pointer in [
            "",
            "/",
            "//",
            "a",
            "/a",
            "/a/b",
            "/a/b/0",
            "/a/b/1/c",
            "/a/b/2",
            "/a/b/01",
            "/a/b/+1",
            "/a/b/-",
            "/a/b/",
            "/x~1y",
            "/m~0n",
            "/m~n",
            "/x/y",
            "/list/1",
            "/list/1/x",
            "/0",
            "/é",
            "/a/",
            "/missing/b",
            "~",
            "a/~0",
        ] {
            assert_eq!(at(&value, pointer), value.pointer(pointer), "{pointer:?}");
        }
        assert_eq!(at(&value, "/a/b/1/c"), Some(&Value::Null));
    }
}
