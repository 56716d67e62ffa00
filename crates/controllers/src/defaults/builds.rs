//! How the embedded build plane builds: one workflow template for each way, under the names that builds of OpenChoreo use.
//!
//! All of them clone, build and push, and say what came of it in the same two outputs: `git-revision` and `image`. They differ in the
//! one command that makes an image of a folder. Their steps are simulated, but they would run where Argo Workflows does.

use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::typed;

/// Image with the tools for building and pushing.
const BUILDER: &str = "quay.io/buildah/stable:latest";
/// Image with the buildpacks' client.
const PACK: &str = "docker.io/buildpacksio/pack:latest";
/// Image with Git.
const GIT: &str = "docker.io/alpine/git:latest";

/// A way of building.
struct Way {
    name: &'static str,
    /// Parameters of its own, with the value that counts when a build gives none.
    parameters: &'static [(&'static str, Option<&'static str>)],
    image: &'static str,
    /// Makes `$IMAGE` of the folder `$SOURCE`.
    command: &'static str,
}

const WAYS: &[Way] = &[
    Way {
        name: "docker",
        parameters: &[("docker-context", None), ("dockerfile-path", None)],
        image: BUILDER,
        command: "buildah build -t \"$IMAGE\" -f \"$ROOT/{{workflow.parameters.dockerfile-path}}\" \"$ROOT/{{workflow.parameters.docker-context}}\"",
    },
    Way {
        name: "google-cloud-buildpacks",
        parameters: &[],
        image: PACK,
        command: "pack build \"$IMAGE\" --path \"$SOURCE\" --builder gcr.io/buildpacks/builder:google-22",
    },
    Way {
        name: "ballerina-buildpack",
        parameters: &[],
        image: PACK,
        command: "pack build \"$IMAGE\" --path \"$SOURCE\" --builder ghcr.io/openchoreo/buildpack/ballerina:18",
    },
    Way {
        name: "react",
        parameters: &[("node-version", Some("20"))],
        image: BUILDER,
        command: "printf 'FROM node:{{workflow.parameters.node-version}}-alpine AS build\\nWORKDIR /app\\nCOPY . .\\nRUN npm ci && npm run build\\n\
                  FROM nginxinc/nginx-unprivileged:alpine\\nCOPY --from=build /app/build /usr/share/nginx/html\\n' > /tmp/Dockerfile && \
                  buildah build -t \"$IMAGE\" -f /tmp/Dockerfile \"$SOURCE\"",
    },
];

/// The workflow templates of the embedded build plane.
pub(super) fn templates() -> Vec<DynamicObject> {
    WAYS.iter().map(|way| typed(template(way))).collect()
}

/// A step that runs a shell script next to the source.
fn step(name: &str, image: &str, script: &str, inputs: &[&str], output: Option<(&str, &str)>) -> Value {
    let mut step = json!({
        "name": name,
        "container": {
            "image": image,
            "command": ["sh", "-ec"],
            "args": [script],
            "volumeMounts": [{"name": "work", "mountPath": "/work"}],
        },
    });
    if !inputs.is_empty() {
        let inputs: Vec<Value> = inputs.iter().map(|name| json!({"name": name})).collect();
        step["inputs"] = json!({"parameters": inputs});
    }
    if let Some((name, path)) = output {
        step["outputs"] = json!({"parameters": [{"name": name, "valueFrom": {"path": path}}]});
    }
    step
}

fn template(way: &Way) -> Value {
    let parameters: Vec<Value> = way
        .parameters
        .iter()
        .map(|(name, value)| match value {
            Some(value) => json!({"name": name, "value": value}),
            None => json!({"name": name}),
        })
        .collect();
    let call = |name: &str, given: Value| json!([{"name": name, "template": name, "arguments": {"parameters": given}}]);
    let revision = json!([{
        "name": "git-revision",
        "value": "{{steps.clone-step.outputs.parameters.git-revision}}",
    }]);
    let clone = "git clone \"{{workflow.parameters.git-repo}}\" /work/source\n\
                 cd /work/source\n\
                 git checkout \"$(printf '%s' '{{workflow.parameters.commit}}' | grep . || printf '%s' 'origin/{{workflow.parameters.branch}}')\"\n\
                 git rev-parse HEAD | tr -d '\\n' > /tmp/revision\n";
    let build = format!(
        "ROOT=/work/source\n\
         SOURCE=\"$ROOT/{{{{workflow.parameters.app-path}}}}\"\n\
         IMAGE=\"{{{{workflow.parameters.image-name}}}}:{{{{inputs.parameters.git-revision}}}}\"\n\
         {}\n\
         buildah push \"$IMAGE\" oci-archive:/work/image.tar\n",
        way.command
    );
    let push = "NAME=\"{{workflow.parameters.registry}}/{{workflow.parameters.image-name}}\"\n\
                buildah pull oci-archive:/work/image.tar > /tmp/id\n\
                buildah push --digestfile /tmp/digest \"$(cat /tmp/id)\" \"docker://$NAME:{{inputs.parameters.git-revision}}\"\n\
                printf '%s@%s' \"$NAME\" \"$(cat /tmp/digest)\" > /tmp/image\n";
    json!({
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "ClusterWorkflowTemplate",
        "metadata": {"name": way.name},
        "spec": {
            "entrypoint": "build-workflow",
            "arguments": {"parameters": parameters},
            "templates": [
                {
                    "name": "build-workflow",
                    "steps": [call("clone-step", json!([])), call("build-step", revision.clone()), call("push-step", revision)],
                },
                step("clone-step", GIT, clone, &[], Some(("git-revision", "/tmp/revision"))),
                step("build-step", way.image, &build, &["git-revision"], None),
                step("push-step", BUILDER, push, &["git-revision"], Some(("image", "/tmp/image"))),
            ],
            "volumeClaimTemplates": [{
                "metadata": {"name": "work"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}},
            }],
            "ttlStrategy": {"secondsAfterCompletion": 86400},
        },
    })
}
