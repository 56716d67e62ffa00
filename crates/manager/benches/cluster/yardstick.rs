//! What a server takes in raw server-side applies, which what the manager does is held against.

use std::collections::BTreeMap;
use std::time::Instant;

use choreo_controllers::runtime::metrics::Metrics;
use choreo_controllers::runtime::transport;
use choreo_engine::{AnyObject, World, offline};
use choreo_testkit::Cluster;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::Place;

/// What the platform itself writes for components: the yardstick is of the same objects, so that they cost the server the same.
pub(super) fn written(place: &Place, components: usize) -> anyhow::Result<Vec<Value>> {
    let namespace = &place.organization;
    let mut world = World::new();
    let mut add = |mut object: Value| {
        if object["metadata"]["namespace"].is_string() {
            object["metadata"]["namespace"] = namespace.as_str().into();
        }
        world.upsert(AnyObject::from_value(&object)?);
        anyhow::Ok(())
    };
    add(json!({
        "apiVersion": "openchoreo.dev/v1alpha1", "kind": "Organization", "metadata": {"name": namespace}, "spec": {},
    }))?;
    add(place.bed.data_plane(namespace, "default", "https://replaced"))?;
    for object in choreo_controllers::defaults::defaults_without_planes() {
        add(serde_json::to_value(&object)?)?;
    }
    for index in 0..components {
        for document in place.component(&format!("service-{index}")) {
            add(document)?;
        }
    }
    let mut all = offline::render(&world).objects;
    all.retain(|object| {
        let kind = object["kind"].as_str().unwrap_or_default();
        [
            "DeployableArtifact",
            "ServiceBinding",
            "Release",
            "Deployment",
            "Endpoint",
        ]
        .contains(&kind)
            && object["apiVersion"] == "openchoreo.dev/v1alpha1"
    });
    for object in &mut all {
        object["metadata"]["namespace"] = "default".into();
        for field in ["ownerReferences", "finalizers"] {
            object["metadata"].as_object_mut().and_then(|m| m.remove(field));
        }
        object.as_object_mut().and_then(|o| o.remove("status"));
    }
    anyhow::ensure!(
        all.len() >= components * 5,
        "only {} objects are rendered",
        all.len()
    );
    Ok(all)
}

/// A status like the one that the platform writes: a condition, and of a release what it consists of.
fn status(object: &Value) -> Value {
    let time = "2026-01-01T00:00:00Z";
    let condition = |type_: &str| {
        json!({"type": type_, "status": "True", "reason": "Ready", "message": "as a status says it in a line or two",
               "observedGeneration": 1, "lastTransitionTime": time})
    };
    let mut status = json!({"observedGeneration": 1, "conditions": [condition("Ready")]});
    if object["kind"] == "Release" {
        let resources = object["spec"]["resources"].as_array().into_iter().flatten();
        let of = |resource: &Value| {
            let (object, id) = (&resource["object"], &resource["id"]);
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
            json!({"id": id, "version": "v1", "kind": object["kind"], "name": object["metadata"]["name"],
                   "namespace": namespace, "healthStatus": "Healthy", "message": "1 of 1 is ready"})
        };
        let resources: Vec<Value> = resources.map(of).collect();
        let inventory = resources.iter().map(|resource| {
            json!({"version": "v1", "kind": resource["kind"], "plural": "things", "name": resource["name"],
                   "namespace": resource["namespace"]})
        });
        status["inventory"] = inventory.collect();
        status["resources"] = resources.into();
        status["conditions"] = json!([condition("Ready"), condition("Applied")]);
    }
    json!({"apiVersion": object["apiVersion"], "kind": object["kind"],
           "metadata": {"name": object["metadata"]["name"]}, "status": status})
}

/// Server-side applies that the server takes in a second, from a client like the manager's: of objects, and of statuses if they have
/// any. No controller looks at what is written.
pub(super) async fn raw(place: &Place, objects: &[Value], statuses: bool) -> anyhow::Result<f64> {
    let client = transport::client(place.config.clone(), &Metrics::default(), "control")?;
    let cluster = Cluster::new("raw", client);
    let params = &PatchParams::apply("bench").force();
    let mut apis = BTreeMap::new();
    for object in objects {
        let (version, kind) = (&object["apiVersion"], object["kind"].as_str().unwrap_or_default());
        let group = version.as_str().and_then(|version| version.split_once('/'));
        let kind = format!("{kind}.{}", group.map_or("", |group| group.0));
        if !apis.contains_key(&kind) {
            apis.insert(kind.clone(), cluster.api(&kind, "default").await?);
        }
    }
    let api = &|object: &Value| {
        let kind = object["kind"].as_str().unwrap_or_default();
        let named = apis
            .iter()
            .find(|(known, _)| known.split('.').next() == Some(kind));
        named.unwrap().1
    };
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let began = Instant::now();
    stream::iter(objects)
        .map(|object| async move {
            let (api, name) = (api(object), name(object));
            api.patch(&name, params, &Patch::Apply(object)).await?;
            if statuses {
                let status = Patch::Apply(status(object));
                api.patch_status(&name, params, &status).await?;
            }
            Ok::<_, kube::Error>(())
        })
        .buffer_unordered(64)
        .try_for_each(|()| std::future::ready(Ok(())))
        .await?;
    let sent = objects.len() * (1 + usize::from(statuses));
    let rate = sent as f64 / began.elapsed().as_secs_f64();
    stream::iter(objects)
        .for_each_concurrent(64, |object| async move {
            let _ = api(object).delete(&name(object), &Default::default()).await;
        })
        .await;
    Ok(rate)
}

/// ConfigMaps of 1.5 KB, for comparison with other servers.
pub(super) fn plain(objects: usize) -> Vec<Value> {
    let text = "x".repeat(1500);
    let object = |index| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("raw-{index}")}, "data": {"text": text}});
    (0..objects).map(object).collect()
}
