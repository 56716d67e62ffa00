//! How the number of replicas follows the load, and how few may be left while nodes are drained.

use choreo_api::{
    conditions::reasons,
    v1alpha1::common::{Autoscaling, Disruption, ReleaseState},
};
use serde_json::{Map, Value, json};

use super::{Input, meta::Meta, workload::Class};
use crate::problem::{Problem, Problems};

pub(super) fn render(input: &Input<'_>, meta: &Meta) -> Result<Vec<Value>, Problems> {
    let class = Class::of(input)?;
    let mut problems = Problems::new();
    let mut objects = Vec::new();
    if let Some(autoscaling) = class.autoscaling(input) {
        match autoscaler(autoscaling, meta) {
            Ok(object) => objects.push(object),
            Err(why) => problems.push(Problem::error(
                reasons::RENDER_FAILED,
                format!("autoscaling of {}, or of the overrides: {why}", class.describe),
            )),
        }
    }
    let disruption = input.overrides.disruption.as_ref().or(class.disruption.as_ref());
    if let Some(disruption) = disruption.filter(|_| input.state == ReleaseState::Active) {
        objects.extend(budget(disruption, meta));
    }
    problems.or_ok(objects)
}

fn autoscaler(autoscaling: &Autoscaling, meta: &Meta) -> Result<Value, &'static str> {
    let Autoscaling {
        min_replicas,
        max_replicas,
        cpu_threshold,
        memory_threshold,
    } = autoscaling;
    let max = max_replicas.ok_or("maxReplicas is required")?;
    let min = min_replicas.unwrap_or(1);
    if min < 1 {
        return Err(
            "minReplicas must be at least 1: scaling to zero needs a request to wake it, which is not supported yet",
        );
    }
    if min > max {
        return Err("minReplicas must not be greater than maxReplicas");
    }
    let metric = |name: &str, percent: i32| json!({"type": "Resource", "resource": {"name": name, "target": {"type": "Utilization", "averageUtilization": percent}}});
    let mut metrics = Vec::new();
    metrics.extend(cpu_threshold.map(|percent| metric("cpu", percent)));
    metrics.extend(memory_threshold.map(|percent| metric("memory", percent)));
    if metrics.is_empty() {
        metrics.push(metric("cpu", 80));
    }
    let mut object = meta.object("autoscaling/v2", "HorizontalPodAutoscaler", &meta.name);
    object.insert(
        "spec".to_owned(),
        json!({
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": meta.name},
            "minReplicas": min,
            "maxReplicas": max,
            "metrics": metrics,
        }),
    );
    Ok(Value::Object(object))
}

fn budget(disruption: &Disruption, meta: &Meta) -> Option<Value> {
    let mut spec = Map::new();
    spec.insert("selector".to_owned(), json!({"matchLabels": meta.selector}));
    match (&disruption.min_available, &disruption.max_unavailable) {
        (Some(min), _) => spec.insert("minAvailable".to_owned(), json!(min)),
        (None, Some(max)) => spec.insert("maxUnavailable".to_owned(), json!(max)),
        (None, None) => return None,
    };
    let mut object = meta.object("policy/v1", "PodDisruptionBudget", &meta.name);
    object.insert("spec".to_owned(), Value::Object(spec));
    Some(Value::Object(object))
}
