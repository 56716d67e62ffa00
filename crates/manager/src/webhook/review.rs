//! One question of the API server, and its answer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use choreo_api::labels::{GROUP, PLATFORM_NAMESPACE};
use choreo_controllers::runtime::{GroupKind, ObjectRef};
use choreo_controllers::view::{ControlKinds, object_ref};
use choreo_engine::rules::{self, Change, Refusal};
use choreo_engine::{AnyObject, Kind, World as Objects};
use kube::Client;
use kube::api::{Api, ListParams};
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::World;

pub(crate) struct Reviewer {
    client: Client,
    world: World,
}

impl Reviewer {
    pub(crate) fn new(client: Client, world: World) -> Self {
        Self { client, world }
    }

    /// The AdmissionReview that answers one about a new object: with what it leaves out, and with its owner.
    pub(crate) async fn complete(&self, review: &Value) -> Value {
        let request = &review["request"];
        let mut response = json!({"uid": request["uid"], "allowed": true});
        let mut patch = Vec::new();
        if let Some(spec) = self.completed(request).await {
            patch.push(json!({"op": "replace", "path": "/spec", "value": spec}));
        }
        if let Some(owners) = self.owners(request) {
            // Adding what is there replaces it.
            patch.push(json!({"op": "add", "path": "/metadata/ownerReferences", "value": owners}));
        }
        if !patch.is_empty() {
            response["patchType"] = json!("JSONPatch");
            response["patch"] = json!(BASE64.encode(Value::from(patch).to_string()));
        }
        reviewed(&response)
    }

    /// The owners of a new object with the one that it names; `None` if that is not known here, or nothing new.
    fn owners(&self, request: &Value) -> Option<Value> {
        let name = request["kind"]["kind"].as_str().unwrap_or_default();
        let user = request["userInfo"]["username"].as_str().unwrap_or_default();
        let kind = *Kind::ALL.iter().find(|kind| kind.as_str() == name)?;
        let namespace = request["namespace"].as_str().unwrap_or_default();
        if request["operation"] != "CREATE" || !rules::apply_to(user) {
            return None;
        }
        let owner = rules::owner(kind, namespace, &request["object"])?;
        let known = (self.world)(namespace)?.snapshot();
        let stored = known.kept(&object_ref(&owner))?;
        let stored = json!({"metadata": {
            "uid": stored.uid()?, "deletionTimestamp": stored.is_deleting().then_some("")}});
        // Nothing but this of it is changed.
        let mut object =
            json!({"metadata": {"ownerReferences": request["object"]["metadata"]["ownerReferences"]}});
        rules::adopt(&mut object, &owner, &stored).then(|| object["metadata"]["ownerReferences"].take())
    }

    /// The AdmissionReview that answers one about a write with whose it is, where that is for the API server to say.
    pub(crate) fn sign(review: &Value) -> Value {
        let request = &review["request"];
        let mut response = json!({"uid": request["uid"], "allowed": true});
        let patch = signed(request);
        if !patch.is_empty() {
            response["patchType"] = json!("JSONPatch");
            response["patch"] = json!(BASE64.encode(Value::from(patch).to_string()));
        }
        reviewed(&response)
    }

    /// The spec of a new object with what it leaves out; `None` if that is nothing.
    async fn completed(&self, request: &Value) -> Option<Value> {
        let name = request["kind"]["kind"].as_str().unwrap_or_default();
        let user = request["userInfo"]["username"].as_str().unwrap_or_default();
        let kind = *Kind::ALL.iter().find(|kind| kind.as_str() == name)?;
        let namespace = request["namespace"].as_str().unwrap_or_default();
        let mut object = request["object"].clone();
        let reads = rules::default_reads(kind)?;
        if request["operation"] != "CREATE" || !rules::apply_to(user) || !rules::lacks(kind, &object) {
            return None;
        }
        let mut filled = (self.world)(namespace)
            .is_some_and(|known| rules::fill(&known.snapshot().view.world, kind, namespace, &mut object));
        // What somebody has made the moment before may not be in the caches yet.
        if rules::lacks(kind, &object) {
            match self.read(reads.iter().copied(), namespace).await {
                Ok(world) => filled |= rules::fill(&world, kind, namespace, &mut object),
                Err(error) => tracing::warn!(%error, "a new object is completed from the caches alone"),
            }
        }
        filled.then(|| object["spec"].take())
    }

    /// The AdmissionReview that answers one about a write.
    pub(crate) async fn validate(&self, review: &Value) -> Value {
        let request = &review["request"];
        let refusals = self.judge(request).await;
        let mut response = json!({"uid": request["uid"], "allowed": refusals.is_empty()});
        if !refusals.is_empty() {
            let deletion = request["operation"] == "DELETE";
            let lines: Vec<String> = refusals
                .iter()
                .map(|refusal| match refusal.field.as_str() {
                    "" => refusal.message.clone(),
                    field => format!("{field}: {}", refusal.message),
                })
                .collect();
            response["status"] = json!({
                "code": if deletion { 403 } else { 422 },
                "reason": if deletion { "Forbidden" } else { "Invalid" },
                "message": lines.join("\n"),
            });
        }
        reviewed(&response)
    }

    async fn judge(&self, request: &Value) -> Vec<Refusal> {
        let text = |pointer: &str| {
            request
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        if text("/kind/group") != GROUP || !rules::apply_to(text("/userInfo/username")) {
            return Vec::new();
        }
        match text("/subResource") {
            "" => {}
            "status" if rules::status_is_ours(text("/kind/kind")) => {
                return vec![Refusal {
                    field: "status".to_owned(),
                    message: "only the platform writes it: what may run is decided by it".to_owned(),
                }];
            }
            _ => return Vec::new(),
        }
        let deletion = text("/operation") == "DELETE";
        if !deletion {
            let (user, groups, old) = writer(request);
            if let Some(refusal) = rules::forged(&request["object"], old, user, &groups) {
                return vec![refusal];
            }
        }
        let kind = Kind::ALL.iter().find(|kind| kind.as_str() == text("/kind/kind"));
        let Some(reads) = kind.and_then(|kind| rules::reads(*kind, deletion)) else {
            return Vec::new();
        };
        let typed = |field: &str| AnyObject::from_value(&request[field]).ok();
        let (old, new) = (typed("oldObject"), typed("object"));
        let change = match (text("/operation"), &old, &new) {
            ("CREATE", _, Some(new)) => Change::Create(new),
            ("UPDATE", Some(old), Some(new)) => Change::Update(old, new),
            ("DELETE", Some(old), _) => Change::Delete(old),
            _ => return Vec::new(),
        };
        let namespace = text("/namespace");
        let Some(snapshot) = (self.world)(namespace).map(|known| known.snapshot()) else {
            // Nothing is known yet: the plans will say it.
            return Vec::new();
        };
        if deletion {
            let leaves = |reference: ObjectRef| {
                let found = snapshot.get(&reference);
                found.is_some_and(|found| found.metadata.deletion_timestamp.is_some())
            };
            if leaves(ObjectRef::new("", "Namespace", "", namespace))
                || leaves(ObjectRef::new(GROUP, "Organization", "", namespace))
            {
                return Vec::new();
            }
        }
        let cached = rules::refusals(&snapshot.view.world, change);
        if cached.is_empty() || reads.is_empty() {
            return cached;
        }
        // The caches may be a moment behind what the user has just done: before anybody is refused, it is read anew.
        match self.read(rules::reads_for(change, reads), namespace).await {
            Ok(mut world) => {
                if let Some(old) = &old {
                    world.upsert(old.clone());
                }
                rules::refusals(&world, change)
            }
            Err(error) => {
                tracing::warn!(%error, "a review goes by the caches");
                cached
            }
        }
    }

    async fn read(&self, kinds: impl IntoIterator<Item = Kind>, namespace: &str) -> kube::Result<Objects> {
        let mut world = Objects::new();
        for kind in kinds {
            let known = ControlKinds::default();
            let Some(resource) = known.resource(&GroupKind::new(GROUP, kind.as_str())) else {
                continue;
            };
            // What the platform's namespace has is used from everywhere.
            let api: Api<DynamicObject> = match namespace {
                "" | PLATFORM_NAMESPACE => Api::all_with(self.client.clone(), resource),
                namespace => Api::namespaced_with(self.client.clone(), namespace, resource),
            };
            for object in api.list(&ListParams::default()).await?.items {
                let mut value = serde_json::to_value(object).unwrap_or_default();
                value["apiVersion"] = json!(resource.api_version);
                value["kind"] = json!(resource.kind);
                if let Ok(object) = AnyObject::from_value(&value) {
                    world.upsert(object);
                }
            }
        }
        Ok(world)
    }
}

/// Who writes, and the object as it was.
fn writer(request: &Value) -> (&str, Vec<String>, Option<&Value>) {
    let info = &request["userInfo"];
    let groups = info["groups"].as_array().into_iter().flatten();
    (
        info["username"].as_str().unwrap_or_default(),
        groups.filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(&request["oldObject"]).filter(|old| !old.is_null()),
    )
}

/// What has to change in an object so that it says who writes it.
fn signed(request: &Value) -> Vec<Value> {
    let text = |pointer: &str| request.pointer(pointer).and_then(Value::as_str);
    let (user, groups, old) = writer(request);
    let is_ours = text("/kind/group") == Some(GROUP) && text("/subResource").is_none_or(str::is_empty);
    if !is_ours || !rules::apply_to(user) {
        return Vec::new();
    }
    let object = &request["object"];
    let mut stamped = object.clone();
    rules::stamp(&mut stamped, old, user, &groups);
    let changed = |pointer: &str| {
        let (before, after) = (object.pointer(pointer), stamped.pointer(pointer));
        // Adding what is there replaces it.
        (before != after).then(|| json!({"op": "add", "path": pointer, "value": after}))
    };
    ["/spec", "/metadata/annotations"]
        .into_iter()
        .filter_map(changed)
        .collect()
}

fn reviewed(response: &Value) -> Value {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
}
