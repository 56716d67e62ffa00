//! Policies as they are written, read once when they change.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderName, StatusCode};
use kube::core::DynamicObject;

use super::object::{Meta, spec};
use crate::api::envoy::{
    BackendSpec, BackendTrafficPolicySpec, CircuitBreaker, ClientTrafficPolicySpec, EscapedSlashes,
    LoadBalancerType, RequestIdAction, Retry, RetryTrigger, SecurityPolicySpec, TargetRef, Targets,
};
use crate::api::gateway::ObjectReference;
use crate::api::read;
use crate::policy::api_key::{Keys, Sources};
use crate::policy::authorization::Authorization;
use crate::policy::basic::Users;
use crate::policy::client_ip::Detection;
use crate::policy::cors::Cors;
use crate::policy::jwt::Jwt;
use crate::policy::{duration, rate_limit};
use crate::upstream::{Address, Endpoint, Endpoints, Protocol};

static STAMPS: AtomicU64 = AtomicU64::new(1);

/// A policy with its targets. A `spec` that cannot be followed closes what the policy is about.
#[derive(Debug)]
pub(crate) struct Policy<T> {
    pub(crate) meta: Meta,
    /// Which reading of which policy it is: no two have the same.
    pub(crate) stamp: u64,
    pub(crate) targets: Vec<TargetRef>,
    pub(crate) spec: Result<T, String>,
}

impl<T> Policy<T> {
    fn read(object: &DynamicObject, compile: impl FnOnce() -> Result<T, String>) -> Self {
        let targets: Targets = serde_json::from_value(spec(object).clone()).unwrap_or_default();
        let all: Vec<TargetRef> = targets
            .target_ref
            .into_iter()
            .chain(targets.target_refs)
            .collect();
        let compiled = compile();
        let spec = match (compiled, all.is_empty()) {
            (Ok(_), true) => {
                Err("spec.targetRefs: nothing is targeted; targetSelectors are not implemented".to_owned())
            }
            (compiled, _) => compiled,
        };
        Self {
            meta: Meta::of(object),
            stamp: STAMPS.fetch_add(1, Ordering::Relaxed),
            targets: all,
            spec,
        }
    }
}

/// A SecurityPolicy, with Secrets still to be looked up.
#[derive(Debug)]
pub(crate) struct SecuritySpec {
    pub(crate) cors: Option<Arc<Cors>>,
    pub(crate) api_key: Option<(Vec<ObjectReference>, Arc<Sources>)>,
    pub(crate) basic: Option<(ObjectReference, Option<HeaderName>)>,
    pub(crate) jwt: Option<Arc<Jwt>>,
    pub(crate) authorization: Option<Arc<Authorization>>,
}

/// A SecurityPolicy that can be followed.
#[derive(Clone, Default)]
pub(crate) struct Security {
    pub(crate) cors: Option<Arc<Cors>>,
    pub(crate) api_key: Option<(Arc<Sources>, Arc<Keys>)>,
    pub(crate) basic: Option<(Arc<Users>, Option<HeaderName>)>,
    pub(crate) jwt: Option<Arc<Jwt>>,
    pub(crate) authorization: Option<Arc<Authorization>>,
}

pub(crate) fn security(
    object: &DynamicObject,
    before: Option<&Policy<SecuritySpec>>,
) -> Policy<SecuritySpec> {
    Policy::read(object, || {
        let spec: SecurityPolicySpec = read(spec(object), "spec")?;
        let jwt = match &spec.jwt {
            None => None,
            Some(jwt) => {
                let mut jwt = Jwt::new(jwt, "spec.jwt")?;
                if let Some(before) = before.and_then(|before| before.spec.as_ref().ok()?.jwt.as_ref()) {
                    jwt.adopt(before);
                }
                Some(Arc::new(jwt))
            }
        };
        let providers: Vec<&str> = spec
            .jwt
            .iter()
            .flat_map(|jwt| jwt.providers.iter().map(|provider| provider.name.as_str()))
            .collect();
        let basic = match spec.basic_auth {
            None => None,
            Some(basic) => {
                let header = match &basic.forward_username_header {
                    None => None,
                    Some(name) => Some(name.parse().map_err(|_| {
                        format!("spec.basicAuth.forwardUsernameHeader: {name:?} is not the name of a header")
                    })?),
                };
                Some((basic.users, header))
            }
        };
        let api_key = match spec.api_key_auth {
            None => None,
            Some(spec) => {
                let sources = Sources::new(&spec, "spec.apiKeyAuth")?;
                Some((spec.credential_refs, Arc::new(sources)))
            }
        };
        Ok(SecuritySpec {
            cors: match &spec.cors {
                None => None,
                Some(cors) => Some(Arc::new(Cors::new(cors, "spec.cors")?)),
            },
            api_key,
            basic,
            jwt,
            authorization: match &spec.authorization {
                None => None,
                Some(rules) => Some(Arc::new(Authorization::new(
                    rules,
                    &providers,
                    "spec.authorization",
                )?)),
            },
        })
    })
}

/// A BackendTrafficPolicy.
#[derive(Debug, Default)]
pub(crate) struct TrafficSpec {
    pub(crate) rate_limit: Option<Arc<rate_limit::Rules>>,
    pub(crate) breaker: Option<CircuitBreaker>,
    pub(crate) retry: Option<Arc<RetryPolicy>>,
    /// `Some(0)` is no limit.
    pub(crate) request_timeout: Option<Duration>,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) balance: Option<LoadBalancerType>,
}

impl TrafficSpec {
    /// Whether it speaks of requests, which a connection does not have.
    pub(crate) fn is_about_requests(&self) -> bool {
        let of_requests = |breaker: &CircuitBreaker| {
            breaker.max_parallel_requests.is_some()
                || breaker.max_parallel_retries.is_some()
                || breaker.max_pending_requests.is_some()
        };
        self.rate_limit.is_some()
            || self.retry.is_some()
            || self.request_timeout.is_some()
            || self.breaker.as_ref().is_some_and(of_requests)
    }
}

pub(crate) fn traffic(object: &DynamicObject) -> Policy<TrafficSpec> {
    Policy::read(object, || {
        let spec: BackendTrafficPolicySpec = read(spec(object), "spec")?;
        let http = spec.timeout.as_ref().and_then(|timeout| timeout.http.as_ref());
        let tcp = spec.timeout.as_ref().and_then(|timeout| timeout.tcp.as_ref());
        let time = |text: Option<&String>, at: &str| text.map(|text| duration::parse(text, at)).transpose();
        Ok(TrafficSpec {
            rate_limit: match &spec.rate_limit {
                None => None,
                Some(limit) => Some(Arc::new(rate_limit::Rules::new(limit, "spec.rateLimit")?)),
            },
            retry: match &spec.retry {
                None => None,
                Some(retry) => Some(Arc::new(RetryPolicy::new(retry, "spec.retry")?)),
            },
            request_timeout: time(
                http.and_then(|http| http.request_timeout.as_ref()),
                "spec.timeout.http.requestTimeout",
            )?,
            connect_timeout: time(
                tcp.and_then(|tcp| tcp.connect_timeout.as_ref()),
                "spec.timeout.tcp.connectTimeout",
            )?,
            breaker: spec.circuit_breaker,
            balance: spec.load_balancer.map(|balancer| balancer.type_),
        })
    })
}

/// When a request is sent once more, and how often.
#[derive(Debug)]
pub(crate) struct RetryPolicy {
    pub(crate) retries: u32,
    triggers: Vec<RetryTrigger>,
    codes: Vec<u16>,
    pub(crate) per_try: Option<Duration>,
    base: Duration,
    most: Duration,
}

/// Envoy's first back-off.
const BASE_INTERVAL: Duration = Duration::from_millis(25);

impl RetryPolicy {
    fn new(spec: &Retry, at: &str) -> Result<Self, String> {
        let per_retry = spec.per_retry.as_ref();
        let back_off = per_retry.and_then(|retry| retry.back_off.as_ref());
        let time = |text: Option<&String>, field: &str| {
            text.map(|text| duration::parse(text, &format!("{at}.perRetry.{field}")))
                .transpose()
        };
        let base = time(
            back_off.and_then(|back_off| back_off.base_interval.as_ref()),
            "backOff.baseInterval",
        )?
        .unwrap_or(BASE_INTERVAL);
        let most = time(
            back_off.and_then(|back_off| back_off.max_interval.as_ref()),
            "backOff.maxInterval",
        )?
        .unwrap_or(base * 10);
        let (mut triggers, mut codes) = match &spec.retry_on {
            Some(on) => (on.triggers.clone(), on.http_status_codes.clone()),
            None => (Vec::new(), Vec::new()),
        };
        if triggers.is_empty() && codes.is_empty() {
            triggers = vec![
                RetryTrigger::ConnectFailure,
                RetryTrigger::RefusedStream,
                RetryTrigger::Unavailable,
                RetryTrigger::Cancelled,
                RetryTrigger::RetriableStatusCodes,
            ];
            codes = vec![503];
        } else if !codes.is_empty() {
            triggers.push(RetryTrigger::RetriableStatusCodes);
        }
        Ok(Self {
            retries: spec.num_retries.unwrap_or(2),
            triggers,
            codes,
            per_try: time(per_retry.and_then(|retry| retry.timeout.as_ref()), "timeout")?
                .filter(|time| !time.is_zero()),
            base,
            most,
        })
    }

    fn has(&self, trigger: RetryTrigger) -> bool {
        self.triggers.contains(&trigger)
    }

    /// Whether an answer is one to try again after. A gRPC status counts if it comes in the head, as one without messages does.
    pub(crate) fn after_answer(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let code = status.as_u16();
        let grpc = headers.get("grpc-status").and_then(|value| value.to_str().ok());
        (self.has(RetryTrigger::FiveXx) && status.is_server_error())
            || (self.has(RetryTrigger::GatewayError) && matches!(code, 502..=504))
            || (self.has(RetryTrigger::Retriable4xx) && code == 409)
            || (self.has(RetryTrigger::RetriableStatusCodes) && self.codes.contains(&code))
            || match grpc {
                Some("1") => self.has(RetryTrigger::Cancelled),
                Some("4") => self.has(RetryTrigger::DeadlineExceeded),
                Some("8") => self.has(RetryTrigger::ResourceExhausted),
                Some("13") => self.has(RetryTrigger::Internal),
                Some("14") => self.has(RetryTrigger::Unavailable),
                _ => false,
            }
    }

    /// Whether to try again when a connection was cut before an answer came. `sent` says that the request had gone out.
    pub(crate) fn after_reset(&self, sent: bool) -> bool {
        [
            RetryTrigger::FiveXx,
            RetryTrigger::GatewayError,
            RetryTrigger::Reset,
        ]
        .into_iter()
        .any(|trigger| self.has(trigger))
            || (!sent && self.has(RetryTrigger::ResetBeforeRequest))
    }

    /// Whether an attempt that took too long is tried again.
    pub(crate) fn after_timeout(&self) -> bool {
        [
            RetryTrigger::FiveXx,
            RetryTrigger::GatewayError,
            RetryTrigger::Reset,
        ]
        .into_iter()
        .any(|trigger| self.has(trigger))
            || (self.has(RetryTrigger::RetriableStatusCodes) && self.codes.contains(&504))
    }

    /// How long to wait before a retry: anything up to an exponentially growing bound, so that callers do not come back at once.
    pub(crate) fn back_off(&self, retry: u32) -> Duration {
        let bound = self.base.saturating_mul(1 << retry.min(16)).min(self.most);
        let milliseconds = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
        match milliseconds {
            0 => Duration::ZERO,
            most => Duration::from_millis(rand::random_range(0..=most)),
        }
    }
}

/// What a ClientTrafficPolicy says of a listener.
#[derive(Clone, Debug)]
pub(crate) struct ClientSettings {
    pub(crate) detection: Detection,
    pub(crate) tls12: bool,
    pub(crate) tls13: bool,
    pub(crate) alpn: Vec<Vec<u8>>,
    pub(crate) slashes: EscapedSlashes,
    pub(crate) merge_slashes: bool,
    pub(crate) rate_limit_headers: bool,
    pub(crate) request_id: RequestIdAction,
    pub(crate) request_received: Option<Duration>,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            detection: Detection::Peer,
            tls12: true,
            tls13: true,
            alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            slashes: EscapedSlashes::default(),
            merge_slashes: true,
            rate_limit_headers: true,
            request_id: RequestIdAction::default(),
            request_received: None,
        }
    }
}

pub(crate) fn client(object: &DynamicObject) -> Policy<Arc<ClientSettings>> {
    Policy::read(object, || {
        let spec: ClientTrafficPolicySpec = read(spec(object), "spec")?;
        let mut settings = ClientSettings {
            detection: Detection::new(spec.client_ip_detection.as_ref(), "spec.clientIPDetection")?,
            ..ClientSettings::default()
        };
        if let Some(tls) = &spec.tls {
            match tls.min_version.as_deref() {
                None | Some("Auto" | "1.2") => {}
                Some("1.3") => settings.tls12 = false,
                Some(other) => {
                    return Err(format!(
                        "spec.tls.minVersion: {other:?}: the gateway speaks TLS 1.2 and 1.3 only"
                    ));
                }
            }
            match tls.max_version.as_deref() {
                None | Some("Auto" | "1.3") => {}
                Some("1.2") => settings.tls13 = false,
                Some(other) => {
                    return Err(format!(
                        "spec.tls.maxVersion: {other:?}: the gateway speaks TLS 1.2 and 1.3 only"
                    ));
                }
            }
            if !settings.tls12 && !settings.tls13 {
                return Err("spec.tls: minVersion is above maxVersion".to_owned());
            }
            if let Some(protocols) = &tls.alpn_protocols {
                if let Some(other) = protocols
                    .iter()
                    .find(|p| !matches!(p.as_str(), "h2" | "http/1.1"))
                {
                    return Err(format!(
                        "spec.tls.alpnProtocols: {other:?}: the gateway does not implement it"
                    ));
                }
                settings.alpn = protocols
                    .iter()
                    .map(|protocol| protocol.as_bytes().to_vec())
                    .collect();
            }
        }
        if let Some(path) = &spec.path {
            settings.slashes = path.escaped_slashes_action.unwrap_or_default();
            settings.merge_slashes = !path.disable_merge_slashes;
        }
        if let Some(headers) = &spec.headers {
            settings.rate_limit_headers = !headers.disable_rate_limit_headers;
            settings.request_id = headers.request_id.unwrap_or_default();
        }
        let received = spec
            .timeout
            .as_ref()
            .and_then(|timeout| timeout.http.as_ref()?.request_received_timeout.as_ref());
        if let Some(text) = received {
            let time = duration::parse(text, "spec.timeout.http.requestReceivedTimeout")?;
            settings.request_received = Some(time).filter(|time| !time.is_zero());
        }
        Ok(Arc::new(settings))
    })
}

/// A Backend: servers outside the cluster.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) meta: Meta,
    pub(crate) spec: Result<(Arc<Endpoints>, Protocol), String>,
}

pub(crate) fn backend(object: &DynamicObject) -> Backend {
    let compile = || {
        let spec: BackendSpec = read(spec(object), "spec")?;
        if let Some(other) = spec.type_.as_deref().filter(|kind| *kind != "Endpoints") {
            return Err(format!("spec.type: {other:?}: the gateway does not implement it"));
        }
        let mut protocol = Protocol::Http1;
        for name in &spec.app_protocols {
            match name.as_str() {
                "gateway.envoyproxy.io/h2c" => protocol = Protocol::Http2,
                "gateway.envoyproxy.io/ws" | "gateway.envoyproxy.io/wss" => {}
                other => {
                    return Err(format!(
                        "spec.appProtocols: {other:?}: the gateway does not implement it"
                    ));
                }
            }
        }
        let mut list = Vec::new();
        for (i, endpoint) in spec.endpoints.iter().enumerate() {
            let (host, port) = match (&endpoint.fqdn, &endpoint.ip) {
                (Some(name), None) => (name.hostname.as_str(), name.port),
                (None, Some(ip)) => (ip.address.as_str(), ip.port),
                _ => {
                    return Err(format!(
                        "spec.endpoints[{i}]: exactly one of fqdn and ip must say where it is"
                    ));
                }
            };
            let tls = match &spec.tls {
                None => None,
                Some(tls) => {
                    if tls.well_known_ca_certificates.as_deref() != Some("System") {
                        return Err(
                            "spec.tls.wellKnownCACertificates: only System is implemented, and without it no certificate could be checked"
                                .to_owned(),
                        );
                    }
                    Some(tls.sni.as_deref().unwrap_or(host).into())
                }
            };
            list.push(Endpoint::new(Address::Outside {
                host: host.into(),
                port,
                tls,
            }));
        }
        if list.is_empty() {
            return Err("spec.endpoints: none is given".to_owned());
        }
        Ok((Arc::new(Endpoints::of(list)), protocol))
    };
    Backend {
        meta: Meta::of(object),
        spec: compile(),
    }
}
