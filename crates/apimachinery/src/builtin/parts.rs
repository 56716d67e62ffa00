//! What subresources of Pods change: each its part, and nothing else of the Pod.

use serde_json::Value;

/// `ephemeralcontainers` is for these containers alone.
pub(super) fn debugged(old: &Value, new: &mut Value) {
    let containers = new.pointer("/spec/ephemeralContainers").cloned();
    restore(old, new);
    put(&mut new["spec"], "ephemeralContainers", containers);
}

/// `resize` is for what containers, or the Pod, may use. Where there are other containers than before everything of them is left
/// for the validation to refuse.
pub(super) fn resized(old: &Value, new: &mut Value) {
    const CONTAINERS: [&str; 2] = ["containers", "initContainers"];
    let count = |pod: &Value, field: &str| list(&pod["spec"], field).len();
    if CONTAINERS
        .iter()
        .any(|field| count(old, field) != count(new, field))
    {
        return;
    }
    let asked = new["spec"].take();
    restore(old, new);
    let spec = &mut new["spec"];
    put(spec, "resources", asked.get("resources").cloned());
    for field in CONTAINERS {
        let wanted = list(&asked, field);
        if list(spec, field)
            .iter()
            .zip(wanted)
            .any(|(was, is)| was["name"] != is["name"])
        {
            put(spec, field, asked.get(field).cloned());
            continue;
        }
        let containers = spec.get_mut(field).and_then(Value::as_array_mut);
        for (container, wanted) in containers.into_iter().flatten().zip(wanted) {
            for part in ["resources", "resizePolicy"] {
                put(container, part, wanted.get(part).cloned());
            }
        }
    }
}

fn restore(old: &Value, new: &mut Value) {
    for field in ["spec", "status"] {
        put(new, field, old.get(field).cloned());
    }
    if !new["spec"].is_object() {
        new["spec"] = Value::Object(serde_json::Map::new());
    }
}

fn list<'v>(spec: &'v Value, field: &str) -> &'v [Value] {
    let found = spec.get(field).and_then(Value::as_array);
    found.map_or(&[], Vec::as_slice)
}

fn put(object: &mut Value, field: &str, value: Option<Value>) {
    if let Some(map) = object.as_object_mut() {
        match value {
            Some(value) => map.insert(field.to_owned(), value),
            None => map.remove(field),
        };
    }
}
