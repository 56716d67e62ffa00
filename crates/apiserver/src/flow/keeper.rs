//! Keeps what flow control goes by: makes the objects that every server has, puts them right, says in the status of each
//! FlowSchema whether its level is there, and has requests counted by what the objects say now.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use choreo_apimachinery::builtin::flow::{
    AUTO_UPDATE, EXEMPT, GROUP, Known, is_level_as_known, levels, schemas,
};
use choreo_apimachinery::status::Result;
use choreo_store::{Key, Object, Snapshot, Write};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::config::{LEVELS, SCHEMAS};
use crate::cluster::{Cluster, Refused};
use crate::follow::{Ended, Round, burst, rounds};
use crate::request::{DeleteOptions, PatchOptions};
use crate::user::UserInfo;
use crate::verbs::{Patch, PatchKind, Subresource, Target, delete, edit, now, patch, text};

/// The names under which kube-apiserver writes the objects, and their statuses.
const PRODUCER: &str = "api-priority-and-fairness-config-producer-v1";
const CONSUMER: &str = "api-priority-and-fairness-config-consumer-v1";

/// How often the objects are looked at, whatever has happened: one that somebody has deleted comes back by then.
const EVERY: Duration = Duration::from_secs(60);

/// How long after the start they are looked at first: what was missing has been made by then, and a start has other things to do.
const FIRST: Duration = Duration::from_secs(1);

const API_VERSION: &str = "flowcontrol.apiserver.k8s.io/v1";

/// One of the two kinds.
struct Sort {
    resource: &'static str,
    plural: &'static str,
    kind: &'static str,
    known: fn() -> &'static [Known],
    is_as_known: fn(&Known, &Value) -> bool,
}

const SORTS: [Sort; 2] = [
    Sort {
        resource: LEVELS,
        plural: "prioritylevelconfigurations",
        kind: "PriorityLevelConfiguration",
        known: levels,
        is_as_known: is_level_as_known,
    },
    Sort {
        resource: SCHEMAS,
        plural: "flowschemas",
        kind: "FlowSchema",
        known: schemas,
        is_as_known: |known, spec| known.spec == *spec,
    },
];

/// Writes for those objects that are not there.
pub(crate) fn bootstrap(snapshot: &Snapshot) -> Vec<Write> {
    let sorts = SORTS
        .iter()
        .flat_map(|sort| (sort.known)().iter().map(move |known| (sort, known)));
    sorts
        .map(|(sort, known)| (Key::new(sort.resource, "", known.name), sort, known))
        .filter(|(key, ..)| snapshot.get(key).is_none())
        .map(|(key, sort, known)| Write::Create {
            key,
            value: new(sort, known),
        })
        .collect()
}

/// An object as kube-apiserver makes it, with what comes of it at once: who owns which field, and the status.
fn new(sort: &Sort, known: &Known) -> Value {
    let now = now();
    let mut annotations = Map::new();
    annotations.insert(format!("f:{AUTO_UPDATE}"), json!({}));
    annotations.insert(".".to_owned(), json!({}));
    let managed = |manager: &str, operation: &str, fields: Value| {
        json!({
            "manager": manager, "operation": operation, "apiVersion": API_VERSION, "time": now,
            "fieldsType": "FieldsV1", "fieldsV1": fields,
        })
    };
    let mut managers = Vec::new();
    let mut status = json!({});
    if let Some(level) = known.spec.pointer("/priorityLevelConfiguration/name") {
        let mut consumer = managed(
            CONSUMER,
            "Apply",
            json!({"f:status": {"f:conditions": {r#"k:{"type":"Dangling"}"#: {
                ".": {}, "f:lastTransitionTime": {}, "f:message": {}, "f:reason": {}, "f:status": {}, "f:type": {},
            }}}}),
        );
        consumer["subresource"] = "status".into();
        managers.push(consumer);
        status = json!({"conditions": [dangling(level.as_str().unwrap_or_default(), true)]});
        status["conditions"][0]["lastTransitionTime"] = now.clone().into();
    }
    let fields = json!({"f:metadata": {"f:annotations": annotations}, "f:spec": owned(&known.spec, false)});
    managers.push(managed(PRODUCER, "Update", fields));
    json!({
        "apiVersion": API_VERSION,
        "kind": sort.kind,
        "metadata": {
            "name": known.name,
            "uid": uuid::Uuid::new_v4().to_string(),
            "creationTimestamp": now,
            "generation": 1,
            "annotations": {AUTO_UPDATE: "true"},
            "managedFields": managers,
        },
        "spec": known.spec,
        "status": status,
    })
}

/// The fields of a value, as managers own them. Lists are owned as a whole.
fn owned(value: &Value, itself: bool) -> Value {
    let Some(map) = value.as_object() else {
        return json!({});
    };
    let fields = map.iter().map(|(name, value)| {
        // What must be there anyway is not owned for itself.
        let itself = name != "priorityLevelConfiguration";
        (format!("f:{name}"), owned(value, itself))
    });
    let dot = itself.then(|| (".".to_owned(), json!({})));
    Value::Object(dot.into_iter().chain(fields).collect())
}

/// The condition of a FlowSchema, without its time.
fn dangling(level: &str, found: bool) -> Value {
    let names = format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?}");
    if found {
        json!({"type": "Dangling", "status": "False", "reason": "Found", "message": format!("{names} and it exists")})
    } else {
        json!({
            "type": "Dangling", "status": "True", "reason": "NotFound",
            "message": format!("{names} but there is no such object"),
        })
    }
}

/// Works until `shutdown`.
pub(crate) async fn run(cluster: Arc<Cluster>, shutdown: CancellationToken) {
    rounds(shutdown, || round(cluster.clone())).await;
}

async fn round(cluster: Arc<Cluster>) -> Round {
    let store = cluster.store();
    let from = store.revision();
    let mut schemas = store.watch(Some(SCHEMAS), None, from)?;
    let mut levels = store.watch(Some(LEVELS), None, from)?;
    let mut soon = tokio::time::interval_at(tokio::time::Instant::now() + FIRST, EVERY);
    soon.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let changed: std::result::Result<bool, Ended> = tokio::select! {
            _ = soon.tick() => Ok(false),
            changed = burst(&mut schemas, |_| {}) => changed.map(|()| true),
            changed = burst(&mut levels, |_| {}) => changed.map(|()| true),
        };
        if !changed? {
            put_right(&cluster).await;
        }
        // One snapshot for both: a status never speaks of what requests are not yet counted by.
        let snapshot = store.snapshot();
        cluster.flow().configure(&snapshot);
        tell(&cluster, &snapshot).await;
    }
}

fn target(cluster: &Arc<Cluster>, plural: &str, agent: &str) -> Result<Target> {
    Target::new(
        cluster,
        (GROUP, "v1", plural),
        "",
        &UserInfo::system("apiserver"),
        agent,
    )
}

/// Makes the objects that are not there, and puts those right whose spec the server is to keep.
async fn put_right(cluster: &Arc<Cluster>) {
    for write in bootstrap(&cluster.store().snapshot()) {
        if let Err(Refused::Fault(error)) = cluster.write(write).await {
            tracing::warn!("an object of flow control was not made: {error}");
        }
    }
    for sort in &SORTS {
        if let Err(error) = revise(cluster, sort).await {
            tracing::warn!(
                kind = sort.kind,
                "an object of flow control was not put right: {error}"
            );
        }
    }
}

async fn revise(cluster: &Arc<Cluster>, sort: &Sort) -> Result<()> {
    let snapshot = cluster.store().snapshot();
    let target = target(cluster, sort.plural, PRODUCER)?;
    let names: BTreeSet<&str> = (sort.known)().iter().map(|known| known.name).collect();
    for object in snapshot.iter(sort.resource, None, None) {
        let name = object.key().name();
        // What the server has once made, and makes no more.
        if !names.contains(name) && automatic(&read(object)) == Some(true) {
            match delete(&target, name, &DeleteOptions::default()).await {
                Err(error) if error.code != 404 => return Err(error),
                _ => {}
            }
        }
    }
    for known in (sort.known)() {
        let Some(object) = snapshot.get(&Key::new(sort.resource, "", known.name)) else {
            continue;
        };
        let object = read(object);
        let said = automatic(&object);
        // One that nobody has said anything of, and nobody has changed, is the server's.
        let keeps = known.mandatory || said.unwrap_or(object["metadata"]["generation"] == 1);
        let changed = keeps && !(sort.is_as_known)(known, &object["spec"]);
        if !changed && said == Some(keeps) {
            continue;
        }
        edit(&target, known.name, Subresource::Main, |object| {
            if changed {
                object["spec"] = known.spec.clone();
            }
            let annotations = &mut object["metadata"]["annotations"];
            if !annotations.is_object() {
                *annotations = json!({});
            }
            annotations[AUTO_UPDATE] = keeps.to_string().into();
        })
        .await?;
    }
    Ok(())
}

/// An object, read for one look: nobody keeps its tree, as the store would.
fn read(object: &Object) -> Value {
    serde_json::from_slice(object.json()).unwrap_or_default()
}

/// What an object's annotation says, in the words that Go's `strconv.ParseBool` knows.
fn automatic(object: &Value) -> Option<bool> {
    match object["metadata"]["annotations"][AUTO_UPDATE].as_str()? {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Says in the statuses of FlowSchemas whether their levels are there.
async fn tell(cluster: &Arc<Cluster>, snapshot: &Snapshot) {
    for schema in snapshot.iter(SCHEMAS, None, None) {
        let schema = read(schema);
        let level = text(&schema, "/spec/priorityLevelConfiguration/name");
        let found = level == EXEMPT || snapshot.get(&Key::new(LEVELS, "", level)).is_some();
        let mut wanted = dangling(level, found);
        let conditions = schema["status"]["conditions"].as_array();
        let told = conditions
            .into_iter()
            .flatten()
            .find(|condition| condition["type"] == "Dangling");
        let same = |told: &&Value| {
            ["status", "reason", "message"]
                .iter()
                .all(|field| told[*field] == wanted[*field])
        };
        if told.is_some_and(|told| same(&told)) {
            continue;
        }
        wanted["lastTransitionTime"] = now().into();
        let name = text(&schema, "/metadata/name");
        if let Err(error) = write_status(cluster, name, wanted).await
            && error.code != 404
        {
            tracing::warn!(name, "the status of a FlowSchema was not written: {error}");
        }
    }
}

async fn write_status(cluster: &Arc<Cluster>, name: &str, condition: Value) -> Result<()> {
    let target = target(cluster, "flowschemas", CONSUMER)?;
    let config = json!({
        "apiVersion": API_VERSION, "kind": "FlowSchema", "metadata": {"name": name}, "status": {"conditions": [condition]},
    });
    let bytes = config.to_string();
    let (apply, _) = Patch::read(PatchKind::Apply, bytes.as_bytes())?;
    let options = PatchOptions {
        field_manager: Some(CONSUMER.to_owned()),
        force: true,
        ..PatchOptions::default()
    };
    patch(&target, name, Subresource::Status, apply, &options).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::{ApiServer, Options};
    use choreo_store::Store;

    fn cluster() -> Arc<Cluster> {
        let server = ApiServer::new(Store::in_memory(), Options::default()).unwrap();
        server.default_cluster().clone()
    }

    fn object(cluster: &Arc<Cluster>, resource: &str, name: &str) -> Option<Value> {
        let object = cluster.store().get(&Key::new(resource, "", name))?;
        Some((*object.value()).clone())
    }

    async fn change(cluster: &Arc<Cluster>, sort: &Sort, name: &str, change: impl Fn(&mut Value)) {
        let target = target(cluster, sort.plural, "somebody").unwrap();
        edit(&target, name, Subresource::Main, change).await.unwrap();
    }

    const LEVEL: &Sort = &SORTS[0];
    const SCHEMA: &Sort = &SORTS[1];

    #[tokio::test]
    async fn suggestions_are_put_right_until_somebody_says_otherwise() {
        let cluster = cluster();
        let shares = || {
            object(&cluster, LEVELS, "system").unwrap()["spec"]["limited"]["nominalConcurrencyShares"].clone()
        };
        let annotation =
            || object(&cluster, LEVELS, "system").unwrap()["metadata"]["annotations"][AUTO_UPDATE].clone();
        let set = |level: &mut Value| level["spec"]["limited"]["nominalConcurrencyShares"] = 7.into();
        put_right(&cluster).await;
        let before = cluster.store().revision();
        put_right(&cluster).await;
        assert_eq!(cluster.store().revision(), before, "there is nothing to do");

        change(&cluster, LEVEL, "system", set).await;
        put_right(&cluster).await;
        assert_eq!((shares(), annotation()), (30.into(), "true".into()));
        change(&cluster, LEVEL, "system", |level| {
            set(level);
            level["metadata"]["annotations"][AUTO_UPDATE] = "false".into();
        })
        .await;
        put_right(&cluster).await;
        assert_eq!((shares(), annotation()), (7.into(), "false".into()));
        // Somebody has changed it and says nothing: it is theirs.
        change(&cluster, LEVEL, "system", |level| {
            level["metadata"]["annotations"] = json!({})
        })
        .await;
        put_right(&cluster).await;
        assert_eq!((shares(), annotation()), (7.into(), "false".into()));
    }

    #[tokio::test]
    async fn what_is_deleted_comes_back_and_what_is_no_more_goes() {
        let cluster = cluster();
        for (sort, name) in [(SCHEMA, "exempt"), (LEVEL, "catch-all"), (SCHEMA, "probes")] {
            let target = target(&cluster, sort.plural, "somebody").unwrap();
            delete(&target, name, &DeleteOptions::default()).await.unwrap();
        }
        let stranger = |name: &str, automatic: Option<&str>| Write::Create {
            key: Key::new(SCHEMAS, "", name),
            value: json!({
                "apiVersion": API_VERSION, "kind": "FlowSchema",
                "metadata": {"name": name, "uid": name, "annotations": automatic.map(|said| json!({AUTO_UPDATE: said}))},
                "spec": {"priorityLevelConfiguration": {"name": "exempt"}, "matchingPrecedence": 5},
            }),
        };
        for (name, said) in [("old", Some("true")), ("kept", Some("false")), ("own", None)] {
            cluster.store().write(stranger(name, said)).await.unwrap();
        }
        put_right(&cluster).await;
        for (resource, name, there) in [
            (SCHEMAS, "exempt", true),
            (LEVELS, "catch-all", true),
            (SCHEMAS, "probes", true),
            (SCHEMAS, "old", false),
            (SCHEMAS, "kept", true),
            (SCHEMAS, "own", true),
        ] {
            assert_eq!(object(&cluster, resource, name).is_some(), there, "{name}");
        }
    }

    #[tokio::test]
    async fn what_must_be_is_put_right_whatever_it_says() {
        let cluster = cluster();
        change(&cluster, LEVEL, "exempt", |level| {
            level["spec"]["exempt"]["nominalConcurrencyShares"] = 9.into();
            level["metadata"]["annotations"][AUTO_UPDATE] = "false".into();
        })
        .await;
        put_right(&cluster).await;
        let exempt = object(&cluster, LEVELS, "exempt").unwrap();
        assert_eq!(exempt["metadata"]["annotations"][AUTO_UPDATE], "true");
        // These shares are for the administrator to say.
        assert_eq!(exempt["spec"]["exempt"]["nominalConcurrencyShares"], 9);
    }

    #[tokio::test]
    async fn who_owns_the_fields_is_as_if_they_had_been_written_by_request() {
        let cluster = cluster();
        for (sort, resource, name) in [
            (LEVEL, LEVELS, "system"),
            (LEVEL, LEVELS, "exempt"),
            (SCHEMA, SCHEMAS, "probes"),
        ] {
            let made = object(&cluster, resource, name).unwrap();
            let mut written = json!({
                "apiVersion": API_VERSION, "kind": sort.kind, "spec": made["spec"],
                "metadata": {"name": name, "annotations": made["metadata"]["annotations"]},
            });
            let info = target(&cluster, sort.plural, PRODUCER).unwrap().resource;
            let time = now();
            let manager = choreo_apimachinery::apply::Manager {
                name: PRODUCER,
                subresource: "",
                time: &time,
            };
            choreo_apimachinery::apply::update(&info, None, &mut written, &manager);
            let fields = |object: &Value| {
                let managers = object["metadata"]["managedFields"].as_array().unwrap().iter();
                let producer = managers.filter(|manager| manager["manager"] == PRODUCER);
                producer
                    .map(|manager| manager["fieldsV1"].clone())
                    .collect::<Vec<_>>()
            };
            assert_eq!(fields(&made), fields(&written), "{name}");
        }
    }
}
