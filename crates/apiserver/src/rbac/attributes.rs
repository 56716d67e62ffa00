//! [`Attributes`]: what somebody wants to do, in the terms of rules.

use crate::request::RequestInfo;

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
    /// Those of a request.
    pub(crate) fn of(info: &RequestInfo, method: &str) -> Self {
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
            name: info.name.clone(),
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
