//! Builds: what a build plane is given for a build, what its workflow tells, and the workload that comes of it.
//!
//! ```text
//!   Build ── check ──> objects ──> Argo Workflow in openchoreo-ci-<org> ──> progress ──> workload
//!            problems   namespace, service account, role                     image by digest
//! ```
//!
//! Only names and parameters are decided here: how an image is made is the business of the workflow template that the build names.

mod progress;
mod workload;

use choreo_api::{
    conditions::reasons,
    labels::{self, Labels},
    names,
    v1alpha1::{Build, Component, common::DEFAULT_TRACK},
};
use kube::ResourceExt as _;
use serde_json::{Map, Value, json};

use crate::{
    problem::{Problem, Problems},
    world::World,
};

pub use progress::{Outcome, Progress, progress};
pub(crate) use workload::BUILT_BY;
pub use workload::{Target, workload, workload_name};

/// Group and version of the objects that a build consists of.
pub const ARGO: &str = "argoproj.io/v1alpha1";

/// The engine that every build plane has.
const ENGINE: &str = "argo";

/// Service account of the workflows' pods, its role and the binding of the two: the names that build planes' own tools expect.
const SERVICE_ACCOUNT: &str = "workflow-sa";
const ROLE: &str = "workflow-role";
const ROLE_BINDING: &str = "workflow-role-binding";

/// Branch that is built when neither a branch nor a commit is named.
const DEFAULT_BRANCH: &str = "main";

/// Annotations with this prefix go from the build to its workflow: they tell a simulated build plane how to fail.
const SIMULATION: &str = "simulate.openchoreo.dev/";

/// Parameters that every workflow is given; a build's own cannot replace them.
const PLATFORM_PARAMETERS: [&str; 10] = [
    "app-path",
    "branch",
    "commit",
    "component-name",
    "git-repo",
    "git-secret",
    "image-name",
    "image-tag",
    "project-name",
    "registry",
];

/// What of a build plane decides about the objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plane {
    /// Where images are pushed to.
    pub registry: Option<String>,
    /// Whether the build's template is one of the namespace of the builds, instead of one of the whole cluster.
    pub own_template: bool,
}

fn of(build: &Build) -> String {
    format!("Build {:?}", build.name_any())
}

/// What stands in the way of starting a build.
pub fn check(world: &World, build: &Build) -> Problems {
    let mut problems = Problems::new();
    let (of, spec) = (of(build), &build.spec);
    let namespace = build.namespace().unwrap_or_default();
    let component = &spec.owner.component_name;
    match world.get::<Component>(&namespace, component) {
        None => problems.push(Problem::waiting(
            reasons::COMPONENT_NOT_FOUND,
            format!("Component {component:?} not found in namespace {namespace:?}: create it, or correct spec.owner of {of}"),
        )),
        Some(found) if found.spec.owner.project_name != spec.owner.project_name => problems.invalid(format!(
            "{of} spec.owner.projectName: Component {component:?} belongs to project {:?}, not {:?}",
            found.spec.owner.project_name, spec.owner.project_name
        )),
        Some(_) => {}
    }
    if spec.template_ref.name.is_empty() {
        problems.invalid(format!(
            "{of} spec.templateRef.name: name the workflow template that builds it, for instance \"docker\""
        ));
    }
    if !matches!(spec.template_ref.engine.as_str(), "" | ENGINE) {
        problems.push(Problem::error(
            reasons::NOT_SUPPORTED,
            format!(
                "{of} spec.templateRef.engine: there is no engine {:?}; use {ENGINE:?}, or leave it out",
                spec.template_ref.engine
            ),
        ));
    }
    for parameter in &spec.template_ref.parameters {
        if PLATFORM_PARAMETERS.contains(&parameter.name.as_str()) {
            problems.invalid(format!(
                "{of} spec.templateRef.parameters[{}]: this parameter is the platform's; it follows from spec.repository and spec.owner",
                parameter.name
            ));
        }
    }
    problems
}

/// Namespace of a build's workflow in its build plane.
pub fn namespace(build: &Build) -> String {
    names::build_namespace(&build.namespace().unwrap_or_default())
}

/// Name of a build's workflow. It is also a label of its pods.
pub fn workflow_name(build: &Build) -> String {
    let name = build.name_any();
    if names::is_label(&name) {
        name
    } else {
        names::k8s_name(names::LABEL_LIMIT, &[&name])
    }
}

/// Name of the image, without registry and tag. The organization is part of it: build planes may share a registry.
fn image_name(build: &Build) -> String {
    let part = |parts: &[&str]| {
        let plain = parts.join("-");
        if names::is_label(&plain) {
            plain
        } else {
            names::k8s_name(names::LABEL_LIMIT, parts)
        }
    };
    let owner = &build.spec.owner;
    format!(
        "{}/{}",
        part(&[&build.namespace().unwrap_or_default()]),
        part(&[&owner.project_name, &owner.component_name])
    )
}

/// The labels of everything in the namespace of builds; those of one build have its component and name, too.
fn shared_labels(build: &Build) -> Labels {
    Labels::new()
        .organization(&build.namespace().unwrap_or_default())
        .with(labels::APP_MANAGED_BY, labels::MANAGER)
}

fn parameters(build: &Build, plane: &Plane) -> Vec<Value> {
    let spec = &build.spec;
    let revision = &spec.repository.revision;
    let branch = match (revision.commit.as_str(), revision.branch.as_str()) {
        ("", "") => DEFAULT_BRANCH,
        ("", branch) => branch,
        // A commit wins over a branch.
        _ => "",
    };
    let mut all = vec![
        ("project-name", spec.owner.project_name.clone()),
        ("component-name", spec.owner.component_name.clone()),
        ("git-repo", spec.repository.url.clone()),
        ("app-path", spec.repository.app_path.clone()),
        ("image-name", image_name(build)),
        ("image-tag", DEFAULT_TRACK.to_owned()),
        ("commit", revision.commit.clone()),
        ("branch", branch.to_owned()),
    ];
    all.extend(plane.registry.clone().map(|registry| ("registry", registry)));
    all.extend(
        spec.repository
            .secret_ref
            .clone()
            .map(|secret| ("git-secret", secret)),
    );
    let own = spec
        .template_ref
        .parameters
        .iter()
        .map(|p| (p.name.as_str(), p.value.clone()));
    all.into_iter()
        .chain(own)
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect()
}

/// The objects of a build in its build plane, in the order in which they are applied; the workflow comes last.
pub fn objects(build: &Build, plane: &Plane) -> Vec<Value> {
    let namespace = namespace(build);
    let shared = shared_labels(build).build();
    let meta = |name: &str| json!({"name": name, "namespace": namespace, "labels": shared});
    let own = shared_labels(build)
        .project(&build.spec.owner.project_name)
        .component(&build.spec.owner.component_name)
        .name(&build.name_any())
        .build();
    let mut workflow = json!({
        "apiVersion": ARGO,
        "kind": "Workflow",
        "metadata": {"name": workflow_name(build), "namespace": namespace, "labels": own},
        "spec": {
            "serviceAccountName": SERVICE_ACCOUNT,
            "podMetadata": {"labels": own},
            "workflowTemplateRef": {"name": build.spec.template_ref.name, "clusterScope": !plane.own_template},
            "arguments": {"parameters": parameters(build, plane)},
        },
    });
    let simulation: Map<String, Value> = build
        .annotations()
        .iter()
        .filter(|(key, _)| key.starts_with(SIMULATION))
        .map(|(key, value)| (key.clone(), json!(value)))
        .collect();
    if !simulation.is_empty() {
        workflow["metadata"]["annotations"] = Value::Object(simulation);
    }
    let rbac = "rbac.authorization.k8s.io";
    vec![
        json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": namespace, "labels": shared},
        }),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta(SERVICE_ACCOUNT)}),
        json!({
            "apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": meta(ROLE),
            // What a step's sidecar needs to report its outputs.
            "rules": [{
                "apiGroups": ["argoproj.io"],
                "resources": ["workflowtaskresults"],
                "verbs": ["create", "patch"],
            }],
        }),
        json!({
            "apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": meta(ROLE_BINDING),
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": ROLE},
            "subjects": [{"kind": "ServiceAccount", "name": SERVICE_ACCOUNT, "namespace": namespace}],
        }),
        workflow,
    ]
}
