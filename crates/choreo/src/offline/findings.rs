//! What is wrong with files, each at its place.

use choreo_api::manifest::Position;

use crate::failure::Failure;
use crate::output::{Printer, style};
use crate::text::count;

/// Something in a file that somebody should look at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// Where.
    pub(crate) position: Position,
    /// Nothing is wrong, but something is missing that may still come.
    pub(crate) warning: bool,
    /// Field, what is wrong, and what to do.
    pub(crate) message: String,
}

impl Finding {
    /// A mistake.
    pub(crate) fn error(position: Position, message: impl Into<String>) -> Self {
        Self {
            position,
            warning: false,
            message: message.into(),
        }
    }

    /// Something that is missing.
    pub(crate) fn warning(position: Position, message: impl Into<String>) -> Self {
        Self {
            position,
            warning: true,
            message: message.into(),
        }
    }

    /// `app.yaml:3:5: error: spec.x: ...`
    pub(crate) fn line(&self) -> String {
        let label = if self.warning {
            style::paint(style::WAIT, "warning:")
        } else {
            style::paint(style::BAD, "error:")
        };
        format!(
            "{} {label} {}",
            style::paint(style::BOLD, format!("{}:", self.position)),
            self.message
        )
    }
}

/// Shows all findings in the order of the files; an error among them is a failure. `consequence` says what was not done.
pub(crate) fn report(
    mut findings: Vec<Finding>,
    consequence: &str,
    printer: &mut Printer,
) -> Result<(), Failure> {
    findings.sort();
    findings.dedup();
    for finding in &findings {
        printer.note(finding.line())?;
    }
    let errors = findings.iter().filter(|finding| !finding.warning).count();
    if errors == 0 {
        return Ok(());
    }
    Err(Failure::new(format!("{}{consequence}", count(errors, "error"))))
}
