//! A task: a CronJob, and a Job for each run that somebody asked for.

use choreo_api::conditions::reasons;
use serde_json::Value;

use super::{Input, meta::Meta};
use crate::problem::{Problem, Problems};

pub(super) fn render(input: &Input<'_>, _meta: &Meta) -> Result<Vec<Value>, Problems> {
    Err(Problem::error(
        reasons::NOT_SUPPORTED,
        format!(
            "Component {:?} spec.type: tasks cannot be deployed yet",
            input.component
        ),
    )
    .into())
}
