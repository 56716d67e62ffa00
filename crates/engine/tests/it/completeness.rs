//! Every plan is made again when something that it reads comes, changes or goes: the promise of `affected.rs`, checked by
//! taking each object of a world away and looking at all plans.

use std::collections::BTreeMap;

use choreo_engine::{Plan, Target, affected, by_change, offline, plan};
use rstest::rstest;

use super::support::*;

const DOORS: &str = "
apiVersion: openchoreo.dev/v1alpha1
kind: Component
metadata: {name: door}
spec: {owner: {projectName: default}, type: API}
---
apiVersion: openchoreo.dev/v1alpha1
kind: API
metadata: {name: door}
spec:
  owner: {projectName: default, componentName: door}
  type: REST
  className: guarded
  target: {url: 'https://api.example.com'}
  rest: {backend: {port: 443, basePath: /v1}, exposeLevels: [Public]}
---
apiVersion: openchoreo.dev/v1alpha1
kind: APIBinding
metadata: {name: door-staging}
spec: {apiName: door, apiClassName: default, environmentName: staging}
";

const CUSTOM: &str = "
apiVersion: openchoreo.dev/v1alpha1
kind: ComponentType
metadata: {name: note, namespace: openchoreo-system}
spec:
  resources:
    - id: note
      template: {apiVersion: v1, kind: ConfigMap, metadata: {name: '${metadata.name}'}, data: {image: '${workload.containers.main.image}'}}
---
apiVersion: openchoreo.dev/v1alpha1
kind: Trait
metadata: {name: more}
spec:
  creates:
    - id: more
      template: {apiVersion: v1, kind: ConfigMap, metadata: {name: more}, data: {a: b}}
---
apiVersion: openchoreo.dev/v1alpha1
kind: Component
metadata: {name: noted}
spec: {owner: {projectName: default}, type: note, traits: [{name: more, instanceName: one}]}
---
apiVersion: openchoreo.dev/v1alpha1
kind: Workload
metadata: {name: noted}
spec: {owner: {projectName: default, componentName: noted}, containers: {main: {image: a}}}
---
apiVersion: openchoreo.dev/v1alpha1
kind: ComponentBinding
metadata: {name: noted-staging}
spec:
  owner: {projectName: default, componentName: noted}
  environment: staging
  workloadSpec: {containers: {main: {image: b}}}
";

/// Two projects, one of which calls the other, and an endpoint that a developer wrote.
const NEIGHBOURS: &str = "
apiVersion: openchoreo.dev/v1alpha1
kind: Project
metadata: {name: shop}
spec: {deploymentPipelineRef: default}
---
apiVersion: openchoreo.dev/v1alpha1
kind: Component
metadata: {name: cart}
spec: {owner: {projectName: shop}, type: Service}
---
apiVersion: openchoreo.dev/v1alpha1
kind: Workload
metadata: {name: cart}
spec:
  owner: {projectName: shop, componentName: cart}
  containers: {main: {image: c}}
  endpoints: {items: {type: REST, port: 80}}
  connections: {greeter: {type: api, params: {componentName: greeter, projectName: default, endpoint: greeter-api}, inject: {env: [{name: G, value: '{{ .url }}'}]}}}
---
apiVersion: openchoreo.dev/v1alpha1
kind: Service
metadata: {name: cart}
spec: {owner: {projectName: shop, componentName: cart}, workloadName: cart}
---
apiVersion: openchoreo.dev/v1alpha1
kind: Endpoint
metadata: {name: cart-items}
spec: {backendRef: {componentRef: cart, port: 80}, visibility: public, protocols: [HTTP]}
---
apiVersion: openchoreo.dev/v1alpha1
kind: DeploymentTrack
metadata: {name: v2, labels: {openchoreo.dev/component: cart, openchoreo.dev/project: shop}}
spec: {autoDeploy: true}
---
apiVersion: openchoreo.dev/v1alpha1
kind: Workload
metadata: {name: cart-v2}
spec: {owner: {projectName: shop, componentName: cart}, track: v2, containers: {main: {image: d}}, endpoints: {items: {type: REST, port: 80}}}
";

#[rstest]
#[case::tasks(&[GREETER, GITHUB, TASK])]
#[case::doors(&[DOORS])]
#[case::custom(&[CUSTOM])]
#[case::neighbours(&[GREETER, GITHUB, NEIGHBOURS])]
fn taking_an_object_away_affects_every_plan_that_read_it(#[case] yamls: &[&str]) {
    let rendered = render(yamls);
    assert_eq!(problems(&rendered), Vec::<String>::new());
    let before = rendered.world;
    let plans: BTreeMap<Target, Plan> = affected::all(&before)
        .into_iter()
        .map(|target| (target.clone(), plan(&before, &target)))
        .collect();
    let mut overlooked = Vec::new();
    for object in before.iter() {
        let gone = object.reference();
        let mut after = before.clone();
        assert!(after.remove(&gone));
        let announced = by_change(&before, &after, &gone);
        for (target, planned) in &plans {
            if !announced.contains(target) && plan(&after, target) != *planned {
                overlooked.push(format!("{gone} gone: {target} is not made again"));
            }
        }
    }
    assert_eq!(overlooked, Vec::<String>::new());
    // Nothing of this was about an empty world.
    assert!(offline::render(&before).objects.len() > 5);
}
