//! [`Review`]: one write on its way through all steps.

use std::collections::BTreeMap;
use std::sync::Arc;

use choreo_apimachinery::registry::ResourceInfo;
use choreo_apimachinery::status::Result;
use choreo_store::Snapshot;
use serde_json::{Value, json};
use tokio::sync::OwnedMutexGuard;

use super::policies::{self, Policies};
use super::webhooks::{self, Webhooks};
use super::{Admission, AdmissionRequest, Operation, lifecycle};
use crate::request::{CreateOptions, FieldValidation};
use crate::verbs::{Target, decode_admitted, metadata_mut};

/// The steps of a logical cluster, with what they remember.
pub(crate) struct Chain {
    embedder: Arc<[Arc<dyn Admission>]>,
    policies: Policies,
    webhooks: Webhooks,
}

impl Chain {
    pub(crate) fn new(embedder: Arc<[Arc<dyn Admission>]>) -> Chain {
        Chain {
            embedder,
            policies: Policies::new(),
            webhooks: Webhooks::new(),
        }
    }
}

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
    /// The field manager that the request names.
    pub(crate) field_manager: Option<&'a str>,
    /// What the request says about unknown fields.
    pub(crate) validation: FieldValidation,
    /// What the client is to be told.
    pub(crate) warnings: Vec<String>,
    /// What the audit event is to say, by key.
    pub(crate) annotations: BTreeMap<String, String>,
    /// Keeps other writes that count for a quota waiting until this one is carried out.
    pub(crate) held: Option<OwnedMutexGuard<()>>,
}

impl<'a> Review<'a> {
    /// A write that nothing in particular is known of.
    pub(crate) fn new(
        target: &'a Target,
        operation: Operation,
        subresource: &'a str,
        name: &'a str,
    ) -> Review<'a> {
        Review {
            target,
            operation,
            subresource,
            name,
            old: None,
            dry_run: false,
            field_manager: None,
            validation: FieldValidation::default(),
            warnings: Vec::new(),
            annotations: BTreeMap::new(),
            held: None,
        }
    }

    /// A request to a subresource by which something is created that has a kind of its own; completes the document.
    pub(crate) fn of_document(
        target: &'a Target,
        (subresource, name): (&'a str, &'a str),
        options: &'a CreateOptions,
        document: &mut Value,
    ) -> Review<'a> {
        let review = Review {
            dry_run: options.dry_run,
            field_manager: options.field_manager.as_deref(),
            validation: options.field_validation,
            ..Review::new(target, Operation::Create, subresource, name)
        };
        if let Some(spoken) = review.spoken() {
            document["apiVersion"] = spoken.api_version().into();
            document["kind"] = spoken.kind.into();
        }
        metadata_mut(document).insert("namespace".to_owned(), target.namespace.as_str().into());
        review
    }
}

/// A kind that a subresource has of its own.
pub(crate) struct Spoken<'a> {
    pub(crate) group: &'a str,
    pub(crate) version: &'a str,
    pub(crate) kind: &'a str,
}

impl Spoken<'_> {
    fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

impl Review<'_> {
    /// The kind of the subresource, if it is not the resource's own.
    pub(crate) fn spoken(&self) -> Option<Spoken<'_>> {
        let info = &self.target.resource;
        let subresource = info.subresource(self.subresource)?;
        if subresource.kind == info.kind {
            return None;
        }
        let own = subresource.version.is_empty();
        Some(Spoken {
            group: if own { &info.group } else { &subresource.group },
            version: if own { &info.version } else { &subresource.version },
            kind: &subresource.kind,
        })
    }

    /// Whether objects are shown as they are to who wants them in the version of `info`.
    pub(crate) fn shows_as_is(&self, info: &ResourceInfo) -> bool {
        info.version == self.target.resource.version || self.spoken().is_some()
    }

    /// What somebody has made of the object, as if a client had sent it.
    ///
    /// # Errors
    /// 400 when it is no longer of its kind.
    pub(crate) fn decode(&self, object: Value) -> Result<Value> {
        match self.spoken() {
            Some(_) => Ok(object),
            None => decode_admitted(self.target, object),
        }
    }

    /// The steps that may change the object. Says whether one did.
    ///
    /// # Errors
    /// Why the write is refused.
    pub(crate) async fn mutate(&mut self, object: &mut Value) -> Result<bool> {
        if self.target.is_admitted {
            return Ok(false);
        }
        lifecycle::admit(self.target, self.operation, self.subresource, self.name)?;
        let cluster = self.target.cluster.clone();
        let chain = cluster.chain();
        let mut changed = self.mutate_in_process(object).await?;
        let mut policies = policies::Rounds::default();
        changed |= chain.policies.mutate(self, object, &mut policies)?;
        let mut rounds = webhooks::Rounds::default();
        changed |= Box::pin(chain.webhooks.mutate(self, Some(object), &mut rounds)).await?;
        if rounds.changed {
            // What came before the webhooks has not seen what they made.
            self.mutate_in_process(object).await?;
            policies.begin_second();
            chain.policies.mutate(self, object, &mut policies)?;
            rounds.begin_second(object);
            Box::pin(chain.webhooks.mutate(self, Some(object), &mut rounds)).await?;
        }
        Ok(changed)
    }

    async fn mutate_in_process(&mut self, object: &mut Value) -> Result<bool> {
        let (target, operation) = (self.target, self.operation);
        let mut changed =
            crate::accounts::admit(target, operation, self.subresource, self.name, object).await?;
        changed |= super::limits::mutate(self, object);
        changed |= super::classes::mutate(self, object)?;
        changed |= super::nodes::mutate(self, object);
        if operation == Operation::Create
            && self.subresource.is_empty()
            && let Some(finalizer) = crate::protection::finalizer(target.storage_resource())
        {
            changed |= crate::protection::protect(object, finalizer);
        }
        let steps = self.steps();
        if !steps.is_empty() {
            let snapshot = target.cluster.store().snapshot();
            for step in steps {
                if step.handles(&self.request(&snapshot, Some(&*object))) {
                    let before = object.clone();
                    step.mutate(&self.request(&snapshot, Some(&before)), object)?;
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
    pub(crate) async fn validate(&mut self, object: Option<&Value>) -> Result<()> {
        if self.target.is_admitted {
            return Ok(());
        }
        let cluster = self.target.cluster.clone();
        let chain = cluster.chain();
        if self.operation == Operation::Delete {
            lifecycle::admit(self.target, self.operation, self.subresource, self.name)?;
            // There is nothing to change, but they may refuse.
            Box::pin(
                chain
                    .webhooks
                    .mutate(self, None, &mut webhooks::Rounds::default()),
            )
            .await?;
        }
        crate::rbac::admit(self.target, self.operation, self.name, self.old, object)?;
        super::limits::validate(self, object)?;
        super::pod_security::validate(self, object)?;
        super::classes::validate(self, object)?;
        super::certificates::validate(self, object)?;
        self.validate_in_process(object)?;
        let judged = chain.policies.validate(self, object);
        if let Some(notes) = &self.target.notes {
            for (key, value) in &self.annotations {
                notes.annotate(key, value);
            }
        }
        judged?;
        Box::pin(chain.webhooks.validate(self, object)).await?;
        self.held = crate::quota::admit(self, object).await?;
        Ok(())
    }

    fn validate_in_process(&mut self, object: Option<&Value>) -> Result<()> {
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

    fn steps(&self) -> &[Arc<dyn Admission>] {
        &self.target.cluster.chain().embedder
    }

    /// The namespace of the write; a Namespace is in itself.
    pub(crate) fn namespace(&self) -> &str {
        let info = &self.target.resource;
        if info.group.is_empty() && info.plural == "namespaces" {
            self.name
        } else {
            &self.target.namespace
        }
    }

    /// The options of the request, as an object.
    pub(crate) fn options(&self) -> Value {
        let kind = match self.operation {
            Operation::Create => "CreateOptions",
            Operation::Update if self.target.is_patch => "PatchOptions",
            Operation::Update => "UpdateOptions",
            Operation::Delete => "DeleteOptions",
            Operation::Connect => return Value::Null,
        };
        let mut options = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
        if self.dry_run {
            options["dryRun"] = json!(["All"]);
        }
        if let Some(manager) = self.field_manager {
            options["fieldManager"] = manager.into();
        }
        // What a request usually says: nothing.
        if self.validation != FieldValidation::default() {
            options["fieldValidation"] = match self.validation {
                FieldValidation::Ignore => "Ignore",
                FieldValidation::Warn => "Warn",
                FieldValidation::Strict => "Strict",
            }
            .into();
        }
        options
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
