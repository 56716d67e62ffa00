//! Mediation: what is done to the headers of requests and responses, as filters of a route.

use std::collections::BTreeSet;

use choreo_api::{
    conditions::reasons,
    v1alpha1::{ApiPolicy, Transformation, TransformationAction},
};
use serde_json::{Map, Value, json};

use crate::problem::{Problem, Problems};

/// Most headers that one filter takes in each of its lists.
const MOST_HEADERS: usize = 16;

/// The changes of one direction. A filter applies them without order, so each header may be named once only.
#[derive(Default)]
struct Changes {
    add: Vec<Value>,
    set: Vec<Value>,
    remove: Vec<String>,
    named: BTreeSet<String>,
}

/// What a policy does to headers, as filters of the route.
pub(in crate::render) fn filters(policy: &ApiPolicy, by: &str) -> Result<Vec<Value>, Problems> {
    let Some(mediation) = &policy.mediation else {
        return Ok(Vec::new());
    };
    let mut problems = Problems::new();
    let mut filters = Vec::new();
    for (list, field, kind, key) in [
        (
            &mediation.request_transformations,
            "requestTransformations",
            "RequestHeaderModifier",
            "requestHeaderModifier",
        ),
        (
            &mediation.response_transformations,
            "responseTransformations",
            "ResponseHeaderModifier",
            "responseHeaderModifier",
        ),
    ] {
        let mut refuse = |place: String, why: &str| {
            problems.push(Problem::error(
                reasons::RENDER_FAILED,
                format!("{by} mediation.{place}: {why}; the endpoint is not exposed without it"),
            ));
        };
        let mut changes = Changes::default();
        for (i, change) in list.iter().enumerate() {
            if let Err(why) = changes.take(change) {
                refuse(format!("{field}[{i}]"), &why);
            }
        }
        let Changes { add, set, remove, .. } = changes;
        if add.len().max(set.len()).max(remove.len()) > MOST_HEADERS {
            refuse(
                field.to_owned(),
                &format!("the gateway adds, sets and removes at most {MOST_HEADERS} headers each"),
            );
        }
        let mut modifier = Map::new();
        if !set.is_empty() {
            modifier.insert("set".to_owned(), Value::Array(set));
        }
        if !add.is_empty() {
            modifier.insert("add".to_owned(), Value::Array(add));
        }
        if !remove.is_empty() {
            modifier.insert("remove".to_owned(), json!(remove));
        }
        if !modifier.is_empty() {
            filters.push(json!({"type": kind, key: modifier}));
        }
    }
    problems.or_ok(filters)
}

impl Changes {
    fn take(&mut self, change: &Transformation) -> Result<(), String> {
        match change.action {
            TransformationAction::AddHeader => {
                let header = self.header(change, "addHeader")?;
                self.add.push(header);
            }
            TransformationAction::SetHeader => {
                let header = self.header(change, "setHeader")?;
                self.set.push(header);
            }
            TransformationAction::RemoveHeaders => {
                if change.headers.is_empty() {
                    return Err("removeHeaders needs headers".to_owned());
                }
                for name in &change.headers {
                    self.name(name)?;
                    self.remove.push(name.clone());
                }
            }
            TransformationAction::AddFields | TransformationAction::RemoveFields => {
                return Err("the gateway cannot change bodies, only headers".to_owned());
            }
        }
        Ok(())
    }

    fn header(&mut self, change: &Transformation, action: &str) -> Result<Value, String> {
        match (&change.header_name, &change.header_value) {
            (Some(name), Some(value)) if !value.is_empty() => {
                self.name(name)?;
                Ok(json!({"name": name, "value": value}))
            }
            _ => Err(format!("{action} needs headerName and headerValue")),
        }
    }

    fn name(&mut self, name: &str) -> Result<(), String> {
        // The characters of a token (RFC 9110, section 5.6.2).
        let good = !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c));
        if !good {
            return Err(format!("{name:?} is not the name of a header"));
        }
        if !self.named.insert(name.to_ascii_lowercase()) {
            return Err(format!(
                "header {name:?} is changed twice, and the gateway knows no order: say it once"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use choreo_api::v1alpha1::Mediation;

    use super::*;

    fn change(action: TransformationAction, name: &str, value: &str) -> Transformation {
        Transformation {
            action,
            header_name: Some(name.to_owned()),
            header_value: Some(value.to_owned()),
            ..Transformation::default()
        }
    }

    fn rendered(requests: Vec<Transformation>) -> Result<Vec<Value>, Problems> {
        let policy = ApiPolicy {
            mediation: Some(Mediation {
                request_transformations: requests,
                ..Mediation::default()
            }),
            ..ApiPolicy::default()
        };
        filters(&policy, "class")
    }

    #[test]
    fn headers_are_added_set_and_removed() {
        let remove = Transformation {
            action: TransformationAction::RemoveHeaders,
            headers: vec!["X-C".to_owned()],
            ..Transformation::default()
        };
        let all = rendered(vec![
            change(TransformationAction::AddHeader, "X-A", "1"),
            change(TransformationAction::SetHeader, "X-B", "2"),
            remove,
        ]);
        assert_eq!(
            all.unwrap(),
            [json!({"type": "RequestHeaderModifier", "requestHeaderModifier": {
                "set": [{"name": "X-B", "value": "2"}], "add": [{"name": "X-A", "value": "1"}], "remove": ["X-C"]}})]
        );
    }

    #[test]
    fn what_a_filter_cannot_do_is_refused_with_its_place() {
        let twice = vec![
            change(TransformationAction::AddHeader, "X-A", "1"),
            change(TransformationAction::SetHeader, "x-a", "2"),
        ];
        let message = rendered(twice).unwrap_err().message();
        assert!(
            message.contains("mediation.requestTransformations[1]") && message.contains("twice"),
            "{message}"
        );
        for bad in [
            change(TransformationAction::AddFields, "a", "b"),
            change(TransformationAction::AddHeader, "X A", "b"),
            change(TransformationAction::AddHeader, "X-A", ""),
            change(TransformationAction::RemoveHeaders, "X-A", ""),
        ] {
            assert!(rendered(vec![bad.clone()]).is_err(), "{bad:?}");
        }
    }
}
