//! The login of one image, for a Pod whose kubelet asks.

use std::collections::BTreeMap;

use pullpass::image::Reference;
use pullpass::provision::image_login::ImageLogin;
use pullpass::provision::service_account::ServiceAccount;
use pullpass::provision::{Namespace, Pending};
use pullpass::registry::Labels;
use secrecy::ExposeSecret as _;
use serde_json::json;

use super::double::{World, now};
use super::names::name;
use super::{EU, HARBOR, Replica, alone, namespace, read, registry};

/// Asks for an image's login as a Pod of ServiceAccount `puller` with this uid.
async fn ask(replica: &Replica, image: &str, uid: &str) -> Result<ImageLogin, Pending> {
    let namespace = Namespace::clone(&namespace()).with_uid("n-1".to_owned());
    let registries = replica.state.registries();
    let reference = Reference::parse(image).expect("an image");
    let resolved = registries.resolve(&Labels::new(), &reference);
    let grant = resolved.expect("it is served").grant_of(&reference);
    let account = name("puller");
    replica
        .ensure
        .fetch_login(&namespace, grant, (&account, uid))
        .await
}

fn set_account(world: &World, uid: &str) {
    let account = ServiceAccount {
        uid: uid.to_owned(),
        pull_secrets: None,
        annotations: BTreeMap::new(),
    };
    let key = ("team-a".to_owned(), "puller".to_owned());
    world.accounts.lock().unwrap().insert(key, Some(account));
}

#[tokio::test]
async fn gives_the_login_of_a_registry_under_the_images_own_key() {
    let (world, replica) = alone();
    let image = format!("{EU}/team/app");
    let login = ask(&replica, &image, "s-1").await.unwrap();
    assert_eq!(login.key, image);
    let until = login.until.unwrap();
    assert!(until > now());
    let again = ask(&replica, &format!("{EU}/other"), "s-1").await.unwrap();
    assert_eq!(
        again.password.expose_secret(),
        login.password.expose_secret()
    );
    assert_eq!(world.minted.lock().unwrap().len(), 1);
    assert!(
        world.secrets.lock().unwrap().is_empty(),
        "no Secret holds it"
    );

    let image = format!("{HARBOR}/team/app");
    let refused = ask(&replica, &image, "s-1").await.unwrap_err();
    assert_eq!(refused.reason, "MissingSource");
    replica.give_source(&world, "pass:word");
    let login = ask(&replica, &image, "s-1").await.unwrap();
    assert_eq!((&*login.key, &*login.username), (&*image, "robot"));
    assert_eq!(login.password.expose_secret(), "pass:word");
    assert_eq!(login.until, None);
}

/// The kubelet strips a first segment `v1` or `v2` of a key, so it stands there twice.
#[tokio::test]
async fn gives_the_login_of_an_image_whose_path_looks_like_an_api_version() {
    let (world, replica) = alone();
    replica.give_source(&world, "pass:word");
    let spec = json!({
        "images": [format!("{HARBOR}/v2/app")], "namespaceSelector": {}, "delivery": "Node",
        "static": {"secretRef": {"name": "harbor-login"}},
    });
    replica
        .state
        .set_registries(read(vec![registry("own", spec)]), now());
    let login = ask(&replica, &format!("{HARBOR}/v2/app"), "s-1").await;
    assert_eq!(login.unwrap().key, format!("{HARBOR}/v2/v2/app"));
}

/// What was minted by a ServiceAccount that had the same name is not the next one's, however lately it was read.
#[tokio::test]
async fn gives_nobody_what_a_service_account_of_before_has_minted() {
    let (world, replica) = alone();
    let identity = json!({"serviceAccount": {"name": "puller", "roleArn": "arn:aws:iam::123456789012:role/pull"}});
    let spec = json!({"images": [EU], "namespaceSelector": {}, "ecr": {"identity": identity}});
    replica
        .state
        .set_registries(read(vec![registry("own", spec)]), now());
    set_account(&world, "s-1");
    let image = format!("{EU}/team/app");
    ask(&replica, &image, "s-1").await.unwrap();
    set_account(&world, "s-2");
    ask(&replica, &image, "s-2").await.unwrap();
    assert_eq!(world.minted.lock().unwrap().len(), 2);
    // The token of one that is gone is no longer good for what its successor minted.
    let refused = ask(&replica, &image, "s-1").await.unwrap_err();
    assert_eq!(refused.reason, "ServiceAccountReplaced");
}
