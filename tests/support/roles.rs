//! Roles of AWS that ServiceAccounts and others may assume.

use serde_json::{Value, json};

use super::fixture::Fixture;

/// The account of all principals.
pub const ACCOUNT: &str = "arn:aws:iam::123456789012";

/// Lets IAM know the cluster's issuer, for web identity and for the Pod Identity agent; answers its host.
pub async fn trust_cluster(fixture: &Fixture) -> String {
    trust_cluster_for(fixture, "sts.amazonaws.com").await
}

/// The same with another audience of web identity.
async fn trust_cluster_for(fixture: &Fixture, audience: &str) -> String {
    let configuration = "/.well-known/openid-configuration";
    let configuration = fixture.cluster.get(configuration).await.unwrap();
    let issuer = configuration["issuer"].as_str().unwrap();
    let jwks = fixture.cluster.get("/openid/v1/jwks").await.unwrap();
    let audiences = [audience, "pods.eks.amazonaws.com"];
    let body = json!({"issuer": issuer, "jwks": jwks, "audiences": audiences});
    fixture.world.moto.post("issuers", body).await;
    issuer.strip_prefix("https://").unwrap().to_owned()
}

/// Makes a role that a ServiceAccount of a namespace may assume by web identity, and by the Pod Identity agent.
pub async fn add_role(fixture: &Fixture, name: &str, namespace: &str, account: &str) -> String {
    add_role_for(fixture, name, (namespace, account), "sts.amazonaws.com").await
}

/// The same for web identity by tokens for another audience, which is IAM's only one from then on.
pub async fn add_role_for(
    fixture: &Fixture,
    name: &str,
    (namespace, account): (&str, &str),
    audience: &str,
) -> String {
    let issuer = trust_cluster_for(fixture, audience).await;
    let role = format!("{ACCOUNT}:role/{name}");
    let statement = json!({
        "Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity",
        "Principal": {"Federated": format!("{ACCOUNT}:oidc-provider/{issuer}")},
        "Condition": {"StringEquals": {
            format!("{issuer}:sub"): format!("system:serviceaccount:{namespace}:{account}"),
            format!("{issuer}:aud"): audience,
        }},
    });
    let of_agent = json!({
        "Effect": "Allow", "Action": ["sts:AssumeRole", "sts:TagSession"],
        "Principal": {"Service": "pods.eks.amazonaws.com"},
        "Condition": {"StringEquals": {
            "aws:RequestTag/kubernetes-namespace": namespace,
            "aws:RequestTag/kubernetes-service-account": account,
        }},
    });
    let trust = json!({"Version": "2012-10-17", "Statement": [statement, of_agent]});
    let body = json!({"roleArn": role, "trust": trust});
    fixture.world.moto.post("roles", body).await;
    role
}

/// A role that a principal may assume by its keys, with these identity policies, else those of a puller.
pub async fn add_hop(
    fixture: &Fixture,
    name: &str,
    principal: &str,
    external_id: Option<&str>,
    policies: Option<Value>,
) -> String {
    let role = format!("{ACCOUNT}:role/{name}");
    let mut statement =
        json!({"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": principal}});
    if let Some(external_id) = external_id {
        statement["Condition"] = json!({"StringEquals": {"sts:ExternalId": external_id}});
    }
    let trust = json!({"Version": "2012-10-17", "Statement": [statement]});
    let mut body = json!({"roleArn": role, "trust": trust});
    if let Some(policies) = policies {
        body["policies"] = json!([policies]);
    }
    fixture.world.moto.post("roles", body).await;
    role
}
