//! Label selectors of typed objects.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::ServiceSpec,
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
