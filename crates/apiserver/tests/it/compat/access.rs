//! Who may do what, and who asks.

use serde_json::{Value, json};

use super::{Api, config_map};

const AS_JANE: [(&str, &str); 2] = [("impersonate-user", "jane"), ("accept", "application/json")];

#[tokio::test]
async fn reviews_answer_for_oneself_and_for_others() {
    let api = Api::open().await;
    let me = api
        .post(
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}),
        )
        .await
        .is(201);
    let groups = me["status"]["userInfo"]["groups"].as_array().unwrap();
    assert!(groups.contains(&json!("system:authenticated")), "{me}");
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "delete", "resource": "pods", "namespace": api.namespace}},
    });
    api.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
        .await
        .has(201, json!({"status": {"allowed": true}}));
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": "jane", "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": api.namespace}},
    });
    api.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
        .await
        .has(201, json!({"status": {"allowed": false}}));
}

#[tokio::test]
async fn roles_give_rights_and_take_them() {
    let api = Api::open().await;
    let maps = api.path("v1/configmaps");
    let as_jane = async |method: &str, path: &str, body: &str| {
        let mut headers = AS_JANE.to_vec();
        headers.push(("content-type", "application/json"));
        api.send(method, path, &headers, body.as_bytes().to_vec()).await
    };
    as_jane("GET", &maps, "").await.refuses(
        403,
        "Forbidden",
        &format!("configmaps is forbidden: User \"jane\" cannot list resource \"configmaps\" in API group \"\" in the namespace \"{}\"", api.namespace),
    );
    let rbac = "rbac.authorization.k8s.io/v1";
    let role = json!({
        "apiVersion": rbac, "kind": "Role", "metadata": {"name": "reader"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}, {"apiGroups": [rbac.split('/').next().unwrap()], "resources": ["roles"], "verbs": ["create"]}],
    });
    api.post(&api.path(&format!("{rbac}/roles")), role).await.is(201);
    let binding = json!({
        "apiVersion": rbac, "kind": "RoleBinding", "metadata": {"name": "jane"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}],
    });
    api.post(&api.path(&format!("{rbac}/rolebindings")), binding)
        .await
        .is(201);
    // A real server's authorizer hears of it a moment later.
    while as_jane("GET", &maps, "").await.status == 403 {
        tokio::task::yield_now().await;
    }
    as_jane("POST", &maps, &config_map("a", json!({})).to_string())
        .await
        .has(403, json!({"reason": "Forbidden"}));
    // Nobody gives away rights that they do not have.
    let more = json!({"apiVersion": rbac, "kind": "Role", "metadata": {"name": "more"}, "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]});
    let refused = as_jane("POST", &api.path(&format!("{rbac}/roles")), &more.to_string())
        .await
        .is(403);
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.contains("is attempting to grant RBAC permissions not currently held"),
        "{message}"
    );
    let change = json!({"roleRef": {"name": "other"}});
    let path = format!("{}/jane", api.path(&format!("{rbac}/rolebindings")));
    api.patch(&path, "merge", change).await.has(
        422,
        json!({"details": {"causes": [{"field": "roleRef", "reason": "FieldValueInvalid"}]}}),
    );
}

#[tokio::test]
async fn default_roles_are_there() {
    let api = Api::open().await;
    for name in [
        "cluster-admin",
        "admin",
        "edit",
        "view",
        "system:discovery",
        "system:basic-user",
    ] {
        let path = format!("/apis/rbac.authorization.k8s.io/v1/clusterroles/{name}");
        let role: Value = api.get(&path).await.is(200);
        assert_eq!(
            role["metadata"]["labels"]["kubernetes.io/bootstrapping"], "rbac-defaults",
            "{name}"
        );
    }
}
