//! What stands in the way of a promotion is told, and what somebody else has written about it is not lost.

use std::sync::Arc;

use choreo_controllers::runtime::Cache;
use choreo_controllers::runtime::metrics::Metrics;
use choreo_controllers::runtime::{Change, GroupKind};
use choreo_controllers::view::{ControlKinds, ControlSnapshot, ControlView};
use choreo_controllers::write::{Applied, Applier, Failure};
use choreo_testkit::Platform;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::support::with_greeter;

/// A promotion of the greeter to staging.
async fn promote(platform: &Platform, name: &str) -> anyhow::Result<()> {
    let promotion = json!({
        "apiVersion": "openchoreo.dev/v1alpha1", "kind": "Promotion",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"owner": {"projectName": "default", "componentName": "greeter"},
                 "sourceEnvironment": "development", "targetEnvironment": "staging"},
    });
    platform.control.apply(promotion).await.map(drop)
}

fn status(promotion: &DynamicObject, field: &str) -> String {
    promotion.data["status"][field]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_refuses_what_a_rollout_needs_is_told_and_it_goes_on_once_they_do_not() -> anyhow::Result<()> {
    let platform = with_greeter().await?;
    let policy = "admissionregistration.k8s.io/v1";
    let bindings = json!({"apiGroups": ["openchoreo.dev"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"],
                          "resources": ["servicebindings"]});
    platform
        .control
        .apply(json!({
            "apiVersion": policy, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "change-board"},
            "spec": {
                "matchConstraints": {"resourceRules": [bindings]},
                "validations": [{"expression": "object.spec.environment != 'staging'", "message": "ask the change board"}],
            },
        }))
        .await?;
    platform
        .control
        .apply(json!({
            "apiVersion": policy, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "change-board"},
            "spec": {"policyName": "change-board", "validationActions": ["Deny"]},
        }))
        .await?;
    promote(&platform, "first").await?;
    let told = |promotion: &DynamicObject| {
        let waits = status(promotion, "waitsFor");
        waits.contains("cannot change the binding") && waits.contains("ask the change board")
    };
    let (kind, namespace) = ("Promotion", "default");
    let waiting = platform
        .control
        .wait_for(kind, namespace, "first", "told", told)
        .await?;
    assert_eq!(status(&waiting, "phase"), "RollingOut");
    platform
        .control
        .delete("ValidatingAdmissionPolicyBinding", "", "change-board")
        .await?;
    let done = |promotion: &DynamicObject| status(promotion, "phase") == "Succeeded";
    platform
        .control
        .wait_for(kind, namespace, "first", "done", done)
        .await?;
    platform.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_that_was_worked_out_from_an_older_one_is_not_written() -> anyhow::Result<()> {
    let mut platform = with_greeter().await?;
    promote(&platform, "first").await?;
    let (kind, namespace) = ("Promotion", "default");
    let done = |promotion: &DynamicObject| status(promotion, "phase") == "Succeeded";
    let old = platform
        .control
        .wait_for(kind, namespace, "first", "done", done)
        .await?;
    platform.stop_controllers().await;
    // Another replica, whose cache has not heard of what was written last.
    let cache = Arc::new(Cache::<ControlView>::new(
        |_: &ControlSnapshot, _: &ControlSnapshot, _: &Change| {},
    ));
    cache.watched(old.clone());
    let applier = Applier::new(
        platform.control.client.clone(),
        cache,
        "control",
        Metrics::default(),
    );
    let label = json!({"metadata": {"labels": {"written": "since"}}});
    platform.control.merge(kind, namespace, "first", label).await?;
    let kinds = ControlKinds::default();
    let resource = kinds.resource(&GroupKind::new("openchoreo.dev", kind)).unwrap();
    let desired = json!({
        "apiVersion": resource.api_version, "kind": kind, "metadata": {"name": "first", "namespace": namespace},
        "status": {"phase": "Pending"},
    });
    let revision = old.metadata.resource_version.clone();
    let apply = async |revision: Option<&str>| {
        applier
            .apply_status(resource, "choreo/promotion", &desired, revision)
            .await
    };
    let refused = apply(revision.as_deref()).await;
    assert!(matches!(refused, Err(Failure::Conflict(_))), "{refused:?}");
    let now = platform.control.get(kind, namespace, "first").await?.unwrap();
    assert_eq!(now.data["status"], old.data["status"]);
    let current = now.metadata.resource_version.clone();
    assert_eq!(apply(current.as_deref()).await, Ok(Applied::Written));
    let now = platform.control.get(kind, namespace, "first").await?.unwrap();
    assert_eq!(now.data["status"]["history"], Value::Null);
    platform.stop().await;
    Ok(())
}
