//! EKS: IRSA and EKS Pod Identity.

use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::place::{
    Platform, Projected, create, environment, install, prepare, projected, refuse, rename_volume,
    variable,
};
use super::support::fixture::{ECR, FIXTURE, Fixture, OWN};
use super::support::keyring;
use super::support::netns;
use super::support::process::{Launch, Pullpass};
use super::support::roles::{ACCOUNT, add_role};
use super::support::wait;

const URI: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const AGENT_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
const OWN_FILE: &str = "PULLPASS_POD_IDENTITY_TOKEN_FILE";
const AGENT_PATH: &str =
    "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount/eks-pod-identity-token";
const IRSA_PATH: &str = "/var/run/secrets/eks.amazonaws.com/serviceaccount/token";
const ROLE_ARN: &str = "identity.aws.roleArn=arn:aws:iam::123456789012:role/irsa";
const POD_IDENTITY: &str = "identity.aws.podIdentity=true";
/// EKS' annotation with this role.
macro_rules! annotation {
    ($role:literal) => {
        concat!(
            "serviceAccount.annotations.eks\\.amazonaws\\.com/role-arn=arn:aws:iam::123456789012:role/",
            $role
        )
    };
}

/// A cluster of EKS: what AWS knows of it, and a namespace that opted in.
struct Cluster {
    fixture: Fixture,
    namespace: String,
    /// Where the Pod Identity agent is.
    agent: String,
}

impl Cluster {
    async fn start(name: &'static str) -> Self {
        let fixture = Fixture::alone(name).await;
        prepare(&fixture).await;
        for role in ["irsa", "other", "agent"] {
            add_role(&fixture, role, OWN, "pullpass").await;
        }
        let namespace = fixture.namespace("pods").await;
        let agent = format!("{}/v1/credentials", fixture.world.moto.field("agent"));
        Self {
            fixture,
            namespace,
            agent,
        }
    }

    /// Has Pod Identity give pullpass' ServiceAccount a role.
    async fn associate(&self) {
        let role = format!("{ACCOUNT}:role/agent");
        let association = json!({"namespace": OWN, "serviceAccount": "pullpass", "roleArn": role});
        let moto = &self.fixture.world.moto;
        moto.post("associations", association).await;
    }

    /// EKS' webhook, by which Pods find the agent at `uri`.
    async fn webhook(&self, associations: &[&str], uri: &str) -> Platform {
        let mut arguments = vec!["--credentials-uri", uri];
        arguments.extend(["--region", "eu-west-1", "--regional-sts"]);
        for association in associations {
            arguments.extend(["--association", association]);
        }
        arguments.push("eks");
        Platform::start(&self.fixture, &arguments, json!({})).await
    }

    /// Runs the program with the environment of a Pod that was created, until it is ready and has minted for an image of this name;
    /// answers who minted.
    async fn run(&self, pod: &Value, name: &str) -> String {
        let fixture = &self.fixture;
        let endpoints = json!({"ecr": fixture.aws.url, "sts": fixture.aws.url});
        let ecr = json!({"identity": {"workload": {}}, "endpoints": endpoints});
        let spec = json!({"images": [format!("{ECR}/{name}")], "ecr": ecr});
        fixture.put_registry(fixture.name, spec).await;
        let launch = Launch {
            environment: environment(fixture, pod).await,
            arguments: vec!["--drain-delay", "0"],
            ..fixture.launch().await
        };
        let pullpass = Pullpass::start(&launch).await;
        pullpass
            .register(&fixture.cluster, FIXTURE, fixture.name)
            .await;
        let image = format!("{ECR}/{name}/hello:1");
        let login = wait::until(&format!("a login for {image}"), async || {
            fixture.create(&self.namespace, &[&image]).await;
            fixture.cluster.secret(&self.namespace, "pullpass").await?;
            let held = fixture.pull_secret(&self.namespace).await;
            keyring::lookup(&held, &[&image]).remove(0).pop()
        })
        .await;
        pullpass.terminate();
        self.forget();
        let minted = fixture.world.moto.get("minted").await;
        let mut minted = minted.as_array().unwrap().iter();
        let token = minted.find(|token| token["password"] == login.password.as_str());
        let principal = token.expect("AWS minted it")["principal"].as_str().unwrap();
        principal.to_owned()
    }

    /// Leaves nothing that the next program could use instead of minting.
    fn forget(&self) {
        let delete = |namespace: &str, selector: &str| {
            let arguments = ["delete", "secrets", "-n", namespace, "-l", selector];
            self.fixture.world.kubectl(&arguments);
        };
        delete(&self.namespace, "app.kubernetes.io/managed-by=pullpass");
        delete(OWN, "pullpass.dev/store");
    }
}

/// What the chart is told, and what becomes of the Pod before EKS' webhook.
struct Row {
    name: &'static str,
    settings: Vec<String>,
    associated: bool,
    /// The files of tokens in the Pod, and whom each is for.
    tokens: Vec<(&'static str, &'static str)>,
    /// Variables, and what each says; `None`: it is not there.
    variables: Vec<(&'static str, Option<String>)>,
    /// Who mints.
    principal: &'static str,
}

const STS: &str = "sts.amazonaws.com";
const EKS_AUTH: &str = "pods.eks.amazonaws.com";
const AS_IRSA: &str = "arn:aws:sts::123456789012:assumed-role/irsa/pullpass";
const AS_AGENT: &str = "arn:aws:sts::123456789012:assumed-role/agent/eks-pullpass-pullpass-";

fn rows(agent: &str) -> Vec<Row> {
    let role = |name: &str| Some(format!("{ACCOUNT}:role/{name}"));
    let irsa = |name, settings: &[&str], principal, arn| Row {
        name,
        settings: settings.iter().map(|text| (*text).to_owned()).collect(),
        associated: false,
        tokens: vec![(IRSA_PATH, STS)],
        variables: vec![
            ("AWS_ROLE_ARN", arn),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", Some(IRSA_PATH.to_owned())),
            (URI, None),
        ],
        principal,
    };
    let pods = |name, settings: Vec<String>, file: Option<&str>| Row {
        name,
        settings,
        associated: true,
        tokens: vec![(AGENT_PATH, EKS_AUTH)],
        variables: vec![
            (URI, Some(agent.to_owned())),
            (AGENT_FILE, file.map(str::to_owned)),
            ("AWS_ROLE_ARN", None),
        ],
        principal: AS_AGENT,
    };
    let own = format!("extraEnv[0].name={URI},extraEnv[0].value={agent}");
    vec![
        irsa("role", &[ROLE_ARN], AS_IRSA, role("irsa")),
        irsa(
            "role-and-annotation",
            &[ROLE_ARN, annotation!("irsa")],
            AS_IRSA,
            role("irsa"),
        ),
        // Two who say different things: the chart's own value wins.
        irsa(
            "role-and-another",
            &[ROLE_ARN, annotation!("other")],
            AS_IRSA,
            role("irsa"),
        ),
        irsa("annotation", &[annotation!("irsa")], AS_IRSA, role("irsa")),
        pods("pods", vec![POD_IDENTITY.to_owned()], Some(AGENT_PATH)),
        pods("association", vec![], Some(AGENT_PATH)),
        // Said by the user, whom EKS' webhook lets be.
        pods("pods-own-uri", vec![POD_IDENTITY.to_owned(), own], None),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mints_on_eks_whichever_way_its_role_is_given() {
    let cluster = Cluster::start("eks").await;
    let fixture = &cluster.fixture;
    cluster.associate().await;
    // What the webhook says where the user said something else: nobody answers there.
    let nowhere = "http://127.0.0.1:9/v1/credentials";
    for row in rows(&cluster.agent) {
        let uri = match row.name {
            "pods-own-uri" => nowhere,
            _ => &cluster.agent,
        };
        let associations: &[&str] = if row.associated {
            &["pullpass/pullpass"]
        } else {
            &[]
        };
        let platform = cluster.webhook(associations, uri).await;
        let settings: Vec<&str> = row.settings.iter().map(String::as_str).collect();
        let pod = install(fixture, &settings).await;
        let created = create(fixture, &pod).await;
        for (path, audience) in &row.tokens {
            let token = projected(&created, path);
            let token = token.unwrap_or_else(|| panic!("{}: no token at {path}", row.name));
            assert_eq!(token.audience, *audience, "{}", row.name);
            // For some minutes at least, as AWS' own webhook and agent have it.
            assert!(token.seconds >= 3600, "{}: {token:?}", row.name);
        }
        for (name, value) in &row.variables {
            let said = variable(&created, name);
            assert_eq!(said, value.as_deref(), "{}: {name}", row.name);
        }
        if row.name != "role" {
            // It saw this Pod.
            assert_eq!(variable(&created, "AWS_REGION"), Some("eu-west-1"));
        }
        let principal = cluster.run(&created, row.name).await;
        assert!(
            principal.starts_with(row.principal),
            "{}: {principal}",
            row.name
        );
        platform.leave(fixture).await;
    }
}

/// What this is about: under other names EKS' webhook mounts the same paths once more, and no replica is ever created.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn needs_the_names_of_eks_for_its_volumes() {
    let cluster = Cluster::start("eks-names").await;
    let fixture = &cluster.fixture;
    for (settings, associations, volume) in [
        (
            vec![POD_IDENTITY],
            vec!["pullpass/pullpass"],
            "eks-pod-identity-token",
        ),
        (vec![ROLE_ARN, annotation!("irsa")], vec![], "aws-iam-token"),
    ] {
        let platform = cluster.webhook(&associations, &cluster.agent).await;
        let pod = install(fixture, &settings).await;
        let said = refuse(fixture, &rename_volume(&pod, volume, "token")).await;
        assert!(said.contains("must be unique"), "{said}");
        create(fixture, &pod).await;
        platform.leave(fixture).await;
    }
}

/// On a cluster of IPv6 EKS' webhook names the agent's other address, which is asked then.
#[test]
fn asks_the_pod_identity_agent_at_ipv6() {
    netns::run_with(
        &["fd00:ec2::23", "169.254.170.23"],
        "platforms::eks::mints_by_the_agent_of_either_family",
    );
}

/// A relay to the agent at another address.
struct Relay(JoinHandle<()>);

impl Relay {
    async fn start(address: &str, agent: &str) -> Self {
        // The one before may still be there for a moment.
        let bind = async || TcpListener::bind(address).await.ok();
        let listener = wait::until("the agent's address", bind).await;
        let agent = agent.strip_prefix("http://").unwrap();
        let agent = agent.split('/').next().unwrap().to_owned();
        Self(tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let agent = agent.clone();
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(agent).await.unwrap();
                    drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
                });
            }
        }))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs in a network namespace"]
async fn mints_by_the_agent_of_either_family() {
    let cluster = Cluster::start("eks-families").await;
    let fixture = &cluster.fixture;
    cluster.associate().await;
    let v6 = "http://[fd00:ec2::23]/v1/credentials";
    let rows = [
        // Named by the webhook.
        ("named", "[fd00:ec2::23]:80", Some(v6)),
        // The association came after the Pod, or no webhook is there: nobody named it.
        ("unnamed-v6", "[fd00:ec2::23]:80", None),
        ("unnamed-v4", "169.254.170.23:80", None),
    ];
    for (name, address, named) in rows {
        let relay = Relay::start(address, &cluster.agent).await;
        let platform = match named {
            Some(uri) => Some(cluster.webhook(&["pullpass/pullpass"], uri).await),
            None => None,
        };
        let pod = install(fixture, &[POD_IDENTITY]).await;
        let created = create(fixture, &pod).await;
        assert_eq!(variable(&created, URI), named, "{name}");
        assert_eq!(variable(&created, OWN_FILE), Some(AGENT_PATH), "{name}");
        let token = projected(&created, AGENT_PATH);
        let expected = Projected {
            audience: EKS_AUTH.to_owned(),
            seconds: 3600,
        };
        assert_eq!(token, Some(expected), "{name}");
        let principal = cluster.run(&created, name).await;
        assert!(principal.starts_with(AS_AGENT), "{name}: {principal}");
        if let Some(platform) = platform {
            platform.leave(fixture).await;
        }
        drop(relay);
    }
}
