//! What a promotion would change, rendered.

use std::collections::BTreeMap;

use choreo_api::names;
use choreo_api::v1alpha1::{DeployableArtifact, Promotion, PromotionSpec, Release, common::ReleaseState};
use choreo_cel::{Bindings, Limits, Program};
use choreo_promotion::{Check, Finding};
use kube::ResourceExt as _;
use serde_json::{Map, Value, json};

use super::lane::{LaneKey, binding_of};
use super::{effective, jobs};
use crate::{
    binding::{self, Binding},
    hash, plans,
    world::{AnyObject, Kind, World},
};

/// One object that a promotion changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Kind and name.
    pub object: String,
    /// As it is; none if it is new.
    pub before: Option<Value>,
    /// As it would be; none if it goes.
    pub after: Option<Value>,
}

/// What a promotion would change.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Preview {
    /// The objects that differ, by kind and name.
    pub changes: Vec<Change>,
    /// What stands in the way of rendering it.
    pub problems: Vec<String>,
    /// Digest of all that.
    pub digest: String,
}

impl Preview {
    /// The changes, a line for each object and each field that differs. Values of Secrets are not told.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for Change {
            object,
            before,
            after,
        } in &self.changes
        {
            match (before, after) {
                (Some(before), Some(after)) => {
                    lines.push(format!("~ {object}"));
                    if after["kind"] != "Secret" {
                        let mut fields = Vec::new();
                        differences("", before, after, &mut fields);
                        let more = fields.len().saturating_sub(FIELDS);
                        fields.truncate(FIELDS);
                        lines.extend(fields.into_iter().map(|field| format!("    {field}")));
                        if more > 0 {
                            lines.push(format!("    ... and {more} more fields"));
                        }
                    }
                }
                (None, _) => lines.push(format!("+ {object}")),
                (_, None) => lines.push(format!("- {object}")),
            }
        }
        lines.extend(self.problems.iter().map(|problem| format!("! {problem}")));
        lines
    }
}

/// As many fields of an object are told.
const FIELDS: usize = 12;
/// As many characters of a value are told.
const VALUE: usize = 80;

fn differences(path: &str, before: &Value, after: &Value, out: &mut Vec<String>) {
    let shown = |value: &Value| {
        let text = value.to_string();
        match text.char_indices().nth(VALUE) {
            Some((end, _)) => format!("{}...", &text[..end]),
            None => text,
        }
    };
    match (before, after) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                let (was, is) = (
                    a.get(key).unwrap_or(&Value::Null),
                    b.get(key).unwrap_or(&Value::Null),
                );
                differences(&path, was, is, out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (was, is)) in a.iter().zip(b).enumerate() {
                differences(&format!("{path}[{i}]"), was, is, out);
            }
        }
        (a, b) if a != b => out.push(format!("{path}: {} -> {}", shown(a), shown(b))),
        _ => {}
    }
}

/// The binding of an artifact in the target environment: the one that is there, or the one that would be made.
pub(super) fn binding_in(
    world: &World,
    namespace: &str,
    spec: &PromotionSpec,
    artifact: &DeployableArtifact,
) -> Option<Binding> {
    let component = &spec.owner.component_name;
    let there = binding_of(
        world,
        namespace,
        component,
        spec.track(),
        &spec.target_environment,
    );
    there.or_else(|| {
        let object = new_binding(spec, namespace, artifact);
        let object = AnyObject::from_value(&object).ok()?;
        Binding::of(world, &object)
    })
}

/// The binding that a promotion makes where there is none yet.
pub fn new_binding(spec: &PromotionSpec, namespace: &str, artifact: &DeployableArtifact) -> Value {
    let kind = binding::kind_for(&artifact.spec);
    let name = names::binding(&spec.owner.component_name, spec.track(), &spec.target_environment);
    let mut own = Map::new();
    own.insert("owner".to_owned(), json!(spec.owner));
    if !crate::world::is_default_track(spec.track()) {
        own.insert("track".to_owned(), json!(spec.track()));
    }
    match (kind, &artifact.spec.api) {
        (Kind::APIBinding, Some(api)) => {
            own.insert("environmentName".to_owned(), json!(spec.target_environment));
            own.insert("apiName".to_owned(), json!(spec.owner.component_name));
            own.insert("apiClassName".to_owned(), json!(api.api.class_name));
        }
        _ => {
            own.insert("environment".to_owned(), json!(spec.target_environment));
        }
    }
    own.insert("artifactRef".to_owned(), json!(artifact.name_any()));
    json!({
        "apiVersion": kind.api_version(),
        "kind": kind.as_str(),
        "metadata": {"name": name, "namespace": namespace},
        "spec": own,
    })
}

/// Where the new revision of a blue-green rollout can be looked at; none if nothing is rolled out in that way.
pub fn preview_addresses(world: &World, key: &LaneKey) -> Vec<String> {
    let found = binding_of(
        world,
        &key.namespace,
        &key.component,
        &key.track,
        &key.environment,
    );
    let Some(mut binding) = found else {
        return Vec::new();
    };
    match effective::effective(world, &binding) {
        effective::Effective::Two(side) if side.preview => {
            binding.artifact = Some(side.candidate);
            plans::preview_addresses(world, &binding)
        }
        _ => Vec::new(),
    }
}

/// What a promotion of an artifact would change in the target environment, as things are.
pub fn preview(world: &World, namespace: &str, spec: &PromotionSpec, artifact: Option<&str>) -> Preview {
    let mut preview = Preview::default();
    let kept = artifact.and_then(|name| world.get::<DeployableArtifact>(namespace, name));
    if let Some(kept) = kept
        && let Some(mut binding) = binding_in(world, namespace, spec, kept)
    {
        binding.artifact = Some(kept.name_any());
        binding.state = ReleaseState::Active;
        let release = world.get::<Release>(namespace, &names::release(binding.name()));
        let objects = |resources: Vec<choreo_api::v1alpha1::ReleaseResource>| -> BTreeMap<String, Value> {
            resources.into_iter().map(|r| (r.id, r.object)).collect()
        };
        let mut before = objects(
            release
                .and_then(|r| Some(r.spec.resources.open().ok()?.into_owned()))
                .unwrap_or_default(),
        );
        match plans::rendered_objects(world, &binding) {
            Ok(after) => {
                for (id, after) in objects(after) {
                    let was = before.remove(&id);
                    if was.as_ref() != Some(&after) {
                        preview.changes.push(Change {
                            object: id,
                            before: was,
                            after: Some(after),
                        });
                    }
                }
                let gone = before.into_iter().map(|(object, before)| Change {
                    object,
                    before: Some(before),
                    after: None,
                });
                preview.changes.extend(gone);
            }
            Err(problems) => {
                preview.problems = problems.as_slice().iter().map(|p| p.message.clone()).collect();
            }
        }
    }
    let all: Vec<(&String, &Option<Value>, &Option<Value>)> = preview
        .changes
        .iter()
        .map(|c| (&c.object, &c.before, &c.after))
        .collect();
    preview.digest = hash::sha256(&(artifact, all, &preview.problems)).unwrap_or_default();
    preview
}

/// What a gate that is a rule says; none if the gate is no rule.
pub(super) fn rule_report(
    world: &World,
    namespace: &str,
    promotion: &Promotion,
    artifact: &str,
    check: &Check,
) -> Option<(Finding, String)> {
    let gate = jobs::gate_for(world, namespace, promotion, &check.name, check.round)?;
    let rule = gate.rule.as_ref()?;
    let spec = &promotion.spec;
    let component = world.get::<choreo_api::v1alpha1::Component>(namespace, &spec.owner.component_name);
    let Some(kept) = world.get::<DeployableArtifact>(namespace, artifact) else {
        return Some((
            Finding::Inconclusive,
            format!("DeployableArtifact {artifact:?} is gone"),
        ));
    };
    let named = |mut value: Value, name: &str| {
        value["name"] = json!(name);
        value
    };
    let of_artifact = named(json!(kept.spec), artifact);
    let workload = json!(kept.spec.workload);
    let of_component = component.map_or_else(
        || json!({}),
        |component| {
            let mut value = named(json!(component.spec), &component.name_any());
            value["labels"] = json!(component.metadata.labels.clone().unwrap_or_default());
            value
        },
    );
    let mut bindings = Bindings::new();
    bindings.bind("artifact", &of_artifact);
    bindings.bind("workload", &workload);
    bindings.bind("component", &of_component);
    let verdict = Program::compile(rule, &Limits::default())
        .map_err(|e| e.to_string())
        .and_then(|program| {
            program
                .eval(&bindings, &Limits::default())
                .map_err(|e| e.to_string())
        });
    Some(match verdict {
        Ok(Value::Bool(true)) => (Finding::Passed, "the rule holds".to_owned()),
        Ok(Value::Bool(false)) => (Finding::Failed, format!("the rule does not hold: {rule}")),
        Ok(_) => (
            Finding::Inconclusive,
            "the rule says neither true nor false".to_owned(),
        ),
        Err(error) => (
            Finding::Inconclusive,
            format!("the rule cannot be evaluated: {error}"),
        ),
    })
}
