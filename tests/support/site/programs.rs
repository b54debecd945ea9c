//! Doubles of the clouds' own programs: each call is held to a table that names the tool's reference, changes what is around the cluster,
//! and answers as the tool does.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::clouds::Clouds;
use super::support::azure::Federated;

/// Sends its arguments, and where it was called, to [`Doubles`].
pub(super) const DOUBLE: &str = r#"set -u
answer=$(mktemp)
status=$(printf '%s\0' "${0##*/}" "$PWD" "$@" | curl --silent --noproxy '*' --output "$answer" --write-out '%{http_code}' --data-binary @- "$DOUBLES")
if [ "$status" = 200 ]; then cat "$answer"; else cat "$answer" >&2; fi
rm "$answer"
[ "$status" = 200 ]
"#;

/// Makes a program of lines for bash.
pub(super) fn write_script(path: &Path, lines: &str) {
    std::fs::write(path, format!("#!/bin/bash\n{lines}")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A call that guides may make.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Call {
    /// The program and its subcommands.
    command: String,
    /// Where its flags are documented.
    reference: String,
    #[serde(default)]
    required: Vec<String>,
    #[serde(default)]
    optional: Vec<String>,
    /// Flags without a value.
    #[serde(default)]
    switches: Vec<String>,
    /// How many arguments that are no flags.
    #[serde(default)]
    arguments: usize,
    /// What it prints; `{--flag}` is what that flag says, `{issuer}`, `{tenant}` what is so here.
    #[serde(default)]
    answer: String,
    /// The same by what `--query` says.
    #[serde(default)]
    queries: BTreeMap<String, String>,
    effect: Option<Effect>,
}

/// What a call changes.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Effect {
    TrustIssuer,
    MakeRole,
    TrustRole,
    AllowRole,
    ForbidRole,
    Associate,
    Dissociate,
    AllowUser,
    MakeKey,
    DeleteKey,
    MakeIdentity,
    Federate,
    AssignRole,
    UnassignRole,
}

/// Programs of the clouds.
pub(super) struct Doubles {
    url: String,
    calls: Arc<Vec<Call>>,
    server: JoinHandle<()>,
}

struct Served {
    calls: Arc<Vec<Call>>,
    clouds: Arc<Clouds>,
    /// The trust and identity policies of roles, the latter of users, too, by name.
    policies: Mutex<BTreeMap<String, (Value, Vec<Value>)>>,
}

impl Doubles {
    pub(super) async fn start(clouds: Arc<Clouds>) -> Self {
        let table = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/data/cloud_programs.yaml"
        );
        let calls = std::fs::read_to_string(table).unwrap();
        let calls: Vec<Call> = serde_saphyr::from_str(&calls).unwrap();
        assert!(
            calls
                .iter()
                .all(|call| call.reference.starts_with("https://"))
        );
        let calls = Arc::new(calls);
        let state = Arc::new(Served {
            calls: Arc::clone(&calls),
            clouds,
            policies: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let router = Router::new().route("/", post(answer)).with_state(state);
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self { url, calls, server }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Their names.
    pub(super) fn programs(&self) -> std::collections::BTreeSet<&str> {
        let commands = self.calls.iter().map(|call| call.command.as_str());
        commands
            .filter_map(|command| command.split(' ').next())
            .collect()
    }
}

impl Drop for Doubles {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(State(served): State<Arc<Served>>, body: Bytes) -> (StatusCode, String) {
    let text = String::from_utf8(body.to_vec()).unwrap();
    let words: Vec<&str> = text.trim_end_matches('\0').split('\0').collect();
    match served.run(words[0], Path::new(words[1]), &words[2..]).await {
        Ok(answer) => (StatusCode::OK, answer),
        Err(refusal) => (StatusCode::BAD_REQUEST, format!("{refusal}\n")),
    }
}

/// Flags of a call with their values, those without one with "".
type Flags = BTreeMap<String, String>;

impl Call {
    /// The flags among words that follow the command; an error says which are none of this call's.
    fn read(&self, words: &[&str]) -> Result<Flags, String> {
        let mut flags = Flags::new();
        let mut arguments = 0;
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if !word.starts_with('-') {
                arguments += 1;
            } else if self.switches.iter().any(|one| one == word) {
                flags.insert((*word).to_owned(), String::new());
            } else if self.takes(word) {
                let value = words
                    .next()
                    .ok_or_else(|| format!("{word} needs a value"))?;
                if value.is_empty() {
                    return Err(format!("{word} is empty"));
                }
                flags.insert((*word).to_owned(), (*value).to_owned());
            } else {
                return Err(format!("{} has no {word}", self.command));
            }
        }
        let mut missing = self.required.iter().filter(|one| !flags.contains_key(*one));
        if let Some(missing) = missing.next() {
            return Err(format!("{} needs {missing}", self.command));
        }
        if arguments != self.arguments {
            return Err(format!(
                "{} takes {} arguments",
                self.command, self.arguments
            ));
        }
        Ok(flags)
    }

    fn takes(&self, flag: &str) -> bool {
        // https://docs.aws.amazon.com/cli/latest/reference/#global-options,
        // https://learn.microsoft.com/cli/azure/reference-types-and-status
        let global: &[&str] = match self.command.split(' ').next() {
            Some("aws" | "az") => &["--query", "--output"],
            _ => &[],
        };
        let mut own = self.required.iter().chain(&self.optional);
        own.any(|one| one == flag) || global.contains(&flag)
    }
}

impl Served {
    async fn run(&self, program: &str, folder: &Path, words: &[&str]) -> Result<String, String> {
        let said = format!("{program} {} ", words.join(" "));
        let is_said = |call: &&Call| said.starts_with(&format!("{} ", call.command));
        let call = self
            .calls
            .iter()
            .filter(is_said)
            .max_by_key(|call| call.command.len());
        let call = call.ok_or_else(|| format!("no such call: {said}"))?;
        let flags = call.read(&words[call.command.split(' ').count() - 1..])?;
        if let Some(effect) = call.effect {
            self.act(effect, folder, &flags).await;
        }
        let answer = match flags.get("--query") {
            Some(query) => call
                .queries
                .get(query)
                .ok_or_else(|| format!("{}: no --query {query} in the table", call.command))?,
            None => &call.answer,
        };
        let mut answer = answer
            .replace("{issuer}", self.clouds.issuer())
            .replace("{tenant}", Clouds::tenant());
        for (flag, value) in &flags {
            answer = answer.replace(&format!("{{{flag}}}"), value);
        }
        if !answer.is_empty() && !answer.ends_with('\n') {
            answer.push('\n');
        }
        Ok(answer)
    }

    async fn act(&self, effect: Effect, folder: &Path, flags: &Flags) {
        let flag = |name: &str| flags.get(name).map(String::as_str).unwrap_or_default();
        let document = |name: &str| -> Value {
            let file = flag(name).strip_prefix("file://").unwrap();
            serde_json::from_str(&std::fs::read_to_string(folder.join(file)).unwrap()).unwrap()
        };
        let clouds = &self.clouds;
        match effect {
            Effect::TrustIssuer => clouds.trust_issuer().await,
            Effect::MakeRole => {
                let trust = document("--assume-role-policy-document");
                self.put_role(flag("--role-name"), Some(trust), Some(Vec::new()))
                    .await;
            }
            Effect::TrustRole => {
                let trust = document("--policy-document");
                self.put_role(flag("--role-name"), Some(trust), None).await;
            }
            Effect::AllowRole => {
                let policy = document("--policy-document");
                self.put_role(flag("--role-name"), None, Some(vec![policy]))
                    .await;
            }
            Effect::ForbidRole => {
                self.put_role(flag("--role-name"), None, Some(Vec::new()))
                    .await;
            }
            Effect::Associate => self.associate(flags).await,
            Effect::Dissociate => self.dissociate().await,
            Effect::AllowUser => {
                let policy = document("--policy-document");
                let mut policies = self.policies.lock().unwrap();
                let user = flag("--user-name").to_owned();
                policies.insert(user, (Value::Null, vec![policy]));
            }
            Effect::MakeKey => self.make_key(flag("--user-name")).await,
            Effect::DeleteKey => clouds.forget_key(flag("--access-key-id")).await,
            Effect::MakeIdentity | Effect::Federate | Effect::AssignRole | Effect::UnassignRole => {
                act_in_azure(clouds, effect, &flag);
            }
        }
    }

    /// EKS Pod Identity's agent gives a ServiceAccount its role.
    async fn associate(&self, flags: &Flags) {
        let body = json!({
            "namespace": flags["--namespace"], "serviceAccount": flags["--service-account"],
            "roleArn": flags["--role-arn"],
        });
        self.clouds.trust_issuer().await;
        self.clouds.tell_aws("associations", &body).await;
        self.clouds.heal_aws().await;
    }

    /// The agent knows of no association: <https://github.com/aws/eks-pod-identity-agent>.
    async fn dissociate(&self) {
        let text = "(ResourceNotFoundException): No association found, fault: client";
        let fault =
            json!({"operation": "AgentCredentials", "status": 404, "message": text, "count": 1000});
        self.clouds.tell_aws("faults", &fault).await;
    }

    /// Makes a role, or changes what is given of it.
    async fn put_role(&self, name: &str, trust: Option<Value>, policies: Option<Vec<Value>>) {
        let role = {
            let mut known = self.policies.lock().unwrap();
            let role = known.entry(name.to_owned()).or_default();
            role.0 = trust.unwrap_or_else(|| role.0.take());
            role.1 = policies.unwrap_or_else(|| std::mem::take(&mut role.1));
            role.clone()
        };
        let arn = format!("arn:aws:iam::123456789012:role/{name}");
        let body = json!({"roleArn": arn, "trust": role.0, "policies": role.1});
        self.clouds.tell_aws("roles", &body).await;
    }

    async fn make_key(&self, user: &str) {
        let policies = self.policies.lock().unwrap().get(user).cloned();
        let body = json!({
            "accessKeyId": "AKIAIOSFODNN7EXAMPLE", "secretAccessKey": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "principal": format!("arn:aws:iam::123456789012:user/{user}"),
            "policies": policies.unwrap_or_default().1,
        });
        self.clouds.tell_aws("keys", &body).await;
    }
}

fn act_in_azure<'a>(clouds: &Clouds, effect: Effect, flag: &impl Fn(&str) -> &'a str) {
    match effect {
        Effect::MakeIdentity => clouds.add_identity(CLIENT_ID),
        Effect::Federate => clouds.federate(
            CLIENT_ID,
            Federated {
                issuer: flag("--issuer").to_owned(),
                subject: flag("--subject").to_owned(),
                audience: flag("--audiences").to_owned(),
            },
        ),
        _ => clouds.assign(CLIENT_ID, matches!(effect, Effect::AssignRole)),
    }
}

/// The client id of the one managed identity that `az identity create` makes.
const CLIENT_ID: &str = "11111111-2222-3333-4444-555555555555";
