//! What a connection leads to: its policy, its target, and how far a short name reaches.

use choreo_engine::{AnyObject, Kind, World, offline};
use serde_json::{Value, json};

use super::services::*;
use super::support::*;

#[test]
fn the_policy_of_a_connection_is_followed_at_the_gateway_that_its_calls_go_through() {
    let connection = |params: Value| {
        json!({"type": "api", "params": params,
        "inject": {"env": [{"name": "URL", "value": "{{ .url }}"}]},
        "policy": {"timeout": "2s", "retries": {"attempts": 2, "perTryTimeout": "500ms"}, "circuitBreaker": {"maxConnections": 9}}})
    };
    let mut world = platform(false);
    let apis = json!({"api": {"type": "REST", "rest": {"backend": {"port": 80, "basePath": "/v1"}, "exposeLevels": ["Organization"]}}});
    let endpoints = json!({"endpoints": {"api": {"type": "REST", "port": 80}}});
    service(&mut world, "shop", "cart", endpoints.clone(), apis);
    service(
        &mut world,
        "default",
        "front",
        json!({"connections": {"cart": connection(json!({"componentName": "cart", "projectName": "shop"}))}}),
        json!({}),
    );
    let rendered = offline::render(&world);
    assert_eq!(problems(&rendered), Vec::<String>::new());
    let cart = resources(&rendered, "cart-development");
    let lane = resource(&cart, "HTTPRoute", "cart-api-from-default-front-cart");
    let path = &lane["spec"]["rules"][0]["matches"][0]["path"]["value"];
    assert_eq!(path, "/_from/default/front/cart/shop/cart/v1");
    assert_eq!(
        lane["metadata"]["annotations"]["openchoreo.dev/declared-by"],
        "ServiceBinding \"front-development\" connections[cart].policy"
    );
    let policy = resource(&cart, "BackendTrafficPolicy", "cart-api-from-default-front-cart");
    assert_eq!(
        policy["spec"],
        json!({
            "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": lane["metadata"]["name"]}],
            "timeout": {"http": {"requestTimeout": "2s"}},
            "retry": {"numRetries": 2, "perRetry": {"timeout": "500ms"}},
            "circuitBreaker": {"maxConnections": 9},
        })
    );
    let env = |name: &str| {
        resource(&resources(&rendered, name), "Deployment", "front")["spec"]["template"]["spec"]["containers"]
            [0]["env"][0]["value"]
            .clone()
    };
    assert_eq!(
        env("front-development"),
        "https://dev-default.apps.internal/_from/default/front/cart/shop/cart/v1"
    );
    let enforced = |world: &World| {
        let status = plan_of(world, Kind::ServiceBinding, "front-development")
            .status
            .unwrap();
        status.condition("PoliciesEnforced").unwrap().message.clone()
    };
    assert_eq!(
        enforced(&rendered.world),
        "every declared restriction is enforced"
    );

    // Within a project there is no gateway in between, and that is said.
    let mut world = platform(false);
    service(&mut world, "default", "cart", endpoints, json!({}));
    service(
        &mut world,
        "default",
        "front",
        json!({"connections": {"cart": connection(json!({"componentName": "cart"}))}}),
        json!({}),
    );
    let rendered = offline::render(&world);
    let message = enforced(&rendered.world);
    assert!(
        message.contains(
            "workload connections[cart].policy: timeout 2s, retries 2, circuitBreaker (calls within a project"
        ),
        "{message}"
    );
}

#[test]
fn what_a_connection_leads_to_may_change_and_its_consumer_follows() {
    let mut world = platform(false);
    let endpoint = |port: u16| json!({"endpoints": {"api": {"type": "REST", "port": port}}});
    service(&mut world, "default", "cart", endpoint(80), json!({}));
    let connection = json!({"type": "api", "params": {"componentName": "cart"},
        "inject": {"env": [{"name": "PORT", "value": "{{ .port }}"}]}});
    service(
        &mut world,
        "default",
        "front",
        json!({"connections": {"cart": connection}}),
        json!({}),
    );
    let port = |world: &World| {
        let rendered = offline::render(world);
        assert_eq!(problems(&rendered), Vec::<String>::new());
        resource(&resources(&rendered, "front-development"), "Deployment", "front")["spec"]["template"]["spec"]["containers"]
            [0]["env"][0]["value"]
            .clone()
    };
    assert_eq!(port(&world), "80");
    // The change reaches the consumer through what is affected, not only in a world that is rendered anew.
    let before = offline::render(&world).world;
    let mut after = before.clone();
    let mut artifact = before
        .iter()
        .find(|o| {
            o.reference().kind == Kind::DeployableArtifact && o.reference().key.name.starts_with("cart")
        })
        .unwrap()
        .to_value()
        .unwrap();
    artifact["spec"]["workload"]["endpoints"]["api"]["port"] = json!(8080);
    let changed = AnyObject::from_value(&artifact).unwrap();
    let reference = changed.reference();
    after.upsert(changed);
    let consumer = choreo_engine::Target::object(Kind::ServiceBinding, "default", "front-development");
    assert!(choreo_engine::by_change(&before, &after, &reference).contains(&consumer));
    service(&mut world, "default", "cart", endpoint(8080), json!({}));
    assert_eq!(port(&world), "8080");
}

#[test]
fn a_name_without_its_project_does_not_reach_into_another_project() {
    let mut world = platform(false);
    let endpoints = json!({"endpoints": {"api": {"type": "REST", "port": 80}}});
    service(&mut world, "shop", "cart", endpoints, json!({}));
    let connect = |params: Value| json!({"connections": {"cart": {"type": "api", "params": params}}});
    service(
        &mut world,
        "default",
        "front",
        connect(json!({"componentName": "cart"})),
        json!({}),
    );
    let (reason, message) = ready(
        &offline::render(&world).world,
        Kind::ServiceBinding,
        "front-development",
    );
    assert_eq!(reason, "Invalid");
    assert!(
        message.contains("belongs to project \"shop\", not to \"default\": set params.projectName"),
        "{message}"
    );
}
