//! The plain manifests, which are the chart with its own values, against a real API.

use choreo_testkit::Bed;

const MANIFESTS: [&str; 3] = [
    include_str!("../../../../deploy/choreo.yaml"),
    include_str!("../../../../deploy/data-plane.yaml"),
    include_str!("../../../../deploy/build-plane.yaml"),
];

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
        assert_eq!(
            first.metadata.resource_version, second.metadata.resource_version,
            "{:?}",
            first.metadata.name
        );
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
