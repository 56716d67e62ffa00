//! The form of Kubernetes objects, for templates: what a field may hold, and what is the platform's to say.

use choreo_apimachinery::schema::{Additional, Schema, Type as JsonType};
use choreo_cel::typing::{Type, closest};

use crate::render::meta::is_reserved;

/// Kinds that only the platform makes: they open or guard the cell.
const PLATFORM_KINDS: &[&str] = &[
    "Namespace",
    "ResourceQuota",
    "LimitRange",
    "NetworkPolicy",
    "CiliumNetworkPolicy",
    "CiliumClusterwideNetworkPolicy",
    "SecurityPolicy",
    "BackendTrafficPolicy",
    "ClientTrafficPolicy",
    "EnvoyPatchPolicy",
    "EnvoyExtensionPolicy",
    "ReferenceGrant",
    "Gateway",
    "GatewayClass",
];

/// Fields of metadata that only an API server sets.
pub(super) const SERVER_FIELDS: &[&str] = &[
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
];

/// Whether a kind is one that only the platform makes, changes and removes.
pub(super) fn is_platform_kind(api_version: &str, kind: &str) -> bool {
    PLATFORM_KINDS.contains(&kind)
        || ["openchoreo.dev", "choreo.dev"]
            .iter()
            .any(|group| api_version.split_once('/').is_some_and(|(g, _)| g == *group))
}

/// Why a field of an object's metadata is not for a blueprint to say, if it is not.
pub(super) fn metadata_field(name: &str) -> Option<&'static str> {
    match name {
        name if SERVER_FIELDS.contains(&name) => Some("the API server sets it; remove it"),
        "ownerReferences" => Some("the release owns what it makes; remove it"),
        "finalizers" => Some("it would keep the object from being removed; remove it"),
        "generateName" => Some("a release must know its objects' names; give a name"),
        _ => None,
    }
}

/// Why a label or annotation is not for a blueprint to say, if it is not.
pub(super) fn reserved_key(key: &str) -> Option<&'static str> {
    let own = key != choreo_api::annotations::GENERATE;
    (own && is_reserved(key)).then_some("the platform sets it; remove it")
}

/// Where the pod templates of a workload kind are.
pub(super) fn pod_template(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job" => "/spec/template",
        "CronJob" => "/spec/jobTemplate/spec/template",
        "Pod" => "",
        _ => return None,
    })
}

/// Whether a kind selects the pods that it is made of.
pub(super) fn selects_pods(kind: &str) -> bool {
    matches!(kind, "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
}

/// The schema of a field of an object: known, free, or not there.
pub(super) enum Property<'s> {
    /// It has this schema; none if anything goes.
    Known(Option<&'s Schema>),
    /// There is no such field; the closest name.
    Unknown(Option<&'s str>),
}

/// Looks a field up in an object's schema.
pub(super) fn property<'s>(schema: &'s Schema, name: &str) -> Property<'s> {
    if let Some(found) = schema.properties.get(name) {
        return Property::Known(Some(found));
    }
    match &schema.additional {
        Additional::Schema(values) => Property::Known(Some(values)),
        Additional::Any => Property::Known(None),
        // An object without declared fields is not described.
        Additional::None if schema.preserve_unknown || schema.properties.is_empty() => Property::Known(None),
        Additional::None => Property::Unknown(closest(name, schema.properties.keys().map(String::as_str))),
    }
}

/// What a schema wants, for messages.
pub(super) fn wanted(schema: &Schema) -> &'static str {
    if schema.int_or_string {
        return "an int or a string";
    }
    match schema.type_ {
        None => "anything",
        Some(JsonType::Object) => "a map",
        Some(JsonType::Array) => "a list",
        Some(JsonType::String) => "a string",
        Some(JsonType::Integer) => "an int",
        Some(JsonType::Number) => "a number",
        Some(JsonType::Boolean) => "a bool",
    }
}

/// What does not fit where a value of a type is put in the place of a schema: path below it, and what is wrong.
pub(super) fn misfit(type_: &Type, schema: &Schema) -> Option<(String, String)> {
    let here = |what: String| Some((String::new(), what));
    let wrong = || {
        here(format!(
            "this is {}, the field takes {}",
            article(type_),
            wanted(schema)
        ))
    };
    if schema.int_or_string {
        return match type_ {
            Type::Int | Type::Uint | Type::String | Type::Dyn | Type::Null => None,
            Type::Optional(inner) => misfit(inner, schema),
            _ => wrong(),
        };
    }
    match (type_, schema.type_) {
        // None and null leave the field out.
        (Type::Dyn | Type::Null, _) | (_, None) => None,
        (Type::Optional(inner), _) => misfit(inner, schema),
        (Type::Bool, Some(JsonType::Boolean))
        | (Type::Int | Type::Uint, Some(JsonType::Integer | JsonType::Number))
        | (Type::Double, Some(JsonType::Number))
        | (Type::String, Some(JsonType::String)) => None,
        (Type::Bytes, Some(JsonType::String)) if schema.format.as_deref() == Some("byte") => None,
        (Type::Opaque("quantity"), Some(JsonType::String)) => None,
        (Type::List(item), Some(JsonType::Array)) => {
            let (path, what) = misfit(item, schema.items.as_deref()?)?;
            Some((format!("[]{path}"), what))
        }
        (Type::Map(value), Some(JsonType::Object)) => {
            let values = schema.additional.schema()?;
            let (path, what) = misfit(value, values)?;
            Some((format!("[]{path}"), what))
        }
        (Type::Object(object), Some(JsonType::Object)) => {
            for (name, field) in &object.fields {
                match property(schema, name) {
                    Property::Known(None) => {}
                    Property::Known(Some(schema)) => {
                        if let Some((path, what)) = misfit(&field.type_, schema) {
                            return Some((format!(".{name}{path}"), what));
                        }
                    }
                    Property::Unknown(close) => {
                        return Some((format!(".{name}"), unknown(name, close)));
                    }
                }
            }
            None
        }
        _ => wrong(),
    }
}

/// What to say of a field that a kind does not have.
pub(super) fn unknown(name: &str, close: Option<&str>) -> String {
    match close {
        Some(close) => format!("unknown field {name:?}; did you mean {close:?}?"),
        None => format!("unknown field {name:?}"),
    }
}

/// A type with its article.
pub(super) fn article(type_: &Type) -> String {
    let name = type_.to_string();
    match type_ {
        Type::Null => name,
        _ if name.starts_with(['a', 'e', 'i', 'o']) => format!("an {name}"),
        _ => format!("a {name}"),
    }
}
