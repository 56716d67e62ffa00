//! Who asks.

use std::collections::BTreeMap;

/// The group whose members may do everything.
pub const MASTERS: &str = "system:masters";

/// An authenticated user, as the authentication layer found it. It travels as an extension of the request.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct UserInfo {
    /// The user's name, unique among the users of a server.
    pub name: String,
    /// A stable identifier, where the authenticator has one.
    pub uid: String,
    /// The groups that the user is a member of.
    pub groups: Vec<String>,
    /// What else the authenticator knows, by key.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// A user with the given name and groups.
    pub fn new<G: Into<String>>(name: impl Into<String>, groups: impl IntoIterator<Item = G>) -> UserInfo {
        UserInfo {
            name: name.into(),
            groups: groups
                .into_iter()
                .map(Into::into)
                .chain(["system:authenticated".to_owned()])
                .collect(),
            ..UserInfo::default()
        }
    }

    /// The administrator: a member of [`MASTERS`].
    pub fn admin() -> UserInfo {
        UserInfo::new("kubernetes-admin", [MASTERS])
    }

    /// A component of this process, for example a controller, with all rights.
    pub fn system(component: &str) -> UserInfo {
        UserInfo::new(format!("system:{component}"), [MASTERS])
    }

    /// Somebody who has not said who they are.
    pub fn anonymous() -> UserInfo {
        UserInfo {
            name: "system:anonymous".to_owned(),
            groups: vec!["system:unauthenticated".to_owned()],
            ..UserInfo::default()
        }
    }

    /// Whether the user is a member of the group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }
}
