//! Kubernetes clusters.

use serde_json::Value as Json;

use crate::read::{Map, Spanned, record};

record! {
    /// A cluster and how charly uses it.
    pub struct K8sSpec {
        /// What the cluster is for.
        pub description: Option<String>,
        /// The context in the kubeconfig.
        pub kubeconfig_context: Option<Spanned<String>>,
        /// The namespace where none is named.
        pub default_namespace: Option<Spanned<String>>,
        /// Storage classes: `class_default`, `class_*`, `access_mode_default`.
        pub storage: Map<String>,
        /// Ingresses.
        pub ingress: Option<K8sIngress>,
        /// The Gateway API.
        pub gateway_api: Option<Json>,
        /// Where secrets come from.
        pub secret: Option<K8sSecret>,
        /// How images are pulled.
        pub image_default: Option<K8sImage>,
        /// What pods have in common.
        pub pod_default: Option<K8sPod>,
        /// Probes, metrics and logs.
        pub observability: Option<Json>,
        /// Network policies.
        pub network_policy: Option<Json>,
        /// What all objects have in common.
        pub defaults: Option<K8sDefaults>,
    }
}

record! {
    /// Ingresses of a cluster.
    pub struct K8sIngress {
        /// Whether there are any.
        pub enabled: Option<bool>,
        /// Their class.
        pub class: Option<String>,
        /// Who issues their certificates.
        pub cert_issuer: Option<String>,
        /// The path type.
        pub path_type_default: Option<String>,
    }
}

record! {
    /// Where a cluster's secrets come from.
    pub struct K8sSecret {
        /// What keeps them.
        pub backend: Option<String>,
        /// The store.
        pub store: Option<String>,
        /// What their keys begin with.
        pub prefix: Option<String>,
    }
}

record! {
    /// How a cluster pulls images.
    pub struct K8sImage {
        /// When.
        pub pull_policy: Option<String>,
        /// With which secrets.
        pub pull_secrets: Vec<String>,
    }
}

record! {
    /// What a cluster's pods have in common.
    pub struct K8sPod {
        /// The priority class.
        pub priority_class: Option<String>,
        /// Tolerations.
        pub tolerations: Vec<Json>,
        /// The nodes they run on.
        pub node_selector: Map<String>,
    }
}

record! {
    /// What all objects have in common.
    pub struct K8sDefaults {
        /// Labels.
        pub labels: Map<String>,
        /// Annotations.
        pub annotations: Map<String>,
    }
}
