//! [`Attributes`]: what somebody wants to do, in the terms of rules.

use choreo_apimachinery::selector::FieldSelector;

use crate::request::{Query, RequestInfo, Verb};

/// What is to be allowed or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// The verb of a resource, or the method of a path in lower case.
    pub(crate) verb: String,
    /// The API group.
    pub(crate) group: String,
    /// The plural name.
    pub(crate) resource: String,
    /// The subresource, or empty.
    pub(crate) subresource: String,
    /// The namespace; empty for what is not in one, and for all of them.
    pub(crate) namespace: String,
    /// The object's name; empty for collections.
    pub(crate) name: String,
    /// The path, for what is no resource.
    pub(crate) path: Option<String>,
}

impl Attributes {
    /// Those of a request. A list or watch of the one object of a name counts as one of that object, so that a rule with names
    /// lets its holders follow it.
    pub(crate) fn of(info: &RequestInfo, method: &str, query: &Query) -> Self {
        if !info.is_resource {
            return Self {
                verb: method.to_ascii_lowercase(),
                path: Some(info.path.clone()),
                ..Self::default()
            };
        }
        Self {
            verb: info.verb.as_str().to_owned(),
            group: info.group.clone(),
            resource: info.resource.clone(),
            subresource: info.subresource.clone(),
            // Who may do something in a namespace may do it to the namespace itself, where a rule says so.
            namespace: if info.resource == "namespaces" && info.group.is_empty() {
                info.name.clone()
            } else {
                info.namespace.clone()
            },
            name: match info.verb {
                Verb::List | Verb::Watch if info.name.is_empty() => selected(query),
                _ => info.name.clone(),
            },
            path: None,
        }
    }

    /// Those of a verb on one object.
    pub(crate) fn on(verb: &str, group: &str, resource: &str, namespace: &str, name: &str) -> Self {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Self {
            verb: verb.to_owned(),
            group: group.to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            path: None,
        }
    }

    /// `pods` or `pods/log`.
    pub(crate) fn combined(&self) -> String {
        match self.subresource.as_str() {
            "" => self.resource.clone(),
            sub => format!("{}/{sub}", self.resource),
        }
    }
}

/// The name that a field selector asks for; empty if it asks for more than one.
fn selected(query: &Query) -> String {
    let Some(selector) = query.text("fieldSelector") else {
        return String::new();
    };
    let selector = FieldSelector::parse(selector).ok();
    let name = selector
        .as_ref()
        .and_then(|selector| selector.exact("metadata.name"));
    name.filter(|name| !name.contains(['/', '%']) && !matches!(*name, "." | ".."))
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn name_of(method: &Method, query: &str) -> String {
        let query = Query::parse(query);
        let path = "/apis/coordination.k8s.io/v1/namespaces/a/leases";
        let info = RequestInfo::parse(method, path, &query);
        Attributes::of(&info, method.as_str(), &query).name
    }

    #[test]
    fn who_follows_one_object_asks_for_that_object() {
        assert_eq!(name_of(&Method::GET, "fieldSelector=metadata.name%3Db"), "b");
        assert_eq!(
            name_of(&Method::GET, "watch=true&fieldSelector=metadata.name%3D%3Db"),
            "b"
        );
        for more in [
            "",
            "fieldSelector=metadata.name!%3Db",
            "fieldSelector=metadata.namespace%3Db",
            "fieldSelector=metadata.name%3D..",
            "labelSelector=metadata.name%3Db",
        ] {
            assert_eq!(name_of(&Method::GET, more), "", "{more}");
        }
        // A deletion of many is not one of that one, as in kube-apiserver.
        assert_eq!(name_of(&Method::DELETE, "fieldSelector=metadata.name%3Db"), "");
    }
}
