//! A component of a type that the platform team defined: the objects that its ComponentType's templates make, with its traits over them.

use choreo_api::conditions::reasons;
use serde_json::Value;

use super::{Input, meta::Meta};
use crate::problem::{Problem, Problems};

pub(super) fn render(input: &Input<'_>, _meta: &Meta) -> Result<Vec<Value>, Problems> {
    Err(Problem::error(
        reasons::NOT_SUPPORTED,
        format!(
            "Component {:?} spec.type: components of a ComponentType cannot be deployed yet",
            input.component
        ),
    )
    .into())
}
