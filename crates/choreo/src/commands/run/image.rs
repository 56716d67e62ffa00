//! References of container images, as the OCI distribution specification and Docker's grammar have them.

use std::fmt;

/// A reference: `[registry/]repository[:tag][@digest]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ImageReference {
    /// As it was written.
    text: String,
    /// The last part of the repository.
    name: String,
    /// The tag; none with a digest alone, or without either.
    pub(super) tag: Option<String>,
    /// Whether it is one image for ever.
    pub(super) pinned: bool,
}

impl ImageReference {
    /// Reads a reference.
    ///
    /// # Errors
    /// What is wrong with it, for a person.
    pub(super) fn parse(text: &str) -> Result<ImageReference, String> {
        if text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err("it is empty, or has spaces".to_owned());
        }
        if text.contains("://") {
            return Err(
                "it is a URL: write it without the scheme, for example ghcr.io/owner/app:1.0".to_owned(),
            );
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        if let Some(digest) = digest {
            check_digest(digest)?;
        }
        // A colon before the last slash is that of a registry's port.
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (rest, None),
        };
        if let Some(tag) = tag {
            let mut characters = tag.chars();
            let fits = characters
                .next()
                .is_some_and(|c| c.is_ascii_alphanumeric() || c == '_')
                && characters.all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
                && tag.len() <= 128;
            if !fits {
                return Err(format!("`{tag}` is no tag"));
            }
        }
        let mut parts: Vec<&str> = path.split('/').collect();
        let is_registry = |first: &str| first == "localhost" || first.contains(['.', ':']);
        if parts.len() > 1 && is_registry(parts[0]) {
            parts.remove(0);
        }
        for part in &parts {
            check_part(part)?;
        }
        let name = parts.last().copied().unwrap_or_default().to_owned();
        Ok(ImageReference {
            text: text.to_owned(),
            name,
            tag: tag.map(str::to_owned),
            pinned: digest.is_some(),
        })
    }

    /// A name for what runs the image: the last part of the repository, as Kubernetes takes names.
    pub(super) fn component_name(&self) -> String {
        let mut name = self.name.replace(['_', '.'], "-");
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
            name.insert_str(0, "app-");
        }
        // Names of derived objects need room.
        name.truncate(40);
        name.trim_end_matches('-').to_owned()
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn check_part(part: &str) -> Result<(), String> {
    if part.is_empty() {
        return Err("a part between slashes is empty".to_owned());
    }
    if part.contains(|c: char| c.is_ascii_uppercase()) {
        return Err(format!(
            "`{part}` has capital letters, which a repository must not have"
        ));
    }
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let fits = edge(part.chars().next())
        && edge(part.chars().next_back())
        && part.chars().all(|c| edge(Some(c)) || "._-".contains(c));
    if fits {
        Ok(())
    } else {
        Err(format!("`{part}` is no part of a repository's name"))
    }
}

fn check_digest(digest: &str) -> Result<(), String> {
    let known = match digest.split_once(':') {
        Some(("sha256", hex)) => Some((hex, 64)),
        Some(("sha512", hex)) => Some((hex, 128)),
        _ => None,
    };
    match known {
        Some((hex, length)) if hex.len() == length && hex.bytes().all(|b| b.is_ascii_hexdigit()) => Ok(()),
        _ => Err(format!(
            "`{digest}` is no digest, such as sha256: with 64 hexadecimal digits"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_and_the_names_that_come_of_them() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (text, name, tag, pinned) in [
            ("nginx", "nginx", None, false),
            ("nginx:1.27", "nginx", Some("1.27"), false),
            ("localhost:5000/my_app", "my-app", None, false),
            (
                "ghcr.io/owner/greeter.service:latest",
                "greeter-service",
                Some("latest"),
                false,
            ),
            (&format!("ghcr.io/owner/app@{digest}"), "app", None, true),
            (&format!("a/b/3scale:v1@{digest}"), "app-3scale", Some("v1"), true),
        ] {
            let image = ImageReference::parse(text).unwrap();
            assert_eq!(image.component_name(), name, "{text}");
            assert_eq!((image.tag.as_deref(), image.pinned), (tag, pinned), "{text}");
            assert_eq!(image.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_reference_is_told_why() {
        for (text, part) in [
            ("", "empty"),
            ("a b", "spaces"),
            ("https://ghcr.io/a", "without the scheme"),
            ("ghcr.io/Owner/app", "capital letters"),
            ("ghcr.io//app", "empty"),
            ("app:", "no tag"),
            ("app:-x", "no tag"),
            ("app@sha256:12", "no digest"),
            ("app@latest", "no digest"),
            ("-app", "no part of a repository"),
        ] {
            let why = ImageReference::parse(text).unwrap_err();
            assert!(why.contains(part), "{text}: {why}");
        }
    }
}
