//! The pods of a component.

use choreo_api::labels::annotations::SIMULATED;
pub(crate) use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};

use super::Place;
use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::online::{CallError, Session};

/// What to do about pods that are simulated.
const INSTALL: &str = "containers run once this machine has Podman or Docker: for example `apt install podman`, or https://podman.io/docs/installation; then start `choreo up` again";

/// The pods, the newest first.
///
/// # Errors
/// When the data plane does not answer.
pub(crate) async fn list(place: &Place, data_plane: &Session) -> Result<Vec<Pod>, Failure> {
    let api: Api<Pod> = Api::namespaced(data_plane.client(), &place.namespace());
    let listed = api.list(&ListParams::default().labels(&place.selector())).await;
    let mut pods = listed
        .map_err(|error| {
            data_plane
                .error(error)
                .failure(format!("cannot list the pods of {}", place.title()))
        })?
        .items;
    pods.sort_by_key(|pod| {
        let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (std::cmp::Reverse(created), pod.name_any())
    });
    Ok(pods)
}

/// The pod to connect with: the newest that is ready, or else the newest that runs.
///
/// # Errors
/// When there is none, or it is simulated.
pub(crate) fn pick<'p>(place: &Place, pods: &'p [Pod]) -> Result<&'p Pod, Failure> {
    let alive = || {
        pods.iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
    };
    let running = |pod: &&Pod| phase(pod) == "Running";
    let found = alive()
        .find(|pod| is_ready(pod))
        .or_else(|| alive().find(running));
    let Some(found) = found else {
        let failure = Failure::new(format!("no pod of {} runs", place.title())).status(ExitStatus::NotFound);
        let states: Vec<String> = pods
            .iter()
            .map(|pod| format!("{} is {}", pod.name_any(), phase(pod)))
            .collect();
        return Err(failure
            .cause(states.join("\n"))
            .hint(format!("`choreo tree component/{}` says why", place.component)));
    };
    if is_simulated(found) {
        return Err(simulated(place));
    }
    Ok(found)
}

fn phase(pod: &Pod) -> &str {
    let status = pod.status.as_ref();
    status
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("Pending")
}

/// Whether a pod takes requests.
fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions
            .into_iter()
            .any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Whether nothing runs behind a pod.
fn is_simulated(pod: &Pod) -> bool {
    pod.annotations()
        .get(SIMULATED)
        .is_some_and(|value| value == "true")
}

/// What is to be said about pods that are simulated; nothing when none is.
pub(crate) fn simulated_note(place: &Place, pods: &[Pod]) -> Option<String> {
    let simulated = pods.iter().any(is_simulated);
    simulated.then(|| {
        format!(
            "the pods of {} are simulated, so nothing answers: {INSTALL}",
            place.title()
        )
    })
}

fn simulated(place: &Place) -> Failure {
    Failure::new(format!("the pods of {} are simulated", place.title()))
        .cause("no container runs: `choreo up` found no container engine when it started, or was told to simulate")
        .hint(INSTALL)
}

/// The failure for a pod that cannot be accessed.
pub(crate) fn refused(place: &Place, pods: &[Pod], error: CallError, what: String) -> Failure {
    if pods.iter().any(is_simulated) && error.code() == Some(503) {
        return simulated(place);
    }
    error.failure(what)
}

/// Refuses pods that are simulated.
///
/// # Errors
/// When one of them is.
pub(crate) fn check_real(place: &Place, pods: &[Pod]) -> Result<(), Failure> {
    if pods.iter().any(is_simulated) {
        return Err(simulated(place));
    }
    Ok(())
}

/// One life of one container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stream {
    /// The pod.
    pub(crate) pod: String,
    /// Which one of those that had this name.
    pub(crate) uid: String,
    /// The container.
    pub(crate) container: String,
    /// How often it had been started before.
    pub(crate) restarts: i32,
}

/// What there is to read logs of: the containers of pods that have started, those that run before the others first.
pub(crate) fn streams<'p>(pods: impl IntoIterator<Item = &'p Pod>, only: Option<&str>) -> Vec<Stream> {
    let mut found = Vec::new();
    for pod in pods {
        let Some(status) = &pod.status else { continue };
        let init = status.init_container_statuses.iter().flatten();
        for container in init.chain(status.container_statuses.iter().flatten()) {
            let state = container.state.as_ref();
            let started = state.is_some_and(|state| state.running.is_some() || state.terminated.is_some());
            let before = container
                .last_state
                .as_ref()
                .is_some_and(|state| state.terminated.is_some());
            if only.is_some_and(|only| only != container.name) || !(started || before) {
                continue;
            }
            found.push(Stream {
                pod: pod.name_any(),
                uid: pod.uid().unwrap_or_default(),
                container: container.name.clone(),
                restarts: container.restart_count,
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, statuses: &serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "uid": name},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": statuses},
        }))
        .unwrap()
    }

    fn container(name: &str, restarts: i32, state: &serde_json::Value) -> serde_json::Value {
        json!({"name": name, "image": "i", "imageID": "i", "ready": true, "restartCount": restarts, "state": state})
    }

    #[test]
    fn containers_that_have_started_have_logs() {
        let running = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
        let pods = [
            pod(
                "a",
                &json!([container("main", 1, &running), container("side", 0, &running)]),
            ),
            pod(
                "b",
                &json!([container(
                    "main",
                    0,
                    &json!({"waiting": {"reason": "ContainerCreating"}})
                )]),
            ),
        ];
        let names = |only| -> Vec<String> {
            let found = streams(&pods, only);
            found
                .iter()
                .map(|s| format!("{}/{} {}", s.pod, s.container, s.restarts))
                .collect()
        };
        assert_eq!(names(None), ["a/main 1", "a/side 0"]);
        assert_eq!(names(Some("side")), ["a/side 0"]);
        assert!(is_ready(&pods[0]));
        let going = Pod {
            metadata: kube::api::ObjectMeta {
                deletion_timestamp: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
                    jiff::Timestamp::UNIX_EPOCH,
                )),
                ..pods[0].metadata.clone()
            },
            ..pods[0].clone()
        };
        assert!(!is_ready(&going));
    }
}
