//! [`Review`]: one write on its way through all steps.

use choreo_apimachinery::status::Result;
use choreo_store::Snapshot;
use serde_json::Value;

use super::{Admission, AdmissionRequest, Operation, lifecycle};
use crate::verbs::Target;

/// One write on its way through all steps.
pub(crate) struct Review<'a> {
    /// What is written to, and by whom.
    pub(crate) target: &'a Target,
    /// What happens.
    pub(crate) operation: Operation,
    /// The subresource, or empty.
    pub(crate) subresource: &'a str,
    /// The object's name.
    pub(crate) name: &'a str,
    /// The object before.
    pub(crate) old: Option<&'a Value>,
    /// Whether nothing will be written.
    pub(crate) dry_run: bool,
    /// What the client is to be told.
    pub(crate) warnings: Vec<String>,
}

impl Review<'_> {
    /// The steps that may change the object. Says whether one did.
    ///
    /// # Errors
    /// Why the write is refused.
    pub(crate) async fn mutate(&mut self, object: &mut Value) -> Result<bool> {
        lifecycle::admit(self.target, self.operation, self.subresource, self.name)?;
        let (target, operation) = (self.target, self.operation);
        let mut changed =
            crate::accounts::admit(target, operation, self.subresource, self.name, object).await?;
        if !self.steps().is_empty() {
            let snapshot = self.target.cluster.store().snapshot();
            for step in self.steps() {
                let before = object.clone();
                let request = self.request(&snapshot, Some(&before));
                if step.handles(&request) {
                    step.mutate(&request, object)?;
                    changed |= *object != before;
                }
            }
        }
        Ok(changed)
    }

    /// The steps that only look: at the object as it would be stored, or at a deletion.
    ///
    /// # Errors
    /// Why the write is refused.
    #[allow(clippy::unused_async)] // steps that wait are next
    pub(crate) async fn validate(&mut self, object: Option<&Value>) -> Result<()> {
        if self.operation == Operation::Delete {
            lifecycle::admit(self.target, self.operation, self.subresource, self.name)?;
        }
        crate::rbac::admit(self.target, self.operation, self.name, self.old, object)?;
        if self.steps().is_empty() {
            return Ok(());
        }
        let snapshot = self.target.cluster.store().snapshot();
        let mut warnings = std::mem::take(&mut self.warnings);
        let request = self.request(&snapshot, object);
        for step in self.steps().iter().filter(|step| step.handles(&request)) {
            step.validate(&request, &mut warnings)?;
        }
        self.warnings = warnings;
        Ok(())
    }

    fn steps(&self) -> &[std::sync::Arc<dyn Admission>] {
        self.target.cluster.admission()
    }

    fn request<'b>(&'b self, snapshot: &'b Snapshot, object: Option<&'b Value>) -> AdmissionRequest<'b> {
        AdmissionRequest {
            cluster: self.target.cluster.name(),
            snapshot,
            user: &self.target.user,
            operation: self.operation,
            resource: &self.target.resource,
            subresource: self.subresource,
            namespace: &self.target.namespace,
            name: self.name,
            old: self.old,
            object,
            dry_run: self.dry_run,
        }
    }
}
