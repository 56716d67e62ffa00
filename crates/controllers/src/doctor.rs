//! Looks for what is left behind: objects in data planes that carry our label and that no Release knows.
//!
//! Nothing is changed. An orphan may be what a clean-up that was given up has left there, what somebody restored from a backup, or what
//! another control plane has put into the same cluster; only a person can tell.

use std::collections::{BTreeMap, BTreeSet};

use choreo_api::v1alpha1::{DataPlane, Release};
use futures::future::join_all;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::{ObjectMeta, PartialObjectMeta};
use kube::discovery::{Discovery, verbs};
use kube::{Client, ResourceExt};

use crate::dataplane::{clusters_of, resolve_with};
use crate::planes::{ClusterConnector, ConnectError, MANAGED_BY};
use crate::runtime::feed::describe;
use crate::runtime::{GroupKind, ObjectRef};

/// An object that no Release knows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Orphan {
    /// Kind, namespace and name.
    pub object: ObjectRef,
    /// What its labels say it belonged to, if anything.
    pub belonged_to: String,
}

/// What was found in one cluster.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The DataPlane, as `namespace/name`, and its cluster if it has several.
    pub data_plane: String,
    /// Objects that no Release knows, or why that could not be found out.
    pub orphans: Result<Vec<Orphan>, String>,
    /// How many objects carry our label.
    pub objects: usize,
}

/// Looks at every cluster of every data plane.
///
/// # Errors
/// When the control plane cannot be read.
pub async fn examine(
    control: &Client,
    connector: &dyn ClusterConnector,
) -> Result<Vec<Finding>, kube::Error> {
    let releases = Api::<Release>::all(control.clone())
        .list(&ListParams::default())
        .await?
        .items;
    let planes = Api::<DataPlane>::all(control.clone())
        .list(&ListParams::default())
        .await?
        .items;
    // By data plane and cluster. Two data planes may be one cluster, so that what any of them knows is known.
    let mut known: BTreeSet<ObjectRef> = BTreeSet::new();
    for release in &releases {
        for entry in release.status.iter().flat_map(|status| &status.inventory) {
            known.insert(ObjectRef::new(
                &entry.group,
                &entry.kind,
                entry.namespace.as_deref().unwrap_or_default(),
                &entry.name,
            ));
        }
    }
    let mut work = Vec::new();
    for plane in &planes {
        let namespace = plane.namespace().unwrap_or_default();
        for (cluster, connection) in clusters_of(&plane.spec) {
            let mut name = format!("{namespace}/{}", plane.name_any());
            if !cluster.is_empty() {
                name = format!("{name}:{cluster}");
            }
            let (known, namespace) = (&known, namespace.clone());
            work.push(async move {
                let found = async {
                    let target = resolve_with(control, &namespace, &connection).await?;
                    let client = connector.connect(&target).await?;
                    let all = ours(&client)
                        .await
                        .map_err(|error| ConnectError::Unreachable(describe(&error)))?;
                    let objects = all.len();
                    let mut orphans: Vec<Orphan> = all
                        .into_iter()
                        .filter(|orphan| !known.contains(&orphan.object))
                        .collect();
                    orphans.sort();
                    Ok::<_, ConnectError>((objects, orphans))
                };
                match found.await {
                    Ok((objects, orphans)) => Finding {
                        data_plane: name,
                        orphans: Ok(orphans),
                        objects,
                    },
                    Err(error) => Finding {
                        data_plane: name,
                        orphans: Err(error.to_string()),
                        objects: 0,
                    },
                }
            });
        }
    }
    Ok(join_all(work).await)
}

/// Every object with our label that nothing in the cluster itself has made: pods, for instance, inherit the label.
async fn ours(client: &Client) -> Result<Vec<Orphan>, kube::Error> {
    let params = ListParams::default().labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1));
    let discovery = Discovery::new(client.clone()).run_aggregated().await?;
    // Some kinds are served by several groups; an object counts once.
    let mut found: BTreeMap<String, Orphan> = BTreeMap::new();
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            // A cluster copies a Service's labels onto its Endpoints, and names no owner.
            if resource.group.is_empty() && resource.kind == "Endpoints" {
                continue;
            }
            if !capabilities.supports_operation(verbs::LIST)
                || !capabilities.supports_operation(verbs::DELETE)
            {
                continue;
            }
            let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
            let listed = match api.list_metadata(&params).await {
                Ok(listed) => listed,
                // A kind that may not be listed, or not by its metadata, hides nothing that we could have made there.
                Err(kube::Error::Api(status)) if matches!(status.code, 403..=406) => continue,
                Err(error) => return Err(error),
            };
            for object in listed.items {
                let PartialObjectMeta { metadata, .. } = object;
                if metadata
                    .owner_references
                    .as_ref()
                    .is_some_and(|owners| !owners.is_empty())
                {
                    continue;
                }
                let uid = metadata.uid.clone().unwrap_or_default();
                let orphan = Orphan {
                    object: ObjectRef {
                        kind: GroupKind::new(&resource.group, &resource.kind),
                        namespace: metadata.namespace.clone().unwrap_or_default(),
                        name: metadata.name.clone().unwrap_or_default(),
                    },
                    belonged_to: belonged_to(&metadata),
                };
                found.entry(uid).or_insert(orphan);
            }
        }
    }
    Ok(found.into_values().collect())
}

fn belonged_to(metadata: &ObjectMeta) -> String {
    let labels = metadata.labels.iter().flatten();
    let said: BTreeMap<&str, &str> = labels
        .filter_map(|(key, value)| Some((key.strip_prefix("openchoreo.dev/")?, value.as_str())))
        .collect();
    ["organization", "project", "component", "environment"]
        .into_iter()
        .filter_map(|part| Some(format!("{part} {}", said.get(part)?)))
        .collect::<Vec<_>>()
        .join(", ")
}
