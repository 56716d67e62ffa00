//! How objects of our kinds are read: from files, from what came from an API server, and from the text that a cache keeps of it.

use std::{borrow::Cow, sync::LazyLock};

use choreo_api::v1alpha1 as api;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{
    Deserialize,
    de::{DeserializeOwned, value::MapDeserializer},
};
use serde_json::{Value, value::RawValue};

macro_rules! read_whole {
    ($($kind:ident),* $(,)?) => { $(impl Parts for api::$kind {})* };
}

read_whole! {
    Organization, DataPlane, Environment, DeploymentPipeline, ConfigurationGroup, ServiceClass, WebApplicationClass, ScheduledTaskClass,
    APIClass, ComponentType, Trait, ResourceType, ManagedResource, Project, Component, DeploymentTrack, Workload, Service,
    WebApplication, ScheduledTask, API, Build, DeployableArtifact, ServiceBinding, WebApplicationBinding, ScheduledTaskBinding,
    APIBinding, ComponentBinding, Promotion, PromotionDecision, PromotionBypass, Deployment, Endpoint,
}

/// A manifest may leave out a spec that says nothing; the types may not.
pub(super) fn with_spec(value: &Value) -> Cow<'_, Value> {
    let mut value = Cow::Borrowed(value);
    if value.get("spec").is_none()
        && let Some(object) = value.to_mut().as_object_mut()
    {
        object.insert("spec".to_owned(), Value::Object(serde_json::Map::new()));
    }
    value
}

static NOTHING: LazyLock<Value> = LazyLock::new(|| Value::Object(serde_json::Map::new()));

/// How a kind is read out of what came from an API server.
pub(super) trait Parts: DeserializeOwned {
    /// Out of everything but its metadata.
    fn read(data: &Value) -> Result<Self, serde_json::Error> {
        from_spec(data, data.get("spec").unwrap_or(&NOTHING))
    }

    /// Out of its text.
    fn read_text(text: &[u8]) -> Result<Self, serde_json::Error> {
        whole(text)
    }
}

fn whole<T: DeserializeOwned>(text: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(text).or_else(|_| {
        let value: Value = serde_json::from_slice(text)?;
        T::deserialize(&*with_spec(&value))
    })
}

/// What the text says that the object is called.
pub(super) fn name_in(text: &[u8]) -> String {
    let value: Value = serde_json::from_slice(text).unwrap_or_default();
    let name = value.pointer("/metadata/name").and_then(Value::as_str);
    name.unwrap_or_default().to_owned()
}

/// The types want metadata to be there.
fn from_spec<T: DeserializeOwned>(data: &Value, spec: &Value) -> Result<T, serde_json::Error> {
    let status = data.get("status").map(|status| ("status", status));
    let parts = [("metadata", &*NOTHING), ("spec", spec)]
        .into_iter()
        .chain(status);
    T::deserialize(MapDeserializer::new(parts))
}

/// What a release consists of is nearly all of it, and few plans look at it: it stays text until somebody does.
impl Parts for api::Release {
    fn read(data: &Value) -> Result<Self, serde_json::Error> {
        let spec = data.get("spec").and_then(Value::as_object);
        let resources = spec.and_then(|spec| spec.get("resources"));
        let (Some(spec), Some(resources)) = (spec, resources) else {
            return from_spec(data, data.get("spec").unwrap_or(&NOTHING));
        };
        let others = spec.iter().filter(|(name, _)| *name != "resources");
        let others = others
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let mut release: Self = from_spec(data, &Value::Object(others))?;
        release.spec.resources = api::ReleaseResources::unread(resources.to_string());
        Ok(release)
    }

    fn read_text(text: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Unread<'t> {
            metadata: ObjectMeta,
            #[serde(borrow)]
            spec: Spec<'t>,
            #[serde(default)]
            status: Option<api::ReleaseStatus>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Spec<'t> {
            owner: api::ReleaseOwner,
            environment_name: String,
            data_plane: Option<String>,
            deployment_ref: Option<String>,
            #[serde(borrow, default)]
            resources: Option<&'t RawValue>,
            interval: Option<String>,
            progressing_interval: Option<String>,
        }
        let Ok(read) = serde_json::from_slice::<Unread<'_>>(text) else {
            return whole(text);
        };
        let spec = read.spec;
        let resources = spec
            .resources
            .map(|text| api::ReleaseResources::unread(text.get()));
        Ok(Self {
            metadata: read.metadata,
            spec: api::ReleaseSpec {
                owner: spec.owner,
                environment_name: spec.environment_name,
                data_plane: spec.data_plane,
                deployment_ref: spec.deployment_ref,
                resources: resources.unwrap_or_default(),
                interval: spec.interval,
                progressing_interval: spec.progressing_interval,
            },
            status: read.status,
        })
    }
}
