//! Names of everything that the platform derives, in both planes.
//!
//! All of them are functions of the names that people chose, so that any part of the platform finds an object without
//! searching. [`k8s_name`] is the general form; the other functions are the rows of the naming contract.

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::v1alpha1::common::DEFAULT_TRACK;

/// Most characters in a DNS label: namespaces, Services, label values.
pub const LABEL_LIMIT: usize = 63;

/// Most characters in the name of a CronJob: it leaves room for the suffix of its Jobs.
pub const CRON_JOB_LIMIT: usize = 52;

/// Most characters in the name of an object.
pub const OBJECT_LIMIT: usize = 253;

const HASH_LENGTH: usize = 8;

/// A name made of several parts that is valid in Kubernetes, of bounded length, and distinct for distinct parts.
///
/// Each part is sanitized (lower case; letters, digits, `-` and `.` stay, everything else becomes `-`; `-` and `.` at
/// the ends go) and cut to an equal share of what the limit leaves, the first ones getting one character more. The
/// first eight hexadecimal digits of the SHA-256 of the original parts, joined with `-`, follow.
///
/// A limit below nine leaves room for nothing but the (then also cut) hash.
///
/// ```
/// assert_eq!(choreo_api::names::k8s_name(63, &["project", "component"]), "project-component-932d1646");
/// ```
pub fn k8s_name(limit: usize, parts: &[&str]) -> String {
    let mut hash = short_hash(parts.join("-").as_bytes());
    hash.truncate(limit);
    // One hyphen goes before the hash and one between each two parts: as many as there are parts.
    let room = limit.saturating_sub(HASH_LENGTH + parts.len());
    let (share, extra) = match parts.len() {
        0 => (0, 0),
        count => (room / count, room % count),
    };
    let mut pieces: Vec<String> = parts
        .iter()
        .enumerate()
        .map(|(index, part)| cut(&sanitize(part), share + usize::from(index < extra)).to_owned())
        .filter(|piece| !piece.is_empty())
        .collect();
    pieces.push(hash);
    pieces.join("-")
}

fn short_hash(bytes: &[u8]) -> String {
    let mut hash = hex::encode(Sha256::digest(bytes));
    hash.truncate(HASH_LENGTH);
    hash
}

fn sanitize(part: &str) -> String {
    let kept: String = part
        .to_lowercase()
        .chars()
        .map(|c| {
            if matches!(c, 'a'..='z' | '0'..='9' | '-' | '.') {
                c
            } else {
                '-'
            }
        })
        .collect();
    kept.trim_matches(['-', '.']).to_owned()
}

/// The first `length` characters of a sanitized (and so purely ASCII) text, without `-` and `.` at the new end.
fn cut(text: &str, length: usize) -> &str {
    text.get(..length).unwrap_or(text).trim_end_matches(['-', '.'])
}

/// As [`k8s_name`] for a place that takes a DNS label: without dots.
fn label_name(limit: usize, parts: &[&str]) -> String {
    k8s_name(limit, parts).replace('.', "-")
}

/// The parts joined with `-` if that is a DNS label within the limit, otherwise the hashed form.
fn plain_or_hashed(limit: usize, parts: &[&str]) -> String {
    let plain = parts.join("-");
    if plain.len() <= limit && is_label(&plain) {
        plain
    } else {
        label_name(limit, parts)
    }
}

/// Whether a text is a DNS label (RFC 1123).
pub fn is_label(text: &str) -> bool {
    (1..=LABEL_LIMIT).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Whether a text is a DNS subdomain (RFC 1123), the form of any object's name.
pub fn is_subdomain(text: &str) -> bool {
    text.len() <= OBJECT_LIMIT && text.split('.').all(is_label)
}

/// Whether a track is the one that needs no naming.
fn is_default_track(track: &str) -> bool {
    track.is_empty() || track == DEFAULT_TRACK
}

/// The component's name, followed by the track unless it is the default one.
fn with_track<'a>(component: &'a str, track: &'a str) -> Vec<&'a str> {
    if is_default_track(track) {
        vec![component]
    } else {
        vec![component, track]
    }
}

/// Namespace of a cell in the data plane.
pub fn cell_namespace(organization: &str, project: &str, environment: &str) -> String {
    label_name(LABEL_LIMIT, &["dp", organization, project, environment])
}

/// Namespace of an organization's builds in the build plane.
pub fn build_namespace(organization: &str) -> String {
    plain_or_hashed(LABEL_LIMIT, &["openchoreo-ci", organization])
}

/// A component's binding to an environment; also the name of its Release.
pub fn binding(component: &str, track: &str, environment: &str) -> String {
    let mut parts = with_track(component, track);
    parts.push(environment);
    parts.join("-")
}

/// The Release of a binding.
pub fn release(binding: &str) -> String {
    binding.to_owned()
}

/// The Release of a cell: the namespace itself and what holds for all of it.
pub fn cell_release(project: &str, environment: &str) -> String {
    k8s_name(LABEL_LIMIT, &["cell", project, environment])
}

/// The Release of a managed resource in a cell.
pub fn resource_release(project: &str, environment: &str, resource: &str) -> String {
    k8s_name(LABEL_LIMIT, &["resource", project, environment, resource])
}

/// The main objects of a managed resource in its cell. Short enough for what a StatefulSet appends, and unlike every
/// component's.
pub fn resource_objects(resource: &str) -> String {
    k8s_name(45, &["resource", resource])
}

/// A numbered revision of a binding.
pub fn deployment(binding: &str, revision: i64) -> String {
    let name = format!("{binding}-{revision}");
    if name.len() <= OBJECT_LIMIT {
        name
    } else {
        k8s_name(OBJECT_LIMIT, &[binding, &revision.to_string()])
    }
}

/// A frozen component.
pub fn artifact(component: &str, track: &str, digest: &ArtifactDigest) -> String {
    let mut parts = with_track(component, track);
    parts.push(digest.short());
    parts.join("-")
}

/// An endpoint of a component in an environment.
pub fn endpoint(component: &str, track: &str, environment: &str, endpoint: &str) -> String {
    let mut parts = with_track(component, track);
    parts.extend([environment, endpoint]);
    let plain = parts.join("-");
    if is_subdomain_of_labels(&plain) {
        plain
    } else {
        k8s_name(OBJECT_LIMIT, &parts)
    }
}

fn is_subdomain_of_labels(text: &str) -> bool {
    (1..=OBJECT_LIMIT).contains(&text.len()) && sanitize(text) == text && !text.contains("..")
}

/// The Deployment and the Service of a component in its cell.
pub fn workload(component: &str, track: &str) -> String {
    plain_or_hashed(LABEL_LIMIT, &with_track(component, track))
}

/// The CronJob of a component in its cell.
pub fn cron_job(component: &str, track: &str) -> String {
    plain_or_hashed(CRON_JOB_LIMIT, &with_track(component, track))
}

/// Any other object of a component in its cell, told apart by its purpose.
pub fn component_object(component: &str, track: &str, purpose: &[&str]) -> String {
    let mut parts = with_track(component, track);
    parts.extend(purpose);
    plain_or_hashed(LABEL_LIMIT, &parts)
}

/// Pattern of the host of an environment's APIs, where the data plane gives none.
pub const DEFAULT_HOST_TEMPLATE: &str = "{env}-{org}.{virtualHost}";

/// Pattern of the host of a web application, where the data plane gives none.
pub const DEFAULT_WEB_HOST_TEMPLATE: &str = "{component}-{env}-{org}.{virtualHost}";

/// What the host of an endpoint is made of.
#[derive(Clone, Copy, Debug)]
pub struct HostParts<'a> {
    /// Name of the organization.
    pub organization: &'a str,
    /// DNS prefix of the environment, or its name if it has none.
    pub environment: &'a str,
    /// Virtual host of the gateway that is used.
    pub virtual_host: &'a str,
    /// Pattern of the data plane, if it has one.
    pub template: Option<&'a str>,
}

/// Host of an environment's APIs at a gateway.
pub fn api_host(parts: HostParts<'_>) -> String {
    host(parts.template.unwrap_or(DEFAULT_HOST_TEMPLATE), "", parts)
}

/// Host of a web application at a gateway.
pub fn web_host(component: &str, track: &str, parts: HostParts<'_>) -> String {
    let component = with_track(component, track).join("-");
    host(
        parts.template.unwrap_or(DEFAULT_WEB_HOST_TEMPLATE),
        &component,
        parts,
    )
}

/// Fills in a pattern. A label that would be longer than DNS allows is cut and told apart by a hash.
fn host(template: &str, component: &str, parts: HostParts<'_>) -> String {
    template
        .replace("{component}", component)
        .replace("{env}", parts.environment)
        .replace("{org}", parts.organization)
        .replace("{virtualHost}", parts.virtual_host)
        .split('.')
        .map(|label| {
            if label.len() <= LABEL_LIMIT {
                label.to_owned()
            } else {
                label_name(LABEL_LIMIT, &[label])
            }
        })
        .collect::<Vec<_>>()
        .join(".")
}

/// Path of a service's API at a gateway. It is rewritten to `base_path` at the backend.
pub fn api_path(project: &str, component: &str, track: &str, base_path: &str) -> String {
    let component = with_track(component, track).join("-");
    let base_path = base_path.trim_matches('/');
    let separator = if base_path.is_empty() { "" } else { "/" };
    format!("/{project}/{component}{separator}{base_path}")
}

/// A digest of content, `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ArtifactDigest(String);

impl ArtifactDigest {
    const PREFIX: &'static str = "sha256:";

    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(format!("{}{}", Self::PREFIX, hex::encode(Sha256::digest(bytes))))
    }

    /// The whole digest.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first eight hexadecimal digits, which are part of names.
    pub fn short(&self) -> &str {
        self.0
            .get(Self::PREFIX.len()..Self::PREFIX.len() + HASH_LENGTH)
            .unwrap_or(&self.0)
    }
}

impl fmt::Display for ArtifactDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<ArtifactDigest> for String {
    fn from(digest: ArtifactDigest) -> Self {
        digest.0
    }
}

impl TryFrom<String> for ArtifactDigest {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        let hex = text.strip_prefix(Self::PREFIX).unwrap_or_default();
        if hex.len() == 64
            && hex
                .bytes()
                .all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'))
        {
            Ok(Self(text))
        } else {
            Err(InvalidName {
                what: "artifact digest",
                name: text,
                rule: "'sha256:' and 64 lower-case hexadecimal digits",
            })
        }
    }
}

/// A name that is not of the form that its purpose demands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a valid {what}: it must be {rule}")]
pub struct InvalidName {
    /// What the name is for.
    pub what: &'static str,
    /// The name.
    pub name: String,
    /// What it should look like.
    pub rule: &'static str,
}

macro_rules! name_types {
    ($($(#[$doc:meta])* $type:ident = $what:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;

            fn try_from(name: String) -> Result<Self, InvalidName> {
                if is_label(&name) {
                    Ok(Self(name))
                } else {
                    Err(InvalidName {
                        what: $what,
                        name,
                        rule: "at most 63 lower-case letters, digits and '-', without '-' at its ends",
                    })
                }
            }
        }

        impl TryFrom<&str> for $type {
            type Error = InvalidName;

            fn try_from(name: &str) -> Result<Self, InvalidName> {
                Self::try_from(name.to_owned())
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }

        impl Deref for $type {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

name_types! {
    /// Name of an Organization, and of its namespace.
    OrganizationName = "organization name";
    /// Name of a Project.
    ProjectName = "project name";
    /// Name of a Component.
    ComponentName = "component name";
    /// Name of an Environment.
    EnvironmentName = "environment name";
    /// Name of a track of a component.
    TrackName = "track name";
}

#[cfg(test)]
mod tests;
