//! The FlowSchemas and PriorityLevelConfigurations that every API server has: those that it cannot do without, and those that
//! it suggests. The facts are those of kube-apiserver 1.36.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

/// The API group of both kinds.
pub const GROUP: &str = "flowcontrol.apiserver.k8s.io";
/// The annotation that says whether the server may put an object's spec right: `true` or `false`.
pub const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";
/// The level, and the FlowSchema, of requests that are never limited.
pub const EXEMPT: &str = "exempt";
/// The level, and the FlowSchema, of requests that nothing else is for.
pub const CATCH_ALL: &str = "catch-all";

/// An object that the server makes.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// Its name.
    pub name: &'static str,
    /// Its spec, with all defaults.
    pub spec: Value,
    /// Whether the server cannot do without it, so that its spec is always put right.
    pub mandatory: bool,
}

/// The PriorityLevelConfigurations, in the order in which they are made.
pub fn levels() -> &'static [Known] {
    static LEVELS: LazyLock<Vec<Known>> = LazyLock::new(|| {
        // Name, shares, percentage that is lent; queues and how many of them a flow is dealt.
        let suggested = [
            ("system", 30, 33, 64, 6),
            ("node-high", 40, 25, 64, 6),
            ("leader-election", 10, 0, 16, 4),
            ("workload-high", 40, 50, 128, 6),
            ("workload-low", 100, 90, 128, 6),
            ("global-default", 20, 50, 128, 6),
        ];
        let suggested = suggested
            .into_iter()
            .map(|(name, shares, lendable, queues, hand)| Known {
                name,
                spec: json!({"type": "Limited", "limited": {
                    "nominalConcurrencyShares": shares,
                    "limitResponse": {
                        "type": "Queue",
                        "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": 50},
                    },
                    "lendablePercent": lendable,
                }}),
                mandatory: false,
            });
        let mandatory = [
            Known {
                name: CATCH_ALL,
                spec: json!({"type": "Limited", "limited": {
                    "nominalConcurrencyShares": 5, "limitResponse": {"type": "Reject"}, "lendablePercent": 0,
                }}),
                mandatory: true,
            },
            Known {
                name: EXEMPT,
                spec: json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}),
                mandatory: true,
            },
        ];
        suggested.chain(mandatory).collect()
    });
    &LEVELS
}

/// The FlowSchemas, in the order in which they are made.
pub fn schemas() -> &'static [Known] {
    static SCHEMAS: LazyLock<Vec<Known>> = LazyLock::new(|| {
        let everybody = || groups(&["system:unauthenticated", "system:authenticated"]);
        let nodes = || groups(&["system:nodes"]);
        let schema = |name, level: &str, precedence: i32, method: &str, mandatory, rule: Value| {
            let mut spec = json!({
                "priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence, "rules": [rule],
            });
            if !method.is_empty() {
                spec["distinguisherMethod"] = json!({"type": method});
            }
            Known {
                name,
                spec,
                mandatory,
            }
        };
        vec![
            schema("system-nodes", "system", 500, "ByUser", false, anything(&nodes())),
            schema(
                "system-node-high",
                "node-high",
                400,
                "ByUser",
                false,
                json!({"subjects": nodes(), "resourceRules": [
                    resources(&["*"], "", &["nodes", "nodes/status"], true),
                    resources(&["*"], "coordination.k8s.io", &["leases"], false),
                ]}),
            ),
            schema(
                "probes",
                EXEMPT,
                2,
                "",
                false,
                json!({"subjects": everybody(), "nonResourceRules": [
                    {"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]},
                ]}),
            ),
            schema(
                "system-leader-election",
                "leader-election",
                100,
                "ByUser",
                false,
                json!({
                    "subjects": [user("system:kube-controller-manager"), user("system:kube-scheduler"), system_accounts()],
                    "resourceRules": [
                        resources(&["get", "create", "update"], "coordination.k8s.io", &["leases"], false),
                    ],
                }),
            ),
            schema(
                "kube-controller-manager",
                "workload-high",
                800,
                "ByNamespace",
                false,
                anything(&json!([user("system:kube-controller-manager")])),
            ),
            schema(
                "kube-scheduler",
                "workload-high",
                800,
                "ByNamespace",
                false,
                anything(&json!([user("system:kube-scheduler")])),
            ),
            schema(
                "kube-system-service-accounts",
                "workload-high",
                900,
                "ByNamespace",
                false,
                anything(&json!([system_accounts()])),
            ),
            schema(
                "service-accounts",
                "workload-low",
                9000,
                "ByUser",
                false,
                anything(&groups(&["system:serviceaccounts"])),
            ),
            schema(
                "global-default",
                "global-default",
                9900,
                "ByUser",
                false,
                anything(&everybody()),
            ),
            schema(
                EXEMPT,
                EXEMPT,
                1,
                "",
                true,
                anything(&groups(&["system:masters"])),
            ),
            schema(
                CATCH_ALL,
                CATCH_ALL,
                10_000,
                "ByUser",
                true,
                anything(&everybody()),
            ),
        ]
    });
    &SCHEMAS
}

/// Whether a PriorityLevelConfiguration has the spec that the server gives it. What an administrator may say of the exempt level
/// does not count.
#[must_use]
pub fn is_level_as_known(known: &Known, spec: &Value) -> bool {
    if known.name != EXEMPT {
        return known.spec == *spec;
    }
    let without = |spec: &Value| {
        let rest = spec.as_object().into_iter().flatten();
        rest.filter(|(name, _)| *name != "exempt")
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect::<Map<String, Value>>()
    };
    spec["exempt"].is_object() && without(&known.spec) == without(spec)
}

fn groups(names: &[&str]) -> Value {
    names
        .iter()
        .map(|name| json!({"kind": "Group", "group": {"name": name}}))
        .collect()
}

fn user(name: &str) -> Value {
    json!({"kind": "User", "user": {"name": name}})
}

/// All service accounts of the namespace `kube-system`.
fn system_accounts() -> Value {
    json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": "*"}})
}

fn resources(verbs: &[&str], group: &str, resources: &[&str], cluster_scope: bool) -> Value {
    let mut rule = json!({"verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": ["*"]});
    if cluster_scope {
        rule["clusterScope"] = true.into();
    }
    rule
}

/// The rule for everything that some subjects do.
fn anything(subjects: &Value) -> Value {
    json!({
        "subjects": subjects,
        "resourceRules": [resources(&["*"], "*", &["*"], true)],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{builtin, registry::Registry};

    #[test]
    fn what_the_server_makes_is_valid_and_has_its_defaults() {
        let registry = Registry::builtin();
        for (plural, known) in [
            ("prioritylevelconfigurations", levels()),
            ("flowschemas", schemas()),
        ] {
            let info = registry.lookup(GROUP, "v1", plural).unwrap();
            for Known { name, spec, .. } in known {
                let object = json!({"metadata": {"name": name}, "spec": spec});
                let mut defaulted = object.clone();
                builtin::default(info, &mut defaulted);
                assert_eq!(defaulted["spec"], object["spec"], "{name}");
                assert_eq!(builtin::validate(info, "", &object, None), [], "{name}");
            }
        }
    }

    #[test]
    fn shares_of_the_exempt_level_are_the_administrators() {
        let known = levels().iter().find(|level| level.name == EXEMPT).unwrap();
        let shares = |n: i32| json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": n, "lendablePercent": 5}});
        assert!(is_level_as_known(known, &shares(7)));
        assert!(!is_level_as_known(known, &json!({"type": "Exempt"})));
        let mut more = shares(7);
        more["limited"] = json!({});
        assert!(!is_level_as_known(known, &more));
    }
}
