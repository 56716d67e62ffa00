//! The webhook, asked as an API server asks it.

use choreo_manager::webhook::{Options as WebhookOptions, Reach};
use choreo_testkit::Bed;
use kube::api::{DynamicObject, ListParams};
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::support::{alone, kinds, options, start};

/// Asks the webhook with the settings that its configuration gives to API servers.
async fn ask(configuration: &DynamicObject, request: Value) -> anyhow::Result<Value> {
    let call = &configuration.data["webhooks"][0]["clientConfig"];
    let url = call["url"].as_str().unwrap().strip_suffix("/validate").unwrap();
    let kubeconfig = serde_json::from_value(json!({
        "clusters": [{"name": "w", "cluster": {"server": url, "certificate-authority-data": call["caBundle"]}}],
        "users": [{"name": "w", "user": {}}],
        "contexts": [{"name": "w", "context": {"cluster": "w", "user": "w"}}],
        "current-context": "w",
    }))?;
    let client = Client::try_from(Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?)?;
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
    let request = http::Request::post("/validate")
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&review)?)?;
    let answer: Value = client.request(request).await?;
    assert_eq!(answer["response"]["uid"], review["request"]["uid"]);
    Ok(answer["response"].clone())
}

fn request(operation: &str, kind: &str, object: &Value, old: &Value) -> Value {
    json!({
        "uid": format!("{operation}-{kind}"), "operation": operation, "namespace": "rules",
        "kind": {"group": "openchoreo.dev", "version": "v1alpha1", "kind": kind},
        "userInfo": {"username": "jane"}, "object": object, "oldObject": old,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_are_asked_before_a_write_with_a_certificate_of_our_own() -> anyhow::Result<()> {
    let _alone = alone().await;
    let bed = Bed::start().await?;
    // A port that is free now, since the configuration has to name it.
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut options = options(bed.control_config(), "webhook");
    options.webhook = Some(WebhookOptions {
        listen: ([127, 0, 0, 1], port).into(),
        reach: Reach::Url(format!("https://127.0.0.1:{port}")),
        name: "choreo-test-rules".to_owned(),
        own_user: None,
    });
    let manager = start(options).await;
    kinds(&bed.control).await?;
    bed.organization("rules").await?;
    bed.control.wait_ready("Project", "rules", "default").await?;
    let configuration = bed
        .control
        .wait_for(
            "ValidatingWebhookConfiguration",
            "",
            "choreo-test-rules",
            "made",
            |_| true,
        )
        .await?;
    let rules = configuration.data["webhooks"][0]["rules"].clone();
    assert!(
        rules[0]["resources"]
            .as_array()
            .unwrap()
            .contains(&json!("servicebindings")),
        "{rules}"
    );
    assert!(
        rules[1]["resources"]
            .as_array()
            .unwrap()
            .contains(&json!("dataplanes")),
        "{rules}"
    );
    bed.control
        .wait_for(
            "Secret.",
            "openchoreo-system",
            "choreo-test-rules",
            "made",
            |_| true,
        )
        .await?;
    // The replicas read it from there.
    while !manager.probe("/readyz").await.starts_with("HTTP/1.1 200") {
        tokio::task::yield_now().await;
    }

    let binding = |environment: &str| {
        json!({
            "apiVersion": "openchoreo.dev/v1alpha1", "kind": "ServiceBinding",
            "metadata": {"name": "greeter-x", "namespace": "rules"},
            "spec": {"owner": {"projectName": "default", "componentName": "greeter"}, "environment": environment},
        })
    };
    let answer = ask(
        &configuration,
        request("CREATE", "ServiceBinding", &binding("staging"), &Value::Null),
    )
    .await?;
    assert_eq!(answer["allowed"], true, "{answer}");
    let answer = ask(
        &configuration,
        request("CREATE", "ServiceBinding", &binding("moon"), &Value::Null),
    )
    .await?;
    assert_eq!(
        (&answer["allowed"], &answer["status"]["code"]),
        (&json!(false), &json!(422)),
        "{answer}"
    );
    assert!(
        answer["status"]["message"]
            .as_str()
            .unwrap()
            .contains("\"moon\" is not in DeploymentPipeline")
    );

    let planes = bed
        .control
        .api("DataPlane", "rules")
        .await?
        .list(&ListParams::default())
        .await?;
    let mut plane = serde_json::to_value(&planes.items[0])?;
    plane["apiVersion"] = json!("openchoreo.dev/v1alpha1");
    plane["kind"] = json!("DataPlane");
    let delete = request("DELETE", "DataPlane", &Value::Null, &plane);
    let answer = ask(&configuration, delete.clone()).await?;
    assert_eq!(
        (&answer["allowed"], &answer["status"]["code"]),
        (&json!(false), &json!(403)),
        "{answer}"
    );
    // What carries out somebody else's decision is not asked again.
    let mut collector = delete;
    collector["userInfo"]["username"] = json!("system:serviceaccount:kube-system:generic-garbage-collector");
    assert_eq!(ask(&configuration, collector).await?["allowed"], true);

    for kind in ["ValidatingWebhookConfiguration", "Organization"] {
        let name = if kind == "Organization" {
            "rules"
        } else {
            "choreo-test-rules"
        };
        bed.control.delete(kind, "", name).await?;
    }
    manager.stop().await?;
    bed.stop();
    Ok(())
}
