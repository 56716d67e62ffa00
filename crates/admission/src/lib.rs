//! The rules between objects ([`choreo_engine::rules`]) as admission of the embedded API. `choreo manager` serves the same rules
//! as a webhook.

use std::sync::Arc;

use choreo_api::labels::{GROUP, PLATFORM_NAMESPACE};
use choreo_apimachinery::status::{ApiError, Result, StatusCause};
use choreo_apiserver::{Admission, AdmissionRequest, Operation};
use choreo_controllers::runtime::GroupKind;
use choreo_controllers::view::ControlKinds;
use choreo_engine::rules::{self, Change, Refusal};
use choreo_engine::world::ObjectRef;
use choreo_engine::{AnyObject, Kind, World};
use choreo_store::Key;
use serde_json::Value;

/// The rules, in one logical cluster.
pub struct Rules {
    cluster: &'static str,
}

impl Rules {
    /// The rules in the cluster of this name; the others are left alone.
    pub fn in_cluster(cluster: &'static str) -> Self {
        Self { cluster }
    }
}

/// The kinds that the rules about a write look at, if there are any.
fn reads(request: &AdmissionRequest<'_>) -> Option<&'static [Kind]> {
    let kind = Kind::ALL
        .iter()
        .find(|kind| kind.as_str() == request.resource.kind)?;
    rules::reads(*kind, request.operation == Operation::Delete)
}

/// The kind of a new object of ours.
fn created(request: &AdmissionRequest<'_>) -> Option<Kind> {
    let is_new = request.operation == Operation::Create && request.subresource.is_empty();
    let mut kinds = Kind::ALL.iter().filter(|_| is_new);
    kinds.find(|kind| kind.as_str() == request.resource.kind).copied()
}

/// The object that a new one belongs to, as it is stored.
fn owner(request: &AdmissionRequest<'_>, kind: Kind, object: &Value) -> Option<(ObjectRef, Arc<Value>)> {
    let owner = rules::owner(kind, request.namespace, object)?;
    let known = ControlKinds::default();
    let resource = known.resource(&GroupKind::new(GROUP, owner.kind.as_str()))?;
    let stored = format!("{GROUP}/{}", resource.plural);
    let key = Key::new(&stored, &owner.key.namespace, &owner.key.name);
    let stored = request.snapshot.get(&key)?.value();
    Some((owner, stored))
}

/// The objects of these kinds that a write in this namespace is about.
fn world(request: &AdmissionRequest<'_>, kinds: impl IntoIterator<Item = Kind>) -> World {
    let mut world = World::new();
    // What the platform's namespace has is used from everywhere.
    let namespace = Some(request.namespace).filter(|namespace| *namespace != PLATFORM_NAMESPACE);
    let known = ControlKinds::default();
    for kind in kinds {
        let Some(resource) = known.resource(&GroupKind::new(GROUP, kind.as_str())) else {
            continue;
        };
        let stored = format!("{GROUP}/{}", resource.plural);
        for object in request.snapshot.iter(&stored, namespace, None) {
            let object = object.value();
            // Of promotions, which are many, a new one is judged by those of its set.
            let set = |object: &Value| object["spec"]["set"].clone();
            if kind == Kind::Promotion
                && request.resource.kind == kind.as_str()
                && request.object.is_some_and(|new| set(new) != set(&object))
            {
                continue;
            }
            if let Ok(object) = AnyObject::from_value(&object) {
                world.upsert(object);
            }
        }
    }
    world
}

impl Admission for Rules {
    fn name(&self) -> &str {
        "PlatformRules"
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        let kind = request.resource.kind.as_str();
        let own = match request.subresource {
            "" => reads(request).is_some() || rules::is_signed(kind),
            "status" => rules::status_is_ours(kind),
            _ => false,
        };
        request.cluster == self.cluster
            && request.resource.group == GROUP
            && rules::apply_to(&request.user.name)
            && (own || created(request).is_some())
    }

    fn mutate(&self, request: &AdmissionRequest<'_>, object: &mut Value) -> Result<()> {
        if !request.subresource.is_empty() {
            return Ok(());
        }
        rules::stamp(object, request.old, &request.user.name, &request.user.groups);
        let Some(kind) = created(request) else {
            return Ok(());
        };
        // Most objects say everything, and then nothing is read for them.
        if let Some(reads) = rules::default_reads(kind)
            && rules::lacks(kind, object)
        {
            rules::fill(
                &world(request, reads.iter().copied()),
                kind,
                request.namespace,
                object,
            );
        }
        if let Some((owner, stored)) = owner(request, kind, object) {
            rules::adopt(object, &owner, &stored);
        }
        Ok(())
    }

    fn validate(&self, request: &AdmissionRequest<'_>, _warnings: &mut Vec<String>) -> Result<()> {
        if request.subresource == "status" {
            let info = request.resource;
            let why = "only the platform writes its status: what may run is decided by it";
            return Err(ApiError::forbidden(&info.group, &info.plural, request.name, why));
        }
        let typed = |value: Option<&Value>| value.and_then(|value| AnyObject::from_value(value).ok());
        let (old, new) = (typed(request.old), typed(request.object));
        let change = match (request.operation, &old, &new) {
            (Operation::Create, _, Some(new)) => Change::Create(new),
            (Operation::Update, Some(old), Some(new)) => Change::Update(old, new),
            (Operation::Delete, Some(old), _) if !is_leaving(request) => Change::Delete(old),
            _ => return Ok(()),
        };
        let Some(reads) = reads(request) else {
            return Ok(());
        };
        let mut world = world(request, rules::reads_for(change, reads));
        if let Some(old) = &old {
            world.upsert(old.clone());
        }
        match rules::refusals(&world, change) {
            refusals if refusals.is_empty() => Ok(()),
            refusals => Err(refused(request, &refusals)),
        }
    }
}

/// Whether the whole organization is on its way out, in which case everything in it may go.
fn is_leaving(request: &AdmissionRequest<'_>) -> bool {
    ["namespaces".to_owned(), format!("{GROUP}/organizations")]
        .iter()
        .any(|resource| {
            let mut all = request.snapshot.iter(resource, None, None);
            all.any(|object| {
                let metadata = &object.value()["metadata"];
                metadata["name"] == request.namespace && metadata["deletionTimestamp"].is_string()
            })
        })
}

fn refused(request: &AdmissionRequest<'_>, refusals: &[Refusal]) -> ApiError {
    let info = request.resource;
    if request.operation == Operation::Delete {
        let why: Vec<&str> = refusals.iter().map(|refusal| refusal.message.as_str()).collect();
        return ApiError::forbidden(&info.group, &info.plural, request.name, &why.join("; "));
    }
    let all: Vec<String> = refusals
        .iter()
        .map(|refusal| format!("{}: {}", refusal.field, refusal.message))
        .collect();
    let causes = refusals.iter().map(|refusal| StatusCause {
        cause: "FieldValueInvalid".to_owned(),
        message: refusal.message.clone(),
        field: refusal.field.clone(),
    });
    let mut error = ApiError::invalid(&info.group, &info.kind, request.name, &[]);
    error.message = format!("{}:\n{}", error.message, all.join("\n"));
    error.details.get_or_insert_default().causes = causes.collect();
    error
}

#[cfg(test)]
mod tests {
    use choreo_apimachinery::registry::Registry;
    use choreo_apiserver::user::UserInfo;
    use choreo_store::Store;
    use serde_json::json;

    use super::*;

    fn review(old: Option<&Value>, object: &Value, cluster: &str) -> std::result::Result<(), String> {
        let registry = Registry::builtin();
        let mut info = registry.by_kind("", "v1", "ConfigMap").unwrap().as_ref().clone();
        info.group = "openchoreo.dev".to_owned();
        info.kind = "ComponentType".to_owned();
        let request = AdmissionRequest {
            cluster,
            snapshot: &Store::in_memory().cluster(cluster).snapshot(),
            user: &UserInfo::admin(),
            operation: if old.is_some() {
                Operation::Update
            } else {
                Operation::Create
            },
            resource: &info,
            subresource: "",
            namespace: "default",
            name: "web",
            old,
            object: Some(object),
            dry_run: false,
        };
        let step = Rules::in_cluster("control");
        if !step.handles(&request) {
            return Ok(());
        }
        step.validate(&request, &mut Vec::new()).map_err(|e| e.message)
    }

    fn type_with(name: &str) -> Value {
        json!({
            "apiVersion": "openchoreo.dev/v1alpha1",
            "kind": "ComponentType",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"resources": [{
                "id": "a",
                "template": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}},
            }]},
        })
    }

    #[test]
    fn mistakes_are_refused_unless_they_were_there_before() {
        let (good, bad) = (type_with("${metadata.name}"), type_with("${metadata.nam}"));
        assert_eq!(review(None, &good, "control"), Ok(()));
        let expected = "ComponentType.openchoreo.dev \"web\" is invalid:\n\
                        spec.resources[a].template.metadata.name: no field \"nam\"\n    \
                        metadata.nam\n             ^ did you mean \"name\"?";
        assert_eq!(review(None, &bad, "control"), Err(expected.to_owned()));
        assert_eq!(review(Some(&good), &bad, "control"), Err(expected.to_owned()));
        // A label may be changed, and a data plane is none of its business.
        assert_eq!(review(Some(&bad), &bad, "control"), Ok(()));
        assert_eq!(review(None, &bad, "local"), Ok(()));
    }
}
