//! The condition by which a role is for some repositories alone.

use std::collections::BTreeSet;

use super::rights::Rights;
use crate::registry::Pattern;
use crate::registry::source::AcrSource;

/// The repository that is asked for.
const NAME: &str = "@Request[Microsoft.ContainerRegistry/registries/repositories:name]";

/// The repositories that the patterns cover without what is excluded, or that the token is narrowed to, as a condition on a role
/// assignment; `None`: all.
///
/// <https://learn.microsoft.com/azure/role-based-access-control/conditions-format>
pub(super) fn condition_of(
    source: &AcrSource,
    patterns: &[(&Pattern, &[Pattern])],
    rights: &Rights,
) -> Option<String> {
    let scopes: Vec<String> = source
        .scopes
        .iter()
        .filter_map(|scope| scope.strip_prefix("repository:")?.rsplit_once(':'))
        .flat_map(|(name, _)| {
            let cache = rights.has_caches.then(|| format!("{name}/cache"));
            std::iter::once(name.to_owned()).chain(cache)
        })
        .collect();
    // A repository that is excluded under one login server may be an image under another one, so each pattern has its own.
    let mut names = BTreeSet::new();
    for (pattern, excluded) in patterns {
        if !source.scopes.is_empty() {
            names.extend(scopes_of(pattern, excluded, &scopes));
            continue;
        }
        let covered = covered_by(pattern);
        if excluded.is_empty() {
            // All of the registry, whatever the other patterns leave out.
            if covered.is_empty() {
                return None;
            }
            names.extend(covered);
        } else {
            names.insert(without(&covered, excluded));
        }
    }
    let other: Vec<String> = rights
        .actions
        .iter()
        .map(|action| format!("!(ActionMatches{{'{action}'}})"))
        .collect();
    let other = other.join(" AND ");
    let names: Vec<String> = names.into_iter().collect();
    Some(match names.as_slice() {
        // No repository that the token is for is the Registry's.
        [] => format!("({other})"),
        names => format!("(({other}) OR ({}))", names.join(" OR ")),
    })
}

/// Comparisons for those of the repositories that the token is narrowed to which a pattern covers and does not have excluded.
fn scopes_of<'a>(
    pattern: &'a Pattern,
    excluded: &'a [Pattern],
    scopes: &'a [String],
) -> impl Iterator<Item = String> {
    let is_covered = move |name: &&String| {
        let covers = |one: &Pattern| one.covers(pattern.domain(), name);
        covers(pattern) && !excluded.iter().any(covers)
    };
    let covered = scopes.iter().filter(is_covered);
    covered.map(|name| format!("{NAME} StringEqualsIgnoreCase '{name}'"))
}

/// Comparisons of which one holds for the repositories of a pattern; none for those of a whole host.
fn covered_by(pattern: &Pattern) -> Vec<String> {
    match pattern.path() {
        "" => Vec::new(),
        path => vec![
            format!("{NAME} StringEqualsIgnoreCase '{path}'"),
            format!("{NAME} StringStartsWithIgnoreCase '{path}/'"),
        ],
    }
}

/// What is covered, and is nothing of what is excluded.
fn without(covered: &[String], excluded: &[Pattern]) -> String {
    let not_excluded = excluded.iter().flat_map(|exclusion| {
        let path = exclusion.path();
        [
            format!("{NAME} StringNotEqualsIgnoreCase '{path}'"),
            format!("{NAME} StringNotStartsWithIgnoreCase '{path}/'"),
        ]
    });
    let all: Vec<String> = match covered {
        [] => not_excluded.collect(),
        covered => std::iter::once(format!("({})", covered.join(" OR ")))
            .chain(not_excluded)
            .collect(),
    };
    format!("({})", all.join(" AND "))
}
