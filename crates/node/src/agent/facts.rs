//! What an image says of itself, for who is about to run it.

use std::{collections::BTreeSet, path::PathBuf};

use super::{
    engine::{self, ContainerEngine, EngineError, Image},
    registry::Reference,
};

/// What an image says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageFacts {
    /// The TCP ports that it exposes (`EXPOSE`).
    pub ports: BTreeSet<u16>,
    /// As whom it runs (`USER`); empty is root.
    pub user: String,
}

impl ImageFacts {
    fn of(image: &Image) -> Self {
        let port = |text: &String| match text.split_once('/') {
            None => text.parse().ok(),
            Some((port, "tcp")) => port.parse().ok(),
            Some(_) => None,
        };
        Self {
            ports: image.exposed.iter().filter_map(port).collect(),
            user: image.user.clone(),
        }
    }

    /// Why a Pod that must not run as root (`runAsNonRoot`) will not run it, if that is so: a kubelet's rule.
    pub fn root(&self) -> Option<String> {
        let user = self.user.split(':').next().unwrap_or_default();
        match user.parse::<u64>() {
            Ok(0) => Some("it runs as user 0, which is root".to_owned()),
            Ok(_) => None,
            Err(_) if user.is_empty() => Some("it says no user, and so runs as root".to_owned()),
            Err(_) if user == "root" => Some("it runs as root".to_owned()),
            Err(_) => Some(format!(
                "it runs as {user:?}, which could be root: a number tells"
            )),
        }
    }
}

/// Looks at an image, as the engine behind this socket has it. With `pull` it is pulled if it is not there, without credentials.
///
/// # Errors
/// When the engine does not answer, does not have the image, or cannot pull it.
pub async fn image_facts(engine: Option<&str>, image: &str, pull: bool) -> Result<ImageFacts, EngineError> {
    let reference =
        Reference::parse(image).map_err(|why| EngineError::Refused(format!("{image:?}: {why}")))?;
    let engine = engine::find(engine).await.map_err(no_engine)?;
    let names = reference.local_names();
    for name in &names {
        match engine.image(name).await {
            Ok(found) => return Ok(ImageFacts::of(&found)),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    if reference.registry == "localhost" {
        return Err(EngineError::NotFound(format!(
            "{image} is not on this machine, and no registry has images of `localhost`"
        )));
    }
    if !pull {
        return Err(EngineError::NotFound(format!("image {image} is not there")));
    }
    let full = reference.full();
    engine.pull(&full, None).await?;
    Ok(ImageFacts::of(&engine.image(&full).await?))
}

fn no_engine(tried: Vec<(PathBuf, String)>) -> EngineError {
    let tried = tried
        .into_iter()
        .map(|(path, why)| format!("{}: {why}", path.display()));
    EngineError::Away(tried.collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_users_of_images() {
        let facts = |user: &str, exposed: &[&str]| {
            ImageFacts::of(&Image {
                user: user.to_owned(),
                exposed: exposed.iter().map(|text| (*text).to_owned()).collect(),
                ..Image::default()
            })
        };
        let found = facts("1000:1000", &["8080/tcp", "53/udp", "9090", "many/tcp"]);
        assert_eq!(found.ports, [8080, 9090].into());
        assert_eq!(found.root(), None);
        for (user, words) in [
            ("", "says no user"),
            ("0", "user 0"),
            ("0:0", "user 0"),
            ("root", "runs as root"),
            ("nginx", "could be root"),
        ] {
            let why = facts(user, &[]).root().unwrap();
            assert!(why.contains(words), "{user}: {why}");
        }
    }
}
