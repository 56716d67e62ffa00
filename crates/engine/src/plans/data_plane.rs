//! A data plane: what is wrong with how it is described. Whether it answers is for the controller to find out.

use choreo_api::v1alpha1::{DataPlane, KubernetesCluster, SecretStoreKind};

use super::summary;
use crate::{health::Rules, plan::Plan, problem::Problems};

pub(super) fn plan(plane: &DataPlane) -> Plan {
    let mut problems = Problems::new();
    let spec = &plane.spec;
    match (&spec.kubernetes_cluster, spec.clusters.is_empty()) {
        (None, true) => {
            problems.invalid("spec: neither kubernetesCluster nor clusters says which cluster this is")
        }
        (Some(_), false) => {
            problems.invalid("spec: kubernetesCluster and clusters exclude each other; keep one")
        }
        _ => {}
    }
    if let Some(cluster) = &spec.kubernetes_cluster {
        check(cluster, "spec.kubernetesCluster", &mut problems);
    }
    for cluster in &spec.clusters {
        let field = format!("spec.clusters[{}]", cluster.name);
        match (&cluster.kubernetes_cluster, &cluster.endpoint) {
            (Some(connection), _) => check(connection, &format!("{field}.kubernetesCluster"), &mut problems),
            (None, Some(_)) => {}
            (None, None) => problems.invalid(format!("{field}: give kubernetesCluster or endpoint")),
        }
    }
    if let Some(store) = &spec.secret_store_ref
        && store.kind == SecretStoreKind::SecretProviderClass
        && store.provider.is_none()
    {
        problems.invalid(
            "spec.secretStoreRef.provider: a store of kind SecretProviderClass needs to know what gets the values; give its name (vault, aws, azure or gcp) and its parameters",
        );
    }
    if let Err(error) = Rules::with(&spec.health_rules) {
        problems.invalid(format!("spec.healthRules: {error}"));
    }
    let status = summary(&plane.metadata, &problems, "well described");
    Plan {
        status: Some(status),
        problems,
        ..Plan::default()
    }
}

fn check(cluster: &KubernetesCluster, field: &str, problems: &mut Problems) {
    if cluster.embedded().is_some() {
        return;
    }
    match url::Url::parse(&cluster.server) {
        Ok(url) if matches!(url.scheme(), "https" | "http") && url.has_host() => {}
        _ => problems.invalid(format!(
            "{field}.server: {:?} is not the https address of a cluster",
            cluster.server
        )),
    }
    match &cluster.auth {
        None => problems.invalid(format!("{field}.auth: not given; say how to sign in")),
        Some(auth) if auth.ways() != 1 => problems.invalid(format!(
            "{field}.auth: give exactly one of mtls, bearerToken and kubeconfig"
        )),
        Some(_) => {}
    }
}
