//! The figures in the text format of Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use choreo_controllers::planes::{PlaneId, Role};
use choreo_controllers::runtime::metrics::{ControllerFigures, DURATION_BUCKETS_MS, Metrics};

/// What is known besides the controllers' own counters.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Whether this one acts.
    pub leader: bool,
    /// For which shards, if there are several: each with whether this one acts.
    pub shards: Vec<bool>,
    /// Whether every kind has been listed.
    pub listed: bool,
    /// Objects of the control plane in the cache.
    pub objects: usize,
    /// Clusters, and why they cannot be used.
    pub planes: Vec<(PlaneId, Option<String>)>,
}

/// Renders everything. Names and units follow Prometheus' conventions; label values come from a fixed set, or are names of
/// planes, so that the number of series stays bounded.
pub fn render(
    metrics: &Metrics,
    figures: &BTreeMap<&'static str, ControllerFigures>,
    facts: &Facts,
) -> String {
    let mut out = Text::default();
    out.family("choreo_leader", "gauge", "1 if this replica acts.");
    out.sample("choreo_leader", &[], u8::from(facts.leader));
    if facts.shards.len() > 1 {
        out.family(
            "choreo_shard_leader",
            "gauge",
            "1 if this replica acts for a part of the organizations.",
        );
        for (shard, leads) in facts.shards.iter().enumerate() {
            let shard = shard.to_string();
            out.sample("choreo_shard_leader", &[("shard", &shard)], u8::from(*leads));
        }
    }
    out.family(
        "choreo_cache_synced",
        "gauge",
        "1 if every kind of the control plane has been listed.",
    );
    out.sample("choreo_cache_synced", &[], u8::from(facts.listed));
    out.family(
        "choreo_cache_objects",
        "gauge",
        "Objects of the control plane in the cache.",
    );
    out.sample("choreo_cache_objects", &[], facts.objects);

    out.family(
        "choreo_queue_depth",
        "gauge",
        "Keys that are ready and not yet taken.",
    );
    for (name, figures) in figures {
        out.sample("choreo_queue_depth", &[("controller", name)], figures.depth);
    }
    out.family("choreo_queue_added_total", "counter", "Keys that became ready.");
    for (name, figures) in figures {
        out.sample("choreo_queue_added_total", &[("controller", name)], figures.added);
    }
    out.family(
        "choreo_reconcile_total",
        "counter",
        "Reconciles by result; a panic is also an error.",
    );
    for (name, figures) in figures {
        for (result, count) in [
            ("success", figures.succeeded),
            ("error", figures.failed),
            ("panic", figures.panicked),
        ] {
            out.sample(
                "choreo_reconcile_total",
                &[("controller", name), ("result", result)],
                count,
            );
        }
    }
    out.family(
        "choreo_reconcile_duration_seconds",
        "histogram",
        "How long reconciles took.",
    );
    for (name, figures) in figures {
        let mut sum = 0;
        let bounds = DURATION_BUCKETS_MS
            .iter()
            .map(|bound| (*bound as f64 / 1000.0).to_string());
        for (bound, count) in bounds.chain(["+Inf".to_owned()]).zip(&figures.durations) {
            sum += count;
            let labels = [("controller", *name), ("le", bound.as_str())];
            out.sample("choreo_reconcile_duration_seconds_bucket", &labels, sum);
        }
        let labels = [("controller", *name)];
        out.sample(
            "choreo_reconcile_duration_seconds_sum",
            &labels,
            figures.total.as_secs_f64(),
        );
        out.sample("choreo_reconcile_duration_seconds_count", &labels, sum);
    }

    out.family(
        "choreo_api_calls_total",
        "counter",
        "Calls of the controllers to Kubernetes APIs, watches and lists aside.",
    );
    for ((plane, verb), count) in metrics.calls() {
        out.sample(
            "choreo_api_calls_total",
            &[("plane", plane), ("verb", verb)],
            count,
        );
    }
    out.family(
        "choreo_http_requests_total",
        "counter",
        "Requests over HTTP by verb and answer; code 0: no answer came.",
    );
    for ((plane, verb, code), count) in metrics.requests() {
        let code = code.to_string();
        let labels = [("plane", plane), ("verb", verb), ("code", code.as_str())];
        out.sample("choreo_http_requests_total", &labels, count);
    }

    out.family(
        "choreo_plane_connected",
        "gauge",
        "1 if the cluster of a data or build plane can be used.",
    );
    for (plane, outage) in &facts.planes {
        let role = match plane.role {
            Role::Data => "data",
            Role::Build => "build",
        };
        let labels = [
            ("role", role),
            ("organization", plane.namespace.as_str()),
            ("name", plane.name.as_str()),
            ("cluster", plane.cluster.as_str()),
        ];
        out.sample("choreo_plane_connected", &labels, u8::from(outage.is_none()));
    }
    out.text
}

#[derive(Default)]
struct Text {
    text: String,
}

// Writing to a String cannot fail.
impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.text.push_str(name);
        for (index, (label, value)) in labels.iter().enumerate() {
            self.text.push(if index == 0 { '{' } else { ',' });
            let escaped = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let _ = write!(self.text, "{label}=\"{escaped}\"");
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_sample_belongs_to_the_family_above_it_and_values_are_escaped() {
        let metrics = Metrics::default();
        metrics.controller("release");
        let facts = Facts {
            shards: vec![true, false],
            planes: vec![(PlaneId::data("acme", "a\"b", ""), Some("down".to_owned()))],
            ..Facts::default()
        };
        let text = render(&metrics, &metrics.figures(), &facts);
        let mut family = "";
        let mut series = BTreeSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                family = rest.split(' ').next().unwrap();
            } else if !line.starts_with('#') {
                assert!(line.starts_with(family), "{line} below {family}");
                let (name, value) = line.rsplit_once(' ').unwrap();
                assert!(value.parse::<f64>().is_ok(), "{line}");
                assert!(series.insert(name.to_owned()), "{name} twice");
            }
        }
        assert!(
            text.contains(
                r#"choreo_plane_connected{role="data",organization="acme",name="a\"b",cluster=""} 0"#
            ),
            "{text}"
        );
        assert!(text.contains("choreo_shard_leader{shard=\"1\"} 0\n"), "{text}");
        assert!(
            text.contains(r#"choreo_reconcile_duration_seconds_bucket{controller="release",le="+Inf"} 0"#)
        );
    }
}
