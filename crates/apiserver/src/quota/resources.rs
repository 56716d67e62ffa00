//! What Pods ask for.

use std::collections::BTreeMap;

use choreo_apimachinery::quantity::{self, Quantity};
use serde_json::Value;

/// Amounts that are asked for, and bounds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resources {
    /// What must be there.
    pub(crate) requests: BTreeMap<String, Quantity>,
    /// What may be used.
    pub(crate) limits: BTreeMap<String, Quantity>,
}

fn amounts(map: Option<&Value>) -> BTreeMap<String, Quantity> {
    let map = map.and_then(Value::as_object).into_iter().flatten();
    map.filter_map(|(name, amount)| Some((name.clone(), quantity::from_json(amount).ok()?)))
        .collect()
}

/// What a container asks for.
pub(crate) fn of_container(container: &Value) -> Resources {
    Resources {
        requests: amounts(container.pointer("/resources/requests")),
        limits: amounts(container.pointer("/resources/limits")),
    }
}

fn add(to: &mut BTreeMap<String, Quantity>, more: &BTreeMap<String, Quantity>) {
    for (name, amount) in more {
        let sum = to.get(name).map_or(Some(*amount), |had| had.checked_add(*amount));
        if let Some(sum) = sum {
            to.insert(name.clone(), sum);
        }
    }
}

fn widest(to: &mut BTreeMap<String, Quantity>, other: &BTreeMap<String, Quantity>) {
    for (name, amount) in other {
        let had = to.entry(name.clone()).or_insert(*amount);
        if *amount > *had {
            *had = *amount;
        }
    }
}

/// What a Pod asks for: all containers and sidecars together, or the largest step of its start if that is more; and its
/// overhead.
pub(crate) fn of_pod(pod: &Value) -> Resources {
    let list = |field: &str| {
        let list = pod.pointer(&format!("/spec/{field}")).and_then(Value::as_array);
        list.map_or(&[][..], Vec::as_slice)
    };
    let mut running = Resources::default();
    for container in list("containers") {
        let own = of_container(container);
        add(&mut running.requests, &own.requests);
        add(&mut running.limits, &own.limits);
    }
    let (mut sidecars, mut start) = (Resources::default(), Resources::default());
    for container in list("initContainers") {
        let own = of_container(container);
        let mut step = sidecars.clone();
        add(&mut step.requests, &own.requests);
        add(&mut step.limits, &own.limits);
        if container["restartPolicy"] == "Always" {
            sidecars = step.clone();
        }
        widest(&mut start.requests, &step.requests);
        widest(&mut start.limits, &step.limits);
    }
    add(&mut running.requests, &sidecars.requests);
    add(&mut running.limits, &sidecars.limits);
    widest(&mut running.requests, &start.requests);
    widest(&mut running.limits, &start.limits);
    let overhead = amounts(pod.pointer("/spec/overhead"));
    add(&mut running.requests, &overhead);
    for (name, amount) in &overhead {
        if let Some(limit) = running.limits.get_mut(name)
            && let Some(sum) = limit.checked_add(*amount)
        {
            *limit = sum;
        }
    }
    running
}

/// Whether a Pod asks for nothing: its quality of service is `BestEffort`.
pub(super) fn is_best_effort(pod: &Value) -> bool {
    let asks = |amounts: &BTreeMap<String, Quantity>| {
        ["cpu", "memory"]
            .iter()
            .any(|name| amounts.get(*name).is_some_and(|amount| amount.sign() > 0))
    };
    let all = of_pod(pod);
    !asks(&all.requests) && !asks(&all.limits)
}

/// Of what a quota counts: what containers do not say, by resource.
pub(super) fn unsaid<T>(pod: &Value, hard: &BTreeMap<String, T>) -> BTreeMap<String, Vec<String>> {
    const COUNTED: [(&str, &str, &str); 6] = [
        ("cpu", "requests", "cpu"),
        ("memory", "requests", "memory"),
        ("requests.cpu", "requests", "cpu"),
        ("requests.memory", "requests", "memory"),
        ("limits.cpu", "limits", "cpu"),
        ("limits.memory", "limits", "memory"),
    ];
    let mut missing: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, field, resource) in COUNTED {
        if !hard.contains_key(name) {
            continue;
        }
        for kind in ["containers", "initContainers"] {
            let containers = pod.pointer(&format!("/spec/{kind}")).and_then(Value::as_array);
            for container in containers.into_iter().flatten() {
                let path = format!("/resources/{field}/{resource}");
                if container.pointer(&path).is_none() {
                    let container = container["name"].as_str().unwrap_or_default();
                    missing
                        .entry(name.to_owned())
                        .or_default()
                        .push(container.to_owned());
                }
            }
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cpu(pod: &Value) -> String {
        of_pod(pod)
            .requests
            .get("cpu")
            .map(ToString::to_string)
            .unwrap_or_default()
    }

    /// The examples of Kubernetes' documentation on init containers and sidecars.
    #[test]
    fn the_start_of_a_pod_counts_when_it_takes_more() {
        let asks = |amount: &str| json!({"resources": {"requests": {"cpu": amount}}});
        let sidecar =
            |amount: &str| json!({"restartPolicy": "Always", "resources": {"requests": {"cpu": amount}}});
        for (containers, init, expected) in [
            (vec![asks("1"), asks("500m")], vec![], "1500m"),
            (vec![asks("1")], vec![asks("2"), asks("3")], "3"),
            (vec![asks("1")], vec![sidecar("500m")], "1500m"),
            // The second step runs beside the sidecar.
            (vec![asks("1")], vec![sidecar("500m"), asks("2")], "2500m"),
            (vec![asks("1")], vec![asks("2"), sidecar("500m")], "2"),
        ] {
            let pod = json!({"spec": {"containers": containers, "initContainers": init}});
            assert_eq!(cpu(&pod), expected, "{pod}");
        }
        let pod = json!({"spec": {"containers": [asks("1")], "overhead": {"cpu": "250m"}}});
        assert_eq!(cpu(&pod), "1250m");
    }
}
