//! Label selectors of typed objects.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{NodeSelectorRequirement, PodSpec, ServiceSpec},
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};

/// Whether the selector selects an object of that metadata. An empty selector selects everything.
pub(crate) fn matches(selector: &LabelSelector, meta: &ObjectMeta) -> bool {
    let none = BTreeMap::new();
    let labels = meta.labels.as_ref().unwrap_or(&none);
    let equal = selector
        .match_labels
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|expression| {
            let value = labels.get(&expression.key);
            let among = |value: &String| expression.values.iter().flatten().any(|wanted| wanted == value);
            match expression.operator.as_str() {
                "In" => value.is_some_and(among),
                "NotIn" => !value.is_some_and(among),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

/// Whether a Service selects a Pod. One without a selector selects none.
pub(crate) fn selects(service: Option<&ServiceSpec>, pod: &ObjectMeta) -> bool {
    let Some(selector) = service
        .and_then(|spec| spec.selector.as_ref())
        .filter(|selector| !selector.is_empty())
    else {
        return false;
    };
    let labels = pod.labels.as_ref();
    selector
        .iter()
        .all(|(key, value)| labels.is_some_and(|labels| labels.get(key) == Some(value)))
}

/// Whether a Pod may go to a node by what it says about nodes itself: its selector and its required affinity.
pub(crate) fn wants_node(pod: &PodSpec, name: &str, labels: &BTreeMap<String, String>) -> bool {
    let mut selected = pod.node_selector.iter().flatten();
    let affinity = pod
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let fields = BTreeMap::from([("metadata.name".to_owned(), name.to_owned())]);
    selected.all(|(key, value)| labels.get(key) == Some(value))
        && required.is_none_or(|required| {
            required.node_selector_terms.iter().any(|term| {
                let mut expressions = term.match_expressions.iter().flatten();
                let mut names = term.match_fields.iter().flatten();
                expressions.all(|wanted| holds(wanted, labels)) && names.all(|wanted| holds(wanted, &fields))
            })
        })
}

fn holds(wanted: &NodeSelectorRequirement, values: &BTreeMap<String, String>) -> bool {
    let found = values.get(&wanted.key);
    let given = wanted.values.as_deref().unwrap_or_default();
    let number = |text: Option<&String>| text.and_then(|text| text.parse::<i64>().ok());
    let compared = |order: std::cmp::Ordering| match (number(found), number(given.first())) {
        (Some(found), Some(given)) => found.cmp(&given) == order,
        _ => false,
    };
    match wanted.operator.as_str() {
        "In" => found.is_some_and(|found| given.contains(found)),
        "NotIn" => found.is_none_or(|found| !given.contains(found)),
        "Exists" => found.is_some(),
        "DoesNotExist" => found.is_none(),
        "Gt" => compared(std::cmp::Ordering::Greater),
        "Lt" => compared(std::cmp::Ordering::Less),
        _ => false,
    }
}
