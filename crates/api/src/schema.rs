//! Building blocks for the schemas of the kinds: patterns, raw objects, and the rules that several kinds share.

use kube::core::Rule;
use schemars::{Schema, SchemaGenerator, json_schema};

/// A DNS label (RFC 1123): what a name must be that becomes part of a namespace, a host or a label.
pub(crate) const NAME: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

/// A DNS subdomain (RFC 1123): the name of any other object.
pub(crate) const SUBDOMAIN: &str = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$";

/// A duration such as `30s`, `1m30s` or `250ms`.
pub(crate) const DURATION: &str = "^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$";

/// Like [`DURATION`], with days: the window of a rate limit.
pub(crate) const WINDOW: &str = "^[1-9][0-9]*(s|m|h|d)$";

/// A Kubernetes quantity such as `250m`, `64Mi` or `1.5`.
pub(crate) const QUANTITY: &str = "^[0-9]+(\\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e[0-9]+|E[0-9]+)?$";

/// A SHA-256 digest, as in an image reference by digest.
pub(crate) const DIGEST: &str = "^sha256:[0-9a-f]{64}$";

/// The name of an environment variable.
pub(crate) const ENV_NAME: &str = "^[-._a-zA-Z][-._a-zA-Z0-9]*$";

/// The key of an entry in a ConfigMap, a Secret or a configuration group.
pub(crate) const CONFIG_KEY: &str = "^[-._a-zA-Z0-9]+$";

/// An object whose fields this API does not describe, such as a Kubernetes object.
pub(crate) fn object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// A complete Kubernetes object: it has an `apiVersion`, a `kind` and `metadata`.
pub(crate) fn embedded_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "x-kubernetes-embedded-resource": true,
        "x-kubernetes-preserve-unknown-fields": true,
    })
}

/// A value of any type.
pub(crate) fn any(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"x-kubernetes-preserve-unknown-fields": true})
}

/// The whole value may be set once and never be changed.
pub(crate) fn immutable(what: &str) -> Rule {
    Rule::new("self == oldSelf")
        .message(format!("{what} cannot be changed; create another object instead").as_str())
}

/// The object's own name must be a DNS label, since it becomes part of namespaces, hosts and labels.
pub(crate) fn label_name() -> Rule {
    Rule::new(format!("self.metadata.name.size() <= 63 && self.metadata.name.matches('{NAME}')"))
        .message("the name must be a DNS label: at most 63 lower-case letters, digits and '-', without '-' at its ends")
}

/// As [`label_name`], and with a letter in front: the name becomes the name of a Kubernetes Service.
pub(crate) fn service_name() -> Rule {
    Rule::new("self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')").message(
        "the name must be a DNS label that starts with a letter: at most 63 lower-case letters, digits and '-', \
         without '-' at its end",
    )
}

/// An optional field of an object that is immutable once it is set.
pub(crate) fn immutable_optional(field: &str) -> Rule {
    set_once("", field)
}

/// As [`immutable_optional`] for a field of the spec, as a rule of the whole object: for a spec that is also part of
/// lists, where a rule cannot know what the item was before.
pub(crate) fn immutable_optional_in_spec(field: &str) -> Rule {
    set_once("spec.", field)
}

fn set_once(prefix: &str, field: &str) -> Rule {
    let path = format!("{prefix}{field}");
    Rule::new(format!(
        "!has(oldSelf.{path}) || (has(self.{path}) && self.{path} == oldSelf.{path})"
    ))
    .message(format!("{field} cannot be changed once it is set; create another object instead").as_str())
    .field_path(format!(".{path}"))
}
