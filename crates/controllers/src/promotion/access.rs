//! How a server that a gate asks is reached: whom it is trusted to be, and what it wants to see.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use choreo_api::v1alpha1::cluster::BasicAuth;
use k8s_openapi::api::core::v1::Secret;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Map, Value, json};

/// Where the credentials are. They are read anew for each question.
#[derive(Clone, Default)]
pub(super) struct Access {
    /// A Secret of the organization's namespace.
    pub(super) secret: Option<String>,
    /// What the data plane says of its observer.
    pub(super) basic: Option<BasicAuth>,
}

/// What a server is shown and trusted by, in the words of a kubeconfig.
#[derive(Default)]
struct Found {
    user: Map<String, Value>,
    authority: Option<String>,
}

impl Access {
    /// A client for the server, and the path there.
    ///
    /// # Errors
    /// Why there is none, without any credential in it.
    pub(super) async fn client(
        &self,
        url: &str,
        patience: Duration,
        control: &Client,
        namespace: &str,
    ) -> Result<(Client, String), String> {
        let parsed: http::Uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
        let path = parsed.path_and_query().map_or("/", |p| p.as_str()).to_owned();
        let mut parts = parsed.into_parts();
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
        let base = http::Uri::from_parts(parts).map_err(|error| format!("{url}: {error}"))?;
        let found = self.read(control, namespace).await?;
        let mut cluster = json!({"server": base.to_string().trim_end_matches('/')});
        if let Some(authority) = found.authority {
            cluster["certificate-authority-data"] = json!(authority);
        }
        // An error of these steps could quote what it is about.
        let unusable = || {
            format!(
                "the credentials for {url} cannot be used: certificates must be PEM, and a token one line"
            )
        };
        let kubeconfig: Kubeconfig = serde_json::from_value(json!({
            "clusters": [{"name": "gate", "cluster": cluster}],
            "users": [{"name": "gate", "user": found.user}],
            "contexts": [{"name": "gate", "context": {"cluster": "gate", "user": "gate"}}],
            "current-context": "gate",
        }))
        .map_err(|_| unusable())?;
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .map_err(|_| unusable())?;
        config.connect_timeout = Some(patience);
        config.read_timeout = Some(patience);
        let client = Client::try_from(config).map_err(|_| unusable())?;
        Ok((client, path))
    }

    async fn read(&self, control: &Client, namespace: &str) -> Result<Found, String> {
        match (&self.secret, &self.basic) {
            (Some(name), _) => from_secret(name, &keys_of(name, control, namespace).await?),
            (None, Some(basic)) => {
                let password = match &basic.password_secret_ref {
                    Some(name) => keys_of(name, control, namespace)
                        .await?
                        .text("password")
                        .ok_or_else(|| format!("Secret {name:?} has no key \"password\""))?,
                    None => basic.password.clone().unwrap_or_default(),
                };
                let mut found = Found::default();
                found.user.insert("username".to_owned(), json!(basic.username));
                found.user.insert("password".to_owned(), json!(password));
                Ok(found)
            }
            (None, None) => Ok(Found::default()),
        }
    }
}

/// The keys of a Secret.
struct Keys(std::collections::BTreeMap<String, k8s_openapi::ByteString>);

impl Keys {
    fn text(&self, key: &str) -> Option<String> {
        let text = String::from_utf8(self.0.get(key)?.0.clone()).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }
}

async fn keys_of(name: &str, control: &Client, namespace: &str) -> Result<Keys, String> {
    let secrets: Api<Secret> = Api::namespaced(control.clone(), namespace);
    let secret = secrets
        .get_opt(name)
        .await
        .map_err(|error| format!("Secret {name:?} cannot be read: {error}"))?;
    let secret = secret.ok_or_else(|| format!("Secret {name:?} not found in namespace {namespace:?}"))?;
    Ok(Keys(secret.data.unwrap_or_default()))
}

fn from_secret(name: &str, keys: &Keys) -> Result<Found, String> {
    let mut found = Found {
        authority: keys.0.get("ca.crt").map(|authority| BASE64.encode(&authority.0)),
        ..Found::default()
    };
    match (keys.text("token"), keys.text("username"), keys.text("password")) {
        (Some(token), ..) => drop(found.user.insert("token".to_owned(), json!(token))),
        (None, Some(user), Some(password)) => {
            found.user.insert("username".to_owned(), json!(user));
            found.user.insert("password".to_owned(), json!(password));
        }
        (None, Some(_), None) => {
            return Err(format!("Secret {name:?} has a \"username\" but no \"password\""));
        }
        _ if found.authority.is_some() => {}
        _ => {
            return Err(format!(
                "Secret {name:?} has neither \"token\", nor \"username\" and \"password\", nor \"ca.crt\""
            ));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(all: &[(&str, &str)]) -> Keys {
        let one = |(key, value): &(&str, &str)| {
            (
                (*key).to_owned(),
                k8s_openapi::ByteString(value.as_bytes().to_vec()),
            )
        };
        Keys(all.iter().map(one).collect())
    }

    #[test]
    fn a_secret_says_who_we_are_and_whom_we_trust() {
        let found = from_secret("s", &keys(&[("token", "abc\n"), ("ca.crt", "PEM")])).unwrap();
        assert_eq!(found.user["token"], "abc");
        assert_eq!(found.authority.unwrap(), BASE64.encode("PEM"));
        let found = from_secret("s", &keys(&[("username", "ann"), ("password", "x")])).unwrap();
        assert_eq!(
            (&found.user["username"], &found.user["password"]),
            (&json!("ann"), &json!("x"))
        );
        for (bad, why) in [
            (&[("username", "ann")][..], "no \"password\""),
            (&[("other", "x")], "neither"),
        ] {
            let error = from_secret("s", &keys(bad)).err().unwrap();
            assert!(error.contains(why), "{error}");
        }
    }
}
