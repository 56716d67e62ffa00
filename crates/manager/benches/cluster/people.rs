//! The one who applies is somebody else than the manager, and admission asks about what they write, as with a manager that the chart
//! installs.

use std::net::{Ipv4Addr, TcpListener};

use choreo_manager::webhook::{Options, Reach};
use choreo_testkit::Cluster;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::{Api, PostParams};
use kube::{Client, Config};

/// Name of the webhook's configuration.
pub(super) const NAME: &str = "choreo-bench";

/// A developer, for whom the user of `config` speaks.
pub(super) fn developer(config: &Config) -> anyhow::Result<Cluster> {
    let mut config = config.clone();
    config.auth_info.impersonate = Some("developer".to_owned());
    config.auth_info.impersonate_groups = Some(vec!["system:masters".to_owned()]);
    Ok(Cluster::new("control", Client::try_from(config)?))
}

/// The webhook of a manager that is this user itself, reached at the local address.
pub(super) async fn webhook(client: &Client) -> anyhow::Result<Options> {
    let reviews: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = reviews
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await?;
    let user = review.status.and_then(|status| status.user_info);
    // A port that is free now, since the configuration has to name it.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    Ok(Options {
        listen: (Ipv4Addr::LOCALHOST, port).into(),
        reach: Reach::Url(format!("https://127.0.0.1:{port}")),
        name: NAME.to_owned(),
        own_user: user.and_then(|user| user.username),
    })
}

/// Nobody is asked any more: the manager that answers goes.
pub(super) async fn no_webhook(client: &Client) -> anyhow::Result<()> {
    let changing: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    changing.delete(NAME, &Default::default()).await?;
    let judging: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    judging.delete(NAME, &Default::default()).await?;
    Ok(())
}
