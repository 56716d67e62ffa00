//! The objects that a new platform starts with, so that a first component has everything it needs.

mod builds;
mod shipped;

use choreo_api::labels;
use kube::core::DynamicObject;
use serde_json::{Value, json};

/// Name of the organization, project, pipeline, data plane and classes.
pub const DEFAULT: &str = "default";

/// Name of the logical cluster that the default data plane stands for.
pub const LOCAL_CLUSTER: &str = "local";

const GATEWAY_NAMESPACE: &str = "openchoreo-data-plane";
const PUBLIC_HOST: &str = "openchoreoapis.localhost";
const ORGANIZATION_HOST: &str = "openchoreoapis.internal";
/// No registry answers there: the images of simulated builds are names only.
const REGISTRY: &str = "registry.openchoreo.localhost";
const GATEWAY_CLASS: &str = "choreo-local";
const PUBLIC_GATEWAY: &str = "gateway-external";
const ORGANIZATION_GATEWAY: &str = "gateway-internal";
/// Says to the local gateway that it makes certificates itself (`choreo_gateway::ISSUER_OPTION`).
const ISSUER_OPTION: (&str, &str) = ("gateway.openchoreo.dev/issuer", "local");

/// The listener that addresses name: plain HTTP, since nobody on a laptop trusts the local authority yet.
const ADDRESSES: &str = "http";

/// The ports of the local data plane's gateways. Both are served by one process at one address, so that they share the ports on
/// which hosts are told apart. A TCP or UDP listener leads to one endpoint only, so there is one of each for each gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatewayPorts {
    /// Plain HTTP.
    pub http: u16,
    /// HTTP over TLS that ends at the gateway.
    pub https: u16,
    /// TLS that is passed through.
    pub tls: u16,
    /// Of the public gateway.
    pub public: RawPorts,
    /// Of the organization's gateway.
    pub organization: RawPorts,
}

/// The ports of a gateway that carry connections and datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawPorts {
    /// TCP.
    pub tcp: u16,
    /// UDP.
    pub udp: u16,
}

impl Default for GatewayPorts {
    /// What `choreo up` tries first, and what is rendered from files.
    fn default() -> Self {
        Self {
            http: 9080,
            https: 9443,
            tls: 8443,
            public: RawPorts { tcp: 9000, udp: 9001 },
            organization: RawPorts { tcp: 9002, udp: 9003 },
        }
    }
}

impl GatewayPorts {
    /// Name, protocol and port of each listener.
    fn listeners(&self, raw: RawPorts) -> [(&'static str, &'static str, u16); 5] {
        [
            (ADDRESSES, "HTTP", self.http),
            ("https", "HTTPS", self.https),
            ("tls", "TLS", self.tls),
            ("tcp", "TCP", raw.tcp),
            ("udp", "UDP", raw.udp),
        ]
    }
}

/// Organization, data plane, environments, pipeline, project and classes, in an order in which they can be created.
pub fn defaults() -> Vec<DynamicObject> {
    defaults_with(&GatewayPorts::default())
}

/// As [`defaults`], where the local gateways have these ports.
pub fn defaults_with(ports: &GatewayPorts) -> Vec<DynamicObject> {
    let mut all = vec![object(
        "Organization",
        DEFAULT,
        "Default organization",
        "Everything that no other organization is named for.",
        json!({}),
    )];
    all.push(object(
        "DataPlane",
        DEFAULT,
        "Local data plane",
        "The cluster inside this process. Its workloads are simulated.",
        json!({
            "kubernetesCluster": {"server": format!("embedded://{LOCAL_CLUSTER}")},
            "gateway": {
                "publicVirtualHost": PUBLIC_HOST,
                "organizationVirtualHost": ORGANIZATION_HOST,
                "public": {"name": PUBLIC_GATEWAY, "namespace": GATEWAY_NAMESPACE, "listeners": listeners(&ports.listeners(ports.public)), "addressListener": ADDRESSES},
                "organization": {"name": ORGANIZATION_GATEWAY, "namespace": GATEWAY_NAMESPACE, "listeners": listeners(&ports.listeners(ports.organization)), "addressListener": ADDRESSES},
            },
            // Said and not detected, so that what is rendered from files is what the server renders.
            "features": {"cilium": true, "networkPolicy": true, "externalSecrets": true, "mtls": false},
            "secretStoreRef": {"name": DEFAULT, "kind": "ClusterSecretStore"},
        }),
    ));
    all.push(object(
        "BuildPlane",
        DEFAULT,
        "Local build plane",
        "The cluster inside this process. Its builds are simulated: no source is fetched, and no image is made.",
        json!({
            "kubernetesCluster": {"server": format!("embedded://{LOCAL_CLUSTER}")},
            "registry": {"prefix": REGISTRY},
        }),
    ));
    for (name, title, prefix, production) in [
        ("development", "Development", "dev", false),
        ("staging", "Staging", "staging", false),
        ("production", "Production", "prod", true),
    ] {
        all.push(object(
            "Environment",
            name,
            title,
            &format!("The {name} environment."),
            json!({"dataPlaneRef": DEFAULT, "isProduction": production, "gateway": {"dnsPrefix": prefix}}),
        ));
    }
    let path = |from: &str, to: &str| {
        json!({
            "sourceEnvironmentRef": from,
            "targetEnvironmentRefs": [{"name": to, "requiresApproval": false}],
        })
    };
    all.push(object(
        "DeploymentPipeline",
        DEFAULT,
        "Default pipeline",
        "From development over staging to production.",
        json!({"promotionPaths": [path("development", "staging"), path("staging", "production")]}),
    ));
    all.push(object(
        "Project",
        DEFAULT,
        "Default project",
        "A place for a first component.",
        json!({"deploymentPipelineRef": DEFAULT}),
    ));
    all.extend(classes());
    all.extend(shipped::blueprints(DEFAULT));
    all
}

/// The same without the planes, which are the cluster inside the process of `choreo up`: on Kubernetes somebody names real ones.
pub fn defaults_without_planes() -> Vec<DynamicObject> {
    let is_plane = |object: &DynamicObject| {
        let kind = object.types.as_ref().map(|types| types.kind.as_str());
        matches!(kind, Some("DataPlane" | "BuildPlane"))
    };
    defaults()
        .into_iter()
        .filter(|object| !is_plane(object))
        .collect()
}

/// What an embedded data plane holds before anything is deployed to it: the gateways that the default data plane names, and the
/// templates that builds name. On a real cluster whoever set it up has made them.
pub fn data_plane_defaults(ports: &GatewayPorts) -> Vec<DynamicObject> {
    let gateway = |name: &str, host: &str, raw: RawPorts| {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": name, "namespace": GATEWAY_NAMESPACE},
            "spec": {
                "gatewayClassName": GATEWAY_CLASS,
                "listeners": ports.listeners(raw).map(|(name, protocol, port)| {
                    let mut listener = json!({
                        "name": name,
                        "protocol": protocol,
                        "port": port,
                        "allowedRoutes": {"namespaces": {"from": "All"}},
                    });
                    // What carries no host name cannot be restricted to one.
                    if !matches!(protocol, "TCP" | "UDP") {
                        listener["hostname"] = json!(format!("*.{host}"));
                    }
                    match protocol {
                        "HTTPS" => {
                            let (key, value) = ISSUER_OPTION;
                            listener["tls"] = json!({"mode": "Terminate", "options": {key: value}});
                        }
                        "TLS" => listener["tls"] = json!({"mode": "Passthrough"}),
                        _ => {}
                    }
                    listener
                }),
            },
        })
    };
    [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": GATEWAY_NAMESPACE}}),
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GatewayClass",
            "metadata": {"name": GATEWAY_CLASS},
            "spec": {"controllerName": "openchoreo.dev/local-gateway"},
        }),
        gateway(PUBLIC_GATEWAY, PUBLIC_HOST, ports.public),
        gateway(ORGANIZATION_GATEWAY, ORGANIZATION_HOST, ports.organization),
    ]
    .into_iter()
    .map(typed)
    .chain(builds::templates())
    .collect()
}

/// The listeners as a data plane lists them.
fn listeners(all: &[(&str, &str, u16)]) -> Value {
    all.iter()
        .map(|(name, protocol, port)| json!({"name": name, "protocol": protocol, "port": port}))
        .collect()
}

fn classes() -> Vec<DynamicObject> {
    let runtime = || {
        json!({
            "deploymentTemplate": {
                "replicas": 1,
                "template": {"spec": {"containers": [{
                    "name": "main",
                    "resources": {
                        "requests": {"cpu": "100m", "memory": "64Mi"},
                        "limits": {"cpu": "400m", "memory": "256Mi"},
                    },
                }]}},
            },
            "serviceTemplate": {"type": "ClusterIP"},
        })
    };
    let api =
        |defaults: Value| json!({"restPolicy": {"defaults": defaults, "public": {}, "organization": {}}});
    vec![
        object(
            "ServiceClass",
            DEFAULT,
            "Default",
            "One replica, small.",
            runtime(),
        ),
        object(
            "WebApplicationClass",
            DEFAULT,
            "Default",
            "One replica, small.",
            runtime(),
        ),
        object(
            "ScheduledTaskClass",
            DEFAULT,
            "Default",
            "Once an hour, one run at a time.",
            json!({"cronJobTemplate": {
                "schedule": "0 * * * *",
                "concurrencyPolicy": "Forbid",
                "successfulJobsHistoryLimit": 3,
                "failedJobsHistoryLimit": 1,
                "jobTemplate": {"spec": {"backoffLimit": 3, "template": {"spec": {"restartPolicy": "OnFailure"}}}},
            }}),
        ),
        object("APIClass", DEFAULT, "Default", "No policy.", api(json!({}))),
        object(
            "APIClass",
            "default-with-cors",
            "With CORS",
            "Lets pages of two example origins call the API.",
            api(json!({"cors": {
                "allowOrigins": ["https://example.com", "https://app.example.com"],
                "allowMethods": ["GET", "POST", "PUT", "DELETE"],
                "allowHeaders": ["Content-Type", "Authorization"],
                "exposeHeaders": ["X-Request-ID"],
                "maxAge": 86400,
            }})),
        ),
        object(
            "APIClass",
            "default-with-jwt-auth",
            "With JWT authentication",
            "Lets only requests with a token of the example issuer through.",
            api(json!({"authentication": {"type": "jwt", "jwt": {
                "jwks": "http://identity-provider.openchoreo-identity-system.svc.cluster.local:8090/oauth2/jwks",
                "issuer": "https://openchoreo.example.com",
            }}})),
        ),
        object(
            "APIClass",
            "default-with-rate-limit",
            "With a rate limit",
            "Ten requests a minute.",
            api(json!({"rateLimit": {"requests": 10, "window": "1m"}})),
        ),
        object(
            "APIClass",
            "default-with-circuit-breaker",
            "With a circuit breaker",
            "Refuses requests instead of overloading the backend.",
            api(json!({"circuitBreaker": {
                "enabled": true,
                "maxConnections": 50,
                "maxParallelRequests": 50,
                "maxParallelRetries": 1,
                "maxPendingRequests": 20,
            }})),
        ),
    ]
}

fn object(kind: &str, name: &str, title: &str, description: &str, spec: Value) -> DynamicObject {
    let mut metadata = json!({
        "name": name,
        "labels": {labels::NAME: name},
        "annotations": {
            choreo_api::annotations::DISPLAY_NAME: title,
            choreo_api::annotations::DESCRIPTION: description,
        },
    });
    if kind != "Organization" {
        metadata["namespace"] = json!(DEFAULT);
        metadata["labels"][labels::ORGANIZATION] = json!(DEFAULT);
    }
    let mut value = json!({
        "apiVersion": labels::API_VERSION, "kind": kind, "metadata": metadata,});
    value["spec"] = spec;
    typed(value)
}

fn typed(value: Value) -> DynamicObject {
    // Only metadata of another form could fail, and that is written in this file.
    serde_json::from_value(value).unwrap_or_else(|_| DynamicObject {
        types: None,
        metadata: Default::default(),
        data: Value::Null,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use choreo_engine::World;
    use choreo_engine::world::{AnyObject, LoadError};

    #[test]
    fn every_default_is_of_the_form_of_its_kind_and_has_no_problem() {
        let mut world = World::new();
        for object in defaults() {
            let value = serde_json::to_value(&object).unwrap();
            match AnyObject::from_value(&value) {
                Ok(object) => world.upsert(object),
                // No plan reads it: the build controller does.
                Err(LoadError::UnknownKind { kind, .. }) => assert_eq!(kind, "BuildPlane"),
                Err(error) => panic!("{error}"),
            }
        }
        for target in choreo_engine::affected::all(&world) {
            let plan = choreo_engine::plan(&world, &target);
            assert!(plan.problems.is_empty(), "{target}: {:?}", plan.problems);
        }
    }
}
