//! What the FlowSchemas and PriorityLevelConfigurations say, made ready to be asked by every request.

use std::collections::BTreeMap;

use bytes::Bytes;
use choreo_apimachinery::builtin::flow::{CATCH_ALL, EXEMPT, Known, levels, schemas};
use choreo_store::Snapshot;
use http::{HeaderValue, Method};
use serde::Deserialize;
use serde_json::json;

use super::rules::{Rule, namespace_of};
use crate::request::RequestInfo;
use crate::user::UserInfo;

/// The resources as the store knows them.
pub(super) const SCHEMAS: &str = "flowcontrol.apiserver.k8s.io/flowschemas";
pub(super) const LEVELS: &str = "flowcontrol.apiserver.k8s.io/prioritylevelconfigurations";

/// A PriorityLevelConfiguration.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Level {
    pub(super) name: String,
    pub(super) uid: String,
    /// Whether its requests are never limited.
    pub(super) exempt: bool,
    /// Its shares of the server's seats.
    pub(super) shares: u32,
    /// How many percent of its seats others may have while it does not need them.
    pub(super) lendable: u32,
    /// How many percent of its seats it may have from others; as many as there are, when it does not say.
    pub(super) borrowing: Option<u32>,
    /// How requests wait; they do not, when there is nothing here.
    pub(super) queuing: Option<Queuing>,
}

/// How requests wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Queuing {
    pub(super) queues: u32,
    /// How many of the queues a flow is dealt.
    pub(super) hand_size: u32,
    /// How many requests wait in one of them at most.
    pub(super) queue_length_limit: u32,
}

#[derive(Deserialize)]
struct Read<S> {
    metadata: Metadata,
    spec: S,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Metadata {
    name: String,
    uid: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LevelSpec {
    r#type: String,
    exempt: Option<Shares>,
    limited: Option<Shares>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shares {
    #[serde(default)]
    nominal_concurrency_shares: u32,
    #[serde(default)]
    lendable_percent: u32,
    borrowing_limit_percent: Option<u32>,
    #[serde(default)]
    limit_response: Response,
}

#[derive(Deserialize, Default)]
struct Response {
    queuing: Option<Queuing>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SchemaSpec {
    priority_level_configuration: Reference,
    matching_precedence: i32,
    distinguisher_method: Option<Method_>,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Reference {
    name: String,
}

#[derive(Deserialize)]
struct Method_ {
    r#type: String,
}

/// The text of an object that the server cannot do without, for while somebody has deleted it.
fn imagined(known: &'static [Known], name: &str) -> Option<Bytes> {
    let known = known.iter().find(|known| known.name == name)?;
    let object = json!({"metadata": {"name": known.name}, "spec": known.spec});
    Some(object.to_string().into())
}

/// All levels, the two that there must be among them.
pub(super) fn read_levels(snapshot: &Snapshot) -> Vec<Level> {
    let mut read: BTreeMap<String, Level> = snapshot
        .iter(LEVELS, None, None)
        .filter_map(|object| level(object.json()))
        .map(|level| (level.name.clone(), level))
        .collect();
    for name in [EXEMPT, CATCH_ALL] {
        if !read.contains_key(name)
            && let Some(level) = imagined(levels(), name).as_deref().and_then(level)
        {
            read.insert(level.name.clone(), level);
        }
    }
    read.into_values().collect()
}

/// Reads the text, and leaves no tree behind that somebody would keep.
fn level(object: &[u8]) -> Option<Level> {
    let Read::<LevelSpec> { metadata, spec } = serde_json::from_slice(object).ok()?;
    let exempt = spec.r#type == "Exempt";
    // Validation lets nothing else in.
    let said = if exempt { spec.exempt } else { Some(spec.limited?) };
    let said = said.unwrap_or(Shares {
        nominal_concurrency_shares: 0,
        lendable_percent: 0,
        borrowing_limit_percent: None,
        limit_response: Response::default(),
    });
    Some(Level {
        name: metadata.name,
        uid: metadata.uid,
        exempt,
        shares: said.nominal_concurrency_shares,
        lendable: said.lendable_percent.min(100),
        borrowing: said.borrowing_limit_percent,
        queuing: said.limit_response.queuing,
    })
}

/// What tells the flows of a FlowSchema apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Distinguisher {
    Nothing,
    User,
    Namespace,
}

/// What a client is told of how its request was counted: the uids of the two objects, which say nothing to whom may not read
/// them.
#[derive(Clone, Debug)]
pub(crate) struct Uids {
    schema: HeaderValue,
    level: HeaderValue,
}

impl Uids {
    const SCHEMA: &str = "x-kubernetes-pf-flowschema-uid";
    const LEVEL: &str = "x-kubernetes-pf-prioritylevel-uid";

    fn new(schema: &str, level: &str) -> Self {
        let value = |uid| HeaderValue::from_str(uid).unwrap_or(HeaderValue::from_static(""));
        Uids {
            schema: value(schema),
            level: value(level),
        }
    }

    /// Adds the headers of an answer.
    pub(crate) fn tell(self, response: &mut axum::response::Response) {
        let headers = response.headers_mut();
        headers.insert(Self::LEVEL, self.level);
        headers.insert(Self::SCHEMA, self.schema);
    }
}

/// A FlowSchema.
#[derive(Debug)]
pub(super) struct Schema {
    pub(super) name: String,
    precedence: i32,
    rules: Vec<Rule>,
    pub(super) by: Distinguisher,
    /// The level's number; none for one without limits.
    pub(super) level: Option<u64>,
    pub(super) uids: Uids,
}

impl Schema {
    /// What tells a request's flow from others of the same schema.
    pub(super) fn distinguisher<'r>(&self, user: &'r UserInfo, info: &'r RequestInfo) -> &'r str {
        match self.by {
            Distinguisher::Nothing => "",
            Distinguisher::User => &user.name,
            Distinguisher::Namespace => namespace_of(info),
        }
    }
}

/// All FlowSchemas, in the order in which they are asked.
#[derive(Debug, Default)]
pub(super) struct Config {
    schemas: Vec<Schema>,
}

impl Config {
    /// Reads the FlowSchemas. `known` are the levels with their numbers. Schemas of levels that are not there are not asked.
    pub(super) fn read(snapshot: &Snapshot, known: &[(Level, u64)]) -> Config {
        let mut objects: Vec<Bytes> = Vec::new();
        let mut names = Vec::new();
        for object in snapshot.iter(SCHEMAS, None, None) {
            names.push(object.key().name().to_owned());
            objects.push(object.json().clone());
        }
        for name in [EXEMPT, CATCH_ALL] {
            if !names.iter().any(|there| there == name) {
                objects.extend(imagined(schemas(), name));
            }
        }
        let mut read: Vec<Schema> = objects
            .iter()
            .filter_map(|object| schema(object, known))
            .collect();
        read.sort_by(|a, b| (a.precedence, &a.name).cmp(&(b.precedence, &b.name)));
        Config { schemas: read }
    }

    /// The first schema that a request matches. One that matches none, by a user without any group, is for the catch-all.
    pub(super) fn classify(&self, user: &UserInfo, info: &RequestInfo, method: &Method) -> Option<&Schema> {
        let matches = |schema: &&Schema| schema.rules.iter().any(|rule| rule.matches(user, info, method));
        let mut schemas = self.schemas.iter();
        schemas
            .find(matches)
            .or_else(|| self.schemas.iter().find(|schema| schema.name == CATCH_ALL))
    }
}

fn schema(object: &[u8], known: &[(Level, u64)]) -> Option<Schema> {
    let Read::<SchemaSpec> { metadata, spec } = serde_json::from_slice(object).ok()?;
    let (level, number) = known
        .iter()
        .find(|(level, _)| level.name == spec.priority_level_configuration.name)?;
    let by = match spec.distinguisher_method.as_ref().map(|m| m.r#type.as_str()) {
        Some("ByUser") => Distinguisher::User,
        Some("ByNamespace") => Distinguisher::Namespace,
        _ => Distinguisher::Nothing,
    };
    Some(Schema {
        precedence: spec.matching_precedence,
        rules: spec.rules,
        by,
        level: (!level.exempt).then_some(*number),
        uids: Uids::new(&metadata.uid, &level.uid),
        name: metadata.name,
    })
}

#[cfg(test)]
mod tests {
    use choreo_store::Store;

    use super::*;
    use crate::request::Query;

    /// The schema and level of a request, by the objects that every server has.
    fn classified(user: &str, groups: &[&str], request: &str) -> (String, bool) {
        let store = Store::in_memory().cluster("c");
        let writes = super::super::bootstrap(&store.snapshot());
        futures::executor::block_on(store.write_batch(writes)).unwrap();
        let numbered: Vec<_> = read_levels(&store.snapshot()).into_iter().zip(1..).collect();
        let config = Config::read(&store.snapshot(), &numbered);
        let (method, path) = request.split_once(' ').unwrap();
        let method: Method = method.parse().unwrap();
        let info = RequestInfo::parse(&method, path, &Query::parse(""));
        let user = UserInfo::new(user, groups.iter().copied());
        let schema = config.classify(&user, &info, &method).unwrap();
        (schema.name.clone(), schema.level.is_some())
    }

    #[test]
    fn the_first_schema_that_matches_counts() {
        let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/l";
        let robot = "system:serviceaccount:kube-system:robot";
        let accounts = &["system:serviceaccounts"][..];
        for (user, groups, request, expected) in [
            ("root", &["system:masters"][..], "GET /api/v1/pods", "exempt"),
            ("jane", &[], "GET /readyz", "probes"),
            ("jane", &[], "GET /version", "global-default"),
            ("jane", &["dev"], "GET /api/v1/pods", "global-default"),
            (
                robot,
                accounts,
                &format!("PUT {leases}"),
                "system-leader-election",
            ),
            (
                robot,
                accounts,
                &format!("DELETE {leases}"),
                "kube-system-service-accounts",
            ),
            (
                "system:serviceaccount:a:b",
                accounts,
                "GET /api/v1/pods",
                "service-accounts",
            ),
            (
                "system:node:n",
                &["system:nodes"],
                "PATCH /api/v1/nodes/n/status",
                "system-node-high",
            ),
            (
                "system:node:n",
                &["system:nodes"],
                "GET /api/v1/pods",
                "system-nodes",
            ),
            ("system:kube-scheduler", &[], "GET /api/v1/pods", "kube-scheduler"),
        ] {
            let (schema, limited) = classified(user, groups, request);
            assert_eq!(schema, expected, "{user} {request}");
            assert_eq!(
                limited,
                !matches!(expected, "exempt" | "probes"),
                "{user} {request}"
            );
        }
    }

    #[test]
    fn without_objects_there_is_what_there_must_be() {
        let store = Store::in_memory().cluster("c");
        let levels = read_levels(&store.snapshot());
        let names: Vec<_> = levels
            .iter()
            .map(|level| (level.name.as_str(), level.exempt))
            .collect();
        assert_eq!(names, [("catch-all", false), ("exempt", true)]);
        let numbered: Vec<_> = levels.into_iter().zip(1..).collect();
        let config = Config::read(&store.snapshot(), &numbered);
        let info = RequestInfo::parse(&Method::GET, "/api/v1/pods", &Query::parse(""));
        let schema = |user: &UserInfo| config.classify(user, &info, &Method::GET).unwrap().name.clone();
        assert_eq!(schema(&UserInfo::admin()), "exempt");
        assert_eq!(schema(&UserInfo::new("jane", ["dev"])), "catch-all");
        // Somebody without any group, whom no schema is for.
        assert_eq!(schema(&UserInfo::default()), "catch-all");
    }
}
