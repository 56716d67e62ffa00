"""The life of a release, through Helm's own library. Prints what each step came to, one JSON document a line."""
import json
import sys

import helm_python as helm

kubeconfig, chart, step = sys.argv[1:4]
with helm.Config(namespace="default", kubeconfig_path=kubeconfig) as releases:
    if step == "install":
        made = releases.install(chart, "demo", {"replicas": 2})
        said = [made["revision"], made["status"]]
    elif step == "upgrade":
        made = releases.upgrade(chart, "demo", {"replicas": 3, "colour": "blue"})
        said = [made["revision"], made["status"]]
    elif step == "rollback":
        releases.rollback("demo", version=1)
        said = [[entry["revision"], entry["status"]] for entry in releases.history("demo")]
    else:
        releases.uninstall("demo")
        said = releases.list()
print(json.dumps(said))
