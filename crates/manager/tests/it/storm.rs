//! Whatever others do to objects while the controllers are at work, all is as wished once they stop.

use std::time::Duration;

use anyhow::Context as _;
use choreo_testkit::Cluster;
use futures::future::try_join_all;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

use crate::faults::{end, with_greeter};
use crate::support::{alone, apply_greeter, cell};

/// What a cell consists of.
const OF_THE_CELL: [&str; 6] = [
    "Deployment.apps",
    "Service.",
    "ServiceAccount.",
    "ConfigMap.",
    "NetworkPolicy.networking.k8s.io",
    "HTTPRoute.gateway.networking.k8s.io",
];

/// What the control plane makes of a component, and makes again.
const DERIVED: [&str; 2] = ["Release.openchoreo.dev", "Endpoint.openchoreo.dev"];

const PEOPLE: u64 = 4;
const DEEDS: usize = 60;

/// An object without what the API server and its controllers say of it.
fn wished(object: &DynamicObject) -> (String, Value) {
    let mut data = object.data.clone();
    if let Some(data) = data.as_object_mut() {
        data.remove("status");
        data.remove("secrets");
    }
    if let Some(spec) = data["spec"].as_object_mut() {
        spec.retain(|name, _| !["clusterIP", "clusterIPs"].contains(&name.as_str()));
    }
    let name = object.metadata.name.clone().unwrap_or_default();
    (name, json!({"labels": object.metadata.labels, "data": data}))
}

/// What of the platform's is in the cell, by kind.
async fn all_of(local: &Cluster, cell: &str) -> anyhow::Result<Vec<(String, Vec<(String, Value)>)>> {
    let of_kind = |kind: &'static str| async move {
        let mut all: Vec<_> = local.list(kind, cell).await?.iter().map(wished).collect();
        all.retain(|(_, object)| object["labels"]["app.kubernetes.io/managed-by"] == "choreo");
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        anyhow::Ok((kind.to_owned(), all))
    };
    try_join_all(OF_THE_CELL.map(of_kind)).await
}

/// Somebody who deletes and changes what comes before them, without a pause. That a thing is gone already is no matter.
async fn somebody(seed: u64, local: Vec<Api<DynamicObject>>, control: Vec<Api<DynamicObject>>) {
    let mut chance = StdRng::seed_from_u64(seed);
    for _ in 0..DEEDS {
        // One in six is about the control plane.
        let apis = if chance.random_ratio(1, 6) {
            &control
        } else {
            &local
        };
        let api = &apis[chance.random_range(0..apis.len())];
        let Ok(found) = api.list(&ListParams::default()).await else {
            continue;
        };
        let found: Vec<_> = found.items.into_iter().filter_map(|o| o.metadata.name).collect();
        let Some(name) = found.get(chance.random_range(0..found.len().max(1))) else {
            continue;
        };
        let labels = json!({"metadata": {"labels": {"app.kubernetes.io/component": "evil"}}});
        let image =
            json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "evil"}]}}}});
        let patch = if chance.random() { labels } else { image };
        if chance.random_ratio(2, 3) {
            let _ = api.delete(name, &DeleteParams::background()).await;
        } else {
            let _ = api
                .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
                .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_others_do_is_lost() -> anyhow::Result<()> {
    let _alone = alone().await;
    let organization = "storm";
    let (bed, running) = with_greeter(organization).await?;
    let (control, local, cell) = (&bed.control, &bed.plane, cell(organization));
    let before = all_of(local, &cell).await?;
    let count: usize = before.iter().map(|(_, all)| all.len()).sum();
    assert!(count >= 5, "{before:#?}");

    let of_the_cell = try_join_all(OF_THE_CELL.map(|kind| local.api(kind, &cell))).await?;
    let derived = try_join_all(DERIVED.map(|kind| control.api(kind, organization))).await?;
    let people = (0..PEOPLE).map(|seed| tokio::spawn(somebody(seed, of_the_cell.clone(), derived.clone())));
    // And somebody who applies what is there already.
    for _ in 0..10 {
        apply_greeter(control, organization).await?;
    }
    try_join_all(people).await?;

    let again = async {
        loop {
            let now = all_of(local, &cell).await?;
            if now == before {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(60), again)
        .await
        .is_err()
    {
        let now = all_of(local, &cell).await?;
        anyhow::bail!("it was {before:#?}\nand is {now:#?}");
    }
    control
        .wait_ready("Component", organization, "greeter")
        .await
        .context("after the storm")?;
    end(bed, running, organization).await
}
