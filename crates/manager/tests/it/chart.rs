//! The plain manifests, which are the chart with its own values, against a real API.

use choreo_testkit::Bed;
use kube::api::DynamicObject;

const MANIFESTS: [&str; 3] = [
    include_str!("../../../../deploy/choreo.yaml"),
    include_str!("../../../../deploy/data-plane.yaml"),
    include_str!("../../../../deploy/build-plane.yaml"),
];

/// What the manifests say, without what controllers write meanwhile: a state, a token.
fn essence(object: &DynamicObject) -> DynamicObject {
    let mut object = object.clone();
    object.metadata.resource_version = None;
    object.metadata.managed_fields = None;
    object.metadata.annotations = None;
    for written in ["status", "data"] {
        object.data[written].take();
    }
    object
}

/// Every field is known and every value allowed: `fieldValidation=Strict`, which is how the bed applies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_install_with_strict_validation() -> anyhow::Result<()> {
    let _alone = crate::support::alone().await;
    let bed = Bed::start().await?;
    let manifests = MANIFESTS.join("---\n");
    let applied = bed.control.apply_yaml(&manifests).await?;
    let kinds: Vec<String> = applied
        .iter()
        .filter_map(|object| Some(object.types.as_ref()?.kind.clone()))
        .collect();
    for kind in [
        "Deployment",
        "ClusterRole",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "ServiceAccount",
        "Service",
    ] {
        assert!(
            kinds.iter().any(|found| found == kind),
            "{kind} is not among {kinds:?}"
        );
    }
    // Again changes nothing: what the server filled in is not fought over.
    let again = bed.control.apply_yaml(&manifests).await?;
    for (first, second) in applied.iter().zip(&again) {
        assert_eq!(essence(first), essence(second));
    }
    if Bed::is_foreign() {
        for object in applied
            .iter()
            .rev()
            .filter(|object| object.metadata.namespace.is_none())
        {
            let (kind, name) = (
                object.types.clone().unwrap().kind,
                object.metadata.name.clone().unwrap(),
            );
            if kind != "Namespace" {
                bed.control.delete(&kind, "", &name).await?;
            }
        }
    }
    bed.stop();
    Ok(())
}
