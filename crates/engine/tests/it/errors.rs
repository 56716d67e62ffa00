//! Mistakes and missing things: each is named with object and field, and all of them at once.

use choreo_engine::{AnyObject, Kind, World};
use rstest::rstest;
use serde_json::{Value, json};

use super::support::*;

/// The greeter's world with one object changed (or removed, by `null`).
#[allow(clippy::needless_pass_by_value)] // The calls read better.
fn changed(kind: &str, name: &str, pointer: &str, value: Value) -> World {
    let mut world = World::new();
    let mut hit = false;
    for mut document in [PLATFORM, GREETER, GITHUB].iter().flat_map(|y| documents(y)) {
        if document["kind"] == kind && document["metadata"]["name"] == name {
            hit = true;
            if pointer.is_empty() {
                continue;
            }
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            document.pointer_mut(parent).unwrap()[key] = value.clone();
        }
        world.upsert(AnyObject::from_value(&document).unwrap());
    }
    assert!(hit, "the test's world has no {kind} {name}");
    choreo_engine::offline::render(&world).world
}

#[rstest]
#[case(
    "Project",
    "default",
    "",
    Value::Null,
    "ProjectNotFound",
    "Project \"default\" not found in namespace \"default\": create it, or change spec.owner.projectName of Component \"greeter\""
)]
#[case(
    "Service",
    "greeter",
    "",
    Value::Null,
    "TypeNotFound",
    "Component \"greeter\" has no Service: create a Service in namespace \"default\" whose spec.owner is project \"default\", component \"greeter\""
)]
#[case(
    "Workload",
    "greeter",
    "",
    Value::Null,
    "WorkloadNotFound",
    "Workload \"greeter\" not found in namespace \"default\": create it, or change spec.workloadName of Service \"greeter\""
)]
#[case(
    "ServiceClass",
    "default",
    "",
    Value::Null,
    "ClassNotFound",
    "ServiceClass \"default\" not found in namespace \"default\" nor in \"openchoreo-system\": create it, or change spec.className of Service \"greeter\""
)]
#[case(
    "APIClass",
    "default",
    "",
    Value::Null,
    "ClassNotFound",
    "APIClass \"default\" not found in namespace \"default\" nor in \"openchoreo-system\": create it, or change spec.apis[greeter-api].className of Service \"greeter\""
)]
#[case(
    "DeploymentPipeline",
    "default",
    "",
    Value::Null,
    "PipelineNotFound",
    "DeploymentPipeline \"default\" not found in namespace \"default\": create it, or change spec.deploymentPipelineRef of Project \"default\""
)]
#[case("Service", "greeter", "/spec/owner/projectName", json!("other"), "Invalid",
    "Service \"greeter\" spec.owner.projectName: \"other\" is not the project of Component \"greeter\", which is \"default\"")]
fn a_component_says_what_it_waits_for(
    #[case] kind: &str,
    #[case] name: &str,
    #[case] pointer: &str,
    #[case] value: Value,
    #[case] reason: &str,
    #[case] message: &str,
) {
    let world = changed(kind, name, pointer, value);
    assert_eq!(
        ready(&world, Kind::Component, "greeter"),
        (reason.to_owned(), message.to_owned())
    );
}

#[rstest]
#[case(
    "Environment",
    "development",
    "",
    Value::Null,
    "EnvironmentNotFound",
    "Environment \"development\" not found in namespace \"default\": create it"
)]
#[case(
    "DataPlane",
    "default",
    "",
    Value::Null,
    "DataPlaneNotFound",
    "DataPlane \"default\" not found in namespace \"default\": create it, or change spec.dataPlaneRef of Environment \"development\""
)]
#[case(
    "DataPlane",
    "default",
    "/spec/gateway",
    Value::Null,
    "RenderFailed",
    "service apis[greeter-api].exposeLevels[Organization]: DataPlane \"default\" has no spec.gateway, so nothing can be exposed at level Organization; service apis[greeter-api].exposeLevels[Public]: DataPlane \"default\" has no spec.gateway, so nothing can be exposed at level Public"
)]
#[case("ConfigurationGroup", "github", "/spec/configurations/0/key", json!("repo"), "ConfigurationNotFound",
    "ConfigurationGroup \"github\" has no key \"repository\" (it has \"repo\"): add it; used by the workload's containers[main].env[GITHUB_REPOSITORY]")]
#[case("ConfigurationGroup", "github", "/spec/configurations/0/values", json!([{"value": "a"}, {"value": "b"}]), "Ambiguous",
    "ConfigurationGroup \"github\" key \"repository\" has more than one value for all environments for environment \"development\": keep one; used by the workload's containers[main].env[GITHUB_REPOSITORY]")]
#[case("ConfigurationGroup", "github", "/spec/configurations/0/values", json!([{"environment": "production", "value": "a"}]), "ConfigurationNotFound",
    "ConfigurationGroup \"github\" key \"repository\" has no value for environment \"development\": add one for it, for a group of environments that contains it, or for all; used by the workload's containers[main].env[GITHUB_REPOSITORY]")]
#[case("ConfigurationGroup", "github", "/spec/configurations/0/values", json!([{"value": "a", "vaultKey": "b"}]), "Invalid",
    "ConfigurationGroup \"github\" key \"repository\", value for all environments: give exactly one of value and vaultKey; used by the workload's containers[main].env[GITHUB_REPOSITORY]")]
#[case("Service", "greeter", "/spec/apis/greeter-api/rest/backend/port", json!(8080), "RenderFailed",
    "service apis[greeter-api].backend.port: 8080 is not a port of an endpoint of the workload (those are \"9090\")")]
#[case("Service", "greeter", "/spec/apis/greeter-api/rest/backend/basePath", json!("/a/../b"), "RenderFailed",
    "service apis[greeter-api].backend.basePath: must not contain \".\" or \"..\" as a segment")]
#[case("ServiceClass", "default", "/spec/deploymentTemplate", json!({"selector": {"matchLabels": {"a": "b"}}, "template": {"spec": {"containers": [{"name": "main", "image": "evil"}]}}}), "RenderFailed",
    "ServiceClass \"default\" spec.deploymentTemplate.selector: the platform selects the pods; remove it; ServiceClass \"default\" spec.deploymentTemplate.template.spec.containers[main].image: the workload says it; remove it")]
#[case("ServiceClass", "default", "/spec/serviceTemplate", json!({"ports": [{"port": 1}]}), "RenderFailed",
    "ServiceClass \"default\" spec.serviceTemplate.ports: the workload's endpoints say them; remove it")]
#[case("APIClass", "default", "/spec/restPolicy", json!({"defaults": {"rateLimit": {"requests": 10, "window": "30s"}}, "public": {"authentication": {"type": "oauth2", "oauth2": {"tokenUrl": "https://id"}}}}), "RenderFailed",
    "APIClass \"default\" rateLimit: window \"30s\" cannot be enforced exactly: the gateway counts by the second, minute, hour, day or week; write 1s, 1m, 1h, 1d or 7d; endpoint \"greeter-api\" is not exposed without it; APIClass \"default\" authentication: oauth2.jwks: not given; a token cannot be checked by the address where it is issued alone, so name the key set of the server; endpoint \"greeter-api\" is not exposed without it")]
#[case("Workload", "greeter", "/spec/connections", json!({"db": {"type": "managed", "params": {"resourceRef": "x"}}}), "ConnectionUnresolved",
    "workload connections[db]: ManagedResource \"x\" not found in namespace \"default\": create it, or give params.resourceType for one of a type's defaults")]
#[case("Workload", "greeter", "/spec/connections", json!({"c": {"type": "api", "params": {"componentName": "cart"}}}), "ConnectionUnresolved",
    "workload connections[c]: Component \"cart\" not found in namespace \"default\": create it, or correct params.componentName")]
#[case("Workload", "greeter", "/spec/connections", json!({"x": {"type": "external", "params": {"host": "a.example"}}}), "Invalid",
    "workload connections[x].params.port: expected a number from 1 to 65535, found \"\"")]
#[case("Workload", "greeter", "/spec/connections", json!({"x": {"type": "external", "params": {"url": "https://a.example"}, "inject": {"env": [{"name": "A", "value": "{{ .hots }}"}, {"name": "B", "value": "{{ .host"}]}}}), "Invalid",
    "workload connections[x].inject.env[0] (A): column 1: unknown variable \".hots\"; this connection offers .basePath, .host, .port, .scheme, .uri, .url; workload connections[x].inject.env[1] (B): column 1: \"{{\" is never closed; expected \"}}\"")]
fn a_binding_says_everything_that_is_wrong(
    #[case] kind: &str,
    #[case] name: &str,
    #[case] pointer: &str,
    #[case] value: Value,
    #[case] reason: &str,
    #[case] message: &str,
) {
    let world = changed(kind, name, pointer, value);
    assert_eq!(
        ready(&world, Kind::ServiceBinding, "greeter-development"),
        (reason.to_owned(), message.to_owned())
    );
    let release = world.get_any(&object(Kind::Release, "greeter-development"));
    assert!(release.is_none(), "nothing is rendered while something is wrong");
}

#[test]
fn a_binding_needs_its_component() {
    let binding = "{apiVersion: openchoreo.dev/v1alpha1, kind: ServiceBinding, metadata: {name: b}, spec: {owner: {projectName: default, \
                   componentName: ghost}, environment: development, workloadSpec: {containers: {main: {image: a}}}}}";
    assert_eq!(
        ready(&world(&[binding]), Kind::ServiceBinding, "b"),
        (
            "ComponentNotFound".to_owned(),
            "Component \"ghost\" not found in namespace \"default\": create it, or delete ServiceBinding \"b\"".to_owned()
        )
    );
}

#[test]
fn a_vault_key_needs_a_secret_store() {
    let group = "{apiVersion: openchoreo.dev/v1alpha1, kind: ConfigurationGroup, metadata: {name: github}, spec: {configurations: \
                 [{key: repository, values: [{vaultKey: secret/repo}]}]}}";
    let no_store = PLATFORM.replace("  secretStoreRef:\n    name: vault\n", "");
    let rendered = render(&[&no_store, GREETER, group]);
    let (reason, message) = ready(&rendered.world, Kind::ServiceBinding, "greeter-development");
    assert_eq!(reason, "RenderFailed");
    assert_eq!(
        message,
        "ConfigurationGroup \"github\" key \"repository\" is a vaultKey, but DataPlane \"default\" has no spec.secretStoreRef: name the store that secrets come from"
    );
}

#[rstest]
#[case(
    "[{sourceEnvironmentRef: development, targetEnvironmentRefs: [{name: staging}]}, {sourceEnvironmentRef: staging, targetEnvironmentRefs: [{name: development}]}]",
    "PipelineCycle",
    "the paths form a cycle; \"development\" and \"staging\" cannot be put in order"
)]
#[case(
    "[{sourceEnvironmentRef: development, targetEnvironmentRefs: [{name: production}]}, {sourceEnvironmentRef: staging, targetEnvironmentRefs: [{name: production}]}]",
    "Invalid",
    "no path leads to \"development\" and \"staging\""
)]
#[case(
    "[{sourceEnvironmentRef: development, targetEnvironmentRefs: [{name: moon}]}]",
    "EnvironmentNotFound",
    "Environment \"moon\" not found"
)]
#[case("[]", "Invalid", "names no environment")]
fn a_pipeline_says_what_is_wrong(#[case] paths: &str, #[case] reason: &str, #[case] part: &str) {
    let pipeline = format!(
        "{{apiVersion: openchoreo.dev/v1alpha1, kind: DeploymentPipeline, metadata: {{name: default}}, spec: {{promotionPaths: {paths}}}}}"
    );
    let world = world(&[&pipeline]);
    let (actual, message) = ready(&world, Kind::DeploymentPipeline, "default");
    assert_eq!(actual, reason, "{message}");
    assert!(message.contains(part), "{message}");
}

#[test]
fn a_class_is_checked_when_it_is_written() {
    let class = "{apiVersion: openchoreo.dev/v1alpha1, kind: ServiceClass, metadata: {name: default}, spec: {deploymentTemplate: \
                 {replica: 3, template: {metadata: {labels: {openchoreo.dev/project: x}}, spec: {containers: [{image: a}]}}}}}";
    let (_, message) = ready(&world(&[class]), Kind::ServiceClass, "default");
    for part in [
        "spec.deploymentTemplate.replica: unknown field",
        "spec.deploymentTemplate.template.metadata.labels[openchoreo.dev/project]: the platform sets it; remove it",
        "spec.deploymentTemplate.template.spec.containers[0].name: required: containers are merged by name",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(ready(&world(&[]), Kind::ServiceClass, "default").0, "Ready");
    assert_eq!(ready(&world(&[]), Kind::APIClass, "guarded").0, "Ready");
}

#[test]
fn two_typed_parts_or_two_apis_on_one_path_are_refused() {
    let second = "{apiVersion: openchoreo.dev/v1alpha1, kind: Service, metadata: {name: again}, spec: {owner: {projectName: default, \
                  componentName: greeter}, workloadName: greeter}}";
    let rendered = render(&[GREETER, GITHUB, second]);
    assert_eq!(
        ready(&rendered.world, Kind::Component, "greeter").1,
        "Component \"greeter\" has more than one Service: \"again\" and \"greeter\"; keep one"
    );
    let same_path = GREETER.replace(
        "  apis:\n",
        "  apis:\n    another:\n      type: REST\n      rest: {backend: {port: 9090, basePath: greeter/}, exposeLevels: [Public]}\n",
    );
    let rendered = render(&[&same_path, GITHUB]);
    assert_eq!(
        ready(&rendered.world, Kind::ServiceBinding, "greeter-development").1,
        "endpoints \"another\" and \"greeter-api\" would both be dev-default.apps.example.com/default/greeter/greeter at level Public: give them different base paths"
    );
}

#[test]
fn cells_never_share_a_namespace() {
    let other = "{apiVersion: openchoreo.dev/v1alpha1, kind: Organization, metadata: {name: default-shop}}\n---\n\
                 {apiVersion: openchoreo.dev/v1alpha1, kind: Project, metadata: {name: eu, namespace: default-shop}, spec: {}}\n---\n\
                 {apiVersion: openchoreo.dev/v1alpha1, kind: Environment, metadata: {name: development, namespace: default-shop}, spec: {dataPlaneRef: default}}\n---\n\
                 {apiVersion: openchoreo.dev/v1alpha1, kind: DataPlane, metadata: {name: default, namespace: default-shop}, spec: {kubernetesCluster: {server: 'embedded://local'}}}\n---\n\
                 {apiVersion: openchoreo.dev/v1alpha1, kind: ServiceBinding, metadata: {name: a-development, namespace: default-shop}, spec: {owner: {projectName: eu, componentName: a}, environment: development, workloadSpec: {containers: {main: {image: a}}}}}\n---\n\
                 {apiVersion: openchoreo.dev/v1alpha1, kind: Project, metadata: {name: shop-eu}, spec: {}}";
    let world = world(&[other]);
    let target = choreo_engine::Target::Cell {
        namespace: "default-shop".to_owned(),
        project: "eu".to_owned(),
        environment: "development".to_owned(),
    };
    let plan = choreo_engine::plan(&world, &target);
    assert!(plan.children.is_empty());
    assert!(
        plan.problems.message().contains("would share its namespace"),
        "{}",
        plan.problems.message()
    );
}
