//! An API: a door to something that runs elsewhere.

use choreo_api::conditions::reasons;
use serde_json::Value;

use super::{Input, meta::Meta};
use crate::problem::{Problem, Problems};

pub(super) fn render(input: &Input<'_>, _meta: &Meta) -> Result<Vec<Value>, Problems> {
    Err(Problem::error(
        reasons::NOT_SUPPORTED,
        format!(
            "Component {:?} spec.type: APIs cannot be deployed yet",
            input.component
        ),
    )
    .into())
}
