#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::needless_pass_by_value
)]

use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value as Json, json};

use crate::shape::{Kind, ListSemantics, Shape};
use crate::{Bindings, CompileError, EvalErrorKind, Limits, Program, Variable, render_all};

fn object() -> Json {
    json!({
        "name": "web", "replicas": 3, "ratio": 0.5, "on": true, "none": null,
        "ports": [{"name": "http", "port": 80}, {"name": "https", "port": 443}],
        "labels": {"app": "web", "tier": "front"}, "namespace": "ns", "a-b": 1, "numbers": [3, 1, 2],
        "words": ["b", "a", "c"], "empty": [], "big": u64::MAX,
    })
}

fn eval(source: &str) -> Result<Json, String> {
    let program = Program::compile(source, &Limits::default()).map_err(|e| e.to_string())?;
    let object = object();
    let old = json!({"replicas": 2});
    let mut bindings = Bindings::new();
    bindings.bind("self", &object).bind("oldSelf", &old);
    program.eval(&bindings, &Limits::default()).map_err(|e| e.message)
}

#[rstest]
// Operators and literals
#[case("1 + 2 * 3", json!(7))]
#[case("7 / 2", json!(3))]
#[case("7 % 3", json!(1))]
#[case("7.0 / 2.0", json!(3.5))]
#[case("-self.replicas", json!(-3))]
#[case("'a' + 'b'", json!("ab"))]
#[case("[1] + [2]", json!([1, 2]))]
#[case("1 < 2 && 2.5 >= 2 && 'a' < 'b'", json!(true))]
#[case("1 == 1.0 && 1u == 1", json!(true))]
#[case("self.name == 'web' ? 'y' : 'n'", json!("y"))]
#[case("2 in self.numbers && !('x' in self.labels)", json!(true))]
#[case("'app' in self.labels", json!(true))]
#[case("self.labels['app'] == self.labels.app", json!(true))]
#[case("self.ports[1].name", json!("https"))]
#[case("r'a\\d' == 'a\\\\d'", json!(true))]
#[case("{'a': 1}.a + {1: 2}[1]", json!(3))]
#[case("b'ab' == bytes('ab')", json!(true))]
#[case("type(1) == int && type('') == string && type([]) == list", json!(true))]
#[case("null == self.none", json!(true))]
#[case("self.__namespace__ + string(self.a__dash__b)", json!("ns1"))]
// Errors that do not matter
#[case("self.missing == 1 || true", json!(true))]
#[case("false && 1 / 0 == 1", json!(false))]
#[case("1 / 0 == 1 || self.on", json!(true))]
#[case("[0, 1].exists(x, 1 / x == 1)", json!(true))]
#[case("[0, 2].all(x, 1 / x == 1)", json!(false))]
// Macros
#[case("has(self.name) && !has(self.missing)", json!(true))]
#[case("self.ports.all(p, p.port > 0)", json!(true))]
#[case("self.ports.exists(p, p.name == 'http')", json!(true))]
#[case("self.ports.exists_one(p, p.port == 80)", json!(true))]
#[case("self.numbers.map(n, n * 2)", json!([6, 2, 4]))]
#[case("self.numbers.map(n, n > 1, n * 2)", json!([6, 4]))]
#[case("self.numbers.filter(n, n > 1)", json!([3, 2]))]
#[case("self.labels.all(k, k.size() > 2)", json!(true))]
#[case("self.labels.map(k, self.labels[k])", json!(["web", "front"]))]
#[case("self.ports.all(p, self.ports.exists_one(q, p.name == q.name))", json!(true))]
#[case("self.numbers.all(i, n, n >= i || i == 1)", json!(true))]
#[case("self.labels.transformMap(k, v, k + v)", json!({"app": "appweb", "tier": "tierfront"}))]
#[case("self.numbers.transformList(i, n, i * n)", json!([0, 1, 4]))]
#[case("cel.bind(x, self.replicas, x * x)", json!(9))]
#[case("[1, 2].map(x, [x].map(x, x + 10)[0])", json!([11, 12]))]
// Strings
#[case("'hello'.size() + size('äö')", json!(7))]
#[case("'a,b,c'.split(',')", json!(["a", "b", "c"]))]
#[case("'a,b,c'.split(',', 2)", json!(["a", "b,c"]))]
#[case("'abc'.split('')", json!(["a", "b", "c"]))]
#[case("['a', 'b'].join('-')", json!("a-b"))]
#[case("'hello'.substring(1, 3)", json!("el"))]
#[case("'tacocat'.substring(4)", json!("cat"))]
#[case("'hello'.charAt(1)", json!("e"))]
#[case("'hello mellow'.indexOf('ello', 2)", json!(7))]
#[case("'hello mellow'.lastIndexOf('ello')", json!(7))]
#[case("'hello mellow'.lastIndexOf('ello', 6)", json!(1))]
#[case("'hello hello'.replace('he', 'we', 1)", json!("wello hello"))]
#[case("' a '.trim() + 'AbC'.lowerAscii() + 'x'.upperAscii()", json!("aabcX"))]
#[case("'abc'.startsWith('a') && 'abc'.endsWith('c') && 'abc'.contains('b')", json!(true))]
#[case("'abc123'.matches('^[a-c]+[0-9]+$')", json!(true))]
#[case("'abc 123'.find('[0-9]+')", json!("123"))]
#[case("'123 abc 456'.findAll('[0-9]+')", json!(["123", "456"]))]
#[case("'123 abc 456'.findAll('[0-9]+', 1)", json!(["123"]))]
#[case("'%s has %d, %.2f, %x, %s'.format(['x', 3, 1.5, 255, [1, 'a']])", json!("x has 3, 1.50, ff, [1, \"a\"]"))]
#[case("strings.quote('a\\n')", json!("\"a\\n\""))]
// Lists and sets
#[case("self.numbers.sum() + self.numbers.max() - self.numbers.min()", json!(8))]
#[case("self.numbers.isSorted() || [1, 2].isSorted()", json!(true))]
#[case("self.words.indexOf('a') + self.words.lastIndexOf('z')", json!(0))]
#[case("self.numbers.sort()", json!([1, 2, 3]))]
#[case("self.ports.sortBy(p, -p.port)[0].name", json!("https"))]
#[case("[1, 2, 2].distinct() == [1, 2]", json!(true))]
#[case("[[1], [2, [3]]].flatten()", json!([1, 2, [3]]))]
#[case("[1, 2, 3].slice(1, 3)", json!([2, 3]))]
#[case("[1, 2].reverse() + lists.range(2)", json!([2, 1, 0, 1]))]
#[case("sets.contains([1, 2, 3], [3, 1]) && sets.equivalent([1], [1, 1]) && !sets.intersects([1], [2])", json!(true))]
#[case("self.empty.sum()", json!(0))]
// Conversions
#[case("int('5') + int(2.9) + int(true ? 1u : 2u)", json!(8))]
#[case("double('1.5') + double(1)", json!(2.5))]
#[case("string(1) + string(1.5) + string(true)", json!("11.5true"))]
#[case("bool('true')", json!(true))]
// Time
#[case("duration('1h30m') > duration('89m')", json!(true))]
#[case("string(duration('90s') + duration('30s'))", json!("120s"))]
#[case("timestamp('2026-01-02T03:04:05Z').getFullYear()", json!(2026))]
#[case("timestamp('2026-01-02T03:04:05Z').getMonth()", json!(0))]
#[case("timestamp('2026-01-02T03:04:05Z').getDayOfWeek()", json!(5))]
#[case("timestamp('2026-01-02T03:04:05Z').getHours('+02:00')", json!(5))]
#[case("string(timestamp('2026-01-02T03:04:05Z') + duration('1s'))", json!("2026-01-02T03:04:06Z"))]
#[case("timestamp('2026-01-02T03:04:05Z') - timestamp('2026-01-02T03:04:00Z') == duration('5s')", json!(true))]
#[case("duration('90m').getHours()", json!(1))]
// Kubernetes libraries
#[case("quantity('1Gi').isGreaterThan(quantity('1G'))", json!(true))]
#[case("quantity('50k').add(20).sub(quantity('20')) == quantity('50000')", json!(true))]
#[case("quantity('200M').compareTo(quantity('0.2G'))", json!(0))]
#[case("isQuantity('1.3G') && !isQuantity('x') && quantity('-1').sign() == -1", json!(true))]
#[case("quantity('50k').asInteger() + int(quantity('1500m').asApproximateFloat())", json!(50001))]
#[case("ip('192.168.0.1').family() + ip('::1').family()", json!(10))]
#[case("isIP('127.0.0.1') && !isIP('127.0.0.1/8') && !isIP('::ffff:1.2.3.4')", json!(true))]
#[case("ip('127.0.0.1').isLoopback() && ip('10.0.0.1').isGlobalUnicast() && ip('0.0.0.0').isUnspecified()", json!(true))]
#[case("ip.isCanonical('::1') && !ip.isCanonical('0:0::1')", json!(true))]
#[case("cidr('192.168.0.0/24').containsIP('192.168.0.5') && !cidr('192.168.0.0/24').containsIP(ip('10.0.0.1'))", json!(true))]
#[case("cidr('192.168.0.0/16').containsCIDR('192.168.10.0/24')", json!(true))]
#[case("string(cidr('192.168.1.5/24').masked()) + string(cidr('192.168.1.5/24').ip())", json!("192.168.1.0/24192.168.1.5"))]
#[case("cidr('192.168.0.0/24').prefixLength()", json!(24))]
#[case("isCIDR('::1/128') && !isCIDR('10.0.0.0')", json!(true))]
#[case("url('https://example.com:80/path?k=a&k=b&j=c').getHost()", json!("example.com:80"))]
#[case("url('https://[::1]:80/').getHostname() + url('https://[::1]:80/').getPort()", json!("::180"))]
#[case("url('https://example.com/with space/').getEscapedPath()", json!("/with%20space/"))]
#[case("url('https://e.com/path?k1=a&k2=b%20c&k2=d').getQuery()", json!({"k1": ["a"], "k2": ["b c", "d"]}))]
#[case("isURL('https://a.com:8/x') && isURL('/path') && !isURL('a.com')", json!(true))]
#[case("semver('1.0.0').isLessThan(semver('1.0.1')) && semver('1.0.0-a').isLessThan(semver('1.0.0'))", json!(true))]
#[case("isSemver('v1.0', true) && !isSemver('1.0') && semver('1.2.3').minor() == 2", json!(true))]
#[case("!format.dns1123Label().validate('abc').hasValue()", json!(true))]
#[case("format.dns1123Label().validate('A.b').value().size()", json!(1))]
#[case("format.named('uuid').value().validate('x').hasValue()", json!(true))]
#[case("format.named('nonsense').hasValue()", json!(false))]
// Optionals
#[case("self.?missing.orValue(5)", json!(5))]
#[case("self.?labels.?app.orValue('x')", json!("web"))]
#[case("self.?labels.app.hasValue()", json!(true))]
#[case("self.labels[?'zone'].hasValue()", json!(false))]
#[case("self.numbers[?9].or(optional.of(1)).value()", json!(1))]
#[case("optional.of(2).optMap(x, x * 2).orValue(0)", json!(4))]
#[case("optional.none().optMap(x, x * 2).orValue(0)", json!(0))]
#[case("[?self.?missing, ?self.?replicas]", json!([3]))]
#[case("{?'a': self.?missing, 'b': 1}", json!({"b": 1}))]
#[case("optional.ofNonZeroValue('').hasValue()", json!(false))]
#[case("[1, 2].first().value() + [1, 2].last().value()", json!(3))]
#[case("self.replicas > oldSelf.replicas", json!(true))]
fn evaluates(#[case] source: &str, #[case] expected: Json) {
    assert_eq!(eval(source), Ok(expected), "{source}");
}

#[rstest]
#[case("self.missing", "no such key: missing")]
#[case("self.ports[5]", "index out of bounds: 5")]
#[case("1 / 0", "division by zero")]
#[case("1 % 0", "modulus by zero")]
#[case("9223372036854775807 + 1", "integer overflow")]
#[case("1 + 'a'", "no such overload")]
#[case("self.name.foo", "no such overload")]
#[case("!1", "no such overload")]
#[case("unknown + 1", "no such attribute(s): unknown")]
#[case(
    "quantity('x')",
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)]
#[case("optional.none().value()", "optional.none() dereference")]
#[case("self.empty.max()", "max called on empty list")]
fn fails(#[case] source: &str, #[case] expected: &str) {
    assert_eq!(eval(source), Err(expected.to_owned()), "{source}");
}

#[rstest]
#[case("1 +", "Syntax error", 1)]
#[case("self.all(x, )", "Syntax error", 1)]
#[case("nosuch(1)", "undeclared reference to 'nosuch' (in container '')", 1)]
#[case("self.\n nosuch()", "undeclared reference to 'nosuch' (in container '')", 2)]
#[case("has(self)", "invalid argument to has() macro", 1)]
#[case("self.all(1, true)", "argument must be a simple name", 1)]
#[case("self.matches('(')", "invalid matches argument", 1)]
#[case("size(1, 2)", "found no matching overload for 'size' with 2 arguments", 1)]
fn refused_with_their_place(#[case] source: &str, #[case] message: &str, #[case] line: usize) {
    let error = Program::compile(source, &Limits::default()).unwrap_err();
    assert!(error.message.contains(message), "{source}: {error}");
    assert_eq!(error.position.unwrap().line, line, "{source}: {error}");
}

#[test]
fn guards_come_before_the_parser() {
    let long = format!("'{}' == ''", "a".repeat(5000));
    let error = Program::compile(&long, &Limits::default()).unwrap_err();
    assert!(
        error.message.contains("exceeds the limit of 4096 bytes"),
        "{error}"
    );
    for open in ["(", "[", "!", "-", "{'a':"] {
        let deep = open.repeat(40);
        let error = Program::compile(&deep, &Limits::default()).unwrap_err();
        assert!(error.message.contains("nested deeper than 15 levels"), "{error}");
    }
    // Brackets in texts and long chains are not deep.
    let chain = (0..100)
        .map(|i| format!("self.name != '(((({i}'"))
        .collect::<Vec<_>>()
        .join(" && ");
    assert_eq!(eval(&chain), Ok(json!(true)));
}

#[test]
fn what_costs_too_much_ends() {
    let nested =
        "lists.range(1000).all(a, lists.range(1000).all(b, lists.range(1000).all(c, a + b + c >= 0)))";
    let program = Program::compile(nested, &Limits::default()).unwrap();
    let (error, cost) = program.eval_within(&Bindings::new(), 100_000).unwrap_err();
    assert_eq!(error.kind, EvalErrorKind::CostLimit);
    assert_eq!(cost, 100_000);
    let (_, spent) = program.eval_within(&Bindings::new(), 5).unwrap_err();
    assert!(spent <= 5);
}

struct Fake {
    kind: Kind,
    fields: Vec<(&'static str, Fake)>,
    element: Option<Box<Fake>>,
    size: Option<u64>,
    keys: Option<Vec<String>>,
}

fn fake(kind: Kind) -> Fake {
    Fake {
        kind,
        fields: Vec::new(),
        element: None,
        size: None,
        keys: None,
    }
}

impl Shape for Fake {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn field(&self, name: &str) -> Option<&dyn Shape> {
        self.fields
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, f)| f as &dyn Shape)
    }

    fn element(&self) -> Option<&dyn Shape> {
        self.element.as_deref().map(|e| e as &dyn Shape)
    }

    fn list_semantics(&self) -> ListSemantics<'_> {
        match &self.keys {
            None => ListSemantics::Atomic,
            Some(keys) if keys.is_empty() => ListSemantics::Set,
            Some(keys) => ListSemantics::Map(keys),
        }
    }

    fn max_size(&self) -> Option<u64> {
        self.size
    }
}

fn typed() -> Fake {
    Fake {
        fields: vec![
            ("number", fake(Kind::Double)),
            ("when", fake(Kind::Timestamp)),
            ("span", fake(Kind::Duration)),
            ("data", fake(Kind::Bytes)),
            (
                "name",
                Fake {
                    size: Some(10),
                    ..fake(Kind::String)
                },
            ),
            (
                "set",
                Fake {
                    keys: Some(Vec::new()),
                    element: Some(Box::new(fake(Kind::String))),
                    size: Some(5),
                    ..fake(Kind::List)
                },
            ),
            (
                "map",
                Fake {
                    keys: Some(vec!["k".to_owned()]),
                    element: Some(Box::new(Fake {
                        fields: vec![("k", fake(Kind::String)), ("v", fake(Kind::Int))],
                        ..fake(Kind::Object)
                    })),
                    ..fake(Kind::List)
                },
            ),
        ],
        ..fake(Kind::Object)
    }
}

#[rstest]
#[case("self.number / 2.0 == 0.5 && type(self.number) == double", json!(true))]
#[case("self.when < timestamp('2027-01-01T00:00:00Z')", json!(true))]
#[case("self.span == duration('90s')", json!(true))]
#[case("self.data == b'hello'", json!(true))]
#[case("self.set == ['b', 'a'] && (self.set + ['a', 'c']).size() == 3", json!(true))]
#[case("(self.map + [{'k': 'x', 'v': 9}]).map(e, e.v)", json!([9, 2]))]
fn shapes_give_types(#[case] source: &str, #[case] expected: Json) {
    let shape = typed();
    let object = json!({"number": 1, "when": "2026-01-01T00:00:00Z", "span": "1m30s", "data": "aGVsbG8=", "set": ["a", "b"],
        "map": [{"k": "x", "v": 1}, {"k": "y", "v": 2}]});
    let program = Program::compile(source, &Limits::default()).unwrap();
    let mut bindings = Bindings::new();
    bindings.bind_shaped("self", &object, &shape);
    assert_eq!(
        program.eval(&bindings, &Limits::default()),
        Ok(expected),
        "{source}"
    );
}

#[rstest]
#[case("self.name == 'a'", Ok("bool"))]
#[case("self.set.map(s, s)", Ok("list"))]
#[case("self.map.all(e, e.v > 1)", Ok("bool"))]
#[case("self.map.all(e, e.nosuch > 1)", Err("undefined field 'nosuch'"))]
#[case("self.nosuch", Err("undefined field 'nosuch'"))]
#[case("other.name", Err("undeclared reference to 'other' (in container '')"))]
#[case("self.name.foo == 1", Err("type 'string' does not support field selection"))]
#[case(
    "self.name == 1",
    Err("found no matching overload for '_==_' applied to '(string, int)'")
)]
#[case("self.number < 1", Ok("bool"))]
#[case(
    "self.number == 1",
    Err("found no matching overload for '_==_' applied to '(double, int)'")
)]
#[case(
    "self.name == null",
    Err("found no matching overload for '_==_' applied to '(string, null)'")
)]
#[case("self.map.all(e, e != null)", Ok("bool"))]
#[case("dyn(self.name) == 1", Ok("bool"))]
#[case("self.name && true", Err("expected type 'bool' but found 'string'"))]
#[case(
    "self.set.filter(s, s) == []",
    Err("found no matching overload for '_?_:_' applied to '(string, list(string), list(string))'")
)]
#[case(
    "self.set.exists_one(s, s)",
    Err("found no matching overload for '_?_:_' applied to '(string, int, int)'")
)]
#[case(
    "self.name ? 1 : 2",
    Err("found no matching overload for '_?_:_' applied to '(string, int, int)'")
)]
#[case(
    "!self.name",
    Err("found no matching overload for '!_' applied to '(string)'")
)]
#[case(
    "-self.name",
    Err("found no matching overload for '-_' applied to '(string)'")
)]
#[case("self.all(k, true)", Err("cannot be range of a comprehension"))]
#[case("self.name.all(k, true)", Err("cannot be range of a comprehension"))]
fn checked_before_it_runs(#[case] source: &str, #[case] expected: Result<&str, &str>) {
    let shape = typed();
    let program = Program::compile(source, &Limits::default()).unwrap();
    let found = program.check(&[Variable {
        name: "self",
        shape: Some(&shape),
        optional: false,
    }]);
    match (found, expected) {
        (Ok(report), Ok(type_)) => assert_eq!(report.result, type_),
        (Err(error), Err(message)) => assert!(error.message.contains(message), "{source}: {error}"),
        (found, expected) => panic!("{source}: {found:?}, expected {expected:?}"),
    }
}

#[test]
fn everything_that_is_wrong_is_told_in_the_order_of_the_text() {
    let shape = typed();
    let source = "self.nope.foo == 1 && (self.name || self.map.all(e, e.nosuch)) && self.name == 1";
    let program = Program::compile(source, &Limits::default()).unwrap();
    let variables = [Variable {
        name: "self",
        shape: Some(&shape),
        optional: false,
    }];
    let errors = program.check_all(&variables).err().unwrap();
    let place = |error: &CompileError| error.position.map_or(0, |place| place.column);
    let told: Vec<(usize, &str)> = errors.iter().map(|e| (place(e), e.message.as_str())).collect();
    assert_eq!(
        told,
        [
            (5, "undefined field 'nope'"),
            (28, "expected type 'bool' but found 'string'"),
            (54, "undefined field 'nosuch'"),
            (
                77,
                "found no matching overload for '_==_' applied to '(string, int)'"
            ),
        ]
    );
    assert!(render_all(&errors[..2]).contains("^\nERROR: <input>:1:28: "));
    assert_eq!(program.check(&variables).unwrap_err(), errors[0]);
}

#[test]
fn estimates_follow_the_bounds() {
    let shape = typed();
    let cost = |source: &str| {
        let program = Program::compile(source, &Limits::default()).unwrap();
        program
            .check(&[Variable {
                name: "self",
                shape: Some(&shape),
                optional: false,
            }])
            .unwrap()
            .cost
    };
    assert!(cost("self.set.all(s, s != '')") < 100);
    assert!(
        cost("self.map.all(e, e.v > 1)") > 1_000_000,
        "a list without maxItems may be as long as a request"
    );
    assert!(cost("self.name.matches('^a+$')") < 100);
    let unbounded = cost("'a' + string(1) == 'b'");
    assert!(
        unbounded > 100_000,
        "like the real server, no bound is seen for the text of a number"
    );
}

proptest! {
    #[test]
    fn never_panics(source in "(self|\\.name|\\.ports|\\[0\\]|\\(|\\)|'a'|1|\\+|==|&&|!|\\.all\\(x, |x|\\?|:|,| |\\.size\\(\\)|\\.substring\\(|-){0,12}|\\PC{0,24}") {
        let _ = eval(&source);
    }
}

/// Lets `jane` read Pods, and nobody do anything else.
struct OnlyPods;

impl crate::Authorizer for OnlyPods {
    fn decide(&self, check: &crate::AccessCheck) -> crate::AccessDecision {
        let allowed = check.resource == "pods" && check.verb == "get" && check.service_account.is_none();
        crate::AccessDecision {
            allowed,
            reason: if allowed {
                "RBAC: allowed".to_owned()
            } else {
                format!("{}:{}", check.namespace, check.name)
            },
            error: String::new(),
        }
    }
}

#[test]
fn admission_asks_an_authorizer() {
    let limits = Limits {
        library: crate::Library::Admission,
        ..Limits::default()
    };
    let request = crate::AccessCheck {
        resource: "pods".into(),
        namespace: "ns".into(),
        ..crate::AccessCheck::default()
    };
    for (source, expected) in [
        (
            "authorizer.group('').resource('pods').namespace('a').check('get').allowed()",
            json!(true),
        ),
        (
            "authorizer.group('').resource('pods').check('delete').allowed()",
            json!(false),
        ),
        (
            "authorizer.group('').resource('x').namespace('a').name('b').check('get').reason()",
            json!("a:b"),
        ),
        ("authorizer.requestResource.check('get').allowed()", json!(true)),
        (
            "authorizer.serviceAccount('ns', 'sa').requestResource.check('get').allowed()",
            json!(false),
        ),
        ("authorizer.path('/healthz').check('get').errored()", json!(false)),
    ] {
        let program = Program::compile(source, &limits).unwrap_or_else(|e| panic!("{source}: {e}"));
        let mut bindings = Bindings::new();
        bindings.bind_authorizer("authorizer", &OnlyPods, request.clone());
        assert_eq!(program.eval(&bindings, &limits), Ok(expected), "{source}");
        assert!(
            Program::compile(source, &Limits::default()).is_err(),
            "{source} is not for validation rules"
        );
    }
}

#[test]
fn admission_makes_objects_and_patches() {
    let limits = Limits {
        library: crate::Library::Admission,
        ..Limits::default()
    };
    let object = json!({"spec": {"replicas": 2}});
    for (source, expected) in [
        (
            "Object{spec: Object.spec{replicas: object.spec.replicas + 1}}",
            json!({"spec": {"replicas": 3}}),
        ),
        (
            "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b~c'), value: 'x'}]",
            json!([{"op": "add", "path": "/metadata/labels/a~1b~0c", "value": "x"}]),
        ),
        ("Object{?metadata: optional.none()}", json!({})),
        (
            "variables.twice.isGreaterThan(quantity('1')) ? variables.twice.asInteger() : 0",
            json!(4),
        ),
    ] {
        let program = Program::compile(source, &limits).unwrap_or_else(|e| panic!("{source}: {e}"));
        let twice = Program::compile("quantity(string(object.spec.replicas * 2))", &limits).unwrap();
        let wrong = Program::compile("object.nope", &limits).unwrap();
        let mut bindings = Bindings::new();
        bindings.bind("object", &object).bind_empty("variables");
        assert!(bindings.compute("variables", "wrong", &wrong, 1000).is_err());
        bindings.compute("variables", "twice", &twice, 1000).unwrap();
        assert_eq!(program.eval(&bindings, &limits), Ok(expected), "{source}");
    }
}
