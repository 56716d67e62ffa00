//! The guarded CEL evaluator of the platform, with the function libraries of Kubernetes.
//!
//! No other crate names a CEL library, so that no expression runs without the limits that are set here: length and nesting
//! before anything is parsed, a cost budget while it runs. The library gives the parser; evaluation is done here, over
//! borrowed JSON, so that an object is never copied to be looked at.
//!
//! ```
//! use choreo_cel::{Bindings, Limits, Program};
//! use serde_json::json;
//!
//! let program = Program::compile("self.replicas <= self.max", &Limits::default())?;
//! let object = json!({"replicas": 2, "max": 3});
//! let mut bindings = Bindings::new();
//! bindings.bind("self", &object);
//! assert_eq!(program.eval(&bindings, &Limits::default())?, json!(true));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod check;
mod compile;
mod error;
mod eval;
mod functions;
mod node;
pub mod quantity;
pub mod regex;
pub mod shape;
pub mod typing;
mod value;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};

use parking_lot::RwLock;
use serde_json::Value as Json;

pub use check::{Report, Typed, Variable};
pub use error::{CompileError, EvalError, EvalErrorKind, Position, render_all};
pub use functions::access::{AccessCheck, AccessDecision, Authorizer};
pub use quantity::{Quantity, QuantityError};
pub use shape::Shape;

use crate::eval::Evaluator;
use crate::functions::Cost;
use crate::node::Node;
use crate::value::Val;

/// The functions that an expression may call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Library {
    /// Those of a validation rule in kube-apiserver.
    #[default]
    Kubernetes,
    /// Those of admission policies: also `authorizer`, `Object{...}` and `JSONPatch{...}`.
    Admission,
    /// Those of validation rules, and what templates need: `merge`, `hash`, `dnsLabel` and `toJson`.
    Templates,
}

/// What an expression may be and do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest source, in bytes.
    pub length: usize,
    /// Deepest nesting of brackets and unary operators.
    pub depth: usize,
    /// Deepest nesting of the parsed expression, chained operators included.
    pub recursion: u16,
    /// Largest cost of one evaluation, in units of about 50 ns.
    pub cost: u64,
    /// The functions that it may call.
    pub library: Library,
}

impl Default for Limits {
    /// 4 KiB, 15 levels, and the cost that Kubernetes allows one rule: a million.
    fn default() -> Self {
        Self {
            length: 4 << 10,
            depth: 15,
            recursion: 96,
            cost: 1_000_000,
            library: Library::Kubernetes,
        }
    }
}

/// How many programs are kept compiled. A full cache starts afresh.
const CACHE_LIMIT: usize = 16_384;

type Cache = HashMap<(Library, String), Arc<Program>>;

static CACHE: LazyLock<RwLock<Cache>> = LazyLock::new(RwLock::default);

/// A compiled expression. Cheap to evaluate any number of times, from any thread.
#[derive(Debug)]
pub struct Program {
    pub(crate) source: String,
    pub(crate) root: Node,
    pub(crate) variables: Vec<String>,
}

/// What an evaluation gave and what it cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The value as JSON.
    pub value: Json,
    /// The cost, which counts against the caller's budget also when the evaluation failed.
    pub cost: u64,
}

impl Program {
    /// Compiles an expression, or gives the program that it was compiled to before.
    ///
    /// # Errors
    /// When the source breaks a limit or is not an expression. The message says where.
    pub fn compile(source: &str, limits: &Limits) -> Result<Arc<Self>, CompileError> {
        let key = (limits.library, source.to_owned());
        if let Some(found) = CACHE.read().get(&key)
            && source.len() <= limits.length
        {
            return Ok(found.clone());
        }
        let program = Arc::new(compile::compile(source, limits)?);
        let mut cache = CACHE.write();
        if cache.len() >= CACHE_LIMIT {
            cache.clear();
        }
        cache.insert(key, program.clone());
        Ok(program)
    }

    /// The source.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The names of the variables that the expression refers to.
    #[must_use]
    pub fn variables(&self) -> &[String] {
        &self.variables
    }

    /// Whether the expression refers to the variable `name`.
    #[must_use]
    pub fn uses(&self, name: &str) -> bool {
        self.variables.iter().any(|v| v == name)
    }

    /// Evaluates the expression.
    ///
    /// # Errors
    /// When a function does not take what it is given, a key is missing, or the budget is spent.
    pub fn eval(&self, bindings: &Bindings<'_>, limits: &Limits) -> Result<Json, EvalError> {
        self.run(bindings, limits.cost).0.map(|value| value.to_json())
    }

    /// Evaluates the expression and says what that cost, for callers with a budget over several expressions.
    ///
    /// # Errors
    /// Like [`Program::eval`]; the cost is then the second part of the error.
    pub fn eval_within(&self, bindings: &Bindings<'_>, cost: u64) -> Result<Outcome, (EvalError, u64)> {
        let (result, spent) = self.run(bindings, cost);
        let mut left = Cost {
            left: cost.saturating_sub(spent),
        };
        match result.and_then(|value| value.to_json_within(&mut left)) {
            Ok(value) => Ok(Outcome {
                value,
                cost: cost - left.left,
            }),
            Err(error) => Err((error, cost - left.left)),
        }
    }

    fn run<'a>(&'a self, bindings: &Bindings<'a>, budget: u64) -> (Result<Val<'a>, EvalError>, u64) {
        let globals: Vec<Option<Val<'a>>> = self
            .variables
            .iter()
            .map(|name| {
                bindings
                    .values
                    .iter()
                    .rev()
                    .find(|(n, _)| n == name)
                    .map(|(_, v)| v.clone())
            })
            .collect();
        let mut evaluator = Evaluator {
            globals: &globals,
            names: &self.variables,
            locals: Vec::new(),
            cost: Cost { left: budget },
        };
        let result = evaluator.eval(&self.root);
        let spent = budget - evaluator.cost.left;
        (result, spent)
    }
}

/// The variables of an evaluation.
#[derive(Clone, Default)]
pub struct Bindings<'a> {
    values: Vec<(&'a str, Val<'a>)>,
}

impl<'a> Bindings<'a> {
    /// No variables.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Binds a name to a JSON value. Nothing is copied.
    pub fn bind(&mut self, name: &'a str, value: &'a Json) -> &mut Self {
        self.values.push((name, Val::from_json(value, None)));
        self
    }

    /// Binds a name to a JSON value of a known shape.
    pub fn bind_shaped(&mut self, name: &'a str, value: &'a Json, shape: &'a dyn Shape) -> &mut Self {
        self.values.push((name, Val::from_json(value, Some(shape))));
        self
    }

    /// Binds a name to an authorizer, whose field `requestResource` asks about `request`.
    pub fn bind_authorizer(
        &mut self,
        name: &'a str,
        authorizer: &'a dyn Authorizer,
        request: AccessCheck,
    ) -> &mut Self {
        let access = functions::access::Access {
            host: authorizer,
            stage: functions::access::Stage::Start(AccessCheck::default()),
            request: Rc::new(request),
        };
        self.values.push((name, Val::Access(Rc::new(access))));
        self
    }

    /// Evaluates a program over what is bound so far, and makes the outcome a field of the map that `name` is bound to; the
    /// map is made when there is none. Gives the cost. The field is missing when the evaluation fails.
    ///
    /// # Errors
    /// Like [`Program::eval_within`].
    pub fn compute(
        &mut self,
        name: &'a str,
        field: &str,
        program: &'a Program,
        cost: u64,
    ) -> Result<u64, (EvalError, u64)> {
        let (result, spent) = program.run(self, cost);
        let value = result.map_err(|error| (error, spent))?;
        let key = value::Key::String(Rc::from(field));
        let bound = self.values.iter_mut().rev().find(|(n, _)| *n == name);
        match bound {
            Some((_, Val::Map(map))) => {
                Rc::make_mut(map).insert(key, value);
            }
            _ => {
                let map = std::collections::BTreeMap::from_iter([(key, value)]);
                self.values.push((name, Val::Map(Rc::new(map))));
            }
        }
        Ok(spent)
    }

    /// Binds a name to a map without entries, for [`Bindings::compute`].
    pub fn bind_empty(&mut self, name: &'a str) -> &mut Self {
        self.values.push((name, Val::Map(Rc::default())));
        self
    }

    /// Binds a name to an optional value, which may be absent.
    pub fn bind_optional(
        &mut self,
        name: &'a str,
        value: Option<&'a Json>,
        shape: Option<&'a dyn Shape>,
    ) -> &mut Self {
        let value = value.map(|v| Rc::new(Val::from_json(v, shape)));
        self.values.push((name, Val::Optional(value)));
        self
    }
}

#[cfg(test)]
mod tests;
