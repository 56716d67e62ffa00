//! What a new object leaves out and other objects say: filled in when it is made, never later.
//!
//! Only what has one answer is filled in. What cannot be (the other object is not there yet, or there are several) is left as it
//! is, and the schema says that it is required. So nothing depends on these defaults: they save typing where they are asked for
//! (the embedded API, the manager's webhook), and a complete object means the same everywhere.

use choreo_api::v1alpha1::{Component, Workload};
use kube::ResourceExt as _;
use serde_json::{Map, Value, json};

use crate::world::{Kind, World};

/// The kinds, in the object's namespace, that the defaults of a kind look at. `None` if it has none.
pub fn default_reads(kind: Kind) -> Option<&'static [Kind]> {
    match kind {
        Kind::Build
        | Kind::Workload
        | Kind::DeploymentTrack
        | Kind::ServiceBinding
        | Kind::WebApplicationBinding
        | Kind::ScheduledTaskBinding
        | Kind::APIBinding
        | Kind::ComponentBinding => Some(&[Kind::Component]),
        Kind::Service | Kind::WebApplication | Kind::ScheduledTask => {
            Some(&[Kind::Component, Kind::Workload])
        }
        _ => None,
    }
}

/// Whether a new object of `kind` leaves something out that other objects may say.
pub fn lacks(kind: Kind, object: &Value) -> bool {
    if default_reads(kind).is_none() {
        return false;
    }
    let Some(spec) = object.get("spec").and_then(Value::as_object) else {
        return false;
    };
    let text = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    owner(spec, "projectName").is_none()
        || (names_workload(kind) && !spec.contains_key("workloadName"))
        || (kind == Kind::Build
            && (text("/spec/repository/url").is_empty() || !spec.contains_key("templateRef")))
}

fn names_workload(kind: Kind) -> bool {
    matches!(kind, Kind::Service | Kind::WebApplication | Kind::ScheduledTask)
}

/// Fills in what a new object of `kind` leaves out. True if that was anything. `world` has at least the objects of
/// [`default_reads`].
pub fn fill(world: &World, kind: Kind, namespace: &str, object: &mut Value) -> bool {
    if default_reads(kind).is_none() {
        return false;
    }
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else {
        return false;
    };
    let Some(name) = owner(spec, "componentName").map(str::to_owned) else {
        return false;
    };
    let mut filled = false;
    if let Some(component) = world.get::<Component>(namespace, &name) {
        // A component's name is its own in an organization, so that it says the project.
        if owner(spec, "projectName").is_none() {
            spec["owner"]["projectName"] = json!(component.spec.owner.project_name);
            filled = true;
        }
        if kind == Kind::Build {
            filled |= build(spec, component);
        }
    }
    if names_workload(kind) && !spec.contains_key("workloadName") {
        let mut own = world
            .in_namespace::<Workload>(namespace)
            .filter(|workload| workload.spec.owner.component_name == name);
        if let (Some(only), None) = (own.next(), own.next()) {
            spec.insert("workloadName".to_owned(), json!(only.name_any()));
            filled = true;
        }
    }
    filled
}

fn owner<'a>(spec: &'a Map<String, Value>, field: &str) -> Option<&'a str> {
    let text = spec.get("owner")?.get(field)?.as_str()?;
    (!text.is_empty()).then_some(text)
}

/// A build says what differs from the component's own: a commit, say.
fn build(spec: &mut Map<String, Value>, component: &Component) -> bool {
    let Some(own) = &component.spec.build else {
        return false;
    };
    let mut filled = false;
    if let Ok(template) = serde_json::to_value(&own.template_ref)
        && !spec.contains_key("templateRef")
    {
        spec.insert("templateRef".to_owned(), template);
        filled = true;
    }
    let Ok(Value::Object(repository)) = serde_json::to_value(&own.repository) else {
        return filled;
    };
    let given = spec
        .entry("repository")
        .or_insert_with(|| Value::Object(Map::new()));
    // Another repository than the component's is meant as it is written.
    let Some(given) = given.as_object_mut().filter(|given| !given.contains_key("url")) else {
        return filled;
    };
    for (field, value) in repository {
        let is_new = match given.get(&field) {
            None => true,
            // What the schema fills in says nothing.
            Some(Value::Object(fields)) => fields.is_empty(),
            Some(found) => field == "appPath" && found == "/",
        };
        if is_new {
            given.insert(field, value);
            filled = true;
        }
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::AnyObject;

    fn world() -> World {
        let mut world = World::new();
        let mut add = |kind: &str, name: &str, spec: Value| {
            let object = json!({
                "apiVersion": "openchoreo.dev/v1alpha1", "kind": kind,
                "metadata": {"name": name, "namespace": "acme"}, "spec": spec,
            });
            world.upsert(AnyObject::from_value(&object).unwrap());
        };
        let repository =
            json!({"url": "https://example.com/shop.git", "revision": {"branch": "main"}, "appPath": "/api"});
        let build = json!({"repository": repository, "templateRef": {"name": "docker"}});
        let owner = json!({"projectName": "shop"});
        add(
            "Component",
            "api",
            json!({"type": "Service", "owner": owner, "build": build}),
        );
        let owner = json!({"projectName": "shop", "componentName": "api"});
        add("Workload", "api-workload", json!({"owner": owner}));
        world
    }

    fn filled(kind: Kind, spec: Value) -> Option<Value> {
        let mut object = Value::Object(Map::from_iter([("spec".to_owned(), spec)]));
        let changed = fill(&world(), kind, "acme", &mut object);
        changed.then(|| object["spec"].take())
    }

    #[test]
    fn a_build_is_that_of_its_component() {
        let of_component =
            json!({"url": "https://example.com/shop.git", "revision": {"branch": "main"}, "appPath": "/api"});
        let owner = json!({"projectName": "shop", "componentName": "api"});
        let expected = json!({"owner": owner, "templateRef": {"name": "docker"}, "repository": of_component});
        assert_eq!(
            filled(Kind::Build, json!({"owner": {"componentName": "api"}})),
            Some(expected.clone())
        );
        // As the schema leaves it.
        let empty = json!({"owner": owner, "repository": {"revision": {}, "appPath": "/"}});
        assert_eq!(filled(Kind::Build, empty), Some(expected.clone()));
        // Another commit of the same.
        let commit = json!({"owner": owner, "repository": {"revision": {"commit": "abc"}}});
        let mut wanted = expected;
        wanted["repository"]["revision"] = json!({"commit": "abc"});
        assert_eq!(filled(Kind::Build, commit), Some(wanted));
        // A repository of its own is left as it is.
        let other = json!({"owner": owner, "repository": {"url": "https://example.com/b.git"}, "templateRef": {"name": "x"}});
        assert_eq!(filled(Kind::Build, other), None);
    }

    #[test]
    fn project_and_workload_follow_from_the_component() {
        let expected =
            json!({"owner": {"projectName": "shop", "componentName": "api"}, "workloadName": "api-workload"});
        assert_eq!(
            filled(Kind::Service, json!({"owner": {"componentName": "api"}})),
            Some(expected.clone())
        );
        assert_eq!(filled(Kind::Service, expected), None);
        let binding = json!({"owner": {"componentName": "api"}, "environment": "staging"});
        let expected =
            json!({"owner": {"projectName": "shop", "componentName": "api"}, "environment": "staging"});
        assert_eq!(filled(Kind::ServiceBinding, binding), Some(expected));
    }

    #[test]
    fn what_has_no_answer_is_left_out() {
        assert_eq!(
            filled(Kind::Service, json!({"owner": {"componentName": "later"}})),
            None
        );
        assert_eq!(filled(Kind::Service, json!({})), None);
        assert_eq!(
            filled(Kind::Project, json!({"owner": {"componentName": "api"}})),
            None
        );
        // Which is what says whether others have to be asked at all.
        let complete =
            json!({"spec": {"owner": {"projectName": "shop", "componentName": "api"}, "workloadName": "w"}});
        assert!(!lacks(Kind::Service, &complete) && lacks(Kind::Build, &complete));
        assert!(!lacks(Kind::Project, &json!({"spec": {}})));
    }
}
