//! What the charts give is enough, and no request is refused: the manager and the data plane's credentials have their roles and
//! nothing else.

use choreo_engine::promotion::{CHANGED_BY, PROMOTED_BY};
use choreo_manager::webhook::{Options as WebhookOptions, Reach};
use choreo_testkit::{Bed, Cluster, ready_message};
use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::support::{Running, alone, apply_greeter, cell, kinds, options, start};

const MANAGER: &str = include_str!("../../../../deploy/choreo.yaml");
const DATA_PLANE: &str = include_str!("../../../../deploy/data-plane.yaml");
const BUILD_PLANE: &str = include_str!("../../../../deploy/build-plane.yaml");

/// Applies who the manifests say may do what, and nothing that would run.
async fn grant(cluster: &Cluster, manifests: &str) -> anyhow::Result<()> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(manifests)?;
    let kinds = [
        "Namespace",
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "Role",
        "RoleBinding",
    ];
    for kind in kinds {
        for document in documents.iter().filter(|document| document["kind"] == kind) {
            cluster.apply(document.clone()).await?;
        }
    }
    Ok(())
}

/// Requests that somebody was not allowed, as the manager counts them.
async fn refused(manager: &Running) -> Vec<String> {
    let metrics = manager.probe("/metrics").await;
    let refused = metrics.lines().filter(|line| line.contains("code=\"403\""));
    refused.map(str::to_owned).collect()
}

async fn manager_with_its_rights(bed: &Bed) -> anyhow::Result<Running> {
    grant(&bed.control, MANAGER).await?;
    let token = bed
        .control
        .token_of("openchoreo-system", "choreo-manager")
        .await?;
    let mut options = options(bed.control_config_as(&token), "least");
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    options.webhook = Some(WebhookOptions {
        listen: ([127, 0, 0, 1], port).into(),
        reach: Reach::Url(format!("https://127.0.0.1:{port}")),
        name: "choreo-manager-webhook".to_owned(),
        own_user: Some("system:serviceaccount:openchoreo-system:choreo-manager".to_owned()),
    });
    options.shards = 2;
    Ok(start(options).await)
}

async fn end(bed: Bed, manager: Running, organization: &str) -> anyhow::Result<()> {
    bed.control.delete("Organization", "", organization).await?;
    bed.control
        .wait_all("Release", organization, "no release", <[_]>::is_empty)
        .await?;
    if !Bed::is_foreign() {
        bed.plane.wait_gone("Namespace.", "", &cell(organization)).await?;
        bed.control.wait_gone("Organization", "", organization).await?;
    }
    assert_eq!(refused(&manager).await, Vec::<String>::new());
    for kind in ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"] {
        bed.control.delete(kind, "", "choreo-manager-webhook").await?;
    }
    manager.stop().await?;
    // Somebody has looked after the lease to the end, too.
    let lease = bed
        .control
        .get("Lease", "openchoreo-system", "choreo-manager-1")
        .await?;
    assert_eq!(lease.unwrap().data["spec"]["holderIdentity"], "");
    bed.stop();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_charts_roles_are_enough_for_the_greeter_and_for_its_end() -> anyhow::Result<()> {
    let _alone = alone().await;
    let bed = Bed::start().await?;
    let manager = manager_with_its_rights(&bed).await?;
    kinds(&bed.control).await?;
    grant(&bed.plane, DATA_PLANE).await?;
    let token = bed
        .plane
        .token_of("openchoreo-data-plane", "choreo-plane")
        .await?;
    bed.organization("rights").await?;
    bed.token("rights", &token).await?;
    // Roles for people are given by somebody who has not got what is in them.
    let access = json!({"spec": {"access": [{"role": "admin", "groups": ["rights-admins"]}]}});
    bed.control.merge("Organization", "", "rights", access).await?;
    bed.control.wait_ready("DataPlane", "rights", "default").await?;
    apply_greeter(&bed.control, "rights").await?;
    bed.control.wait_ready("Component", "rights", "greeter").await?;
    bed.plane
        .wait_for("RoleBinding", &cell("rights"), "choreo-admin", "given", |_| true)
        .await?;
    bed.control
        .wait_for("RoleBinding", "rights", "choreo-admin", "given", |binding| {
            binding.data["subjects"].to_string().contains("rights-admins")
        })
        .await?;
    // What is changed there by somebody else comes back.
    bed.plane.delete("Service.", &cell("rights"), "greeter").await?;
    bed.plane
        .wait_for("Service.", &cell("rights"), "greeter", "healed", |_| true)
        .await?;
    assert_eq!(refused(&manager).await, Vec::<String>::new());
    end(bed, manager, "rights").await
}

/// Workloads and builds in clusters of their own, each with the rights of its chart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_plane_needs_no_more_than_its_chart_gives() -> anyhow::Result<()> {
    let _alone = alone().await;
    let bed = Bed::start().await?;
    let manager = manager_with_its_rights(&bed).await?;
    kinds(&bed.control).await?;
    grant(&bed.plane, BUILD_PLANE).await?;
    let token = bed
        .plane
        .token_of("openchoreo-build-plane", "choreo-builds-plane")
        .await?;
    bed.organization("builders").await?;
    bed.control
        .apply(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "builds", "namespace": "builders"},
            "stringData": {"token": token},
        }))
        .await?;
    bed.control
        .apply(json!({
            "apiVersion": "openchoreo.dev/v1alpha1", "kind": "BuildPlane",
            "metadata": {"name": "default", "namespace": "builders"},
            "spec": {"kubernetesCluster": {
                "server": bed.plane_proxy.url(),
                "auth": {"bearerToken": {"secretRef": "builds"}},
            }},
        }))
        .await?;
    bed.control
        .wait_ready("BuildPlane", "builders", "default")
        .await?;
    let build = json!({
        "repository": {"url": "https://example.com/greeter.git", "revision": {"branch": "main"}},
        "templateRef": {"name": "docker", "parameters": [
            {"name": "docker-context", "value": "/"}, {"name": "dockerfile-path", "value": "/Dockerfile"},
        ]},
    });
    bed.control
        .apply(json!({
            "apiVersion": "openchoreo.dev/v1alpha1", "kind": "Component",
            "metadata": {"name": "built", "namespace": "builders"},
            "spec": {"owner": {"projectName": "default"}, "type": "Service", "build": build},
        }))
        .await?;
    while !manager.probe("/readyz").await.starts_with("HTTP/1.1 200") {
        tokio::task::yield_now().await;
    }
    // The webhook fills in what the component says.
    let short = bed
        .control
        .apply(json!({
            "apiVersion": "openchoreo.dev/v1alpha1", "kind": "Build",
            "metadata": {"name": "first", "namespace": "builders"},
            "spec": {"owner": {"componentName": "built"}},
        }))
        .await?;
    assert_eq!(short.data["spec"]["templateRef"], build["templateRef"]);
    let completed = |build: &DynamicObject| {
        choreo_testkit::conditions(build)
            .iter()
            .any(|(type_, status, ..)| type_ == "Completed" && status == "True")
    };
    bed.control
        .wait_for("Build", "builders", "first", "completed", completed)
        .await?;
    bed.control.delete("Build", "builders", "first").await?;
    bed.control.wait_gone("Build", "builders", "first").await?;
    assert_eq!(refused(&manager).await, Vec::<String>::new());
    end(bed, manager, "builders").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_that_is_missing_is_said_and_used_once_it_is_there() -> anyhow::Result<()> {
    let _alone = alone().await;
    let bed = Bed::start().await?;
    let manager = manager_with_its_rights(&bed).await?;
    kinds(&bed.control).await?;
    grant(&bed.plane, DATA_PLANE).await?;
    let role = bed.plane.get("ClusterRole", "", "choreo-plane").await?.unwrap();
    let rules = role.data["rules"].as_array().unwrap().clone();
    let services = |rule: &Value| rule["resources"].to_string().contains("\"deployments\"");
    let fewer: Vec<&Value> = rules.iter().filter(|rule| !services(rule)).collect();
    assert_eq!(fewer.len() + 1, rules.len());
    bed.plane
        .merge("ClusterRole", "", "choreo-plane", json!({"rules": fewer}))
        .await?;
    let token = bed
        .plane
        .token_of("openchoreo-data-plane", "choreo-plane")
        .await?;
    bed.organization("missing").await?;
    bed.token("missing", &token).await?;
    apply_greeter(&bed.control, "missing").await?;
    let release = bed
        .control
        .wait_unready("Release", "missing", "greeter-development", "deployments")
        .await?;
    let message = ready_message(&release);
    // Who may not do what, as the API server says it.
    assert!(
        message.contains("system:serviceaccount:openchoreo-data-plane:choreo-plane"),
        "{message}"
    );
    assert!(message.contains("\"apps\""), "{message}");
    bed.plane
        .merge("ClusterRole", "", "choreo-plane", json!({"rules": rules}))
        .await?;
    bed.control.wait_ready("Component", "missing", "greeter").await?;
    bed.control.delete("Organization", "", "missing").await?;
    for kind in ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"] {
        bed.control.delete(kind, "", "choreo-manager-webhook").await?;
    }
    manager.stop().await?;
    bed.stop();
    Ok(())
}

/// The control plane as somebody with all rights.
fn control_as(bed: &Bed, user: &str) -> anyhow::Result<Cluster> {
    let mut config = bed.direct_config();
    config.auth_info.impersonate = Some(user.to_owned());
    config.auth_info.impersonate_groups = Some(vec!["system:masters".to_owned()]);
    Ok(Cluster::new(user, kube::Client::try_from(config)?))
}

/// Whose word the API server says that something of a binding is.
fn authorship(binding: &DynamicObject) -> [Option<&str>; 2] {
    let annotations = binding.metadata.annotations.as_ref();
    let of = |key: &str| annotations?.get(key).map(String::as_str);
    [CHANGED_BY, PROMOTED_BY].map(of)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_writes_an_artifact_into_a_binding_asks_for_its_promotion() -> anyhow::Result<()> {
    let _alone = alone().await;
    let bed = Bed::start().await?;
    let manager = manager_with_its_rights(&bed).await?;
    kinds(&bed.control).await?;
    let namespace = "authors";
    bed.organization(namespace).await?;
    bed.control.wait_ready("Project", namespace, "default").await?;
    let demands =
        json!({"name": "staging", "approvals": {"minimum": 1, "users": ["jane", "joe"], "notAuthor": true}});
    let path = json!({"sourceEnvironmentRef": "development", "targetEnvironmentRefs": [demands]});
    let guarded = json!({"spec": {"promotionPaths": [path]}});
    bed.control
        .merge("DeploymentPipeline", namespace, "default", guarded)
        .await?;
    while !manager.probe("/readyz").await.starts_with("HTTP/1.1 200") {
        tokio::task::yield_now().await;
    }
    let (jane, joe) = (control_as(&bed, "jane")?, control_as(&bed, "joe")?);
    let owner = json!({"projectName": "default", "componentName": "greeter"});
    // Whatever they say of whose word it is: the API server knows better.
    let forged = json!({CHANGED_BY: "joe", PROMOTED_BY: "nobody"});
    let kind = "ServiceBinding";
    let binding = json!({
        "apiVersion": "openchoreo.dev/v1alpha1", "kind": kind,
        "metadata": {"name": "greeter-staging", "namespace": namespace, "annotations": forged},
        "spec": {"owner": owner, "environment": "staging", "artifactRef": "greeter-1"},
    });
    let written = jane.apply(binding).await?;
    assert_eq!(authorship(&written), [Some("jane"), None]);
    let asked_by = async |artifact: &'static str, user: &'static str| {
        let of_them = |p: &DynamicObject| {
            p.data["spec"]["artifactRef"] == artifact && p.data["spec"]["requestedBy"] == user
        };
        let there = format!("{artifact} asked for by {user}");
        bed.control
            .wait_all("Promotion", namespace, &there, |all| all.iter().any(of_them))
            .await
    };
    asked_by("greeter-1", "jane").await?;
    let change =
        async |who: &Cluster, patch: Value| who.merge(kind, namespace, "greeter-staging", patch).await;
    // It stays who it was until there is another artifact.
    let labelled = change(
        &joe,
        json!({"metadata": {"labels": {"a": "b"}, "annotations": {CHANGED_BY: "joe"}}}),
    )
    .await?;
    assert_eq!(authorship(&labelled), [Some("jane"), None]);
    let changed = change(&joe, json!({"spec": {"artifactRef": "greeter-2"}})).await?;
    assert_eq!(authorship(&changed), [Some("joe"), None]);
    asked_by("greeter-2", "joe").await?;
    // Nobody has to say who they are, and nobody can say that they are somebody else.
    for (name, says) in [("nothing", Value::Null), ("another", json!("joe"))] {
        let mut promotion = json!({
            "apiVersion": "openchoreo.dev/v1alpha1", "kind": "Promotion",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"owner": owner, "sourceEnvironment": "development", "targetEnvironment": "staging"},
        });
        if !says.is_null() {
            promotion["spec"]["requestedBy"] = says;
        }
        let made = jane.apply(promotion).await?;
        assert_eq!(made.data["spec"]["requestedBy"], "jane", "{name}");
    }

    // Without an answer nobody's artifact is written; everything else is.
    manager.stop().await?;
    change(&joe, json!({"metadata": {"labels": {"a": "c"}}})).await?;
    let refused = change(&jane, json!({"spec": {"artifactRef": "greeter-3"}})).await;
    let refused = format!("{:#}", refused.expect_err("it was written"));
    assert!(refused.contains("artifacts.openchoreo.dev"), "{refused}");
    let manager = manager_with_its_rights(&bed).await?;
    end(bed, manager, namespace).await
}
