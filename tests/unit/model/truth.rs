//! What is wanted: the Registries and namespaces as they truly are, and as they were a while ago.

use jiff::Timestamp;
use pullpass::provision::service_account::ServiceAccount;
use pullpass::provision::tenant_identity::bind;
use pullpass::provision::{InjectMode, Namespace};
use pullpass::registry::{CredentialSource, Grant, Registries, Registry};
use serde_json::{Value, json};
use std::collections::BTreeMap;

use super::double::Dice;

const EU: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
const OTHER: &str = "210987654321.dkr.ecr.eu-west-1.amazonaws.com";
const US: &str = "123456789012.dkr.ecr.us-east-1.amazonaws.com";
const AP: &str = "210987654321.dkr.ecr.ap-south-1.amazonaws.com";
const HARBOR: &str = "harbor.example.com";

/// The source Secret of the fixed login.
pub(crate) const SOURCE: &str = "harbor-login";

/// The names of the Registries that there may be.
pub(crate) const REGISTRIES: [&str; 6] = ["eu", "us", "harbor", "own", "narrow", "push"];

/// One form of the Registry of this name.
pub(crate) fn spec(name: &str, dice: &Dice) -> Value {
    let pick = |of: &[Value]| of[usize::try_from(dice.below(of.len() as u64)).unwrap()].clone();
    let serves = pick(&[
        json!({}),
        json!({}),
        json!({"matchLabels": {"team": "a"}}),
        json!({"matchLabels": {"team": "b"}}),
    ]);
    let identity = pick(&[json!({"workload": {}}), json!({"node": {}})]);
    let mut spec = match name {
        "eu" => json!({"images": pick(&[json!([EU]), json!([EU]), json!([EU, OTHER])]),
            "excludedImages": pick(&[json!([]), json!([format!("{EU}/private")])]), "ecr": {"identity": identity}}),
        "us" => {
            json!({"images": pick(&[json!([US]), json!([format!("{US}/team")])]), "ecr": {"identity": identity}})
        }
        "harbor" => json!({"images": [HARBOR], "static": {"secretRef": {"name": SOURCE}}}),
        "own" => json!({"images": [AP], "ecr": {"identity": {"serviceAccount":
            {"name": "puller", "roleArn": "arn:aws:iam::210987654321:role/pull"}}}}),
        "push" => {
            json!({"images": pick(&[json!([format!("{EU}/build")]), json!([format!("{EU}/build"), OTHER])]),
                "ecr": {"identity": identity}})
        }
        _ => json!({"images": [format!("{EU}/secret")], "ecr": {"identity": identity}}),
    };
    spec["namespaceSelector"] = json!(serves);
    if name == "narrow" {
        spec["serviceAccountNames"] = json!(["ci"]);
    }
    if name == "push" {
        // Its Secret has the same name, whatever it is for.
        if dice.below(4) == 0 {
            spec["serviceAccountNames"] = json!(["ci"]);
        } else {
            spec["access"] = json!("Push");
            spec["namespaceSelector"] = pick(&[
                json!({"matchLabels": {"team": "a"}}),
                json!({"matchExpressions": [{"key": "team", "operator": "Exists"}]}),
            ]);
        }
    }
    spec["suspend"] = json!(dice.below(10) == 0);
    spec["delivery"] = delivery(&spec, dice);
    spec
}

/// One of the ways in which such a Registry may deliver: what pushes is mounted.
pub(crate) fn delivery(spec: &Value, dice: &Dice) -> Value {
    const ALL: [&str; 4] = ["Secret", "Secret", "Both", "Node"];
    let which = usize::try_from(dice.below(ALL.len() as u64)).unwrap();
    let pushes = spec["access"] == "Push";
    json!(if pushes { ALL[0] } else { ALL[which] })
}

/// One Registry: the last form of it that was valid, and whether it breaks a rule since.
#[derive(Clone, PartialEq)]
pub(crate) struct Ruled {
    pub(crate) spec: Value,
    pub(crate) broken: bool,
    pub(crate) uid: String,
    pub(crate) generation: i64,
}

impl Ruled {
    fn has_secrets(&self) -> bool {
        self.spec["delivery"] != "Node"
    }

    fn object(&self, name: &str) -> Registry {
        let mut spec = self.spec.clone();
        if self.broken {
            spec["images"] = json!(["not an image"]);
        }
        let mut object = read(name, &spec);
        object.metadata.uid = Some(self.uid.clone());
        object.metadata.generation = Some(self.generation);
        object
    }
}

fn read(name: &str, spec: &Value) -> Registry {
    let object = json!({"apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": name}, "spec": spec});
    serde_json::from_value(object).unwrap()
}

pub(crate) type Rules = BTreeMap<String, Ruled>;

/// The Registries as the product reads them.
pub(crate) fn build(rules: &Rules) -> Registries {
    Registries::build(rules.iter().map(|(name, ruled)| ruled.object(name)))
}

/// Those of them that are so.
fn build_where(rules: &Rules, is_so: impl Fn(&Ruled) -> bool) -> Registries {
    let mut some = rules.clone();
    some.retain(|_, ruled| is_so(ruled));
    build(&some)
}

/// The last valid forms of those that serve nothing: what they gave stays.
fn resting(rules: &Rules) -> Registries {
    let resting = rules
        .iter()
        .filter(|(_, ruled)| ruled.broken || ruled.spec["suspend"] == true)
        .filter(|(_, ruled)| ruled.has_secrets());
    Registries::build(resting.map(|(name, ruled)| {
        let mut spec = ruled.spec.clone();
        spec["suspend"] = json!(true);
        read(name, &spec)
    }))
}

/// The cluster's ServiceAccounts: all alike.
pub(crate) fn account(namespace: &str) -> ServiceAccount {
    ServiceAccount {
        uid: format!("uid-of-{namespace}-puller"),
        pull_secrets: None,
        annotations: BTreeMap::new(),
    }
}

/// What is wanted for as long as nobody changes it.
pub(crate) struct Epoch {
    pub(crate) since: Timestamp,
    /// Those whose logins Secrets hold, as if there were no others.
    registries: Registries,
    /// Those whose logins no Secret holds.
    by_node: Registries,
    /// Whether one breaks a rule.
    is_broken: bool,
    resting: Registries,
    namespaces: BTreeMap<String, Namespace>,
}

/// What belongs under a key of a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "few are there at a time")]
pub(crate) enum Wanted {
    /// A login from there.
    From(CredentialSource),
    /// What stands there, whatever it is: a Registry rests or cannot be understood.
    AsItIs,
    /// Nothing.
    Nothing,
}

impl Epoch {
    pub(crate) fn new(
        rules: &Rules,
        namespaces: BTreeMap<String, Namespace>,
        since: Timestamp,
    ) -> Self {
        Self {
            since,
            registries: build_where(rules, Ruled::has_secrets),
            by_node: build_where(rules, |ruled| !ruled.has_secrets()),
            is_broken: !build(rules).problems().is_empty(),
            resting: resting(rules),
            namespaces,
        }
    }

    /// The namespaces that are to have pull secrets.
    pub(crate) fn opted_in(&self) -> impl Iterator<Item = &Namespace> {
        let all = self.namespaces.values();
        all.filter(|namespace| !namespace.terminating && namespace.mode != InjectMode::Off)
    }

    pub(crate) fn has(&self, namespace: &str) -> bool {
        self.namespaces.contains_key(namespace)
    }

    /// What each key of a Secret is to hold, by these Registries in the namespaces of `other`.
    pub(crate) fn grants(
        &self,
        other: &Self,
        namespace: &str,
        secret: &str,
    ) -> BTreeMap<String, CredentialSource> {
        let Some(namespace) = other.opted_in().find(|one| one.name == namespace) else {
            return BTreeMap::new();
        };
        let grants = self.registries.grants_of(&namespace.labels, secret);
        let bound = grants.iter().map(|grant| {
            let account = account(&namespace.name);
            bind(grant, namespace, Some(&account)).unwrap()
        });
        let keys = bound.flat_map(|grant| {
            let keys: Vec<String> = grant.all_keys().cloned().collect();
            let source = grant.source;
            keys.into_iter().map(move |key| (key, source.clone()))
        });
        keys.collect()
    }

    /// What kubelets ask for in a namespace, and no Secret there is to hold.
    pub(crate) fn asked_for(&self, namespace: &str) -> Vec<Grant> {
        let mut opted_in = self.opted_in();
        let Some(namespace) = opted_in.find(|one| one.name == namespace) else {
            return Vec::new();
        };
        let mut asked_for = Vec::new();
        for registry in self.by_node.iter() {
            if registry.suspend || !registry.namespaces.matches(&namespace.labels) {
                continue;
            }
            for (source, keys) in &registry.sources {
                let keys = keys.iter().map(String::as_str);
                asked_for.push(registry.grant(source.clone(), keys));
            }
        }
        asked_for
    }

    /// The credentials that kubelets may ask for in a namespace, whether it is served now or was before, and that no Secret is to hold.
    pub(crate) fn by_node(&self, namespace: &str) -> Vec<CredentialSource> {
        let Some(namespace) = self.namespaces.get(namespace) else {
            return Vec::new();
        };
        let account = account(&namespace.name);
        let mut found = Vec::new();
        for registry in self.by_node.iter() {
            for (source, _) in &registry.sources {
                let grant = registry.grant(source.clone(), []);
                found.push(bind(&grant, namespace, Some(&account)).unwrap().source);
            }
        }
        found
    }

    /// What is wanted under one key, by these Registries in the namespaces of `other`.
    pub(crate) fn wanted(&self, other: &Self, namespace: &str, secret: &str, key: &str) -> Wanted {
        if let Some(source) = self.grants(other, namespace, secret).remove(key) {
            return Wanted::From(source);
        }
        let mut opted_in = other.opted_in();
        let is_kept = opted_in.any(|one| {
            let mut resting = self.resting.iter();
            one.name == namespace
                && resting.any(|registry| registry.retains(&one.labels, secret, key))
        });
        if is_kept {
            Wanted::AsItIs
        } else {
            Wanted::Nothing
        }
    }

    /// Whether it is known of all Registries what they give.
    pub(crate) fn knows_all(&self) -> bool {
        !self.is_broken
    }
}
