//! Definitions of a cluster that another version has used before.

use choreo_controllers::install::upgrade::{VERSION, upgrade};
use choreo_controllers::install::{self, Definition, InstallError};
use choreo_testkit::Bed;
use kube::api::ListParams;
use serde_json::{Value, json};

const NAME: &str = "projects.openchoreo.dev";

/// The definition of Project with one field more.
fn with_a_field() -> Vec<Definition> {
    let project = install::control_plane()
        .into_iter()
        .find(|definition| definition.name == NAME)
        .unwrap();
    let mut value = project.to_value();
    let schema = &mut value["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    schema["properties"]["spec"]["properties"]["budget"] = json!({"type": "integer"});
    vec![Definition::new(NAME.to_owned(), value.to_string())]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_downgrade_that_loses_fields_is_refused_and_says_which() -> anyhow::Result<()> {
    if Bed::is_foreign() {
        // Would change definitions under other tests.
        return Ok(());
    }
    let bed = Bed::start().await?;
    let client = &bed.control.client;
    let old: Vec<Definition> = install::control_plane()
        .into_iter()
        .filter(|definition| definition.name == NAME)
        .collect();
    upgrade(client, &old, "0.1.0", false).await?;
    upgrade(client, &with_a_field(), "0.2.0", false).await?;
    let refused = upgrade(client, &old, "0.1.0", false).await.unwrap_err();
    assert!(
        matches!(refused, InstallError::Downgrade { count: 1, .. }),
        "{refused}"
    );
    assert!(
        refused
            .to_string()
            .contains("projects.openchoreo.dev: .spec.budget"),
        "{refused}"
    );
    let live = bed
        .control
        .get("CustomResourceDefinition", "", NAME)
        .await?
        .unwrap();
    assert_eq!(live.metadata.annotations.unwrap()[VERSION], "0.2.0");
    // The same fields lose nothing, and nothing is written.
    let report = upgrade(client, &with_a_field(), "0.1.0", false).await?;
    assert_eq!(report.newer, [NAME]);
    upgrade(client, &old, "0.1.0", true).await?;
    let live = bed
        .control
        .get("CustomResourceDefinition", "", NAME)
        .await?
        .unwrap();
    assert_eq!(live.metadata.annotations.unwrap()[VERSION], "0.1.0");
    bed.stop();
    Ok(())
}

fn widgets(storage: &str) -> Vec<Definition> {
    let version = |name: &str| {
        json!({"name": name, "served": true, "storage": name == storage, "schema": {"openAPIV3Schema": {
            "type": "object", "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}},
        }}})
    };
    let definition: Value = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.upgrade.example.dev"},
        "spec": {
            "group": "upgrade.example.dev", "scope": "Namespaced",
            "names": {"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList"},
            "versions": [version("v1"), version("v2")],
        },
    });
    vec![Definition::new(
        "widgets.upgrade.example.dev".to_owned(),
        definition.to_string(),
    )]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_that_are_stored_in_an_old_version_are_rewritten() -> anyhow::Result<()> {
    let _alone = crate::support::alone().await;
    let bed = Bed::start().await?;
    let client = &bed.control.client;
    upgrade(client, &widgets("v1"), "0.1.0", false).await?;
    for name in ["a", "b"] {
        bed.control
            .apply(json!({
                "apiVersion": "upgrade.example.dev/v1", "kind": "Widget", "metadata": {"name": name}, "spec": {"size": 1},
            }))
            .await?;
    }
    let report = upgrade(client, &widgets("v2"), "0.2.0", false).await?;
    assert_eq!(report.migrated, [("widgets.upgrade.example.dev".to_owned(), 2)]);
    let live = bed
        .control
        .get("CustomResourceDefinition", "", "widgets.upgrade.example.dev")
        .await?
        .unwrap();
    assert_eq!(live.data["status"]["storedVersions"], json!(["v2"]));
    let all = bed
        .control
        .api("Widget.upgrade.example.dev", "default")
        .await?
        .list(&ListParams::default())
        .await?;
    assert_eq!(all.items.len(), 2);
    // There is nothing left to do.
    assert!(
        upgrade(client, &widgets("v2"), "0.2.0", false)
            .await?
            .migrated
            .is_empty()
    );
    bed.control
        .delete("CustomResourceDefinition", "", "widgets.upgrade.example.dev")
        .await?;
    bed.stop();
    Ok(())
}
