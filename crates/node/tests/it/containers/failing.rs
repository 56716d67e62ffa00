//! What goes wrong, said as a kubelet says it.

use choreo_testkit::registry::{PASSWORD, Registry, USER};
use serde_json::json;

use super::bed::{A_WHILE, Bed, container, is_ready, waits_for};

#[tokio::test]
async fn a_container_that_ends_is_started_again_and_then_held_back() {
    let Some(bed) = Bed::start().await else { return };
    bed.pod(
        "loop",
        json!({"containers": [{"name": "main", "args": ["exit", "3"]}]}),
    )
    .await;
    let pod = bed
        .until_pod("loop", |pod| {
            waits_for(pod, "main") == "CrashLoopBackOff" && container(pod, "main")["restartCount"] == 1
        })
        .await;
    let main = container(&pod, "main");
    let last = &main["lastState"]["terminated"];
    assert_eq!((&last["exitCode"], &last["reason"]), (&json!(3), &json!("Error")));
    let message = main["state"]["waiting"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("back-off 10s restarting failed container=main pod=loop_default("),
        "{message}"
    );
    assert_eq!(pod["status"]["phase"], "Running");
    bed.until_event(
        "BackOff",
        "Back-off restarting failed container main in pod loop_default(",
    )
    .await;
    bed.finish().await;
}

#[tokio::test]
async fn images_that_cannot_be_had() {
    let Some(bed) = Bed::start().await else { return };
    let image = |image: &str, policy: &str| json!({"containers": [{"name": "main", "image": image, "imagePullPolicy": policy}]});
    // Nothing listens on port 1, and nothing leaves this machine.
    bed.pod("absent", image("127.0.0.1:1/team/app:1", "IfNotPresent"))
        .await;
    bed.pod("never", image("localhost/not-there:1", "Never")).await;
    bed.pod("invalid", image("Not A Name", "IfNotPresent")).await;
    let pod = bed
        .until_pod("absent", |pod| waits_for(pod, "main") == "ImagePullBackOff")
        .await;
    assert_eq!(pod["status"]["phase"], "Pending");
    let message = container(&pod, "main")["state"]["waiting"]["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        message.starts_with("Back-off pulling image \"127.0.0.1:1/team/app:1\": ErrImagePull: "),
        "{message}"
    );
    bed.until_event("Failed", "Failed to pull image \"127.0.0.1:1/team/app:1\": ")
        .await;
    bed.until_pod("never", |pod| waits_for(pod, "main") == "ErrImageNeverPull")
        .await;
    bed.until_pod("invalid", |pod| waits_for(pod, "main") == "InvalidImageName")
        .await;
    bed.finish().await;
}

#[tokio::test]
async fn a_registry_that_asks_is_told_who_pulls() {
    let Some(bed) = Bed::start().await else { return };
    let registry = tokio::task::spawn_blocking(Registry::start)
        .await
        .unwrap()
        .unwrap();
    let secret = |name: &str, password: &str| {
        let host = registry.host();
        let config = json!({"auths": {host: {"username": USER, "password": password}}});
        json!({"metadata": {"name": name}, "type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": config.to_string()}})
    };
    for object in [secret("right", PASSWORD), secret("wrong", "guessed")] {
        bed.cluster.create("v1/Secret/secrets", object).await;
    }
    let pulling = |secrets: serde_json::Value| json!({"imagePullSecrets": secrets, "containers": [{"name": "main", "image": registry.image(), "imagePullPolicy": "Always"}]});
    bed.pod("nobody", pulling(json!([]))).await;
    bed.pod("somebody", pulling(json!([{"name": "wrong"}]))).await;
    for name in ["nobody", "somebody"] {
        let pod = bed
            .until_pod(name, |pod| {
                waits_for(pod, "main") == "ErrImagePull" || waits_for(pod, "main") == "ImagePullBackOff"
            })
            .await;
        let message = container(&pod, "main")["state"]["waiting"]["message"].to_string();
        assert!(message.contains("unauthorized"), "{message}");
    }
    // A secret that is not there does not keep the right one from being used.
    bed.pod(
        "reader",
        pulling(json!([{"name": "absent"}, {"name": "wrong"}, {"name": "right"}])),
    )
    .await;
    let pod = bed.until_ready("reader").await;
    assert_eq!(bed.get(&pod, "/").await.unwrap(), "reader");
    bed.until_event("Pulled", "Successfully pulled image").await;
    for name in ["nobody", "somebody", "reader"] {
        bed.delete_pod(name).await;
    }
    let options = None::<bollard::query_parameters::RemoveImageOptions>;
    bed.docker()
        .remove_image(&registry.image(), options, None)
        .await
        .unwrap();
    bed.finish().await;
}

#[tokio::test]
async fn configuration_that_is_missing_is_waited_for() {
    let Some(bed) = Bed::start().await else { return };
    bed.pod(
        "waiting",
        json!({"containers": [{"name": "main", "envFrom": [{"configMapRef": {"name": "later"}}]}]}),
    )
    .await;
    let pod = bed
        .until_pod("waiting", |pod| {
            waits_for(pod, "main") == "CreateContainerConfigError"
        })
        .await;
    assert_eq!(
        container(&pod, "main")["state"]["waiting"]["message"],
        "configmap \"later\" not found"
    );
    bed.pod(
        "mounting",
        json!({"volumes": [{"name": "v", "secret": {"secretName": "later"}}]}),
    )
    .await;
    bed.until_event("FailedMount", "secret \"later\" not found").await;
    bed.cluster
        .create(
            "v1/ConfigMap/configmaps",
            json!({"metadata": {"name": "later"}, "data": {"A": "1"}}),
        )
        .await;
    bed.cluster
        .create(
            "v1/Secret/secrets",
            json!({"metadata": {"name": "later"}, "stringData": {"a": "1"}}),
        )
        .await;
    bed.until_ready("waiting").await;
    bed.until_ready("mounting").await;
    bed.finish().await;
}

#[tokio::test]
async fn what_is_refused_says_so() {
    let Some(bed) = Bed::start().await else { return };
    bed.pod(
        "host",
        json!({"volumes": [{"name": "v", "hostPath": {"path": "/etc"}}]}),
    )
    .await;
    bed.pod(
        "privileged",
        json!({"containers": [{"name": "main", "securityContext": {"privileged": true}}]}),
    )
    .await;
    bed.pod(
        "spoofing",
        json!({"containers": [{"name": "main", "securityContext": {"capabilities": {"add": ["NET_RAW"]}}}]}),
    )
    .await;
    bed.pod(
        "root",
        json!({"containers": [{"name": "main", "securityContext": {"runAsNonRoot": true, "runAsUser": 0}}]}),
    )
    .await;
    bed.pod(
        "nothing",
        json!({"containers": [{"name": "main", "command": ["/no-such-program"]}]}),
    )
    .await;
    for (name, words) in [
        ("host", "hostPath is refused"),
        ("privileged", "privileged is refused"),
        ("spoofing", "capabilities.add: NET_RAW is refused"),
        ("root", "breaks non-root policy"),
    ] {
        let pod = bed
            .until_pod(name, |pod| waits_for(pod, "main") == "CreateContainerConfigError")
            .await;
        let message = container(&pod, "main")["state"]["waiting"]["message"]
            .as_str()
            .unwrap();
        assert!(message.contains(words), "{message}");
    }
    let pod = bed
        .until_pod("nothing", |pod| {
            container(pod, "main")["lastState"]["terminated"]["exitCode"] == 128
        })
        .await;
    let last = &container(&pod, "main")["lastState"]["terminated"];
    assert!(
        last["message"].as_str().unwrap().contains("/no-such-program"),
        "{last}"
    );
    bed.finish().await;
}

#[tokio::test]
async fn readiness_comes_and_goes_and_liveness_restarts() {
    let Some(bed) = Bed::start().await else { return };
    let probe = |path: &str| json!({"httpGet": {"path": path, "port": 8080}, "periodSeconds": 1, "timeoutSeconds": 10, "failureThreshold": 1});
    bed.pod("sick", json!({"containers": [{"name": "main", "readinessProbe": probe("/ready"), "livenessProbe": probe("/live")}]})).await;
    let pod = bed.until_ready("sick").await;
    bed.get(&pod, "/fail-ready").await.unwrap();
    bed.until_pod("sick", |pod| !is_ready(pod)).await;
    bed.until_event(
        "Unhealthy",
        "Readiness probe failed: HTTP probe failed with statuscode: 503",
    )
    .await;
    bed.get(&pod, "/pass-ready").await.unwrap();
    bed.until_ready("sick").await;
    bed.get(&pod, "/fail-live").await.unwrap();
    bed.until_event(
        "Killing",
        "Container main failed liveness probe, will be restarted",
    )
    .await;
    let pod = bed
        .until_pod("sick", |pod| {
            container(pod, "main")["restartCount"].as_u64() >= Some(1) && is_ready(pod)
        })
        .await;
    assert_eq!(
        container(&pod, "main")["lastState"]["terminated"]["exitCode"],
        137
    );
    bed.finish().await;
}

#[tokio::test]
async fn a_deadline_ends_a_pod_and_its_last_words_are_kept() {
    let Some(bed) = Bed::start().await else { return };
    bed.pod("late", json!({"activeDeadlineSeconds": 1, "restartPolicy": "Never", "containers": [{"name": "main", "args": ["sleep"]}]})).await;
    let pod = bed
        .until_pod("late", |pod| pod["status"]["phase"] == "Failed")
        .await;
    assert_eq!(pod["status"]["reason"], "DeadlineExceeded");
    let words = json!({"restartPolicy": "Never", "containers": [{"name": "main", "args": ["touch", "/dev/termination-log"]}]});
    bed.pod("words", words).await;
    let pod = bed
        .until_pod("words", |pod| pod["status"]["phase"] == "Succeeded")
        .await;
    assert_eq!(
        container(&pod, "main")["state"]["terminated"]["message"],
        "touched"
    );
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(
        container(&bed.until_pod("words", |_| true).await, "main")["restartCount"],
        0
    );
    bed.finish().await;
}

#[tokio::test]
async fn too_much_memory_is_told_where_the_host_limits_it() {
    let Some(bed) = Bed::start().await else { return };
    bed.pod("hog", json!({"restartPolicy": "Never", "containers": [{"name": "main", "args": ["hog", "256"], "resources": {"limits": {"memory": "32Mi"}}}]})).await;
    let pod = bed
        .until_pod("hog", |pod| {
            pod["status"]["phase"] == "Failed" || container(pod, "main")["state"]["running"].is_object()
        })
        .await;
    let node = bed.until_node(|_| true).await;
    let unlimited = crate::support::condition(&node, "ResourceLimitsNotEnforced");
    if unlimited["status"] == "True" {
        // Then it runs, and everybody is told.
        bed.until_event("ResourceLimitsNotEnforced", "resources are not limited")
            .await;
    } else {
        let pod = if pod["status"]["phase"] == "Failed" {
            pod
        } else {
            bed.until_pod("hog", |pod| pod["status"]["phase"] == "Failed")
                .await
        };
        let ended = &container(&pod, "main")["state"]["terminated"];
        assert_eq!(
            (&ended["exitCode"], &ended["reason"]),
            (&json!(137), &json!("OOMKilled")),
            "{ended}"
        );
    }
    bed.finish().await;
}
