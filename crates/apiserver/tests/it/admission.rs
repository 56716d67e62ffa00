//! The chain of admission, and what embedders put into it.

use std::sync::{Arc, Mutex};

use choreo_apimachinery::status::{ApiError, Result};
use choreo_apiserver::{Admission, AdmissionRequest, Operation};
use serde_json::{Value, json};

use crate::support::{CONFIG_MAPS, CRDS, TestServer, WIDGETS, config_map, widget, widgets};

/// Notes what it sees, marks what is written, and refuses what says so.
#[derive(Default)]
struct Recorder {
    seen: Mutex<Vec<String>>,
}

impl Recorder {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    fn note(&self, phase: &str, request: &AdmissionRequest<'_>) {
        let line = format!(
            "{phase} {} {}/{} {}{}",
            request.operation.as_str(),
            request.resource.plural,
            request.subresource,
            request.name,
            if request.dry_run { " (dry run)" } else { "" }
        );
        self.seen.lock().unwrap().push(line);
    }
}

impl Admission for Recorder {
    fn name(&self) -> &str {
        "Recorder"
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        matches!(request.resource.plural.as_str(), "configmaps" | "widgets")
    }

    fn mutate(&self, request: &AdmissionRequest<'_>, object: &mut Value) -> Result<()> {
        self.note("mutate", request);
        object["metadata"]["annotations"]["seen"] = request.user.name.as_str().into();
        object["bogus"] = "no schema knows this".into();
        object["status"] = json!({"phase": "made up"});
        Ok(())
    }

    fn validate(&self, request: &AdmissionRequest<'_>, warnings: &mut Vec<String>) -> Result<()> {
        self.note("validate", request);
        let about = request.object.or(request.old).unwrap();
        assert!(
            about.get("bogus").is_none(),
            "what validates sees what would be stored"
        );
        if about.pointer("/data/locked").is_some() && request.operation == Operation::Delete {
            return Err(ApiError::forbidden(
                "",
                "configmaps",
                request.name,
                "it is locked",
            ));
        }
        if let Some(other) = about.pointer("/data/needs").and_then(Value::as_str) {
            let key = choreo_store::Key::new("configmaps", request.namespace, other);
            if request.snapshot.get(&key).is_none() {
                let why = format!("there is no ConfigMap {other}");
                return Err(ApiError::forbidden("", "configmaps", request.name, &why));
            }
            warnings.push(format!("leans on {other}"));
        }
        Ok(())
    }
}

fn start() -> (TestServer, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    let server = TestServer::with(|options| options.admission.push(recorder.clone()));
    (server, recorder)
}

#[tokio::test]
async fn steps_of_the_embedder_change_first_and_judge_last() {
    let (server, recorder) = start();
    let made = server
        .post(CONFIG_MAPS, config_map("a", json!({"x": "1"})))
        .await
        .expect(201);
    assert_eq!(made["metadata"]["annotations"]["seen"], "kubernetes-admin");
    assert_eq!(made.get("bogus"), None);
    assert_eq!(
        recorder.take(),
        ["mutate CREATE configmaps/ a", "validate CREATE configmaps/ a"]
    );

    let path = format!("{CONFIG_MAPS}/a");
    server
        .patch(&path, "merge-patch", json!({"data": {"locked": "yes"}}))
        .await
        .expect(200);
    assert_eq!(
        recorder.take(),
        ["mutate UPDATE configmaps/ a", "validate UPDATE configmaps/ a"]
    );

    let refused = server.delete(&path).await.expect(403);
    assert_eq!(refused["message"], "configmaps \"a\" is forbidden: it is locked");
    assert_eq!(recorder.take(), ["validate DELETE configmaps/ a"]);
    server.get(&path).await.expect(200);

    let dry = format!("{CONFIG_MAPS}?dryRun=All");
    server.post(&dry, config_map("b", json!({}))).await.expect(201);
    assert_eq!(
        recorder.take(),
        [
            "mutate CREATE configmaps/ b (dry run)",
            "validate CREATE configmaps/ b (dry run)"
        ]
    );
    server
        .patch(
            &format!("{CONFIG_MAPS}/c?fieldManager=t"),
            "apply",
            config_map("c", json!({})),
        )
        .await
        .expect(201);
    assert_eq!(
        recorder.take(),
        ["mutate CREATE configmaps/ c", "validate CREATE configmaps/ c"]
    );
}

#[tokio::test]
async fn a_rule_may_look_at_other_objects_and_warn() {
    let (server, _) = start();
    let leaning = config_map("leaning", json!({"needs": "base"}));
    let refused = server.post(CONFIG_MAPS, leaning.clone()).await.expect(403);
    assert_eq!(
        refused["message"],
        "configmaps \"leaning\" is forbidden: there is no ConfigMap base"
    );
    server
        .post(CONFIG_MAPS, config_map("base", json!({})))
        .await
        .expect(201);
    let made = server.post(CONFIG_MAPS, leaning).await;
    assert_eq!(made.header("warning"), r#"299 - "leans on base""#);
    made.expect(201);
    let gone = server.delete(&format!("{CONFIG_MAPS}/leaning")).await;
    assert_eq!(gone.header("warning"), r#"299 - "leans on base""#);
    gone.expect(200);
}

#[tokio::test]
async fn a_step_cannot_write_what_the_request_may_not() {
    let (server, recorder) = start();
    server.post(CRDS, widgets()).await.expect(201);
    let made = server.post(WIDGETS, widget("w", 1)).await.expect(201);
    assert_eq!(made.get("status"), None, "status has a subresource of its own");
    let path = format!("{WIDGETS}/w");
    let changed = server
        .patch(&path, "merge-patch", json!({"spec": {"size": 2}}))
        .await
        .expect(200);
    assert_eq!(
        (&changed["spec"]["size"], changed.get("status")),
        (&json!(2), None)
    );
    assert_eq!(changed["metadata"]["generation"], 2);
    recorder.take();
    let status = json!({"status": {"replicas": 3}});
    let changed = server
        .patch(&format!("{path}/status"), "merge-patch", status)
        .await
        .expect(200);
    assert_eq!(changed["status"]["phase"], "made up");
    assert_eq!(
        recorder.take(),
        [
            "mutate UPDATE widgets/status w",
            "validate UPDATE widgets/status w"
        ]
    );
}

#[tokio::test]
async fn what_a_step_makes_invalid_is_refused() {
    struct Shrinks;
    impl Admission for Shrinks {
        fn name(&self) -> &str {
            "Shrinks"
        }
        fn mutate(&self, request: &AdmissionRequest<'_>, object: &mut Value) -> Result<()> {
            if request.is("example.dev", "widgets") {
                object["spec"]["size"] = 0.into();
            }
            Ok(())
        }
    }
    let server = TestServer::with(|options| options.admission.push(Arc::new(Shrinks)));
    server.post(CRDS, widgets()).await.expect(201);
    let refused = server.post(WIDGETS, widget("w", 5)).await.expect(422);
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("spec.size: Invalid value: 0"), "{message}");
}
