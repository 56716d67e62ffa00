//! Argo's Workflow: its steps succeed one after the other without running anything. What a real one would get to know by cloning and
//! building (a commit, a digest) is made up from the parameters, so that the same build gives the same image.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api,
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::set_status;
use crate::{
    core::{Action, Context, Error, Name, Result, now},
    simulator::{Behavior, CONTAINER},
};

/// The step that fails when the annotations ask for a failure and name no step.
const USUAL_SUSPECT: &str = "build-step";

/// A commit is forty digits long.
const COMMIT: usize = 40;

/// A step of a workflow: its name and its template.
struct Step {
    name: String,
    template: Value,
}

pub(super) async fn reconcile(context: &Context, workflow: &DynamicObject) -> Result<Action> {
    let phase = workflow.data.pointer("/status/phase").and_then(Value::as_str);
    if matches!(phase, Some("Succeeded" | "Failed" | "Error")) {
        return Ok(Action::Wait);
    }
    let template = match template(context, workflow).await? {
        Ok(template) => template,
        Err(why) => return set_status(context, workflow, ended("Error", &why, workflow, &json!({}))).await,
    };
    let parameters = match parameters(workflow, &template) {
        Ok(parameters) => parameters,
        Err(why) => return set_status(context, workflow, ended("Error", &why, workflow, &json!({}))).await,
    };
    let steps = steps(&template);
    let Some(started) = workflow
        .data
        .pointer("/status/startedAt")
        .cloned()
        .filter(|_| phase.is_some())
    else {
        let nodes = nodes(workflow, &steps, &parameters, Some((0, "Running", "")));
        let status = json!({"phase": "Running", "startedAt": now(), "progress": format!("0/{}", steps.len()), "nodes": nodes});
        return set_status(context, workflow, status).await;
    };
    let suspect = suspect(workflow);
    let position = steps.iter().position(|step| step.name == suspect);
    let failed = |position: Option<usize>, message: &str| {
        let at = position.unwrap_or(0);
        let nodes = nodes(workflow, &steps, &parameters, Some((at, "Failed", message)));
        ended(
            "Failed",
            &format!("child '{}-{suspect}' failed", Name::of(workflow).name),
            workflow,
            &nodes,
        )
    };
    let delay = match behavior(workflow, &suspect) {
        Behavior::CrashLoop => {
            let status = failed(position, "Error (exit code 1): simulated");
            return set_status(context, workflow, status).await;
        }
        Behavior::ImagePullError => {
            let status = failed(position, "ErrImagePull: simulated");
            return set_status(context, workflow, status).await;
        }
        Behavior::NotReady => return Ok(Action::Wait),
        Behavior::Healthy { delay } | Behavior::SlowStart { delay } => delay,
    };
    let left = left(&started, delay);
    if !left.is_zero() {
        return Ok(Action::After(left));
    }
    let nodes = nodes(workflow, &steps, &parameters, None);
    let mut status = ended("Succeeded", "", workflow, &nodes);
    status["progress"] = json!(format!("{0}/{0}", steps.len()));
    set_status(context, workflow, status).await
}

/// How much of a delay is left since a time.
fn left(since: &Value, delay: Duration) -> Duration {
    let Some(since) = since
        .as_str()
        .and_then(|text| text.parse::<jiff::Timestamp>().ok())
    else {
        return Duration::ZERO;
    };
    let passed = Duration::try_from(jiff::Timestamp::now().duration_since(since)).unwrap_or_default();
    delay.saturating_sub(passed)
}

/// The annotations of a workflow are those of the pods that it would have.
fn pod(workflow: &DynamicObject) -> Pod {
    let mut annotations = workflow.metadata.annotations.clone().unwrap_or_default();
    let of_pods = workflow.data.pointer("/spec/podMetadata/annotations");
    let of_pods: BTreeMap<String, String> = of_pods
        .and_then(|value| serde_json::from_value(value.clone()).ok())
        .unwrap_or_default();
    annotations.extend(of_pods);
    Pod {
        metadata: ObjectMeta {
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        ..Pod::default()
    }
}

fn suspect(workflow: &DynamicObject) -> String {
    let annotations = pod(workflow).metadata.annotations.unwrap_or_default();
    annotations
        .get(CONTAINER)
        .cloned()
        .unwrap_or_else(|| USUAL_SUSPECT.to_owned())
}

fn behavior(workflow: &DynamicObject, step: &str) -> Behavior {
    Behavior::of(&pod(workflow), step).0
}

/// The spec that the workflow is made from: its own, or that of the template that it names. The inner error is what Argo says.
async fn template(context: &Context, workflow: &DynamicObject) -> Result<std::result::Result<Value, String>> {
    let Some(reference) = workflow.data.pointer("/spec/workflowTemplateRef") else {
        return Ok(Ok(workflow.data["spec"].clone()));
    };
    let name = reference["name"].as_str().unwrap_or_default();
    let in_cluster = reference["clusterScope"] == json!(true);
    let (kind, plural) = if in_cluster {
        ("ClusterWorkflowTemplate", "clusterworkflowtemplates")
    } else {
        ("WorkflowTemplate", "workflowtemplates")
    };
    let gvk = GroupVersionKind::gvk("argoproj.io", "v1alpha1", kind);
    let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
    let namespace = workflow.metadata.namespace.clone().unwrap_or_default();
    let api: Api<DynamicObject> = if in_cluster {
        Api::all_with(context.client.clone(), &resource)
    } else {
        Api::namespaced_with(context.client.clone(), &namespace, &resource)
    };
    let found = api.get_opt(name).await.map_err(|source| Error::Api {
        action: "read",
        kind: kind.to_owned(),
        name: Name::new(&namespace, name),
        source: Box::new(source),
    })?;
    Ok(match found {
        Some(found) => Ok(found.data["spec"].clone()),
        None => Err(format!("{plural}.argoproj.io {name:?} not found")),
    })
}

/// The parameters of a workflow over those of its template. All that the template declares must have a value.
fn parameters(
    workflow: &DynamicObject,
    template: &Value,
) -> std::result::Result<BTreeMap<String, String>, String> {
    let declared =
        |spec: Option<&Value>| -> Vec<Value> { spec.and_then(Value::as_array).cloned().unwrap_or_default() };
    let mut all = BTreeMap::new();
    let mut missing = Vec::new();
    let own = declared(workflow.data.pointer("/spec/arguments/parameters"));
    for parameter in declared(template.pointer("/arguments/parameters"))
        .iter()
        .chain(&own)
    {
        let name = parameter["name"].as_str().unwrap_or_default().to_owned();
        match parameter["value"].as_str().or(parameter["default"].as_str()) {
            Some(value) => {
                all.insert(name, value.to_owned());
            }
            None => missing.push(name),
        }
    }
    missing.retain(|name| !all.contains_key(name));
    match missing.first() {
        None => Ok(all),
        Some(name) => Err(format!(
            "spec.arguments.{name}.value or spec.arguments.{name}.valueFrom is required"
        )),
    }
}

/// The steps of the entry point, in order; an entry point without steps is the only one.
fn steps(template: &Value) -> Vec<Step> {
    let templates = template["templates"].as_array().cloned().unwrap_or_default();
    let by_name = |name: &Value| templates.iter().find(|t| t["name"] == *name).cloned();
    let Some(entry) = by_name(&template["entrypoint"]) else {
        return Vec::new();
    };
    let Some(groups) = entry["steps"].as_array() else {
        let name = entry["name"].as_str().unwrap_or_default().to_owned();
        return vec![Step {
            name,
            template: entry,
        }];
    };
    groups
        .iter()
        .flat_map(|group| group.as_array().into_iter().flatten())
        .map(|step| Step {
            name: step["name"].as_str().unwrap_or_default().to_owned(),
            template: by_name(&step["template"]).unwrap_or_default(),
        })
        .collect()
}

/// The nodes of all steps up to the last one, which is in a phase of its own if one is given.
fn nodes(
    workflow: &DynamicObject,
    steps: &[Step],
    parameters: &BTreeMap<String, String>,
    last: Option<(usize, &str, &str)>,
) -> Value {
    let name = Name::of(workflow).name;
    let count = last.map_or(steps.len(), |(at, ..)| at + 1);
    let mut nodes = json!({});
    for (at, step) in steps.iter().take(count).enumerate() {
        let (phase, message) = match last {
            Some((last, phase, message)) if last == at => (phase, message),
            _ => ("Succeeded", ""),
        };
        let id = format!("{name}-{at}");
        let mut node = json!({
            "id": id,
            "name": format!("{name}[{at}].{}", step.name),
            "displayName": step.name,
            "templateName": step.template["name"],
            "type": "Pod",
            "phase": phase,
        });
        if !message.is_empty() {
            node["message"] = json!(message);
        }
        let outputs: Vec<Value> = outputs(step, parameters)
            .into_iter()
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        if phase == "Succeeded" && !outputs.is_empty() {
            node["outputs"] = json!({"parameters": outputs});
        }
        nodes[id] = node;
    }
    nodes
}

/// The outputs of a step that can be made up; there is no source from which to tell others.
fn outputs(step: &Step, parameters: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let declared = step
        .template
        .pointer("/outputs/parameters")
        .and_then(Value::as_array);
    let names = declared.into_iter().flatten().filter_map(|p| p["name"].as_str());
    names
        .filter_map(|name| {
            let value = match name {
                "git-revision" => revision(parameters),
                "image" => image(parameters),
                _ => return None,
            };
            Some((name.to_owned(), value))
        })
        .collect()
}

fn of<'p>(parameters: &'p BTreeMap<String, String>, name: &str) -> &'p str {
    parameters.get(name).map_or("", String::as_str)
}

fn digest(parts: &[&str]) -> String {
    hex::encode(Sha256::digest(parts.join("\0")))
}

/// The commit that was asked for, or one that stands for the newest of the branch.
fn revision(parameters: &BTreeMap<String, String>) -> String {
    match of(parameters, "commit") {
        "" => {
            let mut made_up = digest(&[of(parameters, "git-repo"), of(parameters, "branch")]);
            made_up.truncate(COMMIT);
            made_up
        }
        commit => commit.to_owned(),
    }
}

fn image(parameters: &BTreeMap<String, String>) -> String {
    let digest = digest(&[
        of(parameters, "git-repo"),
        &revision(parameters),
        of(parameters, "app-path"),
    ]);
    let name = of(parameters, "image-name");
    match of(parameters, "registry") {
        "" => format!("{name}@sha256:{digest}"),
        registry => format!("{registry}/{name}@sha256:{digest}"),
    }
}

fn ended(phase: &str, message: &str, workflow: &DynamicObject, nodes: &Value) -> Value {
    let started = workflow.data.pointer("/status/startedAt").cloned();
    let mut status = json!({
        "phase": phase,
        "startedAt": started.unwrap_or_else(|| json!(now())),
        "finishedAt": now(),
        "nodes": nodes,
    });
    if !message.is_empty() {
        status["message"] = json!(message);
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(values: &[(&str, &str)]) -> BTreeMap<String, String> {
        values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn the_same_source_gives_the_same_image_and_another_one_another() {
        let source = given(&[
            ("git-repo", "https://x"),
            ("branch", "main"),
            ("image-name", "o/p-c"),
            ("registry", "r"),
        ]);
        let image = image(&source);
        assert!(
            image.starts_with("r/o/p-c@sha256:") && image.len() == "r/o/p-c@sha256:".len() + 64,
            "{image}"
        );
        assert_eq!(image, super::image(&source));
        for (name, value) in [
            ("git-repo", "https://y"),
            ("branch", "next"),
            ("commit", "0a1b2c3"),
            ("app-path", "/b"),
        ] {
            let mut other = source.clone();
            other.insert(name.to_owned(), value.to_owned());
            assert_ne!(super::image(&other), image, "{name}");
        }
        assert_eq!(revision(&source).len(), COMMIT);
        assert_eq!(
            revision(&given(&[("commit", "0a1b2c3"), ("branch", "main")])),
            "0a1b2c3"
        );
    }

    #[test]
    fn a_parameter_without_a_value_is_required() {
        let workflow: DynamicObject = serde_json::from_value(json!({
            "metadata": {"name": "w"}, "spec": {"arguments": {"parameters": [{"name": "b", "value": "2"}]}},
        }))
        .unwrap();
        let template = |a: Value| json!({"arguments": {"parameters": [a, {"name": "b"}]}});
        assert_eq!(
            parameters(&workflow, &template(json!({"name": "a", "value": "1"}))),
            Ok(given(&[("a", "1"), ("b", "2")]))
        );
        assert_eq!(
            parameters(&workflow, &template(json!({"name": "a"}))),
            Err("spec.arguments.a.value or spec.arguments.a.valueFrom is required".to_owned())
        );
    }
}
