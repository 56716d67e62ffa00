//! What Pods, claims and Ingresses get from classes: from the one that they name, or from the one that is marked as default.
//! These are kube-apiserver's steps Priority, DefaultTolerationSeconds, DefaultStorageClass, PersistentVolumeClaimResize,
//! RuntimeClass and DefaultIngressClass, in that order.

use std::sync::Arc;

use choreo_apimachinery::quantity;
use choreo_apimachinery::status::{ApiError, Result};
use choreo_store::{Key, Object, Snapshot, Write};
use serde_json::{Map, Value, json};

use super::Operation;
use super::chain::Review;
use crate::verbs::text;

const PRIORITY_CLASSES: &str = "scheduling.k8s.io/priorityclasses";
const RUNTIME_CLASSES: &str = "node.k8s.io/runtimeclasses";
const STORAGE_CLASSES: &str = "storage.k8s.io/storageclasses";
const INGRESS_CLASSES: &str = "networking.k8s.io/ingressclasses";

/// How claims once named their class.
const OLD_STORAGE_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// Marks the default StorageClass; the second one is what it was once called.
const DEFAULT_STORAGE: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];
/// Marks the default IngressClass.
const DEFAULT_INGRESS: [&str; 1] = ["ingressclass.kubernetes.io/is-default-class"];

/// Taints of a node that is away, which Pods bear for a while.
const AWAY: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
/// For how long, in seconds.
const BORNE: i64 = 300;

/// The priorities of Kubernetes' own Pods, which every cluster knows: name, value, description.
const SYSTEM: [(&str, i64, &str); 2] = [
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
];

/// The PriorityClasses that every cluster has, as far as they are missing.
pub(crate) fn bootstrap(snapshot: &Snapshot) -> Vec<Write> {
    let missing = SYSTEM
        .iter()
        .map(|class| (Key::new(PRIORITY_CLASSES, "", class.0), class))
        .filter(|(key, _)| snapshot.get(key).is_none());
    missing
        .map(|(key, (name, value, description))| Write::Create {
            key,
            value: json!({
                "apiVersion": "scheduling.k8s.io/v1",
                "kind": "PriorityClass",
                "metadata": {
                    "name": name,
                    "uid": uuid::Uuid::new_v4().to_string(),
                    "creationTimestamp": crate::verbs::now(),
                    "generation": 1,
                },
                "value": value,
                "description": description,
                "preemptionPolicy": "PreemptLowerPriority",
            }),
        })
        .collect()
}

/// Whether the write is to objects of a resource themselves.
fn is(review: &Review<'_>, group: &str, plural: &str) -> bool {
    let info = &review.target.resource;
    review.subresource.is_empty() && info.group == group && info.plural == plural
}

fn forbidden(review: &Review<'_>, why: &str) -> ApiError {
    let info = &review.target.resource;
    ApiError::forbidden(&info.group, &info.plural, review.name, why)
}

/// Fills in what classes say. Tells whether that was anything.
///
/// # Errors
/// 403 when a class is named that is not there, or when the Pod says otherwise than its class.
pub(super) fn mutate(review: &Review<'_>, object: &mut Value) -> Result<bool> {
    let creates = review.operation == Operation::Create;
    let snapshot = || review.target.cluster.store().snapshot();
    if !object["spec"].is_object() {
        return Ok(false);
    }
    if is(review, "", "pods") {
        let before = object["spec"].clone();
        if creates {
            establish_priority(review, &snapshot(), object)?;
        } else if let Some(old) = review.old {
            for field in ["priority", "preemptionPolicy"] {
                if object["spec"].get(field).is_none()
                    && let Some(value) = old["spec"].get(field)
                {
                    object["spec"][field] = value.clone();
                }
            }
        }
        bear_absence(object);
        if creates && let Some(class) = runtime_class(review, &snapshot(), object)? {
            run_as(review, object, &class)?;
        }
        return Ok(before != object["spec"]);
    }
    if !creates {
        return Ok(false);
    }
    let (field, old_way, resource, marks) = if is(review, "", "persistentvolumeclaims") {
        (
            "storageClassName",
            OLD_STORAGE_CLASS,
            STORAGE_CLASSES,
            &DEFAULT_STORAGE[..],
        )
    } else if is(review, "networking.k8s.io", "ingresses") {
        let old_way = "kubernetes.io/ingress.class";
        ("ingressClassName", old_way, INGRESS_CLASSES, &DEFAULT_INGRESS[..])
    } else {
        return Ok(false);
    };
    let says = object["spec"].get(field).is_some_and(|class| !class.is_null())
        || object["metadata"]["annotations"].get(old_way).is_some();
    let default = if says {
        None
    } else {
        marked(&snapshot(), resource, marks)
    };
    let Some(class) = default else { return Ok(false) };
    object["spec"][field] = class.key().name().into();
    Ok(true)
}

/// Judges classes, and Pods by theirs.
///
/// # Errors
/// 403 for a second default priority, for the end of one that every cluster has, for a Pod whose overhead is not that of its
/// class, and for a claim that is to grow where its class does not let it.
pub(super) fn validate(review: &Review<'_>, object: Option<&Value>) -> Result<()> {
    let Some(object) = object else {
        if is(review, "scheduling.k8s.io", "priorityclasses")
            && SYSTEM.iter().any(|class| class.0 == review.name)
        {
            let why = "this is a system priority class and cannot be deleted";
            return Err(forbidden(review, why));
        }
        return Ok(());
    };
    let snapshot = || review.target.cluster.store().snapshot();
    if is(review, "scheduling.k8s.io", "priorityclasses") && object["globalDefault"] == true {
        if let Some(other) = default_priority(&snapshot())
            && (review.operation == Operation::Create || other.key().name() != review.name)
        {
            let why = format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                other.key().name()
            );
            return Err(forbidden(review, &why));
        }
    } else if is(review, "", "persistentvolumeclaims")
        && let Some(old) = review.old
    {
        return grow(review, old, object);
    } else if is(review, "", "pods") && review.operation == Operation::Create {
        let overhead = object.pointer("/spec/overhead");
        let class = match object.pointer("/spec/runtimeClassName") {
            Some(_) => runtime_class(review, &snapshot(), object)?,
            None if overhead.is_none() => return Ok(()),
            None => None,
        };
        let wanted = class
            .as_ref()
            .and_then(|class| class.pointer("/overhead/podFixed"));
        if wanted.is_none() && overhead.is_some() {
            let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
            return Err(forbidden(review, why));
        }
        if wanted != overhead {
            return Err(forbidden(review, OTHER_OVERHEAD));
        }
    }
    Ok(())
}

/// Lets a claim grow that is bound, if its class says that its volumes can.
fn grow(review: &Review<'_>, old: &Value, new: &Value) -> Result<()> {
    let size = |claim: &Value| quantity::from_json(claim.pointer("/spec/resources/requests/storage")?).ok();
    if size(new) <= size(old) {
        return Ok(());
    }
    if text(old, "/status/phase") != "Bound" {
        return Err(forbidden(
            review,
            "Only bound persistent volume claims can be expanded",
        ));
    }
    let class = |claim: &Value| {
        let annotated = claim["metadata"]["annotations"][OLD_STORAGE_CLASS].as_str();
        let named = annotated.unwrap_or_else(|| text(claim, "/spec/storageClassName"));
        (!named.is_empty()).then(|| named.to_owned())
    };
    let grows = class(new)
        .filter(|new| class(old).as_ref() == Some(new))
        .is_some_and(|name| {
            let store = review.target.cluster.store();
            let class = store.get(&Key::new(STORAGE_CLASSES, "", &name));
            class.is_some_and(|class| class.value()["allowVolumeExpansion"] == true)
        });
    if grows {
        return Ok(());
    }
    let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
    Err(forbidden(review, why))
}

const OTHER_OVERHEAD: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

/// The class that counts for Pods that name none: of several the lowest.
fn default_priority(snapshot: &Snapshot) -> Option<Arc<Object>> {
    let all = snapshot.iter(PRIORITY_CLASSES, None, None);
    all.filter(|class| class.value()["globalDefault"] == true)
        .min_by_key(|class| class.value()["value"].as_i64())
        .cloned()
}

fn establish_priority(review: &Review<'_>, snapshot: &Snapshot, pod: &mut Value) -> Result<()> {
    let named = text(pod, "/spec/priorityClassName").to_owned();
    let class = if named.is_empty() {
        default_priority(snapshot)
    } else {
        let found = snapshot.get(&Key::new(PRIORITY_CLASSES, "", &named)).cloned();
        let none = || forbidden(review, &format!("no PriorityClass with name {named} was found"));
        Some(found.ok_or_else(none)?)
    };
    let (priority, policy) = match &class {
        None => (0, "PreemptLowerPriority".to_owned()),
        Some(class) => {
            pod["spec"]["priorityClassName"] = class.key().name().into();
            let class = class.value();
            let value = class["value"].as_i64().unwrap_or_default();
            (value, text(&class, "/preemptionPolicy").to_owned())
        }
    };
    let spec = &mut pod["spec"];
    if let Some(given) = spec.get("priority").and_then(Value::as_i64)
        && given != priority
    {
        let why = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed \
             {priority} from the given PriorityClass name"
        );
        return Err(forbidden(review, &why));
    }
    spec["priority"] = priority.into();
    if policy.is_empty() {
        return Ok(());
    }
    if let Some(given) = spec.get("preemptionPolicy").and_then(Value::as_str)
        && given != policy
    {
        let why = format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller \
             computed {policy} from the given PriorityClass name"
        );
        return Err(forbidden(review, &why));
    }
    spec["preemptionPolicy"] = policy.into();
    Ok(())
}

/// Lets a Pod bear for a while that its node is away, unless it says for itself how it bears that.
fn bear_absence(pod: &mut Value) {
    let tolerations = &mut pod["spec"]["tolerations"];
    if !(tolerations.is_array() || tolerations.is_null()) {
        return;
    }
    let mut all = tolerations.as_array().cloned().unwrap_or_default();
    let says = |all: &[Value], taint: &str| {
        let fits = |given: &str, wanted: &str| given.is_empty() || given == wanted;
        all.iter()
            .any(|t| fits(text(t, "/key"), taint) && fits(text(t, "/effect"), "NoExecute"))
    };
    for taint in AWAY {
        if !says(&all, taint) {
            all.push(json!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": BORNE}));
        }
    }
    *tolerations = all.into();
}

/// The class by which a Pod is to be run, if it names one.
fn runtime_class(review: &Review<'_>, snapshot: &Snapshot, pod: &Value) -> Result<Option<Arc<Value>>> {
    let Some(name) = pod.pointer("/spec/runtimeClassName").and_then(Value::as_str) else {
        return Ok(None);
    };
    let found = snapshot.get(&Key::new(RUNTIME_CLASSES, "", name));
    let none = || forbidden(review, &format!("pod rejected: RuntimeClass {name:?} not found"));
    Ok(Some(found.ok_or_else(none)?.value()))
}

/// What a RuntimeClass asks of its Pods: overhead, nodes, tolerations.
fn run_as(review: &Review<'_>, pod: &mut Value, class: &Value) -> Result<()> {
    let spec = &mut pod["spec"];
    if let Some(overhead) = class.pointer("/overhead/podFixed") {
        if spec.get("overhead").is_some_and(|given| given != overhead) {
            return Err(forbidden(review, OTHER_OVERHEAD));
        }
        spec["overhead"] = overhead.clone();
    }
    let selected = class
        .pointer("/scheduling/nodeSelector")
        .and_then(Value::as_object);
    let mut nodes = spec
        .get("nodeSelector")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    for (label, value) in selected.unwrap_or(&Map::new()) {
        match nodes.get(label) {
            Some(given) if given != value => {
                let shown = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let why = format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{label}] = {}; pod.spec.nodeSelector[{label}] = {}",
                    shown(value),
                    shown(given)
                );
                return Err(forbidden(review, &why));
            }
            _ => nodes.insert(label.clone(), value.clone()),
        };
    }
    if selected.is_some() {
        spec["nodeSelector"] = nodes.into();
    }
    let borne = class.pointer("/scheduling/tolerations").and_then(Value::as_array);
    if let Some(borne) = borne {
        let mut all = spec["tolerations"].as_array().cloned().unwrap_or_default();
        let more: Vec<Value> = borne.iter().filter(|t| !all.contains(t)).cloned().collect();
        all.extend(more);
        spec["tolerations"] = all.into();
    }
    Ok(())
}

/// The class that is marked as default: of several the newest.
fn marked(snapshot: &Snapshot, resource: &str, marks: &[&str]) -> Option<Arc<Object>> {
    let is_marked = |class: &&Arc<Object>| {
        let class = class.value();
        marks.iter().any(|mark| {
            class["metadata"]["annotations"]
                .get(*mark)
                .is_some_and(|m| m == "true")
        })
    };
    // They come by name: of two that are as old as each other the first one counts.
    let mut best: Option<&Arc<Object>> = None;
    for class in snapshot.iter(resource, None, None).filter(is_marked) {
        let made = |class: &Arc<Object>| text(&class.value(), "/metadata/creationTimestamp").to_owned();
        if best.is_none_or(|best| made(class) > made(best)) {
            best = Some(class);
        }
    }
    best.cloned()
}
