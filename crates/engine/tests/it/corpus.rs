//! The corpus: what people write, and exactly what the cells get. `tests/corpus/README.md` says how to add a case.

use std::{fmt::Write as _, fs, path::Path};

use choreo_api::v1alpha1::Build;
use choreo_engine::{
    build::{self, Plane},
    offline::Rendered,
};
use serde_json::Value;

use super::{cases::Case, schemas};

/// With this variable set, what is rendered is written instead of compared.
const UPDATE: &str = "CHOREO_UPDATE_CORPUS";

/// The releases as documents, then what stands in the way.
fn print(case: &Case, rendered: &Rendered) -> String {
    let mut text = String::from(
        "# What the test `corpus` rendered from input.yaml. Read every change before accepting it.\n",
    );
    let cells = case.option("releases") == Some("all");
    let kinds: Vec<&str> = case
        .option("print")
        .map(|kinds| kinds.split(',').map(str::trim).collect())
        .unwrap_or_default();
    let printed = |object: &Value| kinds.is_empty() || kinds.iter().any(|kind| object["kind"] == *kind);
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
            if !printed(&resource["object"]) {
                continue;
            }
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
        let problems = build::check(&rendered.world, build);
        for problem in problems.as_slice() {
            writeln!(text, "# - not started: {}: {}", problem.reason, problem.message).unwrap();
        }
        let objects = if problems.is_empty() {
            build::objects(build, &plane)
        } else {
            vec![]
        };
        for object in objects {
            let yaml = serde_saphyr::to_string(&object).unwrap();
            write!(text, "---\n{}", labels_on_one_line(&yaml)).unwrap();
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
    let cases = Case::all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus"));
    for case in &cases {
        let mut mistakes = Vec::new();
        for document in case.documents() {
            schemas::check(&registry, &document, &mut mistakes);
        }
        let rendered = case.render(&registry, false);
        schemas::check_all(&registry, &rendered, &mut mistakes);
        failures.extend(mistakes.iter().map(|mistake| format!("{}: {mistake}", case.name)));

        let text = print(case, &rendered);
        let other_way = print(case, &case.render(&registry, true));
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
