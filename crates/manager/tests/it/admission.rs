//! The webhook, asked as an API server asks it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use choreo_controllers::runtime::clock::Clock;
use choreo_manager::webhook::{Options as WebhookOptions, Reach};
use choreo_testkit::Bed;
use jiff::SignedDuration;
use kube::api::{DynamicObject, ListParams};
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::support::{alone, kinds, options, start};

/// Asks the webhook with the settings that its configuration gives to API servers.
async fn ask(configuration: &DynamicObject, request: Value) -> anyhow::Result<Value> {
    let call = &configuration.data["webhooks"][0]["clientConfig"];
    let (url, path) = call["url"].as_str().unwrap().rsplit_once('/').unwrap();
    let kubeconfig = serde_json::from_value(json!({
        "clusters": [{"name": "w", "cluster": {"server": url, "certificate-authority-data": call["caBundle"]}}],
        "users": [{"name": "w", "user": {}}],
        "contexts": [{"name": "w", "context": {"cluster": "w", "user": "w"}}],
        "current-context": "w",
    }))?;
    let client = Client::try_from(Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?)?;
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
    let request = http::Request::post(format!("/{path}"))
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

    // A promotion: what the pipeline decides, whose name is on it, and who writes what became of it.
    let promotion = |from: &str, to: &str, by: &str| {
        json!({
            "apiVersion": "openchoreo.dev/v1alpha1", "kind": "Promotion",
            "metadata": {"name": "p", "namespace": "rules"},
            "spec": {"owner": {"projectName": "default", "componentName": "greeter"}, "requestedBy": by,
                     "sourceEnvironment": from, "targetEnvironment": to},
        })
    };
    for (object, why) in [
        (promotion("development", "staging", "jane"), None),
        (
            promotion("development", "production", "jane"),
            Some("spec.targetEnvironment: EnvironmentSkipped: "),
        ),
        (
            promotion("development", "staging", "joe"),
            Some("spec.requestedBy: must be \"jane\""),
        ),
    ] {
        let answer = ask(
            &configuration,
            request("CREATE", "Promotion", &object, &Value::Null),
        )
        .await?;
        assert_eq!(answer["allowed"], why.is_none(), "{answer}");
        let said = answer["status"]["message"].as_str().unwrap_or_default();
        assert!(said.starts_with(why.unwrap_or_default()), "{answer}");
    }
    let known = promotion("development", "staging", "jane");
    let mut status = request("UPDATE", "Promotion", &known, &known);
    status["subResource"] = json!("status");
    let answer = ask(&configuration, status).await?;
    assert_eq!(answer["allowed"], false, "{answer}");

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

    // A new object that leaves out what its component says.
    let component = json!({
        "apiVersion": "openchoreo.dev/v1alpha1", "kind": "Component",
        "metadata": {"name": "filled", "namespace": "rules"},
        "spec": {"owner": {"projectName": "default"}, "type": "Service"},
    });
    bed.control.apply(component).await?;
    // Whoever has told something of it knows it.
    let told = |component: &DynamicObject| component.data["status"]["conditions"].is_array();
    let component = bed
        .control
        .wait_for("Component", "rules", "filled", "told of", told)
        .await?;
    let defaults = bed
        .control
        .get("MutatingWebhookConfiguration", "", "choreo-test-rules")
        .await?
        .unwrap();
    let mut short = binding("staging");
    short["spec"]["owner"] = json!({"componentName": "filled"});
    let answer = ask(
        &defaults,
        request("CREATE", "ServiceBinding", &short, &Value::Null),
    )
    .await?;
    let patch = STANDARD.decode(answer["patch"].as_str().unwrap())?;
    let expected =
        json!({"owner": {"componentName": "filled", "projectName": "default"}, "environment": "staging"});
    let owner = json!({
        "apiVersion": "openchoreo.dev/v1alpha1", "kind": "Component", "name": "filled", "uid": component.metadata.uid,
    });
    assert_eq!(
        serde_json::from_slice::<Value>(&patch)?,
        json!([
            {"op": "replace", "path": "/spec", "value": expected},
            {"op": "add", "path": "/metadata/ownerReferences", "value": [owner]},
        ])
    );
    let complete = binding("staging");
    let answer = ask(
        &defaults,
        request("CREATE", "ServiceBinding", &complete, &Value::Null),
    )
    .await?;
    assert_eq!(
        (&answer["allowed"], &answer["patch"]),
        (&json!(true), &Value::Null)
    );
    // The API server asks by itself: without the webhook the schema refuses it.
    let stored = bed.control.apply(short).await?;
    assert_eq!(stored.data["spec"]["owner"]["projectName"], "default");
    // So does its owner, which is there already: nobody has to write it later.
    let owners = stored.metadata.owner_references.unwrap_or_default();
    let owners: Vec<_> = owners
        .iter()
        .map(|owner| (owner.kind.as_str(), Some(&owner.uid)))
        .collect();
    assert_eq!(owners, [("Component", component.metadata.uid.as_ref())]);

    for kind in [
        "ValidatingWebhookConfiguration",
        "MutatingWebhookConfiguration",
        "Organization",
    ] {
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

/// How many certificates the API server trusts at the webhook.
fn authorities(configuration: &DynamicObject) -> usize {
    let bundle = configuration.data["webhooks"][0]["clientConfig"]["caBundle"].as_str();
    let text = String::from_utf8(STANDARD.decode(bundle.unwrap()).unwrap()).unwrap();
    text.matches("BEGIN CERTIFICATE").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_certificate_is_made_anew_in_time_and_no_call_fails_meanwhile() -> anyhow::Result<()> {
    let _alone = alone().await;
    let bed = Bed::start().await?;
    let name = "choreo-test-rotation";
    let _ = bed.control.delete("Secret.", "openchoreo-system", name).await;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    // So far in the past that what is made then is due now, by the clock of those who check certificates.
    let (clock, hand) = Clock::movable(SignedDuration::from_hours(-61 * 24));
    let mut options = options(bed.control_config(), "rotation");
    options.clock = clock;
    options.webhook = Some(WebhookOptions {
        listen: ([127, 0, 0, 1], port).into(),
        reach: Reach::Url(format!("https://127.0.0.1:{port}")),
        name: name.to_owned(),
        own_user: None,
    });
    let manager = start(options).await;
    kinds(&bed.control).await?;
    let kind = "ValidatingWebhookConfiguration";
    let configuration = bed.control.wait_for(kind, "", name, "made", |_| true).await?;
    assert_eq!(authorities(&configuration), 1);
    while !manager.probe("/readyz").await.starts_with("HTTP/1.1 200") {
        tokio::task::yield_now().await;
    }
    let until = |secret: &DynamicObject| -> jiff::Timestamp {
        let annotations = secret.metadata.annotations.as_ref().unwrap();
        annotations["openchoreo.dev/not-after"].parse().unwrap()
    };
    let secret = "Secret.";
    let first = bed
        .control
        .wait_for(secret, "openchoreo-system", name, "made", |_| true)
        .await?;

    // Asked all the while as an API server asks: with what the configuration says at that moment.
    let end = tokio_util::sync::CancellationToken::new();
    let asking = tokio::spawn({
        let (control, end) = (bed.control.clone(), end.clone());
        async move {
            let mut calls = 0;
            while !end.is_cancelled() {
                let configuration = control.get(kind, "", name).await?.unwrap();
                ask(
                    &configuration,
                    request("CREATE", "Environment", &json!({}), &Value::Null),
                )
                .await?;
                calls += 1;
            }
            anyhow::Ok(calls)
        }
    });
    // A day before it is due nothing happens; it is looked at every hour.
    hand.forward(SignedDuration::from_hours(59 * 24));
    hand.forward(SignedDuration::from_hours(2 * 24));
    let second = bed
        .control
        .wait_for(secret, "openchoreo-system", name, "made anew", |secret| {
            until(secret) > until(&first)
        })
        .await?;
    let life = until(&second).duration_since(until(&first));
    assert!(life > SignedDuration::from_hours(58 * 24), "{life}");
    // Both are trusted, since a replica may still answer with the old one.
    let configuration = bed
        .control
        .wait_for(kind, "", name, "both", |configuration| {
            authorities(configuration) == 2
        })
        .await?;
    // The new one is in use once only its own authority is needed.
    let certificate = |secret: &DynamicObject| secret.data["data"]["ca.crt"].as_str().unwrap().to_owned();
    assert_ne!(certificate(&first), certificate(&second));
    let mut only_new = configuration;
    only_new.data["webhooks"][0]["clientConfig"]["caBundle"] = json!(certificate(&second));
    let question = || request("CREATE", "Environment", &json!({}), &Value::Null);
    while ask(&only_new, question()).await.is_err() {
        tokio::task::yield_now().await;
    }
    end.cancel();
    assert!(asking.await?? > 0);
    for kind in [kind, "MutatingWebhookConfiguration"] {
        bed.control.delete(kind, "", name).await?;
    }
    manager.stop().await?;
    bed.stop();
    Ok(())
}
