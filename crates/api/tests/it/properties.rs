//! What holds for every manifest that can be converted.

use choreo_api::convert::convert;
use choreo_api::manifest::read;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

macro_rules! typed {
    ($($kind:ident),* $(,)?) => {
        /// Reads an object as the Rust type of its kind, and writes it again.
        fn through_its_type(object: &Value) -> Value {
            match object["kind"].as_str().unwrap() {
                $(stringify!($kind) => {
                    let typed: choreo_api::v1alpha1::$kind = serde_json::from_value(object.clone())
                        .unwrap_or_else(|error| panic!("{error}: {object}"));
                    serde_json::to_value(typed).unwrap()
                })*
                other => panic!("{other} is no kind"),
            }
        }
    };
}

choreo_api::for_each_kind!(typed);

/// Whether everything that `part` says is also said by `whole`. What is empty or false says nothing.
fn says_at_least(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part.iter().all(|(key, value)| match whole.get(key) {
            Some(found) => says_at_least(found, value),
            None => says_nothing(value),
        }),
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len()
                && whole
                    .iter()
                    .zip(part)
                    .all(|(whole, part)| says_at_least(whole, part))
        }
        // A quantity may be written as a number.
        (Value::String(text), Value::Number(number)) => *text == number.to_string(),
        (whole, part) => whole == part,
    }
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Object(object) => object.values().all(says_nothing),
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

#[test]
fn types_lose_nothing_of_the_examples() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/convert");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for document in read("in.yaml", &text).into_iter().flatten() {
            for object in convert(document.value())
                .into_iter()
                .flat_map(|converted| converted.objects)
            {
                let again = through_its_type(&object);
                assert!(says_at_least(&again, &object), "{object}\nbecame\n{again}");
                seen += 1;
            }
        }
    }
    assert!(seen > 15, "{seen}");
}

fn name() -> impl Strategy<Value = String> {
    "[a-z]([a-z0-9-]{0,20}[a-z0-9])?"
}

fn endpoint() -> impl Strategy<Value = Map<String, Value>> {
    let level = prop::option::of(prop::sample::select(vec![
        "public",
        "organization",
        "project",
        "Public",
    ]));
    let type_ = prop::option::of(prop::sample::select(vec!["REST", "grpc", "http", "TCP", "udp"]));
    (1u16.., prop::option::of("/[a-z0-9/]{0,20}"), level, type_).prop_map(|(port, path, level, type_)| {
        let mut endpoint = Map::new();
        endpoint.insert("port".to_owned(), json!(port));
        let texts = [
            ("path", path),
            ("visibility", level.map(str::to_owned)),
            ("type", type_.map(str::to_owned)),
        ];
        for (key, value) in texts {
            if let Some(value) = value {
                endpoint.insert(key.to_owned(), json!(value));
            }
        }
        endpoint
    })
}

/// A component in the short form.
fn short_component() -> impl Strategy<Value = Value> {
    let type_ = prop::sample::select(vec![
        "service",
        "web-application",
        "ScheduledTask",
        "manual-task",
        "api",
    ]);
    let endpoints = prop::collection::btree_map(name(), endpoint(), 0..4);
    let dependencies = prop::collection::btree_set(name(), 0..3);
    let env = prop::collection::btree_map("[A-Z][A-Z_]{0,10}", "[ -~]{0,20}", 0..4);
    let from = (
        prop::option::of("[a-z]{1,10}/[a-z]{1,10}:[0-9]"),
        prop::option::of("git.example.com/[a-z]{1,8}"),
    );
    (name(), type_, endpoints, dependencies, env, from, prop::option::of(0u8..9)).prop_map(
        |(name, type_, endpoints, dependencies, env, (image, repository), replicas)| {
            let mut spec = Map::new();
            spec.insert("type".to_owned(), json!(type_));
            let endpoints: Vec<Value> = endpoints
                .into_iter()
                .map(|(name, mut endpoint)| {
                    endpoint.insert("name".to_owned(), json!(name));
                    Value::Object(endpoint)
                })
                .collect();
            spec.insert("endpoints".to_owned(), json!(endpoints));
            let dependencies: Vec<Value> =
                dependencies.into_iter().map(|name| json!({"name": name, "type": "redis"})).collect();
            spec.insert("dependencies".to_owned(), json!(dependencies));
            spec.insert("env".to_owned(), json!(env));
            if let Some(image) = image {
                spec.insert("image".to_owned(), json!(image));
            }
            if let Some(repository) = repository {
                spec.insert("source".to_owned(), json!({"git": {"repository": repository}}));
            }
            if let Some(replicas) = replicas {
                spec.insert("replicas".to_owned(), json!(replicas));
            }
            json!({"apiVersion": "choreo.dev/v1", "kind": "Component", "metadata": {"name": name}, "spec": spec})
        },
    )
}

proptest! {
    #[test]
    fn the_short_form_stands_for_valid_objects(manifest in short_component()) {
        let converted = convert(&manifest).map_err(|error| TestCaseError::fail(format!("{error}: {manifest}")))?;
        prop_assert_eq!(&converted, &convert(&manifest).unwrap());
        let kinds: Vec<&str> = converted.objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
        prop_assert_eq!(&kinds[..2], ["Component", "Workload"]);
        prop_assert_eq!(kinds.len(), 3);
        for object in &converted.objects {
            prop_assert_eq!(&object["metadata"]["name"], &manifest["metadata"]["name"]);
            prop_assert_eq!(&convert(object).unwrap().objects[..], std::slice::from_ref(object));
            prop_assert!(says_at_least(&through_its_type(object), object));
        }
    }

    #[test]
    fn nothing_is_exposed_that_the_short_form_does_not_expose(manifest in short_component()) {
        let declared = manifest["spec"]["endpoints"].as_array().unwrap().iter().any(|endpoint| {
            endpoint.get("visibility").and_then(Value::as_str).is_some_and(|level| !level.eq_ignore_ascii_case("project"))
        });
        let made = convert(&manifest).unwrap().objects;
        let text = serde_json::to_string(&made).unwrap().to_lowercase();
        let exposed = ["\"public\"", "\"organization\""].iter().any(|level| text.contains(level));
        prop_assert!(!exposed || declared, "{text}");
    }

    #[test]
    fn conversion_never_panics(kind in "(Component|Project|DataPlane|Workload|BuildV2|Endpoint)", spec in any_value()) {
        for group in ["choreo.dev/v1", "openchoreo.dev/v1alpha1"] {
            let manifest = json!({"apiVersion": group, "kind": kind, "metadata": {"name": "a"}, "spec": spec});
            if let Err(error) = convert(&manifest) {
                prop_assert!(!error.problems().is_empty());
            }
        }
    }
}

/// Any value, with keys that mean something somewhere.
fn any_value() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(vec![
        "owner",
        "type",
        "build",
        "source",
        "git",
        "repository",
        "endpoints",
        "dependencies",
        "env",
        "clusters",
        "name",
        "kubernetes",
        "port",
        "templateRef",
        "image",
        "runtime",
        "containers",
        "backendRef",
        "workload",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z\\PC]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..4).prop_map(|map| map
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect::<Value>()),
        ]
    })
}
