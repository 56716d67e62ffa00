//! Who may do what: roles, bindings, escalation, impersonation, reviews. The expected texts are those of kube-apiserver.

use axum::body::Body;
use choreo_apiserver::UserInfo;
use http::Request;
use serde_json::{Value, json};

use crate::support::{Answer, CONFIG_MAPS, TestServer, config_map};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const AUTHORIZATION: &str = "/apis/authorization.k8s.io/v1";

/// A user without any rights but those of everybody.
fn jane() -> UserInfo {
    UserInfo::new("jane", ["developers"])
}

async fn ask_with(
    server: &TestServer,
    user: UserInfo,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<Value>,
) -> Answer {
    let mut request = Request::builder().method(method).uri(path).extension(user);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let kind = if method == "PATCH" {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    let request = request.header("content-type", kind);
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    server.send(request.body(body).unwrap()).await
}

async fn ask(server: &TestServer, user: UserInfo, method: &str, path: &str, body: Option<Value>) -> Answer {
    ask_with(server, user, method, path, &[], body).await
}

fn role(kind: &str, name: &str, rules: Value) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "rules": rules})
}

fn binding(kind: &str, name: &str, role: (&str, &str), subject: Value) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role.0, "name": role.1},
        "subjects": [subject],
    })
}

fn user(name: &str) -> Value {
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name})
}

fn group(name: &str) -> Value {
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": name})
}

/// Role `reader` in namespace `default`, which reads ConfigMaps, for the group `developers`.
async fn with_reader(server: &TestServer) {
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]}]);
    let place = format!("{RBAC}/namespaces/default");
    server
        .post(&format!("{place}/roles"), role("Role", "reader", rules))
        .await
        .expect(201);
    let bound = binding("RoleBinding", "readers", ("Role", "reader"), group("developers"));
    server
        .post(&format!("{place}/rolebindings"), bound)
        .await
        .expect(201);
}

#[tokio::test]
async fn a_role_counts_in_its_namespace_and_at_once() {
    let server = TestServer::start();
    let refused = ask(&server, jane(), "GET", CONFIG_MAPS, None).await.expect(403);
    assert_eq!(
        refused["message"],
        r#"configmaps is forbidden: User "jane" cannot list resource "configmaps" in API group "" in the namespace "default""#
    );
    with_reader(&server).await;
    ask(&server, jane(), "GET", CONFIG_MAPS, None).await.expect(200);
    let refused = ask(
        &server,
        jane(),
        "GET",
        "/api/v1/namespaces/kube-system/configmaps",
        None,
    )
    .await;
    assert_eq!(refused.status, 403);
    let refused = ask(&server, jane(), "GET", "/api/v1/configmaps", None)
        .await
        .expect(403);
    assert_eq!(
        refused["message"],
        r#"configmaps is forbidden: User "jane" cannot list resource "configmaps" in API group "" at the cluster scope"#
    );
    let refused = ask(
        &server,
        jane(),
        "POST",
        CONFIG_MAPS,
        Some(config_map("a", json!({}))),
    )
    .await;
    assert_eq!(refused.status, 403);
    let path = format!("{RBAC}/namespaces/default/rolebindings/readers");
    server.delete(&path).await.expect(200);
    assert_eq!(ask(&server, jane(), "GET", CONFIG_MAPS, None).await.status, 403);
}

#[tokio::test]
async fn a_cluster_role_is_bound_everywhere_or_in_one_namespace() {
    let server = TestServer::start();
    let view = ("ClusterRole", "view");
    let in_default = binding("RoleBinding", "viewers", view, user("jane"));
    server
        .post(&format!("{RBAC}/namespaces/default/rolebindings"), in_default)
        .await
        .expect(201);
    ask(&server, jane(), "GET", "/api/v1/namespaces/default/pods", None)
        .await
        .expect(200);
    ask(&server, jane(), "GET", "/api/v1/namespaces/default", None)
        .await
        .expect(200);
    assert_eq!(
        ask(&server, jane(), "GET", "/api/v1/pods", None).await.status,
        403
    );
    let secrets = ask(&server, jane(), "GET", "/api/v1/namespaces/default/secrets", None).await;
    assert_eq!(secrets.status, 403, "who only looks does not see secrets");
    let everywhere = binding("ClusterRoleBinding", "viewers", view, user("jane"));
    server
        .post(&format!("{RBAC}/clusterrolebindings"), everywhere)
        .await
        .expect(201);
    ask(&server, jane(), "GET", "/api/v1/pods", None)
        .await
        .expect(200);
}

#[tokio::test]
async fn an_extension_joins_the_default_roles_by_a_label() {
    let server = TestServer::start();
    let bound = binding(
        "ClusterRoleBinding",
        "viewers",
        ("ClusterRole", "view"),
        user("jane"),
    );
    server
        .post(&format!("{RBAC}/clusterrolebindings"), bound)
        .await
        .expect(201);
    let widgets = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    assert_eq!(ask(&server, jane(), "GET", widgets, None).await.status, 403);
    let rules = json!([{"apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "verbs": ["list"]}]);
    let mut extension = role("ClusterRole", "see-definitions", rules);
    extension["metadata"]["labels"] = json!({"rbac.authorization.k8s.io/aggregate-to-view": "true"});
    server
        .post(&format!("{RBAC}/clusterroles"), extension)
        .await
        .expect(201);
    ask(&server, jane(), "GET", widgets, None).await.expect(200);
}

#[tokio::test]
async fn everybody_finds_out_what_there_is() {
    let server = TestServer::start();
    for path in ["/api", "/apis", "/apis/apps/v1", "/openapi/v3", "/version"] {
        assert_eq!(
            ask(&server, jane(), "GET", path, None).await.status,
            200,
            "{path}"
        );
    }
    let refused = ask(&server, jane(), "GET", "/metrics", None).await.expect(403);
    assert_eq!(
        refused["message"],
        r#"forbidden: User "jane" cannot get path "/metrics""#
    );
}

#[tokio::test]
async fn nobody_grants_more_than_they_hold() {
    let server = TestServer::start();
    let bound = binding("RoleBinding", "admins", ("ClusterRole", "admin"), user("jane"));
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    let roles = format!("{RBAC}/namespaces/default/roles");
    server.post(&bindings, bound).await.expect(201);

    let within = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]);
    ask(
        &server,
        jane(),
        "POST",
        &roles,
        Some(role("Role", "within", within)),
    )
    .await
    .expect(201);
    let beyond = json!([{"apiGroups": [""], "resources": ["pods", "nodes"], "verbs": ["get", "escalate"]}]);
    let refused = ask(
        &server,
        jane(),
        "POST",
        &roles,
        Some(role("Role", "beyond", beyond.clone())),
    )
    .await
    .expect(403);
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.starts_with(
            "roles.rbac.authorization.k8s.io \"beyond\" is forbidden: user \"jane\" (groups=[\"developers\" \
             \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n"
        ),
        "{message}"
    );
    assert!(
        message.contains(r#"{APIGroups:[""], Resources:["nodes"], Verbs:["get"]}"#),
        "{message}"
    );
    assert!(
        !message.contains(r#"Resources:["pods"], Verbs:["get"]"#),
        "{message}"
    );

    let to_all = binding(
        "RoleBinding",
        "all",
        ("ClusterRole", "cluster-admin"),
        user("jane"),
    );
    assert_eq!(
        ask(&server, jane(), "POST", &bindings, Some(to_all.clone()))
            .await
            .status,
        403
    );
    let to_own = binding("RoleBinding", "own", ("Role", "within"), user("joe"));
    ask(&server, jane(), "POST", &bindings, Some(to_own))
        .await
        .expect(201);
    let to_none = binding("RoleBinding", "none", ("Role", "nobody-made-it"), user("joe"));
    assert_eq!(
        ask(&server, jane(), "POST", &bindings, Some(to_none))
            .await
            .status,
        404
    );

    // A label is no right: it may be changed on a role that holds more than its editor does.
    server
        .post(&roles, role("Role", "beyond", beyond))
        .await
        .expect(201);
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    ask(&server, jane(), "PATCH", &format!("{roles}/beyond"), Some(label))
        .await
        .expect(200);

    let verbs = json!([{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "verbs": ["bind"]}]);
    server
        .post(&roles, role("Role", "binder", verbs))
        .await
        .expect(201);
    server
        .post(
            &bindings,
            binding("RoleBinding", "binder", ("Role", "binder"), user("jane")),
        )
        .await
        .expect(201);
    ask(&server, jane(), "POST", &bindings, Some(to_all))
        .await
        .expect(201);
}

#[tokio::test]
async fn who_may_acts_as_somebody_else() {
    let server = TestServer::start();
    with_reader(&server).await;
    let as_jane = [("impersonate-user", "jane"), ("impersonate-group", "developers")];
    let joe = || UserInfo::new("joe", ["support"]);
    let refused = ask_with(&server, joe(), "GET", CONFIG_MAPS, &as_jane, None)
        .await
        .expect(403);
    assert_eq!(
        refused["message"],
        r#"users "jane" is forbidden: User "joe" cannot impersonate resource "users" in API group "" at the cluster scope"#
    );
    let rules = json!([
        {"apiGroups": [""], "resources": ["users"], "resourceNames": ["jane"], "verbs": ["impersonate"]},
        {"apiGroups": [""], "resources": ["groups"], "verbs": ["impersonate"]},
    ]);
    server
        .post(
            &format!("{RBAC}/clusterroles"),
            role("ClusterRole", "as-jane", rules),
        )
        .await
        .expect(201);
    let bound = binding(
        "ClusterRoleBinding",
        "as-jane",
        ("ClusterRole", "as-jane"),
        group("support"),
    );
    server
        .post(&format!("{RBAC}/clusterrolebindings"), bound)
        .await
        .expect(201);
    ask_with(&server, joe(), "GET", CONFIG_MAPS, &as_jane, None)
        .await
        .expect(200);
    let as_admin = [
        ("impersonate-user", "admin"),
        ("impersonate-group", "system:masters"),
    ];
    assert_eq!(
        ask_with(&server, joe(), "GET", CONFIG_MAPS, &as_admin, None)
            .await
            .status,
        403
    );
    let only_group = [("impersonate-group", "developers")];
    assert_eq!(
        ask_with(&server, joe(), "GET", CONFIG_MAPS, &only_group, None)
            .await
            .status,
        400
    );

    let who = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let answer = ask_with(&server, joe(), "POST", path, &as_jane, Some(who))
        .await
        .expect(201);
    assert_eq!(
        answer["status"]["userInfo"],
        json!({"username": "jane", "groups": ["developers", "system:authenticated"]})
    );
}

#[tokio::test]
async fn a_service_account_is_a_subject() {
    let server = TestServer::start();
    let account = json!({"kind": "ServiceAccount", "name": "robot", "namespace": "ci"});
    let bound = binding("RoleBinding", "robot", ("ClusterRole", "edit"), account);
    server
        .post(&format!("{RBAC}/namespaces/default/rolebindings"), bound)
        .await
        .expect(201);
    let robot = || UserInfo::new("system:serviceaccount:ci:robot", ["system:serviceaccounts"]);
    ask(
        &server,
        robot(),
        "POST",
        CONFIG_MAPS,
        Some(config_map("a", json!({}))),
    )
    .await
    .expect(201);
    let other = UserInfo::new("system:serviceaccount:default:robot", ["system:serviceaccounts"]);
    assert_eq!(ask(&server, other, "GET", CONFIG_MAPS, None).await.status, 403);
}

#[tokio::test]
async fn reviews_answer_what_requests_would() {
    let server = TestServer::start();
    with_reader(&server).await;
    let review = |kind: &str, spec: Value| json!({"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec});
    let list = json!({"namespace": "default", "verb": "list", "resource": "configmaps"});

    let own = review("SelfSubjectAccessReview", json!({"resourceAttributes": list}));
    let path = format!("{AUTHORIZATION}/selfsubjectaccessreviews");
    let answer = ask(&server, jane(), "POST", &path, Some(own)).await.expect(201);
    assert_eq!(
        answer["status"],
        json!({"allowed": true, "reason": r#"RBAC: allowed by RoleBinding "readers/default" of Role "reader" to Group "developers""#})
    );
    let delete =
        json!({"resourceAttributes": {"namespace": "default", "verb": "delete", "resource": "configmaps"}});
    let answer = ask(
        &server,
        jane(),
        "POST",
        &path,
        Some(review("SelfSubjectAccessReview", delete)),
    )
    .await
    .expect(201);
    assert_eq!(answer["status"]["allowed"], false);

    let path = format!("{AUTHORIZATION}/subjectaccessreviews");
    let about = json!({"user": "somebody", "groups": ["developers"], "resourceAttributes": list});
    let answer = server
        .post(&path, review("SubjectAccessReview", about.clone()))
        .await
        .expect(201);
    assert_eq!(answer["status"]["allowed"], true);
    let refused = ask(
        &server,
        jane(),
        "POST",
        &path,
        Some(review("SubjectAccessReview", about.clone())),
    )
    .await;
    assert_eq!(refused.status, 403, "not everybody may ask about others");
    let both = json!({"user": "x", "resourceAttributes": list, "nonResourceAttributes": {"path": "/", "verb": "get"}});
    server
        .post(&path, review("SubjectAccessReview", both))
        .await
        .expect(422);
    server
        .post(
            &path,
            review("SubjectAccessReview", json!({"resourceAttributes": list})),
        )
        .await
        .expect(422);

    let local = format!("{AUTHORIZATION}/namespaces/kube-system/localsubjectaccessreviews");
    let wrong = server
        .post(&local, review("LocalSubjectAccessReview", about))
        .await;
    assert_eq!(wrong.status, 422, "{}", wrong.text);

    let path = format!("{AUTHORIZATION}/selfsubjectrulesreviews");
    let rules = review("SelfSubjectRulesReview", json!({"namespace": "default"}));
    let answer = ask(&server, jane(), "POST", &path, Some(rules)).await.expect(201);
    let found = answer["status"]["resourceRules"].as_array().unwrap();
    let own = json!({"verbs": ["get", "list", "watch"], "apiGroups": [""], "resources": ["configmaps"]});
    assert!(found.contains(&own), "{found:?}");
}

#[tokio::test]
async fn a_binding_of_a_missing_role_says_so() {
    let server = TestServer::start();
    let bound = binding("RoleBinding", "broken", ("Role", "missing"), user("jane"));
    server
        .post(&format!("{RBAC}/namespaces/default/rolebindings"), bound)
        .await
        .expect(201);
    let refused = ask(&server, jane(), "GET", CONFIG_MAPS, None).await.expect(403);
    assert_eq!(
        refused["message"],
        r#"configmaps is forbidden: User "jane" cannot list resource "configmaps" in API group "" in the namespace "default": RBAC: role.rbac.authorization.k8s.io "missing" not found"#
    );
}
