use choreo_apimachinery::registry::Registry;
use choreo_apimachinery::schema::Schema;
use serde_json::json;

use super::table::{Id, Kind, Message};
use super::*;

fn bytes_field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
    out.extend_from_slice(bytes);
    out
}

fn message(id: Id) -> &'static Message {
    Table::get().message(id).unwrap()
}

#[test]
fn a_config_map() {
    let meta = [bytes_field(1, b"cm"), bytes_field(2, b"")].concat();
    let entry = [bytes_field(1, b"k"), bytes_field(2, b"v")].concat();
    let map = [bytes_field(1, &meta), bytes_field(2, &entry)].concat();
    let kind = [bytes_field(1, b"v1"), bytes_field(2, b"ConfigMap")].concat();
    let document = [MAGIC.to_vec(), bytes_field(1, &kind), bytes_field(2, &map)].concat();
    assert_eq!(
        decode(&document).unwrap(),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cm"}, "data": {"k": "v"}})
    );
    for cut in 5..document.len() {
        // Cut anywhere it is an error or something shorter, never a panic.
        let _ = decode(&document[..cut]);
    }
}

/// The bytes that kube-apiserver 1.36 sent for an empty list but for the revision, and with fields left out that its
/// writer fills with empty text.
#[test]
fn an_empty_list_is_written_as_the_real_server_does() {
    let items = encode_items(("v1", "ConfigMap"), std::iter::empty::<&[u8]>()).unwrap();
    let list = encode_list(
        ("v1", "ConfigMapList"),
        &json!({"resourceVersion": "2606"}),
        vec![items.into()],
    );
    let list = list.unwrap().concat();
    let mut expected = b"k8s\0\x0a\x13\x0a\x02v1\x12\x0dConfigMapList".to_vec();
    expected.extend_from_slice(b"\x12\x08\x0a\x06\x12\x042606\x1a\x00\x22\x00");
    assert_eq!(list, expected);
}

/// However a list is cut into pieces, it is the same document, also where lengths take more than a byte.
#[test]
fn a_list_in_pieces_is_one_document() {
    let items: Vec<Value> = (0..40)
        .map(|nth| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("cm-{nth}")}, "data": {"k": "x".repeat(nth * 10)}}))
        .collect();
    let texts: Vec<String> = items.iter().map(Value::to_string).collect();
    let list = json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {"resourceVersion": "7"}, "items": items});
    let expected = encode(&list).unwrap();
    for size in [1, 7, 40] {
        let pieces = texts.chunks(size);
        let pieces = pieces.map(|texts| encode_items(("v1", "ConfigMap"), texts.iter()).unwrap().into());
        let written = encode_list(("v1", "ConfigMapList"), &list["metadata"], pieces.collect());
        assert_eq!(written.unwrap().concat(), expected, "{size}");
    }
}

/// Members may come in any order, for example from a client's document.
#[test]
fn members_are_found_in_any_order() {
    let sorted = r#"{"data":{"a":"b"},"immutable":true,"metadata":{"labels":{"x":"y"},"name":"n","namespace":"s","uid":"u"}}"#;
    let mixed = r#"{"metadata":{"uid":"u","other":[1,{"name":"no"}],"namespace":"s","labels":{"x":"y"},"name":"n"},"immutable":true,"data":{"a":"b"}}"#;
    let of = ("v1", "ConfigMap");
    assert_eq!(
        encode_text(of, mixed.as_bytes()).unwrap(),
        encode_text(of, sorted.as_bytes()).unwrap()
    );
}

/// A frame of kube-apiserver 1.36 (an expired watch), but for the fields that are empty text.
#[test]
fn a_frame_of_a_watch() {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "message": "too old resource version: 1 (2586)", "reason": "Expired", "code": 410,
    });
    let mut out = Vec::new();
    frame(&mut out, "ERROR", &encode(&status).unwrap());
    let mut expected =
        b"\x00\x00\x00\x5e\x0a\x05ERROR\x12\x55\x0a\x53k8s\0\x0a\x0c\x0a\x02v1\x12\x06Status".to_vec();
    expected.extend_from_slice(b"\x12\x3b\x0a\x00\x12\x07Failure\x1a\x22too old resource version: 1 (2586)");
    expected.extend_from_slice(b"\x22\x07Expired\x30\x9a\x03\x1a\x00\x22\x00");
    assert_eq!(out, expected);
}

#[test]
fn what_is_written_reads_the_same() {
    for object in [
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": "web", "namespace": "shop", "uid": "u", "generation": 3, "resourceVersion": "7",
                "creationTimestamp": "2026-01-02T03:04:05Z", "labels": {"a": "", "b": "c"},
                "managedFields": [{"manager": "m", "operation": "Apply", "apiVersion": "apps/v1", "time": "1969-12-31T23:59:59Z",
                    "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}}}],
            },
            "spec": {
                "replicas": 0, "selector": {"matchLabels": {"a": "b"}},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}},
                "template": {"metadata": {}, "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "volumes": [{"name": "v", "emptyDir": {"medium": "Memory"}}, {"name": "c", "configMap": {"name": "x", "defaultMode": 420}}],
                    "containers": [{
                        "name": "main", "image": "i", "resources": {"limits": {"cpu": "100m", "memory": "1Gi"}},
                        "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
                        "livenessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 5},
                        "args": ["a", "x".repeat(200), "c"],
                    }],
                }},
            },
        }),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"k": "AAEC/w=="}, "type": "Opaque"}),
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"},
            "spec": {"holderIdentity": "", "renewTime": "2026-01-02T03:04:05.678901Z", "leaseTransitions": -1},
        }),
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "x.y"},
            "spec": {"group": "y", "names": {"plural": "x", "kind": "X"}, "scope": "Cluster", "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "a": {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 3},
                    "b": {"type": "array", "items": {"type": "number", "maximum": 1.5, "default": 1}},
                    "c": {"type": "object", "additionalProperties": false, "default": {"x": [1, "y"]}},
                    "d": {"type": "string", "enum": ["a", null], "dependencies": {"q": ["r"]}},
                }}},
            }]},
        }),
        json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {},
            "spec": {"user": "u", "extra": {"scopes": ["a", "b"]}}, "status": {"allowed": true},
        }),
    ] {
        let written = encode(&object).unwrap();
        assert_eq!(decode(&written).unwrap(), object);
        let of = (
            object["apiVersion"].as_str().unwrap(),
            object["kind"].as_str().unwrap(),
        );
        let text = object.to_string();
        assert_eq!(encode_text(of, text.as_bytes()).unwrap(), written);
        for cut in 0..written.len() {
            let _ = decode(&written[..cut]);
        }
    }
}

/// Members of one message come from different places of its JSON, and in another order than that of their numbers.
#[test]
fn fields_are_written_in_the_order_of_their_numbers() {
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "spec": {"matchConstraints": {"resourceRules": [{
            "apiGroups": ["g"], "operations": ["CREATE"], "resourceNames": ["n"], "resources": ["r"], "scope": "*",
        }]}},
    });
    let rule = [bytes_field(1, b"g"), bytes_field(3, b"r"), bytes_field(4, b"*")].concat();
    let operations = [bytes_field(1, b"CREATE"), bytes_field(2, &rule)].concat();
    let named = [bytes_field(1, b"n"), bytes_field(2, &operations)].concat();
    let written = encode(&policy).unwrap();
    let found = memchr::memmem::find(&written, &bytes_field(3, &named));
    assert!(found.is_some(), "{written:?}");
    assert_eq!(decode(&written).unwrap(), policy);
}

#[test]
fn a_value_of_another_type_is_refused_with_its_field() {
    let object =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "generation": "three"}});
    assert_eq!(
        encode(&object).unwrap_err().to_string(),
        "the object cannot be written as protobuf: metadata: generation: the value does not fit the field's type; ask for JSON"
    );
    let text = br#"{"data": {"a": "b", "c": 1}, "metadata": {}}"#;
    assert_eq!(
        encode_text(("v1", "ConfigMap"), text).unwrap_err().to_string(),
        "the object cannot be written as protobuf: data: the value does not fit the field's type; ask for JSON"
    );
    assert!(encode(&json!({"apiVersion": "example.dev/v1", "kind": "Widget"})).is_err());
}

/// Every field of every message of a served kind is a property of the kind's schema, and every property has its field: a
/// slip in the table would lose data.
#[test]
fn the_table_agrees_with_the_schemas() {
    let mut missing = Vec::new();
    for info in Registry::builtin().resources() {
        let id = Table::get().of_kind(&info.api_version(), &info.kind).unwrap();
        compare(id, &info.schema(), &info.kind, 0, &mut missing);
        if info.stored() {
            let list = Table::get().of_kind(&info.api_version(), &info.list_kind);
            assert!(list.is_some(), "{}", info.list_kind);
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

fn compare(id: Id, schema: &Schema, path: &str, depth: usize, missing: &mut Vec<String>) {
    if depth > 12 || schema.preserve_unknown || schema.properties.is_empty() {
        return;
    }
    let mut named = Vec::new();
    members(id, &mut named);
    for property in schema.properties.keys() {
        // The kind is in the envelope, and an object within another has none.
        let whole = message(id).fields().first().map(|f| f.kind)
            == Table::get().named("meta.v1.ObjectMeta").map(Kind::Message);
        let type_meta = whole && matches!(property.as_str(), "apiVersion" | "kind");
        if !type_meta && !named.iter().any(|(name, ..)| name == property) {
            missing.push(format!("{path}.{property} has no field"));
        }
    }
    for (name, kind, repeated, map) in named {
        let at = format!("{path}.{name}");
        let Some(property) = schema.properties.get(name) else {
            missing.push(at);
            continue;
        };
        let Kind::Message(inner) = kind else { continue };
        let inner_schema = if repeated {
            property.items.clone()
        } else if map {
            property.additional.schema().cloned()
        } else {
            Some(property.clone())
        };
        if let Some(inner_schema) = inner_schema {
            compare(inner, &inner_schema, &at, depth + 1, missing);
        }
    }
}

/// The fields of a message and of those that are part of it in JSON.
fn members(id: Id, into: &mut Vec<(&'static str, Kind, bool, bool)>) {
    for spec in message(id).fields() {
        match spec.kind {
            Kind::Message(inner) if spec.is_embedded() => members(inner, into),
            kind => into.push((spec.name, kind, spec.repeated, spec.map)),
        }
    }
}

/// A message that is only named and never defined would silently lose what it carries.
#[test]
fn every_message_that_is_named_is_there() {
    let text = include_str!("messages.txt");
    let defined: std::collections::BTreeSet<&str> =
        text.lines().filter(|l| !l.starts_with([' ', '#'])).collect();
    let missing: Vec<&str> = Table::get()
        .messages()
        .iter()
        .map(|m| m.name)
        .filter(|name| !defined.contains(name))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
