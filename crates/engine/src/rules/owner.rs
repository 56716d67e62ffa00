//! Whom a new object belongs to: written into its `ownerReferences` when it is made, if its owner is there.
//!
//! The plans see to it in any case, since order does not matter and admission may be away. Done here, it is one write less for each
//! object that somebody applies, and holds from the first moment on.

use serde_json::{Value, json};

use crate::binding;
use crate::world::{Kind, ObjectRef};

/// The object that a new one of `kind` names as its owner; `None` if its kind has none or it does not say. It is what the plan of that
/// owner would add as one.
pub fn owner(kind: Kind, namespace: &str, object: &Value) -> Option<ObjectRef> {
    let (of, pointer) = named(kind)?;
    let name = object
        .pointer(pointer)?
        .as_str()
        .filter(|name| !name.is_empty())?;
    Some(ObjectRef::new(of, namespace, name))
}

/// Whether objects of a kind that people write belong to another one.
pub fn has_owner(kind: Kind) -> bool {
    named(kind).is_some()
}

/// The kind of the owner, and where its name is.
fn named(kind: Kind) -> Option<(Kind, &'static str)> {
    Some(match kind {
        Kind::Component => (Kind::Project, "/spec/owner/projectName"),
        Kind::Workload
        | Kind::Service
        | Kind::WebApplication
        | Kind::ScheduledTask
        | Kind::API
        | Kind::Build
        | Kind::Promotion => (Kind::Component, "/spec/owner/componentName"),
        kind if binding::KINDS.contains(&kind) => (Kind::Component, "/spec/owner/componentName"),
        Kind::PromotionDecision | Kind::PromotionBypass => (Kind::Promotion, "/spec/promotionRef"),
        _ => return None,
    })
}

/// Writes the owner, as it is stored, into an object that is to be made. True if it was not there yet; an owner that is being deleted
/// gets nothing new.
pub fn adopt(object: &mut Value, owner: &ObjectRef, stored: &Value) -> bool {
    let metadata = &stored["metadata"];
    let Some(uid) = metadata["uid"].as_str() else {
        return false;
    };
    if !metadata["deletionTimestamp"].is_null() || !object["metadata"].is_object() {
        return false;
    }
    let references = &mut object["metadata"]["ownerReferences"];
    if references.is_null() {
        *references = Value::Array(Vec::new());
    }
    // What is no list is for validation to say.
    let Some(references) = references.as_array_mut() else {
        return false;
    };
    if references.iter().any(|reference| reference["uid"] == uid) {
        return false;
    }
    references.push(json!({
        "apiVersion": owner.kind.api_version(),
        "kind": owner.kind.as_str(),
        "name": owner.key.name,
        "uid": uid,
    }));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner_of(kind: Kind, spec: &Value) -> Option<String> {
        owner(kind, "acme", &json!({"spec": spec})).map(|owner| owner.to_string())
    }

    #[test]
    fn an_object_says_itself_whose_it_is() {
        let of = json!({"owner": {"projectName": "shop", "componentName": "cart"}});
        assert_eq!(
            owner_of(Kind::Component, &of).as_deref(),
            Some("Project \"shop\"")
        );
        for kind in [
            Kind::Workload,
            Kind::Service,
            Kind::ServiceBinding,
            Kind::Promotion,
        ] {
            assert_eq!(
                owner_of(kind, &of).as_deref(),
                Some("Component \"cart\""),
                "{kind:?}"
            );
        }
        let decision = json!({"promotionRef": "cart-1"});
        assert_eq!(
            owner_of(Kind::PromotionDecision, &decision).as_deref(),
            Some("Promotion \"cart-1\"")
        );
        // What a plan makes has its owner from the beginning, and who says nothing belongs to nobody.
        assert_eq!(owner_of(Kind::Release, &of), None);
        assert_eq!(
            owner_of(Kind::Workload, &json!({"owner": {"componentName": ""}})),
            None
        );
        assert_eq!(owner_of(Kind::APIBinding, &json!({"apiName": "a"})), None);
    }

    #[test]
    fn an_owner_is_added_once_and_only_while_it_stays() {
        let owner = ObjectRef::new(Kind::Component, "acme", "cart");
        let stored = json!({"metadata": {"name": "cart", "uid": "u1"}});
        let other = json!({"kind": "Git", "name": "a", "uid": "u0"});
        let mut object = json!({"metadata": {"name": "w", "ownerReferences": [other]}});
        assert!(adopt(&mut object, &owner, &stored));
        let expected = json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": "Component", "name": "cart", "uid": "u1"});
        assert_eq!(object["metadata"]["ownerReferences"], json!([other, expected]));
        assert!(!adopt(&mut object, &owner, &stored));
        let going = json!({"metadata": {"uid": "u1", "deletionTimestamp": "2026-01-01T00:00:00Z"}});
        let mut late = json!({"metadata": {"name": "w"}});
        assert!(!adopt(&mut late, &owner, &going));
        assert_eq!(late, json!({"metadata": {"name": "w"}}));
        // Not ours to judge.
        let mut odd = json!({"metadata": {"ownerReferences": "x"}});
        assert!(!adopt(&mut odd, &owner, &stored));
    }
}
