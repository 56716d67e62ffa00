//! What is declared connects, limits limit, and nothing else gets through.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use super::{Laptop, ORGANIZATION, PUBLIC, engine, service};

#[test]
fn what_is_declared_connects_and_nothing_else() {
    let Some(host) = engine() else { return };
    let (laptop, issuer) = (Laptop::start(host), Issuer::start());
    let to_back = "{back: {type: api, params: {componentName: back, endpoint: http}, inject: {env: [{name: BACK, value: '{{ .host }}:{{ .port }}'}]}}}";
    let manifests = [
        "apiVersion: openchoreo.dev/v1alpha1\nkind: Project\nmetadata: {name: other, namespace: default}\nspec: {deploymentPipelineRef: default}\n"
            .to_owned(),
        "apiVersion: openchoreo.dev/v1alpha1\nkind: APIClass\nmetadata: {name: limited, namespace: default}\nspec: {restPolicy: {defaults: {rateLimit: {requests: 3, window: 1h}}}}\n"
            .to_owned(),
        format!("apiVersion: openchoreo.dev/v1alpha1\nkind: APIClass\nmetadata: {{name: known, namespace: default}}\nspec: {{restPolicy: {{defaults: {{authentication: {{type: jwt, jwt: {{jwks: '{}', issuer: 'http://issuer', audience: [shop]}}}}}}}}}}\n", issuer.keys_at),
        service("default", "front", "Public", "default", to_back),
        service("default", "back", "Organization", "default", "{}"),
        service("default", "few", "Public", "limited", "{}"),
        service("default", "closed", "Public", "known", "{}"),
        service("other", "stranger", "Public", "default", "{}"),
    ];
    laptop.up().apply(&manifests.join("---\n")).ok();
    laptop.until(PUBLIC, "/default/front", |status, _| status == 200);
    laptop.until(ORGANIZATION, "/default/back", |status, body| {
        (status, body) == (200, "back")
    });
    laptop.until(PUBLIC, "/other/stranger", |status, _| status == 200);
    // For the organization only.
    assert_eq!(laptop.get(PUBLIC, "/default/back").0, 404);

    // Within the cell, at the address that is injected.
    let (_, environment) = laptop.get(PUBLIC, "/default/front/env");
    let back = environment
        .lines()
        .find_map(|line| line.strip_prefix("BACK="))
        .unwrap()
        .to_owned();
    let (status, body) = laptop.until(PUBLIC, &format!("/default/front/call?{back}/"), |status, _| {
        status == 200
    });
    assert!(status == 200 && body.contains("back"), "{body}");

    // Out of another cell: neither the Service nor the gateway that nobody declared.
    for target in [
        format!("{back}/"),
        format!("{ORGANIZATION}:{}/default/back", laptop.port()),
    ] {
        let (status, body) = laptop.get(PUBLIC, &format!("/other/stranger/call?{target}"));
        assert!(status >= 500, "{target}: {status} {body}");
    }

    // Three in an hour, and no fourth.
    laptop.until(PUBLIC, "/default/few", |status, _| status == 200 || status == 429);
    let answers: Vec<u16> = (0..4).map(|_| laptop.get(PUBLIC, "/default/few").0).collect();
    assert_eq!(*answers.last().unwrap(), 429, "{answers:?}");
    assert!(
        answers.iter().filter(|status| **status == 200).count() < 3,
        "{answers:?}"
    );

    // With a token of the issuer, for this audience and in time; and with no other.
    laptop.until(PUBLIC, "/default/closed", |status, _| status == 401);
    let now = jiff::Timestamp::now().as_second();
    let claims = json!({"iss": "http://issuer", "aud": "shop", "sub": "ada", "exp": now + 600});
    let call = |token: &str| {
        let header = format!("authorization: Bearer {token}");
        laptop.get_with(PUBLIC, "/default/closed", &header)
    };
    // The gateway asks for a token before there is anybody to pass the call on to.
    let token = issuer.token(&claims);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let mut answer = call(&token);
    while answer.0 == 503 && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(50));
        answer = call(&token);
    }
    assert_eq!((answer.0, answer.1.as_str()), (200, "closed"));
    let with = |field: &str, value: Value| {
        let mut other = claims.clone();
        other[field] = value;
        issuer.token(&other)
    };
    for (token, status) in [
        (with("exp", json!(now - 600)), 401),
        (with("iss", json!("http://somebody")), 401),
        (with("aud", json!("bank")), 403),
        (Issuer::start().token(&claims), 401),
    ] {
        let (found, body) = call(&token);
        assert_eq!(found, status, "{body}");
    }
}

/// Somebody who issues tokens, and serves the keys to check them with.
struct Issuer {
    key: EcdsaKeyPair,
    keys_at: String,
}

impl Issuer {
    fn start() -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random);
        let key = key.unwrap();
        let point = key.public_key().as_ref();
        let part = |from: usize| URL_SAFE_NO_PAD.encode(&point[from..from + 32]);
        let keys = json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "one", "use": "sig", "alg": "ES256", "x": part(1), "y": part(33)}]});
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let keys_at = format!("http://{}/keys", listener.local_addr().unwrap());
        let keys = keys.to_string();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head);
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{keys}",
                    keys.len()
                );
            }
        });
        Self { key, keys_at }
    }

    fn token(&self, claims: &Value) -> String {
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": "one"});
        let text = [&header, claims]
            .map(|part| URL_SAFE_NO_PAD.encode(part.to_string()))
            .join(".");
        let signature = self.key.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}
