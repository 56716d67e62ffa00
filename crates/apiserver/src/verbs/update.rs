//! Changing an object: the one place where updates, patches and applies meet.

use choreo_apimachinery::field::{FieldError, FieldPath, quote};
use choreo_apimachinery::status::{ApiError, Result};
use choreo_store::{Object, Write};
use serde_json::Value;
use std::sync::Arc;

use super::{
    Target, View, Written, convert, create, decode, delete, fields, metadata, scale, strategy, text,
};
use crate::admission::{Operation, Review};
use crate::cluster::Refused;
use crate::crds;
use crate::negotiate::BODY_LIMIT;
use crate::request::{CreateOptions, FieldValidation, UpdateOptions};

/// How often a change is computed anew because the object changed meanwhile. Clients that send no resource version leave
/// the retries to the server.
const TRIES: usize = 12;

/// Which part of an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subresource {
    /// The object but for its status.
    Main,
    /// The status only.
    Status,
    /// The finalizers of a namespace's spec.
    Finalize,
    /// The number of replicas, through the object.
    Scale,
    /// The node of a Pod.
    Binding,
    /// Another one of a built-in kind, such as `ephemeralcontainers`, which the kind's own rules are for; empty for what the server writes itself.
    Other(&'static str),
}

impl Subresource {
    /// As in the path; empty for the object itself.
    pub fn name(self) -> &'static str {
        match self {
            Subresource::Main => "",
            Subresource::Other(name) => name,
            Subresource::Status => "status",
            Subresource::Finalize => "finalize",
            Subresource::Scale => "scale",
            Subresource::Binding => "binding",
        }
    }
}

/// What is to be written, and how.
#[derive(Clone, Debug)]
pub struct Change<'a> {
    /// The object's name.
    pub name: &'a str,
    /// Which part.
    pub subresource: Subresource,
    /// The field manager; none for the client's name.
    pub field_manager: Option<&'a str>,
    /// Do everything but the write.
    pub dry_run: bool,
    /// What to do with unknown fields.
    pub validation: FieldValidation,
    /// Whether a missing object is created.
    pub creates: bool,
    /// Whether managed fields are worked out here; an apply has done so.
    pub track: bool,
    /// Whether the document must name the resource version that it is based on.
    pub versioned: bool,
    /// By how many bytes a patch can make the object larger, about; none if that has to be measured.
    pub adds: Option<usize>,
}

impl<'a> Change<'a> {
    /// A change that the server itself makes: it goes by nobody's options, and changes only what is there.
    pub(crate) fn own(name: &'a str, subresource: Subresource) -> Change<'a> {
        Change {
            name,
            subresource,
            field_manager: None,
            dry_run: false,
            validation: FieldValidation::Ignore,
            creates: false,
            track: true,
            versioned: false,
            adds: None,
        }
    }

    /// A change that a client asked for, of what is there.
    pub(crate) fn asked(name: &'a str, subresource: Subresource, options: &'a UpdateOptions) -> Change<'a> {
        Change {
            field_manager: options.field_manager.as_deref(),
            dry_run: options.dry_run,
            validation: options.field_validation,
            ..Change::own(name, subresource)
        }
    }
}

/// Changes an object on the server's own account. One that is gone meanwhile needs no change any more.
///
/// # Errors
/// As [`modify`], but for 404.
pub(crate) async fn edit(
    target: &Target,
    name: &str,
    subresource: Subresource,
    change: impl Fn(&mut Value),
) -> Result<()> {
    let done = modify(target, &Change::own(name, subresource), |present| {
        let mut object = present.cloned().unwrap_or_default();
        change(&mut object);
        Ok(object)
    })
    .await;
    match done {
        Err(error) if error.code != 404 => Err(error),
        _ => Ok(()),
    }
}

/// Takes one of its finalizers from an object.
pub(crate) fn remove_finalizer(object: &mut Value, finalizer: &str) {
    let metadata = super::metadata_mut(object);
    let Some(finalizers) = metadata.get_mut("finalizers").and_then(Value::as_array_mut) else {
        return;
    };
    finalizers.retain(|found| found.as_str() != Some(finalizer));
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    }
}

/// Replaces an object, or one of its subresources.
///
/// # Errors
/// As [`modify`].
pub async fn update(
    target: &Target,
    name: &str,
    subresource: Subresource,
    body: &Value,
    options: &UpdateOptions,
) -> Result<Written> {
    check_name(name, body)?;
    let info = &target.resource;
    let change = Change {
        creates: subresource == Subresource::Main && creates_on_update(&info.group, &info.plural),
        versioned: info.is_crd,
        ..Change::asked(name, subresource, options)
    };
    modify(target, &change, |_| Ok(body.clone())).await
}

/// Kinds that a PUT creates.
fn creates_on_update(group: &str, plural: &str) -> bool {
    matches!(
        (group, plural),
        ("", "endpoints" | "events" | "limitranges" | "services")
            | ("events.k8s.io", "events")
            | ("coordination.k8s.io", "leases")
            | ("rbac.authorization.k8s.io", _)
            | ("node.k8s.io", "runtimeclasses")
    )
}

/// Changes an object: `make` gives the new document from the present object, and is called again when that has changed in
/// the meantime. A change that changes nothing writes nothing.
///
/// # Errors
/// 404 when it is not there, 409 when the document is based on another resource version, 422 when the outcome is invalid,
/// 403 when admission refuses, and whatever `make` gives.
pub async fn modify(
    target: &Target,
    change: &Change<'_>,
    mut make: impl FnMut(Option<&Value>) -> Result<Value>,
) -> Result<Written> {
    let _definitions = crds::lock(target).await;
    for _ in 0..TRIES {
        let Some(current) = target.cluster.store().get(&target.key(change.name)) else {
            drop(_definitions);
            return create_missing(target, change, &mut make).await;
        };
        match attempt(target, change, &current, &mut make).await? {
            Some(written) => return Ok(written),
            None => tokio::task::yield_now().await,
        }
    }
    Err(target.stale(change.name))
}

async fn create_missing(
    target: &Target,
    change: &Change<'_>,
    make: &mut impl FnMut(Option<&Value>) -> Result<Value>,
) -> Result<Written> {
    if !change.creates {
        return Err(target.not_found(change.name));
    }
    let body = make(None)?;
    if !text(&body, "/metadata/resourceVersion").is_empty() || !text(&body, "/metadata/uid").is_empty() {
        // A document that was read from an object which is gone now must not bring it back.
        return Err(if text(&body, "/metadata/uid").is_empty() {
            target.not_found(change.name)
        } else {
            uid_gone(target, change.name, &body)
        });
    }
    let (mut object, warnings) = decode::decode(target, body, change.validation)?;
    metadata::set_namespace(target, &mut object)?;
    super::metadata_mut(&mut object).insert("name".to_owned(), change.name.into());
    let options = CreateOptions {
        dry_run: change.dry_run,
        field_manager: change.field_manager.map(str::to_owned),
        field_validation: change.validation,
    };
    let mut written = create::create_decoded(target, object, &options, "", change.track).await?;
    written.warnings.splice(0..0, warnings);
    Ok(written)
}

fn uid_gone(target: &Target, name: &str, body: &Value) -> ApiError {
    let why = format!(
        "Precondition failed: UID in precondition: {}, UID in object meta: ",
        text(body, "/metadata/uid")
    );
    ApiError::conflict(&target.resource.group, &target.resource.plural, name, &why)
}

/// One attempt; none when the object changed while it was made.
async fn attempt(
    target: &Target,
    change: &Change<'_>,
    current: &Arc<Object>,
    make: &mut impl FnMut(Option<&Value>) -> Result<Value>,
) -> Result<Option<Written>> {
    let info = &*target.resource;
    let name = change.name;
    let old = target.shown(current.clone()).await?.value();

    let (mut new, warnings) = decode::decode(target, make(Some(&old))?, change.validation)?;
    check_name(change.name, &new)?;
    metadata::set_namespace(target, &mut new)?;
    check_version(target, change, &old, &new)?;
    metadata::carry_over(target, name, &old, &mut new)?;
    strategy::prepare_update(info, change.subresource, &old, &mut new);
    if change.track {
        let manager = fields::Manager::of(target, change.field_manager, change.subresource.name());
        fields::track(info, Some(&old), &mut new, &manager);
    }
    // Who looks at a change of the scale sees the Scale, and not where the object keeps it.
    let scaled = change.subresource == Subresource::Scale;
    let as_shown = |object: &Value| {
        if scaled {
            Some(scale::scale_of(target, object)).transpose()
        } else {
            Ok(None)
        }
    };
    let old_scale = as_shown(&old)?;
    let mut review = Review {
        old: Some(old_scale.as_ref().unwrap_or(&old)),
        dry_run: change.dry_run,
        field_manager: change.field_manager,
        validation: change.validation,
        warnings,
        ..Review::new(target, Operation::Update, change.subresource.name(), name)
    };
    let changed = match as_shown(&new)? {
        None => review.mutate(&mut new).await?,
        Some(mut scale) => {
            let changed = review.mutate(&mut scale).await?;
            new = scale::apply(target, &new, &scale, name)?;
            changed
        }
    };
    if changed {
        new = decode::admitted(target, new)?;
        metadata::carry_over(target, name, &old, &mut new)?;
        strategy::prepare_update(info, change.subresource, &old, &mut new);
    }
    crds::prepare(target, Some(&old), &mut new)?;
    let addresses = target.cluster.services().for_update(info, &old, &mut new)?;

    let is_small = change
        .adds
        .is_some_and(|adds| 2 * (adds + current.json().len()) < BODY_LIMIT);
    if target.is_patch && !is_small {
        check_size(&new)?;
    }
    let same = *old == new;
    if !same {
        strategy::validate(target, change.subresource, name, &new, Some(&old))?;
    }
    review
        .validate(Some(as_shown(&new)?.as_ref().unwrap_or(&new)))
        .await?;
    let warnings = review.warnings;
    let finished = delete::is_finished(&new);
    let made = |value: Value| Written {
        view: View::Made(Arc::new(value), current.revision()),
        created: false,
        warnings: warnings.clone(),
    };
    // A write that changes nothing is how objects are brought to another storage version.
    let stays = same && !convert::is_outdated(target, current);
    if change.dry_run || (stays && !finished) {
        return Ok(Some(made(new)));
    }
    if finished {
        let write = Write::Delete {
            key: target.key(name),
            expect: current.revision(),
        };
        return match target.cluster.write(write).await {
            Ok(_) => {
                delete::removed(target, current);
                Ok(Some(made(new)))
            }
            Err(refused) => lost(target, name, refused),
        };
    }
    let write = Write::Update {
        key: target.key(name),
        value: convert::to_storage(target, new).await?,
        expect: current.revision(),
    };
    match target.cluster.write(write).await {
        Ok(stored) => {
            addresses.keep();
            crds::written(target, &stored);
            Ok(Some(Written {
                view: target.shown(stored).await?,
                created: false,
                warnings,
            }))
        }
        Err(refused) => lost(target, name, refused),
    }
}

/// What to do when the store did not take the outcome of an attempt: again, unless the object is gone or the store broken.
fn lost(target: &Target, name: &str, refused: Refused) -> Result<Option<Written>> {
    match refused {
        Refused::Conflict(_) | Refused::Exists(_) => Ok(None),
        Refused::NotFound => Err(target.not_found(name)),
        Refused::Fault(error) => Err(error),
    }
}

/// What patches make must not be larger than what a client could send.
fn check_size(object: &Value) -> Result<()> {
    struct Counter(usize);
    impl std::io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    // Counting cannot fail.
    let _ = serde_json::to_writer(&mut counter, object);
    if counter.0 > BODY_LIMIT {
        return Err(ApiError::too_large(&format!("limit is {BODY_LIMIT}")));
    }
    Ok(())
}

/// A document is about the object that the path names.
fn check_name(name: &str, document: &Value) -> Result<()> {
    let given = text(document, "/metadata/name");
    if given.is_empty() || given == name {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "the name of the object ({given}) does not match the name on the URL ({name})"
    )))
}

/// The resource version of the document must be that of the object, where the document names one.
fn check_version(target: &Target, change: &Change<'_>, old: &Value, new: &Value) -> Result<()> {
    let given = text(new, "/metadata/resourceVersion");
    if given.is_empty() || given == "0" {
        if change.versioned && target.resource.is_crd {
            let metadata = FieldPath::new("metadata");
            let error = FieldError::invalid(
                &metadata.child("resourceVersion"),
                0,
                "must be specified for an update",
            );
            return Err(ApiError::invalid(
                &target.resource.group,
                &target.resource.plural,
                change.name,
                &[error],
            ));
        }
        return Ok(());
    }
    if given != text(old, "/metadata/resourceVersion") {
        if given.parse::<u64>().is_err() {
            let metadata = FieldPath::new("metadata");
            let error = FieldError::invalid(
                &metadata.child("resourceVersion"),
                given,
                format!("strconv.ParseUint: parsing {}: invalid syntax", quote(given)),
            );
            return Err(ApiError::invalid(
                &target.resource.group,
                &target.resource.kind,
                change.name,
                &[error],
            ));
        }
        return Err(target.stale(change.name));
    }
    Ok(())
}
