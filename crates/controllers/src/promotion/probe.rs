//! Gates that are questions to servers: a web service that must agree, a metric that must be within bounds.
//!
//! What cannot be asked, and an answer that cannot be understood, is inconclusive and never passed.

use std::time::Duration;

use choreo_api::names;
use choreo_api::v1alpha1::{DataPlane, Environment, Gate, MetricGate, Promotion, WebhookGate};
use choreo_engine::World;
use choreo_engine::promotion::machine::Finding;
use choreo_engine::promotion::{self as engine, LaneKey};
use http::{Method, Request};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

use super::access::Access;

/// Longest that an answer is waited for, if the gate does not say.
const PATIENCE: Duration = Duration::from_secs(30);

/// Something to ask a server.
pub(super) struct Question {
    url: String,
    patience: Duration,
    access: Access,
    what: What,
}

enum What {
    Hook {
        body: Value,
        gate: WebhookGate,
    },
    Metric {
        query: String,
        baseline: String,
        gate: MetricGate,
    },
}

/// The question of a gate.
///
/// # Errors
/// Why it cannot be asked.
pub(super) fn question(
    world: &World,
    key: &LaneKey,
    promotion: &Promotion,
    gate: &Gate,
) -> Result<Question, String> {
    let patience = gate.timeout.as_deref().map_or(PATIENCE, |timeout| {
        Duration::from_millis(u64::try_from(engine::milliseconds(timeout)).unwrap_or_default())
    });
    let status = promotion.status.clone().unwrap_or_default();
    if let Some(hook) = &gate.webhook {
        return Ok(Question {
            url: hook.url.clone(),
            patience,
            access: Access {
                secret: hook.secret_ref.clone(),
                basic: None,
            },
            what: What::Hook {
                body: json!({
                    "promotion": promotion.name_any(),
                    "namespace": key.namespace,
                    "project": promotion.spec.owner.project_name,
                    "component": key.component,
                    "track": key.track,
                    "sourceEnvironment": promotion.spec.source_environment,
                    "targetEnvironment": key.environment,
                    "artifact": status.artifact,
                    "digest": status.digest,
                    "requestedBy": promotion.spec.requested_by,
                    "gate": gate.name,
                }),
                gate: hook.clone(),
            },
        });
    }
    let metric = gate
        .metric
        .as_ref()
        .ok_or("it says nothing that could be asked")?;
    let environment = world.get::<Environment>(&key.namespace, &key.environment);
    let observer = environment
        .and_then(|e| world.get::<DataPlane>(&key.namespace, &e.spec.data_plane_ref))
        .and_then(|plane| plane.spec.observer.as_ref());
    // What signs in at the observer is for nobody else to see.
    let basic = observer
        .filter(|_| metric.address.is_none())
        .and_then(|observer| observer.authentication.as_ref()?.basic_auth.clone());
    let address = metric
        .address
        .clone()
        .or_else(|| observer.map(|observer| observer.url.clone()));
    let url = address.ok_or("neither the gate nor the data plane's observer says where metrics are")?;
    let owner = &promotion.spec.owner;
    let namespace = names::cell_namespace(&key.namespace, &owner.project_name, &key.environment);
    let beside = status.rollout.as_ref().is_some_and(|r| r.weight.is_some());
    let stable = names::workload(&key.component, &key.track);
    let new = if beside {
        engine::candidate_name(&key.component, &key.track)
    } else {
        stable.clone()
    };
    let filled = |workload: &str| {
        metric
            .query
            .replace("${namespace}", &namespace)
            .replace("${workload}", workload)
    };
    Ok(Question {
        url,
        patience,
        access: Access {
            secret: metric.secret_ref.clone(),
            basic,
        },
        what: What::Metric {
            query: filled(&new),
            baseline: filled(&stable),
            gate: metric.clone(),
        },
    })
}

impl Question {
    /// Asks it.
    pub(super) async fn ask(&self, control: &Client, namespace: &str) -> (Finding, String) {
        let answer = async {
            match &self.what {
                What::Hook { body, gate } => self.hook(control, namespace, body, gate).await,
                What::Metric {
                    query,
                    baseline,
                    gate,
                } => self.metric(control, namespace, (query, baseline), gate).await,
            }
        };
        match tokio::time::timeout(self.patience, answer).await {
            Ok(Ok(found)) => found,
            Ok(Err(why)) => (Finding::Inconclusive, why),
            Err(_) => (
                Finding::Inconclusive,
                format!("{} did not answer in time", self.url),
            ),
        }
    }

    async fn client(&self, control: &Client, namespace: &str) -> Result<(Client, String), String> {
        self.access
            .client(&self.url, self.patience, control, namespace)
            .await
    }

    async fn hook(
        &self,
        control: &Client,
        namespace: &str,
        body: &Value,
        gate: &WebhookGate,
    ) -> Result<(Finding, String), String> {
        let (client, path) = self.client(control, namespace).await?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header("content-type", "application/json");
        let request = request
            .body(kube::client::Body::from(body.to_string().into_bytes()))
            .map_err(|error| format!("{}: {error}", self.url))?;
        // Its status is the whole answer.
        let answer = client.send(request).await;
        let answer = answer.map_err(|error| format!("{} cannot be asked: {error}", self.url))?;
        let code = i32::from(answer.status().as_u16());
        let passes = if gate.expect.is_empty() {
            (200..300).contains(&code)
        } else {
            gate.expect.contains(&code)
        };
        // A server that is not well has not said no.
        let finding = match (passes, code) {
            (true, _) => Finding::Passed,
            (false, 500..) => Finding::Inconclusive,
            (false, _) => Finding::Failed,
        };
        Ok((finding, format!("{} answered {code}", self.url)))
    }

    async fn value(&self, (client, path): &(Client, String), query: &str) -> Result<f64, String> {
        let path = format!(
            "{}/api/v1/query?query={}",
            path.trim_end_matches('/'),
            percent(query)
        );
        let request = Request::get(path)
            .header("accept", "application/json")
            .body(Vec::new())
            .map_err(|error| error.to_string())?;
        let text = client
            .request_text(request)
            .await
            .map_err(|error| format!("{} cannot be asked: {error}", self.url))?;
        let answer: Value = serde_json::from_str(&text)
            .map_err(|error| format!("{} does not speak Prometheus' API: {error}", self.url))?;
        sample(&answer).map_err(|why| format!("{query}: {why}"))
    }

    async fn metric(
        &self,
        control: &Client,
        namespace: &str,
        (query, baseline): (&str, &str),
        gate: &MetricGate,
    ) -> Result<(Finding, String), String> {
        let server = self.client(control, namespace).await?;
        let value = self.value(&server, query).await?;
        let bound = |text: &Option<String>| text.as_ref().and_then(|text| text.parse::<f64>().ok());
        if let Some(min) = bound(&gate.min)
            && value < min
        {
            return Ok((Finding::Failed, format!("{value} is below {min}")));
        }
        if let Some(max) = bound(&gate.max)
            && value > max
        {
            return Ok((Finding::Failed, format!("{value} is above {max}")));
        }
        if let Some(factor) = bound(&gate.max_of_baseline) {
            let stable = self.value(&server, baseline).await?;
            if value > stable * factor {
                let message = format!("{value} is more than {factor} times the stable revision's {stable}");
                return Ok((Finding::Failed, message));
            }
        }
        Ok((Finding::Passed, format!("the value is {value}")))
    }
}

/// The one number in an answer of Prometheus' HTTP API: a scalar, or a vector of one sample.
fn sample(answer: &Value) -> Result<f64, String> {
    if answer["status"] != "success" {
        return Err(answer["error"].as_str().unwrap_or("the query failed").to_owned());
    }
    let data = &answer["data"];
    let text = match data["resultType"].as_str() {
        Some("scalar") => data["result"][1].as_str(),
        Some("vector") => match data["result"].as_array().map(Vec::as_slice) {
            Some([one]) => one["value"][1].as_str(),
            Some([]) => return Err("there are no samples".to_owned()),
            _ => return Err("there are several samples: sum them up in the query".to_owned()),
        },
        _ => return Err("the answer is neither a scalar nor a vector".to_owned()),
    };
    let value = text.and_then(|text| text.parse::<f64>().ok());
    value
        .filter(|v| v.is_finite())
        .ok_or_else(|| "the value is no number".to_owned())
}

fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out += &format!("%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_is_read_and_anything_else_is_not() {
        let vector = |samples: Value| json!({"status": "success", "data": {"resultType": "vector", "result": samples}});
        assert_eq!(sample(&vector(json!([{"value": [1, "0.25"]}]))), Ok(0.25));
        assert_eq!(
            sample(&json!({"status": "success", "data": {"resultType": "scalar", "result": [1, "3"]}})),
            Ok(3.0)
        );
        for bad in [
            vector(json!([])),
            vector(json!([{"value": [1, "1"]}, {"value": [1, "2"]}])),
            vector(json!([{"value": [1, "NaN"]}])),
            json!({"status": "error", "error": "bad query"}),
            json!({}),
        ] {
            assert!(sample(&bad).is_err(), "{bad}");
        }
    }
}
