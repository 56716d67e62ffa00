//! The built-in kinds as rows of data. Group, version, kind, plural and scope come from the type; here is the rest.

use k8s_openapi::{
    ClusterResourceScope, NamespaceResourceScope, Resource,
    api::{
        admissionregistration::v1 as admission,
        apps::v1 as apps,
        authentication::v1 as authn,
        authorization::v1 as authz,
        autoscaling::{v1 as autoscaling1, v2 as autoscaling2},
        batch::v1 as batch,
        certificates::v1 as certificates,
        coordination::v1 as coordination,
        core::v1 as core,
        discovery::v1 as discovery,
        events::v1 as events,
        flowcontrol::v1 as flowcontrol,
        networking::v1 as networking,
        node::v1 as node,
        policy::v1 as policy,
        rbac::v1 as rbac,
        scheduling::v1 as scheduling,
        storage::v1 as storage,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions,
};
use schemars::JsonSchema;

use super::schemas;
use crate::registry::{
    ALL_VERBS, Generation, LazySchema, Publish, ResourceInfo, SUBRESOURCE_VERBS, ScalePaths, SelectableField,
    Storage, Subresource,
};

/// Makes the rows of all built-in kinds.
pub(super) fn rows() -> Vec<ResourceInfo> {
    let mut rows = Vec::with_capacity(74);
    rows.extend(core_rows());
    rows.extend(workload_rows());
    rows.extend(network_rows());
    rows.extend(policy_rows());
    rows.extend(cluster_rows());
    rows.extend(review_rows());
    rows
}

fn core_rows() -> Vec<ResourceInfo> {
    vec![
        row::<core::Binding>().verbs(&["create"]).info(),
        row::<core::ComponentStatus>()
            .short("cs")
            .verbs(&["get", "list"])
            .info(),
        row::<core::ConfigMap>().short("cm").info(),
        row::<core::Endpoints>().short("ep").info(),
        row::<core::Event>()
            .short("ev")
            .fields(&[
                "involvedObject.kind",
                "involvedObject.namespace",
                "involvedObject.name",
                "involvedObject.uid",
                "involvedObject.apiVersion",
                "involvedObject.resourceVersion",
                "involvedObject.fieldPath",
                "reason",
                "type",
            ])
            .field_at("reportingComponent", &["reportingComponent"], "")
            .field_at("source", &["source.component", "reportingComponent"], "")
            .info(),
        row::<core::LimitRange>().short("limits").info(),
        row::<core::Namespace>()
            .short("ns")
            .verbs(&["create", "delete", "get", "list", "patch", "update", "watch"])
            .status()
            .sub("finalize", "", "", "Namespace", &["update"])
            .fields(&["status.phase"])
            .info(),
        row::<core::Node>()
            .short("no")
            .status()
            .sub("proxy", "", "", "NodeProxyOptions", PROXY_VERBS)
            .field_at("spec.unschedulable", &["spec.unschedulable"], "false")
            .info(),
        row::<core::PersistentVolume>().short("pv").status().info(),
        row::<core::PersistentVolumeClaim>().short("pvc").status().info(),
        row::<core::Pod>()
            .short("po")
            .all()
            .status()
            .generation(Generation::Spec)
            .sub("attach", "", "", "PodAttachOptions", &["create", "get"])
            .sub("binding", "", "", "Binding", &["create"])
            .sub("ephemeralcontainers", "", "", "Pod", SUBRESOURCE_VERBS)
            .sub("eviction", "policy", "v1", "Eviction", &["create"])
            .sub("exec", "", "", "PodExecOptions", &["create", "get"])
            .sub("log", "", "", "Pod", &["get"])
            .sub("portforward", "", "", "PodPortForwardOptions", &["create", "get"])
            .sub("proxy", "", "", "PodProxyOptions", PROXY_VERBS)
            .sub("resize", "", "", "Pod", SUBRESOURCE_VERBS)
            .fields(&[
                "spec.nodeName",
                "spec.restartPolicy",
                "spec.schedulerName",
                "spec.serviceAccountName",
                "status.phase",
                "status.podIP",
                "status.nominatedNodeName",
            ])
            .field_at("spec.hostNetwork", &["spec.hostNetwork"], "false")
            .info(),
        row::<core::PodTemplate>().info(),
        row::<core::ReplicationController>()
            .short("rc")
            .all()
            .status()
            .scale(".spec.selector")
            .generation(Generation::Spec)
            .field_at("status.replicas", &["status.replicas"], "0")
            .info(),
        row::<core::ResourceQuota>().short("quota").status().info(),
        row::<core::Secret>().fields(&["type"]).info(),
        row::<core::Service>()
            .short("svc")
            .all()
            .status()
            .sub("proxy", "", "", "ServiceProxyOptions", PROXY_VERBS)
            .fields(&["spec.clusterIP", "spec.type"])
            .info(),
        row::<core::ServiceAccount>()
            .short("sa")
            .sub(
                "token",
                "authentication.k8s.io",
                "v1",
                "TokenRequest",
                &["create"],
            )
            .info(),
    ]
}

fn workload_rows() -> Vec<ResourceInfo> {
    vec![
        row::<apps::ControllerRevision>().info(),
        row::<apps::DaemonSet>()
            .short("ds")
            .all()
            .status()
            .generation(Generation::Spec)
            .info(),
        row::<apps::Deployment>()
            .short("deploy")
            .all()
            .status()
            .scale(".spec.selector")
            .generation(Generation::Spec)
            .info(),
        row::<apps::ReplicaSet>()
            .short("rs")
            .all()
            .status()
            .scale(".spec.selector")
            .generation(Generation::Spec)
            .field_at("status.replicas", &["status.replicas"], "0")
            .info(),
        row::<apps::StatefulSet>()
            .short("sts")
            .all()
            .status()
            .scale(".spec.selector")
            .generation(Generation::Spec)
            .info(),
        row::<batch::CronJob>()
            .short("cj")
            .all()
            .status()
            .generation(Generation::Spec)
            .info(),
        row::<batch::Job>()
            .all()
            .status()
            .generation(Generation::Spec)
            .field_at("status.successful", &["status.succeeded"], "0")
            .info(),
        row::<autoscaling2::HorizontalPodAutoscaler>()
            .short("hpa")
            .all()
            .status()
            .info(),
        row::<autoscaling1::HorizontalPodAutoscaler>()
            .short("hpa")
            .all()
            .status()
            .kept_as("autoscaling", "v2")
            .info(),
        row::<policy::PodDisruptionBudget>()
            .short("pdb")
            .status()
            .generation(Generation::Spec)
            .info(),
        row::<scheduling::PriorityClass>()
            .short("pc")
            .generation(Generation::Fixed)
            .info(),
    ]
}

fn network_rows() -> Vec<ResourceInfo> {
    vec![
        row::<discovery::EndpointSlice>()
            .generation(Generation::Content)
            .info(),
        row::<networking::Ingress>()
            .short("ing")
            .status()
            .generation(Generation::Spec)
            .info(),
        row::<networking::IngressClass>()
            .generation(Generation::Spec)
            .info(),
        row::<networking::IPAddress>().short("ip").info(),
        row::<networking::NetworkPolicy>()
            .short("netpol")
            .generation(Generation::Spec)
            .info(),
        row::<networking::ServiceCIDR>().status().info(),
    ]
}

fn policy_rows() -> Vec<ResourceInfo> {
    vec![
        row::<admission::MutatingAdmissionPolicy>()
            .category("api-extensions")
            .generation(Generation::Spec)
            .info(),
        row::<admission::MutatingAdmissionPolicyBinding>()
            .category("api-extensions")
            .generation(Generation::Spec)
            .info(),
        row::<admission::MutatingWebhookConfiguration>()
            .category("api-extensions")
            .generation(Generation::Content)
            .info(),
        row::<admission::ValidatingAdmissionPolicy>()
            .category("api-extensions")
            .status()
            .generation(Generation::Spec)
            .info(),
        row::<admission::ValidatingAdmissionPolicyBinding>()
            .category("api-extensions")
            .generation(Generation::Spec)
            .info(),
        row::<admission::ValidatingWebhookConfiguration>()
            .category("api-extensions")
            .generation(Generation::Content)
            .info(),
        row::<rbac::ClusterRole>().info(),
        row::<rbac::ClusterRoleBinding>().info(),
        row::<rbac::Role>().info(),
        row::<rbac::RoleBinding>().info(),
    ]
}

fn cluster_rows() -> Vec<ResourceInfo> {
    vec![
        row::<apiextensions::CustomResourceDefinition>()
            .short("crd")
            .short("crds")
            .category("api-extensions")
            .status()
            .generation(Generation::Spec)
            .info(),
        row::<certificates::CertificateSigningRequest>()
            .short("csr")
            .status()
            .sub("approval", "", "", "CertificateSigningRequest", SUBRESOURCE_VERBS)
            .fields(&["spec.signerName"])
            .info(),
        row::<coordination::Lease>().info(),
        row::<events::Event>()
            .short("ev")
            .kept_as("", "v1")
            .field_at("regarding.kind", &["regarding.kind"], "")
            .field_at("regarding.namespace", &["regarding.namespace"], "")
            .field_at("regarding.name", &["regarding.name"], "")
            .field_at("regarding.uid", &["regarding.uid"], "")
            .field_at("regarding.apiVersion", &["regarding.apiVersion"], "")
            .field_at("regarding.resourceVersion", &["regarding.resourceVersion"], "")
            .field_at("regarding.fieldPath", &["regarding.fieldPath"], "")
            .field_at("reportingController", &["reportingController"], "")
            .fields(&["reason", "type"])
            .info(),
        row::<flowcontrol::FlowSchema>()
            .status()
            .generation(Generation::Spec)
            .info(),
        row::<flowcontrol::PriorityLevelConfiguration>()
            .status()
            .generation(Generation::Spec)
            .info(),
        row::<node::RuntimeClass>().info(),
        row::<storage::CSIDriver>().info(),
        row::<storage::CSINode>().info(),
        row::<storage::CSIStorageCapacity>().info(),
        row::<storage::StorageClass>().short("sc").info(),
        row::<storage::VolumeAttachment>().status().info(),
        row::<storage::VolumeAttributesClass>().short("vac").info(),
    ]
}

fn review_rows() -> Vec<ResourceInfo> {
    vec![
        row::<authn::SelfSubjectReview>().review(),
        row::<authn::TokenReview>().review(),
        row::<authz::LocalSubjectAccessReview>().review(),
        row::<authz::SelfSubjectAccessReview>().review(),
        row::<authz::SelfSubjectRulesReview>().review(),
        row::<authz::SubjectAccessReview>().review(),
    ]
}

const PROXY_VERBS: &[&str] = &["create", "delete", "get", "patch", "update"];

/// Scope of a type as a value.
trait Scope {
    const NAMESPACED: bool;
}

impl Scope for ClusterResourceScope {
    const NAMESPACED: bool = false;
}

impl Scope for NamespaceResourceScope {
    const NAMESPACED: bool = true;
}

/// A row under construction.
struct Row(ResourceInfo);

fn row<K>() -> Row
where
    K: Resource + JsonSchema + 'static,
    K::Scope: Scope,
{
    base(
        K::GROUP,
        K::VERSION,
        K::KIND,
        K::URL_PATH_SEGMENT,
        <K::Scope as Scope>::NAMESPACED,
        LazySchema::new(schemas::of::<K>),
        schemas::published::<K>,
    )
}

fn base(
    group: &str,
    version: &str,
    kind: &str,
    plural: &str,
    namespaced: bool,
    schema: LazySchema,
    publish: Publish,
) -> Row {
    Row(ResourceInfo {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        list_kind: format!("{kind}List"),
        plural: plural.to_owned(),
        singular: kind.to_ascii_lowercase(),
        short_names: Vec::new(),
        categories: Vec::new(),
        namespaced,
        verbs: owned(ALL_VERBS),
        status: false,
        scale: None,
        subresources: Vec::new(),
        columns: Vec::new(),
        selectable_fields: Vec::new(),
        storage: Storage {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        },
        is_crd: false,
        generation: Generation::None,
        schema,
        conversion: None,
        since: 0,
        terminating: false,
        publish: Some(publish),
    })
}

impl Row {
    fn short(mut self, name: &str) -> Self {
        self.0.short_names.push(name.to_owned());
        self
    }

    fn category(mut self, name: &str) -> Self {
        self.0.categories.push(name.to_owned());
        self
    }

    /// Shown by `kubectl get all`.
    fn all(self) -> Self {
        self.category("all")
    }

    fn verbs(mut self, verbs: &[&str]) -> Self {
        self.0.verbs = owned(verbs);
        self
    }

    fn generation(mut self, generation: Generation) -> Self {
        self.0.generation = generation;
        self
    }

    fn status(mut self) -> Self {
        self.0.status = true;
        let kind = self.0.kind.clone();
        self.sub("status", "", "", &kind, SUBRESOURCE_VERBS)
    }

    fn scale(mut self, selector: &str) -> Self {
        self.0.scale = Some(ScalePaths {
            spec_replicas: ".spec.replicas".to_owned(),
            status_replicas: ".status.replicas".to_owned(),
            label_selector: Some(selector.to_owned()),
        });
        self.sub("scale", "autoscaling", "v1", "Scale", SUBRESOURCE_VERBS)
    }

    fn sub(mut self, name: &str, group: &str, version: &str, kind: &str, verbs: &[&str]) -> Self {
        self.0.subresources.push(Subresource {
            name: name.to_owned(),
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            verbs: owned(verbs),
        });
        self
    }

    fn fields(mut self, fields: &[&str]) -> Self {
        self.0
            .selectable_fields
            .extend(fields.iter().map(|f| SelectableField::direct(f)));
        self
    }

    fn field_at(mut self, field: &str, paths: &[&str], absent: &str) -> Self {
        self.0.selectable_fields.push(SelectableField {
            field: field.to_owned(),
            paths: paths
                .iter()
                .map(|p| p.split('.').map(str::to_owned).collect())
                .collect(),
            absent: absent.to_owned(),
        });
        self
    }

    /// Objects are kept as the same kind of another group or version.
    fn kept_as(mut self, group: &str, version: &str) -> Self {
        self.0.storage.group = group.to_owned();
        self.0.storage.version = version.to_owned();
        self
    }

    fn review(self) -> ResourceInfo {
        self.verbs(&["create"]).info()
    }

    fn info(mut self) -> ResourceInfo {
        self.0.subresources.sort_by(|a, b| a.name.cmp(&b.name));
        self.0
    }
}

fn owned(values: &[&str]) -> Vec<String> {
    values.iter().map(|v| (*v).to_owned()).collect()
}
