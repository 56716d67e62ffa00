//! Definitions are installed once, and again only when there is a reason.

use std::collections::BTreeMap;

use choreo_controllers::install::{self, Definition};
use choreo_testkit::Platform;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ListParams, PartialObjectMeta, Patch, PatchParams, ResourceExt as _};
use serde_json::json;

/// The resource version of each definition.
async fn versions(api: &Api<CustomResourceDefinition>) -> anyhow::Result<BTreeMap<String, Option<String>>> {
    let listed = api.list_metadata(&ListParams::default()).await?;
    let version = |d: &PartialObjectMeta<_>| (d.name_any(), d.resource_version());
    Ok(listed.items.iter().map(version).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_installed_is_not_written_again_unless_somebody_changed_it() -> anyhow::Result<()> {
    const NAME: &str = "projects.openchoreo.dev";
    let platform = Platform::start().await?;
    let client = &platform.control.client;
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let before = api.get(NAME).await?;
    let all_before = versions(&api).await?;

    install::definitions(client, &install::control_plane()).await?;
    assert_eq!(all_before, versions(&api).await?, "nothing was written");

    let shorter = json!({"spec": {"names": {"shortNames": ["pj"]}}});
    let by_hand = PatchParams::default();
    api.patch(NAME, &by_hand, &Patch::Merge(&shorter)).await?;
    install::definitions(client, &install::control_plane()).await?;
    let healed = api.get(NAME).await?;
    assert_eq!(healed.spec.names, before.spec.names);
    assert_ne!(before.spec.names.short_names, Some(vec!["pj".to_owned()]));
    let mut others = versions(&api).await?;
    others.insert(NAME.to_owned(), all_before[NAME].clone());
    assert_eq!(others, all_before, "only what was changed is written");

    // An older version of the platform has written something else.
    let mut older = install::control_plane();
    older.retain(|definition| definition.name == NAME);
    let mut object = older[0].to_value();
    object["spec"]["names"]["shortNames"] = json!(["older"]);
    older[0] = Definition::new(NAME.to_owned(), object.to_string());
    install::definitions(client, &older).await?;
    assert_eq!(
        api.get(NAME).await?.spec.names.short_names,
        Some(vec!["older".to_owned()])
    );
    install::definitions(client, &install::control_plane()).await?;
    assert_eq!(api.get(NAME).await?.spec.names, before.spec.names);
    platform.stop().await;
    Ok(())
}
