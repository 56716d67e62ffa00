//! What must never happen, each shown by what would make it happen.

use choreo_testkit::{Platform, ready_message};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::support::{GITHUB, GREETER, cell, deploy_greeter, with_greeter};

const BINDING: &str = "greeter-development";

async fn set_state(platform: &Platform, state: &str) -> anyhow::Result<()> {
    platform
        .control
        .merge(
            "ServiceBinding",
            "default",
            BINDING,
            json!({"spec": {"releaseState": state}}),
        )
        .await?;
    Ok(())
}

/// Everything of the greeter that is in its cell.
async fn in_cell(platform: &Platform) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for kind in [
        "Deployment.apps",
        "Service.",
        "ConfigMap",
        "ExternalSecret",
        "ServiceAccount",
        "HTTPRoute",
        "CiliumNetworkPolicy",
    ] {
        let all = platform.local.list(kind, &cell("development")).await?;
        found.extend(
            all.iter()
                .map(|object| object.name_any())
                .filter(|name| name.starts_with("greeter"))
                .map(|name| format!("{kind} {name}")),
        );
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_render_error_deletes_nothing_that_is_live() -> anyhow::Result<()> {
    let platform = with_greeter().await?;
    let before = in_cell(&platform).await?;
    assert!(before.len() > 4, "{before:?}");
    let release = platform
        .control
        .get("Release", "default", BINDING)
        .await?
        .unwrap();

    // A class that nobody can render with, and a workload that refers to what is not there: many errors at once.
    let class =
        json!({"spec": {"deploymentTemplate": {"selector": {"matchLabels": {"a": "b"}}, "contaners": []}}});
    platform
        .control
        .merge("ServiceClass", "default", "default", class)
        .await?;
    let binding = platform
        .control
        .wait_unready(
            "ServiceBinding",
            "default",
            BINDING,
            "deploymentTemplate.selector",
        )
        .await?;
    let message = ready_message(&binding);
    assert!(
        message.contains("deploymentTemplate.contaners: unknown field")
            && message.contains("the previous release stays as it is"),
        "{message}"
    );
    assert_eq!(in_cell(&platform).await?, before);
    let after = platform
        .control
        .get("Release", "default", BINDING)
        .await?
        .unwrap();
    assert_eq!(after.data["spec"], release.data["spec"]);
    platform.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_applied_release_can_be_undeployed() -> anyhow::Result<()> {
    let platform = Platform::start().await?;
    let cell = cell("development");
    // The cell is there first, with a foreign object in the way of the greeter's Service.
    platform.control.apply_yaml(GITHUB).await?;
    platform
        .control
        .apply_yaml(&GREETER.replace("greeter", "first"))
        .await?;
    platform
        .control
        .wait_ready("Component", "default", "first")
        .await?;
    let foreign = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "greeter", "namespace": cell},
        "spec": {"ports": [{"port": 1}]},
    });
    platform.local.apply(foreign).await?;
    platform.control.apply_yaml(GREETER).await?;
    platform
        .control
        .wait_unready("Release", "default", BINDING, "belongs to somebody else")
        .await?;
    assert!(
        platform
            .local
            .get("Deployment.apps", &cell, "greeter")
            .await?
            .is_some(),
        "the rest is applied"
    );

    set_state(&platform, "Undeploy").await?;
    platform.control.wait_gone("Release", "default", BINDING).await?;
    platform
        .control
        .wait_for("ServiceBinding", "default", BINDING, "undeployed", |binding| {
            ready_message(binding) == "undeployed: nothing runs"
        })
        .await?;
    assert_eq!(
        in_cell(&platform).await?,
        ["Service. greeter"],
        "what is not ours stays, and nothing else"
    );
    platform.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_waits_for_its_cluster_can_be_undeployed() -> anyhow::Result<()> {
    let platform = Platform::start_with(choreo_testkit::Options {
        without_node: true,
        ..choreo_testkit::Options::default()
    })
    .await?;
    platform.control.apply_yaml(GITHUB).await?;
    platform.control.apply_yaml(GREETER).await?;
    // Applied, and nothing of it will ever be ready.
    platform
        .local
        .wait_for(
            "Deployment.apps",
            &cell("development"),
            "greeter",
            "there",
            |_| true,
        )
        .await?;
    set_state(&platform, "Undeploy").await?;
    platform.control.wait_gone("Release", "default", BINDING).await?;
    assert_eq!(in_cell(&platform).await?, Vec::<String>::new());

    // And it comes back as the revision that it was.
    set_state(&platform, "Active").await?;
    platform
        .local
        .wait_for("Deployment.apps", &cell("development"), "greeter", "back", |_| {
            true
        })
        .await?;
    platform
        .control
        .wait_for("ServiceBinding", "default", BINDING, "revision 1", |binding| {
            binding.data["status"]["revision"] == 1
        })
        .await?;
    platform.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_and_a_web_application_of_one_name_do_not_fight() -> anyhow::Result<()> {
    let platform = with_greeter().await?;
    let before = platform
        .local
        .get("Deployment.apps", &cell("development"), "greeter")
        .await?
        .unwrap();
    // The typed part of another type for the same component, and a binding that would write the same release.
    let owner = json!({"projectName": "default", "componentName": "greeter"});
    let object = |kind: &str, name: &str, spec: Value| json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": "default"}, "spec": spec});
    let web = json!({"owner": owner, "workloadName": "greeter"});
    platform
        .control
        .apply(object("WebApplication", "greeter", web))
        .await?;
    platform
        .control
        .wait_unready(
            "WebApplication",
            "default",
            "greeter",
            "not used, because Component \"greeter\" is of type \"Service\": delete this WebApplication",
        )
        .await?;
    let binding = json!({
        "owner": owner, "environment": "development",
        "workloadSpec": {"containers": {"main": {"image": "other:1"}}, "endpoints": {"web": {"type": "HTTP", "port": 80}}},
    });
    platform
        .control
        .apply(object("WebApplicationBinding", BINDING, binding))
        .await?;
    platform
        .control
        .wait_unready(
            "WebApplicationBinding",
            "default",
            BINDING,
            "has the same name as ServiceBinding \"greeter-development\", whose release it would overwrite",
        )
        .await?;
    let after = platform
        .local
        .get("Deployment.apps", &cell("development"), "greeter")
        .await?
        .unwrap();
    assert_eq!(after.metadata.generation, before.metadata.generation);
    assert_eq!(after.metadata.uid, before.metadata.uid);
    platform.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_at_the_limit_run() -> anyhow::Result<()> {
    let platform = Platform::start().await?;
    let name = "a-component-with-a-name-of-exactly-sixty-three-characters-x-y-z";
    assert_eq!(name.len(), 63);
    platform.control.apply_yaml(GITHUB).await?;
    platform
        .control
        .apply_yaml(
            &GREETER
                .replace("name: greeter\n", &format!("name: {name}\n"))
                .replace("componentName: greeter\n", &format!("componentName: {name}\n"))
                .replace("workloadName: greeter\n", &format!("workloadName: {name}\n")),
        )
        .await?;
    platform.control.wait_ready("Component", "default", name).await?;
    let all = platform
        .local
        .list("Deployment.apps", &cell("development"))
        .await?;
    assert_eq!(all[0].name_any(), name);
    platform.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_class_renders_what_uses_it_and_nothing_else() -> anyhow::Result<()> {
    let platform = Platform::start().await?;
    let small = json!({
        "apiVersion": "openchoreo.dev/v1alpha1", "kind": "ServiceClass",
        "metadata": {"name": "small", "namespace": "default"}, "spec": {},
    });
    platform.control.apply(small).await?;
    deploy_greeter(&platform).await?;
    let other = GREETER.replace("greeter", "other");
    let other = other.replace("workloadName: other", "workloadName: other\n  className: small");
    platform.control.apply_yaml(&other).await?;
    platform
        .control
        .wait_ready("Component", "default", "other")
        .await?;
    let greeter = platform
        .control
        .get("Release", "default", BINDING)
        .await?
        .unwrap();
    let patch = json!({"spec": {"deploymentTemplate": {"revisionHistoryLimit": 3}}});
    platform
        .control
        .merge("ServiceClass", "default", "small", patch)
        .await?;
    platform
        .local
        .wait_for(
            "Deployment.apps",
            &cell("development"),
            "other",
            "of the new class",
            |object| object.data["spec"]["revisionHistoryLimit"] == 3,
        )
        .await?;
    let after = platform
        .control
        .get("Release", "default", BINDING)
        .await?
        .unwrap();
    assert_eq!(after.metadata.generation, greeter.metadata.generation);
    platform.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registrys_credentials_are_copied_into_the_cell_and_into_no_release() -> anyhow::Result<()> {
    let platform = with_greeter().await?;
    let (control, cell_release) = (
        &platform.control,
        choreo_api::names::cell_release("default", "development"),
    );
    let registry = json!({"spec": {"registry": {"prefix": "registry.example.com", "secretRef": "registry"}}});
    control.merge("DataPlane", "default", "default", registry).await?;
    control
        .wait_unready(
            "Release",
            "default",
            &cell_release,
            "Secret \"registry\" is neither in namespace \"default\" of the control plane",
        )
        .await?;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "registry", "namespace": "default"},
        "type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "e30="},
    });
    control.apply(secret).await?;
    let touch = json!({"metadata": {"annotations": {"touched": "1"}}});
    control.merge("DataPlane", "default", "default", touch).await?;
    let copy = platform
        .local
        .wait_for("Secret", &cell("development"), "registry", "copied", |_| true)
        .await?;
    assert_eq!(copy.data["data"][".dockerconfigjson"], "e30=");
    let release = control.wait_ready("Release", "default", &cell_release).await?;
    assert!(!release.data.to_string().contains("e30="));
    platform.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_stays_closed_when_what_guards_it_cannot_be_applied() -> anyhow::Result<()> {
    let platform = Platform::start().await?;
    let cell = cell("development");
    let guarded = GREETER.replace(
        "      type: REST\n      rest:",
        "      type: REST\n      className: default-with-jwt-auth\n      rest:",
    );
    assert_ne!(guarded, GREETER);
    platform.control.apply_yaml(GITHUB).await?;
    platform.control.apply_yaml(&guarded).await?;
    platform
        .control
        .wait_ready("Component", "default", "greeter")
        .await?;
    let guards = platform.local.list("SecurityPolicy", &cell).await?;
    assert_eq!(guards.len(), 2, "one for each level");

    // Taken away, and somebody puts objects of the same names there that let everybody through.
    set_state(&platform, "Undeploy").await?;
    platform.control.wait_gone("Release", "default", BINDING).await?;
    for guard in &guards {
        let open = json!({
            "apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "SecurityPolicy",
            "metadata": {"name": guard.name_any(), "namespace": cell}, "spec": {},
        });
        platform.local.apply(open).await?;
    }
    set_state(&platform, "Active").await?;
    let release = platform
        .control
        .wait_unready("Release", "default", BINDING, "held back, because SecurityPolicy")
        .await?;
    assert!(ready_message(&release).contains("belongs to somebody else"));
    assert!(platform.local.list("HTTPRoute", &cell).await?.is_empty());
    assert!(
        platform
            .local
            .get("Deployment.apps", &cell, "greeter")
            .await?
            .is_some(),
        "the rest is applied"
    );
    platform.stop().await;
    Ok(())
}
