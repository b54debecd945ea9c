//! The Kubernetes API: the only room that holds a client.
