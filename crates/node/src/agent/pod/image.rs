//! Whether a container's image is there, and getting it.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Container, Pod};
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use super::state::{Pull, Record, back_off};
use crate::{
    agent::{
        Runtime,
        engine::{EngineError, Image, RegistryAuth},
        registry::{self, Reference},
    },
    core::Name,
};

/// What comes of asking for an image.
pub(super) enum Answer {
    Here(Image),
    /// Why the container waits, and until when if nothing else tells.
    Wait(&'static str, String, Option<Instant>),
    /// It is being pulled.
    Pulling,
}

/// When images are pulled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Policy {
    Always,
    IfNotPresent,
    Never,
}

fn policy(container: &Container, reference: &Reference) -> Policy {
    match container.image_pull_policy.as_deref() {
        Some("Always") => Policy::Always,
        Some("Never") => Policy::Never,
        Some("IfNotPresent") => Policy::IfNotPresent,
        _ if reference.is_latest() => Policy::Always,
        _ => Policy::IfNotPresent,
    }
}

/// The image of a container, or what it waits for. A pull runs in the background and tells `changed` when it is over.
pub(super) async fn ensure(
    runtime: &Arc<Runtime>,
    pod: &Arc<Pod>,
    container: &Container,
    record: &mut Record,
    changed: &Arc<Notify>,
) -> Result<Answer, EngineError> {
    let name = container.image.clone().unwrap_or_default();
    let recorder = &runtime.context.recorder;
    let reference = match Reference::parse(&name) {
        Ok(reference) => reference,
        Err(why) => {
            let message = format!(
                "Failed to apply default image tag {name:?}: couldn't parse image name {name:?}: {why}"
            );
            if record
                .waiting
                .as_ref()
                .is_none_or(|known| known.reason != "InvalidImageName")
            {
                recorder.warning(&**pod, "kubelet", "InspectFailed", message.clone());
                recorder.warning(&**pod, "kubelet", "Failed", "Error: InvalidImageName".to_owned());
            }
            return Ok(Answer::Wait("InvalidImageName", message, None));
        }
    };
    let state = std::mem::take(&mut *record.pull.lock());
    match state {
        Pull::Running => {
            *record.pull.lock() = Pull::Running;
            return Ok(Answer::Pulling);
        }
        Pull::Done(image) => {
            record.pulls_failed = 0;
            return Ok(Answer::Here(image));
        }
        Pull::Failed { error, until } if until > Instant::now() => {
            let known = record.waiting.as_ref().map(|waiting| waiting.reason);
            let (reason, message) = match known {
                Some("ErrImagePull" | "ImagePullBackOff") => {
                    if known == Some("ErrImagePull") {
                        recorder.normal(
                            &**pod,
                            "kubelet",
                            "BackOff",
                            format!("Back-off pulling image {name:?}"),
                        );
                        recorder.warning(&**pod, "kubelet", "Failed", "Error: ImagePullBackOff".to_owned());
                    }
                    (
                        "ImagePullBackOff",
                        format!("Back-off pulling image {name:?}: ErrImagePull: {error}"),
                    )
                }
                _ => ("ErrImagePull", error.clone()),
            };
            *record.pull.lock() = Pull::Failed { error, until };
            return Ok(Answer::Wait(reason, message, Some(until)));
        }
        Pull::Failed { .. } | Pull::Idle => {}
    }
    let policy = policy(container, &reference);
    let mut present = None;
    for local in reference.local_names() {
        match runtime.engine.image(&local).await {
            Ok(image) => {
                present = Some(image);
                break;
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    match (policy, present) {
        (Policy::IfNotPresent | Policy::Never, Some(image)) => {
            let message = format!("Container image {name:?} already present on machine");
            recorder.normal(&**pod, "kubelet", "Pulled", message);
            Ok(Answer::Here(image))
        }
        (Policy::Never, None) => {
            let message = format!("Container image {name:?} is not present with pull policy of Never");
            if record
                .waiting
                .as_ref()
                .is_none_or(|known| known.reason != "ErrImageNeverPull")
            {
                recorder.warning(&**pod, "kubelet", "ErrImageNeverPull", message.clone());
                recorder.warning(&**pod, "kubelet", "Failed", "Error: ErrImageNeverPull".to_owned());
            }
            Ok(Answer::Wait("ErrImageNeverPull", message, None))
        }
        // What was built on this machine has no registry that could have a newer one.
        (Policy::Always, Some(image)) if image.digest.is_none() || reference.registry == "localhost" => {
            let message =
                format!("Container image {name:?} already present on machine, and from no registry");
            recorder.normal(&**pod, "kubelet", "Pulled", message);
            Ok(Answer::Here(image))
        }
        _ => {
            pull(runtime, pod, &name, reference, record, changed);
            Ok(Answer::Pulling)
        }
    }
}

fn secrets(runtime: &Runtime, pod: &Pod, reference: &Reference) -> Vec<RegistryAuth> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let names = pod
        .spec
        .iter()
        .flat_map(|spec| spec.image_pull_secrets.iter().flatten());
    names
        .filter_map(|secret| {
            runtime
                .context
                .world
                .secrets
                .get(&Name::new(namespace, &secret.name))
        })
        .filter_map(|secret| registry::credentials(&secret, reference))
        .collect()
}

fn pull(
    runtime: &Arc<Runtime>,
    pod: &Arc<Pod>,
    name: &str,
    reference: Reference,
    record: &mut Record,
    changed: &Arc<Notify>,
) {
    *record.pull.lock() = Pull::Running;
    let wait = back_off(record.pulls_failed + 1);
    record.pulls_failed += 1;
    let auths = secrets(runtime, pod, &reference);
    let (runtime, pod, name) = (runtime.clone(), pod.clone(), name.to_owned());
    let (state, changed): (Arc<Mutex<Pull>>, _) = (record.pull.clone(), changed.clone());
    runtime.clone().tasks.spawn(async move {
        let outcome = fetch(&runtime, &pod, &name, &reference, &auths).await;
        let recorder = &runtime.context.recorder;
        *state.lock() = match outcome {
            Ok(image) => Pull::Done(image),
            Err(error) => {
                let error = error.to_string();
                recorder.warning(
                    &*pod,
                    "kubelet",
                    "Failed",
                    format!("Failed to pull image {name:?}: {error}"),
                );
                recorder.warning(&*pod, "kubelet", "Failed", "Error: ErrImagePull".to_owned());
                Pull::Failed {
                    error,
                    until: Instant::now() + wait,
                }
            }
        };
        changed.notify_one();
    });
}

async fn fetch(
    runtime: &Runtime,
    pod: &Pod,
    name: &str,
    reference: &Reference,
    auths: &[RegistryAuth],
) -> Result<Image, EngineError> {
    let asked = Instant::now();
    let permit = runtime.pulls.acquire().await;
    let recorder = &runtime.context.recorder;
    recorder.normal(pod, "kubelet", "Pulling", format!("Pulling image {name:?}"));
    let begun = Instant::now();
    let full = reference.full();
    let mut outcome = Err(EngineError::Refused("nothing was tried".to_owned()));
    // With credentials first, as kubelets do; without any if there are none.
    for auth in auths.iter().map(Some).chain(auths.is_empty().then_some(None)) {
        outcome = runtime.engine.pull(&full, auth).await;
        if outcome.is_ok() {
            break;
        }
    }
    outcome?;
    drop(permit);
    let image = runtime.engine.image(&full).await?;
    let text = |time: Duration| format!("{:.3}s", time.as_secs_f64());
    let message = format!(
        "Successfully pulled image {name:?} in {} ({} including waiting). Image size: {} bytes.",
        text(begun.elapsed()),
        text(asked.elapsed()),
        image.size
    );
    recorder.normal(pod, "kubelet", "Pulled", message);
    Ok(image)
}
