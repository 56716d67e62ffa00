//! A cell: the namespace of a project in an environment, closed in both directions but for what is declared.

use std::collections::{BTreeMap, BTreeSet};

use choreo_api::{
    annotations,
    labels::{self, Labels},
    names,
    v1alpha1::{Release, ReleaseResource},
};
use serde_json::{Map, Value, json};

use super::{controlled_by, managed_resource};
use crate::{
    binding,
    place::{Dialect, Place},
    plan::{Child, Plan},
    render::{
        access,
        meta::Meta,
        policy::{self, Direction, Peer, Rule, Transport},
        sort,
    },
    resolve::managed,
    world::{Kind, ObjectRef, World},
};

/// The plan of a cell. A cell exists while a binding of the project in the environment exists, whatever its state.
pub(crate) fn plan(world: &World, namespace: &str, project: &str, environment: &str) -> Plan {
    let owner = ObjectRef::new(Kind::Project, namespace, project);
    let name = names::cell_release(project, environment);
    if world
        .get_any(&owner)
        .is_none_or(|p| p.meta().deletion_timestamp.is_some())
    {
        // The release goes with its owner.
        return Plan::default();
    }
    if !is_needed(world, &owner, environment) {
        let mut releases = resource_releases(world, &owner, environment);
        releases.push(ObjectRef::new(Kind::Release, namespace, name));
        return Plan {
            prune: controlled_by(world, releases, &owner).collect(),
            ..Plan::default()
        };
    }
    match Place::find(world, namespace, project, environment) {
        Err(problems) => Plan {
            problems,
            ..Plan::default()
        },
        Ok(place) => {
            // To find out takes a look at every binding of the project, and most projects have none.
            let (used, all_known) = if world.uses_managed_resources(namespace) {
                managed::used_in(world, namespace, project, environment)
            } else {
                (BTreeMap::new(), false)
            };
            let labels = Labels::new()
                .organization(namespace)
                .project(project)
                .environment(environment)
                .name(&name)
                .build();
            let release = json!({
                "apiVersion": Kind::Release.api_version(),
                "kind": "Release",
                "metadata": {"name": name, "namespace": namespace, "labels": labels},
                "spec": {
                    "owner": {"projectName": project},
                    "environmentName": environment,
                    "dataPlane": place.plane.name,
                    "resources": render(&place, !used.is_empty()),
                },
            });
            let mut plan = Plan {
                children: vec![Child::new(&owner, release)],
                ..Plan::default()
            };
            resources(world, &owner, &place, &used, all_known, &mut plan);
            plan
        }
    }
}

/// The releases of the managed resources that something in the cell uses. One that cannot be worked out stays as it is.
fn resources(
    world: &World,
    owner: &ObjectRef,
    place: &Place,
    used: &BTreeMap<String, Option<String>>,
    all_known: bool,
    plan: &mut Plan,
) {
    let release_of = |resource: &str| names::resource_release(&place.project, &place.environment, resource);
    for (resource, type_) in used {
        let Some(managed) = plan
            .problems
            .take(managed::resolve(world, place, resource, type_.as_deref()))
        else {
            continue;
        };
        let name = release_of(resource);
        let labels = Labels::new()
            .organization(&place.organization)
            .project(&place.project)
            .environment(&place.environment)
            .name(resource)
            .with(labels::MANAGED_RESOURCE, resource)
            .build();
        let mut objects = managed.objects;
        objects.extend(to_itself(place, resource, &managed.selector));
        let release = json!({
            "apiVersion": Kind::Release.api_version(),
            "kind": "Release",
            "metadata": {"name": name, "namespace": place.organization, "labels": labels},
            "spec": {
                "owner": {"projectName": place.project},
                "environmentName": place.environment,
                "dataPlane": place.plane.name,
                "resources": sort(objects),
            },
        });
        plan.children.push(Child::new(owner, release));
    }
    if !all_known {
        return;
    }
    let wanted: BTreeSet<String> = used.keys().map(|r| release_of(r)).collect();
    plan.prune.extend(
        controlled_by(world, resource_releases(world, owner, &place.environment), owner)
            .filter(|r| !wanted.contains(&r.key.name)),
    );
}

/// The releases of managed resources in a cell.
fn resource_releases(world: &World, project: &ObjectRef, environment: &str) -> Vec<ObjectRef> {
    let in_cell = |r: &&std::sync::Arc<Release>| {
        r.spec.owner.project_name == project.key.name
            && r.spec.environment_name == environment
            && managed_resource::of_release(r).is_some()
    };
    let releases = world.resource_releases(&project.key.namespace);
    releases
        .filter(in_cell)
        .map(|r| {
            ObjectRef::new(
                Kind::Release,
                &project.key.namespace,
                kube::ResourceExt::name_any(r.as_ref()),
            )
        })
        .collect()
}

/// The members of a resource may talk to each other.
fn to_itself(place: &Place, resource: &str, selector: &BTreeMap<String, String>) -> Option<Value> {
    if !place.default_deny {
        return None;
    }
    let rule = Rule {
        pods: Some(selector),
        direction: Direction::Ingress,
        peer: Peer::Pods(selector.clone()),
        ports: &[],
        requests: &[],
        mutual: false,
    };
    let mut body = policy::render(place.plane.dialect, &rule)?.body;
    let mut labels = Meta::of_cell(place).labels;
    labels.insert(labels::MANAGED_RESOURCE.to_owned(), labels::label_value(resource));
    labels.insert(
        labels::RELEASE.to_owned(),
        names::resource_release(&place.project, &place.environment, resource),
    );
    body.insert(
        "metadata".to_owned(),
        json!({
            "name": names::resource_objects(resource),
            "namespace": place.namespace,
            "labels": labels,
            "annotations": {labels::annotations::DECLARED_BY: format!("ManagedResource {resource:?}")},
        }),
    );
    Some(Value::Object(body))
}

/// Whether something of the project runs, or ran, in the environment.
pub(crate) fn is_needed(world: &World, project: &ObjectRef, environment: &str) -> bool {
    world.has_cell(project, environment)
        || binding::environments_through_apis(world, project).any(|e| e == environment)
}

/// The objects of a cell.
fn render(place: &Place, has_resources: bool) -> Vec<ReleaseResource> {
    let meta = Meta::of_cell(place);
    let mut objects = vec![namespace(place, &meta)];
    objects.extend(quotas(place, &meta));
    objects.extend(access::render(place, &meta));
    objects.extend(registry_credentials(place, &meta));
    if place.default_deny && place.plane.dialect != Dialect::None {
        policies(place, &meta, &mut objects);
        if has_resources {
            objects.iter_mut().for_each(spare_resources);
        }
    }
    sort(objects)
}

/// What lets pods of the cell, or of others, in does not let them into managed resources: those open to their consumers.
fn spare_resources(object: &mut Value) {
    let rules = |object: &Value| object.pointer("/spec/ingress").and_then(Value::as_array).cloned();
    let lets_in =
        rules(object).is_some_and(|rules| rules.iter().any(|r| r.as_object().is_some_and(|r| !r.is_empty())));
    if !lets_in {
        return;
    }
    let others = json!({"matchExpressions": [{"key": labels::MANAGED_RESOURCE, "operator": "DoesNotExist"}]});
    for selector in ["/spec/podSelector", "/spec/endpointSelector"] {
        if let Some(selector) = object.pointer_mut(selector) {
            *selector = others.clone();
        }
    }
}

fn namespace(place: &Place, meta: &Meta) -> Value {
    let mut labels = meta.labels.clone();
    // The baseline keeps pods from the host; `restricted` would refuse images that start as root, so it only warns.
    for (key, value) in [("enforce", "baseline"), ("warn", "restricted")] {
        labels.insert(format!("pod-security.kubernetes.io/{key}"), value.to_owned());
    }
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": place.namespace, "labels": labels}})
}

/// The credentials of the data plane's registry. What is in them never gets into a release: whoever applies it puts content and
/// type in.
fn registry_credentials(place: &Place, meta: &Meta) -> Option<Value> {
    let name = place.plane.registry.as_ref()?.secret_ref.as_deref()?;
    let by = format!("DataPlane {:?} spec.registry.secretRef", place.plane.name);
    let mut object = meta.declared("v1", "Secret", name, &by);
    if let Some(annotations) = object
        .get_mut("metadata")
        .and_then(|m| m.get_mut("annotations"))
        .and_then(Value::as_object_mut)
    {
        annotations.insert(annotations::COPY_OF.to_owned(), json!(name));
    }
    Some(Value::Object(object))
}

fn quotas(place: &Place, meta: &Meta) -> Vec<Value> {
    let choreo_api::v1alpha1::common::ResourceQuotas {
        cpu,
        memory,
        storage,
        pods,
    } = &place.quotas;
    let mut hard = Map::new();
    let limits = [
        ("requests.cpu", cpu),
        ("requests.memory", memory),
        ("requests.storage", storage),
        ("pods", pods),
    ];
    for (key, value) in limits {
        if let Some(value) = value {
            hard.insert(key.to_owned(), json!(value));
        }
    }
    if hard.is_empty() {
        return Vec::new();
    }
    let by = format!("Environment {:?} spec.resourceQuotas", place.environment);
    let mut quota = meta.declared("v1", "ResourceQuota", "cell", &by);
    quota.insert("spec".to_owned(), json!({"hard": hard}));
    let mut objects = vec![Value::Object(quota)];
    // Under a quota of requests every container must have requests: these are for those that say none.
    let mut request = Map::new();
    if cpu.is_some() {
        request.insert("cpu".to_owned(), json!("50m"));
    }
    if memory.is_some() {
        request.insert("memory".to_owned(), json!("64Mi"));
    }
    if !request.is_empty() {
        let mut range = meta.declared("v1", "LimitRange", "cell", &by);
        range.insert(
            "spec".to_owned(),
            json!({"limits": [{"type": "Container", "defaultRequest": request}]}),
        );
        objects.push(Value::Object(range));
    }
    objects
}

fn policies(place: &Place, meta: &Meta, objects: &mut Vec<Value>) {
    let dialect = place.plane.dialect;
    let mut add = |name: &str, body: Option<Map<String, Value>>, by: &str| {
        let Some(body) = body else { return };
        let text = |key: &str| {
            body.get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let mut object = meta.declared(&text("apiVersion"), &text("kind"), name, by);
        object.extend(body.into_iter().filter(|(key, _)| key == "spec"));
        objects.push(Value::Object(object));
    };
    let project = format!("Project {:?}", place.project);
    add("deny-all", policy::deny_all(dialect), &project);
    let mut allow = |name: &str, direction: Direction, peer: Peer, ports: &[(u16, Transport)], by: &str| {
        let mutual = peer == Peer::Cell && place.plane.mtls && dialect == Dialect::Cilium;
        let rule = Rule {
            pods: None,
            direction,
            peer,
            ports,
            requests: &[],
            mutual,
        };
        add(name, policy::render(dialect, &rule).map(|r| r.body), by);
    };
    allow("allow-cell-in", Direction::Ingress, Peer::Cell, &[], &project);
    allow("allow-cell-out", Direction::Egress, Peer::Cell, &[], &project);
    allow(
        "allow-dns",
        Direction::Egress,
        Peer::Dns,
        &[(53, Transport::Tcp), (53, Transport::Udp)],
        &project,
    );
    let baseline = "networkPolicies.allowedCommunication";
    if place.open_to_organization {
        let organization = || Peer::Organization(place.organization.clone());
        allow(
            "allow-organization-in",
            Direction::Ingress,
            organization(),
            &[],
            baseline,
        );
        allow(
            "allow-organization-out",
            Direction::Egress,
            organization(),
            &[],
            baseline,
        );
    }
    if place.open_to_internet {
        allow("allow-world-out", Direction::Egress, Peer::World, &[], baseline);
    }
}
