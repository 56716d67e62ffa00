//! Objects of which only metadata are watched.

use std::sync::Arc;
use std::time::{Duration, Instant};

use choreo_apiserver::{ApiServer, UserInfo};
use choreo_controllers::planes::plane::{Plane, PlaneListener};
use choreo_controllers::planes::{MANAGED_BY, PlaneId};
use choreo_controllers::runtime::metrics::Metrics;
use choreo_controllers::runtime::{Change, ObjectRef};
use choreo_testkit::Cluster;
use kube::ResourceExt as _;
use kube::api::DynamicObject;
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::{cell, with_greeter};

struct Deaf;

impl PlaneListener for Deaf {
    fn changed(&self, _: &PlaneId, _: &Change) {}
    fn look_again(&self, _: &PlaneId) {}
    fn usable_changed(&self, _: &PlaneId) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_a_secret_is_not_kept_unless_it_is_asked_for() -> anyhow::Result<()> {
    let server = ApiServer::new(
        choreo_store::Store::in_memory(),
        choreo_apiserver::Options::default(),
    )?;
    let shutdown = CancellationToken::new();
    server.start_controllers(&shutdown);
    let client = server.cluster_client("control", &UserInfo::admin());
    let cluster = Cluster::new("control", client.clone());
    let secret = |value: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "s", "namespace": "default", "labels": {MANAGED_BY.0: MANAGED_BY.1}},
            "stringData": {"password": value},
        })
    };
    cluster.apply(secret("one")).await?;
    let plane = Plane::open(
        PlaneId::data("o", "p", ""),
        "in process".to_owned(),
        client,
        Metrics::default(),
        Arc::new(Deaf),
        shutdown.clone(),
    )
    .await?;
    let served = plane
        .served(&GroupVersionKind::gvk("", "v1", "Secret"))
        .await
        .unwrap();
    let address = ObjectRef::new("", "Secret", "default", "s");
    let kept = || plane.snapshot().kept(&address).cloned();
    plane.watch(&served, false).await?;
    // From the list.
    assert!(kept().unwrap().is_outline());
    assert_eq!(kept().unwrap().get().data, json!({}));
    // From the watch.
    let changed = cluster.apply(secret("two")).await?;
    let arrived = async |revision: Option<String>| {
        let began = Instant::now();
        while kept().unwrap().resource_version() != revision.as_deref() {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "the watch does not bring {revision:?}"
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    arrived(changed.resource_version()).await;
    assert_eq!(kept().unwrap().get().data, json!({}));
    // From the answer to a write.
    let resource = &served.resource;
    plane
        .applier()
        .apply(resource, "choreo/test", &secret("three"), true)
        .await?;
    assert!(kept().unwrap().is_outline());
    assert_eq!(kept().unwrap().get().data, json!({}));

    // Who needs more gets it, even if nothing has changed since.
    plane.watch(&served, true).await?;
    let whole = kept().unwrap();
    assert!(!whole.is_outline());
    assert!(whole.get().data["data"]["password"].is_string());
    let changed = cluster.apply(secret("four")).await?;
    arrived(changed.resource_version()).await;
    assert!(kept().unwrap().get().data["data"]["password"].is_string());
    // And keeps it.
    plane.watch(&served, false).await?;
    assert!(!kept().unwrap().is_outline());
    shutdown.cancel();
    server.drain();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_changes_in_them_is_put_right_and_what_somebody_adds_stays() -> anyhow::Result<()> {
    let platform = with_greeter().await?;
    let (local, cell) = (&platform.local, cell("development"));
    for (kind, changed, path) in [
        ("ConfigMap.", json!({"data": {"repository": "evil"}}), "/data"),
        (
            "ServiceAccount.",
            json!({"automountServiceAccountToken": true}),
            "/automountServiceAccountToken",
        ),
    ] {
        let ours = local.list(kind, &cell).await?.into_iter().find(|object| {
            object.labels().get(MANAGED_BY.0).map(String::as_str) == Some(MANAGED_BY.1)
                && object.name_any().starts_with("greeter")
        });
        let before = ours.unwrap();
        let name = before.name_any();
        assert!(
            before.annotations().contains_key("openchoreo.dev/content"),
            "{kind} {name}"
        );
        let part = |object: &DynamicObject| object.data.pointer(path).cloned().unwrap_or_default();
        let edited = local.merge(kind, &cell, &name, changed).await?;
        assert_ne!(part(&edited), part(&before), "{kind}: nothing was changed");
        let wanted = part(&before);
        local
            .wait_for(kind, &cell, &name, "healed", |object| part(object) == wanted)
            .await?;

        // With no field of ours, it is not our business, and nothing is written.
        let added = json!({"metadata": {"annotations": {"theirs": "1"}}});
        let added = local.merge(kind, &cell, &name, added).await?;
        let marker = json!({"metadata": {"annotations": {"openchoreo.dev/content": Value::Null}}});
        // What is done about the next change is done after what is done about this one.
        local.merge(kind, &cell, &name, marker).await?;
        let signed = local
            .wait_for(kind, &cell, &name, "signed again", |object| {
                object.annotations().contains_key("openchoreo.dev/content")
            })
            .await?;
        assert_eq!(signed.annotations()["theirs"], "1");
        assert_eq!(part(&signed), part(&added));
    }
    platform.stop().await;
    Ok(())
}

/// The digest of the content, and who owns what, are in the metadata: a new process need not read anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_reads_nothing_of_what_is_as_it_was() -> anyhow::Result<()> {
    let mut platform = with_greeter().await?;
    let reads = |platform: &choreo_testkit::Platform| {
        let calls = platform.metrics.calls();
        calls.get(&("data", "get")).copied().unwrap_or_default()
    };
    platform.stop_controllers().await;
    let before = reads(&platform);
    platform.start_controllers().await;
    // Once the release has been looked at, a change of it arrives.
    let patch = json!({"spec": {"containers": {"main": {"image": "example.com/greeter:next"}}}});
    platform
        .control
        .merge("Workload", "default", "greeter", patch)
        .await?;
    let runs = |object: &DynamicObject| {
        object.data["spec"]["template"]["spec"]["containers"][0]["image"] == "example.com/greeter:next"
    };
    platform
        .local
        .wait_for(
            "Deployment.apps",
            &cell("development"),
            "greeter",
            "the new image",
            runs,
        )
        .await?;
    assert_eq!(reads(&platform) - before, 0, "{:?}", platform.metrics.calls());
    platform.stop().await;
    Ok(())
}
