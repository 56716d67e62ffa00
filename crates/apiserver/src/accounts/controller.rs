//! What every namespace has: the account `default`, and the certificates by which its Pods know the server. Secrets that ask
//! for a token of an account get it.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use choreo_apimachinery::status::Result;
use choreo_store::{Event, EventKind, Key, Write};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{DEFAULT, RESOURCE, ROOT_CA};
use crate::cluster::Cluster;
use crate::follow::{Round, rounds};
use crate::request::DeleteOptions;
use crate::user::UserInfo;
use crate::verbs::{Subresource, Target, delete, edit, is_deleting, now, text};

/// The name under which this controller writes.
const AGENT: &str = "serviceaccount-controller";

/// The type of Secrets that are filled with a token, and how they name their account.
const TOKEN_TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT_NAME: &str = "/metadata/annotations/kubernetes.io~1service-account.name";

/// Works until `shutdown`.
pub(crate) async fn run(cluster: Arc<Cluster>, shutdown: CancellationToken) {
    rounds(shutdown, || round(cluster.clone())).await;
}

async fn round(cluster: Arc<Cluster>) -> Round {
    let cluster = &cluster;
    let snapshot = cluster.store().snapshot();
    let watch = |resource: &str| cluster.store().watch(Some(resource), None, snapshot.revision());
    let (mut namespaces, mut accounts) = (watch("namespaces")?, watch(RESOURCE)?);
    let (mut config_maps, mut secrets) = (watch("configmaps")?, watch("secrets")?);
    for namespace in snapshot.iter("namespaces", None, None) {
        ensure(cluster, namespace.key().name()).await;
    }
    for secret in snapshot.iter("secrets", None, None) {
        fill(cluster, &secret.value()).await;
    }
    drop(snapshot);
    loop {
        let event = tokio::select! {
            event = namespaces.next() => event,
            event = accounts.next() => event,
            event = config_maps.next() => event,
            event = secrets.next() => event,
        };
        look_at(cluster, &*event?).await;
    }
}

async fn look_at(cluster: &Arc<Cluster>, event: &Event) {
    let key = event.object.key();
    let gone = event.kind == EventKind::Deleted;
    match key.resource() {
        "namespaces" if event.kind == EventKind::Added => ensure(cluster, key.name()).await,
        RESOURCE if gone && key.name() == DEFAULT => ensure(cluster, key.namespace()).await,
        RESOURCE if gone => drop_secrets(cluster, &event.object.value()).await,
        "configmaps" if key.name() == ROOT_CA => ensure(cluster, key.namespace()).await,
        "secrets" if !gone => fill(cluster, &event.object.value()).await,
        _ => {}
    }
}

/// Makes what a namespace lacks, unless it is going away.
async fn ensure(cluster: &Arc<Cluster>, namespace: &str) {
    ensure_default(cluster, namespace).await;
    let pem = cluster.certificate_authority();
    if pem.is_empty() || !is_active(cluster, namespace) {
        return;
    }
    let key = Key::new("configmaps", namespace, ROOT_CA);
    let found = cluster.store().get(&key);
    if found
        .as_ref()
        .is_some_and(|found| text(&found.value(), "/data/ca.crt") == pem)
    {
        return;
    }
    let description = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints \
                       such as the internal service IP or kubernetes.default.svc.";
    let mut value = found.as_ref().map_or_else(
        || {
            let mut value = new(namespace, "v1", "ConfigMap", ROOT_CA);
            value["metadata"]["annotations"] = json!({"kubernetes.io/description": description});
            value
        },
        |found| (*found.value()).clone(),
    );
    value["data"] = json!({"ca.crt": pem});
    let write = match &found {
        None => Write::Create { key, value },
        Some(found) => Write::Update {
            key,
            value,
            expect: found.revision(),
        },
    };
    said(cluster.write(write).await.map(|_| ()));
}

/// Makes the account `default` of a namespace, unless it is there or the namespace is going away.
pub(super) async fn ensure_default(cluster: &Cluster, namespace: &str) {
    let key = Key::new(RESOURCE, namespace, DEFAULT);
    if cluster.store().get(&key).is_some() || !is_active(cluster, namespace) {
        return;
    }
    let value = new(namespace, "v1", "ServiceAccount", DEFAULT);
    said(cluster.write(Write::Create { key, value }).await.map(|_| ()));
}

/// Somebody else has made or changed it at the same time: the next event tells. Anything else is for the log.
fn said(outcome: std::result::Result<(), crate::cluster::Refused>) {
    if let Err(crate::cluster::Refused::Fault(error)) = outcome {
        tracing::warn!("an object that every namespace has was not written: {error}");
    }
}

fn is_active(cluster: &Cluster, namespace: &str) -> bool {
    let found = cluster.store().get(&Key::new("namespaces", "", namespace));
    found.is_some_and(|namespace| !is_deleting(&namespace.value()))
}

fn new(namespace: &str, version: &str, kind: &str, name: &str) -> Value {
    json!({
        "apiVersion": version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": uuid::Uuid::new_v4().to_string(),
            "creationTimestamp": now(),
        },
    })
}

fn secrets(cluster: &Arc<Cluster>, namespace: &str) -> Result<Target> {
    Target::new(
        cluster,
        ("", "v1", "secrets"),
        namespace,
        &UserInfo::system(AGENT),
        AGENT,
    )
}

/// Gives a Secret the token that it asks for; one whose account is gone goes too.
async fn fill(cluster: &Arc<Cluster>, secret: &Value) {
    if text(secret, "/type") != TOKEN_TYPE || is_deleting(secret) {
        return;
    }
    let (namespace, name) = (
        text(secret, "/metadata/namespace"),
        text(secret, "/metadata/name"),
    );
    let account = text(secret, ACCOUNT_NAME);
    let Ok(target) = secrets(cluster, namespace) else {
        return;
    };
    let found = cluster.store().get(&Key::new(RESOURCE, namespace, account));
    let uid = found.map(|found| text(&found.value(), "/metadata/uid").to_owned());
    let wanted = text(secret, "/metadata/annotations/kubernetes.io~1service-account.uid");
    let outcome = match uid {
        Some(uid) if wanted.is_empty() || wanted == uid => {
            if !text(secret, "/data/token").is_empty() && wanted == uid {
                return;
            }
            write_token(&target, namespace, name, account, &uid).await
        }
        _ => delete(&target, name, &DeleteOptions::default()).await.map(|_| ()),
    };
    if let Err(error) = outcome
        && error.code != 404
    {
        tracing::warn!(namespace, name, "the token of a Secret was not written: {error}");
    }
}

async fn write_token(target: &Target, namespace: &str, name: &str, account: &str, uid: &str) -> Result<()> {
    let token = target
        .cluster
        .issuer()
        .issue_legacy(namespace, account, uid, name)?;
    let authority = target.cluster.certificate_authority();
    edit(target, name, Subresource::Main, |secret| {
        secret["metadata"]["annotations"]["kubernetes.io/service-account.uid"] = uid.into();
        if !secret["data"].is_object() {
            secret["data"] = json!({});
        }
        let data = &mut secret["data"];
        data["token"] = STANDARD.encode(&token).into();
        data["namespace"] = STANDARD.encode(namespace).into();
        if !authority.is_empty() {
            data["ca.crt"] = STANDARD.encode(authority).into();
        }
    })
    .await
}

/// The tokens of an account go with it.
async fn drop_secrets(cluster: &Arc<Cluster>, account: &Value) {
    let namespace = text(account, "/metadata/namespace");
    let snapshot = cluster.store().snapshot();
    for secret in snapshot.iter("secrets", Some(namespace), None) {
        let secret = secret.value();
        if text(&secret, ACCOUNT_NAME) == text(account, "/metadata/name") {
            fill(cluster, &secret).await;
        }
    }
}
