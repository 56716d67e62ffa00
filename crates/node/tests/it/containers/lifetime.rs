//! Restarts of the agent and of the engine, and what is left of things that go.

use std::time::Duration;

use bollard::{
    models::ContainerCreateBody,
    query_parameters::{CreateContainerOptions, RemoveContainerOptions},
};
use kube::api::DeleteParams;
use serde_json::json;
use tokio::{
    io::copy_bidirectional,
    net::{UnixListener, UnixStream},
};

use super::bed::{Bed, IMAGE, container, deployment, service};
use crate::support::{DEPLOYMENT, POD, SERVICE, condition, rolled_out};

#[tokio::test]
async fn an_agent_that_was_killed_takes_over_what_runs_and_removes_orphans() {
    let Some(bed) = Bed::start().await else { return };
    bed.cluster
        .create(DEPLOYMENT, deployment("web", 2, &json!({"name": "main"})))
        .await;
    bed.cluster.create(SERVICE, service("web", "web")).await;
    bed.pod("goes", json!({})).await;
    bed.cluster.until(DEPLOYMENT, "web", rolled_out).await;
    bed.until_ready("goes").await;
    let known = |pods: Vec<serde_json::Value>| {
        let web = pods
            .into_iter()
            .filter(|pod| pod["metadata"]["labels"]["app"] == "web");
        let each = web.map(|pod| {
            let main = container(&pod, "main").clone();
            (
                pod["metadata"]["uid"].to_string(),
                main["containerID"].to_string(),
                main["restartCount"].to_string(),
            )
        });
        let mut all: Vec<_> = each.collect();
        all.sort();
        all
    };
    let before = known(bed.cluster.list(POD).await);
    let containers = bed.containers().await;
    let api_gone = bed.cluster.store.clone();
    let bed = bed
        .restart(async |bed| {
            // Somebody force-deletes a Pod while nobody looks after its containers.
            let other = crate::support::Cluster::start_on(
                api_gone,
                choreo_node::Options {
                    simulator: false,
                    workloads: false,
                    operators: false,
                    containers: None,
                },
            );
            let now = DeleteParams {
                grace_period_seconds: Some(0),
                ..DeleteParams::default()
            };
            other.api(POD).delete("goes", &now).await.unwrap();
            assert_eq!(
                bed.containers().await.len(),
                containers.len(),
                "containers go on without an agent"
            );
        })
        .await;
    bed.pod("new", json!({})).await;
    let new = bed.until_ready("new").await;
    assert_eq!(known(bed.cluster.list(POD).await), before);
    let after = bed.containers().await;
    assert!(
        !after.contains_key("goes/main") && !after.contains_key("goes/POD"),
        "{after:?}"
    );
    for (name, id) in containers.iter().filter(|(name, _)| !name.starts_with("goes")) {
        assert_eq!(after.get(name), Some(id), "{name}");
    }
    // The relay has a new agent, and knows what there is.
    assert!(bed.get(&new, "/call?web:80/").await.is_ok());
    bed.finish().await;
}

#[tokio::test]
async fn what_dies_behind_the_agents_back_is_made_anew() {
    let Some(bed) = Bed::start().await else { return };
    bed.pod("victim", json!({})).await;
    bed.until_ready("victim").await;
    let before = bed.containers().await;
    let kill = async |name: &str| {
        let options = RemoveContainerOptions {
            force: true,
            ..RemoveContainerOptions::default()
        };
        bed.docker()
            .remove_container(&before[name], Some(options))
            .await
            .unwrap();
    };
    // A relay comes back at its address.
    kill("relay of default").await;
    bed.cluster.create(SERVICE, service("front", "victim")).await;
    let mut answer = Err(String::new());
    for _ in 0..200 {
        let pod = bed.until_ready("victim").await;
        answer = bed.get(&pod, "/call?front:80/").await;
        if answer.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    answer.unwrap();
    // It may be made anew once more, when the agent hears that the old one is not only dead but gone.
    let anew = async || {
        let all = bed.containers().await;
        all.get("relay of default")
            .filter(|id| **id != before["relay of default"])
            .cloned()
    };
    let mut relay = anew().await;
    for _ in 0..200 {
        if relay.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        relay = anew().await;
    }
    assert!(relay.is_some(), "the relay was not made anew");
    // A sandbox takes the containers with it.
    bed.docker()
        .kill_container(
            &before["victim/POD"],
            Some(bollard::query_parameters::KillContainerOptions {
                signal: "SIGKILL".into(),
            }),
        )
        .await
        .unwrap();
    bed.until_event("SandboxChanged", "killed and re-created").await;
    let old = before["victim/main"].clone();
    let pod = bed
        .until_pod("victim", |pod| {
            super::bed::is_ready(pod)
                && !container(pod, "main")["containerID"]
                    .as_str()
                    .unwrap_or_default()
                    .contains(&old)
        })
        .await;
    assert_eq!(container(&pod, "main")["restartCount"], 1);
    bed.finish().await;
}

#[tokio::test]
async fn while_the_engine_is_away_the_node_says_so_and_then_goes_on() {
    let Some(host) = super::bed::engine() else { return };
    let real = host.trim_start_matches("unix://").to_owned();
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    let socket = folder.path().join("engine.sock");
    let between = |socket: &std::path::Path| {
        let listener = UnixListener::bind(socket).unwrap();
        let real = real.clone();
        tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let real = real.clone();
                connections.spawn(async move {
                    if let Ok(mut engine) = UnixStream::connect(real).await {
                        let _ = copy_bidirectional(&mut client, &mut engine).await;
                    }
                });
            }
        })
    };
    let proxy = between(&socket);
    let engine = format!("unix://{}", socket.display());
    let Some(bed) = Bed::start_with(|options| options.engine = Some(engine)).await else {
        return;
    };
    bed.pod("stays", json!({})).await;
    let before = bed.until_ready("stays").await;
    proxy.abort();
    let _ = proxy.await;
    std::fs::remove_file(&socket).unwrap();
    let node = bed
        .until_node(|node| condition(node, "Ready")["status"] == "False")
        .await;
    let ready = condition(&node, "Ready");
    assert_eq!(ready["reason"], "ContainerRuntimeUnavailable");
    bed.pod("waits", json!({})).await;
    let proxy = between(&socket);
    bed.until_ready("waits").await;
    bed.until_node(|node| condition(node, "Ready")["status"] == "True")
        .await;
    let after = bed.until_ready("stays").await;
    assert_eq!(container(&after, "main"), container(&before, "main"));
    bed.finish().await;
    proxy.abort();
}

#[tokio::test]
async fn nothing_of_others_is_touched_and_nothing_is_left() {
    let Some(mut bed) = Bed::start().await else { return };
    let docker = bed.docker();
    let name = format!("choreo-test-foreign-{}", std::process::id());
    let body = ContainerCreateBody {
        image: Some(IMAGE.into()),
        labels: Some([("choreo.dev/instance".to_owned(), "somebody-else".to_owned())].into()),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptions {
        name: Some(name.clone()),
        ..CreateContainerOptions::default()
    };
    docker.create_container(Some(options), body).await.unwrap();
    bed.namespace("brief", json!({})).await;
    bed.pod("one", json!({"terminationGracePeriodSeconds": 1})).await;
    bed.until_ready("one").await;
    assert_eq!(bed.containers().await.len(), 3);
    let namespaces = kube::Api::<k8s_openapi::api::core::v1::Namespace>::all(bed.cluster.client.clone());
    namespaces
        .delete("brief", &DeleteParams::default())
        .await
        .unwrap();
    // The network of a namespace goes with it.
    for _ in 0..600 {
        if bed.containers().await.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(bed.containers().await.len(), 0);
    bed.finish().await;
    let remove = RemoveContainerOptions {
        force: true,
        ..RemoveContainerOptions::default()
    };
    docker
        .remove_container(&name, Some(remove))
        .await
        .expect("the foreign container is still there");
}
