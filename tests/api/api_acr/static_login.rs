//! Logins that somebody made by hand.

use serde_json::json;

use super::cloud::{APP, Cloud};
use super::support::keyring::{self, Login};
use super::support::oci::Oci;
use super::support::wait;

/// The admin account, a token of a scope map, a service principal's own secret, somebody's own login.
const LOGINS: [(&str, &str); 4] = [
    ("admin", "myreg"),
    ("token", "ci-token"),
    ("principal", APP),
    ("person", "someone@example.com"),
];

fn login(username: &str, password: &str) -> Login {
    Login {
        username: username.to_owned(),
        password: password.to_owned(),
    }
}

fn image(name: &str) -> String {
    format!("{name}.azurecr.io/team/hello:1")
}

/// Writes each login's source Secret, with this password.
async fn put(cloud: &Cloud, password: &str) {
    for (name, username) in LOGINS {
        let data = json!({"username": username, "password": password});
        let secret = format!("acr-{name}-login");
        let type_ = "kubernetes.io/basic-auth";
        cloud.fixture.put_source(&secret, type_, data).await;
    }
}

async fn serve(cloud: &Cloud) {
    put(cloud, "canary-password-1").await;
    for (name, _) in LOGINS {
        let secret = json!({"name": format!("acr-{name}-login")});
        let spec =
            json!({"images": [format!("{name}.azurecr.io")], "static": {"secretRef": secret}});
        let name = format!("acr-{name}");
        cloud.fixture.put_registry(&name, spec).await;
    }
}

/// A regenerated password is there with the next Pod.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_regenerated_password_of_a_fixed_login_comes_with_the_next_pod() {
    let cloud = Cloud::new("acr-fixed").await;
    let fixture = &cloud.fixture;
    serve(&cloud).await;
    let namespace = fixture.namespace("pods").await;
    let pullpass = cloud.start().await;
    let oci = Oci::start(&["team/hello:1"]);
    for (name, username) in LOGINS {
        let image = image(name);
        fixture.create(&namespace, &[&image]).await;
        oci.allow(&login(username, "canary-password-1"));
        let held = fixture.pull_secret(&namespace).await;
        oci.pull(&held, &image).unwrap();
    }
    put(&cloud, "canary-password-2").await;
    for (name, username) in LOGINS {
        let image = image(name);
        let regenerated = login(username, "canary-password-2");
        fixture.create_until(&namespace, &image, &regenerated).await;
        oci.allow(&regenerated);
        let held = fixture.pull_secret(&namespace).await;
        oci.pull(&held, &image).unwrap();
    }
    cloud.check_reached(&[]);
    cloud.check_discreet(&pullpass, "").await;
}

/// And in every namespace with no Pod in sight.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_regenerated_password_of_a_fixed_login_comes_to_every_namespace() {
    let cloud = Cloud::alone("acr-fixed-all").await;
    let fixture = &cloud.fixture;
    serve(&cloud).await;
    let namespaces = [
        fixture.namespace("one").await,
        fixture.namespace("two").await,
    ];
    let _pullpass = cloud.start_controller().await;
    for password in ["canary-password-1", "canary-password-2"] {
        put(&cloud, password).await;
        for (namespace, (name, username)) in namespaces
            .iter()
            .flat_map(|namespace| LOGINS.map(|login| (namespace, login)))
        {
            wait::until("the password in every namespace", async || {
                fixture.cluster.secret(namespace, "pullpass").await?;
                let held = fixture.pull_secret(namespace).await;
                let found = keyring::lookup(&held, &[image(name)]).remove(0);
                (found.first() == Some(&login(username, password))).then_some(())
            })
            .await;
        }
    }
}
