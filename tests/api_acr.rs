//! The whole program before an Azure that refuses what Azure refuses: who pulls what, and that nobody else is told anything.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "a test that cannot go on has failed"
)]

mod support;

use serde_json::{Value, json};
use support::account::{allow_tokens, project_token, put_account};
use support::azure::metadata::PodIdentity;
use support::azure::token::claims;
use support::azure::{Application, Azure, Federated, USERNAME};
use support::cluster::Answer;
use support::internet::Reply;
use support::keyring::{self, Login};
use support::oci::Oci;
use support::process::{Launch, Pullpass, pod};
use support::scene::{SCENE, Scene, references};
use support::wait;

const TENANT: &str = "11111111-1111-1111-1111-111111111111";
const ELSEWHERE: &str = "66666666-6666-6666-6666-666666666666";
const APP: &str = "22222222-2222-2222-2222-222222222220";
const OTHER: &str = "33333333-3333-3333-3333-333333333330";
const RESOURCE_ID: &str = "/subscriptions/44444444-4444-4444-4444-444444444444/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/pull";
const AUDIENCE: &str = "api://AzureADTokenExchange";
const SECRET: &str = "canary~client+secret/&=%";

/// A cluster, and an Azure that trusts its issuer.
struct Cloud {
    scene: Scene,
    azure: Azure,
    issuer: String,
}

impl Cloud {
    async fn new(name: &'static str) -> Self {
        let scene = Scene::new(name).await;
        let azure = Azure::start().await;
        let configuration = "/.well-known/openid-configuration";
        let configuration = scene.cluster.get(configuration).await.unwrap();
        let issuer = configuration["issuer"].as_str().unwrap().to_owned();
        let jwks = scene.cluster.get("/openid/v1/jwks").await.unwrap();
        {
            let mut content = azure.content();
            content.issuers.insert(issuer.clone(), jwks);
            TENANT.clone_into(&mut content.node.tenant_id);
        }
        Self {
            scene,
            azure,
            issuer,
        }
    }

    /// Makes an application known that trusts a ServiceAccount (`NAMESPACE:NAME`) and has a client secret.
    fn add_application(&self, client_id: &str, account: &str) {
        let federated = Federated {
            issuer: self.issuer.clone(),
            subject: format!("system:serviceaccount:{account}"),
            audience: AUDIENCE.to_owned(),
        };
        let application = Application {
            client_id: client_id.to_owned(),
            secrets: vec![(SECRET.to_owned(), true)],
            federated: vec![federated],
        };
        self.azure.add_application(TENANT, application);
    }

    /// Writes a Registry of this name that serves a registry's `team`, with this `acr`.
    async fn put_registry(&self, name: &str, server: &str, acr: Value) {
        let spec = json!({"images": [format!("{server}/team")], "acr": acr});
        self.scene.put_registry(name, spec).await;
    }

    async fn put_secret(&self, name: &str, value: &str) {
        let data = json!({"AZURE_CLIENT_SECRET": value});
        self.scene.put_source(name, "Opaque", data).await;
    }

    /// How to start pullpass with the environment that Azure's webhook makes.
    async fn launch(&self) -> Launch {
        let launch = self.scene.launch().await;
        let mut authorities = std::fs::read_to_string(&launch.extra_ca).unwrap();
        authorities.push_str(&self.azure.internet.ca);
        let extra_ca = self.scene.file("authorities.crt");
        std::fs::write(&extra_ca, authorities).unwrap();
        let file = project_token(&self.scene, AUDIENCE).await;
        let environment = [
            ("HTTPS_PROXY", self.azure.internet.proxy.as_str()),
            (
                "AZURE_POD_IDENTITY_AUTHORITY_HOST",
                &self.azure.metadata.url,
            ),
            ("AZURE_CLIENT_ID", APP),
            ("AZURE_TENANT_ID", TENANT),
            ("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com/"),
            ("AZURE_FEDERATED_TOKEN_FILE", file.to_str().unwrap()),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Launch {
            extra_ca,
            environment: environment.to_vec(),
            // At this level libraries tell the most.
            log: "trace",
            ..launch
        }
    }

    async fn start(&self) -> Pullpass {
        let pullpass = Pullpass::start(&self.launch().await).await;
        pullpass
            .register(&self.scene.cluster, SCENE, self.scene.name)
            .await;
        pullpass
    }

    /// What the kubelet would try first for an image; it must be there.
    async fn first(&self, namespace: &str, image: &str) -> Login {
        let held = self.scene.pull_secret(namespace).await;
        let mut found = keyring::lookup(&held, &[image]).remove(0).into_iter();
        found
            .next()
            .unwrap_or_else(|| panic!("no login for {image}"))
    }

    /// Creates a Pod that gets the reference and no credential for its image; answers why, as the user is told.
    async fn refuse(&self, namespace: &str, image: &str) -> String {
        let created = self.scene.create(namespace, &[image]).await;
        assert!(references(&created.body));
        let told = unwrap_lines(&created);
        assert!(!told.is_empty(), "no warning about {image}");
        if self.scene.has_pull_secret(namespace).await {
            let held = self.scene.pull_secret(namespace).await;
            assert_eq!(keyring::lookup(&held, &[image]), [vec![]], "{image}");
        }
        told
    }

    /// Nobody but these hosts was ever asked, and no host got what it should not.
    fn check_reached(&self, hosts: &[&str]) {
        for reached in self.azure.internet.reached() {
            let host = reached.strip_suffix(":443");
            assert!(
                host.is_some_and(|host| hosts.contains(&host)),
                "{reached} was asked"
            );
        }
        let stolen = &self.azure.content().stolen;
        assert!(stolen.is_empty(), "{stolen:?}");
    }
}

/// Warnings, which the API server may break into lines.
fn unwrap_lines(answer: &Answer) -> String {
    answer.warnings.join("\n").replace("\n… ", " ")
}

/// No secret of any kind is in what pullpass says; every token here begins so.
fn check_discreet(pullpass: &Pullpass, warnings: &str) {
    let log = pullpass.log();
    for secret in ["canary", "eyJ"] {
        for text in [&log, warnings] {
            let found = text.lines().find(|line| line.contains(secret));
            assert_eq!(found, None, "{secret} is told");
        }
    }
}

/// Each identity pulls what it may, with a registry that takes nothing else; its neighbour, who may not, is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_identity_pulls_and_its_neighbour_is_refused() {
    let cloud = Cloud::new("acr-rows").await;
    cloud.add_application(APP, "pullpass:pullpass");
    cloud.add_application(OTHER, "pullpass:pullpass");
    cloud.put_secret("acr-principal", SECRET).await;
    {
        let mut content = cloud.azure.content();
        content.node.system = Some(APP.to_owned());
        content.node.user_assigned = vec![
            (APP.to_owned(), RESOURCE_ID.to_owned()),
            (OTHER.to_owned(), RESOURCE_ID.replace("/pull", "/other")),
        ];
    }
    let workload = |client_id: &str| json!({"identity": {"workload": {"clientId": client_id, "tenantId": TENANT}}});
    let principal = |client_id: &str| json!({"identity": {"servicePrincipal": {"clientId": client_id, "tenantId": TENANT, "secretRef": {"name": "acr-principal"}}}});
    let managed = |name: &str, id: &str| json!({"identity": {"managedIdentity": {name: id}}});
    let narrow = |mut acr: Value| {
        acr["scopes"] = json!(["repository:team/hello:pull"]);
        acr
    };
    let rows = [
        ("default", json!({}), None),
        ("workload", workload(APP), Some(workload(OTHER))),
        ("principal", principal(APP), Some(principal(OTHER))),
        (
            "scoped",
            narrow(principal(APP)),
            Some(narrow(principal(OTHER))),
        ),
        ("system", json!({"identity": {"managedIdentity": {}}}), None),
        (
            "client",
            managed("clientId", APP),
            Some(managed("clientId", OTHER)),
        ),
        (
            "resource",
            managed("resourceId", RESOURCE_ID),
            Some(managed(
                "resourceId",
                &RESOURCE_ID.replace("/pull", "/other"),
            )),
        ),
    ];
    for (name, acr, neighbour) in &rows {
        cloud
            .azure
            .add_server(&format!("{name}.azurecr.io"), TENANT, &[APP]);
        cloud
            .azure
            .add_server(&format!("{name}other.azurecr.io"), TENANT, &[APP]);
        cloud
            .put_registry(
                &format!("acr-{name}"),
                &format!("{name}.azurecr.io"),
                acr.clone(),
            )
            .await;
        if let Some(neighbour) = neighbour {
            cloud
                .put_registry(
                    &format!("acr-{name}-other"),
                    &format!("{name}other.azurecr.io"),
                    neighbour.clone(),
                )
                .await;
        }
    }
    let namespace = cloud.scene.namespace("pods").await;
    let pullpass = cloud.start().await;
    let oci = Oci::start(&["team/hello:1"]);

    let mut told = String::new();
    let mut before: Option<Login> = None;
    for (name, acr, neighbour) in &rows {
        let server = format!("{name}.azurecr.io");
        let image = format!("{server}/team/hello:1");
        let created = cloud.scene.create(&namespace, &[&image]).await;
        assert!(references(&created.body), "{name}");
        assert_eq!(created.warnings, [""; 0], "{name}");
        let login = cloud.first(&namespace, &image).await;
        assert_eq!(Some(&login), cloud.azure.newest(&server).as_ref(), "{name}");
        assert_eq!(login.username, USERNAME);
        let minted = claims(&login.password);
        assert_eq!(minted["appid"], APP, "{name}");
        let scopes = if acr["scopes"].is_null() {
            json!([])
        } else {
            acr["scopes"].clone()
        };
        assert_eq!(minted["scopes"], scopes, "{name}");
        // The registry takes this one alone.
        let held = cloud.scene.pull_secret(&namespace).await;
        if let Some(before) = &before {
            oci.allow(before);
            let refused = oci.pull(&held, &image).unwrap_err();
            assert!(refused.contains("UNAUTHORIZED"), "{refused}");
        }
        oci.allow(&login);
        oci.pull(&held, &image).unwrap();
        before = Some(login);
        if neighbour.is_some() {
            let refused = cloud
                .refuse(&namespace, &format!("{name}other.azurecr.io/team/hello:1"))
                .await;
            assert!(refused.contains("AcrPull"), "{refused}");
            assert!(
                refused.contains(&format!("Registry acr-{name}-other")),
                "{refused}"
            );
            told.push_str(&refused);
        }
    }
    check_discreet(&pullpass, &told);
    let hosts: Vec<String> = rows
        .iter()
        .flat_map(|(name, ..)| {
            [
                format!("{name}.azurecr.io"),
                format!("{name}other.azurecr.io"),
            ]
        })
        .collect();
    let hosts: Vec<&str> = hosts
        .iter()
        .map(String::as_str)
        .chain(["login.microsoftonline.com"])
        .collect();
    cloud.check_reached(&hosts);
    // Warm Pods cost nothing.
    let calls = cloud.azure.count("");
    cloud
        .scene
        .create(&namespace, &["default.azurecr.io/team/hello:1"])
        .await;
    assert_eq!(cloud.azure.count(""), calls);
}

/// The ServiceAccount of each namespace by itself: what one may, its neighbour of the same name may not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_account_of_a_namespace_pulls_and_no_neighbours() {
    let cloud = Cloud::new("acr-tenant").await;
    let scene = &cloud.scene;
    allow_tokens(scene, "acr-puller").await;
    let [mine, neighbour] = [
        scene.namespace("mine").await,
        scene.namespace("neighbour").await,
    ];
    for namespace in [&mine, &neighbour] {
        put_account(scene, namespace, "acr-puller", json!({})).await;
    }
    cloud.add_application(APP, &format!("{mine}:acr-puller"));
    let server = "tenant.azurecr.io";
    cloud.azure.add_server(server, TENANT, &[APP]);
    let identity =
        json!({"serviceAccount": {"name": "acr-puller", "clientId": APP, "tenantId": TENANT}});
    cloud
        .put_registry("acr-tenant", server, json!({"identity": identity}))
        .await;
    let pullpass = cloud.start().await;
    let image = format!("{server}/team/hello:1");

    let created = scene.create(&mine, &[&image]).await;
    assert_eq!(created.warnings, [""; 0]);
    let login = cloud.first(&mine, &image).await;
    assert_eq!(Some(&login), cloud.azure.newest(server).as_ref());
    let oci = Oci::start(&["team/hello:1"]);
    oci.allow(&login);
    oci.pull(&scene.pull_secret(&mine).await, &image).unwrap();

    let told = cloud.refuse(&neighbour, &image).await;
    assert!(told.contains("AADSTS700213"), "{told}");
    assert!(
        told.contains(&format!("system:serviceaccount:{neighbour}:acr-puller")),
        "{told}"
    );
    assert_eq!(cloud.azure.content().minted.len(), 1);
    check_discreet(&pullpass, &told);
    cloud.check_reached(&["login.microsoftonline.com", server]);
}

/// What tenants write on ServiceAccounts is two ids or nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_account_names_its_application_by_ids_alone() {
    let cloud = Cloud::new("acr-named").await;
    let scene = &cloud.scene;
    allow_tokens(scene, "named-puller").await;
    let namespace = scene.namespace("pods").await;
    cloud.add_application(APP, &format!("{namespace}:named-puller"));
    cloud.add_application(OTHER, "elsewhere:named-puller");
    let server = "named.azurecr.io";
    cloud.azure.add_server(server, TENANT, &[APP]);
    let identity = json!({"serviceAccount": {"name": "named-puller", "fromAnnotations": true}});
    cloud
        .put_registry("acr-named", server, json!({"identity": identity}))
        .await;
    let pullpass = cloud.start().await;
    let image = format!("{server}/team/hello:1");

    let mut told = cloud.refuse(&namespace, &image).await;
    assert!(
        told.contains("has no ServiceAccount named-puller"),
        "{told}"
    );
    let ids = |client_id: &str, tenant_id: &str| json!({"azure.workload.identity/client-id": client_id, "azure.workload.identity/tenant-id": tenant_id});
    for (annotations, words) in [
        (
            json!({}),
            "has no annotation azure.workload.identity/client-id",
        ),
        (
            json!({"azure.workload.identity/client-id": APP}),
            "has no annotation azure.workload.identity/tenant-id",
        ),
        (ids("thief.example", TENANT), "is no id of the form"),
        (ids(APP, "../../thief.example/"), "is no id of the form"),
        (ids(APP, &format!("{TENANT}/../x")), "is no id of the form"),
        (ids(APP, "common"), "is no id of the form"),
        (
            ids(APP, &format!("{TENANT}@thief.example")),
            "is no id of the form",
        ),
        (ids(OTHER, TENANT), "AADSTS700213"),
    ] {
        put_account(scene, &namespace, "named-puller", annotations).await;
        let refused = cloud.refuse(&namespace, &image).await;
        assert!(refused.contains(words), "{refused}");
        told.push_str(&refused);
    }
    put_account(scene, &namespace, "named-puller", ids(APP, TENANT)).await;
    wait::until("the application of the ServiceAccount", async || {
        let created = scene.create(&namespace, &[&image]).await;
        created.warnings.is_empty().then_some(())
    })
    .await;
    let login = cloud.first(&namespace, &image).await;
    assert_eq!(claims(&login.password)["appid"], APP);
    check_discreet(&pullpass, &told);
    cloud.check_reached(&["login.microsoftonline.com", server]);
}

/// Whatever is tried, nobody but the authority and the login servers of the admin's list is ever spoken to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thief_receives_nothing() {
    let cloud = Cloud::new("acr-thief").await;
    let scene = &cloud.scene;
    cloud.add_application(APP, "pullpass:pullpass");
    cloud.put_secret("acr-thief-secret", SECRET).await;
    let principal = json!({"servicePrincipal": {"clientId": APP, "tenantId": TENANT, "secretRef": {"name": "acr-thief-secret"}}});
    for name in ["moved", "realm", "entra", "good"] {
        let server = format!("{name}.azurecr.io");
        cloud.azure.add_server(&server, TENANT, &[APP]);
        let tenant = if name == "entra" { ELSEWHERE } else { TENANT };
        let identity = json!({"workload": {"tenantId": tenant}});
        cloud
            .put_registry(
                &format!("thief-{name}"),
                &server,
                json!({"identity": identity}),
            )
            .await;
    }
    // Registries that name a thief as a login server: some the API server refuses, the others serve nothing.
    let hosts = [
        "thief.example",
        "good.azurecr.io.thief.example",
        "good.azurecr.io:8443",
        "goodazurecr.io",
        "xn--good-5qa.azurecr.io",
        "good.westeurope.data.azurecr.io",
        "*.azurecr.io",
        "user@good.azurecr.io",
        "good.azurecr.io@thief.example",
        "good.azurecr.io.",
        "GOOD.azurecr.io",
        "127.0.0.1",
    ];
    for (number, host) in hosts.iter().enumerate() {
        let object = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": format!("thief-host-{number}")},
            "spec": {"images": [format!("{host}/team")], "serves": {"namespaces": {"matchLabels": {SCENE: scene.name}}}, "acr": {"identity": principal}},
        });
        let path = "/apis/pullpass.dev/v1alpha1/registries";
        scene.cluster.send("POST", path, Some(&object)).await;
    }
    for tenant in [
        "../thief.example",
        "11111111-1111-1111-1111-111111111111/x",
        "common@thief.example",
    ] {
        let mut identity = principal.clone();
        identity["servicePrincipal"]["tenantId"] = json!(tenant);
        let object = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": "thief-tenant"},
            "spec": {"images": ["good.azurecr.io/tenant"], "serves": {"namespaces": {}}, "acr": {"identity": identity}},
        });
        let path = "/apis/pullpass.dev/v1alpha1/registries";
        let answer = scene.cluster.send("POST", path, Some(&object)).await;
        assert_eq!(answer.status.as_u16(), 422, "{tenant}");
    }
    let namespace = scene.namespace("pods").await;
    let pullpass = cloud.start().await;

    // Answers that point elsewhere.
    let moved = |location: &str| Reply {
        status: 307,
        headers: vec![("location", location.to_owned())],
        ..Reply::default()
    };
    let realm = Reply {
        headers: vec![(
            "www-authenticate",
            "Bearer realm=\"https://thief.example/oauth2/token\",service=\"thief.example\""
                .to_owned(),
        )],
        ..Reply::json(
            401,
            &json!({"errors": [{"code": "UNAUTHORIZED", "message": "go to https://thief.example"}]}),
        )
    };
    cloud.azure.fail(
        "moved.azurecr.io:443/oauth2/exchange",
        moved("https://thief.example/oauth2/exchange"),
        100,
    );
    cloud
        .azure
        .fail("realm.azurecr.io:443/oauth2/exchange", realm, 100);
    cloud
        .azure
        .fail(ELSEWHERE, moved("https://thief.example/token"), 100);
    let mut told = String::new();
    for name in ["moved", "realm", "entra"] {
        told.push_str(
            &cloud
                .refuse(&namespace, &format!("{name}.azurecr.io/team/hello:1"))
                .await,
        );
    }

    // Images and annotations that name a thief.
    for host in hosts {
        let mut pod = pod(&namespace, &[&format!("{host}/team/hello:1")]);
        pod["metadata"]["annotations"] = json!({
            "azure.workload.identity/client-id": OTHER, "azure.workload.identity/tenant-id": "../thief.example",
            "pullpass.dev/endpoint": "https://thief.example",
        });
        let answer = scene.cluster.create_pod(&pod, "").await;
        // Some of these names are no images at all to the API server.
        if answer.status.is_success() {
            assert!(!references(&answer.body), "{host}");
        }
    }
    let image = "good.azurecr.io/team/hello:1";
    let created = scene.create(&namespace, &[image]).await;
    assert_eq!(created.warnings, [""; 0]);
    let login = cloud.first(&namespace, image).await;
    assert_eq!(Some(login), cloud.azure.newest("good.azurecr.io"));

    cloud.check_reached(&[
        "login.microsoftonline.com",
        "moved.azurecr.io",
        "realm.azurecr.io",
        "entra.azurecr.io",
        "good.azurecr.io",
    ]);
    check_discreet(&pullpass, &told);
    // What stands in the namespace is for the one host.
    let held: Value = serde_json::from_str(&scene.pull_secret(&namespace).await).unwrap();
    let keys: Vec<&String> = held["auths"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["good.azurecr.io/team"]);
}

/// A client secret that expired is replaced by writing a new one, without a restart; another one's is never used instead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_client_secret_is_used_at_once() {
    let cloud = Cloud::new("acr-rotate").await;
    let scene = &cloud.scene;
    cloud.add_application(APP, "nobody:nobody");
    cloud
        .azure
        .content()
        .tenants
        .get_mut(TENANT)
        .unwrap()
        .applications[0]
        .secrets = vec![("canary-old".to_owned(), false), (SECRET.to_owned(), true)];
    let server = "rotate.azurecr.io";
    cloud.azure.add_server(server, TENANT, &[APP]);
    cloud.put_secret("acr-rotate-secret", "canary-old").await;
    let identity = json!({"servicePrincipal": {"clientId": APP, "tenantId": TENANT, "secretRef": {"name": "acr-rotate-secret"}}});
    cloud
        .put_registry("acr-rotate", server, json!({"identity": identity}))
        .await;
    let namespace = scene.namespace("pods").await;
    let pullpass = cloud.start().await;
    let image = format!("{server}/team/hello:1");

    let told = cloud.refuse(&namespace, &image).await;
    assert!(
        told.contains("AADSTS7000222") && told.contains("acr-rotate"),
        "{told}"
    );
    cloud.put_secret("acr-rotate-secret", SECRET).await;
    wait::until("the new client secret to be used", async || {
        let created = scene.create(&namespace, &[&image]).await;
        created.warnings.is_empty().then_some(())
    })
    .await;
    assert_eq!(
        Some(cloud.first(&namespace, &image).await),
        cloud.azure.newest(server)
    );
    check_discreet(&pullpass, &told);
}

/// The admin account, a token of a scope map, somebody's own login: a regenerated password is there with the next Pod.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_regenerated_password_of_a_fixed_login_comes_with_the_next_pod() {
    let cloud = Cloud::new("acr-fixed").await;
    let scene = &cloud.scene;
    let login = |password: &str| Login {
        username: "fixed".to_owned(),
        password: password.to_owned(),
    };
    let put = async |password: &str| {
        let data = json!({"username": "fixed", "password": password});
        scene
            .put_source("acr-fixed-login", "kubernetes.io/basic-auth", data)
            .await;
    };
    put("password-1").await;
    let image = "fixed.azurecr.io/team/hello:1";
    let spec = json!({"images": ["fixed.azurecr.io"], "static": {"secretRef": {"name": "acr-fixed-login"}}});
    scene.put_registry("acr-fixed", spec).await;
    let namespace = scene.namespace("pods").await;
    let _pullpass = cloud.start().await;
    let oci = Oci::start(&["team/hello:1"]);

    scene.create(&namespace, &[image]).await;
    oci.allow(&login("password-1"));
    oci.pull(&scene.pull_secret(&namespace).await, image)
        .unwrap();
    oci.allow(&login("password-2"));
    oci.pull(&scene.pull_secret(&namespace).await, image)
        .unwrap_err();
    put("password-2").await;
    scene
        .create_until(&namespace, image, &login("password-2"))
        .await;
    oci.pull(&scene.pull_secret(&namespace).await, image)
        .unwrap();
    cloud.check_reached(&[]);
}

/// Behind AAD Pod Identity: Pods get the label that it goes by, unless they have one, and pullpass itself is a Pod behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn works_behind_aad_pod_identity() {
    let cloud = Cloud::new("acr-nmi").await;
    let scene = &cloud.scene;
    let server = "nmi.azurecr.io";
    cloud.azure.add_server(server, TENANT, &[APP]);
    cloud.azure.content().node.pod_identity = PodIdentity::Waiting;
    let spec = json!({
        "images": [format!("{server}/team")], "acr": {"identity": {"managedIdentity": {}}},
        "inject": {"labels": {"aadpodidbinding": "orders"}},
    });
    scene.put_registry("acr-nmi", spec).await;
    let namespace = scene.namespace("pods").await;
    let _pullpass = cloud.start().await;
    let image = format!("{server}/team/hello:1");

    // Nothing is assigned yet: the agent keeps everybody waiting, and the Pod does not wait with it.
    let created = scene.create(&namespace, &[&image]).await;
    assert!(references(&created.body));
    assert!(!created.warnings.is_empty());
    assert_eq!(
        created.body["metadata"]["labels"]["aadpodidbinding"],
        "orders"
    );
    let mut own = pod(&namespace, &[&image]);
    own["metadata"]["labels"] = json!({"aadpodidbinding": "mine"});
    let created = scene.cluster.create_pod(&own, "").await.ok();
    assert_eq!(
        created.body["metadata"]["labels"]["aadpodidbinding"],
        "mine"
    );

    // Once it is, the credential comes.
    cloud.azure.content().node.pod_identity = PodIdentity::Assigned(APP.to_owned());
    wait::until("the pull secret", async || {
        scene.create(&namespace, &[&image]).await;
        scene.has_pull_secret(&namespace).await.then_some(())
    })
    .await;
    assert_eq!(
        Some(cloud.first(&namespace, &image).await),
        cloud.azure.newest(server)
    );
}
