//! A real OCI registry that asks for a password, and a real pull.

use std::path::Path;

use serde_json::{Value, json};

use super::bed::{self, Bed};
use super::keyring::Login;

/// A registry that holds one small image.
pub struct Oci {
    bed: Bed,
}

impl Oci {
    /// A registry with the hello image as each of `images` (`REPOSITORY:TAG`), which lets nobody in.
    pub fn start(images: &[&str]) -> Self {
        Self::start_as(&[], images)
    }

    /// The same, which its proxy finds under these hosts as well.
    pub fn start_as(hosts: &[&str], images: &[&str]) -> Self {
        let hosts = hosts.iter().flat_map(|host| ["--host", host]);
        let images = images.iter().flat_map(|image| ["--image", image]);
        let arguments: Vec<&str> = hosts.chain(images).collect();
        Self {
            bed: Bed::start("registry", &arguments),
        }
    }

    /// Where it listens: `https://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        self.bed.field("url")
    }

    /// The file with its authority.
    pub fn ca(&self) -> &str {
        self.bed.field("ca")
    }

    /// From now on exactly this login is let in.
    pub fn allow(&self, login: &Login) {
        self.allow_to(login, None);
    }

    /// The same for repositories that begin with one of these prefixes alone.
    pub fn allow_to(&self, login: &Login, repositories: Option<&[&str]>) {
        self.allow_rule(login, "repositories", repositories);
    }

    /// The same for these actions alone: `pull`, `push`, `delete`.
    pub fn allow_actions(&self, login: &Login, actions: &[&str]) {
        self.allow_rule(login, "actions", Some(actions));
    }

    /// All files and folders that it keeps.
    pub fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![Path::new(self.bed.field("dir")).to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                found.push(path.display().to_string());
                if path.is_dir() {
                    folders.push(path);
                }
            }
        }
        found
    }

    /// From now on exactly these logins are let in, each to these actions.
    pub fn allow_each(&self, rules: &[(&Login, &[&str])]) {
        let rules = rules.iter();
        let rules = rules.map(|(login, actions)| rule(login, "actions", Some(*actions)));
        self.write_rules(&rules.collect::<Vec<_>>());
    }

    fn allow_rule(&self, login: &Login, name: &str, values: Option<&[&str]>) {
        self.write_rules(&[rule(login, name, values)]);
    }

    fn write_rules(&self, rules: &[Value]) {
        let access = json!({"allow": rules}).to_string();
        let file = Path::new(self.bed.field("access"));
        let new = file.with_extension("new");
        std::fs::write(&new, access).unwrap();
        std::fs::rename(&new, file).unwrap();
    }

    /// Pulls `image` with what the kubelet's keyring finds in a pull secret. `Err`: the registry's refusal.
    pub fn pull(&self, dockerconfigjson: &str, image: &str) -> Result<Value, String> {
        self.run("pull", dockerconfigjson, ["--registry", "url"], image)
    }

    /// Pushes a small image as `image`, whose host is one that the proxy finds, with what crane's library finds in a Secret that a builder
    /// mounts. `Err`: the registry's refusal.
    pub fn push(&self, dockerconfigjson: &str, image: &str) -> Result<Value, String> {
        self.run("push", dockerconfigjson, ["--proxy", "proxy"], image)
    }

    /// Runs a verb, with a flag whose value is this field of the ready line.
    fn run(
        &self,
        verb: &str,
        dockerconfigjson: &str,
        [flag, field]: [&str; 2],
        image: &str,
    ) -> Result<Value, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.json");
        std::fs::write(&file, dockerconfigjson).unwrap();
        let file = file.to_str().unwrap();
        let ca = self.bed.field("ca");
        let registry = self.bed.field(field);
        let arguments = [
            "--dockerconfigjson",
            file,
            flag,
            registry,
            "--ca",
            ca,
            image,
        ];
        let output = bed::run(verb, &arguments, "");
        if output.status.success() {
            Ok(serde_json::from_slice(&output.stdout).expect("one line of JSON"))
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }
}

fn rule(login: &Login, name: &str, values: Option<&[&str]>) -> Value {
    let mut rule = json!({"username": login.username, "password": login.password});
    if let Some(values) = values {
        rule[name] = values.into();
    }
    rule
}
