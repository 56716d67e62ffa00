//! The paths of the OpenAPI documents: which operations a resource has, with which parameters, bodies and answers.
//!
//! They are worked out once in a form of their own and written in either version: in v3 bodies and answers name a schema for each
//! media type, in v2 a body is a parameter and media types stand beside it. Parameters that all operations of a path have are the
//! path's.

mod write;

use choreo_apimachinery::registry::ResourceInfo;
use serde_json::{Map, Value};

use self::write::{Body, Media, Operation, Parameter, known};
use crate::verbs::is_returned;

/// Definitions that operations speak of.
pub(super) const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
pub(super) const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
pub(super) const RESOURCE_LIST: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList";
pub(super) const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
pub(super) const WATCH_EVENT: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent";

const LIST: &[&str] = &[
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
];
const WRITE: &[&str] = &["dryRun", "fieldManager", "fieldValidation"];
const APPLY: &[&str] = &["dryRun", "fieldManager", "fieldValidation", "force"];
const DELETE: &[&str] = &[
    "dryRun",
    "gracePeriodSeconds",
    "orphanDependents",
    "propagationPolicy",
];
const DELETE_MANY: &[&str] = &[
    "continue",
    "dryRun",
    "fieldSelector",
    "gracePeriodSeconds",
    "labelSelector",
    "limit",
    "orphanDependents",
    "propagationPolicy",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
];
const LOG: &[&str] = &[
    "container",
    "follow",
    "insecureSkipTLSVerifyBackend",
    "limitBytes",
    "previous",
    "sinceSeconds",
    "stream",
    "tailLines",
    "timestamps",
];
const SESSION: &[&str] = &["container", "stderr", "stdin", "stdout", "tty"];
const EXEC: &[&str] = &["command", "container", "stderr", "stdin", "stdout", "tty"];

/// The methods of a proxy.
const PROXY: &[&str] = &["get", "put", "post", "delete", "options", "head", "patch"];

/// The paths of a group version, as they are written.
pub(super) struct Paths<'d> {
    /// The documents' paths.
    into: &'d mut Map<String, Value>,
    old: bool,
}

/// What all operations of a resource have in common.
struct Resource<'i> {
    info: &'i ResourceInfo,
    /// The definition of its kind.
    definition: &'i str,
    root: String,
    /// `AppsV1`
    group: String,
    tag: String,
}

impl<'d> Paths<'d> {
    /// Writes paths as v3 has them, or as v2 has (`old`).
    pub(super) fn new(into: &'d mut Map<String, Value>, old: bool) -> Self {
        Paths { into, old }
    }

    /// The path of a group version itself.
    pub(super) fn group_version(&mut self, group: &str, version: &str) {
        let operation = Operation {
            method: "get",
            id: format!("get{}{}APIResources", pascal(short(group)), pascal(version)),
            description: "get available resources".to_owned(),
            about: None,
            parameters: Vec::new(),
            body: Body::None,
            answers: vec![(200, Some(RESOURCE_LIST.to_owned()))],
            media: Media::Object,
        };
        self.write(
            format!("{}/", root(group, version)),
            vec![operation],
            &tag(group, version),
            false,
        );
    }

    /// All paths of a resource. `spoken` gives the definition of a kind that a subresource speaks.
    pub(super) fn resource(
        &mut self,
        info: &ResourceInfo,
        definition: &str,
        spoken: &mut dyn FnMut(&str, &str, &str) -> Option<String>,
    ) {
        let resource = Resource {
            info,
            definition,
            root: root(&info.group, &info.version),
            group: format!("{}{}", pascal(short(&info.group)), pascal(&info.version)),
            tag: tag(&info.group, &info.version),
        };
        let scope = if info.namespaced {
            "/namespaces/{namespace}"
        } else {
            ""
        };
        let collection = format!("{}{scope}/{}", resource.root, info.plural);
        let one = format!("{collection}/{}", "{name}");
        self.add(&resource, collection, resource.of_collection());
        self.add(&resource, one.clone(), resource.of_object());
        if info.namespaced && info.has_verb("list") {
            let all = format!("{}/{}", resource.root, info.plural);
            self.add(&resource, all, vec![resource.list("ForAllNamespaces", false)]);
        }
        for sub in &info.subresources {
            let path = format!("{one}/{}", sub.name);
            if sub.kind.ends_with("Options") {
                let methods = if sub.name == "proxy" {
                    PROXY
                } else {
                    &["get", "post"]
                };
                self.add(
                    &resource,
                    path.clone(),
                    resource.connect(&sub.name, &sub.kind, methods, false),
                );
                if sub.name == "proxy" {
                    let below = resource.connect(&sub.name, &sub.kind, methods, true);
                    self.add(&resource, format!("{path}/{}", "{path}"), below);
                }
                continue;
            }
            let (group, version) = if sub.version.is_empty() {
                (&info.group, &info.version)
            } else {
                (&sub.group, &sub.version)
            };
            let own = sub.kind == info.kind && *group == info.group;
            let speaks = if own {
                Some(definition.to_owned())
            } else {
                spoken(group, version, &sub.kind)
            };
            let Some(speaks) = speaks else { continue };
            let kind = [group.clone(), version.clone(), sub.kind.clone()];
            let verbs: Vec<&str> = sub.verbs.iter().map(String::as_str).collect();
            self.add(
                &resource,
                path,
                resource.of_subresource(&sub.name, &verbs, &kind, &speaks),
            );
        }
        if info.has_verb("watch") && !info.is_crd {
            self.watches(&resource, scope);
        }
    }

    /// The old paths of watches.
    fn watches(&mut self, resource: &Resource<'_>, scope: &str) {
        let plural = &resource.info.plural;
        let watched = format!("{}/watch{scope}/{plural}", resource.root);
        self.add(
            resource,
            watched.clone(),
            vec![resource.watch("watchlist", "List", true)],
        );
        self.add(
            resource,
            format!("{watched}/{}", "{name}"),
            vec![resource.watch("watch", "", true)],
        );
        if resource.info.namespaced {
            let all = format!("{}/watch/{plural}", resource.root);
            self.add(
                resource,
                all,
                vec![resource.watch("watchlist", "ListForAllNamespaces", false)],
            );
        }
    }

    fn add(&mut self, resource: &Resource<'_>, path: String, operations: Vec<Operation>) {
        if !operations.is_empty() {
            self.write(path, operations, &resource.tag, resource.info.is_crd);
        }
    }

    fn write(&mut self, path: String, mut operations: Vec<Operation>, tag: &str, custom: bool) {
        let mut common = operations
            .first()
            .map_or_else(Vec::new, |first| first.parameters.clone());
        common.retain(|parameter| {
            operations
                .iter()
                .all(|operation| operation.parameters.contains(parameter))
        });
        for operation in &mut operations {
            operation
                .parameters
                .retain(|parameter| !common.contains(parameter));
            operation.parameters.sort();
        }
        common.sort();
        let mut item = Map::new();
        for operation in &operations {
            let written = if self.old {
                operation.in_v2(tag, custom)
            } else {
                operation.in_v3(tag, custom)
            };
            item.insert(operation.method.to_owned(), written);
        }
        if !common.is_empty() {
            let common = common.iter().map(|parameter| parameter.write(self.old));
            item.insert("parameters".to_owned(), common.collect());
        }
        self.into.insert(path, Value::Object(item));
    }
}

impl Resource<'_> {
    fn kind(&self) -> [String; 3] {
        [
            self.info.group.clone(),
            self.info.version.clone(),
            self.info.kind.clone(),
        ]
    }

    /// `readAppsV1NamespacedDeployment`
    fn id(&self, verb: &str, namespaced: bool, behind: &str) -> String {
        let scope = if self.info.namespaced && namespaced {
            "Namespaced"
        } else {
            ""
        };
        format!("{verb}{}{scope}{}{behind}", self.group, self.info.kind)
    }

    /// Those of a query, and those of the path.
    fn parameters(&self, query: &[&'static str], named: Option<&str>, namespaced: bool) -> Vec<Parameter> {
        let parameter = |name, place, of: &str| Parameter {
            name,
            place,
            of: of.to_owned(),
        };
        let query = query.iter().map(|name| parameter(*name, "query", ""));
        let mut all: Vec<Parameter> = query.collect();
        all.extend(named.map(|kind| parameter("name", "path", kind)));
        if self.info.namespaced && namespaced {
            all.push(parameter("namespace", "path", ""));
        }
        all
    }

    fn operation(
        &self,
        method: &'static str,
        action: &'static str,
        id: String,
        description: String,
    ) -> Operation {
        Operation {
            method,
            id,
            description,
            about: Some((action, self.kind())),
            parameters: Vec::new(),
            body: Body::None,
            answers: vec![(200, Some(self.definition.to_owned()))],
            media: Media::Object,
        }
    }

    fn list(&self, behind: &str, namespaced: bool) -> Operation {
        let kind = &self.info.kind;
        let id = self.id("list", namespaced, behind);
        Operation {
            parameters: self.parameters(&with_pretty(LIST), None, namespaced),
            answers: vec![(200, Some(format!("{}List", self.definition)))],
            media: Media::Watch,
            ..self.operation("get", "list", id, format!("list or watch objects of kind {kind}"))
        }
    }

    fn watch(&self, action: &'static str, behind: &str, namespaced: bool) -> Operation {
        let (kind, named) = (
            &self.info.kind,
            behind.is_empty().then_some(self.info.kind.as_str()),
        );
        let description =
            format!("watch {kind}; the list operation with the parameter `watch` does the same");
        Operation {
            parameters: self.parameters(&with_pretty(LIST), named, namespaced),
            answers: vec![(200, Some(WATCH_EVENT.to_owned()))],
            media: Media::Watch,
            ..self.operation("get", action, self.id("watch", namespaced, behind), description)
        }
    }

    fn of_collection(&self) -> Vec<Operation> {
        let (info, kind) = (self.info, &self.info.kind);
        let mut all = Vec::new();
        if info.has_verb("list") {
            all.push(self.list("", true));
        }
        if info.has_verb("create") {
            let made = |code| (code, Some(self.definition.to_owned()));
            all.push(Operation {
                parameters: self.parameters(&with_pretty(WRITE), None, true),
                body: Body::Required(self.definition.to_owned()),
                answers: vec![made(200), made(201), made(202)],
                ..self.operation(
                    "post",
                    "post",
                    self.id("create", true, ""),
                    format!("create a {kind}"),
                )
            });
        }
        if info.has_verb("deletecollection") {
            let scope = if info.namespaced { "Namespaced" } else { "" };
            let id = format!("delete{}Collection{scope}{kind}", self.group);
            all.push(Operation {
                parameters: self.parameters(&with_pretty(DELETE_MANY), None, true),
                body: Body::Optional(DELETE_OPTIONS),
                answers: vec![(200, Some(STATUS.to_owned()))],
                ..self.operation(
                    "delete",
                    "deletecollection",
                    id,
                    format!("delete collection of {kind}"),
                )
            });
        }
        all
    }

    fn of_object(&self) -> Vec<Operation> {
        let (info, kind) = (self.info, self.info.kind.as_str());
        let mut all = Vec::new();
        for verb in ["get", "update", "patch"] {
            if info.has_verb(verb) {
                all.push(self.changed(verb, "", &self.kind(), self.definition, kind));
            }
        }
        if info.has_verb("delete") {
            let answer = if is_returned(info) {
                self.definition
            } else {
                STATUS
            };
            let gone = |code| (code, Some(answer.to_owned()));
            all.push(Operation {
                parameters: self.parameters(&with_pretty(DELETE), Some(kind), true),
                body: Body::Optional(DELETE_OPTIONS),
                answers: vec![gone(200), gone(202)],
                ..self.operation(
                    "delete",
                    "delete",
                    self.id("delete", true, ""),
                    format!("delete a {kind}"),
                )
            });
        }
        all
    }

    /// Reading, replacing and patching an object, or a part of it.
    fn changed(&self, verb: &str, sub: &str, kind: &[String; 3], speaks: &str, named: &str) -> Operation {
        let behind = pascal(sub);
        let of = if sub.is_empty() {
            String::new()
        } else {
            format!("{sub} of ")
        };
        let whole = &self.info.kind;
        let answer = |code| (code, Some(speaks.to_owned()));
        let (method, word, says, query, body): (_, _, _, &[&str], _) = match verb {
            "get" => ("get", "read", "read", &[], Body::None),
            "update" => (
                "put",
                "replace",
                "replace",
                WRITE,
                Body::Required(speaks.to_owned()),
            ),
            _ => ("patch", "patch", "partially update", APPLY, Body::Patch),
        };
        // A custom resource can be read as of a version, and is not made by a patch, as far as its document says.
        let query: Vec<&'static str> = if verb == "get" && self.info.is_crd {
            vec!["resourceVersion"]
        } else {
            query.iter().map(|name| known(name)).collect()
        };
        let makes = match verb {
            "get" => false,
            "update" => true,
            _ => !self.info.is_crd,
        };
        Operation {
            about: Some((method, kind.clone())),
            parameters: self.parameters(&with_pretty(&query), Some(named), true),
            body,
            answers: if makes {
                vec![answer(200), answer(201)]
            } else {
                vec![answer(200)]
            },
            ..self.operation(
                method,
                method,
                self.id(word, true, &behind),
                format!("{says} {of}the specified {whole}"),
            )
        }
    }

    fn of_subresource(&self, sub: &str, verbs: &[&str], kind: &[String; 3], speaks: &str) -> Vec<Operation> {
        let whole = self.info.kind.as_str();
        // What is made for an object has the object's name.
        let named = if verbs.contains(&"create") {
            kind[2].as_str()
        } else {
            whole
        };
        if sub == "log" {
            return vec![Operation {
                parameters: self.parameters(&with_pretty(LOG), Some(whole), true),
                answers: vec![(200, None)],
                media: Media::Text,
                ..self.changed("get", sub, kind, speaks, named)
            }];
        }
        let mut all: Vec<Operation> = ["get", "update", "patch"]
            .into_iter()
            .filter(|verb| verbs.contains(verb))
            .map(|verb| self.changed(verb, sub, kind, speaks, named))
            .collect();
        if verbs.contains(&"create") {
            let made = |code| (code, Some(speaks.to_owned()));
            all.push(Operation {
                about: Some(("post", kind.clone())),
                parameters: self.parameters(&with_pretty(WRITE), Some(named), true),
                body: Body::Required(speaks.to_owned()),
                answers: vec![made(200), made(201), made(202)],
                ..self.operation(
                    "post",
                    "post",
                    self.id("create", true, &pascal(sub)),
                    format!("create {sub} of a {whole}"),
                )
            });
        }
        all
    }

    /// Connections with a container.
    fn connect(&self, sub: &str, kind: &str, methods: &[&'static str], below: bool) -> Vec<Operation> {
        let query: &[&'static str] = match sub {
            "exec" => EXEC,
            "attach" => SESSION,
            "portforward" => &["ports"],
            _ => &["path"],
        };
        let mut parameters = self.parameters(query, Some(kind), true);
        if below {
            parameters.push(Parameter {
                name: "path",
                place: "path",
                of: String::new(),
            });
        }
        let behind = format!("{}{}", pascal(sub), if below { "WithPath" } else { "" });
        let kind = [
            self.info.group.clone(),
            self.info.version.clone(),
            kind.to_owned(),
        ];
        let connect = |method: &'static str| Operation {
            about: Some(("connect", kind.clone())),
            parameters: parameters.clone(),
            answers: vec![(200, None)],
            media: Media::Any,
            ..self.operation(
                method,
                "connect",
                {
                    let scope = if self.info.namespaced { "Namespaced" } else { "" };
                    format!(
                        "connect{}{}{scope}{}{behind}",
                        self.group,
                        pascal(method),
                        self.info.kind
                    )
                },
                format!(
                    "connect {} requests to {sub} of {}",
                    method.to_ascii_uppercase(),
                    self.info.kind
                ),
            )
        };
        methods.iter().map(|method| connect(method)).collect()
    }
}

/// The same with the parameter that almost every operation has.
fn with_pretty(names: &[&'static str]) -> Vec<&'static str> {
    names.iter().copied().chain(["pretty"]).collect()
}

fn root(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{group}/{version}")
    }
}

/// A group as the names of operations have it: `core`, `rbac.authorization`, `example.dev`.
fn short(group: &str) -> &str {
    if group.is_empty() {
        return "core";
    }
    group.strip_suffix(".k8s.io").unwrap_or(group)
}

/// `rbacAuthorization_v1`
fn tag(group: &str, version: &str) -> String {
    let name = pascal(short(group));
    let mut chars = name.chars();
    let first = chars.next().map(|c| c.to_ascii_lowercase());
    let lower: String = first.into_iter().chain(chars).collect();
    format!("{lower}_{version}")
}

/// Words in one, each with a large letter.
fn pascal(text: &str) -> String {
    text.split(['.', '-'])
        .flat_map(|word| {
            let mut chars = word.chars();
            let first = chars.next().map(|c| c.to_ascii_uppercase());
            first.into_iter().chain(chars).collect::<Vec<char>>()
        })
        .collect()
}
