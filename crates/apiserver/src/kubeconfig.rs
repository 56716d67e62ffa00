//! The kubeconfig file that the server writes for its administrator.

use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::private_file::write_private;
use crate::tls::{ADMIN_USER, Identity};

/// One context, which is one logical cluster.
#[derive(Clone, Debug)]
pub struct Context {
    /// Its name, also that of its cluster entry.
    pub name: String,
    /// The server's URL, with the path of the logical cluster where it is not the default one.
    pub server: String,
    /// The namespace that commands use when they name none.
    pub namespace: String,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Kubeconfig<'a> {
    #[serde(rename = "apiVersion")]
    api_version: &'a str,
    kind: &'a str,
    clusters: Vec<Named<'a, ClusterEntry<'a>>>,
    contexts: Vec<Named<'a, ContextEntry<'a>>>,
    current_context: &'a str,
    preferences: Empty,
    users: Vec<Named<'a, UserEntry>>,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
struct Named<'a, T> {
    name: &'a str,
    #[serde(flatten)]
    entry: T,
}

#[derive(Serialize)]
struct ClusterEntry<'a> {
    cluster: ClusterFields<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct ClusterFields<'a> {
    certificate_authority_data: String,
    server: &'a str,
}

#[derive(Serialize)]
struct ContextEntry<'a> {
    context: ContextFields<'a>,
}

#[derive(Serialize)]
struct ContextFields<'a> {
    cluster: &'a str,
    namespace: &'a str,
    user: &'a str,
}

#[derive(Serialize)]
struct UserEntry {
    user: UserFields,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct UserFields {
    client_certificate_data: String,
    client_key_data: String,
}

/// The file's text: every context, the first one current, with the authority and the administrator's client certificate
/// inline, so that the file works from any folder and on any machine that reaches the server.
///
/// # Errors
/// When the text cannot be formed; the values above always can.
pub fn render(contexts: &[Context], authority_pem: &str, admin: &Identity) -> io::Result<String> {
    let authority = STANDARD.encode(authority_pem);
    let config = Kubeconfig {
        api_version: "v1",
        kind: "Config",
        clusters: contexts
            .iter()
            .map(|context| Named {
                name: &context.name,
                entry: ClusterEntry {
                    cluster: ClusterFields {
                        certificate_authority_data: authority.clone(),
                        server: &context.server,
                    },
                },
            })
            .collect(),
        contexts: contexts
            .iter()
            .map(|context| Named {
                name: &context.name,
                entry: ContextEntry {
                    context: ContextFields {
                        cluster: &context.name,
                        namespace: &context.namespace,
                        user: ADMIN_USER,
                    },
                },
            })
            .collect(),
        current_context: contexts
            .first()
            .map(|context| context.name.as_str())
            .unwrap_or_default(),
        preferences: Empty {},
        users: vec![Named {
            name: ADMIN_USER,
            entry: UserEntry {
                user: UserFields {
                    client_certificate_data: STANDARD.encode(&admin.certificate_pem),
                    client_key_data: STANDARD.encode(&admin.key_pem),
                },
            },
        }],
    };
    serde_saphyr::to_string(&config).map_err(io::Error::other)
}

/// Writes [`render`]'s text to `path`: at once, and readable by the owner alone.
///
/// # Errors
/// What the file system answered.
pub fn write(path: &Path, contexts: &[Context], authority_pem: &str, admin: &Identity) -> io::Result<()> {
    write_private(path, render(contexts, authority_pem, admin)?.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::{Pki, local_names};

    #[test]
    fn a_client_can_be_configured_from_it() {
        let pki = Pki::ephemeral(&local_names(), jiff::Timestamp::now()).unwrap();
        let context = |name: &str, path: &str| Context {
            name: name.to_owned(),
            server: format!("https://127.0.0.1:7443{path}"),
            namespace: "default".to_owned(),
        };
        let contexts = [context("choreo", ""), context("local", "/clusters/local")];
        let text = render(&contexts, pki.authority_pem(), pki.admin()).unwrap();
        let config = kube::config::Kubeconfig::from_yaml(&text).unwrap();
        assert_eq!(config.current_context.as_deref(), Some("choreo"));
        let names: Vec<&str> = config
            .contexts
            .iter()
            .map(|context| context.name.as_str())
            .collect();
        assert_eq!(names, ["choreo", "local"]);
        let local = config.clusters[1].cluster.as_ref().unwrap();
        assert_eq!(
            local.server.as_deref(),
            Some("https://127.0.0.1:7443/clusters/local")
        );
        let user = config.auth_infos[0].auth_info.as_ref().unwrap();
        assert_eq!(
            STANDARD
                .decode(user.client_certificate_data.as_ref().unwrap())
                .unwrap(),
            pki.admin().certificate_pem.as_bytes()
        );
    }
}
