//! Empty lists and maps, which typed objects do not have: nothing is written of them, so that they are not there any more when
//! the object is read.

use serde_json::Value;

use crate::schema::{Additional, Schema, Type};

/// Lists that are written even when they are empty: definition without its prefix, and field.
const WRITTEN: &[(&str, &str)] = &[
    (
        "admissionregistration.v1.MutatingWebhook",
        "admissionReviewVersions",
    ),
    (
        "admissionregistration.v1.ValidatingWebhook",
        "admissionReviewVersions",
    ),
    ("apiextensions.v1.CustomResourceDefinitionSpec", "versions"),
    ("apiextensions.v1.CustomResourceDefinitionStatus", "conditions"),
    (
        "apiextensions.v1.CustomResourceDefinitionStatus",
        "storedVersions",
    ),
    ("apiextensions.v1.WebhookConversion", "conversionReviewVersions"),
    ("authorization.v1.NonResourceRule", "verbs"),
    ("authorization.v1.ResourceRule", "verbs"),
    ("authorization.v1.SubjectRulesReviewStatus", "nonResourceRules"),
    ("authorization.v1.SubjectRulesReviewStatus", "resourceRules"),
    ("autoscaling.v2.HorizontalPodAutoscalerStatus", "currentMetrics"),
    ("batch.v1.PodFailurePolicy", "rules"),
    ("batch.v1.PodFailurePolicyOnExitCodesRequirement", "values"),
    ("batch.v1.SuccessPolicy", "rules"),
    ("core.v1.CephFSPersistentVolumeSource", "monitors"),
    ("core.v1.CephFSVolumeSource", "monitors"),
    ("core.v1.ContainerImage", "names"),
    ("core.v1.LimitRangeSpec", "limits"),
    ("core.v1.NodeSelector", "nodeSelectorTerms"),
    ("core.v1.PodExtendedResourceClaimStatus", "requestMappings"),
    ("core.v1.PodSpec", "containers"),
    ("core.v1.ProjectedVolumeSource", "sources"),
    ("core.v1.RBDPersistentVolumeSource", "monitors"),
    ("core.v1.RBDVolumeSource", "monitors"),
    ("core.v1.TopologySelectorLabelRequirement", "values"),
    ("discovery.v1.Endpoint", "addresses"),
    ("discovery.v1.EndpointSlice", "endpoints"),
    ("discovery.v1.EndpointSlice", "ports"),
    ("flowcontrol.v1.NonResourcePolicyRule", "nonResourceURLs"),
    ("flowcontrol.v1.NonResourcePolicyRule", "verbs"),
    ("flowcontrol.v1.PolicyRulesWithSubjects", "subjects"),
    ("flowcontrol.v1.ResourcePolicyRule", "apiGroups"),
    ("flowcontrol.v1.ResourcePolicyRule", "resources"),
    ("flowcontrol.v1.ResourcePolicyRule", "verbs"),
    ("networking.v1.HTTPIngressRuleValue", "paths"),
    ("rbac.v1.ClusterRole", "rules"),
    ("rbac.v1.PolicyRule", "verbs"),
    ("rbac.v1.Role", "rules"),
    ("storage.v1.CSINodeDriver", "topologyKeys"),
    ("storage.v1.CSINodeSpec", "drivers"),
];

/// Removes empty lists and maps from an object of a built-in kind, at every depth, where the kind's type does not write them.
pub fn drop_empty(schema: &Schema, value: &mut Value) {
    if schema.preserve_unknown {
        return;
    }
    match value {
        Value::Object(object) => {
            object.retain(|name, value| {
                let Some(below) = schema.properties.get(name) else {
                    if let Additional::Schema(values) = &schema.additional {
                        drop_empty(values, value);
                    }
                    return true;
                };
                drop_empty(below, value);
                let gone = match value {
                    Value::Array(items) => items.is_empty(),
                    Value::Object(members) => members.is_empty() && is_map(below),
                    _ => false,
                };
                !gone || is_written(schema, name)
            });
        }
        Value::Array(list) => {
            if let Some(items) = &schema.items {
                list.iter_mut().for_each(|item| drop_empty(items, item));
            }
        }
        _ => {}
    }
}

/// A map rather than an object with fields of its own, which says something by being there.
fn is_map(schema: &Schema) -> bool {
    schema.type_ == Some(Type::Object)
        && schema.properties.is_empty()
        && !schema.preserve_unknown
        && matches!(schema.additional, Additional::Schema(_))
}

fn is_written(schema: &Schema, field: &str) -> bool {
    let Some(definition) = schema.definition.as_deref() else {
        return false;
    };
    WRITTEN.iter().any(|(of, name)| {
        *name == field
            && definition
                .strip_suffix(of)
                .is_some_and(|rest| rest.ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::registry::Registry;

    fn kept(version: &str, kind: &str, mut object: Value) -> Value {
        let registry = Registry::builtin();
        let schema = registry.by_api_version(version, kind).unwrap().schema();
        drop_empty(&schema, &mut object);
        object
    }

    /// The outcomes are kube-apiserver 1.36's.
    #[test]
    fn what_is_empty_goes_unless_it_says_something() {
        assert_eq!(
            kept("v1", "ConfigMap", json!({"data": {}, "binaryData": {"k": ""}})),
            json!({"binaryData": {"k": ""}})
        );
        assert_eq!(
            kept(
                "networking.k8s.io/v1",
                "NetworkPolicy",
                json!({"spec": {
                    "podSelector": {"matchLabels": {}}, "ingress": [], "egress": [{"to": []}], "policyTypes": ["Ingress"],
                }})
            ),
            json!({"spec": {"podSelector": {}, "egress": [{}], "policyTypes": ["Ingress"]}})
        );
        assert_eq!(
            kept(
                "v1",
                "Pod",
                json!({"spec": {
                    "containers": [{"name": "a", "resources": {"limits": {}}, "args": [], "securityContext": {"capabilities": {"drop": []}}}],
                    "volumes": [{"name": "v", "emptyDir": {}}], "nodeSelector": {}, "initContainers": [],
                }})
            ),
            json!({"spec": {
                "containers": [{"name": "a", "resources": {}, "securityContext": {"capabilities": {}}}],
                "volumes": [{"name": "v", "emptyDir": {}}],
            }})
        );
        assert_eq!(
            kept(
                "rbac.authorization.k8s.io/v1",
                "Role",
                json!({"rules": [{"verbs": [], "resources": []}]})
            ),
            json!({"rules": [{"verbs": []}]})
        );
        let empty = json!({"rules": []});
        assert_eq!(kept("rbac.authorization.k8s.io/v1", "Role", empty.clone()), empty);
    }

    #[test]
    fn every_list_that_is_written_has_its_field() {
        let mut definitions = std::collections::BTreeMap::new();
        for row in super::super::rows() {
            (row.publish.unwrap())(&mut definitions);
        }
        for (of, field) in WRITTEN {
            let found = definitions.iter().any(|(name, definition)| {
                name.ends_with(&format!(".{of}"))
                    && definition.pointer(&format!("/properties/{field}")).is_some()
            });
            assert!(found, "{of}.{field}");
        }
    }
}
