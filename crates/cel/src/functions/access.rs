//! What expressions of admission may do beyond those of validation rules: ask whether somebody may do something, and escape the
//! keys of JSON patches.

use std::rc::Rc;

use super::{Function, Result, global, member, text};
use crate::error::EvalError;
use crate::value::Val;

/// What an expression asks an authorizer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessCheck {
    /// A path that is no resource; none for a resource.
    pub path: Option<String>,
    /// The verb.
    pub verb: String,
    /// The API group.
    pub group: String,
    /// The plural resource name.
    pub resource: String,
    /// The subresource, or empty.
    pub subresource: String,
    /// The namespace, or empty.
    pub namespace: String,
    /// The object's name, or empty.
    pub name: String,
    /// Namespace and name of the service account that is asked about, rather than who writes.
    pub service_account: Option<(String, String)>,
}

/// What an authorizer answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessDecision {
    /// Whether it may be done.
    pub allowed: bool,
    /// Why, or why not.
    pub reason: String,
    /// What went wrong when it was asked.
    pub error: String,
}

/// Answers the variable `authorizer` of admission expressions.
pub trait Authorizer {
    /// Whether it may be done.
    fn decide(&self, check: &AccessCheck) -> AccessDecision;
}

/// A step of a question to an authorizer, or its answer.
#[derive(Clone)]
pub(crate) struct Access<'a> {
    pub(crate) host: &'a dyn Authorizer,
    pub(crate) stage: Stage,
    /// What `authorizer.requestResource` asks about.
    pub(crate) request: Rc<AccessCheck>,
}

#[derive(Clone)]
pub(crate) enum Stage {
    /// Nothing is said yet, but perhaps about whom.
    Start(AccessCheck),
    /// The group is known.
    Group(AccessCheck),
    /// A resource or path is known.
    Check(AccessCheck),
    /// The answer.
    Decision(AccessDecision),
}

impl<'a> Access<'a> {
    /// The check that the field `requestResource` is.
    pub(crate) fn of_request(&self) -> Option<Val<'a>> {
        match &self.stage {
            Stage::Start(start) => Some(self.at(Stage::Check(AccessCheck {
                service_account: start.service_account.clone(),
                ..(*self.request).clone()
            }))),
            _ => None,
        }
    }

    fn at(&self, stage: Stage) -> Val<'a> {
        Val::Access(Rc::new(Access {
            stage,
            ..self.clone()
        }))
    }

    pub(crate) fn type_name(&self) -> &'static str {
        match &self.stage {
            Stage::Start(_) => "kubernetes.authorization.Authorizer",
            Stage::Group(_) => "kubernetes.authorization.GroupCheck",
            Stage::Check(check) if check.path.is_some() => "kubernetes.authorization.PathCheck",
            Stage::Check(_) => "kubernetes.authorization.ResourceCheck",
            Stage::Decision(_) => "kubernetes.authorization.Decision",
        }
    }
}

/// What a question to an authorizer costs: it may look at many roles.
const DECISION_COST: u64 = 350_000;

pub(super) const FUNCTIONS: &[Function] = &[
    member("group", 2, "kubernetes.authorization.GroupCheck", |_, args| {
        let (access, text) = (access(&args[0])?, text(&args[1])?.to_owned());
        match &access.stage {
            Stage::Start(check) => Ok(access.at(Stage::Group(AccessCheck {
                group: text,
                ..check.clone()
            }))),
            _ => Err(EvalError::no_such_overload()),
        }
    }),
    member(
        "serviceAccount",
        3,
        "kubernetes.authorization.Authorizer",
        |_, args| {
            let access = access(&args[0])?;
            let account = (text(&args[1])?.to_owned(), text(&args[2])?.to_owned());
            match &access.stage {
                Stage::Start(check) => Ok(access.at(Stage::Start(AccessCheck {
                    service_account: Some(account),
                    ..check.clone()
                }))),
                _ => Err(EvalError::no_such_overload()),
            }
        },
    ),
    member("path", 2, "kubernetes.authorization.PathCheck", |_, args| {
        let (access, text) = (access(&args[0])?, text(&args[1])?.to_owned());
        match &access.stage {
            Stage::Start(_) if text.is_empty() => Err(EvalError::other("path must not be empty")),
            Stage::Start(check) => Ok(access.at(Stage::Check(AccessCheck {
                path: Some(text),
                ..check.clone()
            }))),
            _ => Err(EvalError::no_such_overload()),
        }
    }),
    member(
        "resource",
        2,
        "kubernetes.authorization.ResourceCheck",
        |_, args| {
            let (access, text) = (access(&args[0])?, text(&args[1])?.to_owned());
            match &access.stage {
                Stage::Group(check) => Ok(access.at(Stage::Check(AccessCheck {
                    resource: text,
                    ..check.clone()
                }))),
                _ => Err(EvalError::no_such_overload()),
            }
        },
    ),
    member(
        "subresource",
        2,
        "kubernetes.authorization.ResourceCheck",
        |_, args| narrowed(args, |check, text| check.subresource = text),
    ),
    member(
        "namespace",
        2,
        "kubernetes.authorization.ResourceCheck",
        |_, args| narrowed(args, |check, text| check.namespace = text),
    ),
    member("name", 2, "kubernetes.authorization.ResourceCheck", |_, args| {
        narrowed(args, |check, text| check.name = text)
    }),
    // Rules of roles do not know selectors: a check with one is a check without one.
    member(
        "fieldSelector",
        2,
        "kubernetes.authorization.ResourceCheck",
        |_, args| narrowed(args, |_, _| {}),
    ),
    member(
        "labelSelector",
        2,
        "kubernetes.authorization.ResourceCheck",
        |_, args| narrowed(args, |_, _| {}),
    ),
    member("check", 2, "kubernetes.authorization.Decision", |cost, args| {
        let (access, verb) = (access(&args[0])?, text(&args[1])?.to_owned());
        match &access.stage {
            Stage::Check(check) => {
                cost.charge(DECISION_COST)?;
                let asked = AccessCheck {
                    verb,
                    ..check.clone()
                };
                Ok(access.at(Stage::Decision(access.host.decide(&asked))))
            }
            _ => Err(EvalError::no_such_overload()),
        }
    }),
    member("allowed", 1, "bool", |_, args| {
        Ok(Val::Bool(decision(&args[0])?.allowed))
    }),
    member("reason", 1, "string", |_, args| {
        Ok(Val::string(decision(&args[0])?.reason.as_str()))
    }),
    member("errored", 1, "bool", |_, args| {
        Ok(Val::Bool(!decision(&args[0])?.error.is_empty()))
    }),
    member("error", 1, "string", |_, args| {
        Ok(Val::string(decision(&args[0])?.error.as_str()))
    }),
    global("jsonpatch.escapeKey", 1, "string", |cost, args| {
        cost.charge(args[0].weight())?;
        Ok(Val::string(text(&args[0])?.replace('~', "~0").replace('/', "~1")))
    }),
];

fn access<'r, 'a>(value: &'r Val<'a>) -> Result<&'r Access<'a>> {
    match value {
        Val::Access(access) => Ok(access),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn decision<'r>(value: &'r Val<'_>) -> Result<&'r AccessDecision> {
    match &access(value)?.stage {
        Stage::Decision(decision) => Ok(decision),
        _ => Err(EvalError::no_such_overload()),
    }
}

/// A check of a resource with something more said.
fn narrowed<'a>(args: &[Val<'a>], say: fn(&mut AccessCheck, String)) -> Result<Val<'a>> {
    let (access, text) = (access(&args[0])?, text(&args[1])?.to_owned());
    match &access.stage {
        Stage::Check(check) if check.path.is_none() => {
            let mut check = check.clone();
            say(&mut check, text);
            Ok(access.at(Stage::Check(check)))
        }
        _ => Err(EvalError::no_such_overload()),
    }
}
