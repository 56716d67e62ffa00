//! Credentials that nobody chooses: values of a Secret that are made up once, in the data plane.
//!
//! A release says which keys of a Secret want a value, never the value. Whoever applies it makes up what is missing, as
//! a field manager of its own, so that applying the release again neither changes nor removes it. The values are in the
//! Secret and nowhere else: not in the control plane, not in an event, not in a log. They stay when the release goes,
//! since storage that they protect may stay, too; they go with the cell's namespace.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use choreo_api::annotations::GENERATE;
use kube::core::{ApiResource, DynamicObject};
use rand::RngExt as _;
use rand::distr::Alphanumeric;
use serde_json::{Value, json};

use super::build::Wanted;
use crate::planes::Plane;
use crate::runtime::cache::owned_fields;
use crate::write::Failure;

/// Field manager of the values.
const MANAGER: &str = "choreo/credentials";
/// Letters and digits only, so that a value needs no quoting in an address; 190 bits of chance.
const LENGTH: usize = 32;

/// The keys of an object that want a value made up.
fn keys(object: &Value) -> Vec<&str> {
    let is_secret = object.get("kind").and_then(Value::as_str) == Some("Secret");
    let pointer = format!("/metadata/annotations/{}", GENERATE.replace('/', "~1"));
    let wanted = object
        .pointer(&pointer)
        .and_then(Value::as_str)
        .unwrap_or_default();
    let keys = wanted.split(',').map(str::trim).filter(|key| !key.is_empty());
    if is_secret { keys.collect() } else { Vec::new() }
}

/// Whether an object in a cluster has values that were made up for it.
pub(super) fn is_kept(live: &DynamicObject) -> bool {
    live.metadata
        .annotations
        .as_ref()
        .is_some_and(|annotations| annotations.contains_key(GENERATE))
}

/// Whether all keys have the values that were made up for them, as far as metadata tell.
fn has_all(live: &DynamicObject, keys: &[&str]) -> bool {
    let entries = live.metadata.managed_fields.iter().flatten();
    let ours = entries.filter(|entry| entry.manager.as_deref() == Some(MANAGER));
    ours.filter_map(|entry| entry.fields_v1.as_ref()).any(|fields| {
        let fields = owned_fields(&fields.0);
        let data = fields.get("f:data");
        keys.iter()
            .all(|key| data.is_some_and(|data| data.get(format!("f:{key}")).is_some()))
    })
}

/// Makes up what a Secret lacks. Does nothing for every other object. Of the live one there may be metadata only.
pub(super) async fn generate(
    plane: &Plane,
    resource: &ApiResource,
    wanted: &Wanted,
    live: Option<&DynamicObject>,
) -> Result<bool, Failure> {
    let keys = keys(&wanted.object);
    if keys.is_empty() {
        return Ok(false);
    }
    let live = match live {
        Some(live) if has_all(live, &keys) => return Ok(false),
        // Somebody has put a value of their own there, or there is one missing.
        Some(_) => {
            let address = &wanted.address;
            let applier = plane.applier();
            applier.get(resource, &address.namespace, &address.name).await?
        }
        None => None,
    };
    let known = |key: &str| -> Option<&str> {
        let value = live.as_ref()?.data.get("data")?.get(key)?.as_str()?;
        (!value.is_empty()).then_some(value)
    };
    if keys.iter().all(|key| known(key).is_some()) {
        return Ok(false);
    }
    let data: BTreeMap<&str, String> = keys
        .iter()
        .map(|key| (*key, known(key).map_or_else(made_up, str::to_owned)))
        .collect();
    let mut object = wanted.object.clone();
    if let Some(object) = object.as_object_mut() {
        object.insert("data".to_owned(), json!(data));
    }
    plane.applier().apply(resource, MANAGER, &object, true).await?;
    Ok(true)
}

fn made_up() -> String {
    let value: String = rand::rng()
        .sample_iter(Alphanumeric)
        .take(LENGTH)
        .map(char::from)
        .collect();
    STANDARD.encode(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_annotated_secrets_get_values() {
        let secret = json!({"kind": "Secret", "metadata": {"annotations": {GENERATE: "password, token"}}});
        assert_eq!(keys(&secret), ["password", "token"]);
        let plain = json!({"kind": "Secret", "metadata": {}});
        assert!(keys(&plain).is_empty());
        let other = json!({"kind": "ConfigMap", "metadata": {"annotations": {GENERATE: "password"}}});
        assert!(keys(&other).is_empty());
    }

    #[test]
    fn values_are_long_and_never_the_same() {
        let (a, b) = (made_up(), made_up());
        assert_ne!(a, b);
        let decoded = STANDARD.decode(a).unwrap_or_default();
        assert_eq!(decoded.len(), LENGTH);
        assert!(decoded.iter().all(u8::is_ascii_alphanumeric));
    }
}
