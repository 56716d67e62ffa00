//! Names of images, and credentials for their registries.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;

use super::engine::RegistryAuth;

/// The registry of names that say none.
const HUB: &str = "docker.io";

/// A name of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) registry: String,
    pub(crate) repository: String,
    /// With its `:` or `@` in front.
    pub(crate) version: String,
    /// No registry was said.
    pub(crate) is_short: bool,
}

impl Reference {
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        let (name, tag) = match name.rsplit_once(':') {
            // What follows a slash is no tag: the colon was a port's.
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (name, None),
        };
        let (registry, repository, is_short) = match name.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
                (first.to_owned(), rest.to_owned(), false)
            }
            Some(_) => (HUB.to_owned(), name.to_owned(), true),
            None => (HUB.to_owned(), format!("library/{name}"), true),
        };
        let is_part = |part: &str| {
            !part.is_empty()
                && part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part.ends_with(|c: char| c.is_ascii_alphanumeric())
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte))
        };
        let is_tag = |tag: &str| {
            (1..=128).contains(&tag.len())
                && tag
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
                && !tag.starts_with(['.', '-'])
        };
        let is_digest = |digest: &str| {
            digest
                .strip_prefix("sha256:")
                .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
        };
        if !repository.split('/').all(is_part) || !tag.is_none_or(is_tag) || !digest.is_none_or(is_digest) {
            return Err("invalid reference format");
        }
        let version = match (tag, digest) {
            (_, Some(digest)) => format!("@{digest}"),
            (Some(tag), None) => format!(":{tag}"),
            (None, None) => ":latest".to_owned(),
        };
        Ok(Self {
            registry,
            repository,
            version,
            is_short,
        })
    }

    /// The whole name, which means the same to every engine.
    pub(crate) fn full(&self) -> String {
        format!("{}/{}{}", self.registry, self.repository, self.version)
    }

    /// The names under which the engine may have it. Podman keeps what was built here without a registry under `localhost`.
    pub(crate) fn local_names(&self) -> Vec<String> {
        let mut names = vec![self.full()];
        if self.is_short {
            let short = self
                .repository
                .strip_prefix("library/")
                .unwrap_or(&self.repository);
            names.push(format!("localhost/{short}{}", self.version));
        }
        names
    }

    pub(crate) fn is_latest(&self) -> bool {
        self.version == ":latest"
    }
}

#[derive(Deserialize)]
struct ConfigJson {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
}

#[derive(Deserialize)]
struct Auth {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
}

/// The credentials that a Secret of type `kubernetes.io/dockerconfigjson` or `kubernetes.io/dockercfg` has for an image: those of the longest path
/// that fits, as with kubelets.
pub(crate) fn credentials(secret: &Secret, image: &Reference) -> Option<RegistryAuth> {
    let data = secret.data.as_ref()?;
    let auths = match (data.get(".dockerconfigjson"), data.get(".dockercfg")) {
        (Some(text), _) => serde_json::from_slice::<ConfigJson>(&text.0).ok()?.auths,
        (None, Some(text)) => serde_json::from_slice(&text.0).ok()?,
        (None, None) => return None,
    };
    let path = format!("{}/{}", image.registry, image.repository);
    let fitting = auths.into_iter().filter_map(|(server, auth)| {
        let plain = server
            .trim_start_matches("https://")
            .trim_start_matches("http://")
            .trim_end_matches('/');
        let plain = plain
            .strip_suffix("/v1")
            .or_else(|| plain.strip_suffix("/v2"))
            .unwrap_or(plain);
        let plain = if plain == "index.docker.io" { HUB } else { plain };
        let fits = path == plain || path.strip_prefix(plain).is_some_and(|rest| rest.starts_with('/'));
        fits.then(|| (plain.len(), server.clone(), auth))
    });
    let (_, server, auth) = fitting.max_by_key(|(length, ..)| *length)?;
    let (username, password) = if auth.username.is_empty() {
        let decoded = STANDARD.decode(auth.auth.trim()).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        let (username, password) = text.split_once(':')?;
        (username.to_owned(), password.to_owned())
    } else {
        (auth.username, auth.password)
    };
    Some(RegistryAuth {
        username,
        password,
        server,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_of_images() {
        for (text, full) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("org/app", "docker.io/org/app:latest"),
            ("localhost/app:1", "localhost/app:1"),
            ("registry:5000/a/b", "registry:5000/a/b:latest"),
            ("ghcr.io/a/b:v1", "ghcr.io/a/b:v1"),
        ] {
            assert_eq!(Reference::parse(text).unwrap().full(), full, "{text}");
        }
        let digest = format!("ghcr.io/a/b:v1@sha256:{}", "a".repeat(64));
        assert!(
            Reference::parse(&digest)
                .unwrap()
                .full()
                .ends_with(&"a".repeat(64))
        );
        for text in ["", "Nginx", "a//b", "nginx:", "a b", "ghcr.io/a@sha256:1", "-a"] {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
        assert_eq!(
            Reference::parse("app").unwrap().local_names(),
            ["docker.io/library/app:latest", "localhost/app:latest"]
        );
    }

    #[test]
    fn credentials_of_the_longest_path() {
        let config = json!({"auths": {
            "https://ghcr.io": {"auth": STANDARD.encode("all:1")},
            "ghcr.io/team": {"username": "team", "password": "2"},
            "https://index.docker.io/v1/": {"auth": STANDARD.encode("hub:3")},
        }});
        let secret: Secret = serde_json::from_value(json!({
            "data": {".dockerconfigjson": STANDARD.encode(config.to_string())},
        }))
        .unwrap();
        let user = |image: &str| {
            let found = credentials(&secret, &Reference::parse(image).unwrap());
            found.map(|auth| format!("{}:{}", auth.username, auth.password))
        };
        assert_eq!(user("ghcr.io/team/app").as_deref(), Some("team:2"));
        assert_eq!(user("ghcr.io/teamwork/app").as_deref(), Some("all:1"));
        assert_eq!(user("nginx").as_deref(), Some("hub:3"));
        assert_eq!(user("quay.io/x/y"), None);
    }
}
