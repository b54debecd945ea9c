//! Leaders that die, that go, and that are two.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;

use super::support::figure;
use super::support::fixture::{ECR, Fixture, OWN};
use super::support::process::{Launch, Pullpass};
use super::support::proxy::{Fault, Proxy};
use super::support::wait;
use super::{
    auth, held, is_lease, launch, make_namespaces, put_fixed, wait_all, wait_leads, wait_one,
};

/// What stands under `auth` for each token that AWS gave the scene's user, and until when it is good.
async fn tokens(fixture: &Fixture) -> BTreeMap<String, Timestamp> {
    use base64::Engine as _;
    let minted = fixture.user.minted(&fixture.world.moto).await;
    let token = |token: &serde_json::Value| {
        let auth = format!("AWS:{}", token["password"].as_str()?);
        let auth = base64::engine::general_purpose::STANDARD.encode(auth);
        let until = &token["expiresAt"];
        let until = match until.as_f64() {
            #[expect(clippy::cast_possible_truncation, reason = "milliseconds will do")]
            Some(seconds) => Timestamp::from_millisecond((seconds * 1000.0) as i64).ok()?,
            None => until.as_str()?.parse().ok()?,
        };
        Some((auth, until))
    };
    minted.iter().filter_map(token).collect()
}

/// How many of the scene's pull secrets hold each token; fails when one holds none that is good.
async fn count_good(fixture: &Fixture, many: usize) -> BTreeMap<String, usize> {
    let tokens = tokens(fixture).await;
    let (held, now) = (held(fixture).await, Timestamp::now());
    let mut counts = BTreeMap::new();
    assert_eq!(held.len(), many);
    for (namespace, text) in held {
        let good = tokens
            .iter()
            .find(|(auth, until)| text.contains(*auth) && **until > now);
        let (auth, _) = good.unwrap_or_else(|| panic!("{namespace} holds no good login"));
        *counts.entry(auth.clone()).or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotation_is_finished_by_another_when_the_leader_is_killed_in_its_middle() {
    const MANY: usize = 200;
    let fixture = Fixture::alone("killed").await;
    let team = format!("{ECR}/team");
    // Half of it is longer than nobody leads.
    fixture.user.set_life(&fixture.world.moto, 112).await;
    fixture.serve(&[&team]).await;
    make_namespaces(&fixture, MANY).await;
    let launch = launch(&fixture).await;
    let first = Pullpass::start(&launch).await;
    wait_leads(&first).await;
    let second = Pullpass::start(&launch).await;
    wait_all(&fixture, MANY, &team).await;

    let deadline = Instant::now() + Duration::from_mins(3);
    let mut first = Some(first);
    let mut killed = None;
    loop {
        let counts = count_good(&fixture, MANY).await;
        let newest = counts.len() > 1;
        if newest && first.take().is_some() {
            killed = Some(Instant::now());
            println!("killed in the middle of a rotation: {:?}", counts.values());
        }
        // All hold the second token, which is the only one held then.
        if killed.is_some() && counts.len() == 1 {
            break;
        }
        assert!(Instant::now() < deadline, "{counts:?}");
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    println!(
        "another replica has finished it {:.1} s after",
        killed.unwrap().elapsed().as_secs_f64()
    );
    wait_leads(&second).await;
    let minted = fixture.user.minted(&fixture.world.moto).await.len();
    assert!(minted <= 3, "{minted} mints");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_goes_over_in_seconds_when_the_leader_is_told_to_stop() {
    let fixture = Fixture::alone("told").await;
    put_fixed(&fixture, "one", "canary").await;
    let launch = launch(&fixture).await;
    let first = Pullpass::start(&launch).await;
    wait_leads(&first).await;
    let second = Pullpass::start(&launch).await;
    let told = Instant::now();
    first.terminate();
    wait_leads(&second).await;
    let took = told.elapsed();
    let namespace = fixture.namespace("team").await;
    wait_one(&fixture, &namespace, &auth("one", "canary")).await;
    figure::within("another leads after SIGTERM", took, Duration::from_secs(5));

    // A crash: nobody gives anything back.
    let third = Pullpass::start(&launch).await;
    drop(second);
    let killed = Instant::now();
    wait_leads(&third).await;
    let took = killed.elapsed();
    figure::within("another leads after SIGKILL", took, Duration::from_secs(20));
}

/// One process holds on to what it knows of the Lease while another one has taken it: both lead for some seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_at_once_do_no_harm() {
    const MANY: usize = 60;
    let fixture = Fixture::alone("two").await;
    let team = format!("{ECR}/team");
    fixture.serve(&[&team]).await;
    put_fixed(&fixture, "one", "canary").await;
    make_namespaces(&fixture, MANY).await;
    let launch = launch(&fixture).await;
    let first = Pullpass::start(&launch).await;
    wait_leads(&first).await;
    wait_all(&fixture, MANY, &team).await;
    // The second one has a proxy of its own.
    let (proxy, kubeconfig) = another_way(&fixture, &launch).await;
    let second = Pullpass::start(&Launch {
        kubeconfig,
        ..launch
    })
    .await;

    let is_held = Arc::new(AtomicBool::new(true));
    let holds = Arc::clone(&is_held);
    fixture.api.inject(move |request| {
        (is_lease(request) && holds.load(Ordering::Acquire)).then_some(Fault::Hang)
    });
    let free = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "pullpass", "namespace": OWN}, "spec": {"holderIdentity": ""},
    });
    fixture.cluster.apply(&free).await;
    wait_leads(&second).await;
    assert!(
        first.metrics().await.contains("pullpass_leader 1\n"),
        "both lead"
    );

    // Everything at once: another password, other keys, namespaces that come, pull secrets that go.
    let user = super::support::user::User::add(&fixture.world.moto, "two-later").await;
    fixture.put_keys("two", &user).await;
    put_fixed(&fixture, "one", "later").await;
    for number in 0..20 {
        fixture.namespace(&format!("late{number}")).await;
        let path = format!("/api/v1/namespaces/two-n{number}/secrets/pullpass");
        fixture.cluster.send("DELETE", &path, None).await.ok();
    }
    wait_all(&fixture, MANY + 20, &auth("one", "later")).await;
    wait::until("the new keys' login everywhere", async || {
        let login = user.newest(&fixture.world.moto).await?;
        let auth = auth("AWS", &login.password);
        let held = held(&fixture).await;
        (held.len() == MANY + 20 && held.values().all(|text| text.contains(&auth))).then_some(())
    })
    .await;
    assert_eq!(
        user.minted(&fixture.world.moto).await.len(),
        1,
        "one mint for both"
    );
    is_held.store(false, Ordering::Release);
    wait::until("one leader", async || {
        first
            .metrics()
            .await
            .contains("pullpass_leader 0\n")
            .then_some(())
    })
    .await;
    assert!(second.metrics().await.contains("pullpass_leader 1\n"));
    let written = super::writes(&fixture.api.all()).len() + super::writes(&proxy.all()).len();
    println!(
        "two leaders: {written} writes in all for {} pull secrets",
        MANY + 20
    );
}

/// A proxy of its own to the API server, and the kubeconfig of pullpass through it.
async fn another_way(fixture: &Fixture, launch: &Launch) -> (Proxy, std::path::PathBuf) {
    use base64::Engine as _;
    let (url, ca) = fixture.world.api_server();
    let proxy = Proxy::start(&url, &ca).await;
    let text = std::fs::read_to_string(&launch.kubeconfig).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    let ca = base64::engine::general_purpose::STANDARD.encode(&proxy.certificate);
    config["clusters"][0]["cluster"] =
        json!({"server": proxy.url, "certificate-authority-data": ca});
    let path = fixture.file("kubeconfig-2");
    std::fs::write(&path, config.to_string()).unwrap();
    (proxy, path)
}
