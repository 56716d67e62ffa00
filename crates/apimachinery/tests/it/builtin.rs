//! Defaults, strategies and rules of built-in kinds, against what the Kubernetes API reference says of each.

use choreo_apimachinery::{
    builtin::{self, Allocator},
    registry::{Registry, ResourceInfo},
};
use rstest::rstest;
use serde_json::{Value, json};

fn info(group: &str, version: &str, plural: &str) -> ResourceInfo {
    (**Registry::builtin().lookup(group, version, plural).unwrap()).clone()
}

fn defaulted(info: &ResourceInfo, object: &Value) -> Value {
    let mut object = object.clone();
    builtin::default(info, &mut object);
    let mut again = object.clone();
    builtin::default(info, &mut again);
    assert_eq!(again, object, "defaulting twice changes nothing");
    object
}

fn pod_spec(image: &str) -> Value {
    json!({"containers": [{"name": "app", "image": image}]})
}

fn full_pod_spec(image: &str, pull: &str) -> Value {
    json!({
        "containers": [{
            "name": "app",
            "image": image,
            "imagePullPolicy": pull,
            "resources": {},
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
        }],
        "dnsPolicy": "ClusterFirst",
        "restartPolicy": "Always",
        "schedulerName": "default-scheduler",
        "securityContext": {},
        "terminationGracePeriodSeconds": 30,
    })
}

#[test]
fn a_deployment_gets_what_kubernetes_gives_it() {
    let template = |spec: Value| json!({"metadata": {"labels": {"app": "a"}}, "spec": spec});
    let selector = json!({"matchLabels": {"app": "a"}});
    let object = json!({"spec": {"selector": selector, "template": template(pod_spec("nginx:1.27"))}});
    assert_eq!(
        defaulted(&info("apps", "v1", "deployments"), &object),
        json!({"spec": {
            "replicas": 1,
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "selector": selector,
            "template": template(full_pod_spec("nginx:1.27", "IfNotPresent")),
        }})
    );
}

#[rstest]
#[case("nginx", "Always")]
#[case("nginx:latest", "Always")]
#[case("nginx:1", "IfNotPresent")]
#[case("registry:5000/nginx", "Always")]
#[case("registry:5000/nginx:1", "IfNotPresent")]
#[case("nginx@sha256:0000", "IfNotPresent")]
fn images_are_pulled_by_their_tag(#[case] image: &str, #[case] policy: &str) {
    let pod = defaulted(&info("", "v1", "pods"), &json!({"spec": pod_spec(image)}));
    let mut expected = full_pod_spec(image, policy);
    expected["enableServiceLinks"] = true.into();
    assert_eq!(pod, json!({"spec": expected}));
}

#[test]
fn what_is_limited_is_requested() {
    let mut spec = pod_spec("a:1");
    spec["containers"][0]["resources"] =
        json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}});
    let pod = defaulted(&info("", "v1", "pods"), &json!({"spec": spec}));
    assert_eq!(
        pod["spec"]["containers"][0]["resources"]["requests"],
        json!({"cpu": "500m", "memory": "1Gi"})
    );
}

#[test]
fn amounts_have_one_spelling() {
    let mut spec = pod_spec("a:1");
    spec["containers"][0]["resources"] =
        json!({"limits": {"cpu": 0.5, "memory": "1024Mi"}, "requests": {"cpu": "0.25"}});
    spec["volumes"] = json!([{"name": "v", "emptyDir": {"sizeLimit": "2048Mi"}}]);
    let pod = defaulted(&info("", "v1", "pods"), &json!({"spec": spec}));
    assert_eq!(
        pod["spec"]["containers"][0]["resources"],
        json!({"limits": {"cpu": "500m", "memory": "1Gi"}, "requests": {"cpu": "250m", "memory": "1Gi"}})
    );
    assert_eq!(pod["spec"]["volumes"][0]["emptyDir"]["sizeLimit"], "2Gi");
}

#[rstest]
#[case::cluster_ip(
    json!({"ports": [{"port": 80}]}),
    json!({"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}]})
)]
#[case::load_balancer(
    json!({"type": "LoadBalancer", "sessionAffinity": "ClientIP", "ports": [{"port": 80, "targetPort": "http"}]}),
    json!({"type": "LoadBalancer", "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}},
        "internalTrafficPolicy": "Cluster", "externalTrafficPolicy": "Cluster", "allocateLoadBalancerNodePorts": true,
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": "http"}]})
)]
#[case::external_name(
    json!({"type": "ExternalName", "externalName": "example.org"}),
    json!({"type": "ExternalName", "externalName": "example.org", "sessionAffinity": "None"})
)]
fn a_service_gets_what_its_type_needs(#[case] spec: Value, #[case] expected: Value) {
    let service = defaulted(&info("", "v1", "services"), &json!({"spec": spec}));
    assert_eq!(service, json!({"spec": expected}));
}

#[rstest]
#[case::job("batch", "jobs", json!({"spec": {"template": {"spec": {}}}}), "/spec", json!({
    "backoffLimit": 6, "completions": 1, "parallelism": 1, "completionMode": "NonIndexed", "suspend": false,
    "podReplacementPolicy": "TerminatingOrFailed",
}))]
#[case::cron_job("batch", "cronjobs", json!({"spec": {"schedule": "* * * * *"}}), "/spec", json!({
    "concurrencyPolicy": "Allow", "suspend": false, "successfulJobsHistoryLimit": 3, "failedJobsHistoryLimit": 1,
}))]
#[case::stateful_set("apps", "statefulsets", json!({"spec": {}}), "/spec", json!({
    "replicas": 1, "revisionHistoryLimit": 10, "podManagementPolicy": "OrderedReady",
    "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
    "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
}))]
#[case::daemon_set("apps", "daemonsets", json!({"spec": {}}), "/spec", json!({
    "revisionHistoryLimit": 10, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
}))]
#[case::policy("networking.k8s.io", "networkpolicies", json!({"spec": {"podSelector": {}, "egress": [{"ports": [{"port": 53}]}]}}), "/spec", json!({
    "policyTypes": ["Ingress", "Egress"], "egress": [{"ports": [{"port": 53, "protocol": "TCP"}]}],
}))]
#[case::claim("", "persistentvolumeclaims", json!({"spec": {}}), "", json!({"status": {"phase": "Pending"}}))]
#[case::role("rbac.authorization.k8s.io", "rolebindings",
    json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s"}]}),
    "", json!({
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": [{"kind": "User", "name": "u", "apiGroup": "rbac.authorization.k8s.io"}, {"kind": "ServiceAccount", "name": "s"}],
    })
)]
#[case::secret("", "secrets", json!({"stringData": {"a": "hello"}, "data": {"b": "eA=="}}), "", json!({
    "type": "Opaque", "data": {"a": "aGVsbG8=", "b": "eA=="},
}))]
#[case::namespace("", "namespaces", json!({"metadata": {"name": "shop"}}), "/metadata/labels", json!({"kubernetes.io/metadata.name": "shop"}))]
fn kinds_get_their_defaults(
    #[case] group: &str,
    #[case] plural: &str,
    #[case] object: Value,
    #[case] at: &str,
    #[case] expected: Value,
) {
    let object = defaulted(&info(group, "v1", plural), &object);
    let found = object.pointer(at).unwrap();
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&found[field], value, "{field}");
    }
}

#[test]
fn a_job_selects_its_pods_by_its_uid() {
    let info = info("batch", "v1", "jobs");
    let mut job =
        json!({"metadata": {"name": "j", "uid": "u-1"}, "spec": {"template": {"spec": pod_spec("a:1")}}});
    job["spec"]["template"]["spec"]["restartPolicy"] = "Never".into();
    let mut job = defaulted(&info, &job);
    builtin::prepare_create(&info, &mut job);
    assert_eq!(
        job["spec"]["selector"]["matchLabels"],
        json!({"batch.kubernetes.io/controller-uid": "u-1"})
    );
    assert_eq!(job["spec"]["template"]["metadata"]["labels"]["job-name"], "j");
    assert_eq!(builtin::validate(&info, "", &job, None), []);
}

#[test]
fn status_is_not_the_clients() {
    let info = info("", "v1", "pods");
    let mut pod = json!({"spec": pod_spec("a:1"), "status": {"phase": "Running"}});
    builtin::prepare_create(&info, &mut pod);
    assert_eq!(
        pod["status"],
        json!({"phase": "Pending", "qosClass": "BestEffort"})
    );
}

struct Fixed;

impl Allocator for Fixed {
    fn cluster_ip(&self, wanted: Option<&str>) -> Result<String, String> {
        match wanted {
            Some("10.96.0.1") => Err("provided IP is already allocated".into()),
            Some(ip) => Ok(ip.to_owned()),
            None => Ok("10.96.0.7".into()),
        }
    }

    fn node_port(&self, wanted: Option<u16>) -> Result<u16, String> {
        Ok(wanted.unwrap_or(30_000))
    }
}

#[test]
fn a_service_gets_and_keeps_its_address() {
    let info = info("", "v1", "services");
    let client = json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "selector": {"a": "b"}, "ports": [{"port": 80}]}});
    let mut created = defaulted(&info, &client);
    builtin::prepare_create(&info, &mut created);
    assert_eq!(builtin::allocate(&mut created, None, &Fixed), []);
    assert_eq!(created["spec"]["clusterIP"], "10.96.0.7");
    assert_eq!(created["spec"]["clusterIPs"], json!(["10.96.0.7"]));
    assert_eq!(created["spec"]["ipFamilies"], json!(["IPv4"]));
    assert_eq!(created["spec"]["ports"][0]["nodePort"], 30_000);
    assert_eq!(created["status"], json!({"loadBalancer": {}}));

    let mut updated = defaulted(&info, &client);
    builtin::prepare_update(&info, "", &created, &mut updated);
    assert_eq!(builtin::allocate(&mut updated, Some(&created), &Fixed), []);
    assert_eq!(updated["spec"], created["spec"]);

    let mut moved = created.clone();
    moved["spec"]["clusterIP"] = "10.96.0.9".into();
    let errors = builtin::validate(&info, "", &moved, Some(&created));
    assert_eq!(
        errors[0].to_string(),
        "spec.clusterIPs[0]: Invalid value: [\"10.96.0.9\"]: may not change once set"
    );
    let mut taken = defaulted(&info, &client);
    taken["spec"]["clusterIP"] = "10.96.0.1".into();
    assert_eq!(
        builtin::allocate(&mut taken, None, &Fixed)[0].to_string(),
        "spec.clusterIPs: Invalid value: [\"10.96.0.1\"]: failed to allocate IP 10.96.0.1: provided IP is already allocated"
    );
}

fn deployment() -> Value {
    defaulted(
        &info("apps", "v1", "deployments"),
        &json!({"metadata": {"name": "d"}, "spec": {
            "selector": {"matchLabels": {"app": "a"}},
            "template": {"metadata": {"labels": {"app": "a"}}, "spec": pod_spec("a:1")},
        }}),
    )
}

#[rstest]
#[case::selector("/spec/template/metadata/labels/app", json!("b"),
    "spec.template.metadata.labels: Invalid value: {\"app\":\"b\"}: `selector` does not match template `labels`")]
#[case::no_selector("/spec/selector", Value::Null, "spec.selector: Required value")]
#[case::replicas("/spec/replicas", json!(-1), "spec.replicas: Invalid value: -1: must be greater than or equal to 0")]
#[case::image("/spec/template/spec/containers/0/image", json!(""), "spec.template.spec.containers[0].image: Required value")]
#[case::name("/spec/template/spec/containers/0/name", json!(""), "spec.template.spec.containers[0].name: Required value")]
#[case::containers("/spec/template/spec/containers", json!([]), "spec.template.spec.containers: Required value")]
#[case::restart("/spec/template/spec/restartPolicy", json!("Never"),
    "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"")]
#[case::port("/spec/template/spec/containers/0/ports", json!([{"containerPort": 70000, "protocol": "TCP"}]),
    "spec.template.spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive")]
#[case::quantity("/spec/template/spec/containers/0/resources", json!({"limits": {"cpu": "one"}}),
    "spec.template.spec.containers[0].resources.limits[cpu]: Invalid value: \"one\": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
#[case::mount("/spec/template/spec/containers/0/volumeMounts", json!([{"name": "v", "mountPath": "/v"}]),
    "spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"v\"")]
fn a_deployment_must_hold_together(#[case] at: &str, #[case] value: Value, #[case] expected: &str) {
    let info = info("apps", "v1", "deployments");
    let mut object = deployment();
    assert_eq!(builtin::validate(&info, "", &object, None), []);
    let (parent, field) = at.rsplit_once('/').unwrap();
    object.pointer_mut(parent).unwrap()[field.parse::<usize>().map_or(field, |_| field)] = value;
    let errors: Vec<String> = builtin::validate(&info, "", &object, None)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(errors.iter().any(|e| e == expected), "{errors:?}");
}

#[rstest]
#[case("apps", "deployments", json!({"spec": {"selector": {"matchLabels": {"a": "2"}}}}), json!({"spec": {"selector": {"matchLabels": {"a": "1"}}}}),
    "spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"2\"}}: field is immutable")]
#[case("", "configmaps", json!({"immutable": true, "data": {"a": "2"}}), json!({"immutable": true, "data": {"a": "1"}}),
    "data: Forbidden: field is immutable when `immutable` is set")]
#[case("", "secrets", json!({"type": "a"}), json!({"type": "b"}), "type: Invalid value: \"a\": field is immutable")]
#[case("rbac.authorization.k8s.io", "rolebindings",
    json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "b"}}),
    json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "a"}}),
    "roleRef: Invalid value: {\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"Role\",\"name\":\"b\"}: cannot change roleRef")]
#[case("storage.k8s.io", "storageclasses", json!({"provisioner": "b"}), json!({"provisioner": "a"}),
    "provisioner: Forbidden: updates to provisioner are forbidden.")]
fn some_fields_keep_their_value(
    #[case] group: &str,
    #[case] plural: &str,
    #[case] new: Value,
    #[case] old: Value,
    #[case] expected: &str,
) {
    let errors = builtin::validate(&info(group, "v1", plural), "", &new, Some(&old));
    assert!(errors.iter().any(|e| e.to_string() == expected), "{errors:?}");
}

#[rstest]
#[case("networking.k8s.io", "ingresses", json!({"spec": {"rules": [{"http": {"paths": [{"path": "x", "pathType": "Prefix", "backend": {"service": {"name": "s", "port": {"number": 80}}}}]}}]}}),
    "spec.rules[0].http.paths[0].path: Invalid value: \"x\": must be an absolute path")]
#[case("policy", "poddisruptionbudgets", json!({"spec": {"minAvailable": 1, "maxUnavailable": "150"}}),
    "spec: Invalid value: null: minAvailable and maxUnavailable cannot be both set")]
#[case("", "services", json!({"spec": {"type": "ClusterIP"}}), "spec.ports: Required value")]
#[case("", "services", json!({"spec": {"type": "ClusterIP", "ports": [{"port": 1, "protocol": "TCP"}, {"port": 2, "protocol": "TCP"}]}}), "spec.ports[0].name: Required value")]
#[case("rbac.authorization.k8s.io", "roles", json!({"rules": [{"apiGroups": [""], "resources": ["pods"]}]}),
    "rules[0].verbs: Required value: verbs must contain at least one value")]
#[case("batch", "jobs", json!({"spec": {"template": {"spec": {"restartPolicy": "Always", "containers": [{"name": "a", "image": "b"}]}}}}),
    "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"")]
#[case("", "persistentvolumeclaims", json!({"spec": {"accessModes": ["ReadWriteOnce"]}}), "spec.resources[storage]: Required value")]
#[case("", "secrets", json!({"type": "kubernetes.io/tls"}), "data[tls.crt]: Required value")]
#[case("networking.k8s.io", "networkpolicies", json!({"spec": {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "x"}}]}]}}),
    "spec.ingress[0].from[0].ipBlock.cidr: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")]
fn rules_of_kinds(#[case] group: &str, #[case] plural: &str, #[case] object: Value, #[case] expected: &str) {
    let errors = builtin::validate(&info(group, "v1", plural), "", &object, None);
    assert!(errors.iter().any(|e| e.to_string() == expected), "{errors:?}");
}

fn pod() -> Value {
    let mut pod = defaulted(
        &info("", "v1", "pods"),
        &json!({"metadata": {"name": "p"}, "spec": {
            "containers": [{"name": "a", "image": "x", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}],
            "tolerations": [{"key": "k", "operator": "Exists"}],
            "activeDeadlineSeconds": 60,
        }}),
    );
    builtin::prepare_create(&info("", "v1", "pods"), &mut pod);
    pod
}

#[rstest]
#[case::image("/spec/containers/0/image", json!("y"), "")]
#[case::sooner("/spec/activeDeadlineSeconds", json!(30), "")]
#[case::toleration("/spec/tolerations", json!([{"key": "l", "operator": "Exists"}, {"key": "k", "operator": "Exists", "tolerationSeconds": 9}]), "")]
#[case::later("/spec/activeDeadlineSeconds", json!(90),
    "spec.activeDeadlineSeconds: Invalid value: 90: must be less than or equal to previous value")]
#[case::intolerant("/spec/tolerations", json!([]),
    "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds")]
#[case::gate("/spec/schedulingGates", json!([{"name": "example.com/g"}]),
    "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'example.com/g'")]
#[case::node("/spec/nodeName", json!("n"), "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,\
    `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
    `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)")]
#[case::more("/spec/containers", json!([{"name": "a", "image": "x"}, {"name": "b", "image": "x"}]),
    "spec.containers: Forbidden: pod updates may not add or remove containers")]
fn a_pod_changes_little(#[case] at: &str, #[case] value: Value, #[case] expected: &str) {
    let old = pod();
    let mut new = old.clone();
    let (parent, field) = at.rsplit_once('/').unwrap();
    new.pointer_mut(parent).unwrap()[field] = value;
    let errors = builtin::validate(&info("", "v1", "pods"), "", &new, Some(&old));
    let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(all.join("\n"), expected);
}

/// Resources and containers for debugging have subresources of their own, by which nothing else changes.
#[test]
fn subresources_of_a_pod_change_their_part() {
    let pods = info("", "v1", "pods");
    let old = pod();
    let mut asked = old.clone();
    asked["spec"]["containers"][0]["image"] = "other".into();
    asked["spec"]["nodeName"] = "n".into();
    asked["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "2".into();
    asked["spec"]["ephemeralContainers"] = json!([{"name": "e", "image": "x"}]);
    assert_eq!(builtin::validate(&pods, "", &asked, Some(&old)).len(), 1);

    let mut resized = asked.clone();
    builtin::prepare_update(&pods, "resize", &old, &mut resized);
    let mut expected = old.clone();
    expected["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "2".into();
    assert_eq!(resized, expected);
    assert_eq!(builtin::validate(&pods, "resize", &resized, Some(&old)), []);

    let mut debugged = asked;
    builtin::prepare_update(&pods, "ephemeralcontainers", &old, &mut debugged);
    let mut expected = old.clone();
    expected["spec"]["ephemeralContainers"] = json!([{"name": "e", "image": "x"}]);
    assert_eq!(debugged, expected);
    assert_eq!(
        builtin::validate(&pods, "ephemeralcontainers", &debugged, Some(&old)),
        []
    );
}

#[rstest]
#[case("resize", "/spec/containers/0/resources/requests", json!({"cpu": "1"}), "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed")]
#[case("resize", "/spec/containers/0/resources/requests", json!({"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1Gi"}),
    "spec: Forbidden: only cpu and memory resources are mutable")]
#[case("resize", "/spec/containers/0/resources", json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}}),
    "spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing")]
#[case("resize", "/spec/containers/0/name", json!("b"),
    "spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize")]
#[case("ephemeralcontainers", "/spec/ephemeralContainers", json!([]),
    "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"e\" may not be removed\n")]
#[case("ephemeralcontainers", "/spec/ephemeralContainers", json!([{"name": "e", "image": "y"}]),
    "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"e\" may not be changed\n")]
#[case("ephemeralcontainers", "/spec/ephemeralContainers", json!([{"name": "e", "image": "x"}, {"name": "a", "image": "x"}]),
    "spec.ephemeralContainers[1].name: Duplicate value: \"a\"")]
#[case("ephemeralcontainers", "/spec/ephemeralContainers", json!([{"name": "e", "image": "x"}, {"name": "f", "image": "x", "lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}]),
    "spec.ephemeralContainers[1].lifecycle: Forbidden: cannot be set for an Ephemeral Container")]
fn subresources_of_a_pod_have_rules(
    #[case] subresource: &str,
    #[case] at: &str,
    #[case] value: Value,
    #[case] expected: &str,
) {
    let pods = info("", "v1", "pods");
    let mut old = pod();
    old["spec"]["ephemeralContainers"] = json!([{"name": "e", "image": "x"}]);
    let mut new = old.clone();
    *new.pointer_mut(at).unwrap() = value;
    builtin::prepare_update(&pods, subresource, &old, &mut new);
    let errors = builtin::validate(&pods, subresource, &new, Some(&old));
    assert!(errors.iter().any(|e| e.to_string() == expected), "{errors:?}");
}

/// No kind's rules may trip over an object without anything in it.
#[test]
fn empty_objects_are_handled() {
    for row in Registry::builtin().resources() {
        for object in [json!({}), json!({"metadata": {}, "spec": {}, "status": {}})] {
            let mut object = defaulted(row, &object);
            builtin::prepare_create(row, &mut object);
            let _ = builtin::validate(row, "", &object, None);
            builtin::prepare_update(row, "", &object.clone(), &mut object);
            let _ = builtin::validate(row, "", &object, Some(&json!({})));
        }
    }
}

#[test]
fn events_and_autoscalers_convert_there_and_back() {
    let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "regarding": {"name": "p"}, "note": "n",
        "reportingController": "c", "deprecatedCount": 3});
    let mut converted = event.clone();
    builtin::convert(&mut converted, &info("", "v1", "events"));
    assert_eq!(
        converted,
        json!({"apiVersion": "v1", "kind": "Event", "involvedObject": {"name": "p"}, "message": "n", "reportingComponent": "c", "count": 3})
    );
    builtin::convert(&mut converted, &info("events.k8s.io", "v1", "events"));
    assert_eq!(converted, event);

    let scaler = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "spec": {
        "behavior": {"scaleUp": {"selectPolicy": "Max"}},
        "metrics": [
            {"type": "Pods", "pods": {"metric": {"name": "m"}}},
            {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}},
        ],
    }});
    let mut converted = scaler.clone();
    builtin::convert(
        &mut converted,
        &info("autoscaling", "v1", "horizontalpodautoscalers"),
    );
    assert_eq!(converted["spec"], json!({"targetCPUUtilizationPercentage": 70}));
    builtin::convert(
        &mut converted,
        &info("autoscaling", "v2", "horizontalpodautoscalers"),
    );
    converted.as_object_mut().unwrap().remove("metadata");
    assert_eq!(converted, scaler);
}

/// What kube-apiserver 1.36 says of a mount: claims are volumes, and what is neither is told.
#[test]
fn the_claims_of_a_stateful_set_are_volumes_of_its_pods() {
    let set = |mount: &str| {
        json!({
            "metadata": {"name": "a", "namespace": "default"},
            "spec": {
                "serviceName": "a",
                "selector": {"matchLabels": {"app": "a"}},
                "template": {
                    "metadata": {"labels": {"app": "a"}},
                    "spec": {"containers": [{
                        "name": "app",
                        "image": "nginx:1.27",
                        "volumeMounts": [{"name": mount, "mountPath": "/data"}],
                    }]},
                },
                "volumeClaimTemplates": [{
                    "metadata": {"name": "data"},
                    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
                }],
            },
        })
    };
    let info = info("apps", "v1", "statefulsets");
    let errors = |mount: &str| -> Vec<String> {
        let object = defaulted(&info, &set(mount));
        builtin::validate(&info, "", &object, None)
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    assert_eq!(errors("data"), Vec::<String>::new());
    assert_eq!(
        errors("other"),
        ["spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"other\""]
    );
}
