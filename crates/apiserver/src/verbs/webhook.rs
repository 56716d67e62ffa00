//! Conversion of custom resources by the webhook that their definition names: `ConversionReview` of `apiextensions.k8s.io/v1`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use choreo_apimachinery::status::{ApiError, Result};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{Target, text};

/// How long a webhook may take. The same as kube-apiserver's.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The version of reviews that is spoken.
const REVIEW: &str = "apiextensions.k8s.io/v1";

/// Has the definition's webhook convert objects to another version of their kind. The answer has them in the same order.
///
/// # Errors
/// 500 naming the webhook's kind and what it did wrong.
pub(super) async fn convert(
    target: &Target,
    api_version: &str,
    objects: &[Arc<Value>],
) -> Result<Vec<Value>> {
    let from = objects.first().map_or("", |object| text(object, "/apiVersion"));
    let failed = |why: &str| {
        ApiError::internal(format!(
            "conversion webhook for {from}, Kind={} failed: {why}",
            target.resource.kind
        ))
    };
    let Some(webhook) = &target.resource.conversion else {
        return Err(failed("the definition has none"));
    };
    let speaks = webhook["conversionReviewVersions"].as_array();
    if !speaks.into_iter().flatten().any(|version| version == "v1") {
        return Err(failed("it does not speak conversionReviewVersions v1"));
    }
    let uid = uuid::Uuid::new_v4().to_string();
    let review = json!({
        "apiVersion": REVIEW,
        "kind": "ConversionReview",
        "request": {"uid": uid, "desiredAPIVersion": api_version, "objects": objects},
    });
    let snapshot = target.cluster.store().snapshot();
    let mut answer = target
        .cluster
        .callouts
        .call(&snapshot, &webhook["clientConfig"], &review, TIMEOUT)
        .await
        .map_err(|error| failed(&error.to_string()))?;
    if text(&answer, "/apiVersion") != REVIEW || text(&answer, "/kind") != "ConversionReview" {
        return Err(failed(&format!(
            "expected response with apiVersion {REVIEW:?} and kind \"ConversionReview\", got {:?} and {:?}",
            text(&answer, "/apiVersion"),
            text(&answer, "/kind")
        )));
    }
    if text(&answer, "/response/uid") != uid {
        return Err(failed(&format!(
            "expected response.uid={uid:?}, got {:?}",
            text(&answer, "/response/uid")
        )));
    }
    if text(&answer, "/response/result/status") != "Success" {
        let message = text(&answer, "/response/result/message");
        return Err(failed(if message.is_empty() {
            "response.result.status was \"\", not \"Success\""
        } else {
            message
        }));
    }
    let converted = match answer.pointer_mut("/response/convertedObjects").map(Value::take) {
        Some(Value::Array(converted)) => converted,
        _ => Vec::new(),
    };
    if converted.len() != objects.len() {
        return Err(failed(&format!(
            "expected {} converted objects, got {}",
            objects.len(),
            converted.len()
        )));
    }
    let mut checked = Vec::with_capacity(converted.len());
    for (index, (was, now)) in objects.iter().zip(converted).enumerate() {
        let now = check(was, now, api_version)
            .map_err(|why| failed(&format!("response.convertedObjects[{index}]: {why}")))?;
        checked.push(now);
    }
    Ok(checked)
}

/// A webhook may change labels and annotations of an object's metadata, and nothing else.
fn check(was: &Value, mut now: Value, api_version: &str) -> std::result::Result<Value, String> {
    for (field, expected) in [("/apiVersion", api_version), ("/kind", text(was, "/kind"))] {
        if text(&now, field) != expected {
            return Err(format!(
                "invalid {}: expected {expected:?}, got {:?}",
                &field[1..],
                text(&now, field)
            ));
        }
    }
    for field in ["name", "namespace", "uid"] {
        let pointer = format!("/metadata/{field}");
        if text(was, &pointer) != text(&now, &pointer) {
            return Err(format!(
                "metadata.{field} must not change from {:?} to {:?}",
                text(was, &pointer),
                text(&now, &pointer)
            ));
        }
    }
    let mut metadata = was["metadata"].clone();
    for field in ["labels", "annotations"] {
        let given = now["metadata"][field].take();
        match &given {
            Value::Object(map) if map.values().all(Value::is_string) => metadata[field] = given,
            Value::Null => {
                if let Some(map) = metadata.as_object_mut() {
                    map.remove(field);
                }
            }
            _ => return Err(format!("metadata.{field} must be a map of text")),
        }
    }
    now["metadata"] = metadata;
    Ok(now)
}

/// What webhooks made lately, so that many readers of an object cost one call.
#[derive(Debug, Default)]
pub(crate) struct Converted(Mutex<VecDeque<Entry>>);

#[derive(Debug)]
struct Entry {
    /// The definitions at the time: one of them may have got another webhook since.
    generation: u64,
    revision: u64,
    version: String,
    value: Arc<Value>,
}

impl Converted {
    const KEPT: usize = 512;

    /// The object of a revision in the target's version.
    pub(super) fn get(&self, target: &Target, revision: u64) -> Option<Arc<Value>> {
        let generation = target.cluster.served().registry().generation();
        let entries = self.0.lock();
        let found = entries.iter().rev().find(|entry| {
            entry.revision == revision
                && entry.generation == generation
                && entry.version == target.resource.version
        });
        found.map(|entry| entry.value.clone())
    }

    /// Keeps an object of a revision in the target's version.
    pub(super) fn put(&self, target: &Target, revision: u64, value: Arc<Value>) {
        let mut entries = self.0.lock();
        if entries.len() >= Self::KEPT {
            entries.pop_front();
        }
        entries.push_back(Entry {
            generation: target.cluster.served().registry().generation(),
            revision,
            version: target.resource.version.clone(),
            value,
        });
    }
}
