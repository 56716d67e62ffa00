//! Names and kinds of what the gateway follows.

use std::fmt;
use std::sync::Arc;

use kube::core::DynamicObject;
use serde_json::Value;

use crate::api::{ENVOY_GATEWAY, GATEWAY_API};

/// Namespace and name; the namespace is empty for what belongs to the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name {
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
}

impl Name {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// Kinds that come with definitions, which may be there or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    GatewayClass,
    Gateway,
    HttpRoute,
    GrpcRoute,
    TlsRoute,
    TcpRoute,
    UdpRoute,
    ReferenceGrant,
    Backend,
    HttpRouteFilter,
    SecurityPolicy,
    BackendTrafficPolicy,
    ClientTrafficPolicy,
}

impl Kind {
    pub(crate) const ALL: [Self; 13] = [
        Self::GatewayClass,
        Self::Gateway,
        Self::HttpRoute,
        Self::GrpcRoute,
        Self::TlsRoute,
        Self::TcpRoute,
        Self::UdpRoute,
        Self::ReferenceGrant,
        Self::Backend,
        Self::HttpRouteFilter,
        Self::SecurityPolicy,
        Self::BackendTrafficPolicy,
        Self::ClientTrafficPolicy,
    ];
    pub(crate) const ROUTES: [Self; 5] = [
        Self::HttpRoute,
        Self::GrpcRoute,
        Self::TlsRoute,
        Self::TcpRoute,
        Self::UdpRoute,
    ];

    /// As in the field `kind`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::GatewayClass => "GatewayClass",
            Self::Gateway => "Gateway",
            Self::HttpRoute => "HTTPRoute",
            Self::GrpcRoute => "GRPCRoute",
            Self::TlsRoute => "TLSRoute",
            Self::TcpRoute => "TCPRoute",
            Self::UdpRoute => "UDPRoute",
            Self::ReferenceGrant => "ReferenceGrant",
            Self::Backend => "Backend",
            Self::HttpRouteFilter => "HTTPRouteFilter",
            Self::SecurityPolicy => "SecurityPolicy",
            Self::BackendTrafficPolicy => "BackendTrafficPolicy",
            Self::ClientTrafficPolicy => "ClientTrafficPolicy",
        }
    }

    pub(crate) fn group(self) -> &'static str {
        match self {
            Self::Backend
            | Self::HttpRouteFilter
            | Self::SecurityPolicy
            | Self::BackendTrafficPolicy
            | Self::ClientTrafficPolicy => ENVOY_GATEWAY,
            _ => GATEWAY_API,
        }
    }

    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::GatewayClass => "gatewayclasses",
            Self::Gateway => "gateways",
            Self::HttpRoute => "httproutes",
            Self::GrpcRoute => "grpcroutes",
            Self::TlsRoute => "tlsroutes",
            Self::TcpRoute => "tcproutes",
            Self::UdpRoute => "udproutes",
            Self::ReferenceGrant => "referencegrants",
            Self::Backend => "backends",
            Self::HttpRouteFilter => "httproutefilters",
            Self::SecurityPolicy => "securitypolicies",
            Self::BackendTrafficPolicy => "backendtrafficpolicies",
            Self::ClientTrafficPolicy => "clienttrafficpolicies",
        }
    }

    /// The name of its definition.
    pub(crate) fn definition(self) -> String {
        format!("{}.{}", self.plural(), self.group())
    }

    pub(crate) fn is_namespaced(self) -> bool {
        self != Self::GatewayClass
    }

    /// Whether the gateway sees requests, and not just connections.
    pub(crate) fn is_http(self) -> bool {
        matches!(self, Self::HttpRoute | Self::GrpcRoute)
    }

    /// What the protocol of a listener must be for a kind of route.
    pub(crate) fn protocols(self) -> &'static [&'static str] {
        match self {
            Self::HttpRoute | Self::GrpcRoute => &["HTTP", "HTTPS"],
            Self::TlsRoute => &["TLS"],
            Self::TcpRoute => &["TCP"],
            Self::UdpRoute => &["UDP"],
            _ => &[],
        }
    }
}

/// A kind with a name.
pub(crate) type Key = (Kind, Name);

/// What statuses and precedence need of an object's metadata.
#[derive(Clone, Debug)]
pub(crate) struct Meta {
    pub(crate) name: Name,
    pub(crate) uid: String,
    pub(crate) generation: i64,
    pub(crate) version: u64,
    /// Seconds since 1970, for "the oldest first".
    pub(crate) created: i64,
}

impl Meta {
    pub(crate) fn of(object: &DynamicObject) -> Self {
        let meta = &object.metadata;
        Self {
            name: Name::new(
                meta.namespace.as_deref().unwrap_or_default(),
                meta.name.as_deref().unwrap_or_default(),
            ),
            uid: meta.uid.clone().unwrap_or_default(),
            generation: meta.generation.unwrap_or(0),
            version: meta
                .resource_version
                .as_deref()
                .and_then(|v| v.parse().ok())
                .unwrap_or(0),
            created: meta
                .creation_timestamp
                .as_ref()
                .map_or(i64::MAX, |time| time.0.as_second()),
        }
    }

    /// Older objects go before younger ones, and of one age the first by name.
    pub(crate) fn age(&self) -> (i64, &Name) {
        (self.created, &self.name)
    }
}

/// The spec of an object, or nothing.
pub(crate) fn spec(object: &DynamicObject) -> &Value {
    object.data.get("spec").unwrap_or(&Value::Null)
}
