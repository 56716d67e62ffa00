//! The scheduler: every Pod that can go to the one node goes there. What Pods request is not held against what the machine has.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Binding, ObjectReference, Pod, PodCondition, PodSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, api::PostParams};

use crate::{
    NODE, SIMULATED,
    core::{Action, Context, Error, Name, Result, now, wants_node},
};

const COMPONENT: &str = "default-scheduler";

/// Labels that Pods may select the node by.
pub(crate) fn labels() -> BTreeMap<String, String> {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    [
        ("kubernetes.io/hostname", NODE),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// Binds the Pod to the node, or says why not.
pub(crate) async fn schedule(context: &Context, pod: &Pod) -> Result<Action> {
    let Some(spec) = &pod.spec else {
        return Ok(Action::Wait);
    };
    if spec
        .scheduler_name
        .as_deref()
        .is_some_and(|name| name != "default-scheduler" && !name.is_empty())
    {
        return Ok(Action::Wait);
    }
    if spec
        .scheduling_gates
        .as_ref()
        .is_some_and(|gates| !gates.is_empty())
    {
        return refuse(
            context,
            pod,
            "SchedulingGated",
            "Scheduling is blocked due to non-empty scheduling gates",
        )
        .await;
    }
    if let Some(reason) = unfit(spec) {
        return refuse(
            context,
            pod,
            "Unschedulable",
            &format!("0/1 nodes are available: {reason}"),
        )
        .await;
    }
    let name = Name::of(pod);
    let binding = Binding {
        metadata: ObjectMeta {
            name: Some(name.name.clone()),
            namespace: Some(name.namespace.clone()),
            annotations: context
                .options
                .simulator
                .then(|| [(SIMULATED.to_owned(), "true".to_owned())].into()),
            ..ObjectMeta::default()
        },
        target: ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Node".into()),
            name: Some(NODE.into()),
            ..ObjectReference::default()
        },
    };
    let api = Api::<Pod>::namespaced(context.client.clone(), &name.namespace);
    let bound: Result<serde_json::Value, _> = api
        .create_subresource("binding", &name.name, &PostParams::default(), &binding)
        .await;
    match bound {
        Ok(_) => {
            let message = format!("Successfully assigned {name} to {NODE}");
            context.recorder.normal(pod, COMPONENT, "Scheduled", message);
            // What follows is the kubelet's; the event of the binding starts it.
            Ok(Action::Wait)
        }
        Err(source) => Err(Error::Api {
            action: "bind",
            kind: "Pod".into(),
            name,
            source: Box::new(source),
        }),
    }
}

/// Why the node does not fit; only what the Pod names itself is looked at.
fn unfit(spec: &PodSpec) -> Option<String> {
    let other = !wants_node(spec, NODE, &labels());
    other.then(|| "1 node(s) didn't match Pod's node affinity/selector.".to_owned())
}

async fn refuse(context: &Context, pod: &Pod, reason: &str, message: &str) -> Result<Action> {
    let mut changed = pod.clone();
    let conditions = changed
        .status
        .get_or_insert_default()
        .conditions
        .get_or_insert_default();
    let same = |condition: &PodCondition| {
        condition.reason.as_deref() == Some(reason) && condition.message.as_deref() == Some(message)
    };
    match conditions
        .iter_mut()
        .find(|condition| condition.type_ == "PodScheduled")
    {
        Some(known) if same(known) => return Ok(Action::Wait),
        Some(known) => {
            known.status = "False".into();
            known.reason = Some(reason.into());
            known.message = Some(message.into());
            known.last_transition_time = Some(now());
        }
        None => conditions.push(PodCondition {
            type_: "PodScheduled".into(),
            status: "False".into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_transition_time: Some(now()),
            ..PodCondition::default()
        }),
    }
    changed.status.get_or_insert_default().phase = Some("Pending".into());
    context.replace_status(&changed).await?;
    if reason == "Unschedulable" {
        context
            .recorder
            .warning(pod, COMPONENT, "FailedScheduling", message.to_owned());
    }
    Ok(Action::Wait)
}
