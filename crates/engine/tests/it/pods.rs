//! Pods: what a workload says, what its class gives, and what the platform sees to.

use choreo_engine::Kind;
use rstest::rstest;
use serde_json::{Value, json};

use super::support::*;

fn service(workload: &str, more: &str) -> String {
    let owner = "{projectName: default, componentName: app}";
    format!(
        "{{apiVersion: openchoreo.dev/v1alpha1, kind: Component, metadata: {{name: app}}, spec: {{owner: {{projectName: default}}, type: Service}}}}\n---\n\
         {{apiVersion: openchoreo.dev/v1alpha1, kind: Workload, metadata: {{name: app}}, spec: {{owner: {owner}, {workload}}}}}\n---\n\
         {{apiVersion: openchoreo.dev/v1alpha1, kind: Service, metadata: {{name: app}}, spec: {{owner: {owner}, workloadName: app{more}}}}}"
    )
}

fn class(spec: &str) -> String {
    format!(
        "{{apiVersion: openchoreo.dev/v1alpha1, kind: ServiceClass, metadata: {{name: default}}, spec: {{{spec}}}}}"
    )
}

fn objects(yamls: &[&str]) -> Vec<Value> {
    let rendered = render(yamls);
    assert_eq!(problems(&rendered), Vec::<String>::new());
    resources(&rendered, "app-development")
}

fn pod(yamls: &[&str]) -> Value {
    resource(&objects(yamls), "Deployment", "app")["spec"]["template"]["spec"].clone()
}

fn refused(yamls: &[&str]) -> String {
    let rendered = render(yamls);
    ready(&rendered.world, Kind::ServiceBinding, "app-development").1
}

const PLAIN: &str = "containers: {main: {image: 'app:1'}}";

#[test]
fn a_worker_offers_nothing_and_needs_no_service() {
    let all = objects(&[&service(PLAIN, "")]);
    assert_eq!(
        kinds(&all).into_iter().collect::<Vec<_>>(),
        ["Deployment", "ServiceAccount"]
    );
}

#[test]
fn every_container_follows_the_restricted_profile_unless_its_class_says_otherwise() {
    let workload =
        "containers: {main: {image: a}, side: {image: b}}, initContainers: [{name: first, image: c}]";
    let strict = pod(&[&service(workload, "")]);
    assert_eq!(strict["automountServiceAccountToken"], false);
    assert_eq!(
        strict["securityContext"],
        json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}})
    );
    let expected = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    for list in ["containers", "initContainers"] {
        for container in strict[list].as_array().unwrap() {
            assert_eq!(container["securityContext"], expected, "{}", container["name"]);
        }
    }
    let loose = "deploymentTemplate: {template: {spec: {automountServiceAccountToken: true, securityContext: {runAsNonRoot: false}, \
                 containers: [{name: main, securityContext: {capabilities: {add: [NET_BIND_SERVICE]}}}]}}}";
    let loose = pod(&[&class(loose), &service(workload, "")]);
    assert_eq!(loose["automountServiceAccountToken"], true);
    assert_eq!(
        loose["securityContext"],
        json!({"runAsNonRoot": false, "seccompProfile": {"type": "RuntimeDefault"}})
    );
    assert_eq!(
        loose["containers"][0]["securityContext"],
        json!({"allowPrivilegeEscalation": false, "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]}})
    );
    assert_eq!(
        loose["containers"][1]["securityContext"], expected,
        "of another container"
    );
}

#[test]
fn init_containers_keep_their_order_and_sidecars_stay() {
    let workload = "containers: {main: {image: a}}, initContainers: [{name: wait, image: w, command: [sh, -c, wait]}, \
                    {name: agent, image: g, restartPolicy: Always, probes: {startupProbe: {tcpSocket: {port: 1}}}}, {name: another, image: x}]";
    let of_class = class(
        "deploymentTemplate: {template: {spec: {initContainers: [{name: platform, image: p}, {name: agent, resources: {limits: {cpu: 1}}}]}}}",
    );
    let pod = pod(&[&of_class, &service(workload, "")]);
    let told: Vec<Value> = pod["initContainers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| json!([c["name"], c["image"], c["restartPolicy"]]))
        .collect();
    assert_eq!(
        told,
        [
            json!(["wait", "w", null]),
            json!(["platform", "p", null]),
            json!(["agent", "g", "Always"]),
            json!(["another", "x", null]),
        ],
        "the workload's order holds, and what is the class's alone keeps its place before what it was before"
    );
    assert_eq!(
        pod["initContainers"][2]["resources"],
        json!({"limits": {"cpu": 1}})
    );
    assert_eq!(
        pod["initContainers"][2]["startupProbe"],
        json!({"tcpSocket": {"port": 1}})
    );
}

#[rstest]
#[case(
    "containers: {main: {image: a}}, initContainers: [{name: main, image: b}]",
    "workload initContainers[main]: containers has one of this name, too: rename one of them"
)]
#[case(
    "containers: {main: {image: a}}, initContainers: [{name: x, image: b, probes: {livenessProbe: {tcpSocket: {port: 1}}}}]",
    "workload initContainers[x].probes: a container that ends before the others start cannot be probed: remove them, or make it a sidecar with restartPolicy Always"
)]
fn what_no_pod_can_be_made_of(#[case] workload: &str, #[case] message: &str) {
    assert_eq!(refused(&[&service(workload, "")]), message);
}

#[test]
fn overrides_reach_init_containers_by_name() {
    let workload = "containers: {main: {image: a}}, initContainers: [{name: first, image: b, env: [{key: A, value: '1'}]}]";
    let overrides = ", overrides: {containers: {first: {env: [{key: A, value: '2'}], resources: {limits: {memory: 1Gi}}}}}";
    let pod = pod(&[&service(workload, overrides)]);
    assert_eq!(
        pod["initContainers"][0]["env"],
        json!([{"name": "A", "value": "2"}])
    );
    assert_eq!(pod["initContainers"][0]["resources"]["limits"]["memory"], "1Gi");
    let unknown = ", overrides: {containers: {second: {args: [x]}}}";
    let message = refused(&[&service(workload, unknown)]);
    assert!(
        message.contains(
            "spec.overrides.containers[second]: the workload has no container \"second\" (it has \"main\""
        ),
        "{message}"
    );
}

#[test]
fn images_of_the_data_planes_registry_come_with_its_credentials() {
    let secrets = |workload: &str| pod(&[&service(workload, "")])["imagePullSecrets"].clone();
    let own = "containers: {main: {image: 'registry.example.com/app:1'}}";
    assert_eq!(secrets(own), json!([{"name": "registry-credentials"}]));
    assert_eq!(secrets(PLAIN), Value::Null);
    assert_eq!(
        secrets("containers: {main: {image: 'registry.example.com.evil.org/app'}}"),
        Value::Null
    );
    let init = "containers: {main: {image: a}}, initContainers: [{name: i, image: 'registry.example.com/i'}], imagePullSecrets: [mine]";
    assert_eq!(
        secrets(init),
        json!([{"name": "mine"}, {"name": "registry-credentials"}])
    );
    let of_class = class("deploymentTemplate: {template: {spec: {imagePullSecrets: [{name: theirs}]}}}");
    assert_eq!(
        pod(&[&of_class, &service(own, "")])["imagePullSecrets"],
        json!([{"name": "registry-credentials"}, {"name": "theirs"}])
    );
}

#[test]
fn a_cell_gets_the_registrys_credentials_without_their_content() {
    let rendered = render(&[&service(PLAIN, "")]);
    let release = names(&rendered)
        .iter()
        .find_map(|n| n.strip_prefix("Release cell-").map(|n| format!("cell-{n}")))
        .unwrap();
    let all = resources(&rendered, &release);
    let secret = resource(&all, "Secret", "registry-credentials");
    assert_eq!(
        secret["metadata"]["annotations"]["openchoreo.dev/copy-of"],
        "registry-credentials"
    );
    assert!(secret.get("data").is_none() && secret.get("stringData").is_none());
}

#[test]
fn several_pods_are_spread_and_the_class_may_say_how() {
    let spread = |yamls: &[&str]| pod(yamls)["topologySpreadConstraints"].clone();
    let selector = json!({"matchLabels": {"openchoreo.dev/component": "app", "openchoreo.dev/deployment-track": "default"}});
    let several = spread(&[&class("deploymentTemplate: {replicas: 3}"), &service(PLAIN, "")]);
    assert_eq!(several.as_array().unwrap().len(), 2);
    assert!(
        several
            .as_array()
            .unwrap()
            .iter()
            .all(|c| c["labelSelector"] == selector && c["whenUnsatisfiable"] == "ScheduleAnyway")
    );
    assert_eq!(
        spread(&[&class("deploymentTemplate: {replicas: 1}"), &service(PLAIN, "")]),
        Value::Null
    );
    let own = "deploymentTemplate: {replicas: 3, template: {spec: {topologySpreadConstraints: [{topologyKey: rack, maxSkew: 2, \
               whenUnsatisfiable: DoNotSchedule}]}}}";
    assert_eq!(
        spread(&[&class(own), &service(PLAIN, "")]),
        json!([{"topologyKey": "rack", "maxSkew": 2, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector}]),
        "a class cannot know the labels of a component's pods"
    );
}

/// The rules of `kubectl patch --type=strategic`, with the class as what there is and the workload as the patch.
#[rstest]
#[case::merged_by_name(
    "containers: [{name: main, env: [{name: A, value: class}, {name: B, value: class}]}]",
    "/containers/0/env",
    json!([{"name": "A", "value": "workload"}, {"name": "B", "value": "class"}])
)]
#[case::directives_against_the_platforms_defaults(
    "securityContext: {$patch: replace, fsGroup: 7}",
    "/securityContext",
    json!({"fsGroup": 7})
)]
#[case::null_takes_a_default_away(
    "securityContext: {runAsNonRoot: null}",
    "/securityContext",
    json!({"seccompProfile": {"type": "RuntimeDefault"}})
)]
#[case::mounts_by_path(
    "volumes: [{name: tmp, emptyDir: {}}], containers: [{name: main, volumeMounts: [{name: tmp, mountPath: /tmp}]}]",
    "/containers/0/volumeMounts",
    json!([{"name": "tmp", "mountPath": "/tmp"}])
)]
#[case::lists_without_a_key_are_the_workloads(
    "containers: [{name: main, args: [class], command: [class]}]",
    "/containers/0/args",
    json!(["workload"])
)]
#[case::ports_and_further_containers(
    "containers: [{name: proxy, image: 'p:1', ports: [{containerPort: 1}]}]",
    "/containers/1",
    json!({"name": "proxy", "image": "p:1", "ports": [{"containerPort": 1}],
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}})
)]
fn a_class_is_merged_as_kubernetes_merges(
    #[case] spec: &str,
    #[case] pointer: &str,
    #[case] expected: Value,
) {
    let workload = "containers: {main: {image: a, args: [workload], env: [{key: A, value: workload}]}}";
    let of_class = class(&format!("deploymentTemplate: {{template: {{spec: {{{spec}}}}}}}"));
    let pod = pod(&[&of_class, &service(workload, "")]);
    assert_eq!(pod.pointer(pointer).unwrap(), &expected, "{pod:#}");
}

#[rstest]
#[case(
    "selector: {matchLabels: {a: b}}",
    "selector: the platform selects the pods; remove it"
)]
#[case(
    "template: {metadata: {labels: {openchoreo.dev/component: other}}}",
    "template.metadata.labels[openchoreo.dev/component]: the platform sets it; remove it"
)]
#[case(
    "template: {spec: {containers: [{name: main, ports: [{containerPort: 1}]}]}}",
    "template.spec.containers[main].ports: the workload says it; remove it"
)]
#[case(
    "template: {spec: {containers: [{name: main, $patch: delete}]}}",
    "template.spec.containers[main]: a container of the workload cannot be removed or replaced"
)]
#[case(
    "template: {spec: {initContainers: [{name: first, image: evil}]}}",
    "template.spec.initContainers[first].image: the workload says it; remove it"
)]
#[case(
    "template: {spec: {containers: [{image: nameless}]}}",
    "template.spec.containers[0].name: required"
)]
#[case("template: {spec: {contaners: []}}", "template.spec.contaners: unknown field")]
fn what_is_the_platforms_is_refused_and_named(#[case] template: &str, #[case] why: &str) {
    let workload = "containers: {main: {image: a}}, initContainers: [{name: first, image: b}]";
    let of_class = class(&format!("deploymentTemplate: {{{template}}}"));
    let message = refused(&[&of_class, &service(workload, "")]);
    assert!(
        message.starts_with("ServiceClass \"default\" spec.deploymentTemplate.") && message.contains(why),
        "{message}"
    );
}

#[test]
fn suspended_means_no_autoscaler_no_budget_and_no_pods() {
    let scaled = class("autoscaling: {minReplicas: 2, maxReplicas: 4}, disruption: {maxUnavailable: 1}");
    let binding = "{apiVersion: openchoreo.dev/v1alpha1, kind: ServiceBinding, metadata: {name: app-development}, spec: {owner: \
                   {projectName: default, componentName: app}, environment: development, workloadSpec: {containers: {main: {image: a}}}, releaseState: STATE}}";
    let kinds_of = |state: &str| {
        let all = objects(&[&scaled, &service(PLAIN, ""), &binding.replace("STATE", state)]);
        let replicas = resource(&all, "Deployment", "app")["spec"]["replicas"].clone();
        (kinds(&all).into_iter().collect::<Vec<_>>().join(" "), replicas)
    };
    assert_eq!(
        kinds_of("Active"),
        (
            "Deployment HorizontalPodAutoscaler PodDisruptionBudget ServiceAccount".to_owned(),
            Value::Null
        )
    );
    assert_eq!(
        kinds_of("Suspend"),
        ("Deployment ServiceAccount".to_owned(), json!(0))
    );
}
