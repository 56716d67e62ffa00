//! Kinds of Envoy Gateway (v1alpha1).

use serde::Deserialize;

use super::gateway::ObjectReference;

/// What a policy is about.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TargetRef {
    pub(crate) group: String,
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) section_name: Option<String>,
}

/// The targets of a policy, which are read even when the rest cannot be: what it should have guarded must close.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Targets {
    pub(crate) target_ref: Option<TargetRef>,
    #[serde(default)]
    pub(crate) target_refs: Vec<TargetRef>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SecurityPolicySpec {
    #[allow(dead_code, reason = "read as Targets")]
    pub(crate) target_ref: Option<TargetRef>,
    #[allow(dead_code, reason = "read as Targets")]
    #[serde(default)]
    pub(crate) target_refs: Vec<TargetRef>,
    pub(crate) api_key_auth: Option<ApiKeyAuth>,
    pub(crate) basic_auth: Option<BasicAuth>,
    pub(crate) jwt: Option<Jwt>,
    pub(crate) cors: Option<Cors>,
    pub(crate) authorization: Option<Authorization>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ApiKeyAuth {
    pub(crate) credential_refs: Vec<ObjectReference>,
    pub(crate) extract_from: Vec<KeySource>,
    #[serde(rename = "forwardClientIDHeader")]
    pub(crate) forward_client_id_header: Option<String>,
    #[serde(default)]
    pub(crate) sanitize: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct KeySource {
    #[serde(default)]
    pub(crate) headers: Vec<String>,
    #[serde(default)]
    pub(crate) params: Vec<String>,
    #[serde(default)]
    pub(crate) cookies: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct BasicAuth {
    pub(crate) users: ObjectReference,
    pub(crate) forward_username_header: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Jwt {
    #[serde(default)]
    pub(crate) optional: bool,
    pub(crate) providers: Vec<JwtProvider>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct JwtProvider {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) issuer: String,
    #[serde(default)]
    pub(crate) audiences: Vec<String>,
    #[serde(rename = "remoteJWKS")]
    pub(crate) remote_jwks: Option<RemoteJwks>,
    #[serde(rename = "localJWKS")]
    pub(crate) local_jwks: Option<LocalJwks>,
    #[serde(default)]
    pub(crate) claim_to_headers: Vec<ClaimToHeader>,
    pub(crate) extract_from: Option<JwtExtractor>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RemoteJwks {
    pub(crate) uri: String,
    pub(crate) cache_duration: Option<String>,
    pub(crate) failed_refetch_duration: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LocalJwks {
    #[serde(rename = "type")]
    pub(crate) type_: Option<String>,
    pub(crate) inline: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ClaimToHeader {
    pub(crate) claim: String,
    pub(crate) header: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct JwtExtractor {
    #[serde(default)]
    pub(crate) headers: Vec<JwtHeader>,
    #[serde(default)]
    pub(crate) cookies: Vec<String>,
    #[serde(default)]
    pub(crate) params: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct JwtHeader {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) value_prefix: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Cors {
    #[serde(default)]
    pub(crate) allow_origins: Vec<String>,
    #[serde(default)]
    pub(crate) allow_methods: Vec<String>,
    #[serde(default)]
    pub(crate) allow_headers: Vec<String>,
    #[serde(default)]
    pub(crate) expose_headers: Vec<String>,
    pub(crate) max_age: Option<String>,
    #[serde(default)]
    pub(crate) allow_credentials: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Authorization {
    pub(crate) default_action: Option<Action>,
    #[serde(default)]
    pub(crate) rules: Vec<AuthorizationRule>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum Action {
    Allow,
    Deny,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AuthorizationRule {
    #[allow(dead_code, reason = "for who reads the policy")]
    pub(crate) name: Option<String>,
    pub(crate) action: Action,
    pub(crate) operation: Option<Operation>,
    pub(crate) principal: Option<Principal>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Operation {
    #[serde(default)]
    pub(crate) methods: Vec<String>,
    pub(crate) path: Option<PathSelector>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PathSelector {
    #[serde(rename = "type")]
    pub(crate) type_: Option<String>,
    pub(crate) value: Option<String>,
    #[serde(default)]
    pub(crate) invert: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Principal {
    #[serde(default, rename = "clientCIDRs")]
    pub(crate) client_cidrs: Vec<String>,
    pub(crate) jwt: Option<JwtPrincipal>,
    #[serde(default)]
    pub(crate) headers: Vec<HeaderPrincipal>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct JwtPrincipal {
    pub(crate) provider: String,
    #[serde(default)]
    pub(crate) scopes: Vec<String>,
    #[serde(default)]
    pub(crate) claims: Vec<ClaimPrincipal>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ClaimPrincipal {
    pub(crate) name: String,
    pub(crate) value_type: Option<String>,
    pub(crate) values: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HeaderPrincipal {
    pub(crate) name: String,
    pub(crate) values: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct BackendTrafficPolicySpec {
    #[allow(dead_code, reason = "read as Targets")]
    pub(crate) target_ref: Option<TargetRef>,
    #[allow(dead_code, reason = "read as Targets")]
    #[serde(default)]
    pub(crate) target_refs: Vec<TargetRef>,
    pub(crate) rate_limit: Option<RateLimit>,
    pub(crate) circuit_breaker: Option<CircuitBreaker>,
    pub(crate) retry: Option<Retry>,
    pub(crate) timeout: Option<BackendTimeout>,
    pub(crate) load_balancer: Option<LoadBalancer>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RateLimit {
    #[serde(rename = "type")]
    pub(crate) type_: Option<String>,
    pub(crate) local: Option<RateLimitRules>,
    pub(crate) global: Option<RateLimitRules>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RateLimitRules {
    #[serde(default)]
    pub(crate) rules: Vec<RateLimitRule>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RateLimitRule {
    #[serde(default)]
    pub(crate) client_selectors: Vec<ClientSelector>,
    pub(crate) limit: LimitValue,
    #[serde(default)]
    pub(crate) shared: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LimitValue {
    pub(crate) requests: u32,
    pub(crate) unit: LimitUnit,
}

/// The window of a limit. `Month` and `Year` are 30 and 365 days, as the rate limit service counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
pub(crate) enum LimitUnit {
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Year,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ClientSelector {
    #[serde(default)]
    pub(crate) headers: Vec<SelectorMatch>,
    #[serde(default)]
    pub(crate) query_params: Vec<SelectorMatch>,
    #[serde(default)]
    pub(crate) methods: Vec<MethodSelector>,
    pub(crate) path: Option<PathSelector>,
    #[serde(rename = "sourceCIDR")]
    pub(crate) source_cidr: Option<SourceMatch>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SelectorMatch {
    #[serde(rename = "type")]
    pub(crate) type_: Option<String>,
    pub(crate) name: String,
    pub(crate) value: Option<String>,
    #[serde(default)]
    pub(crate) invert: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MethodSelector {
    pub(crate) value: String,
    #[serde(default)]
    pub(crate) invert: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SourceMatch {
    #[serde(rename = "type")]
    pub(crate) type_: Option<String>,
    pub(crate) value: String,
    #[serde(default)]
    pub(crate) invert: bool,
}

/// Limits of one route rule's backends. Envoy Gateway's default for each is 1,024.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CircuitBreaker {
    pub(crate) max_connections: Option<u32>,
    pub(crate) max_pending_requests: Option<u32>,
    pub(crate) max_parallel_requests: Option<u32>,
    pub(crate) max_parallel_retries: Option<u32>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Retry {
    pub(crate) num_retries: Option<u32>,
    pub(crate) per_retry: Option<PerRetry>,
    pub(crate) retry_on: Option<RetryOn>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PerRetry {
    pub(crate) timeout: Option<String>,
    pub(crate) back_off: Option<BackOff>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct BackOff {
    pub(crate) base_interval: Option<String>,
    pub(crate) max_interval: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RetryOn {
    #[serde(default)]
    pub(crate) triggers: Vec<RetryTrigger>,
    #[serde(default)]
    pub(crate) http_status_codes: Vec<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RetryTrigger {
    #[serde(rename = "5xx")]
    FiveXx,
    GatewayError,
    Reset,
    ResetBeforeRequest,
    ConnectFailure,
    #[serde(rename = "retriable-4xx")]
    Retriable4xx,
    RefusedStream,
    RetriableStatusCodes,
    Cancelled,
    DeadlineExceeded,
    Internal,
    ResourceExhausted,
    Unavailable,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct BackendTimeout {
    pub(crate) http: Option<BackendHttpTimeout>,
    pub(crate) tcp: Option<BackendTcpTimeout>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct BackendHttpTimeout {
    pub(crate) request_timeout: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct BackendTcpTimeout {
    pub(crate) connect_timeout: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LoadBalancer {
    #[serde(rename = "type")]
    pub(crate) type_: LoadBalancerType,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum LoadBalancerType {
    #[default]
    LeastRequest,
    RoundRobin,
    Random,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ClientTrafficPolicySpec {
    #[allow(dead_code, reason = "read as Targets")]
    pub(crate) target_ref: Option<TargetRef>,
    #[allow(dead_code, reason = "read as Targets")]
    #[serde(default)]
    pub(crate) target_refs: Vec<TargetRef>,
    #[serde(rename = "clientIPDetection")]
    pub(crate) client_ip_detection: Option<ClientIpDetection>,
    pub(crate) tls: Option<ClientTls>,
    pub(crate) path: Option<ClientPath>,
    pub(crate) headers: Option<ClientHeaders>,
    pub(crate) timeout: Option<ClientTimeout>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ClientIpDetection {
    pub(crate) x_forwarded_for: Option<XForwardedFor>,
    pub(crate) custom_header: Option<CustomHeader>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct XForwardedFor {
    pub(crate) num_trusted_hops: Option<u32>,
    #[serde(rename = "trustedCIDRs", default)]
    pub(crate) trusted_cidrs: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CustomHeader {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) fail_closed: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ClientTls {
    pub(crate) min_version: Option<String>,
    pub(crate) max_version: Option<String>,
    pub(crate) alpn_protocols: Option<Vec<String>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ClientPath {
    pub(crate) escaped_slashes_action: Option<EscapedSlashes>,
    #[serde(default)]
    pub(crate) disable_merge_slashes: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum EscapedSlashes {
    KeepUnchanged,
    RejectRequest,
    UnescapeAndForward,
    #[default]
    UnescapeAndRedirect,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ClientHeaders {
    #[serde(default)]
    pub(crate) disable_rate_limit_headers: bool,
    #[serde(rename = "requestID")]
    pub(crate) request_id: Option<RequestIdAction>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum RequestIdAction {
    PreserveOrGenerate,
    Preserve,
    #[default]
    Generate,
    Disable,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ClientTimeout {
    pub(crate) http: Option<ClientHttpTimeout>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ClientHttpTimeout {
    pub(crate) request_received_timeout: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct BackendSpec {
    #[serde(rename = "type")]
    pub(crate) type_: Option<String>,
    #[serde(default)]
    pub(crate) endpoints: Vec<BackendEndpoint>,
    #[serde(default)]
    pub(crate) app_protocols: Vec<String>,
    pub(crate) tls: Option<BackendTls>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct BackendEndpoint {
    pub(crate) fqdn: Option<FqdnEndpoint>,
    pub(crate) ip: Option<IpEndpoint>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct FqdnEndpoint {
    pub(crate) hostname: String,
    pub(crate) port: u16,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct IpEndpoint {
    pub(crate) address: String,
    pub(crate) port: u16,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct BackendTls {
    #[serde(rename = "wellKnownCACertificates")]
    pub(crate) well_known_ca_certificates: Option<String>,
    pub(crate) sni: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HttpRouteFilterSpec {
    pub(crate) url_rewrite: Option<FilterUrlRewrite>,
    pub(crate) direct_response: Option<DirectResponse>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct FilterUrlRewrite {
    pub(crate) path: Option<FilterPathModifier>,
    pub(crate) hostname: Option<FilterHostModifier>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct FilterPathModifier {
    #[serde(rename = "type")]
    pub(crate) type_: String,
    pub(crate) replace_regex_match: Option<ReplaceRegex>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ReplaceRegex {
    pub(crate) pattern: String,
    pub(crate) substitution: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct FilterHostModifier {
    #[serde(rename = "type")]
    pub(crate) type_: String,
    pub(crate) header: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DirectResponse {
    pub(crate) status_code: Option<u16>,
    pub(crate) content_type: Option<String>,
    pub(crate) body: Option<DirectBody>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DirectBody {
    #[serde(rename = "type")]
    pub(crate) type_: Option<String>,
    pub(crate) inline: Option<String>,
}
