//! An organization: its namespace, and who may do what there.

use choreo_api::{
    labels::Labels,
    v1alpha1::{Organization, Role},
};
use kube::ResourceExt as _;
use serde_json::{Map, Value, json};

use super::summary;
use crate::{
    plan::{Child, Plan},
    problem::Problems,
    render::access::{role_name, subjects},
    world::reference_of,
};

const RBAC: &str = "rbac.authorization.k8s.io";

/// What developers write. What they only read is everything else of ours.
const DEVELOPER_KINDS: [&str; 19] = [
    "apis",
    "builds",
    "components",
    "configurationgroups",
    "deploymenttracks",
    "endpoints",
    "gitcommitrequests",
    "projects",
    "promotions",
    "promotiondecisions",
    "scheduledtasks",
    "services",
    "webapplications",
    "workloads",
    "servicebindings",
    "webapplicationbindings",
    "scheduledtaskbindings",
    "apibindings",
    "componentbindings",
];

pub(super) fn plan(organization: &Organization) -> Plan {
    let name = organization.name_any();
    let owner = reference_of(organization);
    let labels = Labels::new().organization(&name).name(&name).build();
    let mut objects =
        vec![json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})];
    for role in [Role::Admin, Role::Developer, Role::Viewer] {
        let metadata = json!({"name": role_name(role), "namespace": name, "labels": labels});
        objects.push(json!({
            "apiVersion": format!("{RBAC}/v1"), "kind": "Role", "metadata": metadata, "rules": rules(role),
        }));
        // Without anybody, too: a binding that is not written any more would go on granting what was withdrawn.
        objects.push(json!({
            "apiVersion": format!("{RBAC}/v1"), "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": role_name(role)},
            "subjects": subjects(&organization.spec.access, role),
        }));
    }
    let mut status = summary(
        &organization.metadata,
        &Problems::new(),
        format!("namespace {name:?} is set up"),
    );
    status.fields = Map::from_iter([("namespace".to_owned(), json!(name))]);
    let children = objects.into_iter().map(|o| Child::new(&owner, o)).collect();
    Plan {
        children,
        status: Some(status),
        ..Plan::default()
    }
}

fn rules(role: Role) -> Value {
    let read = json!(["get", "list", "watch"]);
    let ours = json!(["openchoreo.dev"]);
    match role {
        Role::Admin => json!([
            {"apiGroups": ours, "resources": ["*"], "verbs": ["*"]},
            {"apiGroups": [""], "resources": ["secrets", "events"], "verbs": ["*"]},
        ]),
        Role::Developer => json!([
            {"apiGroups": ours, "resources": ["*"], "verbs": read},
            {"apiGroups": ours, "resources": DEVELOPER_KINDS, "verbs": ["create", "update", "patch", "delete"]},
            {"apiGroups": [""], "resources": ["events"], "verbs": read},
        ]),
        Role::Viewer => json!([
            {"apiGroups": ours, "resources": ["*"], "verbs": read},
            {"apiGroups": [""], "resources": ["events"], "verbs": read},
        ]),
    }
}
