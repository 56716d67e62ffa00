//! The one error of commands: what failed, why, and what to do about it.

use std::fmt::Display;

use crate::exit::ExitStatus;

/// How a command ends.
pub(crate) type Outcome = Result<ExitStatus, Failure>;

/// A failure as it is shown:
///
/// ```text
/// error: cannot read app.yaml
///   cause: permission denied
///   hint: ...
/// ```
#[derive(Debug)]
pub(crate) struct Failure {
    /// What was attempted, on what. Empty when the reader has gone away (a closed pipe) and nothing is to be shown.
    pub(crate) what: String,
    /// Why it failed, outermost first; one line each.
    pub(crate) causes: Vec<String>,
    /// What the reader can do.
    pub(crate) hint: Option<String>,
    /// The exit status.
    pub(crate) status: ExitStatus,
}

impl Failure {
    /// Something failed.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            causes: vec![],
            hint: None,
            status: ExitStatus::Failure,
        }
    }

    /// The command line asks for something that makes no sense.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self::new(what).status(ExitStatus::Usage)
    }

    /// Adds a cause.
    pub(crate) fn cause(mut self, cause: impl Display) -> Self {
        self.causes.extend(cause.to_string().lines().map(str::to_owned));
        self
    }

    /// Adds an error and the errors behind it, leaving out those whose text the one before has already told.
    pub(crate) fn because(mut self, error: &dyn std::error::Error) -> Self {
        let mut error = Some(error);
        while let Some(current) = error {
            let text = current.to_string();
            if !self
                .causes
                .last()
                .is_some_and(|last| last.contains(text.trim_end()))
            {
                self = self.cause(text);
            }
            error = current.source();
        }
        self
    }

    /// Says what to do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Sets the exit status.
    pub(crate) fn status(mut self, status: ExitStatus) -> Self {
        self.status = status;
        self
    }
}

impl From<std::io::Error> for Failure {
    /// Errors of our own output. A reader that has closed the pipe (`choreo get ... | head`) wants silence.
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Failure::new("").status(ExitStatus::Success);
        }
        Failure::new("cannot write the output").cause(error)
    }
}
