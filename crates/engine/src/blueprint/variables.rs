//! The variables of expressions: their types, which are documented, and their values in an environment.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use choreo_cel::typing::{Object, Scope, Type};
use serde_json::Value;

use super::schema::type_of;
use crate::render::registry;

/// Variables with their values.
#[derive(Debug, Clone, Default)]
pub struct Variables {
    /// Their types.
    pub scope: Scope,
    /// Their values.
    pub values: BTreeMap<String, Value>,
}

impl Variables {
    /// Variables of a scope, without values yet.
    pub fn of(scope: Scope) -> Self {
        Self {
            scope,
            values: BTreeMap::new(),
        }
    }

    /// Gives a variable its value.
    pub fn set(&mut self, name: &str, value: Value) -> &mut Self {
        self.values.insert(name.to_owned(), value);
        self
    }

    /// The same with one more variable.
    pub fn with(&self, name: &str, type_: Type, value: Value) -> Self {
        let mut more = self.clone();
        more.scope.add(name, type_);
        more.values.insert(name.to_owned(), value);
        more
    }
}

fn texts() -> Type {
    Type::map(Type::String)
}

/// A list in the pod that the platform made, whose items have names.
fn named(path: &[&str]) -> Type {
    let schema = registry::schema("", "v1", "Pod");
    let Type::List(item) = schema.at(path).map_or(Type::Dyn, type_of) else {
        return Type::Dyn;
    };
    let Type::Object(object) = item.as_ref() else {
        return Type::list((*item).clone());
    };
    let mut object = Object::clone(object);
    if let Some(name) = object.fields.get_mut("name") {
        name.optional = false;
    }
    Type::list(Type::Object(Arc::new(object)))
}

/// The types of everything that a component's expressions see but for `parameters` and `environmentConfigs`.
static COMPONENT: LazyLock<Scope> = LazyLock::new(|| {
    let mut scope = places();
    let container = Type::object([
        ("image", Type::String),
        ("command", Type::list(Type::String)),
        ("args", Type::list(Type::String)),
        ("env", texts()),
        (
            "resources",
            Type::object([("requests", texts()), ("limits", texts())]),
        ),
    ]);
    let endpoint = Type::object([
        ("type", Type::String),
        ("port", Type::Int),
        ("basePath", Type::String),
        ("visibility", Type::list(Type::String)),
    ]);
    scope.add(
        "metadata",
        Type::object([
            ("name", Type::String),
            ("namespace", Type::String),
            ("component", Type::String),
            ("project", Type::String),
            ("organization", Type::String),
            ("environment", Type::String),
            ("track", Type::String),
            ("labels", texts()),
            ("selector", texts()),
            ("serviceAccount", Type::String),
        ]),
    );
    scope.add(
        "workload",
        Type::object([
            ("containers", Type::map(container)),
            ("endpoints", Type::map(endpoint)),
        ]),
    );
    scope.add(
        "pod",
        Type::object([
            ("containers", named(&["spec", "containers"])),
            ("volumes", named(&["spec", "volumes"])),
            ("imagePullSecrets", named(&["spec", "imagePullSecrets"])),
            ("annotations", texts()),
            ("mainContainer", Type::String),
        ]),
    );
    scope.add("configurations", Type::map(texts()));
    scope.add(
        "secrets",
        Type::map(Type::object([
            ("name", Type::String),
            ("keys", Type::list(Type::String)),
        ])),
    );
    scope.add("connections", Type::map(texts()));
    scope
});

/// What is known of where something runs.
fn places() -> Scope {
    let mut scope = Scope::new();
    let gateway = || {
        Type::object([
            ("name", Type::String),
            ("namespace", Type::String),
            ("virtualHost", Type::String),
        ])
    };
    scope.add(
        "environment",
        Type::object([("name", Type::String), ("dnsPrefix", Type::String)]),
    );
    scope.add(
        "dataplane",
        Type::object([
            ("name", Type::String),
            (
                "features",
                Type::object([
                    ("cilium", Type::Bool),
                    ("networkPolicy", Type::Bool),
                    ("mtls", Type::Bool),
                ]),
            ),
            (
                "gateways?",
                Type::object([("public", gateway()), ("organization", gateway())]),
            ),
            (
                "secretStore?",
                Type::object([("name", Type::String), ("kind", Type::String)]),
            ),
        ]),
    );
    scope
}

/// The variables of a component type, or of a trait with its `trait`.
pub fn component_scope(parameters: Type, environment_configs: Type) -> Scope {
    let mut scope = COMPONENT.clone();
    scope.add("parameters", parameters);
    scope.add("environmentConfigs", environment_configs);
    scope
}

/// Adds the variables that only traits see.
pub(super) fn trait_scope(scope: &mut Scope) {
    scope.add(
        "trait",
        Type::object([("name", Type::String), ("instanceName", Type::String)]),
    );
}

/// The variables of a resource type.
pub fn resource_scope(parameters: Type, environment_configs: Type) -> Scope {
    let mut scope = places();
    scope.add(
        "metadata",
        Type::object([
            ("name", Type::String),
            ("namespace", Type::String),
            ("resource", Type::String),
            ("project", Type::String),
            ("organization", Type::String),
            ("environment", Type::String),
            ("labels", texts()),
            ("selector", texts()),
        ]),
    );
    scope.add("parameters", parameters);
    scope.add("environmentConfigs", environment_configs);
    scope
}
