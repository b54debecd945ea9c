//! What is not there yet, or not any more: a Registry that nobody looked at, and pullpass itself.

use jiff::SignedDuration;

use super::*;

#[test]
fn calls_a_registry_that_was_just_written_new() {
    let seconds = |seconds| now() - SignedDuration::from_secs(seconds);
    for (age, is_changed, level) in [
        (2, false, Level::Info),
        (29, true, Level::Info),
        (31, false, Level::Failed),
        (31, true, Level::Failed),
    ] {
        let ready = condition("Ready", "True", "Provisioned", "well");
        let mut new = registry("new", if is_changed { &ready } else { "" }, "");
        let mut metadata = serde_json::to_value(&new.metadata).unwrap();
        if is_changed {
            metadata["generation"] = 3.into();
            metadata["creationTimestamp"] = seconds(600).to_string().into();
        } else {
            metadata["creationTimestamp"] = seconds(age).to_string().into();
        }
        // What pullpass itself writes makes nothing new.
        metadata["managedFields"] = serde_json::json!([
            {"manager": "kubectl", "time": seconds(age).to_string()},
            {"manager": "pullpass", "subresource": "status", "time": seconds(1).to_string()},
        ]);
        new.metadata = serde_json::from_value(metadata).unwrap();
        let mut facts = cluster();
        facts.registries.as_mut().unwrap().0.push(new);
        let view = build(&facts);
        let levels: Vec<Level> = view.findings.iter().map(|one| one.level).collect();
        assert_eq!(levels, [level], "{age} {is_changed}");
        assert_eq!(view.ok, level == Level::Info);
        let shown = text(&view, Output::Text);
        let mark = if view.ok {
            "· Registry new"
        } else {
            "✗ Registry new"
        };
        assert!(shown.contains(mark), "{shown}");
    }
}

#[test]
fn says_one_thing_where_pullpass_is_not_installed() {
    for registries in [cluster().registries, Err(Unread::KindMissing)] {
        let facts = ClusterFacts {
            registries,
            parts: Parts {
                webhooks: Ok(Vec::new()),
                has_validating: Ok(false),
                replicas: Ok(None),
                leader: Ok(None),
            },
            certificate: Ok(None),
            ..cluster()
        };
        let view = build(&facts);
        let reasons: Vec<&str> = view.findings.iter().map(|one| &*one.reason).collect();
        assert_eq!(reasons, ["NotInstalled"]);
        assert!(!view.ok);
        let next = view.findings[0].next.as_deref().unwrap();
        assert!(next.starts_with("helm install pullpass "), "{next}");
        // What it said when it was there is not true any more.
        assert!(view.registries.iter().all(|one| one.ready == "Unknown"));
    }
    // One part that is there, or may not be seen, is enough.
    let spoiled: [fn(&mut Parts<Unread>); 5] = [
        |parts| parts.has_validating = Ok(true),
        |parts| parts.has_validating = Err(Unread::Forbidden),
        |parts| parts.replicas = Err(Unread::Forbidden),
        |parts| parts.replicas = Ok(Some(Replicas::default())),
        |parts| parts.leader = cluster().parts.leader,
    ];
    for spoil in spoiled {
        let mut facts = cluster();
        facts.parts = Parts {
            webhooks: Ok(Vec::new()),
            has_validating: Ok(false),
            replicas: Ok(None),
            leader: Ok(None),
        };
        spoil(&mut facts.parts);
        assert_eq!(build(&facts).findings[0].reason, "WebhookMissing");
    }
}
