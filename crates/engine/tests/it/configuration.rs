//! Configuration and secrets: which value holds where, and how it reaches the pods.

use choreo_engine::Kind;
use rstest::rstest;
use serde_json::{Value, json};

use super::support::*;

fn app(container: &str) -> String {
    let owner = "{projectName: default, componentName: app}";
    format!(
        "{{apiVersion: openchoreo.dev/v1alpha1, kind: Component, metadata: {{name: app}}, spec: {{owner: {{projectName: default}}, type: Service}}}}\n---\n\
         {{apiVersion: openchoreo.dev/v1alpha1, kind: Workload, metadata: {{name: app}}, spec: {{owner: {owner}, containers: {{main: {{image: a, {container}}}}}}}}}\n---\n\
         {{apiVersion: openchoreo.dev/v1alpha1, kind: Service, metadata: {{name: app}}, spec: {{owner: {owner}, workloadName: app}}}}"
    )
}

fn group(values: &str) -> String {
    format!(
        "{{apiVersion: openchoreo.dev/v1alpha1, kind: ConfigurationGroup, metadata: {{name: db}}, spec: {{environmentGroups: \
         [{{name: early, environments: [development, staging]}}, {{name: all, environments: [development, staging, production]}}], \
         configurations: [{{key: url, values: {values}}}]}}}}"
    )
}

const ENV: &str = "env: [{key: URL, valueFrom: {configurationGroupRef: {name: db, key: url}}}]";

/// The value of the key in development.
fn value(values: &str) -> Value {
    let rendered = render(&[&group(values), &app(ENV)]);
    assert_eq!(problems(&rendered), Vec::<String>::new());
    let all = resources(&rendered, "app-development");
    resource(&all, "ConfigMap", "app-config-db")["data"]["url"].clone()
}

fn refused(yamls: &[&str]) -> (String, String) {
    let rendered = render(yamls);
    ready(&rendered.world, Kind::ServiceBinding, "app-development")
}

#[rstest]
#[case(
    "[{value: all}, {environmentGroupRef: early, value: group}, {environment: development, value: own}]",
    "own"
)]
#[case(
    "[{value: all}, {environmentGroupRef: early, value: group}, {environment: production, value: own}]",
    "group"
)]
#[case("[{value: all}, {environment: production, value: own}]", "all")]
// The order in which they are written means nothing.
#[case(
    "[{environment: development, value: own}, {environmentGroupRef: early, value: group}, {value: all}]",
    "own"
)]
fn the_most_specific_value_wins(#[case] values: &str, #[case] expected: &str) {
    assert_eq!(value(values), expected);
}

#[rstest]
#[case(
    "[{environmentGroupRef: early, value: a}, {environmentGroupRef: all, value: b}]",
    "Ambiguous",
    "key \"url\" has more than one value through its environment groups for environment \"development\": keep one"
)]
#[case(
    "[{environment: development, value: a}, {environment: development, value: b}]",
    "Ambiguous",
    "more than one value of its own"
)]
#[case(
    "[{value: a, vaultKey: b}]",
    "Invalid",
    "give exactly one of value and vaultKey"
)]
#[case(
    "[{environment: development}]",
    "Invalid",
    "value for environment \"development\": give exactly one of value and vaultKey"
)]
#[case(
    "[{environment: development, environmentGroupRef: early, value: a}]",
    "Invalid",
    "has a value for both environment and environmentGroupRef"
)]
#[case(
    "[{environmentGroupRef: nowhere, value: a}]",
    "Invalid",
    "environment group \"nowhere\", which spec.environmentGroups does not declare"
)]
#[case(
    "[{environment: production, value: a}]",
    "ConfigurationNotFound",
    "has no value for environment \"development\""
)]
fn values_that_cannot_be_told_apart(#[case] values: &str, #[case] reason: &str, #[case] why: &str) {
    let (found, message) = refused(&[&group(values), &app(ENV)]);
    assert_eq!(found, reason);
    assert!(
        message.contains(why) && message.ends_with("used by the workload's containers[main].env[URL]"),
        "{message}"
    );
}

#[test]
fn a_missing_group_says_what_to_create() {
    let (reason, message) = refused(&[&app(ENV)]);
    assert_eq!(reason, "ConfigurationNotFound");
    assert_eq!(
        message,
        "ConfigurationGroup \"db\" not found in namespace \"default\": create it with values of \"url\" for environment \
         \"development\"; used by the workload's containers[main].env[URL]"
    );
}

/// A data plane whose secrets come from somewhere else.
fn plane(store: &str) -> String {
    format!(
        "{{apiVersion: openchoreo.dev/v1alpha1, kind: DataPlane, metadata: {{name: default}}, spec: {{kubernetesCluster: {{server: 'embedded://local'}}, \
         features: {{networkPolicy: true}}, secretStoreRef: {{{store}}}}}}}"
    )
}

#[test]
fn a_field_of_a_secret_is_a_property_for_external_secrets() {
    let values = group("[{vaultKey: 'secret/db#url'}]");
    let rendered = render(&[&plane("name: vault"), &values, &app(ENV)]);
    assert_eq!(problems(&rendered), Vec::<String>::new());
    let all = resources(&rendered, "app-development");
    assert_eq!(
        resource(&all, "ExternalSecret", "app-config-db")["spec"]["data"],
        json!([{"secretKey": "url", "remoteRef": {"key": "secret/db", "property": "url"}}])
    );
}

#[rstest]
#[case(
    "vault, parameters: {roleName: app, vaultAddress: 'https://vault'}",
    "secret/db#url",
    json!({"roleName": "app", "vaultAddress": "https://vault", "objects": "[{\"objectName\":\"url\",\"secretKey\":\"url\",\"secretPath\":\"secret/db\"}]"})
)]
#[case("aws", "prod/db", json!({"objects": "[{\"objectAlias\":\"url\",\"objectName\":\"prod/db\",\"objectType\":\"secretsmanager\"}]"}))]
#[case("aws", "prod/db#url", json!({"objects": "[{\"jmesPath\":[{\"objectAlias\":\"url\",\"path\":\"url\"}],\"objectName\":\"prod/db\",\"objectType\":\"secretsmanager\"}]"}))]
#[case("azure", "db-url", json!({"objects": "{\"array\":[\"{\\\"objectAlias\\\":\\\"url\\\",\\\"objectName\\\":\\\"db-url\\\",\\\"objectType\\\":\\\"secret\\\"}\"]}"}))]
#[case("gcp", "projects/p/secrets/s/versions/1", json!({"secrets": "[{\"path\":\"url\",\"resourceName\":\"projects/p/secrets/s/versions/1\"}]"}))]
fn secrets_come_through_the_driver_where_the_data_plane_says_so(
    #[case] provider: &str,
    #[case] key: &str,
    #[case] parameters: Value,
) {
    let store = plane(&format!(
        "name: csi, kind: SecretProviderClass, provider: {{name: {provider}}}"
    ));
    let file =
        "fileMounts: [{mountPath: /etc/url, valueFrom: {configurationGroupRef: {name: db, key: url}}}]";
    let rendered = render(&[
        &store,
        &group(&format!("[{{vaultKey: '{key}'}}]")),
        &app(&format!("{ENV}, {file}")),
    ]);
    assert_eq!(problems(&rendered), Vec::<String>::new());
    let all = resources(&rendered, "app-development");
    let object = resource(&all, "SecretProviderClass", "app-config-db");
    let name = &object["metadata"]["name"];
    assert_eq!(object["spec"]["parameters"], parameters);
    assert_eq!(
        object["spec"]["secretObjects"],
        json!([{"secretName": name, "type": "Opaque", "data": [{"objectName": "url", "key": "url"}]}])
    );
    // The driver acts when a pod mounts its volume; the file is there at once, the variable comes from the Secret.
    let pod = &resource(&all, "Deployment", "app")["spec"]["template"]["spec"];
    let main = &pod["containers"][0];
    assert_eq!(
        pod["volumes"][0]["csi"]["volumeAttributes"]["secretProviderClass"],
        *name
    );
    assert_eq!(main["env"][0]["valueFrom"]["secretKeyRef"]["name"], *name);
    let volume = &pod["volumes"][0]["name"];
    assert_eq!(
        main["volumeMounts"],
        json!([
            {"name": volume, "mountPath": "/etc/url", "subPath": "url", "readOnly": true},
            {"name": volume, "mountPath": format!("/mnt/secrets-store/{}", name.as_str().unwrap()), "readOnly": true},
        ])
    );
}

#[rstest]
#[case(
    "name: csi, kind: SecretProviderClass",
    "secret/db#url",
    "spec.secretStoreRef.provider: not given"
)]
#[case(
    "name: csi, kind: SecretProviderClass, provider: {name: vault}",
    "secret/db",
    "with the provider vault a key is path#field; add the field"
)]
fn what_the_driver_needs_to_know(#[case] store: &str, #[case] key: &str, #[case] why: &str) {
    let values = group(&format!("[{{vaultKey: '{key}'}}]"));
    let (_, message) = refused(&[&plane(store), &values, &app(ENV)]);
    assert!(message.contains(why), "{message}");
    let world = world(&[&plane("name: csi, kind: SecretProviderClass")]);
    let plan = plan_of(&world, Kind::DataPlane, "default");
    assert!(
        plan.problems.message().contains("spec.secretStoreRef.provider"),
        "said of the data plane, too"
    );
}

#[test]
fn files_that_no_config_map_can_hold_are_refused() {
    let half = "x".repeat(600_000);
    let files = format!("fileMounts: [{{mountPath: /a, value: {half}}}, {{mountPath: /b, value: {half}}}]");
    let (reason, message) = refused(&[&app(&files)]);
    assert_eq!(reason, "RenderFailed");
    assert!(
        message.starts_with("workload fileMounts: all files together have 1200000 bytes"),
        "{message}"
    );
}

#[test]
fn init_containers_read_configuration_like_all_others() {
    let init = "env: []}}, initContainers: [{name: first, image: b, envFrom: [{configurationGroupRef: {name: db}}], fileMounts: [{mountPath: /motd, value: hi}]}], connections: {}, endpoints: {x: {type: TCP, port: 1";
    let rendered = render(&[&group("[{value: v}]"), &app(init)]);
    assert_eq!(problems(&rendered), Vec::<String>::new());
    let all = resources(&rendered, "app-development");
    let template = &resource(&all, "Deployment", "app")["spec"]["template"];
    let first = &template["spec"]["initContainers"][0];
    assert_eq!(
        first["envFrom"][0]["configMapRef"]["name"],
        resource(&all, "ConfigMap", "app-config-db")["metadata"]["name"]
    );
    assert_eq!(first["volumeMounts"][0]["mountPath"], "/motd");
    assert!(
        template["metadata"]["annotations"]["openchoreo.dev/configuration-hash"].is_string(),
        "a change rolls the pods"
    );
}
