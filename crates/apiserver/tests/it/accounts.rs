//! Service accounts: their tokens, what namespaces and Pods get of them. Expected answers are kube-apiserver's.

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use choreo_apiserver::UserInfo;
use choreo_apiserver::authn::{Authenticator, Unauthorized};
use http::{HeaderMap, HeaderValue, Request};
use serde_json::{Value, json};

use crate::support::{TestServer, config_map};

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const PODS: &str = "/api/v1/namespaces/default/pods";
const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const ISSUER: &str = "https://kubernetes.default.svc";

fn account(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
}

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [{"name": "a", "image": "x"}]}})
}

async fn with_robot() -> (TestServer, String) {
    let server = TestServer::with(|options| {
        options.authenticator = Authenticator::new().with_token("static", UserInfo::new("jane", ["dev"]));
        options.certificate_authority = "-----BEGIN CERTIFICATE-----\nours\n".to_owned();
    });
    let robot = server.post(ACCOUNTS, account("robot")).await.expect(201);
    let uid = robot["metadata"]["uid"].as_str().unwrap().to_owned();
    (server, uid)
}

async fn request(server: &TestServer, spec: Value) -> Value {
    let path = format!("{ACCOUNTS}/robot/token");
    server.post(&path, json!({"spec": spec})).await.expect(201)
}

async fn token(server: &TestServer, spec: Value) -> String {
    let answer = request(server, spec).await;
    answer["status"]["token"].as_str().unwrap().to_owned()
}

async fn review(server: &TestServer, spec: Value) -> Value {
    server.post(REVIEWS, json!({"spec": spec})).await.expect(201)["status"].clone()
}

fn claims(token: &str) -> Value {
    let body = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).unwrap()).unwrap()
}

/// Whom the server takes a bearer token for, on its way in.
fn bearer(server: &TestServer, path: &str, token: &str) -> Result<Option<UserInfo>, Unauthorized> {
    let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    let headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, value)]);
    server.server.authenticator().authenticate(None, path, &headers)
}

#[tokio::test]
async fn a_token_names_account_audience_and_time() {
    let (server, uid) = with_robot().await;
    let before = jiff::Timestamp::now().as_second();
    let answer = request(&server, json!({})).await;
    let expected = json!({"audiences": [ISSUER], "expirationSeconds": 3600, "boundObjectRef": null});
    assert_eq!(answer["spec"], expected);
    assert_eq!(
        (
            &answer["kind"],
            &answer["metadata"]["name"],
            &answer["metadata"]["uid"]
        ),
        (&json!("TokenRequest"), &json!("robot"), &json!(uid))
    );
    let claims = claims(answer["status"]["token"].as_str().unwrap());
    let from = claims["iat"].as_i64().unwrap();
    assert!((before..before + 60).contains(&from), "{claims}");
    assert_eq!(claims["exp"], from + 3600);
    assert_eq!(claims["nbf"], from);
    assert_eq!(claims["aud"], json!([ISSUER]));
    assert_eq!(claims["iss"], ISSUER);
    assert_eq!(claims["sub"], "system:serviceaccount:default:robot");
    assert_eq!(
        claims["kubernetes.io"],
        json!({"namespace": "default", "serviceaccount": {"name": "robot", "uid": uid}})
    );
    let until: jiff::Timestamp = answer["status"]["expirationTimestamp"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(until.as_second(), from + 3600);
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused() {
    let (server, _) = with_robot().await;
    let path = format!("{ACCOUNTS}/robot/token");
    let bound =
        |kind: &str| json!({"spec": {"boundObjectRef": {"kind": kind, "apiVersion": "v1", "name": "nope"}}});
    for (body, code, message) in [
        (
            json!({"spec": {"expirationSeconds": 10}}),
            422,
            "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 10: may not specify a \
             duration less than 10 minutes",
        ),
        (
            json!({"spec": {"expirationSeconds": 4_294_967_297_u64}}),
            422,
            "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 4294967297: may not \
             specify a duration larger than 2^32 seconds",
        ),
        (bound("Pod"), 404, "pods \"nope\" not found"),
        (bound("Secret"), 404, "secrets \"nope\" not found"),
        (
            bound("ConfigMap"),
            400,
            "cannot bind token to object of type /v1, Kind=ConfigMap",
        ),
        (
            json!({"metadata": {"name": "other"}}),
            422,
            "TokenRequest.authentication.k8s.io \"robot\" is invalid: metadata.name: Invalid value: \"other\": must match the \
             service account name if specified",
        ),
    ] {
        let refused = server.post(&path, body).await.expect(code);
        assert_eq!(refused["message"], message);
    }
    let nobody = server
        .post(&format!("{ACCOUNTS}/nobody/token"), json!({}))
        .await
        .expect(404);
    assert_eq!(nobody["message"], "serviceaccounts \"nobody\" not found");
    server.get(&path).await.expect(405);
}

#[tokio::test]
async fn reviews_say_whose_a_token_is() {
    let (server, uid) = with_robot().await;
    let robot = token(&server, json!({"expirationSeconds": 600})).await;
    let jti = claims(&robot)["jti"].clone();
    let expected = json!({
        "authenticated": true,
        "user": {
            "username": "system:serviceaccount:default:robot",
            "uid": uid,
            "groups": ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"],
            "extra": {"authentication.kubernetes.io/credential-id": [format!("JTI={}", jti.as_str().unwrap())]},
        },
        "audiences": [ISSUER],
    });
    assert_eq!(review(&server, json!({"token": robot})).await, expected);
    assert_eq!(
        review(&server, json!({"token": robot, "audiences": ["a", ISSUER]})).await,
        expected
    );
    assert_eq!(
        review(&server, json!({"token": robot, "audiences": ["a"]})).await,
        json!({"user": {}, "error": format!("[invalid bearer token, token audiences [{ISSUER:?}] is invalid for the target audiences [\"a\"]]")})
    );
    for nobodys in ["junk", "a.b.c"] {
        let answer = review(&server, json!({"token": nobodys})).await;
        assert_eq!(
            answer,
            json!({"user": {}, "error": "invalid bearer token"}),
            "{nobodys}"
        );
    }
    assert_eq!(
        review(&server, json!({"token": "static"})).await,
        json!({"authenticated": true, "user": {"username": "jane", "groups": ["dev", "system:authenticated"]}, "audiences": [ISSUER]})
    );
    assert_eq!(
        review(&server, json!({"token": "static", "audiences": ["a"]})).await,
        json!({"user": {}, "error": "invalid bearer token"})
    );
    let empty = server.post(REVIEWS, json!({"spec": {}})).await.expect(400);
    assert_eq!(
        empty["message"],
        "token is required for TokenReview in authentication"
    );
}

#[tokio::test]
async fn a_token_counts_where_it_is_from_and_as_it_was_signed() {
    let (server, _) = with_robot().await;
    let robot = token(&server, json!({})).await;
    let user = bearer(&server, "/api/v1/pods", &robot).unwrap().unwrap();
    assert_eq!(user.name, "system:serviceaccount:default:robot");
    assert!(user.is_in("system:serviceaccounts:default"));
    bearer(&server, "/clusters/control/api/v1/pods", &robot)
        .unwrap()
        .unwrap();
    // The other cluster has no such account, though its tokens have the same issuer and key.
    assert_eq!(
        bearer(&server, "/clusters/local/api/v1/pods", &robot),
        Err(Unauthorized)
    );
    assert_eq!(
        bearer(&server, "/clusters/none/api/v1/pods", &robot),
        Err(Unauthorized)
    );
    // Another's audience.
    let others = token(&server, json!({"audiences": ["vault"]})).await;
    assert_eq!(bearer(&server, "/api", &others), Err(Unauthorized));
    let reviewed = review(&server, json!({"token": others, "audiences": ["vault"]})).await;
    assert_eq!(reviewed["audiences"], json!(["vault"]));
    // Changed claims under the old signature, and a signature of nobody.
    let [header, _, signature] = robot.split('.').collect::<Vec<_>>()[..] else {
        panic!("{robot}");
    };
    let mut better = claims(&robot);
    better["sub"] = "system:serviceaccount:kube-system:admin".into();
    let forged = format!(
        "{header}.{}.{signature}",
        URL_SAFE_NO_PAD.encode(better.to_string())
    );
    let unsigned = format!(
        "{}.{}.",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#),
        URL_SAFE_NO_PAD.encode(claims(&robot).to_string())
    );
    for wrong in [forged, unsigned] {
        assert_eq!(bearer(&server, "/api", &wrong), Err(Unauthorized));
        let answer = review(&server, json!({"token": wrong})).await;
        assert_eq!(answer["user"], json!({}), "{answer}");
    }
}

#[tokio::test]
async fn a_token_ends_with_what_it_is_bound_to() {
    let (server, _) = with_robot().await;
    let secret = server
        .post(SECRETS, json!({"metadata": {"name": "s"}}))
        .await
        .expect(201);
    let reference = json!({"kind": "Secret", "apiVersion": "v1", "name": "s"});
    let bound = token(&server, json!({"boundObjectRef": reference})).await;
    assert_eq!(
        claims(&bound)["kubernetes.io"]["secret"],
        json!({"name": "s", "uid": secret["metadata"]["uid"]})
    );
    let wrong = json!({"boundObjectRef": {"kind": "Secret", "apiVersion": "v1", "name": "s", "uid": "nope"}});
    let refused = server
        .post(&format!("{ACCOUNTS}/robot/token"), json!({"spec": wrong}))
        .await
        .expect(409);
    assert_eq!(
        refused["message"],
        "Operation cannot be fulfilled on Secret \"s\": the UID in the bound object reference (nope) does not match the UID in \
         record. The object might have been deleted and then recreated"
    );
    bearer(&server, "/api", &bound).unwrap().unwrap();
    server.delete(&format!("{SECRETS}/s")).await.expect(200);
    assert_eq!(bearer(&server, "/api", &bound), Err(Unauthorized));
    // Another one of the name is another one.
    server
        .post(SECRETS, json!({"metadata": {"name": "s"}}))
        .await
        .expect(201);
    assert_eq!(bearer(&server, "/api", &bound), Err(Unauthorized));

    let free = token(&server, json!({})).await;
    server.delete(&format!("{ACCOUNTS}/robot")).await.expect(200);
    assert_eq!(bearer(&server, "/api", &free), Err(Unauthorized));
    server.post(ACCOUNTS, account("robot")).await.expect(201);
    assert_eq!(bearer(&server, "/api", &free), Err(Unauthorized));
}

#[tokio::test]
async fn a_token_of_a_pod_says_where_it_runs() {
    let (server, _) = with_robot().await;
    server
        .post("/api/v1/nodes", json!({"metadata": {"name": "n1"}}))
        .await
        .expect(201);
    let mut own = pod("own");
    own["spec"]["serviceAccountName"] = "robot".into();
    own["spec"]["nodeName"] = "n1".into();
    let made = server.post(PODS, own).await.expect(201);
    server.post(PODS, pod("others")).await.expect(201);
    let reference = |name: &str| json!({"kind": "Pod", "apiVersion": "v1", "name": name});
    let refused = server
        .post(
            &format!("{ACCOUNTS}/robot/token"),
            json!({"spec": {"boundObjectRef": reference("others")}}),
        )
        .await
        .expect(400);
    assert_eq!(
        refused["message"],
        "cannot bind token for serviceaccount \"robot\" to pod running with different serviceaccount name."
    );
    // What a kubelet asks for: short to the eye, a year long for clients that read it once.
    let answer = request(
        &server,
        json!({"boundObjectRef": reference("own"), "expirationSeconds": 3607}),
    )
    .await;
    let token = answer["status"]["token"].as_str().unwrap();
    let claims = claims(token);
    let from = claims["iat"].as_i64().unwrap();
    assert_eq!(claims["exp"], from + 365 * 24 * 3600);
    assert_eq!(claims["kubernetes.io"]["warnafter"], from + 3607);
    let extra = review(&server, json!({"token": token})).await["user"]["extra"].clone();
    assert_eq!(extra["authentication.kubernetes.io/pod-name"], json!(["own"]));
    assert_eq!(
        extra["authentication.kubernetes.io/pod-uid"],
        json!([made["metadata"]["uid"]])
    );
    assert_eq!(extra["authentication.kubernetes.io/node-name"], json!(["n1"]));
}

#[tokio::test]
async fn keys_and_issuer_can_be_found() {
    let (server, _) = with_robot().await;
    let found = server
        .request(
            "GET",
            "/.well-known/openid-configuration",
            &[("host", "k:6443")],
            Body::empty(),
        )
        .await;
    assert_eq!(found.header("content-type"), "application/json");
    let found = found.expect(200);
    assert_eq!(found["issuer"], ISSUER);
    assert_eq!(found["jwks_uri"], "https://k:6443/openid/v1/jwks");
    assert_eq!(found["response_types_supported"], json!(["id_token"]));
    let keys = server.get("/openid/v1/jwks").await;
    assert_eq!(keys.header("content-type"), "application/jwk-set+json");
    let keys = keys.expect(200);
    let key = &keys["keys"][0];
    assert_eq!(
        (&key["kty"], &key["crv"], &key["alg"]),
        (&json!("EC"), &json!("P-256"), &json!("ES256"))
    );
    // The key verifies a token, by somebody who only knows JWK.
    let token = token(&server, json!({})).await;
    let header: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap()).unwrap();
    assert_eq!(header, json!({"alg": "ES256", "kid": key["kid"]}));
    let coordinate = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap();
    let point = [vec![4], coordinate("x"), coordinate("y")].concat();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    ring::signature::UnparsedPublicKey::new(&ring::signature::ECDSA_P256_SHA256_FIXED, point)
        .verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
        .unwrap();
    // Not for everybody: only those whom a role lets in.
    let stranger = Request::get("/openid/v1/jwks").extension(UserInfo::new("jane", ["dev"]));
    assert_eq!(
        server.send(stranger.body(Body::empty()).unwrap()).await.status,
        403
    );
    let robot = UserInfo::new("system:serviceaccount:default:robot", ["system:serviceaccounts"]);
    let robot = Request::get("/openid/v1/jwks").extension(robot);
    assert_eq!(server.send(robot.body(Body::empty()).unwrap()).await.status, 200);
}

#[tokio::test]
async fn namespaces_have_an_account_and_the_certificates() {
    let (server, _) = with_robot().await;
    server
        .post("/api/v1/namespaces", json!({"metadata": {"name": "new"}}))
        .await
        .expect(201);
    let (account, ca) = (
        "/api/v1/namespaces/new/serviceaccounts/default",
        "/api/v1/namespaces/new/configmaps/kube-root-ca.crt",
    );
    let there = async |path: &str| (server.get(path).await.status == 200).then_some(());
    server.until("account", async || there(account).await).await;
    server.until("certificates", async || there(ca).await).await;
    let found = server.get(ca).await.expect(200);
    assert_eq!(
        found["data"],
        json!({"ca.crt": "-----BEGIN CERTIFICATE-----\nours\n"})
    );
    // What is taken away or changed comes back.
    let first = server.get(account).await.expect(200)["metadata"]["uid"].clone();
    server.delete(account).await.expect(200);
    server
        .until("another account", async || {
            let found = server.get(account).await;
            (found.status == 200 && found.json()["metadata"]["uid"] != first).then_some(())
        })
        .await;
    server
        .put(ca, config_map("kube-root-ca.crt", json!({"ca.crt": "theirs"})))
        .await
        .expect(200);
    server
        .until("own certificates", async || {
            (server.get(ca).await.json()["data"]["ca.crt"] != "theirs").then_some(())
        })
        .await;
}

#[tokio::test]
async fn pods_run_as_an_account_and_get_its_token() {
    let (server, _) = with_robot().await;
    let account = format!("{ACCOUNTS}/robot");
    let mut robot = server.get(&account).await.expect(200);
    robot["imagePullSecrets"] = json!([{"name": "reg"}]);
    server.put(&account, robot).await.expect(200);
    let body = json!({"metadata": {"name": "p"}, "spec": {
        "serviceAccountName": "robot",
        "containers": [
            {"name": "a", "image": "x"},
            {"name": "b", "image": "x", "volumeMounts": [{"name": "v", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]},
        ],
        "volumes": [{"name": "v", "emptyDir": {}}],
        "initContainers": [{"name": "i", "image": "x"}],
    }});
    let made = server.post(PODS, body).await.expect(201);
    let spec = &made["spec"];
    let name = spec["volumes"][1]["name"].as_str().unwrap();
    assert!(name.starts_with("kube-api-access-") && name.len() == 21, "{name}");
    let mount = json!([{"name": name, "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]);
    assert_eq!(spec["containers"][0]["volumeMounts"], mount);
    assert_eq!(spec["initContainers"][0]["volumeMounts"], mount);
    assert_eq!(spec["containers"][1]["volumeMounts"].as_array().unwrap().len(), 1);
    assert_eq!(
        spec["volumes"][1]["projected"],
        json!({"sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
        ], "defaultMode": 420})
    );
    assert_eq!(
        (&spec["serviceAccount"], &spec["imagePullSecrets"]),
        (&json!("robot"), &json!([{"name": "reg"}]))
    );

    let mut without = pod("without");
    without["spec"]["automountServiceAccountToken"] = false.into();
    let made = server.post(PODS, without).await.expect(201);
    assert_eq!(
        (&made["spec"]["serviceAccountName"], made["spec"].get("volumes")),
        (&json!("default"), None)
    );

    let mut nobody = pod("nobody");
    nobody["spec"]["serviceAccountName"] = "nobody".into();
    let refused = server.post(PODS, nobody).await.expect(403);
    assert_eq!(
        refused["message"],
        "pods \"nobody\" is forbidden: error looking up service account default/nobody: serviceaccount \"nobody\" not found"
    );
    // A namespace that was made a moment ago will do.
    server
        .post("/api/v1/namespaces", json!({"metadata": {"name": "fresh"}}))
        .await
        .expect(201);
    server
        .post("/api/v1/namespaces/fresh/pods", pod("p"))
        .await
        .expect(201);
}

#[tokio::test]
async fn a_secret_may_ask_for_a_token_that_stays() {
    let (server, uid) = with_robot().await;
    let secret = |name: &str, account: &str| {
        json!({
            "metadata": {"name": name, "annotations": {"kubernetes.io/service-account.name": account}},
            "type": "kubernetes.io/service-account-token",
        })
    };
    server.post(SECRETS, secret("t", "robot")).await.expect(201);
    let path = format!("{SECRETS}/t");
    let filled = server
        .until("the token", async || {
            let found = server.get(&path).await.json();
            found.pointer("/data/token").is_some().then_some(found)
        })
        .await;
    let decoded = |field: &str| {
        let text = filled["data"][field].as_str().unwrap();
        String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()
    };
    assert_eq!(
        filled["metadata"]["annotations"]["kubernetes.io/service-account.uid"],
        uid
    );
    assert_eq!(decoded("namespace"), "default");
    assert!(decoded("ca.crt").contains("ours"));
    let token = decoded("token");
    let user = bearer(&server, "/api", &token).unwrap().unwrap();
    assert_eq!(user.name, "system:serviceaccount:default:robot");
    // One that asks for nobody's goes, and so does a token with its account.
    server.post(SECRETS, secret("n", "nobody")).await.expect(201);
    server.delete(&format!("{ACCOUNTS}/robot")).await.expect(200);
    for name in ["n", "t"] {
        let path = format!("{SECRETS}/{name}");
        server
            .until("the end of the Secret", async || {
                (server.get(&path).await.status == 404).then_some(())
            })
            .await;
    }
    assert_eq!(bearer(&server, "/api", &token), Err(Unauthorized));
}

#[tokio::test]
async fn aggregated_roles_show_their_rules() {
    let server = TestServer::start();
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    let rule = |resource: &str| json!({"apiGroups": ["x.dev"], "resources": [resource], "verbs": ["get"]});
    let role = |name: &str, rules: Value| json!({"metadata": {"name": name, "labels": {"part": "yes"}}, "rules": rules});
    server
        .post(roles, role("b", json!([rule("bs"), rule("as")])))
        .await
        .expect(201);
    let whole = json!({"metadata": {"name": "whole"}, "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"part": "yes"}}]}});
    server.post(roles, whole).await.expect(201);
    server
        .post(roles, role("a", json!([rule("as")])))
        .await
        .expect(201);
    let path = format!("{roles}/whole");
    let shows = async |expected: Value| {
        server
            .until("the rules", async || {
                (server.get(&path).await.json()["rules"] == expected).then_some(())
            })
            .await;
    };
    shows(json!([rule("as"), rule("bs")])).await;
    server.delete(&format!("{roles}/b")).await.expect(200);
    shows(json!([rule("as")])).await;
    // The default roles are of this form.
    let view = server.get(&format!("{roles}/view")).await.expect(200);
    assert!(!view["rules"].as_array().unwrap().is_empty());
}
