//! Older manifests, organizations, and kinds that nothing acts upon yet.

use choreo_apiserver::UserInfo;
use choreo_testkit::{Platform, conditions};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_manifest_is_kept_converted_and_takes_what_was_made_with_it() -> anyhow::Result<()> {
    let platform = Platform::start().await?;
    let control = &platform.control;
    let short = json!({
        "apiVersion": "choreo.dev/v1", "kind": "Component", "metadata": {"name": "users"},
        "spec": {"type": "service", "image": "registry.example.com/users:1",
                 "endpoints": [{"name": "api", "port": 8080, "path": "/api"}]},
    });
    control.apply(short).await?;
    control
        .wait_ready("Component.choreo.dev", "default", "users")
        .await?;
    control
        .wait_for("Workload", "default", "users", "made", |_| true)
        .await?;
    control
        .wait_ready("Component.openchoreo.dev", "default", "users")
        .await?;
    control.delete("Component.choreo.dev", "default", "users").await?;
    for kind in [
        "Component.choreo.dev",
        "Component.openchoreo.dev",
        "Workload",
        "Service",
    ] {
        control.wait_gone(kind, "default", "users").await?;
    }
    platform.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_older_manifest_says_so() -> anyhow::Result<()> {
    let platform = Platform::start().await?;
    let wrong = json!({
        "apiVersion": "choreo.dev/v1", "kind": "Component", "metadata": {"name": "users"},
        "spec": {"type": "service", "endpoints": "none"},
    });
    platform.control.apply(wrong).await?;
    platform
        .control
        .wait_unready("Component.choreo.dev", "default", "users", "spec.endpoints")
        .await?;
    platform.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_organization_makes_its_namespace_and_takes_it_along() -> anyhow::Result<()> {
    let platform = Platform::start().await?;
    let control = &platform.control;
    let organization = json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": "Organization",
                              "metadata": {"name": "acme"}, "spec": {}});
    control.apply(organization).await?;
    control.wait_ready("Organization", "", "acme").await?;
    assert!(control.get("Role", "acme", "choreo-developer").await?.is_some());
    let project = json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": "Project",
                         "metadata": {"name": "shop", "namespace": "acme"},
                         "spec": {"deploymentPipelineRef": "default"}});
    control.apply(project).await?;
    control.wait_unready("Project", "acme", "shop", "default").await?;
    control.delete("Organization", "", "acme").await?;
    control.wait_gone("Organization", "", "acme").await?;
    control.wait_gone("Namespace.", "", "acme").await?;
    assert!(control.get("Namespace.", "", "default").await?.is_some());
    platform.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kind_that_is_not_acted_upon_says_so() -> anyhow::Result<()> {
    let platform = Platform::start().await?;
    let request = json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": "GitCommitRequest",
                         "metadata": {"name": "a"},
                         "spec": {"repoURL": "https://example.com/a.git", "branch": "main", "message": "m",
                                  "author": {"name": "a", "email": "a@example.com"},
                                  "files": [{"path": "a", "content": "a"}]}});
    platform.control.apply(request).await?;
    platform
        .control
        .wait_for("GitCommitRequest", "default", "a", "NotYetSupported", |object| {
            conditions(object)
                .iter()
                .any(|(_, status, reason, _)| status == "Unknown" && reason == "NotYetSupported")
        })
        .await?;
    platform.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_organization_gives_each_role_its_rights_in_its_namespace_only() -> anyhow::Result<()> {
    let platform = Platform::start().await?;
    let acme = json!({
        "apiVersion": "openchoreo.dev/v1alpha1", "kind": "Organization", "metadata": {"name": "acme"},
        "spec": {"access": [{"role": "developer", "groups": ["builders"]}, {"role": "viewer", "users": ["joe"]}]},
    });
    platform.control.apply(acme).await?;
    platform.control.wait_ready("Organization", "", "acme").await?;
    let component = |namespace: &str| {
        json!({
            "apiVersion": "openchoreo.dev/v1alpha1", "kind": "Component",
            "metadata": {"name": "cart", "namespace": namespace},
            "spec": {"owner": {"projectName": "shop"}, "type": "Service"},
        })
    };
    let environment = json!({
        "apiVersion": "openchoreo.dev/v1alpha1", "kind": "Environment",
        "metadata": {"name": "test", "namespace": "acme"}, "spec": {"dataPlaneRef": "default"},
    });
    let refused = |outcome: anyhow::Result<_>, what: &str| {
        let error = outcome.map(|_: kube::api::DynamicObject| ()).expect_err(what);
        assert!(format!("{error:#}").contains("is forbidden"), "{what}: {error:#}");
    };

    let builder = platform.control_as(&UserInfo::new("ann", ["builders"]));
    builder.apply(component("acme")).await?;
    refused(builder.apply(component("default")).await, "another organization");
    refused(builder.apply(environment).await, "a platform engineer's kind");

    let joe = platform.control_as(&UserInfo::new("joe", ["others"]));
    assert_eq!(joe.list("Component", "acme").await?.len(), 1);
    refused(joe.apply(component("acme")).await, "a viewer writes");

    // A grant that is withdrawn is gone.
    let without = json!({
        "apiVersion": "openchoreo.dev/v1alpha1", "kind": "Organization", "metadata": {"name": "acme"},
        "spec": {"access": []},
    });
    platform.control.apply(without).await?;
    let nobody =
        |binding: &kube::api::DynamicObject| binding.data["subjects"].as_array().is_none_or(Vec::is_empty);
    platform
        .control
        .wait_for(
            "RoleBinding.rbac.authorization.k8s.io",
            "acme",
            "choreo-viewer",
            "for nobody",
            nobody,
        )
        .await?;
    assert!(joe.list("Component", "acme").await.is_err());
    platform.stop().await;
    Ok(())
}
