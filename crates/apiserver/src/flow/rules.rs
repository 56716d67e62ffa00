//! Which requests a FlowSchema is for. Nothing here allocates when it is asked: every request asks.

use http::Method;
use serde::Deserialize;

use crate::request::RequestInfo;
use crate::user::UserInfo;

/// One rule of a FlowSchema.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Rule {
    subjects: Vec<Subject>,
    resource_rules: Vec<ResourceRule>,
    non_resource_rules: Vec<NonResourceRule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Subject {
    kind: String,
    user: Option<Named>,
    group: Option<Named>,
    service_account: Option<Named>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Named {
    name: String,
    namespace: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ResourceRule {
    verbs: Vec<String>,
    api_groups: Vec<String>,
    resources: Vec<String>,
    namespaces: Vec<String>,
    cluster_scope: bool,
}

#[derive(Debug, Default, Deserialize)]
struct NonResourceRule {
    verbs: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    urls: Vec<String>,
}

/// The namespace that a request counts for. One for a namespace itself counts for that namespace.
pub(super) fn namespace_of(info: &RequestInfo) -> &str {
    if info.resource == "namespaces" && info.group.is_empty() {
        &info.name
    } else {
        &info.namespace
    }
}

impl Rule {
    pub(super) fn matches(&self, user: &UserInfo, info: &RequestInfo, method: &Method) -> bool {
        if !self.subjects.iter().any(|subject| subject.is(user)) {
            return false;
        }
        if info.is_resource {
            self.resource_rules.iter().any(|rule| rule.matches(info))
        } else {
            self.non_resource_rules
                .iter()
                .any(|rule| rule.matches(info, method))
        }
    }
}

impl Subject {
    fn is(&self, user: &UserInfo) -> bool {
        match (self.kind.as_str(), &self.user, &self.group, &self.service_account) {
            ("User", Some(named), ..) => named.name == "*" || named.name == user.name,
            ("Group", _, Some(named), _) => named.name == "*" || user.is_in(&named.name),
            ("ServiceAccount", .., Some(named)) => user
                .name
                .strip_prefix("system:serviceaccount:")
                .and_then(|rest| rest.strip_prefix(named.namespace.as_str()))
                .and_then(|rest| rest.strip_prefix(':'))
                .is_some_and(|name| named.name == "*" || named.name == name),
            _ => false,
        }
    }
}

impl ResourceRule {
    fn matches(&self, info: &RequestInfo) -> bool {
        let namespace = namespace_of(info);
        has(&self.verbs, info.verb.as_str())
            && self
                .resources
                .iter()
                .any(|resource| resource == "*" || is_resource(resource, info))
            && has(&self.api_groups, &info.group)
            && if namespace.is_empty() {
                self.cluster_scope
            } else {
                has(&self.namespaces, namespace)
            }
    }
}

/// `pods`, or `pods/log`.
fn is_resource(wanted: &str, info: &RequestInfo) -> bool {
    match wanted.strip_prefix(info.resource.as_str()) {
        Some("") => info.subresource.is_empty(),
        Some(rest) => {
            !info.subresource.is_empty() && rest.strip_prefix('/') == Some(info.subresource.as_str())
        }
        None => false,
    }
}

impl NonResourceRule {
    fn matches(&self, info: &RequestInfo, method: &Method) -> bool {
        let verb = method.as_str();
        self.verbs
            .iter()
            .any(|wanted| wanted == "*" || wanted.eq_ignore_ascii_case(verb))
            && self.urls.iter().any(|url| is_below(url, &info.path))
    }
}

/// A path itself and all below it, whether or not there is a star behind it.
fn is_below(url: &str, path: &str) -> bool {
    if url == "*" || url == path {
        return true;
    }
    let root = url.strip_suffix('*').unwrap_or(url);
    match path.strip_prefix(root) {
        Some(rest) => root.ends_with('/') || rest.starts_with('/'),
        None => false,
    }
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|value| value == "*" || value == wanted)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::request::Query;

    fn matches(rule: Value, user: &UserInfo, request: &str) -> bool {
        let rule: Rule = serde_json::from_value(rule).unwrap();
        let (method, path) = request.split_once(' ').unwrap();
        let method: Method = method.parse().unwrap();
        let info = RequestInfo::parse(&method, path, &Query::parse(""));
        rule.matches(user, &info, &method)
    }

    #[test]
    fn subjects() {
        let robot = UserInfo::new("system:serviceaccount:apps:robot", ["system:serviceaccounts"]);
        for (subject, expected) in [
            (json!({"kind": "User", "user": {"name": "*"}}), true),
            (json!({"kind": "User", "user": {"name": "robot"}}), false),
            (json!({"kind": "User", "group": {"name": "*"}}), false),
            (
                json!({"kind": "Group", "group": {"name": "system:serviceaccounts"}}),
                true,
            ),
            (json!({"kind": "Group", "group": {"name": "system:nodes"}}), false),
            (
                json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "apps", "name": "robot"}}),
                true,
            ),
            (
                json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "apps", "name": "*"}}),
                true,
            ),
            (
                json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "app", "name": "*"}}),
                false,
            ),
            (
                json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "apps", "name": "rob"}}),
                false,
            ),
        ] {
            let rule = json!({"subjects": [subject], "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]});
            assert_eq!(matches(rule.clone(), &robot, "GET /version"), expected, "{rule}");
        }
    }

    #[test]
    fn resources() {
        let jane = UserInfo::new("jane", ["dev"]);
        let rule = |verbs: Value, group: &str, resource: &str, namespaces: Value, cluster: bool| {
            json!({"subjects": [{"kind": "Group", "group": {"name": "dev"}}], "resourceRules": [{
                "verbs": verbs, "apiGroups": [group], "resources": [resource], "namespaces": namespaces, "clusterScope": cluster,
            }]})
        };
        for (rule, request, expected) in [
            (
                rule(json!(["*"]), "*", "*", json!(["*"]), true),
                "GET /api/v1/pods",
                true,
            ),
            (
                rule(json!(["*"]), "*", "*", json!(["*"]), false),
                "GET /api/v1/pods",
                false,
            ),
            (
                rule(json!(["*"]), "*", "*", json!([]), true),
                "GET /api/v1/namespaces/a/pods",
                false,
            ),
            (
                rule(json!(["*"]), "*", "*", json!(["a"]), false),
                "GET /api/v1/namespaces/a",
                true,
            ),
            (
                rule(json!(["*"]), "*", "*", json!(["a"]), false),
                "GET /api/v1/namespaces",
                false,
            ),
            (
                rule(json!(["list"]), "", "pods", json!(["a"]), false),
                "GET /api/v1/namespaces/a/pods",
                true,
            ),
            (
                rule(json!(["get"]), "", "pods", json!(["a"]), false),
                "GET /api/v1/namespaces/a/pods",
                false,
            ),
            (
                rule(json!(["*"]), "apps", "pods", json!(["a"]), false),
                "GET /api/v1/namespaces/a/pods",
                false,
            ),
            (
                rule(json!(["*"]), "", "pods", json!(["*"]), false),
                "GET /api/v1/namespaces/a/pods/p/log",
                false,
            ),
            (
                rule(json!(["*"]), "", "pods/log", json!(["*"]), false),
                "GET /api/v1/namespaces/a/pods/p/log",
                true,
            ),
            (
                rule(json!(["*"]), "", "pods/log", json!(["*"]), false),
                "GET /api/v1/namespaces/a/pods/p",
                false,
            ),
            (
                rule(json!(["*"]), "*", "*", json!(["*"]), true),
                "GET /version",
                false,
            ),
        ] {
            assert_eq!(
                matches(rule.clone(), &jane, request),
                expected,
                "{request} {rule}"
            );
        }
    }

    #[test]
    fn paths() {
        let jane = UserInfo::new("jane", ["dev"]);
        for (verb, url, request, expected) in [
            ("get", "/healthz", "GET /healthz", true),
            ("get", "/healthz", "GET /healthz/ping", true),
            ("get", "/healthz/*", "GET /healthz/ping", true),
            ("get", "/healthz", "GET /healthzz", false),
            ("get", "/healthz", "POST /healthz", false),
            ("*", "/", "GET /version", true),
            ("*", "*", "OPTIONS /x", true),
            ("get", "*", "GET /api/v1/pods", false),
        ] {
            let rule = json!({"subjects": [{"kind": "User", "user": {"name": "jane"}}], "nonResourceRules": [
                {"verbs": [verb], "nonResourceURLs": [url]},
            ]});
            assert_eq!(matches(rule, &jane, request), expected, "{verb} {url}: {request}");
        }
    }
}
