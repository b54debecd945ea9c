//! `--client-ca`: who may call the webhook, by the real binary.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;

use crate::support;
use serde_json::Value;
use support::patch_only::{Replica, Setup};
use support::pki::{Authority, ENDED, Pair, VALID};
use support::wait;
use support::webhook::review;

/// A replica that answers callers of one authority alone.
struct Place {
    setup: Setup,
    file: PathBuf,
    authority: Authority,
    replica: Replica,
}

impl Place {
    async fn start() -> Self {
        let setup = Setup::new("localhost");
        let authority = Authority::new("callers");
        let file = setup.certificate("callers.crt");
        std::fs::write(&file, authority.pem()).unwrap();
        let argument = format!("--client-ca={}", file.display());
        let replica = setup.start_as(&[&argument]).await;
        Self {
            setup,
            file,
            authority,
            replica,
        }
    }

    /// A caller with this certificate, if any, that speaks this version of TLS.
    fn caller(&self, pair: Option<&Pair>, version: reqwest::tls::Version) -> reqwest::Client {
        let ca = std::fs::read(self.setup.certificate("ca.crt")).unwrap();
        let mut client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([reqwest::Certificate::from_pem(&ca).unwrap()])
            .tls_version_min(version)
            .tls_version_max(version);
        if let Some(pair) = pair {
            let both = format!("{}{}", pair.certificate, pair.key);
            let identity = reqwest::Identity::from_pem(both.as_bytes()).unwrap();
            client = client.identity(identity);
        }
        client.build().unwrap()
    }

    /// Whether this caller's review is answered with a patch.
    async fn answers(&self, caller: &reqwest::Client) -> bool {
        let url = format!("https://{}/mutate?timeout=5s", self.replica.webhook);
        let Ok(answer) = caller.post(url).json(&review()).send().await else {
            return false;
        };
        let answer: Value = answer.json().await.unwrap();
        answer["response"]["patchType"] == "JSONPatch"
    }

    async fn count(&self, begin: &str) -> u64 {
        let metrics = self.replica.metrics().await;
        let line = metrics.lines().find_map(|line| line.strip_prefix(begin));
        line.unwrap().trim().parse().unwrap()
    }
}

const VERSIONS: [reqwest::tls::Version; 2] = [
    reqwest::tls::Version::TLS_1_2,
    reqwest::tls::Version::TLS_1_3,
];

#[tokio::test]
async fn answers_callers_that_the_authority_signed_and_no_others() {
    let place = Place::start().await;
    let right = place.authority.sign_client(VALID);
    let wrong = [
        ("none", None),
        (
            "of another authority",
            Some(Authority::new("callers").sign_client(VALID)),
        ),
        ("ended", Some(place.authority.sign_client(ENDED))),
        (
            "a server's",
            Some(place.authority.sign_server("client", VALID)),
        ),
    ];
    for version in VERSIONS {
        let caller = place.caller(Some(&right), version);
        assert!(place.answers(&caller).await, "{version:?}");
        for (name, pair) in &wrong {
            let caller = place.caller(pair.as_ref(), version);
            assert!(!place.answers(&caller).await, "{version:?}: {name}");
        }
    }
    let refused = "pullpass_tls_handshake_failures_total{reason=\"unauthenticated\"}";
    assert!(place.count(refused).await >= 8);
    let said = "no client certificate signed by --client-ca";
    let log = place.replica.wait_logged(&[said]).await;
    assert_eq!(log.matches(said).count(), 1, "once a minute");
    // Probes and Prometheus have no certificate, and need none on their own port.
    assert!(place.replica.is_ready().await);
}

#[tokio::test]
async fn takes_another_authority_without_a_restart_and_no_damaged_one() {
    let place = Place::start().await;
    let old = place.authority.sign_client(VALID);
    let old = place.caller(Some(&old), reqwest::tls::Version::TLS_1_3);
    assert!(place.answers(&old).await);

    std::fs::write(&place.file, "-----BEGIN CERTIFICATE-----\n").unwrap();
    let failed = "pullpass_certificate_reloads_total{outcome=\"failed\"}";
    wait::until("the damage to be seen", async || {
        (place.count(failed).await > 0).then_some(())
    })
    .await;
    let same = place.authority.sign_client(VALID);
    let same = place.caller(Some(&same), reqwest::tls::Version::TLS_1_3);
    assert!(place.answers(&same).await, "the old authority stays");

    let other = Authority::new("other");
    std::fs::write(&place.file, other.pem()).unwrap();
    let new = other.sign_client(VALID);
    wait::until("the other authority to count", async || {
        let new = place.caller(Some(&new), reqwest::tls::Version::TLS_1_3);
        place.answers(&new).await.then_some(())
    })
    .await;
    let late = place.authority.sign_client(VALID);
    let late = place.caller(Some(&late), reqwest::tls::Version::TLS_1_3);
    assert!(!place.answers(&late).await, "the old one counts no more");
    assert!(place.answers(&old).await, "a connection that is open stays");
}

#[test]
fn names_the_file_that_holds_no_authority() {
    let setup = Setup::new("localhost");
    for (content, said) in [
        ("", "holds no usable CA certificate"),
        (
            "-----BEGIN CERTIFICATE-----\n",
            "is not a list of certificates",
        ),
    ] {
        let file = setup.certificate("callers.crt");
        std::fs::write(&file, content).unwrap();
        let mut command = setup.command("127.0.0.1");
        let output = command.arg("--client-ca").arg(&file).output().unwrap();
        assert!(!output.status.success());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            stderr.contains("--client-ca") && stderr.contains("callers.crt"),
            "{stderr}"
        );
        assert!(stderr.contains(said), "{stderr}");
    }
}
