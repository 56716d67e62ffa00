//! From workloads to Pods.

use serde_json::{Value, json};

use crate::support::{
    AUTOSCALER, BUDGET, CRON_JOB, Cluster, DAEMON_SET, DEPLOYMENT, ENDPOINTS, JOB, POD, REPLICA_SET,
    REVISION, SERVICE, SLICE, STATEFUL_SET, condition, deployment, rolled_out, template,
};

const BEHAVIOR: &str = choreo_node::BEHAVIOR;

fn node_resource() -> kube::core::ApiResource {
    kube::core::ApiResource::erase::<k8s_openapi::api::core::v1::Node>(&())
}

fn waiting(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"]
}

#[tokio::test]
async fn a_deployment_becomes_available_with_simulated_pods() {
    let cluster = Cluster::start();
    cluster.create(DEPLOYMENT, deployment("web", 3, json!({}))).await;
    let web = cluster.until(DEPLOYMENT, "web", rolled_out).await;
    assert_eq!(condition(&web, "Progressing")["reason"], "NewReplicaSetAvailable");
    assert_eq!(
        web["metadata"]["annotations"]["deployment.kubernetes.io/revision"],
        "1"
    );
    let pods = cluster.list(POD).await;
    assert_eq!(pods.len(), 3);
    for pod in pods {
        assert_eq!(pod["metadata"]["annotations"][choreo_node::SIMULATED], "true");
        assert_eq!(
            (&pod["spec"]["nodeName"], &pod["status"]["phase"]),
            (&json!(choreo_node::NODE), &json!("Running"))
        );
        assert!(pod["metadata"]["labels"]["pod-template-hash"].is_string());
        assert_eq!(condition(&pod, "Ready")["status"], "True");
    }
}

#[tokio::test]
async fn a_new_template_rolls_out_and_the_old_set_is_kept() {
    let cluster = Cluster::start();
    cluster.create(DEPLOYMENT, deployment("web", 4, json!({}))).await;
    cluster.until(DEPLOYMENT, "web", rolled_out).await;
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "app:2"}]}}}});
    cluster.patch(DEPLOYMENT, "web", image).await;
    let web = cluster
        .until(DEPLOYMENT, "web", |web| {
            rolled_out(web) && web["metadata"]["generation"] == 2
        })
        .await;
    assert_eq!(
        web["metadata"]["annotations"]["deployment.kubernetes.io/revision"],
        "2"
    );
    let pods = cluster.until_all(POD, |pods| pods.len() == 4).await;
    assert!(
        pods.iter()
            .all(|pod| pod["spec"]["containers"][0]["image"] == "app:2")
    );
    let mut sets = cluster.list(REPLICA_SET).await;
    sets.sort_by_key(|set| set["metadata"]["annotations"]["deployment.kubernetes.io/revision"].to_string());
    assert_eq!(
        sets.iter()
            .map(|set| set["spec"]["replicas"].clone())
            .collect::<Vec<_>>(),
        [0, 4]
    );

    // Back to the old template: the old set with a new revision.
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "app:1", "ports": [{"name": "http", "containerPort": 8080}]}]}}}});
    cluster.patch(DEPLOYMENT, "web", image).await;
    let back = cluster
        .until(DEPLOYMENT, "web", |web| {
            rolled_out(web) && web["metadata"]["generation"] == 3
        })
        .await;
    assert_eq!(
        back["metadata"]["annotations"]["deployment.kubernetes.io/revision"],
        "3"
    );
    assert_eq!(cluster.list(REPLICA_SET).await.len(), 2);
}

#[tokio::test]
async fn scaling_makes_and_deletes_pods() {
    let cluster = Cluster::start();
    cluster.create(DEPLOYMENT, deployment("web", 1, json!({}))).await;
    cluster.until(DEPLOYMENT, "web", rolled_out).await;
    cluster
        .patch(DEPLOYMENT, "web", json!({"spec": {"replicas": 5}}))
        .await;
    cluster.until_all(POD, |pods| pods.len() == 5).await;
    cluster
        .patch(DEPLOYMENT, "web", json!({"spec": {"replicas": 2}}))
        .await;
    cluster.until_all(POD, |pods| pods.len() == 2).await;
    cluster.until(DEPLOYMENT, "web", rolled_out).await;
    cluster
        .patch(DEPLOYMENT, "web", json!({"spec": {"replicas": 0}}))
        .await;
    cluster.until_all(POD, |pods| pods.is_empty()).await;
}

#[tokio::test]
async fn a_rollout_to_a_broken_template_keeps_the_old_pods() {
    let cluster = Cluster::start();
    cluster.create(DEPLOYMENT, deployment("web", 4, json!({}))).await;
    cluster.until(DEPLOYMENT, "web", rolled_out).await;
    let broken = json!({"spec": {"template": {"metadata": {"annotations": {BEHAVIOR: "crash-loop"}}}}});
    cluster.patch(DEPLOYMENT, "web", broken).await;
    let pods = cluster
        .until_all(POD, |pods| {
            pods.iter().any(|pod| waiting(pod) == "CrashLoopBackOff")
        })
        .await;
    let ready = pods
        .iter()
        .filter(|pod| condition(pod, "Ready")["status"] == "True")
        .count();
    assert!(ready >= 3, "{ready} ready of 4");
    let web = cluster
        .until(DEPLOYMENT, "web", |web| {
            condition(web, "Progressing")["reason"] == "ReplicaSetUpdated"
        })
        .await;
    assert_eq!(condition(&web, "Available")["status"], "True");
}

#[tokio::test]
async fn failures_show_what_a_kubelet_shows() {
    let cluster = Cluster::start();
    for (name, behavior) in [
        ("crash", "crash-loop"),
        ("image", "image-pull-error"),
        ("unready", "not-ready"),
    ] {
        cluster
            .create(DEPLOYMENT, deployment(name, 1, json!({BEHAVIOR: behavior})))
            .await;
    }
    let of = |pods: &[Value], app: &str| {
        pods.iter()
            .find(|pod| pod["metadata"]["labels"]["app"] == app)
            .cloned()
            .unwrap_or_default()
    };
    let pods = cluster
        .until_all(POD, |pods| {
            waiting(&of(pods, "crash")) == "CrashLoopBackOff"
                && waiting(&of(pods, "image")) == "ImagePullBackOff"
                && of(pods, "unready")["status"]["phase"] == "Running"
        })
        .await;
    assert_eq!(of(&pods, "image")["status"]["phase"], "Pending");
    assert_eq!(
        of(&pods, "crash")["status"]["containerStatuses"][0]["restartCount"],
        1
    );
    assert_eq!(
        condition(&of(&pods, "unready"), "Ready")["reason"],
        "ContainersNotReady"
    );
    let crash = cluster
        .until(DEPLOYMENT, "crash", |found| {
            found["status"]["unavailableReplicas"] == 1
        })
        .await;
    assert_eq!(
        condition(&crash, "Available")["reason"],
        "MinimumReplicasUnavailable"
    );
    // Repaired by a new template.
    cluster
        .patch(
            DEPLOYMENT,
            "crash",
            json!({"spec": {"template": {"metadata": {"annotations": null}}}}),
        )
        .await;
    cluster.until(DEPLOYMENT, "crash", rolled_out).await;
}

#[tokio::test]
async fn a_slow_start_is_ready_after_its_delay() {
    let cluster = Cluster::start();
    let slow = json!({BEHAVIOR: "slow-start", choreo_node::DELAY: "1s"});
    cluster.create(DEPLOYMENT, deployment("slow", 1, slow)).await;
    cluster
        .until_all(POD, |pods| {
            pods.len() == 1 && pods[0]["status"]["phase"] == "Running"
        })
        .await;
    cluster.until(DEPLOYMENT, "slow", rolled_out).await;
}

#[tokio::test]
async fn deleting_a_deployment_takes_everything() {
    let cluster = Cluster::start();
    cluster.create(DEPLOYMENT, deployment("web", 2, json!({}))).await;
    cluster.until(DEPLOYMENT, "web", rolled_out).await;
    cluster
        .api(DEPLOYMENT)
        .delete("web", &Default::default())
        .await
        .unwrap();
    cluster.until_all(POD, |pods| pods.is_empty()).await;
    cluster.until_all(REPLICA_SET, |sets| sets.is_empty()).await;
    // And one of the same name can follow.
    cluster.create(DEPLOYMENT, deployment("web", 2, json!({}))).await;
    cluster.until(DEPLOYMENT, "web", rolled_out).await;
}

#[tokio::test]
async fn services_have_endpoints() {
    let cluster = Cluster::start();
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
    });
    cluster.create(SERVICE, service).await;
    cluster.create(DEPLOYMENT, deployment("web", 2, json!({}))).await;
    let ready = |slice: &Value| {
        let endpoints = slice["endpoints"].as_array().cloned().unwrap_or_default();
        endpoints
            .iter()
            .filter(|endpoint| endpoint["conditions"]["ready"] == true)
            .count()
    };
    let slices = cluster
        .until_all(SLICE, |slices| slices.len() == 1 && ready(&slices[0]) == 2)
        .await;
    assert_eq!(slices[0]["ports"][0]["port"], 8080);
    assert_eq!(
        slices[0]["metadata"]["labels"]["kubernetes.io/service-name"],
        "web"
    );
    let old = cluster
        .until(ENDPOINTS, "web", |old| {
            old["subsets"][0]["addresses"]
                .as_array()
                .is_some_and(|all| all.len() == 2)
        })
        .await;
    assert_eq!(old["subsets"][0]["ports"][0]["port"], 8080);
    cluster
        .patch(DEPLOYMENT, "web", json!({"spec": {"replicas": 0}}))
        .await;
    cluster
        .until_all(SLICE, |slices| slices.iter().all(|slice| ready(slice) == 0))
        .await;
    cluster
        .api(SERVICE)
        .delete("web", &Default::default())
        .await
        .unwrap();
    cluster.until_all(SLICE, |slices| slices.is_empty()).await;
    cluster.until_all(ENDPOINTS, |old| old.is_empty()).await;
}

#[tokio::test]
async fn a_stateful_set_goes_in_order() {
    let cluster = Cluster::start();
    let set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"},
        "spec": {
            "replicas": 3, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}}, "template": template("db", json!({})),
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}],
        },
    });
    cluster.create(STATEFUL_SET, set).await;
    let done = |set: &Value| {
        set["status"]["readyReplicas"] == 3
            && set["status"]["updatedReplicas"] == 3
            && set["status"]["currentRevision"] == set["status"]["updateRevision"]
            && set["status"]["observedGeneration"] == set["metadata"]["generation"]
    };
    cluster.until(STATEFUL_SET, "db", done).await;
    let names = |pods: &[Value]| {
        pods.iter()
            .map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&cluster.list(POD).await), ["db-0", "db-1", "db-2"]);
    let claims = "v1/PersistentVolumeClaim/persistentvolumeclaims";
    cluster
        .until_all(claims, |claims| {
            claims.len() == 3 && claims.iter().all(|claim| claim["status"]["phase"] == "Bound")
        })
        .await;
    let annotated = json!({"spec": {"template": {"metadata": {"annotations": {"a": "b"}}}}});
    cluster.patch(STATEFUL_SET, "db", annotated).await;
    cluster
        .until(STATEFUL_SET, "db", |set| {
            set["metadata"]["generation"] == 2 && done(set)
        })
        .await;
    cluster
        .patch(STATEFUL_SET, "db", json!({"spec": {"replicas": 1}}))
        .await;
    cluster.until_all(POD, |pods| names(pods) == ["db-0"]).await;
}

/// Names and numbers of revisions, oldest first.
fn revisions(all: &[Value]) -> Vec<(i64, String)> {
    let number = |revision: &Value| {
        let name = revision["metadata"]["name"].as_str().unwrap();
        (revision["revision"].as_i64().unwrap(), name.to_owned())
    };
    let mut all: Vec<_> = all.iter().map(number).collect();
    all.sort();
    all
}

#[tokio::test]
async fn a_stateful_set_remembers_its_templates() {
    let cluster = Cluster::start();
    let set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": {"name": "db", "annotations": {"kubernetes.io/change-cause": "the first"}},
        "spec": {
            "replicas": 2, "serviceName": "db", "revisionHistoryLimit": 1, "selector": {"matchLabels": {"app": "db"}},
            "template": template("db", json!({"of": "1"})),
        },
    });
    cluster.create(STATEFUL_SET, set).await;
    let done = |set: &Value| {
        set["status"]["readyReplicas"] == 2
            && set["status"]["currentRevision"] == set["status"]["updateRevision"]
            && set["status"]["observedGeneration"] == set["metadata"]["generation"]
    };
    let of = |of: &str| json!({"spec": {"template": {"metadata": {"annotations": {"of": of}}}}});
    let first = cluster.until(STATEFUL_SET, "db", done).await;
    let kept = cluster.list(REVISION).await;
    let first_revision = first["status"]["updateRevision"].as_str().unwrap();
    assert_eq!(revisions(&kept), [(1, first_revision.to_owned())]);
    assert_eq!(
        kept[0]["metadata"]["annotations"]["kubernetes.io/change-cause"],
        "the first"
    );
    assert_eq!(kept[0]["metadata"]["labels"]["app"], "db");
    assert_eq!(
        kept[0]["metadata"]["ownerReferences"][0]["uid"],
        first["metadata"]["uid"]
    );
    let data = &kept[0]["data"]["spec"]["template"];
    assert_eq!(
        (&data["$patch"], &data["metadata"]["annotations"]["of"]),
        (&json!("replace"), &json!("1"))
    );

    // A partition keeps the Pods below it as they were, even one that has to be made anew.
    let partition = json!({"spec": {"updateStrategy": {"rollingUpdate": {"partition": 1}}}});
    cluster.patch(STATEFUL_SET, "db", partition).await;
    cluster.patch(STATEFUL_SET, "db", of("2")).await;
    let is_of = |pods: &[Value], expected: [&str; 2]| {
        let annotation = |pod: &Value| pod["metadata"]["annotations"]["of"].clone();
        let ready = |pod: &Value| condition(pod, "Ready")["status"] == "True";
        pods.iter().map(annotation).eq(expected.map(Value::from)) && pods.iter().all(ready)
    };
    let pods = cluster.until_all(POD, |pods| is_of(pods, ["1", "2"])).await;
    let old = pods[0]["metadata"]["uid"].clone();
    cluster
        .api(POD)
        .delete("db-0", &Default::default())
        .await
        .unwrap();
    cluster
        .until_all(POD, |pods| {
            is_of(pods, ["1", "2"]) && pods[0]["metadata"]["uid"] != old
        })
        .await;

    // A template that was there before is the same revision again, with a new number: what `kubectl rollout undo` does.
    let all = json!({"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}});
    cluster.patch(STATEFUL_SET, "db", all).await;
    let second = cluster.until(STATEFUL_SET, "db", done).await;
    let second_revision = second["status"]["updateRevision"].as_str().unwrap();
    cluster.patch(STATEFUL_SET, "db", of("1")).await;
    cluster
        .until(STATEFUL_SET, "db", |set| {
            done(set) && set["status"]["updateRevision"] == first_revision
        })
        .await;
    let both = [(2, second_revision.to_owned()), (3, first_revision.to_owned())];
    cluster.until_all(REVISION, |kept| revisions(kept) == both).await;

    // One is kept that no Pod is of.
    cluster.patch(STATEFUL_SET, "db", of("3")).await;
    let third = cluster
        .until(STATEFUL_SET, "db", |set| {
            done(set) && set["status"]["updateRevision"] != first_revision
        })
        .await;
    let third_revision = third["status"]["updateRevision"].as_str().unwrap();
    let left = [(3, first_revision.to_owned()), (4, third_revision.to_owned())];
    cluster.until_all(REVISION, |kept| revisions(kept) == left).await;
}

#[tokio::test]
async fn a_daemon_set_remembers_its_templates() {
    let cluster = Cluster::start();
    let set = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "agent"},
        "spec": {"selector": {"matchLabels": {"app": "agent"}}, "template": template("agent", json!({"of": "1"}))},
    });
    cluster.create(DAEMON_SET, set).await;
    let of = |of: &str| json!({"spec": {"template": {"metadata": {"annotations": {"of": of}}}}});
    let is_of = |pods: &[Value], of: &str| {
        pods.len() == 1
            && pods[0]["metadata"]["annotations"]["of"] == of
            && condition(&pods[0], "Ready")["status"] == "True"
    };
    let hash = |pods: &[Value]| pods[0]["metadata"]["labels"]["controller-revision-hash"].clone();
    let first = hash(&cluster.until_all(POD, |pods| is_of(pods, "1")).await);
    cluster.patch(DAEMON_SET, "agent", of("2")).await;
    let second = hash(&cluster.until_all(POD, |pods| is_of(pods, "2")).await);
    assert_ne!(first, second);
    cluster.patch(DAEMON_SET, "agent", of("1")).await;
    let again = hash(&cluster.until_all(POD, |pods| is_of(pods, "1")).await);
    assert_eq!(again, first);
    let named = |hash: &Value| format!("agent-{}", hash.as_str().unwrap());
    let kept = cluster.list(REVISION).await;
    assert_eq!(revisions(&kept), [(2, named(&second)), (3, named(&first))]);
    for revision in &kept {
        let hash = revision["metadata"]["labels"]["controller-revision-hash"].clone();
        assert_eq!(revision["metadata"]["name"], named(&hash));
    }
}

#[tokio::test]
async fn a_daemon_set_that_surges_keeps_the_old_pod_until_the_new_one_serves() {
    let cluster = Cluster::start();
    let set = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "agent"},
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}}, "template": template("agent", json!({"of": "1"})),
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        },
    });
    cluster.create(DAEMON_SET, set).await;
    let ready = |pod: &Value| condition(pod, "Ready")["status"] == "True";
    let of = |pod: &Value, of: &str| pod["metadata"]["annotations"]["of"] == of;
    cluster
        .until_all(POD, |pods| pods.len() == 1 && ready(&pods[0]))
        .await;
    // A template whose Pods never serve: the old one stays, and stays ready, beside the new one.
    let next = |of: &str, behavior: Value| json!({"spec": {"template": {"metadata": {"annotations": {"of": of, BEHAVIOR: behavior}}}}});
    cluster
        .patch(DAEMON_SET, "agent", next("2", "not-ready".into()))
        .await;
    let both = cluster.until_all(POD, |pods| pods.len() == 2).await;
    let (old, new): (Vec<&Value>, Vec<&Value>) = both.iter().partition(|pod| of(pod, "1"));
    assert!(ready(old[0]) && of(new[0], "2") && !ready(new[0]));
    cluster
        .until(DAEMON_SET, "agent", |set| {
            let status = &set["status"];
            status["observedGeneration"] == set["metadata"]["generation"]
                && status["numberAvailable"] == 1
                && status["updatedNumberScheduled"].is_null()
        })
        .await;
    // The next template takes the place of the one that never came to serve; then the old Pod goes.
    cluster.patch(DAEMON_SET, "agent", next("3", Value::Null)).await;
    cluster
        .until_all(POD, |pods| {
            pods.len() == 1 && of(&pods[0], "3") && ready(&pods[0])
        })
        .await;
    cluster
        .until(DAEMON_SET, "agent", |set| {
            set["status"]["updatedNumberScheduled"] == 1
        })
        .await;
}

#[tokio::test]
async fn a_daemon_set_has_a_pod_on_each_node_that_fits() {
    let cluster = Cluster::start();
    let nodes: kube::Api<kube::core::DynamicObject> =
        kube::Api::all_with(cluster.client.clone(), &node_resource());
    let set = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "agent"},
        "spec": {"selector": {"matchLabels": {"app": "agent"}}, "template": template("agent", json!({}))},
    });
    cluster.create(DAEMON_SET, set).await;
    let counts = |set: &Value| {
        let status = &set["status"];
        [
            "desiredNumberScheduled",
            "currentNumberScheduled",
            "numberReady",
            "updatedNumberScheduled",
            "numberMisscheduled",
        ]
        .map(|field| status[field].as_i64().unwrap_or(0))
    };
    let generation = |set: &Value| set["status"]["observedGeneration"] == set["metadata"]["generation"];
    cluster
        .until(DAEMON_SET, "agent", |set| counts(set) == [1, 1, 1, 1, 0])
        .await;
    let pods = cluster.list(POD).await;
    assert!(
        pods[0]["metadata"]["name"]
            .as_str()
            .unwrap()
            .starts_with("agent-")
    );
    assert_eq!(pods[0]["spec"]["nodeName"], choreo_node::NODE);
    let first = pods[0]["metadata"]["uid"].clone();

    // Another node gets its Pod, which waits for a kubelet there; one that repels Pods gets none.
    let tainted = json!({"taints": [{"key": "own", "value": "x", "effect": "NoSchedule"}]});
    for (name, spec) in [("n2", json!({})), ("n3", tainted)] {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec});
        let node = serde_json::from_value(node).unwrap();
        nodes.create(&Default::default(), &node).await.unwrap();
        // Until it is ready, a node repels Pods as well.
        let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let ready = kube::api::Patch::Merge(ready);
        nodes
            .patch_status(name, &Default::default(), &ready)
            .await
            .unwrap();
    }
    cluster
        .until(DAEMON_SET, "agent", |set| counts(set) == [2, 2, 1, 2, 0])
        .await;
    let pods = cluster.list(POD).await;
    let waiting = pods.iter().find(|pod| pod["metadata"]["uid"] != first).unwrap();
    assert_eq!(waiting["spec"].get("nodeName"), None);
    nodes.delete("n2", &Default::default()).await.unwrap();
    cluster
        .until(DAEMON_SET, "agent", |set| counts(set) == [1, 1, 1, 1, 0])
        .await;
    cluster.until_all(POD, |pods| pods.len() == 1).await;

    // A changed template replaces the Pod.
    let annotated = json!({"spec": {"template": {"metadata": {"annotations": {"a": "b"}}}}});
    cluster.patch(DAEMON_SET, "agent", annotated).await;
    cluster
        .until(DAEMON_SET, "agent", |set| {
            generation(set) && counts(set) == [1, 1, 1, 1, 0]
        })
        .await;
    let pods = cluster.until_all(POD, |pods| pods.len() == 1).await;
    assert_ne!(pods[0]["metadata"]["uid"], first);
    // No node, no Pod.
    let nowhere = json!({"spec": {"template": {"spec": {"nodeSelector": {"none": "such"}}}}});
    cluster.patch(DAEMON_SET, "agent", nowhere).await;
    cluster.until_all(POD, <[Value]>::is_empty).await;
    cluster
        .until(DAEMON_SET, "agent", |set| {
            generation(set) && counts(set) == [0, 0, 0, 0, 0]
        })
        .await;
}

#[tokio::test]
async fn jobs_complete_or_fail() {
    let cluster = Cluster::start();
    let job = |name: &str, annotations: Value| {
        let mut template = template(name, annotations);
        template["spec"]["restartPolicy"] = "Never".into();
        json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
            "spec": {"completions": 3, "parallelism": 2, "backoffLimit": 0, "template": template},
        })
    };
    cluster.create(JOB, job("good", json!({}))).await;
    let good = cluster
        .until(JOB, "good", |job| condition(job, "Complete")["status"] == "True")
        .await;
    assert_eq!(good["status"]["succeeded"], 3);
    cluster
        .create(JOB, job("bad", json!({BEHAVIOR: "crash-loop"})))
        .await;
    let bad = cluster
        .until(JOB, "bad", |job| condition(job, "Failed")["status"] == "True")
        .await;
    assert_eq!(condition(&bad, "Failed")["reason"], "BackoffLimitExceeded");
}

#[tokio::test]
async fn a_cron_job_starts_jobs_when_due() {
    let cluster = Cluster::start();
    let mut template = template("tick", json!({}));
    template["spec"]["restartPolicy"] = "Never".into();
    let cron_job = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "tick"},
        "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": template}}},
    });
    cluster.create(CRON_JOB, cron_job).await;
    // Said to have run an hour ago: one run is due at once, the missed ones between are not made up for.
    let hour_ago = (jiff::Timestamp::now() - jiff::SignedDuration::from_hours(1))
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string();
    let patch = kube::api::Patch::Merge(json!({"status": {"lastScheduleTime": hour_ago}}));
    cluster
        .api(CRON_JOB)
        .patch_status("tick", &Default::default(), &patch)
        .await
        .unwrap();
    let jobs = cluster.until_all(JOB, |jobs| !jobs.is_empty()).await;
    assert!(jobs[0]["metadata"]["name"].as_str().unwrap().starts_with("tick-"));
    cluster
        .until(CRON_JOB, "tick", |found| {
            found["status"]["lastSuccessfulTime"].is_string()
        })
        .await;
}

#[tokio::test]
async fn a_pod_that_fits_nowhere_says_so() {
    let cluster = Cluster::start();
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "gpu"}, "spec": template("gpu", json!({}))["spec"]});
    pod["spec"]["nodeSelector"] = json!({"gpu": "yes"});
    cluster.create(POD, pod).await;
    let pod = cluster
        .until(POD, "gpu", |pod| {
            condition(pod, "PodScheduled")["status"] == "False"
        })
        .await;
    assert_eq!(condition(&pod, "PodScheduled")["reason"], "Unschedulable");
}

#[tokio::test]
async fn an_autoscaler_keeps_its_target_between_its_bounds() {
    let cluster = Cluster::start();
    cluster.create(DEPLOYMENT, deployment("web", 1, json!({}))).await;
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let autoscaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"},
        "spec": {"scaleTargetRef": target, "minReplicas": 3, "maxReplicas": 5},
    });
    cluster.create(AUTOSCALER, autoscaler).await;
    cluster.until_all(POD, |pods| pods.len() == 3).await;
    let scaled = |replicas: i64| move |found: &Value| found["status"]["currentReplicas"] == replicas;
    let found = cluster.until(AUTOSCALER, "web", scaled(3)).await;
    assert_eq!(condition(&found, "ScalingActive")["status"], "True");
    cluster
        .patch(DEPLOYMENT, "web", json!({"spec": {"replicas": 9}}))
        .await;
    cluster
        .until(DEPLOYMENT, "web", |web| web["spec"]["replicas"] == 5)
        .await;
    // Zero replicas mean that somebody has switched it off.
    cluster
        .patch(DEPLOYMENT, "web", json!({"spec": {"replicas": 0}}))
        .await;
    let found = cluster.until(AUTOSCALER, "web", scaled(0)).await;
    assert_eq!(condition(&found, "ScalingActive")["reason"], "ScalingDisabled");
    cluster.until_all(POD, |pods| pods.is_empty()).await;
}

#[tokio::test]
async fn a_budget_counts_what_may_be_missing() {
    let cluster = Cluster::start();
    cluster.create(DEPLOYMENT, deployment("web", 4, json!({}))).await;
    cluster
        .create(DEPLOYMENT, deployment("other", 2, json!({})))
        .await;
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "minAvailable": "50%"},
    });
    cluster.create(BUDGET, budget).await;
    let found = cluster
        .until(BUDGET, "web", |found| found["status"]["currentHealthy"] == 4)
        .await;
    assert_eq!(
        (
            &found["status"]["desiredHealthy"],
            &found["status"]["disruptionsAllowed"]
        ),
        (&json!(2), &json!(2))
    );
    assert_eq!(condition(&found, "DisruptionAllowed")["status"], "True");
}
