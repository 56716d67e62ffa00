//! A second opinion on what is rendered: third parties' own definitions, in an API server that refuses what they refuse.
//!
//! The definitions are not part of this repository. `CHOREO_THIRD_PARTY_CRDS` names a folder that has them (Gateway API, Envoy
//! Gateway, External Secrets, Argo Workflows: their published custom resource definitions, one or more a file); without the
//! variable, `../shared/crds` beside the repository is looked at. `cargo xtask test` says when there is neither.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use choreo_api::{annotations, v1alpha1::Build};
use choreo_apimachinery::{crd, registry::Registry};
use choreo_apiserver::{ApiServer, UserInfo};
use choreo_controllers::runtime::object::split_api_version;
use choreo_controllers::{defaults, install};
use choreo_engine::build::{self, Plane};
use choreo_testkit::Cluster;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::Discovery;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

// What only the engine's own tests use of it is not used here.
#[allow(dead_code)]
#[path = "../../../engine/tests/it/cases.rs"]
pub(crate) mod cases;

const VARIABLE: &str = "CHOREO_THIRD_PARTY_CRDS";

/// Groups that the folder must have definitions for: an empty folder must not make the test pass.
const GROUPS: [&str; 4] = [
    "argoproj.io",
    "external-secrets.io",
    "gateway.envoyproxy.io",
    "gateway.networking.k8s.io",
];

/// Kinds that are rendered and whose definition is ours, because their projects' own is not in the folder.
const OURS: [&str; 2] = ["CiliumNetworkPolicy", "SecretProviderClass"];

pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
        .to_owned()
}

/// The folder of definitions. A folder that was named must be there; one that was not may be missing.
#[allow(clippy::print_stdout)] // A test that did nothing must not look like one that passed.
fn definitions_folder() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(VARIABLE) {
        let named = PathBuf::from(named);
        assert!(
            named.is_dir(),
            "{VARIABLE} names {}, which is no folder",
            named.display()
        );
        return Some(named);
    }
    let beside = workspace().join("../shared/crds");
    if beside.is_dir() {
        return Some(beside);
    }
    println!(
        "NOT RUN: there are no third-party definitions ({VARIABLE}, or ../shared/crds beside the repository)"
    );
    None
}

pub(crate) fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "yaml" || end == "yml") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read_definitions(file: &Path) -> Vec<CustomResourceDefinition> {
    let text = fs::read_to_string(file).unwrap();
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    documents
        .into_iter()
        .filter(|document| !document.is_null())
        .map(|document| {
            serde_json::from_value(document).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
        })
        .collect()
}

/// Third parties' own definitions, and ours for what they do not cover.
fn definitions(folder: &Path) -> Vec<install::Definition> {
    let mut all: Vec<CustomResourceDefinition> = yaml_files(folder)
        .iter()
        .flat_map(|file| read_definitions(file))
        .collect();
    let groups: BTreeSet<&str> = all.iter().map(|d| d.spec.group.as_str()).collect();
    for group in GROUPS {
        assert!(
            groups.contains(group),
            "no definition of {group} in {}",
            folder.display()
        );
    }
    all.extend(
        choreo_api::foreign::foreign_crds()
            .into_iter()
            .filter(|d| OURS.contains(&d.spec.names.kind.as_str())),
    );
    for definition in &mut all {
        // Published ones may carry the status of the cluster that they were read from.
        definition.status = None;
    }
    all.iter().map(install::Definition::from).collect()
}

/// What a Secret is a copy of is put in when it is applied: here, credentials for no registry at all.
fn fill_copy(object: &mut Value) {
    let is_copy = object["metadata"]["annotations"]
        .get(annotations::COPY_OF)
        .is_some();
    if is_copy && object["type"] == "kubernetes.io/dockerconfigjson" {
        object["data"] = json!({".dockerconfigjson": "e30="});
    }
}

/// Our own kinds, for their defaults.
fn registry() -> Registry {
    let mut registry = Registry::builtin();
    for definition in install::control_plane() {
        let mut definition = definition.to_value();
        crd::set_defaults(&mut definition);
        registry.add_crd(crd::rows(&definition).unwrap());
    }
    registry
}

/// Applies an object as `kubectl apply --server-side --dry-run=server --validate=strict` does: everything is checked and nothing
/// stays, so that cases whose objects have the same names do not meet.
async fn check(cluster: &Cluster, kinds: &Discovery, object: &Value) -> anyhow::Result<()> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let (group, version) = split_api_version(text("/apiVersion").context("no apiVersion")?);
    let gvk = GroupVersionKind::gvk(group, version, text("/kind").context("no kind")?);
    let (resource, _) = kinds
        .resolve_gvk(&gvk)
        .with_context(|| format!("{group}/{version} is not served"))?;
    let api: Api<DynamicObject> = match text("/metadata/namespace") {
        Some(namespace) => Api::namespaced_with(cluster.client.clone(), namespace, &resource),
        None => Api::all_with(cluster.client.clone(), &resource),
    };
    let params = PatchParams::apply("corpus").force().dry_run().validation_strict();
    let name = text("/metadata/name").context("no name")?;
    api.patch(name, &params, &Patch::Apply(object)).await?;
    Ok(())
}

/// The check itself must be able to fail.
async fn refuses_what_is_wrong(cluster: &Cluster, served: &Discovery) -> anyhow::Result<()> {
    let route = |rule: Value| {
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
               "metadata": {"name": "wrong", "namespace": "default"}, "spec": {"rules": [rule]}})
    };
    check(cluster, served, &route(json!({"timeouts": {"request": "15s"}}))).await?;
    for (rule, complaint) in [
        (json!({"timeout": "15s"}), "not declared"),
        (
            json!({"timeouts": {"request": "15 s"}}),
            "spec.rules[0].timeouts.request",
        ),
        // A rule in CEL: the time for a try is not longer than that for all.
        (
            json!({"timeouts": {"request": "1s", "backendRequest": "2s"}}),
            "backendRequest",
        ),
    ] {
        let error = check(cluster, served, &route(rule.clone())).await;
        let said = error.map_or_else(|error| format!("{error:#}"), |()| "accepted".to_owned());
        anyhow::ensure!(said.contains(complaint), "{rule}: {said}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_corpus_renders_is_valid_by_third_parties_own_definitions() -> anyhow::Result<()> {
    let Some(folder) = definitions_folder() else {
        return Ok(());
    };
    let options = choreo_apiserver::Options {
        clusters: vec!["strict".to_owned()],
        ..choreo_apiserver::Options::default()
    };
    let server = ApiServer::new(choreo_store::Store::in_memory(), options)?;
    let shutdown = CancellationToken::new();
    server.start_controllers(&shutdown);
    let cluster = Cluster::new("strict", server.cluster_client("strict", &UserInfo::admin()));
    install::definitions(&cluster.client, &definitions(&folder)).await?;

    let served = Discovery::new(cluster.client.clone()).run_aggregated().await?;
    refuses_what_is_wrong(&cluster, &served).await?;

    // What an embedded data plane starts with: gateways, and the templates of builds.
    let mut failures = Vec::new();
    let mut namespaces = BTreeSet::new();
    for object in defaults::data_plane_defaults(&defaults::GatewayPorts::default()) {
        let object = serde_json::to_value(object)?;
        if object["kind"] == "Namespace" {
            namespaces.extend(object["metadata"]["name"].as_str().map(str::to_owned));
            cluster.apply(object).await?;
        } else if let Err(error) = check(&cluster, &served, &object).await {
            failures.push(format!("defaults: {}: {error:#}", object["kind"]));
        }
    }

    let registry = registry();
    let mut kinds = BTreeMap::new();
    for case in cases::Case::all(&workspace().join("crates/engine/tests/corpus")) {
        let rendered = case.render(&registry, false);
        let released = rendered
            .objects
            .iter()
            .flat_map(|object| object["spec"]["resources"].as_array().into_iter().flatten())
            .map(|resource| resource["object"].clone());
        let plane = Plane::default();
        let built = rendered
            .world
            .all::<Build>()
            .flat_map(|b| build::objects(b, &plane));
        for mut object in released.chain(built) {
            fill_copy(&mut object);
            let (kind, name) = (&object["kind"], &object["metadata"]["name"]);
            let namespace = if kind == "Namespace" {
                name
            } else {
                &object["metadata"]["namespace"]
            };
            if let Some(namespace) = namespace.as_str()
                && namespaces.insert(namespace.to_owned())
            {
                let namespace =
                    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
                cluster.apply(namespace).await?;
            }
            *kinds
                .entry(kind.as_str().unwrap_or_default().to_owned())
                .or_insert(0) += 1;
            if let Err(error) = check(&cluster, &served, &object).await {
                failures.push(format!("{}: {kind} {name}: {error:#}", case.folder.display()));
            }
        }
    }
    shutdown.cancel();
    server.drain();
    assert!(
        failures.is_empty(),
        "{} refused, among them:\n{}",
        failures.len(),
        failures[..failures.len().min(20)].join("\n")
    );
    for kind in ["Deployment", "Service"] {
        assert!(
            kinds.contains_key(kind),
            "the corpus renders no {kind}: {kinds:?}"
        );
    }
    Ok(())
}
