//! Which container of a Pod is meant, and what may be done with it. The texts are kube-apiserver's and the kubelet's.

use choreo_apimachinery::field::quote;
use choreo_apimachinery::status::{ApiError, Result};
use serde_json::Value;

use crate::verbs::text;

/// The container that a request names, or the only one.
///
/// # Errors
/// 400 when there is none of that name, or none is named and there are several.
pub(super) fn choose(pod: &Value, wanted: Option<&str>) -> Result<String> {
    let name = text(pod, "/metadata/name");
    let containers = names(pod, "containers");
    let init = names(pod, "initContainers");
    let ephemeral = names(pod, "ephemeralContainers");
    if let Some(wanted) = wanted {
        return if [&containers, &init, &ephemeral]
            .iter()
            .any(|list| list.contains(&wanted))
        {
            Ok(wanted.to_owned())
        } else {
            let what = format!("container {wanted} is not valid for pod {name}");
            Err(ApiError::bad_request(what))
        };
    }
    match containers.as_slice() {
        [only] => Ok((*only).to_owned()),
        [] => Err(ApiError::bad_request(format!(
            "a container name must be specified for pod {name}"
        ))),
        several => {
            let mut what = format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                several.join(" ")
            );
            if !init.is_empty() {
                what.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            Err(ApiError::bad_request(what))
        }
    }
}

fn names<'a>(pod: &'a Value, list: &str) -> Vec<&'a str> {
    let all = pod["spec"][list].as_array();
    all.into_iter()
        .flatten()
        .filter_map(|c| c["name"].as_str())
        .collect()
}

/// Whether a Pod has been given to a node.
pub(super) fn is_placed(pod: &Value) -> bool {
    !text(pod, "/spec/nodeName").is_empty()
}

/// Whether something can be connected with in a Pod.
///
/// # Errors
/// 400 when it is on no node yet, or has ended.
pub(super) fn check_running(pod: &Value) -> Result<()> {
    let name = text(pod, "/metadata/name");
    if !is_placed(pod) {
        return Err(ApiError::bad_request(format!(
            "pod {name} does not have a host assigned"
        )));
    }
    match text(pod, "/status/phase") {
        phase @ ("Succeeded" | "Failed") => Err(ApiError::bad_request(format!(
            "cannot connect with a container of a completed pod; current phase of {name} is {phase}"
        ))),
        _ => Ok(()),
    }
}

/// Whether a container has, or had, something to write a log.
///
/// # Errors
/// 400 when it has not started, or did not run before.
pub(super) fn check_logs(pod: &Value, container: &str, previous: bool) -> Result<()> {
    let lists = [
        "containerStatuses",
        "initContainerStatuses",
        "ephemeralContainerStatuses",
    ];
    let status = lists
        .iter()
        .filter_map(|list| pod["status"][list].as_array())
        .flatten()
        .find(|status| status["name"] == container);
    let (what, name) = (quote(container), quote(text(pod, "/metadata/name")));
    let refuse = |text: String| Err(ApiError::bad_request(text));
    let Some(status) = status else {
        return refuse(format!("container {what} in pod {name} is not available"));
    };
    let ended_before = status["lastState"]["terminated"].is_object();
    if previous {
        return if ended_before {
            Ok(())
        } else {
            refuse(format!(
                "previous terminated container {what} in pod {name} not found"
            ))
        };
    }
    let state = &status["state"];
    if state["running"].is_object() || state["terminated"].is_object() || ended_before {
        return Ok(());
    }
    let why = match state["waiting"]["reason"].as_str() {
        Some("ErrImagePull") => ": image can't be pulled".to_owned(),
        Some("ImagePullBackOff") => ": trying and failing to pull image".to_owned(),
        Some(reason) => format!(": {reason}"),
        None => " - no logs yet".to_owned(),
    };
    refuse(format!("container {what} in pod {name} is waiting to start{why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_container_that_is_meant() {
        let one = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]}});
        let two = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}});
        for (pod, wanted, expected) in [
            (&one, None, Ok("a")),
            (&one, Some("i"), Ok("i")),
            (&one, Some("x"), Err("container x is not valid for pod p")),
            (&two, Some("b"), Ok("b")),
            (
                &two,
                None,
                Err(
                    "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]",
                ),
            ),
        ] {
            match (choose(pod, wanted), expected) {
                (Ok(name), Ok(expected)) => assert_eq!(name, expected),
                (Err(error), Err(expected)) => {
                    assert_eq!((error.code, error.message.as_str()), (400, expected))
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn who_has_a_log() {
        let running = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
        let ended = json!({"terminated": {"exitCode": 1}});
        let waiting = |reason: &str| json!({"waiting": {"reason": reason}});
        for (state, last, previous, expected) in [
            (&running, json!({}), false, ""),
            (
                &running,
                json!({}),
                true,
                "previous terminated container \"a\" in pod \"p\" not found",
            ),
            (&waiting("CrashLoopBackOff"), ended.clone(), false, ""),
            (&waiting("CrashLoopBackOff"), ended.clone(), true, ""),
            (&ended, json!({}), false, ""),
            (
                &waiting("ContainerCreating"),
                json!({}),
                false,
                "container \"a\" in pod \"p\" is waiting to start: ContainerCreating",
            ),
            (
                &waiting("ImagePullBackOff"),
                json!({}),
                false,
                "container \"a\" in pod \"p\" is waiting to start: trying and failing to pull image",
            ),
            (
                &json!({}),
                json!({}),
                false,
                "container \"a\" in pod \"p\" is waiting to start - no logs yet",
            ),
        ] {
            let pod = json!({
                "metadata": {"name": "p"},
                "status": {"containerStatuses": [{"name": "a", "state": state, "lastState": last}]},
            });
            let said = check_logs(&pod, "a", previous).map_err(|error| error.message);
            assert_eq!(said.err().unwrap_or_default(), expected);
        }
    }
}
