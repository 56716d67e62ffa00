//! Deleting the selected objects of a collection.

use choreo_apimachinery::status::Result;
use futures::{StreamExt, stream};

use super::{Filter, Listed, Target, delete, list};
use crate::request::{DeleteOptions, ListOptions};

/// Deletions under way at once; the store commits them together.
const AT_ONCE: usize = 64;

/// Deletes what a list with the same options and selectors gives. Gives the objects as they were.
///
/// # Errors
/// Those of [`list()`] and the first of [`delete()`] that is not about an object having gone meanwhile.
pub async fn delete_collection(
    target: &Target,
    list_options: &ListOptions,
    filter: &Filter,
    options: &DeleteOptions,
) -> Result<Listed> {
    let listed = list(target, list_options, filter).await?;
    let mut work = Vec::with_capacity(listed.items.len());
    for view in &listed.items {
        let value = view.value();
        let name = super::text(&value, "/metadata/name").to_owned();
        work.push((
            target.in_namespace(super::text(&value, "/metadata/namespace")),
            name,
            options.clone(),
        ));
    }
    let one = |(target, name, options): (Target, String, DeleteOptions)| async move {
        delete(&target, &name, &options).await
    };
    let mut deletions = stream::iter(work.into_iter().map(one)).buffer_unordered(AT_ONCE);
    while let Some(outcome) = deletions.next().await {
        match outcome {
            Err(error) if error.code != 404 => return Err(error),
            _ => {}
        }
    }
    drop(deletions);
    Ok(listed)
}
