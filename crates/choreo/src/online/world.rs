//! The organization as the engine sees it.

use choreo_engine::{AnyObject, World};
use futures::future::try_join_all;
use serde_json::Value;

use super::{Kinds, Session};
use crate::failure::Failure;

/// Everything of the platform that is in the organization.
pub(crate) async fn world(session: &Session, kinds: &Kinds) -> Result<World, Failure> {
    let lists = kinds
        .in_category("choreo")
        .filter(|kind| kind.namespaced)
        .map(|kind| async move {
            let path = kind.path(Some(&session.namespace), None);
            let mut list = session
                .get(&path)
                .await
                .map_err(|error| error.failure(format!("cannot list {}", kind.plural)))?;
            let items = match list["items"].take() {
                Value::Array(items) => items,
                _ => vec![],
            };
            Ok::<_, Failure>((kind, items))
        });
    let mut world = World::default();
    for (kind, items) in try_join_all(lists).await? {
        for mut item in items {
            item["apiVersion"] = format!("{}/{}", kind.group, kind.version).into();
            item["kind"] = kind.kind.clone().into();
            // Kinds that the engine has no use for, and objects of a newer form, are not part of any tree.
            if let Ok(object) = AnyObject::from_value(&item) {
                world.upsert(object);
            }
        }
    }
    Ok(world)
}
