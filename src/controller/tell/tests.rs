use serde_json::json;

use super::*;
use crate::controller::at;
use crate::provision::tally::Tallies;
use crate::registry::Registry;

/// A Registry of all namespaces, for some of their Pods alone if `accounts` are named.
fn registry(name: &str, accounts: &[&str]) -> Registry {
    let mut serves = json!({"namespaces": {}});
    if !accounts.is_empty() {
        serves["serviceAccounts"] = json!(accounts);
    }
    serde_json::from_value(json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": name, "uid": name},
        "spec": {
            "images": [format!("{name}.example.com")], "serves": serves,
            "static": {"secretRef": {"name": name}},
        },
    }))
    .unwrap()
}

/// What is found where somebody else's Secret takes the place in so many namespaces, for each Registry.
fn survey(registries: &[&str], namespaces: usize) -> Survey {
    let tally = Tally {
        total: namespaces,
        foreign: namespaces,
        foreign_in: (0..namespaces).map(|n| format!("team-{n:02}")).collect(),
        ..Tally::default()
    };
    let tallies = registries
        .iter()
        .map(|&name| (name.parse().unwrap(), tally.clone()));
    let mut survey = Survey::default();
    survey.tallies = tallies.collect::<Tallies>();
    survey
}

fn tell(told: &mut Told, survey: &Survey, registries: &Registries, now: Timestamp) -> News {
    let trouble = Trouble {
        failure: &|_| None,
        fought: HashSet::new(),
        unwritten: HashMap::new(),
        notes: Vec::new(),
    };
    told.find_news(survey, registries, &trouble, |_| None, now)
}

/// `namespace/name` of the Secrets that notices are about.
fn secrets(news: &News) -> BTreeSet<String> {
    let secrets = news.notices.iter().map(|notice| &notice.regarding);
    let secrets = secrets.filter(|object| object.kind.as_deref() == Some("Secret"));
    secrets
        .map(|object| {
            let name = object.name.as_deref().unwrap();
            format!("{}/{name}", object.namespace.as_deref().unwrap())
        })
        .collect()
}

#[test]
fn tells_of_the_very_secret_that_is_not_ours() {
    let registries = Registries::build([registry("all", &[]), registry("some", &["ci"])]);
    let survey = survey(&["all", "some"], 1);
    let news = tell(&mut Told::default(), &survey, &registries, at(0));
    let wanted = ["team-00/pullpass", "team-00/pullpass-some"];
    assert_eq!(secrets(&news), wanted.map(str::to_owned).into());
    assert_eq!(
        news.again,
        Some(at(60)),
        "it is told again as long as it lasts"
    );
}

#[test]
fn tells_of_everything_in_turn_where_there_is_much() {
    let registries = Registries::build([registry("all", &[])]);
    // With what is told of the Registry itself: three rounds, and all of it again a minute later.
    let survey = survey(&["all"], EVENTS * 2);
    let (mut told, mut found) = (Told::default(), BTreeSet::new());
    for round in 0..3 {
        let now = at(round * 2);
        let news = tell(&mut told, &survey, &registries, now);
        assert!(news.notices.len() <= EVENTS, "{round}");
        assert_eq!(
            news.again,
            Some(at(round * 2 + if round < 2 { 2 } else { 60 })),
            "{round}"
        );
        found.extend(secrets(&news));
    }
    assert_eq!(found.len(), EVENTS * 2);
    // Then from the first one on again.
    let news = tell(&mut told, &survey, &registries, at(60));
    assert!(secrets(&news).contains("team-00/pullpass"));
    assert_eq!(news.again, Some(at(62)));
}

#[test]
fn writes_no_status_that_was_refused_a_moment_ago() {
    let registries = Registries::build([registry("all", &[])]);
    let survey = Survey::default();
    let (mut told, mut now) = (Told::default(), at(0));
    let refused = || ClusterError::Forbidden {
        what: "a status".to_owned(),
        message: "no".to_owned(),
    };
    for wait in [2, 4, 8, 16, 32, 60, 60] {
        let news = tell(&mut told, &survey, &registries, now);
        assert_eq!((news.statuses.len(), news.again), (1, None), "{wait}");
        told.note_written(&"all".parse().unwrap(), Err(refused()), now);
        let early = tell(&mut told, &survey, &registries, now);
        now += SignedDuration::from_secs(wait);
        assert_eq!((early.statuses.len(), early.again), (0, Some(now)));
    }
    let news = tell(&mut told, &survey, &registries, now);
    assert_eq!(news.statuses.len(), 1);
    told.note_written(&"all".parse().unwrap(), Ok(()), now);
    let news = tell(&mut told, &survey, &registries, now);
    assert_eq!((news.statuses.len(), news.again), (0, None));
    // The clock is put back while one is left alone.
    told.note_written(&"all".parse().unwrap(), Err(refused()), now);
    let news = tell(&mut told, &survey, &registries, at(-3600));
    assert_eq!(news.statuses.len(), 1);
}
