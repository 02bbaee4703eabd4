//! Where Talos merges otherwise than by default.

/// How a list, or the whole of a field, is merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// A list's entries come behind those of the config, a mapping's keys are merged.
    Merge,
    /// The patch's value takes the place of the config's (`merge:"replace"` in Talos's types).
    Replace,
    /// An entry with the same value of the first of these keys that the patch's entry has is
    /// merged with it (a `Merge` method in Talos's types).
    ByKey(&'static [&'static str]),
}

/// The rule of a field. `path` is that of the field in a document of this kind, with `[]` for the
/// entries of a list.
pub(super) fn rule(kind: &str, path: &[&str]) -> Rule {
    match (kind, path) {
        // v1alpha1_types.go
        (
            "v1alpha1",
            ["cluster", "network", "podSubnets" | "serviceSubnets"]
            | ["cluster", "apiServer", "auditPolicy"],
        ) => Rule::Replace,
        ("v1alpha1", ["machine", "network", "interfaces"]) => {
            Rule::ByKey(&["interface", "deviceSelector"])
        }
        ("v1alpha1", ["machine", "network", "interfaces", "[]", "vlans"]) => {
            Rule::ByKey(&["vlanId"])
        }
        ("v1alpha1", ["cluster", "apiServer", "admissionControl"]) => Rule::ByKey(&["name"]),
        // extensionservicesconfig
        ("ExtensionServiceConfig", ["configFiles"]) => Rule::ByKey(&["mountPath"]),
        // network/rule_config.go
        ("NetworkRuleConfig", ["ingress"] | ["portSelector", "ports"]) => Rule::Replace,
        // k8s/network.go, audit_policy.go, authentication.go
        ("KubeNetworkConfig", ["podSubnets" | "serviceSubnets"]) => Rule::Replace,
        ("KubeAuditPolicyConfig" | "KubeAuthenticationConfig", ["configuration"]) => Rule::Replace,
        _ => Rule::Merge,
    }
}

/// Whether the values of this mapping are texts whatever they look like, so that a `0` is one too.
pub(super) fn holds_texts(path: &[&str]) -> bool {
    const FIELDS: [&str; 8] = [
        "sysctls",
        "sysfs",
        "env",
        "nodeLabels",
        "nodeAnnotations",
        "nodeTaints",
        "extraArgs",
        "parameters",
    ];
    path.last().is_some_and(|field| FIELDS.contains(field))
}
