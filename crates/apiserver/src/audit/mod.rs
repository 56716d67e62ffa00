//! Audit: who asked for what, and what became of it, as lines of JSON in a file.
//!
//! A policy (`audit.k8s.io/v1`) says for each request what is written: nothing, who and what (`Metadata`), also what was sent
//! (`Request`), also what was answered (`RequestResponse`); and at which stages. Events are written before the request goes
//! on, in the blocking manner of kube-apiserver's log backend, so that what was done is in the file.
//!
//! Requests that are refused for want of credentials are in it too, without a user.

mod event;
mod policy;

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

pub(crate) use event::{Notes, Part, Recorder};
use policy::Policy;

/// Why there is no audit.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A file cannot be read or opened.
    #[error("cannot open {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the file system answered.
        source: std::io::Error,
    },
    /// The policy makes no sense.
    #[error("{}: {reason}", path.display())]
    Policy {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and where.
        reason: String,
    },
}

/// What is written down, and where.
pub struct Audit {
    policy: Policy,
    file: Mutex<File>,
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audit").finish_non_exhaustive()
    }
}

impl Audit {
    /// An audit by the policy in one file, appended to another, which only its owner may read.
    ///
    /// # Errors
    /// When a file cannot be opened or the policy makes no sense.
    pub fn open(policy: &Path, log: &Path) -> Result<Audit, AuditError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| AuditError::File { path, source }
        };
        let text = std::fs::read_to_string(policy).map_err(failed(policy))?;
        let read = Policy::read(&text).map_err(|reason| AuditError::Policy {
            path: policy.to_owned(),
            reason,
        })?;
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        Ok(Audit {
            policy: read,
            file: Mutex::new(options.open(log).map_err(failed(log))?),
        })
    }

    fn write(&self, event: &serde_json::Value) {
        let mut line = event.to_string();
        line.push('\n');
        if let Err(error) = self.file.lock().write_all(line.as_bytes()) {
            tracing::error!("an audit event was not written: {error}");
        }
    }
}
