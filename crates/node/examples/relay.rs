//! The relay and the sandbox of cells without the rest of the platform, for tests with a real container engine.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    choreo_node::command(&arguments).unwrap_or(ExitCode::FAILURE)
}
