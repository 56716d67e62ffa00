//! Sets a cluster up: definitions of kinds, and the objects that a new platform starts with.

use std::time::Duration;

use futures::future::join_all;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::runtime::wait::{await_condition, conditions};
use kube::{Client, ResourceExt};

use crate::runtime::feed::describe;
use crate::runtime::object::split_api_version;

/// Field manager of what is installed.
const MANAGER: &str = "choreo/install";
/// Longest wait for a definition to be served.
const PATIENCE: Duration = Duration::from_secs(30);
/// Requests in flight.
const CONCURRENCY: usize = 16;

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
    /// A definition is not served.
    #[error("the API server does not serve {what} after {} s", PATIENCE.as_secs())]
    NotServed {
        /// Name of the definition.
        what: String,
    },
}

/// The definitions that a control plane has: the platform's kinds, and those of older manifests.
pub fn control_plane() -> Vec<CustomResourceDefinition> {
    choreo_api::crds()
        .into_iter()
        .chain(choreo_api::crds::alias_crds())
        .collect()
}

/// The definitions that an embedded data plane has, in the place of the operators that would bring them: a real cluster
/// has its own.
pub fn data_plane() -> Vec<CustomResourceDefinition> {
    choreo_api::foreign::foreign_crds()
}

/// Installs definitions, or brings them up to date, and waits until their kinds are served.
///
/// # Errors
/// With the first one that failed.
pub async fn definitions(
    client: &Client,
    definitions: &[CustomResourceDefinition],
) -> Result<(), InstallError> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let params = PatchParams::apply(MANAGER).force();
    let install = |definition: &CustomResourceDefinition| {
        let (api, params, definition) = (api.clone(), params.clone(), definition.clone());
        async move {
            let name = definition.name_any();
            let applied = api.patch(&name, &params, &Patch::Apply(&definition)).await;
            let applied = applied.map_err(|error| InstallError::Refused {
                what: format!("CustomResourceDefinition {name}"),
                message: describe(&error),
            })?;
            if is_served(&applied) {
                return Ok(());
            }
            let served = await_condition(api, &name, conditions::is_crd_established());
            match tokio::time::timeout(PATIENCE, served).await {
                Ok(Ok(_)) => Ok(()),
                _ => Err(InstallError::NotServed { what: name }),
            }
        }
    };
    stream::iter(definitions.iter().map(install))
        .buffer_unordered(CONCURRENCY)
        .try_collect::<()>()
        .await
}

fn is_served(definition: &CustomResourceDefinition) -> bool {
    let conditions = definition
        .status
        .iter()
        .filter_map(|status| status.conditions.as_ref())
        .flatten();
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Established" && condition.status == "True")
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

/// Creates the objects of [`crate::defaults::data_plane_defaults`] that are not there, in an embedded data plane.
///
/// # Errors
/// With the first one that failed.
pub async fn data_plane_defaults(client: &Client) -> Result<(), InstallError> {
    create_all(client, &crate::defaults::data_plane_defaults()).await
}

async fn create_all(client: &Client, objects: &[DynamicObject]) -> Result<(), InstallError> {
    for wave in objects.chunk_by(|a, b| a.metadata.namespace == b.metadata.namespace) {
        let created = join_all(wave.iter().map(|object| create(client, object))).await;
        created.into_iter().collect::<Result<Vec<()>, _>>()?;
    }
    Ok(())
}

async fn create(client: &Client, object: &DynamicObject) -> Result<(), InstallError> {
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
    let name = object.name_any();
    let refused = |error: kube::Error| InstallError::Refused {
        what: format!("{} {name}", types.kind),
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
