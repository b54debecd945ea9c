//! The kubelet's own keyring: which credentials it would try for an image, and in which order.

use serde::Deserialize;
use serde_json::json;

use super::bed;

/// A user name and password that the kubelet would try.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Login {
    pub username: String,
    pub password: String,
}

impl Login {
    /// A login with an ECR token's password.
    pub fn aws(password: &str) -> Self {
        Self {
            username: "AWS".to_owned(),
            password: password.to_owned(),
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    credentials: Option<Vec<Vec<Login>>>,
    error: Option<String>,
}

/// What the kubelet would try for each of `images`, first one first, when a Pod has this one pull secret.
pub fn lookup(dockerconfigjson: &str, images: &[impl AsRef<str>]) -> Vec<Vec<Login>> {
    lookup_all(&[dockerconfigjson], images)
}

/// The same when a Pod has these pull secrets, in this order.
pub fn lookup_all(
    dockerconfigjson: &[impl AsRef<str>],
    images: &[impl AsRef<str>],
) -> Vec<Vec<Login>> {
    let images: Vec<&str> = images.iter().map(AsRef::as_ref).collect();
    let held: Vec<&str> = dockerconfigjson.iter().map(AsRef::as_ref).collect();
    let request = json!({"dockerconfigjson": held, "images": images});
    let output = bed::run("keyring", &[], &format!("{request}\n"));
    let answer: Answer = serde_json::from_slice(&output.stdout).expect("one line of JSON");
    match (answer.credentials, answer.error) {
        (Some(credentials), None) => credentials,
        (_, error) => panic!("the kubelet cannot use this secret: {error:?}"),
    }
}
