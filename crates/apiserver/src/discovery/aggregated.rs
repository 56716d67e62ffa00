//! Discovery with everything in one document: `apidiscovery.k8s.io`.

use choreo_apimachinery::registry::{Group, Registry, ResourceInfo};
use choreo_apimachinery::status::Result;
use serde_json::{Value, json};

use super::texts;
use crate::negotiate::{Codec, accepted};

/// The encoding and version of the aggregated form that an `Accept` header asks for; none when it wants the old form.
pub(super) fn wanted(accept: &str) -> Option<(Codec, &'static str)> {
    for clause in accepted(accept) {
        let codec = match Codec::for_accept(&clause) {
            Some(codec @ (Codec::Json | Codec::Protobuf)) => codec,
            _ => continue,
        };
        match (clause.param("g"), clause.param("as"), clause.param("v")) {
            (Some("apidiscovery.k8s.io"), Some("APIGroupDiscoveryList"), Some("v2")) => {
                return Some((codec, "v2"));
            }
            (Some("apidiscovery.k8s.io"), Some("APIGroupDiscoveryList"), Some("v2beta1")) => {
                return Some((codec, "v2beta1"));
            }
            (None, None, None) => return None,
            _ => {}
        }
    }
    None
}

/// The content type of the document.
pub(super) fn content_type(codec: Codec, version: &str) -> String {
    let name = codec.media_type();
    format!("{name};g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList")
}

/// The document: the core group, or all others.
pub(super) fn list(registry: &Registry, core: bool, codec: Codec, version: &str) -> Result<Vec<u8>> {
    let items: Vec<Value> = registry
        .groups()
        .filter(|g| g.name().is_empty() == core)
        .map(describe)
        .collect();
    let list = json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    });
    codec.encode(&list, false)
}

fn describe(group: &Group) -> Value {
    let versions: Vec<Value> = group
        .versions()
        .map(|version| {
            let resources: Vec<Value> = version.resources().map(|r| resource(r)).collect();
            json!({"version": version.name(), "resources": resources, "freshness": "Current"})
        })
        .collect();
    let metadata = if group.name().is_empty() {
        json!({})
    } else {
        json!({"name": group.name()})
    };
    json!({"metadata": metadata, "versions": versions})
}

fn resource(info: &ResourceInfo) -> Value {
    // kube-apiserver names group and version only where they are not those of the list, but for custom resources always.
    let own = |kind: &str| {
        if info.is_crd {
            json!({"group": info.group, "version": info.version, "kind": kind})
        } else {
            json!({"group": "", "version": "", "kind": kind})
        }
    };
    let mut entry = json!({
        "resource": info.plural,
        "responseKind": own(&info.kind),
        "scope": if info.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": info.singular,
        "verbs": texts(&info.verbs),
    });
    if !info.short_names.is_empty() {
        entry["shortNames"] = texts(&info.short_names);
    }
    if !info.categories.is_empty() {
        entry["categories"] = texts(&info.categories);
    }
    if !info.subresources.is_empty() {
        let all: Vec<Value> = info
            .subresources
            .iter()
            .map(|sub| {
                let kind = if sub.version.is_empty() {
                    own(&sub.kind)
                } else {
                    json!({"group": sub.group, "version": sub.version, "kind": sub.kind})
                };
                json!({"subresource": sub.name, "responseKind": kind, "verbs": texts(&sub.verbs)})
            })
            .collect();
        entry["subresources"] = all.into();
    }
    entry
}
