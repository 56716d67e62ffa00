//! Renders the Helm chart without Helm, so that the plain manifests come from the same source and a test needs no other program.
//!
//! Only what the chart uses of the template language is here: `define`, `include`, `if`/`else`, `with`, pipelines, and the
//! functions of `call`. Anything else is an error, never silence.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

/// Plain manifests that are made from a chart.
pub(crate) struct Manifests {
    /// Where they are, from the root of the repository.
    pub(crate) path: &'static str,
    chart: &'static str,
    namespace: &'static str,
    release: &'static str,
    /// Values over the chart's own, as JSON.
    values: &'static str,
    about: &'static str,
}

pub(crate) const MANIFESTS: [Manifests; 3] = [
    Manifests {
        path: "deploy/choreo.yaml",
        chart: "charts/choreo",
        namespace: "openchoreo-system",
        release: "choreo",
        values: "{}",
        about: "Everything that a cluster needs to run the controllers.",
    },
    Manifests {
        path: "deploy/data-plane.yaml",
        chart: "charts/choreo-plane",
        namespace: "openchoreo-data-plane",
        release: "choreo",
        values: "{}",
        about: "What the controllers may do in a cluster that workloads run in.",
    },
    Manifests {
        path: "deploy/build-plane.yaml",
        chart: "charts/choreo-plane",
        namespace: "openchoreo-build-plane",
        release: "choreo-builds",
        values: r#"{"workloads": false, "builds": true}"#,
        about: "What the controllers may do in a cluster that builds run in.",
    },
];

impl Manifests {
    fn text(&self, root: &Path) -> anyhow::Result<String> {
        let Self {
            chart,
            namespace,
            about,
            ..
        } = self;
        let values: Value = serde_json::from_str(self.values)?;
        let rendered = Chart::read(&root.join(chart))?.render(self.release, namespace, &values)?;
        let mut out = format!(
            "# {about} Made from {chart} by `cargo xtask manifests`: change the\n\
             # chart, not this file.\n\
             apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {namespace}\n  labels:\n    \
             app.kubernetes.io/part-of: choreo\n",
        );
        if *namespace == "openchoreo-system" {
            out.push_str("    pod-security.kubernetes.io/enforce: restricted\n");
        }
        for (_, text) in rendered {
            // Helm is not there to manage it.
            let text = text.replace(
                "app.kubernetes.io/managed-by: Helm",
                "app.kubernetes.io/managed-by: kubectl",
            );
            for document in text
                .split("\n---\n")
                .map(str::trim)
                .filter(|document| !document.is_empty())
            {
                out.push_str("---\n");
                out.push_str(document);
                out.push('\n');
            }
        }
        Ok(out)
    }
}

/// Writes the plain manifests.
pub(crate) fn write(root: &Path) -> anyhow::Result<()> {
    for manifests in &MANIFESTS {
        let path = root.join(manifests.path);
        fs::write(&path, manifests.text(root)?).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// A chart.
pub(crate) struct Chart {
    info: Value,
    values: Value,
    templates: BTreeMap<String, Vec<Node>>,
    defined: BTreeMap<String, Vec<Node>>,
}

impl Chart {
    /// Reads a chart's folder.
    pub(crate) fn read(folder: &Path) -> anyhow::Result<Self> {
        let yaml = |name: &str| -> anyhow::Result<Value> {
            let text = fs::read_to_string(folder.join(name)).with_context(|| format!("read {name}"))?;
            serde_saphyr::from_str(&text).with_context(|| format!("{name} is no YAML"))
        };
        let mut chart = Self {
            info: yaml("Chart.yaml")?,
            values: yaml("values.yaml")?,
            templates: BTreeMap::new(),
            defined: BTreeMap::new(),
        };
        for entry in fs::read_dir(folder.join("templates"))? {
            let path = entry?.path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default()
                .to_owned();
            let text = fs::read_to_string(&path)?;
            let mut tokens = tokens(&text).with_context(|| name.clone())?.into_iter();
            let (nodes, end) = parse(&mut tokens, &mut chart.defined).with_context(|| name.clone())?;
            anyhow::ensure!(end.is_none(), "{name}: `{}` too many", end.unwrap_or_default());
            if name.ends_with(".yaml") {
                chart.templates.insert(name, nodes);
            }
        }
        Ok(chart)
    }

    /// Renders every template, with values over the chart's own.
    pub(crate) fn render(
        &self,
        release: &str,
        namespace: &str,
        values: &Value,
    ) -> anyhow::Result<Vec<(String, String)>> {
        let mut merged = self.values.clone();
        merge(&mut merged, values);
        let root = json!({
            "Values": merged,
            "Chart": {"Name": self.info["name"], "Version": self.info["version"], "AppVersion": self.info["appVersion"]},
            "Release": {"Name": release, "Namespace": namespace, "Service": "Helm"},
        });
        let mut all = Vec::new();
        for (name, nodes) in &self.templates {
            let mut out = String::new();
            self.run(nodes, &root, &root, &mut out)
                .with_context(|| name.clone())?;
            if !out.trim().is_empty() {
                all.push((name.clone(), out));
            }
        }
        Ok(all)
    }

    fn run(&self, nodes: &[Node], dot: &Value, root: &Value, out: &mut String) -> anyhow::Result<()> {
        for node in nodes {
            match node {
                Node::Text(text) => out.push_str(text),
                Node::Print(expression) => {
                    let value = self.evaluate(expression, dot, root)?;
                    out.push_str(&text_of(&value)?);
                }
                Node::If(expression, then, otherwise) => {
                    let holds = truth(&self.evaluate(expression, dot, root)?);
                    self.run(if holds { then } else { otherwise }, dot, root, out)?;
                }
                Node::With(expression, then) => {
                    let value = self.evaluate(expression, dot, root)?;
                    if truth(&value) {
                        self.run(then, &value, root, out)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// A pipeline: each call's value is the last argument of the next.
    fn evaluate(&self, expression: &str, dot: &Value, root: &Value) -> anyhow::Result<Value> {
        let mut value = None;
        for call in split(expression, '|')? {
            let words = split(call.trim(), ' ')?;
            let (head, rest) = words.split_first().context("an empty expression")?;
            let mut arguments = Vec::new();
            for word in rest {
                arguments.push(self.atom(word, dot, root)?);
            }
            let is_value = head.starts_with(['.', '"', '$']) || head.parse::<i64>().is_ok();
            value = Some(if is_value {
                anyhow::ensure!(arguments.is_empty() && value.is_none(), "`{call}` is no call");
                self.atom(head, dot, root)?
            } else {
                arguments.extend(value.take());
                self.call(head, &arguments, root)
                    .with_context(|| format!("`{}`", call.trim()))?
            });
        }
        value.context("an empty expression")
    }

    fn atom(&self, word: &str, dot: &Value, root: &Value) -> anyhow::Result<Value> {
        if let Some(text) = word.strip_prefix('"').and_then(|word| word.strip_suffix('"')) {
            return Ok(json!(text));
        }
        if let Ok(number) = word.parse::<i64>() {
            return Ok(json!(number));
        }
        let (from, path) = match word.strip_prefix('$') {
            Some(path) => (root, path),
            None => (dot, word),
        };
        let path = path
            .strip_prefix('.')
            .with_context(|| format!("`{word}` is nothing known"))?;
        let mut value = from;
        for part in path.split('.').filter(|part| !part.is_empty()) {
            // Helm says nothing here; a name that is misspelled should.
            value = value.get(part).with_context(|| format!("there is no `{word}`"))?;
        }
        Ok(value.clone())
    }

    fn call(&self, name: &str, arguments: &[Value], root: &Value) -> anyhow::Result<Value> {
        Ok(match (name, arguments) {
            ("include", [Value::String(template), dot]) => {
                let nodes = self
                    .defined
                    .get(template)
                    .with_context(|| format!("no template {template:?}"))?;
                let mut out = String::new();
                self.run(nodes, dot, root, &mut out)?;
                json!(out)
            }
            ("quote", [value]) => json!(format!("\"{}\"", text_of(value)?)),
            ("toYaml", [value]) => {
                let mut out = String::new();
                yaml(value, 0, &mut out);
                json!(out.trim_end())
            }
            ("nindent", [Value::Number(width), Value::String(text)]) => {
                let pad = " ".repeat(usize::try_from(width.as_u64().unwrap_or(0))?);
                let lines = text.lines().map(|line| {
                    if line.is_empty() {
                        String::new()
                    } else {
                        format!("{pad}{line}")
                    }
                });
                json!(format!("\n{}", lines.collect::<Vec<_>>().join("\n")))
            }
            ("default", [fallback, value]) => {
                if truth(value) {
                    value.clone()
                } else {
                    fallback.clone()
                }
            }
            ("not", [value]) => json!(!truth(value)),
            _ => bail!("{name} with {} arguments is not supported", arguments.len()),
        })
    }
}

enum Node {
    Text(String),
    Print(String),
    If(String, Vec<Node>, Vec<Node>),
    With(String, Vec<Node>),
}

enum Token {
    Text(String),
    Action(String),
}

fn tokens(text: &str) -> anyhow::Result<Vec<Token>> {
    let mut all = Vec::new();
    let mut rest = text;
    let mut trim = false;
    loop {
        let (before, after) = rest
            .split_once("{{")
            .map_or((rest, None), |(before, after)| (before, Some(after)));
        let mut before = if trim { before.trim_start() } else { before };
        let Some(after) = after else {
            all.push(Token::Text(before.to_owned()));
            return Ok(all);
        };
        let (action, behind) = after.split_once("}}").context("`{{` without `}}`")?;
        if action.starts_with("- ") {
            before = before.trim_end();
        }
        all.push(Token::Text(before.to_owned()));
        trim = action.ends_with(" -");
        let action = action.strip_prefix("- ").unwrap_or(action);
        let action = action.strip_suffix(" -").unwrap_or(action);
        all.push(Token::Action(action.trim().to_owned()));
        rest = behind;
    }
}

/// Nodes up to the `end` or `else` that closes them, which is returned as well.
fn parse(
    tokens: &mut std::vec::IntoIter<Token>,
    defined: &mut BTreeMap<String, Vec<Node>>,
) -> anyhow::Result<(Vec<Node>, Option<String>)> {
    let mut nodes = Vec::new();
    while let Some(token) = tokens.next() {
        let action = match token {
            Token::Text(text) => {
                nodes.push(Node::Text(text));
                continue;
            }
            Token::Action(action) => action,
        };
        let (word, rest) = action.split_once(' ').unwrap_or((&action, ""));
        let rest = rest.trim().to_owned();
        match word {
            "end" | "else" => return Ok((nodes, Some(action))),
            "define" => {
                let (body, _) = parse(tokens, defined)?;
                defined.insert(rest.trim_matches('"').to_owned(), body);
            }
            "if" => {
                let (then, end) = parse(tokens, defined)?;
                let otherwise = match end.as_deref() {
                    Some("else") => parse(tokens, defined)?.0,
                    Some("end") => Vec::new(),
                    _ => bail!("`if {rest}` does not end"),
                };
                nodes.push(Node::If(rest, then, otherwise));
            }
            "with" => {
                let (then, end) = parse(tokens, defined)?;
                anyhow::ensure!(end.as_deref() == Some("end"), "`with {rest}` does not end");
                nodes.push(Node::With(rest, then));
            }
            "range" | "template" | "block" | "break" | "continue" => bail!("`{word}` is not supported"),
            _ => nodes.push(Node::Print(action)),
        }
    }
    Ok((nodes, None))
}

/// Splits outside of quotes.
fn split(text: &str, at: char) -> anyhow::Result<Vec<String>> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        quoted ^= c == '"';
        match parts.last_mut() {
            Some(_) if c == at && !quoted => parts.push(String::new()),
            Some(part) => part.push(c),
            None => {}
        }
    }
    anyhow::ensure!(!quoted, "a quote is not closed in `{text}`");
    parts.retain(|part| !part.trim().is_empty());
    Ok(parts)
}

fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

fn text_of(value: &Value) -> anyhow::Result<String> {
    Ok(match value {
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        _ => bail!("a list, map or nothing cannot be printed: {value}"),
    })
}

fn yaml(value: &Value, depth: usize, out: &mut String) {
    let pad = "  ".repeat(depth);
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::Object(inner) if !inner.is_empty() => {
                        out.push_str(&format!("{pad}{key}:\n"));
                        yaml(value, depth + 1, out);
                    }
                    Value::Array(items) if !items.is_empty() => {
                        out.push_str(&format!("{pad}{key}:\n"));
                        yaml(value, depth, out);
                    }
                    _ => out.push_str(&format!("{pad}{key}: {}\n", scalar(value))),
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                let mut inner = String::new();
                match item {
                    Value::Object(_) | Value::Array(_) => yaml(item, depth + 1, &mut inner),
                    _ => inner = format!("{}\n", scalar(item)),
                }
                out.push_str(&format!("{pad}- {}", inner.trim_start()));
            }
        }
        _ => out.push_str(&format!("{pad}{}\n", scalar(value))),
    }
}

fn scalar(value: &Value) -> String {
    match value {
        // What could be read as something else is quoted.
        Value::String(text) => {
            let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
                && text
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
                && !matches!(
                    text.as_str(),
                    "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n"
                );
            if plain
                || text.parse::<f64>().is_err()
                    && text.chars().all(|c| c.is_ascii_alphanumeric())
                    && !text.is_empty()
            {
                text.clone()
            } else {
                Value::String(text.clone()).to_string()
            }
        }
        other => other.to_string(),
    }
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::root;

    fn documents(values: &Value) -> Vec<Value> {
        documents_of("charts/choreo", values)
    }

    fn documents_of(chart: &str, values: &Value) -> Vec<Value> {
        let chart = Chart::read(&root().join(chart)).unwrap();
        let rendered = chart.render("choreo", "choreo", values).unwrap();
        let mut all = Vec::new();
        for (name, text) in rendered {
            let documents: Vec<Value> =
                serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{name}: {error}\n{text}"));
            all.extend(documents.into_iter().filter(|document| !document.is_null()));
        }
        all
    }

    fn find<'a>(all: &'a [Value], kind: &str) -> &'a Value {
        all.iter()
            .find(|document| document["kind"] == kind)
            .unwrap_or_else(|| panic!("no {kind}"))
    }

    #[test]
    fn the_plain_manifests_are_the_chart() {
        for manifests in &MANIFESTS {
            let written = fs::read_to_string(root().join(manifests.path)).unwrap();
            assert_eq!(
                written,
                manifests.text(&root()).unwrap(),
                "{}: run `cargo xtask manifests`",
                manifests.path
            );
        }
    }

    /// With what a user may change, every object has what its kind needs, and a name that nobody else has.
    #[test]
    fn every_variant_renders_to_objects() {
        for values in [
            json!({}),
            json!({"installDefinitions": false, "defaults": false, "podDisruptionBudget": {"enabled": false}}),
            json!({
                "serviceMonitor": {"enabled": true, "labels": {"release": "prometheus"}},
                "networkPolicy": {"metricsFrom": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}},
                "image": {"digest": "sha256:abc"}, "imagePullSecrets": [{"name": "pull"}],
                "podAnnotations": {"a": "1"}, "nodeSelector": {"pool": "system"},
                "tolerations": [{"key": "a", "operator": "Exists"}], "priorityClassName": "high",
                "serviceAccount": {"annotations": {"a/b": "true"}},
                "shards": 3, "traces": {"endpoint": "http://collector:4318"},
            }),
        ] {
            let all = documents(&values);
            let mut names = std::collections::BTreeSet::new();
            for document in &all {
                for field in ["apiVersion", "kind"] {
                    assert!(document[field].is_string(), "{field} is missing in {document}");
                }
                let name = document["metadata"]["name"].as_str().unwrap();
                assert!(names.insert((document["kind"].to_string(), name)), "{name} twice");
                assert_eq!(
                    document["metadata"]["labels"]["app.kubernetes.io/part-of"],
                    "choreo"
                );
            }
            let has = |kind: &str| all.iter().any(|document| document["kind"] == kind);
            assert_eq!(
                has("PodDisruptionBudget"),
                values["podDisruptionBudget"]["enabled"] != false
            );
            assert_eq!(has("ServiceMonitor"), values["serviceMonitor"]["enabled"] == true);
        }
        let all = documents(&json!({"image": {"digest": "sha256:abc"}, "podAnnotations": {"a": "1"}}));
        let template = &find(&all, "Deployment")["spec"]["template"];
        assert_eq!(template["metadata"]["annotations"]["a"], "1");
        let image = &template["spec"]["containers"][0]["image"];
        assert_eq!(image, "ghcr.io/choreo-dev/choreo@sha256:abc");
    }

    #[test]
    fn no_role_is_given_everything_about_secrets_or_roles() {
        let all = documents(&json!({}));
        let roles: Vec<&Value> = all
            .iter()
            .filter(|document| matches!(document["kind"].as_str(), Some("Role" | "ClusterRole")))
            .collect();
        assert_eq!(roles.len(), 2);
        let rules = roles.iter().flat_map(|role| {
            let everywhere = role["kind"] == "ClusterRole";
            role["rules"]
                .as_array()
                .unwrap()
                .iter()
                .map(move |rule| (everywhere, rule))
        });
        for (everywhere, rule) in rules {
            let has =
                |field: &str, word: &str| rule[field].as_array().unwrap().iter().any(|found| found == word);
            assert!(!has("verbs", "*"), "{rule}");
            assert!(!has("apiGroups", "*"), "{rule}");
            if has("apiGroups", "") || has("apiGroups", "rbac.authorization.k8s.io") {
                assert!(!has("resources", "*"), "{rule}");
            }
            // Read everywhere, since data planes name them; made and changed only where the manager is, and by name.
            if has("resources", "secrets") {
                for verb in ["update", "patch", "delete"] {
                    assert!(!has("verbs", verb) || rule["resourceNames"].is_array(), "{rule}");
                }
                assert!(
                    !everywhere || rule["verbs"] == json!(["get", "list", "watch"]),
                    "{rule}"
                );
            }
            // Only for roles that are named.
            assert!(
                !has("verbs", "escalate") || rule["resourceNames"].is_array(),
                "{rule}"
            );
        }
    }

    /// In data planes secrets are made, so that they are written there; but nothing is a wildcard, and only roles of known names
    /// are given what the writer has not.
    #[test]
    fn a_plane_gives_no_wildcards() {
        let custom =
            json!([{"apiGroups": ["example.com"], "resources": ["databases"], "verbs": ["get", "create"]}]);
        for (workloads, builds) in [(true, false), (false, true), (true, true)] {
            let values = json!({"workloads": workloads, "builds": builds, "extraRules": custom});
            let all = documents_of("charts/choreo-plane", &values);
            let role = find(&all, "ClusterRole");
            let rules = role["rules"].as_array().unwrap();
            let has = |rule: &Value, field: &str, word: &str| {
                rule[field].as_array().unwrap().iter().any(|found| found == word)
            };
            for rule in rules {
                for field in ["apiGroups", "resources", "verbs"] {
                    assert!(!has(rule, field, "*"), "{rule}");
                }
                for verb in ["escalate", "bind"] {
                    assert!(
                        !has(rule, "verbs", verb) || rule["resourceNames"].is_array(),
                        "{rule}"
                    );
                }
            }
            let about = |resource: &str| rules.iter().any(|rule| has(rule, "resources", resource));
            assert_eq!(about("secrets"), workloads);
            assert_eq!(about("workflows"), builds);
            assert!(about("databases"));
        }
    }

    #[test]
    fn the_pods_keep_to_the_restricted_standard() {
        let all = documents(&json!({}));
        let pod = &find(&all, "Deployment")["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        for container in pod["containers"].as_array().unwrap() {
            let context = &container["securityContext"];
            assert_eq!(context["allowPrivilegeEscalation"], false);
            assert_eq!(context["readOnlyRootFilesystem"], true);
            assert_eq!(context["capabilities"]["drop"], json!(["ALL"]));
            for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
                assert!(container[probe]["httpGet"]["path"].is_string(), "{probe}");
            }
        }
    }

    /// Where there is a Helm, it finds the chart in order and renders the same.
    #[test]
    fn helm_agrees() {
        let Ok(helm) = std::env::var("CHOREO_TEST_HELM") else {
            return;
        };
        let chart = root().join("charts/choreo");
        let run = |arguments: &[&str]| {
            let output = std::process::Command::new(&helm)
                .args(arguments)
                .arg(&chart)
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(
                output.status.success(),
                "{text}\n{}",
                String::from_utf8_lossy(&output.stderr)
            );
            text
        };
        run(&["lint", "--strict"]);
        let theirs = run(&[
            "template",
            "choreo",
            "--namespace",
            "choreo",
            "--kube-version",
            "1.36.0",
        ]);
        let mut theirs: Vec<Value> = serde_saphyr::from_multiple(&theirs).unwrap();
        theirs.retain(|document: &Value| !document.is_null());
        let mut ours = documents(&json!({}));
        let key = |document: &Value| {
            (
                document["kind"].to_string(),
                document["metadata"]["name"].to_string(),
            )
        };
        ours.sort_by_key(key);
        theirs.sort_by_key(key);
        assert_eq!(ours, theirs);
    }
}
