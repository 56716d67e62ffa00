//! What the program's exit status says; scripts rely on it.

use std::process::ExitCode;

/// How a command ended. `choreo --help` and `docs/reference/cli.md` list these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExitStatus {
    /// Done (0).
    Success,
    /// It failed, or something is not as it should be (1).
    Failure,
    /// The command line itself is wrong (2); clap uses the same number.
    Usage,
    /// What was waited for has not happened in time (3).
    TimedOut,
    /// The object or kind that was named is not there (4).
    NotFound,
    /// No API server could be reached (5).
    Unreachable,
    /// As the command ended that was run in a container.
    Command(u8),
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        ExitCode::from(match status {
            ExitStatus::Success => 0,
            ExitStatus::Failure => 1,
            ExitStatus::Usage => 2,
            ExitStatus::TimedOut => 3,
            ExitStatus::NotFound => 4,
            ExitStatus::Unreachable => 5,
            ExitStatus::Command(code) => code,
        })
    }
}
