//! `consumers` of the test bed: the code of the clients.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::bed;

/// The clients that find a login by the longest key, as the kubelet does.
pub(super) const BY_PATH: [&str; 3] = ["kubelet", "k8schain", "skopeo"];
/// The clients that find a login by its host.
pub(super) const BY_HOST: [&str; 4] = ["docker", "crane", "oras", "helm"];

/// Asks a verb each of these questions.
pub(super) fn ask(verb: &str, questions: &[Value]) -> Vec<Value> {
    let program = bed::dir().join("bin/consumers");
    assert!(
        program.exists(),
        "{} is not there: run `make bed-consumers`",
        program.display()
    );
    let mut child = Command::new(program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let lines: Vec<String> = questions.iter().map(Value::to_string).collect();
    let writer = std::thread::spawn(move || stdin.write_all((lines.join("\n") + "\n").as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "consumers {verb}");
    let answers = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Value> = answers
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(answers.len(), questions.len());
    answers
}

/// Has a client pull or push once. `Err`: what went wrong, in its words.
pub(super) fn attempt(question: &Value) -> Result<(), String> {
    let answer = ask("try", std::slice::from_ref(question)).remove(0);
    match answer["error"].as_str() {
        Some(error) => Err(error.to_owned()),
        None => Ok(()),
    }
}
