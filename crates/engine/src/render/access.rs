//! Who may do what in a cell, besides the platform: the roles of the organization, for its people.

use choreo_api::v1alpha1::{AccessGrant, Role};
use serde_json::{Value, json};

use super::meta::Meta;
use crate::place::Place;

const RBAC: &str = "rbac.authorization.k8s.io";

/// The name of a role in every namespace of an organization.
pub(crate) fn role_name(role: Role) -> &'static str {
    match role {
        Role::Admin => "choreo-admin",
        Role::Developer => "choreo-developer",
        Role::Viewer => "choreo-viewer",
    }
}

/// The people who have a role, in order, each once.
pub(crate) fn subjects(access: &[AccessGrant], role: Role) -> Vec<Value> {
    let mut subjects = Vec::new();
    for grant in access.iter().filter(|g| g.role == role) {
        let group = |g: &String| json!({"apiGroup": RBAC, "kind": "Group", "name": g});
        let user = |u: &String| json!({"apiGroup": RBAC, "kind": "User", "name": u});
        subjects.extend(grant.groups.iter().map(group));
        subjects.extend(grant.users.iter().map(user));
    }
    subjects.sort_by_key(ToString::to_string);
    subjects.dedup();
    subjects
}

/// The roles of a cell and who has them; none for a role that nobody has.
pub(crate) fn render(place: &Place, meta: &Meta) -> Vec<Value> {
    let by = format!("Organization {:?} spec.access", place.organization);
    let mut objects = Vec::new();
    for role in [Role::Admin, Role::Developer, Role::Viewer] {
        let subjects = subjects(&place.access, role);
        if subjects.is_empty() {
            continue;
        }
        let name = role_name(role);
        let mut object = meta.declared(&format!("{RBAC}/v1"), "Role", name, &by);
        object.insert("rules".to_owned(), rules(role, place.is_production));
        objects.push(Value::Object(object));
        let mut object = meta.declared(&format!("{RBAC}/v1"), "RoleBinding", name, &by);
        object.insert(
            "roleRef".to_owned(),
            json!({"apiGroup": RBAC, "kind": "Role", "name": name}),
        );
        object.insert("subjects".to_owned(), json!(subjects));
        objects.push(Value::Object(object));
    }
    objects
}

/// Nobody writes what the platform derives: it would be put back at once. People look, and get into pods where no real
/// user depends on them; who may see secrets is an administrator.
fn rules(role: Role, is_production: bool) -> Value {
    let read = ["get", "list", "watch"];
    let mut rules = vec![
        json!({
            "apiGroups": [""],
            "resources": ["configmaps", "endpoints", "events", "limitranges", "persistentvolumeclaims", "pods", "pods/log",
                "resourcequotas", "serviceaccounts", "services"],
            "verbs": read,
        }),
        json!({
            "apiGroups": ["apps", "autoscaling", "batch", "cilium.io", "discovery.k8s.io", "gateway.envoyproxy.io",
                "gateway.networking.k8s.io", "networking.k8s.io", "policy"],
            "resources": ["*"],
            "verbs": read,
        }),
    ];
    let into_pods =
        json!({"apiGroups": [""], "resources": ["pods/exec", "pods/portforward"], "verbs": ["create"]});
    match role {
        Role::Viewer => {}
        Role::Developer if is_production => {}
        Role::Developer => rules.push(into_pods),
        Role::Admin => {
            rules.push(into_pods);
            rules.push(json!({"apiGroups": [""], "resources": ["secrets"], "verbs": read}));
            rules.push(json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["delete"]}));
        }
    }
    json!(rules)
}
