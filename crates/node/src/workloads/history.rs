//! Revisions of a template: how StatefulSets and DaemonSets remember what their Pods were made from. Kubernetes keeps them as
//! ControllerRevisions, which `kubectl rollout history` and `undo` read.

use std::sync::Arc;

use k8s_openapi::{
    api::{apps::v1::ControllerRevision, core::v1::PodTemplateSpec},
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference},
        runtime::RawExtension,
    },
};
use serde_json::{Value, json};

use super::{
    hash,
    pods::{label, set},
};
use crate::core::{Context, Name, Result, matches};

/// The label of Pods that says which revision they are of; DaemonSets' revisions have it, too.
pub(super) const REVISION: &str = "controller-revision-hash";
/// The label of StatefulSets' revisions.
const HASH: &str = "controller.kubernetes.io/hash";
/// How many revisions are kept that no Pod is of, if the set does not say.
const LIMIT: i32 = 10;
/// How many names are tried for a revision, should one be taken.
const TRIES: i32 = 8;

/// What has a template and remembers earlier ones.
pub(super) struct Owner<'a> {
    pub(super) reference: OwnerReference,
    pub(super) meta: &'a ObjectMeta,
    pub(super) selector: &'a LabelSelector,
    pub(super) template: &'a PodTemplateSpec,
    pub(super) limit: Option<i32>,
}

impl Owner<'_> {
    fn namespace(&self) -> &str {
        self.meta.namespace.as_deref().unwrap_or_default()
    }

    fn name(&self) -> &str {
        self.meta.name.as_deref().unwrap_or_default()
    }

    /// What a revision of the present template holds: a patch that brings it back.
    fn data(&self) -> Result<Value> {
        let mut template = serde_json::to_value(self.template)?;
        template["$patch"] = "replace".into();
        Ok(json!({"spec": {"template": template}}))
    }

    /// The revisions, oldest first.
    fn revisions(&self, context: &Context) -> Vec<Arc<ControllerRevision>> {
        let revisions = &context.world.revisions;
        let mut all = revisions.controlled_by(self.namespace(), &self.reference.uid);
        all.retain(|revision| revision.metadata.deletion_timestamp.is_none());
        all.sort_by_key(|revision| (revision.revision, Name::of(&**revision)));
        all
    }
}

/// The revision of the present template, which is the newest; made, or brought back to the top, if it is not there.
pub(super) async fn present(context: &Context, owner: &Owner<'_>) -> Result<Arc<ControllerRevision>> {
    let selects = |meta: &ObjectMeta| matches(owner.selector, meta);
    context
        .adopt::<ControllerRevision>(owner.namespace(), &owner.reference, selects)
        .await?;
    let revisions = owner.revisions(context);
    let newest = revisions.last().map_or(0, |newest| newest.revision.unwrap_or(0));
    let data = owner.data()?;
    let same = |revision: &&Arc<ControllerRevision>| revision.data.0 == data;
    if let Some(known) = revisions.iter().rev().find(same) {
        if known.revision == Some(newest) {
            return Ok(known.clone());
        }
        let mut again = (**known).clone();
        again.revision = Some(newest + 1);
        return context.replace(&again).await;
    }
    let mut salt = 0;
    loop {
        match context.create(&made(owner, &data, newest + 1, salt)?).await {
            // Somebody else's, or two templates with one hash.
            Err(error) if error.is_exists() && salt < TRIES => salt += 1,
            outcome => return outcome,
        }
    }
}

fn made(owner: &Owner<'_>, data: &Value, revision: i64, salt: i32) -> Result<ControllerRevision> {
    let hash = hash::short(owner.template, salt)?;
    let mut metadata = ObjectMeta {
        name: Some(format!("{}-{hash}", owner.name())),
        namespace: Some(owner.namespace().to_owned()),
        // Of the set: among them may be why it was changed.
        annotations: owner.meta.annotations.clone(),
        owner_references: Some(vec![owner.reference.clone()]),
        ..ObjectMeta::default()
    };
    metadata.labels = owner
        .template
        .metadata
        .as_ref()
        .and_then(|meta| meta.labels.clone());
    let key = if owner.reference.kind == "DaemonSet" {
        REVISION
    } else {
        HASH
    };
    set(&mut metadata.labels, key, hash);
    Ok(ControllerRevision {
        metadata,
        revision: Some(revision),
        data: RawExtension(data.clone()),
    })
}

/// The template of a revision.
pub(super) fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.0.pointer("/spec/template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

/// The hash that a DaemonSet's revision is known by.
pub(super) fn hash_of(revision: &ControllerRevision) -> &str {
    label(&revision.metadata, REVISION).unwrap_or_default()
}

/// Removes the oldest revisions beyond the limit, but for those that are `in_use`.
pub(super) async fn prune(
    context: &Context,
    owner: &Owner<'_>,
    in_use: impl Fn(&ControllerRevision) -> bool,
) -> Result<()> {
    let mut idle = owner.revisions(context);
    idle.retain(|revision| !in_use(revision));
    let limit = usize::try_from(owner.limit.unwrap_or(LIMIT)).unwrap_or(0);
    for revision in idle.iter().take(idle.len().saturating_sub(limit)) {
        context.delete(&**revision, None).await?;
    }
    Ok(())
}
