//! Traits: what they add to a component's objects, change in them, and take out.

use choreo_api::v1alpha1::{PatchOp, PatchOperation, PatchTarget, TraitPatch, TraitSpec};
use choreo_apimachinery::patch;
use choreo_cel::typing::Type;
use serde_json::{Map, Value, json};

use super::{
    evaluate::{Budget, Made, condition, failed, items, made, scalar, value},
    form,
    variables::Variables,
};
use crate::{problem::Problems, render::registry};

/// Carries a trait out: creates, then patches, then removes.
///
/// A target that names an id or a kind and has no condition must be there; one with a condition may match nothing.
///
/// # Errors
/// Everything that is wrong; the objects are then as they may be.
pub fn apply_trait(
    of: &str,
    spec: &TraitSpec,
    variables: &Variables,
    objects: &mut Vec<Made>,
    budget: &mut Budget,
) -> Result<(), Problems> {
    let mut problems = Problems::new();
    if let Some(created) = problems.take(made(
        &format!("{of} spec.creates"),
        &spec.creates,
        variables,
        budget,
    )) {
        objects.extend(created);
    }
    for (i, patch) in spec.patches.iter().enumerate() {
        let field = format!("{of} spec.patches[{i}]");
        problems.take(change(&field, patch, variables, objects, budget));
    }
    for (i, removal) in spec.removes.iter().enumerate() {
        let field = format!("{of} spec.removes[{i}]");
        if let Some(when) = &removal.when {
            match condition(&format!("{field}.when"), when, variables, budget) {
                Ok(true) => {}
                Ok(false) => continue,
                Err(problem) => {
                    problems.push(problem);
                    continue;
                }
            }
        }
        let target = targets(
            &format!("{field}.target"),
            &removal.target,
            variables,
            objects,
            budget,
        );
        if let Some(found) = problems.take(target) {
            let mut at = 0;
            objects.retain(|_| {
                at += 1;
                !found.contains(&(at - 1))
            });
        }
    }
    problems.or_ok(())
}

/// The indices of the objects that are meant.
fn targets(
    field: &str,
    target: &PatchTarget,
    variables: &Variables,
    objects: &[Made],
    budget: &mut Budget,
) -> Result<Vec<usize>, Problems> {
    let mut found = Vec::new();
    for (i, object) in objects.iter().enumerate() {
        let (group, version) = object
            .api_version()
            .rsplit_once('/')
            .unwrap_or(("", object.api_version()));
        let named = target.group.as_deref().is_none_or(|g| g == group)
            && target.version.as_deref().is_none_or(|v| v == version)
            && target.kind.as_deref().is_none_or(|k| k == object.kind())
            && target.id.as_deref().is_none_or(|id| id == object.id);
        // What opens or guards the cell is not there for traits.
        if !named || form::is_platform_kind(object.api_version(), object.kind()) {
            continue;
        }
        if let Some(source) = &target.r#where {
            let variables = variables.with("resource", Type::Dyn, object.object.clone());
            if !condition(&format!("{field}.where"), source, &variables, budget)? {
                continue;
            }
        }
        found.push(i);
    }
    if found.is_empty() && target.r#where.is_none() {
        let what = [
            target.kind.as_ref().map(|k| format!("kind {k:?}")),
            target.id.as_ref().map(|id| format!("id {id:?}")),
        ];
        let what: Vec<String> = what.into_iter().flatten().collect();
        let mut there: Vec<&str> = objects.iter().map(Made::kind).collect();
        there.sort_unstable();
        there.dedup();
        return Err(failed(
            field,
            format!(
                "the component has no object of {} (it has {}); give a condition (where) if that may be so",
                what.join(" and "),
                there.join(", ")
            ),
        )
        .into());
    }
    Ok(found)
}

fn change(
    field: &str,
    patch: &TraitPatch,
    variables: &Variables,
    objects: &mut [Made],
    budget: &mut Budget,
) -> Result<(), Problems> {
    let mut problems = Problems::new();
    for variables in items(
        field,
        patch.for_each.as_deref(),
        patch.var.as_deref(),
        variables,
        budget,
    )? {
        let found = targets(
            &format!("{field}.target"),
            &patch.target,
            &variables,
            objects,
            budget,
        )?;
        for at in found {
            let Some(object) = objects.get_mut(at) else {
                continue;
            };
            let variables = variables.with("resource", Type::Dyn, object.object.clone());
            let changed = problems.take(changed(field, patch, &variables, object, budget));
            if let Some(changed) = changed {
                object.object = changed;
            }
        }
    }
    problems.or_ok(())
}

fn changed(
    field: &str,
    patch: &TraitPatch,
    variables: &Variables,
    made: &Made,
    budget: &mut Budget,
) -> Result<Value, Problems> {
    let describe = || format!("{} {:?}", made.kind(), made.name());
    let changed = if let Some(merge) = &patch.merge {
        let field = format!("{field}.merge");
        let merge = value(&field, merge, variables, budget)?.unwrap_or_else(|| json!({}));
        match registry::kind(made.api_version(), made.kind()) {
            Some(info) => patch::strategic(&info.schema(), &made.object, &merge)
                .map_err(|e| failed(&field, format!("{}: {}", describe(), e.message)))?,
            None => patch::merge(&made.object, &merge),
        }
    } else {
        let mut operations = Vec::new();
        let mut problems = Problems::new();
        for (i, one) in patch.operations.iter().enumerate() {
            let field = format!("{field}.operations[{i}]");
            operations.extend(problems.take(operation(&field, one, variables, budget)));
        }
        let operations = problems.or_ok(Value::Array(operations))?;
        patch::json(&made.object, operations.to_string().as_bytes()).map_err(|e| {
            failed(
                &format!("{field}.operations"),
                format!("{}: {}", describe(), e.message),
            )
        })?
    };
    // An object that changes its identity would be another one, and the first one would be gone.
    for pointer in ["/apiVersion", "/kind", "/metadata/name", "/metadata/namespace"] {
        if changed.pointer(pointer) != made.object.pointer(pointer) {
            let what = pointer.trim_start_matches('/').replace('/', ".");
            return Err(failed(field, format!("{}: {what} cannot be changed", describe())).into());
        }
    }
    Ok(changed)
}

fn operation(
    field: &str,
    operation: &PatchOperation,
    variables: &Variables,
    budget: &mut Budget,
) -> Result<Value, Problems> {
    let mut text = |name: &str, source: &str| -> Result<Value, Problems> {
        let field = format!("{field}.{name}");
        let found = value(&field, &Value::String(source.to_owned()), variables, budget)?;
        let found = found.as_ref().and_then(scalar);
        Ok(found
            .map(Value::String)
            .ok_or_else(|| failed(&field, "a text is expected"))?)
    };
    let mut out = Map::new();
    let op = match operation.op {
        PatchOp::Add => "add",
        PatchOp::Replace => "replace",
        PatchOp::Remove => "remove",
        PatchOp::Move => "move",
        PatchOp::Copy => "copy",
        PatchOp::Test => "test",
    };
    out.insert("op".to_owned(), json!(op));
    out.insert("path".to_owned(), text("path", &operation.path)?);
    if let Some(from) = &operation.from {
        out.insert("from".to_owned(), text("from", from)?);
    }
    if let Some(template) = &operation.value {
        let value = value(&format!("{field}.value"), template, variables, budget)?;
        out.insert("value".to_owned(), value.unwrap_or_default());
    }
    Ok(Value::Object(out))
}
