//! Which requests are written down, and how much of them.

use serde::Deserialize;

use crate::request::RequestInfo;
use crate::user::UserInfo;

/// How much is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) enum Level {
    /// Nothing.
    #[default]
    None,
    /// Who, what and when.
    Metadata,
    /// Also what was sent.
    Request,
    /// Also what was answered.
    RequestResponse,
}

impl Level {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Level::None => "None",
            Level::Metadata => "Metadata",
            Level::Request => "Request",
            Level::RequestResponse => "RequestResponse",
        }
    }
}

/// When something is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum Stage {
    /// The request has come, and nothing has been done yet.
    RequestReceived,
    /// The headers of a long answer are on their way.
    ResponseStarted,
    /// The answer is complete.
    ResponseComplete,
    /// The handler panicked.
    Panic,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Document {
    api_version: String,
    kind: String,
    #[allow(dead_code)] // a policy may have a name
    metadata: serde_json::Value,
    rules: Vec<Rule>,
    omit_stages: Vec<Stage>,
    omit_managed_fields: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Rule {
    level: Option<Level>,
    users: Vec<String>,
    user_groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<Resources>,
    namespaces: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Resources {
    group: String,
    resources: Vec<String>,
    resource_names: Vec<String>,
}

/// A policy.
#[derive(Debug)]
pub(super) struct Policy {
    rules: Vec<Rule>,
    omit_stages: Vec<Stage>,
    omit_managed_fields: bool,
}

/// What a policy says about one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) level: Level,
    pub(super) omit_stages: Vec<Stage>,
    pub(super) omit_managed_fields: bool,
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(text: &str) -> Result<Policy, String> {
        let document: Document = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
        if document.api_version != "audit.k8s.io/v1" || document.kind != "Policy" {
            return Err(format!(
                "expected kind Policy of audit.k8s.io/v1, found {:?} of {:?}",
                document.kind, document.api_version
            ));
        }
        if document.rules.is_empty() {
            return Err("rules: at least one rule is required".to_owned());
        }
        for (index, rule) in document.rules.iter().enumerate() {
            let wrong = |why: &str| Err(format!("rules[{index}]: {why}"));
            if rule.level.is_none() {
                return wrong("level: one of None, Metadata, Request, RequestResponse is required");
            }
            let about_resources = !rule.resources.is_empty() || !rule.namespaces.is_empty();
            if about_resources && !rule.non_resource_urls.is_empty() {
                return wrong("rules cannot apply to both regular resources and non-resource URLs");
            }
            if let Some(url) = rule
                .non_resource_urls
                .iter()
                .find(|url| *url != "*" && !url.starts_with('/'))
            {
                return wrong(&format!("nonResourceURLs: {url:?} must begin with a '/'"));
            }
        }
        Ok(Policy {
            rules: document.rules,
            omit_stages: document.omit_stages,
            omit_managed_fields: document.omit_managed_fields,
        })
    }

    /// What the first rule that fits a request says; nothing is written where none does.
    pub(super) fn judge(&self, user: &UserInfo, info: &RequestInfo, verb: &str) -> Verdict {
        let rule = self.rules.iter().find(|rule| rule.fits(user, info, verb));
        let Some(rule) = rule else {
            return Verdict {
                level: Level::None,
                omit_stages: Vec::new(),
                omit_managed_fields: false,
            };
        };
        Verdict {
            level: rule.level.unwrap_or_default(),
            omit_stages: [&self.omit_stages[..], &rule.omit_stages[..]].concat(),
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
        }
    }
}

impl Rule {
    fn fits(&self, user: &UserInfo, info: &RequestInfo, verb: &str) -> bool {
        let any = |list: &[String], value: &str| list.is_empty() || list.iter().any(|item| item == value);
        if !any(&self.users, &user.name)
            || !any(&self.verbs, verb)
            || (!self.user_groups.is_empty() && !self.user_groups.iter().any(|group| user.is_in(group)))
        {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return info.is_resource
                && any(&self.namespaces, &info.namespace)
                && (self.resources.is_empty() || self.resources.iter().any(|r| r.fits(info)));
        }
        if !self.non_resource_urls.is_empty() {
            return !info.is_resource
                && self
                    .non_resource_urls
                    .iter()
                    .any(|url| match url.strip_suffix('*') {
                        Some(prefix) => info.path.starts_with(prefix),
                        None => *url == info.path,
                    });
        }
        true
    }
}

impl Resources {
    fn fits(&self, info: &RequestInfo) -> bool {
        let combined = if info.subresource.is_empty() {
            info.resource.clone()
        } else {
            format!("{}/{}", info.resource, info.subresource)
        };
        let named = |item: &String| {
            item == "*"
                || *item == combined
                || item
                    .strip_prefix("*/")
                    .is_some_and(|sub| !sub.is_empty() && sub == info.subresource)
                || item.strip_suffix("/*").is_some_and(|of| of == info.resource)
        };
        self.group == info.group
            && (self.resources.is_empty() || self.resources.iter().any(named))
            && (self.resource_names.is_empty() || self.resource_names.contains(&info.name))
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::request::Query;

    fn level(policy: &Policy, user: &UserInfo, method: &str, path: &str) -> &'static str {
        let method: Method = method.parse().unwrap();
        let info = RequestInfo::parse(&method, path, &Query::parse(""));
        let verb = if info.is_resource {
            info.verb.as_str().to_owned()
        } else {
            method.as_str().to_lowercase()
        };
        policy.judge(user, &info, &verb).level.as_str()
    }

    /// The policy of Kubernetes' documentation on auditing, shortened.
    const EXAMPLE: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: ["RequestReceived"]
rules:
  - level: RequestResponse
    resources: [{group: "", resources: ["pods"]}]
  - level: Metadata
    resources: [{group: "", resources: ["pods/log", "pods/status"]}]
  - level: None
    resources: [{group: "", resources: ["configmaps"], resourceNames: ["controller-leader"]}]
  - level: None
    users: ["system:kube-proxy"]
    verbs: ["watch"]
  - level: None
    userGroups: ["system:authenticated"]
    nonResourceURLs: ["/api*", "/version"]
  - level: Request
    resources: [{group: "", resources: ["configmaps"]}]
    namespaces: ["kube-system"]
  - level: Metadata
"#;

    #[test]
    fn the_first_rule_that_fits_decides() {
        let policy = Policy::read(EXAMPLE).unwrap();
        let jane = UserInfo::new("jane", ["dev"]);
        for (method, path, expected) in [
            ("GET", "/api/v1/namespaces/a/pods/x", "RequestResponse"),
            ("GET", "/api/v1/namespaces/a/pods/x/log", "Metadata"),
            ("GET", "/api/v1/namespaces/a/pods/x/exec", "Metadata"),
            (
                "PUT",
                "/api/v1/namespaces/kube-system/configmaps/controller-leader",
                "None",
            ),
            ("PUT", "/api/v1/namespaces/kube-system/configmaps/x", "Request"),
            ("PUT", "/api/v1/namespaces/other/configmaps/x", "Metadata"),
            ("GET", "/version", "None"),
            ("GET", "/apis", "None"),
            ("GET", "/healthz", "Metadata"),
            ("GET", "/apis/apps/v1/deployments", "Metadata"),
        ] {
            assert_eq!(level(&policy, &jane, method, path), expected, "{method} {path}");
        }
        let proxy = UserInfo::new("system:kube-proxy", Vec::<String>::new());
        assert_eq!(level(&policy, &proxy, "GET", "/api/v1/endpoints"), "Metadata");
        assert_eq!(level(&policy, &proxy, "GET", "/api/v1/watch/endpoints"), "None");
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (text, expected) in [
            (
                "kind: Policy\napiVersion: v1\nrules: [{level: None}]",
                "audit.k8s.io/v1",
            ),
            ("kind: Policy\napiVersion: audit.k8s.io/v1", "at least one rule"),
            (
                "kind: Policy\napiVersion: audit.k8s.io/v1\nrules: [{users: [a]}]",
                "rules[0]: level",
            ),
            (
                "kind: Policy\napiVersion: audit.k8s.io/v1\nrules: [{level: Loud}]",
                "Loud",
            ),
            (
                "kind: Policy\napiVersion: audit.k8s.io/v1\nrules: [{level: None, user: a}]",
                "user",
            ),
            (
                "kind: Policy\napiVersion: audit.k8s.io/v1\nrules: [{level: None, namespaces: [a], nonResourceURLs: [/x]}]",
                "cannot apply to both",
            ),
        ] {
            let error = Policy::read(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
