//! From source to something that runs, over a simulated build plane.

use choreo_testkit::{Platform, conditions};
use kube::api::DynamicObject;
use serde_json::json;

const BUILDS: &str = "openchoreo-ci-default";

/// A service that is built from a Dockerfile, with one public API.
const SHOP: &str = r#"
apiVersion: openchoreo.dev/v1alpha1
kind: Component
metadata: {name: shop}
spec:
  owner: {projectName: default}
  type: Service
  build:
    repository: {url: "https://git.example.com/shop", revision: {branch: main}, appPath: /service}
    templateRef: {name: docker, parameters: [{name: docker-context, value: /service}, {name: dockerfile-path, value: /service/Dockerfile}]}
---
apiVersion: openchoreo.dev/v1alpha1
kind: Service
metadata: {name: shop}
spec:
  owner: {projectName: default, componentName: shop}
  workloadName: shop-runtime
  apis: {orders: {type: REST, rest: {backend: {port: 9090, basePath: /orders}, exposeLevels: [Public]}}}
"#;

/// A build of it, with more of the spec's parameters or annotations.
fn build(name: &str, annotations: &serde_json::Value, revision: &serde_json::Value) -> serde_json::Value {
    json!({
        "apiVersion": "openchoreo.dev/v1alpha1",
        "kind": "Build",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {
            "owner": {"projectName": "default", "componentName": "shop"},
            "repository": {"url": "https://git.example.com/shop", "revision": revision, "appPath": "/service"},
            "templateRef": {"name": "docker", "parameters": [
                {"name": "docker-context", "value": "/service"},
                {"name": "dockerfile-path", "value": "/service/Dockerfile"},
            ]},
        },
    })
}

fn condition(object: &DynamicObject, type_: &str) -> (String, String, String) {
    let found = conditions(object).into_iter().find(|(t, ..)| t == type_);
    let (_, status, reason, message) =
        found.unwrap_or_else(|| panic!("no {type_}: {:?}", conditions(object)));
    (status, reason, message)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_makes_a_workload_that_runs_by_digest() -> anyhow::Result<()> {
    let platform = Platform::start().await?;
    let control = &platform.control;
    control.wait_ready("BuildPlane", "default", "default").await?;
    control.apply_yaml(SHOP).await?;
    control
        .apply(build("shop-1", &json!({}), &json!({"commit": "0a1b2c3d"})))
        .await?;
    let built = control.wait_ready("Build", "default", "shop-1").await?;
    let status = &built.data["status"];
    let image = status["imageStatus"]["image"].as_str().unwrap();
    assert!(
        image.starts_with("registry.openchoreo.localhost/default/default-shop@sha256:"),
        "{image}"
    );
    assert_eq!(status["commit"], "0a1b2c3d");
    assert_eq!(status["workload"], "shop-runtime");
    for type_ in ["Started", "Completed", "WorkloadUpdated"] {
        assert_eq!(condition(&built, type_).0, "True", "{type_}");
    }
    // Nobody fetched the source: it says where the endpoints come from.
    assert!(
        condition(&built, "WorkloadUpdated")
            .2
            .contains("no workload descriptor")
    );

    let workload = control.get("Workload", "default", "shop-runtime").await?.unwrap();
    assert_eq!(workload.data["spec"]["containers"]["main"]["image"], image);
    assert_eq!(
        workload.data["spec"]["endpoints"],
        json!({"orders": {"type": "REST", "port": 9090}})
    );
    let component = control.wait_ready("Component", "default", "shop").await?;
    assert_eq!(component.data["status"]["latestBuild"], "shop-1");

    let workflow = platform.local.get("Workflow", BUILDS, "shop-1").await?.unwrap();
    assert_eq!(
        workflow.metadata.annotations.as_ref().unwrap()["openchoreo.dev/simulated"],
        "true"
    );
    assert_eq!(workflow.data["spec"]["workflowTemplateRef"]["name"], "docker");

    // It goes with its build; the workload stays.
    control.delete("Build", "default", "shop-1").await?;
    platform.local.wait_gone("Workflow", BUILDS, "shop-1").await?;
    control.wait_gone("Build", "default", "shop-1").await?;
    assert!(
        control
            .get("Workload", "default", "shop-runtime")
            .await?
            .is_some()
    );
    platform.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_build_says_which_step_and_why_and_changes_nothing() -> anyhow::Result<()> {
    let platform = Platform::start().await?;
    let control = &platform.control;
    control.apply_yaml(SHOP).await?;
    let crash = json!({
        "simulate.openchoreo.dev/behavior": "crash-loop",
        "simulate.openchoreo.dev/container": "push-step",
    });
    control.apply(build("broken", &crash, &json!({}))).await?;
    let failed = control
        .wait_unready("Build", "default", "broken", "step \"push-step\"")
        .await?;
    assert_eq!(condition(&failed, "Completed").1, "Failed");
    assert!(condition(&failed, "Ready").2.contains("exit code 1"));

    // What the template needs, and the build does not give.
    let mut incomplete = build("incomplete", &json!({}), &json!({}));
    incomplete["spec"]["templateRef"]["parameters"] = json!([]);
    control.apply(incomplete).await?;
    control
        .wait_unready("Build", "default", "incomplete", "docker-context")
        .await?;
    let mut unknown = build("unknown", &json!({}), &json!({}));
    unknown["spec"]["templateRef"] = json!({"name": "kaniko"});
    control.apply(unknown).await?;
    control
        .wait_unready("Build", "default", "unknown", "\"kaniko\" not found")
        .await?;
    // A parameter that is not the developer's is told before anything starts.
    let mut reserved = build("reserved", &json!({}), &json!({}));
    reserved["spec"]["templateRef"]["parameters"] = json!([{"name": "image-name", "value": "other"}]);
    control.apply(reserved).await?;
    control
        .wait_unready("Build", "default", "reserved", "parameters[image-name]")
        .await?;
    assert!(
        platform
            .local
            .get("Workflow", BUILDS, "reserved")
            .await?
            .is_none()
    );

    assert!(
        control
            .get("Workload", "default", "shop-runtime")
            .await?
            .is_none()
    );
    control
        .wait_unready("Component", "default", "shop", "shop-runtime")
        .await?;
    platform.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_that_a_person_wrote_gets_the_image_and_nothing_else() -> anyhow::Result<()> {
    let platform = Platform::start().await?;
    let control = &platform.control;
    control.apply_yaml(SHOP).await?;
    let by_hand = json!({
        "apiVersion": "openchoreo.dev/v1alpha1", "kind": "Workload", "metadata": {"name": "shop-runtime"},
        "spec": {
            "owner": {"projectName": "default", "componentName": "shop"},
            "containers": {"main": {"image": "registry.example.com/shop:old", "env": [{"key": "A", "value": "b"}]}},
            "endpoints": {"orders": {"type": "REST", "port": 9090}, "metrics": {"type": "HTTP", "port": 9100}},
        },
    });
    control.apply(by_hand).await?;
    control.apply(build("first", &json!({}), &json!({}))).await?;
    let first = control.wait_ready("Build", "default", "first").await?;
    assert!(condition(&first, "WorkloadUpdated").2.contains("written by hand"));
    let workload = control.get("Workload", "default", "shop-runtime").await?.unwrap();
    let spec = &workload.data["spec"];
    assert_eq!(
        spec["containers"]["main"]["image"],
        first.data["status"]["imageStatus"]["image"]
    );
    assert_eq!(
        spec["containers"]["main"]["env"],
        json!([{"key": "A", "value": "b"}])
    );
    assert_eq!(spec["endpoints"].as_object().unwrap().len(), 2);

    // A build writes once: what somebody sets afterwards stays.
    let newer = json!({"spec": {"containers": {"main": {"image": "registry.example.com/shop:mine"}}}});
    control
        .merge("Workload", "default", "shop-runtime", newer)
        .await?;
    control
        .apply(build(
            "second",
            &json!({"simulate.openchoreo.dev/behavior": "not-ready"}),
            &json!({"branch": "next"}),
        ))
        .await?;
    control
        .wait_for("Build", "default", "second", "started", |build| {
            conditions(build)
                .iter()
                .any(|(t, s, ..)| t == "Started" && s == "True")
        })
        .await?;
    let workload = control.get("Workload", "default", "shop-runtime").await?.unwrap();
    assert_eq!(
        workload.data["spec"]["containers"]["main"]["image"],
        "registry.example.com/shop:mine"
    );
    platform.stop().await;
    Ok(())
}
