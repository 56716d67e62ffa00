use rstest::rstest;
use serde_json::{Value, json};

use super::{Health, Rules, State, assess, facts, worst};

#[test]
fn the_built_in_rules_parse() {
    Rules::parse(include_str!("rules.json")).unwrap();
}

fn deployment(spec: &Value, status: &Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "generation": 2}, "spec": spec, "status": status})
}

#[rstest]
// A freshly created object: no status at all.
#[case(json!({"replicas": 1}), json!({}), State::Progressing, "NotObserved")]
#[case(json!({"replicas": 0}), json!({}), State::Suspended, "ScaledToZero")]
#[case(json!({"paused": true}), json!({}), State::Suspended, "Paused")]
#[case(json!({"replicas": 2}), json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 1}), State::Progressing, "RollingOut")]
#[case(json!({"replicas": 2}), json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 2, "availableReplicas": 3}), State::Progressing, "RollingOut")]
#[case(json!({"replicas": 2}), json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 1}), State::Progressing, "WaitingForReplicas")]
#[case(json!({"replicas": 2}), json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}), State::Healthy, "Available")]
#[case(json!({}), json!({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}), State::Healthy, "Available")]
#[case(json!({"replicas": 1}), json!({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1,
    "conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "too slow"}]}), State::Degraded, "ProgressDeadlineExceeded")]
#[case(json!({"replicas": 1}), json!({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1,
    "conditions": [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]}), State::Degraded, "Unavailable")]
fn deployments(#[case] spec: Value, #[case] status: Value, #[case] state: State, #[case] reason: &str) {
    let health = assess(&deployment(&spec, &status));
    assert_eq!(
        (health.state, health.reason.as_str()),
        (state, reason),
        "{}",
        health.message
    );
}

#[test]
fn a_crashing_pod_decides_while_its_workload_progresses() {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "d-1"}, "status": {"phase": "Running", "containerStatuses": [
        {"name": "main", "state": {"running": {}}},
        {"name": "side", "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting"}}}]}});
    let d = deployment(
        &json!({"replicas": 1}),
        &json!({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1}),
    );
    let health = assess(&d).with_pods([&pod]);
    assert_eq!(
        health,
        Health::new(
            State::Degraded,
            "CrashLoopBackOff",
            "pod d-1: back-off 10s restarting"
        )
    );
    // It was available for a moment, and crashes since.
    let available = json!([{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]);
    let d = deployment(
        &json!({"replicas": 1}),
        &json!({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "conditions": available}),
    );
    assert_eq!(assess(&d).reason, "Unavailable");
    assert_eq!(
        assess(&d).with_pods([&pod]).message,
        "pod d-1: back-off 10s restarting"
    );
    // A healthy workload is not dragged down by a pod that is being replaced.
    let d = deployment(
        &json!({"replicas": 1}),
        &json!({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}),
    );
    assert_eq!(assess(&d).with_pods([&pod]).state, State::Healthy);
}

#[rstest]
#[case(json!({"apiVersion": "v1", "kind": "ConfigMap"}), State::Healthy, "Exists")]
#[case(json!({"apiVersion": "v1", "kind": "Service", "spec": {"type": "ClusterIP"}}), State::Healthy, "Exists")]
#[case(json!({"apiVersion": "v1", "kind": "Service", "spec": {"type": "LoadBalancer"}}), State::Progressing, "WaitingForLoadBalancer")]
#[case(json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "status": {"phase": "Bound"}}), State::Healthy, "Bound")]
#[case(json!({"apiVersion": "batch/v1", "kind": "Job", "status": {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]}}), State::Degraded, "BackoffLimitExceeded")]
#[case(json!({"apiVersion": "batch/v1", "kind": "CronJob", "spec": {"schedule": "* * * * *"}}), State::Healthy, "Scheduled")]
#[case(json!({"apiVersion": "batch/v1", "kind": "CronJob", "spec": {"suspend": true}}), State::Suspended, "Suspended")]
#[case(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute"}), State::Progressing, "NotAccepted")]
#[case(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GRPCRoute", "status": {"parents": [{"conditions": [{"type": "Accepted", "status": "True", "reason": "Accepted"}]}]}}), State::Healthy, "Accepted")]
// One parent accepts, the other refuses: the refusal decides.
#[case(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "status": {"parents": [
    {"conditions": [{"type": "Accepted", "status": "True"}]},
    {"conditions": [{"type": "Accepted", "status": "False", "reason": "NoMatchingListenerHostname"}]}]}}), State::Degraded, "NoMatchingListenerHostname")]
#[case(json!({"apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "status": {"conditions": [{"type": "Ready", "status": "False", "reason": "SecretSyncedError"}]}}), State::Degraded, "SecretSyncedError")]
#[case(json!({"apiVersion": "example.com/v1", "kind": "Database", "status": {"conditions": [{"type": "Ready", "status": "False", "reason": "Creating"}]}}), State::Progressing, "Creating")]
#[case(json!({"apiVersion": "example.com/v1", "kind": "Database", "metadata": {"generation": 3}, "status": {"observedGeneration": 2, "conditions": [{"type": "Ready", "status": "True"}]}}), State::Progressing, "NotObserved")]
#[case(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}), State::Progressing, "Terminating")]
fn other_kinds(#[case] object: Value, #[case] state: State, #[case] reason: &str) {
    let health = assess(&object);
    assert_eq!(
        (health.state, health.reason.as_str()),
        (state, reason),
        "{}",
        health.message
    );
}

#[test]
fn the_first_of_the_worst_decides() {
    let healthy = Health::new(State::Healthy, "", "");
    let bad = Health::new(State::Degraded, "A", "");
    let also_bad = Health::new(State::Degraded, "B", "");
    let all = [("x", &healthy), ("y", &bad), ("z", &also_bad)];
    assert_eq!(worst(all).map(|(k, _)| k), Some("y"));
    assert!(worst(Vec::<(&str, &Health)>::new()).is_none());
}

#[test]
fn a_data_plane_teaches_kinds_and_overrules_what_is_known() {
    let own: Vec<choreo_api::v1alpha1::HealthRules> = serde_json::from_value(json!([
        {"group": "db.example.com", "kind": "*Cluster", "conditions": "status.parts.*.conditions", "rules": [
            {"when": [{"path": "status.phase", "oneOf": ["Lost", "Split"]}], "state": "Degraded", "reason": "{status.phase}", "message": "{status.note|no note}"},
            {"when": [{"condition": "Serving", "status": "True"}], "state": "Healthy"}]},
        {"group": "apps", "kind": "Deployment", "rules": [{"state": "Suspended", "reason": "Never", "message": "m"}]},
    ]))
    .unwrap();
    let rules = Rules::with(&own).unwrap();
    let cluster = |status: Value| {
        rules.assess(&json!({"apiVersion": "db.example.com/v1", "kind": "PostgresCluster", "status": status}))
    };
    assert_eq!(
        cluster(json!({"phase": "Split"})),
        Health::new(State::Degraded, "Split", "no note")
    );
    let serving = json!({"parts": [{"conditions": [{"type": "Serving", "status": "True", "reason": "Up", "message": "all"}]}]});
    assert_eq!(cluster(serving), Health::new(State::Healthy, "Up", "all"));
    // No rule holds: the standard conditions decide.
    let creating = json!({"conditions": [{"type": "Ready", "status": "False", "reason": "Creating"}]});
    assert_eq!(cluster(creating).state, State::Progressing);
    assert_eq!(rules.assess(&deployment(&json!({}), &json!({}))).reason, "Never");
    let config_map = json!({"apiVersion": "v1", "kind": "ConfigMap"});
    assert_eq!(rules.assess(&config_map), assess(&config_map));
}

#[rstest]
#[case(json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"generation": 1}, "spec": {"replicas": 2}, "status": {"observedGeneration": 1, "updatedReplicas": 2, "readyReplicas": 1}}), State::Progressing, "WaitingForReplicas")]
#[case(json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"generation": 1}, "spec": {"replicas": 2}, "status": {"observedGeneration": 1, "updatedReplicas": 1, "readyReplicas": 2, "currentRevision": "a", "updateRevision": "b"}}), State::Progressing, "RollingOut")]
#[case(json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"generation": 1}, "spec": {"replicas": 2}, "status": {"observedGeneration": 1, "updatedReplicas": 2, "readyReplicas": 2}}), State::Healthy, "Available")]
#[case(json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"generation": 1}, "spec": {"replicas": 0}}), State::Suspended, "ScaledToZero")]
#[case(json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"generation": 1}, "status": {"observedGeneration": 1, "desiredNumberScheduled": 3, "updatedNumberScheduled": 3, "numberAvailable": 2}}), State::Progressing, "WaitingForPods")]
#[case(json!({"apiVersion": "batch/v1", "kind": "Job", "status": {"active": 1}}), State::Progressing, "Running")]
#[case(json!({"apiVersion": "batch/v1", "kind": "Job", "status": {"conditions": [{"type": "Complete", "status": "True"}]}}), State::Healthy, "Complete")]
#[case(json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "status": {"conditions": [{"type": "AbleToScale", "status": "False", "reason": "FailedGetScale"}]}}), State::Degraded, "FailedGetScale")]
#[case(json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "status": {"conditions": [{"type": "ScalingActive", "status": "False", "reason": "ScalingDisabled"}]}}), State::Suspended, "ScalingDisabled")]
#[case(json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "status": {"disruptionsAllowed": 0}}), State::Healthy, "Exists")]
#[case(json!({"apiVersion": "gateway.networking.k8s.io/v1alpha2", "kind": "TCPRoute"}), State::Progressing, "NotAccepted")]
#[case(json!({"apiVersion": "gateway.networking.k8s.io/v1alpha2", "kind": "UDPRoute", "status": {"parents": [{"conditions": [{"type": "Accepted", "status": "False", "reason": "NoMatchingParent"}]}]}}), State::Degraded, "NoMatchingParent")]
#[case(json!({"apiVersion": "gateway.networking.k8s.io/v1alpha3", "kind": "TLSRoute", "status": {"parents": [{"conditions": [{"type": "Accepted", "status": "True"}, {"type": "ResolvedRefs", "status": "False", "reason": "BackendNotFound"}]}]}}), State::Degraded, "BackendNotFound")]
#[case(json!({"apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "SecurityPolicy", "status": {"ancestors": [{"conditions": [{"type": "Accepted", "status": "False", "reason": "Invalid"}]}]}}), State::Degraded, "Invalid")]
#[case(json!({"apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "BackendTrafficPolicy", "status": {"ancestors": [{"conditions": [{"type": "Accepted", "status": "True"}]}]}}), State::Healthy, "Accepted")]
#[case(json!({"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "status": {"conditions": [{"type": "Valid", "status": "False", "reason": "Invalid"}]}}), State::Degraded, "Invalid")]
#[case(json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}), State::Healthy, "Exists")]
#[case(json!({"apiVersion": "secrets-store.csi.x-k8s.io/v1", "kind": "SecretProviderClass"}), State::Healthy, "Exists")]
#[case(json!({"apiVersion": "v1", "kind": "Pod", "status": {"phase": "Pending", "initContainerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]}}), State::Degraded, "ImagePullBackOff")]
#[case(json!({"apiVersion": "v1", "kind": "Pod", "status": {"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "CreateContainerConfigError", "message": "container has runAsNonRoot and image will run as root"}}}]}}), State::Degraded, "CreateContainerConfigError")]
fn every_kind_that_is_rendered(#[case] object: Value, #[case] state: State, #[case] reason: &str) {
    let health = assess(&object);
    assert_eq!(
        (health.state, health.reason.as_str()),
        (state, reason),
        "{}",
        health.message
    );
}

#[test]
fn what_is_kept_of_a_task_is_when_it_ran() {
    let status =
        json!({"lastScheduleTime": "2026-01-02T03:04:05Z", "lastSuccessfulTime": null, "active": [{}]});
    let object =
        |kind: &str, status: &Value| json!({"apiVersion": "batch/v1", "kind": kind, "status": status});
    assert_eq!(
        facts(&object("CronJob", &status)),
        Some(json!({"lastScheduleTime": "2026-01-02T03:04:05Z"}))
    );
    let run = json!({"startTime": "2026-01-02T03:04:05Z", "completionTime": "2026-01-02T03:05:05Z", "succeeded": 1});
    assert_eq!(
        facts(&object("Job", &run)),
        Some(json!({"startTime": "2026-01-02T03:04:05Z", "completionTime": "2026-01-02T03:05:05Z"}))
    );
    for (kind, status) in [
        ("CronJob", json!({})),
        ("Job", json!(null)),
        ("Deployment", status),
    ] {
        assert_eq!(facts(&object(kind, &status)), None, "{kind}");
    }
}
