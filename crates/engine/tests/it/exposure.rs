//! From where an endpoint can be reached, through which route, and guarded by what.
#![allow(clippy::needless_pass_by_value)] // The calls read better.

use choreo_engine::{AnyObject, Kind, World, offline};
use rstest::rstest;
use serde_json::{Value, json};

use super::services::*;
use super::support::*;

fn released(world: &World, release: &str) -> (Vec<Value>, Vec<String>) {
    let rendered = offline::render(world);
    let mistakes = problems(&rendered);
    let has = rendered
        .objects
        .iter()
        .any(|o| o["kind"] == "Release" && o["metadata"]["name"] == release);
    let found = if has {
        resources(&rendered, release)
    } else {
        Vec::new()
    };
    (found, mistakes)
}

fn routes(resources: &[Value]) -> Vec<&Value> {
    resources
        .iter()
        .filter(|r| r["kind"].as_str().unwrap().ends_with("Route"))
        .collect()
}

#[rstest]
#[case(
    "HTTP",
    "HTTPRoute",
    Value::Null,
    "https://dev-default.apps.example.com/default/app"
)]
#[case(
    "REST",
    "HTTPRoute",
    Value::Null,
    "https://dev-default.apps.example.com/default/app"
)]
#[case(
    "GraphQL",
    "HTTPRoute",
    Value::Null,
    "https://dev-default.apps.example.com/default/app"
)]
#[case(
    "Websocket",
    "HTTPRoute",
    Value::Null,
    "wss://dev-default.apps.example.com/default/app"
)]
#[case("gRPC", "GRPCRoute", Value::Null, "https://app-dev-default.apps.example.com")]
#[case("TLS", "TLSRoute", json!("pass"), "tls://app-dev-default.apps.example.com:8443")]
#[case("TCP", "TCPRoute", json!("raw"), "tcp://dev-default.apps.example.com:5432")]
#[case("UDP", "UDPRoute", json!("dns"), "udp://dev-default.apps.example.com:53")]
fn each_protocol_has_its_route(
    #[case] type_: &str,
    #[case] kind: &str,
    #[case] section: Value,
    #[case] address: &str,
) {
    let mut world = platform(false);
    let workload = json!({"endpoints": {"e": {"type": type_, "port": 9000, "visibility": "public"}}});
    service(&mut world, "default", "app", workload, json!({}));
    let rendered = offline::render(&world);
    assert_eq!(problems(&rendered), Vec::<String>::new());
    let resources = resources(&rendered, "app-development");
    let routes = routes(&resources);
    assert_eq!(routes.len(), 1);
    assert_eq!(routes[0]["kind"], kind);
    let parent = &routes[0]["spec"]["parentRefs"][0];
    assert_eq!(
        (&parent["name"], &parent["sectionName"]),
        (&json!("outer"), &section)
    );
    let backend = &routes[0]["spec"]["rules"][0]["backendRefs"][0];
    assert_eq!(
        (&backend["name"], &backend["port"]),
        (&json!("app"), &json!(9000))
    );
    assert_eq!(
        routes[0]["spec"].get("hostnames").is_some(),
        !matches!(kind, "TCPRoute" | "UDPRoute")
    );
    let plan = plan_of(&rendered.world, Kind::ServiceBinding, "app-development");
    assert_eq!(
        plan.status.unwrap().fields["endpoints"][0]["public"]["uri"],
        address
    );
}

#[test]
fn no_level_means_not_exposed_whatever_the_gateways_offer() {
    for levels in [json!([]), json!(["Project"]), Value::Null] {
        let mut world = platform(true);
        let mut rest = json!({"backend": {"port": 80}});
        if !levels.is_null() {
            rest["exposeLevels"] = levels;
        }
        let workload = json!({"endpoints": {"api": {"type": "REST", "port": 80}, "raw": {"type": "TCP", "port": 81, "visibility": "project"}}});
        service(
            &mut world,
            "default",
            "app",
            workload,
            json!({"api": {"type": "REST", "rest": rest}}),
        );
        let (resources, mistakes) = released(&world, "app-development");
        assert_eq!(mistakes, Vec::<String>::new());
        assert_eq!(
            kinds(&resources).into_iter().collect::<Vec<_>>(),
            ["Deployment", "Service", "ServiceAccount"]
        );
    }
}

#[test]
fn a_raw_endpoint_without_a_listener_says_what_to_add() {
    let mut world = world(&[]);
    let workload = json!({"endpoints": {"db": {"type": "TCP", "port": 5432, "visibility": "public"}}});
    service(&mut world, "default", "app", workload, json!({}));
    let (resources, mistakes) = released(&world, "app-development");
    assert!(resources.is_empty());
    assert!(
        mistakes[0].ends_with(
            "workload endpoints[db].visibility: endpoint \"db\" is TCP and needs a listener of the gateway, but Gateway \
             \"gateway-external\" in namespace \"openchoreo-data-plane\" has no listener of protocol TCP: list one in DataPlane \
             \"default\" spec.gateway.public.listeners"
        ),
        "{mistakes:?}"
    );
}

#[test]
fn a_raw_listener_leads_to_one_endpoint_and_the_first_in_order_has_it() {
    let mut world = platform(false);
    for name in ["b", "a"] {
        let workload = json!({"endpoints": {"db": {"type": "TCP", "port": 5432, "visibility": "public"}}});
        service(&mut world, "default", name, workload, json!({}));
    }
    let rendered = offline::render(&world);
    let (reason, message) = ready(&rendered.world, Kind::ServiceBinding, "b-development");
    assert_eq!(reason, "RenderFailed");
    assert!(
        message.contains(
            "listener \"raw\" of Gateway \"outer\" belongs to endpoint \"db\" of Component \"a\" in Environment \"development\" already"
        ),
        "{message}"
    );
    let plan = plan_of(&rendered.world, Kind::ServiceBinding, "a-development");
    assert!(plan.problems.is_empty(), "{:?}", plan.problems);
}

#[test]
fn several_apis_of_one_service_have_paths_of_their_own() {
    let mut world = platform(false);
    let workload =
        json!({"endpoints": {"v1": {"type": "REST", "port": 80}, "v2": {"type": "REST", "port": 81}}});
    let api = |port: u16, path: &str| json!({"type": "REST", "rest": {"backend": {"port": port, "basePath": path}, "exposeLevels": ["Public"]}});
    service(
        &mut world,
        "default",
        "app",
        workload.clone(),
        json!({"v1": api(80, "/v1"), "v2": api(81, "/v2/")}),
    );
    let (resources, mistakes) = released(&world, "app-development");
    assert_eq!(mistakes, Vec::<String>::new());
    let seen: Vec<(Value, Value, Value)> = routes(&resources)
        .iter()
        .map(|r| {
            let rule = &r["spec"]["rules"][0];
            (
                rule["matches"][0]["path"]["value"].clone(),
                rule["filters"][0]["urlRewrite"]["path"]["replacePrefixMatch"].clone(),
                rule["backendRefs"][0]["port"].clone(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            (json!("/default/app/v1"), json!("/v1"), json!(80)),
            (json!("/default/app/v2"), json!("/v2"), json!(81)),
        ]
    );
    let mut same = platform(false);
    let both = json!({"v1": api(80, "/x"), "v2": api(81, "/x")});
    service(&mut same, "default", "app", workload, both);
    let (_, mistakes) = released(&same, "app-development");
    assert!(
        mistakes[0]
            .contains("endpoints \"v1\" and \"v2\" would both be dev-default.apps.example.com/default/app/x"),
        "{mistakes:?}"
    );
}

#[test]
fn grpc_endpoints_of_one_host_are_told_apart_by_their_services() {
    let proto = |service: &str| format!("package shop; service {service} {{ rpc Get(A) returns (B); }}");
    let endpoint = |port: u16, service: &str| json!({"type": "gRPC", "port": port, "visibility": "public", "schema": {"content": proto(service)}});
    let mut world = platform(true);
    let workload = json!({"endpoints": {"carts": endpoint(90, "Carts"), "items": endpoint(91, "Items")}});
    service(&mut world, "default", "app", workload, json!({}));
    let (resources, mistakes) = released(&world, "app-development");
    assert_eq!(mistakes, Vec::<String>::new());
    let matches: Vec<&Value> = routes(&resources)
        .iter()
        .map(|r| &r["spec"]["rules"][0]["matches"])
        .collect();
    assert_eq!(
        matches,
        [
            &json!([{"method": {"service": "shop.Carts"}}]),
            &json!([{"method": {"service": "shop.Items"}}])
        ]
    );
    let policy = resource(&resources, "CiliumNetworkPolicy", "app-carts-public-in");
    assert_eq!(
        policy["spec"]["ingress"][0]["toPorts"][0]["rules"],
        json!({"http": [{"method": "POST", "path": "/shop\\.Carts/Get(\\?.*)?"}]})
    );
    // Without a schema nothing tells them apart.
    let mut blind = platform(false);
    let workload = json!({"endpoints": {
        "carts": {"type": "gRPC", "port": 90, "visibility": "public"}, "items": {"type": "gRPC", "port": 91, "visibility": "public"}}});
    service(&mut blind, "default", "app", workload, json!({}));
    let (_, mistakes) = released(&blind, "app-development");
    assert!(mistakes[0].contains("would both be"), "{mistakes:?}");
}

#[test]
fn with_cilium_the_schema_says_which_requests_a_gateway_may_send() {
    let schema = "openapi: 3.0.0\nservers: [{url: 'http://x/api'}]\npaths: {/books: {get: {}}, '/books/{id}': {put: {}}}\n";
    let of = |content: &str, base: &str| {
        let mut world = platform(true);
        let workload = json!({"endpoints": {"api": {"type": "REST", "port": 80, "visibility": "public", "schema": {"content": content}}}});
        let apis = json!({"api": {"type": "REST", "rest": {"backend": {"port": 80, "basePath": base}, "exposeLevels": ["Public"]}}});
        service(&mut world, "default", "app", workload, apis);
        let rendered = offline::render(&world);
        assert_eq!(problems(&rendered), Vec::<String>::new());
        let resources = resources(&rendered, "app-development");
        let policy = resource(&resources, "CiliumNetworkPolicy", "app-api-public-in");
        let status = plan_of(&rendered.world, Kind::ServiceBinding, "app-development")
            .status
            .unwrap();
        let enforced = status.condition("PoliciesEnforced").unwrap().message.clone();
        (
            policy["spec"]["ingress"][0]["toPorts"][0]["rules"]["http"].clone(),
            enforced,
        )
    };
    assert_eq!(
        of(schema, "/v1").0,
        json!([{"method": "GET", "path": "/v1/books(\\?.*)?"}, {"method": "PUT", "path": "/v1/books/[^/]+(\\?.*)?"}])
    );
    // Without a base path the document's own may be in front or not.
    assert_eq!(of(schema, "").0.as_array().unwrap().len(), 4);
    let (rules, message) = of("not an api", "/v1");
    assert_eq!(rules, Value::Null);
    assert!(
        message.contains("workload endpoints[api].schema.content is not an OpenAPI document"),
        "{message}"
    );
}

/// A service whose one public API is guarded by a class with this policy.
fn guarded(policy: Value) -> (Vec<Value>, Vec<String>) {
    guarded_at(platform(false), "REST", policy)
}

fn guarded_at(mut world: World, type_: &str, policy: Value) -> (Vec<Value>, Vec<String>) {
    put(
        &mut world,
        "APIClass",
        "c",
        json!({"restPolicy": {"defaults": policy}}),
    );
    let workload = json!({"endpoints": {"api": {"type": type_, "port": 5432}}});
    let exposure = json!({"backend": {"port": 5432}, "exposeLevels": ["Public"]});
    let apis = json!({"api": {"type": type_, "className": "c", "http": exposure}});
    service(&mut world, "default", "app", workload, apis);
    released(&world, "app-development")
}

#[test]
fn a_demand_for_tls_ties_the_route_to_a_listener_that_ends_it() {
    let section = |policy: Value| {
        let (resources, mistakes) = guarded(policy);
        let routes = routes(&resources);
        (
            routes
                .first()
                .map(|r| r["spec"]["parentRefs"][0]["sectionName"].clone()),
            mistakes,
        )
    };
    assert_eq!(section(json!({})).0, Some(Value::Null));
    assert_eq!(
        section(json!({"security": {"requireTLS": true}})).0,
        Some(json!("secure"))
    );
    assert_eq!(
        section(json!({"security": {"minTLSVersion": "TLSv1.2"}})).0,
        Some(json!("secure"))
    );
    let (route, mistakes) = section(json!({"security": {"minTLSVersion": "1.3"}}));
    assert_eq!(route, None);
    assert!(
        mistakes
            .iter()
            .any(|m| m.contains("Gateway \"outer\" accepts \"1.2\"")
                && m.contains("ClientTrafficPolicy spec.tls.minVersion")),
        "{mistakes:?}"
    );
    // A gateway that is said to demand it meets it.
    let mut world = World::new();
    for object in platform(false).iter() {
        let mut value = object.to_value().unwrap();
        if value["kind"] == "DataPlane" {
            value["spec"]["gateway"]["public"]["minTLSVersion"] = json!("1.3");
        }
        world.upsert(AnyObject::from_value(&value).unwrap());
    }
    let (resources, mistakes) = guarded_at(world, "REST", json!({"security": {"minTLSVersion": "1.3"}}));
    assert_eq!(mistakes, Vec::<String>::new());
    assert_eq!(routes(&resources).len(), 1);
}

#[rstest]
#[case(json!({"rateLimit": {"requests": 10, "window": "30s"}}), "rateLimit: window \"30s\" cannot be enforced exactly")]
#[case(json!({"retry": {"attempts": 1, "backoff": "linear"}}), "retry: backoff linear")]
#[case(json!({"authentication": {"type": "oauth2", "oauth2": {"tokenUrl": "https://x/token"}}}), "oauth2.jwks: not given")]
#[case(json!({"authentication": {"type": "apikey", "apikey": {"header": "X"}}}), "apikey.secretRef: not given")]
#[case(json!({"security": {"allowedIPs": ["10.0.0"]}}), "security: allowedIPs[0]: \"10.0.0\"")]
#[case(json!({"mediation": {"requestTransformations": [{"type": "json", "action": "addFields"}]}}), "mediation.requestTransformations[0]: the gateway cannot change bodies")]
fn a_route_without_its_policy_is_not_opened(#[case] policy: Value, #[case] why: &str) {
    let (resources, mistakes) = guarded(policy);
    assert!(resources.is_empty(), "{resources:?}");
    assert!(
        mistakes
            .iter()
            .any(|m| m.contains("APIClass \"c\"") && m.contains(why)),
        "{mistakes:?}"
    );
}

#[rstest]
#[case("TCP", json!({"authentication": {"type": "jwt", "jwt": {"jwks": "https://x", "issuer": "x"}}}), false)]
#[case("TCP", json!({"rateLimit": {"requests": 1, "window": "1s"}}), false)]
#[case("TCP", json!({"security": {"blockedIPs": ["192.0.2.0/24"]}}), true)]
#[case("TLS", json!({"security": {"blockedIPs": ["192.0.2.0/24"]}}), false)]
#[case("TCP", json!({"security": {"requireTLS": true}}), false)]
#[case("TLS", json!({"security": {"requireTLS": true}}), true)]
#[case("TCP", json!({"circuitBreaker": {"enabled": true, "maxConnections": 5}}), true)]
fn connections_take_only_policies_of_connections(
    #[case] type_: &str,
    #[case] policy: Value,
    #[case] opened: bool,
) {
    let (resources, mistakes) = guarded_at(platform(false), type_, policy);
    assert_eq!(routes(&resources).len() == 1, opened, "{mistakes:?}");
    assert_eq!(mistakes.is_empty(), opened, "{mistakes:?}");
}

#[test]
fn a_list_that_blocks_blocks_nobody_else_and_an_empty_one_changes_nothing() {
    let authorization = |security: Value| {
        let (resources, mistakes) = guarded(json!({"security": security}));
        assert_eq!(mistakes, Vec::<String>::new());
        assert_eq!(routes(&resources).len(), 1);
        resources
            .iter()
            .find(|r| r["kind"] == "SecurityPolicy")
            .map(|r| r["spec"]["authorization"].clone())
    };
    assert_eq!(authorization(json!({"allowedIPs": [], "blockedIPs": []})), None);
    let blocked = authorization(json!({"blockedIPs": ["192.0.2.7"]})).unwrap();
    assert_eq!(blocked["defaultAction"], "Allow");
    assert_eq!(
        blocked["rules"],
        json!([{"name": "blocked", "action": "Deny", "principal": {"clientCIDRs": ["192.0.2.7/32"]}}])
    );
    let allowed = authorization(json!({"allowedIPs": ["10.0.0.0/8"], "blockedIPs": []})).unwrap();
    assert_eq!(allowed["defaultAction"], "Deny");
    assert_eq!(allowed["rules"].as_array().unwrap().len(), 1);
}

#[test]
fn an_endpoint_object_may_lead_outside_and_have_policies_at_each_level() {
    let mut world = platform(false);
    service(&mut world, "default", "app", json!({}), json!({}));
    let mut environment = documents(PLATFORM)
        .into_iter()
        .find(|d| d["kind"] == "Environment" && d["metadata"]["name"] == "development")
        .unwrap();
    environment["spec"]["gateway"]["security"] =
        json!({"remoteJwks": {"uri": "https://id.example.com/keys"}});
    world.upsert(AnyObject::from_value(&environment).unwrap());
    let oauth2 = json!({"jwt": {"claims": [{"key": "team", "values": ["a"]}], "authorization": {"apiType": "REST", "rest": {
        "claimsToHeaders": [{"name": "sub", "header": "X-User"}],
        "operations": [{"target": "/books/{id}", "method": "DELETE", "scopes": ["write"]}]}}}});
    put(
        &mut world,
        "Endpoint",
        "partner",
        json!({
            "owner": {"projectName": "default", "componentName": "app"},
            "type": "REST",
            "backendRef": {"basePath": "/books", "type": "target", "target": {"url": "https://api.partner.example/v2"}},
            "networkVisibilities": {
                "organization": {"enable": true},
                "public": {"enable": true, "policies": [
                    {"name": "token", "type": "oauth2", "policySpec": {"oauth2": oauth2}},
                    {"name": "limit", "type": "rate-limit", "policySpec": {"rateLimit": {
                        "apiLevel": {"timeUnit": "minute", "requestLimit": 100},
                        "operationLevel": {"rest": [{"target": "/", "method": "get", "timeUnit": "hour", "requestLimit": 7}]}}}},
                ]},
            },
        }),
    );
    let (resources, mistakes) = released(&world, "app-development");
    assert_eq!(mistakes, Vec::<String>::new());
    insta::assert_yaml_snapshot!(
        "endpoint-outside",
        resources
            .iter()
            .filter(|r| !["Deployment", "ServiceAccount"].contains(&r["kind"].as_str().unwrap()))
            .collect::<Vec<_>>()
    );
}

#[test]
fn the_gateway_is_no_way_into_the_cluster() {
    let mut world = platform(false);
    service(&mut world, "default", "app", json!({}), json!({}));
    let target = json!({"target": {"url": "http://kubernetes.default.svc:443"}});
    put(
        &mut world,
        "Endpoint",
        "sly",
        json!({"owner": {"projectName": "default", "componentName": "app"}, "backendRef": target, "visibility": "public"}),
    );
    let (resources, mistakes) = released(&world, "app-development");
    assert!(resources.is_empty());
    assert!(mistakes[0].contains("is inside the cluster"), "{mistakes:?}");
}

#[test]
fn an_api_stands_in_front_of_a_server_outside_or_of_another_component() {
    let api = |world: &mut World, name: &str, target: Value| {
        let owner = json!({"projectName": "default", "componentName": name});
        put(
            world,
            "Component",
            name,
            json!({"owner": {"projectName": "default"}, "type": "API"}),
        );
        let rest = json!({"backend": {"port": 80, "basePath": "/items"}, "exposeLevels": ["Public"]});
        put(
            world,
            "API",
            name,
            json!({"owner": owner, "type": "REST", "className": "guarded", "target": target, "rest": rest}),
        );
    };
    let mut world = platform(true);
    let endpoints = json!({"endpoints": {"api": {"type": "REST", "port": 80}}});
    service(&mut world, "default", "cart", endpoints, json!({}));
    api(
        &mut world,
        "outer",
        json!({"url": "https://api.partner.example:8443/v2"}),
    );
    api(&mut world, "inner", json!({"componentName": "cart"}));
    let rendered = offline::render(&world);
    assert_eq!(problems(&rendered), Vec::<String>::new());
    insta::assert_yaml_snapshot!("api-outside", resources(&rendered, "outer-development"));
    insta::assert_yaml_snapshot!("api-inside", resources(&rendered, "inner-development"));
}
