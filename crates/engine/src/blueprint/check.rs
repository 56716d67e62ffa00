//! The check of a blueprint when it is written: every mistake, with the path of its field, the expression, a caret under
//! the place, and what to do.

use std::sync::Arc;

use choreo_api::v1alpha1::{
    ComponentTypeSpec, ParameterRule, ParameterSchema, PatchOp, PatchTarget, ResourceTemplate,
    ResourceTypeSpec, TraitPatch, TraitSpec,
};
use choreo_apimachinery::{
    field::FieldPath,
    schema::{Schema, Type as JsonType},
};
use choreo_cel::{
    Program,
    typing::{Mistake, Scope, Type, closest},
};
use serde_json::Value;

use super::{
    form::{self, Property},
    limits, schema,
    text::{Part, Text},
    variables::{self, component_scope, resource_scope},
};
use crate::{problem::Problems, render::registry, world::AnyObject};

/// Everything that is wrong with a component type.
pub fn component_type(spec: &ComponentTypeSpec) -> Problems {
    let ComponentTypeSpec {
        schema,
        resources,
        validations,
        allowed_traits: _,
    } = spec;
    let mut checking = Checking::default();
    let (parameters, configs) = checking.declared(schema.as_ref());
    let mut scope = component_scope(parameters, configs);
    checking.rules(validations, &mut scope);
    checking.templates("spec.resources", resources, &scope);
    checking.problems
}

/// Everything that is wrong with a trait.
pub fn trait_(spec: &TraitSpec) -> Problems {
    let TraitSpec {
        schema,
        creates,
        patches,
        removes,
        validations,
    } = spec;
    let mut checking = Checking::default();
    let (parameters, configs) = checking.declared(schema.as_ref());
    let mut scope = component_scope(parameters, configs);
    variables::trait_scope(&mut scope);
    checking.rules(validations, &mut scope);
    checking.templates("spec.creates", creates, &scope);
    for (i, patch) in patches.iter().enumerate() {
        checking.patch(&format!("spec.patches[{i}]"), patch, &scope);
    }
    for (i, removal) in removes.iter().enumerate() {
        let field = format!("spec.removes[{i}]");
        if let Some(when) = &removal.when {
            checking.condition(&format!("{field}.when"), when, &scope);
        }
        checking.target(&format!("{field}.target"), &removal.target, &scope);
    }
    checking.problems
}

/// Everything that is wrong with a resource type.
pub fn resource_type(spec: &ResourceTypeSpec) -> Problems {
    let ResourceTypeSpec {
        schema,
        resources,
        outputs,
        validations,
    } = spec;
    let mut checking = Checking::default();
    let (parameters, configs) = checking.declared(schema.as_ref());
    let mut scope = resource_scope(parameters, configs);
    checking.rules(validations, &mut scope);
    checking.templates("spec.resources", resources, &scope);
    for output in outputs {
        let field = format!("spec.outputs[{}]", output.name);
        if let Some(value) = &output.value {
            checking.scalar_text(&format!("{field}.value"), value, &scope);
        }
        if let Some(secret) = &output.secret_key_ref {
            checking.scalar_text(&format!("{field}.secretKeyRef.name"), &secret.name, &scope);
            checking.scalar_text(&format!("{field}.secretKeyRef.key"), &secret.key, &scope);
        }
    }
    checking.problems
}

#[derive(Default)]
struct Checking {
    problems: Problems,
}

/// What a text with expressions amounts to.
enum Found {
    /// No expression.
    Plain(String),
    /// One expression; its type, and its source.
    Whole(Type, String),
    /// A text with values written into it.
    Mixed,
    /// Something is wrong, and said.
    Wrong,
}

impl Checking {
    fn say(&mut self, field: &str, what: impl std::fmt::Display) {
        self.problems.invalid(format!("{field}: {what}"));
    }

    fn declared(&mut self, declared: Option<&ParameterSchema>) -> (Type, Type) {
        let mut one = |json: Option<&Value>, field: &str| match schema::declared(json, field) {
            Ok(declared) => declared.type_,
            Err(problems) => {
                self.problems.extend(problems);
                // What is not known to be wrong should not be called wrong.
                Type::Dyn
            }
        };
        let parameters = one(
            declared.and_then(|d| d.parameters.as_ref()),
            "spec.schema.parameters",
        );
        let configs = one(
            declared.and_then(|d| d.environment_configs.as_ref()),
            "spec.schema.environmentConfigs",
        );
        (parameters, configs)
    }

    /// Rules hold before anything is made, so what they ask for is known afterwards.
    fn rules(&mut self, rules: &[ParameterRule], scope: &mut Scope) {
        let mut known = Vec::new();
        for (i, rule) in rules.iter().enumerate() {
            known.extend(self.condition(&format!("spec.validations[{i}].rule"), &rule.rule, scope));
        }
        known.iter().for_each(|program| scope.assume(program));
    }

    /// An expression of any type.
    fn expression(&mut self, field: &str, source: &str, scope: &Scope) -> Option<(Type, Arc<Program>)> {
        let program = match Program::compile(source, &limits()) {
            Ok(program) => program,
            Err(error) => {
                self.say(field, Mistake::of_compile(&error));
                return None;
            }
        };
        let checked = program.check_types(scope);
        for mistake in &checked.mistakes {
            self.say(field, mistake);
        }
        checked.mistakes.is_empty().then_some((checked.type_, program))
    }

    /// An expression that must give a bool.
    fn condition(&mut self, field: &str, source: &str, scope: &Scope) -> Option<Arc<Program>> {
        let source = unwrapped(source);
        let (type_, program) = self.expression(field, source, scope)?;
        if !matches!(type_, Type::Bool | Type::Dyn) {
            let message = format!("a bool is expected, this is {}", form::article(&type_));
            let help = match type_ {
                Type::String => Some("compare it, as in x != \"\"".to_owned()),
                Type::Int | Type::Uint | Type::Double => Some("compare it, as in x > 0".to_owned()),
                Type::List(_) | Type::Map(_) => Some("compare its size, as in size(x) > 0".to_owned()),
                _ => None,
            };
            self.say(field, Mistake::whole(source, message, help));
            return None;
        }
        Some(program)
    }

    /// An expression that must give a list; the type of its items.
    fn list(&mut self, field: &str, source: &str, scope: &Scope) -> Type {
        let source = unwrapped(source);
        match self.expression(field, source, scope) {
            None => Type::Dyn,
            Some((Type::Dyn, _)) => Type::Dyn,
            Some((Type::List(item), _)) => (*item).clone(),
            Some((type_, _)) => {
                let message = format!("a list is expected, this is {}", form::article(&type_));
                let help = match type_ {
                    Type::Map(_) | Type::Object(_) => {
                        Some("make a list of its entries: .transformList(key, value, {...})".to_owned())
                    }
                    _ => None,
                };
                self.say(field, Mistake::whole(source, message, help));
                Type::Dyn
            }
        }
    }

    fn templates(&mut self, field: &str, templates: &[ResourceTemplate], scope: &Scope) {
        for template in templates {
            let ResourceTemplate {
                id,
                include_when,
                for_each,
                var,
                template: object,
            } = template;
            let field = format!("{field}[{id}]");
            let mut scope = scope.clone();
            if let Some(condition) = include_when
                && let Some(program) = self.condition(&format!("{field}.includeWhen"), condition, &scope)
            {
                scope.assume(&program);
            }
            self.loop_over(&field, for_each.as_deref(), var.as_deref(), &mut scope);
            self.object(&format!("{field}.template"), object, &scope);
            if for_each.is_some()
                && let Some(name) = object.pointer("/metadata/name").and_then(Value::as_str)
                && let Some(var) = var
                && !mentions(name, var)
            {
                let help = format!("every item would make the same object; use {var} in it");
                self.say(&format!("{field}.template.metadata.name"), help);
            }
        }
    }

    fn loop_over(&mut self, field: &str, for_each: Option<&str>, var: Option<&str>, scope: &mut Scope) {
        let Some(source) = for_each else { return };
        let item = self.list(&format!("{field}.forEach"), source, scope);
        if let Some(var) = var {
            if scope.get(var).is_some() {
                self.say(
                    &format!("{field}.var"),
                    format!("{var:?} is the name of a variable already; choose another"),
                );
            }
            scope.add(var, item);
        }
    }

    /// A whole Kubernetes object.
    fn object(&mut self, field: &str, object: &Value, scope: &Scope) {
        let head = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
        let (api_version, kind) = (head("apiVersion"), head("kind"));
        for (name, value) in [("apiVersion", api_version), ("kind", kind)] {
            if value.is_empty() {
                self.say(
                    &format!("{field}.{name}"),
                    "required: what the object is must be known beforehand",
                );
            } else if value.contains("${") {
                self.say(
                    &format!("{field}.{name}"),
                    "must be written out: what the object is must be known beforehand",
                );
            }
        }
        if form::is_platform_kind(api_version, kind) {
            self.say(
                &format!("{field}.kind"),
                format!("{kind} is the platform's to make: declare endpoints and connections, and it will"),
            );
            return;
        }
        let info = registry::kind(api_version, kind);
        if info.is_some_and(|info| !info.namespaced) {
            self.say(
                &format!("{field}.kind"),
                format!("{kind} belongs to no namespace; only objects of the cell can be made"),
            );
        }
        let known = registry::kinds_in(api_version);
        if info.is_none() && !known.is_empty() && !kind.is_empty() && !kind.contains("${") {
            let help = closest(kind, known)
                .map(|k| format!("; did you mean {k:?}?"))
                .unwrap_or_default();
            self.say(
                &format!("{field}.kind"),
                format!("{api_version} has no kind {kind:?}{help}"),
            );
        }
        if object.pointer("/metadata/name").is_none() {
            self.say(&format!("{field}.metadata.name"), "required");
        }
        if object.get("status").is_some() {
            self.say(&format!("{field}.status"), "the cluster says it; remove it");
        }
        self.owned(field, object, kind);
        let schema = info.map(|info| info.schema());
        for (key, value) in object.as_object().into_iter().flatten() {
            let field = format!("{field}.{key}");
            match key.as_str() {
                "apiVersion" | "kind" | "status" => {}
                // Every kind has it, whether or not its schema describes it.
                "metadata" => {
                    let schema = registry::schema("", "v1", "ConfigMap");
                    self.value(&field, value, schema.property("metadata").map(Arc::as_ref), scope);
                }
                _ => match schema.as_deref().map(|s| form::property(s, key)) {
                    None => self.value(&field, value, None, scope),
                    Some(Property::Known(schema)) => self.value(&field, value, schema, scope),
                    Some(Property::Unknown(close)) => self.say(&field, form::unknown(key, close)),
                },
            }
        }
    }

    /// What only the platform may say.
    fn owned(&mut self, field: &str, object: &Value, kind: &str) {
        let metadata = object.get("metadata").and_then(Value::as_object);
        for key in metadata.into_iter().flatten().map(|(key, _)| key) {
            if let Some(why) = form::metadata_field(key) {
                self.say(&format!("{field}.metadata.{key}"), why);
            }
        }
        if let Some(namespace) = object.pointer("/metadata/namespace").and_then(Value::as_str) {
            let whole = Text::parse(namespace).ok().and_then(|t| t.whole());
            if whole.map(str::trim) != Some("metadata.namespace") {
                self.say(
                    &format!("{field}.metadata.namespace"),
                    "the platform places the object in the cell; remove it",
                );
            }
        }
        self.reserved(field, object, "/metadata");
        let Some(pod) = form::pod_template(kind) else {
            return;
        };
        if !pod.is_empty() {
            self.reserved(field, object, &format!("{pod}/metadata"));
        }
        for name in ["serviceAccountName", "serviceAccount"] {
            let pointer = format!("{pod}/spec/{name}");
            if let Some(value) = object.pointer(&pointer).and_then(Value::as_str) {
                let whole = Text::parse(value).ok().and_then(|t| t.whole());
                if whole.map(str::trim) != Some("metadata.serviceAccount") {
                    let field = format!("{field}{}", dotted(&pointer));
                    self.say(&field, "the platform gives each component its own; remove it");
                }
            }
        }
    }

    fn reserved(&mut self, field: &str, object: &Value, metadata: &str) {
        for section in ["labels", "annotations"] {
            let pointer = format!("{metadata}/{section}");
            let keys = object.pointer(&pointer).and_then(Value::as_object);
            for key in keys.into_iter().flatten().map(|(key, _)| key) {
                if let Some(why) = form::reserved_key(key) {
                    self.say(&format!("{field}{}[{key}]", dotted(&pointer)), why);
                }
            }
        }
    }

    /// A part of a template where a schema says what goes there.
    fn value(&mut self, field: &str, value: &Value, schema: Option<&Schema>, scope: &Scope) {
        match value {
            Value::String(text) => self.string(field, text, schema, scope),
            Value::Object(map) => {
                if let Some(schema) = schema
                    && !matches!(schema.type_, None | Some(JsonType::Object))
                {
                    self.say(
                        field,
                        format!("this is a map, the field takes {}", form::wanted(schema)),
                    );
                    return;
                }
                let mut open = false;
                for (key, value) in map {
                    if key.contains("${") {
                        open = true;
                        self.scalar_text(&format!("{field}[{key}]"), key, scope);
                        let values = schema.and_then(|s| s.additional.schema()).map(Arc::as_ref);
                        self.value(&format!("{field}[{key}]"), value, values, scope);
                        continue;
                    }
                    let below = below(field, key);
                    // Directives of strategic merge are no fields.
                    if key.starts_with('$') {
                        continue;
                    }
                    match schema.map(|s| form::property(s, key)) {
                        None => self.value(&below, value, None, scope),
                        Some(Property::Known(schema)) => self.value(&below, value, schema, scope),
                        Some(Property::Unknown(close)) => self.say(&below, form::unknown(key, close)),
                    }
                }
                for name in schema.iter().flat_map(|s| &s.required) {
                    // The platform adds selectors, and the metadata of pods.
                    let added = name == "selector" || name == "metadata";
                    if !open && !added && !map.contains_key(name) {
                        self.say(&below(field, name), "required");
                    }
                }
            }
            Value::Array(items) => {
                if let Some(schema) = schema
                    && !matches!(schema.type_, None | Some(JsonType::Array))
                {
                    self.say(
                        field,
                        format!("this is a list, the field takes {}", form::wanted(schema)),
                    );
                    return;
                }
                for (i, item) in items.iter().enumerate() {
                    let schema = schema.and_then(|s| s.items.as_deref());
                    self.value(&format!("{field}[{i}]"), item, schema, scope);
                }
            }
            Value::Null => {}
            Value::Bool(_) | Value::Number(_) => self.literal(field, value, schema),
        }
    }

    fn literal(&mut self, field: &str, value: &Value, schema: Option<&Schema>) {
        let Some(schema) = schema else { return };
        for error in schema.validate(value, &FieldPath::new(field)) {
            self.problems.invalid(error.to_string());
        }
    }

    fn string(&mut self, field: &str, text: &str, schema: Option<&Schema>, scope: &Scope) {
        match self.text(field, text, scope) {
            Found::Wrong => {}
            Found::Plain(text) => self.literal(field, &Value::String(text), schema),
            Found::Mixed => {
                if let Some((path, what)) = schema.and_then(|s| form::misfit(&Type::String, s)) {
                    self.say(&format!("{field}{path}"), what);
                }
            }
            Found::Whole(type_, source) => {
                if let Some((path, what)) = schema.and_then(|s| form::misfit(&type_, s)) {
                    let help = match (&type_, schema.map(form::wanted)) {
                        (t, Some("a string")) if t.is_scalar() => Some("convert with string(...)".to_owned()),
                        (Type::String, Some("an int")) => Some("convert with int(...)".to_owned()),
                        _ => None,
                    };
                    self.say(&format!("{field}{path}"), Mistake::whole(&source, what, help));
                }
            }
        }
    }

    fn text(&mut self, field: &str, text: &str, scope: &Scope) -> Found {
        let parsed = match Text::parse(text) {
            Ok(parsed) => parsed,
            Err(error) => {
                self.say(field, format!("{error}\n    {text}"));
                return Found::Wrong;
            }
        };
        if let Some(plain) = parsed.plain() {
            return Found::Plain(plain);
        }
        if let Some(source) = parsed.whole() {
            return match self.expression(field, source, scope) {
                Some((type_, _)) => Found::Whole(type_, source.to_owned()),
                None => Found::Wrong,
            };
        }
        let mut good = true;
        for part in &parsed.parts {
            let Part::Expression(source) = part else { continue };
            match self.expression(field, source, scope) {
                None => good = false,
                Some((type_, _)) if type_.is_scalar() || type_ == Type::Dyn => {}
                Some((type_, _)) => {
                    good = false;
                    let help = match type_ {
                        Type::List(_) => "join its items: .join(\",\")",
                        Type::Optional(_) => "take what it holds: .orValue(...)",
                        Type::Map(_) | Type::Object(_) => "write it as JSON: toJson(...)",
                        _ => "convert with string(...)",
                    };
                    let message = format!("{} cannot be written into a text", form::article(&type_));
                    self.say(field, Mistake::whole(source, message, Some(help.to_owned())));
                }
            }
        }
        if good { Found::Mixed } else { Found::Wrong }
    }

    /// A text that must come out as a text: a key, a name, an output.
    fn scalar_text(&mut self, field: &str, text: &str, scope: &Scope) {
        if let Found::Whole(type_, source) = self.text(field, text, scope)
            && !type_.is_scalar()
            && type_ != Type::Dyn
        {
            let message = format!("a text is expected, this is {}", form::article(&type_));
            self.say(field, Mistake::whole(&source, message, None));
        }
    }

    fn target(&mut self, field: &str, target: &PatchTarget, scope: &Scope) {
        let PatchTarget {
            group,
            version,
            kind,
            id,
            r#where,
        } = target;
        if group.is_none() && version.is_none() && kind.is_none() && id.is_none() && r#where.is_none() {
            self.say(field, "names nothing; give a kind, an id or a condition (where)");
        }
        if let Some(kind) = kind
            && form::is_platform_kind(&format!("{}/", group.as_deref().unwrap_or_default()), kind)
        {
            self.say(
                &format!("{field}.kind"),
                format!("{kind} is the platform's; a trait can neither change nor remove it"),
            );
        }
        if let Some(condition) = r#where {
            let mut scope = scope.clone();
            scope.add("resource", Type::Dyn);
            self.condition(&format!("{field}.where"), condition, &scope);
        }
    }

    fn patch(&mut self, field: &str, patch: &TraitPatch, scope: &Scope) {
        let TraitPatch {
            target,
            for_each,
            var,
            operations,
            merge,
        } = patch;
        if for_each.is_some() != var.is_some() {
            self.say(
                field,
                "forEach and var go together: var names the item that the change sees",
            );
        }
        let mut scope = scope.clone();
        self.loop_over(field, for_each.as_deref(), var.as_deref(), &mut scope);
        self.target(&format!("{field}.target"), target, &scope);
        scope.add("resource", Type::Dyn);
        let schema = target_schema(target);
        for (i, operation) in operations.iter().enumerate() {
            let field = format!("{field}.operations[{i}]");
            self.scalar_text(&format!("{field}.path"), &operation.path, &scope);
            let at = self.pointer(&format!("{field}.path"), &operation.path, schema.as_deref());
            if let Some(from) = &operation.from {
                self.scalar_text(&format!("{field}.from"), from, &scope);
                self.pointer(&format!("{field}.from"), from, schema.as_deref());
            }
            let needs = matches!(operation.op, PatchOp::Add | PatchOp::Replace | PatchOp::Test);
            match &operation.value {
                Some(value) if needs => self.value(&format!("{field}.value"), value, at.as_deref(), &scope),
                Some(_) => self.say(
                    &format!("{field}.value"),
                    "only add, replace and test take a value",
                ),
                None if needs => self.say(&format!("{field}.value"), "required for add, replace and test"),
                None => {}
            }
        }
        if let Some(merge) = merge {
            let field = format!("{field}.merge");
            if merge.get("apiVersion").is_some() || merge.get("kind").is_some() {
                self.say(
                    &field,
                    "apiVersion and kind cannot be changed; say them in target",
                );
            }
            self.owned(&field, merge, target.kind.as_deref().unwrap_or_default());
            for (key, value) in merge.as_object().into_iter().flatten() {
                let below = format!("{field}.{key}");
                match schema.as_deref().map(|s| form::property(s, key)) {
                    None => self.partial(&below, value, None, &scope),
                    Some(Property::Known(schema)) => self.partial(&below, value, schema, &scope),
                    Some(Property::Unknown(close)) => self.say(&below, form::unknown(key, close)),
                }
            }
        }
    }

    /// As [`Checking::value`] for a part of a patch, where nothing is required.
    fn partial(&mut self, field: &str, value: &Value, schema: Option<&Schema>, scope: &Scope) {
        let mut inner = Self::default();
        inner.value(field, value, schema, scope);
        let said = inner.problems.into_iter();
        // List items are merged by their keys, so those are needed; everything else may stay as it is.
        self.problems.extend(
            said.filter(|p| !p.message.ends_with(": required") || p.message.ends_with(".name: required")),
        );
    }

    /// A JSON pointer into an object of a kind; the schema of the place.
    fn pointer(&mut self, field: &str, pointer: &str, schema: Option<&Schema>) -> Option<Box<Schema>> {
        if pointer.starts_with("${") {
            return None;
        }
        if !pointer.starts_with('/') {
            self.say(
                field,
                format!("{pointer:?} is no JSON pointer: it must begin with \"/\""),
            );
            return None;
        }
        let parts: Vec<&str> = pointer.split('/').skip(1).collect();
        if let ["apiVersion" | "kind" | "status", ..] | ["metadata", "name" | "namespace" | "labels"] =
            parts.as_slice()
        {
            self.say(field, format!("{pointer} is the platform's to say"));
            return None;
        }
        let mut at = schema?;
        for part in parts {
            if part.contains("${") {
                return None;
            }
            let name = part.replace("~1", "/").replace("~0", "~");
            at = if at.type_ == Some(JsonType::Array) {
                if name != "-" && name.parse::<usize>().is_err() {
                    self.say(
                        field,
                        format!("{name:?} is no place in a list: give a number, or - for its end"),
                    );
                    return None;
                }
                at.items.as_deref()?
            } else {
                match form::property(at, &name) {
                    Property::Known(next) => next?,
                    Property::Unknown(close) => {
                        self.say(field, form::unknown(&name, close));
                        return None;
                    }
                }
            };
        }
        Some(Box::new(at.clone()))
    }
}

/// The schema of what a patch changes, when its target says the kind.
fn target_schema(target: &PatchTarget) -> Option<Arc<Schema>> {
    let kind = target.kind.as_deref()?;
    let group = target.group.as_deref();
    let version = target.version.as_deref();
    let found = registry::find(group, version, kind)?;
    Some(found.schema())
}

/// Conditions and lists are expressions and no texts; one that is written as `${...}` all the same is understood.
pub(super) fn unwrapped(source: &str) -> &str {
    let trimmed = source.trim();
    if !trimmed.starts_with("${") {
        return source;
    }
    Text::parse(trimmed)
        .ok()
        .and_then(|t| t.whole())
        .unwrap_or(source)
}

/// Whether an expression in a text uses a variable.
fn mentions(text: &str, variable: &str) -> bool {
    let Ok(text) = Text::parse(text) else { return true };
    text.parts.iter().any(|part| match part {
        Part::Literal(_) => false,
        Part::Expression(source) => Program::compile(source, &limits()).is_ok_and(|p| p.uses(variable)),
    })
}

fn below(field: &str, key: &str) -> String {
    if key.contains(['.', '/']) {
        format!("{field}[{key}]")
    } else {
        format!("{field}.{key}")
    }
}

fn dotted(pointer: &str) -> String {
    pointer.replace('/', ".")
}

/// Everything that is wrong with a component type, trait or resource type, given as a whole object; `None` for every other
/// kind, and for objects that are not even of the form of their kind.
pub fn object(object: &Value) -> Option<Problems> {
    match AnyObject::from_value(object).ok()? {
        AnyObject::ComponentType(o) => Some(component_type(&o.spec)),
        AnyObject::Trait(o) => Some(trait_(&o.spec)),
        AnyObject::ResourceType(o) => Some(resource_type(&o.spec)),
        _ => None,
    }
}
