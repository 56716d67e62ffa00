//! What functions take and give, one form a line. `A` is any type, the same one wherever it stands.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::{Type, infer, suggestion};
use crate::functions::{self, Function};

/// The forms of all functions; receivers stand before the dot, namespaces are part of the name.
const FORMS: &str = "
size(string) int
size(bytes) int
size(list<A>) int
size(map<A>) int
string.size() int
bytes.size() int
list<A>.size() int
map<A>.size() int
type(A) type
dyn(A) dyn
bool(bool) bool
bool(string) bool
int(int) int
int(uint) int
int(double) int
int(string) int
int(timestamp) int
int(duration) int
uint(uint) uint
uint(int) uint
uint(double) uint
uint(string) uint
double(double) double
double(int) double
double(uint) double
double(string) double
string(string) string
string(bool) string
string(int) string
string(uint) string
string(double) string
string(bytes) string
string(timestamp) string
string(duration) string
string(quantity) string
string(ip) string
string(cidr) string
string(url) string
string(semver) string
ip.string() string
cidr.string() string
int.string() string
string.string() string
bytes(bytes) bytes
bytes(string) bytes
timestamp(timestamp) timestamp
timestamp(string) timestamp
timestamp(int) timestamp
duration(duration) duration
duration(string) duration
duration(int) duration
base64.encode(bytes) string
base64.decode(string) bytes
optional.of(A) optional<A>
optional.none() optional<dyn>
optional.ofNonZeroValue(A) optional<A>
optional.unwrap(list<optional<A>>) list<A>
optional<A>.hasValue() bool
optional<A>.value() A
optional<A>.orValue(A) A
optional<A>.or(optional<A>) optional<A>
list<optional<A>>.unwrapOpt() list<A>
list<A>.isSorted() bool
list<A>.sum() A
list<A>.min() A
list<A>.max() A
list<A>.includes(A) bool
list<A>.indexOf(A) int
list<A>.lastIndexOf(A) int
list<A>.slice(int, int) list<A>
list<list<A>>.flatten() list<A>
list<A>.flatten() list<dyn>
list<A>.flatten(int) list<dyn>
list<A>.distinct() list<A>
list<A>.sort() list<A>
list<A>.reverse() list<A>
list<A>.first() optional<A>
list<A>.last() optional<A>
lists.range(int) list<int>
sets.contains(list<A>, list<A>) bool
sets.equivalent(list<A>, list<A>) bool
sets.intersects(list<A>, list<A>) bool
semver(string) semver
semver(string, bool) semver
isSemver(string) bool
isSemver(string, bool) bool
semver.major() int
semver.minor() int
semver.patch() int
semver.isGreaterThan(semver) bool
semver.isLessThan(semver) bool
semver.compareTo(semver) int
quantity(string) quantity
quantity(quantity) quantity
isQuantity(string) bool
sign(quantity) int
quantity.sign() int
quantity.isInteger() bool
quantity.asInteger() int
quantity.asApproximateFloat() double
quantity.add(quantity) quantity
quantity.add(int) quantity
quantity.sub(quantity) quantity
quantity.sub(int) quantity
quantity.isGreaterThan(quantity) bool
quantity.isLessThan(quantity) bool
quantity.compareTo(quantity) int
format.named(string) optional<format>
format.validate(string) optional<list<string>>
format.dns1123Label() format
format.dns1123Subdomain() format
format.dns1035Label() format
format.qualifiedName() format
format.dns1123LabelPrefix() format
format.dns1123SubdomainPrefix() format
format.dns1035LabelPrefix() format
format.labelValue() format
format.uri() format
format.uuid() format
format.byte() format
format.date() format
format.datetime() format
string.contains(string) bool
string.startsWith(string) bool
string.endsWith(string) bool
string.matches(string) bool
matches(string, string) bool
string.find(string) string
string.findAll(string) list<string>
string.findAll(string, int) list<string>
string.charAt(int) string
string.indexOf(string) int
string.indexOf(string, int) int
string.lastIndexOf(string) int
string.lastIndexOf(string, int) int
string.lowerAscii() string
string.upperAscii() string
string.trim() string
string.reverse() string
string.replace(string, string) string
string.replace(string, string, int) string
string.split(string) list<string>
string.split(string, int) list<string>
list<string>.join() string
list<string>.join(string) string
string.substring(int) string
string.substring(int, int) string
string.format(list<dyn>) string
strings.quote(string) string
ip(string) ip
isIP(string) bool
ip.isCanonical(string) bool
ip.family() int
ip.isUnspecified() bool
ip.isLoopback() bool
ip.isLinkLocalMulticast() bool
ip.isLinkLocalUnicast() bool
ip.isGlobalUnicast() bool
cidr(string) cidr
isCIDR(string) bool
cidr.containsIP(string) bool
cidr.containsIP(ip) bool
cidr.containsCIDR(string) bool
cidr.containsCIDR(cidr) bool
cidr.ip() ip
cidr.prefixLength() int
cidr.masked() cidr
url(string) url
isURL(string) bool
url.getScheme() string
url.getHost() string
url.getHostname() string
url.getPort() string
url.getEscapedPath() string
url.getQuery() map<list<string>>
timestamp.getFullYear() int
timestamp.getFullYear(string) int
timestamp.getMonth() int
timestamp.getMonth(string) int
timestamp.getDate() int
timestamp.getDate(string) int
timestamp.getDayOfMonth() int
timestamp.getDayOfMonth(string) int
timestamp.getDayOfWeek() int
timestamp.getDayOfWeek(string) int
timestamp.getDayOfYear() int
timestamp.getDayOfYear(string) int
timestamp.getHours() int
timestamp.getHours(string) int
timestamp.getMinutes() int
timestamp.getMinutes(string) int
timestamp.getSeconds() int
timestamp.getSeconds(string) int
timestamp.getMilliseconds() int
timestamp.getMilliseconds(string) int
duration.getHours() int
duration.getMinutes() int
duration.getSeconds() int
duration.getMilliseconds() int
merge(map<A>, map<B>) map<dyn>
hash(A) string
dnsLabel(list<string>) string
toJson(A) string
";

/// A type as forms write it.
#[derive(Clone, Debug, PartialEq)]
enum Pattern {
    Exactly(Type),
    Variable(char),
    List(Box<Pattern>),
    Map(Box<Pattern>),
    Optional(Box<Pattern>),
}

struct Form {
    /// As it is written, for messages.
    text: &'static str,
    params: Vec<Pattern>,
    result: Pattern,
}

/// By name and whether they are called on a receiver.
static TABLE: LazyLock<BTreeMap<(&'static str, bool), Vec<Form>>> = LazyLock::new(|| {
    let mut table: BTreeMap<_, Vec<Form>> = BTreeMap::new();
    for line in FORMS.lines().filter(|l| !l.is_empty()) {
        if let Some((key, form)) = form(line) {
            table.entry(key).or_default().push(form);
        }
    }
    table
});

/// Namespaces, whose functions have them in their names.
const NAMESPACED: &[&str] = &[
    "base64.encode",
    "base64.decode",
    "optional.of",
    "optional.none",
    "optional.ofNonZeroValue",
    "optional.unwrap",
    "lists.range",
    "sets.contains",
    "sets.equivalent",
    "sets.intersects",
    "strings.quote",
    "ip.isCanonical",
    "format.named",
    "format.dns1123Label",
    "format.dns1123Subdomain",
    "format.dns1035Label",
    "format.qualifiedName",
    "format.dns1123LabelPrefix",
    "format.dns1123SubdomainPrefix",
    "format.dns1035LabelPrefix",
    "format.labelValue",
    "format.uri",
    "format.uuid",
    "format.byte",
    "format.date",
    "format.datetime",
];

fn form(line: &'static str) -> Option<((&'static str, bool), Form)> {
    let (text, result) = line.rsplit_once(' ')?;
    let (head, params) = text.strip_suffix(')')?.split_once('(')?;
    let mut patterns = Vec::new();
    let (name, is_member) = match head.rsplit_once('.') {
        Some((receiver, name)) if !NAMESPACED.contains(&head) => {
            patterns.push(pattern(receiver)?);
            (name, true)
        }
        _ => (head, false),
    };
    for param in params.split(", ").filter(|p| !p.is_empty()) {
        patterns.push(pattern(param)?);
    }
    let form = Form {
        text,
        params: patterns,
        result: pattern(result)?,
    };
    Some(((name, is_member), form))
}

fn pattern(text: &str) -> Option<Pattern> {
    if let Some(inner) = text.strip_suffix('>') {
        let (outer, inner) = inner.split_once('<')?;
        let inner = Box::new(pattern(inner)?);
        return Some(match outer {
            "list" => Pattern::List(inner),
            "map" => Pattern::Map(inner),
            "optional" => Pattern::Optional(inner),
            _ => return None,
        });
    }
    Some(Pattern::Exactly(match text {
        "A" | "B" => return text.chars().next().map(Pattern::Variable),
        "dyn" => Type::Dyn,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "timestamp" => Type::Timestamp,
        "duration" => Type::Duration,
        "type" => Type::Type,
        "quantity" => Type::Opaque("quantity"),
        "ip" => Type::Opaque("ip"),
        "cidr" => Type::Opaque("cidr"),
        "url" => Type::Opaque("url"),
        "semver" => Type::Opaque("semver"),
        "format" => Type::Opaque("format"),
        _ => return None,
    }))
}

type Bound = BTreeMap<char, Type>;

fn matches(pattern: &Pattern, type_: &Type, bound: &mut Bound) -> bool {
    if *type_ == Type::Dyn {
        return true;
    }
    match (pattern, type_) {
        (Pattern::Variable(name), _) => match bound.get(name) {
            Some(known) if !infer::comparable(known, type_) => false,
            Some(known) => {
                let both = infer::unify(known, type_);
                bound.insert(*name, both);
                true
            }
            None => {
                bound.insert(*name, type_.clone());
                true
            }
        },
        (Pattern::List(inner), Type::List(item))
        | (Pattern::Map(inner), Type::Map(item))
        | (Pattern::Optional(inner), Type::Optional(item)) => matches(inner, item, bound),
        (Pattern::Map(inner), Type::Object(object)) => {
            // Fields of different types are values of any type.
            matches(inner, &infer::values(object), bound)
        }
        (Pattern::Exactly(Type::Dyn), _) => true,
        (Pattern::Exactly(expected), _) => expected == type_,
        _ => false,
    }
}

fn substitute(pattern: &Pattern, bound: &Bound) -> Type {
    match pattern {
        Pattern::Exactly(type_) => type_.clone(),
        Pattern::Variable(name) => bound.get(name).cloned().unwrap_or(Type::Dyn),
        Pattern::List(inner) => Type::list(substitute(inner, bound)),
        Pattern::Map(inner) => Type::map(substitute(inner, bound)),
        Pattern::Optional(inner) => Type::optional(substitute(inner, bound)),
    }
}

/// The type of what a function gives for arguments of these types, or what is wrong and what it takes.
pub(super) fn result(function: &Function, args: &[Type]) -> Result<Type, (String, String)> {
    let key = (function.name, function.is_member());
    let Some(forms) = TABLE.get(&key) else {
        return Ok(Type::Dyn);
    };
    let mut known: Option<Type> = None;
    for form in forms.iter().filter(|f| f.params.len() == args.len()) {
        let mut bound = Bound::new();
        if form
            .params
            .iter()
            .zip(args)
            .all(|(p, a)| matches(p, a, &mut bound))
        {
            let type_ = substitute(&form.result, &bound);
            // Arguments of any type may fit more than one form.
            if !args.contains(&Type::Dyn) {
                return Ok(type_);
            }
            known = Some(known.map_or(type_.clone(), |known| infer::unify(&known, &type_)));
        }
    }
    if let Some(type_) = known {
        return Ok(type_);
    }
    let (receiver, rest) = if function.is_member() {
        (args.first(), args.get(1..).unwrap_or_default())
    } else {
        (None, args)
    };
    let rest: Vec<String> = rest.iter().map(ToString::to_string).collect();
    let called = match receiver {
        Some(receiver) => format!("{receiver}.{}({})", function.name, rest.join(", ")),
        None => format!("{}({})", function.name, rest.join(", ")),
    };
    let texts: Vec<String> = forms.iter().take(6).map(|f| shown(f.text)).collect();
    Err((
        format!("{called} is not possible"),
        format!("it is {}", texts.join(", ")),
    ))
}

/// A form as types print.
fn shown(text: &str) -> String {
    text.replace('<', "(")
        .replace('>', ")")
        .replace("(A)", "")
        .replace("(B)", "")
        .replace("(dyn)", "")
}

/// What to say of a function that does not exist.
pub(super) fn unknown(name: &str, is_member: bool) -> (String, Option<String>) {
    let message = format!("no function {name:?}");
    let names: Vec<&str> = functions::all()
        .filter(|f| f.is_member() == is_member)
        .map(|f| f.name)
        .collect();
    let macros: &[&str] = if is_member {
        &[
            "map",
            "filter",
            "all",
            "exists",
            "exists_one",
            "transformMap",
            "transformList",
            "sortBy",
        ]
    } else {
        &["has"]
    };
    let candidates = names.iter().copied().chain(macros.iter().copied());
    let other_style = functions::find(crate::Library::Templates, name, !is_member).is_some();
    let help = if other_style && is_member {
        Some(format!("it is called as {name}(...)"))
    } else if other_style {
        Some(format!("it is called on a value, as x.{name}(...)"))
    } else {
        suggestion(name, candidates).filter(|s| !s.starts_with("there is"))
    };
    (message, help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_has_a_form_for_each_number_of_arguments() {
        for function in functions::all() {
            let forms = TABLE.get(&(function.name, function.is_member()));
            for count in function.min..=function.max {
                let found = forms.is_some_and(|f| f.iter().any(|f| f.params.len() == count));
                assert!(found, "{} with {count} arguments", function.name);
            }
        }
    }

    #[test]
    fn every_form_is_read_and_belongs_to_a_function() {
        for line in FORMS.lines().filter(|l| !l.is_empty()) {
            let ((name, is_member), form) = form(line).unwrap_or_else(|| panic!("{line}"));
            let function = functions::find(crate::Library::Templates, name, is_member);
            assert!(function.is_some_and(|f| f.takes(form.params.len())), "{line}");
        }
    }
}
