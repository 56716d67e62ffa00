//! The unmodified `kubectl` as a process, over HTTPS, where one is installed. `CHOREO_TEST_KUBECTL` names another one.

use std::path::Path;
use std::sync::Arc;

use choreo_apiserver::kubeconfig::{self, Context};
use choreo_apiserver::serve::{ServeOptions, serve, tls_settings};
use choreo_apiserver::tls::{Pki, local_names};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::support::{CRDS, TestServer, deployment, widget, widgets};

pub(crate) struct Kubectl {
    pub(crate) server: TestServer,
    pub(crate) folder: tempfile::TempDir,
    _serving: DropGuard,
}

/// What a run printed. Standard output and error together, since that is what a person sees.
pub(crate) struct Run {
    pub(crate) ok: bool,
    pub(crate) text: String,
}

impl Kubectl {
    /// A server on a port of its own; none where there is no kubectl.
    async fn start() -> Option<Kubectl> {
        if Self::is_there().await {
            Some(Kubectl::serve().await)
        } else {
            None
        }
    }

    /// Whether there is a kubectl.
    #[allow(clippy::print_stderr)] // A test that is left out must not look like one that passed.
    pub(crate) async fn is_there() -> bool {
        let program = Self::program();
        if Command::new(&program)
            .arg("version")
            .arg("--client")
            .output()
            .await
            .is_err()
        {
            eprintln!("NOT RUN: there is no {program} here");
            return false;
        }
        true
    }

    /// A server on a port of its own, with a kubeconfig in its folder.
    pub(crate) async fn serve() -> Kubectl {
        Kubectl::over(TestServer::start()).await
    }

    /// Serves a server on a port of its own.
    pub(crate) async fn over(server: TestServer) -> Kubectl {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::ephemeral(&local_names(), jiff::Timestamp::now()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let context = |name: &str, server: String| Context {
            name: name.into(),
            server,
            namespace: "default".into(),
        };
        let contexts = [
            context("control", url.clone()),
            context("local", format!("{url}/clusters/local")),
        ];
        kubeconfig::write(
            &folder.path().join("kubeconfig"),
            &contexts,
            pki.authority_pem(),
            pki.admin(),
        )
        .unwrap();
        let shutdown = CancellationToken::new();
        let tls = tls_settings(pki.server_config().unwrap());
        let router = server.server.router();
        let auth = Arc::new(server.server.authenticator());
        tokio::spawn(serve(
            listener,
            tls,
            auth,
            router,
            ServeOptions::default(),
            shutdown.clone(),
        ));
        Kubectl {
            server,
            folder,
            _serving: shutdown.drop_guard(),
        }
    }

    fn program() -> String {
        std::env::var("CHOREO_TEST_KUBECTL").unwrap_or_else(|_| "kubectl".to_owned())
    }

    pub(crate) fn command(&self, args: &str) -> Command {
        let mut command = Command::new(Self::program());
        command
            .args(args.split(' '))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .env("KUBECONFIG", self.folder.path().join("kubeconfig"))
            .env("EDITOR", "true")
            .current_dir(self.folder.path())
            .kill_on_drop(true);
        command
    }

    pub(crate) async fn run(&self, args: &str) -> Run {
        let output = self.command(args).output().await.unwrap();
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Run {
            ok: output.status.success(),
            text,
        }
    }

    /// Runs, one after the other, that must succeed and print every one of these.
    pub(crate) async fn says(&self, runs: &[(&str, &[&str])]) {
        for (args, parts) in runs {
            let run = self.run(args).await;
            assert!(run.ok, "kubectl {args}: {}", run.text);
            for part in *parts {
                assert!(
                    run.text.contains(part),
                    "kubectl {args}: no {part:?} in:\n{}",
                    run.text
                );
            }
        }
    }

    /// A run that must fail and print this.
    pub(crate) async fn refuses(&self, args: &str, part: &str) {
        let run = self.run(args).await;
        assert!(!run.ok && run.text.contains(part), "kubectl {args}: {}", run.text);
    }

    fn write(&self, name: &str, value: &serde_json::Value) {
        std::fs::write(Path::new(self.folder.path()).join(name), value.to_string()).unwrap();
    }
}

#[tokio::test]
async fn a_day_with_built_in_kinds() {
    let Some(kubectl) = Kubectl::start().await else {
        return;
    };
    kubectl.write("d.json", &deployment("web"));
    kubectl
        .says(&[
            (
                "api-resources",
                &["deployments", "configmaps", "customresourcedefinitions"],
            ),
            (
                "explain deployment.spec --recursive",
                &["replicas", "template", "containers"],
            ),
            // The oldest form of the documents, which client-go reads as protobuf only.
            (
                "explain deployment.spec.replicas --output=plaintext-openapiv2",
                &[
                    "KIND:     Deployment",
                    "FIELD:    replicas <integer>",
                    "Number of desired pods",
                ],
            ),
            ("apply -f d.json", &["deployment.apps/web created"]),
            ("apply -f d.json", &["deployment.apps/web unchanged"]),
            (
                "apply --server-side --force-conflicts -f d.json",
                &["deployment.apps/web serverside-applied"],
            ),
            (
                "scale deployment/web --replicas=3",
                &["deployment.apps/web scaled"],
            ),
            (
                "patch deployment web -p {\"spec\":{\"paused\":true}}",
                &["deployment.apps/web patched"],
            ),
            (
                "get deployment web -o jsonpath={.spec.replicas}{.spec.paused}",
                &["3true"],
            ),
            ("describe deployment web", &["Name:", "web", "nginx:1"]),
            ("label deployment web tier=front", &["labeled"]),
            ("get deployments -l tier=front -o name", &["deployment.apps/web"]),
            ("set image deployment/web main=nginx:2", &["image updated"]),
            ("edit deployment web", &["cancelled"]),
            (
                "create configmap cm --from-literal=a=b",
                &["configmap/cm created"],
            ),
            (
                "wait --for=jsonpath={.data.a}=b configmap/cm --timeout=5s",
                &["condition met"],
            ),
            ("create namespace shop", &["namespace/shop created"]),
            ("--context local get deployments", &["No resources found"]),
            ("auth can-i create pods", &["yes"]),
            ("get events", &["No resources found"]),
            ("delete deployment web --wait", &["deleted"]),
        ])
        .await;
    kubectl.refuses("diff -f d.json", "+  name: web").await;
}

#[tokio::test]
async fn a_day_with_custom_resources() {
    let Some(kubectl) = Kubectl::start().await else {
        return;
    };
    kubectl.write("crd.json", &widgets());
    kubectl.write("w.json", &widget("a", 2));
    kubectl
        .says(&[
            ("apply -f crd.json", &["created"]),
            (
                "wait --for=condition=Established crd/widgets.example.dev",
                &["condition met"],
            ),
            ("get crds", &["widgets.example.dev"]),
            ("apply -f w.json", &["widget.example.dev/a created"]),
            ("get wi", &["a"]),
            ("explain widget.spec", &["KIND:", "Widget", "size", "<integer>"]),
            ("scale widget/a --replicas=2", &["scaled"]),
            (
                "patch widget a --type=merge -p {\"spec\":{\"size\":5}}",
                &["patched"],
            ),
        ])
        .await;
    let apply = "apply --server-side --force-conflicts -f w.json";
    kubectl.refuses(apply, "size may not shrink").await;
    kubectl.write("w.json", &widget("a", 6));
    kubectl
        .says(&[
            (
                "apply --server-side --force-conflicts -f w.json",
                &["serverside-applied"],
            ),
            ("delete crd widgets.example.dev --wait", &["deleted"]),
        ])
        .await;
    assert_eq!(
        kubectl
            .server
            .get(&format!("{CRDS}/widgets.example.dev"))
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn a_watch_prints_what_happens() {
    let Some(kubectl) = Kubectl::start().await else {
        return;
    };
    let mut watch = kubectl
        .command("get configmaps --watch -o name")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = tokio::io::BufReader::new(watch.stdout.take().unwrap());
    for name in ["one", "two"] {
        let create = format!("create configmap {name}");
        kubectl.says(&[(&create, &["created"])]).await;
        let mut line = String::new();
        tokio::io::AsyncBufReadExt::read_line(&mut lines, &mut line)
            .await
            .unwrap();
        assert_eq!(line.trim(), format!("configmap/{name}"));
    }
    watch.kill().await.unwrap();
}

#[tokio::test]
async fn kubectl_acts_with_a_token_of_an_account() {
    let Some(kubectl) = Kubectl::start().await else {
        return;
    };
    kubectl
        .says(&[
            ("create serviceaccount robot", &["serviceaccount/robot created"]),
            (
                "create rolebinding robot --clusterrole=view --serviceaccount=default:robot",
                &["rolebinding.rbac.authorization.k8s.io/robot created"],
            ),
        ])
        .await;
    let token = kubectl.run("create token robot --duration=20m").await;
    assert!(token.ok, "{}", token.text);
    // A client certificate counts more than a token, so the token goes without one.
    let file = kubectl.folder.path().join("kubeconfig");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut config: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
    config["users"][0]["user"] = serde_json::json!({"token": token.text.trim()});
    std::fs::write(&file, config.to_string()).unwrap();
    kubectl
        .says(&[
            ("auth whoami", &["system:serviceaccount:default:robot"]),
            ("get pods", &["No resources found"]),
        ])
        .await;
    let why = "User \"system:serviceaccount:default:robot\" cannot list resource \"secrets\"";
    kubectl.refuses("get secrets", why).await;
}

/// What people who look after a cluster do. kubectl prints the same against kube-apiserver 1.36, but for the refusals at the end.
#[tokio::test]
async fn a_day_of_an_operator() {
    let Some(kubectl) = Kubectl::start().await else {
        return;
    };
    kubectl.write("d.json", &deployment("web"));
    kubectl.write(
        "node.json",
        &serde_json::json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}),
    );
    kubectl.write(
        "pod.json",
        &serde_json::json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"nodeName": "n1", "containers": [{"name": "m", "image": "nginx"}]},
        }),
    );
    kubectl
        .says(&[(
            "apply -f node.json -f d.json",
            &["node/n1 created", "deployment.apps/web created"],
        )])
        .await;
    // The default account is made by a controller, a moment after the namespace.
    let account = "wait --for=create serviceaccount/default --timeout=30s";
    kubectl.says(&[(account, &["condition met"])]).await;
    kubectl
        .says(&[
            ("apply -f pod.json", &["pod/p created"]),
            (
                "rollout restart deployment/web",
                &["deployment.apps/web restarted"],
            ),
            ("rollout pause deployment/web", &["deployment.apps/web paused"]),
            ("rollout resume deployment/web", &["deployment.apps/web resumed"]),
            ("rollout history deployment/web", &["No rollout history found."]),
            (
                "rollout status deployment/web --watch=false",
                &["Waiting for deployment spec update to be observed..."],
            ),
            (
                "drain n1 --dry-run=server --force",
                &[
                    "node/n1 cordoned (server dry run)",
                    "deleting Pods that declare no controller: default/p",
                    "evicting pod default/p (server dry run)",
                    "node/n1 drained (server dry run)",
                ],
            ),
            ("get node n1 -o jsonpath={.spec.unschedulable}", &[""]),
            ("cordon n1", &["node/n1 cordoned"]),
            ("taint node n1 a=b:NoSchedule", &["node/n1 tainted"]),
            ("expose deployment web --port=80", &["service/web exposed"]),
            (
                "autoscale deployment web --min=1 --max=3",
                &["horizontalpodautoscaler.autoscaling/web autoscaled"],
            ),
            (
                "set resources deployment web --limits=cpu=1",
                &["deployment.apps/web resource requirements updated"],
            ),
            ("replace -f d.json", &["deployment.apps/web replaced"]),
            (
                "run r --image=nginx --dry-run=server",
                &["pod/r created (server dry run)"],
            ),
            ("auth whoami", &["system:masters"]),
            ("get --raw /livez", &["ok"]),
        ])
        .await;
    for (args, part) in [
        (
            "cp d.json default/p:/x",
            "pods/exec of \"p\" cannot be answered: no node agent is connected",
        ),
        (
            "exec p -- ls",
            "pods/exec of \"p\" cannot be answered: no node agent is connected",
        ),
        (
            "logs p",
            "pods/log of \"p\" cannot be answered: no node agent is connected",
        ),
        (
            "port-forward p 8080:80",
            "pod is not running. Current status=Pending",
        ),
        (
            "rollout undo deployment/web",
            "no rollout history found for deployment \"web\"",
        ),
        ("top pods", "Metrics API not available"),
    ] {
        kubectl.refuses(args, part).await;
    }
    kubectl
        .says(&[
            ("delete pod p --force", &["pod \"p\" force deleted"]),
            ("delete -f d.json --wait", &["deleted"]),
        ])
        .await;
}
