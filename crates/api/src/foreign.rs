//! Kinds of other projects that the platform renders, for data planes that do not have them: the local one.
//!
//! The schemas are our own and only as deep as what the platform renders: they hold the fields that it relies on, and
//! keep everything below as it is. A real cluster has the real definitions.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, CustomResourceDefinitionNames,
    CustomResourceDefinitionSpec, CustomResourceDefinitionVersion, CustomResourceSubresourceStatus,
    CustomResourceSubresources, CustomResourceValidation, JSONSchemaProps,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

/// Group of the Gateway API.
pub const GATEWAY_API: &str = "gateway.networking.k8s.io";
/// Group of Envoy Gateway.
pub const ENVOY_GATEWAY: &str = "gateway.envoyproxy.io";
/// Group of Cilium.
pub const CILIUM: &str = "cilium.io";
/// Group of External Secrets Operator.
pub const EXTERNAL_SECRETS: &str = "external-secrets.io";
/// Group of the Secrets Store CSI driver.
pub const SECRETS_STORE: &str = "secrets-store.csi.x-k8s.io";

/// Group of the Prometheus operator.
pub const MONITORING: &str = "monitoring.coreos.com";

/// Group of Argo Workflows.
pub const ARGO: &str = "argoproj.io";

/// A foreign kind, as far as the platform knows it.
struct Foreign {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    short: Option<&'static str>,
    category: &'static str,
    namespaced: bool,
    columns: &'static [(&'static str, &'static str)],
    description: &'static str,
    spec: fn() -> Value,
}

/// The definitions of all foreign kinds that the platform renders, ordered by name.
pub fn foreign_crds() -> Vec<CustomResourceDefinition> {
    let mut crds: Vec<_> = FOREIGN.iter().map(definition).collect();
    crds.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    crds
}

const FOREIGN: &[Foreign] = &[
    Foreign {
        group: GATEWAY_API,
        version: "v1",
        kind: "GatewayClass",
        plural: "gatewayclasses",
        short: Some("gc"),
        category: "gateway-api",
        namespaced: false,
        columns: &[("Controller", ".spec.controllerName")],
        description: "A kind of gateways: which controller makes them.",
        spec: || {
            object(
                json!({"controllerName": text(), "description": text(), "parametersRef": open()}),
                &["controllerName"],
            )
        },
    },
    Foreign {
        group: GATEWAY_API,
        version: "v1",
        kind: "Gateway",
        plural: "gateways",
        short: Some("gtw"),
        category: "gateway-api",
        namespaced: true,
        columns: &[
            ("Class", ".spec.gatewayClassName"),
            ("Programmed", ".status.conditions[?(@.type=='Programmed')].status"),
        ],
        description: "An entrance to the cluster: the ports and hosts that it listens on.",
        spec: || {
            let listener = object(
                json!({"name": text(), "hostname": text(), "port": port(), "protocol": text(), "tls": open(), "allowedRoutes": open()}),
                &["name", "port", "protocol"],
            );
            object(
                json!({"gatewayClassName": text(), "listeners": list_by(&listener, "name"), "addresses": list(&open()), "infrastructure": open()}),
                &["gatewayClassName", "listeners"],
            )
        },
    },
    Foreign {
        group: GATEWAY_API,
        version: "v1",
        kind: "HTTPRoute",
        plural: "httproutes",
        short: None,
        category: "gateway-api",
        namespaced: true,
        columns: &[("Hostnames", ".spec.hostnames")],
        description: "Which HTTP requests at a gateway go to which services.",
        spec: route,
    },
    Foreign {
        group: GATEWAY_API,
        version: "v1",
        kind: "GRPCRoute",
        plural: "grpcroutes",
        short: None,
        category: "gateway-api",
        namespaced: true,
        columns: &[("Hostnames", ".spec.hostnames")],
        description: "Which gRPC requests at a gateway go to which services.",
        spec: route,
    },
    Foreign {
        group: GATEWAY_API,
        version: "v1",
        kind: "TLSRoute",
        plural: "tlsroutes",
        short: None,
        category: "gateway-api",
        namespaced: true,
        columns: &[("Hostnames", ".spec.hostnames")],
        description: "Which TLS connections at a gateway go to which services, by the host name that they ask for.",
        spec: route,
    },
    Foreign {
        group: GATEWAY_API,
        version: "v1",
        kind: "TCPRoute",
        plural: "tcproutes",
        short: None,
        category: "gateway-api",
        namespaced: true,
        columns: &[],
        description: "Which service the TCP connections of a gateway's listener go to.",
        spec: route,
    },
    Foreign {
        group: GATEWAY_API,
        version: "v1",
        kind: "UDPRoute",
        plural: "udproutes",
        short: None,
        category: "gateway-api",
        namespaced: true,
        columns: &[],
        description: "Which service the UDP packets of a gateway's listener go to.",
        spec: route,
    },
    Foreign {
        group: GATEWAY_API,
        version: "v1beta1",
        kind: "ReferenceGrant",
        plural: "referencegrants",
        short: Some("refgrant"),
        category: "gateway-api",
        namespaced: true,
        columns: &[],
        description: "Which objects of other namespaces may refer to objects of this one.",
        spec: || {
            let from = object(
                json!({"group": text(), "kind": text(), "namespace": text()}),
                &["group", "kind", "namespace"],
            );
            let to = object(
                json!({"group": text(), "kind": text(), "name": text()}),
                &["group", "kind"],
            );
            object(json!({"from": list(&from), "to": list(&to)}), &["from", "to"])
        },
    },
    Foreign {
        group: ENVOY_GATEWAY,
        version: "v1alpha1",
        kind: "Backend",
        plural: "backends",
        short: Some("be"),
        category: "envoy-gateway",
        namespaced: true,
        columns: &[],
        description: "A server outside the cluster that routes can lead to.",
        spec: || {
            object(
                json!({"type": text(), "endpoints": list(&open()), "appProtocols": list(&text()), "tls": open()}),
                &[],
            )
        },
    },
    Foreign {
        group: ENVOY_GATEWAY,
        version: "v1alpha1",
        kind: "HTTPRouteFilter",
        plural: "httproutefilters",
        short: Some("hrf"),
        category: "envoy-gateway",
        namespaced: true,
        columns: &[],
        description: "A change to requests, or an answer to them, that routes can use.",
        spec: || {
            object(
                json!({"urlRewrite": open(), "directResponse": open(), "credentialInjection": open()}),
                &[],
            )
        },
    },
    Foreign {
        group: ENVOY_GATEWAY,
        version: "v1alpha1",
        kind: "ClientTrafficPolicy",
        plural: "clienttrafficpolicies",
        short: Some("ctp"),
        category: "envoy-gateway",
        namespaced: true,
        columns: &[],
        description: "How a gateway treats the connections of its callers.",
        spec: || {
            policy(json!({
                "clientIPDetection": open(), "connection": open(), "headers": open(), "http1": open(), "http2": open(),
                "http3": open(), "path": open(), "tcpKeepalive": open(), "timeout": open(), "tls": open(),
            }))
        },
    },
    Foreign {
        group: ENVOY_GATEWAY,
        version: "v1alpha1",
        kind: "SecurityPolicy",
        plural: "securitypolicies",
        short: Some("sp"),
        category: "envoy-gateway",
        namespaced: true,
        columns: &[],
        description: "Who may send requests over a route, and from where.",
        spec: || {
            policy(json!({
                "apiKeyAuth": open(), "authorization": open(), "basicAuth": open(), "cors": open(), "extAuth": open(),
                "jwt": open(), "oidc": open(),
            }))
        },
    },
    Foreign {
        group: ENVOY_GATEWAY,
        version: "v1alpha1",
        kind: "BackendTrafficPolicy",
        plural: "backendtrafficpolicies",
        short: Some("btp"),
        category: "envoy-gateway",
        namespaced: true,
        columns: &[],
        description: "How requests over a route are limited, repeated and spread.",
        spec: || {
            policy(json!({
                "circuitBreaker": open(), "faultInjection": open(), "healthCheck": open(), "loadBalancer": open(),
                "rateLimit": open(), "retry": open(), "timeout": open(), "compression": list(&open()),
                "connection": open(), "responseOverride": list(&open()),
            }))
        },
    },
    Foreign {
        group: CILIUM,
        version: "v2",
        kind: "CiliumNetworkPolicy",
        plural: "ciliumnetworkpolicies",
        short: Some("cnp"),
        category: "ciliumpolicy",
        namespaced: true,
        columns: &[("Valid", ".status.conditions[?(@.type=='Valid')].status")],
        description: "Which traffic of the selected pods is allowed.",
        spec: || {
            object(
                json!({
                    "endpointSelector": open(), "nodeSelector": open(), "description": text(), "labels": list(&open()),
                    "ingress": list(&open()), "ingressDeny": list(&open()), "egress": list(&open()), "egressDeny": list(&open()),
                    "enableDefaultDeny": open(),
                }),
                &[],
            )
        },
    },
    Foreign {
        group: MONITORING,
        version: "v1",
        kind: "PodMonitor",
        plural: "podmonitors",
        short: Some("pmon"),
        category: "prometheus-operator",
        namespaced: true,
        columns: &[],
        description: "Which pods' metrics are read, and how.",
        spec: || {
            object(
                json!({
                    "selector": open(), "podMetricsEndpoints": list(&open()), "namespaceSelector": open(), "jobLabel": text(),
                    "podTargetLabels": list(&text()), "sampleLimit": open(), "attachMetadata": open(),
                }),
                &["selector"],
            )
        },
    },
    Foreign {
        group: EXTERNAL_SECRETS,
        version: "v1",
        kind: "ExternalSecret",
        plural: "externalsecrets",
        short: Some("es"),
        category: "external-secrets",
        namespaced: true,
        columns: &[
            ("Store", ".spec.secretStoreRef.name"),
            ("Ready", ".status.conditions[?(@.type=='Ready')].status"),
        ],
        description: "A Secret whose values come from a store outside the cluster.",
        spec: || {
            let remote = object(
                json!({"key": text(), "property": text(), "version": text()}),
                &["key"],
            );
            let data = object(
                json!({"secretKey": text(), "remoteRef": remote, "sourceRef": open()}),
                &["remoteRef", "secretKey"],
            );
            object(
                json!({
                    "secretStoreRef": object(json!({"name": text(), "kind": text()}), &[]),
                    "refreshInterval": text(), "refreshPolicy": text(), "target": open(),
                    "data": list(&data), "dataFrom": list(&open()),
                }),
                &[],
            )
        },
    },
    Foreign {
        group: EXTERNAL_SECRETS,
        version: "v1",
        kind: "ClusterSecretStore",
        plural: "clustersecretstores",
        short: Some("css"),
        category: "external-secrets",
        namespaced: false,
        columns: &[("Ready", ".status.conditions[?(@.type=='Ready')].status")],
        description: "A store outside the cluster that values come from.",
        spec: || {
            object(
                json!({"provider": open(), "refreshInterval": json!({"x-kubernetes-preserve-unknown-fields": true})}),
                &["provider"],
            )
        },
    },
    Foreign {
        group: SECRETS_STORE,
        version: "v1",
        kind: "SecretProviderClass",
        plural: "secretproviderclasses",
        short: None,
        category: "secrets-store",
        namespaced: true,
        columns: &[("Provider", ".spec.provider")],
        description: "Values of a store outside the cluster that pods can mount.",
        spec: || {
            object(
                json!({"provider": text(), "parameters": open(), "secretObjects": list(&open())}),
                &[],
            )
        },
    },
    Foreign {
        group: ARGO,
        version: "v1alpha1",
        kind: "Workflow",
        plural: "workflows",
        short: Some("wf"),
        category: "argo",
        namespaced: true,
        columns: &[
            ("Status", ".status.phase"),
            ("Template", ".spec.workflowTemplateRef.name"),
        ],
        description: "Steps that run in containers, one after the other.",
        spec: workflow,
    },
    Foreign {
        group: ARGO,
        version: "v1alpha1",
        kind: "WorkflowTemplate",
        plural: "workflowtemplates",
        short: Some("wftmpl"),
        category: "argo",
        namespaced: true,
        columns: &[],
        description: "A workflow that others of its namespace are made from.",
        spec: workflow,
    },
    Foreign {
        group: ARGO,
        version: "v1alpha1",
        kind: "ClusterWorkflowTemplate",
        plural: "clusterworkflowtemplates",
        short: Some("cwft"),
        category: "argo",
        namespaced: false,
        columns: &[],
        description: "A workflow that others are made from.",
        spec: workflow,
    },
];

fn text() -> Value {
    json!({"type": "string"})
}

fn port() -> Value {
    json!({"type": "integer", "format": "int32", "minimum": 1, "maximum": 65535})
}

/// An object of which nothing is said.
fn open() -> Value {
    json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// An object of which something is said, and that may have more.
fn object(properties: Value, required: &[&str]) -> Value {
    let mut schema = open();
    schema["properties"] = properties;
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn list(items: &Value) -> Value {
    json!({"type": "array", "items": items, "x-kubernetes-list-type": "atomic"})
}

fn list_by(items: &Value, key: &str) -> Value {
    json!({"type": "array", "items": items, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]})
}

/// The spec of a workflow of Argo, which is also that of its templates.
fn workflow() -> Value {
    let parameter = object(
        json!({"name": text(), "value": text(), "default": text()}),
        &["name"],
    );
    object(
        json!({
            "entrypoint": text(), "serviceAccountName": text(), "podMetadata": open(),
            "arguments": object(json!({"parameters": list_by(&parameter, "name")}), &[]),
            "workflowTemplateRef": object(json!({"name": text(), "clusterScope": {"type": "boolean"}}), &["name"]),
            "templates": list_by(&object(json!({"name": text()}), &["name"]), "name"),
        }),
        &[],
    )
}

/// The spec of a route of the Gateway API.
fn route() -> Value {
    let parent = object(
        json!({"group": text(), "kind": text(), "name": text(), "namespace": text(), "sectionName": text(), "port": port()}),
        &["name"],
    );
    let backend = object(
        json!({"group": text(), "kind": text(), "name": text(), "namespace": text(), "port": port(), "weight": {"type": "integer", "format": "int32"}}),
        &["name"],
    );
    let filter = object(json!({"type": text()}), &["type"]);
    let rule = object(
        json!({
            "name": text(), "matches": list(&open()), "filters": list(&filter), "backendRefs": list(&backend),
            "timeouts": open(),
        }),
        &[],
    );
    object(
        json!({"parentRefs": list(&parent), "hostnames": list(&text()), "rules": list(&rule)}),
        &[],
    )
}

/// The spec of a policy of Envoy Gateway: what it says, and what it is about.
fn policy(mut settings: Value) -> Value {
    let target = object(
        json!({"group": text(), "kind": text(), "name": text(), "sectionName": text()}),
        &["group", "kind", "name"],
    );
    settings["targetRefs"] = list(&target);
    settings["targetRef"] = target;
    settings["targetSelectors"] = list(&open());
    object(settings, &[])
}

fn definition(foreign: &Foreign) -> CustomResourceDefinition {
    let &Foreign {
        group,
        version,
        kind,
        plural,
        short,
        category,
        namespaced,
        columns,
        description,
        spec,
    } = foreign;
    let column = |(name, path): &(&str, &str)| CustomResourceColumnDefinition {
        name: (*name).to_owned(),
        type_: "string".to_owned(),
        json_path: (*path).to_owned(),
        ..Default::default()
    };
    let age = CustomResourceColumnDefinition {
        name: "Age".to_owned(),
        type_: "date".to_owned(),
        json_path: ".metadata.creationTimestamp".to_owned(),
        ..Default::default()
    };
    let schema = json!({
        "type": "object",
        "description": description,
        "properties": {"spec": spec(), "status": open()},
        "required": ["spec"],
    });
    CustomResourceDefinition {
        metadata: ObjectMeta {
            name: Some(format!("{plural}.{group}")),
            // Kubernetes' own groups want to be told whether a definition in them is an official one.
            annotations: group.ends_with(".k8s.io").then(|| {
                BTreeMap::from([(
                    "api-approved.kubernetes.io".to_owned(),
                    "unapproved, only for data planes that do not have the real definition".to_owned(),
                )])
            }),
            ..Default::default()
        },
        spec: CustomResourceDefinitionSpec {
            group: group.to_owned(),
            names: CustomResourceDefinitionNames {
                kind: kind.to_owned(),
                list_kind: Some(format!("{kind}List")),
                plural: plural.to_owned(),
                singular: Some(kind.to_lowercase()),
                short_names: short.map(|short| vec![short.to_owned()]),
                categories: Some(vec![category.to_owned()]),
            },
            scope: if namespaced { "Namespaced" } else { "Cluster" }.to_owned(),
            versions: vec![CustomResourceDefinitionVersion {
                name: version.to_owned(),
                served: true,
                storage: true,
                // The schema is made of parts that are all valid; the tests read it back.
                schema: Some(CustomResourceValidation {
                    open_api_v3_schema: serde_json::from_value::<JSONSchemaProps>(schema).ok(),
                }),
                subresources: Some(CustomResourceSubresources {
                    status: Some(CustomResourceSubresourceStatus(json!({}))),
                    scale: None,
                }),
                additional_printer_columns: Some(columns.iter().map(column).chain([age]).collect()),
                ..Default::default()
            }],
            ..Default::default()
        },
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_definition_has_a_schema_and_its_own_name() {
        let crds = foreign_crds();
        let mut names: Vec<_> = crds
            .iter()
            .map(|crd| crd.metadata.name.clone().unwrap())
            .collect();
        assert!(names.is_sorted());
        names.dedup();
        assert_eq!(names.len(), FOREIGN.len());
        for crd in crds {
            let schema = crd.spec.versions[0].schema.as_ref().unwrap();
            assert!(schema.open_api_v3_schema.is_some(), "{:?}", crd.metadata.name);
        }
    }
}
