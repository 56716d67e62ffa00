//! An API: a door to something that runs elsewhere, or to a workload of its own.

use serde_json::Value;

use super::{Input, meta::Meta, route, scaling, service, workload};
use crate::problem::Problems;

/// Whether the API runs something itself.
pub(super) fn has_pods(input: &Input<'_>) -> bool {
    input.source.workload.is_some()
}

pub(super) fn render(input: &Input<'_>, meta: &Meta) -> Result<Vec<Value>, Problems> {
    let mut problems = Problems::new();
    let mut objects = Vec::new();
    if has_pods(input) {
        objects.extend(problems.take(workload::render(input, meta)));
        objects.extend(problems.take(service::render(input, meta)).flatten());
        objects.extend(problems.take(scaling::render(input, meta)).unwrap_or_default());
    }
    objects.extend(problems.take(route::render(input, meta)).unwrap_or_default());
    problems.or_ok(objects)
}
