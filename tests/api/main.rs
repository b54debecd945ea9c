//! pullpass before a real API server, and what installs it there. Tests of one module may share an API server and an AWS, those of
//! others have their own. `make test-bed` runs each module in a process of its own, as `make run/api/leader` does one.

mod api_acr;
mod api_admission;
mod api_aws;
mod api_callers;
mod api_certificates;
mod api_client_auth;
mod api_controller;
mod api_credentials;
mod api_excluded;
mod api_faults;
mod api_forgery;
mod api_identities;
mod api_kill;
mod api_logins;
mod api_memory;
mod api_missed_pods;
mod api_names;
mod api_narrow;
mod api_order;
mod api_owned;
mod api_patch;
mod api_policy;
mod api_removal;
mod api_replicas;
mod api_restart;
mod api_rights;
mod api_secrecy;
mod api_store;
mod api_user;
mod api_validate;
mod bed;
mod chart;
mod check;
mod cluster;
mod controller_faults;
mod crd;
mod drain;
mod events;
mod fixes;
mod image;
mod leader;
mod metrics;
mod platforms;
#[path = "../support/mod.rs"]
mod support;
