//! Policies of endpoints, in the form of the pinned release.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Something that is demanded of, or done with, requests.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct EndpointPolicy {
    /// Name of the policy.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// What the policy does.
    #[serde(rename = "type")]
    pub type_: PolicyType,
    /// Its settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_spec: Option<PolicySpec>,
}

/// What a policy does.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyType {
    /// Demands a token.
    #[default]
    Oauth2,
    /// Demands an API key.
    ApiKey,
    /// Demands a user name and a password.
    BasicAuth,
    /// Limits the number of requests.
    RateLimit,
    /// Lets browsers call from other origins.
    Cors,
    /// Changes requests and responses.
    Mediation,
}

/// Settings of a policy. The one for the policy's type counts.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.apiKeyAuth), has(self.basicAuth), has(self.oauth2), has(self.rateLimit), has(self.cors), has(self.mediation)].filter(given, given).size() <= 1")
    .message("give the settings of one kind of policy only"))]
pub struct PolicySpec {
    /// For `api-key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_auth: Option<ApiKeyPolicy>,
    /// For `basic-auth`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuthPolicy>,
    /// For `oauth2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth2: Option<OAuth2Policy>,
    /// For `rate-limit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<EndpointRateLimit>,
    /// For `cors`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<EndpointCors>,
    /// For `mediation`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mediation: Option<super::apiclass::Mediation>,
}

/// A demand for an API key.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyPolicy {
    /// Where the key is looked for.
    #[serde(default)]
    pub key_source: KeySource,
    /// Names of Secrets with the keys that are accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 253)))]
    pub secret_refs: Vec<String>,
}

/// Where an API key is looked for.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct KeySource {
    /// Name of the header.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub header: String,
    /// Word in front of the key in the header.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub header_auth_scheme: String,
}

/// A demand for a user name and a password.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct BasicAuthPolicy {
    /// The users that are accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub users: Vec<BasicAuthUser>,
    /// Name of the header.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub header: String,
    /// Word in front of the credentials in the header.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub header_auth_scheme: String,
}

/// A user with a password.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct BasicAuthUser {
    /// User name.
    #[schemars(length(min = 1, max = 253))]
    pub username: String,
    /// Name of the Secret that has the password.
    #[schemars(length(min = 1, max = 253))]
    pub password_from_secret: String,
}

/// A demand for a token.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct OAuth2Policy {
    /// What the token must say.
    pub jwt: JwtPolicy,
}

/// What a token must say.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct JwtPolicy {
    /// Claims that the token must have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub claims: Vec<JwtClaim>,
    /// Scopes that operations demand.
    #[serde(default)]
    pub authorization: OperationAuthorization,
}

/// A claim, and its accepted values.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct JwtClaim {
    /// Name of the claim.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
    /// Values that are accepted.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(max = 1024)))]
    pub values: Vec<String>,
}

/// Scopes that operations demand, by kind of API.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct OperationAuthorization {
    /// Kind of API.
    #[serde(default)]
    pub api_type: AuthorizedApiType,
    /// For a REST API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<RestAuthorization>,
    /// For a gRPC service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcAuthorization>,
    /// For a GraphQL API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graphql: Option<GraphQlAuthorization>,
}

/// Kinds of APIs whose operations can be told apart.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
)]
pub enum AuthorizedApiType {
    /// A REST API.
    #[default]
    REST,
    /// A gRPC service.
    GRPC,
    /// A GraphQL API.
    GraphQL,
}

/// A claim that is passed to the backend in a header.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ClaimToHeader {
    /// Name of the claim.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Name of the header.
    #[schemars(length(min = 1, max = 256))]
    pub header: String,
}

/// Scopes that operations of a REST API demand.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct RestAuthorization {
    /// Claims that are passed to the backend.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub claims_to_headers: Vec<ClaimToHeader>,
    /// The operations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub operations: Vec<RestOperation>,
}

/// An operation of a REST API.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct RestOperation {
    /// Path of the operation.
    #[schemars(length(min = 1, max = 1024))]
    pub target: String,
    /// Method of the operation.
    pub method: HttpMethod,
    /// Scopes that it demands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 253)))]
    pub scopes: Vec<String>,
}

/// A method of HTTP.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum HttpMethod {
    /// GET.
    #[default]
    Get,
    /// HEAD.
    Head,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// DELETE.
    Delete,
    /// CONNECT.
    Connect,
    /// OPTIONS.
    Options,
    /// TRACE.
    Trace,
    /// PATCH.
    Patch,
}

/// Scopes that methods of a gRPC service demand.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct GrpcAuthorization {
    /// Claims that are passed to the backend.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub claims_to_headers: Vec<ClaimToHeader>,
    /// The services.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub operations: Vec<GrpcOperation>,
}

/// A gRPC service.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct GrpcOperation {
    /// Name of the service.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its methods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    pub methods: Vec<GrpcMethod>,
}

/// A method of a gRPC service.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct GrpcMethod {
    /// Name of the method.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Scopes that it demands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 253)))]
    pub scopes: Vec<String>,
}

/// Scopes that operations of a GraphQL API demand.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct GraphQlAuthorization {
    /// Claims that are passed to the backend.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub claims_to_headers: Vec<ClaimToHeader>,
    /// The operations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub operations: Vec<GraphQlOperation>,
}

/// An operation of a GraphQL API.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct GraphQlOperation {
    /// Kind of operation.
    #[serde(rename = "type")]
    pub type_: GraphQlOperationType,
    /// Name of the operation.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Scopes that it demands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 253)))]
    pub scopes: Vec<String>,
}

/// Kinds of operations of a GraphQL API.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
)]
#[serde(rename_all = "lowercase")]
pub enum GraphQlOperationType {
    /// Reads.
    #[default]
    Query,
    /// Writes.
    Mutation,
    /// Listens.
    Subscription,
}

/// Lets browsers call from other origins.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct EndpointCors {
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

/// Limits the number of requests.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct EndpointRateLimit {
    /// For all operations together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_level: Option<RequestLimit>,
    /// For single operations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation_level: Option<OperationRateLimits>,
}

/// A number of requests in a time.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct RequestLimit {
    /// The time: `second`, `minute`, `hour` or `day`, in any of the usual spellings.
    #[schemars(length(min = 1, max = 16))]
    pub time_unit: String,
    /// Number of requests.
    #[schemars(range(min = 1))]
    pub request_limit: i64,
}

/// Limits for single operations.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct OperationRateLimits {
    /// The operations of a REST API.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub rest: Vec<RestRateLimit>,
}

/// The limit for one operation.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct RestRateLimit {
    /// Path of the operation.
    #[schemars(length(min = 1, max = 1024))]
    pub target: String,
    /// Method of the operation.
    #[schemars(length(min = 1, max = 16))]
    pub method: String,
    /// The time: `second`, `minute`, `hour` or `day`, in any of the usual spellings.
    #[schemars(length(min = 1, max = 16))]
    pub time_unit: String,
    /// Number of requests.
    #[schemars(range(min = 1))]
    pub request_limit: i64,
}
