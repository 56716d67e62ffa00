//! Helm, unmodified, over HTTPS: its library as Python's `helm-python-sdk` carries it, where `CHOREO_TEST_HELM_SDK` names the
//! folder that it is installed in (`python3 -m pip install --target FOLDER helm-python-sdk`). `cargo xtask test` does so.

use std::path::Path;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::kubectl::Kubectl;
use crate::support::TestServer;

struct Helm {
    sdk: String,
    cluster: Kubectl,
}

impl Helm {
    async fn run(&self, step: &str) -> Value {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/helm");
        let output = Command::new("python3")
            .arg(here.join("releases.py"))
            .arg(self.cluster.folder.path().join("kubeconfig"))
            .arg(here.join("chart"))
            .arg(step)
            .env("HOME", self.cluster.folder.path())
            .env("PYTHONPATH", &self.sdk)
            .kill_on_drop(true)
            .output()
            .await
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "helm {step}: {errors}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

async fn spec(server: &TestServer, path: &str) -> Value {
    server.get(path).await.expect(200)["spec"].clone()
}

const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/default/deployments/demo";
const GADGET: &str = "/apis/example.dev/v1/namespaces/default/gadgets/demo";
const SETTINGS: &str = "/api/v1/namespaces/default/configmaps/demo-settings";

#[tokio::test]
#[allow(clippy::print_stderr)] // A test that is left out must not look like one that passed.
async fn a_release_is_installed_upgraded_rolled_back_and_removed() {
    let Ok(sdk) = std::env::var("CHOREO_TEST_HELM_SDK") else {
        eprintln!("NOT RUN: CHOREO_TEST_HELM_SDK names no folder with Helm's library");
        return;
    };
    let cluster = Kubectl::serve().await;
    let helm = Helm { sdk, cluster };
    let server = &helm.cluster.server;

    assert_eq!(helm.run("install").await, json!([1, "deployed"]));
    assert_eq!(spec(server, DEPLOYMENT).await["replicas"], 2);
    assert_eq!(spec(server, GADGET).await, json!({"size": 2}));
    assert_eq!(helm.run("upgrade").await, json!([2, "deployed"]));
    assert_eq!(spec(server, DEPLOYMENT).await["replicas"], 3);
    let settings = server.get(SETTINGS).await.expect(200);
    assert_eq!(settings["data"], json!({"colour": "blue"}));
    let history = json!([[1, "superseded"], [2, "superseded"], [3, "deployed"]]);
    assert_eq!(helm.run("rollback").await, history);
    let settings = server.get(SETTINGS).await.expect(200);
    assert_eq!(settings["data"], json!({"colour": "red"}));
    assert_eq!(spec(server, GADGET).await, json!({"size": 2}));
    assert_eq!(helm.run("uninstall").await, json!([]));
    for path in [DEPLOYMENT, GADGET, SETTINGS] {
        server.get(path).await.expect(404);
    }
}
