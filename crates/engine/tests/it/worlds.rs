//! Connections, exposure, configuration and classes in worlds of several components.

use choreo_engine::Kind;
use serde_json::{Value, json};

use super::support::*;

/// A service with a workload, in flow style to keep the tests short.
fn service(project: &str, name: &str, workload: &str, apis: &str) -> String {
    let owner = format!("{{projectName: {project}, componentName: {name}}}");
    format!(
        "{{apiVersion: openchoreo.dev/v1alpha1, kind: Component, metadata: {{name: {name}}}, spec: {{owner: {{projectName: {project}}}, type: Service}}}}\n---\n\
         {{apiVersion: openchoreo.dev/v1alpha1, kind: Workload, metadata: {{name: {name}}}, spec: {{owner: {owner}, {workload}}}}}\n---\n\
         {{apiVersion: openchoreo.dev/v1alpha1, kind: Service, metadata: {{name: {name}}}, spec: {{owner: {owner}, workloadName: {name}, apis: {apis}}}}}"
    )
}

fn project(name: &str) -> String {
    format!(
        "{{apiVersion: openchoreo.dev/v1alpha1, kind: Project, metadata: {{name: {name}}}, spec: {{deploymentPipelineRef: default}}}}"
    )
}

fn main_container(resources: &[Value], name: &str) -> Value {
    resource(resources, "Deployment", name)["spec"]["template"]["spec"]["containers"][0].clone()
}

#[test]
fn a_web_application_has_a_host_of_its_own_and_connections_stay_in_the_cell() {
    let rendered = render(&[STOREFRONT]);
    assert_eq!(problems(&rendered), Vec::<String>::new());
    insta::assert_yaml_snapshot!("storefront-web", resources(&rendered, "web-development"));
    let catalog = resources(&rendered, "catalog-development");
    assert_eq!(
        kinds(&catalog).into_iter().collect::<Vec<_>>(),
        ["Deployment", "Service", "ServiceAccount"],
        "nothing was said about exposing it"
    );
}

const CONSUMER: &str = "containers: {main: {image: a}}, connections: {cart: {type: api, params: {componentName: cart, \
                        projectName: shop, endpoint: items}, inject: {env: [{name: CART, value: '{{ .url }}'}]}}}";

#[test]
fn another_project_comes_through_the_organization_gateway() {
    let provider = |levels: &str| {
        let apis = format!(
            "{{items: {{type: REST, rest: {{backend: {{port: 80, basePath: /v1}}, exposeLevels: {levels}}}}}}}"
        );
        service(
            "shop",
            "cart",
            "containers: {main: {image: c}}, endpoints: {items: {type: REST, port: 80}}",
            &apis,
        )
    };
    let consumer = service("default", "front", CONSUMER, "{}");
    let shop = project("shop");

    let rendered = render(&[&shop, &provider("[Organization]"), &consumer]);
    assert_eq!(problems(&rendered), Vec::<String>::new());
    let front = resources(&rendered, "front-development");
    assert_eq!(
        main_container(&front, "front")["env"],
        json!([{"name": "CART", "value": "https://dev-default.apps.internal/shop/cart/v1"}])
    );
    let egress = resource(&front, "NetworkPolicy", "front-cart-out");
    assert_eq!(egress["spec"]["policyTypes"], json!(["Egress"]));
    assert_eq!(
        egress["metadata"]["annotations"]["openchoreo.dev/declared-by"],
        "workload connections[cart]"
    );

    // Public only: the way through the organization gateway is opened by the connection that needs it.
    let alone = render(&[&shop, &provider("[Public]")]);
    let routes = |all: &[Value]| all.iter().filter(|r| r["kind"] == "HTTPRoute").count();
    assert_eq!(routes(&resources(&alone, "cart-development")), 1);
    let wanted = render(&[&shop, &provider("[Public]"), &consumer]);
    assert_eq!(problems(&wanted), Vec::<String>::new());
    let cart = resources(&wanted, "cart-development");
    assert_eq!(routes(&cart), 2);
    let by = resource(&cart, "HTTPRoute", "cart-items-organization")["metadata"]["annotations"]["openchoreo.dev/declared-by"].clone();
    assert_eq!(by, "ServiceBinding \"front-development\" connections[cart]");

    // Not exposed: the consumer is told, the provider stays closed.
    let closed = render(&[&shop, &provider("[]"), &consumer]);
    assert_eq!(
        ready(&closed.world, Kind::ServiceBinding, "front-development"),
        (
            "ConnectionUnresolved".to_owned(),
            "workload connections[cart]: endpoint \"items\" of Component \"cart\" in project \"shop\" is not exposed to \
             other projects: expose it at level Organization or Public"
                .to_owned()
        )
    );
    assert_eq!(routes(&resources(&closed, "cart-development")), 0);
}

#[test]
fn components_that_need_each_other_both_come_up() {
    let one = |name: &str, other: &str| {
        let workload = format!(
            "containers: {{main: {{image: a}}}}, endpoints: {{api: {{type: gRPC, port: 9000}}}}, connections: {{other: {{type: api, \
             params: {{componentName: {other}}}, inject: {{env: [{{name: OTHER, value: '{{{{ .host }}}}:{{{{ .port }}}}'}}]}}}}}}"
        );
        service("default", name, &workload, "{}")
    };
    let rendered = render(&[&one("ping", "pong"), &one("pong", "ping")]);
    assert_eq!(problems(&rendered), Vec::<String>::new());
    let ping = main_container(&resources(&rendered, "ping-development"), "ping");
    let value = ping["env"][0]["value"].as_str().unwrap();
    assert!(
        value.starts_with("pong.dp-default-default-development-")
            && value.ends_with(".svc.cluster.local:9000"),
        "{value}"
    );
}

#[test]
fn an_external_connection_opens_one_way_out_and_says_what_cannot_be_said() {
    let workload = "containers: {main: {image: a}}, connections: {pay: {type: external, params: {url: 'https://api.pay.example/v1'}, \
                    inject: {env: [{name: PAY, value: '{{ .url }}'}]}}}";
    let rendered = render(&[&service("default", "shop", workload, "{}")]);
    let resources = resources(&rendered, "shop-development");
    let policy = resource(&resources, "NetworkPolicy", "shop-pay-out");
    assert_eq!(
        policy["spec"]["egress"][0]["ports"],
        json!([{"port": 443, "protocol": "TCP"}])
    );
    let status = plan_of(&rendered.world, Kind::ServiceBinding, "shop-development")
        .status
        .unwrap();
    let condition = status.condition("PoliciesEnforced").unwrap();
    assert_eq!(condition.reason, "NotExpressible");
    assert!(
        condition.message.contains("host \"api.pay.example\""),
        "{}",
        condition.message
    );

    // With Cilium the same declaration is exact.
    let cilium = PLATFORM.replace("networkPolicy: true", "cilium: true");
    let rendered = render(&[&cilium, &service("default", "shop", workload, "{}")]);
    let resources = super::support::resources(&rendered, "shop-development");
    let policy = resource(&resources, "CiliumNetworkPolicy", "shop-pay-out");
    assert_eq!(
        policy["spec"]["egress"],
        json!([{"toFQDNs": [{"matchName": "api.pay.example"}], "toPorts": [{"ports": [{"port": "443", "protocol": "TCP"}]}]}])
    );
    let status = plan_of(&rendered.world, Kind::ServiceBinding, "shop-development")
        .status
        .unwrap();
    assert!(status.condition("PoliciesEnforced").unwrap().is_true());
}

#[test]
fn a_guarded_api_has_its_policies_at_each_level() {
    let apis = "{items: {type: REST, className: guarded, rest: {backend: {port: 80}, exposeLevels: [Organization, Public]}}}";
    let rendered = render(&[&service(
        "default",
        "cart",
        "containers: {main: {image: c}}, endpoints: {items: {type: REST, port: 80}}",
        apis,
    )]);
    assert_eq!(problems(&rendered), Vec::<String>::new());
    let guards: Vec<Value> = resources(&rendered, "cart-development")
        .into_iter()
        .filter(|r| r["apiVersion"] == "gateway.envoyproxy.io/v1alpha1")
        .collect();
    insta::assert_yaml_snapshot!("guarded-api", guards);
}

#[test]
fn configuration_reaches_pods_as_variables_whole_groups_and_files() {
    let group = r#"
apiVersion: openchoreo.dev/v1alpha1
kind: ConfigurationGroup
metadata: {name: database}
spec:
  environmentGroups: [{name: live, environments: [staging, production]}]
  configurations:
    - key: url
      values:
        - {value: "postgres://dev"}
        - {environmentGroupRef: live, value: "postgres://live"}
        - {environment: production, value: "postgres://prod"}
    - key: password
      values: [{vaultKey: secret/db/password}]
    - key: unused
      values: [{value: "never leaves the control plane"}]
"#;
    let workload = "containers: {main: {image: a, env: [{key: URL, valueFrom: {configurationGroupRef: {name: database, key: url}}}, \
                    {key: PASSWORD, valueFrom: {configurationGroupRef: {name: database, key: password}}}], fileMounts: \
                    [{mountPath: /etc/app/motd, value: hello}, {mountPath: /etc/app/url, valueFrom: {configurationGroupRef: {name: database, key: url}}}]}}";
    let rendered = render(&[group, &service("default", "app", workload, "{}")]);
    assert_eq!(problems(&rendered), Vec::<String>::new());
    insta::assert_yaml_snapshot!("configuration", resources(&rendered, "app-development"));

    let whole = "containers: {main: {image: a, envFrom: [{configurationGroupRef: {name: database}}]}}";
    let rendered = render(&[group, &service("default", "app", whole, "{}")]);
    let resources = resources(&rendered, "app-development");
    assert_eq!(
        resource(&resources, "ConfigMap", "app-config-database")["data"],
        json!({"unused": "never leaves the control plane", "url": "postgres://dev"})
    );
    let from = main_container(&resources, "app")["envFrom"].clone();
    assert!(
        from[0]["configMapRef"].is_object() && from[1]["secretRef"].is_object(),
        "{from}"
    );
}

#[test]
fn a_class_gives_what_the_workload_does_not_say() {
    let class = r#"
apiVersion: openchoreo.dev/v1alpha1
kind: ServiceClass
metadata: {name: default}
spec:
  autoscaling: {minReplicas: 2, maxReplicas: 6, cpuThreshold: 70}
  disruption: {maxUnavailable: 1}
  probes: {readinessProbe: {tcpSocket: {port: 80}}}
  deploymentTemplate:
    replicas: 3
    template:
      metadata: {labels: {team: a}}
      spec:
        containers:
          - name: main
            env: [{name: LOG_LEVEL, value: debug}, {name: TZ, value: UTC}]
            securityContext: {runAsNonRoot: true}
          - name: proxy
            image: proxy:1
"#;
    let workload = "containers: {main: {image: a, env: [{key: LOG_LEVEL, value: info}]}}, endpoints: {web: {type: HTTP, port: 80}}";
    let rendered = render(&[class, &service("default", "app", workload, "{}")]);
    assert_eq!(problems(&rendered), Vec::<String>::new());
    insta::assert_yaml_snapshot!("class", resources(&rendered, "app-development"));
}

#[test]
fn a_track_runs_beside_the_default_one() {
    let track = "{apiVersion: openchoreo.dev/v1alpha1, kind: DeploymentTrack, metadata: {name: v2, labels: \
                 {openchoreo.dev/component: app, openchoreo.dev/project: default}}, spec: {autoDeploy: true}}\n---\n\
                 {apiVersion: openchoreo.dev/v1alpha1, kind: Workload, metadata: {name: app-v2}, spec: {owner: {projectName: default, \
                 componentName: app}, track: v2, containers: {main: {image: 'a:2'}}, endpoints: {web: {type: REST, port: 80}}}}";
    let apis = "{web: {type: REST, rest: {backend: {port: 80}, exposeLevels: [Public]}}}";
    let app = service(
        "default",
        "app",
        "containers: {main: {image: 'a:1'}}, endpoints: {web: {type: REST, port: 80}}",
        apis,
    );
    let rendered = render(&[&app, track]);
    assert_eq!(problems(&rendered), Vec::<String>::new());
    let path = |release: &str, name: &str| {
        resource(&resources(&rendered, release), "HTTPRoute", name)["spec"]["rules"][0]["matches"][0]["path"]
            ["value"]
            .clone()
    };
    assert_eq!(path("app-development", "app-web-public"), "/default/app");
    assert_eq!(path("app-v2-development", "app-v2-web-public"), "/default/app-v2");
}

#[test]
fn a_developers_endpoint_exposes_in_every_environment() {
    let endpoint = "{apiVersion: openchoreo.dev/v1alpha1, kind: Endpoint, metadata: {name: app-web}, spec: {backendRef: {componentRef: app, \
                    port: 80}, visibility: organization, protocols: [HTTP]}}";
    let app = service(
        "default",
        "app",
        "containers: {main: {image: a}}, endpoints: {web: {type: HTTP, port: 80}}",
        "{}",
    );
    let rendered = render(&[&app, endpoint]);
    assert_eq!(problems(&rendered), Vec::<String>::new());
    let resources = resources(&rendered, "app-development");
    let route = resource(&resources, "HTTPRoute", "app-web-organization");
    assert_eq!(
        route["metadata"]["annotations"]["openchoreo.dev/declared-by"],
        "Endpoint \"app-web\""
    );
    assert_eq!(
        route["spec"]["parentRefs"],
        json!([{"name": "gateway-internal", "namespace": "openchoreo-data-plane"}])
    );
}
