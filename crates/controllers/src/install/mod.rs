//! Sets a cluster up: definitions of kinds, and the objects that a new platform starts with.

mod gateways;
pub mod upgrade;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use choreo_api::labels::PLATFORM_NAMESPACE;
use futures::future::{BoxFuture, FutureExt, join_all};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{GroupVersionKind, Request};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::defaults::GatewayPorts;
use crate::runtime::feed::describe;
use crate::runtime::object::split_api_version;

/// Field manager of what is installed.
const MANAGER: &str = "choreo/install";
/// Annotation of the platform's namespace: the defaults were made once.
const MARK: &str = "openchoreo.dev/defaults-installed";
/// Annotation of a definition: the SHA-256 digest of what it was installed from.
const DIGEST: &str = "openchoreo.dev/definition-digest";
/// Longest wait for a definition to be served.
const PATIENCE: Duration = Duration::from_secs(30);
/// Requests in flight. A server takes one definition after another; more of them would only be trees in memory that wait.
const CONCURRENCY: usize = 4;

/// Something that could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The API server refused it.
    #[error("install {what}: {message}")]
    Refused {
        /// Kind and name.
        what: String,
        /// What the API server said.
        message: String,
    },
    /// What is installed has fields that we would lose.
    #[error(
        "version {installed} has installed definitions with {count} fields that this version {ours} does not have, and whose \
         values would be lost: {}{}. Run version {installed} or a newer one",
        fields.join(", "),
        if *count > fields.len() { ", ..." } else { "" }
    )]
    Downgrade {
        /// The version that installed them.
        installed: String,
        /// This version.
        ours: String,
        /// How many fields there are.
        count: usize,
        /// The first of them.
        fields: Vec<String>,
    },
    /// A definition is not served.
    #[error("the API server does not serve {what} after {} s", PATIENCE.as_secs())]
    NotServed {
        /// Name of the definition.
        what: String,
    },
}

/// The definition of a kind, as JSON.
#[derive(Clone, Debug)]
pub struct Definition {
    /// Name of the definition: `<plural>.<group>`.
    pub name: String,
    /// The CustomResourceDefinition.
    json: Cow<'static, str>,
    /// SHA-256 digest of that text.
    digest: Cow<'static, str>,
}

impl From<&CustomResourceDefinition> for Definition {
    fn from(definition: &CustomResourceDefinition) -> Self {
        // These types have nothing that JSON has not.
        let json = serde_json::to_string(definition).unwrap_or_default();
        Self::new(definition.name_any(), json)
    }
}

impl Definition {
    /// A definition of this name (`<plural>.<group>`), a CustomResourceDefinition as JSON.
    pub fn new(name: String, json: String) -> Self {
        Self {
            name,
            digest: Cow::Owned(hex::encode(Sha256::digest(json.as_bytes()))),
            json: Cow::Owned(json),
        }
    }

    /// The CustomResourceDefinition as a JSON object.
    pub fn to_value(&self) -> Value {
        serde_json::from_str(&self.json).unwrap_or_default()
    }
}

/// The definitions that a control plane has: the platform's kinds, and those of older manifests.
pub fn control_plane() -> Vec<Definition> {
    let ours = choreo_api::crds::definitions()
        .iter()
        .map(|definition| Definition {
            name: definition.name.to_owned(),
            json: Cow::Borrowed(definition.json),
            digest: Cow::Borrowed(definition.digest),
        });
    ours.chain(choreo_api::crds::alias_crds().iter().map(Definition::from))
        .collect()
}

/// The definitions that an embedded data plane has, in the place of the operators that would bring them: a real cluster
/// has its own.
pub fn data_plane() -> Vec<Definition> {
    choreo_api::foreign::foreign_crds()
        .iter()
        .map(Definition::from)
        .collect()
}

/// Installs definitions, or brings them up to date, and waits until their kinds are served.
///
/// What is there, was installed from the same definition, and was not changed by anybody since, is not written again:
/// an annotation says what it was installed from, and its managed fields say who changed it.
///
/// # Errors
/// With the first one that failed.
pub async fn definitions(client: &Client, definitions: &[Definition]) -> Result<(), InstallError> {
    definitions_of(client, definitions, env!("CARGO_PKG_VERSION")).await
}

/// As [`definitions`], noting which version of the program they are of.
async fn definitions_of(
    client: &Client,
    definitions: &[Definition],
    version: &str,
) -> Result<(), InstallError> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let listed = api.list_metadata(&ListParams::default()).await;
    let listed = listed.map_err(|error| InstallError::Refused {
        what: "CustomResourceDefinitions".to_owned(),
        message: describe(&error),
    })?;
    let current: BTreeMap<String, String> = listed
        .items
        .into_iter()
        .filter(|definition| is_untouched(&definition.metadata))
        .filter_map(|mut definition| {
            let digest = definition.annotations_mut().remove(DIGEST)?;
            Some((definition.name_any(), digest))
        })
        .collect();
    let stale = definitions
        .iter()
        .filter(|definition| current.get(&definition.name).map(String::as_str) != Some(&*definition.digest));
    let installs: Vec<BoxFuture<'_, Result<(), InstallError>>> = stale
        .map(|definition| install(client, &api, definition, version).boxed())
        .collect();
    stream::iter(installs)
        .buffer_unordered(CONCURRENCY)
        .try_collect::<()>()
        .await
}

/// Whether nobody but us has written to it, statuses aside.
fn is_untouched(metadata: &ObjectMeta) -> bool {
    let writers = metadata.managed_fields.iter().flatten();
    writers
        .filter(|entry| entry.subresource.is_none())
        .all(|entry| entry.manager.as_deref() == Some(MANAGER))
}

async fn install(
    client: &Client,
    api: &Api<CustomResourceDefinition>,
    definition: &Definition,
    version: &str,
) -> Result<(), InstallError> {
    let name = &definition.name;
    let mut object = definition.to_value();
    object["metadata"]["annotations"][DIGEST] = Value::from(&*definition.digest);
    object["metadata"]["annotations"][upgrade::VERSION] = Value::String(version.to_owned());
    let params = PatchParams::apply(MANAGER).force();
    let refused = |error: kube::Error| InstallError::Refused {
        what: format!("CustomResourceDefinition {name}"),
        message: describe(&error),
    };
    let request = Request::new(api.resource_url()).patch(name, &params, &Patch::Apply(&object));
    drop(object);
    let request = request.map_err(|error| refused(kube::Error::BuildRequest(error)))?;
    let applied: Applied = client.request(request).await.map_err(refused)?;
    if applied.is_served() {
        return Ok(());
    }
    let served = await_condition(api.clone(), name, conditions::is_crd_established());
    match tokio::time::timeout(PATIENCE, served).await {
        Ok(Ok(_)) => Ok(()),
        _ => Err(InstallError::NotServed { what: name.clone() }),
    }
}

/// What is read of the answer: the schemas, which are most of it, are ours.
#[derive(serde::Deserialize)]
struct Applied {
    #[serde(default)]
    status: CustomResourceDefinitionStatus,
}

impl Applied {
    fn is_served(&self) -> bool {
        let mut conditions = self.status.conditions.iter().flatten();
        conditions.any(|condition| condition.type_ == "Established" && condition.status == "True")
    }
}

/// Creates the objects of [`crate::defaults::defaults`] that are not there. What is there stays as it is: it may have
/// been changed on purpose.
///
/// # Errors
/// With the first one that failed.
pub async fn defaults(client: &Client) -> Result<(), InstallError> {
    // An organization's namespace is made by its controller, which may not run yet.
    create_all(client, &crate::defaults::defaults()).await
}

/// Creates the objects of [`crate::defaults::data_plane_defaults`] that are not there, in an embedded data plane. Gateways that are
/// there get the ports that the process has this time.
///
/// # Errors
/// With the first one that failed.
pub async fn data_plane_defaults(client: &Client, ports: &GatewayPorts) -> Result<(), InstallError> {
    let objects = crate::defaults::data_plane_defaults(ports);
    create_all(client, &objects).await?;
    for object in objects.iter().filter(|object| is_kind(object, "Gateway")) {
        gateways::follow_ports(client, object, &["/spec/listeners"]).await?;
    }
    Ok(())
}

/// Tells the DataPlane of the embedded cluster, if it is still there and still stands for that cluster, which ports the gateways have
/// this time: the addresses of endpoints are made from it.
///
/// # Errors
/// When it cannot be read or written.
pub async fn data_plane_ports(control: &Client, ports: &GatewayPorts) -> Result<(), InstallError> {
    let objects = crate::defaults::defaults_with(ports);
    let lists = [
        "/spec/gateway/public/listeners",
        "/spec/gateway/organization/listeners",
    ];
    for object in objects.iter().filter(|object| is_kind(object, "DataPlane")) {
        gateways::follow_ports(control, object, &lists).await?;
    }
    Ok(())
}

fn is_kind(object: &DynamicObject, kind: &str) -> bool {
    object.types.as_ref().is_some_and(|types| types.kind == kind)
}

/// Makes `objects` unless that was done before, and says how many there are.
///
/// Somebody who has deleted one of them does not find it again after a restart: a mark on the platform's own namespace says that
/// they were made.
///
/// # Errors
/// With the first one that failed.
pub async fn defaults_once(client: &Client, objects: &[DynamicObject]) -> Result<usize, InstallError> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let failed = |error: kube::Error| InstallError::Refused {
        what: format!("Namespace {PLATFORM_NAMESPACE}"),
        message: describe(&error),
    };
    let found = namespaces.get_opt(PLATFORM_NAMESPACE).await.map_err(failed)?;
    if found.is_some_and(|namespace| namespace.annotations().contains_key(MARK)) {
        return Ok(0);
    }
    create_all(client, objects).await?;
    let marked = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": PLATFORM_NAMESPACE, "annotations": {MARK: "true"}},
    });
    let params = PatchParams::apply(MANAGER).force();
    let marked = Patch::Apply(marked);
    let applied = namespaces.patch(PLATFORM_NAMESPACE, &params, &marked).await;
    applied.map_err(failed)?;
    Ok(objects.len())
}

async fn create_all(client: &Client, objects: &[DynamicObject]) -> Result<(), InstallError> {
    for wave in objects.chunk_by(|a, b| a.metadata.namespace == b.metadata.namespace) {
        let creations: Vec<BoxFuture<'_, Result<(), InstallError>>> =
            wave.iter().map(|object| create(client, object).boxed()).collect();
        let created = join_all(creations).await;
        created.into_iter().collect::<Result<Vec<()>, _>>()?;
    }
    Ok(())
}

/// How an object is asked for, and its kind.
fn api_of(client: &Client, object: &DynamicObject) -> (Api<DynamicObject>, String) {
    let types = object.types.clone().unwrap_or_default();
    let (group, version) = split_api_version(&types.api_version);
    let mut resource = kube::core::ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &types.kind));
    if let Some(known) =
        crate::view::ControlKinds::default().resource(&crate::runtime::GroupKind::new(group, &types.kind))
    {
        resource = known.clone();
    }
    let api: Api<DynamicObject> = match &object.metadata.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    (api, types.kind)
}

async fn create(client: &Client, object: &DynamicObject) -> Result<(), InstallError> {
    let (api, kind) = api_of(client, object);
    let name = object.name_any();
    let refused = |error: kube::Error| InstallError::Refused {
        what: format!("{kind} {name}"),
        message: describe(&error),
    };
    if api.get_metadata_opt(&name).await.map_err(refused)?.is_some() {
        return Ok(());
    }
    let params = kube::api::PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..Default::default()
    };
    match api.create(&params, object).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(refused(error)),
    }
}
