//! What a Pod says, and how it runs.

use serde_json::json;

use super::bed::{Bed, container, deployment, is_ready, pod, waits_for};
use crate::support::{DEPLOYMENT, JOB, POD, condition, rolled_out};

#[tokio::test]
async fn a_pod_runs_with_what_its_spec_says() {
    let Some(bed) = Bed::start().await else { return };
    bed.cluster
        .create(
            "v1/ConfigMap/configmaps",
            json!({"metadata": {"name": "settings"}, "data": {"COLOR": "green", "file.txt": "first"}}),
        )
        .await;
    bed.cluster
        .create(
            "v1/Secret/secrets",
            json!({"metadata": {"name": "password"}, "stringData": {"value": "s3cret"}}),
        )
        .await;
    bed.cluster
        .create(
            "v1/PersistentVolumeClaim/persistentvolumeclaims",
            json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}),
        )
        .await;
    bed.pod(
        "all",
        json!({
            "containers": [{
                "name": "main", "args": ["serve", "--name", "$(COLOR)-$(NAME)"],
                "env": [
                    {"name": "COLOR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "COLOR"}}},
                    {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "password", "key": "value"}}},
                ],
                "ports": [{"name": "http", "containerPort": 8080}],
                "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}},
                "securityContext": {"runAsNonRoot": true, "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                "resources": {"requests": {"cpu": "50m", "memory": "16Mi"}, "limits": {"cpu": "500m", "memory": "64Mi"}},
                "volumeMounts": [
                    {"name": "settings", "mountPath": "/etc/settings"},
                    {"name": "password", "mountPath": "/etc/password/one", "subPath": "value"},
                    {"name": "scratch", "mountPath": "/scratch"},
                    {"name": "memory", "mountPath": "/memory"},
                    {"name": "data", "mountPath": "/data"},
                    {"name": "me", "mountPath": "/etc/me"},
                ],
            }],
            "volumes": [
                {"name": "settings", "configMap": {"name": "settings"}},
                {"name": "password", "secret": {"secretName": "password"}},
                {"name": "scratch", "emptyDir": {}},
                {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "8Mi"}},
                {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
                {"name": "me", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
            ],
        }),
    )
    .await;
    let pod = bed.until_ready("all").await;
    assert_eq!(bed.get(&pod, "/").await.unwrap(), "green-all");
    let env = bed.get(&pod, "/env").await.unwrap();
    let ip = pod["status"]["podIP"].as_str().unwrap();
    for line in [
        "PASSWORD=s3cret".to_owned(),
        format!("IP={ip}"),
        "HOSTNAME=all".to_owned(),
    ] {
        assert!(env.lines().any(|found| found == line), "{line} is not in {env}");
    }
    for (path, text) in [
        ("/etc/settings/file.txt", "first"),
        ("/etc/password/one", "s3cret"),
        ("/etc/me/labels", "app=\"all\""),
    ] {
        assert_eq!(
            bed.get(&pod, &format!("/file?{path}")).await.unwrap(),
            text,
            "{path}"
        );
    }
    let hosts = bed.get(&pod, "/file?/etc/hosts").await.unwrap();
    assert!(hosts.contains(&format!("{ip}\tall")), "{hosts}");
    let status = bed.get(&pod, "/id").await.unwrap();
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap()
            .trim()
            .to_owned()
    };
    assert!(field("Uid:").starts_with("1000"), "{status}");
    assert_eq!(
        (field("NoNewPrivs:"), field("CapEff:")),
        ("1".into(), "0000000000000000".into())
    );

    // Statuses as kubelets write them.
    let main = container(&pod, "main");
    assert_eq!(
        (&main["restartCount"], &main["started"]),
        (&json!(0), &json!(true))
    );
    assert!(main["containerID"].as_str().unwrap().contains("://"), "{main}");
    for kind in [
        "PodScheduled",
        "PodReadyToStartContainers",
        "Initialized",
        "ContainersReady",
        "Ready",
    ] {
        assert_eq!(condition(&pod, kind)["status"], "True", "{kind}");
    }
    assert_eq!(pod["status"]["qosClass"], "Burstable");
    assert_eq!(pod["metadata"]["annotations"].get(choreo_node::SIMULATED), None);
    bed.until_event("Started", "Started container main").await;

    // A change of a ConfigMap reaches the file, and nothing is restarted.
    bed.cluster
        .patch(
            "v1/ConfigMap/configmaps",
            "settings",
            json!({"data": {"file.txt": "second"}}),
        )
        .await;
    let mut text = String::new();
    for _ in 0..200 {
        text = bed.get(&pod, "/file?/etc/settings/file.txt").await.unwrap();
        if text == "second" {
            break;
        }
        tokio::task::yield_now().await;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(text, "second");

    // The volume of a claim outlives its Pod.
    assert_eq!(
        std::fs::read_dir(bed.folder().join("volumes")).unwrap().count(),
        1
    );
    bed.delete_pod("all").await;
    assert_eq!(
        std::fs::read_dir(bed.folder().join("volumes")).unwrap().count(),
        1
    );
    assert_eq!(std::fs::read_dir(bed.folder().join("pods")).unwrap().count(), 0);
    bed.finish().await;
}

#[tokio::test]
async fn init_containers_run_in_order_and_sidecars_beside() {
    let Some(bed) = Bed::start().await else { return };
    bed.pod(
        "ordered",
        json!({
            "restartPolicy": "Never",
            "initContainers": [
                {"name": "first", "args": ["touch", "/shared/first"], "volumeMounts": [{"name": "shared", "mountPath": "/shared"}]},
                {"name": "proxy", "restartPolicy": "Always", "args": ["serve", "--port", "9000"], "startupProbe": {"tcpSocket": {"port": 9000}}},
                {"name": "second", "args": ["file", "/shared/first"], "volumeMounts": [{"name": "shared", "mountPath": "/shared"}]},
            ],
            "containers": [{"name": "main", "args": ["get", "127.0.0.1", "9000", "/"]}],
            "volumes": [{"name": "shared", "emptyDir": {}}],
        }),
    )
    .await;
    let pod = bed
        .until_pod("ordered", |pod| pod["status"]["phase"] == "Succeeded")
        .await;
    for name in ["first", "second", "main"] {
        let ended = &container(&pod, name)["state"]["terminated"];
        assert_eq!(
            (&ended["exitCode"], &ended["reason"]),
            (&json!(0), &json!("Completed")),
            "{name}: {pod:#?}"
        );
    }
    let began = |name: &str| {
        container(&pod, name)["state"]["terminated"]["startedAt"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert!(began("first") <= began("second") && began("second") <= began("main"));
    assert!(
        container(&pod, "proxy")["state"]["terminated"].is_object(),
        "the sidecar goes when the others have: {pod:#?}"
    );
    bed.finish().await;
}

#[tokio::test]
async fn an_init_container_that_fails_keeps_the_others_waiting() {
    let Some(bed) = Bed::start().await else { return };
    bed.pod(
        "stuck",
        json!({"initContainers": [{"name": "setup", "args": ["exit", "4"]}]}),
    )
    .await;
    let pod = bed
        .until_pod("stuck", |pod| waits_for(pod, "setup") == "CrashLoopBackOff")
        .await;
    assert_eq!(pod["status"]["phase"], "Pending");
    assert_eq!(waits_for(&pod, "main"), "PodInitializing");
    assert_eq!(container(&pod, "setup")["lastState"]["terminated"]["exitCode"], 4);
    assert_eq!(condition(&pod, "Initialized")["status"], "False");
    bed.finish().await;
}

#[tokio::test]
async fn probes_of_each_kind() {
    let Some(bed) = Bed::start().await else { return };
    let probed =
        |probe: serde_json::Value| json!({"containers": [{"name": "main", "readinessProbe": probe}]});
    bed.pod(
        "http",
        probed(json!({"httpGet": {"path": "/ready", "port": 8080}})),
    )
    .await;
    bed.pod("tcp", probed(json!({"tcpSocket": {"port": 8080}}))).await;
    bed.pod(
        "exec",
        probed(json!({"exec": {"command": ["/probe", "get", "127.0.0.1", "8080", "/ready"]}})),
    )
    .await;
    for name in ["http", "tcp", "exec"] {
        bed.until_ready(name).await;
    }
    // Servers that speak what the small program does not.
    let image = bed.relay_image().await;
    let server = |args: serde_json::Value, probe: serde_json::Value| json!({"containers": [{"name": "main", "image": image, "imagePullPolicy": "Never", "args": args, "readinessProbe": probe}]});
    let https = json!({"httpGet": {"scheme": "HTTPS", "path": "/", "port": 8443}, "periodSeconds": 1});
    let grpc = json!({"grpc": {"port": 9000, "service": "shop"}, "periodSeconds": 1});
    bed.pod("https", server(json!(["tls", "8443"]), https.clone()))
        .await;
    bed.pod("grpc", server(json!(["grpc", "9000"]), grpc.clone()))
        .await;
    bed.pod(
        "sick",
        server(json!(["grpc", "9000", "not-serving"]), grpc.clone()),
    )
    .await;
    // Neither TLS nor gRPC: a failure, and not just any answer.
    bed.pod(
        "plain",
        probed(json!({"httpGet": {"scheme": "HTTPS", "port": 8080}, "periodSeconds": 1})),
    )
    .await;
    bed.pod(
        "http1",
        probed(json!({"grpc": {"port": 8080}, "periodSeconds": 1})),
    )
    .await;
    bed.until_ready("https").await;
    bed.until_ready("grpc").await;
    bed.until_event("Unhealthy", "service unhealthy (responded with \"NOT_SERVING\")")
        .await;
    bed.until_event("Unhealthy", "Readiness probe failed: Get \"https://")
        .await;
    for name in ["sick", "plain", "http1"] {
        let pod = bed
            .until_pod(name, |pod| pod["status"]["phase"] == "Running")
            .await;
        assert!(!is_ready(&pod), "{name}");
    }
    bed.finish().await;
}

#[tokio::test]
async fn hooks_run_after_the_start_and_before_the_end() {
    let Some(bed) = Bed::start().await else { return };
    let claim = json!({"metadata": {"name": "notes"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}});
    bed.cluster
        .create("v1/PersistentVolumeClaim/persistentvolumeclaims", claim)
        .await;
    let with = |hooks: serde_json::Value| {
        json!({
            // The engine may take its time to run a command. All of it is used: the program does not end when it is told to.
            "terminationGracePeriodSeconds": 5,
            "containers": [{"name": "main", "lifecycle": hooks, "volumeMounts": [{"name": "notes", "mountPath": "/notes"}]}],
            "volumes": [{"name": "notes", "persistentVolumeClaim": {"claimName": "notes"}}],
        })
    };
    let touch = |name: &str| json!({"exec": {"command": ["/probe", "touch", format!("/notes/{name}")]}});
    bed.pod(
        "polite",
        with(json!({"postStart": touch("began"), "preStop": touch("ended")})),
    )
    .await;
    let pod = bed.until_ready("polite").await;
    assert_eq!(bed.get(&pod, "/file?/notes/began").await.unwrap(), "touched");
    assert!(bed.get(&pod, "/file?/notes/ended").await.is_err());
    bed.delete_pod("polite").await;
    bed.pod("later", with(json!({}))).await;
    let pod = bed.until_ready("later").await;
    assert_eq!(bed.get(&pod, "/file?/notes/ended").await.unwrap(), "touched");

    // One that fails takes its container with it.
    let bad = json!({"exec": {"command": ["/probe", "exit", "9"]}});
    bed.pod("rude", with(json!({"postStart": bad}))).await;
    bed.until_event("FailedPostStartHook", "PostStartHook failed: ")
        .await;
    bed.until_pod("rude", |pod| {
        container(pod, "main")["restartCount"].as_u64() >= Some(1) && !is_ready(pod)
    })
    .await;
    bed.pod(
        "deaf",
        with(json!({"preStop": {"httpGet": {"path": "/", "port": 1}}})),
    )
    .await;
    bed.until_ready("deaf").await;
    bed.delete_pod("deaf").await;
    bed.until_event("FailedPreStopHook", "PreStopHook failed: ").await;
    bed.finish().await;
}

#[tokio::test]
async fn a_deployment_rolls_to_zero_and_back() {
    let Some(bed) = Bed::start().await else { return };
    let named = |name: &str| json!({"name": "main", "args": ["serve", "--name", name], "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}}});
    bed.cluster
        .create(DEPLOYMENT, deployment("web", 2, &named("one")))
        .await;
    bed.cluster.until(DEPLOYMENT, "web", rolled_out).await;
    bed.cluster
        .patch(DEPLOYMENT, "web", json!({"spec": {"template": {"spec": deployment("web", 2, &named("two"))["spec"]["template"]["spec"]}}}))
        .await;
    bed.cluster.until(DEPLOYMENT, "web", rolled_out).await;
    let pods = bed
        .cluster
        .until_all(POD, |pods| pods.len() == 2 && pods.iter().all(is_ready))
        .await;
    for pod in &pods {
        assert_eq!(bed.get(pod, "/").await.unwrap(), "two");
    }
    for replicas in [0, 1] {
        bed.cluster
            .patch(DEPLOYMENT, "web", json!({"spec": {"replicas": replicas}}))
            .await;
        bed.cluster
            .until_all(POD, |pods| pods.len() == replicas && pods.iter().all(is_ready))
            .await;
    }
    bed.finish().await;
}

#[tokio::test]
async fn jobs_complete_and_fail_for_real() {
    let Some(bed) = Bed::start().await else { return };
    let job = |name: &str, code: &str| {
        let mut template = pod(
            name,
            json!({"restartPolicy": "Never", "containers": [{"name": "main", "args": ["exit", code]}]}),
        );
        template.as_object_mut().unwrap().remove("apiVersion");
        template.as_object_mut().unwrap().remove("kind");
        template["metadata"].as_object_mut().unwrap().remove("name");
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"backoffLimit": 0, "template": template}})
    };
    bed.cluster.create(JOB, job("good", "0")).await;
    bed.cluster.create(JOB, job("bad", "7")).await;
    bed.cluster
        .until(JOB, "good", |job| condition(job, "Complete")["status"] == "True")
        .await;
    let failed = bed
        .cluster
        .until(JOB, "bad", |job| condition(job, "Failed")["status"] == "True")
        .await;
    assert_eq!(condition(&failed, "Failed")["reason"], "BackoffLimitExceeded");
    let pods = bed.cluster.list(POD).await;
    let bad = pods
        .iter()
        .find(|pod| pod["metadata"]["labels"]["app"] == "bad")
        .unwrap();
    let ended = &container(bad, "main")["state"]["terminated"];
    assert_eq!(
        (&ended["exitCode"], &ended["reason"]),
        (&json!(7), &json!("Error"))
    );
    bed.finish().await;
}
