//! What expressions of admission policies and webhooks are checked against, and what is told of those of a
//! ValidatingAdmissionPolicy once it is stored: there, unlike in a write, the kinds that it is for are known.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use choreo_cel::shape::{Kind, ListSemantics, Shape};
use choreo_cel::typing::Type;
use choreo_cel::{CompileError, Library, Limits, Program, Typed, Variable, render_all};
use serde_json::{Value, json};

use crate::registry::{Registry, ResourceInfo};
use crate::schema::Schema;

/// So many kinds of one rule are looked at.
const MOST_KINDS: usize = 10;

/// What `request` has.
static REQUEST: LazyLock<Type> = LazyLock::new(|| {
    let words = |names: &[&'static str]| Type::object(names.iter().map(|name| (*name, Type::String)));
    let (kind, resource) = (
        words(&["group", "version", "kind"]),
        words(&["group", "version", "resource"]),
    );
    let texts = Type::list(Type::String);
    let user = Type::object([
        ("username", Type::String),
        ("uid", Type::String),
        ("groups", texts.clone()),
        ("extra", Type::map(texts)),
    ]);
    Type::object([
        ("kind", kind.clone()),
        ("resource", resource.clone()),
        ("subResource", Type::String),
        ("requestKind", kind),
        ("requestResource", resource),
        ("requestSubResource", Type::String),
        ("name", Type::String),
        ("namespace", Type::String),
        ("operation", Type::String),
        ("userInfo", user),
        ("dryRun", Type::Bool),
        ("options", Type::Dyn),
    ])
});

/// What `namespaceObject` has.
static NAMESPACE: LazyLock<Type> = LazyLock::new(|| {
    let texts = || Type::list(Type::String);
    let condition = Type::object([
        ("type", Type::String),
        ("status", Type::String),
        ("reason", Type::String),
        ("message", Type::String),
        ("lastTransitionTime", Type::Timestamp),
    ]);
    let metadata = Type::object([
        ("name", Type::String),
        ("generateName", Type::String),
        ("namespace", Type::String),
        ("labels", Type::map(Type::String)),
        ("annotations", Type::map(Type::String)),
        // In capitals, unlike in the object: a name of kube-apiserver's.
        ("UID", Type::String),
        ("creationTimestamp", Type::Timestamp),
        ("deletionTimestamp", Type::Timestamp),
        ("deletionGracePeriodSeconds", Type::Int),
        ("generation", Type::Int),
        ("resourceVersion", Type::String),
        ("finalizers", texts()),
    ]);
    Type::object([
        ("metadata", metadata),
        ("spec", Type::object([("finalizers", texts())])),
        (
            "status",
            Type::object([("phase", Type::String), ("conditions", Type::list(condition))]),
        ),
    ])
});

/// What is known of the variables of an expression.
#[derive(Clone, Copy)]
pub(super) struct Scope<'s> {
    /// The shape of `object` and `oldObject`, if they are of one kind.
    pub(super) object: Option<&'s dyn Shape>,
    /// Whether there are `params`, and their shape if that is known.
    pub(super) params: Option<Option<&'s dyn Shape>>,
    /// What `variables` has, if there are any.
    pub(super) computed: Option<&'s dyn Shape>,
}

impl<'s> Scope<'s> {
    /// Compiles an expression and checks it.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(super) fn check(&self, source: &str) -> Result<Typed<'s>, Vec<CompileError>> {
        let limits = Limits {
            length: 16 << 10,
            library: Library::Admission,
            ..Limits::default()
        };
        let of = |name, shape| Variable {
            name,
            shape,
            optional: false,
        };
        let mut variables: Vec<Variable<'s>> = vec![
            of("object", self.object),
            of("oldObject", self.object),
            of("request", Some(&*REQUEST)),
            of("namespaceObject", Some(&*NAMESPACE)),
            of("authorizer", None),
        ];
        variables.extend(self.params.map(|params| of("params", params)));
        variables.extend(self.computed.map(|computed| of("variables", Some(computed))));
        let program = Program::compile(source, &limits).map_err(|error| vec![error])?;
        program.check_all(&variables)
    }
}

/// An object as a whole: every kind has the metadata of all, whatever its schema says of them.
struct Whole {
    schema: Arc<Schema>,
    /// A schema that says them.
    common: Arc<Schema>,
}

impl Whole {
    fn of(registry: &Registry, info: &ResourceInfo) -> Option<Whole> {
        let common = registry.lookup("", "v1", "configmaps")?;
        Some(Whole {
            schema: info.schema(),
            common: common.schema(),
        })
    }
}

impl Shape for Whole {
    fn kind(&self) -> Kind {
        Kind::Object
    }

    fn field(&self, name: &str) -> Option<&dyn Shape> {
        let is_common = matches!(name, "apiVersion" | "kind" | "metadata");
        let schema = if is_common { &self.common } else { &self.schema };
        schema.properties.get(name).map(|field| &**field as &dyn Shape)
    }

    fn element(&self) -> Option<&dyn Shape> {
        None
    }
}

/// The value of a policy's variable.
struct Known<'s> {
    result: &'static str,
    shape: Option<&'s dyn Shape>,
}

impl Shape for Known<'_> {
    fn kind(&self) -> Kind {
        match (self.result, self.shape) {
            // What may be absent is not of the shape that it has if it is not.
            ("optional_type", _) => Kind::Dyn,
            (_, Some(shape)) => shape.kind(),
            ("bool", None) => Kind::Bool,
            ("int", None) => Kind::Int,
            ("double", None) => Kind::Double,
            ("string", None) => Kind::String,
            ("bytes", None) => Kind::Bytes,
            ("list", None) => Kind::List,
            _ => Kind::Dyn,
        }
    }

    fn field(&self, name: &str) -> Option<&dyn Shape> {
        self.shape?.field(name)
    }

    fn element(&self) -> Option<&dyn Shape> {
        self.shape?.element()
    }

    fn is_closed(&self) -> bool {
        self.kind() == Kind::Object && self.shape.is_some_and(Shape::is_closed)
    }

    fn list_semantics(&self) -> ListSemantics<'_> {
        self.shape.map_or(ListSemantics::Atomic, Shape::list_semantics)
    }
}

/// The variables of a policy so far, the last one first.
struct Computed<'s> {
    name: &'s str,
    value: Known<'s>,
    before: Option<&'s Computed<'s>>,
}

impl Shape for Computed<'_> {
    fn kind(&self) -> Kind {
        Kind::Object
    }

    fn field(&self, name: &str) -> Option<&dyn Shape> {
        if name == self.name {
            return Some(&self.value);
        }
        self.before?.field(name)
    }

    fn element(&self) -> Option<&dyn Shape> {
        None
    }
}

/// Finds out of which types variables are, and goes on with that. Those with mistakes may be anything: they are not told of.
fn with_variables(
    variables: &[Value],
    scope: Scope<'_>,
    computed: Option<&Computed<'_>>,
    then: &mut dyn FnMut(Scope<'_>),
) {
    let scope = Scope {
        computed: computed.map(|computed| computed as &dyn Shape),
        ..scope
    };
    let Some((variable, rest)) = variables.split_first() else {
        return then(scope);
    };
    let checked = scope.check(text(variable, "expression"));
    let (result, shape) = checked.map_or(("", None), |typed| (typed.result, typed.shape));
    let next = Computed {
        name: text(variable, "name"),
        value: Known { result, shape },
        before: computed,
    };
    with_variables(rest, scope, Some(&next), then);
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn list<'v>(value: &'v Value, field: &str) -> &'v [Value] {
    value
        .get(field)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn texts<'v>(value: &'v Value, field: &str) -> BTreeSet<&'v str> {
    list(value, field).iter().filter_map(Value::as_str).collect()
}

/// The kinds that a policy names, by group, version and kind. Rules with wildcards name none.
fn kinds(registry: &Registry, spec: &Value) -> Vec<Arc<ResourceInfo>> {
    let mut kinds = BTreeMap::new();
    for rule in list(&spec["matchConstraints"], "resourceRules") {
        let (groups, versions) = (texts(rule, "apiGroups"), texts(rule, "apiVersions"));
        if groups.iter().chain(&versions).any(|name| name.contains('*')) {
            continue;
        }
        let mut resources = texts(rule, "resources");
        resources.retain(|name| !name.contains(['*', '/']));
        let (versions, resources) = (&versions, &resources);
        let named = groups.iter().flat_map(|group| {
            let of = move |version| resources.iter().map(move |plural| (*group, version, *plural));
            versions.iter().copied().flat_map(of)
        });
        let found = named.filter_map(|(group, version, plural)| registry.lookup(group, version, plural));
        let mut count = 0;
        for info in found.take(MOST_KINDS) {
            let key = (info.group.clone(), info.version.clone(), info.kind.clone());
            kinds.insert(key, info.clone());
            count += 1;
        }
        if count == MOST_KINDS {
            break;
        }
    }
    kinds.into_values().collect()
}

/// What is probably wrong with the expressions of a ValidatingAdmissionPolicy, given the kinds that it is for: the value of
/// `status.typeChecking.expressionWarnings`. An expression that is wrong for one kind may be right for another.
#[must_use]
pub fn expression_warnings(registry: &Registry, policy: &Value) -> Vec<Value> {
    let spec = &policy["spec"];
    let mut expressions = Vec::new();
    for (index, validation) in list(spec, "validations").iter().enumerate() {
        for field in ["expression", "messageExpression"] {
            let source = text(validation, field);
            if field == "expression" || !source.is_empty() {
                expressions.push((format!("spec.validations[{index}].{field}"), source, Vec::new()));
            }
        }
    }
    let param_kind = spec.get("paramKind").filter(|kind| kind.is_object());
    let params = param_kind.and_then(|kind| {
        let info = registry.by_api_version(text(kind, "apiVersion"), text(kind, "kind"))?;
        Whole::of(registry, info)
    });
    for info in kinds(registry, spec) {
        let Some(object) = Whole::of(registry, &info) else {
            continue;
        };
        let scope = Scope {
            object: Some(&object),
            params: param_kind.map(|_| params.as_ref().map(|params| params as &dyn Shape)),
            computed: None,
        };
        with_variables(list(spec, "variables"), scope, None, &mut |scope| {
            for (_, source, told) in &mut expressions {
                if let Err(errors) = scope.check(source) {
                    let ResourceInfo {
                        group, version, kind, ..
                    } = &*info;
                    told.push(format!(
                        "{group}/{version}, Kind={kind}: {}\n",
                        render_all(&errors)
                    ));
                }
            }
        });
    }
    let told = expressions.into_iter().filter(|(_, _, told)| !told.is_empty());
    told.map(|(field, _, told)| json!({"fieldRef": field, "warning": told.join("\n")}))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A policy for Deployments with some expressions.
    fn policy(expressions: &[&str]) -> Value {
        let validations: Vec<Value> = expressions.iter().map(|e| json!({"expression": e})).collect();
        let rule = json!({"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]});
        json!({"spec": {"matchConstraints": {"resourceRules": [rule]}, "validations": validations}})
    }

    /// Of each expression that is warned of, its number and the messages, each with its column.
    fn warned(policy: &Value) -> Vec<(String, Vec<String>)> {
        let warnings = expression_warnings(&Registry::builtin(), policy);
        let message = |line: &str| {
            let at = line.find("<input>:1:")?;
            Some(line[at + 10..].to_owned())
        };
        let read = |warning: &Value| {
            let lines = warning["warning"].as_str()?.lines().filter_map(message);
            let field = warning["fieldRef"].as_str()?.strip_prefix("spec.validations")?;
            Some((field.to_owned(), lines.collect()))
        };
        warnings.iter().filter_map(read).collect()
    }

    #[test]
    fn what_is_right_is_not_warned_of() {
        let right = policy(&[
            "object.spec.replicas <= 5 && oldObject.spec.replicas > 1",
            "has(object.metadata.labels) && 'a' in object.metadata.labels && object.metadata.uid != ''",
            "object.kind == 'Deployment' && object.metadata.ownerReferences.all(o, o.controller)",
            "object.spec.strategy.rollingUpdate.maxSurge == 1",
            "object.spec.template.spec.containers.all(c, dyn(c).resources.limits['cpu'] == '1')",
            "request.operation == 'CREATE' && request.userInfo.groups.exists(g, g == 'a') && request.options.dryRun",
            "namespaceObject.metadata.labels['a'] == 'b' && namespaceObject.status.phase == 'Active'",
            "authorizer.group('').resource('pods').check('get').allowed()",
        ]);
        assert_eq!(
            expression_warnings(&Registry::builtin(), &right),
            Vec::<Value>::new()
        );
    }

    #[test]
    fn the_whole_text_is_that_of_kube_controller_manager() {
        let mut wrong = policy(&["object.spec.replica > 1 || object.spec.nope == 2"]);
        wrong["spec"]["validations"][0]["messageExpression"] = "'x' + object.spec.nope".into();
        let first = "apps/v1, Kind=Deployment: ERROR: <input>:1:12: undefined field 'replica'\n | object.spec.replica > 1 || \
                     object.spec.nope == 2\n | ...........^\nERROR: <input>:1:39: undefined field 'nope'\n | object.spec.replica > 1 || \
                     object.spec.nope == 2\n | ......................................^\n";
        let second = "apps/v1, Kind=Deployment: ERROR: <input>:1:18: undefined field 'nope'\n | 'x' + object.spec.nope\n | \
                      .................^\n";
        assert_eq!(
            expression_warnings(&Registry::builtin(), &wrong),
            [
                json!({"fieldRef": "spec.validations[0].expression", "warning": first}),
                json!({"fieldRef": "spec.validations[0].messageExpression", "warning": second}),
            ]
        );
    }

    #[test]
    fn each_mistake_is_told() {
        let overload = |what: &str, types: &str| {
            format!("found no matching overload for '{what}' applied to '({types})'")
        };
        let expected: Vec<(&str, Vec<String>)> = vec![
            ("object.foo > 1", vec!["7: undefined field 'foo'".to_owned()]),
            (
                "object.spec.replicas == 'x'",
                vec![format!("22: {}", overload("_==_", "int, string"))],
            ),
            (
                "object.metadata.name > 3",
                vec![format!("22: {}", overload("_>_", "string, int"))],
            ),
            (
                "object.metadata.creationTimestamp == 'x'",
                vec![format!("35: {}", overload("_==_", "timestamp, string"))],
            ),
            (
                "request.nope == 'x' && request.userInfo.nope == 'x'",
                vec![
                    "8: undefined field 'nope'".to_owned(),
                    "40: undefined field 'nope'".to_owned(),
                ],
            ),
            (
                "namespaceObject.metadata.foo == 'x'",
                vec!["25: undefined field 'foo'".to_owned()],
            ),
            (
                "oldObject.foo == object.foo",
                vec![
                    "10: undefined field 'foo'".to_owned(),
                    "24: undefined field 'foo'".to_owned(),
                ],
            ),
            (
                "object.spec.template.spec.containers.exists(c, c.image == 1)",
                vec![format!("56: {}", overload("_==_", "string, int"))],
            ),
            (
                "object.spec.replicas && true",
                vec!["12: expected type 'bool' but found 'int'".to_owned()],
            ),
            (
                "object.spec.replicas ? true : false",
                vec![format!("22: {}", overload("_?_:_", "int, bool, bool"))],
            ),
            (
                "has(object.spec.nope)",
                vec!["4: undefined field 'nope'".to_owned()],
            ),
            // Schemas do not say of which type quantities are, and so neither side knows fields with them.
            (
                "object.spec.template.spec.containers.all(c, c.resources.limits['cpu'] == '1')",
                vec!["56: undefined field 'limits'".to_owned()],
            ),
            (
                "params.x == 1",
                vec!["1: undeclared reference to 'params' (in container '')".to_owned()],
            ),
        ];
        let sources: Vec<&str> = expected.iter().map(|(source, _)| *source).collect();
        let expected: Vec<(String, Vec<String>)> = expected
            .into_iter()
            .enumerate()
            .map(|(index, (_, told))| (format!("[{index}].expression"), told))
            .collect();
        assert_eq!(warned(&policy(&sources)), expected);
    }

    #[test]
    fn variables_have_the_types_of_their_expressions() {
        let mut policy = policy(&[
            "variables.count == 'x'",
            "variables.labels['k'] == 1",
            "variables.all.exists(c, c.nope)",
            "variables.twice == 'x'",
            "variables.none",
            // A mistake in a variable is not told, and it may then be anything.
            "variables.wrong == 1",
        ]);
        policy["spec"]["variables"] = json!([
            {"name": "count", "expression": "object.spec.replicas"},
            {"name": "labels", "expression": "object.metadata.labels"},
            {"name": "all", "expression": "object.spec.template.spec.containers"},
            {"name": "twice", "expression": "variables.count * 2"},
            {"name": "wrong", "expression": "object.spec.nope"},
        ]);
        let told = |text: &str| vec![text.to_owned()];
        assert_eq!(
            warned(&policy),
            [
                (
                    "[0].expression".to_owned(),
                    told("17: found no matching overload for '_==_' applied to '(int, string)'")
                ),
                (
                    "[1].expression".to_owned(),
                    told("23: found no matching overload for '_==_' applied to '(string, int)'")
                ),
                ("[2].expression".to_owned(), told("26: undefined field 'nope'")),
                (
                    "[3].expression".to_owned(),
                    told("17: found no matching overload for '_==_' applied to '(int, string)'")
                ),
                ("[4].expression".to_owned(), told("10: undefined field 'none'")),
            ]
        );
    }

    #[test]
    fn parameters_are_of_their_kind_if_that_is_known() {
        let mut policy = policy(&["params.data['x'] == 1", "params.nope == 'x'"]);
        policy["spec"]["paramKind"] = json!({"apiVersion": "v1", "kind": "ConfigMap"});
        assert_eq!(warned(&policy).len(), 2);
        policy["spec"]["paramKind"] = json!({"apiVersion": "example.dev/v1", "kind": "Unknown"});
        assert_eq!(warned(&policy), []);
    }

    #[test]
    fn kinds_are_those_that_are_named() {
        let registry = Registry::builtin();
        let named = |rules: Value| {
            let spec = json!({"matchConstraints": {"resourceRules": rules}});
            let kinds = kinds(&registry, &spec);
            kinds
                .iter()
                .map(|info| info.kind.clone())
                .collect::<Vec<_>>()
                .join(" ")
        };
        let rule = |group: &str, version: &str, resources: &[&str]| json!({"apiGroups": [group], "apiVersions": [version], "resources": resources});
        assert_eq!(
            named(json!([
                rule("apps", "v1", &["deployments", "deployments/scale", "*"]),
                rule("", "v1", &["pods", "nothing"])
            ])),
            "Pod Deployment"
        );
        assert_eq!(
            named(json!([
                rule("apps", "*", &["deployments"]),
                rule("*", "v1", &["pods"])
            ])),
            ""
        );
        let many = [
            "configmaps",
            "endpoints",
            "events",
            "limitranges",
            "namespaces",
            "nodes",
            "pods",
            "podtemplates",
            "secrets",
            "services",
            "serviceaccounts",
        ];
        // The rule that has the most ends it.
        let found = named(json!([
            rule("", "v1", &many),
            rule("apps", "v1", &["deployments"])
        ]));
        assert_eq!(found.split(' ').count(), MOST_KINDS);
    }
}
