//! Which kinds a server has, and finding one by what people type.

use serde_json::Value;

use super::Session;
use super::session::CallError;
use crate::exit::ExitStatus;
use crate::failure::Failure;
use crate::text::nearest;

/// Our own group; where names are shared with other groups (`services`, `deployments`), a bare name means ours.
const OUR_GROUP: &str = "openchoreo.dev";

const AGGREGATED: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

/// A kind of object that a server has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    /// API group, empty for the core group.
    pub(crate) group: String,
    /// API version.
    pub(crate) version: String,
    /// `Component`.
    pub(crate) kind: String,
    /// `components`.
    pub(crate) plural: String,
    /// `component`.
    pub(crate) singular: String,
    /// `comp`.
    pub(crate) short_names: Vec<String>,
    /// `choreo`, `all`.
    pub(crate) categories: Vec<String>,
    /// Whether its objects are in namespaces.
    pub(crate) namespaced: bool,
    /// What can be done with it.
    pub(crate) verbs: Vec<String>,
}

impl Kind {
    /// The URL path of one object or of all; `None` as the namespace means every namespace.
    pub(crate) fn path(&self, namespace: Option<&str>, name: Option<&str>) -> String {
        let mut path = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        if let Some(namespace) = namespace.filter(|_| self.namespaced) {
            path += &format!("/namespaces/{}", super::percent_encode(namespace));
        }
        path += &format!("/{}", self.plural);
        if let Some(name) = name {
            path += &format!("/{}", super::percent_encode(name));
        }
        path
    }

    /// `component.openchoreo.dev`, or `pod` in the core group.
    pub(crate) fn title(&self) -> String {
        if self.group.is_empty() {
            self.singular.clone()
        } else {
            format!("{}.{}", self.singular, self.group)
        }
    }

    /// `component.openchoreo.dev/greeter`.
    pub(crate) fn title_of(&self, name: &str) -> String {
        format!("{}/{name}", self.title())
    }

    /// Whether the kind can do `verb`.
    pub(crate) fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|own| own == verb)
    }

    fn is_called(&self, word: &str) -> bool {
        let same = |name: &str| name.eq_ignore_ascii_case(word);
        same(&self.plural)
            || same(&self.singular)
            || same(&self.kind)
            || self.short_names.iter().any(|name| same(name))
    }

    /// Whether `group` names this kind's group; the version may be before it, as in `deployments.v1.apps`.
    fn is_in(&self, group: &str) -> bool {
        self.group == group
            || group
                .strip_prefix(&format!("{}.", self.version))
                .is_some_and(|rest| rest == self.group)
    }
}

/// The kinds of a server, in its order of preference.
#[derive(Clone, Debug)]
pub(crate) struct Kinds(Vec<Kind>);

impl Kinds {
    /// Asks the server.
    pub(crate) async fn fetch(session: &Session) -> Result<Self, Failure> {
        let failed = |error: CallError| error.failure("cannot ask the API server for its kinds");
        let mut kinds = vec![];
        for root in ["/api", "/apis"] {
            let answer = session.get_as(root, AGGREGATED).await.map_err(failed)?.body;
            if answer["kind"] == "APIGroupDiscoveryList" {
                kinds.extend(aggregated(&answer));
            } else {
                for (group, version, path) in plain_group_versions(&answer) {
                    let resources = session.get(&path).await.map_err(failed)?;
                    kinds.extend(plain(&group, &version, &resources));
                }
            }
        }
        Ok(Self(kinds))
    }

    /// The kind that `word` means: plural, singular, short name or kind, with or without `.group` or `.version.group`.
    pub(crate) fn find(&self, word: &str) -> Result<&Kind, Failure> {
        let found = |kind: &&Kind| match word.split_once('.') {
            None => kind.is_called(word),
            Some((name, group)) => kind.is_called(name) && kind.is_in(group),
        };
        let ours = self.0.iter().filter(|kind| kind.group == OUR_GROUP).find(found);
        ours.or_else(|| self.0.iter().find(found))
            .ok_or_else(|| self.unknown(word))
    }

    /// The kinds that `words` means: names as for [`Kinds::find`] or categories, separated by commas.
    pub(crate) fn find_all(&self, words: &str) -> Result<Vec<&Kind>, Failure> {
        let mut kinds: Vec<&Kind> = vec![];
        for word in words.split(',').filter(|word| !word.is_empty()) {
            let of_category: Vec<&Kind> = self.in_category(word).collect();
            let more = if of_category.is_empty() {
                vec![self.find(word)?]
            } else {
                of_category
            };
            for kind in more {
                if !kinds.contains(&kind) {
                    kinds.push(kind);
                }
            }
        }
        if kinds.is_empty() {
            return Err(Failure::usage("no kind is named").hint("for example: choreo get components"));
        }
        Ok(kinds)
    }

    /// The kinds of a category.
    pub(crate) fn in_category(&self, category: &str) -> impl Iterator<Item = &Kind> {
        self.0
            .iter()
            .filter(move |kind| kind.can("list") && kind.categories.iter().any(|own| own == category))
    }

    /// The kind of an object.
    pub(crate) fn of_object(&self, api_version: &str, kind: &str) -> Option<&Kind> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.0
            .iter()
            .find(|own| own.group == group && own.version == version && own.kind == kind)
    }

    fn unknown(&self, word: &str) -> Failure {
        let bare = word.split_once('.').map_or(word, |(name, _)| name);
        let names = self
            .0
            .iter()
            .flat_map(|kind| [kind.plural.as_str(), kind.singular.as_str()]);
        let failure =
            Failure::new(format!("the server has no kind called `{word}`")).status(ExitStatus::NotFound);
        match nearest(bare, names) {
            Some(name) => failure.hint(format!("did you mean `{name}`?")),
            None => {
                failure.hint("`choreo get crds` lists the installed kinds; --context local is the data plane")
            }
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Reads an `APIGroupDiscoveryList` (KEP-3352).
fn aggregated(answer: &Value) -> Vec<Kind> {
    let mut kinds = vec![];
    for group in list(&answer["items"]) {
        // The first version is the preferred one; the others show the same objects.
        let Some(version) = list(&group["versions"]).next() else {
            continue;
        };
        for resource in list(&version["resources"]) {
            let plural = text(&resource["resource"]);
            let kind = text(&resource["responseKind"]["kind"]);
            let singular = text(&resource["singularResource"]);
            kinds.push(Kind {
                group: text(&group["metadata"]["name"]),
                version: text(&version["version"]),
                singular: if singular.is_empty() {
                    kind.to_ascii_lowercase()
                } else {
                    singular
                },
                kind,
                plural,
                short_names: texts(&resource["shortNames"]),
                categories: texts(&resource["categories"]),
                namespaced: resource["scope"] == "Namespaced",
                verbs: texts(&resource["verbs"]),
            });
        }
    }
    kinds
}

/// Group, version and path of each preferred version in an `APIVersions` or `APIGroupList`.
fn plain_group_versions(answer: &Value) -> Vec<(String, String, String)> {
    let core = list(&answer["versions"]).map(|version| {
        let version = text(version);
        (String::new(), version.clone(), format!("/api/{version}"))
    });
    let groups = list(&answer["groups"]).map(|group| {
        let (name, version) = (text(&group["name"]), text(&group["preferredVersion"]["version"]));
        let path = format!("/apis/{name}/{version}");
        (name, version, path)
    });
    core.chain(groups).collect()
}

/// Reads an `APIResourceList`.
fn plain(group: &str, version: &str, answer: &Value) -> Vec<Kind> {
    list(&answer["resources"])
        .filter(|resource| !text(&resource["name"]).contains('/'))
        .map(|resource| {
            let kind = text(&resource["kind"]);
            let singular = text(&resource["singularName"]);
            Kind {
                group: group.to_owned(),
                version: version.to_owned(),
                singular: if singular.is_empty() {
                    kind.to_ascii_lowercase()
                } else {
                    singular
                },
                kind,
                plural: text(&resource["name"]),
                short_names: texts(&resource["shortNames"]),
                categories: texts(&resource["categories"]),
                namespaced: resource["namespaced"] == true,
                verbs: texts(&resource["verbs"]),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(group: &str, kind: &str, plural: &str, short: &[&str]) -> Kind {
        Kind {
            group: group.to_owned(),
            version: "v1".to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
            singular: kind.to_lowercase(),
            short_names: short.iter().map(|&name| name.to_owned()).collect(),
            categories: if group == OUR_GROUP {
                vec!["choreo".to_owned()]
            } else {
                vec![]
            },
            namespaced: kind != "Namespace",
            verbs: vec!["get".to_owned(), "list".to_owned()],
        }
    }

    fn kinds() -> Kinds {
        Kinds(vec![
            kind("", "Namespace", "namespaces", &["ns"]),
            kind("", "Service", "services", &["svc"]),
            kind("apps", "Deployment", "deployments", &["deploy"]),
            kind(OUR_GROUP, "Service", "services", &[]),
            kind(OUR_GROUP, "Component", "components", &["comp"]),
        ])
    }

    #[rstest::rstest]
    #[case("services", OUR_GROUP)]
    #[case("Service", OUR_GROUP)]
    #[case("svc", "")]
    #[case("services.openchoreo.dev", OUR_GROUP)]
    #[case("service.v1.openchoreo.dev", OUR_GROUP)]
    #[case("deployments.apps", "apps")]
    #[case("deploy", "apps")]
    fn names(#[case] word: &str, #[case] group: &str) {
        assert_eq!(kinds().find(word).unwrap().group, group);
    }

    #[test]
    fn a_category_is_all_its_kinds_once() {
        let kinds = kinds();
        let found: Vec<String> = kinds
            .find_all("choreo,comp,ns")
            .unwrap()
            .iter()
            .map(|kind| kind.title())
            .collect();
        assert_eq!(
            found,
            ["service.openchoreo.dev", "component.openchoreo.dev", "namespace"]
        );
    }

    #[test]
    fn a_typing_error_is_answered_with_the_right_name() {
        let failure = kinds().find("componets").unwrap_err();
        assert_eq!(failure.hint.as_deref(), Some("did you mean `components`?"));
        assert_eq!(failure.status, ExitStatus::NotFound);
    }

    #[test]
    fn paths() {
        let kinds = kinds();
        let component = kinds.find("comp").unwrap();
        assert_eq!(
            component.path(Some("acme"), Some("a")),
            "/apis/openchoreo.dev/v1/namespaces/acme/components/a"
        );
        assert_eq!(component.path(None, None), "/apis/openchoreo.dev/v1/components");
        assert_eq!(
            kinds.find("ns").unwrap().path(Some("acme"), Some("a")),
            "/api/v1/namespaces/a"
        );
    }
}
