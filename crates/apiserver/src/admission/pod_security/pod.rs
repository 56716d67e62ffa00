//! A Pod, or the template of one, as the checks see it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::verbs::text;

/// Metadata and spec of a Pod.
pub(super) struct Pod<'a> {
    metadata: &'a Value,
    pub(super) spec: &'a Value,
}

/// Fields in which a Pod lists its containers, in the order in which they are told of.
const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

impl<'a> Pod<'a> {
    /// What is at a path of the object; none if nothing is.
    pub(super) fn at(object: &'a Value, path: &str) -> Option<Pod<'a>> {
        let pod = object.pointer(path).filter(|pod| pod.is_object())?;
        Some(Pod {
            metadata: &pod["metadata"],
            spec: &pod["spec"],
        })
    }

    fn list(&self, field: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
        self.spec[field].as_array().into_iter().flatten()
    }

    /// All containers.
    pub(super) fn containers(&self) -> impl Iterator<Item = &'a Value> {
        CONTAINERS.into_iter().flat_map(|field| self.list(field))
    }

    /// All volumes.
    pub(super) fn volumes(&self) -> impl Iterator<Item = &'a Value> {
        self.list("volumes")
    }

    /// Annotations with a text.
    pub(super) fn annotations(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let all = self.metadata["annotations"].as_object().into_iter().flatten();
        all.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
    }

    /// A field of the Pod's own security context, that is not null.
    pub(super) fn secured(&self, field: &str) -> Option<&'a Value> {
        secured(self.spec, field)
    }

    /// Whether the Pod is for Windows.
    pub(super) fn is_windows(&self) -> bool {
        text(self.spec, "/os/name") == "windows"
    }

    /// Whether its users are not those of the host.
    pub(super) fn has_own_users(&self) -> bool {
        self.spec["hostUsers"] == false
    }

    /// Whether something is not as it was that the standards are about. A Pod can only change its images and get ephemeral
    /// containers.
    pub(super) fn differs(&self, old: &Pod<'_>) -> bool {
        let [init, main, ephemeral] = CONTAINERS;
        let images = |pod: &Pod<'_>, field| {
            let images = pod.list(field).map(|c| text(c, "/image").to_owned());
            images.collect::<Vec<_>>()
        };
        let named = |pod: &Pod<'_>| {
            let all = pod.list(ephemeral);
            all.map(|c| (name(c).to_owned(), text(c, "/image").to_owned()))
                .collect::<BTreeSet<_>>()
        };
        images(self, init) != images(old, init)
            || images(self, main) != images(old, main)
            || !named(self).is_subset(&named(old))
    }
}

/// A field of the security context of a container or of a Pod's spec, that is not null.
pub(super) fn secured<'a>(of: &'a Value, field: &str) -> Option<&'a Value> {
    of.get("securityContext")?
        .get(field)
        .filter(|value| !value.is_null())
}

/// The name of a container or volume.
pub(super) fn name(of: &Value) -> &str {
    text(of, "/name")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn differs(old: &Value, new: &Value) -> bool {
        let pod = |spec: &Value| json!({"spec": spec});
        let (old, new) = (pod(old), pod(new));
        Pod::at(&new, "").unwrap().differs(&Pod::at(&old, "").unwrap())
    }

    #[test]
    fn an_update_counts_if_containers_come_or_change_their_image() {
        let list = |image: &str| json!([{"name": "a", "image": image}]);
        let was = json!({"initContainers": list("i"), "containers": list("c"), "ephemeralContainers": list("e"), "nodeName": "n"});
        let with = |field: &str, value: Value| {
            let mut is = was.clone();
            is[field] = value;
            is
        };
        assert!(!differs(&was, &was));
        assert!(!differs(&was, &with("nodeName", json!("m"))));
        // One that is gone is nothing new.
        assert!(!differs(&was, &with("ephemeralContainers", json!([]))));
        for field in CONTAINERS {
            assert!(differs(&was, &with(field, list("other"))), "{field}");
            let more = json!([was[field][0], {"name": "b", "image": "x"}]);
            assert!(differs(&was, &with(field, more)), "{field}");
        }
        assert!(differs(&was, &with("containers", json!([]))));
    }
}
