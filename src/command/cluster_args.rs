//! Which cluster a command asks: as kubectl finds it.

use std::path::PathBuf;

use super::ExcludeArgs;
use crate::cluster::{Connection, Kube, connect};
use crate::names::NamespaceName;

/// Where a Pod finds its namespace.
///
/// <https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/#directly-accessing-the-rest-api>
const POD_NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Which cluster a command asks.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct ClusterArgs {
    /// A kubeconfig file, instead of those that KUBECONFIG lists, of the ServiceAccount in a Pod, and of ~/.kube/config.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context, instead of its current one.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

/// What of the process' environment says where a cluster is.
struct Environment {
    /// `KUBECONFIG`: files, separated as in `PATH`.
    kubeconfig: Option<std::ffi::OsString>,
    in_cluster: bool,
    home: Option<PathBuf>,
}

impl ClusterArgs {
    /// Whether a cluster is named by an argument.
    pub(super) fn is_given(&self) -> bool {
        self.kubeconfig.is_some() || self.context.is_some()
    }

    /// The same for a kubectl that is to ask the same cluster: ` --context production`; nothing where no argument names one.
    pub(super) fn for_kubectl(&self) -> String {
        let file = self.kubeconfig.as_ref().map(|path| path.to_string_lossy());
        let file = file.filter(|file| !file.is_empty());
        let arguments = [
            ("--kubeconfig", file.as_deref()),
            ("--context", self.context.as_deref()),
        ];
        let given = arguments.into_iter().filter_map(|(name, value)| {
            let value = quote(value?);
            Some(format!(" {name} {value}"))
        });
        given.collect()
    }

    /// The cluster, with no namespace of its own yet.
    pub(super) fn connection(&self) -> Connection {
        let environment = Environment {
            kubeconfig: std::env::var_os("KUBECONFIG"),
            in_cluster: is_in_cluster(),
            home: std::env::home_dir(),
        };
        Connection {
            kubeconfigs: self.find(&environment, |path| path.is_file()),
            context: self.context.clone(),
            ..Connection::default()
        }
    }

    /// The cluster that the arguments or the environment name, or the one that this process runs in; `None`: there is neither. pullpass' own
    /// namespace is `own`, else the Pod's, else pullpass.
    ///
    /// # Errors
    /// The kubeconfig cannot be used.
    pub(super) async fn open(
        &self,
        own: Option<&NamespaceName>,
        exclude: &ExcludeArgs,
    ) -> anyhow::Result<Option<Kube>> {
        let mut connection = self.connection();
        let is_named = connection.context.is_some() || !connection.kubeconfigs.is_empty();
        if !is_named && !is_in_cluster() {
            return Ok(None);
        }
        let default =
            (!connection.kubeconfigs.is_empty()).then(|| NamespaceName::constant("pullpass"));
        connection.namespace = own.cloned().or(default);
        connection.excluded.clone_from(&exclude.exclude_namespaces);
        Ok(Some(connect(&connection).await?))
    }

    /// Whether this runs in a Pod of this namespace and asks the cluster as that Pod's ServiceAccount.
    pub(super) fn is_pod_of(&self, namespace: &str) -> bool {
        let connection = self.connection();
        let asks_as_pod = connection.kubeconfigs.is_empty() && connection.context.is_none();
        let own = std::fs::read_to_string(POD_NAMESPACE_FILE);
        asks_as_pod && is_in_cluster() && own.is_ok_and(|own| own.trim() == namespace)
    }

    /// The kubeconfig files, in kubectl's order: the argument; those of `KUBECONFIG` that are there; `~/.kube/config`. A Pod has the last one
    /// only where somebody put it there, so that its ServiceAccount comes first.
    ///
    /// <https://kubernetes.io/docs/tasks/access-application-cluster/configure-access-multiple-clusters/>
    fn find(&self, environment: &Environment, is_file: impl Fn(&PathBuf) -> bool) -> Vec<PathBuf> {
        let given = self.kubeconfig.clone();
        if let Some(file) = given.filter(|path| !path.as_os_str().is_empty()) {
            return vec![file];
        }
        let listed = environment.kubeconfig.iter();
        let listed: Vec<PathBuf> = listed
            .flat_map(std::env::split_paths)
            .filter(|path| !path.as_os_str().is_empty())
            .collect();
        if !listed.is_empty() {
            // As kubectl: what is not there is left out, unless nothing is left.
            let there: Vec<PathBuf> = listed
                .iter()
                .filter(|path| is_file(path))
                .cloned()
                .collect();
            return if there.is_empty() { listed } else { there };
        }
        let own = environment.home.iter();
        own.filter(|_| !environment.in_cluster)
            .map(|home| home.join(".kube/config"))
            .filter(is_file)
            .collect()
    }
}

/// A word as a shell reads it.
///
/// <https://pubs.opengroup.org/onlinepubs/9799919799/utilities/V3_chap02.html#tag_19_02_02>
pub(super) fn quote(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@%+=,".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Whether this runs in a Pod, whose ServiceAccount may reach the API server.
pub(super) fn is_in_cluster() -> bool {
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_same_cluster_to_kubectl() {
        let rows = [
            ("", None, ""),
            ("a.yaml", None, " --kubeconfig a.yaml"),
            ("", Some("production"), " --context production"),
            (
                "/my files/it's",
                Some("arn:aws:eks:eu-west-1:1:cluster/a"),
                r" --kubeconfig '/my files/it'\''s' --context arn:aws:eks:eu-west-1:1:cluster/a",
            ),
            ("", Some("$(id)"), " --context '$(id)'"),
        ];
        for (kubeconfig, context, expected) in rows {
            let arguments = ClusterArgs {
                kubeconfig: Some(kubeconfig.into()),
                context: context.map(str::to_owned),
            };
            assert_eq!(arguments.for_kubectl(), expected);
        }
    }

    #[test]
    fn finds_kubeconfigs_as_kubectl() {
        const OWN: &str = "/home/me/.kube/config";
        // The argument, KUBECONFIG, whether in a Pod; the files that are there; those that are found.
        let rows = [
            ("given", Some("listed"), false, "listed", "given"),
            ("", Some("a:b"), false, "a b", "a b"),
            ("", Some("a::b"), false, "b", "b"),
            ("", Some("a:b"), false, "", "a b"),
            ("", Some("a"), true, "a", "a"),
            ("", Some(""), false, OWN, OWN),
            ("", None, false, OWN, OWN),
            ("", None, true, OWN, ""),
            ("", None, false, "", ""),
        ];
        for (given, listed, in_cluster, there, found) in rows {
            let arguments = ClusterArgs {
                kubeconfig: Some(given.into()),
                context: None,
            };
            let environment = Environment {
                kubeconfig: listed.map(Into::into),
                in_cluster,
                home: Some("/home/me".into()),
            };
            let is_file = |path: &PathBuf| {
                there
                    .split_whitespace()
                    .any(|file| path.as_os_str() == file)
            };
            let paths = arguments.find(&environment, is_file);
            let expected: Vec<PathBuf> = found.split_whitespace().map(PathBuf::from).collect();
            assert_eq!(paths, expected, "{given:?} {listed:?} {there:?}");
        }
    }
}
