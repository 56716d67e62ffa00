//! The roles and bindings that every cluster has, under the names that clients and documentation know.

use choreo_store::{Key, Snapshot, Write};
use serde_json::{Map, Value, json};

use super::GROUP;

/// Writes for those default roles and bindings that are not there. One that somebody changed stays changed.
pub(crate) fn bootstrap(snapshot: &Snapshot) -> Vec<Write> {
    let roles = roles()
        .into_iter()
        .map(|(name, labels, body)| ("clusterroles", "ClusterRole", name, labels, body));
    let bindings = bindings().into_iter().map(|(name, groups)| {
        let subjects: Vec<Value> = groups
            .iter()
            .map(|group| json!({"apiGroup": GROUP, "kind": "Group", "name": group}))
            .collect();
        let body = json!({
            "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": name},
            "subjects": subjects,
        });
        (
            "clusterrolebindings",
            "ClusterRoleBinding",
            name,
            Map::new(),
            body,
        )
    });
    roles
        .chain(bindings)
        .filter_map(|(plural, kind, name, mut labels, body)| {
            let key = Key::new(&format!("{GROUP}/{plural}"), "", name);
            if snapshot.get(&key).is_some() {
                return None;
            }
            labels.insert("kubernetes.io/bootstrapping".to_owned(), "rbac-defaults".into());
            let mut value = json!({
                "apiVersion": format!("{GROUP}/v1"),
                "kind": kind,
                "metadata": {
                    "name": name,
                    "uid": uuid::Uuid::new_v4().to_string(),
                    "creationTimestamp": crate::verbs::now(),
                    "labels": labels,
                },
            });
            if let (Some(value), Value::Object(body)) = (value.as_object_mut(), body) {
                value.extend(body);
            }
            Some(Write::Create { key, value })
        })
        .collect()
}

const READ: [&str; 3] = ["get", "list", "watch"];
const WRITE: [&str; 5] = ["create", "delete", "deletecollection", "patch", "update"];
const READ_WRITE: [&str; 8] = [
    "get",
    "list",
    "watch",
    "create",
    "delete",
    "deletecollection",
    "patch",
    "update",
];

fn rule(groups: &[&str], resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": groups, "resources": resources, "verbs": verbs})
}

/// What a namespace's users see: everything but what gives more rights than one has, secrets above all.
fn view_rules() -> Vec<Value> {
    let core = [
        "bindings",
        "configmaps",
        "endpoints",
        "events",
        "limitranges",
        "namespaces",
        "namespaces/status",
        "persistentvolumeclaims",
        "persistentvolumeclaims/status",
        "pods",
        "pods/log",
        "pods/status",
        "replicationcontrollers",
        "replicationcontrollers/scale",
        "replicationcontrollers/status",
        "resourcequotas",
        "resourcequotas/status",
        "serviceaccounts",
        "services",
        "services/status",
    ];
    let apps = [
        "controllerrevisions",
        "daemonsets",
        "daemonsets/status",
        "deployments",
        "deployments/scale",
        "deployments/status",
        "replicasets",
        "replicasets/scale",
        "replicasets/status",
        "statefulsets",
        "statefulsets/scale",
        "statefulsets/status",
    ];
    let scalers = ["horizontalpodautoscalers", "horizontalpodautoscalers/status"];
    let networking = ["ingresses", "ingresses/status", "networkpolicies"];
    let disruption = ["poddisruptionbudgets", "poddisruptionbudgets/status"];
    let batch = ["cronjobs", "cronjobs/status", "jobs", "jobs/status"];
    vec![
        rule(&[""], &core, &READ),
        rule(&["discovery.k8s.io"], &["endpointslices"], &READ),
        rule(&["apps"], &apps, &READ),
        rule(&["autoscaling"], &scalers, &READ),
        rule(&["batch"], &batch, &READ),
        rule(&["networking.k8s.io"], &networking, &READ),
        rule(&["policy"], &disruption, &READ),
    ]
}

/// What a namespace's developers change: everything but roles, bindings and quotas.
fn edit_rules() -> Vec<Value> {
    let inside = [
        "pods/attach",
        "pods/exec",
        "pods/portforward",
        "pods/proxy",
        "services/proxy",
    ];
    let core = [
        "configmaps",
        "events",
        "persistentvolumeclaims",
        "pods",
        "replicationcontrollers",
        "replicationcontrollers/scale",
        "secrets",
        "serviceaccounts",
        "services",
    ];
    let apps = [
        "daemonsets",
        "deployments",
        "deployments/rollback",
        "deployments/scale",
        "replicasets",
        "replicasets/scale",
        "statefulsets",
        "statefulsets/scale",
    ];
    vec![
        rule(&[""], &["secrets"], &READ),
        rule(&[""], &inside, &READ_WRITE),
        rule(&[""], &["serviceaccounts"], &["impersonate"]),
        rule(&[""], &["pods/eviction", "serviceaccounts/token"], &["create"]),
        rule(&[""], &core, &WRITE),
        rule(&["apps"], &apps, &WRITE),
        rule(&["autoscaling"], &["horizontalpodautoscalers"], &WRITE),
        rule(&["batch"], &["cronjobs", "jobs"], &WRITE),
        rule(&["networking.k8s.io"], &["ingresses", "networkpolicies"], &WRITE),
        rule(&["policy"], &["poddisruptionbudgets"], &WRITE),
        rule(&["coordination.k8s.io"], &["leases"], &READ_WRITE),
    ]
}

/// What a namespace's administrators add: its roles and bindings, within what they hold themselves.
fn admin_rules() -> Vec<Value> {
    vec![
        rule(&[GROUP], &["roles", "rolebindings"], &READ_WRITE),
        rule(
            &["authorization.k8s.io"],
            &["localsubjectaccessreviews"],
            &["create"],
        ),
    ]
}

/// The label by which a ClusterRole of an extension joins one of `admin`, `edit` and `view`.
fn joins(role: &str) -> Map<String, Value> {
    Map::from_iter([(format!("{GROUP}/aggregate-to-{role}"), Value::from("true"))])
}

/// A role that has the rules of those that join it. What these are at first is written out, in the order in which the
/// aggregation would find them.
fn aggregated(own: &[&[Value]], role: &str) -> Value {
    json!({
        "rules": own.concat(),
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": joins(role)}]},
    })
}

/// Name, labels and body of the default ClusterRoles.
fn roles() -> Vec<(&'static str, Map<String, Value>, Value)> {
    let (view, edit, admin) = (view_rules(), edit_rules(), admin_rules());
    let paths = |paths: &[&str]| json!({"rules": [{"nonResourceURLs": paths, "verbs": ["get"]}]});
    let info = ["/healthz", "/livez", "/readyz", "/version", "/version/"];
    let discovery = ["/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*"];
    let reviews = ["selfsubjectaccessreviews", "selfsubjectrulesreviews"];
    vec![
        (
            "cluster-admin",
            Map::new(),
            json!({"rules": [
                {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
                {"nonResourceURLs": ["*"], "verbs": ["*"]},
            ]}),
        ),
        ("admin", Map::new(), aggregated(&[&edit, &view, &admin], "admin")),
        ("edit", joins("admin"), aggregated(&[&edit, &view], "edit")),
        ("view", joins("edit"), aggregated(&[&view], "view")),
        (
            "system:aggregate-to-admin",
            joins("admin"),
            json!({"rules": admin}),
        ),
        ("system:aggregate-to-edit", joins("edit"), json!({"rules": edit})),
        ("system:aggregate-to-view", joins("view"), json!({"rules": view})),
        (
            "system:basic-user",
            Map::new(),
            json!({"rules": [
                rule(&["authorization.k8s.io"], &reviews, &["create"]),
                rule(&["authentication.k8s.io"], &["selfsubjectreviews"], &["create"]),
            ]}),
        ),
        (
            "system:discovery",
            Map::new(),
            paths(&[&discovery[..], &info].concat()),
        ),
        ("system:public-info-viewer", Map::new(), paths(&info)),
        (
            "system:service-account-issuer-discovery",
            Map::new(),
            paths(&[
                "/.well-known/openid-configuration",
                "/.well-known/openid-configuration/",
                "/openid/v1/jwks",
                "/openid/v1/jwks/",
            ]),
        ),
    ]
}

/// The default bindings: name of binding and role, and the groups.
fn bindings() -> Vec<(&'static str, Vec<&'static str>)> {
    vec![
        ("cluster-admin", vec![crate::user::MASTERS]),
        ("system:basic-user", vec!["system:authenticated"]),
        ("system:discovery", vec!["system:authenticated"]),
        (
            "system:public-info-viewer",
            vec!["system:authenticated", "system:unauthenticated"],
        ),
        (
            "system:service-account-issuer-discovery",
            vec!["system:serviceaccounts"],
        ),
    ]
}
