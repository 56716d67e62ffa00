//! Patching an object: JSON patch, merge patch, strategic merge patch, server-side apply.

use choreo_apimachinery::status::{ApiError, Result};
use serde_json::Value;

use super::update::{Change, modify};
use super::{Subresource, Target, Written, fields, metadata_mut, text};
use crate::negotiate::{Codec, MediaType, Repeated};
use crate::request::{FieldValidation, PatchOptions};

/// The form of a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// RFC 6902, `application/json-patch+json`.
    Json,
    /// RFC 7396, `application/merge-patch+json`.
    Merge,
    /// Kubernetes' strategic merge patch, `application/strategic-merge-patch+json`; built-in kinds only.
    Strategic,
    /// Server-side apply, `application/apply-patch+yaml`.
    Apply,
}

impl PatchKind {
    /// The form that a content type names, as far as the resource takes it.
    ///
    /// # Errors
    /// 415 listing what the resource takes.
    pub fn parse(content_type: &str, is_crd: bool) -> Result<PatchKind> {
        match MediaType::parse(content_type).name.as_str() {
            "application/json-patch+json" => Ok(PatchKind::Json),
            "application/merge-patch+json" => Ok(PatchKind::Merge),
            "application/strategic-merge-patch+json" if !is_crd => Ok(PatchKind::Strategic),
            "application/apply-patch+yaml" => Ok(PatchKind::Apply),
            _ if is_crd => Err(ApiError::unsupported_media_type(&[
                "application/json-patch+json",
                "application/merge-patch+json",
                "application/apply-patch+yaml",
            ])),
            _ => {
                // As kube-apiserver says it, whose routes of built-in kinds do not come to the list of what they take.
                let mut error = ApiError::unsupported_media_type(&[]);
                error.message = "415: Unsupported Media Type".to_owned();
                error.details = Some(Box::default());
                Err(error)
            }
        }
    }
}

/// A patch that has been read.
#[derive(Clone, Debug)]
pub struct Patch<'a> {
    kind: PatchKind,
    bytes: &'a [u8],
    /// The document; null for a JSON patch, which is read when it is applied.
    document: Value,
}

impl<'a> Patch<'a> {
    /// Reads a patch, and notes the keys that it has more than once.
    ///
    /// # Errors
    /// 400 for a malformed one.
    pub fn read(kind: PatchKind, bytes: &'a [u8]) -> Result<(Patch<'a>, Repeated)> {
        let (document, repeated) = match kind {
            PatchKind::Json => (Value::Null, Repeated::default()),
            PatchKind::Merge | PatchKind::Strategic => Codec::Json
                .decode_noting(bytes)
                .or_else(|_| Ok::<_, ApiError>((decoded(bytes)?, Repeated::default())))?,
            PatchKind::Apply => Codec::Yaml
                .decode_noting(bytes)
                .or_else(|_| Ok::<_, ApiError>((Codec::Yaml.decode(bytes)?, Repeated::default())))?,
        };
        let patch = Patch {
            kind,
            bytes,
            document,
        };
        Ok((patch, repeated))
    }
}

/// Patches an object or one of its subresources. An apply creates a missing object.
///
/// # Errors
/// As [`modify`]; 400 for a malformed patch, 409 for an apply that conflicts with other managers.
pub async fn patch(
    target: &Target,
    name: &str,
    subresource: Subresource,
    patch: Patch<'_>,
    options: &PatchOptions,
) -> Result<Written> {
    let Patch {
        kind,
        bytes,
        document,
    } = patch;
    let change = Change {
        field_manager: options.field_manager.as_deref(),
        dry_run: options.dry_run,
        validation: options.field_validation,
        creates: kind == PatchKind::Apply && subresource == Subresource::Main,
        track: kind != PatchKind::Apply,
        // What a JSON patch copies within the object can be any number of times its own size.
        adds: (kind != PatchKind::Json).then_some(bytes.len()),
        ..Change::own(name, subresource)
    };
    let schema = target.resource.schema();
    match kind {
        PatchKind::Json => {
            modify(target, &change, |object| {
                json(present(target, name, object)?, bytes)
            })
            .await
        }
        PatchKind::Merge => {
            modify(target, &change, |object| {
                Ok(choreo_apimachinery::patch::merge(
                    present(target, name, object)?,
                    &document,
                ))
            })
            .await
        }
        PatchKind::Strategic => {
            modify(target, &change, |object| {
                choreo_apimachinery::patch::strategic(&schema, present(target, name, object)?, &document)
            })
            .await
        }
        PatchKind::Apply => apply(target, change, document, options).await,
    }
}

async fn apply(
    target: &Target,
    mut change: Change<'_>,
    mut config: Value,
    options: &PatchOptions,
) -> Result<Written> {
    check_config(change.name, &config)?;
    let named = !text(&config, "/metadata/name").is_empty();
    metadata_mut(&mut config).insert("name".to_owned(), change.name.into());
    super::metadata::set_namespace(target, &mut config)?;
    // Fields that the schema does not know are refused by the apply itself.
    change.validation = FieldValidation::Ignore;
    let manager = fields::Manager::of(target, change.field_manager, change.subresource.name());
    modify(target, &change, |object| {
        if object.is_none() && !named {
            return Err(ApiError::bad_request(format!(
                "the name of the object ({} based on URL) was undeterminable: name must be provided",
                change.name
            )));
        }
        fields::apply(&target.resource, object, &config, &manager, options.force)
    })
    .await
}

fn check_config(name: &str, config: &Value) -> Result<()> {
    if !config.is_object() {
        return Err(ApiError::bad_request(
            "error decoding YAML: the applied configuration is not an object",
        ));
    }
    let (version, kind) = (text(config, "/apiVersion"), text(config, "/kind"));
    if version.is_empty() || kind.is_empty() {
        let version = if version.contains('/') {
            version.to_owned()
        } else {
            format!("/{version}")
        };
        return Err(ApiError::bad_request(format!(
            "invalid object type: {version}, Kind={kind}"
        )));
    }
    let given = text(config, "/metadata/name");
    if !given.is_empty() && given != name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        )));
    }
    Ok(())
}

fn decoded(bytes: &[u8]) -> Result<Value> {
    serde_json::from_slice(bytes).map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))
}

fn present<'a>(target: &Target, name: &str, object: Option<&'a Value>) -> Result<&'a Value> {
    object.ok_or_else(|| target.not_found(name))
}

/// A document with a JSON patch applied.
pub(super) fn json(document: &Value, bytes: &[u8]) -> Result<Value> {
    choreo_apimachinery::patch::json(document, bytes)
}

/// A document with a merge patch applied; YAML is taken where the form allows it.
pub(super) fn merge(document: &Value, bytes: &[u8], kind: PatchKind) -> Result<Value> {
    let codec = if kind == PatchKind::Apply {
        Codec::Yaml
    } else {
        Codec::Json
    };
    Ok(choreo_apimachinery::patch::merge(document, &codec.decode(bytes)?))
}
