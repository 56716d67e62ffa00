//! JSONPath as printer columns use it: names, indices, slices, wildcards, descent and filters.

use serde_json::Value;

/// A parsed path, such as `.status.conditions[?(@.type=="Ready")].status`.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Name(String),
    /// One item; counts from the end if negative.
    Index(i64),
    /// Items from, to (exclusive) and stride.
    Slice(Option<i64>, Option<i64>, i64),
    Wildcard,
    Descend,
    /// Several names or indices.
    Union(Vec<Step>),
    Filter(Filter),
}

#[derive(Clone, Debug, PartialEq)]
struct Filter {
    left: Operand,
    /// Without an operator the left side only has to be there.
    test: Option<(Comparison, Operand)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    /// Relative to the item (`@`).
    Item(Vec<Step>),
    /// Relative to the object (`$`).
    Object(Vec<Step>),
    Value(Value),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

/// How deep brackets may nest.
const MAX_DEPTH: usize = 8;

impl JsonPath {
    /// Parses a path. Braces around it and a leading `$` may be left out.
    ///
    /// # Errors
    /// What cannot be understood.
    pub fn parse(path: &str) -> Result<Self, String> {
        let path = path.trim();
        let path = path
            .strip_prefix('{')
            .and_then(|p| p.strip_suffix('}'))
            .unwrap_or(path);
        let mut parser = Parser {
            chars: path.chars().collect(),
            at: 0,
            depth: 0,
        };
        if parser.peek() == Some('$') {
            parser.at += 1;
        }
        let steps = parser.steps()?;
        match parser.peek() {
            None => Ok(Self { steps }),
            Some(c) => Err(format!("unrecognized character in path: {c:?}")),
        }
    }

    /// The values that the path leads to, in order.
    #[must_use]
    pub fn find<'v>(&self, object: &'v Value) -> Vec<&'v Value> {
        follow(&self.steps, vec![object], object)
    }
}

fn follow<'v>(steps: &[Step], start: Vec<&'v Value>, root: &'v Value) -> Vec<&'v Value> {
    steps.iter().fold(start, |values, step| {
        let mut next = Vec::new();
        for value in values {
            take(step, value, root, &mut next);
        }
        next
    })
}

fn take<'v>(step: &Step, value: &'v Value, root: &'v Value, out: &mut Vec<&'v Value>) {
    match step {
        Step::Name(name) => {
            if let Value::Object(map) = value {
                out.extend(map.get(name));
            }
        }
        Step::Index(index) => {
            if let Value::Array(items) = value {
                out.extend(position(*index, items.len()).and_then(|i| items.get(i)));
            }
        }
        Step::Slice(from, to, stride) => {
            let Value::Array(items) = value else { return };
            let bound = |at: &Option<i64>, default: usize| match at {
                None => default,
                Some(at) => position(*at, items.len()).unwrap_or(if *at < 0 { 0 } else { items.len() }),
            };
            let (from, to) = (bound(from, 0), bound(to, items.len()));
            let stride = usize::try_from(*stride).unwrap_or(1).max(1);
            out.extend(
                items
                    .get(from..to.max(from))
                    .unwrap_or_default()
                    .iter()
                    .step_by(stride),
            );
        }
        Step::Wildcard => match value {
            Value::Object(map) => out.extend(map.values()),
            Value::Array(items) => out.extend(items),
            _ => {}
        },
        Step::Descend => descend(value, out),
        Step::Union(steps) => {
            for step in steps {
                take(step, value, root, out);
            }
        }
        Step::Filter(filter) => {
            if let Value::Array(items) = value {
                out.extend(items.iter().filter(|item| filter.holds(item, root)));
            }
        }
    }
}

fn descend<'v>(value: &'v Value, out: &mut Vec<&'v Value>) {
    out.push(value);
    match value {
        Value::Object(map) => map.values().for_each(|v| descend(v, out)),
        Value::Array(items) => items.iter().for_each(|v| descend(v, out)),
        _ => {}
    }
}

fn position(index: i64, length: usize) -> Option<usize> {
    if index >= 0 {
        usize::try_from(index).ok()
    } else {
        usize::try_from(index.unsigned_abs())
            .ok()
            .and_then(|back| length.checked_sub(back))
    }
}

impl Filter {
    fn holds(&self, item: &Value, root: &Value) -> bool {
        let values = |operand: &Operand| -> Vec<Value> {
            match operand {
                Operand::Item(steps) => follow(steps, vec![item], root).into_iter().cloned().collect(),
                Operand::Object(steps) => follow(steps, vec![root], root).into_iter().cloned().collect(),
                Operand::Value(value) => vec![value.clone()],
            }
        };
        let left = values(&self.left);
        let Some((comparison, right)) = &self.test else {
            return !left.is_empty();
        };
        let (Some(left), Some(right)) = (left.into_iter().next(), values(right).into_iter().next()) else {
            return false;
        };
        let order = match (&left, &right) {
            (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
            (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
            (a, b) if a == b => Some(std::cmp::Ordering::Equal),
            _ => None,
        };
        use std::cmp::Ordering::{Equal, Greater, Less};
        match comparison {
            Comparison::Equal => order == Some(Equal),
            Comparison::NotEqual => order != Some(Equal),
            Comparison::Less => order == Some(Less),
            Comparison::LessEqual => matches!(order, Some(Less | Equal)),
            Comparison::Greater => order == Some(Greater),
            Comparison::GreaterEqual => matches!(order, Some(Greater | Equal)),
        }
    }
}

struct Parser {
    chars: Vec<char>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        self.at += usize::from(found);
        found
    }

    fn spaces(&mut self) {
        while self.peek() == Some(' ') {
            self.at += 1;
        }
    }

    fn expect(&mut self, c: char) -> Result<(), String> {
        self.spaces();
        if self.eat(c) {
            Ok(())
        } else {
            Err(format!("expected {c:?} at position {}", self.at))
        }
    }

    fn steps(&mut self) -> Result<Vec<Step>, String> {
        let mut steps = Vec::new();
        loop {
            match self.peek() {
                Some('.') => {
                    self.at += 1;
                    if self.eat('.') {
                        steps.push(Step::Descend);
                        if self.peek() == Some('[') {
                            continue;
                        }
                    }
                    match self.peek() {
                        Some('*') => {
                            self.at += 1;
                            steps.push(Step::Wildcard);
                        }
                        // A lone dot is the object itself.
                        None | Some('[') => {}
                        Some(_) => steps.push(Step::Name(self.name()?)),
                    }
                }
                Some('[') => steps.push(self.bracket()?),
                // The first name may stand without a dot.
                Some(c) if steps.is_empty() && (c.is_alphanumeric() || c == '_') => {
                    steps.push(Step::Name(self.name()?))
                }
                _ => return Ok(steps),
            }
        }
    }

    fn name(&mut self) -> Result<String, String> {
        let mut name = String::new();
        while let Some(c) = self.peek() {
            match c {
                '\\' => {
                    self.at += 1;
                    name.extend(self.peek());
                    self.at += 1;
                }
                '.' | '[' | ']' | ' ' | '=' | '!' | '<' | '>' | '(' | ')' | ',' => break,
                c => {
                    name.push(c);
                    self.at += 1;
                }
            }
        }
        if name.is_empty() {
            Err(format!("expected a name at position {}", self.at))
        } else {
            Ok(name)
        }
    }

    fn bracket(&mut self) -> Result<Step, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("path is nested too deep".to_owned());
        }
        self.expect('[')?;
        self.spaces();
        let step = if self.eat('?') {
            self.expect('(')?;
            let filter = self.filter()?;
            self.expect(')')?;
            Step::Filter(filter)
        } else {
            let mut steps = Vec::new();
            loop {
                self.spaces();
                steps.push(self.subscript()?);
                self.spaces();
                if !self.eat(',') {
                    break;
                }
            }
            if steps.len() == 1 {
                steps.remove(0)
            } else {
                Step::Union(steps)
            }
        };
        self.expect(']')?;
        self.depth -= 1;
        Ok(step)
    }

    fn subscript(&mut self) -> Result<Step, String> {
        match self.peek() {
            Some('*') => {
                self.at += 1;
                Ok(Step::Wildcard)
            }
            Some('\'' | '"') => Ok(Step::Name(self.quoted()?)),
            _ => {
                let from = self.integer()?;
                if !self.eat(':') {
                    return from
                        .map(Step::Index)
                        .ok_or_else(|| format!("invalid array index at position {}", self.at));
                }
                let to = self.integer()?;
                let stride = if self.eat(':') {
                    self.integer()?.unwrap_or(1)
                } else {
                    1
                };
                Ok(Step::Slice(from, to, stride))
            }
        }
    }

    fn integer(&mut self) -> Result<Option<i64>, String> {
        let start = self.at;
        self.eat('-');
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
        let text: String = self.chars[start..self.at].iter().collect();
        if text.is_empty() {
            Ok(None)
        } else {
            text.parse()
                .map(Some)
                .map_err(|_| format!("invalid array index {text}"))
        }
    }

    fn quoted(&mut self) -> Result<String, String> {
        let quote = self.peek();
        self.at += 1;
        let mut text = String::new();
        while let Some(c) = self.peek() {
            self.at += 1;
            match c {
                '\\' => {
                    text.extend(self.peek());
                    self.at += 1;
                }
                c if Some(c) == quote => return Ok(text),
                c => text.push(c),
            }
        }
        Err("unterminated quoted string".to_owned())
    }

    fn filter(&mut self) -> Result<Filter, String> {
        let left = self.operand()?;
        self.spaces();
        let comparison = match (self.peek(), self.chars.get(self.at + 1)) {
            (Some('='), Some('=')) => Some((Comparison::Equal, 2)),
            (Some('!'), Some('=')) => Some((Comparison::NotEqual, 2)),
            (Some('<'), Some('=')) => Some((Comparison::LessEqual, 2)),
            (Some('>'), Some('=')) => Some((Comparison::GreaterEqual, 2)),
            (Some('<'), _) => Some((Comparison::Less, 1)),
            (Some('>'), _) => Some((Comparison::Greater, 1)),
            _ => None,
        };
        let test = match comparison {
            None => None,
            Some((comparison, length)) => {
                self.at += length;
                Some((comparison, self.operand()?))
            }
        };
        Ok(Filter { left, test })
    }

    fn operand(&mut self) -> Result<Operand, String> {
        self.spaces();
        match self.peek() {
            Some('@') => {
                self.at += 1;
                self.steps().map(Operand::Item)
            }
            Some('$') => {
                self.at += 1;
                self.steps().map(Operand::Object)
            }
            Some('\'' | '"') => Ok(Operand::Value(self.quoted()?.into())),
            _ => {
                let start = self.at;
                while self
                    .peek()
                    .is_some_and(|c| c.is_alphanumeric() || matches!(c, '-' | '+' | '.' | '_'))
                {
                    self.at += 1;
                }
                let word: String = self.chars[start..self.at].iter().collect();
                serde_json::from_str(&word)
                    .map(Operand::Value)
                    .map_err(|_| format!("unrecognized value in filter at position {start}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case(".spec.replicas", json!([3]))]
    #[case("{.spec.replicas}", json!([3]))]
    #[case("$.spec.replicas", json!([3]))]
    #[case("spec.replicas", json!([3]))]
    #[case(".spec.missing", json!([]))]
    #[case(".spec.list[0]", json!(["a"]))]
    #[case(".spec.list[-1]", json!(["c"]))]
    #[case(".spec.list[5]", json!([]))]
    #[case(".spec.list[1:]", json!(["b", "c"]))]
    #[case(".spec.list[0:3:2]", json!(["a", "c"]))]
    #[case(".spec.list[0,2]", json!(["a", "c"]))]
    #[case(".spec.list[*]", json!(["a", "b", "c"]))]
    #[case(".spec.list", json!([["a", "b", "c"]]))]
    #[case(".metadata.labels['app.kubernetes.io/name']", json!(["web"]))]
    #[case(".metadata.labels.app\\.kubernetes\\.io/name", json!(["web"]))]
    #[case(".status.conditions[?(@.type==\"Ready\")].status", json!(["True"]))]
    #[case(".status.conditions[?(@.type=='Ready')].status", json!(["True"]))]
    #[case(".status.conditions[?(@.type != 'Ready')].type", json!(["Synced"]))]
    #[case(".status.conditions[?(@.n > 1)].type", json!(["Synced"]))]
    #[case(".status.conditions[?(@.n)].type", json!(["Ready", "Synced"]))]
    #[case(".status.conditions[*].type", json!(["Ready", "Synced"]))]
    #[case("..type", json!(["Ready", "Synced"]))]
    fn finds(#[case] path: &str, #[case] expected: Value) {
        let object = json!({
            "metadata": {"labels": {"app.kubernetes.io/name": "web"}},
            "spec": {"replicas": 3, "list": ["a", "b", "c"]},
            "status": {"conditions": [{"type": "Ready", "status": "True", "n": 1}, {"type": "Synced", "status": "False", "n": 2}]},
        });
        let found: Value = JsonPath::parse(path)
            .unwrap()
            .find(&object)
            .into_iter()
            .cloned()
            .collect();
        assert_eq!(found, expected, "{path}");
    }

    #[rstest]
    #[case(".a[")]
    #[case(".a[x]")]
    #[case(".a['x]")]
    #[case(".a[?(@.x==)]")]
    #[case(".a b")]
    fn refuses(#[case] path: &str) {
        assert!(JsonPath::parse(path).is_err(), "{path}");
    }

    proptest! {
        #[test]
        fn never_panics(path in "[.\\[\\]?()@$'a-c0-9:*,=<>! \\\\-]{0,24}") {
            if let Ok(path) = JsonPath::parse(&path) {
                let _ = path.find(&json!({"a": [{"b": 1}, [2], "c"], "b": {"a": null}}));
            }
        }
    }
}
