//! The unmodified `kubectl` as a process, over HTTPS, where one is installed. `KUBECTL` names another one.

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
struct Run {
    ok: bool,
    text: String,
}

impl Kubectl {
    /// A server on a port of its own; none where there is no kubectl.
    async fn start() -> Option<Kubectl> {
        let program = Self::program();
        if Command::new(&program)
            .arg("version")
            .arg("--client")
            .output()
            .await
            .is_err()
        {
            return None;
        }
        Some(Kubectl::serve().await)
    }

    /// A server on a port of its own, with a kubeconfig in its folder.
    pub(crate) async fn serve() -> Kubectl {
        let server = TestServer::start();
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
        std::env::var("KUBECTL").unwrap_or_else(|_| "kubectl".to_owned())
    }

    fn command(&self, args: &str) -> Command {
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

    async fn run(&self, args: &str) -> Run {
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

    /// A run that must succeed and print every one of these.
    #[track_caller]
    fn check(run: &Run, args: &str, parts: &[&str]) {
        assert!(run.ok, "kubectl {args}: {}", run.text);
        for part in parts {
            assert!(
                run.text.contains(part),
                "kubectl {args}: no {part:?} in:\n{}",
                run.text
            );
        }
    }

    fn write(&self, name: &str, value: &serde_json::Value) {
        std::fs::write(Path::new(self.folder.path()).join(name), value.to_string()).unwrap();
    }
}

macro_rules! kubectl {
    ($kubectl:expr, $args:expr, $($part:expr),* $(,)?) => {
        let run = $kubectl.run($args).await;
        Kubectl::check(&run, $args, &[$($part),*]);
    };
}

#[tokio::test]
async fn a_day_with_built_in_kinds() {
    let Some(kubectl) = Kubectl::start().await else {
        return;
    };
    kubectl.write("d.json", &deployment("web"));
    kubectl!(
        kubectl,
        "api-resources",
        "deployments",
        "configmaps",
        "customresourcedefinitions"
    );
    kubectl!(
        kubectl,
        "explain deployment.spec --recursive",
        "replicas",
        "template",
        "containers"
    );
    kubectl!(kubectl, "apply -f d.json", "deployment.apps/web created");
    kubectl!(kubectl, "apply -f d.json", "deployment.apps/web unchanged");
    kubectl!(
        kubectl,
        "apply --server-side --force-conflicts -f d.json",
        "deployment.apps/web serverside-applied"
    );
    kubectl!(
        kubectl,
        "scale deployment/web --replicas=3",
        "deployment.apps/web scaled"
    );
    kubectl!(
        kubectl,
        "patch deployment web -p {\"spec\":{\"paused\":true}}",
        "deployment.apps/web patched"
    );
    kubectl!(
        kubectl,
        "get deployment web -o jsonpath={.spec.replicas}{.spec.paused}",
        "3true"
    );
    kubectl!(kubectl, "describe deployment web", "Name:", "web", "nginx:1");
    kubectl!(kubectl, "label deployment web tier=front", "labeled");
    kubectl!(
        kubectl,
        "get deployments -l tier=front -o name",
        "deployment.apps/web"
    );
    kubectl!(kubectl, "set image deployment/web main=nginx:2", "image updated");
    kubectl!(kubectl, "edit deployment web", "cancelled");
    kubectl!(
        kubectl,
        "create configmap cm --from-literal=a=b",
        "configmap/cm created"
    );
    kubectl!(
        kubectl,
        "wait --for=jsonpath={.data.a}=b configmap/cm --timeout=5s",
        "condition met"
    );
    kubectl!(kubectl, "create namespace shop", "namespace/shop created");
    kubectl!(kubectl, "--context local get deployments", "No resources found");
    kubectl!(kubectl, "auth can-i create pods", "yes");
    kubectl!(kubectl, "get events", "No resources found");
    kubectl!(kubectl, "delete deployment web --wait", "deleted");
    let diff = kubectl.run("diff -f d.json").await;
    assert!(!diff.ok && diff.text.contains("+  name: web"), "{}", diff.text);
}

#[tokio::test]
async fn a_day_with_custom_resources() {
    let Some(kubectl) = Kubectl::start().await else {
        return;
    };
    kubectl.write("crd.json", &widgets());
    kubectl.write("w.json", &widget("a", 2));
    kubectl!(kubectl, "apply -f crd.json", "created");
    kubectl!(
        kubectl,
        "wait --for=condition=Established crd/widgets.example.dev",
        "condition met"
    );
    kubectl!(kubectl, "get crds", "widgets.example.dev");
    kubectl!(kubectl, "apply -f w.json", "widget.example.dev/a created");
    kubectl!(kubectl, "get wi", "a");
    kubectl!(
        kubectl,
        "explain widget.spec",
        "KIND:",
        "Widget",
        "size",
        "<integer>"
    );
    kubectl!(kubectl, "scale widget/a --replicas=2", "scaled");
    kubectl!(
        kubectl,
        "patch widget a --type=merge -p {\"spec\":{\"size\":5}}",
        "patched"
    );
    let smaller = kubectl
        .run("apply --server-side --force-conflicts -f w.json")
        .await;
    assert!(
        !smaller.ok && smaller.text.contains("size may not shrink"),
        "{}",
        smaller.text
    );
    kubectl.write("w.json", &widget("a", 6));
    kubectl!(
        kubectl,
        "apply --server-side --force-conflicts -f w.json",
        "serverside-applied"
    );
    kubectl!(kubectl, "delete crd widgets.example.dev --wait", "deleted");
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
        kubectl!(kubectl, &format!("create configmap {name}"), "created");
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
    kubectl!(
        kubectl,
        "create serviceaccount robot",
        "serviceaccount/robot created"
    );
    kubectl!(
        kubectl,
        "create rolebinding robot --clusterrole=view --serviceaccount=default:robot",
        "rolebinding.rbac.authorization.k8s.io/robot created"
    );
    let token = kubectl.run("create token robot --duration=20m").await;
    assert!(token.ok, "{}", token.text);
    // A client certificate counts more than a token, so the token goes without one.
    let file = kubectl.folder.path().join("kubeconfig");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut config: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
    config["users"][0]["user"] = serde_json::json!({"token": token.text.trim()});
    std::fs::write(&file, config.to_string()).unwrap();
    kubectl!(kubectl, "auth whoami", "system:serviceaccount:default:robot");
    kubectl!(kubectl, "get pods", "No resources found");
    let refused = kubectl.run("get secrets").await;
    assert!(!refused.ok, "{}", refused.text);
    assert!(
        refused
            .text
            .contains("User \"system:serviceaccount:default:robot\" cannot list resource \"secrets\""),
        "{}",
        refused.text
    );
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
    kubectl!(
        kubectl,
        "apply -f node.json -f d.json",
        "node/n1 created",
        "deployment.apps/web created"
    );
    // The default account is made by a controller, a moment after the namespace.
    while kubectl
        .run("get serviceaccount default -o name")
        .await
        .text
        .trim()
        != "serviceaccount/default"
    {
        tokio::task::yield_now().await;
    }
    kubectl!(kubectl, "apply -f pod.json", "pod/p created");
    kubectl!(
        kubectl,
        "rollout restart deployment/web",
        "deployment.apps/web restarted"
    );
    kubectl!(
        kubectl,
        "rollout pause deployment/web",
        "deployment.apps/web paused"
    );
    kubectl!(
        kubectl,
        "rollout resume deployment/web",
        "deployment.apps/web resumed"
    );
    kubectl!(
        kubectl,
        "rollout history deployment/web",
        "No rollout history found."
    );
    kubectl!(
        kubectl,
        "rollout status deployment/web --watch=false",
        "Waiting for deployment spec update to be observed..."
    );
    kubectl!(
        kubectl,
        "drain n1 --dry-run=server --force",
        "node/n1 cordoned (server dry run)",
        "deleting Pods that declare no controller: default/p",
        "evicting pod default/p (server dry run)",
        "node/n1 drained (server dry run)",
    );
    kubectl!(kubectl, "get node n1 -o jsonpath={.spec.unschedulable}", "");
    kubectl!(kubectl, "cordon n1", "node/n1 cordoned");
    kubectl!(kubectl, "taint node n1 a=b:NoSchedule", "node/n1 tainted");
    kubectl!(kubectl, "expose deployment web --port=80", "service/web exposed");
    kubectl!(
        kubectl,
        "autoscale deployment web --min=1 --max=3",
        "horizontalpodautoscaler.autoscaling/web autoscaled"
    );
    kubectl!(
        kubectl,
        "set resources deployment web --limits=cpu=1",
        "deployment.apps/web resource requirements updated"
    );
    kubectl!(kubectl, "replace -f d.json", "deployment.apps/web replaced");
    kubectl!(
        kubectl,
        "run r --image=nginx --dry-run=server",
        "pod/r created (server dry run)"
    );
    kubectl!(kubectl, "auth whoami", "system:masters");
    kubectl!(kubectl, "get --raw /livez", "ok");
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
        let refused = kubectl.run(args).await;
        assert!(
            !refused.ok && refused.text.contains(part),
            "kubectl {args}: {}",
            refused.text
        );
    }
    kubectl!(kubectl, "delete pod p --force", "pod \"p\" force deleted");
    kubectl!(kubectl, "delete -f d.json --wait", "deleted");
}
