//! Which writes a webhook or a policy is for: rules, selectors, equivalent versions.

use std::sync::Arc;

use choreo_apimachinery::registry::ResourceInfo;
use choreo_apimachinery::selector::LabelSelector;
use choreo_store::{Key, Snapshot};
use serde::Deserialize;
use serde_json::Value;

use super::Operation;
use super::chain::Review;

/// A rule: operations on resources.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Rule {
    operations: Vec<String>,
    api_groups: Vec<String>,
    api_versions: Vec<String>,
    resources: Vec<String>,
    scope: Option<String>,
    /// Only of policies; none means all.
    resource_names: Vec<String>,
}

fn has(list: &[String], value: &str) -> bool {
    list.iter().any(|item| item == "*" || item == value)
}

impl Rule {
    fn matches(&self, operation: Operation, info: &ResourceInfo, subresource: &str, name: &str) -> bool {
        let scope = match self.scope.as_deref() {
            Some("Namespaced") => info.namespaced,
            // A Namespace counts as an object of the cluster.
            Some("Cluster") => !info.namespaced,
            _ => true,
        };
        scope
            && has(&self.operations, operation.as_str())
            && has(&self.api_groups, &info.group)
            && has(&self.api_versions, &info.version)
            && (self.resource_names.is_empty() || self.resource_names.iter().any(|n| n == name))
            && self.resources.iter().any(|item| match item.split_once('/') {
                None => subresource.is_empty() && (item == "*" || *item == info.plural),
                Some((of, sub)) => {
                    // `*/*` and `pods/*` take the object itself, too.
                    (of == "*" || of == info.plural) && (sub == "*" || sub == subresource)
                }
            })
    }
}

/// What a webhook or policy says about the writes that it is for.
#[derive(Clone, Debug)]
pub(super) struct Matcher {
    rules: Vec<Rule>,
    excluded: Vec<Rule>,
    equivalent: bool,
    namespaces: Option<LabelSelector>,
    objects: Option<LabelSelector>,
}

impl Matcher {
    /// Reads a webhook, a policy's `matchConstraints` or a binding's `matchResources`: they have the same fields but for the
    /// name of the rules.
    pub(super) fn read(spec: &Value, rules: &str) -> Matcher {
        let read = |field: &str| -> Vec<Rule> {
            spec.get(field)
                .and_then(|rules| Vec::deserialize(rules).ok())
                .unwrap_or_default()
        };
        let selector = |field: &str| {
            let selector = spec.get(field).filter(|s| !s.is_null())?;
            LabelSelector::from_object(Some(selector)).ok()
        };
        Matcher {
            rules: read(rules),
            excluded: read("excludeResourceRules"),
            equivalent: spec.get("matchPolicy").and_then(Value::as_str) != Some("Exact"),
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
        }
    }

    /// The version of the resource by which the write is to be looked at; none when it is not for this.
    pub(super) fn matches(
        &self,
        review: &Review<'_>,
        snapshot: &Snapshot,
        object: Option<&Value>,
        any_rule: bool,
    ) -> Option<Arc<ResourceInfo>> {
        if !self.in_namespace(review, snapshot, object) {
            return None;
        }
        if let Some(selector) = &self.objects {
            let selected = |object: Option<&Value>| object.is_some_and(|o| selector.matches_object(o));
            if !selected(object) && !selected(review.old) {
                return None;
            }
        }
        let one = |rules: &[Rule], info: &ResourceInfo| {
            rules
                .iter()
                .any(|rule| rule.matches(review.operation, info, review.subresource, review.name))
        };
        let own = &review.target.resource;
        let find = |rules: &[Rule]| -> Option<Arc<ResourceInfo>> {
            if one(rules, own) {
                return Some(own.clone());
            }
            if !self.equivalent {
                return None;
            }
            let served = review.target.cluster.served();
            let group = served.registry().group(&own.group)?;
            let mut others = group.versions().filter_map(|v| v.resource(&own.plural));
            others.find(|other| one(rules, other)).cloned()
        };
        if find(&self.excluded).is_some() {
            return None;
        }
        if any_rule && self.rules.is_empty() {
            return Some(own.clone());
        }
        find(&self.rules)
    }

    fn in_namespace(&self, review: &Review<'_>, snapshot: &Snapshot, object: Option<&Value>) -> bool {
        let Some(selector) = self.namespaces.as_ref().filter(|s| !s.is_everything()) else {
            return true;
        };
        match namespace_of(review, snapshot, object) {
            Some(namespace) => selector.matches_object(&namespace),
            // What is in no namespace is not left out by a choice of namespaces.
            None => review.namespace().is_empty(),
        }
    }
}

/// The Namespace that a write is in, or is.
pub(super) fn namespace_of(
    review: &Review<'_>,
    snapshot: &Snapshot,
    object: Option<&Value>,
) -> Option<Arc<Value>> {
    let info = &review.target.resource;
    if info.group.is_empty()
        && info.plural == "namespaces"
        && review.subresource.is_empty()
        && let Some(object) = object
    {
        return Some(Arc::new(object.clone()));
    }
    let name = review.namespace();
    if name.is_empty() {
        return None;
    }
    snapshot
        .get(&Key::new("namespaces", "", name))
        .map(|found| found.value())
}

/// Whether webhooks and policies are not asked about a resource: nobody must lock themselves out of changing them.
pub(super) fn is_exempt(info: &ResourceInfo) -> bool {
    info.group == "admissionregistration.k8s.io"
        && matches!(
            info.plural.as_str(),
            "validatingwebhookconfigurations"
                | "mutatingwebhookconfigurations"
                | "validatingadmissionpolicies"
                | "validatingadmissionpolicybindings"
                | "mutatingadmissionpolicies"
                | "mutatingadmissionpolicybindings"
        )
}
