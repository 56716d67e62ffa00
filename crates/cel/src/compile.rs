//! From source to program: the guards, the library's parser, and the translation of its tree.

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SourceInfo};

use crate::error::CompileError;
use crate::eval::Operator;
use crate::functions;
use crate::node::{Callee, Field, Literal, Macro, MacroKind, Node, NodeKind};
use crate::shape::unescape;
use crate::{Limits, Program};

/// Names that stand for types.
const TYPES: &[&str] = &[
    "int",
    "uint",
    "double",
    "bool",
    "string",
    "bytes",
    "list",
    "map",
    "null_type",
    "type",
    "optional_type",
    "google.protobuf.Timestamp",
    "google.protobuf.Duration",
];

pub(crate) fn compile(source: &str, limits: &Limits) -> Result<Program, CompileError> {
    guard(source, limits)?;
    let parser = cel::Env::default()
        .parser()
        .enable_ident_escape_syntax(true)
        .max_recursion_depth(limits.recursion)
        .error_recovery_limit(4);
    let (expr, info) = parser.parse_with_source_info(source).map_err(|errors| {
        let first = errors.errors.into_iter().next();
        let Some(first) = first else {
            return CompileError::whole("syntax error");
        };
        let (line, column) = (
            usize::try_from(first.pos.0).unwrap_or(1),
            usize::try_from(first.pos.1).unwrap_or(1),
        );
        let start: usize = source
            .split_inclusive('\n')
            .take(line.saturating_sub(1))
            .map(str::len)
            .sum();
        let rest = &source[start.min(source.len())..];
        let offset = rest
            .char_indices()
            .map(|(i, _)| i)
            .nth(column.saturating_sub(1))
            .unwrap_or(rest.trim_end().len());
        CompileError::at(source, start + offset, first.msg)
    })?;
    let mut translator = Translator {
        source,
        info: &info,
        locals: Vec::new(),
        globals: Vec::new(),
        depth: 0,
        limits,
    };
    let root = translator.node(expr)?;
    let variables = translator.globals;
    Ok(Program {
        source: source.to_owned(),
        root,
        variables,
    })
}

/// Refuses what the parser could take unreasonably long over: long texts and deep nesting.
fn guard(source: &str, limits: &Limits) -> Result<(), CompileError> {
    if source.len() > limits.length {
        return Err(CompileError::whole(format!(
            "expression of {} bytes exceeds the limit of {} bytes",
            source.len(),
            limits.length
        )));
    }
    let mut depth = 0_usize;
    let mut unary = 0_usize;
    let bytes = source.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            quote @ (b'"' | b'\'') => {
                let raw = i > 0 && matches!(bytes[i - 1], b'r' | b'R');
                let triple = bytes[i..].starts_with(&[quote; 3]);
                i += if triple { 3 } else { 1 };
                while i < bytes.len() {
                    if bytes[i] == b'\\' && !raw {
                        i += 1;
                    } else if triple && bytes[i..].starts_with(&[quote; 3]) {
                        i += 2;
                        break;
                    } else if !triple && (bytes[i] == quote || bytes[i] == b'\n') {
                        break;
                    }
                    i += 1;
                }
                unary = 0;
            }
            b'/' if bytes.get(i + 1) == Some(&b'/') => {
                while i < bytes.len() && bytes[i] != b'\n' {
                    i += 1;
                }
            }
            b'(' | b'[' | b'{' => {
                depth += 1;
                unary = 0;
            }
            b')' | b']' | b'}' => {
                depth = depth.saturating_sub(1);
                unary = 0;
            }
            b'!' | b'-' => unary += 1,
            b' ' | b'\t' | b'\r' | b'\n' => {}
            _ => unary = 0,
        }
        if depth + unary > limits.depth {
            let message = format!("expression is nested deeper than {} levels", limits.depth);
            return Err(CompileError::at(source, i, message));
        }
        i += 1;
    }
    Ok(())
}

struct Translator<'s> {
    source: &'s str,
    info: &'s SourceInfo,
    locals: Vec<String>,
    globals: Vec<String>,
    depth: usize,
    limits: &'s Limits,
}

type Result2<T> = Result<T, CompileError>;

impl Translator<'_> {
    fn offset(&self, id: u64) -> usize {
        self.info.offset_for(id).map_or(0, |(start, _)| start as usize)
    }

    fn fail<T>(&self, id: u64, message: impl Into<String>) -> Result2<T> {
        Err(CompileError::at(self.source, self.offset(id), message))
    }

    fn nodes(&mut self, exprs: Vec<IdedExpr>) -> Result2<Vec<Node>> {
        exprs.into_iter().map(|e| self.node(e)).collect()
    }

    fn boxed(&mut self, expr: IdedExpr) -> Result2<Box<Node>> {
        self.node(expr).map(Box::new)
    }

    fn node(&mut self, expr: IdedExpr) -> Result2<Node> {
        self.depth += 1;
        if self.depth > usize::from(self.limits.recursion) {
            return self.fail(expr.id, "expression is nested too deep");
        }
        let offset = self.offset(expr.id);
        let kind = self.kind(expr)?;
        self.depth -= 1;
        Ok(Node { kind, offset })
    }

    fn kind(&mut self, expr: IdedExpr) -> Result2<NodeKind> {
        let id = expr.id;
        Ok(match expr.expr {
            Expr::Literal(literal) => NodeKind::Literal(match literal {
                LiteralValue::Null => Literal::Null,
                LiteralValue::Boolean(b) => Literal::Bool(*b.inner()),
                LiteralValue::Int(i) => Literal::Int(*i.inner()),
                LiteralValue::UInt(u) => Literal::UInt(*u.inner()),
                LiteralValue::Double(d) => Literal::Double(*d.inner()),
                LiteralValue::String(s) => Literal::String(s.inner().into()),
                LiteralValue::Bytes(b) => Literal::Bytes(b.inner().into()),
            }),
            Expr::Ident(name) => self.name(&name),
            Expr::Select(select) => {
                if let Some(name) = type_name(&select.operand, &select.field) {
                    return Ok(NodeKind::Type(name));
                }
                let operand = self.boxed(*select.operand)?;
                let field = field(select.field);
                if select.test {
                    NodeKind::Has { operand, field }
                } else {
                    NodeKind::Select {
                        operand,
                        field,
                        optional: false,
                    }
                }
            }
            Expr::List(list) => {
                let optional = list.optional_indices;
                let mut items = Vec::with_capacity(list.elements.len());
                for (i, element) in list.elements.into_iter().enumerate() {
                    items.push((self.node(element)?, optional.contains(&i)));
                }
                NodeKind::List(items)
            }
            Expr::Map(map) => {
                let mut entries = Vec::with_capacity(map.entries.len());
                for entry in map.entries {
                    match entry.expr {
                        EntryExpr::MapEntry(e) => {
                            entries.push((self.node(e.key)?, self.node(e.value)?, e.optional))
                        }
                        EntryExpr::StructField(_) => return self.fail(entry.id, "a map entry is expected"),
                    }
                }
                NodeKind::Map(entries)
            }
            Expr::Call(call) => return self.call(id, call),
            Expr::Struct(s) if self.is_admission_type(&s.type_name) => {
                let mut entries = Vec::with_capacity(s.entries.len());
                for entry in s.entries {
                    let offset = self.offset(entry.id);
                    match entry.expr {
                        EntryExpr::StructField(e) => {
                            let name = unescape(&e.field).unwrap_or(e.field);
                            let key = Node {
                                kind: NodeKind::Literal(Literal::String(name.into())),
                                offset,
                            };
                            entries.push((key, self.node(e.value)?, e.optional));
                        }
                        EntryExpr::MapEntry(_) => return self.fail(entry.id, "a field is expected"),
                    }
                }
                NodeKind::Map(entries)
            }
            Expr::Struct(s) => {
                return self.fail(
                    id,
                    format!("undeclared reference to '{}' (in container '')", s.type_name),
                );
            }
            Expr::Comprehension(_) | Expr::Unspecified => return self.fail(id, "syntax error"),
        })
    }

    /// Whether values of this type can be written as `Type{field: value}`: what mutating policies make.
    fn is_admission_type(&self, name: &str) -> bool {
        let name = name.strip_prefix('.').unwrap_or(name);
        self.limits.library == crate::Library::Admission
            && (matches!(name, "JSONPatch" | "Object") || name.starts_with("Object."))
    }

    fn name(&mut self, name: &str) -> NodeKind {
        let plain = name.strip_prefix('.').unwrap_or(name);
        if let Some(at) = self.locals.iter().rposition(|l| l == plain) {
            return NodeKind::Local(at);
        }
        if let Some(known) = TYPES.iter().find(|t| **t == plain) {
            return NodeKind::Type(known);
        }
        let at = self.globals.iter().position(|g| g == plain).unwrap_or_else(|| {
            self.globals.push(plain.to_owned());
            self.globals.len() - 1
        });
        NodeKind::Global(at)
    }

    fn call(&mut self, id: u64, call: CallExpr) -> Result2<NodeKind> {
        let name = call.func_name.as_str();
        if call.target.is_none()
            && let Some(kind) = self.operator(id, name, &call.args)?
        {
            return self.operands(id, kind, call.args);
        }
        let count = call.args.len();
        let Some(target) = call.target else {
            if name == "has" && count == 1 {
                return self.has(id, call.args);
            }
            return self.function(id, name, false, call.args);
        };
        if let Expr::Ident(namespace) = &target.expr
            && !self.locals.contains(namespace)
        {
            if namespace == "cel" && name == "bind" && count == 3 {
                let mut args = call.args.into_iter();
                if let (Some(variable), Some(value), Some(body)) = (args.next(), args.next(), args.next()) {
                    return self.comprehension(id, MacroKind::Bind, value, vec![variable], None, body);
                }
                return self.fail(id, "cel.bind takes a variable, a value and an expression");
            }
            let qualified = format!("{namespace}.{name}");
            if functions::is_namespace(namespace)
                && functions::find(self.limits.library, &qualified, false).is_some()
            {
                return self.function(id, &qualified, false, call.args);
            }
        }
        if let Some((kind, variables)) = macro_kind(name, &call.args) {
            let mut args = call.args.into_iter();
            let variables: Vec<IdedExpr> = args.by_ref().take(variables).collect();
            let mut rest: Vec<IdedExpr> = args.collect();
            let Some(body) = rest.pop() else {
                return self.fail(id, "syntax error");
            };
            return self.comprehension(id, kind, *target, variables, rest.pop(), body);
        }
        let mut args = vec![*target];
        args.extend(call.args);
        self.function(id, name, true, args)
    }

    fn function(&mut self, id: u64, name: &str, is_member: bool, args: Vec<IdedExpr>) -> Result2<NodeKind> {
        let Some(function) = functions::find(self.limits.library, name, is_member) else {
            let message = format!("undeclared reference to '{name}' (in container '')");
            return Err(CompileError {
                unknown: Some((name.to_owned(), is_member)),
                ..CompileError::at(self.source, self.offset(id), message)
            });
        };
        if !function.takes(args.len()) {
            return self.fail(
                id,
                format!(
                    "found no matching overload for '{name}' with {} arguments",
                    args.len()
                ),
            );
        }
        // A pattern that is known already is checked already.
        if let ("matches" | "find" | "findAll", Some(Expr::Literal(LiteralValue::String(s)))) =
            (name, args.get(1).map(|a| &a.expr))
            && let Err(why) = crate::regex::compile(s.inner())
        {
            return self.fail(
                args.get(1).map_or(id, |a| a.id),
                format!("invalid matches argument: {why}"),
            );
        }
        Ok(NodeKind::Call {
            function: Callee(function),
            args: self.nodes(args)?,
        })
    }

    fn has(&mut self, id: u64, args: Vec<IdedExpr>) -> Result2<NodeKind> {
        match args.into_iter().next().map(|a| a.expr) {
            Some(Expr::Select(select)) => Ok(NodeKind::Has {
                operand: self.boxed(*select.operand)?,
                field: field(select.field),
            }),
            _ => self.fail(id, "invalid argument to has() macro"),
        }
    }

    fn comprehension(
        &mut self,
        id: u64,
        kind: MacroKind,
        range: IdedExpr,
        variables: Vec<IdedExpr>,
        filter: Option<IdedExpr>,
        body: IdedExpr,
    ) -> Result2<NodeKind> {
        let range = self.node(range)?;
        let slot = self.locals.len();
        if slot + variables.len() > 16 {
            return self.fail(id, "too many nested variables");
        }
        let mut names = Vec::with_capacity(variables.len());
        for variable in variables {
            match variable.expr {
                Expr::Ident(name) => names.push(name),
                _ => return self.fail(variable.id, "argument must be a simple name"),
            }
        }
        let two = names.len() == 2;
        self.locals.extend(names);
        let filter = filter.map(|f| self.node(f)).transpose()?;
        let body = self.node(body)?;
        self.locals.truncate(slot);
        Ok(NodeKind::Macro(Box::new(Macro {
            kind,
            range,
            slot,
            two,
            filter,
            body,
        })))
    }

    fn operator(&self, id: u64, name: &str, args: &[IdedExpr]) -> Result2<Option<Symbol>> {
        let Some((_, symbol, count)) = SYMBOLS.iter().find(|(n, _, _)| *n == name) else {
            return Ok(None);
        };
        if args.len() == *count {
            Ok(Some(*symbol))
        } else {
            self.fail(
                id,
                format!(
                    "found no matching overload for '{name}' with {} arguments",
                    args.len()
                ),
            )
        }
    }

    fn operands(&mut self, id: u64, symbol: Symbol, args: Vec<IdedExpr>) -> Result2<NodeKind> {
        if matches!(symbol, Symbol::And | Symbol::Or) {
            return self.chain(symbol, args);
        }
        let optional = matches!(symbol, Symbol::OptSelect | Symbol::OptIndex);
        if symbol == Symbol::OptSelect {
            let mut args = args.into_iter();
            return match (args.next(), args.next().map(|a| a.expr)) {
                (Some(operand), Some(Expr::Literal(LiteralValue::String(name)))) => Ok(NodeKind::Select {
                    operand: self.boxed(operand)?,
                    field: field(name.inner().to_owned()),
                    optional,
                }),
                _ => self.fail(id, "unsupported optional field selection"),
            };
        }
        let mut nodes = self.nodes(args)?.into_iter();
        let mut next = || {
            nodes
                .next()
                .ok_or_else(|| CompileError::at(self.source, 0, "syntax error"))
        };
        Ok(match symbol {
            Symbol::Not => NodeKind::Not(Box::new(next()?)),
            Symbol::Negate => NodeKind::Negate(Box::new(next()?)),
            Symbol::Conditional => NodeKind::Conditional(Box::new([next()?, next()?, next()?])),
            Symbol::Index | Symbol::OptIndex => NodeKind::Index {
                operand: Box::new(next()?),
                index: Box::new(next()?),
                optional,
            },
            Symbol::Binary(operator) => NodeKind::Operator(operator, Box::new([next()?, next()?])),
            Symbol::And | Symbol::Or | Symbol::OptSelect => return self.fail(id, "syntax error"),
        })
    }

    /// `a && b && c` is one node, however long: chains of rules are long, not deep.
    fn chain(&mut self, symbol: Symbol, args: Vec<IdedExpr>) -> Result2<NodeKind> {
        let name = if symbol == Symbol::And { "_&&_" } else { "_||_" };
        let mut terms = Vec::new();
        let mut pending: Vec<IdedExpr> = args.into_iter().rev().collect();
        while let Some(next) = pending.pop() {
            match next.expr {
                Expr::Call(call) if call.func_name == name && call.target.is_none() => {
                    pending.extend(call.args.into_iter().rev());
                }
                _ => terms.push(self.node(next)?),
            }
        }
        Ok(if symbol == Symbol::And {
            NodeKind::And(terms)
        } else {
            NodeKind::Or(terms)
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Symbol {
    And,
    Or,
    Not,
    Negate,
    Conditional,
    Index,
    OptIndex,
    OptSelect,
    Binary(Operator),
}

const SYMBOLS: &[(&str, Symbol, usize)] = &[
    ("_&&_", Symbol::And, 2),
    ("_||_", Symbol::Or, 2),
    ("!_", Symbol::Not, 1),
    ("-_", Symbol::Negate, 1),
    ("_?_:_", Symbol::Conditional, 3),
    ("_[_]", Symbol::Index, 2),
    ("_[?_]", Symbol::OptIndex, 2),
    ("_?._", Symbol::OptSelect, 2),
    ("_+_", Symbol::Binary(Operator::Add), 2),
    ("_-_", Symbol::Binary(Operator::Subtract), 2),
    ("_*_", Symbol::Binary(Operator::Multiply), 2),
    ("_/_", Symbol::Binary(Operator::Divide), 2),
    ("_%_", Symbol::Binary(Operator::Modulo), 2),
    ("_==_", Symbol::Binary(Operator::Equal), 2),
    ("_!=_", Symbol::Binary(Operator::NotEqual), 2),
    ("_<_", Symbol::Binary(Operator::Less), 2),
    ("_<=_", Symbol::Binary(Operator::LessEqual), 2),
    ("_>_", Symbol::Binary(Operator::Greater), 2),
    ("_>=_", Symbol::Binary(Operator::GreaterEqual), 2),
    ("@in", Symbol::Binary(Operator::In), 2),
];

/// The macro that a call on a receiver is, and how many variables it declares.
fn macro_kind(name: &str, args: &[IdedExpr]) -> Option<(MacroKind, usize)> {
    let is_name = |i: usize| matches!(args.get(i).map(|a| &a.expr), Some(Expr::Ident(_)));
    Some(match (name, args.len()) {
        ("all", 2) => (MacroKind::All, 1),
        ("all", 3) => (MacroKind::All, 2),
        ("exists", 2) => (MacroKind::Exists, 1),
        ("exists", 3) => (MacroKind::Exists, 2),
        ("exists_one" | "existsOne", 2) => (MacroKind::ExistsOne, 1),
        ("exists_one" | "existsOne", 3) => (MacroKind::ExistsOne, 2),
        ("map", 2 | 3) => (MacroKind::Map, 1),
        ("filter", 2) => (MacroKind::Filter, 1),
        ("transformList", 3 | 4) => (MacroKind::TransformList, 2),
        ("transformMap", 3 | 4) => (MacroKind::TransformMap, 2),
        ("transformMapEntry", 3 | 4) => (MacroKind::TransformMapEntry, 2),
        ("sortBy", 2) if is_name(0) => (MacroKind::SortBy, 1),
        ("optMap", 2) => (MacroKind::OptMap, 1),
        ("optFlatMap", 2) => (MacroKind::OptFlatMap, 1),
        _ => return None,
    })
}

fn field(name: String) -> Field {
    let unescaped = unescape(&name).map(String::into_boxed_str);
    Field {
        name: name.into_boxed_str(),
        unescaped,
    }
}

/// The type that `google.protobuf.Timestamp` and its like name.
fn type_name(operand: &IdedExpr, last: &str) -> Option<&'static str> {
    let Expr::Select(middle) = &operand.expr else {
        return None;
    };
    let Expr::Ident(first) = &middle.operand.expr else {
        return None;
    };
    if first != "google" || middle.field != "protobuf" {
        return None;
    }
    TYPES
        .iter()
        .copied()
        .find(|t| t.strip_prefix("google.protobuf.") == Some(last))
}
