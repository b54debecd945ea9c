//! One row: the fault, what is printed about it, what is done, and health.

use serde_json::Value;

use super::place::Place;
use super::row::{Action, From, Row, Step};
use crate::support::process::pod;
use crate::support::wait;

/// Something that was printed with a fix.
#[derive(Debug)]
struct Printed {
    /// All of it.
    text: String,
    /// The command in it, if it has one.
    command: Option<String>,
}

pub(super) async fn try_row(place: &Place, row: &Row) {
    if let Some(settings) = &row.chart {
        return try_chart(place, row, settings).await;
    }
    place.make(row).await;
    for line in &row.fault {
        place.sh(row, line).await;
    }
    place.stand_in(row).await;
    let mut arguments = row.check.clone().unwrap_or_else(|| "-n $N".to_owned());
    for step in &row.steps {
        try_step(place, row, step, &mut arguments).await;
        place.stand_in(row).await;
    }
    // By now the program itself knows how to wait, but for what is no failure.
    let waiting = format!("{arguments} --wait --timeout 90s");
    wait::until(&format!("health of {}", row.name), async || {
        let ended = place.check(row, &waiting).await;
        assert_eq!(
            ended.code,
            Some(0),
            "{}: not healthy in the end: {}{}",
            row.name,
            ended.stdout,
            ended.stderr
        );
        let is_found = |check: &Value| row.steps.iter().any(|step| is_finding(check, &step.id));
        let found = read_checks(&ended.stdout).iter().any(is_found);
        (!found).then_some(())
    })
    .await;
    if row.steps.iter().any(|step| step.from == From::Condition) {
        wait::until("the Registry to be ready", async || {
            let ready = condition(place, row, "Ready").await?;
            let verified = condition(place, row, "Verified").await?;
            (ready["status"] == "True" && verified["status"] == "True").then_some(())
        })
        .await;
    }
    print(row);
}

/// The chart is not even rendered; in the end it is, and the API server takes it.
async fn try_chart(place: &Place, row: &Row, settings: &str) {
    let mut settings = settings.to_owned();
    for step in &row.steps {
        let said = place.helm(&settings).await;
        let here = format!("{}, {}", row.name, step.id);
        assert_eq!(step.from, From::Helm, "{here}");
        assert_ne!(said.code, Some(0), "{here}");
        for words in [&step.id, &step.says] {
            assert!(said.stderr.contains(words.as_str()), "{here}: {said:?}");
        }
        let Action::Set(others) = &step.action else {
            panic!("{here}: what is set?");
        };
        settings.clone_from(others);
    }
    let said = place.helm(&settings).await;
    assert_eq!(said.code, Some(0), "{}: {said:?}", row.name);
    print(row);
}

fn print(row: &Row) {
    println!(
        "{}: {}",
        row.name,
        row.steps
            .iter()
            .map(|step| step.id.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    );
}

/// Finds what a step says and does what is printed about it.
async fn try_step(place: &Place, row: &Row, step: &Step, arguments: &mut String) {
    let printed = find(place, row, step, arguments).await;
    let here = format!("{}, {}", row.name, step.id);
    let words = step.says.replace("$N", &row.name);
    assert!(printed.text.contains(&words), "{here}: {printed:?}");
    match &step.action {
        Action::Run => {
            let command = printed.command.as_ref();
            assert!(command.is_some(), "{here}: no command in {}", printed.text);
            place.sh(row, command.unwrap()).await;
        }
        Action::Sh(line) => place.sh(row, line).await,
        Action::Check(others) => arguments.clone_from(others),
        Action::Set(_) => panic!("{here}: nothing is installed"),
    }
}

async fn find(place: &Place, row: &Row, step: &Step, arguments: &str) -> Printed {
    match step.from {
        From::Check => find_by_check(place, row, step, arguments).await,
        From::Condition => {
            let message = wait::until(&format!("{} in {}", step.id, row.name), async || {
                for kind in ["Ready", "Degraded", "Verified"] {
                    let Some(found) = condition(place, row, kind).await else {
                        continue;
                    };
                    if found["reason"] == step.id.as_str() {
                        return found["message"].as_str().map(str::to_owned);
                    }
                }
                None
            })
            .await;
            read(message)
        }
        From::Event => {
            let path = format!("/apis/events.k8s.io/v1/namespaces/{}/events", row.name);
            let note = wait::until(
                &format!("the Event {} in {}", step.id, row.name),
                async || {
                    let events = place.fixture.cluster.get(&path).await?;
                    let mut events = events["items"].as_array()?.iter();
                    let event = events.find(|event| event["reason"] == step.id.as_str())?;
                    event["note"].as_str().map(str::to_owned)
                },
            )
            .await;
            read(note)
        }
        From::Warning => {
            let pod = pod(&row.name, &[&format!("{}/app", Place::host(row))]);
            let warning = wait::until(&format!("the warning of {}", row.name), async || {
                let answer = place.fixture.cluster.create_pod(&pod, "dryRun=All").await;
                // The last line names the review.
                let lines = answer.warnings.iter().map(String::as_str);
                let lines = lines.filter(|line| !line.starts_with("pullpass: its log has more"));
                let text = lines.collect::<Vec<_>>().join(" ").replace("… ", "");
                text.contains(&step.id).then_some(text)
            })
            .await;
            read(warning)
        }
        From::Helm => panic!("{}: nothing is installed", row.name),
    }
}

/// What `check` printed.
fn read_checks(stdout: &str) -> Vec<Value> {
    let report: Value = serde_json::from_str(stdout).unwrap_or_default();
    report["checks"].as_array().cloned().unwrap_or_default()
}

/// Whether it says this, and that something is to be done.
fn is_finding(check: &Value, id: &str) -> bool {
    check["id"] == id && (check["status"] == "failed" || check["status"] == "warning")
}

/// The first thing that failed, which `check` prints until it is mended; or a warning where nothing fails.
async fn find_by_check(place: &Place, row: &Row, step: &Step, arguments: &str) -> Printed {
    let failed = wait::until(
        &format!("{} of check in {}", step.id, row.name),
        async || {
            let ran = place.check(row, arguments).await;
            let checks = read_checks(&ran.stdout);
            let failed = checks.iter().find(|check| check["status"] == "failed");
            let found = failed.or_else(|| checks.iter().find(|check| is_finding(check, &step.id)));
            // What the fault changed may have to be seen by the webhook first.
            let found = found.filter(|found| found["id"] == step.id.as_str());
            if let Some(found) = found {
                let code = i32::from(found["status"] == "failed");
                assert_eq!(ran.code, Some(code), "{ran:?}");
            }
            found.cloned()
        },
    )
    .await;
    Printed {
        text: failed["fix"].as_str().unwrap_or_default().to_owned(),
        command: failed["command"].as_str().map(str::to_owned),
    }
}

async fn condition(place: &Place, row: &Row, kind: &str) -> Option<Value> {
    let path = format!("/apis/pullpass.dev/v1alpha1/registries/{}", row.name);
    let registry = place.fixture.cluster.get(&path).await?;
    let conditions = registry["status"]["conditions"].as_array()?;
    conditions.iter().find(|one| one["type"] == kind).cloned()
}

/// The command in a sentence: between back-ticks, or from `kubectl` to the end of its clause.
fn read(text: String) -> Printed {
    let quoted = text.split('`').skip(1).step_by(2);
    let mut quoted =
        quoted.filter(|code| code.starts_with("kubectl ") || code.starts_with("pullpass "));
    let bare = || {
        let (_, rest) = text.split_once(": kubectl ")?;
        let end = rest
            .find("; ")
            .or_else(|| rest.find(". "))
            .unwrap_or(rest.len());
        Some(format!("kubectl {}", &rest[..end]))
    };
    let command = quoted.next().map(str::to_owned).or_else(bare);
    Printed { text, command }
}
