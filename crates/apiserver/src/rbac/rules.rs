//! [`Rule`]: what a role grants.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Attributes;

/// A PolicyRule of `rbac.authorization.k8s.io/v1`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Rule {
    /// Verbs; `*` is all of them.
    #[serde(deserialize_with = "list")]
    pub(crate) verbs: Vec<String>,
    /// API groups; `*` is all of them.
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub(crate) api_groups: Vec<String>,
    /// Resources, with subresources as `pods/log`; `*` is all of them, `*/scale` one subresource of all of them.
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub(crate) resources: Vec<String>,
    /// Names of objects; none means all.
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub(crate) resource_names: Vec<String>,
    /// Paths that are no resources; a `*` at the end stands for anything.
    #[serde(
        rename = "nonResourceURLs",
        deserialize_with = "list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) non_resource_urls: Vec<String>,
}

/// A list, which may be null.
fn list<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(input)?.unwrap_or_default())
}

const ALL: &str = "*";

fn has(list: &[String], value: &str) -> bool {
    list.iter().any(|item| item == ALL || item == value)
}

impl Rule {
    /// Whether the rule allows it, wherever the rule holds.
    pub(crate) fn allows(&self, wanted: &Attributes) -> bool {
        if !has(&self.verbs, &wanted.verb) {
            return false;
        }
        if let Some(path) = &wanted.path {
            return self.non_resource_urls.iter().any(|url| covers_path(url, path));
        }
        has(&self.api_groups, &wanted.group)
            && self.has_resource(&wanted.resource, &wanted.subresource)
            && (self.resource_names.is_empty() || self.resource_names.contains(&wanted.name))
    }

    fn has_resource(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|item| {
            if item == ALL {
                return true;
            }
            match item.split_once('/') {
                None => subresource.is_empty() && item == resource,
                Some((of, sub)) => {
                    !subresource.is_empty() && sub == subresource && (of == ALL || of == resource)
                }
            }
        })
    }

    /// The rule as rules of one verb, one group and one resource, or one path each.
    pub(crate) fn atoms(&self) -> Vec<Rule> {
        let mut atoms = Vec::new();
        for verb in &self.verbs {
            for url in &self.non_resource_urls {
                atoms.push(Rule {
                    verbs: vec![verb.clone()],
                    non_resource_urls: vec![url.clone()],
                    ..Rule::default()
                });
            }
            for group in &self.api_groups {
                for resource in &self.resources {
                    let names = if self.resource_names.is_empty() {
                        vec![Vec::new()]
                    } else {
                        self.resource_names
                            .iter()
                            .map(|name| vec![name.clone()])
                            .collect()
                    };
                    atoms.extend(names.into_iter().map(|names| Rule {
                        verbs: vec![verb.clone()],
                        api_groups: vec![group.clone()],
                        resources: vec![resource.clone()],
                        resource_names: names,
                        non_resource_urls: Vec::new(),
                    }));
                }
            }
        }
        atoms
    }

    /// Whether everything that `atom`, one of [`Rule::atoms`], allows is allowed by this rule, too. A wildcard is only covered
    /// by the same or a wider one, never by an enumeration.
    pub(crate) fn covers(&self, atom: &Rule) -> bool {
        let one = |list: &[String]| list.first().cloned().unwrap_or_default();
        if !has(&self.verbs, &one(&atom.verbs)) {
            return false;
        }
        if let Some(path) = atom.non_resource_urls.first() {
            return self.non_resource_urls.iter().any(|url| covers_path(url, path));
        }
        let wanted = one(&atom.resources);
        let resource = match wanted.split_once('/') {
            _ if wanted == ALL => has(&self.resources, ALL),
            None => self.has_resource(&wanted, ""),
            Some((ALL, sub)) => has(&self.resources, &format!("{ALL}/{sub}")),
            Some((of, sub)) => self.has_resource(of, sub),
        };
        resource
            && has(&self.api_groups, &one(&atom.api_groups))
            && (self.resource_names.is_empty()
                || atom
                    .resource_names
                    .first()
                    .is_some_and(|name| self.resource_names.contains(name)))
    }
}

/// Whether the pattern of a rule covers a path, or another pattern.
fn covers_path(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix(ALL) {
        Some(prefix) => path.starts_with(prefix),
        None => pattern == path,
    }
}

/// The form in which refusals name rules.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ];
        let said: Vec<String> = fields
            .iter()
            .filter(|(_, values)| !values.is_empty())
            .map(|(name, values)| {
                let quoted: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
                format!("{name}:[{}]", quoted.join(" "))
            })
            .collect();
        write!(f, "{{{}}}", said.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(value: serde_json::Value) -> Rule {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_rule_allows_what_it_names() {
        let pods = rule(
            json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log", "*/scale"]}),
        );
        let on = |verb: &str, group: &str, resource: &str| {
            pods.allows(&Attributes::on(verb, group, resource, "ns", "x"))
        };
        assert!(on("get", "", "pods"));
        assert!(on("get", "", "pods/log"));
        assert!(on("get", "", "anything/scale"));
        assert!(!on("get", "", "pods/exec"));
        assert!(!on("get", "apps", "pods"));
        assert!(!on("delete", "", "pods"));
        let all = rule(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
        assert!(all.allows(&Attributes::on("delete", "x", "y/z", "", "")));
        let path = Attributes {
            verb: "get".into(),
            path: Some("/healthz".into()),
            ..Attributes::default()
        };
        assert!(!all.allows(&path), "paths are named on their own");
        assert!(rule(json!({"verbs": ["get"], "nonResourceURLs": ["/health*"]})).allows(&path));
    }

    #[test]
    fn names_narrow_a_rule() {
        let one = rule(
            json!({"verbs": ["*"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a"]}),
        );
        assert!(one.allows(&Attributes::on("get", "", "secrets", "ns", "a")));
        assert!(!one.allows(&Attributes::on("get", "", "secrets", "ns", "b")));
        assert!(
            !one.allows(&Attributes::on("list", "", "secrets", "ns", "")),
            "a list has no name"
        );
    }

    #[test]
    fn a_wildcard_is_only_covered_by_a_wildcard() {
        let held =
            rule(json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "secrets"]}));
        let covered = |wanted: serde_json::Value| rule(wanted).atoms().iter().all(|atom| held.covers(atom));
        assert!(covered(
            json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]})
        ));
        assert!(covered(
            json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]})
        ));
        assert!(!covered(
            json!({"verbs": ["*"], "apiGroups": [""], "resources": ["pods"]})
        ));
        assert!(!covered(
            json!({"verbs": ["get"], "apiGroups": [""], "resources": ["*"]})
        ));
        assert!(!covered(
            json!({"verbs": ["get"], "apiGroups": ["*"], "resources": ["pods"]})
        ));
        assert!(!covered(
            json!({"verbs": ["get", "delete"], "apiGroups": [""], "resources": ["pods"]})
        ));
        let named =
            rule(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}));
        let all = rule(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}));
        assert!(!all.atoms().iter().all(|atom| named.covers(atom)));
    }

    #[test]
    fn refusals_name_rules_as_clients_know_them() {
        let said = rule(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]})).to_string();
        assert_eq!(said, r#"{APIGroups:[""], Resources:["pods"], Verbs:["get"]}"#);
    }
}
