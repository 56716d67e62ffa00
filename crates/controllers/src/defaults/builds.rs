//! How the embedded build plane builds: one workflow template for each way, under the names that builds of OpenChoreo use.
//!
//! All of them clone, build and push, and say what came of it in the same two outputs: `git-revision` and `image`. They differ in the
//! one command that makes an image of a folder. Their steps are simulated here; they have not been run by a real Argo Workflows yet.
//!
//! Argo puts parameters into a step's text before anything reads it, so that a parameter within a script would be part of the
//! script. Here every parameter is the value of an environment variable, and scripts name the variable: what a developer writes into
//! a Build is data and never a command.

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
        command: "buildah build -t \"$IMAGE\" -f \"$ROOT/$DOCKERFILE_PATH\" \"$ROOT/$DOCKER_CONTEXT\"",
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
        command: "printf 'FROM node:%s-alpine AS build\\nWORKDIR /app\\nCOPY . .\\nRUN npm ci && npm run build\\n\
                  FROM nginxinc/nginx-unprivileged:alpine\\nCOPY --from=build /app/build /usr/share/nginx/html\\n' \"$NODE_VERSION\" > /tmp/Dockerfile && \
                  buildah build -t \"$IMAGE\" -f /tmp/Dockerfile \"$SOURCE\"",
    },
];

/// The workflow templates of the embedded build plane.
pub(super) fn templates() -> Vec<DynamicObject> {
    WAYS.iter().map(|way| typed(template(way))).collect()
}

/// Where the steps share the source and the image.
const SHARED: &str = "/workspace";

/// Clones `$GIT_REPO` and checks `$COMMIT` out, or else the head of `$BRANCH`.
const CLONE: &str = "git clone --no-checkout -- \"$GIT_REPO\" \"$SHARED/source\"\n\
                     cd \"$SHARED/source\"\n\
                     REVISION=\"${COMMIT:-origin/$BRANCH}\"\n\
                     git rev-parse --verify --end-of-options \"$REVISION^{commit}\" > /tmp/hash\n\
                     read -r HASH < /tmp/hash\n\
                     git checkout --detach \"$HASH\"\n\
                     printf '%s' \"$HASH\" > /tmp/revision\n";

/// Pushes what was built, and tells its digest.
const PUSH: &str = "NAME=\"$REGISTRY/$IMAGE_NAME\"\n\
                    buildah pull \"oci-archive:$SHARED/image.tar\" > /tmp/id\n\
                    read -r ID < /tmp/id\n\
                    buildah push --digestfile /tmp/digest \"$ID\" \"docker://$NAME:$GIT_REVISION\"\n\
                    printf '%s@' \"$NAME\" | cat - /tmp/digest > /tmp/image\n";

/// A step that runs a shell script next to the source.
struct Step<'a> {
    name: &'a str,
    image: &'a str,
    script: &'a str,
    /// The workflow's parameters that the script uses, as variables.
    parameters: &'a [&'a str],
    /// Whether it builds the commit that the first step has found.
    of_revision: bool,
    /// Name of what it makes, and the file that holds it.
    output: Option<(&'a str, &'a str)>,
}

/// The variable that a parameter is the value of: `git-repo` is in `GIT_REPO`.
fn variable(parameter: &str) -> String {
    parameter.to_uppercase().replace('-', "_")
}

fn step(step: &Step<'_>) -> Value {
    let given = |name: &str, value: String| json!({"name": name, "value": value});
    let mut env = vec![given("SHARED", SHARED.to_owned())];
    env.extend(
        step.parameters
            .iter()
            .map(|name| given(&variable(name), format!("{{{{workflow.parameters.{name}}}}}"))),
    );
    if step.of_revision {
        env.push(given(
            &variable(REVISION),
            format!("{{{{inputs.parameters.{REVISION}}}}}"),
        ));
    }
    let mut object = json!({
        "name": step.name,
        "container": {
            "image": step.image,
            "command": ["sh", "-ec"],
            "args": [step.script],
            "env": env,
            "volumeMounts": [{"name": "work", "mountPath": SHARED}],
        },
    });
    if step.of_revision {
        object["inputs"] = json!({"parameters": [{"name": REVISION}]});
    }
    if let Some((name, path)) = step.output {
        object["outputs"] = json!({"parameters": [{"name": name, "valueFrom": {"path": path}}]});
    }
    object
}

/// The output of the first step: the commit that is built.
const REVISION: &str = "git-revision";

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
        "name": REVISION,
        "value": "{{steps.clone-step.outputs.parameters.git-revision}}",
    }]);
    let build = format!(
        "ROOT=\"$SHARED/source\"\n\
         SOURCE=\"$ROOT/$APP_PATH\"\n\
         IMAGE=\"$IMAGE_NAME:$GIT_REVISION\"\n\
         {}\n\
         buildah push \"$IMAGE\" \"oci-archive:$SHARED/image.tar\"\n",
        way.command
    );
    let own = way.parameters.iter().map(|(name, _)| *name);
    let of_build: Vec<&str> = ["app-path", "image-name"].into_iter().chain(own).collect();
    let clone = Step {
        name: "clone-step",
        image: GIT,
        script: CLONE,
        parameters: &["git-repo", "commit", "branch"],
        of_revision: false,
        output: Some((REVISION, "/tmp/revision")),
    };
    let build = Step {
        name: "build-step",
        image: way.image,
        script: &build,
        parameters: &of_build,
        of_revision: true,
        output: None,
    };
    let push = Step {
        name: "push-step",
        image: BUILDER,
        script: PUSH,
        parameters: &["registry", "image-name"],
        of_revision: true,
        output: Some(("image", "/tmp/image")),
    };
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
                step(&clone),
                step(&build),
                step(&push),
            ],
            "volumeClaimTemplates": [{
                "metadata": {"name": "work"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}},
            }],
            "ttlStrategy": {"secondsAfterCompletion": 86400},
        },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The names of the variables that a script reads and does not set itself.
    fn variables(script: &str) -> BTreeSet<String> {
        let name = |text: &str| -> String {
            let text = text.strip_prefix('{').unwrap_or(text);
            text.chars()
                .take_while(|c| c.is_ascii_uppercase() || *c == '_')
                .collect()
        };
        let read = script
            .split('$')
            .skip(1)
            .map(name)
            .filter(|name| !name.is_empty());
        let set = |name: &String| {
            script.contains(&format!("{name}=")) || script.contains(&format!("read -r {name} "))
        };
        read.filter(|name| !set(name)).collect()
    }

    #[test]
    fn what_a_build_says_never_becomes_part_of_a_script() {
        for way in WAYS {
            let template = template(way);
            let steps = template["spec"]["templates"].as_array().unwrap();
            let steps: Vec<&Value> = steps
                .iter()
                .filter(|step| step.get("container").is_some())
                .collect();
            assert_eq!(steps.len(), 3);
            for step in steps {
                let container = &step["container"];
                let script = container["args"][0].as_str().unwrap();
                assert!(!script.contains("{{"), "{}: {script}", way.name);
                let given: BTreeSet<String> = container["env"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|variable| variable["name"].as_str().unwrap().to_owned())
                    .collect();
                assert_eq!(variables(script), given, "{} {}", way.name, step["name"]);
                // Outside of quotes, the shell would take a value apart and expand it.
                let unquoted = script.split('"').step_by(2).filter(|part| part.contains('$'));
                assert_eq!(unquoted.count(), 0, "{}: {script}", way.name);
            }
        }
    }
}
