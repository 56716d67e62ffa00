//! Label selectors: `app=web,tier in (a, b),!legacy`.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use super::ParseError;
use super::parse::parse;
use crate::field::{FieldError, FieldPath};
use crate::meta::names;
use crate::pointer::at;

/// How a requirement relates a label to its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// The label is one of the values.
    In,
    /// The label is absent or none of the values.
    NotIn,
    /// The label has the value (`=`).
    Equals,
    /// The label has the value (`==`).
    DoubleEquals,
    /// The label is absent or has another value.
    NotEquals,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
    /// The label is a larger integer.
    GreaterThan,
    /// The label is a smaller integer.
    LessThan,
}

/// One requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// How key and values relate.
    pub operator: Operator,
    /// The values, sorted; none for `Exists` and `DoesNotExist`.
    pub values: BTreeSet<String>,
}

impl Requirement {
    /// A requirement whose key and values have been checked.
    ///
    /// # Errors
    /// When the key or a value is malformed, or their number does not fit the operator.
    pub fn new(key: &str, operator: Operator, values: BTreeSet<String>) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        let path = FieldPath::ROOT;
        if let Some(problem) = join(&names::qualified_name(key)) {
            errors.push(FieldError::invalid(&path.child("key"), key, problem));
        }
        let at = path.child("values");
        let list = || Value::from(values.iter().cloned().collect::<Vec<_>>());
        let problem = match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                Some("for 'in', 'notin' operators, values set can't be empty")
            }
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals if values.len() != 1 => {
                Some("exact-match compatibility requires one single value")
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                Some("values set must be empty for exists and does not exist")
            }
            Operator::GreaterThan | Operator::LessThan if values.len() != 1 => {
                Some("for 'Gt', 'Lt' operators, exactly one value is required")
            }
            _ => None,
        };
        if let Some(problem) = problem {
            errors.push(FieldError::invalid(&at, list(), problem));
        }
        for (i, value) in values.iter().enumerate() {
            if matches!(operator, Operator::GreaterThan | Operator::LessThan) && value.parse::<i64>().is_err()
            {
                let problem = "for 'Gt', 'Lt' operators, the value must be an integer";
                errors.push(FieldError::invalid(&at.index(i), value.as_str(), problem));
            }
            if let Some(problem) = join(&names::label_value(value)) {
                errors.push(FieldError::invalid(
                    &at.index(i).key(key),
                    value.as_str(),
                    problem,
                ));
            }
        }
        if errors.is_empty() {
            Ok(Self {
                key: key.to_owned(),
                operator,
                values,
            })
        } else {
            Err(errors)
        }
    }

    fn matches(&self, label: Option<&str>) -> bool {
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => {
                label.is_some_and(|v| self.values.contains(v))
            }
            Operator::NotIn | Operator::NotEquals => label.is_none_or(|v| !self.values.contains(v)),
            Operator::Exists => label.is_some(),
            Operator::DoesNotExist => label.is_none(),
            Operator::GreaterThan | Operator::LessThan => {
                let label = label.and_then(|v| v.parse::<i64>().ok());
                let bound = self.values.first().and_then(|v| v.parse::<i64>().ok());
                match (label, bound) {
                    (Some(l), Some(b)) if self.operator == Operator::GreaterThan => l > b,
                    (Some(l), Some(b)) => l < b,
                    _ => false,
                }
            }
        }
    }
}

pub(super) fn join(problems: &[String]) -> Option<String> {
    (!problems.is_empty()).then(|| problems.join("; "))
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self
            .values
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(",");
        let key = &self.key;
        match self.operator {
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

/// A parsed label selector. The default selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl LabelSelector {
    /// Selects every object.
    #[must_use]
    pub fn everything() -> Self {
        Self::default()
    }

    /// Selects no object.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            requirements: Vec::new(),
            nothing: true,
        }
    }

    /// Parses the `labelSelector` parameter of a request. An empty text selects everything.
    ///
    /// # Errors
    /// When the text does not follow the grammar, or a key or value is malformed.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut requirements = parse(text)?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self {
            requirements,
            nothing: false,
        })
    }

    /// Reads a `metav1.LabelSelector` (`matchLabels`, `matchExpressions`) from an object. `None` or null selects nothing,
    /// an empty selector selects everything.
    ///
    /// # Errors
    /// When an operator does not exist, or a key or value is malformed.
    pub fn from_object(selector: Option<&Value>) -> Result<Self, ParseError> {
        let Some(selector) = selector.filter(|s| !s.is_null()) else {
            return Ok(Self::nothing());
        };
        let refused = |errors: Vec<FieldError>| {
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            ParseError(crate::field::aggregate(&texts))
        };
        let mut requirements = Vec::new();
        for (key, value) in selector
            .get("matchLabels")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let values = value.as_str().map(str::to_owned).into_iter().collect();
            requirements.push(Requirement::new(key, Operator::Equals, values).map_err(refused)?);
        }
        for expression in selector
            .get("matchExpressions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let text = |name: &str| expression.get(name).and_then(Value::as_str).unwrap_or_default();
            let operator = match text("operator") {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    return Err(ParseError(format!(
                        "{} is not a valid label selector operator",
                        crate::field::quote(other)
                    )));
                }
            };
            let values = expression
                .get("values")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect();
            requirements.push(Requirement::new(text("key"), operator, values).map_err(refused)?);
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self {
            requirements,
            nothing: false,
        })
    }

    /// Whether everything is selected.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    /// The requirements, all of which must hold.
    #[must_use]
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether an object with these labels (`metadata.labels`, may be absent) is selected.
    #[must_use]
    pub fn matches(&self, labels: Option<&serde_json::Map<String, Value>>) -> bool {
        self.matches_with(|key| labels.and_then(|l| l.get(key)).and_then(Value::as_str))
    }

    /// Whether this object is selected by its `metadata.labels`.
    #[must_use]
    pub fn matches_object(&self, object: &Value) -> bool {
        self.is_everything() || self.matches(at(object, "/metadata/labels").and_then(Value::as_object))
    }

    /// Whether an object is selected whose labels are given by `lookup`.
    #[must_use]
    pub fn matches_with<'v>(&self, lookup: impl Fn(&str) -> Option<&'v str>) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(lookup(&r.key)))
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn matches(selector: &str, labels: &Value) -> bool {
        LabelSelector::parse(selector)
            .unwrap()
            .matches(labels.as_object())
    }

    #[test]
    fn grammar() {
        for good in [
            "",
            " ",
            "x=a,y=b,z=c",
            "x!=a,y=b",
            "x=",
            "x= ,z= ",
            "!x",
            "x>1",
            "x in (a,b),y,z notin ()",
            "x in (),y notin (,a)",
            "x in (a,,b)",
            "a in (in)",
            "in=in",
            "x == a",
            "notin",
        ] {
            let parsed = LabelSelector::parse(good).unwrap_or_else(|e| panic!("{good}: {e}"));
            assert_eq!(
                LabelSelector::parse(&parsed.to_string()).unwrap().to_string(),
                parsed.to_string(),
                "{good}"
            );
        }
        for bad in [
            "x=a||y=b",
            "x==a==b",
            "!x=a",
            "x<a",
            "x in (a",
            "x in a",
            "x=a,",
            ",x",
            "x y",
            "a b=c",
            "x in (a b)",
            "=a",
            "x>1.5",
        ] {
            assert!(LabelSelector::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn errors_are_those_of_the_real_server() {
        let cases = [
            ("x=a,", "found '', expected: identifier after ','"),
            (
                "x y",
                "unable to parse requirement: found 'y', expected: in, notin, =, ==, !=, gt, lt",
            ),
            (
                "!!",
                "unable to parse requirement: found '!', expected: identifier",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(LabelSelector::parse(text).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn matching() {
        let labels = json!({"app": "web", "tier": "front", "n": "5"});
        let cases = [
            ("app=web", true),
            ("app!=web", false),
            ("other!=web", true),
            ("app in (db, web)", true),
            ("app notin (db, web)", false),
            ("other notin (db)", true),
            ("other in (db)", false),
            ("app", true),
            ("!app", false),
            ("!other", true),
            ("n>4", true),
            ("n<4", false),
            ("app>4", false),
            ("app=web,tier=back", false),
            ("other=", false),
        ];
        for (selector, expected) in cases {
            assert_eq!(matches(selector, &labels), expected, "{selector}");
        }
    }

    #[test]
    fn reads_the_api_type() {
        let selector = json!({
            "matchLabels": {"app": "web"},
            "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["a", "b"]}, {"key": "x", "operator": "DoesNotExist"}],
        });
        let parsed = LabelSelector::from_object(Some(&selector)).unwrap();
        assert_eq!(parsed.to_string(), "app=web,tier notin (a,b),!x");
        assert!(
            LabelSelector::from_object(Some(&json!({})))
                .unwrap()
                .is_everything()
        );
        assert!(!LabelSelector::from_object(None).unwrap().matches(None));
        let bad = json!({"matchExpressions": [{"key": "a", "operator": "Near"}]});
        assert_eq!(
            LabelSelector::from_object(Some(&bad)).unwrap_err().to_string(),
            "\"Near\" is not a valid label selector operator"
        );
    }

    proptest! {
        #[test]
        fn never_panics(text in "[a-c=!<>(), in\\\\notin]{0,24}|\\PC{0,24}") {
            let _ = LabelSelector::parse(&text);
            let _ = super::super::FieldSelector::parse(&text);
        }
    }
}
