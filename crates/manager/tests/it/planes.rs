//! How data planes are reached: with every kind of credentials, and several clusters as one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use choreo_testkit::{Bed, TOKENS, conditions, ready_message};
use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::support::{alone, apply_greeter, cell, kinds, manager};

/// What `Connected` of the data plane says, once it is `status`.
async fn connected(bed: &Bed, organization: &str, status: &'static str) -> anyhow::Result<String> {
    let said = |object: &DynamicObject| {
        let all = conditions(object).into_iter();
        all.into_iter()
            .find(|(type_, found, ..)| type_ == "Connected" && found == status)
            .map(|(.., message)| message)
    };
    let plane = bed
        .control
        .wait_for(
            "DataPlane",
            organization,
            "default",
            &format!("connected: {status}"),
            |object| said(object).is_some(),
        )
        .await?;
    Ok(said(&plane).unwrap_or_default())
}

/// Writes the Secret that the data plane reads.
async fn secret(bed: &Bed, organization: &str, content: Value) -> anyhow::Result<()> {
    bed.control
        .apply(json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "other-credentials", "namespace": organization}, "stringData": content,
        }))
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_and_a_kubeconfig_are_as_good_as_a_token() -> anyhow::Result<()> {
    let _alone = alone().await;
    let organization = "credentials";
    let bed = Bed::start().await?;
    let manager = manager(&bed, organization).await;
    kinds(&bed.control).await?;
    bed.organization(organization).await?;
    apply_greeter(&bed.control, organization).await?;
    bed.control
        .wait_ready("Component", organization, "greeter")
        .await?;

    let of = |name: &str| json!({"secretRef": name});
    let kubeconfig = |token: &str| {
        json!({"kubeconfig": json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "a",
            "clusters": [{"name": "a", "cluster": {"server": "https://elsewhere.invalid"}}],
            "users": [{"name": "a", "user": {"token": token}}],
            "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        })
        .to_string()})
    };
    // A certificate that nobody knows, and one of an administrator.
    let stranger = rcgen::generate_simple_self_signed(vec!["stranger".to_owned()])?;
    let mtls = |certificate: &str, key: &str| json!({"tls.crt": certificate, "tls.key": key});
    let known = bed.administrator();
    let cases = [
        (
            json!({"mtls": {"clientCert": of("other-credentials"), "clientKey": of("other-credentials")}}),
            mtls(&stranger.cert.pem(), &stranger.signing_key.serialize_pem()),
            mtls(&known.certificate_pem, &known.key_pem),
        ),
        (
            json!({"kubeconfig": of("other-credentials")}),
            kubeconfig("nobody's"),
            kubeconfig(TOKENS[1]),
        ),
    ];
    for (auth, wrong, right) in cases {
        secret(&bed, organization, wrong).await?;
        let mut plane = bed.data_plane(organization, "default", bed.plane_url());
        plane["spec"]["kubernetesCluster"] = json!({
            "server": bed.plane_url(), "auth": auth, "tls": {"ca": {"value": STANDARD.encode(bed.authority())}},
        });
        bed.control.apply(plane).await?;
        let why = connected(&bed, organization, "False").await?;
        assert!(!why.is_empty(), "{auth}: it does not say why not");
        secret(&bed, organization, right).await?;
        connected(&bed, organization, "True").await?;
        // It is written with, too.
        bed.plane
            .delete("Service.", &cell(organization), "greeter")
            .await?;
        bed.plane
            .wait_for("Service.", &cell(organization), "greeter", "healed", |_| true)
            .await?;
    }
    bed.control.delete("Organization", "", organization).await?;
    bed.control
        .wait_all("Release", organization, "no release", <[_]>::is_empty)
        .await?;
    manager.stop().await?;
    bed.stop();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_in_each_cluster_of_a_data_plane_and_goes_from_each() -> anyhow::Result<()> {
    let _alone = alone().await;
    let organization = "several";
    let bed = Bed::start().await?;
    let (second, url) = bed.second_plane().await?;
    let manager = manager(&bed, organization).await;
    kinds(&bed.control).await?;
    bed.organization(organization).await?;
    let mut plane = bed.data_plane(organization, "default", "https://replaced");
    let cluster = |name: &str, url: &str, primary: bool, authority: Option<&str>| {
        let mut connection =
            json!({"server": url, "auth": {"bearerToken": {"secretRef": "plane-credentials"}}});
        if let Some(authority) = authority {
            connection["tls"] = json!({"ca": {"value": STANDARD.encode(authority)}});
        }
        json!({"name": name, "primary": primary, "kubernetesCluster": connection})
    };
    let spec = plane["spec"].as_object_mut().unwrap();
    spec.remove("kubernetesCluster");
    spec.insert(
        "clusters".to_owned(),
        json!([
            cluster("near", &bed.plane_proxy.url(), true, None),
            cluster("far", &url, false, Some(bed.authority())),
        ]),
    );
    // Nothing runs in the second one, which has no nodes.
    spec.insert("maxUnavailableClusters".to_owned(), json!(1));
    bed.control.delete("DataPlane", organization, "default").await?;
    bed.control
        .wait_gone("DataPlane", organization, "default")
        .await?;
    bed.control.apply(plane).await?;
    apply_greeter(&bed.control, organization).await?;
    bed.control
        .wait_ready("Component", organization, "greeter")
        .await?;
    for cluster in [&bed.plane, &second] {
        for kind in ["Deployment.apps", "Service."] {
            cluster
                .wait_for(kind, &cell(organization), "greeter", "there", |_| true)
                .await?;
        }
        // Each is watched: what is taken away comes back.
        let gone = cluster
            .get("Service.", &cell(organization), "greeter")
            .await?
            .unwrap();
        cluster.delete("Service.", &cell(organization), "greeter").await?;
        let healed = |object: &DynamicObject| object.metadata.uid != gone.metadata.uid;
        cluster
            .wait_for("Service.", &cell(organization), "greeter", "healed", healed)
            .await?;
    }

    // The first one is away. What changes meanwhile is done in the second, and in the first when it is back.
    bed.plane_proxy.down();
    bed.control
        .wait_unready("DataPlane", organization, "default", "near")
        .await?;
    let image = "example.com/greeter:next";
    let patch = json!({"spec": {"containers": {"main": {"image": image}}}});
    bed.control
        .merge("Workload", organization, "greeter", patch)
        .await?;
    let runs =
        |object: &DynamicObject| object.data["spec"]["template"]["spec"]["containers"][0]["image"] == image;
    second
        .wait_for(
            "Deployment.apps",
            &cell(organization),
            "greeter",
            "the new image",
            runs,
        )
        .await?;
    let release = bed
        .control
        .wait_unready("Release", organization, "greeter-development", "near")
        .await?;
    assert!(
        ready_message(&release).contains("cannot be reached"),
        "{}",
        ready_message(&release)
    );
    bed.plane_proxy.heal();
    bed.plane
        .wait_for(
            "Deployment.apps",
            &cell(organization),
            "greeter",
            "the new image",
            runs,
        )
        .await?;

    bed.control.delete("Organization", "", organization).await?;
    for cluster in [&bed.plane, &second] {
        cluster.wait_gone("Namespace.", "", &cell(organization)).await?;
    }
    bed.control
        .wait_all("Release", organization, "no release", <[_]>::is_empty)
        .await?;
    manager.stop().await?;
    bed.stop();
    Ok(())
}
