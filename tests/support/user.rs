//! An IAM user with one access key, and what AWS gave it.

use serde_json::{Value, json};

use super::keyring::Login;
use super::moto::{Moto, key_id, secret_key};

/// An IAM user of the AWS double.
#[derive(Clone, Debug)]
pub struct User {
    pub name: String,
    pub principal: String,
}

impl User {
    /// Makes a user that may pull known to AWS.
    pub async fn add(moto: &Moto, name: &str) -> Self {
        Self::add_with(moto, name, None).await
    }

    /// Makes a user known; `policies` instead of those of a puller.
    pub async fn add_with(moto: &Moto, name: &str, policies: Option<Value>) -> Self {
        Self {
            name: name.to_owned(),
            principal: moto.add_user(name, policies).await,
        }
    }

    /// The content of a source Secret with this user's keys.
    pub fn keys(&self) -> Value {
        json!({"AWS_ACCESS_KEY_ID": key_id(&self.name), "AWS_SECRET_ACCESS_KEY": secret_key(&self.name)})
    }

    /// Sets how long the tokens live that this user gets from now on.
    pub async fn set_life(&self, moto: &Moto, seconds: u32) {
        let body = json!({"seconds": seconds, "principal": self.principal});
        moto.post("life", body).await;
    }

    /// Makes the next calls of `GetAuthorizationToken` by this user fail or hang, as `fault` says.
    pub async fn fail(&self, moto: &Moto, mut fault: Value) {
        fault["operation"] = "GetAuthorizationToken".into();
        fault["principal"] = self.principal.as_str().into();
        moto.post("faults", fault).await;
    }

    /// The tokens that this user got, oldest first: `password`, `expiresAt`, `region`, `public`.
    pub async fn minted(&self, moto: &Moto) -> Vec<Value> {
        let minted = moto.get("minted").await;
        let all = minted.as_array().expect("a list").iter();
        let own = all.filter(|token| token["principal"] == self.principal.as_str());
        own.cloned().collect()
    }

    /// The login with the newest token that this user got; `None`: it got none.
    pub async fn newest(&self, moto: &Moto) -> Option<Login> {
        let minted = self.minted(moto).await;
        let password = minted.last()?["password"].as_str()?;
        Some(Login::aws(password))
    }
}
