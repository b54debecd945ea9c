//! The table itself: every row can be reached, and says what to do.

use super::*;

/// What an advice begins with: a verb.
const VERBS: [&str; 17] = [
    "add", "allow", "assign", "check", "correct", "create", "enable", "give", "label", "let",
    "lower", "put", "register", "renew", "set", "switch", "take",
];

/// The answer that a row was written down for.
fn example(row: &KnownAnswer) -> CloudAnswer<'_> {
    let status = row
        .status
        .as_deref()
        .map_or(400, |status| status.replace("xx", "00").parse().unwrap());
    let from = match row.from {
        Service::Aws => Service::Sts,
        Service::Any => Service::Registry,
        from => from,
    };
    let action = match (from, row.action.as_deref()) {
        (_, Some(action)) => action,
        (Service::Ecr, None) => "ecr:GetAuthorizationToken",
        (Service::Sts, None) => "sts:GetCallerIdentity",
        _ => "",
    };
    let signer = match from {
        Service::Sts | Service::Ecr => Signer::Role,
        _ => Signer::Assertion,
    };
    CloudAnswer {
        from,
        status,
        code: row.codes.first().map_or("", String::as_str),
        action,
        signer: row.signer.or(Some(signer)),
        text: &row.example,
    }
}

#[test]
fn finds_every_row_by_its_own_answer() {
    assert!(ANSWERS.len() > 60, "{}", ANSWERS.len());
    for row in ANSWERS.iter() {
        let every = if row.codes.is_empty() {
            vec![""]
        } else {
            row.codes.iter().map(String::as_str).collect()
        };
        for code in every {
            for code in [code.to_owned(), format!("{code}Exception")] {
                let is_none = row.codes.is_empty() && code == "Exception";
                let answer = CloudAnswer {
                    code: if is_none { "" } else { &code },
                    ..example(row)
                };
                let found = find(&answer).unwrap();
                assert!(
                    std::ptr::eq(found, row),
                    "{answer:?} is shadowed by {found:?}"
                );
            }
        }
    }
}

#[test]
fn advises_what_to_do_in_every_row() {
    for row in ANSWERS.iter() {
        let advice = &row.advice;
        let first = advice.split([' ', ',']).next().unwrap();
        assert!(VERBS.contains(&first) || first == "wait", "{advice}");
        // Who only waits waits for what passes; what lasts needs somebody.
        assert!(first != "wait" || row.lasts == Lasts::Passing, "{advice}");
        assert!(advice.len() < 300 && !advice.ends_with('.'), "{advice}");
        assert!(!advice.contains(['\n', '\t']), "{advice}");
        assert!(row.source.starts_with("https://"), "{advice}");
        let text = row.text.as_deref();
        assert!(
            text.is_none_or(|text| holds(&row.example, text)),
            "{advice}"
        );
        assert!(text != Some(""), "{advice}");
        let is_code = |code: &String| !code.is_empty() && !code.ends_with("Exception");
        assert!(row.codes.iter().all(is_code), "{advice}");
    }
}

/// An Allow does not overcome a Deny, whatever was asked for.
#[test]
fn advises_against_an_explicit_deny_before_all_that_advises_to_allow() {
    let deny = "on resource: * with an explicit deny in an identity-based policy";
    let rows = [
        (Service::Sts, "sts:AssumeRole"),
        (Service::Sts, "sts:AssumeRoleWithWebIdentity"),
        (Service::Sts, "sts:GetCallerIdentity"),
        (Service::Ecr, "ecr:GetAuthorizationToken"),
        (Service::Ecr, "ecr-public:GetAuthorizationToken"),
        (Service::Registry, "ecr:BatchGetImage"),
        (Service::Registry, "ecr:BatchImportUpstreamImage"),
        (Service::Registry, "ecr:CreateRepository"),
    ];
    for (from, action) in rows {
        let text = format!("User: x is not authorized to perform: {action} {deny}");
        let is_aws = from != Service::Registry;
        let answer = CloudAnswer {
            from,
            status: 403,
            code: if is_aws { "AccessDeniedException" } else { "" },
            action: if is_aws { action } else { "" },
            signer: Some(Signer::Role),
            text: &text,
        };
        let advice = &find(&answer).unwrap().advice;
        assert!(advice.starts_with("take the Deny"), "{action}: {advice}");
    }
}

#[test]
fn knows_no_answer_that_nobody_wrote_down() {
    let answer = CloudAnswer {
        from: Service::Ecr,
        status: 400,
        code: "BrandNewException",
        action: "ecr:GetAuthorizationToken",
        signer: Some(Signer::Keys),
        text: "Something new",
    };
    assert!(find(&answer).is_none());
    let unavailable = CloudAnswer {
        status: 503,
        ..answer
    };
    let found = find(&unavailable).map(|row| row.reason);
    assert_eq!(found, Some(AnswerReason::Unavailable));
}
