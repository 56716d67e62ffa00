//! What a data plane can do comes and goes with the kinds that it serves, and releases with it.

use std::collections::BTreeSet;

use choreo_testkit::Bed;
use kube::api::DynamicObject;
use serde_json::json;

use crate::faults::{end, with_greeter};
use crate::support::{alone, cell};

const CILIUM: &str = "ciliumnetworkpolicies.cilium.io";

/// Waits until the data plane says whether it has Cilium's policies.
async fn has_cilium(bed: &Bed, organization: &str, has: bool) -> anyhow::Result<()> {
    let says = |object: &DynamicObject| object.data["status"]["features"]["cilium"] == has;
    bed.control
        .wait_for("DataPlane", organization, "default", "what it can do", says)
        .await?;
    Ok(())
}

fn names(all: &[DynamicObject]) -> BTreeSet<String> {
    all.iter()
        .filter_map(|object| object.metadata.name.clone())
        .collect()
}

/// Waits until the greeter's release has policies of this kind, and none of the other. Names of all that are in the cell.
async fn policies(
    bed: &Bed,
    organization: &str,
    kind: &str,
    other: &str,
) -> anyhow::Result<BTreeSet<String>> {
    let release = "greeter-development";
    let applied = |object: &DynamicObject| {
        let rendered = object.data["status"]["resources"].as_array();
        let of = |kind: &str| {
            rendered
                .into_iter()
                .flatten()
                .any(|resource| resource["kind"] == kind)
        };
        of(kind) && !of(other)
    };
    bed.control
        .wait_for("Release", organization, release, kind, applied)
        .await?;
    Ok(names(&bed.plane.list(kind, &cell(organization)).await?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_follow_the_kinds_that_a_plane_serves() -> anyhow::Result<()> {
    let _alone = alone().await;
    let (bed, running) = with_greeter("features").await?;
    has_cilium(&bed, "features", true).await?;
    let before = policies(&bed, "features", "CiliumNetworkPolicy", "NetworkPolicy").await?;
    let definition = bed
        .plane
        .get("CustomResourceDefinition", "", CILIUM)
        .await?
        .unwrap();

    bed.plane.delete("CustomResourceDefinition", "", CILIUM).await?;
    has_cilium(&bed, "features", false).await?;
    let meanwhile = policies(&bed, "features", "NetworkPolicy", "CiliumNetworkPolicy").await?;
    assert!(!meanwhile.is_empty());
    // A cell is closed in the other dialect, and all is well.
    bed.control.wait_ready("Component", "features", "greeter").await?;

    bed.plane
        .apply(json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": CILIUM}, "spec": definition.data["spec"],
        }))
        .await?;
    has_cilium(&bed, "features", true).await?;
    policies(&bed, "features", "CiliumNetworkPolicy", "NetworkPolicy").await?;
    // The cell's own come with another release.
    bed.plane
        .wait_all(
            "CiliumNetworkPolicy",
            &cell("features"),
            "those of before",
            |all| names(all).is_superset(&before),
        )
        .await?;
    bed.plane
        .wait_all(
            "NetworkPolicy",
            &cell("features"),
            "none of the other dialect",
            <[_]>::is_empty,
        )
        .await?;
    bed.control.wait_ready("Component", "features", "greeter").await?;
    end(bed, running, "features").await
}
