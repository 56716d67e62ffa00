//! Secrets of the control plane that a release has copied into its cell: the credentials of a registry.
//!
//! What is in them is in no Release, where everybody who may look at releases could read it. It is read when the release is
//! applied, and again from time to time.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use serde_json::{Value, json};

use super::build::Wanted;
use super::{Releases, Subject};
use crate::runtime::Retry;
use crate::write::Failure;

/// How soon a changed Secret arrives at the latest.
pub(super) const READ_AGAIN: Duration = Duration::from_secs(300);

impl Releases {
    /// Puts the content of the control plane's Secrets into their copies.
    pub(super) async fn fill_copies(&self, subject: &Subject, wanted: &mut [Wanted]) -> Result<(), Retry> {
        let namespace = &subject.key.namespace;
        for object in wanted {
            let Some(name) = object.copy_of.clone() else {
                continue;
            };
            let secrets: Api<Secret> = Api::namespaced(self.context.control.client().clone(), namespace);
            let found = secrets.get_opt(&name).await.map_err(|error| {
                Failure::from(error).while_doing(&format!("read Secret {namespace}/{name}"))
            })?;
            match found {
                Some(secret) => fill(&mut object.object, &secret),
                None => {
                    object.without_content = Some(format!(
                        "Secret {name:?} is neither in namespace {namespace:?} of the control plane, which it is copied from, nor in the cell: create it in one of the two"
                    ));
                }
            }
        }
        Ok(())
    }
}

fn fill(object: &mut Value, secret: &Secret) {
    let Some(fields) = object.as_object_mut() else {
        return;
    };
    if let Some(data) = &secret.data {
        fields.insert("data".to_owned(), json!(data));
    }
    if let Some(type_) = &secret.type_ {
        fields.insert("type".to_owned(), json!(type_));
    }
}
