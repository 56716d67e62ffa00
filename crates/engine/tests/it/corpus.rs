//! The corpus: what people write, and exactly what the cells get. `tests/corpus/README.md` says how to add a case.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use choreo_api::v1alpha1::Build;
use choreo_apimachinery::registry::Registry;
use choreo_engine::{
    AnyObject, World,
    build::{self, Plane},
    offline::{self, Rendered},
};
use serde_json::Value;

use super::{schemas, support::*};

/// With this variable set, what is rendered is written instead of compared.
const UPDATE: &str = "CHOREO_UPDATE_CORPUS";

/// With this variable set, only cases whose name contains it are looked at.
const ONLY: &str = "CHOREO_CORPUS";

struct Case {
    name: String,
    folder: PathBuf,
    input: String,
}

impl Case {
    fn all() -> Vec<Self> {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
        let only = std::env::var(ONLY).unwrap_or_default();
        let mut cases: Vec<Self> = fs::read_dir(corpus)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_dir())
            .map(|folder| {
                let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
                let input = fs::read_to_string(folder.join("input.yaml"))
                    .unwrap_or_else(|error| panic!("{name}/input.yaml: {error}"));
                Self { name, folder, input }
            })
            .filter(|case| case.name.contains(&only))
            .collect();
        cases.sort_by(|a, b| a.name.cmp(&b.name));
        cases
    }

    /// What the comment lines before the first document say under `# KEY:`.
    fn option(&self, key: &str) -> Option<&str> {
        self.input
            .lines()
            .take_while(|line| line.starts_with('#'))
            .find_map(|line| line.strip_prefix("# ")?.strip_prefix(key)?.strip_prefix(':'))
            .map(str::trim)
    }

    fn platform(&self) -> String {
        let features = "    networkPolicy: true\n    externalSecrets: true";
        match self.option("data plane").unwrap_or_default() {
            "" => PLATFORM.to_owned(),
            other => {
                assert!(
                    PLATFORM.contains(features),
                    "fixtures/platform.yaml has other features"
                );
                let chosen: Vec<String> = other
                    .split(',')
                    .map(|feature| format!("    {}: true", feature.trim()))
                    .collect();
                PLATFORM.replace(features, &chosen.join("\n"))
            }
        }
    }

    /// The documents of the case, with defaults; what is wrong with them goes to `mistakes`.
    fn documents(&self, registry: &Registry, text: &str, mistakes: &mut Vec<String>) -> Vec<Value> {
        let mut all = documents(text);
        for document in &mut all {
            schemas::check(registry, document, mistakes);
            let text = |key: &str| document[key].as_str().unwrap_or_default();
            if let Some(info) = registry.by_api_version(text("apiVersion"), text("kind")) {
                info.schema().apply_defaults(document);
            }
        }
        all
    }

    /// `$artifact(NAME)` in an input is the artifact of the component NAME, whose name nobody can write down.
    fn with_artifacts(&self, first: &Rendered) -> Option<String> {
        let mut text = self.input.clone();
        while let Some(start) = text.find("$artifact(") {
            let end = start + text[start..].find(')').unwrap();
            let component = text[start + "$artifact(".len()..end].to_owned();
            let artifact = first
                .objects
                .iter()
                .find(|object| {
                    object["kind"] == "DeployableArtifact"
                        && object["spec"]["owner"]["componentName"] == component.as_str()
                })
                .unwrap_or_else(|| {
                    panic!(
                        "{}: component {component:?} has no artifact: {:?}",
                        self.name, first.problems
                    )
                });
            text.replace_range(start..=end, artifact["metadata"]["name"].as_str().unwrap());
        }
        (text != self.input).then_some(text)
    }

    fn render(&self, registry: &Registry, reversed: bool, mistakes: &mut Vec<String>) -> Rendered {
        let platform = self.documents(registry, &self.platform(), mistakes);
        let world = |text: &str, mistakes: &mut Vec<String>| {
            let mut own = self.documents(registry, text, mistakes);
            if reversed {
                own.reverse();
            }
            let mut world = World::new();
            for document in platform.iter().chain(&own) {
                world.upsert(
                    AnyObject::from_value(document).unwrap_or_else(|error| panic!("{}: {error}", self.name)),
                );
            }
            world
        };
        let rendered = offline::render(&world(&self.input, mistakes));
        match self.with_artifacts(&rendered) {
            Some(text) => offline::render(&world(&text, mistakes)),
            None => rendered,
        }
    }

    /// The releases as documents, then what stands in the way.
    fn print(&self, rendered: &Rendered) -> String {
        let mut text = String::from(
            "# What the test `corpus` rendered from input.yaml. Read every change before accepting it.\n",
        );
        let cells = self.option("print") == Some("cells");
        for release in rendered.objects.iter().filter(|o| o["kind"] == "Release") {
            if release["spec"]["owner"]["componentName"].is_null() && !cells {
                continue;
            }
            writeln!(
                text,
                "\n# Release {}",
                release["metadata"]["name"].as_str().unwrap()
            )
            .unwrap();
            for resource in release["spec"]["resources"].as_array().unwrap() {
                let yaml = serde_saphyr::to_string(&resource["object"]).unwrap();
                write!(text, "---\n{}", labels_on_one_line(&yaml)).unwrap();
            }
        }
        for build in rendered.world.all::<Build>() {
            let plane = Plane {
                registry: Some("registry.example.com".to_owned()),
                own_template: false,
            };
            writeln!(
                text,
                "\n# Build {} in its build plane",
                build.metadata.name.as_deref().unwrap()
            )
            .unwrap();
            for object in build::objects(build, &plane) {
                let yaml = serde_saphyr::to_string(&object).unwrap();
                write!(text, "---\n{}", labels_on_one_line(&yaml)).unwrap();
            }
            for problem in build::check(&rendered.world, build) {
                writeln!(text, "# - not started: {}: {}", problem.reason, problem.message).unwrap();
            }
        }
        if !rendered.problems.is_empty() {
            text.push_str("\n# Problems\n");
        }
        for (target, problem) in &rendered.problems {
            let waits = if problem.waiting { " (waits)" } else { "" };
            writeln!(
                text,
                "# - {target}: {}{waits}: {}",
                problem.reason, problem.message
            )
            .unwrap();
        }
        text
    }
}

/// Every object has the same dozen labels: on one line they can be read, or be passed over.
fn labels_on_one_line(yaml: &str) -> String {
    let depth = |line: &str| line.len() - line.trim_start().len();
    let mut text = String::new();
    let mut lines = yaml.lines().peekable();
    while let Some(line) = lines.next() {
        if line.trim_start() != "labels:" {
            writeln!(text, "{line}").unwrap();
            continue;
        }
        let mut labels = Vec::new();
        while let Some(label) = lines.next_if(|next| depth(next) > depth(line)) {
            labels.push(label.trim());
        }
        writeln!(text, "{line} {{{}}}", labels.join(", ")).unwrap();
    }
    text
}

/// The first difference, with some lines around it.
fn difference(expected: &str, rendered: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), rendered.lines().collect());
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let end = old[same..]
        .iter()
        .rev()
        .zip(new[same..].iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    let mut text = String::new();
    let mut show = |sign: char, lines: &[&str]| {
        for line in lines.iter().take(40) {
            writeln!(text, "    {sign} {line}").unwrap();
        }
        if lines.len() > 40 {
            writeln!(text, "    {sign} ... {} more lines", lines.len() - 40).unwrap();
        }
    };
    show(' ', &old[same.saturating_sub(4)..same]);
    show('-', &old[same..old.len() - end]);
    show('+', &new[same..new.len() - end]);
    text
}

#[test]
fn every_case_renders_as_expected() {
    let registry = schemas::registry();
    let update = std::env::var_os(UPDATE).is_some();
    let mut failures = Vec::new();
    let cases = Case::all();
    assert!(!cases.is_empty(), "no case of the corpus is called so");
    for case in &cases {
        let mut mistakes = Vec::new();
        let rendered = case.render(&registry, false, &mut mistakes);
        schemas::check_all(&registry, &rendered, &mut mistakes);
        failures.extend(mistakes.iter().map(|mistake| format!("{}: {mistake}", case.name)));

        let text = case.print(&rendered);
        let other_way = case.print(&case.render(&registry, true, &mut mistakes));
        if text != other_way {
            failures.push(format!(
                "{}: depends on the order of the documents\n{}",
                case.name,
                difference(&text, &other_way)
            ));
        }
        let file = case.folder.join("expected.yaml");
        let expected = fs::read_to_string(&file).unwrap_or_default();
        if text != expected && update {
            fs::write(&file, &text).unwrap();
        } else if text != expected {
            let differs = difference(&expected, &text);
            failures.push(format!(
                "{}/expected.yaml differs (`cargo xtask corpus` rewrites it):\n{differs}",
                case.name
            ));
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} cases:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}
