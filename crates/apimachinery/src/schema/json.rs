//! Reading and writing schemas as JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{Additional, ListType, MapType, Rule, Schema, Type};

impl Schema {
    /// Reads a schema as OpenAPI v3 or a custom resource definition writes it. References are not followed.
    ///
    /// Only what can be read at all is checked here: whether a schema is *structural* is the question of
    /// [`Schema::parse_crd`].
    ///
    /// # Errors
    /// The path of the first keyword with a value of the wrong type, and what was expected.
    pub fn from_json(value: &Value) -> Result<Self, String> {
        Reader { path: String::new() }.schema(value)
    }

    /// The schema as JSON, in the form that [`Schema::from_json`] reads.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut out = Map::new();
        let mut put = |key: &str, value: Value| {
            out.insert(key.to_owned(), value);
        };
        if let Some(type_) = self.type_ {
            put("type", type_.as_str().into());
        }
        for (key, set) in [
            ("nullable", self.nullable),
            ("exclusiveMinimum", self.exclusive_minimum),
            ("exclusiveMaximum", self.exclusive_maximum),
            ("uniqueItems", self.unique_items),
            ("x-kubernetes-preserve-unknown-fields", self.preserve_unknown),
            ("x-kubernetes-embedded-resource", self.embedded_resource),
            ("x-kubernetes-int-or-string", self.int_or_string),
        ] {
            if set {
                put(key, true.into());
            }
        }
        for (key, text) in [
            ("format", &self.format),
            ("title", &self.title),
            ("description", &self.description),
            ("pattern", &self.pattern),
            ("x-kubernetes-patch-strategy", &self.patch_strategy),
            ("x-kubernetes-patch-merge-key", &self.patch_merge_key),
        ] {
            if let Some(text) = text {
                put(key, text.as_str().into());
            }
        }
        for (key, any) in [
            ("default", &self.default),
            ("example", &self.example),
            ("externalDocs", &self.external_docs),
        ] {
            if let Some(any) = any {
                put(key, any.clone());
            }
        }
        for (key, number) in [
            ("minimum", self.minimum),
            ("maximum", self.maximum),
            ("multipleOf", self.multiple_of),
        ] {
            if let Some(number) = number {
                put(key, number_value(number));
            }
        }
        for (key, count) in [
            ("minLength", self.min_length),
            ("maxLength", self.max_length),
            ("minItems", self.min_items),
            ("maxItems", self.max_items),
            ("minProperties", self.min_properties),
            ("maxProperties", self.max_properties),
        ] {
            if let Some(count) = count {
                put(key, count.into());
            }
        }
        if !self.required.is_empty() {
            put("required", json!(self.required));
        }
        if !self.enum_values.is_empty() {
            put("enum", json!(self.enum_values));
        }
        if !self.properties.is_empty() {
            put(
                "properties",
                self.properties
                    .iter()
                    .map(|(k, v)| (k.clone(), v.to_json()))
                    .collect(),
            );
        }
        match &self.additional {
            Additional::None => {}
            Additional::Any => put("additionalProperties", true.into()),
            Additional::Schema(schema) => put("additionalProperties", schema.to_json()),
        }
        if let Some(items) = &self.items {
            put("items", items.to_json());
        }
        for (key, schemas) in [
            ("allOf", &self.all_of),
            ("anyOf", &self.any_of),
            ("oneOf", &self.one_of),
        ] {
            if !schemas.is_empty() {
                put(key, schemas.iter().map(|s| s.to_json()).collect());
            }
        }
        if let Some(not) = &self.not {
            put("not", not.to_json());
        }
        match &self.list_type {
            None => {}
            Some(ListType::Atomic) => put("x-kubernetes-list-type", "atomic".into()),
            Some(ListType::Set) => put("x-kubernetes-list-type", "set".into()),
            Some(ListType::Map(keys)) => {
                put("x-kubernetes-list-type", "map".into());
                put("x-kubernetes-list-map-keys", json!(keys));
            }
        }
        match self.map_type {
            None => {}
            Some(MapType::Granular) => put("x-kubernetes-map-type", "granular".into()),
            Some(MapType::Atomic) => put("x-kubernetes-map-type", "atomic".into()),
        }
        if !self.cel.is_empty() {
            put(
                "x-kubernetes-validations",
                self.cel.iter().map(Rule::to_json).collect(),
            );
        }
        Value::Object(out)
    }
}

impl Rule {
    /// The rule as an entry of `x-kubernetes-validations`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut out = Map::from_iter([("rule".to_owned(), Value::from(self.rule.as_str()))]);
        for (key, text) in [
            ("message", &self.message),
            ("messageExpression", &self.message_expression),
            ("reason", &self.reason),
            ("fieldPath", &self.field_path),
        ] {
            if let Some(text) = text {
                out.insert(key.to_owned(), text.as_str().into());
            }
        }
        if let Some(optional) = self.optional_old_self {
            out.insert("optionalOldSelf".to_owned(), optional.into());
        }
        Value::Object(out)
    }
}

/// A number that prints as an integer where it is one.
fn number_value(number: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53: every integer up to here is itself as f64
    if number.fract() == 0.0 && number.abs() <= EXACT {
        #[allow(clippy::cast_possible_truncation)] // checked above
        Value::from(number as i64)
    } else {
        Value::from(number)
    }
}

struct Reader {
    path: String,
}

impl Reader {
    fn fail<T>(&self, key: &str, expected: &str) -> Result<T, String> {
        let path = if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        };
        Err(format!("{path}: expected {expected}"))
    }

    fn enter<T>(
        &mut self,
        step: &str,
        read: impl FnOnce(&mut Self) -> Result<T, String>,
    ) -> Result<T, String> {
        let length = self.path.len();
        if length > 0 && !step.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(step);
        let result = read(self);
        self.path.truncate(length);
        result
    }

    fn schema(&mut self, value: &Value) -> Result<Schema, String> {
        let Some(object) = value.as_object() else {
            return self.fail("schema", "an object");
        };
        let mut schema = Schema::default();
        let (mut list_type, mut list_keys) = (None, None);
        for (key, value) in object {
            if value.is_null() && !matches!(key.as_str(), "default" | "example") {
                continue;
            }
            let field = key.as_str();
            match field {
                "type" => {
                    // An empty type is what Go's encoder leaves of "not said".
                    let name = self.text(field, value)?;
                    schema.type_ = match (Type::parse(&name), name.is_empty()) {
                        (None, false) => {
                            return self
                                .fail(field, "one of array, boolean, integer, number, object, string");
                        }
                        (type_, _) => type_,
                    };
                }
                "nullable" => schema.nullable = self.flag(field, value)?,
                "format" => {
                    let format = self.text(field, value)?;
                    schema.int_or_string |= format == "int-or-string";
                    schema.format = Some(format).filter(|f| !f.is_empty());
                }
                "title" => schema.title = Some(self.text(field, value)?),
                "description" => schema.description = Some(self.text(field, value)?),
                "default" => schema.default = Some(value.clone()),
                "example" => schema.example = Some(value.clone()),
                "externalDocs" => schema.external_docs = Some(value.clone()),
                "properties" => {
                    let Some(properties) = value.as_object() else {
                        return self.fail(field, "an object");
                    };
                    let mut read = BTreeMap::new();
                    for (name, value) in properties {
                        let step = format!("properties[{name}]");
                        read.insert(name.clone(), Arc::new(self.enter(&step, |r| r.schema(value))?));
                    }
                    schema.properties = read;
                }
                "additionalProperties" => {
                    schema.additional = match value {
                        Value::Bool(true) => Additional::Any,
                        Value::Bool(false) => Additional::None,
                        other => Additional::Schema(Arc::new(self.enter(field, |r| r.schema(other))?)),
                    }
                }
                "items" => schema.items = Some(Arc::new(self.enter(field, |r| r.schema(value))?)),
                "required" => schema.required = self.texts(field, value)?,
                "enum" => match value {
                    Value::Array(values) => schema.enum_values.clone_from(values),
                    _ => return self.fail(field, "a list"),
                },
                "minimum" => schema.minimum = Some(self.number(field, value)?),
                "maximum" => schema.maximum = Some(self.number(field, value)?),
                "multipleOf" => schema.multiple_of = Some(self.number(field, value)?),
                "exclusiveMinimum" => schema.exclusive_minimum = self.flag(field, value)?,
                "exclusiveMaximum" => schema.exclusive_maximum = self.flag(field, value)?,
                "minLength" => schema.min_length = Some(self.count(field, value)?),
                "maxLength" => schema.max_length = Some(self.count(field, value)?),
                "minItems" => schema.min_items = Some(self.count(field, value)?),
                "maxItems" => schema.max_items = Some(self.count(field, value)?),
                "minProperties" => schema.min_properties = Some(self.count(field, value)?),
                "maxProperties" => schema.max_properties = Some(self.count(field, value)?),
                "uniqueItems" => schema.unique_items = self.flag(field, value)?,
                "pattern" => schema.pattern = Some(self.text(field, value)?).filter(|p| !p.is_empty()),
                "allOf" => schema.all_of = self.schemas(field, value)?,
                "anyOf" => schema.any_of = self.schemas(field, value)?,
                "oneOf" => schema.one_of = self.schemas(field, value)?,
                "not" => schema.not = Some(Arc::new(self.enter(field, |r| r.schema(value))?)),
                "x-kubernetes-preserve-unknown-fields" => {
                    schema.preserve_unknown = self.flag(field, value)?
                }
                "x-kubernetes-embedded-resource" => schema.embedded_resource = self.flag(field, value)?,
                "x-kubernetes-int-or-string" => schema.int_or_string |= self.flag(field, value)?,
                "x-kubernetes-list-type" => list_type = Some(self.text(field, value)?),
                "x-kubernetes-list-map-keys" => list_keys = Some(self.texts(field, value)?),
                "x-kubernetes-map-type" => {
                    schema.map_type = match self.text(field, value)?.as_str() {
                        "atomic" => Some(MapType::Atomic),
                        "granular" => Some(MapType::Granular),
                        _ => return self.fail(field, "atomic or granular"),
                    }
                }
                "x-kubernetes-patch-strategy" => schema.patch_strategy = Some(self.text(field, value)?),
                "x-kubernetes-patch-merge-key" => schema.patch_merge_key = Some(self.text(field, value)?),
                "x-kubernetes-validations" => schema.cel = self.rules(value)?,
                _ => {}
            }
        }
        schema.list_type = match list_type.as_deref() {
            None => None,
            Some("atomic") => Some(ListType::Atomic),
            Some("set") => Some(ListType::Set),
            Some("map") => Some(ListType::Map(list_keys.unwrap_or_default())),
            Some(_) => return self.fail("x-kubernetes-list-type", "atomic, set or map"),
        };
        Ok(schema)
    }

    fn rules(&mut self, value: &Value) -> Result<Vec<Rule>, String> {
        let key = "x-kubernetes-validations";
        let Some(rules) = value.as_array() else {
            return self.fail(key, "a list");
        };
        let mut read = Vec::with_capacity(rules.len());
        for (i, rule) in rules.iter().enumerate() {
            let rule = self.enter(&format!("{key}[{i}]"), |r| {
                let Some(object) = rule.as_object() else {
                    return r.fail("rule", "an object");
                };
                let mut rule = Rule::default();
                for (field, value) in object {
                    match field.as_str() {
                        _ if value.is_null() => {}
                        "rule" => rule.rule = r.text(field, value)?,
                        "message" => rule.message = Some(r.text(field, value)?).filter(|m| !m.is_empty()),
                        "messageExpression" => {
                            rule.message_expression = Some(r.text(field, value)?).filter(|m| !m.is_empty());
                        }
                        "reason" => rule.reason = Some(r.text(field, value)?),
                        "fieldPath" => {
                            rule.field_path = Some(r.text(field, value)?).filter(|p| !p.is_empty())
                        }
                        "optionalOldSelf" => rule.optional_old_self = Some(r.flag(field, value)?),
                        _ => {}
                    }
                }
                Ok(rule)
            })?;
            read.push(rule);
        }
        Ok(read)
    }

    fn schemas(&mut self, key: &str, value: &Value) -> Result<Vec<Arc<Schema>>, String> {
        let Some(values) = value.as_array() else {
            return self.fail(key, "a list");
        };
        let mut read = Vec::with_capacity(values.len());
        for (i, value) in values.iter().enumerate() {
            read.push(Arc::new(self.enter(&format!("{key}[{i}]"), |r| r.schema(value))?));
        }
        Ok(read)
    }

    fn text(&self, key: &str, value: &Value) -> Result<String, String> {
        value
            .as_str()
            .map_or_else(|| self.fail(key, "a string"), |s| Ok(s.to_owned()))
    }

    fn texts(&self, key: &str, value: &Value) -> Result<Vec<String>, String> {
        let texts = value
            .as_array()
            .map(|a| a.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
        match texts {
            Some(Some(texts)) => Ok(texts.into_iter().map(str::to_owned).collect()),
            _ => self.fail(key, "a list of strings"),
        }
    }

    fn flag(&self, key: &str, value: &Value) -> Result<bool, String> {
        value
            .as_bool()
            .map_or_else(|| self.fail(key, "true or false"), Ok)
    }

    fn number(&self, key: &str, value: &Value) -> Result<f64, String> {
        value.as_f64().map_or_else(|| self.fail(key, "a number"), Ok)
    }

    fn count(&self, key: &str, value: &Value) -> Result<u64, String> {
        value
            .as_u64()
            .map_or_else(|| self.fail(key, "a whole number that is not negative"), Ok)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn every_keyword_survives_a_round_trip() {
        let json = json!({
            "type": "object", "title": "t", "description": "d", "nullable": true, "required": ["a"],
            "minProperties": 1, "maxProperties": 9, "x-kubernetes-map-type": "atomic", "default": null,
            "x-kubernetes-validations": [{"rule": "self.a > 1", "message": "m", "messageExpression": "'x'",
                "reason": "FieldValueForbidden", "fieldPath": ".a", "optionalOldSelf": true}],
            "properties": {
                "a": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 5.5, "exclusiveMinimum": true,
                      "exclusiveMaximum": true, "multipleOf": 0.5, "enum": [1, 2]},
                "b": {"type": "array", "items": {"type": "object", "properties": {"k": {"type": "string"}}}, "minItems": 1,
                      "maxItems": 2, "uniqueItems": true, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                      "x-kubernetes-patch-strategy": "merge", "x-kubernetes-patch-merge-key": "k"},
                "c": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                "d": {"type": "object", "additionalProperties": {"type": "string", "minLength": 1, "maxLength": 3, "pattern": "^a"}},
                "e": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "x-kubernetes-embedded-resource": true},
                "f": {"type": "object", "additionalProperties": true, "allOf": [{"required": ["x"]}],
                      "oneOf": [{"required": ["x"]}], "not": {"required": ["y"]}, "example": {"x": 1}, "externalDocs": {"url": "u"}},
                "g": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
                "h": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "atomic"},
            },
        });
        assert_eq!(Schema::from_json(&json).unwrap().to_json(), json);
    }

    #[test]
    fn wrong_types_are_named() {
        let cases = [
            (json!({"type": "text"}), "type: expected one of"),
            (
                json!({"properties": {"a": {"minimum": "1"}}}),
                "properties[a].minimum: expected a number",
            ),
            (
                json!({"allOf": [{"maxLength": -1}]}),
                "allOf[0].maxLength: expected a whole number",
            ),
            (json!([]), "schema: expected an object"),
        ];
        for (json, expected) in cases {
            let error = Schema::from_json(&json).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
