//! `Endpoint` objects that developers write: further exposures of a component, in every environment or in one.

use std::collections::BTreeMap;

use choreo_api::{
    conditions::reasons,
    v1alpha1::{
        ApiKeyAuthentication, Authentication, AuthenticationType, AuthorizedApiType, Cors, Endpoint,
        EndpointPolicy, EndpointRateLimit, GrpcAuthorization, JwtAuthentication, OAuth2Policy, PolicyType,
        RateLimit, RequestLimit, RestAuthorization,
        common::{EndpointType, ExposeLevel},
    },
};
use kube::ResourceExt as _;
use serde::Serialize;

use super::{
    Exposed, Exposure, Guard, OperationLimit, ScopedOperation, Upstream, base_path,
    declared::{external, of_own},
    insert_level, is_derived, own_name, port,
};
use crate::{
    problem::{Problem, Problems, quoted_list},
    world::{Kind, ObjectRef, World, is_default_track},
};

impl Exposed<'_> {
    /// `Endpoint` objects that a developer wrote add an exposure in every environment.
    pub(super) fn add_endpoints(
        &self,
        world: &World,
        all: &mut BTreeMap<String, Exposure>,
        problems: &mut Problems,
    ) {
        let component = ObjectRef::new(Kind::Component, &self.place.organization, self.component);
        for endpoint in world.referring::<Endpoint>(&component) {
            if is_derived(endpoint) || endpoint.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let spec = &endpoint.spec;
            let here = spec
                .environment
                .as_ref()
                .is_none_or(|e| *e == self.place.environment);
            if !here
                || spec.track.as_deref().unwrap_or_default() != self.track && !is_default_track(self.track)
            {
                continue;
            }
            let of = format!("Endpoint {:?}", endpoint.name_any());
            let Some(mut exposure) = problems.take(self.written(endpoint, all, &of)) else {
                continue;
            };
            if let Some(path) = &spec.backend_ref.base_path {
                exposure.base_path =
                    base_path(Some(path), &format!("{of} spec.backendRef.basePath"), problems);
            }
            for level in spec.levels() {
                insert_level(&mut exposure.levels, level, || of.clone());
            }
            let network = spec.network_visibilities.as_ref();
            for level in [ExposeLevel::Organization, ExposeLevel::Public] {
                let own = match level {
                    ExposeLevel::Public => network.and_then(|n| n.public.as_ref()),
                    _ => network.and_then(|n| n.organization.as_ref()),
                };
                let all_policies: Vec<&EndpointPolicy> = spec
                    .policies
                    .iter()
                    .chain(own.iter().flat_map(|l| &l.policies))
                    .collect();
                if all_policies.is_empty() {
                    continue;
                }
                let mut guard = Guard::default();
                for written in all_policies {
                    let mut add = Translation {
                        exposed: self,
                        guard: &mut guard,
                        written,
                        of: &of,
                    };
                    if let Err(problem) = add.policy() {
                        problems.push(problem);
                    }
                }
                exposure.guards.insert(level, guard);
            }
            all.insert(exposure.name.clone(), exposure);
        }
    }

    /// The endpoint that an object is about: one of the workload's, or a server outside.
    fn written(
        &self,
        endpoint: &Endpoint,
        all: &BTreeMap<String, Exposure>,
        of: &str,
    ) -> Result<Exposure, Problems> {
        let spec = &endpoint.spec;
        let invalid = |message: String| Problems::from(Problem::error(reasons::INVALID, message));
        if let Some((name, target)) = own_name(endpoint).zip(spec.backend_ref.target.as_ref()) {
            if all.contains_key(&name) {
                return Err(invalid(format!(
                    "{of}: component {:?} has another endpoint called {name:?}: set spec.endpointName to a name of its own",
                    self.component
                )));
            }
            let type_ = spec.endpoint_type().unwrap_or(EndpointType::HTTP);
            let target = external(&target.url, type_)
                .map_err(|why| invalid(format!("{of} spec.backendRef.target.url: {why}")))?;
            return Ok(Exposure {
                upstream: Upstream::External(target.clone()),
                ..of_own(&name, type_, target.port)
            });
        }
        let by_port = |port: u16| all.values().find(|e| e.port == port).map(|e| e.name.clone());
        let wanted = spec.backend_ref.port().and_then(port);
        let name = match (&spec.endpoint_name, wanted) {
            (Some(name), _) => Some(name.clone()).filter(|n| all.contains_key(n)),
            (None, Some(port)) => by_port(port),
            (None, None) if all.len() == 1 => all.keys().next().cloned(),
            (None, None) => None,
        };
        let Some(base) = name.and_then(|n| all.get(&n)) else {
            return Err(invalid(format!(
                "{of} spec.backendRef: the workload of component {:?} has no such endpoint or port (it has {})",
                self.component,
                quoted_list(all.values().map(|e| e.name.as_str())),
            )));
        };
        let mut exposure = base.clone();
        if let Some(type_) = spec.endpoint_type().filter(|t| *t != exposure.type_) {
            exposure.type_ = type_;
            exposure.routing = super::routing(type_);
        }
        Ok(exposure)
    }
}

/// Translates one policy of an `Endpoint` object to those of API classes.
struct Translation<'a> {
    exposed: &'a Exposed<'a>,
    guard: &'a mut Guard,
    written: &'a EndpointPolicy,
    of: &'a str,
}

impl Translation<'_> {
    fn refuse<T>(&self, what: &str) -> Result<T, Problem> {
        Err(Problem::error(
            reasons::NOT_SUPPORTED,
            format!("{} policy {:?}: {what}", self.of, self.written.name),
        ))
    }

    /// Two ways of authentication on one endpoint would contradict each other: which counts is not something to guess.
    fn authenticate(&mut self, authentication: Authentication) -> Result<(), Problem> {
        if self.guard.policy.authentication.is_some() {
            return self.refuse("a second way of authentication; keep one");
        }
        self.guard.policy.authentication = Some(authentication);
        Ok(())
    }

    fn policy(&mut self) -> Result<(), Problem> {
        let Some(spec) = &self.written.policy_spec else {
            return self.refuse("has no policySpec");
        };
        let given = match self.written.type_ {
            PolicyType::Oauth2 => spec.oauth2.is_some(),
            PolicyType::ApiKey => spec.api_key_auth.is_some(),
            PolicyType::BasicAuth => spec.basic_auth.is_some(),
            PolicyType::RateLimit => spec.rate_limit.is_some(),
            PolicyType::Cors => spec.cors.is_some(),
            PolicyType::Mediation => spec.mediation.is_some(),
        };
        if !given {
            return self.refuse(&format!(
                "its type is {}, but policySpec has no settings for that type",
                text(&self.written.type_)
            ));
        }
        if let Some(policy) = &spec.oauth2 {
            self.oauth2(policy)?;
        }
        if let Some(key) = &spec.api_key_auth {
            let scheme = key.key_source.header_auth_scheme.as_str();
            // The gateway takes this word off the front of a header by itself, and no other.
            if !scheme.is_empty() && !scheme.eq_ignore_ascii_case("bearer") {
                return self.refuse(&format!(
                    "headerAuthScheme {scheme:?} is not one that the gateway takes off; leave it out, or use Bearer"
                ));
            }
            if key.key_source.header.is_empty() {
                return self.refuse("keySource.header: not given");
            }
            self.authenticate(Authentication {
                type_: AuthenticationType::ApiKey,
                api_key: Some(ApiKeyAuthentication {
                    header: Some(key.key_source.header.clone()),
                    ..ApiKeyAuthentication::default()
                }),
                ..Authentication::default()
            })?;
            self.guard.more_keys.clone_from(&key.secret_refs);
        }
        if spec.basic_auth.is_some() {
            return self.refuse(
                "the gateway wants the users of basic authentication in one Secret of htpasswd form, and this names a Secret for each password: use an APIClass with authentication.basic.secretRef",
            );
        }
        if let Some(cors) = &spec.cors {
            self.guard.policy.cors = Some(Cors {
                allow_origins: cors.allow_origins.clone(),
                allow_methods: cors.allow_methods.clone(),
                allow_headers: cors.allow_headers.clone(),
                expose_headers: cors.expose_headers.clone(),
                max_age: cors.max_age,
                allow_credentials: cors.allow_credentials,
            });
        }
        if let Some(limit) = &spec.rate_limit {
            self.rate_limit(limit)?;
        }
        if let Some(mediation) = &spec.mediation {
            self.guard.policy.mediation = Some(mediation.clone());
        }
        Ok(())
    }

    fn rate_limit(&mut self, limit: &EndpointRateLimit) -> Result<(), Problem> {
        let EndpointRateLimit {
            api_level,
            operation_level,
        } = limit;
        let single = operation_level
            .as_ref()
            .map(|o| o.rest.as_slice())
            .unwrap_or_default();
        if api_level.is_none() && single.is_empty() {
            return self.refuse("a rate limit without apiLevel or operationLevel limits nothing");
        }
        if let Some(RequestLimit {
            time_unit,
            request_limit,
        }) = api_level
        {
            self.guard.policy.rate_limit = Some(RateLimit {
                requests: *request_limit,
                window: self.window(time_unit)?,
                scope: None,
            });
        }
        for one in single {
            let window = self.window(&one.time_unit)?;
            self.guard.limits.push(OperationLimit {
                method: one.method.to_ascii_uppercase(),
                path: one.target.clone(),
                requests: one.request_limit,
                window,
            });
        }
        Ok(())
    }

    fn window(&self, unit: &str) -> Result<String, Problem> {
        let window = match unit.to_ascii_lowercase().trim_end_matches('s') {
            "second" | "sec" | "1" => "1s",
            "minute" | "min" | "1m" => "1m",
            "hour" | "h" | "1h" => "1h",
            "day" | "d" | "1d" => "1d",
            _ => {
                return self.refuse(&format!(
                    "timeUnit {unit:?} is none of second, minute, hour and day"
                ));
            }
        };
        Ok(window.to_owned())
    }

    fn oauth2(&mut self, policy: &OAuth2Policy) -> Result<(), Problem> {
        let place = self.exposed.place;
        let Some(jwks) = &place.jwks else {
            return self.refuse(&format!(
                "demands tokens, but Environment {:?} does not say where their keys are: set spec.gateway.security.remoteJwks.uri",
                place.environment
            ));
        };
        let authorization = &policy.jwt.authorization;
        let mut operations = Vec::new();
        let mut headers = Vec::new();
        match authorization.api_type {
            AuthorizedApiType::REST => {
                if let Some(RestAuthorization {
                    claims_to_headers,
                    operations: all,
                }) = &authorization.rest
                {
                    headers.clone_from(claims_to_headers);
                    operations.extend(
                        all.iter()
                            .map(|o| (text(&o.method), o.target.clone(), o.scopes.clone())),
                    );
                }
            }
            AuthorizedApiType::GRPC => {
                if let Some(GrpcAuthorization {
                    claims_to_headers,
                    operations: all,
                }) = &authorization.grpc
                {
                    headers.clone_from(claims_to_headers);
                    for service in all {
                        operations.extend(service.methods.iter().map(|m| {
                            (
                                "POST".to_owned(),
                                format!("/{}/{}", service.name, m.name),
                                m.scopes.clone(),
                            )
                        }));
                    }
                }
            }
            AuthorizedApiType::GraphQL => {
                if let Some(graphql) = &authorization.graphql {
                    headers.clone_from(&graphql.claims_to_headers);
                    if graphql.operations.iter().any(|o| !o.scopes.is_empty()) {
                        return self.refuse(
                            "the gateway does not read GraphQL queries, so it cannot demand scopes of single operations",
                        );
                    }
                }
            }
        }
        let scoped = operations.into_iter().filter(|(_, _, scopes)| !scopes.is_empty());
        self.guard.operations = scoped
            .enumerate()
            .map(|(i, (method, path, scopes))| ScopedOperation {
                name: format!("operation-{i}"),
                methods: vec![method],
                path,
                scopes,
            })
            .collect();
        let jwt = JwtAuthentication {
            jwks: jwks.clone(),
            claims: policy.jwt.claims.clone(),
            claims_to_headers: headers,
            ..JwtAuthentication::default()
        };
        self.authenticate(Authentication {
            jwt: Some(jwt),
            ..Authentication::default()
        })
    }
}

/// A value as manifests write it.
fn text(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        _ => String::new(),
    }
}
