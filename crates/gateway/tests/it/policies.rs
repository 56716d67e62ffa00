//! Policies: who is let through, and who is not.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{Request, StatusCode};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

use crate::support::{CLIENT, Cluster, SECRET, SECURITY, Server, TRAFFIC, backend_ref, condition};

/// A route `web` to an echo server.
async fn web() -> (Cluster, Server) {
    let cluster = Cluster::start().await;
    let server = Server::echo("web").await;
    cluster.service("web", &[&server]).await;
    cluster
        .route("web", json!([{"backendRefs": [backend_ref("web")]}]))
        .await;
    (cluster, server)
}

struct Issuer {
    key: EcdsaKeyPair,
    random: SystemRandom,
}

impl Issuer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
        Self { key, random }
    }

    fn keys(&self) -> Value {
        let point = self.key.public_key().as_ref();
        let part = |from: usize| URL_SAFE_NO_PAD.encode(&point[from..from + 32]);
        json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "one", "use": "sig", "alg": "ES256", "x": part(1), "y": part(33)}]})
    }

    fn token(&self, claims: Value) -> String {
        let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!(
            "{}.{}",
            encode(json!({"alg": "ES256", "typ": "JWT", "kid": "one"})),
            encode(claims)
        );
        let signature = self.key.sign(&self.random, text.as_bytes()).unwrap();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

#[tokio::test]
async fn tokens_are_checked_against_the_key_set() {
    let (cluster, _server) = web().await;
    let issuer = Issuer::new();
    let keys = issuer.keys().to_string();
    let fetches = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = std::sync::Arc::clone(&fetches);
    let server = Server::http(move |_| {
        let keys = keys.clone();
        counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Box::pin(async move { http::Response::new(crate::support::text(keys)) })
    })
    .await;
    cluster
        .policy(SECURITY, "web", json!({
            "jwt": {"providers": [{"name": "default", "issuer": "https://id.example.com", "audiences": ["shop"],
                "remoteJWKS": {"uri": format!("http://{}/jwks", server.address)}, "claimToHeaders": [{"claim": "sub", "header": "X-User"}]}]},
            "authorization": {"defaultAction": "Deny", "rules": [{"action": "Allow", "principal": {"jwt": {"provider": "default", "scopes": ["read"]}}}]},
        }))
        .await;
    let good = json!({"iss": "https://id.example.com", "aud": "shop", "sub": "ada", "scope": "read write", "exp": now() + 600});
    let with = |field: &str, value: Value| {
        let mut claims = good.clone();
        claims[field] = value;
        issuer.token(claims)
    };
    let other = Issuer::new().token(good.clone());
    let ask = async |token: &str| {
        let request = Request::get("/")
            .header("authorization", format!("Bearer {token}"))
            .header("x-user", "root");
        cluster.send("web", request).await
    };
    let reply = ask(&issuer.token(good.clone())).await;
    assert_eq!(
        (reply.status, &reply.seen()["headers"]["x-user"]),
        (StatusCode::OK, &json!("ada"))
    );
    for (token, status, body) in [
        (with("exp", json!(now() - 600)), 401, "Jwt is expired"),
        (with("nbf", json!(now() + 600)), 401, "Jwt not yet valid"),
        // What is no time must not be taken for no end.
        (with("exp", json!("never")), 401, "Jwt verification fails"),
        (
            with("iss", json!("https://evil.example.com")),
            401,
            "Jwt issuer is not configured",
        ),
        (
            with("aud", json!("bank")),
            403,
            "Audiences in Jwt are not allowed",
        ),
        (with("scope", json!("write")), 403, "RBAC: access denied"),
        (other, 401, "Jwt verification fails"),
        (
            "nonsense".to_owned(),
            401,
            "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
        ),
    ] {
        let reply = ask(&token).await;
        assert_eq!((reply.status.as_u16(), reply.body.as_str()), (status, body));
    }
    let reply = cluster.get("web", "/path").await;
    assert_eq!(
        (reply.status, reply.body.as_str()),
        (StatusCode::UNAUTHORIZED, "Jwt is missing")
    );
    assert_eq!(
        reply.headers["www-authenticate"],
        "Bearer realm=\"http://web.localhost/path\""
    );
    // Nobody signs with "none", and nobody with the public key as a secret.
    let none = format!(
        "{}.{}.",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#),
        URL_SAFE_NO_PAD.encode(good.to_string())
    );
    assert_eq!(ask(&none).await.status, StatusCode::UNAUTHORIZED);
    let shared = format!(
        "{}.{}.AAAA",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","kid":"one"}"#),
        URL_SAFE_NO_PAD.encode(good.to_string())
    );
    assert_eq!(ask(&shared).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(fetches.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[tokio::test]
async fn key_sets_that_cannot_be_had_let_nobody_through() {
    let (cluster, _server) = web().await;
    cluster
        .policy(SECURITY, "web", json!({"jwt": {"providers": [{"name": "default", "remoteJWKS": {"uri": "http://127.0.0.1:9/jwks"}}]}}))
        .await;
    let token = Issuer::new().token(json!({"sub": "ada"}));
    let reply = cluster
        .send(
            "web",
            Request::get("/").header("authorization", format!("Bearer {token}")),
        )
        .await;
    assert_eq!(
        (reply.status, reply.body.as_str()),
        (StatusCode::UNAUTHORIZED, "Jwks remote fetch is failed")
    );
}

#[tokio::test]
async fn api_keys_come_from_secrets() {
    let (cluster, _server) = web().await;
    let spec = json!({"apiKeyAuth": {"credentialRefs": [{"group": "", "kind": "Secret", "name": "keys"}],
        "extractFrom": [{"headers": ["X-API-Key"]}, {"params": ["key"]}], "forwardClientIDHeader": "X-Client", "sanitize": false}});
    let mut unresolved = spec.clone();
    unresolved["targetRefs"] =
        json!([{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "web"}]);
    cluster.create(SECURITY, "web", unresolved).await;
    cluster
        .until(SECURITY, "web", |policy| {
            condition(policy, "ancestors", "Accepted") == Some("False".into())
        })
        .await;
    // Without its Secret the policy cannot be followed, and the route is closed.
    assert_eq!(
        cluster.get("web", "/").await.status,
        StatusCode::INTERNAL_SERVER_ERROR
    );
    cluster
        .object(
            SECRET,
            "default",
            json!({"metadata": {"name": "keys"}, "stringData": {"partner": "s3cret\n"}}),
        )
        .await;
    cluster
        .until(SECURITY, "web", |policy| {
            condition(policy, "ancestors", "Accepted") == Some("True".into())
        })
        .await;
    let reply = cluster.get("web", "/").await;
    assert_eq!(
        (reply.status, reply.body.as_str()),
        (StatusCode::UNAUTHORIZED, "Client authentication failed.")
    );
    let wrong = cluster
        .send("web", Request::get("/").header("x-api-key", "guess"))
        .await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    let reply = cluster
        .send(
            "web",
            Request::get("/")
                .header("x-api-key", "s3cret")
                .header("x-client", "admin"),
        )
        .await;
    assert_eq!(
        (reply.status, &reply.seen()["headers"]["x-client"]),
        (StatusCode::OK, &json!("partner"))
    );
    assert_eq!(cluster.get("web", "/?key=s3cret").await.status, StatusCode::OK);
    // A key that is taken back no longer counts.
    cluster
        .patch(
            SECRET,
            "keys",
            json!({"data": {"partner": STANDARD.encode("other")}}),
        )
        .await;
    cluster
        .eventually("web", "/?key=s3cret", |reply| {
            reply.status == StatusCode::UNAUTHORIZED
        })
        .await;
}

#[tokio::test]
async fn passwords_come_from_htpasswd() {
    let (cluster, _server) = web().await;
    // printf lovelace | openssl dgst -sha1 -binary | base64
    let users = "ada:{SHA}MJgvYgf2tRctgBqviyzN0HpBdyY=";
    cluster
        .object(
            SECRET,
            "default",
            json!({"metadata": {"name": "users"}, "stringData": {".htpasswd": users}}),
        )
        .await;
    cluster
        .policy(
            SECURITY,
            "web",
            json!({"basicAuth": {"users": {"name": "users"}, "forwardUsernameHeader": "X-User"}}),
        )
        .await;
    let ask = async |credentials: &str| {
        let value = format!("Basic {}", STANDARD.encode(credentials));
        cluster
            .send("web", Request::get("/").header("authorization", value))
            .await
    };
    let reply = ask("ada:lovelace").await;
    assert_eq!(
        (reply.status, &reply.seen()["headers"]["x-user"]),
        (StatusCode::OK, &json!("ada"))
    );
    for credentials in ["ada:wrong", "eve:lovelace", "ada"] {
        assert_eq!(
            ask(credentials).await.status,
            StatusCode::UNAUTHORIZED,
            "{credentials}"
        );
    }
    let reply = cluster.get("web", "/").await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        reply.headers["www-authenticate"],
        "Basic realm=\"http://web.localhost/\""
    );
}

#[tokio::test]
async fn pages_of_allowed_origins_may_ask() {
    let (cluster, _server) = web().await;
    cluster
        .policy(SECURITY, "web", json!({
            "cors": {"allowOrigins": ["https://app.example.com"], "allowMethods": ["GET", "PUT"], "allowHeaders": ["Content-Type"], "exposeHeaders": ["X-Id"], "maxAge": "24h"},
            "authorization": {"defaultAction": "Deny"},
        }))
        .await;
    let preflight = Request::options("/")
        .header("origin", "https://app.example.com")
        .header("access-control-request-method", "PUT");
    let reply = cluster.send("web", preflight).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(
        reply.headers["access-control-allow-origin"],
        "https://app.example.com"
    );
    assert_eq!(reply.headers["access-control-allow-methods"], "GET, PUT");
    assert_eq!(reply.headers["access-control-max-age"], "86400");
    // A refusal can be read by the page, too.
    let reply = cluster
        .send(
            "web",
            Request::get("/").header("origin", "https://app.example.com"),
        )
        .await;
    assert_eq!(
        (reply.status, &reply.headers["access-control-expose-headers"]),
        (StatusCode::FORBIDDEN, &"X-Id".parse().unwrap())
    );
    let reply = cluster
        .send(
            "web",
            Request::get("/").header("origin", "https://evil.example.com"),
        )
        .await;
    assert!(!reply.headers.contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn addresses_are_the_peers_unless_a_policy_trusts_others() {
    let (cluster, _server) = web().await;
    cluster
        .policy(SECURITY, "web", json!({"authorization": {"defaultAction": "Deny", "rules": [{"action": "Allow", "principal": {"clientCIDRs": ["203.0.113.0/24"]}}]}}))
        .await;
    let forwarded = || Request::get("/").header("x-forwarded-for", "203.0.113.7");
    let reply = cluster.send("web", forwarded()).await;
    assert_eq!(
        (reply.status, reply.body.as_str()),
        (StatusCode::FORBIDDEN, "RBAC: access denied")
    );
    let target = json!([{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public"}]);
    cluster.create(CLIENT, "trust", json!({"targetRefs": target, "clientIPDetection": {"xForwardedFor": {"trustedCIDRs": ["127.0.0.0/8"]}}})).await;
    cluster
        .until(CLIENT, "trust", |policy| {
            condition(policy, "ancestors", "Accepted") == Some("True".into())
        })
        .await;
    assert_eq!(cluster.send("web", forwarded()).await.status, StatusCode::OK);
    assert_eq!(cluster.get("web", "/").await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn limits_limit_and_say_so() {
    let (cluster, _server) = web().await;
    cluster
        .policy(TRAFFIC, "web", json!({"rateLimit": {"type": "Local", "local": {"rules": [{"limit": {"requests": 3, "unit": "Hour"}}]}}}))
        .await;
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(cluster.get("web", "/").await.status.as_u16());
    }
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    let reply = cluster.get("web", "/").await;
    assert_eq!(reply.body, "local_rate_limited");
    assert_eq!(reply.headers["x-ratelimit-limit"], "3");
    assert_eq!(reply.headers["x-ratelimit-remaining"], "0");
    // A change of something else does not give anybody new tokens.
    cluster
        .patch(
            TRAFFIC,
            "web",
            json!({"spec": {"timeout": {"http": {"requestTimeout": "3s"}}}}),
        )
        .await;
    cluster
        .until(TRAFFIC, "web", |policy| {
            policy["status"]["ancestors"][0]["conditions"][0]["observedGeneration"]
                == policy["metadata"]["generation"]
        })
        .await;
    assert_eq!(
        cluster.get("web", "/").await.status,
        StatusCode::TOO_MANY_REQUESTS
    );
}

#[tokio::test]
async fn global_limits_count_clients_apart() {
    let (cluster, _server) = web().await;
    cluster
        .policy(TRAFFIC, "web", json!({"rateLimit": {"type": "Global", "global": {"rules": [
            {"clientSelectors": [{"headers": [{"name": "x-user", "type": "Distinct"}], "methods": [{"value": "POST"}]}], "limit": {"requests": 2, "unit": "Year"}}]}}}))
        .await;
    let post = async |user: &str| {
        cluster
            .send("web", Request::post("/").header("x-user", user))
            .await
    };
    let mut statuses = Vec::new();
    for user in ["ada", "ada", "ada", "bob"] {
        statuses.push(post(user).await.status.as_u16());
    }
    assert_eq!(statuses, [200, 200, 429, 200]);
    let reply = post("ada").await;
    assert_eq!(reply.headers["x-envoy-ratelimited"], "true");
    assert_eq!(reply.headers["x-ratelimit-limit"], "2, 2;w=31536000");
    assert_eq!(
        cluster
            .send("web", Request::get("/").header("x-user", "ada"))
            .await
            .status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn what_is_not_implemented_closes_the_route() {
    let (cluster, _server) = web().await;
    assert_eq!(cluster.get("web", "/").await.status, StatusCode::OK);
    let target = json!([{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "web"}]);
    cluster
        .create(
            SECURITY,
            "web",
            json!({"targetRefs": target, "oidc": {"clientID": "a"}}),
        )
        .await;
    let policy = cluster
        .until(SECURITY, "web", |policy| {
            condition(policy, "ancestors", "Accepted") == Some("False".into())
        })
        .await;
    let message = policy["status"]["ancestors"][0]["conditions"][0]["message"]
        .as_str()
        .unwrap();
    assert!(
        message.contains("spec") && message.contains("`oidc`: the gateway does not implement it"),
        "{message}"
    );
    assert_eq!(
        cluster.get("web", "/").await.status,
        StatusCode::INTERNAL_SERVER_ERROR
    );
    cluster.delete(SECURITY, "web").await;
    cluster
        .eventually("web", "/", |reply| reply.status == StatusCode::OK)
        .await;
}

#[tokio::test]
async fn a_policy_of_the_gateway_holds_until_a_route_has_its_own() {
    let (cluster, _server) = web().await;
    let target = json!([{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public"}]);
    cluster
        .create(
            SECURITY,
            "all",
            json!({"targetRefs": target, "authorization": {"defaultAction": "Deny"}}),
        )
        .await;
    cluster
        .until(SECURITY, "all", |policy| {
            condition(policy, "ancestors", "Accepted") == Some("True".into())
        })
        .await;
    assert_eq!(cluster.get("web", "/").await.status, StatusCode::FORBIDDEN);
    cluster
        .policy(
            SECURITY,
            "web",
            json!({"authorization": {"defaultAction": "Allow"}}),
        )
        .await;
    assert_eq!(cluster.get("web", "/").await.status, StatusCode::OK);
    let policy = cluster
        .until(SECURITY, "all", |policy| {
            condition(policy, "ancestors", "Overridden") == Some("True".into())
        })
        .await;
    let message = policy["status"]["ancestors"][0]["conditions"][1]["message"]
        .as_str()
        .unwrap();
    assert!(message.contains("HTTPRoute default/web"), "{message}");
}
