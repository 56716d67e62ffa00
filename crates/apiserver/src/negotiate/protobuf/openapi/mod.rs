//! The OpenAPI documents in protobuf. Of v2, client-go knows no other form.
//!
//! The messages are those of `openapi.v2` and `openapi.v3` as the gnostic project publishes them. Values of any kind and
//! extensions are texts of YAML there, which JSON is.

mod v3;

use serde_json::{Map, Value};

use super::wire::{put_bytes, put_fixed64, put_nested, put_varint};

/// How a value is written.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Flag,
    Whole,
    Real,
    /// Anything, as YAML.
    Any,
    /// A list of anything.
    Values,
    /// A number, a truth value or a text; what is none of these is there without being said.
    Scalar,
    Message(&'static Message),
    /// A message that holds nothing but an object's members: in this field, each as a message of name (1) and value (2).
    Named(u32, &'static Form),
    /// A message that holds the value in this field: a list of it, or one of several alternatives.
    Within(u32, &'static Form),
    /// A value that is `true` or `false`, or another one.
    FlagOr(u32, &'static Form),
    /// A parameter, by the place that it is in.
    Parameter,
    /// A reference, or what it would refer to.
    ReferenceOr(u32, &'static Form),
}

/// The members of an object by name, and where extensions (`x-`) go.
struct Message {
    members: &'static [(&'static str, u32, Form)],
    extensions: u32,
}

static DOCUMENT: Message = Message {
    members: &[
        ("swagger", 1, Form::Text),
        ("info", 2, Form::Message(&INFO)),
        ("paths", 8, Form::Named(2, &Form::Message(&PATH))),
        ("definitions", 9, Form::Named(1, &Form::Message(&SCHEMA))),
    ],
    extensions: 16,
};

static INFO: Message = Message {
    members: &[
        ("title", 1, Form::Text),
        ("version", 2, Form::Text),
        ("description", 3, Form::Text),
    ],
    extensions: 7,
};

static PATH: Message = Message {
    members: &[
        ("get", 2, Form::Message(&OPERATION)),
        ("put", 3, Form::Message(&OPERATION)),
        ("post", 4, Form::Message(&OPERATION)),
        ("delete", 5, Form::Message(&OPERATION)),
        ("options", 6, Form::Message(&OPERATION)),
        ("head", 7, Form::Message(&OPERATION)),
        ("patch", 8, Form::Message(&OPERATION)),
        ("parameters", 9, Form::Parameter),
    ],
    extensions: 10,
};

static OPERATION: Message = Message {
    members: &[
        ("tags", 1, Form::Text),
        ("summary", 2, Form::Text),
        ("description", 3, Form::Text),
        ("operationId", 5, Form::Text),
        ("produces", 6, Form::Text),
        ("consumes", 7, Form::Text),
        ("parameters", 8, Form::Parameter),
        (
            "responses",
            9,
            Form::Named(1, &Form::ReferenceOr(1, &Form::Message(&RESPONSE))),
        ),
        ("schemes", 10, Form::Text),
        ("deprecated", 11, Form::Flag),
    ],
    extensions: 13,
};

static RESPONSE: Message = Message {
    members: &[
        ("description", 1, Form::Text),
        ("schema", 2, Form::Within(1, &Form::Message(&SCHEMA))),
    ],
    extensions: 5,
};

static BODY: Message = Message {
    members: &[
        ("description", 1, Form::Text),
        ("name", 2, Form::Text),
        ("in", 3, Form::Text),
        ("required", 4, Form::Flag),
        ("schema", 5, Form::Message(&SCHEMA)),
    ],
    extensions: 6,
};

static QUERY: Message = Message {
    members: &[
        ("required", 1, Form::Flag),
        ("in", 2, Form::Text),
        ("description", 3, Form::Text),
        ("name", 4, Form::Text),
        ("type", 6, Form::Text),
        ("format", 7, Form::Text),
        ("uniqueItems", 20, Form::Flag),
    ],
    extensions: 23,
};

static PLACE: Message = Message {
    members: &[
        ("required", 1, Form::Flag),
        ("in", 2, Form::Text),
        ("description", 3, Form::Text),
        ("name", 4, Form::Text),
        ("type", 5, Form::Text),
        ("format", 6, Form::Text),
        ("uniqueItems", 19, Form::Flag),
    ],
    extensions: 22,
};

static SCHEMA: Message = Message {
    members: &[
        ("$ref", 1, Form::Text),
        ("format", 2, Form::Text),
        ("title", 3, Form::Text),
        ("description", 4, Form::Text),
        ("default", 5, Form::Any),
        ("multipleOf", 6, Form::Real),
        ("maximum", 7, Form::Real),
        ("exclusiveMaximum", 8, Form::Flag),
        ("minimum", 9, Form::Real),
        ("exclusiveMinimum", 10, Form::Flag),
        ("maxLength", 11, Form::Whole),
        ("minLength", 12, Form::Whole),
        ("pattern", 13, Form::Text),
        ("maxItems", 14, Form::Whole),
        ("minItems", 15, Form::Whole),
        ("uniqueItems", 16, Form::Flag),
        ("maxProperties", 17, Form::Whole),
        ("minProperties", 18, Form::Whole),
        ("required", 19, Form::Text),
        ("enum", 20, Form::Values),
        (
            "additionalProperties",
            21,
            Form::FlagOr(1, &Form::Message(&SCHEMA)),
        ),
        ("type", 22, Form::Within(1, &Form::Text)),
        ("items", 23, Form::Within(1, &Form::Message(&SCHEMA))),
        ("allOf", 24, Form::Message(&SCHEMA)),
        ("properties", 25, Form::Named(1, &Form::Message(&SCHEMA))),
        ("readOnly", 27, Form::Flag),
        ("example", 30, Form::Any),
    ],
    extensions: 31,
};

/// The v2 document in protobuf. What the messages have no field for is left out.
pub(crate) fn encode(document: &Value) -> Vec<u8> {
    encode_as(&DOCUMENT, document)
}

/// A v3 document in protobuf. What the messages have no field for is left out.
pub(crate) fn encode_v3(document: &Value) -> Vec<u8> {
    encode_as(&v3::DOCUMENT, document)
}

fn encode_as(form: &Message, document: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    if let Value::Object(members) = document {
        message(&mut out, form, members);
    }
    out
}

fn message(out: &mut Vec<u8>, form: &Message, object: &Map<String, Value>) {
    // In the order of the messages, so that the first bytes say what it is.
    for (name, number, form) in form.members {
        if let Some(value) = object.get(*name) {
            field(out, *number, *form, value);
        }
    }
    for (name, value) in object.iter().filter(|(name, _)| name.starts_with("x-")) {
        nested(out, form.extensions, |out| {
            put_bytes(out, 1, name.as_bytes());
            any(out, 2, value);
        });
    }
}

fn nested(out: &mut Vec<u8>, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let written: Result<(), std::convert::Infallible> = put_nested(out, number, |out| {
        write(out);
        Ok(())
    });
    match written {
        Ok(()) => {}
        Err(never) => match never {},
    }
}

fn any(out: &mut Vec<u8>, number: u32, value: &Value) {
    nested(out, number, |out| {
        put_bytes(out, 2, format!("{value}\n").as_bytes())
    });
}

/// Writes a value of a field, or the values of a repeated one.
fn field(out: &mut Vec<u8>, number: u32, form: Form, value: &Value) {
    // A value of any kind may itself be a list.
    let whole = matches!(
        form,
        Form::Any | Form::Scalar | Form::Within(..) | Form::Named(..)
    );
    match value {
        Value::Array(items) if !whole => {
            for item in items {
                one(out, number, form, item);
            }
        }
        value => one(out, number, form, value),
    }
}

fn one(out: &mut Vec<u8>, number: u32, form: Form, value: &Value) {
    match (form, value) {
        (Form::Text, Value::String(text)) => put_bytes(out, number, text.as_bytes()),
        (Form::Flag, Value::Bool(true)) => put_varint(out, number, 1),
        (Form::Whole, Value::Number(value)) => {
            put_varint(out, number, value.as_i64().unwrap_or_default().cast_unsigned());
        }
        (Form::Real, Value::Number(value)) => {
            put_fixed64(out, number, value.as_f64().unwrap_or_default().to_bits());
        }
        (Form::Any | Form::Values, value) => any(out, number, value),
        (Form::Scalar, value) => nested(out, number, |out| match value {
            Value::Number(value) => put_fixed64(out, 1, value.as_f64().unwrap_or_default().to_bits()),
            Value::Bool(flag) => put_varint(out, 2, u64::from(*flag)),
            Value::String(text) => put_bytes(out, 3, text.as_bytes()),
            _ => {}
        }),
        (Form::Message(form), Value::Object(members)) => {
            nested(out, number, |out| message(out, form, members))
        }
        (Form::Named(inner, form), Value::Object(members)) => nested(out, number, |out| {
            for (name, value) in members {
                nested(out, inner, |out| {
                    put_bytes(out, 1, name.as_bytes());
                    field(out, 2, *form, value);
                });
            }
        }),
        (Form::Within(inner, form), value) => nested(out, number, |out| field(out, inner, *form, value)),
        (Form::FlagOr(_, _), Value::Bool(flag)) => {
            nested(out, number, |out| put_varint(out, 2, u64::from(*flag)))
        }
        (Form::FlagOr(inner, form), value) => nested(out, number, |out| field(out, inner, *form, value)),
        (Form::ReferenceOr(inner, form), value) => nested(out, number, |out| match value.get("$ref") {
            Some(Value::String(to)) => nested(out, 2, |out| put_bytes(out, 1, to.as_bytes())),
            _ => field(out, inner, *form, value),
        }),
        (Form::Parameter, Value::Object(parameter)) => nested(out, number, |out| {
            nested(out, 1, |out| match parameter.get("in").and_then(Value::as_str) {
                Some("body") => nested(out, 1, |out| message(out, &BODY, parameter)),
                Some("header") => nested(out, 2, |out| {
                    nested(out, 1, |out| message(out, &PLACE, parameter))
                }),
                Some("path") => nested(out, 2, |out| {
                    nested(out, 4, |out| message(out, &PLACE, parameter))
                }),
                _ => nested(out, 2, |out| {
                    nested(out, 3, |out| message(out, &QUERY, parameter))
                }),
            });
        }),
        // False, and what is of another form than the specification says, is as good as missing.
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::{Field, Fields};
    use super::*;
    use serde_json::json;

    /// The bytes of the fields with that number.
    fn inner(bytes: &[u8], wanted: u32) -> Vec<&[u8]> {
        let fields = Fields(bytes).map(Result::unwrap);
        fields
            .filter_map(|(number, field)| match field {
                Field::Bytes(bytes) if number == wanted => Some(bytes),
                _ => None,
            })
            .collect()
    }

    fn at<'b>(bytes: &'b [u8], path: &[u32]) -> &'b [u8] {
        path.iter().fold(bytes, |bytes, number| inner(bytes, *number)[0])
    }

    /// The numbers are those of the published definition of the messages, and what kube-apiserver sends.
    #[test]
    fn a_document_of_version_3() {
        let bytes = encode_v3(&json!({
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": "1.36"},
            "paths": {"/api/v1/pods": {
                "post": {
                    "operationId": "create",
                    "requestBody": {"required": true, "content": {"*/*": {"schema": {"$ref": "#/components/schemas/Pod"}}}},
                    "responses": {"201": {"description": "Created", "content": {"application/json": {"schema": {"type": "string"}}}}},
                    "x-kubernetes-action": "post",
                },
                "parameters": [{"name": "limit", "in": "query", "schema": {"type": "integer", "uniqueItems": true}}],
            }},
            "components": {"schemas": {"Pod": {
                "type": "object",
                "properties": {
                    "a": {"type": "array", "items": {"$ref": "#/components/schemas/A"}, "default": []},
                    "b": {"allOf": [{"$ref": "#/components/schemas/B"}], "default": {}},
                    "c": {"type": "string", "default": "", "enum": ["x", ["y"]]},
                    "d": {"type": "boolean", "default": false},
                    "e": {"type": "object", "additionalProperties": {"type": "string"}},
                },
            }}},
        }));
        assert_eq!(at(&bytes, &[1]), b"3.0.0");
        assert_eq!(at(&bytes, &[2, 6]), b"1.36");
        assert_eq!(at(&bytes, &[4, 1, 1]), b"/api/v1/pods");
        let path = at(&bytes, &[4, 1, 2]);
        // ParameterOrReference, Parameter, name; SchemaOrReference, Schema, type.
        assert_eq!(at(path, &[13, 1, 1]), b"limit");
        assert_eq!(at(path, &[13, 1, 10, 1, 25]), b"integer");
        let post = at(path, &[6]);
        assert_eq!(at(post, &[5]), b"create");
        // RequestBodyOrReference, RequestBody, MediaTypes, NamedMediaType: name, MediaType, SchemaOrReference, Reference, _ref.
        assert_eq!(at(post, &[7, 1, 2, 1, 1]), b"*/*");
        assert_eq!(at(post, &[7, 1, 2, 1, 2, 1, 2, 1]), b"#/components/schemas/Pod");
        // Responses, NamedResponseOrReference, ResponseOrReference, Response.
        assert_eq!(at(post, &[8, 2, 1]), b"201");
        assert_eq!(at(post, &[8, 2, 2, 1, 1]), b"Created");
        assert_eq!(at(post, &[8, 2, 2, 1, 3, 1, 2, 1, 1, 25]), b"string");
        assert_eq!(at(post, &[13, 2, 2]), b"\"post\"\n");
        assert_eq!(at(&bytes, &[5, 1, 1, 1]), b"Pod");
        let pod = at(&bytes, &[5, 1, 1, 2, 1]);
        let properties: Vec<&[u8]> = inner(at(pod, &[31]), 1)
            .into_iter()
            .map(|named| at(named, &[2, 1]))
            .collect();
        assert_eq!(at(properties[0], &[30, 1, 2, 1]), b"#/components/schemas/A");
        assert_eq!(at(properties[0], &[33]), b"");
        assert_eq!(at(properties[1], &[26, 2, 1]), b"#/components/schemas/B");
        assert_eq!(at(properties[1], &[33]), b"");
        assert_eq!(at(properties[2], &[33]), [3 << 3 | 2, 0]);
        assert_eq!(inner(properties[2], 24).len(), 2);
        assert_eq!(at(properties[3], &[33]), [2 << 3, 0]);
        assert_eq!(at(properties[4], &[32, 1, 1, 25]), b"string");
    }

    /// The numbers are those of the published definition of the messages.
    #[test]
    fn a_document() {
        let bytes = encode(&json!({
            "swagger": "2.0",
            "info": {"title": "Kubernetes", "version": "v1"},
            "paths": {"/api/v1/pods": {"get": {
                "operationId": "list",
                "parameters": [{"name": "limit", "in": "query", "type": "string", "uniqueItems": true}],
                "responses": {"200": {"description": "OK", "schema": {"$ref": "#/definitions/Pod"}}},
                "x-kubernetes-action": "list",
            }}},
            "definitions": {"Pod": {
                "type": "object",
                "required": ["spec"],
                "properties": {"spec": {"type": "array", "items": {"type": "string", "maxLength": 5}, "default": [1, 2]}},
                "additionalProperties": false,
                "x-kubernetes-group-version-kind": [{"group": "", "kind": "Pod", "version": "v1"}],
                "enum": ["a", 1],
                "minimum": 0.5,
            }},
        }));
        assert_eq!(at(&bytes, &[1]), b"2.0");
        assert_eq!(at(&bytes, &[2, 1]), b"Kubernetes");
        assert_eq!(at(&bytes, &[8, 2, 1]), b"/api/v1/pods");
        let get = at(&bytes, &[8, 2, 2, 2]);
        assert_eq!(at(get, &[5]), b"list");
        // ParametersItem, Parameter, NonBodyParameter, QueryParameterSubSchema, name.
        assert_eq!(at(get, &[8, 1, 2, 3, 4]), b"limit");
        assert_eq!(at(get, &[9, 1, 1]), b"200");
        // NamedResponseValue, ResponseValue, Response, SchemaItem, Schema, reference.
        assert_eq!(at(get, &[9, 1, 2, 1, 2, 1, 1]), b"#/definitions/Pod");
        assert_eq!(at(get, &[13, 1]), b"x-kubernetes-action");
        assert_eq!(at(get, &[13, 2, 2]), b"\"list\"\n");
        let pod = at(&bytes, &[9, 1, 2]);
        assert_eq!(at(&bytes, &[9, 1, 1]), b"Pod");
        assert_eq!(at(pod, &[22, 1]), b"object");
        assert_eq!(inner(pod, 19), [b"spec"]);
        assert_eq!(at(pod, &[21]), [2 << 3, 0], "a boolean that is false is written");
        let values: Vec<&[u8]> = inner(pod, 20).into_iter().map(|value| at(value, &[2])).collect();
        assert_eq!(values, [&b"\"a\"\n"[..], &b"1\n"[..]]);
        let spec = at(pod, &[25, 1, 2]);
        assert_eq!(at(spec, &[5, 2]), b"[1,2]\n");
        assert_eq!(at(spec, &[23, 1, 22, 1]), b"string");
        let extension = at(pod, &[31, 2, 2]);
        assert_eq!(
            extension,
            b"[{\"group\":\"\",\"kind\":\"Pod\",\"version\":\"v1\"}]\n"
        );
    }
}
