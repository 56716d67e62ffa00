//! The objects that a new platform starts with, so that a first component has everything it needs.

use choreo_api::labels;
use kube::core::DynamicObject;
use serde_json::{Value, json};

/// Name of the organization, project, pipeline, data plane and classes.
pub const DEFAULT: &str = "default";

/// Name of the logical cluster that the default data plane stands for.
pub const LOCAL_CLUSTER: &str = "local";

/// Organization, data plane, environments, pipeline, project and classes, in an order in which they can be created.
pub fn defaults() -> Vec<DynamicObject> {
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
                "publicVirtualHost": "openchoreoapis.localhost",
                "organizationVirtualHost": "openchoreoapis.internal",
            },
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
    all
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
    let value = json!({
        "apiVersion": labels::API_VERSION, "kind": kind, "metadata": metadata, "spec": spec,
    });
    // Only metadata of another form could fail, and that is written right above.
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
    use choreo_engine::world::AnyObject;

    #[test]
    fn every_default_is_of_the_form_of_its_kind_and_has_no_problem() {
        let mut world = World::new();
        for object in defaults() {
            let value = serde_json::to_value(&object).unwrap();
            world.upsert(AnyObject::from_value(&value).unwrap());
        }
        for target in choreo_engine::affected::all(&world) {
            let plan = choreo_engine::plan(&world, &target);
            assert!(plan.problems.is_empty(), "{target}: {:?}", plan.problems);
        }
    }
}
