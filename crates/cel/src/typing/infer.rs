//! Type inference. A mistake is noted and the part that has it counts as `any`, so that one mistake is told once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Checked, Field, Mistake, Object, Scope, Type, facts, signatures, suggestion};
use crate::Program;
use crate::eval::Operator;
use crate::node::{self, Literal, Macro, MacroKind, Node, NodeKind};

type Facts = BTreeSet<String>;

pub(super) fn check(program: &Program, scope: &Scope) -> Checked {
    let mut checker = Checker {
        program,
        scope,
        locals: Vec::new(),
        found: Vec::new(),
    };
    let type_ = checker.infer(&program.root, &scope.present);
    let mut found = checker.found;
    found.sort_by_key(|(offset, _)| *offset);
    found.dedup();
    Checked {
        type_,
        mistakes: found.into_iter().map(|(_, mistake)| mistake).collect(),
    }
}

struct Checker<'p> {
    program: &'p Program,
    scope: &'p Scope,
    locals: Vec<Type>,
    found: Vec<(usize, Mistake)>,
}

impl Checker<'_> {
    /// Notes a mistake at a place of the source; the part that has it is of any type.
    fn at(&mut self, offset: usize, message: impl Into<String>, help: Option<String>) -> Type {
        let mistake = Mistake::at(&self.program.source, offset, message.into(), help);
        self.found.push((offset, mistake));
        Type::Dyn
    }

    fn wrong(&mut self, node: &Node, message: impl Into<String>, help: Option<String>) -> Type {
        let offset = self.start(node);
        self.at(offset, message, help)
    }

    /// Where a part of the source begins. Parsers give an operator's place for the whole of an operation.
    fn start(&self, node: &Node) -> usize {
        match &node.kind {
            NodeKind::Select { operand, .. } | NodeKind::Index { operand, .. } => self.start(operand),
            NodeKind::Operator(_, operands) => self.start(&operands[0]),
            NodeKind::Conditional(parts) => self.start(&parts[0]),
            NodeKind::And(terms) | NodeKind::Or(terms) => {
                terms.first().map_or(node.offset, |t| self.start(t))
            }
            NodeKind::Call { function, args } if function.0.is_member() => {
                args.first().map_or(node.offset, |a| self.start(a))
            }
            NodeKind::Macro(m) if m.kind != MacroKind::Bind => self.start(&m.range),
            _ => node.offset,
        }
    }

    /// Where the field in `has(a.field)` is.
    fn asked(&self, node: &Node, name: &str) -> usize {
        let rest = self.program.source.get(node.offset..).unwrap_or_default();
        let inside = rest.find(')').and_then(|end| rest.get(..end)).unwrap_or(rest);
        inside.rfind(name).map_or(node.offset, |at| node.offset + at)
    }

    /// Where the name after a dot begins.
    fn name_of(&self, node: &Node) -> usize {
        let rest = self.program.source.get(node.offset..).unwrap_or_default();
        let name = rest.trim_start_matches(|c: char| c == '.' || c == '?' || c.is_whitespace());
        node.offset + (rest.len() - name.len())
    }

    fn infer(&mut self, node: &Node, facts: &Facts) -> Type {
        match &node.kind {
            NodeKind::Literal(literal) => match literal {
                Literal::Null => Type::Null,
                Literal::Bool(_) => Type::Bool,
                Literal::Int(_) => Type::Int,
                Literal::UInt(_) => Type::Uint,
                Literal::Double(_) => Type::Double,
                Literal::String(_) => Type::String,
                Literal::Bytes(_) => Type::Bytes,
            },
            NodeKind::Type(_) => Type::Type,
            NodeKind::Global(at) => {
                let name = self.program.variables.get(*at).map_or("", String::as_str);
                match self.scope.get(name) {
                    Some(type_) => type_.clone(),
                    None => {
                        let help = suggestion(name, self.scope.variables().map(|(n, _)| n));
                        self.wrong(node, format!("no variable {name:?}"), help)
                    }
                }
            }
            NodeKind::Local(at) => self.locals.get(*at).cloned().unwrap_or(Type::Dyn),
            NodeKind::Select {
                operand,
                field,
                optional,
            } => {
                let of = self.infer(operand, facts);
                let known = facts::path(self.program, operand).map(|p| facts::join(&p, field));
                let present = known.as_ref().is_some_and(|k| facts.contains(k));
                let name = self.name_of(node);
                self.select(name, operand, &of, field, *optional, present)
            }
            NodeKind::Has { operand, field } => {
                let of = self.infer(operand, facts);
                // Asking is allowed whether it is there or not; the field must be known, though.
                let name = self.asked(node, &field.name);
                self.select(name, operand, &of, field, true, true);
                Type::Bool
            }
            NodeKind::Index {
                operand,
                index,
                optional,
            } => self.index(node, operand, index, *optional, facts),
            NodeKind::And(terms) => self.logical(terms, true, facts),
            NodeKind::Or(terms) => self.logical(terms, false, facts),
            NodeKind::Not(operand) => {
                self.bool(operand, "!", facts);
                Type::Bool
            }
            NodeKind::Negate(operand) => match self.infer(operand, facts) {
                type_ @ (Type::Int | Type::Double | Type::Duration | Type::Dyn) => type_,
                other => self.wrong(node, format!("- cannot be applied to {}", a(&other)), None),
            },
            NodeKind::Conditional(parts) => {
                let [condition, then, otherwise] = parts.as_ref();
                self.bool(condition, "?", facts);
                let yes = with(facts, &facts::when(self.program, condition, true));
                let no = with(facts, &facts::when(self.program, condition, false));
                let (yes, no) = (self.infer(then, &yes), self.infer(otherwise, &no));
                let alike = comparable(&yes, &no) && !mixes_numbers(&yes, &no);
                if !alike && yes != Type::Null && no != Type::Null {
                    let message = format!("the two results have different types: {yes} and {no}");
                    let help = conversion(&yes, &no);
                    return self.at(node.offset, message, help);
                }
                unify(&yes, &no)
            }
            NodeKind::Operator(operator, operands) => {
                let [left, right] = operands.as_ref();
                let (left, right) = (self.infer(left, facts), self.infer(right, facts));
                self.operator(node, *operator, &left, &right)
            }
            NodeKind::Call { function, args } => {
                let types: Vec<Type> = args.iter().map(|a| self.infer(a, facts)).collect();
                match signatures::result(function.0, &types) {
                    Ok(type_) => type_,
                    Err((message, help)) => {
                        let offset = self.name_of(node);
                        let offset = self.before_bracket(offset, function.0.name);
                        self.at(offset, message, Some(help))
                    }
                }
            }
            NodeKind::List(items) => {
                let mut item = None;
                for (node, optional) in items {
                    let type_ = self.infer(node, facts);
                    let type_ = if *optional { self.inner(node, type_) } else { type_ };
                    item = Some(item.map_or(type_.clone(), |known| unify(&known, &type_)));
                }
                Type::list(item.unwrap_or(Type::Dyn))
            }
            NodeKind::Map(entries) => self.map(entries, facts),
            NodeKind::Macro(m) => self.comprehension(node, m, facts),
        }
    }

    /// A call's place may be that of its bracket; people look for the name.
    fn before_bracket(&self, offset: usize, name: &str) -> usize {
        let source = &self.program.source;
        if source.get(offset..).is_some_and(|rest| rest.starts_with('(')) {
            let before = source.get(..offset).unwrap_or_default().trim_end();
            let short = name.rsplit('.').next().unwrap_or(name);
            if before.ends_with(short) {
                return before.len() - short.len();
            }
        }
        offset
    }

    /// What an optional holds.
    fn inner(&mut self, node: &Node, type_: Type) -> Type {
        match type_ {
            Type::Optional(inner) => (*inner).clone(),
            Type::Dyn => Type::Dyn,
            other => self.wrong(
                node,
                format!("an optional is expected after \"?\", this is {}", a(&other)),
                None,
            ),
        }
    }

    fn select(
        &mut self,
        offset: usize,
        operand: &Node,
        of: &Type,
        field: &node::Field,
        optional: bool,
        present: bool,
    ) -> Type {
        let wrap = |type_: Type| {
            if optional { Type::optional(type_) } else { type_ }
        };
        match of {
            Type::Dyn => wrap(Type::Dyn),
            Type::Map(value) => wrap((**value).clone()),
            Type::Object(object) => {
                let names = [field.unescaped.as_deref(), Some(&*field.name)];
                let found = names
                    .into_iter()
                    .flatten()
                    .find_map(|n| object.fields.get_key_value(n));
                match found {
                    Some((name, known)) => {
                        if known.optional && !optional && !present {
                            let path = facts::path(self.program, operand);
                            let help = match path {
                                Some(path) if !path.starts_with('%') => {
                                    format!(
                                        "ask has({path}.{name}) first, write {path}.?{name}.orValue(...), or give it a default"
                                    )
                                }
                                _ => format!("ask has() first, or write .?{name}.orValue(...)"),
                            };
                            self.at(offset, format!("{name:?} may be absent"), Some(help));
                        }
                        wrap(known.type_.clone())
                    }
                    None if object.open => wrap(Type::Dyn),
                    None => {
                        let help = suggestion(&field.name, object.fields.keys().map(String::as_str));
                        self.at(offset, format!("no field {:?}", field.name), help)
                    }
                }
            }
            // A field of what may be absent may be absent as well.
            Type::Optional(inner) => match self.select(offset, operand, inner, field, true, true) {
                type_ @ Type::Optional(_) => type_,
                type_ => Type::optional(type_),
            },
            other => {
                let help = matches!(other, Type::List(_))
                    .then(|| format!("take an item with [0], or all with .map(x, x.{})", field.name));
                self.at(offset, format!("{} has no fields", a(other)), help)
            }
        }
    }

    fn index(&mut self, node: &Node, operand: &Node, index: &Node, optional: bool, facts: &Facts) -> Type {
        let of = self.infer(operand, facts);
        let key = self.infer(index, facts);
        let (of, optional) = match of {
            Type::Optional(inner) => ((*inner).clone(), true),
            of => (of, optional),
        };
        let wrap = |type_: Type| {
            if optional { Type::optional(type_) } else { type_ }
        };
        match &of {
            Type::Dyn => wrap(Type::Dyn),
            Type::List(item) => {
                if !matches!(key, Type::Int | Type::Uint | Type::Dyn) {
                    self.wrong(
                        index,
                        format!("a list is indexed by a number, this is {}", a(&key)),
                        None,
                    );
                }
                wrap((**item).clone())
            }
            Type::Map(_) | Type::Object(_) if !matches!(key, Type::String | Type::Dyn) => {
                self.wrong(
                    index,
                    format!("a map is indexed by a text, this is {}", a(&key)),
                    None,
                );
                Type::Dyn
            }
            Type::Map(value) => wrap((**value).clone()),
            Type::Object(object) => match &index.kind {
                NodeKind::Literal(Literal::String(name)) => {
                    let path = facts::path(self.program, operand).map(|p| format!("{p}.{name}"));
                    let present = path.is_some_and(|p| facts.contains(&p));
                    match object.fields.get(&**name) {
                        Some(field) => {
                            if field.optional && !optional && !present {
                                let help = format!("write [?{name:?}].orValue(...)");
                                self.at(index.offset, format!("{name:?} may be absent"), Some(help));
                            }
                            wrap(field.type_.clone())
                        }
                        None if object.open => wrap(Type::Dyn),
                        None => {
                            let help = suggestion(name, object.fields.keys().map(String::as_str));
                            self.at(index.offset, format!("no field {name:?}"), help)
                        }
                    }
                }
                _ => wrap(Type::Dyn),
            },
            other => self.at(node.offset, format!("{} cannot be indexed", a(other)), None),
        }
    }

    /// `&&` and `||`: each term is only looked at when those before it did not decide.
    fn logical(&mut self, terms: &[Node], and: bool, facts: &Facts) -> Type {
        let mut facts = facts.clone();
        for term in terms {
            self.bool(term, if and { "&&" } else { "||" }, &facts);
            facts.extend(facts::when(self.program, term, and));
        }
        Type::Bool
    }

    fn bool(&mut self, node: &Node, of: &str, facts: &Facts) {
        let type_ = self.infer(node, facts);
        if !matches!(type_, Type::Bool | Type::Dyn) {
            self.wrong(
                node,
                format!("{of} takes a bool, this is {}", a(&type_)),
                bool_help(&type_),
            );
        }
    }

    fn operator(&mut self, node: &Node, operator: Operator, left: &Type, right: &Type) -> Type {
        use Operator as Op;
        let sign = match operator {
            Op::Add => "+",
            Op::Subtract => "-",
            Op::Multiply => "*",
            Op::Divide => "/",
            Op::Modulo => "%",
            Op::Equal => "==",
            Op::NotEqual => "!=",
            Op::Less => "<",
            Op::LessEqual => "<=",
            Op::Greater => ">",
            Op::GreaterEqual => ">=",
            Op::In => "in",
        };
        let result = match operator {
            Op::Equal | Op::NotEqual => comparable(left, right).then_some(Type::Bool),
            Op::Less | Op::LessEqual | Op::Greater | Op::GreaterEqual => {
                let ordered = |t: &Type| {
                    matches!(
                        t,
                        Type::Dyn
                            | Type::Bool
                            | Type::Int
                            | Type::Uint
                            | Type::Double
                            | Type::String
                            | Type::Bytes
                            | Type::Timestamp
                            | Type::Duration
                    )
                };
                (ordered(left) && ordered(right) && comparable(left, right)).then_some(Type::Bool)
            }
            Op::In => match right {
                Type::Dyn => Some(Type::Bool),
                Type::List(item) => comparable(left, item).then_some(Type::Bool),
                Type::Map(_) | Type::Object(_) => comparable(left, &Type::String).then_some(Type::Bool),
                _ => None,
            },
            _ => arithmetic(operator, left, right),
        };
        if let Some(type_) = result {
            return type_;
        }
        let help = match (left, right) {
            (Type::Null, _) | (_, Type::Null) => {
                Some("a field that is not there is not null: ask has()".to_owned())
            }
            (Type::Optional(_), _) | (_, Type::Optional(_)) => {
                Some("take what the optional holds with .orValue(...)".to_owned())
            }
            _ => conversion(left, right),
        };
        let message = match operator {
            Op::In => format!("{left} in {right} is not possible"),
            _ => format!("{left} {sign} {right} is not possible"),
        };
        self.at(node.offset, message, help)
    }

    fn map(&mut self, entries: &[(Node, Node, bool)], facts: &Facts) -> Type {
        let mut fields = BTreeMap::new();
        let mut value = None;
        let mut literal = true;
        for (key, node, optional) in entries {
            let key_type = self.infer(key, facts);
            if !matches!(key_type, Type::String | Type::Dyn) {
                self.wrong(key, format!("a key is a text, this is {}", a(&key_type)), None);
            }
            let type_ = self.infer(node, facts);
            let type_ = if *optional { self.inner(node, type_) } else { type_ };
            value = Some(value.map_or(type_.clone(), |known| unify(&known, &type_)));
            match &key.kind {
                NodeKind::Literal(Literal::String(name)) => {
                    let field = Field {
                        type_,
                        optional: *optional,
                    };
                    fields.insert(name.to_string(), field);
                }
                _ => literal = false,
            }
        }
        if literal {
            Type::Object(Arc::new(Object { fields, open: false }))
        } else {
            Type::map(value.unwrap_or(Type::Dyn))
        }
    }

    fn comprehension(&mut self, node: &Node, m: &Macro, facts: &Facts) -> Type {
        let range = self.infer(&m.range, facts);
        self.locals.truncate(m.slot);
        self.locals.resize(m.slot, Type::Dyn);
        let (key, item) = match (&range, m.kind) {
            (_, MacroKind::Bind) => (range.clone(), Type::Dyn),
            (Type::Optional(inner), MacroKind::OptMap | MacroKind::OptFlatMap) => {
                ((**inner).clone(), Type::Dyn)
            }
            (Type::Dyn, _) => (Type::Dyn, Type::Dyn),
            (Type::List(item), _) if m.two => (Type::Int, (**item).clone()),
            (Type::List(item), _) => ((**item).clone(), Type::Dyn),
            (Type::Map(value), _) => (Type::String, (**value).clone()),
            (Type::Object(object), _) => (Type::String, values(object)),
            (other, MacroKind::OptMap | MacroKind::OptFlatMap) => {
                let message = format!("{} is no optional", a(other));
                (self.at(node.offset, message, None), Type::Dyn)
            }
            (other, _) => {
                let message = format!("{} has no items to go through", a(other));
                (self.at(node.offset, message, None), Type::Dyn)
            }
        };
        self.locals.push(key.clone());
        if m.two {
            self.locals.push(item);
        }
        let mut inner = facts.clone();
        if let Some(filter) = &m.filter {
            self.bool(filter, "the condition", &inner);
            inner.extend(facts::when(self.program, filter, true));
        }
        let depth = self.locals.len();
        let body = self.infer(&m.body, &inner);
        self.locals.truncate(depth);
        let predicate = matches!(
            m.kind,
            MacroKind::All | MacroKind::Exists | MacroKind::ExistsOne | MacroKind::Filter
        );
        if predicate && !matches!(body, Type::Bool | Type::Dyn) {
            self.wrong(
                &m.body,
                format!("the condition takes a bool, this is {}", a(&body)),
                bool_help(&body),
            );
        }
        self.locals.truncate(m.slot);
        match m.kind {
            MacroKind::All | MacroKind::Exists | MacroKind::ExistsOne => Type::Bool,
            MacroKind::Filter => Type::list(key),
            MacroKind::SortBy => range,
            MacroKind::Map | MacroKind::TransformList => Type::list(body),
            MacroKind::TransformMap => Type::map(body),
            MacroKind::TransformMapEntry => match body {
                Type::Map(_) => body,
                Type::Object(object) => Type::map(values(&object)),
                _ => Type::map(Type::Dyn),
            },
            MacroKind::OptMap => Type::optional(body),
            MacroKind::OptFlatMap | MacroKind::Bind => body,
        }
    }
}

fn with(facts: &Facts, more: &Facts) -> Facts {
    facts.union(more).cloned().collect()
}

/// The type that all fields of an object have in common.
pub(super) fn values(object: &Object) -> Type {
    let mut types = object.fields.values().map(|f| &f.type_);
    let Some(first) = types.next().filter(|_| !object.open) else {
        return Type::Dyn;
    };
    types.fold(first.clone(), |all, next| unify(&all, next))
}

fn arithmetic(operator: Operator, left: &Type, right: &Type) -> Option<Type> {
    use Operator as Op;
    use Type as T;
    Some(match (operator, left, right) {
        (_, T::Dyn, T::Dyn) => T::Dyn,
        (_, T::Dyn, other) | (_, other, T::Dyn) => {
            let possible = match operator {
                Op::Add => matches!(
                    other,
                    T::Int
                        | T::Uint
                        | T::Double
                        | T::String
                        | T::Bytes
                        | T::List(_)
                        | T::Timestamp
                        | T::Duration
                ),
                Op::Subtract => matches!(other, T::Int | T::Uint | T::Double | T::Timestamp | T::Duration),
                Op::Modulo => matches!(other, T::Int | T::Uint),
                _ => matches!(other, T::Int | T::Uint | T::Double),
            };
            return possible.then(|| match other {
                T::Timestamp | T::Duration => T::Dyn,
                T::List(_) => T::list(T::Dyn),
                other => other.clone(),
            });
        }
        (_, T::Int, T::Int) => T::Int,
        (_, T::Uint, T::Uint) => T::Uint,
        (Op::Add | Op::Subtract | Op::Multiply | Op::Divide, T::Double, T::Double) => T::Double,
        (Op::Add, T::String, T::String) => T::String,
        (Op::Add, T::Bytes, T::Bytes) => T::Bytes,
        (Op::Add, T::List(a), T::List(b)) => T::list(unify_items(a, b)),
        (Op::Add, T::Timestamp, T::Duration) | (Op::Add, T::Duration, T::Timestamp) => T::Timestamp,
        (Op::Add | Op::Subtract, T::Duration, T::Duration) => T::Duration,
        (Op::Subtract, T::Timestamp, T::Timestamp) => T::Duration,
        (Op::Subtract, T::Timestamp, T::Duration) => T::Timestamp,
        _ => return None,
    })
}

/// Whether a value of one type can equal a value of the other. Numbers compare with each other; `null` with nothing that
/// a schema describes, since what is not there is absent and not null.
pub(super) fn comparable(a: &Type, b: &Type) -> bool {
    use Type as T;
    let number = |t: &T| matches!(t, T::Int | T::Uint | T::Double);
    match (a, b) {
        (T::Dyn, _) | (_, T::Dyn) => true,
        (T::List(a), T::List(b)) | (T::Map(a), T::Map(b)) | (T::Optional(a), T::Optional(b)) => {
            comparable(a, b)
        }
        (T::Object(_), T::Object(_)) => true,
        (T::Object(object), T::Map(value)) | (T::Map(value), T::Object(object)) => {
            object.fields.values().all(|f| comparable(&f.type_, value))
        }
        _ => a == b || number(a) && number(b),
    }
}

/// Whether numbers of different types meet somewhere in two types. They compare with each other, but nothing else takes both: what is
/// one or the other can be added to neither.
fn mixes_numbers(a: &Type, b: &Type) -> bool {
    use Type as T;
    let number = |t: &T| matches!(t, T::Int | T::Uint | T::Double);
    match (a, b) {
        (T::List(a), T::List(b)) | (T::Map(a), T::Map(b)) | (T::Optional(a), T::Optional(b)) => {
            mixes_numbers(a, b)
        }
        (T::Object(a), T::Object(b)) => a.fields.iter().any(|(name, field)| {
            b.fields
                .get(name)
                .is_some_and(|other| mixes_numbers(&field.type_, &other.type_))
        }),
        (T::Object(object), T::Map(value)) | (T::Map(value), T::Object(object)) => {
            object.fields.values().any(|f| mixes_numbers(&f.type_, value))
        }
        _ => number(a) && number(b) && a != b,
    }
}

/// The type of a value that is of one or the other type.
pub(super) fn unify(a: &Type, b: &Type) -> Type {
    use Type as T;
    match (a, b) {
        _ if a == b => a.clone(),
        (T::List(x), T::List(y)) => T::list(unify_items(x, y)),
        (T::Map(x), T::Map(y)) => T::map(unify_items(x, y)),
        (T::Optional(x), T::Optional(y)) => T::optional(unify_items(x, y)),
        (T::Object(x), T::Object(y)) => {
            // Fields that only one has may be absent.
            let mut fields = BTreeMap::new();
            for (name, field) in x.fields.iter().chain(&y.fields) {
                let (in_x, in_y) = (x.fields.get(name), y.fields.get(name));
                let merged = match (in_x, in_y) {
                    (Some(f), Some(g)) => Field {
                        type_: unify(&f.type_, &g.type_),
                        optional: f.optional || g.optional,
                    },
                    _ => Field {
                        type_: field.type_.clone(),
                        optional: true,
                    },
                };
                fields.insert(name.clone(), merged);
            }
            let open = x.open || y.open;
            T::Object(Arc::new(Object { fields, open }))
        }
        _ => T::Dyn,
    }
}

/// As [`unify`]; an empty list or map, whose items are of any type, takes the other's.
fn unify_items(a: &Type, b: &Type) -> Type {
    match (a, b) {
        (Type::Dyn, other) | (other, Type::Dyn) => other.clone(),
        _ => unify(a, b),
    }
}

/// A type with its article, for messages.
pub(super) fn a(type_: &Type) -> String {
    let name = type_.to_string();
    let vowel = name.starts_with(['a', 'e', 'i', 'o']);
    match type_ {
        Type::Null => name,
        Type::Dyn => "of any type".to_owned(),
        _ => format!("{} {name}", if vowel { "an" } else { "a" }),
    }
}

fn conversion(a: &Type, b: &Type) -> Option<String> {
    let number = |t: &Type| matches!(t, Type::Int | Type::Uint | Type::Double);
    match (a, b) {
        (Type::String, other) | (other, Type::String) if other.is_scalar() => {
            Some("convert with string(...)".to_owned())
        }
        (a, b) if number(a) && number(b) => Some("convert with double(...) or int(...)".to_owned()),
        _ => None,
    }
}

/// How something becomes a condition.
fn bool_help(type_: &Type) -> Option<String> {
    Some(match type_ {
        Type::String => "compare it, as in x != \"\"".to_owned(),
        Type::Int | Type::Uint | Type::Double => "compare it, as in x > 0".to_owned(),
        Type::List(_) | Type::Map(_) | Type::Object(_) => "compare its size, as in size(x) > 0".to_owned(),
        Type::Optional(_) => "ask .hasValue(), or write .orValue(false)".to_owned(),
        _ => return None,
    })
}
