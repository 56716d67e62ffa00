//! Classes of APIs: what the platform team demands of requests.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::Condition;
use super::endpointpolicy::{ClaimToHeader, JwtClaim};

/// What is demanded of, and done with, requests to APIs of this class.
#[derive(CustomResource, Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "openchoreo.dev",
    version = "v1alpha1",
    kind = "APIClass",
    namespaced,
    status = "APIClassStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "choreo",
    doc = "A golden path for APIs: who may call them, how often, from where, and what happens to requests on their way.",
    printcolumn(
        name = "Used-By",
        type_ = "integer",
        json_path = ".status.usedBy",
        priority = 1
    )
)]
pub struct APIClassSpec {
    /// For REST, HTTP, GraphQL and WebSocket APIs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest_policy: Option<PolicySet>,
    /// For gRPC APIs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc_policy: Option<PolicySet>,
}

/// Policies by level of exposure. What a level says replaces what the defaults say of the same thing.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct PolicySet {
    /// At every level that the API is exposed at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<ApiPolicy>,
    /// At the public gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<ApiPolicy>,
    /// At the organization's gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<ApiPolicy>,
}

/// What is demanded of, and done with, requests.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ApiPolicy {
    /// How many requests are let through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// How callers are authenticated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Authentication>,
    /// From which origins browsers may call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// From where, and over which connections, calls are accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security: Option<ConnectionSecurity>,
    /// How requests and responses are changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mediation: Option<Mediation>,
    /// When calls are no longer tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit_breaker: Option<ApiCircuitBreaker>,
    /// How failed calls are repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// How long a call may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = crate::schema::DURATION))]
    pub timeout: Option<String>,
}

impl ApiPolicy {
    /// What holds at a level: `level`'s own policies, and `defaults` for what it does not mention.
    #[must_use]
    pub fn at_level(defaults: Option<&Self>, level: Option<&Self>) -> Self {
        let base = defaults.cloned().unwrap_or_default();
        let Some(Self {
            rate_limit,
            authentication,
            cors,
            security,
            mediation,
            circuit_breaker,
            retry,
            timeout,
        }) = level.cloned()
        else {
            return base;
        };
        Self {
            rate_limit: rate_limit.or(base.rate_limit),
            authentication: authentication.or(base.authentication),
            cors: cors.or(base.cors),
            security: security.or(base.security),
            mediation: mediation.or(base.mediation),
            circuit_breaker: circuit_breaker.or(base.circuit_breaker),
            retry: retry.or(base.retry),
            timeout: timeout.or(base.timeout),
        }
    }
}

/// A number of requests in a window of time.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Number of requests.
    #[schemars(range(min = 1))]
    pub requests: i64,
    /// Length of the window: a number and `s`, `m`, `h` or `d`.
    #[schemars(length(max = 16), regex(pattern = crate::schema::WINDOW))]
    pub window: String,
    /// Who counts; `local` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<RateLimitScope>,
}

/// Who counts requests.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
)]
#[serde(rename_all = "lowercase")]
pub enum RateLimitScope {
    /// Each instance of the gateway counts on its own.
    #[default]
    Local,
    /// All instances of the gateway count together. It needs the gateway's rate limit service.
    Global,
}

/// How callers are authenticated.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.type != 'jwt' || has(self.jwt)").message("jwt must be given when type is jwt"))]
#[x_kube(validation = Rule::new("self.type != 'oauth2' || has(self.oauth2)")
    .message("oauth2 must be given when type is oauth2"))]
#[x_kube(validation = Rule::new("[has(self.jwt), has(self.apikey), has(self.oauth2), has(self.basic)].filter(given, given).size() <= 1")
    .message("give the settings of one type of authentication only"))]
pub struct Authentication {
    /// The way of authentication.
    #[serde(rename = "type")]
    pub type_: AuthenticationType,
    /// For type `jwt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtAuthentication>,
    /// For type `apikey`.
    #[serde(rename = "apikey", default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<ApiKeyAuthentication>,
    /// For type `oauth2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth2: Option<OAuth2Authentication>,
    /// For type `basic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic: Option<BasicAuthentication>,
}

/// Ways of authentication.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
)]
#[serde(rename_all = "lowercase")]
pub enum AuthenticationType {
    /// With a signed token.
    #[default]
    Jwt,
    /// With an API key.
    ApiKey,
    /// With a token of an OAuth 2 server.
    OAuth2,
    /// With a user name and a password.
    Basic,
}

/// How signed tokens are checked.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct JwtAuthentication {
    /// Address of the key set that tokens are signed with.
    #[schemars(length(min = 1, max = 2048))]
    pub jwks: String,
    /// Who must have issued the token.
    #[schemars(length(min = 1, max = 2048))]
    pub issuer: String,
    /// For whom the token must be, if that matters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 1024)))]
    pub audience: Vec<String>,
    /// Scopes that the token must have, all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub scopes: Vec<String>,
    /// Claims that the token must have, all of them, each with one of its values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub claims: Vec<JwtClaim>,
    /// Claims that are passed to the backend.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub claims_to_headers: Vec<ClaimToHeader>,
}

/// Where an API key is looked for, and which are accepted.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyAuthentication {
    /// Name of the header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub header: Option<String>,
    /// Name of the query parameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub query_param: Option<String>,
    /// Name of a Secret in the cell whose values are the keys that are accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub secret_ref: Option<String>,
}

/// Which OAuth 2 server issues tokens.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct OAuth2Authentication {
    /// Address at which tokens are issued.
    #[schemars(length(min = 1, max = 2048))]
    pub token_url: String,
    /// Scopes that a token must have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 253)))]
    pub scopes: Vec<String>,
    /// Address of the key set that the server signs its tokens with. Without it no token can be checked, and the
    /// API is not exposed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub jwks: Option<String>,
    /// Who must have issued the token, if that matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub issuer: Option<String>,
}

/// Which users are accepted.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct BasicAuthentication {
    /// Name of a Secret in the cell whose key `.htpasswd` lists them.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub secret_ref: String,
}

/// From which origins browsers may call.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Cors {
    /// Origins that may call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 253)))]
    pub allow_origins: Vec<String>,
    /// Methods that they may use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 16)))]
    pub allow_methods: Vec<String>,
    /// Headers that they may send.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 256)))]
    pub allow_headers: Vec<String>,
    /// Headers that they may read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 256)))]
    pub expose_headers: Vec<String>,
    /// For how many seconds a browser may remember this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub max_age: Option<i64>,
    /// Whether they may send cookies.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_credentials: bool,
}

/// From where, and over which connections, calls are accepted.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionSecurity {
    /// Addresses or networks (CIDR) that may call; all if absent.
    #[serde(rename = "allowedIPs", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), inner(length(max = 43)))]
    pub allowed_ips: Vec<String>,
    /// Addresses or networks (CIDR) that may not call.
    #[serde(rename = "blockedIPs", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), inner(length(max = 43)))]
    pub blocked_ips: Vec<String>,
    /// Whether plain HTTP is refused.
    #[serde(rename = "requireTLS", default, skip_serializing_if = "Option::is_none")]
    pub require_tls: Option<bool>,
    /// Lowest version of TLS that is accepted, for instance `1.2`.
    #[serde(rename = "minTLSVersion", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8), regex(pattern = "^(TLS)?v?1\\.[0-3]$"))]
    pub min_tls_version: Option<String>,
}

/// How requests and responses are changed.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Mediation {
    /// Changes to requests, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub request_transformations: Vec<Transformation>,
    /// Changes to responses, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub response_transformations: Vec<Transformation>,
}

impl Mediation {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.request_transformations.is_empty() && self.response_transformations.is_empty()
    }
}

/// A change to a request or a response.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Transformation {
    /// Format of the body.
    #[serde(rename = "type")]
    pub type_: BodyFormat,
    /// What is done.
    pub action: TransformationAction,
    /// Fields that are added, for `addFields`, or whose names are removed, for `removeFields`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub fields: BTreeMap<String, String>,
    /// Names of headers that are removed, for `removeHeaders`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 256)))]
    pub headers: Vec<String>,
    /// Name of the header, for `addHeader` and `setHeader`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub header_name: Option<String>,
    /// Value of the header, for `addHeader` and `setHeader`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub header_value: Option<String>,
}

/// Format of a body.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
)]
#[serde(rename_all = "lowercase")]
pub enum BodyFormat {
    /// JSON.
    #[default]
    Json,
    /// XML.
    Xml,
}

/// What a transformation does.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
)]
#[serde(rename_all = "camelCase")]
pub enum TransformationAction {
    /// Adds fields to the body.
    #[default]
    AddFields,
    /// Adds a header, beside one of the same name.
    AddHeader,
    /// Sets a header, in the place of one of the same name.
    SetHeader,
    /// Removes headers.
    RemoveHeaders,
    /// Removes fields from the body.
    RemoveFields,
}

/// When calls are no longer tried: limits on what is under way at the same time.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ApiCircuitBreaker {
    /// Whether the limits are in force.
    pub enabled: bool,
    /// Connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_connections: Option<i32>,
    /// Requests that wait for a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub max_pending_requests: Option<i32>,
    /// Requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_parallel_requests: Option<i32>,
    /// Repeated requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub max_parallel_retries: Option<i32>,
}

/// How failed calls are repeated.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// How often.
    #[schemars(range(min = 0, max = 10))]
    pub attempts: i32,
    /// How the wait between tries grows.
    #[serde(default)]
    pub backoff: Backoff,
    /// Wait before the first repetition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = crate::schema::DURATION))]
    pub initial_interval: Option<String>,
    /// Longest wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = crate::schema::DURATION))]
    pub max_interval: Option<String>,
    /// How long one try may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = crate::schema::DURATION))]
    pub per_try_timeout: Option<String>,
}

/// How a wait grows.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
)]
#[serde(rename_all = "lowercase")]
pub enum Backoff {
    /// It doubles.
    #[default]
    Exponential,
    /// It grows by the same amount.
    Linear,
    /// It stays.
    Fixed,
}

/// What is known of a class.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct APIClassStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is true of this object now; `Ready` sums it up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Number of APIs that use the class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_by: Option<i32>,
}
