//! What is made is read again, and what does not belong together is not taken.

use jiff::SignedDuration;
use secrecy::ExposeSecret as _;

use super::*;

const LIVES: ValidityPeriods = ValidityPeriods {
    serving: SignedDuration::from_hours(24 * 90),
    authority: SignedDuration::from_hours(24 * 365),
};

const HOST: &str = "pullpass.pullpass.svc";

fn hosts() -> Vec<String> {
    vec![HOST.into(), "127.0.0.1".into()]
}

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn days(days: i64) -> Timestamp {
    now() + SignedDuration::from_hours(24 * days)
}

fn data(held: &CertificateSet) -> BTreeMap<String, SecretSlice<u8>> {
    let data = held.data().into_iter();
    data.map(|(key, text)| {
        let bytes = text.expose_secret().as_bytes().to_vec();
        (key.to_owned(), bytes.into())
    })
    .collect()
}

fn read(held: &CertificateSet) -> CertificateSet {
    CertificateSet::read(&data(held), &hosts()).unwrap()
}

#[test]
fn reads_what_it_made_at_every_step_of_an_authoritys_life() {
    let first = CertificateSet::make(&hosts(), LIVES, now()).unwrap();
    let beside = first.with_new_authority(LIVES, days(240)).unwrap();
    let signing = beside.with_new_pair(&hosts(), LIVES, days(241)).unwrap();
    let alone = signing.without_older();
    for held in [&first, &beside, &signing, &alone] {
        let read = read(held);
        assert_eq!(read.view(), held.view());
        assert_eq!(read.bundle(), held.bundle());
    }
    let trusts = |bundle: &CertificateSet, pair: &CertificateSet, host: &str| {
        let at = pair.view().serving.made;
        is_trusted(
            bundle.bundle().as_bytes(),
            &pair.pair().certificate,
            host,
            at,
        )
    };
    assert!(trusts(&first, &first, HOST) && trusts(&first, &first, "127.0.0.1"));
    assert!(!trusts(&first, &first, "pullpass.elsewhere.svc"));
    assert!(trusts(&beside, &first, HOST) && trusts(&beside, &signing, HOST));
    assert!(!trusts(&first, &signing, HOST));
    assert!(trusts(&alone, &signing, HOST) && !trusts(&alone, &first, HOST));
}

#[test]
fn keeps_trust_in_who_signed_what_is_served_when_authorities_change_again() {
    let first = CertificateSet::make(&hosts(), LIVES, now()).unwrap();
    let second = first.with_new_authority(LIVES, days(1)).unwrap();
    let third = second.with_new_authority(LIVES, days(2)).unwrap();
    let read = read(&third);
    let bundle = read.bundle();
    let certificate = &read.pair().certificate;
    assert!(is_trusted(bundle.as_bytes(), certificate, HOST, days(2)));
    assert_eq!(bundle.matches("BEGIN").count(), 2, "and in no other");
}

#[test]
fn is_trusted_from_an_hour_before_it_was_made_until_it_ends() {
    let held = CertificateSet::make(&hosts(), LIVES, now()).unwrap();
    let rows = [
        (now() - SignedDuration::from_mins(59), true),
        (now() - SignedDuration::from_mins(61), false),
        (days(90) - SignedDuration::from_secs(1), true),
        (days(90) + SignedDuration::from_secs(1), false),
    ];
    for (at, expected) in rows {
        let bundle = held.bundle();
        let trusted = is_trusted(bundle.as_bytes(), &held.pair().certificate, HOST, at);
        assert_eq!(trusted, expected, "{at}");
    }
    assert!(!is_trusted(b"", &held.pair().certificate, HOST, now()));
}

#[test]
fn notices_names_that_it_is_not_good_for() {
    let held = CertificateSet::make(&hosts(), LIVES, now()).unwrap();
    let hosts = ["webhook.example.internal".to_owned()];
    assert!(
        !CertificateSet::read(&data(&held), &hosts)
            .unwrap()
            .view()
            .has_names
    );
    let held = held.with_new_pair(&hosts, LIVES, now()).unwrap();
    assert!(
        CertificateSet::read(&data(&held), &hosts)
            .unwrap()
            .view()
            .has_names
    );
    assert!(CertificateSet::make(&["né".to_owned()], LIVES, now()).is_err());
}

#[test]
fn ends_no_later_than_its_authority() {
    let held = CertificateSet::make(&hosts(), LIVES, now()).unwrap();
    let late = held.with_new_pair(&hosts(), LIVES, days(300)).unwrap();
    assert_eq!(read(&late).view().serving.until, days(365));
}

#[test]
fn refuses_what_does_not_belong_together_and_says_which_key() {
    let held = CertificateSet::make(&hosts(), LIVES, now()).unwrap();
    let other = CertificateSet::make(&hosts(), LIVES, now()).unwrap();
    let (whole, other) = (data(&held), data(&other));
    let text = |bytes: &SecretSlice<u8>| bytes.expose_secret().to_vec();
    for key in [AUTHORITIES, AUTHORITY_KEY, CERTIFICATE, KEY] {
        let with = |bytes: Vec<u8>| {
            let mut changed = whole.clone();
            changed.insert(key.to_owned(), bytes.into());
            CertificateSet::read(&changed, &hosts())
        };
        let cut = text(&whole[key]);
        let bad = [
            with(Vec::new()),
            with(b"garbage".to_vec()),
            with(vec![0xff, 0xfe]),
            with(cut[..cut.len() / 2].to_vec()),
            with(text(&other[key])),
        ];
        for (number, read) in bad.into_iter().enumerate() {
            let message = read.unwrap_err().to_string();
            assert!(message.contains(':'), "{key} {number}: {message}");
            assert!(!message.contains("BEGIN"), "{message}");
        }
        let mut without = whole.clone();
        without.remove(key);
        let error = CertificateSet::read(&without, &hosts())
            .unwrap_err()
            .to_string();
        assert_eq!(error, format!("{key}: is missing"));
    }
}

#[test]
fn shows_no_key_when_it_is_printed() {
    let held = CertificateSet::make(&hosts(), LIVES, now()).unwrap();
    let printed = format!("{held:?}");
    assert!(!printed.contains("PRIVATE"), "{printed}");
}
