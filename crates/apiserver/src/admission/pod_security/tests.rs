//! Each check of the standards, with a Pod that it lets pass and one that it does not.

use serde_json::{Value, json};

use super::checks::evaluate;
use super::pod::Pod;
use super::policy::{Level, Standard, Version};

const LATEST: Version = Version::Latest;

fn at(minor: i64) -> Version {
    Version::Minor(minor)
}

/// A Pod that nothing is wrong with.
fn good() -> Value {
    let secure = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    json!({
        "metadata": {"name": "p"},
        "spec": {
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "a", "image": "x", "securityContext": secure}],
        },
    })
}

/// The good Pod with values at these paths.
fn with(changes: &[(&str, Value)]) -> Value {
    let mut pod = good();
    for (path, value) in changes {
        let mut at = &mut pod;
        for step in path.split('.') {
            at = match step.parse::<usize>() {
                Ok(nth) => &mut at[nth],
                Err(_) => &mut at[step],
            };
        }
        *at = value.clone();
    }
    pod
}

fn judged(level: Level, version: Version, pod: &Value) -> String {
    evaluate(Standard { level, version }, &Pod::at(pod, "").unwrap()).details()
}

/// The Pod breaks one rule of the baseline, and `restricted` has that rule too.
#[track_caller]
fn baseline(version: Version, changes: &[(&str, Value)], expected: &str) {
    let pod = with(changes);
    assert_eq!(judged(Level::Privileged, version, &pod), "");
    assert_eq!(judged(Level::Baseline, version, &pod), expected);
    assert_eq!(judged(Level::Restricted, version, &pod), expected);
}

/// The Pod breaks one rule that only `restricted` has.
#[track_caller]
fn restricted(version: Version, changes: &[(&str, Value)], expected: &str) {
    let pod = with(changes);
    assert_eq!(judged(Level::Baseline, version, &pod), "");
    assert_eq!(judged(Level::Restricted, version, &pod), expected);
}

/// The Pod breaks no rule at all.
#[track_caller]
fn passes(version: Version, changes: &[(&str, Value)]) {
    restricted(version, changes, "");
}

const POD: &str = "spec.securityContext";
const A: &str = "spec.containers.0.securityContext";

fn of(place: &str, field: &str) -> String {
    format!("{place}.{field}")
}

/// A second container, as good as the first.
fn second() -> (&'static str, Value) {
    let mut other = good()["spec"]["containers"].clone();
    other[0]["name"] = "b".into();
    ("spec.initContainers", other)
}

#[test]
fn a_good_pod_passes_everything() {
    for minor in 0..40 {
        passes(at(minor), &[]);
    }
    passes(LATEST, &[second()]);
}

#[test]
fn a_plain_pod_is_told_all_that_it_lacks() {
    let pod = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
    assert_eq!(judged(Level::Baseline, LATEST, &pod), "");
    assert_eq!(
        judged(Level::Restricted, LATEST, &pod),
        "allowPrivilegeEscalation != false (containers \"a\", \"b\" must set securityContext.allowPrivilegeEscalation=false), \
         unrestricted capabilities (containers \"a\", \"b\" must set securityContext.capabilities.drop=[\"ALL\"]), \
         runAsNonRoot != true (pod or containers \"a\", \"b\" must set securityContext.runAsNonRoot=true), \
         seccompProfile (pod or containers \"a\", \"b\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \
         \"Localhost\")"
    );
    let found = evaluate(
        Standard {
            level: Level::Restricted,
            version: LATEST,
        },
        &Pod::at(&pod, "").unwrap(),
    );
    assert_eq!(
        found.reasons(),
        "allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile"
    );
}

#[test]
fn app_armor() {
    let field = "appArmorProfile";
    for fine in ["RuntimeDefault", "Localhost"] {
        passes(LATEST, &[(&of(A, field), json!({"type": fine}))]);
    }
    let key = "container.apparmor.security.beta.kubernetes.io/a";
    for fine in ["", "runtime/default", "localhost/own"] {
        passes(LATEST, &[("metadata.annotations", json!({key: fine}))]);
    }
    let loose = json!({"type": "Unconfined"});
    baseline(
        at(0),
        &[(&of(POD, field), loose.clone())],
        "forbidden AppArmor profile (pod must not set AppArmor profile type to \"Unconfined\")",
    );
    baseline(
        LATEST,
        &[
            (&of(POD, field), loose),
            (&of(A, field), json!({"type": "Other"})),
            ("metadata.annotations", json!({key: "unconfined"})),
        ],
        "forbidden AppArmor profiles (pod and container \"a\" and annotation must not set AppArmor profile type to \"Other\", \
         \"Unconfined\", \"container.apparmor.security.beta.kubernetes.io/a=\"unconfined\"\")",
    );
}

#[test]
fn capabilities() {
    let field = of(A, "capabilities");
    let caps = |add: &[&str], drop: &[&str]| json!({"add": add, "drop": drop});
    passes(LATEST, &[(&field, caps(&["NET_BIND_SERVICE"], &["ALL"]))]);
    passes(at(21), &[(&field, caps(&["CHOWN"], &[]))]);
    baseline(
        at(21),
        &[(&field, caps(&["SYS_TIME", "CHOWN", "NET_RAW"], &["ALL"]))],
        "non-default capabilities (container \"a\" must not include \"NET_RAW\", \"SYS_TIME\" in securityContext.capabilities.add)",
    );
    // From here on `restricted` has a stricter rule of its own.
    restricted(
        at(22),
        &[(&field, caps(&["CHOWN"], &["NET_RAW"]))],
        "unrestricted capabilities (container \"a\" must set securityContext.capabilities.drop=[\"ALL\"]; container \"a\" must not \
         include \"CHOWN\" in securityContext.capabilities.add)",
    );
    let bad = with(&[(&field, caps(&["NET_RAW"], &["ALL"]))]);
    assert_eq!(
        judged(Level::Restricted, LATEST, &bad),
        "unrestricted capabilities (container \"a\" must not include \"NET_RAW\" in securityContext.capabilities.add)"
    );
}

#[test]
fn host_namespaces() {
    passes(LATEST, &[("spec.hostNetwork", json!(false))]);
    let all = ["hostNetwork", "hostPID", "hostIPC"].map(|field| of("spec", field));
    let changes: Vec<_> = all.iter().map(|path| (path.as_str(), json!(true))).collect();
    baseline(at(0), &changes[1..2], "host namespaces (hostPID=true)");
    baseline(
        LATEST,
        &changes,
        "host namespaces (hostNetwork=true, hostPID=true, hostIPC=true)",
    );
}

#[test]
fn volumes() {
    let fine = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    let fine: Vec<Value> = fine
        .iter()
        .map(|source| json!({"name": source, *source: {}}))
        .collect();
    passes(LATEST, &[("spec.volumes", fine.into())]);
    let volumes =
        json!([{"name": "h", "hostPath": {"path": "/"}}, {"name": "n", "nfs": {}}, {"name": "u", "new": {}}]);
    let bad = with(&[("spec.volumes", volumes)]);
    for version in [at(0), LATEST] {
        assert_eq!(
            judged(Level::Baseline, version, &bad),
            "hostPath volumes (volume \"h\")"
        );
        assert_eq!(
            judged(Level::Restricted, version, &bad),
            "restricted volume types (volumes \"h\", \"n\", \"u\" use restricted volume types \"hostPath\", \"nfs\", \"unknown\")"
        );
    }
    restricted(
        LATEST,
        &[("spec.volumes", json!([{"name": "d", "gcePersistentDisk": {}}]))],
        "restricted volume types (volume \"d\" uses restricted volume type \"gcePersistentDisk\")",
    );
}

#[test]
fn host_ports() {
    let ports = "spec.containers.0.ports";
    passes(
        LATEST,
        &[(ports, json!([{"containerPort": 80}, {"hostPort": 0}]))],
    );
    baseline(
        at(0),
        &[(ports, json!([{"hostPort": 80}, {"containerPort": 1}]))],
        "hostPort (container \"a\" uses hostPort 80)",
    );
    baseline(
        LATEST,
        &[
            (ports, json!([{"hostPort": 9}, {"hostPort": 80}])),
            second(),
            ("spec.initContainers.0.ports", json!([{"hostPort": 9}])),
        ],
        "hostPort (containers \"b\", \"a\" use hostPorts 80, 9)",
    );
}

#[test]
fn hosts_of_probes_and_hooks() {
    let container = "spec.containers.0";
    let get = json!({"httpGet": {"host": "elsewhere", "port": 80}});
    passes(at(33), &[(&of(container, "livenessProbe"), get.clone())]);
    passes(
        LATEST,
        &[(&of(container, "livenessProbe"), json!({"httpGet": {"port": 80}}))],
    );
    for field in [
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle.postStart",
        "lifecycle.preStop",
    ] {
        baseline(
            at(34),
            &[(&of(container, field), get.clone())],
            "probe or lifecycle host (container \"a\" uses probe or lifecycle host \"elsewhere\")",
        );
    }
    baseline(
        LATEST,
        &[
            (&of(container, "startupProbe"), get),
            second(),
            (
                "spec.initContainers.0.livenessProbe",
                json!({"tcpSocket": {"host": "1.2.3.4"}}),
            ),
        ],
        "probe or lifecycle host (containers \"a\", \"b\" use probe or lifecycle hosts \"1.2.3.4\", \"elsewhere\")",
    );
}

#[test]
fn privileged() {
    let field = of(A, "privileged");
    passes(LATEST, &[(&field, json!(false))]);
    for version in [at(0), LATEST] {
        baseline(
            version,
            &[(&field, json!(true))],
            "privileged (container \"a\" must not set securityContext.privileged=true)",
        );
    }
    let ephemeral = json!([{"name": "e", "securityContext": {"privileged": true}}]);
    let debugged = with(&[("spec.ephemeralContainers", ephemeral)]);
    assert_eq!(
        judged(Level::Baseline, LATEST, &debugged),
        "privileged (container \"e\" must not set securityContext.privileged=true)"
    );
}

#[test]
fn proc_mount() {
    let field = of(A, "procMount");
    let bad = "procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\")";
    passes(LATEST, &[(&field, json!("Default"))]);
    baseline(LATEST, &[(&field, json!("Unmasked"))], bad);
    let own = [
        (field.as_str(), json!("Unmasked")),
        ("spec.hostUsers", json!(false)),
    ];
    baseline(at(34), &own, bad);
    restricted(at(35), &own, bad);
}

#[test]
fn se_linux() {
    let field = "seLinuxOptions";
    for fine in ["", "container_t", "container_init_t", "container_kvm_t"] {
        passes(at(0), &[(&of(A, field), json!({"type": fine}))]);
    }
    let engine = json!({"type": "container_engine_t", "level": "s0"});
    passes(at(31), &[(&of(A, field), engine.clone())]);
    baseline(
        at(30),
        &[(&of(A, field), engine)],
        "seLinuxOptions (container \"a\" set forbidden securityContext.seLinuxOptions: type \"container_engine_t\")",
    );
    baseline(
        LATEST,
        &[
            (&of(POD, field), json!({"type": "foo", "user": "u"})),
            (&of(A, field), json!({"type": "bar", "role": "r"})),
        ],
        "seLinuxOptions (pod and container \"a\" set forbidden securityContext.seLinuxOptions: types \"bar\", \"foo\"; user may not \
         be set; role may not be set)",
    );
}

#[test]
fn seccomp() {
    let annotations = json!({
        "seccomp.security.alpha.kubernetes.io/pod": "unconfined",
        "container.seccomp.security.alpha.kubernetes.io/a": "unconfined",
        "container.seccomp.security.alpha.kubernetes.io/nobody": "unconfined",
    });
    let annotated = [("metadata.annotations", annotations)];
    baseline(
        at(18),
        &annotated,
        "seccompProfile (forbidden annotations container.seccomp.security.alpha.kubernetes.io/a=\"unconfined\", \
         seccomp.security.alpha.kubernetes.io/pod=\"unconfined\")",
    );
    // From here on the field is what counts.
    passes(at(19), &annotated);
    for fine in ["runtime/default", "docker/default", "localhost/own"] {
        let annotations = json!({"seccomp.security.alpha.kubernetes.io/pod": fine});
        passes(at(0), &[("metadata.annotations", annotations)]);
    }
    let field = "seccompProfile";
    let loose = json!({"type": "Unconfined"});
    baseline(
        at(19),
        &[(&of(A, field), loose.clone())],
        "seccompProfile (container \"a\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
    );
    baseline(
        LATEST,
        &[(&of(POD, field), loose.clone()), (&of(A, field), loose)],
        "seccompProfile (pod and container \"a\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
    );
    let missing = [(&*of(POD, field), Value::Null)];
    passes(at(18), &missing);
    restricted(
        at(19),
        &missing,
        "seccompProfile (pod or container \"a\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
    );
    passes(
        LATEST,
        &[
            (&of(POD, field), Value::Null),
            (&of(A, field), json!({"type": "Localhost"})),
        ],
    );
}

#[test]
fn sysctls() {
    let set = |names: &[&str]| {
        let all: Vec<Value> = names
            .iter()
            .map(|name| json!({"name": name, "value": "1"}))
            .collect();
        [("spec.securityContext.sysctls", json!(all))]
    };
    passes(at(0), &set(&["net.ipv4.tcp_syncookies"]));
    for (name, since) in [
        ("net.ipv4.ip_local_reserved_ports", 27),
        ("net.ipv4.tcp_keepalive_time", 29),
        ("net.ipv4.tcp_rmem", 32),
    ] {
        passes(at(since), &set(&[name]));
        passes(LATEST, &set(&[name]));
        baseline(
            at(since - 1),
            &set(&[name]),
            &format!("forbidden sysctls ({name})"),
        );
    }
    baseline(
        LATEST,
        &set(&["b", "kernel.shm_rmid_forced", "a"]),
        "forbidden sysctls (b, a)",
    );
}

#[test]
fn windows() {
    let options = "windowsOptions";
    passes(LATEST, &[(&of(A, options), json!({"hostProcess": false}))]);
    baseline(
        at(0),
        &[(&of(A, options), json!({"hostProcess": true}))],
        "hostProcess (container \"a\" must not set securityContext.windowsOptions.hostProcess=true)",
    );
    baseline(
        LATEST,
        &[(&of(POD, options), json!({"hostProcess": true}))],
        "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
    );
    // What Windows does not have is not asked for there.
    let pod = json!({"spec": {"os": {"name": "windows"}, "securityContext": {"runAsNonRoot": true}, "containers": [{"name": "a"}]}});
    assert_eq!(judged(Level::Restricted, at(25), &pod), "");
    assert_eq!(
        judged(Level::Restricted, at(24), &pod),
        "allowPrivilegeEscalation != false (container \"a\" must set securityContext.allowPrivilegeEscalation=false), \
         unrestricted capabilities (container \"a\" must set securityContext.capabilities.drop=[\"ALL\"]), \
         seccompProfile (pod or container \"a\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
}

#[test]
fn escalation() {
    let field = of(A, "allowPrivilegeEscalation");
    let bad = "allowPrivilegeEscalation != false (container \"a\" must set securityContext.allowPrivilegeEscalation=false)";
    for value in [json!(true), Value::Null] {
        passes(at(7), &[(&field, value.clone())]);
        restricted(at(8), &[(&field, value.clone())], bad);
        restricted(LATEST, &[(&field, value)], bad);
    }
}

#[test]
fn not_root() {
    let of_pod = of(POD, "runAsNonRoot");
    let of_a = of(A, "runAsNonRoot");
    passes(LATEST, &[(&of_pod, Value::Null), (&of_a, json!(true))]);
    restricted(
        at(0),
        &[(&of_pod, Value::Null)],
        "runAsNonRoot != true (pod or container \"a\" must set securityContext.runAsNonRoot=true)",
    );
    restricted(
        LATEST,
        &[(&of_a, json!(false))],
        "runAsNonRoot != true (container \"a\" must not set securityContext.runAsNonRoot=false)",
    );
    let both = [(&*of_pod, json!(false)), (&*of_a, json!(false))];
    let bad =
        "runAsNonRoot != true (pod and container \"a\" must not set securityContext.runAsNonRoot=false)";
    restricted(LATEST, &both, bad);
    let own = [both.clone().to_vec(), vec![("spec.hostUsers", json!(false))]].concat();
    restricted(at(34), &own, bad);
    passes(at(35), &own);
}

#[test]
fn not_user_zero() {
    let of_pod = of(POD, "runAsUser");
    let of_a = of(A, "runAsUser");
    passes(LATEST, &[(&of_pod, json!(1)), (&of_a, json!(1000))]);
    passes(at(22), &[(&of_pod, json!(0))]);
    restricted(
        at(23),
        &[(&of_pod, json!(0))],
        "runAsUser=0 (pod must not set runAsUser=0)",
    );
    let both = [(&*of_pod, json!(0)), (&*of_a, json!(0))];
    let bad = "runAsUser=0 (pod and container \"a\" must not set runAsUser=0)";
    restricted(LATEST, &both, bad);
    let own = [both.clone().to_vec(), vec![("spec.hostUsers", json!(false))]].concat();
    restricted(at(34), &own, bad);
    passes(at(35), &own);
}
