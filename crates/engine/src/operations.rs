//! Operations: the requests that an endpoint's schema describes, and patterns that match exactly them.
//!
//! An OpenAPI document gives paths and methods, a file of protocol buffers gives services and methods. From other
//! languages nothing is read.

use choreo_api::v1alpha1::{EndpointSchema, common::EndpointType};
use serde_json::Value;

use crate::address;

/// One kind of request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Operation {
    /// The path below the base path, in which `{name}` stands for any one segment.
    pub path: String,
    /// The method of HTTP.
    pub method: String,
}

/// What a schema says of the requests that its endpoint answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Described {
    /// The operations, ordered, each once; empty when the schema says nothing of them.
    pub operations: Vec<Operation>,
    /// The path in front of all of them, as the document itself has it.
    pub server_path: String,
}

/// Most operations that become rules of a network policy: beyond, a policy is too large to be useful.
pub const MOST_OPERATIONS: usize = 256;

const METHODS: [&str; 8] = [
    "get", "put", "post", "delete", "options", "head", "patch", "trace",
];

/// Reads the operations of an endpoint's schema.
///
/// # Errors
/// When there is a description and it cannot be read.
pub fn describe(type_: EndpointType, schema: Option<&EndpointSchema>) -> Result<Described, String> {
    let content = schema.and_then(|s| s.content.as_deref()).unwrap_or_default();
    if content.trim().is_empty() {
        return Ok(Described::default());
    }
    match type_ {
        EndpointType::REST | EndpointType::HTTP => openapi(content),
        EndpointType::GRPC => Ok(Described {
            operations: protocol_buffers(content),
            server_path: String::new(),
        }),
        _ => Ok(Described::default()),
    }
}

fn openapi(content: &str) -> Result<Described, String> {
    let document: Value =
        serde_saphyr::from_str(content).map_err(|e| format!("is neither YAML nor JSON: {e}"))?;
    let Some(paths) = document.get("paths").and_then(Value::as_object) else {
        return Err("is not an OpenAPI document: it has no paths".to_owned());
    };
    let mut operations = Vec::new();
    for (path, item) in paths.iter().filter(|(path, _)| path.starts_with('/')) {
        let methods = METHODS.into_iter().filter(|method| item.get(method).is_some());
        operations.extend(methods.map(|method| Operation {
            path: path.clone(),
            method: method.to_ascii_uppercase(),
        }));
    }
    operations.sort();
    // OpenAPI 3 has servers, of which only the path matters here; version 2 has a basePath.
    let server = document.pointer("/servers/0/url").and_then(Value::as_str);
    let server_path = match server {
        Some(url) => {
            let after = url.split_once("://").map_or(url, |(_, rest)| {
                rest.find('/').map_or("", |i| rest.get(i..).unwrap_or_default())
            });
            after.to_owned()
        }
        None => document
            .get("basePath")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned(),
    };
    // A path with variables of its own is not known before somebody fills them in.
    let server_path = if server_path.contains('{') {
        String::new()
    } else {
        address::join_path([server_path.as_str()])
    };
    Ok(Described {
        operations,
        server_path,
    })
}

/// The methods of all services: `/package.Service/Method`.
fn protocol_buffers(content: &str) -> Vec<Operation> {
    let words = words(content);
    let mut package = "";
    let mut operations = Vec::new();
    let mut service: Option<(&str, usize)> = None;
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let next = words.get(at + 1).map(String::as_str).unwrap_or_default();
        match word.as_str() {
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                if service.is_some_and(|(_, of)| depth <= of) {
                    service = None;
                }
            }
            "package" if depth == 0 => package = next,
            "service" if depth == 0 => service = Some((next, depth)),
            "rpc" => {
                if let Some((name, of)) = service
                    && depth == of + 1
                {
                    let full = if package.is_empty() {
                        name.to_owned()
                    } else {
                        format!("{package}.{name}")
                    };
                    operations.push(Operation {
                        path: format!("/{full}/{next}"),
                        method: "POST".to_owned(),
                    });
                }
            }
            _ => {}
        }
        at += 1;
    }
    operations.sort();
    operations.dedup();
    operations
}

/// The words and brackets of a file of protocol buffers, without comments and texts.
fn words(content: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut chars = content.chars().peekable();
    let flush = |word: &mut String, words: &mut Vec<String>| {
        if !word.is_empty() {
            words.push(std::mem::take(word));
        }
    };
    while let Some(c) = chars.next() {
        match c {
            '/' if chars.peek() == Some(&'/') => {
                for skipped in chars.by_ref() {
                    if skipped == '\n' {
                        break;
                    }
                }
                flush(&mut word, &mut words);
            }
            '/' if chars.peek() == Some(&'*') => {
                let mut before = ' ';
                for skipped in chars.by_ref().skip(1) {
                    if before == '*' && skipped == '/' {
                        break;
                    }
                    before = skipped;
                }
                flush(&mut word, &mut words);
            }
            '"' | '\'' => {
                let mut escaped = false;
                for skipped in chars.by_ref() {
                    if skipped == c && !escaped {
                        break;
                    }
                    escaped = skipped == '\\' && !escaped;
                }
                flush(&mut word, &mut words);
            }
            c if c.is_alphanumeric() || c == '_' || c == '.' => word.push(c),
            c => {
                flush(&mut word, &mut words);
                if !c.is_whitespace() {
                    words.push(c.to_string());
                }
            }
        }
    }
    flush(&mut word, &mut words);
    words
}

/// The services among the operations of a gRPC endpoint.
pub fn services(operations: &[Operation]) -> Vec<&str> {
    let mut services: Vec<&str> = operations
        .iter()
        .filter_map(|o| {
            o.path
                .strip_prefix('/')?
                .split_once('/')
                .map(|(service, _)| service)
        })
        .collect();
    services.dedup();
    services
}

/// A regular expression (RE2) that matches the whole path of an operation below a prefix.
pub fn pattern(prefix: &str, path: &str) -> String {
    let whole = address::join_path([prefix, path]);
    let mut out = String::new();
    let mut rest = whole.as_str();
    while let Some((literal, after)) = rest.split_once('{') {
        let Some((_, after)) = after.split_once('}') else {
            break;
        };
        out.push_str(&escape(literal));
        out.push_str("[^/]+");
        rest = after;
    }
    out.push_str(&escape(rest));
    out
}

/// As [`pattern`], for what is matched against the path together with the query.
pub fn pattern_with_query(prefix: &str, path: &str) -> String {
    format!("{}(\\?.*)?", pattern(prefix, path))
}

fn escape(literal: &str) -> String {
    let mut out = String::with_capacity(literal.len());
    for c in literal.chars() {
        if "\\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(content: &str) -> EndpointSchema {
        EndpointSchema {
            type_: None,
            content: Some(content.to_owned()),
        }
    }

    fn operation(method: &str, path: &str) -> Operation {
        Operation {
            path: path.to_owned(),
            method: method.to_owned(),
        }
    }

    #[test]
    fn an_openapi_document_gives_paths_and_methods() {
        let document = "openapi: 3.0.1\nservers: [{url: 'http://localhost:8080/api/v1/'}]\npaths:\n  /books: {get: {}, post: {}, parameters: []}\n  /books/{id}: {delete: {}}\n  x-note: {get: {}}\n";
        let described = describe(EndpointType::REST, Some(&schema(document))).unwrap();
        assert_eq!(
            described.operations,
            [
                operation("GET", "/books"),
                operation("POST", "/books"),
                operation("DELETE", "/books/{id}")
            ]
        );
        assert_eq!(described.server_path, "/api/v1");
        assert_eq!(describe(EndpointType::REST, None).unwrap(), Described::default());
        assert!(describe(EndpointType::REST, Some(&schema("a: b"))).is_err());
        assert!(describe(EndpointType::REST, Some(&schema("{"))).is_err());
        // What another language says is not read as if it were OpenAPI.
        assert_eq!(
            describe(EndpointType::GraphQL, Some(&schema("type Query { a: Int }"))).unwrap(),
            Described::default()
        );
    }

    #[test]
    fn protocol_buffers_give_services_and_methods() {
        let file = r#"
            syntax = "proto3"; // service Not {rpc A(B) returns (C);}
            package shop.v1;
            /* service Nor { } */
            message Item { string service = 1; message rpc { } }
            service Catalog {
              rpc Get (Item) returns (Item) { option (google.api.http) = { get: "/x{" }; }
              rpc List(Item) returns (stream Item);
            }
            service Other { rpc Get(Item) returns (Item); }"#;
        let described = describe(EndpointType::GRPC, Some(&schema(file))).unwrap();
        assert_eq!(
            described.operations,
            [
                operation("POST", "/shop.v1.Catalog/Get"),
                operation("POST", "/shop.v1.Catalog/List"),
                operation("POST", "/shop.v1.Other/Get")
            ]
        );
        assert_eq!(
            services(&described.operations),
            ["shop.v1.Catalog", "shop.v1.Other"]
        );
    }

    #[test]
    fn a_pattern_matches_the_path_and_nothing_else() {
        for (prefix, path, expected) in [
            ("/", "/books", "/books"),
            ("/api/v1", "/books/{id}", "/api/v1/books/[^/]+"),
            ("/a", "/f/{name}.json", "/a/f/[^/]+\\.json"),
            ("/a", "/", "/a"),
            ("/", "/x/{open", "/x/\\{open"),
        ] {
            assert_eq!(pattern(prefix, path), expected);
        }
        assert_eq!(pattern_with_query("/", "/b"), "/b(\\?.*)?");
    }
}
