//! What the value of a condition says about fields: `has(a.b) && a.b > 1` is sound because the second half only matters
//! when the first is true.

use std::collections::BTreeSet;

use crate::Program;
use crate::eval::Operator;
use crate::node::{Field, Literal, Node, NodeKind};

/// The paths that are there when `node` gave `outcome`.
pub(super) fn when(program: &Program, node: &Node, outcome: bool) -> BTreeSet<String> {
    match &node.kind {
        NodeKind::Has { operand, field } if outcome => path(program, operand)
            .map(|of| join(&of, field))
            .into_iter()
            .collect(),
        NodeKind::Not(operand) => when(program, operand, !outcome),
        // All terms of a conjunction that holds, hold; all terms of a disjunction that does not, do not.
        NodeKind::And(terms) if outcome => all(program, terms, true),
        NodeKind::Or(terms) if !outcome => all(program, terms, false),
        NodeKind::Operator(Operator::In, operands) if outcome => {
            let [key, of] = operands.as_ref();
            match (&key.kind, path(program, of)) {
                (NodeKind::Literal(Literal::String(key)), Some(of)) => {
                    [format!("{of}.{key}")].into_iter().collect()
                }
                _ => BTreeSet::new(),
            }
        }
        NodeKind::Call { function, args } if outcome && function.0.name == "hasValue" => args
            .first()
            .and_then(|a| optional_path(program, a))
            .into_iter()
            .collect(),
        _ => BTreeSet::new(),
    }
}

fn all(program: &Program, terms: &[Node], outcome: bool) -> BTreeSet<String> {
    terms.iter().flat_map(|t| when(program, t, outcome)).collect()
}

fn optional_path(program: &Program, node: &Node) -> Option<String> {
    match &node.kind {
        NodeKind::Select { operand, field, .. } => Some(join(&path(program, operand)?, field)),
        _ => None,
    }
}

/// The path of a field: a variable and the fields below it. Nothing else has one.
pub(super) fn path(program: &Program, node: &Node) -> Option<String> {
    match &node.kind {
        NodeKind::Global(at) => program.variables.get(*at).cloned(),
        NodeKind::Local(at) => Some(format!("%{at}")),
        NodeKind::Select {
            operand,
            field,
            optional: false,
        } => Some(join(&path(program, operand)?, field)),
        NodeKind::Index {
            operand,
            index,
            optional: false,
        } => match &index.kind {
            NodeKind::Literal(Literal::String(key)) => Some(format!("{}.{key}", path(program, operand)?)),
            _ => None,
        },
        _ => None,
    }
}

pub(super) fn join(of: &str, field: &Field) -> String {
    format!("{of}.{}", field.unescaped.as_deref().unwrap_or(&field.name))
}
