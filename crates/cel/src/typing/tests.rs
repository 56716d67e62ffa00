#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

use super::{Scope, Type, closest};
use crate::{Bindings, EvalErrorKind, Library, Limits, Program};

fn limits() -> Limits {
    Limits {
        library: Library::Templates,
        ..Limits::default()
    }
}

fn parameters() -> Type {
    let port = Type::object([
        ("name", Type::String),
        ("port", Type::Int),
        ("host?", Type::String),
    ]);
    Type::object([
        ("replicas", Type::Int),
        ("image", Type::String),
        ("debug", Type::Bool),
        ("ratio", Type::Double),
        ("cpu?", Type::String),
        ("ports", Type::list(port)),
        ("labels", Type::map(Type::String)),
        ("nested?", Type::object([("deep?", Type::Int)])),
        ("anything", Type::Dyn),
    ])
}

fn scope() -> Scope {
    let mut scope = Scope::new();
    scope.add("parameters", parameters());
    scope.add("metadata", Type::object([("name", Type::String)]));
    scope
}

fn check_in(source: &str, scope: &Scope) -> Result<Type, String> {
    let program = Program::compile(source, &limits()).map_err(|e| super::Mistake::of_compile(&e).render())?;
    let checked = program.check_types(scope);
    if checked.mistakes.is_empty() {
        return Ok(checked.type_);
    }
    let all: Vec<String> = checked.mistakes.iter().map(super::Mistake::render).collect();
    Err(all.join("\n"))
}

fn check(source: &str) -> Result<Type, String> {
    check_in(source, &scope())
}

#[rstest]
#[case("parameters.replicas + 1", "int")]
#[case("has(parameters.cpu) && parameters.cpu != ''", "bool")]
#[case("!has(parameters.cpu) || parameters.cpu != ''", "bool")]
#[case("has(parameters.cpu) ? parameters.cpu : '1'", "string")]
#[case("!has(parameters.cpu) ? '1' : parameters.cpu", "string")]
#[case("'cpu' in parameters ? parameters.cpu : '1'", "string")]
#[case("parameters.?cpu.hasValue() ? parameters.cpu : '1'", "string")]
#[case("parameters.?cpu", "optional(string)")]
#[case("parameters.?cpu.orValue('1')", "string")]
#[case("parameters.?nested.deep.orValue(1)", "int")]
#[case(
    "has(parameters.nested) && has(parameters.nested.deep) && parameters.nested.deep > 1",
    "bool"
)]
#[case("parameters.ports.map(p, p.port)", "list(int)")]
#[case("parameters.ports.map(p, has(p.host), p.host)", "list(string)")]
#[case("parameters.ports.filter(p, p.port > 80)[0].name", "string")]
#[case("parameters.ports.exists(p, has(p.host) && p.host == 'a')", "bool")]
#[case("parameters.labels.transformList(k, v, k + v)", "list(string)")]
#[case("parameters.labels.map(k, k)", "list(string)")]
#[case("{'a': 1}.a", "int")]
#[case("{parameters.image: 1}", "map(int)")]
#[case("merge(parameters.labels, {'a': 'b'})", "map(any)")]
#[case("dnsLabel([metadata.name, parameters.image])", "string")]
#[case("hash(parameters)", "string")]
#[case("parameters.anything.whatever[1] + 'x'", "string")]
#[case("size(parameters.ports) > 0 && parameters.ports[0].port == 80", "bool")]
#[case("quantity('1Gi').isGreaterThan(quantity('1Mi'))", "bool")]
#[case("[parameters.image] + []", "list(string)")]
#[case("parameters.replicas == 1.0", "bool")]
#[case("cel.bind(x, parameters.replicas, x * x)", "int")]
#[case("parameters.?cpu.optMap(c, size(c))", "optional(int)")]
#[case("parameters.ports.sortBy(p, p.port).map(p, p.name)", "list(string)")]
#[case("string(parameters.ratio) + parameters.image.split('/')[0]", "string")]
fn types(#[case] source: &str, #[case] expected: &str) {
    assert_eq!(check(source).map(|t| t.to_string()), Ok(expected.to_owned()));
}

#[rstest]
#[case(
    "parameters.replica + 1",
    "
no field \"replica\"
    parameters.replica + 1
               ^ did you mean \"replicas\"?"
)]
#[case(
    "paramters.image",
    "
no variable \"paramters\"
    paramters.image
    ^ did you mean \"parameters\"?"
)]
#[case(
    "image.size()",
    "
no variable \"image\"
    image.size()
    ^ there is metadata, parameters"
)]
#[case(
    "1 + parameters.image",
    "
int + string is not possible
    1 + parameters.image
      ^ convert with string(...)"
)]
#[case(
    "parameters.ratio + 1",
    "
double + int is not possible
    parameters.ratio + 1
                     ^ convert with double(...) or int(...)"
)]
#[case(
    "parameters.cpu",
    "
\"cpu\" may be absent
    parameters.cpu
               ^ ask has(parameters.cpu) first, write parameters.?cpu.orValue(...), or give it a default"
)]
#[case(
    "parameters.cpu != '' && has(parameters.cpu)",
    "
\"cpu\" may be absent
    parameters.cpu != '' && has(parameters.cpu)
               ^ ask has(parameters.cpu) first, write parameters.?cpu.orValue(...), or give it a default"
)]
#[case("parameters.nested.deep", "
\"nested\" may be absent
    parameters.nested.deep
               ^ ask has(parameters.nested) first, write parameters.?nested.orValue(...), or give it a default
\"deep\" may be absent
    parameters.nested.deep
                      ^ ask has(parameters.nested.deep) first, write parameters.nested.?deep.orValue(...), or give it a default")]
#[case(
    "parameters.ports.map(p, p.prot)",
    "
no field \"prot\"
    parameters.ports.map(p, p.prot)
                              ^ did you mean \"port\"?"
)]
#[case(
    "parameters.ports.map(p, p.host)",
    "
\"host\" may be absent
    parameters.ports.map(p, p.host)
                              ^ ask has() first, or write .?host.orValue(...)"
)]
#[case(
    "sizze(parameters.image)",
    "
no function \"sizze\"
    sizze(parameters.image)
    ^ did you mean \"size\"?"
)]
#[case(
    "parameters.image.contain('x')",
    "
no function \"contain\"
    parameters.image.contain('x')
                     ^ did you mean \"contains\"?"
)]
#[case(
    "lowerAscii(parameters.image)",
    "
no function \"lowerAscii\"
    lowerAscii(parameters.image)
    ^ it is called on a value, as x.lowerAscii(...)"
)]
#[case(
    "parameters.labels.merge({})",
    "
no function \"merge\"
    parameters.labels.merge({})
                      ^ it is called as merge(...)"
)]
#[case(
    "parameters.image.contains(1)",
    "
string.contains(int) is not possible
    parameters.image.contains(1)
                     ^ it is string.contains(string)"
)]
#[case(
    "size(parameters.replicas)",
    "
size(int) is not possible
    size(parameters.replicas)
    ^ it is size(string), size(bytes), size(list), size(map)"
)]
#[case(
    "parameters.image ? 1 : 2",
    "
? takes a bool, this is a string
    parameters.image ? 1 : 2
    ^ compare it, as in x != \"\""
)]
#[case(
    "!parameters.replicas",
    "
! takes a bool, this is an int
    !parameters.replicas
     ^ compare it, as in x > 0"
)]
#[case(
    "parameters.debug && parameters.ports",
    "
&& takes a bool, this is a list(object)
    parameters.debug && parameters.ports
                        ^ compare its size, as in size(x) > 0"
)]
#[case(
    "parameters.debug ? 1 : 'x'",
    "
the two results have different types: int and string
    parameters.debug ? 1 : 'x'
                     ^ convert with string(...)"
)]
#[case(
    "(parameters.debug ? parameters.replicas : 1.5) + 1.5",
    "
the two results have different types: int and double
    (parameters.debug ? parameters.replicas : 1.5) + 1.5
                      ^ convert with double(...) or int(...)"
)]
#[case(
    "metadata.name.size",
    "
a string has no fields
    metadata.name.size
                  ^"
)]
#[case(
    "parameters.ports.name",
    "
a list(object) has no fields
    parameters.ports.name
                     ^ take an item with [0], or all with .map(x, x.name)"
)]
#[case(
    "parameters['imag']",
    "
no field \"imag\"
    parameters['imag']
               ^ did you mean \"image\"?"
)]
#[case(
    "parameters.labels[1]",
    "
a map is indexed by a text, this is an int
    parameters.labels[1]
                      ^"
)]
#[case(
    "parameters.ports['a']",
    "
a list is indexed by a number, this is a string
    parameters.ports['a']
                     ^"
)]
#[case(
    "has(parameters.cpux)",
    "
no field \"cpux\"
    has(parameters.cpux)
                   ^ did you mean \"cpu\"?"
)]
#[case(
    "[1, 2].exists(x, x)",
    "
the condition takes a bool, this is an int
    [1, 2].exists(x, x)
                     ^ compare it, as in x > 0"
)]
#[case(
    "parameters.replicas.map(x, x)",
    "
an int has no items to go through
    parameters.replicas.map(x, x)
                           ^"
)]
#[case(
    "parameters.image == null",
    "
string == null is not possible
    parameters.image == null
                     ^ a field that is not there is not null: ask has()"
)]
#[case(
    "parameters.?cpu == '1'",
    "
optional(string) == string is not possible
    parameters.?cpu == '1'
                    ^ take what the optional holds with .orValue(...)"
)]
#[case(
    "parameters.replicas in ['a']",
    "
int in list(string) is not possible
    parameters.replicas in ['a']
                        ^"
)]
#[case(
    "parameters.image\n  + 1",
    "
string + int is not possible
      + 1
      ^ convert with string(...)"
)]
#[case(
    "1 +",
    "
syntax error: the expression ends too early
    1 +
       ^"
)]
#[case(
    "1 2",
    "
syntax error: extraneous input '2'
    1 2
      ^"
)]
fn mistakes(#[case] source: &str, #[case] expected: &str) {
    assert_eq!(check(source), Err(expected.trim_start_matches('\n').to_owned()));
}

#[test]
fn what_a_condition_said_is_known_afterwards() {
    let condition = Program::compile("has(parameters.cpu) && parameters.debug", &limits()).unwrap();
    let mut scope = scope();
    assert!(check_in("parameters.cpu", &scope).is_err());
    scope.assume(&condition);
    assert_eq!(check_in("parameters.cpu", &scope), Ok(Type::String));
    // One of two possibilities says nothing of either.
    let either = Program::compile("has(parameters.cpu) || parameters.debug", &limits()).unwrap();
    let mut scope = super::tests::scope();
    scope.assume(&either);
    assert!(check_in("parameters.cpu", &scope).is_err());
}

#[test]
fn rules_of_kubernetes_know_no_functions_of_templates() {
    let error = Program::compile("hash('x') == ''", &Limits::default()).unwrap_err();
    assert_eq!(error.message, "undeclared reference to 'hash' (in container '')");
    // Whichever was compiled first.
    assert!(Program::compile("hash('x') == ''", &limits()).is_ok());
    assert!(Program::compile("hash('x') == ''", &Limits::default()).is_err());
}

#[test]
fn the_nearest_name() {
    let names = ["replicas", "image", "ports"];
    assert_eq!(closest("replica", names), Some("replicas"));
    assert_eq!(closest("iamge", names), Some("image"));
    assert_eq!(closest("IMAGE", names), Some("image"));
    assert_eq!(closest("x", names), None);
}

#[rstest]
#[case("merge({'a': {'b': 1, 'c': 2}, 'd': 1}, {'a': {'c': 3}, 'd': 'x'})", json!({"a": {"b": 1, "c": 3}, "d": "x"}))]
#[case("dnsLabel(['web', 'db'])", json!("web-db"))]
// SHA-256 of "Web\0a/b" begins with these digits: a text that had to be changed is told apart from its neighbours.
#[case("dnsLabel(['Web', 'a/b'])", json!("web-a-b-8213d59c"))]
#[case("dnsLabel(['']) != dnsLabel(['', ''])", json!(true))]
#[case("size(dnsLabel(['a'.replace('a', 'abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz'), 'abcdefghijklmnop']))", json!(63))]
#[case("toJson({'b': 1, 'a': [true, 'x']})", json!(r#"{"a":[true,"x"],"b":1}"#))]
// The first digits of the SHA-256 of the JSON text "x" in its quotes.
#[case("hash('x')", json!("ba2df490"))]
#[case("hash({'a': 1, 'b': 2}) == hash({'b': 2, 'a': 1})", json!(true))]
fn template_functions(#[case] source: &str, #[case] expected: serde_json::Value) {
    let program = Program::compile(source, &limits()).unwrap();
    assert_eq!(program.eval(&Bindings::new(), &limits()).unwrap(), expected);
}

#[test]
fn a_small_text_cannot_make_a_large_value() {
    // Each step holds the last one ten times over; written out it would be a million items.
    let mut source = "[0]".to_owned();
    for i in 0..6 {
        let ten = vec![format!("v{i}"); 10].join(",");
        source = format!("cel.bind(v{i}, {source}, [{ten}])");
    }
    let program = Program::compile(&source, &limits()).unwrap();
    let (error, _) = program.eval_within(&Bindings::new(), 100_000).unwrap_err();
    assert_eq!(error.kind, EvalErrorKind::CostLimit);
}

/// Expressions, sound and unsound, over the variables of [`scope`].
fn expressions() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "parameters.replicas",
        "parameters.image",
        "parameters.debug",
        "parameters.ratio",
        "parameters.cpu",
        "parameters.?cpu",
        "parameters.ports",
        "parameters.labels",
        "parameters.ports[0].port",
        "has(parameters.cpu)",
        "metadata.name",
        "1",
        "1.5",
        "'x'",
        "true",
        "[]",
        "['a', 'b']",
        "{'k': 1}",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(4, 24, 3, |inner| {
        let operators = vec!["+", "-", "*", "==", "!=", "<", ">=", "&&", "||", "in"];
        let functions = vec!["size", "string", "hash", "toJson", "int", "double", "!", "-"];
        let members = vec![
            "size()",
            "map(i, i)",
            "filter(i, i == i)",
            "contains('x')",
            "join(',')",
            "exists(i, i == 'a')",
            "orValue('y')",
            "first()",
            "reverse()",
        ];
        prop_oneof![
            (inner.clone(), prop::sample::select(operators), inner.clone())
                .prop_map(|(a, o, b)| format!("({a} {o} {b})")),
            (prop::sample::select(functions), inner.clone()).prop_map(|(f, a)| format!("{f}({a})")),
            (inner.clone(), prop::sample::select(members)).prop_map(|(a, m)| format!("({a}).{m}")),
            (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// What passed the check does not fail for its types, whether or not optional fields are there.
    #[test]
    fn checked_expressions_have_no_type_errors(source in expressions(), cpu in any::<bool>()) {
        let Ok(program) = Program::compile(&source, &limits()) else { return Ok(()) };
        let checked = program.check_types(&scope());
        if !checked.mistakes.is_empty() || mentions_any(&source) {
            return Ok(());
        }
        let mut value = json!({
            "replicas": 2, "image": "a", "debug": true, "ratio": 1, "labels": {"a": "b"}, "anything": null,
            "ports": [{"name": "http", "port": 80}],
        });
        if cpu {
            value["cpu"] = json!("100m");
        }
        let (type_, metadata) = (parameters(), json!({"name": "web"}));
        let mut bindings = Bindings::new();
        bindings.bind_shaped("parameters", &value, &type_).bind("metadata", &metadata);
        if let Err(error) = program.eval(&bindings, &limits()) {
            prop_assert!(error.kind != EvalErrorKind::NoSuchOverload, "{source}: {error}");
            prop_assert!(!error.message.contains("no such key"), "{source}: {error}");
        }
    }
}

/// Whether something in it is of any type, so that its check says nothing: the empty list is a list of anything.
fn mentions_any(source: &str) -> bool {
    source.contains("[]") || source.contains("{'k'")
}
