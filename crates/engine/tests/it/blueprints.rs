//! Component types and traits: what is wrong with them, and what they make.

use choreo_engine::{AnyObject, Kind, affected, blueprint, offline};
use rstest::rstest;
use serde_json::{Value, json};

use super::support::*;

const COMPONENT: &str = r#"
apiVersion: openchoreo.dev/v1alpha1
kind: Component
metadata: {name: mailer}
spec:
  owner: {projectName: default}
  type: TYPE
---
apiVersion: openchoreo.dev/v1alpha1
kind: Workload
metadata: {name: mailer}
spec:
  owner: {projectName: default, componentName: mailer}
  containers:
    main:
      image: example.com/mailer:1
      env: [{key: MODE, value: fast}]
  endpoints:
    web: {type: HTTP, port: 8080, visibility: public}
"#;

fn shipped(name: &str) -> String {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../controllers/src/defaults/blueprints"
    );
    std::fs::read_to_string(format!("{folder}/{name}.yaml")).unwrap()
}

/// A component of a type, with more in its spec.
fn component(type_: &str, more: &str) -> String {
    COMPONENT.replace("type: TYPE", &format!("type: {type_}\n{more}"))
}

fn type_with(schema: &str, template: &str) -> String {
    format!(
        "apiVersion: openchoreo.dev/v1alpha1\nkind: ComponentType\nmetadata: {{name: t}}\nspec:\n  schema:\n    parameters: {schema}\n  resources:\n{template}"
    )
}

fn mistakes_of(yaml: &str) -> Vec<String> {
    let document = documents(yaml).remove(0);
    let problems = match AnyObject::from_value(&document).unwrap() {
        AnyObject::ComponentType(o) => blueprint::component_type(&o.spec),
        AnyObject::Trait(o) => blueprint::trait_(&o.spec),
        AnyObject::ResourceType(o) => blueprint::resource_type(&o.spec),
        other => panic!("{other:?}"),
    };
    problems.into_iter().map(|p| p.message).collect()
}

const SCHEMA: &str = "{required: [image], properties: {image: {type: string}, replicas: {type: integer, default: 1}, debug: {type: boolean, default: false}, cpu: {type: string}, names: {type: array, default: [], items: {type: string}}, labels: {type: object, additionalProperties: {type: string}, default: {}}}}";

/// A Deployment with something in its spec.
fn deployment(spec: &str) -> String {
    format!(
        "    - id: d\n      template: {{apiVersion: apps/v1, kind: Deployment, metadata: {{name: \"${{metadata.name}}\"}}, spec: {spec}}}"
    )
}

#[rstest]
#[case::unknown_parameter(deployment(r#"{replicas: "${parameters.replica}"}"#), &["\
spec.resources[d].template.spec.replicas: no field \"replica\"
    parameters.replica
               ^ did you mean \"replicas\"?"])]
#[case::wrong_sum(deployment(r#"{replicas: "${parameters.replicas + parameters.image}"}"#), &["\
spec.resources[d].template.spec.replicas: int + string is not possible
    parameters.replicas + parameters.image
                        ^ convert with string(...)"])]
#[case::absent_parameter(deployment(r#"{template: {spec: {nodeName: "${parameters.cpu}"}}}"#), &["\
spec.resources[d].template.spec.template.spec.nodeName: \"cpu\" may be absent
    parameters.cpu
               ^ ask has(parameters.cpu) first, write parameters.?cpu.orValue(...), or give it a default"])]
#[case::wrong_type(deployment(r#"{replicas: "${parameters.image}"}"#), &["\
spec.resources[d].template.spec.replicas: this is a string, the field takes an int
    parameters.image
    ^ convert with int(...)"])]
#[case::text_for_a_number(deployment(r#"{replicas: "1${parameters.replicas}"}"#), &[
    "spec.resources[d].template.spec.replicas: this is a string, the field takes an int"])]
#[case::list_for_a_text(deployment(r#"{template: {spec: {nodeName: "x-${parameters.names}"}}}"#), &["\
spec.resources[d].template.spec.template.spec.nodeName: a list(string) cannot be written into a text
    parameters.names
    ^ join its items: .join(\",\")"])]
#[case::unknown_field(deployment("{replicas: 1, templte: {}}"), &[
    "spec.resources[d].template.spec.templte: unknown field \"templte\"; did you mean \"template\"?"])]
#[case::unknown_nested_field(deployment(r#"{template: {spec: {containers: [{name: a, imag: "${parameters.image}"}]}}}"#), &[
    "spec.resources[d].template.spec.template.spec.containers[0].imag: unknown field \"imag\"; did you mean \"image\"?"])]
#[case::field_in_an_expression(deployment(r#"{template: {spec: {containers: "${[{'name': 'a', 'imag': parameters.image}]}"}}}"#), &["\
spec.resources[d].template.spec.template.spec.containers[].imag: unknown field \"imag\"; did you mean \"image\"?
    [{'name': 'a', 'imag': parameters.image}]
    ^"])]
#[case::unknown_variable(deployment(r#"{replicas: "${params.replicas}"}"#), &["\
spec.resources[d].template.spec.replicas: no variable \"params\"
    params.replicas
    ^ there is configurations, connections, dataplane, environment, environmentConfigs, metadata, parameters, pod, secrets, workload"])]
#[case::unknown_function(deployment(r#"{replicas: "${size(parameters.names.filtr(n, true))}"}"#), &["\
spec.resources[d].template.spec.replicas: no function \"filtr\"
    size(parameters.names.filtr(n, true))
                          ^ did you mean \"filter\"?"])]
#[case::never_closed(deployment(r#"{replicas: "${parameters.replicas"}"#), &["\
spec.resources[d].template.spec.replicas: column 1: \"${\" is never closed; expected \"}\" (write \"$${\" for the text itself)
    ${parameters.replicas"])]
#[case::syntax(deployment(r#"{replicas: "${1 +}"}"#), &["\
spec.resources[d].template.spec.replicas: syntax error: the expression ends too early
    1 +
       ^"])]
#[case::all_at_once(deployment(r#"{replicas: "${parameters.a}", paused: "${parameters.b}"}"#), &["\
spec.resources[d].template.spec.paused: no field \"b\"
    parameters.b
               ^ there is cpu, debug, image, labels, names, replicas", "\
spec.resources[d].template.spec.replicas: no field \"a\"
    parameters.a
               ^ there is cpu, debug, image, labels, names, replicas"])]
#[case::condition_is_no_bool("    - id: d\n      includeWhen: parameters.replicas\n      template: {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}".to_owned(), &["\
spec.resources[d].includeWhen: a bool is expected, this is an int
    parameters.replicas
    ^ compare it, as in x > 0"])]
#[case::loop_over_no_list("    - id: d\n      forEach: parameters.labels\n      var: l\n      template: {apiVersion: v1, kind: ConfigMap, metadata: {name: \"${l}\"}}".to_owned(), &["\
spec.resources[d].forEach: a list is expected, this is a map(string)
    parameters.labels
    ^ make a list of its entries: .transformList(key, value, {...})"])]
#[case::loop_without_difference("    - id: d\n      forEach: parameters.names\n      var: item\n      template: {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}".to_owned(), &[
    "spec.resources[d].template.metadata.name: every item would make the same object; use item in it"])]
#[case::hidden_variable("    - id: d\n      forEach: parameters.names\n      var: pod\n      template: {apiVersion: v1, kind: ConfigMap, metadata: {name: \"${pod}\"}}".to_owned(), &[
    "spec.resources[d].var: \"pod\" is the name of a variable already; choose another"])]
#[case::platform_kind("    - id: d\n      template: {apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: a}}".to_owned(), &[
    "spec.resources[d].template.kind: NetworkPolicy is the platform's to make: declare endpoints and connections, and it will"])]
#[case::no_such_kind("    - id: d\n      template: {apiVersion: apps/v1, kind: Deploymnet, metadata: {name: a}}".to_owned(), &[
    "spec.resources[d].template.kind: apps/v1 has no kind \"Deploymnet\"; did you mean \"Deployment\"?"])]
#[case::of_the_whole_cluster("    - id: d\n      template: {apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: a}}".to_owned(), &[
    "spec.resources[d].template.kind: ClusterRole belongs to no namespace; only objects of the cell can be made"])]
#[case::owned_fields("    - id: d\n      template: {apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: b, ownerReferences: [], labels: {openchoreo.dev/project: x}}, status: {}}".to_owned(), &[
    "spec.resources[d].template.status: the cluster says it; remove it",
    "spec.resources[d].template.metadata.ownerReferences: the release owns what it makes; remove it",
    "spec.resources[d].template.metadata.namespace: the platform places the object in the cell; remove it",
    "spec.resources[d].template.metadata.labels[openchoreo.dev/project]: the platform sets it; remove it"])]
#[case::own_account(deployment("{template: {spec: {serviceAccountName: root}}}"), &[
    "spec.resources[d].template.spec.template.spec.serviceAccountName: the platform gives each component its own; remove it"])]
fn mistakes_in_a_type(#[case] template: String, #[case] expected: &[&str]) {
    assert_eq!(mistakes_of(&type_with(SCHEMA, &template)), expected);
}

#[rstest]
#[case(deployment(r#"{replicas: "${parameters.replicas}"}"#))]
#[case(deployment(
    r#"{template: {spec: {nodeName: "${parameters.?cpu}", hostname: "a-${parameters.replicas}"}}}"#
))]
#[case(deployment(r#"{template: {spec: {containers: "${pod.containers}"}}}"#))]
#[case("    - id: d\n      includeWhen: has(parameters.cpu)\n      template: {apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {cpu: \"${parameters.cpu}\", \"${parameters.image}\": x}}".to_owned())]
#[case("    - id: d\n      forEach: parameters.names\n      var: item\n      template: {apiVersion: v1, kind: ConfigMap, metadata: {name: \"a-${item}\"}, data: \"${parameters.labels}\"}".to_owned())]
#[case("    - id: d\n      template: {apiVersion: example.com/v1, kind: Anything, metadata: {name: a, namespace: \"${metadata.namespace}\"}, spec: {x: \"${parameters.debug}\"}}".to_owned())]
fn types_without_mistakes(#[case] template: String) {
    assert_eq!(mistakes_of(&type_with(SCHEMA, &template)), Vec::<String>::new());
}

#[test]
fn a_schema_is_checked_as_a_definition_would_be() {
    let found = mistakes_of(&type_with("{properties: {a: {type: strin}}}", &deployment("{}")));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("spec.schema.parameters.properties[a].type"),
        "{found:?}"
    );
}

#[test]
fn mistakes_in_a_trait() {
    let found = mistakes_of(
        r#"
apiVersion: openchoreo.dev/v1alpha1
kind: Trait
metadata: {name: t}
spec:
  schema: {parameters: {properties: {size: {type: integer, default: 1}}}}
  validations: [{rule: parameters.size, message: m}]
  patches:
    - target: {kind: Deployment, where: resource.spec.replicas}
      operations:
        - {op: add, path: /spec/replica, value: 1}
        - {op: replace, path: /spec/replicas, value: "${trait.instanceNam}"}
        - {op: remove, path: spec}
        - {op: add, path: /spec/paused}
        - {op: replace, path: /metadata/name, value: x}
    - target: {kind: NetworkPolicy}
      merge: {spec: {}}
    - target: {}
      merge: {spec: {}}
    - target: {kind: StatefulSet}
      merge: {spec: {template: {spec: {containers: [{name: a, imge: b}]}}}}
  removes:
    - {target: {kind: Service}, when: "1"}
"#,
    );
    assert_eq!(
        found,
        [
            "spec.validations[0].rule: a bool is expected, this is an int\n    parameters.size\n    ^ compare it, as in x > 0",
            "spec.patches[0].operations[0].path: unknown field \"replica\"; did you mean \"replicas\"?",
            "spec.patches[0].operations[1].value: no field \"instanceNam\"\n    trait.instanceNam\n          ^ did you mean \"instanceName\"?",
            "spec.patches[0].operations[2].path: \"spec\" is no JSON pointer: it must begin with \"/\"",
            "spec.patches[0].operations[3].value: required for add, replace and test",
            "spec.patches[0].operations[4].path: /metadata/name is the platform's to say",
            "spec.patches[1].target.kind: NetworkPolicy is the platform's; a trait can neither change nor remove it",
            "spec.patches[2].target: names nothing; give a kind, an id or a condition (where)",
            "spec.patches[3].merge.spec.template.spec.containers[0].imge: unknown field \"imge\"; did you mean \"image\"?",
            "spec.removes[0].when: a bool is expected, this is an int\n    1\n    ^ compare it, as in x > 0",
        ]
    );
}

#[rstest]
#[case("worker")]
#[case("stateful-service")]
#[case("scheduled-job")]
#[case("static-site")]
#[case("persistent-volume")]
#[case("autoscaling")]
#[case("extra-ingress-path")]
#[case("pod-monitor")]
fn shipped_types_have_no_mistakes(#[case] name: &str) {
    assert_eq!(mistakes_of(&shipped(name)), Vec::<String>::new());
}

#[test]
fn a_worker_becomes_these_objects() {
    let rendered = render(&[&shipped("worker"), &component("worker", "")]);
    assert_eq!(problems(&rendered), Vec::<String>::new());
    insta::assert_yaml_snapshot!("worker-development", resources(&rendered, "mailer-development"));
}

#[test]
fn every_shipped_type_renders() {
    let job = "  parameters: {schedule: \"0 3 * * *\", timeZone: Europe/Zurich}";
    for (type_, more, kind) in [
        ("stateful-service", "", "StatefulSet"),
        ("scheduled-job", job, "CronJob"),
        ("static-site", "", "Deployment"),
    ] {
        let rendered = render(&[&shipped(type_), &component(type_, more)]);
        assert_eq!(problems(&rendered), Vec::<String>::new(), "{type_}");
        let made = resources(&rendered, "mailer-development");
        assert!(kinds(&made).contains(kind), "{type_}: {:?}", kinds(&made));
        insta::assert_yaml_snapshot!(format!("{type_}-workload"), resource(&made, kind, "mailer"));
    }
}

#[test]
fn traits_change_what_built_in_types_make() {
    let traits = "  traits: [{name: persistent-volume, instanceName: cache, parameters: {mountPath: /cache}}, {name: autoscaling, instanceName: scale}]";
    let service = "---\napiVersion: openchoreo.dev/v1alpha1\nkind: Service\nmetadata: {name: mailer}\nspec: {owner: {projectName: default, componentName: mailer}, workloadName: mailer}";
    let rendered = render(&[
        &shipped("persistent-volume"),
        &shipped("autoscaling"),
        &(component("Service", traits) + service),
    ]);
    assert_eq!(problems(&rendered), Vec::<String>::new());
    let made = resources(&rendered, "mailer-development");
    let deployment = resource(&made, "Deployment", "mailer");
    assert_eq!(
        deployment.pointer("/spec/template/spec/volumes"),
        Some(&json!([{"name": "cache", "persistentVolumeClaim": {"claimName": "mailer-cache"}}]))
    );
    assert_eq!(
        deployment.pointer("/spec/template/spec/containers/0/volumeMounts"),
        Some(&json!([{"name": "cache", "mountPath": "/cache"}]))
    );
    assert_eq!(
        deployment.pointer("/spec/strategy"),
        Some(&json!({"type": "Recreate"}))
    );
    assert_eq!(deployment.pointer("/spec/replicas"), None);
    let claim = resource(&made, "PersistentVolumeClaim", "mailer-cache");
    assert_eq!(claim["metadata"]["labels"], deployment["metadata"]["labels"]);
    assert_eq!(claim.pointer("/spec/storageClassName"), None);
    assert!(kinds(&made).contains("HorizontalPodAutoscaler"));
}

#[test]
fn an_extra_path_is_one_more_rule_of_the_guarded_route() {
    let traits = "  traits: [{name: extra-ingress-path, instanceName: old, parameters: {endpoint: web, path: /legacy, rewriteTo: /v1}}]";
    let rendered = render(&[
        &shipped("worker"),
        &shipped("extra-ingress-path"),
        &component("worker", traits),
    ]);
    assert_eq!(problems(&rendered), Vec::<String>::new());
    let made = resources(&rendered, "mailer-development");
    let rules = resource(&made, "HTTPRoute", "mailer")["spec"]["rules"]
        .as_array()
        .unwrap()
        .clone();
    assert_eq!(rules.len(), 2, "{rules:#?}");
    assert_eq!(rules[1]["matches"][0]["path"]["value"], "/legacy");
    assert_eq!(rules[1]["backendRefs"], rules[0]["backendRefs"]);

    let inner = traits.replace("rewriteTo: /v1", "level: organization");
    let refused = render(&[
        &shipped("worker"),
        &shipped("extra-ingress-path"),
        &component("worker", &inner),
    ]);
    let said = problems(&refused).join("\n");
    assert!(
        said.contains(
            "the endpoint is not exposed at parameters.level (says Trait \"extra-ingress-path\" (old))"
        ),
        "{said}"
    );
}

#[test]
fn wrong_parameters_are_told_at_the_component() {
    let yaml = component("worker", "  parameters: {terminationGracePeriodSecond: 5}");
    let rendered = render(&[&shipped("worker"), &yaml]);
    assert_eq!(
        ready(&rendered.world, Kind::Component, "mailer"),
        (
            "Invalid".to_owned(),
            "Component \"mailer\" spec.parameters.terminationGracePeriodSecond: unknown parameter; did you mean \"terminationGracePeriodSeconds\"? (declared by ComponentType \"worker\")".to_owned()
        )
    );
    let yaml = component("scheduled-job", "");
    let rendered = render(&[&shipped("scheduled-job"), &yaml]);
    let (_, message) = ready(&rendered.world, Kind::Component, "mailer");
    assert!(
        message.contains("spec.parameters.schedule: Required value"),
        "{message}"
    );
}

#[test]
fn a_type_that_is_missing_is_waited_for() {
    let rendered = render(&[&component("worker", "")]);
    let (reason, _) = ready(&rendered.world, Kind::Component, "mailer");
    assert_eq!(reason, "TypeNotFound");
}

#[test]
fn a_change_of_a_type_or_trait_concerns_only_its_users() {
    let traits = "  traits: [{name: autoscaling, instanceName: scale}]";
    let yamls = [
        shipped("worker"),
        shipped("scheduled-job"),
        shipped("autoscaling"),
        component("worker", traits),
    ];
    let yamls: Vec<&str> = yamls.iter().map(String::as_str).collect();
    let rendered = render(&yamls);
    let concerned = |kind, name: &str| -> Vec<String> {
        let targets = affected(&rendered.world, &object(kind, name));
        targets.iter().map(ToString::to_string).collect()
    };
    let users = [
        "Component default/mailer",
        "ComponentBinding default/mailer-development",
    ];
    for (kind, name) in [(Kind::ComponentType, "worker"), (Kind::Trait, "autoscaling")] {
        let found = concerned(kind, name);
        assert!(users.iter().all(|u| found.iter().any(|f| f == u)), "{found:?}");
    }
    assert_eq!(
        concerned(Kind::ComponentType, "scheduled-job"),
        ["ComponentType default/scheduled-job"]
    );

    // What was frozen stays as it was until the component is frozen anew.
    let mut world = rendered.world.clone();
    let longer = shipped("worker").replace("default: 30", "default: 60");
    add(&mut world, &longer);
    let again = offline::render(&world);
    let artifacts = |objects: &[Value]| -> Vec<String> {
        let of = objects.iter().filter(|o| o["kind"] == "DeployableArtifact");
        of.map(|o| o["metadata"]["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_ne!(artifacts(&rendered.objects), artifacts(&again.objects));
}

#[test]
fn usage_is_counted() {
    let rendered = render(&[&shipped("worker"), &component("worker", "")]);
    let plan = plan_of(&rendered.world, Kind::ComponentType, "worker");
    assert_eq!(plan.status.unwrap().fields["usedBy"], json!(1));
}

/// A type with an expression as the data of a ConfigMap.
fn making(expression: &str, more: &str) -> String {
    format!(
        "apiVersion: openchoreo.dev/v1alpha1\nkind: ComponentType\nmetadata: {{name: t}}\nspec:\n  resources:\n    - id: c\n{more}      template:\n        apiVersion: v1\n        kind: ConfigMap\n        metadata: {{name: {expression:?}}}\n"
    )
}

#[rstest]
#[case::cost(
    making("${lists.range(900).map(a, lists.range(900).map(b, 'x').join()).join()}", ""),
    "it takes too long: the expressions of a blueprint have a limited cost"
)]
#[case::items(
    making("${string(i)}", "      forEach: lists.range(257)\n      var: i\n"),
    "257 items are more than 256"
)]
#[case::missing_key(making("${metadata.labels['no']}", ""), "no such key: no")]
#[case::foreign_name(making("mailer-${'x'}", "").replace("ConfigMap", "NetworkPolicy").replace("apiVersion: v1\n", "apiVersion: networking.k8s.io/v1\n"), "NetworkPolicy is the platform's to make")]
fn what_only_shows_when_it_runs_keeps_what_runs(#[case] type_: String, #[case] expected: &str) {
    let rendered = render(&[&type_, &component("t", "")]);
    let said = problems(&rendered).join("\n");
    assert!(said.contains(expected), "{said}");
    assert!(!names(&rendered).iter().any(|n| n == "Release mailer-development"));
}

#[test]
fn suspended_components_of_every_kind_rest() {
    let job = component("scheduled-job", "  parameters: {schedule: \"0 3 * * *\"}");
    let binding = "---\napiVersion: openchoreo.dev/v1alpha1\nkind: ComponentBinding\nmetadata: {name: mailer-development}\nspec: {owner: {projectName: default, componentName: mailer}, environment: development, releaseState: Suspend}";
    let made = resources(
        &render(&[&shipped("scheduled-job"), &(job + binding)]),
        "mailer-development",
    );
    assert_eq!(resource(&made, "CronJob", "mailer")["spec"]["suspend"], true);
    let scaled = component("worker", "  traits: [{name: autoscaling, instanceName: scale}]");
    let made = resources(
        &render(&[&shipped("worker"), &shipped("autoscaling"), &(scaled + binding)]),
        "mailer-development",
    );
    assert_eq!(resource(&made, "Deployment", "mailer")["spec"]["replicas"], 0);
    assert!(!kinds(&made).contains("HorizontalPodAutoscaler"));
}

#[test]
fn environments_differ_by_their_configs() {
    let binding = "---\napiVersion: openchoreo.dev/v1alpha1\nkind: ComponentBinding\nmetadata: {name: mailer-development}\nspec: {owner: {projectName: default, componentName: mailer}, environment: development, environmentConfigs: {replicas: 4}}";
    let made = resources(
        &render(&[&shipped("worker"), &(component("worker", "") + binding)]),
        "mailer-development",
    );
    assert_eq!(resource(&made, "Deployment", "mailer")["spec"]["replicas"], 4);
}

const SHOP: &str = r#"
apiVersion: openchoreo.dev/v1alpha1
kind: ManagedResource
metadata: {name: orders}
spec:
  owner: {projectName: default}
  type: postgres
  environmentConfigs: {production: {storageSize: 100Gi}}
"#;

/// A consumer of a managed resource, with its variables.
fn consumer(params: &str, env: &str) -> String {
    component("worker", "").replace(
        "  endpoints:",
        &format!(
            "  connections: {{db: {{type: managed, params: {params}, inject: {{env: {env}}}}}}}\n  endpoints:"
        ),
    )
}

#[test]
fn a_managed_database_is_made_once_in_the_cell_and_told_to_its_consumers() {
    let env = r#"[{name: DB_HOST, value: "{{ .host }}:{{ .port }}"}, {name: DB_PASSWORD, value: "{{ .password }}"}, {name: DB_URL, value: "{{ .scheme }}://{{ .username }}:{{ .password }}@{{ .host }}/{{ .database }}"}]"#;
    let yamls = [
        shipped("worker"),
        shipped("postgres"),
        SHOP.to_owned(),
        consumer("{resourceRef: orders}", env),
    ];
    let yamls: Vec<&str> = yamls.iter().map(String::as_str).collect();
    let rendered = render(&yamls);
    assert_eq!(problems(&rendered), Vec::<String>::new());

    let release = choreo_api::names::resource_release("default", "development", "orders");
    insta::assert_yaml_snapshot!("postgres-release", resources(&rendered, &release));

    let made = resources(&rendered, "mailer-development");
    let host = choreo_api::names::resource_objects("orders");
    let secret = json!({"valueFrom": {"secretKeyRef": {"name": host, "key": "password"}}});
    let variable = |name: &str, mut value: Value| {
        value["name"] = json!(name);
        value
    };
    let namespace = "dp-default-default-development-f8e58905";
    let address = format!("{host}.{namespace}.svc.cluster.local");
    let env = resource(&made, "Deployment", "mailer")
        .pointer("/spec/template/spec/containers/0/env")
        .unwrap()
        .clone();
    assert_eq!(
        env,
        json!([
            {"name": "MODE", "value": "fast"},
            {"name": "DB_HOST", "value": format!("{address}:5432")},
            variable("DB_PASSWORD", secret.clone()),
            // The kubelet puts one variable into the next: the password is in no object.
            variable("CHOREO_DB_PASSWORD", secret),
            {"name": "DB_URL", "value": format!("postgresql://app:$(CHOREO_DB_PASSWORD)@{address}/app")},
        ])
    );
    // In to the database's pods from the consumer's only, to its port only; what opens the cell spares them.
    let opened = resource(&made, "NetworkPolicy", "mailer-db-resource");
    assert_eq!(
        opened["spec"],
        json!({
            "podSelector": {"matchLabels": {"openchoreo.dev/managed-resource": "orders"}},
            "policyTypes": ["Ingress"],
            "ingress": [{
                "from": [{"podSelector": {"matchLabels": {"openchoreo.dev/component": "mailer", "openchoreo.dev/deployment-track": "default"}}}],
                "ports": [{"port": 5432, "protocol": "TCP"}],
            }],
        })
    );
    let cell = rendered
        .objects
        .iter()
        .find(|o| {
            o["metadata"]["name"]
                .as_str()
                .unwrap()
                .starts_with("cell-default-development")
        })
        .unwrap();
    let inside = cell["spec"]["resources"]
        .as_array()
        .unwrap()
        .iter()
        .find(|r| r["id"] == "networkpolicy-allow-cell-in")
        .unwrap();
    assert_eq!(
        inside["object"]["spec"]["podSelector"],
        json!({"matchExpressions": [{"key": "openchoreo.dev/managed-resource", "operator": "DoesNotExist"}]})
    );
    let all = json!(rendered.objects).to_string();
    assert!(!all.contains("stringData"), "no secret value is ever rendered");
}

#[rstest]
#[case::nothing_of_that_name(
    "{resourceRef: nope}",
    "ManagedResource \"nope\" not found in namespace \"default\": create it, or give params.resourceType"
)]
#[case::no_type(
    "{resourceRef: nope, resourceType: mysql}",
    "ResourceType \"mysql\" of ManagedResource \"nope\" not found"
)]
fn what_is_missing_is_waited_for(#[case] params: &str, #[case] expected: &str) {
    let rendered = render(&[&shipped("worker"), &shipped("postgres"), &consumer(params, "[]")]);
    let (reason, message) = ready(&rendered.world, Kind::ComponentBinding, "mailer-development");
    assert_eq!(reason, "ConnectionUnresolved");
    assert!(message.contains(expected), "{message}");
}

#[test]
fn an_unknown_output_is_told_with_its_place() {
    let env = r#"[{name: X, value: "{{ .pasword }}"}]"#;
    let rendered = render(&[
        &shipped("worker"),
        &shipped("postgres"),
        SHOP,
        &consumer("{resourceRef: orders}", env),
    ]);
    let (_, message) = ready(&rendered.world, Kind::ComponentBinding, "mailer-development");
    assert!(
        message.contains("workload connections[db].inject.env[0] (X): column 1: unknown variable \".pasword\"; this connection offers .database, .host, .password, .port, .scheme, .username"),
        "{message}"
    );
}

#[test]
fn another_projects_resource_is_refused() {
    let others = SHOP.replace("projectName: default", "projectName: other");
    let rendered = render(&[
        &shipped("worker"),
        &shipped("postgres"),
        &others,
        &consumer("{resourceRef: orders}", "[]"),
    ]);
    let (_, message) = ready(&rendered.world, Kind::ComponentBinding, "mailer-development");
    assert!(
        message.contains("ManagedResource \"orders\" belongs to project \"other\", not to \"default\""),
        "{message}"
    );
}

#[test]
fn a_resource_that_nobody_declared_has_its_types_defaults() {
    let rendered = render(&[
        &shipped("worker"),
        &shipped("redis"),
        &consumer(
            "{resourceRef: cache, resourceType: redis}",
            r#"[{name: R, value: "{{ .host }}"}]"#,
        ),
    ]);
    assert_eq!(problems(&rendered), Vec::<String>::new());
    let release = choreo_api::names::resource_release("default", "development", "cache");
    let made = resources(&rendered, &release);
    let server = resource(&made, "StatefulSet", "resource-cache");
    assert_eq!(server.pointer("/spec/volumeClaimTemplates"), None);
    assert_eq!(
        server.pointer("/spec/template/spec/volumes"),
        Some(&json!([{"name": "data", "emptyDir": {}}]))
    );
}

#[test]
fn a_resource_that_nobody_uses_any_more_goes_and_its_status_says_where_it_is() {
    let yamls = [
        shipped("worker"),
        shipped("postgres"),
        SHOP.to_owned(),
        consumer("{resourceRef: orders}", "[]"),
    ];
    let yamls: Vec<&str> = yamls.iter().map(String::as_str).collect();
    let rendered = render(&yamls);
    let plan = plan_of(&rendered.world, Kind::ManagedResource, "orders");
    assert_eq!(
        plan.status.unwrap().fields["environments"],
        json!(["development"])
    );

    // The type, the resource and the binding all reach the cell.
    let cell = choreo_engine::Target::Cell {
        namespace: "default".to_owned(),
        project: "default".to_owned(),
        environment: "development".to_owned(),
    };
    for (kind, name) in [
        (Kind::ResourceType, "postgres"),
        (Kind::ManagedResource, "orders"),
        (Kind::ComponentBinding, "mailer-development"),
    ] {
        assert!(
            affected(&rendered.world, &object(kind, name)).contains(&cell),
            "{name}"
        );
    }
}

#[rstest]
#[case("postgres")]
#[case("redis")]
fn shipped_resource_types_have_no_mistakes(#[case] name: &str) {
    assert_eq!(mistakes_of(&shipped(name)), Vec::<String>::new());
}
