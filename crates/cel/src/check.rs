//! What can be said of a program before it runs: names and fields that do not exist, wrong result types, and how much an
//! evaluation may cost at worst.

use crate::Program;
use crate::error::CompileError;
use crate::node::{Literal, MacroKind, Node, NodeKind};
use crate::shape::{Kind, Shape};

/// A variable that callers will bind.
#[derive(Clone, Copy)]
pub struct Variable<'s> {
    /// Its name.
    pub name: &'s str,
    /// Its shape, if known.
    pub shape: Option<&'s dyn Shape>,
    /// Whether it is bound as an optional value.
    pub optional: bool,
}

/// What a check found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Name of the result's type, empty where that is not known before evaluation.
    pub result: &'static str,
    /// What an evaluation costs at worst, given the bounds in the shapes.
    pub cost: u64,
}

/// What is known of the value of a program that nothing is wrong with.
#[derive(Clone, Copy)]
pub struct Typed<'s> {
    /// Name of its type, empty where that is not known before evaluation.
    pub result: &'static str,
    /// Its shape, where it is a part of a variable's.
    pub shape: Option<&'s dyn Shape>,
    /// What an evaluation costs at worst, given the bounds in the shapes.
    pub cost: u64,
}

/// The size of texts and lists that nothing bounds: what fits into a request of 3 MiB.
const UNBOUNDED: u64 = 3 << 20;

#[derive(Clone, Copy)]
struct Info<'s> {
    type_: &'static str,
    shape: Option<&'s dyn Shape>,
    cost: u64,
    size: u64,
}

impl<'s> Info<'s> {
    /// The same, which may be absent if `optional`.
    fn optional_if(self, optional: bool) -> Self {
        let type_ = if optional { "optional_type" } else { self.type_ };
        Self { type_, ..self }
    }

    fn of(type_: &'static str, cost: u64) -> Self {
        Self {
            type_,
            shape: None,
            cost,
            size: 1,
        }
    }

    fn shaped(shape: Option<&'s dyn Shape>, cost: u64) -> Self {
        let type_ = match shape.map(Shape::kind) {
            None | Some(Kind::Dyn) => "",
            Some(Kind::Bool) => "bool",
            Some(Kind::Int) => "int",
            Some(Kind::Double) => "double",
            Some(Kind::String) => "string",
            Some(Kind::Bytes) => "bytes",
            Some(Kind::Timestamp) => "google.protobuf.Timestamp",
            Some(Kind::Duration) => "google.protobuf.Duration",
            Some(Kind::List) => "list",
            Some(Kind::Map) => "map",
            Some(Kind::Object) => "object",
        };
        let size = shape.map_or(UNBOUNDED, |s| s.max_size().unwrap_or(UNBOUNDED));
        Self {
            type_,
            shape,
            cost,
            size,
        }
    }

    /// The type as it is told to people.
    fn named(self) -> String {
        match self.type_ {
            "" => "dyn".to_owned(),
            "null_type" => "null".to_owned(),
            "google.protobuf.Timestamp" => "timestamp".to_owned(),
            "google.protobuf.Duration" => "duration".to_owned(),
            "optional_type" => format!("optional_type({})", Info::shaped(self.shape, 0).named()),
            "list" => match self.shape.and_then(Shape::element) {
                Some(element) => format!("list({})", Info::shaped(Some(element), 0).named()),
                None => "list(dyn)".to_owned(),
            },
            type_ => type_.to_owned(),
        }
    }

    /// Whether a value of this type can be one of the other: none can be said to differ that is not known.
    fn differs_from(self, other: Info<'_>) -> bool {
        const NEVER_NULL: [&str; 8] = ["bool", "int", "uint", "double", "string", "bytes", "list", "map"];
        let known = !self.type_.is_empty() && !other.type_.is_empty();
        let same_object = || match (self.shape, other.shape) {
            (Some(a), Some(b)) => std::ptr::addr_eq(a, b),
            _ => true,
        };
        match (self.type_, other.type_) {
            ("null_type", type_) | (type_, "null_type") => NEVER_NULL.contains(&type_),
            ("object", "object") => !same_object(),
            (a, b) => known && a != b,
        }
    }

    fn plus(mut self, cost: u64) -> Self {
        self.cost = self.cost.saturating_add(cost);
        self
    }
}

struct Checker<'s, 'p> {
    program: &'p Program,
    variables: &'p [Variable<'s>],
    locals: Vec<Info<'s>>,
    /// What was wrong so far.
    errors: Vec<CompileError>,
}

impl Program {
    /// Checks the program against the variables that will be bound to it.
    ///
    /// # Errors
    /// The first name that does not exist, field that a shape does not have, or operand of a wrong type.
    pub fn check(&self, variables: &[Variable<'_>]) -> Result<Report, CompileError> {
        match self.check_all(variables) {
            Ok(Typed { result, cost, .. }) => Ok(Report { result, cost }),
            Err(errors) => Err(errors
                .into_iter()
                .next()
                .unwrap_or_else(|| CompileError::whole("the expression has a wrong type"))),
        }
    }

    /// The same as [`Program::check`], but goes on after the first mistake: a part with one is of any type.
    ///
    /// # Errors
    /// Everything that is wrong, in the order of the text.
    pub fn check_all<'s>(&self, variables: &[Variable<'s>]) -> Result<Typed<'s>, Vec<CompileError>> {
        let mut checker = Checker {
            program: self,
            variables,
            locals: Vec::new(),
            errors: Vec::new(),
        };
        let info = checker.infer(&self.root);
        let mut errors = checker.errors;
        if errors.is_empty() {
            return Ok(Typed {
                result: info.type_,
                shape: info.shape,
                cost: info.cost,
            });
        }
        errors.sort_by_key(|error| error.position.map(|place| (place.line, place.column)));
        Err(errors)
    }
}

/// That an operator or function does not take operands of these types.
fn no_overload(name: &str, operands: &[Info<'_>]) -> String {
    let types: Vec<String> = operands.iter().map(|operand| operand.named()).collect();
    format!(
        "found no matching overload for '{name}' applied to '({})'",
        types.join(", ")
    )
}

impl<'s> Checker<'s, '_> {
    fn fail<T>(&self, node: &Node, message: impl Into<String>) -> Result<T, CompileError> {
        Err(CompileError::at(&self.program.source, node.offset, message))
    }

    /// Refuses a term that is known to be neither true nor false.
    fn decides(&self, node: &Node, info: Info<'s>) -> Result<(), CompileError> {
        if matches!(info.type_, "" | "bool") {
            return Ok(());
        }
        let message = format!("expected type 'bool' but found '{}'", info.named());
        self.fail(node, message)
    }

    /// Refuses a condition of a macro, by which one of two values of a type is taken, that is neither true nor false.
    fn chooses(&self, node: &Node, condition: Info<'s>, of: Info<'s>) -> Result<(), CompileError> {
        if matches!(condition.type_, "" | "bool") {
            return Ok(());
        }
        self.fail(node, no_overload("_?_:_", &[condition, of, of]))
    }

    /// What a part of the program gives. Something that is wrong with it is noted.
    fn infer(&mut self, node: &Node) -> Info<'s> {
        self.judge(node).unwrap_or_else(|error| {
            self.errors.push(error);
            Info::of("", 0)
        })
    }

    /// Notes what is wrong with a part that is of a known type all the same.
    fn note(&mut self, judged: Result<(), CompileError>) {
        self.errors.extend(judged.err());
    }

    fn judge(&mut self, node: &Node) -> Result<Info<'s>, CompileError> {
        Ok(match &node.kind {
            NodeKind::Literal(literal) => {
                let (type_, size) = match literal {
                    Literal::Null => ("null_type", 1),
                    Literal::Bool(_) => ("bool", 1),
                    Literal::Int(_) => ("int", 1),
                    Literal::UInt(_) => ("uint", 1),
                    Literal::Double(_) => ("double", 1),
                    Literal::String(s) => ("string", s.len() as u64),
                    Literal::Bytes(b) => ("bytes", b.len() as u64),
                };
                Info {
                    size,
                    ..Info::of(type_, 0)
                }
            }
            NodeKind::Type(_) => Info::of("type", 0),
            NodeKind::Global(at) => {
                let name = self.program.variables.get(*at).map_or("", String::as_str);
                match self.variables.iter().find(|v| v.name == name) {
                    Some(v) if v.optional => Info {
                        type_: "optional_type",
                        ..Info::shaped(v.shape, 1)
                    },
                    Some(v) => Info::shaped(v.shape, 1),
                    None => {
                        return self.fail(
                            node,
                            format!("undeclared reference to '{name}' (in container '')"),
                        );
                    }
                }
            }
            NodeKind::Local(at) => self.locals.get(*at).copied().unwrap_or(Info::of("", 0)).plus(1),
            NodeKind::Select {
                operand,
                field,
                optional,
            } => {
                let of = self.infer(operand);
                let info = self.field(node, of, &field.name, field.unescaped.as_deref())?;
                info.optional_if(*optional || of.type_ == "optional_type")
            }
            NodeKind::Has { operand, field } => {
                let of = self.infer(operand);
                self.field(node, of, &field.name, field.unescaped.as_deref())?;
                Info::of("bool", of.cost)
            }
            NodeKind::Index {
                operand,
                index,
                optional,
            } => {
                let of = self.infer(operand);
                let cost = self.infer(index).cost;
                if !matches!(of.type_, "" | "list" | "map" | "optional_type") {
                    let by = self.infer(index);
                    return self.fail(node, no_overload("_[_]", &[of, by]));
                }
                let info = Info::shaped(of.shape.and_then(Shape::element), of.cost).plus(cost + 1);
                info.optional_if(*optional || of.type_ == "optional_type")
            }
            NodeKind::And(terms) | NodeKind::Or(terms) => {
                let mut cost = 0_u64;
                for term in terms {
                    let info = self.infer(term);
                    let judged = self.decides(term, info);
                    self.note(judged);
                    cost = cost.saturating_add(info.cost);
                }
                Info::of("bool", cost)
            }
            NodeKind::Not(operand) => {
                let info = self.infer(operand);
                if !matches!(info.type_, "" | "bool") {
                    return self.fail(node, no_overload("!_", &[info]));
                }
                Info::of("bool", info.cost).plus(1)
            }
            NodeKind::Negate(operand) => {
                let info = self.infer(operand);
                if !matches!(info.type_, "" | "int" | "double") {
                    return self.fail(node, no_overload("-_", &[info]));
                }
                info.plus(1)
            }
            NodeKind::Conditional(parts) => {
                let [condition, then, otherwise] = parts.as_ref();
                let info = self.infer(condition);
                let (a, b) = (self.infer(then), self.infer(otherwise));
                if !matches!(info.type_, "" | "bool") || a.differs_from(b) {
                    return self.fail(node, no_overload("_?_:_", &[info, a, b]));
                }
                let type_ = if a.type_ == b.type_ { a.type_ } else { "" };
                let shape = if type_.is_empty() { None } else { a.shape };
                Info {
                    type_,
                    shape,
                    cost: info.cost.saturating_add(a.cost.max(b.cost)),
                    size: a.size.max(b.size),
                }
            }
            NodeKind::Operator(operator, operands) => {
                use crate::eval::Operator as Op;
                let [left, right] = operands.as_ref();
                let (a, b) = (self.infer(left), self.infer(right));
                let cost = a.cost.saturating_add(b.cost);
                let texts = a.type_ == "string" || a.type_ == "bytes" || b.type_ == "string";
                let unit = |size: u64| if texts { size / 10 + 1 } else { size };
                self.same_types(node, *operator, a, b)?;
                match operator {
                    Op::Equal | Op::NotEqual | Op::Less | Op::LessEqual | Op::Greater | Op::GreaterEqual => {
                        Info::of("bool", cost).plus(unit(a.size.min(b.size)))
                    }
                    Op::In => {
                        if !matches!(b.type_, "" | "list" | "map") {
                            return self.fail(node, no_overload("@in", &[a, b]));
                        }
                        Info::of("bool", cost).plus(if b.type_ == "map" { 1 } else { b.size })
                    }
                    Op::Add if matches!(a.type_, "string" | "bytes" | "list" | "") => {
                        let size = a.size.saturating_add(b.size);
                        let type_ = if a.type_.is_empty() { b.type_ } else { a.type_ };
                        Info {
                            type_,
                            shape: a.shape,
                            cost,
                            size,
                        }
                        .plus(unit(size))
                    }
                    _ => {
                        let type_ = match (a.type_, b.type_) {
                            ("google.protobuf.Timestamp", "google.protobuf.Timestamp") => {
                                "google.protobuf.Duration"
                            }
                            ("google.protobuf.Duration", "google.protobuf.Timestamp") => {
                                "google.protobuf.Timestamp"
                            }
                            (a, _) => a,
                        };
                        Info::of(type_, cost).plus(1)
                    }
                }
            }
            NodeKind::Call { function, args } => {
                let mut cost = 1_u64;
                let mut infos = Vec::with_capacity(args.len());
                for arg in args {
                    let info = self.infer(arg);
                    cost = cost.saturating_add(info.cost);
                    infos.push(info);
                }
                self.call(node, function.0.name, function.0.result, &infos, cost)?
            }
            NodeKind::List(items) => {
                let mut cost = 10_u64;
                let mut first = None;
                for (item, optional) in items {
                    let info = self.infer(item);
                    cost = cost.saturating_add(info.cost);
                    if !optional {
                        let judged = self.alike(item, &mut first, info);
                        self.note(judged);
                    }
                }
                Info {
                    size: items.len() as u64,
                    ..Info::of("list", cost)
                }
            }
            NodeKind::Map(entries) => {
                let mut cost = 30_u64;
                // Structures of policies are maps here, too, and their values of any types.
                for (key, value, _) in entries {
                    cost = cost
                        .saturating_add(self.infer(key).cost)
                        .saturating_add(self.infer(value).cost);
                }
                Info {
                    size: entries.len() as u64,
                    ..Info::of("map", cost)
                }
            }
            NodeKind::Macro(m) => self.comprehension(node, m)?,
        })
    }

    /// Refuses operands that are known to be of types that the operator does not take together.
    fn same_types(
        &self,
        node: &Node,
        operator: crate::eval::Operator,
        a: Info<'s>,
        b: Info<'s>,
    ) -> Result<(), CompileError> {
        use crate::eval::Operator as Op;
        const SCALARS: &[&str] = &["bool", "int", "uint", "double", "string", "bytes"];
        let scalar = |type_: &str| SCALARS.contains(&type_);
        let number = |type_: &str| matches!(type_, "int" | "uint" | "double");
        let (name, mixed_numbers) = match operator {
            Op::Equal => ("_==_", false),
            Op::NotEqual => ("_!=_", false),
            Op::Less => ("_<_", true),
            Op::LessEqual => ("_<=_", true),
            Op::Greater => ("_>_", true),
            Op::GreaterEqual => ("_>=_", true),
            Op::Add => ("_+_", false),
            Op::Subtract => ("_-_", false),
            Op::Multiply => ("_*_", false),
            Op::Divide => ("_/_", false),
            Op::Modulo => ("_%_", false),
            Op::In => return Ok(()),
        };
        let compares = matches!(
            operator,
            Op::Equal | Op::NotEqual | Op::Less | Op::LessEqual | Op::Greater | Op::GreaterEqual
        );
        let differ = if compares {
            a.differs_from(b)
        } else {
            let null = |one: Info<'_>, other: Info<'_>| one.type_ == "null_type" && scalar(other.type_);
            null(a, b) || null(b, a) || scalar(a.type_) && scalar(b.type_) && a.type_ != b.type_
        };
        if differ && !(mixed_numbers && number(a.type_) && number(b.type_)) {
            return self.fail(node, no_overload(name, &[a, b]));
        }
        Ok(())
    }

    /// The items of a literal are of one type, which the first one says.
    fn alike(&self, node: &Node, first: &mut Option<Info<'s>>, info: Info<'s>) -> Result<(), CompileError> {
        match first {
            Some(first) if first.differs_from(info) => self.fail(
                node,
                format!("expected type '{}' but found '{}'", first.named(), info.named()),
            ),
            Some(first) if !first.type_.is_empty() => Ok(()),
            _ => {
                *first = Some(info);
                Ok(())
            }
        }
    }

    fn call(
        &self,
        node: &Node,
        name: &str,
        result: &'static str,
        infos: &[Info<'s>],
        cost: u64,
    ) -> Result<Info<'s>, CompileError> {
        let first = infos.first().copied().unwrap_or(Info::of("", 0));
        if matches!(name, "size" | "string") && first.type_ == "object" {
            return self.fail(node, no_overload(name, infos));
        }
        if let ("orValue", [optional, other]) = (name, infos)
            && optional.type_ == "optional_type"
            && Info::shaped(optional.shape, 0).differs_from(*other)
        {
            let (optional, other) = (optional.named(), other.named());
            return self.fail(
                node,
                format!("found no matching overload for 'orValue' applied to '{optional}.({other})'"),
            );
        }
        let size = |i: usize| infos.get(i).map_or(1, |x| x.size);
        let work = match name {
            "matches" | "find" | "findAll" => (size(0) / 10 + 1).saturating_mul(size(1) / 4 + 1),
            // They look at as much as they are given.
            "startsWith" | "endsWith" => size(1) / 10 + 1,
            // The patterns of formats are taken to be as long as this.
            "validate" => (size(1) / 10 + 1).saturating_mul(32),
            "contains" | "charAt" | "substring" | "lowerAscii" | "upperAscii" | "trim" | "replace"
            | "split" | "string" | "bytes" | "format" | "quantity" | "url" => size(0) / 10 + 1,
            "size" => 1,
            "sets.contains" | "sets.equivalent" | "sets.intersects" => size(0).saturating_mul(size(1)),
            "distinct" => size(0).saturating_mul(size(0)) / 4,
            _ if first.type_ == "list" => size(0),
            _ => 1,
        };
        let shape = match name {
            "min" | "max" | "sum" => first.shape.and_then(Shape::element),
            "orValue" | "value" => first.shape.filter(|_| name == "value"),
            "sort" | "reverse" | "distinct" | "slice" => first.shape,
            _ => None,
        };
        let type_ = if result.is_empty() {
            Info::shaped(shape, 0).type_
        } else {
            result
        };
        let type_ = if name == "dyn" { "" } else { type_ };
        let out = match name {
            _ if !matches!(type_, "" | "string" | "bytes" | "list" | "map" | "optional_type") => 1,
            // Nothing bounds the text of what is no text, nor the parts of a URL.
            "string" if first.type_ != "string" => UNBOUNDED,
            "getScheme" | "getHost" | "getHostname" | "getPort" | "getEscapedPath" => UNBOUNDED,
            "replace" => size(0).saturating_mul(size(2).max(1)),
            "join" => UNBOUNDED,
            _ => first.size,
        };
        let info = Info {
            type_,
            shape,
            cost,
            size: out.min(UNBOUNDED),
        };
        Ok(info.plus(work))
    }

    fn field(
        &self,
        node: &Node,
        of: Info<'s>,
        name: &str,
        unescaped: Option<&str>,
    ) -> Result<Info<'s>, CompileError> {
        if !matches!(of.type_, "" | "map" | "object" | "optional_type") {
            return self.fail(
                node,
                format!("type '{}' does not support field selection", of.type_),
            );
        }
        let Some(shape) = of.shape else {
            return Ok(Info::shaped(None, of.cost).plus(1));
        };
        let known = unescaped
            .and_then(|n| shape.field(n))
            .or_else(|| shape.field(name))
            .filter(|field| field.is_declared());
        match known {
            Some(field) => Ok(Info::shaped(Some(field), of.cost).plus(1)),
            None if shape.is_closed() => self.fail(node, format!("undefined field '{name}'")),
            None => Ok(Info::shaped(shape.element(), of.cost).plus(1)),
        }
    }

    fn comprehension(&mut self, node: &Node, m: &crate::node::Macro) -> Result<Info<'s>, CompileError> {
        let range = self.infer(&m.range);
        let is_map = range.type_ == "map";
        let ranges = !matches!(
            m.kind,
            MacroKind::Bind | MacroKind::OptMap | MacroKind::OptFlatMap
        );
        if ranges && !matches!(range.type_, "" | "list" | "map") {
            let message = format!(
                "expression of type '{}' cannot be range of a comprehension",
                range.type_
            );
            return self.fail(node, format!("{message} (must be list, map, or dynamic)"));
        }
        let element = Info::shaped(range.shape.and_then(Shape::element), 0);
        let key = Info {
            size: 64,
            ..Info::of(if is_map { "string" } else { "int" }, 0)
        };
        self.locals.truncate(m.slot);
        self.locals.resize(m.slot, Info::of("", 0));
        match m.kind {
            MacroKind::Bind => self.locals.push(Info { cost: 0, ..range }),
            MacroKind::OptMap | MacroKind::OptFlatMap => self.locals.push(Info::shaped(range.shape, 0)),
            _ if m.two => self.locals.extend([key, element]),
            _ if is_map => self.locals.push(key),
            _ => self.locals.push(element),
        }
        let mut step = match m.kind {
            // A list of one item is made and appended each time.
            MacroKind::Filter | MacroKind::Map | MacroKind::TransformList => 12_u64,
            _ => 1,
        };
        if let Some(filter) = &m.filter {
            let info = self.infer(filter);
            // Items are kept or left out by a condition of the macro's own.
            let kept = Info::of("list", 0);
            let judged = self.chooses(node, info, kept);
            self.note(judged);
            step = step.saturating_add(info.cost);
        }
        let depth = self.locals.len();
        let body = self.infer(&m.body);
        self.locals.truncate(depth);
        self.locals.truncate(m.slot);
        step = step.saturating_add(body.cost);
        let count = match m.kind {
            MacroKind::Bind | MacroKind::OptMap | MacroKind::OptFlatMap => 1,
            _ => range.size,
        };
        let cost = range.cost.saturating_add(step.saturating_mul(count));
        Ok(match m.kind {
            MacroKind::All | MacroKind::Exists => {
                let judged = self.decides(&m.body, body);
                self.note(judged);
                Info::of("bool", cost)
            }
            MacroKind::ExistsOne => {
                let judged = self.chooses(node, body, Info::of("int", 0));
                self.note(judged);
                Info::of("bool", cost)
            }
            MacroKind::Filter => {
                let shape = range.shape.filter(|_| !is_map);
                let kept = Info {
                    type_: "list",
                    shape,
                    cost,
                    size: range.size,
                };
                let judged = self.chooses(node, body, kept);
                self.note(judged);
                kept
            }
            MacroKind::SortBy => Info {
                type_: "list",
                shape: range.shape,
                cost,
                size: range.size,
            },
            MacroKind::Map | MacroKind::TransformList => Info {
                size: range.size,
                ..Info::of("list", cost)
            },
            MacroKind::TransformMap | MacroKind::TransformMapEntry => Info {
                size: range.size,
                ..Info::of("map", cost)
            },
            MacroKind::OptMap | MacroKind::OptFlatMap => Info {
                type_: "optional_type",
                shape: body.shape,
                cost,
                size: body.size,
            },
            MacroKind::Bind => Info { cost, ..body },
        })
    }
}
