//! Creating an object.

use choreo_apimachinery::status::{ApiError, Result};
use choreo_store::Write;
use serde_json::Value;
use std::sync::Arc;

use super::{
    Subresource, Target, View, Written, convert, decode, fields, metadata, metadata_mut, strategy, text,
};
use crate::admission::{Operation, Review};
use crate::cluster::Refused;
use crate::crds;
use crate::request::CreateOptions;

/// How often a generated name is tried that turns out to be taken.
const GENERATE_TRIES: usize = 8;

/// Creates an object from a client's document.
///
/// # Errors
/// 400 and 422 for a wrong document, 403 when admission refuses, 404 for a missing namespace, 409 when the name is taken.
pub async fn create(target: &Target, body: Value, options: &CreateOptions) -> Result<Written> {
    let (mut object, warnings) = decode::decode(target, body, options.field_validation)?;
    metadata::set_namespace(target, &mut object)?;
    fields::forget_foreign(&mut object);
    let mut written = create_decoded(target, object, options, "", true).await?;
    written.warnings.splice(0..0, warnings);
    Ok(written)
}

/// Creates an object that is decoded already. `track` makes the field manager the owner of every field; without it the
/// object's `managedFields` are right as they are.
pub(super) async fn create_decoded(
    target: &Target,
    mut object: Value,
    options: &CreateOptions,
    subresource: &str,
    track: bool,
) -> Result<Written> {
    let prefix = text(&object, "/metadata/generateName").to_owned();
    let named = !text(&object, "/metadata/name").is_empty();
    let mut tries = if named || prefix.is_empty() {
        1
    } else {
        GENERATE_TRIES
    };
    loop {
        tries -= 1;
        // Only another try would need it once more.
        let mut attempt = if tries > 0 {
            object.clone()
        } else {
            std::mem::take(&mut object)
        };
        if !named && !prefix.is_empty() {
            metadata_mut(&mut attempt).insert("name".to_owned(), metadata::generate_name(&prefix).into());
        }
        match attempt_create(target, attempt, options, subresource, track).await {
            Err(error) if tries > 0 && error.code == 409 => {}
            outcome => return outcome,
        }
    }
}

async fn attempt_create(
    target: &Target,
    mut object: Value,
    options: &CreateOptions,
    subresource: &str,
    track: bool,
) -> Result<Written> {
    let info = &*target.resource;
    metadata::fill_new(&mut object);
    if track {
        let manager = fields::Manager::of(target, options.field_manager.as_deref(), subresource);
        fields::track(info, None, &mut object, &manager);
    }
    let name = text(&object, "/metadata/name").to_owned();
    let mut review = Review {
        dry_run: options.dry_run,
        field_manager: options.field_manager.as_deref(),
        validation: options.field_validation,
        ..Review::new(target, Operation::Create, subresource, &name)
    };
    if review.mutate(&mut object).await? {
        object = decode::admitted(target, object)?;
    }
    let renamed = text(&object, "/metadata/name").to_owned();
    review.name = &renamed;
    let name = renamed.as_str();
    // What the server itself decides belongs to nobody.
    strategy::prepare_create(target, &mut object);

    // Definitions and the registry change together, one definition at a time.
    let _definitions = crds::lock(target).await;
    crds::prepare(target, None, &mut object)?;
    let addresses = target.cluster.services().for_create(info, &mut object)?;
    strategy::validate(target, Subresource::Main, name, &object, None)?;
    review.validate(Some(&object)).await?;
    let warnings = review.warnings;
    if options.dry_run {
        if target.cluster.store().get(&target.key(name)).is_some() {
            return Err(ApiError::already_exists(&info.group, &info.plural, name));
        }
        return Ok(Written {
            view: View::Made(Arc::new(object), 0),
            created: true,
            warnings,
        });
    }
    let write = Write::Create {
        key: target.key(name),
        value: convert::to_storage(target, object).await?,
    };
    match target.cluster.write(write).await {
        Ok(stored) => {
            addresses.keep();
            crds::written(target, &stored);
            Ok(Written {
                view: target.shown(stored).await?,
                created: true,
                warnings,
            })
        }
        Err(Refused::Fault(error)) => Err(error),
        Err(Refused::Exists(_) | Refused::NotFound | Refused::Conflict(_)) => {
            Err(ApiError::already_exists(&info.group, &info.plural, name))
        }
    }
}
