//! Conversions: older manifests in, objects out, as files of examples.

use choreo_api::convert::{ConvertError, convert, import_workload};
use choreo_api::manifest::read;
use serde_json::json;

/// Converts every document of a text and prints what comes of it: objects and notes, or problems with their places.
fn outcome(text: &str) -> String {
    let documents = match read("in.yaml", text) {
        Ok(documents) => documents,
        Err(error) => return format!("{error}\n"),
    };
    let mut out = String::new();
    for document in documents {
        match convert(document.value()) {
            Ok(converted) => {
                for object in converted.objects {
                    out.push_str(&serde_saphyr::to_string(&object).unwrap());
                    out.push_str("---\n");
                }
                converted
                    .notes
                    .iter()
                    .for_each(|note| out.push_str(&format!("note: {note}\n")));
            }
            Err(error) => {
                for problem in error.problems() {
                    out.push_str(&format!("{}: {problem}\n", document.position(&problem.path)));
                }
            }
        }
    }
    out
}

#[test]
fn examples() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/convert");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() > 10);
    for file in files {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        insta::with_settings!({
            prepend_module_to_snapshot => false,
            omit_expression => true,
            snapshot_path => "../snapshots/convert",
        }, {
            insta::assert_snapshot!(name, outcome(&text));
        });
    }
}

#[test]
fn what_was_converted_stays_as_it_is() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/convert");
    let mut converted = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for document in read("in.yaml", &text).into_iter().flatten() {
            for object in convert(document.value())
                .into_iter()
                .flat_map(|converted| converted.objects)
            {
                let again = convert(&object).unwrap();
                assert_eq!(again.objects, [object]);
                // That a data plane waits for an address is worth repeating; nothing else is.
                let quiet = again
                    .notes
                    .iter()
                    .all(|note| note.contains("does not create clusters"));
                assert!(quiet, "{:?}", again.notes);
                converted += 1;
            }
        }
    }
    assert!(converted > 15, "{converted}");
}

#[test]
fn foreign_objects_are_told_apart_from_mistakes() {
    let foreign = convert(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}}));
    assert!(matches!(foreign, Err(ConvertError::Foreign { .. })));
    let mistake = convert(
        &json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": "component", "metadata": {"name": "a"}}),
    );
    assert_eq!(
        mistake.unwrap_err().to_string(),
        "kind: \"component\" is not a kind; did you mean Component?"
    );
}

#[test]
fn lists_are_taken_apart() {
    let project = json!({"apiVersion": "choreo.dev/v1", "kind": "Project", "metadata": {"name": "a"}});
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [project, project]});
    assert_eq!(convert(&list).unwrap().objects.len(), 2);
    let broken = json!({"apiVersion": "v1", "kind": "List", "items": [{"kind": "Project"}]});
    assert_eq!(
        convert(&broken).unwrap_err().problems()[0].path,
        "items[0].apiVersion"
    );
}

#[test]
fn workloads_of_older_tools_are_read_whatever_the_case_of_their_keys() {
    let text = "\
owner:
  projectname: shop
  componentName: cart
Containers:
  Main:
    IMAGE: registry/cart:1
    env:
      - Key: A
        valuefrom: {configurationgroupref: {name: g, key: k}}
endpoints:
  Api: {type: REST, port: 8080}
";
    let document = read("workload.yaml", text).unwrap().remove(0);
    let workload = import_workload(document.value()).unwrap();
    assert_eq!(
        workload,
        json!({
            "apiVersion": "openchoreo.dev/v1alpha1",
            "kind": "Workload",
            "metadata": {"name": "cart"},
            "spec": {
                "owner": {"projectName": "shop", "componentName": "cart"},
                "containers": {"Main": {
                    "image": "registry/cart:1",
                    "env": [{"key": "A", "valueFrom": {"configurationGroupRef": {"name": "g", "key": "k"}}}],
                }},
                "endpoints": {"Api": {"type": "REST", "port": 8080}},
            },
        })
    );
    let error = import_workload(&json!({"metadata": {"name": "x"}, "spec": {"ownr": {}}})).unwrap_err();
    let paths: Vec<_> = error.problems().into_iter().map(|problem| problem.path).collect();
    assert_eq!(paths, ["spec.owner", "spec.ownr"]);
}
