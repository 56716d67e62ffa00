//! Server-side apply and the managers of fields.
//!
//! An object remembers in `metadata.managedFields` who set which field. [`apply`] merges a partial configuration into the
//! live object and gives its fields to the applier; fields that the applier had and no longer names go away, unless somebody
//! else has them too; fields that another manager has with another value are conflicts, unless forced. [`update`] does the
//! accounting for every other write.
//!
//! ```text
//!            live ──┬── merge ── take away what the applier dropped ──┬── merged object
//!   configuration ──┘                                                 │
//!            who owns what changed? conflict, or the fields change hands
//! ```
//!
//! Guarantees: applying the same configuration twice changes nothing the second time; appliers of different fields do not
//! influence each other; nothing here depends on anything but its arguments (the time is one).

mod kubectl;
mod managers;
mod merge;
mod set;
mod view;
mod walk;

use std::sync::OnceLock;

use serde_json::{Map, Value};

pub use self::set::Set;
use self::{
    managers::{Entry, Identity, Managers},
    merge::Emptied,
    view::View,
    walk::Comparison,
};
use crate::{
    pointer::at,
    registry::ResourceInfo,
    schema::{Schema, Type},
    status::{ApiError, Reason, Result},
};

/// Who writes.
#[derive(Clone, Copy, Debug)]
pub struct Manager<'a> {
    /// Name of the field manager.
    pub name: &'a str,
    /// Subresource written through, such as `status`; empty for the object itself.
    pub subresource: &'a str,
    /// Now, in RFC 3339 (`2026-01-02T03:04:05Z`).
    pub time: &'a str,
}

/// Applies `config` to `live` on behalf of `manager`.
///
/// The result is the merged object with its `managedFields`, before defaulting, validation and what the resource's strategy
/// resets. If it equals `live`, the apply changed nothing and need not be written.
///
/// # Errors
/// - 409 naming every conflicting manager and field, unless `force`;
/// - 400 if `config` is of another kind or version, or has `metadata.managedFields`;
/// - 500 (as kube-apiserver answers) if `config` does not fit the schema: unknown fields, elements without their keys,
///   duplicate elements.
pub fn apply(
    info: &ResourceInfo,
    live: Option<&Value>,
    config: &Value,
    manager: &Manager<'_>,
    force: bool,
) -> Result<Value> {
    let managers = read_managers(live)?;
    apply_over(info, live, config, (manager, managers), force)
}

/// As [`apply`] through the subresource `status`, for who resets everything else to what it was: of the object, the outcome has no
/// more than `apiVersion`, `kind`, `metadata`, `status`, and the fields that `config` names. Status is written most often, and the
/// rest, which is most of an object, need not be looked at.
///
/// # Errors
/// As [`apply`].
pub fn apply_status(
    info: &ResourceInfo,
    live: &Value,
    config: &Value,
    manager: &Manager<'_>,
    force: bool,
) -> Result<Value> {
    let managers = read_managers(Some(live))?;
    if managers.is_empty() {
        // What there is becomes somebody's, and all of it has to be known.
        return apply_over(info, Some(live), config, (manager, managers), force);
    }
    let part: Map<String, Value> = live
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| {
            ["apiVersion", "kind", "status"].contains(&name.as_str())
                || *name != "metadata" && config.get(name).is_some()
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .chain([("metadata".to_owned(), managers::without(live))])
        .collect();
    apply_over(
        info,
        Some(&Value::Object(part)),
        config,
        (manager, managers),
        force,
    )
}

fn read_managers(live: Option<&Value>) -> Result<Managers> {
    match live.and_then(|live| live.pointer("/metadata/managedFields")) {
        Some(entries) => {
            Managers::read(entries).map_err(|why| internal(format!("failed to decode managed fields: {why}")))
        }
        None => Ok(Managers::default()),
    }
}

fn apply_over(
    info: &ResourceInfo,
    live: Option<&Value>,
    config: &Value,
    (manager, mut managers): (&Manager<'_>, Managers),
    force: bool,
) -> Result<Value> {
    let schema = info.schema();
    let view = View::Object(&schema);
    check_kind(info, config)?;
    if config
        .pointer("/metadata/managedFields")
        .is_some_and(|m| !m.is_null())
    {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    let mut problems = Vec::new();
    walk::problems(view, config, "", &mut problems);
    if !problems.is_empty() {
        return Err(unfit(info, config, &problems));
    }

    let nothing = Value::Object(Map::new());
    let base = live.unwrap_or(&nothing);
    managers.reconcile(view);
    let applier = Applier { info, view, manager };
    if managers.is_empty() && live.is_some() {
        let mut stripped = base.clone();
        managers::strip(&mut stripped);
        applier.before_first_apply(&stripped, &mut managers)?;
    }
    let before = managers.0.get(&applier.me()).cloned();
    // Only kubectl gets a second try, as it takes over what it applied on the client side.
    let retry = (manager.name == "kubectl" && !force).then(|| managers.clone());
    let outcome = match (applier.apply(base, config, managers, force)?, retry) {
        (Err(conflicts), Some(managers)) => {
            match kubectl::not_from_last_applied(view, base, conflicts, manager.name) {
                Some(conflicts) => Err(conflicts),
                None => applier.apply(base, config, managers, true)?,
            }
        }
        (outcome, _) => outcome,
    };
    let Merged {
        mut object,
        mut managers,
        same,
    } = outcome.map_err(|conflicts| ApiError::apply_conflict(&managers::reported(&conflicts)))?;
    let synced = kubectl::sync_last_applied(&mut object, config, manager.name);
    let same = same && !synced;
    applier.stamp(same, before.as_ref(), &mut managers);
    managers::put(&mut object, &managers);
    Ok(object)
}

/// Lays a partial configuration over an object as an apply does, without any accounting: for admission policies.
///
/// # Errors
/// What of the configuration does not fit the schema; or that it would replace a list or map as a whole, which a policy must
/// not do by accident.
pub fn overlay(info: &ResourceInfo, live: &Value, config: &Value) -> std::result::Result<Value, String> {
    let schema = info.schema();
    let view = View::Object(&schema);
    let mut problems = Vec::new();
    walk::problems(view, config, "", &mut problems);
    if !problems.is_empty() {
        return Err(format!(
            "failed to convert patch object to typed object: {}",
            problems.join(", ")
        ));
    }
    if let Some(path) = replaced(view, config, "") {
        return Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {path}"
        ));
    }
    merge::merge(view, Some(live.clone()), Some(config))
}

/// The first list, map or struct of a configuration that would be replaced as a whole.
fn replaced(view: View<'_>, config: &Value, path: &str) -> Option<String> {
    match (view.shape(config), config) {
        (view::Shape::Leaf, Value::Array(items)) if !items.is_empty() => Some(path.to_owned()),
        (view::Shape::Leaf, Value::Object(map)) if !map.is_empty() => Some(path.to_owned()),
        (view::Shape::Map(view), Value::Object(map)) => map
            .iter()
            .find_map(|(key, value)| replaced(view.child(key).view(), value, &format!("{path}.{key}"))),
        (view::Shape::List(elements), Value::Array(items)) => items
            .iter()
            .enumerate()
            .find_map(|(at, item)| replaced(elements.view, item, &format!("{path}[{at}]"))),
        _ => None,
    }
}

/// Accounts for a create, update or patch: gives `manager` the fields in which `new` differs from `live`, takes them from
/// others, and writes `metadata.managedFields` into `new`. A write that changes nothing changes no entry and no time.
///
/// `managedFields` that `new` brings along are taken over, so that clients may edit them; `[]` and `[{}]` reset them. Through
/// a subresource they are ignored.
pub fn update(info: &ResourceInfo, live: Option<&Value>, new: &mut Value, manager: &Manager<'_>) {
    let of = |object: Option<&Value>| {
        object
            .and_then(|o| at(o, "/metadata/managedFields"))
            .cloned()
            .unwrap_or(Value::Null)
    };
    let (kept, given) = (of(live), of(Some(&*new)));
    let read = |entries: &Value| Managers::read(entries).unwrap_or_default();
    let mut managers = if !manager.subresource.is_empty() {
        read(&kept)
    } else if is_reset(&given) {
        Managers::default()
    } else {
        match Managers::read(&given) {
            Ok(managers) if !managers.is_empty() => managers,
            _ => read(&kept),
        }
    };
    managers::strip(new);
    if managers.is_empty() && live.is_some() {
        // Nobody tracks this object (or somebody asked for that); an update does not begin to.
        return;
    }
    let schema = info.schema();
    let view = View::Object(&schema);
    managers.reconcile(view);
    let me = Identity::update(manager.name, &info.api_version(), manager.subresource);
    match changed_by(info, view, live, new, manager.subresource) {
        Ok(change) => {
            take_over(&mut managers, me, change, info, manager);
            managers.cap();
            managers::put(new, &managers);
        }
        // A list without keys where there should be some: the write is another's to refuse. Nobody loses anything.
        Err(_) => {
            if let Some(metadata) = new.get_mut("metadata").and_then(Value::as_object_mut)
                && !kept.is_null()
            {
                metadata.insert("managedFields".into(), kept);
            }
        }
    }
}

/// Gives an updater what it changed.
fn take_over(
    managers: &mut Managers,
    me: Identity,
    change: Comparison,
    info: &ResourceInfo,
    manager: &Manager<'_>,
) {
    // The current operation is nobody yet: even an earlier entry of the same manager yields, and gets it back below.
    let nobody = Identity {
        manager: String::new(),
        ..me.clone()
    };
    managers.yield_to(&nobody, &change);
    let mut mine = change.modified;
    mine.add(change.added);
    mine.remove_prefixes(ignored(info, manager.subresource));
    mine.subtract(never_managed());
    if mine.is_empty() {
        return;
    }
    let entry = managers.0.entry(me).or_default();
    entry.set.add(mine);
    entry.version = info.api_version();
    entry.time = Some(manager.time.to_owned());
}

fn changed_by(
    info: &ResourceInfo,
    view: View<'_>,
    live: Option<&Value>,
    new: &Value,
    subresource: &str,
) -> std::result::Result<Comparison, String> {
    let mut old = live.cloned().unwrap_or_else(|| Value::Object(Map::new()));
    if info.is_crd {
        ensure(&mut old, "metadata");
    } else {
        add_structs(&info.schema(), &mut old, new);
    }
    managers::strip(&mut old);
    let change = walk::compare(view, Some(&old), Some(new))?;
    Ok(change.without_prefixes(ignored(info, subresource)))
}

struct Applier<'a> {
    info: &'a ResourceInfo,
    view: View<'a>,
    manager: &'a Manager<'a>,
}

/// An object with an applied configuration in it.
struct Merged {
    /// The object, with the `managedFields` that it had.
    object: Value,
    managers: Managers,
    /// Whether the object is as it was.
    same: bool,
}

type Outcome = std::result::Result<Merged, Vec<(Identity, Set)>>;

impl Applier<'_> {
    fn me(&self) -> Identity {
        Identity::apply(self.manager.name, self.manager.subresource)
    }

    /// What there was before anybody was tracked belongs to a manager of its own, so that it is not lost.
    fn before_first_apply(&self, live: &Value, managers: &mut Managers) -> Result<()> {
        let me = Identity::update(
            "before-first-apply",
            &self.info.api_version(),
            self.manager.subresource,
        );
        let change = changed_by(self.info, self.view, None, live, self.manager.subresource)
            .map_err(|why| internal(format!("failed to create manager for existing fields: {why}")))?;
        take_over(managers, me, change, self.info, self.manager);
        Ok(())
    }

    fn apply(&self, live: &Value, config: &Value, mut managers: Managers, force: bool) -> Result<Outcome> {
        let failed = |why: String| internal(format!("failed to merge config: {why}"));
        let me = self.me();
        let mut merged = merge::merge(self.view, Some(live.clone()), Some(config)).map_err(failed)?;
        let mut set = walk::fields(self.view, config).map_err(failed)?;
        set.remove_prefixes(ignored(self.info, self.manager.subresource));
        let entry = managers.0.entry(me.clone()).or_default();
        let last = std::mem::replace(&mut entry.set, set);
        entry.version = self.info.api_version();
        // Only what is no longer named can go.
        if !entry.set.contains(&last) {
            let managed = managers::take(&mut merged);
            merged = prune(self.view, &merged, &last, &managers).map_err(failed)?;
            managers::put_back(&mut merged, managed);
        }
        let same = *live == merged;
        let change = walk::compare(self.view, Some(live), Some(&merged)).map_err(failed)?;
        let change = change.without_prefixes(ignored(self.info, self.manager.subresource));
        let conflicts = managers.conflicts(&me, &change);
        if !force && !conflicts.is_empty() {
            return Ok(Err(conflicts));
        }
        managers.yield_to(&me, &change);
        if let Some(entry) = managers.0.get_mut(&me) {
            entry.set.subtract(never_managed());
            if entry.set.is_empty() {
                managers.0.remove(&me);
            }
        }
        Ok(Ok(Merged {
            object: merged,
            managers,
            same,
        }))
    }

    /// Sets the time of the applier's entry if the apply changed the object or what the applier manages.
    fn stamp(&self, same_object: bool, before: Option<&Entry>, managers: &mut Managers) {
        if let Some(entry) = managers.0.get_mut(&self.me()) {
            let same = same_object
                && before.is_some_and(|before| before.set == entry.set && before.version == entry.version);
            if !same {
                entry.time = Some(self.manager.time.to_owned());
            }
        }
    }
}

/// Takes out of `merged` what the applier managed before (`last`) and nobody manages now.
fn prune(
    view: View<'_>,
    merged: &Value,
    last: &Set,
    managers: &Managers,
) -> std::result::Result<Value, String> {
    let named = |set: &Set| walk::with_named_parents(set, view);
    let fields_of = |value: &Value| walk::fields(view, value).map(|set| named(&set));
    let last = named(last);
    let all = fields_of(merged)?;
    // Without everything that the applier had ...
    let pruned = merge::remove(view, merged, &last, Emptied::Null);
    // ... with back what anybody manages now ...
    let mut keep = fields_of(&pruned)?;
    keep.add(named(&managers.all()));
    let pruned = merge::remove(view, merged, &all.difference(&keep), Emptied::Null);
    // ... and with back what the applier never had.
    let gone = all.difference(&fields_of(&pruned)?).intersection(&last);
    Ok(merge::remove(view, merged, &gone, Emptied::Container))
}

/// Fields that are in no set: they identify the object or belong to the server.
fn never_managed() -> &'static Set {
    static SET: OnceLock<Set> = OnceLock::new();
    SET.get_or_init(|| {
        Set::of_fields(&[
            &["apiVersion"],
            &["kind"],
            &["metadata"],
            &["metadata", "name"],
            &["metadata", "namespace"],
            &["metadata", "creationTimestamp"],
            &["metadata", "selfLink"],
            &["metadata", "uid"],
            &["metadata", "clusterName"],
            &["metadata", "generation"],
            &["metadata", "managedFields"],
            &["metadata", "resourceVersion"],
        ])
    })
}

/// What a write cannot change, because the resource resets it: `status` except through its subresource, and then the rest.
fn ignored(info: &ResourceInfo, subresource: &str) -> &'static Set {
    static NOTHING: OnceLock<Set> = OnceLock::new();
    static STATUS: OnceLock<Set> = OnceLock::new();
    static SPEC: OnceLock<Set> = OnceLock::new();
    static NOT_STATUS: OnceLock<Set> = OnceLock::new();
    match subresource {
        "" if info.status => STATUS.get_or_init(|| Set::of_fields(&[&["status"]])),
        "status" if info.is_crd => NOT_STATUS.get_or_init(|| Set::of_fields(&[&["spec"], &["metadata"]])),
        "status" => SPEC.get_or_init(|| Set::of_fields(&[&["spec"]])),
        _ => NOTHING.get_or_init(Set::default),
    }
}

/// In built-in kinds some structs and lists are always there, empty if need be; that they exist is nobody's doing.
fn add_structs(schema: &Schema, old: &mut Value, new: &Value) {
    const STRUCTS: [&str; 12] = [
        "metadata",
        "spec",
        "status",
        "strategy",
        "updateStrategy",
        "template",
        "jobTemplate",
        "resources",
        "scaleTargetRef",
        "names",
        "podSelector",
        "priorityLevelConfiguration",
    ];
    const LISTS: [&str; 5] = ["containers", "rules", "endpoints", "limits", "versions"];
    let pointer = |name: &str| {
        // The only template that is optional.
        name == "template"
            && schema.definition.as_deref() == Some("io.k8s.api.core.v1.ReplicationControllerSpec")
    };
    for (name, property) in &schema.properties {
        let Some(below) = new.get(name) else { continue };
        if property.type_ == Some(Type::Object) && STRUCTS.contains(&name.as_str()) && !pointer(name) {
            if let Some(old) = ensure(old, name) {
                add_structs(property, old, below);
            }
        } else if property.type_ == Some(Type::Array)
            && LISTS.contains(&name.as_str())
            && let Some(old) = old.as_object_mut()
        {
            old.entry(name.as_str()).or_insert(Value::Null);
        }
    }
}

fn ensure<'v>(object: &'v mut Value, name: &str) -> Option<&'v mut Value> {
    Some(
        object
            .as_object_mut()?
            .entry(name)
            .or_insert_with(|| Value::Object(Map::new())),
    )
}

/// `[]` and `[{}]` ask for a reset.
fn is_reset(entries: &Value) -> bool {
    match entries.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([one]) => one.as_object().is_some_and(Map::is_empty),
        _ => false,
    }
}

fn check_kind(info: &ResourceInfo, config: &Value) -> Result<()> {
    let text = |key: &str| config.get(key).and_then(Value::as_str).unwrap_or_default();
    if text("apiVersion") == info.api_version() && text("kind") == info.kind {
        return Ok(());
    }
    let (group, version) = crate::registry::split_api_version(text("apiVersion"));
    Err(ApiError::bad_request(format!(
        "invalid object type: {group}/{version}, Kind={}",
        text("kind")
    )))
}

/// The answer of kube-apiserver to a configuration that its schema does not describe.
fn unfit(info: &ResourceInfo, config: &Value, problems: &[String]) -> ApiError {
    let text = |pointer: &str| {
        config
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let why = match problems {
        [one] => one.clone(),
        many => many
            .iter()
            .fold("errors:".to_owned(), |all, one| format!("{all}\n  {one}")),
    };
    internal(format!(
        "failed to create typed patch object ({}/{}; {}, Kind={}): {why}",
        text("/metadata/namespace"),
        text("/metadata/name"),
        if info.group.is_empty() {
            format!("/{}", info.version)
        } else {
            info.api_version()
        },
        info.kind,
    ))
}

fn internal(message: String) -> ApiError {
    ApiError {
        code: 500,
        reason: Reason::Other(String::new()),
        message,
        details: None,
        list_continue: None,
    }
}
